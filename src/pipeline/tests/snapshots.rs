//! Snapshots that are repeated: whose rows stay, and which life of the source each record is of,
//! wherever the process stops.

use std::collections::{BTreeMap, BTreeSet};

use lakebed_schemas::value::Value;

use super::world::{Setting, World, column, message, metric};
use super::{BRONZE, SILVER, tp};
use crate::pipeline::RunEnd;
use crate::source::Message;

const FORMATS: [&str; 2] = [
    "    sweep_ghosts: true\n    format: iceberg\n",
    "    sweep_ghosts: true\n    format: delta\n",
];

/// Key, place in the log and mark of each record, in order; the mark of a streamed change is empty.
const HISTORY: [(i64, u64, &str); 12] = [
    (1, 100, "first"),
    (2, 100, "true"),
    (3, 100, "last"),
    (4, 110, ""),
    (1, 111, ""),
    // The connector is made anew: 2 and 3 have gone. Its first attempt finds 9, which goes, too.
    (1, 50, "first"),
    (9, 50, "true"),
    (1, 60, "first"),
    (4, 60, "true"),
    (5, 60, "last"),
    (5, 61, ""),
    (6, 62, ""),
];

/// First record of the second life.
const ANEW: i64 = 5;

fn record(offset: i64) -> Message {
    let (id, lsn, mark) = HISTORY[usize::try_from(offset).expect("an offset")];
    let (op, mark) = match mark {
        "" => ("c", "null".to_owned()),
        mark => ("r", format!("\"{mark}\"")),
    };
    let value = format!(
        r#"{{"before":null,"after":{{"id":{id},"note":"at {lsn}"}},"source":{{"connector":"postgresql","name":"shop","ts_ms":5,"snapshot":{mark},"lsn":{lsn},"txId":{lsn},"sequence":"[\"{}\",\"{lsn}\"]"}},"op":"{op}","ts_ms":{offset}}}"#,
        lsn - 1
    );
    message(&tp(0), offset, 1, Some(format!(r#"{{"id":{id}}}"#)), Some(value))
}

/// Reads on from where the tables stand up to an offset.
async fn read_up_to(folder: &tempfile::TempDir, entry: &'static str, end: i64) -> World {
    let world = World::start(folder, &Setting { entry, ..Setting::default() });
    let start = world.assign(1, &[tp(0)]).await.remove(&tp(0)).expect("a start");
    world.read((start.first(0)..end).map(record).collect());
    world.stands_at(SILVER, &tp(0), end).await;
    world.stands_at(BRONZE, &tp(0), end).await;
    world
}

fn long(value: Value) -> i64 {
    match value {
        Value::Long(value) => value,
        other => panic!("{other:?}"),
    }
}

/// Epoch of each record, by its offset, as a table's positions tell it.
async fn epochs(world: &World, table: &str, [offset, position]: [&str; 2]) -> BTreeMap<i64, u32> {
    let offsets = column(world, table, offset).await.into_iter().map(long);
    let epoch = |position| match position {
        Value::Text(hex) => u32::from_str_radix(&hex[..8], 16).expect("hex"),
        other => panic!("{other:?}"),
    };
    offsets.zip(column(world, table, position).await.into_iter().map(epoch)).collect()
}

async fn keys(world: &World) -> BTreeSet<i64> {
    column(world, SILVER, "id").await.into_iter().map(long).collect()
}

/// Stops before `cut`, and reads the rest in another process.
async fn cut_at(entry: &'static str, cut: i64) {
    let folder = tempfile::tempdir().expect("folder");
    let end = HISTORY.len() as i64;
    if cut > 0 {
        let world = read_up_to(&folder, entry, cut).await;
        assert_eq!(world.stop().await, RunEnd::Done);
    }
    let world = read_up_to(&folder, entry, end).await;
    assert_eq!(keys(&world).await, BTreeSet::from([1, 4, 5, 6]), "cut at {cut}, {entry}");
    let epoch = |offset: i64| (offset, u32::from(offset >= ANEW));
    let bronze = epochs(&world, BRONZE, ["_offset", "_position"]).await;
    assert_eq!(bronze, (0..end).map(epoch).collect(), "cut at {cut}, {entry}");
    let silver = epochs(&world, SILVER, ["_cdc_offset", "_cdc_position"]).await;
    assert!(silver.into_iter().all(|(offset, found)| epoch(offset).1 == found));
    assert_eq!(world.stop().await, RunEnd::Done);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_repeated_snapshot_did_not_find_goes_wherever_the_process_stops() {
    for entry in FORMATS {
        let cuts = (0..HISTORY.len() as i64).map(|cut| cut_at(entry, cut));
        futures::future::join_all(cuts).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_goes_and_what_begins_is_counted() {
    let folder = tempfile::tempdir().expect("folder");
    let world = read_up_to(&folder, FORMATS[0], ANEW).await;
    assert_eq!(keys(&world).await, BTreeSet::from([1, 2, 3, 4]));
    let swept = format!("lakebed_ghosts_swept_total{{table=\"{SILVER}\"}}");
    assert_eq!(metric(&world.telemetry, &swept), Some(0.0));
    world.read((ANEW..HISTORY.len() as i64).map(record).collect());
    world.until_metric(&swept, |value| value == 3.0).await;
    let begun = format!("lakebed_epochs_begun_total{{table=\"{SILVER}\",by=\"snapshot\"}}");
    world.until_metric(&begun, |value| value == 1.0).await;
    assert_eq!(world.stop().await, RunEnd::Done);
}

#[tokio::test(flavor = "multi_thread")]
async fn ghosts_stay_where_nobody_asked() {
    let folder = tempfile::tempdir().expect("folder");
    let world = read_up_to(&folder, "", HISTORY.len() as i64).await;
    assert_eq!(keys(&world).await, BTreeSet::from([1, 2, 3, 4, 5, 6, 9]));
    assert_eq!(world.stop().await, RunEnd::Done);
}
