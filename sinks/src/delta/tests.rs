//! What the suite of all formats does not ask: Delta's own protocol.

mod foreign;
mod glue;
mod partitions;
pub(crate) mod profile;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use lakebed_schemas::column::{Column, ColumnType, TableSchema};
use lakebed_schemas::value::Value;
use roaring::RoaringBitmap;
use uuid::Uuid;

use super::log_files::{checkpoint_path, entry_path};
use super::{DeltaLog, create_or_open, open, open_at};
use crate::conformance::LogFactory;
use crate::conformance::fixture::{all_rows, batch, commit, delta, names, row, silver_schema, tp};
use crate::log::{CommitOutcome, DataFile, Head, Retention, TableChange, TableLog, TableOptions};
use crate::storage::{S3Options, Storage};
use crate::table::upsert::UpsertTable;
use crate::table::writer::{FileRows, WriterOptions, stage};
use crate::{ErrorKind, Result};

struct DeltaFactory;

#[async_trait]
impl LogFactory for DeltaFactory {
    async fn create(
        &self,
        storage: &Storage,
        options: &TableOptions,
        schema: &TableSchema,
    ) -> Result<Box<dyn TableLog>> {
        Ok(Box::new(create_or_open(storage, options, schema).await?))
    }

    async fn open(&self, storage: &Storage, options: &TableOptions) -> Result<Box<dyn TableLog>> {
        Ok(Box::new(open(storage, options).await?.expect("the suite has made the table")))
    }
}

mod conformance {
    crate::conformance_tests!(crate::delta::tests::DeltaFactory);

    mod copy_on_write {
        crate::conformance_tests!(@copy_on_write crate::delta::tests::DeltaFactory);
    }
}

fn options() -> TableOptions {
    TableOptions {
        sink_id: "lakebed".to_owned(),
        cluster: Some("cluster-1".to_owned()),
        owner: "test".to_owned(),
        retention: Retention::default(),
        catalog: Default::default(),
        mode: Default::default(),
    }
}

fn eager(versions_min: usize) -> TableOptions {
    let retention = Retention { versions_min, age_min: Duration::ZERO };
    TableOptions { retention, ..options() }
}

struct Place {
    folder: tempfile::TempDir,
    storage: Storage,
}

fn place() -> Place {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let location = folder.path().join("lake/table");
    let location = location.to_str().expect("a temporary path is text");
    let storage = Storage::open(location, &S3Options::default()).expect("local storage");
    Place { folder, storage }
}

impl Place {
    async fn log(&self, options: &TableOptions) -> DeltaLog {
        create_or_open(&self.storage, options, &silver_schema()).await.expect("opens")
    }

    async fn silver(&self, options: &TableOptions) -> UpsertTable {
        let log = Box::new(self.log(options).await);
        UpsertTable::open(log, Default::default()).await.expect("opens")
    }

    async fn staged(&self, partition: i32, ids: std::ops::Range<i64>) -> Arc<DataFile> {
        let name = |id| Value::Text(format!("name {id}"));
        let rows = ids.map(|id| row(id, name(id), Value::Null, partition, id)).collect();
        let rows = FileRows { topic_partition: tp(partition), partition: Vec::new(), rows };
        let schema = Arc::new(silver_schema());
        let files = [Arc::new(rows)];
        let mut staged =
            stage(&self.storage, &schema, &files, &WriterOptions::default()).await.expect("staged");
        staged.remove(0)
    }

    async fn json(&self, version: i64) -> Vec<serde_json::Value> {
        let bytes = self.storage.get(&entry_path(version)).await.expect("get").expect("entry");
        let lines = bytes.split(|byte| *byte == b'\n').filter(|line| !line.is_empty());
        lines.map(|line| serde_json::from_slice(line).expect("JSON")).collect()
    }
}

fn change(added: Vec<Arc<DataFile>>, start: i64, end: i64) -> TableChange {
    TableChange {
        commit_id: Uuid::now_v7(),
        delta: delta(0, start, end),
        added,
        deleted: BTreeMap::new(),
        removed: BTreeSet::new(),
        schema: None,
        freshness: Some(end),
        notes: BTreeMap::from([("cause".to_owned(), "test".to_owned())]),
        memos: BTreeMap::new(),
    }
}

