//! Rows that left their key, found again by who asks for them.

use lakebed_schemas::column::{Column, ColumnType};
use lakebed_sinks::storage::{S3Options, Storage};

use super::*;

fn moved(place: u128) -> RowMove {
    RowMove { old_key: 7, place: Some(place) }
}

fn row(place: u128, text: &str) -> KeptRow {
    let values = BTreeMap::from([("body".to_owned(), Value::Text(text.to_owned()))]);
    KeptRow { moved: moved(place), values }
}

fn schema() -> TableSchema {
    let column = |name: &str, column_type| Column {
        name: name.to_owned(),
        source_name: name.to_owned(),
        column_type,
        id: 0,
    };
    TableSchema {
        columns: vec![column("id", ColumnType::Long), column("body", ColumnType::Text)],
        ..TableSchema::default()
    }
}

fn open() -> Vec<Value> {
    vec![Value::Long(1), Value::Unavailable]
}

#[test]
fn a_row_answers_until_the_batch_that_asked_is_committed() {
    let mut kept = KeptRows::default();
    kept.learn(KeptFile { path: "a".into(), rows: vec![row(1, "one"), row(2, "two")] });
    let mut asking = open();
    kept.claim(&moved(1), &schema(), &mut asking);
    assert_eq!(asking[1], Value::Text("one".into()));
    kept.abandon();
    assert!(kept.committed().is_empty(), "the batch that asked was dropped");

    kept.claim(&moved(1), &schema(), &mut open());
    assert!(kept.committed().is_empty(), "the file holds another row");
    assert!(!kept.contains(&moved(1)) && kept.contains(&moved(2)));
    kept.claim(&moved(2), &schema(), &mut open());
    assert_eq!(kept.committed(), ["a".into()]);
}

#[test]
fn what_left_first_under_a_change_is_what_it_was() {
    let mut kept = KeptRows::default();
    kept.learn(KeptFile { path: "a".into(), rows: vec![row(1, "first")] });
    kept.learn(KeptFile { path: "b".into(), rows: vec![row(1, "repeated")] });
    let mut asking = open();
    kept.claim(&moved(1), &schema(), &mut asking);
    assert_eq!(asking[1], Value::Text("first".into()));
}

#[test]
fn a_value_that_the_column_cannot_hold_stays_open() {
    let mut kept = KeptRows::default();
    let values = BTreeMap::from([("body".to_owned(), Value::Long(1))]);
    kept.learn(KeptFile { path: "a".into(), rows: vec![KeptRow { moved: moved(1), values }] });
    let mut asking = open();
    kept.claim(&moved(1), &schema(), &mut asking);
    assert_eq!(asking[1], Value::Unavailable);
}

#[test]
fn memory_is_bounded() {
    let mut kept = KeptRows::default();
    let large = "x".repeat(HELD_MAX / 4);
    for place in 0..10 {
        let path = place.to_string().as_str().into();
        kept.learn(KeptFile { path, rows: vec![row(place, &large)] });
    }
    assert!(kept.bytes <= HELD_MAX);
    assert!(kept.contains(&moved(9)) && !kept.contains(&moved(0)));
}

#[tokio::test]
async fn every_kind_of_value_comes_back_from_storage_as_it_was() {
    let folder = tempfile::tempdir().expect("folder");
    let location = folder.path().to_str().expect("utf-8").to_owned();
    let storage = Storage::open(&location, &S3Options::default()).expect("storage");
    let values = [
        Value::Null,
        Value::Boolean(true),
        Value::Long(i64::MIN),
        Value::Float(f32::NEG_INFINITY),
        Value::Double(0.1),
        Value::Decimal { unscaled: i128::MAX, scale: 9 },
        Value::Date(-1),
        Value::Timestamp(i64::MAX),
        Value::TimestampTz(-5),
        Value::Text("\u{0}\"ü".into()),
        Value::Binary(vec![0, 255]),
        Value::List(vec![Value::Null, Value::Struct(vec![Value::Long(3)])]),
    ];
    let values = values.into_iter().enumerate().map(|(at, value)| (format!("c{at}"), value));
    let row = KeptRow { moved: moved(u128::MAX), values: values.collect() };
    let files = KeptFiles::new(storage);
    assert!(files.read(&BTreeSet::new()).await.expect("reads").is_empty(), "no folder yet");

    let written = files.write(vec![row.clone()]).await.expect("writes");
    let read = files.read(&BTreeSet::new()).await.expect("reads");
    assert_eq!(read, std::slice::from_ref(&written));
    assert_eq!(read[0].rows, [row]);
    let known = BTreeSet::from([written.path.clone()]);
    assert!(files.read(&known).await.expect("reads").is_empty());
    files.expire().await.expect("expires");
    assert_eq!(files.read(&BTreeSet::new()).await.expect("reads").len(), 1, "it is young");
    files.remove(&written.path).await.expect("removes");
    assert!(files.read(&BTreeSet::new()).await.expect("reads").is_empty());
}
