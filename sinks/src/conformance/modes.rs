//! Copy-on-write beside merge-on-read: the same rows, in files without dead ones.

use std::collections::BTreeMap;
use std::time::Duration;

use lakebed_schemas::config::Mode;
use lakebed_schemas::value::{Value, key_hash};
use roaring::RoaringBitmap;

use super::LogFactory;
use super::commits::{change, staged};
use super::fixture::{
    Fixture, TOPIC, all_rows, batch, commit, delta, expected, row, silver_schema, tp,
};
use crate::faults::Fault;
use crate::log::{Head, Retention};
use crate::table::upsert::UpsertTable;
use crate::table::{KeyChange, Truncated, UpsertBatch};

/// Keys of the random histories.
const IDS: i64 = 400;

/// A fixed sequence (splitmix64), so that a failure can be seen again.
struct Random(u64);

impl Random {
    fn below(&mut self, end: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (mixed ^ (mixed >> 31)) % end
    }

    fn one_in(&mut self, times: u64) -> bool {
        self.below(times) == 0
    }
}

/// Batches of a source, and where each partition stands.
struct Source {
    random: Random,
    next: BTreeMap<i32, i64>,
}

impl Source {
    fn new(seed: u64) -> Self {
        Self { random: Random(seed), next: BTreeMap::new() }
    }

    /// Changes of up to `most` keys of a partition; a third of them are deletes. Now and then the
    /// source's table is emptied.
    fn batch(&mut self, most: u64) -> UpsertBatch {
        let partition = i32::try_from(self.random.below(2)).expect("small");
        let start = *self.next.entry(partition).or_default();
        let mut rows: BTreeMap<i64, bool> = BTreeMap::new();
        for _ in 0..=self.random.below(most) {
            let id = self.random.below(IDS as u64) as i64;
            rows.insert(id, self.random.one_in(3));
        }
        let changes = rows.into_iter().zip(start..).map(|((id, goes), offset)| KeyChange {
            topic_partition: tp(partition),
            key: vec![Value::Long(id)],
            row: (!goes).then(|| row(id, text(offset), noise(offset), partition, offset)),
            inherit: None,
        });
        let changes: Vec<KeyChange> = changes.collect();
        let end = start + changes.len() as i64;
        self.next.insert(partition, end);
        let truncated = self.random.one_in(25).then(|| (TOPIC.into(), Truncated::All));
        UpsertBatch {
            schema: silver_schema(),
            changes,
            delta: delta(partition, start, end),
            truncated: truncated.into_iter().collect(),
            ..UpsertBatch::default()
        }
    }
}

fn text(n: i64) -> Value {
    Value::Text(format!("name {n}"))
}

/// Text that does not compress.
fn noise(n: i64) -> Value {
    let part = |n: i64| format!("{:032x}", xxhash_rust::xxh3::xxh3_128(&n.to_le_bytes()));
    Value::Text((4 * n..4 * n + 4).map(part).collect())
}

async fn sorted_rows(table: &Fixture<'_>, head: &Head) -> Vec<String> {
    let rows = all_rows(&table.storage, head).await;
    let mut rows: Vec<String> = rows.iter().map(|row| format!("{row:?}")).collect();
    rows.sort();
    rows
}

fn dead_rows(head: &Head) -> u64 {
    head.files.values().map(|live| live.deleted.len()).sum()
}

/// The index answers as one that was read from the table.
async fn check_index(table: &Fixture<'_>, silver: &UpsertTable, what: &str) {
    let fresh = table.silver().await;
    let place = |of: &UpsertTable, id: i64| {
        let place = of.index().find(key_hash(&[Value::Long(id)]))?;
        let file = of.index().file(place.ordinal).expect("a place is in a file");
        Some((file.path.clone(), place.position))
    };
    for id in 0..IDS {
        assert_eq!(place(silver, id), place(&fresh, id), "{what}: id {id}");
    }
}

