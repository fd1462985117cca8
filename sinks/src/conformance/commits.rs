//! Commits: once, in order, whatever the network does.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use lakebed_schemas::column::TableSchema;
use lakebed_schemas::position::{CheckpointDelta, Fit, TopicPartition};
use lakebed_schemas::value::Value;
use roaring::RoaringBitmap;
use uuid::Uuid;

use super::LogFactory;
use super::fixture::{self, Fixture, batch, batch_of, commit, delta, expected, silver_schema, tp};
use crate::ErrorKind;
use crate::faults::Fault;
use crate::log::{CommitOutcome, DataFile, Retention, TableChange};
use crate::table::Written;
use crate::table::file_name;
use crate::table::writer::{self, FileRows};

/// A data file of one row in partition `partition`, durable and invisible.
pub(crate) async fn staged(
    table: &Fixture<'_>,
    schema: &TableSchema,
    partition: i32,
    id: i64,
    name: &str,
) -> Arc<DataFile> {
    staged_of(table, schema, tp(partition), id, name).await
}

/// The same of any topic.
pub(crate) async fn staged_of(
    table: &Fixture<'_>,
    schema: &TableSchema,
    topic_partition: TopicPartition,
    id: i64,
    name: &str,
) -> Arc<DataFile> {
    let partition = topic_partition.partition;
    let row = fixture::row(id, Value::Text(name.to_owned()), Value::Null, partition, 0);
    let rows = FileRows { topic_partition, partition: Vec::new(), rows: vec![row] };
    let files = [Arc::new(rows)];
    let staged =
        writer::stage(&table.storage, &Arc::new(schema.clone()), &files, &table.options.writer)
            .await
            .expect("staged");
    staged[0].clone()
}

/// A change that adds files and covers these offsets.
pub(crate) fn change(added: Vec<Arc<DataFile>>, delta: CheckpointDelta) -> TableChange {
    TableChange {
        commit_id: Uuid::now_v7(),
        delta,
        added,
        deleted: BTreeMap::new(),
        removed: BTreeSet::new(),
        schema: None,
        freshness: None,
        notes: BTreeMap::new(),
        memos: BTreeMap::new(),
    }
}

/// Data files of a partition in storage, committed or not.
async fn data_files(table: &Fixture<'_>, partition: i32) -> usize {
    let listed = table.storage.list("data").await.expect("listed");
    let ours = |path: &str| file_name::topic_partition(path) == Some(tp(partition));
    listed.iter().filter(|entry| ours(&entry.path)).count()
}

/// Files written before a commit are seen by nobody.
pub async fn staged_files_are_invisible_until_commit(factory: &dyn LogFactory) {
    let table = Fixture::new(factory);
    let mut log = table.create(&silver_schema()).await;
    let file = staged(&table, &silver_schema(), 0, 1, "one").await;

    let before = table.open().await;
    assert_eq!(before.head().live_rows(), 0);
    assert!(before.head().files.is_empty());

    let outcome = log.commit(&change(vec![file], delta(0, 0, 1))).await.expect("committed");
    assert!(matches!(outcome, CommitOutcome::Committed { .. }), "{outcome:?}");
    assert_eq!(table.names().await, expected(&[(1, "one")]));
}

/// The same batch again, by the same process and by a new one, changes nothing.
pub async fn a_replayed_batch_is_written_once(factory: &dyn LogFactory) {
    let table = Fixture::new(factory);
    let mut silver = table.silver_on(table.create(&silver_schema()).await).await;
    let events = [(1, Some("one")), (2, Some("two"))];
    let (version, attempts) = commit(&mut silver, batch(0, &events)).await;
    assert_eq!(attempts, 1);

    commit(&mut silver, batch(0, &events)).await;
    commit(&mut table.silver().await, batch(0, &events)).await;

    assert_eq!(table.open().await.head().version, version, "no further version was made");
    assert_eq!(table.names().await, expected(&[(1, "one"), (2, "two")]));
}

