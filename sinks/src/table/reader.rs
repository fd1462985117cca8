//! Data files read back, three ways: keys with positions, chosen rows, and everything alive.
//!
//! Only the footer and the column chunks (or pages) that are needed leave storage. Columns are
//! found by field id, or by name in a file without ids; one that an older file lacks is NULL, or the
//! file's partition value if it is a column of those, and one that has been promoted since is
//! widened.

use std::ops::Range;
use std::sync::Arc;

use arrow::array::{ArrayRef, RecordBatch, RecordBatchOptions, new_null_array};
use arrow::compute::cast;
use arrow::datatypes::{DataType, Schema, SchemaRef};
use bytes::Bytes;
use futures::stream::{self, BoxStream, Stream, StreamExt, TryStreamExt};
use lakebed_schemas::column::{Column, TableSchema};
use lakebed_schemas::value::Value;
use parquet::DecodeResult;
use parquet::arrow::arrow_reader::{
    ArrowReaderMetadata, ArrowReaderOptions, ParquetRecordBatchReader, RowSelection,
};
use parquet::arrow::push_decoder::{ParquetPushDecoder, ParquetPushDecoderBuilder};
use parquet::arrow::{PARQUET_FIELD_ID_META_KEY, ProjectionMask};
use parquet::errors::ParquetError;
use parquet::file::metadata::{PageIndexPolicy, ParquetMetaDataPushDecoder};
use roaring::RoaringBitmap;

use super::arrow_values::{self, KeyCells, value_at};
use super::partitions::stored_at;
use crate::log::{DataFile, Head, LiveFile};
use crate::storage::Storage;
use crate::{Error, Result};

/// Bytes fetched from the end of a file to begin with: footer and page index of most files, and
/// the whole of small ones.
const TAIL_BYTES: u64 = 32 * 1024;
/// Files read at the same time.
const PARALLEL: usize = 8;
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
struct OpenFile {
    storage: Storage,
    path: String,
    partition: Vec<Value>,
    metadata: ArrowReaderMetadata,
    /// What came along with the footer, so that it is not fetched again.
    tail: (Range<u64>, Bytes),
}

