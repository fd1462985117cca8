//! The log as a whole: the suite that every format passes, and what only Iceberg has.

mod foreign;
mod maintenance;
mod partitions;
pub(crate) mod profile;

use async_trait::async_trait;
use iceberg::spec::Operation;
use lakebed_schemas::column::TableSchema;
use roaring::RoaringBitmap;

use super::filesystem::Filesystem;
use super::log::IcebergLog;
use super::pointer::Pointer;
use super::state::{self, State};
use crate::conformance::LogFactory;
use crate::conformance::commits::{change, staged};
use crate::conformance::fixture::{
    Fixture, batch, batch_of, commit, delta, expected, silver_schema,
};
use crate::conformance::in_catalog::committed;
use crate::log::{CommitOutcome, TableLog, TableOptions};
use crate::storage::{PutOutcome, Storage};
use crate::{ErrorKind, Result};

struct Factory;

#[async_trait]
impl LogFactory for Factory {
    async fn create(
        &self,
        storage: &Storage,
        options: &TableOptions,
        schema: &TableSchema,
    ) -> Result<Box<dyn TableLog>> {
        let log = IcebergLog::create_or_open(storage.clone(), options.clone(), schema).await?;
        Ok(Box::new(log))
    }

    async fn open(&self, storage: &Storage, options: &TableOptions) -> Result<Box<dyn TableLog>> {
        let log = IcebergLog::open(storage.clone(), options.clone()).await?;
        Ok(Box::new(log.expect("there is a table")))
    }
}

crate::conformance_tests!(Factory);

mod copy_on_write {
    crate::conformance_tests!(@copy_on_write super::Factory);
}

async fn log(table: &Fixture<'_>) -> IcebergLog {
    let (storage, options) = (table.storage.clone(), table.table.clone());
    IcebergLog::create_or_open(storage, options, &silver_schema()).await.expect("opens")
}

async fn loaded(table: &Fixture<'_>) -> State {
    let newest = Filesystem.newest(&table.storage).await.expect("lists");
    state::load(&table.storage, &Pointer::Filesystem, newest.expect("a table"), "lakebed", None)
        .await
        .expect("loads")
}

/// Stores the current metadata once more, changed as text.
async fn store_changed(table: &Fixture<'_>, change: impl Fn(&mut serde_json::Value)) {
    let state = loaded(table).await;
    let mut json = serde_json::to_value(&state.metadata).expect("json");
    change(&mut json);
    let next = Filesystem.locate(state.located.version + 1);
    let bytes = serde_json::to_vec(&json).expect("json");
    let put = Filesystem.swap(&table.storage, &next, bytes).await.expect("puts");
    assert_eq!(put, PutOutcome::Created);
}

#[tokio::test]
async fn a_stale_hint_is_repaired_when_the_table_is_opened() {
    let table = Fixture::new(&Factory);
    let mut log = log(&table).await;
    for n in 0..3 {
        committed(log.commit(&change(vec![], delta(0, n, n + 1))).await);
    }
    let hint = "metadata/version-hint.text";
    table.storage.put_hint(hint, "2").await.expect("puts");

    let opened = IcebergLog::open(table.storage.clone(), table.table.clone()).await;

    assert_eq!(opened.expect("opens").expect("a table").head().version, 4);
    assert_eq!(table.storage.get(hint).await.expect("reads").expect("is there"), "4");
}

#[tokio::test]
async fn a_summary_counts_what_a_snapshot_adds_and_holds() {
    let table = Fixture::new(&Factory);
    let mut log = log(&table).await;
    let file = staged(&table, &silver_schema(), 0, 1, "one").await;
    committed(log.commit(&change(vec![file.clone()], delta(0, 0, 1))).await);
    let other = staged(&table, &silver_schema(), 0, 1, "uno").await;
    let mut both = change(vec![other], delta(0, 1, 2));
    both.deleted.insert(file.path.clone(), RoaringBitmap::from_iter([0]));
    both.notes.insert("cause".into(), "test".into());
    committed(log.commit(&both).await);

    let state = loaded(&table).await;
    let snapshot = state.metadata.current_snapshot().expect("a snapshot");
    let summary = &snapshot.summary().additional_properties;
    assert_eq!(snapshot.summary().operation, Operation::Overwrite);
    for (key, value) in [
        ("added-data-files", "1"),
        ("added-records", "1"),
        ("added-position-deletes", "1"),
        ("total-data-files", "2"),
        ("total-records", "2"),
        ("total-delete-files", "1"),
        ("total-position-deletes", "1"),
        ("total-equality-deletes", "0"),
        ("lakebed.note.cause", "test"),
        ("lakebed.owner", "conformance"),
    ] {
        assert_eq!(summary.get(key).map(String::as_str), Some(value), "{key}");
    }
    let sizes = state.head.files.values().map(|live| live.file.size);
    let total = sizes.sum::<u64>() + state.deletes.values().map(|d| d.size).sum::<u64>();
    assert_eq!(summary["total-files-size"], total.to_string());
    assert_eq!(log.find_commit(both.commit_id).await.expect("looks"), Some(3));
}

