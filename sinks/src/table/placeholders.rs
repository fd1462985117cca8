//! Placeholders answered: values that the source did not send are read back from the old row.

use std::collections::{BTreeMap, BTreeSet};

use lakebed_schemas::column::TableSchema;
use lakebed_schemas::value::{Value, key_hash};
use roaring::RoaringBitmap;

use super::KeyChange;
use super::index::{KeyIndex, Location};
use super::reader::{self, RowsWanted};
use crate::Result;
use crate::storage::Storage;

/// Name of the column that names unanswered columns.
const INCOMPLETE: &str = "_cdc_incomplete";

/// Replaces every [`Value::Unavailable`] in `rows` by what the table's row has, as `index` knows it
/// before the batch: the row of the same key, or of `inherit`, where `stands` says. Where there is none, and where that
/// row does not know either, the value becomes NULL and its column is named in `_cdc_incomplete`.
/// Answers how many became NULL.
///
/// # Errors
/// When an old row cannot be read.
pub(super) async fn fill(
    storage: &Storage,
    index: &KeyIndex,
    schema: &TableSchema,
    changes: &mut [KeyChange],
    hashes: &[u128],
    stands: impl Fn(u128) -> Option<Location>,
) -> Result<u64> {
    let mut asking: Vec<(usize, Option<Location>)> = Vec::new();
    let mut columns: BTreeSet<usize> = BTreeSet::new();
    for (at, change) in changes.iter().enumerate() {
        let Some(row) = &change.row else { continue };
        let missing: Vec<usize> =
            (0..row.len()).filter(|column| row[*column] == Value::Unavailable).collect();
        if !missing.is_empty() {
            let hash = change.inherit.as_ref().map_or(hashes[at], key_hash);
            asking.push((at, stands(hash)));
            columns.extend(missing);
        }
    }
    if asking.is_empty() {
        return Ok(0);
    }
    let incomplete = schema.index_of(INCOMPLETE);
    columns.extend(incomplete);
    let columns: Vec<usize> = columns.into_iter().collect();
    let places: BTreeSet<Location> = asking.iter().filter_map(|(_, place)| *place).collect();
    let old = read(storage, index, schema, &columns, places).await?;
    let mut unanswered = 0;
    for (at, place) in asking {
        let old = place.and_then(|place| old.get(&place));
        let row = changes[at].row.as_mut().expect("only rows ask");
        unanswered += answer(schema, incomplete, &columns, row, old.map(Vec::as_slice));
    }
    Ok(unanswered)
}

/// Takes those columns out of `_cdc_incomplete` that have a value after all.
pub(super) fn tidy(schema: &TableSchema, changes: &mut [KeyChange]) {
    let Some(at) = schema.index_of(INCOMPLETE) else { return };
    for row in changes.iter_mut().filter_map(|change| change.row.as_mut()) {
        let cell = row.get_mut(at).map(|cell| std::mem::replace(cell, Value::Null));
        let Some(Value::List(mut names)) = cell else { continue };
        names.retain(|name| {
            let Value::Text(name) = name else { return false };
            let value = schema.index_of(name).and_then(|column| row.get(column));
            value.is_none_or(|value| *value == Value::Null)
        });
        if !names.is_empty() {
            row[at] = Value::List(names);
        }
    }
}

/// These columns of the rows at these places.
pub(super) async fn read(
    storage: &Storage,
    index: &KeyIndex,
    schema: &TableSchema,
    columns: &[usize],
    places: BTreeSet<Location>,
) -> Result<BTreeMap<Location, Vec<Value>>> {
    let mut by_file: BTreeMap<u32, RoaringBitmap> = BTreeMap::new();
    for place in places {
        by_file.entry(place.ordinal).or_default().insert(place.position);
    }
    by_file.retain(|ordinal, _| index.file(*ordinal).is_some());
    let wanted = by_file.iter().filter_map(|(ordinal, positions)| {
        let file = index.file(*ordinal)?.clone();
        Some(RowsWanted { file, positions: positions.clone() })
    });
    let read = reader::read_rows(storage, schema, columns, wanted.collect()).await?;
    let mut rows = BTreeMap::new();
    for ((ordinal, positions), read) in by_file.into_iter().zip(read) {
        let places = positions.iter().map(|position| Location { ordinal, position });
        rows.extend(places.zip(read));
    }
    Ok(rows)
}

/// Fills one row from the old one; answers how many of its values nobody knows.
fn answer(
    schema: &TableSchema,
    incomplete: Option<usize>,
    columns: &[usize],
    row: &mut [Value],
    old: Option<&[Value]>,
) -> u64 {
    let old_value =
        |column: usize| -> Option<&Value> { old?.get(columns.binary_search(&column).ok()?) };
    let unknown_before = match incomplete.and_then(old_value) {
        Some(Value::List(names)) => names.as_slice(),
        _ => &[],
    };
    // Columns that need a value from there: a NULL was written before they could have one.
    let doubted = match incomplete.and_then(|at| row.get(at)) {
        Some(Value::List(names)) => names.clone(),
        _ => Vec::new(),
    };
    let mut unanswered = Vec::new();
    for (column, value) in row.iter_mut().enumerate() {
        if *value != Value::Unavailable {
            continue;
        }
        let name = Value::Text(schema.columns[column].name.clone());
        let known = old_value(column).filter(|known| {
            let doubtful = **known == Value::Null && doubted.contains(&name);
            !doubtful && !unknown_before.contains(&name)
        });
        *value = known.cloned().unwrap_or(Value::Null);
        if known.is_none() {
            unanswered.push(name);
        }
    }
    let count = unanswered.len() as u64;
    if let (Some(cell), false) = (incomplete.and_then(|at| row.get_mut(at)), unanswered.is_empty())
    {
        match cell {
            Value::List(names) => {
                unanswered.retain(|name| !names.contains(name));
                names.append(&mut unanswered);
            }
            cell => *cell = Value::List(unanswered),
        }
    }
    count
}
