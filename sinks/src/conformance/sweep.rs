//! Ghosts: rows that a whole snapshot did not find go in the commit of its last record.

use lakebed_schemas::value::Value;

use super::LogFactory;
use super::fixture::{
    Fixture, all_rows, batch, batch_of, commit, delta, expected, row, silver_schema, tp,
};
use crate::table::{KeyChange, Sweep, UpsertBatch, Written};

fn sweeping(batch: UpsertBatch, below: i64) -> UpsertBatch {
    UpsertBatch { sweeps: vec![Sweep { topic_partition: tp(0), below }], ..batch }
}

/// Rows written before the snapshot's first record go, those of the snapshot, of its last batch and
/// of other partitions stay; readers see it all at once, and a second time nothing happens.
pub async fn what_a_snapshot_did_not_find_goes_with_its_last_record(factory: &dyn LogFactory) {
    let table = Fixture::new(factory);
    let mut silver = table.silver_on(table.create(&silver_schema()).await).await;
    let many: Vec<(i64, Option<&str>)> = (0..150).map(|id| (id, Some("old"))).collect();
    commit(&mut silver, batch(0, &many)).await;
    commit(&mut silver, batch_of(1, 0, &[(1_000, Some("elsewhere"))])).await;
    // The snapshot begins at 150 and finds 3 and 4, then 5 and a new one.
    commit(&mut silver, batch(150, &[(3, Some("found")), (4, Some("found"))])).await;
    let last = sweeping(batch(152, &[(5, Some("found")), (200, Some("new"))]), 150);
    let written = silver.write(last.clone()).await.expect("written");
    let Written::Committed { stats, .. } = written else { panic!("nobody else has written") };
    assert_eq!((stats.swept, stats.deleted, stats.rows, stats.updated), (147, 147, 2, 1));

    let rows = [(3, "found"), (4, "found"), (5, "found"), (200, "new"), (1_000, "elsewhere")];
    assert_eq!(table.names().await, expected(&rows));
    let again = silver.write(last).await.expect("covered");
    assert!(matches!(again, Written::Committed { stats, .. } if stats.attempts == 0));
    let reopened = table.silver().await;
    assert_eq!((silver.index().len(), reopened.index().len()), (5, 5));

    // In a table that has moved on by another's hand, the same rows are found again.
    let mut other = table.silver().await;
    commit(&mut other, batch_of(1, 1, &[(1_001, Some("meanwhile"))])).await;
    commit(&mut silver, sweeping(batch(154, &[(3, Some("alone"))]), 154)).await;
    let rows = [(3, "alone"), (1_000, "elsewhere"), (1_001, "meanwhile")];
    assert_eq!(table.names().await, expected(&rows));
}

/// A column that is said to be incomplete and has a value after all is not said to be so.
pub async fn a_swept_row_that_was_incomplete_takes_nothing_along(factory: &dyn LogFactory) {
    let table = Fixture::new(factory);
    let mut silver = table.silver_on(table.create(&silver_schema()).await).await;
    commit(&mut silver, batch(0, &[(1, Some("one")), (2, Some("two"))])).await;
    let names = |names: &[&str]| {
        Value::List(names.iter().map(|name| Value::Text((*name).to_owned())).collect())
    };
    let partial = |id: i64, note: Value, offset: i64| {
        let mut values = row(id, Value::Unavailable, note, 0, offset);
        *values.last_mut().expect("columns") = names(&["name", "note"]);
        KeyChange {
            topic_partition: tp(0),
            key: vec![Value::Long(id)],
            row: Some(values),
            inherit: None,
        }
    };
    let changes = vec![partial(1, Value::Null, 2), partial(3, Value::Text("n".into()), 3)];
    let schema = silver_schema();
    let delta = delta(0, 2, 4);
    let written = UpsertBatch { schema, changes, delta, ..UpsertBatch::default() };
    let written = silver.write(sweeping(written, 2)).await.expect("written");
    let Written::Committed { stats, .. } = written else { panic!("nobody else has written") };
    assert_eq!((stats.swept, stats.incomplete), (1, 1));
    let log = table.open().await;
    let mut rows = all_rows(&table.storage, log.head()).await;
    rows.sort_by_key(|row| match row[0] {
        Value::Long(id) => id,
        _ => 0,
    });
    let told: Vec<&Value> = rows.iter().filter_map(|row| row.last()).collect();
    assert_eq!(told, [&names(&["note"]), &names(&["name"])], "of the rows 1 and 3");
    assert_eq!(rows[0][1], Value::Text("one".to_owned()), "as it was before the sweep");
}