/// After a lost race the files that lie there are committed, not written again.
pub async fn a_lost_race_commits_the_same_files_again(factory: &dyn LogFactory) {
    let table = Fixture::new(factory);
    commit(
        &mut table.silver_on(table.create(&silver_schema()).await).await,
        batch(0, &[(1, Some("one"))]),
    )
    .await;
    let (mut silver, script) = table.faulty_silver().await;
    let foreign = staged(&table, &silver_schema(), 7, 70, "seventy").await;
    script.push(Fault::Foreign(Box::new(change(vec![foreign], delta(7, 0, 1)))));
    script.push(Fault::Conflict);
    let before = data_files(&table, 0).await;

    let (_, attempts) = commit(&mut silver, batch(1, &[(1, Some("uno")), (2, Some("two"))])).await;

    assert_eq!(attempts, 3);
    assert_eq!(data_files(&table, 0).await, before + 1, "the batch was staged once");
    let log = table.open().await;
    // A format may drop a file whose rows are all dead.
    let alive = log.head().files.values().filter(|live| live.deleted.len() < live.file.rows);
    assert_eq!(alive.count(), 2);
    assert_eq!(table.names().await, expected(&[(1, "uno"), (2, "two"), (70, "seventy")]));
    // The index has followed the foreign commit as well.
    commit(&mut silver, batch_of(7, 1, &[(70, Some("again"))])).await;
    assert_eq!(table.names().await, expected(&[(1, "uno"), (2, "two"), (70, "again")]));
}

/// A commit that landed and whose answer was lost counts once.
pub async fn a_lost_reply_is_recognised(factory: &dyn LogFactory) {
    let table = Fixture::new(factory);
    drop(table.create(&silver_schema()).await);
    let (mut silver, script) = table.faulty_silver().await;
    script.push(Fault::LostReply);

    let written = silver.write(batch(0, &[(1, Some("one"))])).await.expect("settled");

    let Written::Committed { version, stats } = written else { panic!("{written:?}") };
    assert_eq!((stats.attempts, stats.unanswered), (1, 1), "the commit was not sent twice");
    assert_eq!(table.open().await.head().version, version);
    commit(&mut silver, batch(1, &[(1, Some("uno")), (2, Some("two"))])).await;
    assert_eq!(table.names().await, expected(&[(1, "uno"), (2, "two")]));
}

/// A commit that never arrived is made.
pub async fn a_lost_request_is_sent_again(factory: &dyn LogFactory) {
    let table = Fixture::new(factory);
    drop(table.create(&silver_schema()).await);
    let (mut silver, script) = table.faulty_silver().await;
    script.push(Fault::LostRequest);

    let (version, attempts) = commit(&mut silver, batch(0, &[(1, Some("one"))])).await;

    assert_eq!(attempts, 2);
    assert_eq!(table.open().await.head().version, version);
    assert_eq!(table.names().await, expected(&[(1, "one")]));
}

/// A commit that lands after it was looked for, right before it is tried again.
pub async fn a_commit_that_lands_late_is_not_applied_twice(factory: &dyn LogFactory) {
    let table = Fixture::new(factory);
    drop(table.create(&silver_schema()).await);
    let (mut silver, script) = table.faulty_silver().await;
    commit(&mut silver, batch(0, &[(1, Some("one"))])).await;
    script.push(Fault::LandsLate);

    let (version, _) = commit(&mut silver, batch(1, &[(1, Some("uno")), (2, Some("two"))])).await;

    assert_eq!(table.open().await.head().version, version);
    assert_eq!(table.names().await, expected(&[(1, "uno"), (2, "two")]));
    commit(&mut silver, batch(3, &[(2, None)])).await;
    assert_eq!(table.names().await, expected(&[(1, "uno")]));
}

