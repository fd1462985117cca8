//! Rules that need no table; the others are with the formats.

use std::sync::Arc;

use ::parquet::basic::Compression;
use ::parquet::file::metadata::ParquetMetaDataReader;
use ::parquet::file::properties::WriterProperties;
use ::parquet::file::writer::SerializedFileWriter;
use ::parquet::schema::parser::parse_message_type;
use bytes::Bytes;

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
        found.columns(names.iter().copied());
        found.broken.iter().map(|broken| broken.rule).collect::<Vec<_>>()
    };
    assert_eq!(rules(&["a", "_b", "9", &"x".repeat(NAME_MAX)]), []);
    assert_eq!(rules(&[""]), [Rule::Name]);
    assert_eq!(rules(&[&"x".repeat(NAME_MAX + 1)]), [Rule::Name]);
}
