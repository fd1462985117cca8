//! Rows to Parquet files: one file for each topic-partition and partition of a batch.
//!
//! Files of Iceberg and Delta are the same: field ids on every field, zstd, INT64 microseconds,
//! statistics and page index, several row groups. The row number in push order is the row's
//! position, so the positions of a batch are known before its files are uploaded.

use std::sync::Arc;

use arrow::array::{ArrayRef, RecordBatch};
use futures::stream::{self, StreamExt, TryStreamExt};
use lakebed_schemas::column::TableSchema;
use lakebed_schemas::position::TopicPartition;
use lakebed_schemas::value::Value;

use super::arrow_values;
use super::encoder::{Encoded, Encoder, is_mostly_distinct};
use super::{file_name, partitions};
use crate::failpoint;
use crate::log::{ColumnStats, DataFile};
use crate::storage::Storage;
use crate::{Error, Result};

/// How data files are written.
#[derive(Debug, Clone)]
pub struct WriterOptions {
    /// Rows of a row group at most.
    pub row_group_rows: usize,
    /// Files of one batch that are encoded and uploaded at the same time, at most.
    pub parallel_max: usize,
    /// Bytes of a file that is written anew, about: one that would be half as large again is cut.
    pub file_bytes: u64,
}

impl Default for WriterOptions {
    /// 128 Ki rows a group, so that a large file can be split among readers; four files at once,
    /// because an upload waits for the network while the next file is encoded; 64 MiB a file, which
    /// readers open gladly and which is what one changed row of it costs at most, twice, to write
    /// anew.
    fn default() -> Self {
        Self { row_group_rows: 128 * 1024, parallel_max: 4, file_bytes: 64 << 20 }
    }
}

/// Rows that go into one file.
#[derive(Debug, Clone, PartialEq)]
pub struct FileRows {
    /// Whose rows they are.
    pub topic_partition: TopicPartition,
    /// Partition values, as in [`DataFile::partition`].
    pub partition: Vec<Value>,
    /// Values in schema order; the index of a row is its position.
    pub rows: Vec<Vec<Value>>,
}

/// A Parquet file in memory, with what the log wants to know of it.
#[derive(Debug)]
pub struct EncodedFile {
    /// The whole file.
    pub bytes: Vec<u8>,
    /// Statistics by column of the schema.
    pub stats: Vec<ColumnStats>,
    /// Where its row groups start.
    pub split_offsets: Vec<i64>,
}

/// Writes files, durable and invisible, under names of their own; answers in the same order.
///
/// # Errors
/// When a row does not fit the schema or storage refuses. Files already written stay behind as
/// orphans, which maintenance removes.
pub async fn stage(
    storage: &Storage,
    schema: &Arc<TableSchema>,
    files: &[Arc<FileRows>],
    options: &WriterOptions,
) -> Result<Vec<Arc<DataFile>>> {
    super::field_ids::check(schema)?;
    failpoint::hit(failpoint::BEFORE_STAGE);
    // Owned futures, because a stream of closures over borrowed items is not general enough to
    // be sent between threads.
    let staged: Vec<_> = files
        .iter()
        .map(|file| {
            stage_one(storage.clone(), schema.clone(), file.clone(), options.row_group_rows)
        })
        .collect();
    let staged = stream::iter(staged).buffered(options.parallel_max.max(1)).try_collect().await?;
    failpoint::hit(failpoint::AFTER_STAGE);
    Ok(staged)
}

async fn stage_one(
    storage: Storage,
    schema: Arc<TableSchema>,
    file: Arc<FileRows>,
    row_group_rows: usize,
) -> Result<Arc<DataFile>> {
    let rows = file.clone();
    let written_as = schema.clone();
    let encode = move || encode(&written_as, &rows.rows, row_group_rows);
    let encoded = tokio::task::spawn_blocking(encode)
        .await
        .map_err(|e| Error::internal("the task that writes Parquet died").with_source(e))??;
    let path = path_of(&schema, 0, &file.topic_partition, &file.partition)?;
    let size = encoded.bytes.len() as u64;
    storage.put(&path, encoded.bytes).await?;
    failpoint::hit(failpoint::AMID_STAGE);
    Ok(Arc::new(DataFile {
        path,
        size,
        rows: file.rows.len() as u64,
        topic_partition: file.topic_partition.clone(),
        partition: file.partition.clone(),
        stats: encoded.stats,
        split_offsets: encoded.split_offsets,
    }))
}

/// Path of a new file of this tier.
pub(super) fn path_of(
    schema: &TableSchema,
    tier: u8,
    topic_partition: &TopicPartition,
    partition: &[Value],
) -> Result<String> {
    let folders = partitions::folders(schema, partition)?;
    Ok(file_name::data_file(tier, topic_partition, folders.as_deref()))
}

/// Rows handed to Arrow at once: enough to fill vectors, few enough to stay in cache.
const CHUNK_ROWS: usize = 16 * 1024;

/// One Parquet file of these rows.
///
/// # Errors
/// `Internal` when a row does not fit the schema.
pub fn encode(
    schema: &TableSchema,
    rows: &[Vec<Value>],
    row_group_rows: usize,
) -> Result<EncodedFile> {
    let value =
        |column: usize| move |row: usize| rows[row].get(column).cloned().unwrap_or(Value::Null);
    let is_distinct = |column: usize| is_mostly_distinct(rows.len(), value(column));
    let mut encoder = Encoder::new(Arc::new(schema.clone()), is_distinct, row_group_rows)?;
    for chunk in rows.chunks(CHUNK_ROWS) {
        encoder.write(&record_batch(schema, chunk)?)?;
    }
    let Encoded { bytes, stats, split_offsets, .. } = encoder.finish()?;
    Ok(EncodedFile { bytes, stats, split_offsets })
}

/// Rows as one record batch.
///
/// # Errors
/// `Internal` when a row does not fit the schema.
pub(super) fn record_batch(schema: &TableSchema, rows: &[Vec<Value>]) -> Result<RecordBatch> {
    if let Some(row) = rows.iter().find(|row| row.len() != schema.columns.len()) {
        return Err(Error::internal(format!(
            "a row has {} values and its table {} columns",
            row.len(),
            schema.columns.len()
        )));
    }
    let mut cells: Vec<&Value> = Vec::with_capacity(rows.len());
    let mut arrays: Vec<ArrayRef> = Vec::with_capacity(schema.columns.len());
    for (index, column) in schema.columns.iter().enumerate() {
        cells.clear();
        cells.extend(rows.iter().map(|row| &row[index]));
        arrays.push(arrow_values::array(column, &cells)?);
    }
    let options = arrow::array::RecordBatchOptions::new().with_row_count(Some(rows.len()));
    RecordBatch::try_new_with_options(arrow_values::arrow_schema(schema), arrays, &options)
        .map_err(|e| Error::internal("columns do not fit together").with_source(e))
}