/// An error before the commit point is borne, and the batch lands.
pub async fn a_refusal_before_the_commit_point_is_tried_again(factory: &dyn LogFactory) {
    let table = Fixture::new(factory);
    drop(table.create(&silver_schema()).await);
    let (mut silver, script) = table.faulty_silver().await;
    script.push(Fault::Refused);
    script.push(Fault::Refused);

    let (_, attempts) = commit(&mut silver, batch(0, &[(1, Some("one"))])).await;

    assert_eq!(attempts, 3);
    assert_eq!(table.names().await, expected(&[(1, "one")]));
}

/// Past the bound the table says so, and the same batch can be written later.
pub async fn silence_without_end_stops_the_table_and_loses_nothing(factory: &dyn LogFactory) {
    let mut table = Fixture::new(factory);
    table.options.settle.unknown_max = Duration::from_millis(30);
    drop(table.create(&silver_schema()).await);
    let (mut silver, script) = table.faulty_silver().await;
    for _ in 0..9 {
        script.push(Fault::LostRequest);
    }

    let error = silver.write(batch(0, &[(1, Some("one"))])).await.expect_err("no answer");
    assert_eq!(error.kind(), ErrorKind::Unavailable);
    assert!(error.is_outcome_unknown(), "it may be in");

    commit(&mut table.silver().await, batch(0, &[(1, Some("one"))])).await;
    assert_eq!(table.names().await, expected(&[(1, "one")]));
}

/// A writer that was asleep while another took over its offsets.
pub async fn a_zombie_is_refused(factory: &dyn LogFactory) {
    let table = Fixture::new(factory);
    let mut zombie = table.silver_on(table.create(&silver_schema()).await).await;
    commit(&mut zombie, batch(0, &[(1, Some("one"))])).await;
    let mut successor = table.silver().await;
    commit(&mut successor, batch(1, &[(1, Some("uno")), (2, Some("two")), (3, Some("three"))]))
        .await;

    let late = zombie.write(batch(1, &[(1, Some("zombie")), (9, Some("zombie"))])).await;

    // Covered is as good as overtaken: nothing of it may be seen.
    drop(late.expect("settled, one way or the other"));
    let longer = batch(1, &[(1, None), (2, None), (3, None), (4, Some("zombie"))]);
    assert_eq!(zombie.write(longer).await.expect("settled"), Written::Overtaken);
    assert_eq!(table.names().await, expected(&[(1, "uno"), (2, "two"), (3, "three")]));
}

/// The version that a sleeper would make is long gone from storage; it must not make it again.
pub async fn a_zombie_is_refused_after_a_long_sleep_with_cleanup(factory: &dyn LogFactory) {
    let mut table = Fixture::new(factory);
    table.table.retention = Retention { versions_min: 3, age_min: Duration::ZERO };
    let mut zombie = table.create(&silver_schema()).await;
    let mut successor = table.silver().await;
    for n in 0..40 {
        commit(&mut successor, batch(n, &[(n % 5, Some("alive"))])).await;
        if n % 8 == 7 {
            successor.maintain().await.expect("cleaned up");
        }
    }
    let file = staged(&table, &silver_schema(), 0, 1, "zombie").await;
    assert_eq!(zombie.head().checkpoint.fit(&delta(0, 0, 1)), Fit::Applies, "it knows no better");

    let outcome = zombie.commit(&change(vec![file], delta(0, 0, 1))).await;

    let refused = !matches!(outcome, Ok(CommitOutcome::Committed { .. }));
    assert!(refused, "{outcome:?}");
    let reopened = table.open().await;
    assert_eq!(reopened.head().version, successor.head().version);
    assert_eq!(reopened.head().checkpoint.next(&tp(0)).map(|next| next.offset), Some(40));
    assert!(table.names().await.values().all(|name| name == "alive"));
}

