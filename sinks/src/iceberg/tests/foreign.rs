//! Tables that others have written to, rolled back or moved: caught up with, or refused.

use std::collections::{BTreeMap, HashMap};
use std::time::Duration;

use iceberg::spec::{
    DataContentType, DataFile as IcebergFile, DataFileBuilder, DataFileFormat, FormatVersion,
    ManifestContentType, TableMetadata,
};
use lakebed_schemas::position::Fit;
use lakebed_schemas::value::Value;
use uuid::Uuid;

use super::*;
use crate::conformance::fixture::{all_rows, tp};
use crate::iceberg::manifests::{self, Entry, ManifestContext};
use crate::iceberg::metadata::{self, Next};
use crate::iceberg::pointer::Located;
use crate::iceberg::{foreign_topic_partition, progress};
use crate::log::Retention;

/// A commit as another engine makes it: knows nothing of ours.
pub(super) async fn foreign_commit(
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

async fn store(table: &Fixture<'_>, version: i64, metadata: &TableMetadata) {
    let bytes = metadata::encode(metadata).expect("encodes");
    let next = Filesystem.locate(version);
    let put = Filesystem.swap(&table.storage, &next, bytes).await.expect("puts");
    assert_eq!(put, PutOutcome::Created);
}

async fn refused(table: &Fixture<'_>) -> crate::Error {
    let opened = IcebergLog::open(table.storage.clone(), table.table.clone()).await;
    opened.expect_err("refused")
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
    assert_eq!(state.head.checkpoint.fit(&delta(0, 10, 11)), Fit::Applies);
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
    assert_eq!(opened.head().checkpoint.next(&tp(0)).map(|n| n.offset), Some(10));
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
    let elsewhere = Fixture::new(&Factory).for_nobody();
    let v1 = "metadata/v1.metadata.json";
    let bytes = table.storage.get(v1).await.expect("reads").expect("is there");
    elsewhere.storage.put(v1, bytes).await.expect("puts");

    assert!(refused(&elsewhere).await.to_string().contains("cannot be moved"));
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
    let rows = all_rows(&storage, head).await;
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
