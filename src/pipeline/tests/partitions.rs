//! Partitioned silver tables over restarts: rows move, and the configuration has to say what is there.

use std::collections::BTreeMap;

use lakebed_schemas::value::Value;

use super::world::{Setting, World, column, message};
use super::{SILVER, tp};
use crate::pipeline::RunEnd;
use crate::source::Message;

const ICEBERG: &str = "    partition_by: [region, 'month(born)', 'bucket(2, id)']\n    columns: { born: { type: date, unit: days } }\n";
const DELTA: &str = "    format: delta\n    partition_by: [region, 'month(born)', 'bucket(2, id)']\n    columns: { born: { type: date, unit: days } }\n";

fn event(offset: i64, op: &str, id: i64, region: &str, born: i64) -> Message {
    let row = format!(r#"{{"id":{id},"region":{region},"born":{born}}}"#);
    let (before, after) = if op == "d" { (row.as_str(), "null") } else { ("null", row.as_str()) };
    let value = format!(
        r#"{{"before":{before},"after":{after},"source":{{"connector":"postgresql","ts_ms":1,"lsn":{}}},"op":"{op}","ts_ms":1}}"#,
        100 + offset
    );
    message(&tp(0), offset, 1, Some(format!(r#"{{"id":{id}}}"#)), Some(value))
}

/// One life of the process: reads from where the table stands, and ends as SIGTERM ends it.
async fn live(folder: &tempfile::TempDir, setting: &Setting, events: &[Message]) -> World {
    let world = World::start(folder, setting);
    let starts = world.assign(1, &[tp(0)]).await;
    let from = starts[&tp(0)].at.unwrap_or(0);
    world.read(events.iter().filter(|message| message.offset >= from).cloned().collect());
    world.stands_at(SILVER, &tp(0), events.len() as i64).await;
    world
}

/// Region by id, and how many files hold the rows.
async fn regions(world: &World) -> (BTreeMap<i64, Value>, usize) {
    let ids = column(world, SILVER, "id").await;
    let values = column(world, SILVER, "region").await;
    let head = world.head(SILVER).await.expect("a table");
    let ids = ids.into_iter().map(|id| match id {
        Value::Long(id) => id,
        other => panic!("{other:?} is no id"),
    });
    let live = |file: &&lakebed_sinks::log::LiveFile| file.file.rows > file.deleted.len();
    (ids.zip(values).collect(), head.files.values().filter(live).count())
}

#[tokio::test(flavor = "multi_thread")]
async fn rows_move_between_partitions_over_batches_and_restarts() {
    for entry in [ICEBERG, DELTA] {
        let folder = tempfile::tempdir().expect("folder");
        let setting = Setting { entry, ..Setting::default() };
        let mut events: Vec<Message> = (0..6)
            .map(|id| {
                event(id, "c", id, if id % 2 == 0 { "\"north\"" } else { "\"a/b\"" }, id * 40)
            })
            .collect();
        let _ = live(&folder, &setting, &events).await.stop().await;

        // Two move by their region, one by its date, one to no region; one goes, one stays.
        events.extend([
            event(6, "u", 0, "\"a/b\"", 0),
            event(7, "u", 1, "\"north\"", 40),
            event(8, "u", 2, "\"north\"", 9000),
            event(9, "u", 3, "null", 120),
            event(10, "d", 4, "\"north\"", 160),
            event(11, "u", 5, "\"a/b\"", 200),
        ]);
        let world = live(&folder, &setting, &events).await;
        let text = |text: &str| Value::Text(text.to_owned());
        let moved = [
            (0, text("a/b")),
            (1, text("north")),
            (2, text("north")),
            (3, Value::Null),
            (5, text("a/b")),
        ];
        assert_eq!(regions(&world).await, (moved.clone().into(), 5));
        let _ = world.stop().await;

        // And back again, in a process that read its keys from all partitions.
        events.push(event(12, "u", 0, "\"north\"", 0));
        let world = live(&folder, &setting, &events).await;
        let mut back = BTreeMap::from(moved);
        back.insert(0, text("north"));
        assert_eq!(regions(&world).await, (back, 5));
        let names: Vec<String> = world
            .head(SILVER)
            .await
            .expect("a table")
            .schema
            .partition_by
            .into_iter()
            .map(|field| field.name)
            .collect();
        assert_eq!(names, ["region", "born_month", "id_bucket"]);
        assert_eq!(world.stop().await, RunEnd::Done);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_configuration_that_says_other_partitions_halts_the_table() {
    let folder = tempfile::tempdir().expect("folder");
    let events = [event(0, "c", 1, "\"north\"", 0)];
    let setting = Setting { entry: ICEBERG, ..Setting::default() };
    let _ = live(&folder, &setting, &events).await.stop().await;

    let entry = "    partition_by: ['bucket(2, id)']\n";
    let world = World::start(&folder, &Setting { entry, ..Setting::default() });
    let _ = world.try_assign(1, &[tp(0)]).await;
    let RunEnd::Halted(reasons) = world.ended().await else { panic!("goes on") };
    let reason = &reasons[0].1;
    assert!(
        reason.contains(
            "is partitioned by `region`, `month(born)`, `bucket(2, id)`, \
                         `partition_by` says `bucket(2, id)`"
        ),
        "{reason}"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn what_cannot_be_partitioned_by_halts_the_table_and_says_why() {
    for (entry, wanted) in [
        ("    partition_by: ['day(region)']\n", "`day` takes date, timestamp"),
        ("    partition_by: [nowhere]\n", "`partition_by` names column `nowhere`"),
    ] {
        let folder = tempfile::tempdir().expect("folder");
        let world = World::start(&folder, &Setting { entry, ..Setting::default() });
        world.assign(1, &[tp(0)]).await;
        world.read(vec![event(0, "c", 1, "\"north\"", 0)]);
        let RunEnd::Halted(reasons) = world.ended().await else { panic!("goes on") };
        assert!(reasons[0].1.contains(wanted), "{}", reasons[0].1);
    }
}
