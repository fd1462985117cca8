//! A source that truncates its table: all rows of the topic go, in the commit of what follows.

use std::sync::Arc;

use lakebed_schemas::position::{CheckpointDelta, TopicPartition};
use lakebed_schemas::value::{Value, key_hash};

use super::LogFactory;
use super::commits::{change, staged_of};
use super::fixture::{
    Fixture, TOPIC, all_rows, batch, batch_of, commit, delta, expected, row, silver_schema, tp,
};
use crate::faults::Fault;
use crate::table::{KeyChange, Truncated, UpsertBatch, Written};

const OTHER: &str = "shop.public.old_orders";

fn truncating(mut batch: UpsertBatch, topics: &[&str]) -> UpsertBatch {
    let all = |topic: &&str| (Arc::from(*topic), Truncated::All);
    batch.truncated = topics.iter().map(all).collect();
    batch
}

/// One row of the other topic, at this offset of it.
fn of_other(id: i64, name: &str, offset: i64) -> UpsertBatch {
    let from = TopicPartition::new(OTHER, 0);
    let values = row(id, Value::Text(name.to_owned()), Value::Null, 0, offset);
    let change = KeyChange {
        topic_partition: from.clone(),
        key: vec![Value::Long(id)],
        row: Some(values),
        inherit: None,
    };
    let mut delta = CheckpointDelta::default();
    delta.extend(&from, offset, offset + 1, None);
    UpsertBatch { schema: silver_schema(), changes: vec![change], delta, ..UpsertBatch::default() }
}

/// What comes after the truncate stays, what lay in the table goes, and other topics' rows stay.
pub async fn a_truncate_empties_a_topic_before_the_rows_of_its_batch(factory: &dyn LogFactory) {
    let table = Fixture::new(factory);
    let mut silver = table.silver_on(table.create(&silver_schema()).await).await;
    let many: Vec<(i64, Option<&str>)> = (0..150).map(|id| (id, Some("old"))).collect();
    commit(&mut silver, batch(0, &many)).await;
    commit(&mut silver, of_other(1_000, "elsewhere", 0)).await;
    commit(&mut silver, batch(150, &[(3, None), (4, Some("newer"))])).await;

    let mut after = truncating(batch(152, &[(4, Some("again")), (200, Some("new"))]), &[TOPIC]);
    // What the truncate took cannot answer a placeholder.
    let partial = row(5, Value::Text("partial".to_owned()), Value::Unavailable, 0, 154);
    let key = vec![Value::Long(5)];
    let change = KeyChange { topic_partition: tp(0), key, row: Some(partial), inherit: None };
    after.changes.push(change);
    after.delta = delta(0, 152, 155);
    let written = silver.write(after.clone()).await.expect("written");
    let Written::Committed { stats, .. } = written else { panic!("nobody else has written") };
    assert_eq!((stats.deleted, stats.rows, stats.updated, stats.incomplete), (149, 3, 0, 1));

    let rows = [(4, "again"), (5, "partial"), (200, "new"), (1_000, "elsewhere")];
    assert_eq!(table.names().await, expected(&rows));
    let again = silver.write(after).await.expect("covered");
    assert!(matches!(again, Written::Committed { stats, .. } if stats.attempts == 0));
    let reopened = table.silver().await;
    for (id, _) in rows {
        let place = |silver: &crate::table::upsert::UpsertTable| {
            let place = silver.index().find(key_hash(&[Value::Long(id)])).expect("a row");
            (silver.index().file(place.ordinal).expect("a file").path.clone(), place.position)
        };
        assert_eq!(place(&silver), place(&reopened), "id {id}");
    }
    assert_eq!((silver.index().len(), reopened.index().len()), (4, 4));
    commit(&mut silver, batch(155, &[(7, Some("seven")), (200, None)])).await;
    let rows = [(4, "again"), (5, "partial"), (7, "seven"), (1_000, "elsewhere")];
    assert_eq!(table.names().await, expected(&rows));
}

/// A truncate alone, twice, and one of an empty table.
pub async fn a_truncate_without_rows_leaves_an_empty_table(factory: &dyn LogFactory) {
    let table = Fixture::new(factory);
    let mut silver = table.silver_on(table.create(&silver_schema()).await).await;
    commit(&mut silver, truncating(batch(0, &[(1, None)]), &[TOPIC])).await;
    commit(&mut silver, batch(1, &[(1, Some("one")), (2, Some("two"))])).await;
    for offset in [3, 4] {
        commit(&mut silver, truncating(batch(offset, &[(9, None)]), &[TOPIC, OTHER])).await;
        assert_eq!(table.names().await, expected(&[]));
    }
    assert!(silver.index().is_empty());
    let log = table.open().await;
    assert_eq!(all_rows(&table.storage, log.head()).await.len(), 0);
}

