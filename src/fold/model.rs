//! The fold against a source: whatever the history, however partitions are read and batches cut, the
//! table ends with the source's rows, and names exactly what could not be known.
//!
//! A small database makes changes and tells of them as a connector would: unchanged values may be
//! left out, a change of key is a delete, a tombstone and an insert, perhaps in another partition.
//! Partitions are read in any order, but that an insert which asks for a row waits until it has left;
//! batches end anywhere, also between the halves; what has left in one batch is kept for the next.
//! Some partitions may be another process's, which is never heard of.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use lakebed_schemas::position::TopicPartition;
use lakebed_schemas::value::{Value, key_hash};
use proptest::prelude::*;
use proptest::strategy::ValueTree;

use super::{DepartedRow, Fold, RowChange, RowMove, Sealed};

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
        4 => (key(), key(), any::<u8>(), any::<u8>())
            .prop_map(|(from, to, changed, unsent)| Wish::Rekey { from, to, changed, unsent }),
        1 => Just(Wish::Widen),
    ]
}

/// A record of the topic, as the worker hands it to the fold.
#[derive(Debug, Clone)]
struct Record {
    key: i64,
    change: RowChange,
    is_tombstone: bool,
}

/// The database and the topic that it is captured in.
#[derive(Debug)]
struct Database {
    rows: BTreeMap<i64, Vec<Value>>,
    /// Columns of rows whose value came from a partition that is not read here, and was not sent.
    hidden: BTreeMap<i64, BTreeSet<usize>>,
    width: usize,
    partitions: Vec<VecDeque<Record>>,
    /// How many of them, from the first, are read here.
    read: usize,
    changes: i64,
}

fn has(bits: u8, column: usize) -> bool {
    bits >> column & 1 == 1
}

fn key_of(key: i64) -> Vec<Value> {
    vec![Value::Long(key)]
}

impl Database {
    fn new(partitions: usize, read: usize) -> Self {
        let partitions = vec![VecDeque::new(); partitions];
        let (rows, hidden) = (BTreeMap::new(), BTreeMap::new());
        Self { rows, hidden, width: COLUMNS, partitions, read, changes: 0 }
    }

    fn partition(&self, key: i64) -> usize {
        usize::try_from(key).expect("small") % self.partitions.len()
    }

    fn is_read(&self, key: i64) -> bool {
        self.partition(key) < self.read
    }

    fn tell(&mut self, key: i64, change: RowChange, is_tombstone: bool) {
        let partition = self.partition(key);
        self.partitions[partition].push_back(Record { key, change, is_tombstone });
    }

