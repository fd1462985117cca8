//! Each rule, and the tables that break it: in the formats' own words with them, in Glue here.

mod in_glue;

use std::collections::BTreeSet;
use std::sync::Arc;

use ::parquet::basic::Compression;
use ::parquet::file::metadata::ParquetMetaDataReader;
use ::parquet::file::properties::WriterProperties;
use ::parquet::file::writer::SerializedFileWriter;
use ::parquet::schema::parser::parse_message_type;
use bytes::Bytes;
use serde_json::json;

use super::*;

/// The rules that a report names.
pub(crate) fn broken(report: &Report) -> Vec<Rule> {
    report.broken.iter().map(|broken| broken.rule).collect()
}

/// A Parquet file without rows or field ids, with one column.
pub(crate) fn plain_parquet(codec: Compression) -> Bytes {
    written("message m { optional int64 id; }", codec)
}

/// A file with one row group of no rows, by the columns of a message type.
pub(crate) fn written(message: &str, codec: Compression) -> Bytes {
    let schema = Arc::new(parse_message_type(message).expect("a message type"));
    let properties = Arc::new(WriterProperties::builder().set_compression(codec).build());
    let mut writer = SerializedFileWriter::new(Vec::new(), schema, properties).expect("a writer");
    let mut group = writer.next_row_group().expect("a row group");
    while let Some(column) = group.next_column().expect("a column") {
        column.close().expect("closes");
    }
    group.close().expect("closes");
    writer.into_inner().expect("a file").into()
}

fn rules_of(message: &str, by_id: bool) -> Vec<Rule> {
    let bytes = written(message, Compression::SNAPPY);
    let metadata = ParquetMetaDataReader::new().parse_and_finish(&bytes).expect("a footer");
    footers::check("x", &metadata, by_id).iter().map(|broken| broken.rule).collect()
}

/// Every table here breaks one rule; together they break all there are.
#[tokio::test]
async fn each_rule_has_a_table_that_breaks_it() {
    let iceberg = iceberg::tests::profile::tables_that_break_rules().await;
    let delta = delta::tests::profile::tables_that_break_rules().await;
    let in_glue = in_glue::tables_that_break_rules().await;
    let broken: BTreeSet<Rule> = [iceberg, delta, in_glue].concat().into_iter().collect();
    assert_eq!(broken, BTreeSet::from(Rule::ALL));
}

#[test]
fn a_footer_tells_units_and_ids() {
    let good = "message m { optional int64 t (TIMESTAMP(MICROS,true)) = 1;
        optional group l (LIST) = 2 { repeated group list { optional int32 element = 3; } } }";
    assert_eq!(rules_of(good, true), []);
    let without = "message m { optional group l (LIST) = 2 {
        repeated group list { optional int32 element; } } }";
    assert_eq!(rules_of(without, true), [Rule::FieldIds]);
    assert_eq!(rules_of(without, false), []);
    let older = "message m { optional int64 t (TIMESTAMP_MICROS) = 1; }";
    assert_eq!(rules_of(older, true), []);
    for wrong in [
        "int64 t (TIMESTAMP(MILLIS,true))",
        "int64 t (TIMESTAMP_MILLIS)",
        "int64 t (TIMESTAMP(NANOS,false))",
        "int96 t",
    ] {
        let message = format!("message m {{ optional {wrong}; }}");
        assert_eq!(rules_of(&message, false), [Rule::TimestampUnit], "{wrong}");
    }
}

#[test]
fn a_table_has_a_place_of_its_own_and_a_plain_name() {
    let rules = |location: &str| {
        let mut found = Found::default();
        found.location(location);
        found.broken.iter().map(|broken| broken.rule).collect::<Vec<_>>()
    };
    assert_eq!(rules("s3://my-bucket/lake/silver/orders"), []);
    assert_eq!(rules("s3://bucket"), [Rule::BucketRoot]);
    assert_eq!(rules("s3://my-bucket/silver/Orders"), [Rule::Name]);
    assert_eq!(rules("file:///lake/silver-1/orders"), [Rule::Name]);
}

