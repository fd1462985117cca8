//! Tables that Athena does not take, each for one reason.

use parquet::basic::Compression;
use serde_json::{Value as Json, json};

use super::*;
use crate::catalog::Entry;
use crate::profile::tests::{broken, plain_parquet, written};
use crate::profile::{Rule, inspect};

/// A table with rows and dead rows that Athena takes.
async fn good() -> Place {
    let place = place();
    let mut silver = place.silver(&options()).await;
    commit(&mut silver, batch(0, &[(1, Some("a")), (2, Some("b"))])).await;
    commit(&mut silver, batch(2, &[(1, Some("c")), (2, None)])).await;
    place
}

async fn rules(place: &Place) -> Vec<Rule> {
    broken(
        &inspect(&place.storage, crate::Format::Delta, &Entry::Filesystem, usize::MAX)
            .await
            .expect("reads"),
    )
}

/// The next entry of the log, as another engine writes it.
async fn append(place: &Place, action: Json) {
    let newest = open(&place.storage, &options()).await.expect("opens").expect("a table");
    let path = entry_path(newest.head().version + 1);
    place.storage.put(&path, action.to_string()).await.expect("puts");
}

#[tokio::test]
async fn a_table_of_ours_is_taken_with_every_file_opened() {
    let place = good().await;
    let report = inspect(&place.storage, crate::Format::Delta, &Entry::Filesystem, usize::MAX)
        .await
        .expect("reads");
    assert_eq!(report.broken, []);
    assert_eq!((report.files, report.opened), (1, 1), "the first file has no live rows");
}

fn protocol(reader: i32, feature: &str) -> Json {
    json!({"protocol": {"minReaderVersion": reader, "minWriterVersion": 7,
        "readerFeatures": ["deletionVectors", feature],
        "writerFeatures": ["deletionVectors", feature]}})
}

fn metadata(fields: Json, partition: &[&str], policy: &str, provider: &str) -> Json {
    let schema = json!({"type": "struct", "fields": fields}).to_string();
    json!({"metaData": {"id": "7d8b1c1e-0000-4000-8000-000000000000",
        "format": {"provider": provider, "options": {}}, "schemaString": schema,
        "partitionColumns": partition, "configuration": {"delta.checkpointPolicy": policy}}})
}

fn columns(columns: &[(&str, Json)]) -> Json {
    let field = |(name, of): &(&str, Json)| json!({"name": name, "type": of, "nullable": true, "metadata": {}});
    columns.iter().map(field).collect()
}

fn add(path: &str, size: usize) -> Json {
    json!({"add": {"path": path, "partitionValues": {}, "size": size, "modificationTime": 0,
        "dataChange": true}})
}

/// Makes tables that break a rule each, and answers the rules.
pub(crate) async fn tables_that_break_rules() -> Vec<Rule> {
    [logs_that_athena_does_not_take().await, files_that_athena_does_not_take().await].concat()
}

async fn logs_that_athena_does_not_take() -> Vec<Rule> {
    let one = |name: &str, of: Json| metadata(columns(&[(name, of)]), &[], "classic", "parquet");
    let long = || columns(&[("id", json!("long"))]);
    let inside = |name: &str, of: &str| {
        one("s", json!({"type": "struct", "fields": columns(&[(name, json!(of))])}))
    };
    let cases = [
        (protocol(4, "timestampNtz"), Rule::ReaderVersion),
        (protocol(3, "v2Checkpoint"), Rule::ReaderFeature),
        (one("v", json!("variant")), Rule::ColumnType),
        (inside("v", "void"), Rule::ColumnType),
        (inside("a b", "long"), Rule::Name),
        (one("Id", json!("long")), Rule::Name),
        (
            metadata(columns(&[("b", json!("binary"))]), &["b"], "classic", "parquet"),
            Rule::PartitionType,
        ),
        (metadata(long(), &[], "v2", "parquet"), Rule::LogCheckpoint),
        (metadata(long(), &[], "classic", "orc"), Rule::FileFormat),
        (add("s3://elsewhere/x.parquet", 1), Rule::AbsolutePath),
        (add("../x.parquet", 1), Rule::OutsideLocation),
    ];
    let broken = cases.iter().map(|(_, rule)| *rule).collect();
    for (action, expected) in cases {
        let place = good().await;
        append(&place, action).await;
        assert_eq!(rules(&place).await, [expected]);
    }
    broken
}

#[tokio::test]
async fn names_that_differ_in_case_alone_are_two_mistakes() {
    let place = good().await;
    let twins = columns(&[("id", json!("long")), ("ID", json!("long"))]);
    append(&place, metadata(twins, &[], "classic", "parquet")).await;
    assert_eq!(rules(&place).await, [Rule::Name, Rule::NameTwice]);
}

#[tokio::test]
async fn a_log_checkpoint_of_version_2_is_named() {
    let place = good().await;
    let path =
        "_delta_log/00000000000000000001.checkpoint.80a083e8-7026-4e79-81be-64bd76c43a11.parquet";
    place.storage.put(path, "x").await.expect("puts");
    assert_eq!(rules(&place).await, [Rule::LogCheckpoint]);
}

async fn files_that_athena_does_not_take() -> Vec<Rule> {
    let timestamp = |of| written(&format!("message m {{ optional {of}; }}"), Compression::SNAPPY);
    let cases = [
        (plain_parquet(Compression::UNCOMPRESSED), Rule::Codec),
        (timestamp("int64 t (TIMESTAMP_MILLIS)"), Rule::TimestampUnit),
        (timestamp("int96 t"), Rule::TimestampUnit),
    ];
    let broken = cases.iter().map(|(_, rule)| *rule).collect();
    for (bytes, expected) in cases {
        let place = good().await;
        let size = bytes.len();
        place.storage.put("x.parquet", bytes).await.expect("puts");
        append(&place, add("x.parquet", size)).await;
        assert_eq!(rules(&place).await, [expected]);
    }
    broken
}