    fn tell_delete(&mut self, key: i64, moved: Option<RowMove>) {
        self.tell(key, RowChange::Delete { moved }, false);
        self.tell(key, RowChange::Delete { moved: None }, true);
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

    /// Of the columns that were left out, those that nobody can know any more.
    fn hide(&mut self, key: i64, before: &BTreeSet<usize>, sent: &[Value], is_cut_off: bool) {
        let left_out = (0..sent.len()).filter(|column| sent[*column] == Value::Unavailable);
        let hidden = left_out.filter(|column| is_cut_off || before.contains(column)).collect();
        self.hidden.insert(key, hidden);
    }

    fn grant(&mut self, wish: &Wish) {
        self.changes += 1;
        match *wish {
            Wish::Widen => self.width = COLUMNS + 1,
            Wish::Write { key, changed, unsent } => {
                let before = self.hidden.remove(&key).unwrap_or_default();
                let (row, change) = match self.rows.get(&key).cloned() {
                    Some(old) => {
                        let (row, sent) = self.changed(&old, changed, unsent);
                        self.hide(key, &before, &sent, false);
                        (row, RowChange::Update { row: sent })
                    }
                    None => {
                        let (row, _) = self.changed(&key_of(key), 0xfe, 0);
                        (row.clone(), RowChange::Replace { row, moved: None })
                    }
                };
                self.rows.insert(key, row);
                self.tell(key, change, false);
            }
            Wish::Read { key } => {
                let Some(row) = self.rows.get(&key).cloned() else { return };
                self.hidden.remove(&key);
                self.tell(key, RowChange::Replace { row, moved: None }, false);
            }
            Wish::Delete { key } => {
                self.hidden.remove(&key);
                if self.rows.remove(&key).is_some() {
                    self.tell_delete(key, None);
                }
            }
            Wish::Rekey { from, to, changed, unsent } => {
                if self.rows.contains_key(&to) {
                    return;
                }
                let Some(mut old) = self.rows.remove(&from) else { return };
                let before = self.hidden.remove(&from).unwrap_or_default();
                old[0] = Value::Long(to);
                let (row, sent) = self.changed(&old, changed, unsent);
                self.rows.insert(to, row);
                self.hide(to, &before, &sent, !self.is_read(from));
                let place = Some(self.changes.unsigned_abs().into());
                let moved = Some(RowMove { old_key: key_hash(&key_of(from)), place });
                self.tell_delete(from, moved);
                self.tell(to, RowChange::Replace { row: sent, moved }, false);
            }
        }
    }
}

/// A table that applies sealed changes as `lakebed_sinks::table` does.
#[derive(Default)]
struct Table {
    /// By hash of the key, the row and the columns named as incomplete.
    rows: BTreeMap<u128, (Vec<Value>, BTreeSet<usize>)>,
}

impl Table {
    fn apply(&mut self, sealed: &Sealed) {
        let before = self.rows.clone();
        let mut seen = BTreeSet::new();
        for (at, change) in sealed.changes.iter().enumerate() {
            let hash = key_hash(&change.key);
            assert!(seen.insert(hash), "a key comes twice");
            let Some(mut row) = change.row.clone() else {
                self.rows.remove(&hash);
                continue;
            };
            let of_change =
                |(lost_at, column): &(usize, usize)| (*lost_at == at).then_some(*column);
            let mut incomplete: BTreeSet<usize> =
                sealed.lost.iter().filter_map(of_change).collect();
            let asked = before.get(&key_hash(change.inherit.as_ref().unwrap_or(&change.key)));
            for (column, value) in row.iter_mut().enumerate() {
                if *value == Value::Unavailable {
                    let known = asked.filter(|(_, names)| !names.contains(&column));
                    *value = known.map_or(Value::Null, |(old, _)| old[column].clone());
                    if known.is_none() {
                        incomplete.insert(column);
                    }
                }
            }
            self.rows.insert(hash, (row, incomplete));
        }
    }

    /// What is known of a row that left, before the batch that it left in is applied.
    fn resolve(&self, left: &DepartedRow) -> BTreeMap<usize, Value> {
        let stored = self.rows.get(&key_hash(left.from.as_ref().unwrap_or(&left.key)));
        let in_table = |column: usize| {
            let (row, names) = stored?;
            (!names.contains(&column)).then(|| row[column].clone())
        };
        let value = |column: usize| match left.row.as_ref().map(|row| row.get(column)) {
            Some(_) if left.lost.contains(&column) => None,
            Some(None) => Some(Value::Null),
            Some(Some(Value::Unavailable)) | None => in_table(column),
            Some(Some(value)) => Some(value.clone()),
        };
        (0..=COLUMNS).filter_map(|column| Some((column, value(column)?))).collect()
    }
}

/// What the worker does beside the fold.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Rules {
    All,
    /// Inserts do not wait for rows that are to leave.
    WithoutWaiting,
    /// Rows that left in one batch are forgotten in the next.
    WithoutKeeping,
}

/// Reads the topic and writes the table.
struct Worker {
    partitions: Vec<VecDeque<Record>>,
    rules: Rules,
    fold: Fold,
    kept: BTreeMap<RowMove, BTreeMap<usize, Value>>,
    table: Table,
}

impl Worker {
    fn new(database: &Database, rules: Rules) -> Self {
        let partitions = database.partitions[..database.read].to_vec();
        let (fold, kept, table) = (Fold::default(), BTreeMap::new(), Table::default());
        Self { partitions, rules, fold, kept, table }
    }

    fn waits(&self, record: &Record) -> bool {
        let RowChange::Replace { row, moved: Some(moved) } = &record.change else { return false };
        self.rules != Rules::WithoutWaiting
            && row.contains(&Value::Unavailable)
            && !self.fold.has_departed(moved)
            && !self.kept.contains_key(moved)
    }

