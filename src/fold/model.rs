//! The fold against a source: whatever the history and wherever batches are cut, the table ends
//! with the source's rows.
//!
//! A small database makes changes and tells of them as a connector would: unchanged values may be
//! left out, a change of key is a delete, a tombstone and an insert, perhaps in another partition.
//! Each sealed fold is applied to a map of rows as tables apply it. Not in here: the insert of a key
//! change that is read before its delete, or in a later batch than a delete in another partition.
//! No fold can be exact about those.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use lakebed_schemas::position::TopicPartition;
use lakebed_schemas::value::Value;
use proptest::prelude::*;

use super::{Fold, RowChange, Sealed};

const KEYS: i64 = 4;

/// Columns from the start, the key first; one more may be added.
const COLUMNS: usize = 3;

/// What happens at the source; impossible wishes are passed over. Sets of columns are bits.
#[derive(Debug, Clone)]
enum Wish {
    /// Inserts, or updates the columns that `changed` says, leaving out unchanged `unsent` ones.
    Write {
        key: i64,
        changed: u8,
        unsent: u8,
    },
    /// A snapshot reads the row.
    Read {
        key: i64,
    },
    Delete {
        key: i64,
    },
    /// Updates the key, and perhaps columns with it.
    Rekey {
        from: i64,
        to: i64,
        changed: u8,
        unsent: u8,
    },
    /// Adds the last column.
    Widen,
}

fn wish() -> impl Strategy<Value = Wish> {
    let key = || 0..KEYS;
    prop_oneof![
        6 => (key(), any::<u8>(), any::<u8>())
            .prop_map(|(key, changed, unsent)| Wish::Write { key, changed, unsent }),
        1 => key().prop_map(|key| Wish::Read { key }),
        2 => key().prop_map(|key| Wish::Delete { key }),
        3 => (key(), key(), any::<u8>(), any::<u8>())
            .prop_map(|(from, to, changed, unsent)| Wish::Rekey { from, to, changed, unsent }),
        1 => Just(Wish::Widen),
    ]
}

/// A change of key, in the order of the source.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
struct Rekey {
    number: i64,
    from: i64,
    /// Whether its insert is in another partition than its delete.
    crosses: bool,
}

/// A record of the topic, as the worker hands it to the fold.
#[derive(Debug, Clone)]
struct Record {
    key: i64,
    change: RowChange,
    is_tombstone: bool,
    /// Set for both halves of a change of key.
    rekey: Option<Rekey>,
}

/// The database and the topic that it is captured in.
#[derive(Debug)]
struct Database {
    rows: BTreeMap<i64, Vec<Value>>,
    width: usize,
    partitions: Vec<VecDeque<Record>>,
    changes: i64,
}

fn has(bits: u8, column: usize) -> bool {
    bits >> column & 1 == 1
}

impl Database {
    fn new(partitions: usize) -> Self {
        let partitions = vec![VecDeque::new(); partitions];
        Self { rows: BTreeMap::new(), width: COLUMNS, partitions, changes: 0 }
    }

    fn partition(&self, key: i64) -> usize {
        usize::try_from(key).expect("small") % self.partitions.len()
    }

    fn tell(&mut self, key: i64, change: RowChange, is_tombstone: bool, rekey: Option<Rekey>) {
        let partition = self.partition(key);
        self.partitions[partition].push_back(Record { key, change, is_tombstone, rekey });
    }

    fn tell_delete(&mut self, key: i64, rekey: Option<Rekey>) {
        self.tell(key, RowChange::Delete { key_change: rekey.is_some() }, false, rekey);
        self.tell(key, RowChange::Delete { key_change: false }, true, None);
    }

    /// The row after a change, each value with a number of its own, and as it is sent.
    fn changed(&mut self, old: &[Value], changed: u8, unsent: u8) -> (Vec<Value>, Vec<Value>) {
        let (mut row, mut sent) = (old.to_vec(), Vec::new());
        row.resize(self.width, Value::Null);
        for (column, value) in row.iter_mut().enumerate().skip(1) {
            if has(changed, column) {
                let is_null = has(changed, column + 4) && has(changed, 0);
                let number = self.changes * 10 + i64::try_from(column).expect("small");
                *value = if is_null { Value::Null } else { Value::Long(number) };
            }
        }
        for (column, value) in row.iter().enumerate() {
            // NULL is not stored out of line, so it is always sent.
            let kept = column > 0 && !has(changed, column) && has(unsent, column);
            let is_left_out = kept && !value.is_null();
            sent.push(if is_left_out { Value::Unavailable } else { value.clone() });
        }
        (row, sent)
    }

