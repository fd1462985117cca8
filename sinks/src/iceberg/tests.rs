//! The log as a whole: the suite that every format passes, and what only Iceberg has.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::time::Duration;

use async_trait::async_trait;
use iceberg::spec::{
    DataContentType, DataFile as IcebergFile, DataFileBuilder, DataFileFormat, FormatVersion,
    ManifestContentType, Operation, Struct,
};
use lakebed_schemas::column::TableSchema;
use lakebed_schemas::value::Value;
use roaring::RoaringBitmap;
use uuid::Uuid;

use super::filesystem::Filesystem;
use super::log::IcebergLog;
use super::manifests::{self, Entry, ManifestContext};
use super::metadata::{self, Next};
use super::pointer::{Located, Pointer};
use super::state::{self, State};
use super::{foreign_topic_partition, progress};
use crate::conformance::LogFactory;
use crate::conformance::commits::{change, staged};
use crate::conformance::fixture::{
    Fixture, batch, batch_of, commit, delta, expected, silver_schema,
};
use crate::conformance::in_catalog::committed;
use crate::log::{CommitOutcome, Retention, TableLog, TableOptions};
use crate::storage::{PutOutcome, Storage};
use crate::{ErrorKind, Result};

mod partitions;
pub(crate) mod profile;

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

/// A commit as another engine makes it: knows nothing of ours.
async fn foreign_commit(
    table: &Fixture<'_>,
    mut manifests: Vec<(ManifestContentType, IcebergFile)>,
) {
    let state = loaded(table).await;
    let base = &state.metadata;
    let (snapshot_id, sequence) = (4711 + state.located.version, base.next_sequence_number());
    let mut list = state.manifests.clone();
    for (content, file) in manifests.drain(..) {
        let path = format!("metadata/foreign-{}.avro", Uuid::new_v4());
        let context = ManifestContext {
            snapshot_id,
            schema: base.current_schema().clone(),
            spec: base.default_partition_spec().as_ref().clone(),
            content,
        };
        let uri = table.storage.uri(&path);
        let (manifest, bytes) =
            manifests::encode_manifest(&uri, context, vec![Entry::Added(Box::new(file))])
                .await
                .expect("ok");
        table.storage.put(&path, bytes).await.expect("puts");
        list.push(manifest);
    }
    let path = format!("metadata/foreign-list-{}.avro", Uuid::new_v4());
    let uri = table.storage.uri(&path);
    let parent = base.current_snapshot_id();
    let bytes =
        manifests::encode_list(&uri, snapshot_id, parent, sequence, &list).await.expect("ok");
    table.storage.put(&path, bytes).await.expect("puts");
    let next = Next {
        snapshot_id,
        sequence,
        manifest_list: uri,
        operation: Operation::Append,
        summary: HashMap::new(),
        schema: None,
        memos: BTreeMap::new(),
    };
    let base_uri = table.storage.uri(&state.located.path);
    let made = metadata::next(base, &base_uri, next, &state.pinned, &table.table.retention);
    // Another engine keeps table properties as they are.
    let ours: HashMap<String, String> = base.properties().clone();
    let made = made.expect("metadata").into_builder(None).set_properties(ours).expect("properties");
    store(table, state.located.version + 1, &made.build().expect("builds").metadata).await;
}