/// Random histories, with new processes in between: the same rows in both modes, and in
/// copy-on-write no dead ones.
pub async fn both_modes_give_the_same_rows(factory: &dyn LogFactory) {
    for seed in [1, 2] {
        let [rewritten, marked] =
            [Mode::CopyOnWrite, Mode::MergeOnRead].map(|mode| Fixture::in_mode(factory, mode));
        let mut source = Source::new(seed);
        let mut one = rewritten.silver_on(rewritten.create(&silver_schema()).await).await;
        let mut other = marked.silver_on(marked.create(&silver_schema()).await).await;
        for n in 0..30 {
            let what = format!("seed {seed}, batch {n}");
            let batch = source.batch(120);
            commit(&mut one, batch.clone()).await;
            commit(&mut other, batch).await;
            assert_eq!(dead_rows(one.head()), 0, "{what}");
            if n % 6 == 5 {
                let rows = sorted_rows(&rewritten, one.head()).await;
                assert_eq!(rows, sorted_rows(&marked, other.head()).await, "{what}");
                check_index(&rewritten, &one, &what).await;
                assert_eq!(one.index().len() as u64, one.head().live_rows(), "{what}");
            }
            if source.random.one_in(8) {
                one = rewritten.silver().await;
            }
        }
        let rows = sorted_rows(&rewritten, rewritten.open().await.head()).await;
        assert_eq!(rows, sorted_rows(&marked, marked.open().await.head()).await, "seed {seed}");
        assert!(!rows.is_empty(), "seed {seed}");
    }
}

/// From one mode to the other and back: dead rows go with the files that hold them, and come again.
pub async fn a_table_may_change_its_mode(factory: &dyn LogFactory) {
    for first in [Mode::MergeOnRead, Mode::CopyOnWrite] {
        let mut table = Fixture::in_mode(factory, first);
        let marked = Fixture::in_mode(factory, Mode::MergeOnRead);
        let mut source = Source::new(7);
        drop(table.create(&silver_schema()).await);
        let mut other = marked.silver_on(marked.create(&silver_schema()).await).await;
        let second = match first {
            Mode::MergeOnRead => Mode::CopyOnWrite,
            Mode::CopyOnWrite => Mode::MergeOnRead,
        };
        for mode in [first, second, first, second] {
            (table.options.mode, table.table.mode) = (mode, mode);
            let mut silver = table.silver().await;
            for _ in 0..8 {
                let mut batch = source.batch(60);
                batch.truncated.clear();
                commit(&mut silver, batch.clone()).await;
                commit(&mut other, batch).await;
            }
            let what = format!("{mode:?} after {first:?}");
            assert_eq!(dead_rows(silver.head()) == 0, mode == Mode::CopyOnWrite, "{what}");
            check_index(&table, &silver, &what).await;
            let rows = sorted_rows(&table, table.open().await.head()).await;
            assert_eq!(rows, sorted_rows(&marked, other.head()).await, "{what}");
        }
    }
}

/// A file that was to be rewritten has left, or has lost rows, by another's hand meanwhile: the
/// keys are looked up again.
pub async fn a_file_that_another_writer_changed_is_written_for_what_is_there_now(
    factory: &dyn LogFactory,
) {
    let table = Fixture::in_mode(factory, Mode::CopyOnWrite);
    let schema = silver_schema();
    drop(table.create(&schema).await);
    let (mut silver, script) = table.faulty_silver().await;
    commit(&mut silver, batch(0, &[(1, Some("one")), (2, Some("two")), (3, Some("three"))])).await;
    let path = silver.head().files.keys().next().expect("a file").clone();

    // Row 1 has gone and the others have moved.
    let moved = [
        staged(&table, &schema, 0, 2, "two, moved").await,
        staged(&table, &schema, 0, 3, "three, moved").await,
    ];
    let mut foreign = change(moved.to_vec(), delta(7, 0, 1));
    foreign.removed = [path].into();
    script.push(Fault::Foreign(Box::new(foreign)));
    let (_, _) = commit(&mut silver, batch(3, &[(1, Some("uno")), (2, Some("dos"))])).await;
    let rows = [(1, "uno"), (2, "dos"), (3, "three, moved")];
    assert_eq!(table.names().await, expected(&rows));
    check_index(&table, &silver, "after a foreign rewrite").await;

    // A row has died in a file that stays.
    let of_three = silver.index().find(key_hash(&[Value::Long(3)])).expect("row 3");
    let path = silver.index().file(of_three.ordinal).expect("its file").path.clone();
    commit(&mut silver, batch(5, &[(4, Some("four")), (5, Some("five"))])).await;
    let mut foreign = change(Vec::new(), delta(7, 1, 2));
    let of_five = silver.index().find(key_hash(&[Value::Long(5)])).expect("row 5");
    let newer = silver.index().file(of_five.ordinal).expect("its file").path.clone();
    foreign.deleted.insert(newer, RoaringBitmap::from([of_five.position]));
    script.push(Fault::Foreign(Box::new(foreign)));
    script.push(Fault::LostReply);
    commit(&mut silver, batch(7, &[(4, Some("cuatro")), (3, None)])).await;
    let rows = [(1, "uno"), (2, "dos"), (4, "cuatro")];
    assert_eq!(table.names().await, expected(&rows));
    assert!(!silver.head().files.contains_key(&path));
    commit(&mut silver, batch(9, &[(5, Some("cinco"))])).await;
    assert_eq!(dead_rows(silver.head()), 0);
    check_index(&table, &silver, "after a foreign delete").await;
    let rows = [(1, "uno"), (2, "dos"), (4, "cuatro"), (5, "cinco")];
    assert_eq!(table.names().await, expected(&rows));
}

