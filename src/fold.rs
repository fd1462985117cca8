//! Reduces the events of one batch to one change a key, by applying them in order.
//!
//! Never "the last one wins": an update that leaves a column out takes it from the event before it,
//! and what no event of the batch answers is left open ([`Value::Unavailable`]) for the table's own
//! row. Knows keys and values only; neither Kafka nor tables nor the clock.

use std::collections::{BTreeSet, HashMap, HashSet, VecDeque};
use std::hash::{BuildHasherDefault, Hasher};
use std::sync::Arc;

use lakebed_schemas::position::TopicPartition;
use lakebed_schemas::value::{Value, key_hash};
use lakebed_sinks::table::KeyChange;

/// One row change, ready to fold.
#[derive(Debug, Clone)]
pub enum RowChange {
    /// `c` or `r`: the row is as given, whatever was there before.
    Replace {
        /// The whole row in table order.
        row: Vec<Value>,
        /// For the `c` of a key change: the key whose row answers placeholders.
        old_key: Option<Vec<Value>>,
    },
    /// `u`: as given, but for placeholders, which keep what the row had.
    Update {
        /// The row in table order.
        row: Vec<Value>,
    },
    /// `d` or a tombstone.
    Delete {
        /// Whether a `c` for another key will ask for this row's values.
        key_change: bool,
    },
}

/// A key's state after the events so far.
#[derive(Debug)]
struct Folded {
    topic_partition: TopicPartition,
    key: Vec<Value>,
    /// As of now; `None` is deleted.
    row: Option<Vec<Value>>,
    /// Whose row in the table answers what is still open in `row`.
    inherit: Option<Vec<Value>>,
    /// Whether the row was deleted or replaced in this batch, so that the table's row is no answer.
    detached: bool,
    /// What each `d` of a key change took away and its `c` has not asked for yet, in order. The key
    /// may have a new row before that `c`, which comes in another partition, is read.
    left: VecDeque<Left>,
    /// Index of `_cdc_incomplete` names to add: columns that nothing can answer.
    lost: Vec<usize>,
}

/// A row that went on under another key.
#[derive(Debug)]
enum Left {
    /// It is the table's.
    InTable,
    /// Its values, and whose row in the table answers what is open in them.
    Folded(Vec<Value>, Option<Vec<Value>>),
}

/// Keys are hashed already.
#[derive(Default)]
struct KeyHasher(u64);

impl Hasher for KeyHasher {
    fn finish(&self) -> u64 {
        self.0
    }
    fn write(&mut self, _: &[u8]) {
        unreachable!("key hashes are written as u128")
    }
    fn write_u128(&mut self, hash: u128) {
        // Low bits are as good as any of xxh3.
        self.0 = (hash & u128::from(u64::MAX)) as u64;
    }
}

/// The open fold of one table.
#[derive(Default)]
pub struct Fold {
    keys: HashMap<u128, Folded, BuildHasherDefault<KeyHasher>>,
    /// Partitions in which the `d` of a key change has come and its `c` has not.
    awaited: HashSet<TopicPartition>,
    /// Topics that were truncated in this batch.
    truncated: BTreeSet<Arc<str>>,
    weight: usize,
}

/// What a sealed fold gives: the changes, and which columns of which key nothing could answer.
pub struct Sealed {
    /// Topics whose rows in the table go first: their tables were truncated.
    pub truncated: BTreeSet<Arc<str>>,
    /// One change a key.
    pub changes: Vec<KeyChange>,
    /// Columns that became NULL because no row could answer them: index into `changes`, column.
    pub lost: Vec<(usize, usize)>,
}

impl Fold {
    /// How many keys have changes.
    pub fn len(&self) -> usize {
        self.keys.len()
    }

    /// Whether nothing has been folded.
    pub fn is_empty(&self) -> bool {
        self.keys.is_empty() && self.truncated.is_empty()
    }

    /// Bytes held, about.
    pub fn weight(&self) -> usize {
        self.weight
    }

    /// Whether a key change is half in: its `d` is folded, its `c` (next record but one of the same
    /// partition) is not. Sealing now would let the `c` find no row to inherit from.
    pub fn is_mid_key_change(&self) -> bool {
        !self.awaited.is_empty()
    }