    fn grant(&mut self, wish: &Wish) {
        self.changes += 1;
        match *wish {
            Wish::Widen => self.width = COLUMNS + 1,
            Wish::Write { key, changed, unsent } => {
                let (row, change) = match self.rows.get(&key).cloned() {
                    Some(old) => {
                        let (row, sent) = self.changed(&old, changed, unsent);
                        (row, RowChange::Update { row: sent })
                    }
                    None => {
                        let (row, _) = self.changed(&[Value::Long(key)], 0xfe, 0);
                        (row.clone(), RowChange::Replace { row, old_key: None })
                    }
                };
                self.rows.insert(key, row);
                self.tell(key, change, false, None);
            }
            Wish::Read { key } => {
                let Some(row) = self.rows.get(&key).cloned() else { return };
                self.tell(key, RowChange::Replace { row, old_key: None }, false, None);
            }
            Wish::Delete { key } => {
                if self.rows.remove(&key).is_some() {
                    self.tell_delete(key, None);
                }
            }
            Wish::Rekey { from, to, changed, unsent } => {
                if self.rows.contains_key(&to) {
                    return;
                }
                let Some(mut old) = self.rows.remove(&from) else { return };
                old[0] = Value::Long(to);
                let (row, sent) = self.changed(&old, changed, unsent);
                self.rows.insert(to, row);
                let crosses = self.partition(from) != self.partition(to);
                let rekey = Some(Rekey { number: self.changes, from, crosses });
                self.tell_delete(from, rekey);
                let old_key = Some(vec![Value::Long(from)]);
                self.tell(to, RowChange::Replace { row: sent, old_key }, false, rekey);
            }
        }
    }
}

/// The topic's partitions, read in some order.
struct Reader {
    partitions: Vec<VecDeque<Record>>,
    /// Changes of key whose delete has been read and whose insert has not.
    half_read: BTreeSet<Rekey>,
}

impl Reader {
    /// The next record of one of the partitions that can go on.
    fn next(&mut self, choice: usize) -> Option<(usize, Record)> {
        let waits = |record: &Record| {
            let is_insert = matches!(record.change, RowChange::Replace { .. });
            let first = |from| self.half_read.iter().find(|half| half.from == from);
            record.rekey.is_some_and(|rekey| is_insert && first(rekey.from) != Some(&rekey))
        };
        let can_go_on = |(partition, records): (usize, &VecDeque<Record>)| {
            records.front().filter(|record| !waits(record)).map(|_| partition)
        };
        let open: Vec<usize> = self.partitions.iter().enumerate().filter_map(can_go_on).collect();
        let partition = *open.get(choice % open.len().max(1))?;
        let record = self.partitions[partition].pop_front()?;
        if let Some(rekey) = record.rekey
            && !self.half_read.remove(&rekey)
        {
            self.half_read.insert(rekey);
        }
        Some((partition, record))
    }
}

/// A table that applies sealed changes as `lakebed_sinks::table` does.
#[derive(Default)]
struct Table {
    rows: BTreeMap<u128, Vec<Value>>,
    /// Values that no row could answer.
    lost: usize,
}

impl Table {
    fn apply(&mut self, sealed: Sealed) {
        let hash = |key: &[Value]| lakebed_schemas::value::key_hash(key);
        self.lost += sealed.lost.len();
        let before = self.rows.clone();
        let mut seen = BTreeSet::new();
        for change in sealed.changes {
            assert!(seen.insert(hash(&change.key)), "a key comes twice");
            let Some(mut row) = change.row else {
                self.rows.remove(&hash(&change.key));
                continue;
            };
            let asked = change.inherit.as_ref().unwrap_or(&change.key);
            for (column, value) in row.iter_mut().enumerate() {
                if *value == Value::Unavailable {
                    let old = before.get(&hash(asked));
                    self.lost += usize::from(old.is_none());
                    let old = old.and_then(|old| old.get(column));
                    *value = old.cloned().unwrap_or(Value::Null);
                }
            }
            self.rows.insert(hash(&change.key), row);
        }
    }
}

/// Reads everything in the order that `choices` say, sealing where they say and the worker would.
fn replay(database: &Database, choices: &[(usize, bool)]) -> Table {
    let mut reader = Reader { partitions: database.partitions.clone(), half_read: BTreeSet::new() };
    let (mut fold, mut table) = (Fold::default(), Table::default());
    let mut choices = choices.iter().cycle();
    loop {
        let (choice, cut) = *choices.next().expect("there are choices");
        let Some((partition, record)) = reader.next(choice) else { break };
        let tp = TopicPartition::new("t", i32::try_from(partition).expect("small"));
        if !record.is_tombstone {
            fold.settle_key_change(&tp);
        }
        fold.push(&tp, vec![Value::Long(record.key)], record.change);
        let is_apart = reader.half_read.iter().any(|rekey| rekey.crosses);
        if cut && !is_apart && !fold.is_mid_key_change() {
            table.apply(fold.seal(COLUMNS + 1));
            assert!(fold.is_empty());
        }
    }
    assert!(reader.partitions.iter().all(VecDeque::is_empty), "everything is read");
    table.apply(fold.seal(COLUMNS + 1));
    table
}

proptest! {
    // More of them by hand: PROPTEST_CASES.
    #![proptest_config(ProptestConfig {
        cases: ProptestConfig::default().cases.max(3_000),
        failure_persistence: None,
        ..ProptestConfig::default()
    })]

    #[test]
    fn any_history_in_any_batches_ends_with_the_rows_of_the_source(
        partitions in 1..4usize,
        wishes in prop::collection::vec(wish(), 1..40),
        choices in prop::collection::vec((0..6usize, prop::bool::weighted(0.3)), 1..60),
    ) {
        let mut database = Database::new(partitions);
        wishes.iter().for_each(|wish| database.grant(wish));

        let table = replay(&database, &choices);

        let expected = database.rows.into_values().map(|mut row| {
            row.resize(COLUMNS + 1, Value::Null);
            (lakebed_schemas::value::key_hash(&row[..1]), row)
        });
        prop_assert_eq!(table.rows, expected.collect::<BTreeMap<_, _>>());
        prop_assert_eq!(table.lost, 0);
    }
}