/// Small batches for a long time: the files are few, none is large, and new rows are not copied
/// again and again.
pub async fn files_stay_few_and_bounded(factory: &dyn LogFactory) {
    const FILE: u64 = 64 << 10;
    let mut table = Fixture::in_mode(factory, Mode::CopyOnWrite);
    table.options.writer.file_bytes = FILE;
    let mut silver = table.silver_on(table.create(&silver_schema()).await).await;
    let mut random = Random(11);
    let (mut copied, mut most) = (0, 0);
    let rows: i64 = 20;
    for n in 0..120 {
        let start = n * rows;
        let changes = (start..start + rows).map(|offset| {
            // One key of a batch has been there before, of a recent one.
            let is_old = offset == start && n > 4;
            let id = if is_old { start - 1 - random.below(50) as i64 } else { offset };
            let row = Some(row(id, text(offset), noise(offset), 0, offset));
            KeyChange { topic_partition: tp(0), key: vec![Value::Long(id)], row, inherit: None }
        });
        let batch = UpsertBatch {
            schema: silver_schema(),
            changes: changes.collect(),
            delta: delta(0, start, start + rows),
            ..UpsertBatch::default()
        };
        let written = silver.write(batch).await.expect("written");
        let crate::table::Written::Committed { stats, .. } = written else { panic!("{written:?}") };
        copied += stats.copied;
        let sizes: Vec<u64> = silver.head().files.values().map(|live| live.file.size).collect();
        most = most.max(
            sizes.len() as u64 - sizes.iter().filter(|size| **size >= FILE / 2).count() as u64,
        );
        // A file is cut behind a row group.
        assert!(sizes.iter().all(|size| *size < 5 * FILE / 2), "{sizes:?}");
    }
    // Seven of each tier below half of the full size: 4, 8 and 64 KiB begin one.
    assert!(most <= 21, "{most} small files at once");
    let total = silver.head().live_rows();
    assert!(copied < 12 * total, "{copied} rows copied for {total}");
    assert_eq!(dead_rows(silver.head()), 0);
}

/// Files that have left stay as long as versions that have them, and then go.
pub async fn what_was_rewritten_is_kept_as_long_as_promised(factory: &dyn LogFactory) {
    let mut table = Fixture::in_mode(factory, Mode::CopyOnWrite);
    table.table.retention = Retention { versions_min: 5, age_min: Duration::from_secs(3600) };
    let mut silver = table.silver_on(table.create(&silver_schema()).await).await;
    let mut offset = 0;
    let write = async |silver: &mut UpsertTable, offset: &mut i64| {
        for _ in 0..30 {
            commit(silver, batch(*offset, &[(1, Some("one")), (*offset % 3 + 2, Some("n"))])).await;
            *offset += 2;
        }
        silver.maintain().await.expect("looked after");
        table.storage.list("data").await.map(|listed| listed.len()).expect("listed")
    };
    let young = write(&mut silver, &mut offset).await;
    assert!(young >= 30, "nothing young is deleted: {young} files");

    table.table.retention.age_min = Duration::ZERO;
    let mut silver = table.silver().await;
    // Only a second sweep finds the first one's log checkpoint.
    let mut left = usize::MAX;
    for _ in 0..3 {
        tokio::time::sleep(Duration::from_millis(20)).await;
        left = write(&mut silver, &mut offset).await;
    }
    if factory.keeps_files() {
        assert!(left < 60, "{left} files are left of {offset} rows");
    }
    assert_eq!(table.names().await.len(), 4);
}

