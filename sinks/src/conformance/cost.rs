//! The claim that an upsert costs O(batch), counted and not timed.

use lakebed_schemas::value::Value;

use super::LogFactory;
use super::fixture::{Fixture, commit, delta, row, silver_schema, tp};
use crate::storage::Counts;
use crate::table::upsert::UpsertTable;
use crate::table::{KeyChange, UpsertBatch};

/// Commits that build the table, and how many of them bring a file.
const COMMITS: i64 = 500;
const FILES: i64 = 250;
/// Batches measured, and changes in each.
const BATCHES: u64 = 20;
const BATCH_ROWS: u64 = 1_000;

/// Sizes at which it is counted; `LAKEBED_TEST_ROWS` asks for one other size.
fn sizes() -> Vec<u64> {
    match std::env::var("LAKEBED_TEST_ROWS").ok().and_then(|n| n.parse().ok()) {
        Some(rows) => vec![10_000, rows],
        None => vec![10_000, 100_000, 1_000_000],
    }
}

/// Uniform updates of a table of many files cost the same requests and bytes at every size.
pub async fn an_upsert_costs_what_its_batch_costs(factory: &dyn LogFactory) {
    let mut seen: Vec<(u64, Counts)> = Vec::new();
    for rows in sizes() {
        let counts = measure(factory, rows).await;
        eprintln!("{rows} rows: a batch of {BATCH_ROWS} uniform updates costs {counts:?}");
        seen.push((rows, counts));
    }
    let (_, small) = seen[0];
    for (rows, counts) in &seen[1..] {
        // Encodings differ a little with the values; the batch and its deletes do not.
        let bound = |small: u64| small + small / 2 + 64 * 1024;
        let written = counts.bytes_written <= bound(small.bytes_written);
        assert!(
            written,
            "{rows} rows: {} bytes written, {}",
            counts.bytes_written, small.bytes_written
        );
        let read = counts.bytes_read <= bound(small.bytes_read);
        assert!(read, "{rows} rows: {} bytes read, {}", counts.bytes_read, small.bytes_read);
        let requests = |counts: &Counts| counts.gets + counts.puts + counts.heads + counts.lists;
        let few = requests(counts) <= requests(&small) + requests(&small) / 4 + 8;
        assert!(few, "{rows} rows: {counts:?}, {small:?}");
    }
}

/// What one batch costs on average.
async fn measure(factory: &dyn LogFactory, rows: u64) -> Counts {
    let mut table = Fixture::new(factory);
    table.options.writer.row_group_rows = 128 * 1024;
    let mut silver = table.silver_on(table.create(&silver_schema()).await).await;
    let mut offset = build(&mut silver, rows).await;
    // A new process, so that nothing is served from what the build has left in memory.
    let mut silver = table.silver().await;
    assert!(silver.head().files.len() >= 200, "the table has many files");
    assert_eq!(silver.head().live_rows(), rows);
    table.storage.counters().take();
    let mut state = 42;
    for _ in 0..BATCHES {
        let mut ids = std::collections::BTreeSet::new();
        while (ids.len() as u64) < BATCH_ROWS {
            ids.insert((random(&mut state) % rows) as i64);
        }
        offset = upsert(&mut silver, offset, ids).await;
    }
    let all = table.storage.counters().take();
    assert_eq!(silver.head().live_rows(), rows, "every update replaced a row");
    Counts {
        gets: all.gets / BATCHES,
        bytes_read: all.bytes_read / BATCHES,
        puts: all.puts / BATCHES,
        bytes_written: all.bytes_written / BATCHES,
        heads: all.heads / BATCHES,
        lists: all.lists / BATCHES,
        deletes: all.deletes / BATCHES,
    }
}

/// `rows` rows by many commits, every other without rows.
async fn build(silver: &mut UpsertTable, rows: u64) -> i64 {
    let mut offset = 0;
    for n in 0..COMMITS {
        let file = n / (COMMITS / FILES);
        let share = |file: i64| file * rows as i64 / FILES;
        if n % (COMMITS / FILES) == 0 {
            offset = upsert(silver, offset, share(file)..share(file + 1)).await;
        } else {
            offset = upsert(silver, offset, []).await;
        }
    }
    offset
}

/// Upserts these ids; answers the next offset.
async fn upsert(silver: &mut UpsertTable, start: i64, ids: impl IntoIterator<Item = i64>) -> i64 {
    let changes: Vec<KeyChange> = ids
        .into_iter()
        .zip(start..)
        .map(|(id, offset)| KeyChange {
            topic_partition: tp(0),
            key: vec![Value::Long(id)],
            row: Some(row(
                id,
                Value::Text(format!("customer {}", id % 1_000)),
                Value::Text("in the post".to_owned()),
                0,
                offset,
            )),
            inherit: None,
        })
        .collect();
    let end = start + (changes.len() as i64).max(1);
    let batch = UpsertBatch {
        schema: silver_schema(),
        changes,
        delta: delta(0, start, end),
        freshness: None,
        ..UpsertBatch::default()
    };
    commit(silver, batch).await;
    end
}

/// A fixed sequence (splitmix64), so that every run counts the same.
fn random(state: &mut u64) -> u64 {
    *state = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
    let mut mixed = *state;
    mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    mixed ^ (mixed >> 31)
}
