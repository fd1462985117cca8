//! Reduces the events of one batch to one change a key, by applying them in order.
//!
//! Never "the last one wins": an update that leaves a column out takes it from the event before it,
//! and what no event of the batch answers is left open ([`Value::Unavailable`]) for the table's own
//! row. Knows keys and values only; neither Kafka nor tables nor the clock.

mod departed;

use std::collections::{BTreeMap, HashMap, HashSet};
use std::hash::{BuildHasherDefault, Hasher};
use std::sync::Arc;

use lakebed_schemas::position::TopicPartition;
use lakebed_schemas::value::{Value, key_hash};
use lakebed_sinks::table::{KeyChange, Truncated};

use departed::Departures;

pub use departed::{DepartedRow, RowMove};

/// One row change, ready to fold.
#[derive(Debug, Clone)]
pub enum RowChange {
    /// `c` or `r`: the row is as given, whatever was there before.
    Replace {
        /// The whole row in table order.
        row: Vec<Value>,
        /// For the `c` of a key change: what answers placeholders is the row that left so.
        moved: Option<RowMove>,
    },
    /// `u`: as given, but for placeholders, which keep what the row had.
    Update {
        /// The row in table order.
        row: Vec<Value>,
    },
    /// `d` or a tombstone.
    Delete {
        /// Set where a `c` for another key will ask for this row's values.
        moved: Option<RowMove>,
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
    /// Index of `_cdc_incomplete` names to add: columns that nothing can answer.
    lost: Vec<usize>,
}

impl Folded {
    /// The row is gone, whatever the table has.
    fn empty(&mut self) {
        (self.row, self.inherit, self.detached) = (None, None, true);
        self.lost.clear();
    }
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
    departures: Departures,
    /// Partitions in which the `d` of a key change has come and its `c` has not.
    awaited: HashSet<TopicPartition>,
    /// Topics that were truncated in this batch.
    truncated: BTreeMap<Arc<str>, Truncated>,
    weight: usize,
}

/// What a sealed fold gives: the changes, and which columns of which key nothing could answer.
pub struct Sealed {
    /// Which rows in the table go first, by topic: their tables were truncated.
    pub truncated: BTreeMap<Arc<str>, Truncated>,
    /// One change a key.
    pub changes: Vec<KeyChange>,
    /// Columns that became NULL because no row could answer them: index into `changes`, column.
    pub lost: Vec<(usize, usize)>,
    /// Rows that left their keys and whose `c` has not been folded: it may come in another batch.
    pub departed: Vec<DepartedRow>,
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

    /// Whether the row that left in this way is known, so that its `c` need not wait.
    pub fn has_departed(&self, moved: &RowMove) -> bool {
        self.departures.contains(moved)
    }

    /// Applies one change.
    pub fn push(&mut self, tp: &TopicPartition, key: Vec<Value>, change: RowChange) {
        let hash = key_hash(&key);
        if matches!(change, RowChange::Delete { moved: Some(_) }) {
            self.awaited.insert(tp.clone());
        }
        match change {
            RowChange::Replace { row, moved } => self.replace(hash, tp, key, row, moved),
            RowChange::Update { row } => self.update(hash, tp, key, row),
            RowChange::Delete { moved } => self.delete(hash, tp, key, moved),
        }
    }

    /// The source has emptied its table: every row that came from this topic goes, those of this
    /// batch too. A key that has had one is deleted in the table, whichever topic its row is from.
    pub fn truncate(&mut self, topic: &Arc<str>) {
        self.truncated.insert(topic.clone(), Truncated::All);
        for folded in self.keys.values_mut() {
            if folded.topic_partition.topic == *topic {
                folded.empty();
            }
        }
        self.departures.truncate(topic);
    }