    /// A partition that can go on, or else the one that has waited for the oldest change.
    fn next(&self, choice: usize) -> Option<usize> {
        let fronts = || {
            let partitions = self.partitions.iter().enumerate();
            partitions.filter_map(|(partition, records)| Some((partition, records.front()?)))
        };
        let open: Vec<usize> =
            fronts().filter(|(_, record)| !self.waits(record)).map(|(at, _)| at).collect();
        let place = |record: &Record| match &record.change {
            RowChange::Replace { moved, .. } => moved.and_then(|moved| moved.place),
            RowChange::Update { .. } | RowChange::Delete { .. } => None,
        };
        let oldest = || fronts().min_by_key(|(_, record)| place(record)).map(|(at, _)| at);
        open.get(choice % open.len().max(1)).copied().or_else(oldest)
    }

    fn take(&mut self, partition: usize) {
        let Some(mut record) = self.partitions[partition].pop_front() else { return };
        let tp = TopicPartition::new("t", i32::try_from(partition).expect("small"));
        if !record.is_tombstone {
            self.fold.settle_key_change(&tp);
        }
        if let RowChange::Replace { row, moved: Some(moved) } = &mut record.change
            && let Some(kept) = self.kept.get(moved)
        {
            for (column, value) in row.iter_mut().enumerate() {
                if let (Value::Unavailable, Some(known)) = (&*value, kept.get(&column)) {
                    *value = known.clone();
                }
            }
        }
        self.fold.push(&tp, key_of(record.key), record.change);
    }

    fn write(&mut self) {
        let sealed = self.fold.seal(COLUMNS + 1);
        assert!(self.fold.is_empty());
        for left in &sealed.departed {
            let values = self.table.resolve(left);
            if self.rules != Rules::WithoutKeeping && !values.is_empty() {
                self.kept.entry(left.moved).or_insert(values);
            }
        }
        self.table.apply(&sealed);
    }

    /// Reads everything in the order that `choices` say, writing where they say.
    fn run(mut self, choices: &[(usize, bool)]) -> Table {
        for (choice, cut) in choices.iter().cycle() {
            let Some(partition) = self.next(*choice) else { break };
            self.take(partition);
            if *cut {
                self.write();
            }
        }
        self.write();
        self.table
    }
}

/// The table where the source's rows of the partitions that are read are in it, cell by cell, but
/// for those that nobody could know: they are NULL and named, and no others are.
fn expected(database: &Database) -> BTreeMap<u128, (Vec<Value>, BTreeSet<usize>)> {
    let rows = database.rows.iter().filter(|(key, _)| database.is_read(**key));
    let rows = rows.map(|(key, row)| {
        let mut row = row.clone();
        row.resize(COLUMNS + 1, Value::Null);
        let hidden = database.hidden.get(key).cloned().unwrap_or_default();
        hidden.iter().for_each(|column| row[*column] = Value::Null);
        (key_hash(&row[..1]), (row, hidden))
    });
    rows.collect()
}

fn history() -> impl Strategy<Value = (Vec<Wish>, Vec<(usize, bool)>)> {
    (
        prop::collection::vec(wish(), 1..40),
        prop::collection::vec((0..6usize, prop::bool::weighted(0.3)), 1..60),
    )
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
        (wishes, choices) in history(),
    ) {
        let mut database = Database::new(partitions, partitions);
        wishes.iter().for_each(|wish| database.grant(wish));
        prop_assert!(database.hidden.values().all(BTreeSet::is_empty));

        let table = Worker::new(&database, Rules::All).run(&choices);
        prop_assert_eq!(table.rows, expected(&database));
    }

    #[test]
    fn exactly_what_only_another_process_knows_is_named(
        (partitions, read) in (2..5usize).prop_flat_map(|all| (Just(all), 1..all)),
        (wishes, choices) in history(),
    ) {
        let mut database = Database::new(partitions, read);
        wishes.iter().for_each(|wish| database.grant(wish));

        let table = Worker::new(&database, Rules::All).run(&choices);
        prop_assert_eq!(table.rows, expected(&database));
    }
}

/// The test of the test: each of the rules is needed.
#[test]
fn without_waiting_or_without_keeping_some_history_ends_wrong() {
    for rules in [Rules::WithoutWaiting, Rules::WithoutKeeping] {
        let mut runner = proptest::test_runner::TestRunner::deterministic();
        let wrong = (0..3_000).any(|_| {
            let tree = history().new_tree(&mut runner).expect("a history");
            let (wishes, choices) = tree.current();
            let mut database = Database::new(3, 3);
            wishes.iter().for_each(|wish| database.grant(wish));
            Worker::new(&database, rules).run(&choices).rows != expected(&database)
        });
        assert!(wrong, "{rules:?} changes nothing");
    }
}