    /// Says that the next event of `tp` that is no tombstone has come: if a `c` was awaited, it is
    /// this one, or it went to another partition.
    pub fn settle_key_change(&mut self, tp: &TopicPartition) {
        self.awaited.remove(tp);
    }

    /// Applies one change.
    pub fn push(&mut self, tp: &TopicPartition, key: Vec<Value>, change: RowChange) {
        let hash = key_hash(&key);
        if matches!(change, RowChange::Delete { key_change: true }) {
            self.awaited.insert(tp.clone());
        }
        match change {
            RowChange::Replace { row, old_key } => self.replace(hash, tp, key, row, old_key),
            RowChange::Update { row } => self.update(hash, tp, key, row),
            RowChange::Delete { key_change } => self.delete(hash, tp, key, key_change),
        }
    }

    /// The source has emptied its table: every row that came from this topic goes, those of this
    /// batch too. A key that has had one is deleted in the table, whichever topic its row is from.
    pub fn truncate(&mut self, topic: &Arc<str>) {
        self.truncated.insert(topic.clone());
        for folded in self.keys.values_mut() {
            if folded.topic_partition.topic == *topic {
                (folded.row, folded.inherit, folded.detached) = (None, None, true);
                folded.left.clear();
                folded.lost.clear();
            }
        }
    }

    fn replace(
        &mut self,
        hash: u128,
        tp: &TopicPartition,
        key: Vec<Value>,
        mut row: Vec<Value>,
        old_key: Option<Vec<Value>>,
    ) {
        let inherit = old_key.and_then(|old_key| self.inherit(old_key, &mut row));
        // Nothing but the old row of a key change may answer the placeholder of a `c` or `r`.
        let lost = if inherit.is_none() { close(&mut row) } else { Vec::new() };
        self.weight += weight(&key) + weight(&row);
        let left = self.keys.remove(&hash).map(|folded| folded.left).unwrap_or_default();
        let folded = Folded {
            topic_partition: tp.clone(),
            key,
            row: Some(row),
            inherit,
            detached: true,
            left,
            lost,
        };
        self.keys.insert(hash, folded);
    }

    /// Answers what is open in the row of a key change from the old key's row, as far as this batch
    /// knows it; gives whose row in the table answers the rest.
    fn inherit(&mut self, old_key: Vec<Value>, row: &mut [Value]) -> Option<Vec<Value>> {
        let old = self.keys.get_mut(&key_hash(&old_key));
        let left = old.and_then(|old| old.left.pop_front());
        if !row.iter().any(is_open) {
            return None;
        }
        let (values, from) = match left {
            Some(Left::InTable) => return Some(old_key),
            Some(Left::Folded(values, from)) => (values, from),
            None => {
                // Its `d` has not been read yet, so the row is still there.
                let old = self.keys.get(&key_hash(&old_key));
                match old.and_then(|old| Some((old.row.clone()?, old.inherit.clone()))) {
                    Some(held) => held,
                    None => return Some(old_key),
                }
            }
        };
        fill(row, &values);
        // What is open there, too, is answered by whatever answers there.
        Some(from.unwrap_or(old_key))
    }

    fn update(&mut self, hash: u128, tp: &TopicPartition, key: Vec<Value>, mut row: Vec<Value>) {
        self.weight += weight(&row);
        let Some(folded) = self.keys.get_mut(&hash) else {
            self.weight += weight(&key);
            let folded = Folded {
                topic_partition: tp.clone(),
                key,
                row: Some(row),
                inherit: None,
                detached: false,
                left: VecDeque::new(),
                lost: Vec::new(),
            };
            self.keys.insert(hash, folded);
            return;
        };
        folded.topic_partition = tp.clone();
        let lost_before = std::mem::take(&mut folded.lost);
        match &folded.row {
            Some(held) => {
                // What was lost stays lost only where this event does not bring it either.
                folded.lost = lost_before.into_iter().filter(|c| is_open(&row[*c])).collect();
                fill(&mut row, held);
            }
            // Deleted in this batch: the table's row is not this row any more.
            None => folded.lost = close(&mut row),
        }
        if folded.detached && folded.inherit.is_none() {
            folded.lost.extend(close(&mut row));
        }
        folded.row = Some(row);
    }