async fn store(table: &Fixture<'_>, version: i64, metadata: &iceberg::spec::TableMetadata) {
    let bytes = metadata::encode(metadata).expect("encodes");
    let next = Filesystem.locate(version);
    let put = Filesystem.swap(&table.storage, &next, bytes).await.expect("puts");
    assert_eq!(put, PutOutcome::Created);
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

async fn refused(table: &Fixture<'_>) -> crate::Error {
    let opened = IcebergLog::open(table.storage.clone(), table.table.clone()).await;
    opened.expect_err("refused")
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
async fn progress_outlives_its_snapshots_and_the_commits_of_others() {
    let mut table = Fixture::new(&Factory);
    table.table.retention = Retention { versions_min: 1, age_min: Duration::ZERO };
    let mut log = log(&table).await;
    committed(log.commit(&change(vec![], delta(0, 0, 10))).await);
    for _ in 0..3 {
        foreign_commit(&table, vec![]).await;
    }

    let state = loaded(&table).await;
    assert_eq!(state.metadata.snapshots().len(), 1, "ours has expired");
    assert_eq!(
        state.head.checkpoint.fit(&delta(0, 10, 11)),
        lakebed_schemas::position::Fit::Applies
    );
    assert!(log.refresh().await.expect("refreshes"));
    committed(log.commit(&change(vec![], delta(0, 10, 11))).await);
}

#[tokio::test]
async fn a_rollback_behind_the_progress_halts() {
    let table = Fixture::new(&Factory);
    let mut log = log(&table).await;
    committed(log.commit(&change(vec![], delta(0, 0, 10))).await);
    let first = loaded(&table).await.metadata.current_snapshot_id().expect("a snapshot");
    committed(log.commit(&change(vec![], delta(0, 10, 20))).await);
    store_changed(&table, |json| {
        json["current-snapshot-id"] = first.into();
        json["refs"]["main"]["snapshot-id"] = first.into();
    })
    .await;

    let error = refused(&table).await;
    assert_eq!(error.kind(), ErrorKind::Corrupt);
    assert!(error.to_string().contains(progress::CHECKPOINT_SNAPSHOT), "{error}");

    store_changed_unchecked(&table, first).await;
    let opened = IcebergLog::open(table.storage.clone(), table.table.clone()).await;
    let opened = opened.expect("opens").expect("a table");
    assert_eq!(
        opened.head().checkpoint.next(&crate::conformance::fixture::tp(0)).map(|n| n.offset),
        Some(10)
    );
}

/// The next move that the error names: the property is removed.
async fn store_changed_unchecked(table: &Fixture<'_>, current: i64) {
    let newest = Filesystem.newest(&table.storage).await.expect("lists").expect("a table");
    let bytes = table.storage.get(&newest.path).await.expect("reads").expect("is there");
    let mut json: serde_json::Value = serde_json::from_slice(&bytes).expect("json");
    assert_eq!(json["current-snapshot-id"], current);
    let properties = json["properties"].as_object_mut().expect("properties");
    properties.remove(progress::CHECKPOINT_SNAPSHOT).expect("was there");
    let next = Filesystem.locate(newest.version + 1);
    let bytes = serde_json::to_vec(&json).expect("json");
    let put = Filesystem.swap(&table.storage, &next, bytes).await.expect("puts");
    assert_eq!(put, PutOutcome::Created);
}

#[tokio::test]
async fn tables_that_are_not_ours_to_touch_are_refused_with_the_reason() {
    let mut table = Fixture::new(&Factory).for_nobody();
    let mut log = log(&table).await;
    committed(log.commit(&change(vec![], delta(0, 0, 1))).await);
    table.table.sink_id = "other".to_owned();
    let error = refused(&table).await;
    assert_eq!(error.kind(), ErrorKind::Invalid);
    assert!(error.chain().contains("lake.sink_id"), "{}", error.chain());

    table.table.sink_id = "lakebed".to_owned();
    let equality = DataFileBuilder::default()
        .content(DataContentType::EqualityDeletes)
        .file_path(table.storage.uri("data/eq.parquet"))
        .file_format(DataFileFormat::Parquet)
        .record_count(1)
        .file_size_in_bytes(1)
        .equality_ids(Some(vec![1]))
        .build()
        .expect("a file");
    foreign_commit(&table, vec![(ManifestContentType::Deletes, equality)]).await;
    let error = refused(&table).await;
    assert_eq!(error.kind(), ErrorKind::Invalid);
    assert!(error.to_string().contains("rewrite_data_files"), "{error}");
    assert_eq!(log.refresh().await.expect_err("refused").kind(), ErrorKind::Invalid);
}

#[tokio::test]
async fn another_format_version_is_refused() {
    let table = Fixture::new(&Factory).for_nobody();
    drop(log(&table).await);
    let state = loaded(&table).await;
    let v3 = state.metadata.into_builder(None).upgrade_format_version(FormatVersion::V3);
    let v3 = v3.expect("upgrades").build().expect("builds").metadata;
    store(&table, 2, &v3).await;

    let error = refused(&table).await;
    assert_eq!(error.kind(), ErrorKind::Invalid);
    assert!(error.to_string().contains("format version 3"), "{error}");
}

#[tokio::test]
async fn a_copied_table_is_refused() {
    let table = Fixture::new(&Factory);
    drop(log(&table).await);
    let elsewhere = Fixture::new(&Factory);
    let v1 = "metadata/v1.metadata.json";
    let bytes = table.storage.get(v1).await.expect("reads").expect("is there");
    elsewhere.storage.put(v1, bytes).await.expect("puts");

    assert!(refused(&elsewhere).await.to_string().contains("cannot be moved"));
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
async fn many_partitions_of_a_topic_move_the_checkpoint_out_of_the_summary() {
    let mut table = Fixture::new(&Factory);
    table.table.retention = Retention { versions_min: 2, age_min: Duration::ZERO };
    let mut log = log(&table).await;
    for round in 0..6 {
        let mut wide = delta(0, round, round + 1);
        for partition in 1..300 {
            wide.ranges.extend(delta(partition, round, round + 1).ranges);
        }
        committed(log.commit(&change(vec![], wide)).await);
        log.maintain().await.expect("cleans");
    }

    let state = loaded(&table).await;
    let last = crate::conformance::fixture::tp(299);
    assert_eq!(state.head.checkpoint.next(&last).map(|next| next.offset), Some(6));
    let metadata = table.storage.list("metadata").await.expect("lists");
    let checkpoints = metadata.iter().filter(|e| progress::is_side_object(&e.path)).count();
    assert!((2..=4).contains(&checkpoints), "{metadata:?}");
    let size = metadata.iter().find(|e| e.path == state.located.path).expect("listed").size;
    assert!(size < 20_000, "metadata of {size} bytes");
}

#[tokio::test]
async fn maintenance_leaves_what_is_needed_and_nothing_else() {
    let mut table = Fixture::new(&Factory);
    table.table.retention = Retention { versions_min: 3, age_min: Duration::ZERO };
    let mut silver = table.silver_on(Box::new(log(&table).await)).await;
    for n in 0..30 {
        commit(&mut silver, batch(n, &[(n % 4, Some("a"))])).await;
    }
    let orphan = staged(&table, &silver_schema(), 0, 99, "orphan").await;
    table.storage.put("metadata/aaaa-m0.avro", "orphan").await.expect("puts");
    table.storage.put("metadata/foreign.stats", "not ours").await.expect("puts");
    table.storage.put("_lakebed/schemas/x.json", "not ours").await.expect("puts");
    // Objects as old as the version that is kept are left alone, so time has to pass.
    tokio::time::sleep(Duration::from_millis(20)).await;
    commit(&mut silver, batch(30, &[(0, Some("b"))])).await;
    commit(&mut silver, batch(31, &[(0, Some("c"))])).await;
    commit(&mut silver, batch(32, &[(0, Some("d"))])).await;

    let report = silver.maintain().await.expect("cleans");

    assert!(report.deleted > 40, "{report:?}");
    let state = loaded(&table).await;
    let data: Vec<String> =
        table.storage.list("data").await.expect("lists").into_iter().map(|e| e.path).collect();
    assert!(!data.contains(&orphan.path));
    assert_eq!(data.len(), state.head.files.len() + state.deletes.len());
    let left = table.storage.list("metadata").await.expect("lists");
    let ends = |end: &str| left.iter().filter(|entry| entry.path.ends_with(end)).count();
    assert_eq!(ends(".metadata.json"), 3);
    let named = named_by_kept_versions(&table, state.located.version).await;
    let stray = left.iter().filter(|e| e.path.ends_with(".avro") && !named.contains(&e.path));
    assert_eq!(stray.collect::<Vec<_>>(), Vec::<&crate::storage::Entry>::new());
    assert_eq!(ends(".stats"), 1);
    assert_eq!(table.storage.list("_lakebed").await.expect("lists").len(), 1);
    assert_eq!(silver.maintain().await.expect("cleans").deleted, 0);
    for version in state.located.version - 2..=state.located.version {
        let kept = IcebergLog::open_at(table.storage.clone(), table.table.clone(), version).await;
        let names =
            crate::conformance::fixture::names(&table.storage, kept.expect("kept").head()).await;
        assert_eq!(names.len(), 4, "version {version} reads whole");
    }
}

/// Manifest lists and manifests that the last three versions name.
async fn named_by_kept_versions(table: &Fixture<'_>, newest: i64) -> BTreeSet<String> {
    let mut named = BTreeSet::new();
    for version in newest - 2..=newest {
        let located = Filesystem.locate(version);
        let state = state::load(&table.storage, &Pointer::Filesystem, located, "lakebed", None)
            .await
            .expect("loads");
        let reader = state::Reader::new(&table.storage, state.metadata.location());
        let lists = state.metadata.snapshots().map(|snapshot| snapshot.manifest_list());
        let manifests = state.manifests.iter().map(|manifest| manifest.manifest_path.as_str());
        named.extend(lists.chain(manifests).map(|uri| reader.relative(uri).expect("inside")));
    }
    named
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

/// Tables written by Spark lie outside the project: `LAKEBED_SHARED`, default `../shared`.
fn golden(name: &str) -> Option<std::path::PathBuf> {
    let shared = std::env::var_os("LAKEBED_SHARED").map_or_else(
        || std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("../../shared"),
        std::path::PathBuf::from,
    );
    let folder = shared.join("golden-tables").join(name);
    folder.is_dir().then_some(folder)
}

#[tokio::test]
async fn a_table_written_by_spark_reads_with_its_deletes() {
    let Some(folder) = golden("iceberg_spark_mor") else {
        eprintln!("skipped: no table written by Spark, set LAKEBED_SHARED");
        return;
    };
    let storage = Storage::open(folder.to_str().expect("text"), &Default::default()).expect("ok");
    let listed = storage.list("metadata").await.expect("lists");
    let newest = listed.into_iter().map(|entry| entry.path);
    let path = newest.filter(|path| path.ends_with(".metadata.json")).max().expect("metadata");
    let located = Located { version: 5, path };

    let state =
        state::load(&storage, &Pointer::Filesystem, located, "lakebed", None).await.expect("loads");

    let head = &state.head;
    assert_eq!((head.files.len(), state.deletes.len()), (5, 3));
    assert_eq!(head.files.values().map(|live| live.file.rows).sum::<u64>(), 76);
    assert_eq!(head.live_rows(), 58);
    assert!(head.files.values().all(|l| l.file.topic_partition == foreign_topic_partition()));
    let rows = crate::conformance::fixture::all_rows(&storage, head).await;
    let id = head.schema.index_of("id").expect("an id");
    let mut ids: Vec<i64> = rows
        .iter()
        .map(|row| match row[id] {
            Value::Long(id) => id,
            ref other => panic!("{other:?}"),
        })
        .collect();
    ids.sort_unstable();
    let text = std::fs::read_to_string(folder.with_extension("expected.jsonl")).expect("reads");
    let wanted: Vec<i64> = text
        .lines()
        .map(|line| {
            let row: BTreeMap<String, serde_json::Value> =
                serde_json::from_str(line).expect("json");
            row["id"].as_i64().expect("an id")
        })
        .collect();
    assert_eq!(ids, wanted);
}

#[test]
fn an_empty_partition_tuple_is_that_of_an_unpartitioned_table() {
    let state = metadata::create("file:///t", &silver_schema(), &Retention::default());
    let state = state.expect("metadata");
    let schema = state.current_schema();
    let spec = state.default_partition_spec();
    let tuple = super::partition_spec::tuple(&[], spec, schema).expect("a tuple");
    assert_eq!(tuple, Struct::empty());
    let error = super::partition_spec::tuple(&[Value::Long(1)], spec, schema);
    assert_eq!(error.expect_err("no partitions").kind(), ErrorKind::Invalid);
}
