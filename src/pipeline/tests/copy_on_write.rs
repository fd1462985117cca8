//! Tables whose files are written anew: the same rows as by marking, across restarts, at a pace of
//! their own.

use std::collections::BTreeMap;
use std::time::Duration;

use lakebed_schemas::config::Mode;
use lakebed_schemas::position::TopicPartition;
use lakebed_schemas::value::Value;

use super::world::{Setting, Told, World, change, column, message};
use super::{BRONZE, SILVER, tp};
use crate::pipeline::RunEnd;
use crate::source::Message;

fn delete(tp: &TopicPartition, offset: i64, id: i64, generation: u64) -> Message {
    let lsn = 1_000 + offset;
    let value = format!(
        r#"{{"before":{{"id":{id}}},"after":null,"source":{{"connector":"postgresql","ts_ms":5,"lsn":{lsn},"txId":1}},"op":"d","ts_ms":5}}"#
    );
    message(tp, offset, generation, Some(format!(r#"{{"id":{id}}}"#)), Some(value))
}

/// A history of 40 keys, every seventh change a delete, in these offsets of a partition.
fn history(tp: &TopicPartition, offsets: std::ops::Range<i64>, generation: u64) -> Vec<Message> {
    let id = |offset: i64| offset * 7919 % 40 * 2 + i64::from(tp.partition);
    let change = |offset: i64| match offset % 7 {
        6 => delete(tp, offset, id(offset), generation),
        _ => change(tp, offset, id(offset), generation),
    };
    offsets.map(change).collect()
}

async fn rows(world: &World) -> BTreeMap<String, String> {
    let notes = column(world, SILVER, "note").await;
    let ids = column(world, SILVER, "id").await;
    let text = |value: &Value| format!("{value:?}");
    let rows: BTreeMap<String, String> = ids.iter().map(text).zip(notes.iter().map(text)).collect();
    assert_eq!(rows.len(), ids.len(), "no key twice");
    rows
}

/// Reads the history in three runs; answers the rows after each.
async fn three_runs(entry: &'static str) -> Vec<BTreeMap<String, String>> {
    let folder = tempfile::tempdir().expect("folder");
    let mut told = Told { partitions: Some(2), ..Told::default() };
    let mut seen = Vec::new();
    for run in 0..3 {
        let world = World::start_in(&folder, &Setting { entry, ..Setting::default() }, told);
        let starts = world.assign(1, &[tp(0), tp(1)]).await;
        for partition in [0, 1] {
            let tp = tp(partition);
            // From where the table stands, a window earlier.
            let from = starts[&tp].at.map_or(0, |at| at.min(run * 100));
            world.read(history(&tp, from..run * 100 + 50, 1));
            world.stands_at(SILVER, &tp, run * 100 + 50).await;
            world.read(history(&tp, run * 100 + 50..run * 100 + 100, 1));
            world.stands_at(SILVER, &tp, run * 100 + 100).await;
        }
        seen.push(rows(&world).await);
        let head = world.head(SILVER).await.expect("silver");
        let dead: u64 = head.files.values().map(|live| live.deleted.len()).sum();
        assert_eq!(dead == 0, entry.contains("copy-on-write"), "{entry}");
        let group = world.told.lock().expect("lock").group.clone();
        assert_eq!(world.stop().await, RunEnd::Done);
        told = Told { partitions: Some(2), group, ..Told::default() };
    }
    seen
}

#[tokio::test(flavor = "multi_thread")]
async fn both_modes_and_formats_hold_the_same_rows_across_restarts() {
    let wanted = three_runs("    mode: merge-on-read\n").await;
    assert!(wanted.iter().all(|rows| rows.len() > 40), "{wanted:?}");
    for entry in [
        "    mode: copy-on-write\n    batch: { max_age: 100ms }\n",
        "    mode: copy-on-write\n    format: delta\n    batch: { max_age: 100ms }\n",
        // Chosen for the reader's sake.
        "    readers: [deltalake] # copy-on-write\n    format: delta\n    batch: { max_age: 100ms }\n",
    ] {
        assert_eq!(three_runs(entry).await, wanted, "{entry}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_copy_on_write_table_waits_longer_unless_its_own_batch_says_otherwise() {
    let folder = tempfile::tempdir().expect("folder");
    let setting = Setting { entry: "    mode: copy-on-write\n", ..Setting::default() };
    let world = World::start(&folder, &setting);
    let table = &world.config.tables[0];
    assert_eq!(table.mode, Mode::CopyOnWrite);
    let batch = table.batch;
    let memory_max = world.config.memory_max;
    assert_eq!((batch.age_max, batch.rows_max), (Duration::from_secs(300), 1_000_000));
    assert_eq!(batch.bytes_max, memory_max / 4);
    world.assign(1, &[tp(0)]).await;
    world.read((0..3).map(|n| change(&tp(0), n, n, 1)).collect());
    // All others commit after 100 ms here.
    tokio::time::sleep(Duration::from_millis(500)).await;
    let bronze = world.head(BRONZE).await.expect("bronze");
    assert!(bronze.checkpoint.next(&tp(0)).is_none(), "offsets are frozen in both layers");
    assert!(world.head(SILVER).await.is_none());
    // Where memory is short, tables that wait must not keep what others could read into.
    world.told.lock().expect("lock").stats.paused = true;
    world.stands_at(SILVER, &tp(0), 3).await;
    world.told.lock().expect("lock").stats.paused = false;
    world.read((3..5).map(|n| change(&tp(0), n, n, 1)).collect());
    tokio::time::sleep(Duration::from_millis(500)).await;
    let silver = world.head(SILVER).await.expect("silver");
    assert_eq!(silver.checkpoint.next(&tp(0)).map(|next| next.offset), Some(3));
    let config = world.config.clone();
    assert_eq!(world.stop().await, RunEnd::Done);
    for table in [BRONZE, SILVER] {
        let head = super::head(&config, table).await.expect("a stop commits");
        assert_eq!(head.checkpoint.next(&tp(0)).map(|next| next.offset), Some(5));
    }
}
