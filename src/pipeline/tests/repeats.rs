//! What the source sends again, in one run and in the next.

use lakebed_schemas::position::TopicPartition;
use lakebed_schemas::value::Value;

use super::world::{Setting, World, column, message};
use super::{BRONZE, SILVER, tp};
use crate::pipeline::RunEnd;
use crate::source::Message;

/// The update at a place of the source's log, under some offset.
fn update(tp: &TopicPartition, offset: i64, lsn: i64, generation: u64) -> Message {
    let value = format!(
        r#"{{"before":null,"after":{{"id":1,"note":"at {lsn}"}},"source":{{"connector":"postgresql","name":"shop","ts_ms":5,"lsn":{lsn},"txId":{lsn},"sequence":"[\"{}\",\"{lsn}\"]"}},"op":"u","ts_ms":{offset}}}"#,
        lsn - 1
    );
    message(tp, offset, generation, Some(r#"{"id":1}"#.into()), Some(value))
}

#[tokio::test(flavor = "multi_thread")]
async fn a_late_writer_changes_nothing_in_silver_and_is_marked_in_bronze_across_a_restart() {
    let folder = tempfile::tempdir().expect("folder");
    let setting = Setting { entry: "    repeat_window: 7\n", ..Setting::default() };
    let world = World::start(&folder, &setting);
    world.assign(1, &[tp(0)]).await;
    world.read((0..4).map(|n| update(&tp(0), n, 100 + n, 1)).collect());
    world.stands_at(SILVER, &tp(0), 4).await;
    world.stands_at(BRONZE, &tp(0), 4).await;
    // A task that was given up writes on.
    world.read(vec![update(&tp(0), 4, 101, 1)]);
    world.stands_at(SILVER, &tp(0), 5).await;
    assert_eq!(column(&world, SILVER, "note").await, [Value::Text("at 103".into())]);
    assert_eq!(world.stop().await, RunEnd::Done);

    let world = World::start(&folder, &setting);
    let start = world.assign(1, &[tp(0)]).await.remove(&tp(0)).expect("a start");
    assert_eq!((start.at, start.window), (Some(5), 7));
    assert_eq!((start.first(0), start.first(3), start.first(6)), (0, 3, 5));
    // What lies before the table's place is read for what it was, and given back at once.
    world.read((0..4).map(|n| update(&tp(0), n, 100 + n, 1)).collect());
    world.read(vec![update(&tp(0), 4, 101, 1)]);
    world.until(async || (world.told.lock().expect("lock").out == 0).then_some(())).await;
    world.read(vec![update(&tp(0), 5, 102, 1)]);
    world.stands_at(SILVER, &tp(0), 6).await;
    world.stands_at(BRONZE, &tp(0), 6).await;
    assert_eq!(column(&world, SILVER, "note").await, [Value::Text("at 103".into())]);
    let mut repeats = column(&world, BRONZE, "_repeat").await;
    repeats.sort_by_key(|repeat| *repeat == Value::Boolean(true));
    let expected = [false, false, false, false, true, true].map(Value::Boolean);
    assert_eq!(repeats, expected);
    let metric = format!("lakebed_repeated_records_total{{table=\"{SILVER}\"}}");
    world.until_metric(&metric, |value| value == 1.0).await;
    assert_eq!(world.stop().await, RunEnd::Done);
}