impl OpenFile {
    async fn open(storage: &Storage, file: &DataFile, pages: PageIndexPolicy) -> Result<Self> {
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
    fn decode(self, columns: Columns, rows: Option<RowSelection>) -> Result<Decoder> {
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

/// Columns asked for, in the table's types.
#[derive(Clone)]
struct Columns {
    columns: Arc<[Column]>,
    schema: SchemaRef,
    /// For each column, which of a file's partition values it is, if any.
    partition_values: Arc<[Option<usize>]>,
}

/// Where the values of a column come from.
#[derive(Clone)]
enum Found {
    /// From this field of the file.
    Field(usize),
    /// All rows have this one.
    Constant(Value),
}

impl Found {
    fn root(&self) -> Option<usize> {
        match self {
            Self::Field(root) => Some(*root),
            Self::Constant(_) => None,
        }
    }
}

impl Columns {
    fn of(schema: &TableSchema, indexes: &[usize]) -> Self {
        let columns: Arc<[Column]> =
            indexes.iter().map(|index| schema.columns[*index].clone()).collect();
        let fields: Vec<_> = columns.iter().map(arrow_values::field).collect();
        let value = |index: &usize| {
            let mut fields = schema.partition_by.iter();
            fields.position(|field| stored_at(schema, field) == Some(*index))
        };
        let partition_values = indexes.iter().map(value).collect();
        Self { columns, schema: Arc::new(Schema::new(fields)), partition_values }
    }

    /// For each column, where its values come from in a file of this partition.
    fn find(&self, file: &Schema, partition: &[Value]) -> Vec<Found> {
        let id = |field: &arrow::datatypes::Field| -> Option<i32> {
            field.metadata().get(PARQUET_FIELD_ID_META_KEY)?.parse().ok()
        };
        let find = |column: &Column| {
            file.fields().iter().position(|field| match id(field) {
                Some(id) if column.id != 0 => id == column.id,
                _ => *field.name() == column.name,
            })
        };
        let columns = self.columns.iter().zip(self.partition_values.iter());
        let found = columns.map(|(column, value)| match find(column) {
            Some(root) => Found::Field(root),
            None => {
                let value = value.and_then(|at| partition.get(at));
                Found::Constant(value.cloned().unwrap_or(Value::Null))
            }
        });
        found.collect()
    }

    /// A decoded batch in the table's columns and types. `found` as [`Columns::find`] gave it.
    fn adapt(&self, batch: &RecordBatch, found: &[Found]) -> Result<RecordBatch> {
        // The decoder gives the projected fields in the file's order, whatever was asked.
        let mut projected: Vec<usize> = found.iter().filter_map(Found::root).collect();
        projected.sort_unstable();
        projected.dedup();
        let rows = batch.num_rows();
        let array = |(found, column): (&Found, &Column)| match found {
            Found::Constant(Value::Null) => {
                Ok(new_null_array(arrow_values::field(column).data_type(), rows))
            }
            Found::Constant(value) => arrow_values::array(column, &vec![value; rows]),
            Found::Field(root) => {
                let at = projected.binary_search(root).expect("found fields are projected");
                let target = arrow_values::field(column);
                widen(batch.column(at), target.data_type(), &column.name)
            }
        };
        let arrays: Vec<ArrayRef> =
            found.iter().zip(self.columns.iter()).map(array).collect::<Result<_>>()?;
        let options = RecordBatchOptions::new().with_row_count(Some(rows));
        RecordBatch::try_new_with_options(self.schema.clone(), arrays, &options)
            .map_err(|e| Error::internal("columns do not fit together").with_source(e))
    }
}

fn widen(array: &ArrayRef, target: &DataType, name: &str) -> Result<ArrayRef> {
    if array.data_type() == target {
        return Ok(array.clone());
    }
    cast(array, target).map_err(|e| {
        Error::corrupt(format!(
            "column `{name}` is {} in a data file and {target} in the table",
            array.data_type()
        ))
        .with_source(e)
    })
}

/// Decodes one file, row group by row group.
struct Decoder {
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
    async fn fold<T: Send + 'static>(
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
    async fn fold_group<T: Send + 'static>(
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
    async fn next_batches(&mut self) -> Result<Option<Vec<RecordBatch>>> {
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

/// The keys of one file's live rows.
pub(crate) struct FileKeys {
    pub(crate) file: Arc<DataFile>,
    /// Key hash and position, by position.
    pub(crate) keys: Vec<(u128, u32)>,
}

/// The keys of the live rows of these files, several files at a time, in no promised order.
///
/// Reads the key columns only.
pub(crate) fn read_keys(
    storage: &Storage,
    schema: &TableSchema,
    files: Vec<LiveFile>,
) -> impl Stream<Item = Result<FileKeys>> + Send + use<> {
    let columns = Columns::of(schema, &schema.key_indexes());
    let storage = storage.clone();
    stream::iter(files)
        .map(move |live| keys_of(storage.clone(), columns.clone(), live))
        .buffer_unordered(PARALLEL)
}

async fn keys_of(storage: Storage, columns: Columns, live: LiveFile) -> Result<FileKeys> {
    let file = live.file;
    if file.rows == live.deleted.len() {
        return Ok(FileKeys { file, keys: Vec::new() });
    }
    let rows = usize::try_from(file.rows - live.deleted.len()).unwrap_or(0);
    let open = OpenFile::open(&storage, &file, PageIndexPolicy::Skip).await?;
    let decoder = open.decode(columns.clone(), None)?;
    let deleted = live.deleted;
    let start = (Vec::with_capacity(rows), 0u32);
    let (keys, _) = decoder
        .fold(start, move |(keys, position), batch| {
            hash_rows(&batch, &columns, &deleted, position, keys);
            Ok(())
        })
        .await?;
    Ok(FileKeys { file, keys })
}

/// Hashes the keys of a batch whose first row is at `position`, passing over dead rows.
fn hash_rows(
    batch: &RecordBatch,
    columns: &Columns,
    deleted: &RoaringBitmap,
    position: &mut u32,
    keys: &mut Vec<(u128, u32)>,
) {
    let cells: Vec<KeyCells<'_>> = batch
        .columns()
        .iter()
        .zip(columns.columns.iter())
        .map(|(array, column)| KeyCells::new(array.as_ref(), &column.column_type))
        .collect();
    let mut bytes = Vec::with_capacity(64);
    for row in 0..batch.num_rows() {
        let at = *position;
        *position += 1;
        if deleted.contains(at) {
            continue;
        }
        bytes.clear();
        cells.iter().for_each(|cells| cells.canonical(row, &mut bytes));
        keys.push((xxhash_rust::xxh3::xxh3_128(&bytes), at));
    }
}

/// Chosen rows of one file.
#[derive(Debug, Clone)]
pub(crate) struct RowsWanted {
    pub(crate) file: Arc<DataFile>,
    /// Dead or alive.
    pub(crate) positions: RoaringBitmap,
}

/// Reads columns of chosen rows: for each file, its rows by ascending position.
///
/// Fetches the pages that hold them, not the whole column.
///
/// # Errors
/// When storage does not answer, or a position is not in its file.
pub(crate) async fn read_rows(
    storage: &Storage,
    schema: &TableSchema,
    columns: &[usize],
    wanted: Vec<RowsWanted>,
) -> Result<Vec<Vec<Vec<Value>>>> {
    let columns = Columns::of(schema, columns);
    let read: Vec<_> = wanted
        .into_iter()
        .map(|wanted| rows_of(storage.clone(), columns.clone(), wanted))
        .collect();
    stream::iter(read).buffered(PARALLEL).try_collect().await
}

async fn rows_of(
    storage: Storage,
    columns: Columns,
    wanted: RowsWanted,
) -> Result<Vec<Vec<Value>>> {
    let file = &wanted.file;
    if wanted.positions.max().is_some_and(|last| u64::from(last) >= file.rows) {
        return Err(Error::corrupt(format!(
            "position {} is asked of `{}`, which has {} rows",
            wanted.positions.max().unwrap_or(0),
            file.path,
            file.rows
        )));
    }
    let open = OpenFile::open(&storage, file, PageIndexPolicy::Optional).await?;
    let rows = selection(&wanted.positions, file.rows);
    let decoder = open.decode(columns.clone(), Some(rows))?;
    let start = Vec::with_capacity(usize::try_from(wanted.positions.len()).unwrap_or(0));
    let rows = decoder
        .fold(start, move |rows: &mut Vec<Vec<Value>>, batch| {
            let arrays = || batch.columns().iter().zip(columns.columns.iter());
            let value = |row: usize| {
                arrays().map(|(array, column)| value_at(array, &column.column_type, row)).collect()
            };
            rows.extend((0..batch.num_rows()).map(value));
            Ok(())
        })
        .await?;
    if rows.len() as u64 != wanted.positions.len() {
        return Err(Error::corrupt(format!("`{}` gave too few rows", file.path)));
    }
    Ok(rows)
}

/// Chosen rows of one file in all columns of the table, row group by row group.
pub(crate) struct Rows {
    decoder: Decoder,
}

impl Rows {
    /// Opens a file for its rows at `positions`.
    ///
    /// # Errors
    /// When storage does not answer or the file is damaged.
    pub(crate) async fn open(
        storage: &Storage,
        schema: &TableSchema,
        file: &DataFile,
        positions: &RoaringBitmap,
    ) -> Result<Self> {
        let open = OpenFile::open(storage, file, PageIndexPolicy::Optional).await?;
        let is_all = positions.len() == file.rows;
        let rows = (!is_all).then(|| selection(positions, file.rows));
        let all: Vec<usize> = (0..schema.columns.len()).collect();
        let columns = Columns::of(schema, &all);
        Ok(Self { decoder: open.decode(columns, rows)? })
    }

    /// Calls `each` with every record batch of the next row group, on a blocking thread; says
    /// whether there was one.
    ///
    /// # Errors
    /// When storage does not answer, the file is damaged or `each` fails.
    pub(crate) async fn next_group<T: Send + 'static>(
        &mut self,
        made: T,
        each: impl Fn(&mut T, RecordBatch) -> Result<()> + Send + 'static,
    ) -> Result<(T, bool)> {
        self.decoder.fold_group(made, each).await
    }
}

/// Selects the rows at `positions`.
fn selection(positions: &RoaringBitmap, rows: u64) -> RowSelection {
    let mut ranges: Vec<Range<usize>> = Vec::new();
    for position in positions {
        let at = position as usize;
        match ranges.last_mut() {
            Some(range) if range.end == at => range.end += 1,
            _ => ranges.push(at..at + 1),
        }
    }
    RowSelection::from_consecutive_ranges(ranges.into_iter(), rows as usize)
}

/// Every live row of a table version, as record batches in the table's types: `columns` by index
/// in the head's schema, in that order.
///
/// Rows come file by file; each file's in position order. Holds a row group or two in memory.
pub fn scan(
    storage: &Storage,
    head: &Head,
    columns: &[usize],
) -> BoxStream<'static, Result<RecordBatch>> {
    let columns = Columns::of(&head.schema, columns);
    let storage = storage.clone();
    let files: Vec<LiveFile> = head.files.values().cloned().collect();
    stream::iter(files)
        .map(move |live| scan_file(storage.clone(), columns.clone(), live))
        .buffered(2)
        .try_flatten()
        .boxed()
}

/// The Arrow schema of what [`scan`] gives for these columns.
pub fn scan_schema(schema: &TableSchema, columns: &[usize]) -> SchemaRef {
    Columns::of(schema, columns).schema
}

async fn scan_file(
    storage: Storage,
    columns: Columns,
    live: LiveFile,
) -> Result<BoxStream<'static, Result<RecordBatch>>> {
    let alive = live.file.rows - live.deleted.len();
    if alive == 0 {
        return Ok(stream::empty().boxed());
    }
    let open = OpenFile::open(&storage, &live.file, PageIndexPolicy::Optional).await?;
    let rows = (!live.deleted.is_empty()).then(|| {
        let mut positions = RoaringBitmap::new();
        positions.insert_range(0..u32::try_from(live.file.rows).unwrap_or(u32::MAX));
        selection(&(positions - &live.deleted), live.file.rows)
    });
    let decoder = open.decode(columns, rows)?;
    let groups = stream::try_unfold(decoder, async |mut decoder: Decoder| {
        let batches = decoder.next_batches().await?;
        Ok::<_, Error>(batches.map(|batches| (batches, decoder)))
    });
    Ok(groups.map_ok(|batches| stream::iter(batches.into_iter().map(Ok))).try_flatten().boxed())
}
