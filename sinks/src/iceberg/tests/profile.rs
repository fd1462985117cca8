//! Tables that Athena does not take, each for one reason.

use serde_json::{Value as Json, json};

use super::*;
use crate::catalog::Entry;
use crate::iceberg::profile::scheme;
use crate::profile::tests::{broken, plain_parquet};
use crate::profile::{Found, Rule, inspect};

/// A table with rows and dead rows that Athena takes.
async fn good(factory: &Factory) -> Fixture<'_> {
    let table = Fixture::new(factory);
    drop(log(&table).await);
    let mut silver = table.silver().await;
    commit(&mut silver, batch(0, &[(1, Some("a")), (2, Some("b"))])).await;
    commit(&mut silver, batch(2, &[(1, Some("c")), (2, None)])).await;
    table
}

async fn rules(table: &Fixture<'_>) -> Vec<Rule> {
    broken(
        &inspect(&table.storage, crate::Format::Iceberg, &Entry::Filesystem, usize::MAX)
            .await
            .expect("reads"),
    )
}

#[tokio::test]
async fn a_table_of_ours_is_taken_with_every_file_opened() {
    let table = good(&Factory).await;
    let report = inspect(&table.storage, crate::Format::Iceberg, &Entry::Filesystem, usize::MAX)
        .await
        .expect("reads");
    assert_eq!(report.broken, []);
    assert_eq!((report.files, report.opened), (3, 3), "two files of rows, one of deletes");
}

/// The column at a place of the current schema.
fn column(metadata: &mut Json, at: usize) -> &mut Json {
    &mut metadata["schemas"][0]["fields"][at]
}

#[tokio::test]
async fn metadata_that_athena_does_not_take_is_named_by_its_rule() {
    type Change = fn(&mut Json);
    let cases: [(Change, &[Rule]); 10] = [
        (|m| m["format-version"] = json!(3), &[Rule::FormatVersion]),
        (|m| column(m, 1)["type"] = json!("uuid"), &[Rule::ColumnType]),
        (|m| column(m, 1)["type"] = json!("decimal(39,2)"), &[Rule::ColumnType]),
        (
            |m| {
                column(m, 2)["type"] = json!({"type": "list", "element-id": 900,
                    "element-required": false, "element": "time"});
            },
            &[Rule::ColumnType],
        ),
        (|m| column(m, 1)["name"] = json!("näme"), &[Rule::Name]),
        (
            |m| {
                column(m, 2)["type"] = json!({"type": "struct", "fields": [
                    {"id": 900, "name": "a-b", "type": "int", "required": false}]});
            },
            &[Rule::Name],
        ),
        (|m| column(m, 1)["name"] = json!("NOTE"), &[Rule::Name, Rule::NameTwice]),
        (
            |m| {
                m["partition-specs"][0]["fields"] = json!([
                    {"field-id": 1000, "source-id": 1, "name": "id", "transform": "void"}]);
            },
            &[Rule::Transform],
        ),
        (
            |m| {
                column(m, 1)["type"] = json!("binary");
                m["partition-specs"][0]["fields"] = json!([
                    {"field-id": 1000, "source-id": 2, "name": "n", "transform": "truncate[4]"}]);
            },
            &[Rule::Transform],
        ),
        (|m| m["location"] = json!("file:///elsewhere/t"), &[Rule::OutsideLocation]),
    ];
    for (change, expected) in cases {
        let table = good(&Factory).await.for_nobody();
        let located = Filesystem.newest(&table.storage).await.expect("lists");
        let located = located.expect("a table");
        let bytes = table.storage.get(&located.path).await.expect("gets").expect("is there");
        let mut metadata: Json = serde_json::from_slice(&bytes).expect("JSON");
        change(&mut metadata);
        let next = Filesystem.locate(located.version + 1);
        let bytes = serde_json::to_vec(&metadata).expect("JSON");
        let put = Filesystem.swap(&table.storage, &next, bytes).await.expect("puts");
        assert_eq!(put, PutOutcome::Created);
        assert_eq!(rules(&table).await, expected);
    }
}

fn file(content: DataContentType, uri: String, format: DataFileFormat, size: u64) -> IcebergFile {
    DataFileBuilder::default()
        .content(content)
        .file_path(uri)
        .file_format(format)
        .record_count(1)
        .file_size_in_bytes(size)
        .build()
        .expect("a file")
}

#[tokio::test]
async fn files_that_athena_does_not_take_are_named_by_their_rule() {
    use DataContentType::{Data, PositionDeletes};
    use ManifestContentType as Manifest;
    let cases = [
        (Data, Manifest::Data, "data/x.orc", DataFileFormat::Orc, Rule::FileFormat),
        (PositionDeletes, Manifest::Deletes, "data/x.bin", DataFileFormat::Puffin, Rule::Deletes),
        (Data, Manifest::Data, "../x.parquet", DataFileFormat::Parquet, Rule::OutsideLocation),
        (Data, Manifest::Data, "data/x.parquet", DataFileFormat::Parquet, Rule::FieldIds),
    ];
    for (content, manifest, path, format, expected) in cases {
        let table = good(&Factory).await.for_nobody();
        let bytes = plain_parquet(parquet::basic::Compression::SNAPPY);
        let size = bytes.len() as u64;
        if expected == Rule::FieldIds {
            table.storage.put(path, bytes).await.expect("puts");
        }
        let uri = match path.strip_prefix("../") {
            None => table.storage.uri(path),
            Some(name) => format!("file:///elsewhere/{name}"),
        };
        foreign_commit(&table, vec![(manifest, file(content, uri, format, size))]).await;
        assert_eq!(rules(&table).await, [expected]);
    }
}

#[test]
fn on_s3_another_spelling_of_the_scheme_is_named() {
    let rules = |location: &str, uri: &str| {
        let mut found = Found::default();
        scheme(location, uri, &mut found);
        found.broken.iter().map(|broken| broken.rule).collect::<Vec<_>>()
    };
    assert_eq!(rules("s3://bucket/lake/t", "s3a://bucket/lake/t/data/x.parquet"), [Rule::Scheme]);
    assert_eq!(rules("s3://bucket/lake/t", "s3://bucket/lake/t/data/x.parquet"), []);
    assert_eq!(rules("file:///lake/t", "file:///lake/t/data/x.parquet"), []);
}