/// Logs refuse what callers must settle first.
pub async fn a_change_that_does_not_fit_is_refused(factory: &dyn LogFactory) {
    let table = Fixture::new(factory);
    let mut log = table.create(&silver_schema()).await;
    let file = staged(&table, &silver_schema(), 0, 1, "one").await;
    let outcome = log.commit(&change(vec![file], delta(0, 0, 5))).await.expect("committed");
    assert!(matches!(outcome, CommitOutcome::Committed { .. }));

    let error = log.commit(&change(vec![], delta(0, 3, 9))).await.expect_err("does not fit");
    assert_eq!(error.kind(), ErrorKind::Invalid);

    let mut stray = change(vec![], delta(0, 5, 6));
    stray.deleted.insert("data/nobody.parquet".to_owned(), RoaringBitmap::from([0]));
    let error = log.commit(&stray).await.expect_err("no such file");
    assert_eq!(error.kind(), ErrorKind::Invalid);
    assert_eq!(table.names().await, expected(&[(1, "one")]));
}

/// Progress without rows: an end of partition, or events that change nothing.
pub async fn offsets_move_without_rows(factory: &dyn LogFactory) {
    let table = Fixture::new(factory);
    let mut silver = table.silver_on(table.create(&silver_schema()).await).await;
    commit(&mut silver, batch(0, &[(1, Some("one"))])).await;
    let files = table.open().await.head().files.len();

    let mut empty = batch(1, &[]);
    empty.delta = delta(0, 1, 500);
    empty.delta.extend(&tp(3), 0, 9, None);
    commit(&mut silver, empty.clone()).await;
    let (version, _) = commit(&mut silver, empty).await;

    let reopened = table.open().await;
    assert_eq!(reopened.head().version, version);
    assert_eq!(reopened.head().files.len(), files);
    let next = reopened.head().checkpoint.next(&tp(0)).expect("partition 0 has progress");
    assert_eq!((next.offset, next.fingerprint), (500, Some(500)));
    let next = reopened.head().checkpoint.next(&tp(3)).expect("partition 3 has progress");
    assert_eq!((next.offset, next.fingerprint), (9, None));
    assert_eq!(reopened.head().freshness, Some(1));
    commit(&mut silver, batch(500, &[(1, Some("uno"))])).await;
    assert_eq!(table.names().await, expected(&[(1, "uno")]));
}

/// Memos become visible with the change that sets them, stay until they are taken away, and are
/// nobody's but the table's.
pub async fn memos_are_there_from_their_commit_on(factory: &dyn LogFactory) {
    let table = Fixture::new(factory);
    let mut log = table.create(&silver_schema()).await;
    let mut late = table.open().await;
    let memos = |pairs: &[(&str, &str)]| -> BTreeMap<String, String> {
        pairs.iter().map(|(name, text)| ((*name).to_owned(), (*text).to_owned())).collect()
    };
    let set = |start, pairs: &[(&str, &str)]| TableChange {
        memos: memos(pairs),
        ..change(Vec::new(), delta(0, start, start + 1))
    };
    let committed = log.commit(&set(0, &[("a", "1"), ("b/0", "{}")])).await.expect("commit");
    assert!(matches!(committed, CommitOutcome::Committed { .. }));
    assert_eq!(table.open().await.head().memos, memos(&[("a", "1"), ("b/0", "{}")]));

    // A change that lost its race has set nothing.
    let lost = late.commit(&set(0, &[("c", "lost")])).await.expect("answered");
    assert_eq!(lost, CommitOutcome::Conflict);
    late.refresh().await.expect("refreshed");
    assert_eq!(late.head().memos, memos(&[("a", "1"), ("b/0", "{}")]));

    let _ = log.commit(&set(1, &[])).await.expect("commit");
    let _ = log.commit(&set(2, &[("a", ""), ("b/0", "2"), ("never", "")])).await.expect("commit");
    assert_eq!(log.head().memos, memos(&[("b/0", "2")]));
    assert_eq!(table.open().await.head().memos, memos(&[("b/0", "2")]));
    late.refresh().await.expect("refreshed");
    assert_eq!(late.head().memos, memos(&[("b/0", "2")]));
}
