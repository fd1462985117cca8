//! Rules that need no table; the others are with the formats.

use std::sync::Arc;

use ::parquet::basic::Compression;
use ::parquet::file::metadata::ParquetMetaDataReader;
use ::parquet::file::properties::WriterProperties;
use ::parquet::file::writer::SerializedFileWriter;
use ::parquet::schema::parser::parse_message_type;
use aws_sdk_glue::types::builders::TableBuilder;
use aws_sdk_glue::types::{Column, SerDeInfo, StorageDescriptor, Table};
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
fn written(message: &str, codec: Compression) -> Bytes {
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

#[test]
fn a_footer_tells_units_and_ids() {
    let good = "message m { optional int64 t (TIMESTAMP(MICROS,true)) = 1;
        optional group l (LIST) = 2 { repeated group list { optional int32 element = 3; } } }";
    assert_eq!(rules_of(good, true), []);
    let without = "message m { optional group l (LIST) = 2 {
        repeated group list { optional int32 element; } } }";
    assert_eq!(rules_of(without, true), [Rule::FieldIds]);
    assert_eq!(rules_of(without, false), []);
    for wrong in ["int64 t (TIMESTAMP(MILLIS,true))", "int64 t (TIMESTAMP(NANOS,false))", "int96 t"]
    {
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

/// An entry of a table with one column, as it should be.
fn good_entry(format: Format) -> TableBuilder {
    let markers: &[(&str, &str)] = match format {
        Format::Iceberg => &[("table_type", "ICEBERG"), ("theirs", "kept")],
        Format::Delta => &[
            ("EXTERNAL", "TRUE"),
            ("table_type", "DELTA"),
            ("spark.sql.sources.provider", "delta"),
        ],
    };
    let parameters = markers.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect();
    Table::builder()
        .name("t")
        .table_type("EXTERNAL_TABLE")
        .set_parameters(Some(parameters))
        .set_partition_keys(Some(Vec::new()))
        .storage_descriptor(descriptor("id", "bigint", None))
}

fn descriptor(name: &str, of: &str, comment: Option<String>) -> StorageDescriptor {
    let column = Column::builder().name(name).r#type(of).set_comment(comment);
    let serde = SerDeInfo::builder().parameters("path", "s3://b/l/t/");
    StorageDescriptor::builder()
        .location("s3://b/l/t")
        .serde_info(serde.build())
        .columns(column.build().expect("a column"))
        .build()
}

#[test]
fn an_entry_that_leads_engines_astray_is_named_by_its_rule() {
    use Format::{Delta, Iceberg};
    let rules = |table: Option<&Table>, format: Format| {
        let mut found = Found::default();
        found.take_columns([("id", &Json::from("long"))].into_iter());
        entry::check(table, format, "s3://b/l/t", &mut found);
        found.broken.iter().map(|broken| broken.rule).collect::<Vec<_>>()
    };
    let entry = |format, change: fn(TableBuilder) -> TableBuilder| {
        rules(Some(&change(good_entry(format)).build().expect("an entry")), format)
    };
    for format in [Iceberg, Delta] {
        assert_eq!(entry(format, |table| table), []);
        assert_eq!(entry(format, |table| table.table_type("VIRTUAL_VIEW")), [Rule::Entry]);
        let none = entry(format, |table| table.set_parameters(None));
        assert!(!none.is_empty() && none.iter().all(|rule| *rule == Rule::Entry));
        let other = |table: TableBuilder| {
            table.storage_descriptor(descriptor("id", "bigint", Some("x\ny".to_owned())))
        };
        assert_eq!(entry(format, other), [Rule::EntryComment]);
        let long = |table: TableBuilder| {
            table.storage_descriptor(descriptor("id", "bigint", Some("x".repeat(256))))
        };
        assert_eq!(entry(format, long), [Rule::EntryComment]);
        let lags = |table: TableBuilder| table.storage_descriptor(descriptor("id", "int", None));
        assert_eq!(entry(format, lags), [Rule::EntryColumns]);
        assert_eq!(rules(None, format), [Rule::Entry]);
    }
    let placeholder =
        |table: TableBuilder| table.storage_descriptor(descriptor("col", "array<string>", None));
    assert_eq!(entry(Delta, placeholder), []);
    assert_eq!(entry(Iceberg, placeholder), [Rule::EntryColumns]);
    let moved = |table: TableBuilder| {
        let mut moved = descriptor("id", "bigint", None);
        moved.location = Some("s3://b/other".to_owned());
        table.storage_descriptor(moved)
    };
    assert_eq!(entry(Iceberg, moved), [Rule::EntryLocation]);
    let without_keys = |table: TableBuilder| table.set_partition_keys(None);
    assert_eq!(entry(Delta, without_keys), [Rule::Entry]);
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
