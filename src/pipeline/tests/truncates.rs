//! A source that truncates its table, whose topic has several partitions.

use lakebed_schemas::position::TopicPartition;
use lakebed_schemas::value::Value;

use super::world::{Setting, Told, World, column, message, metric};
use super::{SILVER, tp};
use crate::pipeline::RunEnd;
use crate::source::Message;

fn source(lsn: i64) -> String {
    format!(
        r#"{{"connector":"postgresql","name":"shop","ts_ms":5,"lsn":{lsn},"txId":{lsn},"sequence":"[\"{}\",\"{lsn}\"]"}}"#,
        lsn - 1
    )
}

/// An insert, made at a place of the source's log.
fn insert(tp: &TopicPartition, offset: i64, id: i64, lsn: i64) -> Message {
    let source = source(lsn);
    let value =
        format!(r#"{{"before":null,"after":{{"id":{id}}},"source":{source},"op":"c","ts_ms":5}}"#);
    message(tp, offset, 1, Some(format!(r#"{{"id":{id}}}"#)), Some(value))
}

fn truncate(offset: i64, lsn: i64) -> Message {
    let source = source(lsn);
    let value = format!(r#"{{"before":null,"after":null,"source":{source},"op":"t","ts_ms":5}}"#);
    message(&tp(0), offset, 1, None, Some(value))
}

/// A row that an incremental snapshot reads: no place of its own.
fn read(tp: &TopicPartition, offset: i64, id: i64) -> Message {
    let value = format!(
        r#"{{"before":null,"after":{{"id":{id}}},"source":{{"connector":"postgresql","name":"shop","ts_ms":5,"lsn":7,"snapshot":"incremental"}},"op":"r","ts_ms":5}}"#
    );
    message(tp, offset, 1, Some(format!(r#"{{"id":{id}}}"#)), Some(value))
}

fn told() -> Told {
    Told { partitions: Some(2), ..Told::default() }
}

async fn ids(world: &World) -> Vec<i64> {
    let ids = column(world, SILVER, "id").await.into_iter();
    let mut ids: Vec<i64> =
        ids.filter_map(|id| if let Value::Long(id) = id { Some(id) } else { None }).collect();
    ids.sort_unstable();
    ids
}

#[tokio::test(flavor = "multi_thread")]
async fn a_truncate_takes_what_was_there_before_it_and_what_comes_late() {
    let folder = tempfile::tempdir().expect("folder");
    let world = World::start_in(&folder, &Setting::default(), told());
    world.assign(1, &[tp(0), tp(1)]).await;
    world.read(vec![
        insert(&tp(0), 0, 1, 100),
        insert(&tp(1), 0, 2, 110),
        // Partition 1 is ahead of the truncate.
        insert(&tp(1), 1, 3, 600),
    ]);
    world.stands_at(SILVER, &tp(1), 2).await;
    world.read(vec![insert(&tp(0), 1, 4, 200), truncate(2, 500), insert(&tp(0), 3, 5, 510)]);
    world.stands_at(SILVER, &tp(0), 4).await;
    assert_eq!(ids(&world).await, [3, 5]);

    // Another truncate, and then the process dies. Partition 1 lags behind it.
    world.read(vec![truncate(4, 700), insert(&tp(0), 5, 6, 710)]);
    world.stands_at(SILVER, &tp(0), 6).await;
    assert_eq!(ids(&world).await, [6]);
    assert_eq!(world.stop().await, RunEnd::Done);

    let world = World::start_in(&folder, &Setting::default(), told());
    world.assign(1, &[tp(0), tp(1)]).await;
    world.read(vec![
        insert(&tp(1), 2, 7, 650),
        insert(&tp(1), 3, 8, 690),
        insert(&tp(1), 4, 9, 800),
        // It has gone on: the order of the records says the rest.
        insert(&tp(1), 5, 10, 640),
    ]);
    world.stands_at(SILVER, &tp(1), 6).await;
    assert_eq!(ids(&world).await, [6, 9, 10]);
    let series = format!("lakebed_truncated_records_total{{table=\"{SILVER}\"}}");
    assert_eq!(metric(&world.telemetry, &series), Some(2.0));
    assert_eq!(world.stop().await, RunEnd::Done);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_truncate_that_the_source_repeats_takes_what_it_repeats_beside() {
    let folder = tempfile::tempdir().expect("folder");
    let setting = Setting { entry: "    repeat_window: 1\n", ..Setting::default() };
    let world = World::start_in(&folder, &setting, told());
    world.assign(1, &[tp(0), tp(1)]).await;
    let first = vec![insert(&tp(1), 0, 2, 110), insert(&tp(1), 1, 3, 120), truncate(0, 500)];
    world.read(first);
    world.read(vec![insert(&tp(1), 2, 4, 600)]);
    world.stands_at(SILVER, &tp(1), 3).await;
    assert_eq!(ids(&world).await, [4]);
    // A repetition longer than what is remembered of partition 1, but not of partition 0.
    world.read(vec![insert(&tp(1), 3, 2, 110), truncate(1, 500), insert(&tp(1), 4, 3, 120)]);
    world.read(vec![insert(&tp(1), 5, 4, 600)]);
    world.stands_at(SILVER, &tp(1), 6).await;
    world.stands_at(SILVER, &tp(0), 2).await;
    assert_eq!(ids(&world).await, [4]);
    assert_eq!(world.stop().await, RunEnd::Done);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_truncate_halts_the_table_where_a_row_does_not_tell_when_it_was_made() {
    let folder = tempfile::tempdir().expect("folder");
    let world = World::start_in(&folder, &Setting::default(), told());
    world.assign(1, &[tp(0), tp(1)]).await;
    world.read(vec![insert(&tp(0), 0, 1, 100), read(&tp(1), 0, 2), truncate(1, 500)]);
    let RunEnd::Halted(tables) = world.ended().await else { panic!("the table is halted") };
    let reason = &tables[0].1;
    assert!(reason.contains("shop.public.orders-0@1") && reason.contains("orders-1"), "{reason}");
    assert!(reason.contains("on_truncate: ignore"), "{reason}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_truncate_waits_until_all_partitions_are_read_here() {
    let folder = tempfile::tempdir().expect("folder");
    let world = World::start_in(&folder, &Setting::default(), told());
    world.assign(1, &[tp(0)]).await;
    world.read(vec![insert(&tp(0), 0, 1, 100), truncate(1, 500), insert(&tp(0), 2, 3, 510)]);
    world.stands_at(SILVER, &tp(0), 1).await;
    tokio::time::sleep(std::time::Duration::from_millis(300)).await;
    assert_eq!(ids(&world).await, [1]);

    world.assign(1, &[tp(1)]).await;
    world.read(vec![insert(&tp(1), 0, 2, 400)]);
    world.stands_at(SILVER, &tp(0), 3).await;
    world.stands_at(SILVER, &tp(1), 1).await;
    assert_eq!(ids(&world).await, [3]);
    assert_eq!(world.stop().await, RunEnd::Done);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_truncate_waits_for_partitions_that_were_added_and_went_to_another_process() {
    let folder = tempfile::tempdir().expect("folder");
    let world = World::start(&folder, &Setting::default());
    world.assign(1, &[tp(0)]).await;
    world.read(vec![insert(&tp(0), 0, 1, 100)]);
    world.stands_at(SILVER, &tp(0), 1).await;
    let asked = {
        let mut told = world.told.lock().expect("lock");
        told.stats.partitions = [(super::TOPIC.to_owned(), 2)].into();
        told.stats_asked
    };
    // The second time, what was told the first time has been handed on.
    let told = async || (world.told.lock().expect("lock").stats_asked > asked + 1).then_some(());
    world.until(told).await;
    world.read(vec![truncate(1, 500), insert(&tp(0), 2, 3, 510)]);
    tokio::time::sleep(std::time::Duration::from_millis(400)).await;
    assert_eq!(ids(&world).await, [1]);
    assert_eq!(world.stop().await, RunEnd::Done);
}