#[tokio::test]
async fn the_state_after_commits_is_the_state_that_is_read_back() {
    let table = Fixture::new(&Factory);
    let mut silver = table.silver_on(Box::new(log(&table).await)).await;
    for n in 0..40 {
        commit(&mut silver, batch(n * 2, &[(n % 7, Some("a")), ((n + 3) % 7, None)])).await;
    }
    let (ours, stored) = (silver.head().clone(), loaded(&table).await.head);

    assert_eq!(ours.version, stored.version);
    assert_eq!(ours.schema, stored.schema);
    assert_eq!(ours.checkpoint, stored.checkpoint);
    assert_eq!(ours.freshness, stored.freshness);
    assert_eq!(ours.files.len(), stored.files.len());
    for (path, live) in &ours.files {
        assert_eq!(live.file, stored.files[path].file);
        assert_eq!(live.deleted, stored.files[path].deleted);
    }
    let manifests = loaded(&table).await.manifests.len();
    assert!(manifests < 20, "{manifests} manifests after 40 commits");
}

#[tokio::test]
async fn a_refresh_reads_only_what_is_new() {
    let table = Fixture::new(&Factory);
    let mut reader = log(&table).await;
    let mut silver = table.silver().await;
    for n in 0..12 {
        commit(&mut silver, batch(n, &[(n % 3, Some("a"))])).await;
    }
    reader.refresh().await.expect("refreshes");
    commit(&mut silver, batch(12, &[(0, Some("b"))])).await;
    table.storage.counters().take();

    assert!(reader.refresh().await.expect("refreshes"));

    let counts = table.storage.counters().take();
    // The hint, the metadata, the list, two manifests and one delete file.
    assert!(counts.gets <= 7, "{counts:?}");
    assert_eq!(reader.head().live_rows(), 3);
    assert_eq!(reader.head().files.len(), 13);
}

#[tokio::test]
async fn an_old_version_reads_as_it_was_and_takes_no_commits() {
    let table = Fixture::new(&Factory);
    let mut silver = table.silver_on(Box::new(log(&table).await)).await;
    commit(&mut silver, batch(0, &[(1, Some("one"))])).await;
    commit(&mut silver, batch(1, &[(1, Some("uno")), (2, Some("two"))])).await;

    let open_at =
        |version| IcebergLog::open_at(table.storage.clone(), table.table.clone(), version);
    let mut old = open_at(2).await.expect("opens");
    let names = crate::conformance::fixture::names(&table.storage, old.head()).await;
    assert_eq!(names, expected(&[(1, "one")]));
    let refused = old.commit(&change(vec![], delta(0, 1, 2))).await.expect_err("frozen");
    assert_eq!(refused.kind(), ErrorKind::Invalid);
    assert_eq!(open_at(9).await.expect_err("not kept").kind(), ErrorKind::Invalid);
}

#[tokio::test]
async fn delete_files_are_staged_once_for_a_change_that_loses_a_race() {
    let table = Fixture::new(&Factory);
    let mut ours = log(&table).await;
    let file = staged(&table, &silver_schema(), 0, 1, "one").await;
    committed(ours.commit(&change(vec![file.clone()], delta(0, 0, 1))).await);
    let mut rival = log(&table).await;
    committed(rival.commit(&change(vec![], delta(1, 0, 1))).await);

    let mut delete = change(vec![], delta(0, 1, 2));
    delete.deleted.insert(file.path.clone(), RoaringBitmap::from_iter([0]));
    assert_eq!(ours.commit(&delete).await.expect("no error"), CommitOutcome::Conflict);
    assert!(ours.refresh().await.expect("refreshes"));
    committed(ours.commit(&delete).await);

    let data = table.storage.list("data").await.expect("lists");
    assert_eq!(data.len(), 2, "one data file and one delete file: {data:?}");
    assert_eq!(loaded(&table).await.head.live_rows(), 0);
}

#[tokio::test]
async fn rivals_in_different_partitions_lose_nothing() {
    let mut table = Fixture::new(&Factory);
    // Four writers without a pause between commits: nobody does that, so patience is what it takes.
    table.options.settle.attempts_max = 1_000;
    drop(log(&table).await);
    let writers = (0..4).map(|partition| {
        let (storage, options, write) =
            (table.storage.clone(), table.table.clone(), table.options.clone());
        tokio::spawn(async move {
            let log = IcebergLog::open(storage, options).await.expect("opens");
            let log = Box::new(log.expect("a table"));
            let mut silver =
                crate::table::upsert::UpsertTable::open(log, write).await.expect("opens");
            for n in 0..10 {
                let id = i64::from(partition) * 100 + n % 5;
                commit(&mut silver, batch_of(partition, n, &[(id, Some("mine"))])).await;
            }
        })
    });
    for writer in writers.collect::<Vec<_>>() {
        writer.await.expect("a writer ends well");
    }

    let head = loaded(&table).await.head;
    assert_eq!(head.version, 41, "forty commits, none lost and none twice");
    assert_eq!(table.names().await.len(), 20);
}