    /// The same where the topic has several partitions and `tp` is the one that tells: in the others
    /// the rows stay that the source made after `position`. `was_before` says that of a row; `None`
    /// where it does not tell.
    ///
    /// # Errors
    /// With the partition of a row that does not tell; nothing has changed then.
    pub fn truncate_before(
        &mut self,
        tp: &TopicPartition,
        position: &str,
        was_before: impl Fn(&[Value]) -> Option<bool>,
    ) -> Result<(), TopicPartition> {
        let goes = |folded: &Folded| match &folded.row {
            _ if folded.topic_partition == *tp => Ok(true),
            Some(row) if folded.topic_partition.topic == tp.topic => {
                was_before(row).ok_or_else(|| folded.topic_partition.clone())
            }
            _ => Ok(false),
        };
        let goes: Result<Vec<bool>, TopicPartition> = self.keys.values().map(goes).collect();
        for (folded, goes) in self.keys.values_mut().zip(goes?) {
            if goes {
                folded.empty();
            }
        }
        let before = Truncated::Before { partition: tp.partition, position: position.to_owned() };
        // A second one takes what the first did, unless the source repeats an older one.
        let known = self.truncated.get(&tp.topic);
        if !matches!(known, Some(Truncated::Before { position: known, .. }) if known.as_str() > position)
        {
            self.truncated.insert(tp.topic.clone(), before);
        }
        Ok(())
    }

    fn replace(
        &mut self,
        hash: u128,
        tp: &TopicPartition,
        key: Vec<Value>,
        mut row: Vec<Value>,
        moved: Option<RowMove>,
    ) {
        let (inherit, mut lost) = match moved {
            Some(moved) => self.inherit(&moved, &mut row),
            None => (None, Vec::new()),
        };
        if inherit.is_none() {
            // Nothing but the old row of a key change may answer the placeholder of a `c` or `r`.
            lost.extend(close(&mut row));
        }
        self.weight += weight(&key) + weight(&row);
        let topic_partition = tp.clone();
        let folded = Folded { topic_partition, key, row: Some(row), inherit, detached: true, lost };
        self.keys.insert(hash, folded);
    }

    /// Answers what is open in the row of a key change from the row that left, as far as this batch
    /// knows it; gives whose row in the table answers the rest, and the columns that nothing can.
    fn inherit(&mut self, moved: &RowMove, row: &mut [Value]) -> (Option<Vec<Value>>, Vec<usize>) {
        let is_whole = !row.iter().any(is_open);
        let Some(left) = self.departures.take(moved, is_whole) else { return (None, Vec::new()) };
        if is_whole {
            return (None, Vec::new());
        }
        let DepartedRow { key, row: values, from, lost, .. } = left;
        let lost = lost.into_iter().filter(|c| row.get(*c).is_some_and(is_open)).collect();
        if let Some(values) = &values {
            fill(row, values);
        }
        // What is open there, too, is answered by whatever answers there.
        let from = from.unwrap_or(key);
        (row.iter().any(is_open).then_some(from), lost)
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

    fn delete(&mut self, hash: u128, tp: &TopicPartition, key: Vec<Value>, moved: Option<RowMove>) {
        let mut left = moved.map(|moved| DepartedRow {
            moved,
            topic: tp.topic.clone(),
            key: key.clone(),
            row: None,
            from: None,
            lost: Vec::new(),
        });
        if let Some(folded) = self.keys.get_mut(&hash) {
            folded.topic_partition = tp.clone();
            folded.detached = true;
            let (row, from) = (folded.row.take(), folded.inherit.take());
            let lost = std::mem::take(&mut folded.lost);
            // A row that was gone already leaves nothing.
            left =
                left.filter(|_| row.is_some()).map(|left| DepartedRow { row, from, lost, ..left });
        } else {
            self.weight += weight(&key);
            let topic_partition = tp.clone();
            let folded = Folded {
                topic_partition,
                key,
                row: None,
                inherit: None,
                detached: true,
                lost: Vec::new(),
            };
            self.keys.insert(hash, folded);
        }
        if let Some(left) = left {
            self.departures.push(left);
        }
    }

    /// Takes everything; the fold is empty afterwards. Rows are padded with NULL to `width`.
    pub fn seal(&mut self, width: usize) -> Sealed {
        self.weight = 0;
        self.awaited.clear();
        let mut sealed = Sealed {
            truncated: std::mem::take(&mut self.truncated),
            changes: Vec::with_capacity(self.keys.len()),
            lost: Vec::new(),
            departed: self.departures.seal(),
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
mod tests;