/// Rows of the tables that [`what_each_mode_writes`] measures; `LAKEBED_TEST_ROWS` names others,
/// with commas between.
fn sizes() -> Vec<i64> {
    let named = std::env::var("LAKEBED_TEST_ROWS").unwrap_or_else(|_| "4000,16000".to_owned());
    named.split(',').map(|rows| rows.parse().expect("a number of rows")).collect()
}

/// Keys changed by one commit, and commits measured.
const CHANGED: i64 = 500;
const COMMITS: i64 = 4;

/// Which keys a load changes.
#[derive(Debug, Clone, Copy)]
enum Load {
    /// All over the table.
    Uniform,
    /// Among the newest twentieth.
    Recent,
}

/// What one commit of `load` writes, in bytes, into a table of `rows` rows; and what the table has.
async fn written(factory: &dyn LogFactory, mode: Mode, rows: i64, load: Load) -> (u64, u64) {
    let mut table = Fixture::in_mode(factory, mode);
    let share = if rows < 100_000 { 64 << 10 } else { 8 << 20 };
    (table.options.writer.row_group_rows, table.options.writer.file_bytes) = (16 * 1024, share);
    let mut silver = table.silver_on(table.create(&silver_schema()).await).await;
    let mut offset = 0;
    let batch = |ids: &mut dyn Iterator<Item = i64>, offset: &mut i64| {
        let start = *offset;
        let change = |(id, offset): (i64, i64)| KeyChange {
            topic_partition: tp(0),
            key: vec![Value::Long(id)],
            row: Some(row(id, text(id % 1000), noise(offset), 0, offset)),
            inherit: None,
        };
        let changes: Vec<KeyChange> = ids.zip(start..).map(change).collect();
        *offset += changes.len() as i64;
        let delta = delta(0, start, *offset);
        UpsertBatch { schema: silver_schema(), changes, delta, ..UpsertBatch::default() }
    };
    let step = (rows / 16).max(1_000);
    for first in (0..rows).step_by(usize::try_from(step).expect("small")) {
        let batch = batch(&mut (first..rows.min(first + step)), &mut offset);
        commit(&mut silver, batch).await;
    }
    let held = silver.head().files.values().map(|live| live.file.size).sum();
    table.storage.counters().take();
    let mut random = Random(3);
    for _ in 0..COMMITS {
        let mut ids = std::collections::BTreeSet::new();
        let (from, among) = match load {
            Load::Uniform => (0, rows),
            Load::Recent => (rows - rows / 20, rows / 20),
        };
        while (ids.len() as i64) < CHANGED.min(among / 2) {
            ids.insert(from + random.below(among as u64) as i64);
        }
        let batch = batch(&mut ids.into_iter(), &mut offset);
        commit(&mut silver, batch).await;
    }
    assert_eq!(silver.head().live_rows(), rows as u64, "every update has replaced a row");
    (table.storage.counters().take().bytes_written / COMMITS as u64, held)
}

/// The same loads in both modes, side by side: marking costs what the batch holds, rewriting what
/// the touched files hold, and never more than the table.
pub async fn what_each_mode_writes(factory: &dyn LogFactory) {
    let mut marking = Vec::new();
    for rows in sizes() {
        for load in [Load::Uniform, Load::Recent] {
            let (marked, held) = written(factory, Mode::MergeOnRead, rows, load).await;
            let (rewritten, _) = written(factory, Mode::CopyOnWrite, rows, load).await;
            eprintln!(
                "{rows} rows in {held} bytes, {load:?}: {marked} bytes a commit marked, {rewritten} rewritten"
            );
            // With the batch's own rows, and metadata.
            assert!(rewritten < held * 3 / 2 + (256 << 10), "{rewritten} of {held} bytes");
            match load {
                Load::Uniform => marking.push(marked),
                Load::Recent => {
                    assert!(rewritten < held / 2 + (256 << 10), "{rewritten} of {held}")
                }
            }
        }
    }
    let (least, most) = (marking.iter().min(), marking.iter().max());
    let flat = least.zip(most).is_some_and(|(least, most)| *most < least * 2 + (64 << 10));
    assert!(flat, "{marking:?}");
}