/// Another owner's rows that came in between are found and stay; the same files are committed.
pub async fn a_truncate_that_lost_a_race_takes_its_own_topic_only(factory: &dyn LogFactory) {
    let table = Fixture::new(factory);
    let mut silver = table.silver_on(table.create(&silver_schema()).await).await;
    commit(&mut silver, batch(0, &[(1, Some("one")), (2, Some("two"))])).await;
    let (mut slow, script) = table.faulty_silver().await;
    let other = TopicPartition::new(OTHER, 0);
    let foreign = staged_of(&table, &silver_schema(), other.clone(), 1_000, "elsewhere").await;
    let mut of_other = CheckpointDelta::default();
    of_other.extend(&other, 0, 1, None);
    script.push(Fault::Foreign(Box::new(change(vec![foreign], of_other))));
    script.push(Fault::LostReply);
    let after = truncating(batch(2, &[(3, Some("three"))]), &[TOPIC]);
    let (_, attempts) = commit(&mut slow, after).await;
    assert_eq!(attempts, 2, "the race was lost, then a reply");
    assert_eq!(table.names().await, expected(&[(3, "three"), (1_000, "elsewhere")]));
    commit(&mut slow, batch(3, &[(1, Some("uno"))])).await;
    let rows = [(1, "uno"), (3, "three"), (1_000, "elsewhere")];
    assert_eq!(table.names().await, expected(&rows));
}

/// Where PostgreSQL tells of a streamed change.
fn position(lsn: i64) -> String {
    format!("0000000001{:016x}{lsn:016x}01", lsn - 1)
}

/// One batch of a partition, each row at a place of the source's log.
fn made_at(partition: i32, start: i64, rows: &[(i64, &str, i64)]) -> UpsertBatch {
    let events: Vec<(i64, Option<&str>)> =
        rows.iter().map(|(id, name, _)| (*id, Some(*name))).collect();
    let mut batch = batch_of(partition, start, &events);
    let slot = batch.schema.index_of("_cdc_position").expect("a column of ours");
    for (change, (.., lsn)) in batch.changes.iter_mut().zip(rows) {
        change.row.as_mut().expect("a row")[slot] = Value::Text(position(*lsn));
    }
    batch
}

fn truncating_at(mut batch: UpsertBatch, lsn: i64) -> UpsertBatch {
    let before = Truncated::Before { partition: 0, position: position(lsn) };
    batch.truncated.insert(TOPIC.into(), before);
    batch
}

/// In its own partition a truncate takes all rows, in the others those made before it; what the
/// commit of the truncate brings stays, and so does the index.
pub async fn a_truncate_takes_from_other_partitions_what_was_there_before_it(
    factory: &dyn LogFactory,
) {
    let table = Fixture::new(factory);
    let mut silver = table.silver_on(table.create(&silver_schema()).await).await;
    // By its place the row of partition 0 is the newest: there, the order of the records decides.
    commit(&mut silver, made_at(0, 0, &[(1, "own", 900)])).await;
    commit(&mut silver, made_at(1, 0, &[(2, "before", 400), (3, "after", 600), (4, "b", 410)]))
        .await;
    commit(&mut silver, made_at(2, 0, &[(5, "before", 499), (6, "same change", 500)])).await;
    commit(&mut silver, of_other(1_000, "elsewhere", 0)).await;
    commit(&mut silver, made_at(1, 3, &[(4, "replaced", 610)])).await;

    let after = truncating_at(made_at(1, 4, &[(2, "again", 700)]), 500);
    let (_, attempts) = commit(&mut silver, after).await;
    assert_eq!(attempts, 1);
    let rows =
        [(2, "again"), (3, "after"), (4, "replaced"), (6, "same change"), (1_000, "elsewhere")];
    assert_eq!(table.names().await, expected(&rows));
    let reopened = table.silver().await;
    assert_eq!((silver.index().len(), reopened.index().len()), (5, 5));
    for (id, _) in rows {
        let hash = key_hash(&[Value::Long(id)]);
        assert_eq!(
            silver.index().find(hash).map(|place| place.position),
            reopened.index().find(hash).map(|place| place.position),
            "id {id}"
        );
    }
    commit(&mut silver, made_at(2, 2, &[(5, "new", 800), (6, "newer", 810)])).await;
    assert_eq!(table.names().await.len(), 6);
}

/// Nobody can say whether such a row goes: the batch is refused, and nothing has changed.
pub async fn a_row_that_does_not_tell_when_it_was_made_stops_a_truncate(factory: &dyn LogFactory) {
    let table = Fixture::new(factory);
    let mut silver = table.silver_on(table.create(&silver_schema()).await).await;
    let mut untold = made_at(1, 0, &[(1, "untold", 400)]);
    let slot = untold.schema.index_of("_cdc_position").expect("a column of ours");
    untold.changes[0].row.as_mut().expect("a row")[slot] = Value::Null;
    commit(&mut silver, untold).await;
    let refused = silver.write(truncating_at(batch(0, &[(2, None)]), 500)).await;
    let reason = refused.expect_err("refused").to_string();
    assert!(reason.contains("on_truncate: ignore") && reason.contains("-1"), "{reason}");
    assert_eq!(table.names().await, expected(&[(1, "untold")]));
}
