//! One Parquet file while it is written: rows in, finished bytes out.

use std::io::Write;
use std::sync::{Arc, Mutex, PoisonError};

use arrow::array::{Array, RecordBatch};
use lakebed_schemas::column::TableSchema;
use lakebed_schemas::value::Value;
use parquet::arrow::ArrowWriter;
use parquet::arrow::arrow_writer::ArrowWriterOptions;
use parquet::basic::{Compression, ZstdLevel};
use parquet::file::properties::WriterProperties;
use parquet::schema::types::ColumnPath;

use super::arrow_values::{self, value_at};
use super::column_stats::{ColumnFacts, column_stats};
use crate::log::ColumnStats;
use crate::{Error, Result};

/// A row group is closed at this many bytes, however few its rows.
const GROUP_BYTES_MAX: usize = 32 << 20;

/// A file that is being encoded.
pub(super) struct Encoder {
    schema: Arc<TableSchema>,
    writer: ArrowWriter<Sink>,
    sink: Sink,
    facts: Vec<ColumnFacts>,
    rows: u64,
}

/// The end of a file, with what the log wants to know of it.
pub(super) struct Encoded {
    /// What [`Encoder::take`] has not given.
    pub(super) bytes: Vec<u8>,
    /// Rows of the whole file.
    pub(super) rows: u64,
    /// Statistics by column of the schema.
    pub(super) stats: Vec<ColumnStats>,
    /// Where its row groups start.
    pub(super) split_offsets: Vec<i64>,
}

/// Bytes that are finished, shared with the writer that makes them.
#[derive(Clone, Default)]
struct Sink(Arc<Mutex<Vec<u8>>>);

impl Sink {
    fn take(&self) -> Vec<u8> {
        std::mem::take(&mut self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

impl Write for Sink {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

fn could_not_encode(error: parquet::errors::ParquetError) -> Error {
    Error::internal("could not encode a Parquet file").with_source(error)
}

impl Encoder {
    /// A file without rows. `is_distinct` says of a column that a dictionary would hold nearly every
    /// value once.
    ///
    /// # Errors
    /// `Internal` when the schema cannot be written.
    pub(super) fn new(
        schema: Arc<TableSchema>,
        is_distinct: impl Fn(usize) -> bool,
        row_group_rows: usize,
    ) -> Result<Self> {
        let options = ArrowWriterOptions::new()
            // Readers get their types from Parquet alone, the same in every language.
            .with_skip_arrow_metadata(true)
            .with_properties(properties(&schema, is_distinct, row_group_rows));
        let sink = Sink::default();
        let arrow_schema = arrow_values::arrow_schema(&schema);
        let writer = ArrowWriter::try_new_with_options(sink.clone(), arrow_schema, options)
            .map_err(could_not_encode)?;
        let facts = vec![ColumnFacts::default(); schema.columns.len()];
        Ok(Self { schema, writer, sink, facts, rows: 0 })
    }

    /// A file for rows like these.
    pub(super) fn like(
        schema: Arc<TableSchema>,
        batch: &RecordBatch,
        row_group_rows: usize,
    ) -> Result<Self> {
        let types = schema.clone();
        let is_distinct = |column: usize| {
            let array = batch.column(column);
            let of = &types.columns[column].column_type;
            is_mostly_distinct(array.len(), |row| value_at(array.as_ref(), of, row))
        };
        Self::new(schema, is_distinct, row_group_rows)
    }

    /// Adds rows, which are in the schema's types.
    ///
    /// # Errors
    /// `Internal` when they are not.
    pub(super) fn write(&mut self, batch: &RecordBatch) -> Result<()> {
        self.facts.iter_mut().zip(batch.columns()).for_each(|(facts, column)| facts.add(column));
        self.writer.write(batch).map_err(could_not_encode)?;
        self.rows += batch.num_rows() as u64;
        if self.writer.in_progress_size() >= GROUP_BYTES_MAX {
            self.writer.flush().map_err(could_not_encode)?;
        }
        Ok(())
    }

    /// Bytes of the file so far, about.
    pub(super) fn size(&self) -> u64 {
        (self.writer.bytes_written() + self.writer.in_progress_size()) as u64
    }

    /// The next bytes of the file, those that are finished.
    pub(super) fn take(&mut self) -> Vec<u8> {
        self.sink.take()
    }

    /// The end of the file.
    ///
    /// # Errors
    /// `Internal` when it cannot be encoded.
    pub(super) fn finish(self) -> Result<Encoded> {
        let Self { schema, writer, sink, facts, rows } = self;
        let metadata = writer.close().map_err(could_not_encode)?;
        let stats = column_stats(&schema, &metadata, &facts);
        let split_offsets = metadata
            .row_groups()
            .iter()
            .filter_map(|group| group.columns().iter().map(|chunk| chunk.byte_range().0).min())
            .map(|offset| offset as i64)
            .collect();
        Ok(Encoded { bytes: sink.take(), rows, stats, split_offsets })
    }
}

fn properties(
    schema: &TableSchema,
    is_distinct: impl Fn(usize) -> bool,
    row_group_rows: usize,
) -> WriterProperties {
    let mut properties = WriterProperties::builder()
        .set_compression(Compression::ZSTD(ZstdLevel::default()))
        .set_max_row_group_row_count(Some(row_group_rows.max(1)))
        // "<name> version <number>": Java readers distrust statistics of anything else.
        .set_created_by(format!("lakebed version {}", env!("CARGO_PKG_VERSION")));
    for (index, column) in schema.columns.iter().enumerate() {
        if is_distinct(index) {
            let path = ColumnPath::from(column.name.clone());
            properties = properties.set_column_dictionary_enabled(path, false);
        }
    }
    properties.build()
}

/// Rows looked at to decide whether a column gets a dictionary.
const SAMPLE_ROWS: usize = 128;

/// Whether a dictionary of a column of `rows` values would hold nearly every value once: it then
/// costs time and space and saves nothing.
pub(super) fn is_mostly_distinct(rows: usize, value: impl Fn(usize) -> Value) -> bool {
    let step = rows.div_ceil(SAMPLE_ROWS).max(1);
    let mut seen = std::collections::HashSet::with_capacity(SAMPLE_ROWS);
    let mut values = 0;
    let mut bytes = Vec::new();
    for value in (0..rows).step_by(step).map(value) {
        let hash = match &value {
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