async fn must_commit(log: &mut DeltaLog, change: &TableChange) -> i64 {
    match log.commit(change).await.expect("commit") {
        CommitOutcome::Committed { version } => version,
        outcome => panic!("not committed: {outcome:?}"),
    }
}

/// Everything that a head tells, but for what is only in the memory of the process that wrote it.
fn told(head: &Head) -> impl PartialEq + std::fmt::Debug {
    let files: BTreeMap<_, _> = head
        .files
        .iter()
        .map(|(path, live)| {
            let file = &live.file;
            let facts =
                (file.size, file.rows, file.partition.clone(), file.topic_partition.clone());
            (path.clone(), (facts, live.deleted.clone()))
        })
        .collect();
    let schema = head.schema.clone();
    (head.version, head.uuid, schema, head.checkpoint.clone(), head.freshness, files)
}

#[tokio::test]
async fn a_table_reads_the_same_from_entries_from_a_log_checkpoint_and_from_memory() {
    let place = place();
    let options = eager(3);
    let mut log = place.log(&options).await;
    let mut offset = 0;
    for round in 0..9 {
        let mut next =
            change(vec![place.staged(0, round * 50..round * 50 + 50).await], offset, offset + 50);
        if round > 0 {
            let paths: Vec<String> = log.head().files.keys().cloned().collect();
            next.deleted = paths
                .into_iter()
                .map(|path| (path, RoaringBitmap::from([u32::try_from(round).expect("small")])))
                .collect();
        }
        must_commit(&mut log, &next).await;
        offset += 50;
        let fresh = open(&place.storage, &options).await.expect("opens").expect("is there");
        assert_eq!(told(fresh.head()), told(log.head()));
        if round % 4 == 3 {
            let report = log.maintain().await.expect("maintained");
            assert_eq!(report.log_checkpoint, Some(log.head().version));
            let fresh = open(&place.storage, &options).await.expect("opens").expect("is there");
            assert_eq!(told(fresh.head()), told(log.head()));
        }
    }
    let rows = all_rows(&place.storage, log.head()).await;
    assert_eq!(rows.len() as u64, log.head().live_rows());
    // Every file but the newest lost one row to each later commit.
    assert_eq!(rows.len(), 9 * 50 - (1..9).sum::<usize>());
}

#[tokio::test]
async fn a_file_without_a_living_row_is_only_removed() {
    let place = place();
    let mut log = place.log(&options()).await;
    let file = place.staged(0, 0..3).await;
    must_commit(&mut log, &change(vec![file.clone()], 0, 3)).await;

    let mut half = change(vec![], 3, 4);
    half.deleted.insert(file.path.clone(), RoaringBitmap::from([0]));
    let version = must_commit(&mut log, &half).await;
    let entry = place.json(version).await;
    let add = entry.iter().find_map(|line| line.get("add")).expect("the file is added again");
    assert_eq!(add["deletionVector"]["cardinality"], 1);
    assert!(add["stats"].as_str().expect("stats").contains("\"tightBounds\":false"));

    let mut whole = change(vec![], 4, 5);
    whole.deleted.insert(file.path.clone(), RoaringBitmap::from([1, 2]));
    let version = must_commit(&mut log, &whole).await;
    let entry = place.json(version).await;
    let remove = entry.iter().find_map(|line| line.get("remove")).expect("the file is removed");
    assert_eq!(remove["deletionVector"], add["deletionVector"], "as it was last added");
    assert!(entry.iter().all(|line| line.get("add").is_none()));
    assert!(log.head().files.is_empty());

    whole.delta = delta(0, 5, 6);
    assert_eq!(log.commit(&whole).await.expect_err("gone").kind(), ErrorKind::Invalid);
}

#[tokio::test]
async fn rows_die_once() {
    let place = place();
    let mut log = place.log(&options()).await;
    let file = place.staged(0, 0..3).await;
    must_commit(&mut log, &change(vec![file.clone()], 0, 3)).await;
    let dying = |rows: &[u32], start| {
        let mut next = change(vec![], start, start + 1);
        next.deleted.insert(file.path.clone(), rows.iter().copied().collect());
        next
    };
    must_commit(&mut log, &dying(&[1], 3)).await;

    for rows in [&[1, 2][..], &[3]] {
        let error = log.commit(&dying(rows, 4)).await.expect_err("refused");
        assert_eq!(error.kind(), ErrorKind::Invalid);
    }
    assert_eq!(log.head().version, 2);
}

