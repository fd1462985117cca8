//! One Parquet file, fetched and decoded row group by row group.
//!
//! Only the footer and the column chunks (or pages) that are needed leave storage.

use std::ops::Range;
use std::sync::Arc;

use arrow::array::RecordBatch;
use bytes::Bytes;
use lakebed_schemas::value::Value;
use parquet::DecodeResult;
use parquet::arrow::ProjectionMask;
use parquet::arrow::arrow_reader::{
    ArrowReaderMetadata, ArrowReaderOptions, ParquetRecordBatchReader, RowSelection,
};
use parquet::arrow::push_decoder::{ParquetPushDecoder, ParquetPushDecoderBuilder};
use parquet::errors::ParquetError;
use parquet::file::metadata::{PageIndexPolicy, ParquetMetaDataPushDecoder};

use super::columns::{Columns, Found};
use crate::log::DataFile;
use crate::storage::Storage;
use crate::{Error, Result};

/// Bytes fetched from the end of a file to begin with: footer and page index of most files, and
/// the whole of small ones.
const TAIL_BYTES: u64 = 32 * 1024;
/// Rows decoded at once.
const BATCH_ROWS: usize = 8 * 1024;

fn unreadable(path: &str, error: ParquetError) -> Error {
    Error::corrupt(format!("could not read Parquet file `{path}`")).with_source(error)
}

/// The task that decodes on a blocking thread.
async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T> + Send + 'static,
) -> Result<T> {
    tokio::task::spawn_blocking(work)
        .await
        .map_err(|e| Error::internal("the task that reads Parquet died").with_source(e))?
}

/// A file whose footer is known.
pub(super) struct OpenFile {
    storage: Storage,
    path: String,
    partition: Vec<Value>,
    metadata: ArrowReaderMetadata,
    /// What came along with the footer, so that it is not fetched again.
    tail: (Range<u64>, Bytes),
}

impl OpenFile {
    pub(super) async fn open(
        storage: &Storage,
        file: &DataFile,
        pages: PageIndexPolicy,
    ) -> Result<Self> {
        let fail = |error| unreadable(&file.path, error);
        let mut decoder = ParquetMetaDataPushDecoder::try_new(file.size)
            .map_err(fail)?
            .with_column_index_policy(PageIndexPolicy::Skip)
            .with_offset_index_policy(pages);
        let range = file.size.saturating_sub(TAIL_BYTES)..file.size;
        let tail = storage.get_range(&file.path, range.clone()).await?;
        decoder.push_range(range.clone(), tail.clone()).map_err(fail)?;
        let metadata = loop {
            match decoder.try_decode().map_err(fail)? {
                DecodeResult::Data(metadata) => break metadata,
                DecodeResult::NeedsData(ranges) => {
                    let parts = storage.get_ranges(&file.path, &ranges).await?;
                    decoder.push_ranges(ranges, parts).map_err(fail)?;
                }
                DecodeResult::Finished => {
                    return Err(Error::corrupt(format!("`{}` has no Parquet footer", file.path)));
                }
            }
        };
        // Types come from Parquet alone, ours and other writers' files alike.
        let options = ArrowReaderOptions::new().with_skip_arrow_metadata(true);
        let metadata = ArrowReaderMetadata::try_new(Arc::new(metadata), options).map_err(fail)?;
        let rows = metadata.metadata().file_metadata().num_rows();
        if u64::try_from(rows).ok() != Some(file.rows) {
            return Err(Error::corrupt(format!(
                "`{}` holds {rows} rows, its table's log says {}",
                file.path, file.rows
            )));
        }
        Ok(Self {
            storage: storage.clone(),
            path: file.path.clone(),
            partition: file.partition.clone(),
            metadata,
            tail: (range, tail),
        })
    }

    /// Reads these columns of the table, of the selected rows or all.
    pub(super) fn decode(self, columns: Columns, rows: Option<RowSelection>) -> Result<Decoder> {
        let path = self.path;
        let fail = |error| unreadable(&path, error);
        let found = columns.find(self.metadata.schema(), &self.partition);
        let roots = found.iter().filter_map(Found::root);
        let mask = ProjectionMask::roots(self.metadata.parquet_schema(), roots);
        let mut builder = ParquetPushDecoderBuilder::new_with_metadata(self.metadata)
            .with_projection(mask)
            .with_batch_size(BATCH_ROWS);
        if let Some(rows) = rows {
            builder = builder.with_row_selection(rows);
        }
        let mut decoder = builder.build().map_err(fail)?;
        decoder.push_range(self.tail.0, self.tail.1).map_err(fail)?;
        Ok(Decoder { storage: self.storage, path, decoder, columns, found })
    }
}

/// Decodes one file, row group by row group.
pub(super) struct Decoder {
    storage: Storage,
    path: String,
    decoder: ParquetPushDecoder,
    columns: Columns,
    found: Vec<Found>,
}

impl Decoder {
    /// The next row group with selected rows, fetched and ready to decode.
    async fn next_group(&mut self) -> Result<Option<ParquetRecordBatchReader>> {
        loop {
            let step = self.decoder.try_next_reader().map_err(|e| unreadable(&self.path, e))?;
            match step {
                DecodeResult::NeedsData(ranges) => {
                    let parts = self.storage.get_ranges(&self.path, &ranges).await?;
                    self.decoder
                        .push_ranges(ranges, parts)
                        .map_err(|e| unreadable(&self.path, e))?;
                }
                DecodeResult::Data(reader) => return Ok(Some(reader)),
                DecodeResult::Finished => return Ok(None),
            }
        }
    }

    /// Calls `each` with every record batch, on a blocking thread, and gives back what it made.
    pub(super) async fn fold<T: Send + 'static>(
        mut self,
        mut made: T,
        each: impl Fn(&mut T, RecordBatch) -> Result<()> + Send + Clone + 'static,
    ) -> Result<T> {
        let mut is_more = true;
        while is_more {
            (made, is_more) = self.fold_group(made, each.clone()).await?;
        }
        Ok(made)
    }

    /// Calls `each` with every record batch of the next row group; says whether there was one.
    pub(super) async fn fold_group<T: Send + 'static>(
        &mut self,
        mut made: T,
        each: impl Fn(&mut T, RecordBatch) -> Result<()> + Send + 'static,
    ) -> Result<(T, bool)> {
        let Some(reader) = self.next_group().await? else { return Ok((made, false)) };
        let (columns, found, path) = (self.columns.clone(), self.found.clone(), self.path.clone());
        let made = blocking(move || {
            for batch in reader {
                let batch = batch.map_err(|e| unreadable(&path, e.into()))?;
                each(&mut made, columns.adapt(&batch, &found)?)?;
            }
            Ok(made)
        })
        .await?;
        Ok((made, true))
    }

    /// The decoded batches of the next row group.
    pub(super) async fn next_batches(&mut self) -> Result<Option<Vec<RecordBatch>>> {
        let Some(reader) = self.next_group().await? else { return Ok(None) };
        let (columns, found, path) = (self.columns.clone(), self.found.clone(), self.path.clone());
        let decode = move || {
            reader
                .map(|batch| {
                    let batch = batch.map_err(|e| unreadable(&path, e.into()))?;
                    columns.adapt(&batch, &found)
                })
                .collect::<Result<Vec<_>>>()
        };
        blocking(decode).await.map(Some)
    }
}