    fn delete(&mut self, hash: u128, tp: &TopicPartition, key: Vec<Value>, key_change: bool) {
        if let Some(folded) = self.keys.get_mut(&hash) {
            folded.topic_partition = tp.clone();
            let (row, inherit) = (folded.row.take(), folded.inherit.take());
            if let (Some(row), true) = (row, key_change) {
                folded.left.push_back(Left::Folded(row, inherit));
            }
            folded.detached = true;
            folded.lost.clear();
            return;
        }
        self.weight += weight(&key);
        let folded = Folded {
            topic_partition: tp.clone(),
            key,
            row: None,
            inherit: None,
            detached: true,
            left: if key_change { [Left::InTable].into() } else { VecDeque::new() },
            lost: Vec::new(),
        };
        self.keys.insert(hash, folded);
    }

    /// Takes everything; the fold is empty afterwards. Rows are padded with NULL to `width`.
    pub fn seal(&mut self, width: usize) -> Sealed {
        self.weight = 0;
        self.awaited.clear();
        let mut sealed = Sealed {
            truncated: std::mem::take(&mut self.truncated),
            changes: Vec::with_capacity(self.keys.len()),
            lost: Vec::new(),
        };
        for (_, folded) in self.keys.drain() {
            let lost = folded.lost.iter().map(|column| (sealed.changes.len(), *column));
            sealed.lost.extend(lost);
            let row = folded.row.map(|mut row| {
                row.resize(width, Value::Null);
                row
            });
            sealed.changes.push(KeyChange {
                topic_partition: folded.topic_partition,
                key: folded.key,
                row,
                inherit: folded.inherit,
            });
        }
        sealed
    }

    /// Forgets everything: the table will be read again from its checkpoint.
    pub fn clear(&mut self) {
        *self = Self::default();
    }
}

fn is_open(value: &Value) -> bool {
    matches!(value, Value::Unavailable)
}

/// Answers what is open in `row` from `held`; a shorter `held` is an older schema's row.
fn fill(row: &mut [Value], held: &[Value]) {
    for (index, value) in row.iter_mut().enumerate() {
        if is_open(value) {
            *value = held.get(index).cloned().unwrap_or(Value::Null);
        }
    }
}

/// Turns what is open into NULL and says which columns those were.
fn close(row: &mut [Value]) -> Vec<usize> {
    let open: Vec<usize> = (0..row.len()).filter(|index| is_open(&row[*index])).collect();
    for index in &open {
        row[*index] = Value::Null;
    }
    open
}

fn weight(values: &[Value]) -> usize {
    values.iter().map(Value::weight).sum()
}

#[cfg(test)]
mod model;

#[cfg(test)]
mod tests {
    use super::*;

    fn tp() -> TopicPartition {
        TopicPartition::new("t", 0)
    }

    fn long(values: &[i64]) -> Vec<Value> {
        values.iter().map(|v| Value::Long(*v)).collect()
    }

    fn replace(row: Vec<Value>) -> RowChange {
        RowChange::Replace { row, old_key: None }
    }

    fn one(fold: &mut Fold, key: i64) -> KeyChange {
        let sealed = fold.seal(2);
        let found = sealed.changes.into_iter().find(|change| change.key == long(&[key]));
        found.expect("the key has a change")
    }

    #[test]
    fn an_update_keeps_what_it_does_not_bring_from_the_event_before_it() {
        let mut fold = Fold::default();
        fold.push(&tp(), long(&[1]), replace(long(&[1, 7])));
        let update = vec![Value::Long(1), Value::Unavailable];
        fold.push(&tp(), long(&[1]), RowChange::Update { row: update });

        assert_eq!(one(&mut fold, 1).row, Some(long(&[1, 7])));
    }

    #[test]
    fn a_placeholder_without_an_earlier_event_is_left_to_the_table() {
        let mut fold = Fold::default();
        let update = vec![Value::Long(1), Value::Unavailable];
        fold.push(&tp(), long(&[1]), RowChange::Update { row: update.clone() });

        let change = one(&mut fold, 1);
        assert_eq!((change.row, change.inherit), (Some(update), None));
    }

    #[test]
    fn nothing_is_carried_across_a_delete() {
        let mut fold = Fold::default();
        fold.push(&tp(), long(&[1]), replace(long(&[1, 7])));
        fold.push(&tp(), long(&[1]), RowChange::Delete { key_change: false });
        let insert = vec![Value::Long(1), Value::Unavailable];
        fold.push(&tp(), long(&[1]), replace(insert));

        let sealed = fold.seal(2);
        assert_eq!(sealed.changes[0].row, Some(vec![Value::Long(1), Value::Null]));
        assert_eq!(sealed.lost, [(0, 1)]);
    }

