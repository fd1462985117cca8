//! Tables that Athena does not take, each for one reason.

use iceberg::spec::{
    DataContentType, DataFile as IcebergFile, DataFileBuilder, DataFileFormat, ManifestContentType,
};
use serde_json::{Value as Json, json};

use super::foreign::foreign_commit;
use super::*;
use crate::catalog::Entry;
use crate::profile::tests::{broken, plain_parquet, written};
use crate::profile::{Rule, inspect};

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

/// Makes tables that break a rule each (a name in upper case breaks two), and answers the rules.
pub(crate) async fn tables_that_break_rules() -> Vec<Rule> {
    [metadata_that_athena_does_not_take().await, files_that_athena_does_not_take().await].concat()
}

async fn metadata_that_athena_does_not_take() -> Vec<Rule> {
    type Change = fn(&mut Json);
    let cases: [(Change, &[Rule]); 12] = [
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
        // A spec of older files, and one that no file has.
        (
            |m| {
                m["default-spec-id"] = json!(1);
                m["partition-specs"] = json!([{"spec-id": 1, "fields": []}, {"spec-id": 0, "fields": [
                    {"field-id": 1000, "source-id": 77, "name": "gone", "transform": "void"}]}]);
            },
            &[Rule::Transform],
        ),
        (
            |m| {
                let unused = json!({"spec-id": 1, "fields": [
                    {"field-id": 1000, "source-id": 77, "name": "gone", "transform": "void"}]});
                m["partition-specs"].as_array_mut().expect("specs").push(unused);
            },
            &[],
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
    cases.iter().flat_map(|(_, rules)| rules.to_vec()).collect()
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

async fn files_that_athena_does_not_take() -> Vec<Rule> {
    use DataContentType::{Data, PositionDeletes};
    use ManifestContentType as Manifest;
    use parquet::basic::Compression;
    let plain = || plain_parquet(Compression::SNAPPY);
    let ids =
        |field: &str, codec| written(&format!("message m {{ optional {field} = 1; }}"), codec);
    let milliseconds = ids("int64 t (TIMESTAMP_MILLIS)", Compression::SNAPPY);
    let (parquet, orc, puffin) =
        (DataFileFormat::Parquet, DataFileFormat::Orc, DataFileFormat::Puffin);
    let cases = [
        (Data, "data/x.orc", orc, plain(), Rule::FileFormat),
        (PositionDeletes, "data/x.bin", puffin, plain(), Rule::Deletes),
        (Data, "../x.parquet", parquet, plain(), Rule::OutsideLocation),
        (Data, "data/x.parquet", parquet, plain(), Rule::FieldIds),
        (Data, "data/x.parquet", parquet, milliseconds, Rule::TimestampUnit),
        (Data, "data/x.parquet", parquet, ids("int64 n", Compression::UNCOMPRESSED), Rule::Codec),
    ];
    let broken = cases.iter().map(|(.., rule)| *rule).collect();
    for (content, path, format, bytes, expected) in cases {
        let table = good(&Factory).await.for_nobody();
        let size = bytes.len() as u64;
        let uri = match path.strip_prefix("../") {
            None => {
                table.storage.put(path, bytes).await.expect("puts");
                table.storage.uri(path)
            }
            Some(name) => format!("file:///elsewhere/{name}"),
        };
        let manifest = match content {
            Data => Manifest::Data,
            _ => Manifest::Deletes,
        };
        foreign_commit(&table, vec![(manifest, file(content, uri, format, size))]).await;
        assert_eq!(rules(&table).await, [expected]);
    }
    broken
}
