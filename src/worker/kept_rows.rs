//! Rows that left their keys in an earlier batch and whose new row is still to come.
//!
//! The `d` and the `c` of a key change may be far apart: in two partitions, or with a stop of the
//! connector between them. What an unchanged value was is then known only from the row that the `d`
//! deleted, so its values are written down before the batch of the `d` is committed. That row is
//! what the source had whichever process says it, so a file of a batch that was never committed is
//! as right as any, and a process that takes a partition over finds what the one before it knew.

mod stored;

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet, VecDeque};
use std::sync::Arc;

use lakebed_schemas::column::{Column, TableSchema};
use lakebed_schemas::silver::is_system;
use lakebed_schemas::value::Value;

use crate::fold::{DepartedRow, RowMove};

pub(super) use stored::KeptFiles;

/// Most bytes of rows held in memory; beyond that the oldest are forgotten, and what asks for them
/// becomes NULL and is named.
const HELD_MAX: usize = 16 << 20;

/// A row that left its key.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct KeptRow {
    /// By what change.
    pub(super) moved: RowMove,
    /// Those of its values that are known, by column.
    pub(super) values: BTreeMap<String, Value>,
}

impl KeptRow {
    /// The source's columns of a row that left its key, as the batch and the table's row (`stored`,
    /// of these `columns`) know them; `None` where neither does.
    pub(super) fn of(
        departed: &DepartedRow,
        schema: &TableSchema,
        columns: &[&str],
        stored: Option<&[Value]>,
    ) -> Option<Self> {
        let in_table = |name: &str| {
            let at = columns.iter().position(|column| *column == name)?;
            stored?.get(at)
        };
        let unknown = match in_table("_cdc_incomplete") {
            Some(Value::List(names)) => names.as_slice(),
            _ => &[],
        };
        let in_table = |name: &str| {
            in_table(name).filter(|_| !unknown.contains(&Value::Text(name.to_owned())))
        };
        let of_source = schema.columns.iter().enumerate();
        let known = of_source.filter(|(_, column)| !is_system(&column.name)).filter_map(
            |(at, Column { name, .. })| {
                let value = match departed.row.as_ref().map(|row| row.get(at)) {
                    Some(_) if departed.lost.contains(&at) => None,
                    // An older schema's row: the column is newer than the row.
                    Some(None) => Some(&Value::Null),
                    Some(Some(Value::Unavailable)) | None => in_table(name),
                    Some(value) => value,
                };
                Some((name.clone(), value?.clone()))
            },
        );
        let values: BTreeMap<String, Value> = known.collect();
        (!values.is_empty()).then_some(Self { moved: departed.moved, values })
    }

    fn weight(&self) -> usize {
        self.values.iter().map(|(name, value)| 64 + name.len() + value.weight()).sum()
    }
}

/// A file of such rows, as it is known.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct KeptFile {
    /// Its path below the table's location.
    pub(super) path: Arc<str>,
    /// What it holds.
    pub(super) rows: Vec<KeptRow>,
}

/// The kept rows of one table.
#[derive(Default)]
pub(super) struct KeptRows {
    rows: HashMap<RowMove, (KeptRow, Arc<str>)>,
    in_order: VecDeque<RowMove>,
    bytes: usize,
    /// Asked for by the open batch.
    claimed: HashSet<RowMove>,
    /// How many rows of each known file nobody has asked for.
    files: BTreeMap<Arc<str>, usize>,
}

impl KeptRows {
    /// Whether the row that left so is here.
    pub(super) fn contains(&self, moved: &RowMove) -> bool {
        self.rows.contains_key(moved)
    }

    /// Answers what is open in the row that a key change made, for the open batch.
    pub(super) fn claim(&mut self, moved: &RowMove, schema: &TableSchema, row: &mut [Value]) {
        let Some((kept, _)) = self.rows.get(moved) else { return };
        self.claimed.insert(*moved);
        for (value, column) in row.iter_mut().zip(&schema.columns) {
            let known = kept.values.get(&column.name).filter(|v| v.fits(&column.column_type));
            if let (Value::Unavailable, Some(known)) = (&*value, known) {
                *value = known.clone();
            }
        }
    }

    /// Files that are known.
    pub(super) fn files(&self) -> BTreeSet<Arc<str>> {
        self.files.keys().cloned().collect()
    }

    /// Takes over what a file holds. A change that is known already stays as it is: its row left
    /// once, and what left again under the same change is the source repeating itself.
    pub(super) fn learn(&mut self, file: KeptFile) {
        if self.files.contains_key(&file.path) {
            return;
        }
        let mut new = 0;
        for row in file.rows {
            if self.rows.contains_key(&row.moved) {
                continue;
            }
            new += 1;
            self.bytes += row.weight();
            self.in_order.push_back(row.moved);
            self.rows.insert(row.moved, (row, file.path.clone()));
        }
        self.files.insert(file.path, new);
        while self.bytes > HELD_MAX
            && let Some(oldest) = self.in_order.pop_front()
        {
            self.forget(&oldest);
        }
    }

    fn forget(&mut self, moved: &RowMove) -> Option<Arc<str>> {
        let (row, file) = self.rows.remove(moved)?;
        self.bytes -= row.weight();
        Some(file)
    }

    /// The open batch is dropped, and its claims with it.
    pub(super) fn abandon(&mut self) {
        self.claimed.clear();
    }

    /// The open batch is committed. Gives the files that nobody needs any more.
    pub(super) fn committed(&mut self) -> Vec<Arc<str>> {
        let mut spent = Vec::new();
        if self.claimed.is_empty() {
            return spent;
        }
        for moved in std::mem::take(&mut self.claimed) {
            let Some(path) = self.forget(&moved) else { continue };
            if let Some(left) = self.files.get_mut(&path) {
                *left -= 1;
                if *left == 0 {
                    spent.push(path);
                }
            }
        }
        self.in_order.retain(|moved| self.rows.contains_key(moved));
        spent
    }
}

#[cfg(test)]
mod tests;
