//! A source that truncates its table: all rows of the topic go, in the commit of what follows.

use std::collections::BTreeSet;
use std::sync::Arc;

use lakebed_schemas::position::{CheckpointDelta, TopicPartition};
use lakebed_schemas::value::{Value, key_hash};

use super::LogFactory;
use super::commits::{change, staged_of};
use super::fixture::{
    Fixture, TOPIC, all_rows, batch, commit, delta, expected, row, silver_schema, tp,
};
use crate::faults::Fault;
use crate::table::{KeyChange, UpsertBatch, Written};

const OTHER: &str = "shop.public.old_orders";

fn truncating(mut batch: UpsertBatch, topics: &[&str]) -> UpsertBatch {
    batch.truncated = topics.iter().map(|topic| Arc::from(*topic)).collect::<BTreeSet<_>>();
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
