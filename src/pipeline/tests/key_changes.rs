//! Changes of key whose halves are apart: in two partitions, two batches, two runs, two processes.

use lakebed_schemas::decoder::{NEW_KEY, OLD_KEY};
use lakebed_schemas::position::TopicPartition;
use lakebed_schemas::value::Value;

use super::world::{Setting, Told, World, column, message, metric};
use super::{SILVER, tp};
use crate::pipeline::RunEnd;
use crate::source::Message;

const UNSENT: &str = "__debezium_unavailable_value";

/// An event of op `c` or `d`, made at a place of the source's log.
fn event(op: &str, (tp, offset): (&TopicPartition, i64), id: i64, note: &str, lsn: i64) -> Message {
    let after = match op {
        "d" => "null".to_owned(),
        _ => format!(r#"{{"id":{id},"note":"{note}"}}"#),
    };
    let value = format!(
        r#"{{"before":null,"after":{after},"source":{{"connector":"postgresql","name":"shop","ts_ms":5,"lsn":{lsn},"txId":{lsn},"sequence":"[\"{}\",\"{lsn}\"]"}},"op":"{op}","ts_ms":5}}"#,
        lsn - 1
    );
    message(tp, offset, 1, Some(format!(r#"{{"id":{id}}}"#)), Some(value))
}

fn with(mut message: Message, header: &str, id: i64) -> Message {
    message.headers.push((header.to_owned(), Some(format!(r#"{{"id":{id}}}"#).into_bytes())));
    message
}

/// The row of `from` goes on under `to`: what becomes of the old key.
fn leaves(at: (&TopicPartition, i64), from: i64, to: i64, lsn: i64) -> Message {
    with(event("d", at, from, "", lsn), NEW_KEY, to)
}

/// The same for the new key; `note` is not sent.
fn arrives(at: (&TopicPartition, i64), from: i64, to: i64, lsn: i64) -> Message {
    with(event("c", at, to, UNSENT, lsn), OLD_KEY, from)
}

fn two_partitions() -> Told {
    Told { partitions: Some(2), ..Told::default() }
}

/// Keys, notes and what is named as incomplete, by key.
async fn rows(world: &World) -> Vec<(Value, Value, Value)> {
    let ids = column(world, SILVER, "id").await;
    let notes = column(world, SILVER, "note").await;
    let incomplete = column(world, SILVER, "_cdc_incomplete").await;
    let rows = ids.into_iter().zip(notes).zip(incomplete);
    let mut rows: Vec<_> = rows.map(|((id, note), named)| (id, note, named)).collect();
    rows.sort_by_key(|(id, ..)| match id {
        Value::Long(id) => *id,
        _ => i64::MAX,
    });
    rows
}

fn row(id: i64, note: &str) -> (Value, Value, Value) {
    (Value::Long(id), Value::Text(note.into()), Value::Null)
}

fn kept_files(folder: &tempfile::TempDir) -> usize {
    let kept = folder.path().join("lake/silver/public_orders/_lakebed/departed");
    std::fs::read_dir(kept).map_or(0, Iterator::count)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_row_that_left_in_an_earlier_run_answers_though_its_key_is_used_again() {
    for to in [0, 1] {
        let folder = tempfile::tempdir().expect("folder");
        let [old, new] = [tp(0), tp(to)];
        let world = World::start_in(&folder, &Setting::default(), two_partitions());
        world.assign(1, &[tp(0), tp(1)]).await;
        world.read(vec![event("c", (&old, 0), 1, "first", 100)]);
        world.stands_at(SILVER, &old, 1).await;
        world.read(vec![
            leaves((&old, 1), 1, 2, 200),
            message(&old, 2, 1, Some(r#"{"id":1}"#.into()), None),
            event("c", (&old, 3), 1, "second", 300),
        ]);
        world.stands_at(SILVER, &old, 4).await;
        assert_eq!(kept_files(&folder), 1);
        assert_eq!(world.stop().await, RunEnd::Done);

        let world = World::start_in(&folder, &Setting::default(), two_partitions());
        world.assign(1, &[tp(0), tp(1)]).await;
        let offset = if to == 0 { 4 } else { 0 };
        world.read(vec![arrives((&new, offset), 1, 2, 200)]);
        world.stands_at(SILVER, &new, offset + 1).await;
        assert_eq!(rows(&world).await, [row(1, "second"), row(2, "first")]);
        world.until(async || (kept_files(&folder) == 0).then_some(())).await;
        assert_eq!(world.stop().await, RunEnd::Done);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_insert_waits_for_its_delete_in_another_partition() {
    let folder = tempfile::tempdir().expect("folder");
    let world = World::start_in(&folder, &Setting::default(), two_partitions());
    world.assign(1, &[tp(0), tp(1)]).await;
    world.read(vec![event("c", (&tp(1), 0), 5, "other", 50)]);
    world.stands_at(SILVER, &tp(1), 1).await;
    // The old key's partition lags behind: not even its insert has been read.
    world.read(vec![arrives((&tp(1), 1), 1, 2, 200), event("c", (&tp(1), 2), 9, "behind", 300)]);
    world.end(&tp(1), 3, 1);
    tokio::time::sleep(std::time::Duration::from_millis(400)).await;
    let head = world.head(SILVER).await.expect("table");
    assert_eq!(head.checkpoint.next(&tp(1)).map(|next| next.offset), Some(1), "it waits");

    world.read(vec![event("c", (&tp(0), 0), 1, "first", 100), leaves((&tp(0), 1), 1, 2, 200)]);
    world.stands_at(SILVER, &tp(1), 3).await;
    world.stands_at(SILVER, &tp(0), 2).await;
    assert_eq!(rows(&world).await, [row(2, "first"), row(5, "other"), row(9, "behind")]);
    assert_eq!(kept_files(&folder), 0, "both halves were in one batch");
    // Every byte is given back, a moment after the commit.
    world.until(async || (world.told.lock().expect("lock").out == 0).then_some(())).await;
    assert_eq!(world.stop().await, RunEnd::Done);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_wait_ends_where_the_other_partition_has_passed_the_change_and_the_value_is_named() {
    let folder = tempfile::tempdir().expect("folder");
    let world = World::start_in(&folder, &Setting::default(), two_partitions());
    world.assign(1, &[tp(0), tp(1)]).await;
    // Retention has taken the delete.
    world.read(vec![arrives((&tp(1), 0), 1, 2, 200), event("c", (&tp(0), 7), 3, "later", 300)]);
    world.stands_at(SILVER, &tp(1), 1).await;
    let named = Value::List(vec![Value::Text("note".into())]);
    assert_eq!(rows(&world).await, [(Value::Long(2), Value::Null, named), row(3, "later")]);
    let series = format!("lakebed_incomplete_values_total{{table=\"{SILVER}\"}}");
    assert_eq!(metric(&world.telemetry, &series), Some(1.0));
    assert_eq!(world.stop().await, RunEnd::Done);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_insert_finds_what_another_process_has_deleted() {
    let folder = tempfile::tempdir().expect("folder");
    let ours = World::start_in(&folder, &Setting::default(), two_partitions());
    let theirs = World::start_in(&folder, &Setting::default(), two_partitions());
    theirs.assign(1, &[tp(0)]).await;
    theirs.read(vec![event("c", (&tp(0), 0), 1, "first", 100)]);
    theirs.stands_at(SILVER, &tp(0), 1).await;
    ours.assign(1, &[tp(1)]).await;
    ours.read(vec![arrives((&tp(1), 0), 1, 2, 200)]);
    ours.end(&tp(1), 1, 1);
    tokio::time::sleep(std::time::Duration::from_millis(300)).await;

    theirs.read(vec![
        leaves((&tp(0), 1), 1, 2, 200),
        message(&tp(0), 2, 1, Some(r#"{"id":1}"#.into()), None),
        event("c", (&tp(0), 3), 3, "next", 300),
    ]);
    theirs.stands_at(SILVER, &tp(0), 4).await;
    ours.stands_at(SILVER, &tp(1), 1).await;
    assert_eq!(rows(&ours).await, [row(2, "first"), row(3, "next")]);
    assert_eq!(ours.stop().await, RunEnd::Done);
    assert_eq!(theirs.stop().await, RunEnd::Done);
}
