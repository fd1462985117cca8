//! Footers of Parquet files, read without anything else of the file.

use parquet::file::FOOTER_SIZE;
use parquet::file::metadata::{FooterTail, ParquetMetaData, ParquetMetaDataReader};

use crate::storage::Storage;
use crate::{Error, Result};

/// What a Parquet file of `size` bytes says of itself.
///
/// # Errors
/// When storage does not answer or the object is no Parquet file.
pub(crate) async fn read(storage: &Storage, path: &str, size: u64) -> Result<ParquetMetaData> {
    let corrupt = || Error::corrupt(format!("`{}` has no Parquet footer", storage.uri(path)));
    let tail = (size.checked_sub(FOOTER_SIZE as u64).ok_or_else(corrupt)?)..size;
    let tail = storage.get_ranges(path, std::slice::from_ref(&tail)).await?;
    let tail: [u8; FOOTER_SIZE] =
        tail.first().and_then(|bytes| bytes.as_ref().try_into().ok()).ok_or_else(corrupt)?;
    let tail = FooterTail::try_new(&tail).map_err(|e| corrupt().with_source(e))?;
    let end = size - FOOTER_SIZE as u64;
    let start = end.checked_sub(tail.metadata_length() as u64).ok_or_else(corrupt)?;
    let metadata = storage.get_ranges(path, std::slice::from_ref(&(start..end))).await?;
    ParquetMetaDataReader::decode_metadata(metadata.first().ok_or_else(corrupt)?)
        .map_err(|e| corrupt().with_source(e))
}

/// Rows of a Parquet file: for those whose writer kept no statistics.
///
/// # Errors
/// As [`read`].
pub(crate) async fn rows(storage: &Storage, path: &str, size: u64) -> Result<u64> {
    let rows = read(storage, path, size).await?.file_metadata().num_rows();
    u64::try_from(rows)
        .map_err(|_| Error::corrupt(format!("`{}` counts {rows} rows", storage.uri(path))))
}