#[tokio::test]
async fn the_loser_of_a_race_sees_nothing_of_its_own_and_may_try_again() {
    let place = place();
    let mut winner = place.log(&options()).await;
    let mut loser = place.log(&options()).await;
    must_commit(&mut winner, &change(vec![place.staged(0, 0..3).await], 0, 3)).await;
    let mut late = change(vec![place.staged(1, 7..9).await], 0, 0);
    late.delta = delta(1, 0, 2);

    assert_eq!(loser.commit(&late).await.expect("an outcome"), CommitOutcome::Conflict);
    assert_eq!(loser.find_commit(late.commit_id).await.expect("looked"), None);
    assert!(loser.refresh().await.expect("refreshed"));
    let version = must_commit(&mut loser, &late).await;

    assert_eq!(winner.find_commit(late.commit_id).await.expect("looked"), None, "not seen yet");
    assert!(winner.refresh().await.expect("refreshed"));
    assert_eq!(winner.find_commit(late.commit_id).await.expect("looked"), Some(version));
    assert_eq!(told(winner.head()), told(loser.head()));
}

#[tokio::test]
async fn an_entry_that_is_ours_already_is_taken_for_committed() {
    let place = place();
    let mut log = place.log(&options()).await;
    let mut silent = place.log(&options()).await;
    let next = change(vec![place.staged(0, 0..3).await], 0, 3);
    let version = must_commit(&mut silent, &next).await;

    assert_eq!(must_commit(&mut log, &next).await, version);

    assert_eq!(told(log.head()), told(silent.head()));
}

#[tokio::test]
async fn a_commit_is_found_in_entries_older_than_the_log_checkpoint() {
    let place = place();
    // Log checkpoints at every other version; nothing is young enough to be deleted.
    let retention = Retention { versions_min: 2, age_min: Duration::from_secs(3600) };
    let options = TableOptions { retention, ..options() };
    let mut log = place.log(&options).await;
    let mut ids = Vec::new();
    for offset in 0..6 {
        let next = change(vec![place.staged(0, offset..offset + 1).await], offset, offset + 1);
        ids.push((next.commit_id, must_commit(&mut log, &next).await));
        log.maintain().await.expect("maintained");
    }

    let mut fresh = open(&place.storage, &options).await.expect("opens").expect("is there");
    for (id, version) in ids {
        assert_eq!(fresh.find_commit(id).await.expect("looked"), Some(version));
    }
    assert_eq!(fresh.find_commit(Uuid::now_v7()).await.expect("looked"), None);
}

#[tokio::test]
async fn upkeep_leaves_what_kept_versions_need_and_nothing_else() {
    let place = place();
    let options = eager(4);
    let mut silver = place.silver(&options).await;
    // What an attempt that died has left.
    place.staged(0, 0..2).await;
    commit(&mut silver, batch(0, &[(0, Some("zero")), (1, Some("one")), (2, Some("two"))])).await;
    let first = silver.head().files.keys().next().expect("a file").clone();
    let mut seen = BTreeMap::new();
    for n in 0..20 {
        let name = format!("round {n}");
        let (version, _) = commit(&mut silver, batch(3 + n, &[(n % 3, Some(&name))])).await;
        seen.insert(version, names(&place.storage, silver.head()).await);
        tokio::time::sleep(Duration::from_millis(5)).await;
        silver.maintain().await.expect("maintained");
    }
    let newest = silver.head().version;

    for version in newest - 3..=newest {
        let old = open_at(&place.storage, version).await.expect("a kept version opens");
        assert_eq!(names(&place.storage, old.head()).await, seen[&version], "version {version}");
    }
    let gone = open_at(&place.storage, 1).await.expect_err("no longer kept");
    assert!(gone.to_string().contains("version 1"), "{gone}");
    let left = place.storage.list("").await.expect("listed");
    assert!(!left.iter().any(|entry| entry.path == first), "the first file is dead and gone");
    let count = |what: &str| left.iter().filter(|entry| entry.path.contains(what)).count();
    // Four versions, and up to as many to the next log checkpoint.
    assert!(count(".parquet") <= 16, "{left:#?}");
    assert!(count("deletion_vector") <= 12, "{left:#?}");
    assert!(count(".json") <= 8, "{left:#?}");
}

