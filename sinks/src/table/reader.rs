//! Data files read back, three ways: keys with positions, chosen rows, and everything alive.

mod columns;
mod file;

use std::ops::Range;
use std::sync::Arc;

use arrow::array::RecordBatch;
use arrow::datatypes::SchemaRef;
use futures::stream::{self, BoxStream, Stream, StreamExt, TryStreamExt};
use lakebed_schemas::column::TableSchema;
use lakebed_schemas::value::Value;
use parquet::arrow::arrow_reader::RowSelection;
use parquet::file::metadata::PageIndexPolicy;
use roaring::RoaringBitmap;

use self::columns::Columns;
use self::file::{Decoder, OpenFile};
use super::arrow_values::{KeyCells, value_at};
use crate::log::{DataFile, Head, LiveFile};
use crate::storage::Storage;
use crate::{Error, Result};

/// Files read at the same time.
const PARALLEL: usize = 8;

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

/// Columns of chosen rows of one file, row group by row group.
pub(crate) struct Rows {
    decoder: Decoder,
}

impl Rows {
    /// Opens a file for its rows at `positions`, which come in their order; `columns` by index in
    /// the schema.
    ///
    /// # Errors
    /// When storage does not answer or the file is damaged.
    pub(crate) async fn open(
        storage: &Storage,
        schema: &TableSchema,
        columns: &[usize],
        file: &DataFile,
        positions: &RoaringBitmap,
    ) -> Result<Self> {
        let open = OpenFile::open(storage, file, PageIndexPolicy::Optional).await?;
        let is_all = positions.len() == file.rows;
        let rows = (!is_all).then(|| selection(positions, file.rows));
        let columns = Columns::of(schema, columns);
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