#[test]
fn a_name_of_any_length_within_the_catalogs_is_taken() {
    let rules = |names: &[&str]| {
        let mut found = Found::default();
        found.take_columns(names.iter().map(|name| (*name, &Json::Null)));
        found.broken.iter().map(|broken| broken.rule).collect::<Vec<_>>()
    };
    assert_eq!(rules(&["a", "_b", "9", &"x".repeat(NAME_MAX)]), []);
    assert_eq!(rules(&[""]), [Rule::Name]);
    assert_eq!(rules(&[&"x".repeat(NAME_MAX + 1)]), [Rule::Name]);
}

#[test]
fn a_type_that_glue_cannot_spell_out_is_named() {
    let of = |fields: usize| {
        let fields: Vec<Json> =
            (0..fields).map(|n| json!({"name": format!("f{n:05}"), "type": "string"})).collect();
        let mut found = Found::default();
        let of = json!({"type": "struct", "fields": fields});
        found.take_columns([("c", &of)].into_iter());
        found.broken.iter().map(|broken| broken.rule).collect::<Vec<_>>()
    };
    // `struct<` and `>`, and of each field 14 characters, with the comma between them.
    assert_eq!(of(9_361), []);
    assert_eq!(of(9_362), [Rule::Length]);
}

#[test]
fn rows_marked_dead_are_told_to_whom_they_are_in_the_way_of() {
    let vector = |file: &str| (file.to_owned(), DeadRows::DeletionVector);
    let report = Report {
        dead_rows: vec![
            ("metaData".to_owned(), DeadRows::Feature),
            vector("a.parquet"),
            vector("b.parquet"),
        ],
        ..Report::default()
    };
    use Reader::{Bigquery, Deltalake, Pyiceberg, Spark, Starrocks};
    let told = |readers: &[Reader]| report.not_for(TableFormat::Delta, readers);

    assert_eq!(told(&[Spark, Pyiceberg]), [""; 0]);
    let [feature, vectors] = &told(&[Spark, Deltalake])[..] else { panic!() };
    assert!(
        feature.starts_with(
            "metaData: the reader feature `deletionVectors`, which deltalake does not read; once"
        ),
        "{feature}"
    );
    assert!(
        vectors.starts_with(
            "a.parquet and 1 more: a deletion vector, which deltalake does not read; let `mode: \
             copy-on-write` write these files anew"
        ),
        "{vectors}"
    );
    let both = told(&[Starrocks, Deltalake, Bigquery]);
    assert!(
        both[1].contains(
            "which deltalake does not read and nobody has seen starrocks, bigquery read; let"
        ),
        "{both:?}"
    );
    assert_eq!(told(&[Bigquery]).len(), 2);
    assert_eq!(Report::default().not_for(TableFormat::Delta, &[Deltalake]), [""; 0]);
}

#[test]
fn types_are_spelled_as_hive_does_from_either_formats_metadata() {
    let iceberg = json!({"type": "struct", "fields": [
        {"name": "A", "type": {"type": "list", "element": "timestamptz"}},
        {"name": "m", "type": {"type": "map", "key": "string", "value": "decimal(9, 2)"}}]});
    let delta = json!({"type": "struct", "fields": [
        {"name": "A", "type": {"type": "array", "elementType": "timestamp_ntz"}},
        {"name": "m", "type": {"type": "map", "keyType": "string", "valueType": "decimal(9,2)"}}]});
    let hive = "struct<a:array<timestamp>,m:map<string,decimal(9,2)>>";
    assert_eq!(entry::hive_type(&iceberg), hive);
    assert_eq!(entry::hive_type(&delta), hive);
    assert_eq!(entry::hive_type(&json!("long")), "bigint");
}