    #[test]
    fn a_key_change_takes_placeholders_from_the_old_keys_last_row() {
        let mut fold = Fold::default();
        fold.push(&tp(), long(&[1]), replace(long(&[1, 7])));
        fold.push(&tp(), long(&[1]), RowChange::Delete { key_change: true });
        fold.push(&tp(), long(&[1]), RowChange::Delete { key_change: false });
        assert!(fold.is_mid_key_change());
        fold.settle_key_change(&tp());
        let row = vec![Value::Long(2), Value::Unavailable];
        fold.push(&tp(), long(&[2]), RowChange::Replace { row, old_key: Some(long(&[1])) });

        assert!(!fold.is_mid_key_change());
        let sealed = fold.seal(2);
        let of = |key: i64| sealed.changes.iter().find(|c| c.key == long(&[key])).expect("change");
        assert_eq!(of(1).row, None);
        assert_eq!(of(2).row, Some(long(&[2, 7])));
    }

    #[test]
    fn a_key_change_of_a_row_in_the_table_inherits_from_there() {
        let mut fold = Fold::default();
        fold.push(&tp(), long(&[1]), RowChange::Delete { key_change: true });
        let row = vec![Value::Long(2), Value::Unavailable];
        fold.push(&tp(), long(&[2]), RowChange::Replace { row, old_key: Some(long(&[1])) });
        // A chain: the next change of the key still ends at the table's row of the first.
        fold.push(&tp(), long(&[2]), RowChange::Delete { key_change: true });
        let row = vec![Value::Long(3), Value::Unavailable];
        fold.push(&tp(), long(&[3]), RowChange::Replace { row, old_key: Some(long(&[2])) });

        let change = one(&mut fold, 3);
        assert_eq!(change.inherit, Some(long(&[1])));
        assert_eq!(change.row, Some(vec![Value::Long(3), Value::Unavailable]));
    }

    #[test]
    fn an_update_after_a_key_change_still_inherits() {
        let mut fold = Fold::default();
        fold.push(&tp(), long(&[1]), RowChange::Delete { key_change: true });
        let row = vec![Value::Long(2), Value::Unavailable];
        fold.push(&tp(), long(&[2]), RowChange::Replace { row, old_key: Some(long(&[1])) });
        let row = vec![Value::Long(2), Value::Unavailable];
        fold.push(&tp(), long(&[2]), RowChange::Update { row });

        let change = one(&mut fold, 2);
        assert_eq!(change.inherit, Some(long(&[1])));
        assert!(change.row.expect("row").contains(&Value::Unavailable));
    }

    #[test]
    fn a_truncate_takes_the_rows_of_its_topic_and_nothing_that_comes_after() {
        let mut fold = Fold::default();
        let other = TopicPartition::new("u", 0);
        fold.push(&tp(), long(&[1]), replace(long(&[1, 7])));
        fold.push(&other, long(&[2]), replace(long(&[2, 8])));
        fold.truncate(&tp().topic);
        fold.push(&tp(), long(&[3]), replace(long(&[3, 9])));
        let update = vec![Value::Long(1), Value::Unavailable];
        fold.push(&tp(), long(&[1]), RowChange::Update { row: update });

        let sealed = fold.seal(2);
        let row = |key: i64| {
            let change = sealed.changes.iter().find(|c| c.key == long(&[key]));
            change.and_then(|change| change.row.clone())
        };
        assert_eq!(row(1), Some(vec![Value::Long(1), Value::Null]), "nothing to take it from");
        assert_eq!((row(2), row(3)), (Some(long(&[2, 8])), Some(long(&[3, 9]))));
        assert_eq!(sealed.truncated, BTreeSet::from([tp().topic]));
        assert!(fold.seal(2).truncated.is_empty());
    }

    #[test]
    fn rows_of_an_older_schema_are_padded() {
        let mut fold = Fold::default();
        fold.push(&tp(), long(&[1]), replace(long(&[1])));
        assert_eq!(fold.seal(3).changes[0].row.as_ref().map(Vec::len), Some(3));
    }
}
