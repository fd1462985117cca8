//! Rows that have left their keys: what the `d` of a key change took away and its `c` asks for.

use std::collections::{HashMap, HashSet, VecDeque};
use std::sync::Arc;

use lakebed_schemas::value::Value;

/// Most changes of key remembered whose `c` came first and asked for nothing.
const ARRIVED_MAX: usize = 100_000;

/// A change of a row's key, as both of its halves know it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct RowMove {
    /// Hash of the key that the row had.
    pub old_key: u128,
    /// Of the change in the source's log, see [`lakebed_schemas::change_event::SourceInfo::place`];
    /// `None` where the source does not tell: then the halves are paired in the order they come.
    pub place: Option<u128>,
}

/// A row that went on under another key.
#[derive(Debug, Clone, PartialEq)]
pub struct DepartedRow {
    /// By what change.
    pub moved: RowMove,
    /// The topic that it came from.
    pub topic: Arc<str>,
    /// The key that it had.
    pub key: Vec<Value>,
    /// Its values as far as the batch knows them; `None`: it is the table's row of `key`.
    pub row: Option<Vec<Value>>,
    /// Whose row in the table answers what is open in `row`; `None`: that of `key`.
    pub from: Option<Vec<Value>>,
    /// Columns of `row` that nobody knows.
    pub lost: Vec<usize>,
}

/// The rows that have left in the open batch and that no `c` has asked for.
#[derive(Default)]
pub(super) struct Departures {
    rows: HashMap<RowMove, VecDeque<DepartedRow>>,
    /// Changes whose `c` was folded before their `d` and needed nothing, across batches: nobody
    /// asks for those rows any more.
    arrived: HashSet<RowMove>,
    arrived_in_order: VecDeque<RowMove>,
}

impl Departures {
    pub(super) fn contains(&self, moved: &RowMove) -> bool {
        self.rows.contains_key(moved)
    }

    pub(super) fn push(&mut self, row: DepartedRow) {
        if row.moved.place.is_some() && self.arrived.remove(&row.moved) {
            return;
        }
        let rows = self.rows.entry(row.moved).or_default();
        // One place has one change: what comes again must not hide what left first.
        if row.moved.place.is_none() || rows.is_empty() {
            rows.push_back(row);
        }
    }

    /// The row that left so, for its `c`. `is_whole`: the `c` asks for nothing, so that its `d` need
    /// not keep anything should it come later.
    pub(super) fn take(&mut self, moved: &RowMove, is_whole: bool) -> Option<DepartedRow> {
        let Some(rows) = self.rows.get_mut(moved) else {
            if is_whole && moved.place.is_some() {
                self.note_arrived(*moved);
            }
            return None;
        };
        let row = rows.pop_front();
        if rows.is_empty() {
            self.rows.remove(moved);
        }
        row
    }

    fn note_arrived(&mut self, moved: RowMove) {
        if self.arrived.insert(moved) {
            self.arrived_in_order.push_back(moved);
        }
        while self.arrived_in_order.len() > ARRIVED_MAX {
            let oldest = self.arrived_in_order.pop_front();
            oldest.map(|oldest| self.arrived.remove(&oldest));
        }
    }

    /// The topic's rows are gone, those that have left included.
    pub(super) fn truncate(&mut self, topic: &Arc<str>) {
        self.rows.retain(|_, rows| rows.iter().all(|row| row.topic != *topic));
    }

    /// Takes those that a `c` of another batch may name.
    pub(super) fn seal(&mut self) -> Vec<DepartedRow> {
        let rows = self.rows.drain().flat_map(|(_, rows)| rows);
        rows.filter(|row| row.moved.place.is_some()).collect()
    }
}
