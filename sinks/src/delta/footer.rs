//! Row counts of files whose writer kept no statistics.

use parquet::file::FOOTER_SIZE;
use parquet::file::metadata::{FooterTail, ParquetMetaDataReader};

use crate::storage::Storage;
use crate::{Error, Result};

/// Rows of a Parquet file, from its footer.
pub(super) async fn rows(storage: &Storage, path: &str, size: u64) -> Result<u64> {
    let corrupt = || Error::corrupt(format!("`{}` has no Parquet footer", storage.uri(path)));
    let tail = (size.checked_sub(FOOTER_SIZE as u64).ok_or_else(corrupt)?)..size;
    let tail = storage.get_ranges(path, std::slice::from_ref(&tail)).await?;
    let tail: [u8; FOOTER_SIZE] =
        tail.first().and_then(|bytes| bytes.as_ref().try_into().ok()).ok_or_else(corrupt)?;
    let tail = FooterTail::try_new(&tail).map_err(|e| corrupt().with_source(e))?;
    let end = size - FOOTER_SIZE as u64;
    let start = end.checked_sub(tail.metadata_length() as u64).ok_or_else(corrupt)?;
    let metadata = storage.get_ranges(path, std::slice::from_ref(&(start..end))).await?;
    let metadata = ParquetMetaDataReader::decode_metadata(metadata.first().ok_or_else(corrupt)?)
        .map_err(|e| corrupt().with_source(e))?;
    u64::try_from(metadata.file_metadata().num_rows()).map_err(|_| corrupt())
}
