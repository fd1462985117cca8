//! Rows to Parquet files: one file for each topic-partition and partition of a batch.
//!
//! Files of Iceberg and Delta are the same: field ids on every field, zstd, INT64 microseconds,
//! statistics and page index, several row groups. The row number in push order is the row's
//! position, so the positions of a batch are known before its files are uploaded.

use std::sync::Arc;

use arrow::array::{ArrayRef, RecordBatch};
use arrow::datatypes::SchemaRef;
use futures::stream::{self, StreamExt, TryStreamExt};
use lakebed_schemas::column::TableSchema;
use lakebed_schemas::position::TopicPartition;
use lakebed_schemas::value::Value;
use parquet::arrow::ArrowWriter;
use parquet::arrow::arrow_writer::ArrowWriterOptions;
use parquet::basic::{Compression, ZstdLevel};
use parquet::file::properties::WriterProperties;
use parquet::schema::types::ColumnPath;

use super::arrow_values;
use super::column_stats::{ColumnFacts, column_stats};
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
}

impl Default for WriterOptions {
    /// 128 Ki rows a group, so that a large file can be split among readers; four files at once,
    /// because an upload waits for the network while the next file is encoded.
    fn default() -> Self {
        Self { row_group_rows: 128 * 1024, parallel_max: 4 }
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
    let folders = partitions::folders(&schema, &file.partition)?;
    let path = file_name::data_file(0, &file.topic_partition, folders.as_deref());
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
    let arrow_schema = arrow_values::arrow_schema(schema);
    let options = ArrowWriterOptions::new()
        // Readers get their types from Parquet alone, the same in every language.
        .with_skip_arrow_metadata(true)
        .with_properties(properties(schema, rows, row_group_rows));
    let mut bytes = Vec::new();
    let mut writer = ArrowWriter::try_new_with_options(&mut bytes, arrow_schema.clone(), options)
        .map_err(could_not_encode)?;
    let mut facts = vec![ColumnFacts::default(); schema.columns.len()];
    for chunk in rows.chunks(CHUNK_ROWS) {
        let batch = record_batch(schema, &arrow_schema, chunk)?;
        facts.iter_mut().zip(batch.columns()).for_each(|(facts, column)| facts.add(column));
        writer.write(&batch).map_err(could_not_encode)?;
    }
    let metadata = writer.close().map_err(could_not_encode)?;
    let stats = column_stats(schema, &metadata, &facts);
    let split_offsets = metadata
        .row_groups()
        .iter()
        .filter_map(|group| group.columns().iter().map(|chunk| chunk.byte_range().0).min())
        .map(|offset| offset as i64)
        .collect();
    Ok(EncodedFile { bytes, stats, split_offsets })
}

fn could_not_encode(error: parquet::errors::ParquetError) -> Error {
    Error::internal("could not encode a Parquet file").with_source(error)
}

fn properties(
    schema: &TableSchema,
    rows: &[Vec<Value>],
    row_group_rows: usize,
) -> WriterProperties {
    let mut properties = WriterProperties::builder()
        .set_compression(Compression::ZSTD(ZstdLevel::default()))
        .set_max_row_group_row_count(Some(row_group_rows.max(1)))
        // "<name> version <number>": Java readers distrust statistics of anything else.
        .set_created_by(format!("lakebed version {}", env!("CARGO_PKG_VERSION")));
    for (index, column) in schema.columns.iter().enumerate() {
        if is_mostly_distinct(rows, index) {
            let path = ColumnPath::from(column.name.clone());
            properties = properties.set_column_dictionary_enabled(path, false);
        }
    }
    properties.build()
}

/// Rows looked at to decide whether a column gets a dictionary.
const SAMPLE_ROWS: usize = 128;

/// Whether a dictionary of the column would hold nearly every value once: it then costs time and
/// space and saves nothing.
fn is_mostly_distinct(rows: &[Vec<Value>], column: usize) -> bool {
    let step = rows.len().div_ceil(SAMPLE_ROWS).max(1);
    let mut seen = std::collections::HashSet::with_capacity(SAMPLE_ROWS);
    let mut values = 0;
    let mut bytes = Vec::new();
    for value in rows.iter().step_by(step).filter_map(|row| row.get(column)) {
        let hash = match value {
            Value::Null | Value::Boolean(_) | Value::List(_) | Value::Struct(_) => continue,
            Value::Text(text) => xxhash_rust::xxh3::xxh3_64(text.as_bytes()),
            Value::Binary(bytes) => xxhash_rust::xxh3::xxh3_64(bytes),
            other => {
                bytes.clear();
                other.canonical(&mut bytes);
                xxhash_rust::xxh3::xxh3_64(&bytes)
            }
        };
        values += 1;
        seen.insert(hash);
    }
    values >= SAMPLE_ROWS / 4 && seen.len() * 4 > values * 3
}

/// Rows as one record batch.
///
/// # Errors
/// `Internal` when a row does not fit the schema.
fn record_batch(
    schema: &TableSchema,
    arrow_schema: &SchemaRef,
    rows: &[Vec<Value>],
) -> Result<RecordBatch> {
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
    RecordBatch::try_new_with_options(arrow_schema.clone(), arrays, &options)
        .map_err(|e| Error::internal("columns do not fit together").with_source(e))
}