#[tokio::test]
async fn an_old_version_cannot_be_written() {
    let place = place();
    let mut log = place.log(&options()).await;
    must_commit(&mut log, &change(vec![place.staged(0, 0..3).await], 0, 3)).await;

    let mut old = open_at(&place.storage, 0).await.expect("opens");

    assert_eq!(old.head().live_rows(), 0);
    let error = old.commit(&change(vec![], 0, 1)).await.expect_err("read only");
    assert_eq!(error.kind(), ErrorKind::Invalid);
    assert!(open_at(&place.storage, 2).await.is_err());
}

#[tokio::test]
async fn the_first_zoneless_column_raises_the_protocol_in_its_own_commit() {
    let place = place();
    let mut schema = silver_schema();
    schema.key.clear();
    let mut log = create_or_open(&place.storage, &options(), &schema).await.expect("made");
    let first = place.json(0).await;
    let protocol = first.iter().find_map(|line| line.get("protocol")).expect("protocol");
    assert_eq!(protocol, &serde_json::json!({"minReaderVersion": 1, "minWriterVersion": 2}));

    schema.columns.push(Column {
        name: "local".into(),
        source_name: "Local".into(),
        column_type: ColumnType::Timestamp,
        id: 0,
    });
    let mut wider = change(vec![], 0, 1);
    wider.schema = Some(log.assign_ids(&schema));
    let version = must_commit(&mut log, &wider).await;

    let entry = place.json(version).await;
    let protocol = entry.iter().find_map(|line| line.get("protocol")).expect("protocol");
    assert_eq!(protocol["readerFeatures"], serde_json::json!(["timestampNtz"]));
    assert_eq!(protocol["writerFeatures"], serde_json::json!(["timestampNtz"]));
    let fresh = open(&place.storage, &options()).await.expect("opens").expect("is there");
    assert_eq!(told(fresh.head()), told(log.head()));
    assert_eq!(fresh.head().schema.columns.last().expect("column").source_name, "Local");
}

#[tokio::test]
async fn progress_of_another_sink_is_not_touched() {
    let place = place();
    drop(place.log(&options()).await);

    let other = TableOptions { sink_id: "other".to_owned(), ..options() };
    let error = open(&place.storage, &other).await.expect_err("refused");

    assert_eq!(error.kind(), ErrorKind::Invalid);
    assert!(error.to_string().contains("`lakebed`"), "{error}");
}

#[tokio::test]
async fn a_foreign_feature_stops_the_table_by_name() {
    let place = place();
    let mut log = place.log(&options()).await;
    let features = serde_json::json!(["deletionVectors", "columnMapping"]);
    let line = serde_json::json!({"protocol": {
        "minReaderVersion": 3, "minWriterVersion": 7,
        "readerFeatures": features, "writerFeatures": features,
    }});
    place.storage.put(&entry_path(1), line.to_string()).await.expect("put");

    for _ in 0..2 {
        let error = log.refresh().await.expect_err("refused");
        assert_eq!(error.kind(), ErrorKind::Invalid);
        assert!(error.to_string().contains("`columnMapping`"), "{error}");
    }
    // Nothing is built on a version that was not understood.
    let outcome = log.commit(&change(vec![], 0, 1)).await.expect("an outcome");
    assert_eq!(outcome, CommitOutcome::Conflict);
}

#[tokio::test]
async fn a_table_that_was_replaced_is_not_written() {
    let place = place();
    let mut log = place.log(&options()).await;
    must_commit(&mut log, &change(vec![place.staged(0, 0..3).await], 0, 3)).await;
    std::fs::remove_dir_all(place.folder.path().join("lake/table")).expect("dropped");
    let mut other = place.log(&options()).await;
    let file = place.staged(0, 5..30).await;
    must_commit(&mut other, &change(vec![file], 0, 999)).await;
    must_commit(&mut other, &change(vec![], 999, 1000)).await;

    let refused = log.commit(&change(vec![], 3, 4)).await;
    assert!(matches!(refused, Ok(CommitOutcome::Conflict)), "{refused:?}");
    let error = log.refresh().await.expect_err("replaced");

    assert_eq!(error.kind(), ErrorKind::Corrupt);
    assert_eq!(other.head().version, 2);
}

#[tokio::test]
async fn a_torn_hint_and_a_foreign_plain_append_are_borne() {
    let place = place();
    let options = eager(2);
    let mut log = place.log(&options).await;
    for offset in 0..4 {
        must_commit(&mut log, &change(vec![], offset, offset + 1)).await;
        log.maintain().await.expect("maintained");
    }
    place.storage.put("_delta_log/_last_checkpoint", "{\"vers").await.expect("put");
    // By a writer that keeps no statistics.
    let file = place.staged(0, 0..5).await;
    let line = serde_json::json!({"add": {
        "path": super::actions::encode_path(&file.path), "partitionValues": {},
        "size": file.size, "modificationTime": 1, "dataChange": true,
    }});
    let version = log.head().version + 1;
    place.storage.put(&entry_path(version), line.to_string()).await.expect("put");

    assert!(log.refresh().await.expect("refreshed"));
    let fresh = open(&place.storage, &options).await.expect("opens").expect("is there");

    assert_eq!(told(fresh.head()), told(log.head()));
    assert_eq!(all_rows(&place.storage, fresh.head()).await.len(), 5);
    let mut dying = change(vec![], 4, 5);
    dying.deleted.insert(file.path.clone(), RoaringBitmap::from([4]));
    must_commit(&mut log, &dying).await;
    log.maintain().await.expect("the library reads it, too");
    assert_eq!(log.head().live_rows(), 4);
}

#[tokio::test]
async fn a_log_checkpoint_that_lies_is_not_relied_on() {
    let place = place();
    let options = eager(2);
    let mut log = place.log(&options).await;
    must_commit(&mut log, &change(vec![place.staged(0, 0..5).await], 0, 1)).await;
    must_commit(&mut log, &change(vec![], 1, 2)).await;
    // Another process died after it had written half of what it should have.
    let empty = super::replay::Replay {
        protocol: log.state.replay.protocol.clone(),
        metadata: log.state.replay.metadata.clone(),
        ..Default::default()
    };
    let rows = super::log_checkpoint::rows(&empty);
    let bytes = super::log_checkpoint::encode(&rows).expect("encoded");
    place.storage.put(&checkpoint_path(2), bytes).await.expect("put");

    let error = log.maintain().await.expect_err("the library sees other files");

    assert_eq!(error.kind(), ErrorKind::Corrupt);
    assert!(place.storage.get(&entry_path(0)).await.expect("get").is_some(), "nothing is deleted");
}

#[tokio::test]
async fn a_commit_costs_the_same_requests_however_old_the_table() {
    let place = place();
    let mut silver = place.silver(&options()).await;
    let mut costs = Vec::new();
    for n in 0..60 {
        place.storage.counters().take();
        commit(&mut silver, batch(n, &[(n % 3, Some("x"))])).await;
        costs.push(place.storage.counters().take());
    }
    let last = costs[costs.len() - 1];
    assert_eq!(
        (last.gets, last.lists, last.heads, last.puts),
        (0, 0, 3, 2 + u64::from(last.puts == 3)),
        "{last:?}"
    );
    let as_cheap = |cost: &crate::storage::Counts| {
        (cost.gets, cost.lists, cost.heads) == (0, 0, 3) && cost.puts <= 3
    };
    assert!(costs[10..].iter().all(as_cheap), "{costs:?}");
}

#[tokio::test]
async fn silver_is_exact_over_many_commits_with_upkeep() {
    let place = place();
    let options = eager(10);
    let mut silver = place.silver(&options).await;
    let mut model: BTreeMap<i64, String> = BTreeMap::new();
    let mut offset = 0;
    for round in 0..80i64 {
        let name = format!("round {round}");
        let events: BTreeMap<i64, Option<&str>> = (0..20)
            .map(|n| ((n * 7 + round * 13) % 101, ((n + round) % 6 != 0).then_some(name.as_str())))
            .collect();
        for (id, name) in &events {
            match name {
                Some(name) => drop(model.insert(*id, (*name).to_owned())),
                None => drop(model.remove(id)),
            }
        }
        let events: Vec<_> = events.into_iter().collect();
        commit(&mut silver, batch(offset, &events)).await;
        offset += events.len() as i64;
        silver.maintain().await.expect("maintained");
        if round % 16 == 15 {
            silver = place.silver(&options).await;
        }
    }
    assert_eq!(names(&place.storage, silver.head()).await, model);
}
