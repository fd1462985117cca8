//! Tables that others wrote, and ours for others to read.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use lakebed_schemas::column::{Column, ColumnType, TableSchema};
use lakebed_schemas::value::Value;
use roaring::RoaringBitmap;

use super::{change, eager, must_commit, options, place, told};
use crate::conformance::fixture::{TOPIC, all_rows, batch, commit, silver_schema, tp};
use crate::delta::{create_or_open, open};
use crate::log::TableLog;
use crate::storage::{S3Options, Storage};
use crate::table::Written;
use crate::table::upsert::UpsertTable;
use crate::table::writer::WriterOptions;

fn golden() -> Option<PathBuf> {
    let beside = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../shared");
    let shared = std::env::var_os("LAKEBED_SHARED").map_or(beside, PathBuf::from);
    let golden = shared.join("golden-tables");
    if !golden.join("delta_spark_dv").is_dir() {
        eprintln!(
            "SKIPPED: no tables written by Spark at {}: set LAKEBED_SHARED",
            golden.display()
        );
        return None;
    }
    Some(golden)
}

fn copy_folder(from: &Path, to: &Path, wanted: &dyn Fn(&str) -> bool) {
    std::fs::create_dir_all(to).expect("folder");
    for entry in std::fs::read_dir(from).expect("readable") {
        let entry = entry.expect("entry");
        let name = entry.file_name().into_string().expect("utf-8");
        if entry.path().is_dir() {
            copy_folder(&entry.path(), &to.join(&name), wanted);
        } else if wanted(&name) {
            std::fs::copy(entry.path(), to.join(&name)).expect("copied");
        }
    }
}

/// A row as the expectation of the golden tables spells it.
fn spelt(schema: &TableSchema, row: Vec<Value>) -> serde_json::Value {
    use serde_json::json;
    let moment = |micros: i64| {
        let moment = chrono::DateTime::from_timestamp_micros(micros).expect("in range");
        json!(moment.format("%Y-%m-%dT%H:%M:%S%.6f").to_string())
    };
    let cells = schema.columns.iter().zip(row).map(|(column, value)| {
        let value = match value {
            Value::Null => json!(null),
            Value::Boolean(value) => json!(value),
            Value::Long(value) => json!(value),
            Value::Double(value) => json!(value),
            Value::Decimal { unscaled, scale: 2 } => {
                json!(format!("{}.{:02}", unscaled / 100, unscaled % 100))
            }
            Value::Date(days) => json!(crate::delta::schema::date_text(days).expect("in range")),
            Value::Timestamp(micros) | Value::TimestampTz(micros) => moment(micros),
            Value::Text(text) => json!(text),
            other => panic!("no such value in the golden table: {other:?}"),
        };
        (column.name.clone(), value)
    });
    cells.collect::<serde_json::Map<_, _>>().into()
}

#[tokio::test]
async fn a_table_that_spark_wrote_reads_as_spark_wrote_it() {
    let Some(golden) = golden() else { return };
    let place = place();
    let table = place.folder.path().join("lake/table");
    let until = |newest: &'static str| move |name: &str| name < newest || !name.ends_with(".json");
    let source = golden.join("delta_spark_dv");
    copy_folder(&source, &table, &until("00000000000000000003"));
    let mut log = open(&place.storage, &options()).await.expect("opens").expect("is there");
    assert_eq!((log.head().version, log.head().live_rows()), (2, 60));

    copy_folder(&source, &table, &until("9"));
    assert!(log.refresh().await.expect("Spark's MERGE and DELETE are caught up with"));

    let fresh = open(&place.storage, &options()).await.expect("opens").expect("is there");
    assert_eq!(told(fresh.head()), told(log.head()));
    assert_eq!(log.head().files.values().filter(|live| !live.deleted.is_empty()).count(), 3);
    let text = std::fs::read_to_string(golden.join("delta_spark_dv.expected.jsonl")).expect("text");
    let parse = |line: &str| serde_json::from_str::<serde_json::Value>(line).expect("JSON");
    let mut wanted: Vec<_> = text.lines().map(parse).collect();
    let rows = all_rows(&place.storage, log.head()).await;
    let mut read: Vec<_> = rows.into_iter().map(|row| spelt(&log.head().schema, row)).collect();
    for rows in [&mut wanted, &mut read] {
        rows.sort_by_key(|row| row["id"].as_i64());
    }
    assert_eq!(read.len(), 58);
    assert_eq!(read, wanted);

    // And it can be written: a row more, a row less.
    let (path, live) = log.head().files.iter().next().expect("a file");
    let alive = (0..u32::MAX).find(|row| !live.deleted.contains(*row)).expect("a living row");
    let mut dying = change(vec![], 0, 1);
    dying.deleted.insert(path.clone(), RoaringBitmap::from([alive]));
    must_commit(&mut log, &dying).await;
    let fresh = open(&place.storage, &options()).await.expect("opens").expect("is there");
    assert_eq!(told(fresh.head()), told(log.head()));
    assert_eq!(all_rows(&place.storage, fresh.head()).await.len(), 57);
    assert_eq!(fresh.head().checkpoint.next(&tp(0)).map(|next| next.offset), Some(1));
    assert!(fresh.head().checkpoint.topics.contains_key(TOPIC));
}

/// Needs `LAKEBED_READBACK`, a location: makes tables there for readers that nobody here wrote, and
/// prints what they should read.
#[tokio::test]
#[ignore = "makes tables for a comparison that other programs do"]
async fn tables_for_foreign_readers() {
    let location = std::env::var("LAKEBED_READBACK").expect("LAKEBED_READBACK names a place");
    let small = crate::table::WriteOptions {
        writer: WriterOptions { row_group_rows: 64, ..Default::default() },
        ..Default::default()
    };
    make_silver(&location, &small).await;
    make_bronze(&location, &small).await;
}

/// Row groups, rows that died over many commits, an evolved schema, upkeep.
async fn make_silver(location: &str, small: &crate::table::WriteOptions) {
    let options = eager(20);
    let silver_at =
        Storage::open(&format!("{location}/silver"), &S3Options::default()).expect("opens");
    let log = create_or_open(&silver_at, &options, &silver_schema()).await.expect("made");
    let mut silver = UpsertTable::open(Box::new(log), small.clone()).await.expect("opens");
    let many: Vec<(i64, Option<&str>)> = (0..1000).map(|id| (id, Some("first"))).collect();
    commit(&mut silver, batch(0, &many)).await;
    let mut offset = 1000;
    for round in 0..60i64 {
        let name = format!("round {round}");
        let events: BTreeMap<i64, Option<&str>> = (0..40)
            .map(|n| ((n * 37 + round * 101) % 1100, (n % 5 != 0).then_some(name.as_str())))
            .collect();
        let events: Vec<_> = events.into_iter().collect();
        let mut next = batch(offset, &events);
        if round >= 30 {
            evolve_for_readers(&mut next);
        }
        commit(&mut silver, next).await;
        offset += events.len() as i64;
        silver.maintain().await.expect("maintained");
    }
    let rows = all_rows(&silver_at, silver.head()).await;
    rows.iter().for_each(|row| eprintln!("{:?}", &row[..2]));
}

/// Partitions.
async fn make_bronze(location: &str, small: &crate::table::WriteOptions) {
    let options = eager(20);
    let bronze_at =
        Storage::open(&format!("{location}/bronze"), &S3Options::default()).expect("opens");
    let schema = crate::delta::storage_schema(&lakebed_schemas::bronze::schema());
    let log = create_or_open(&bronze_at, &options, &schema).await.expect("made");
    let mut bronze =
        crate::table::append::AppendTable::open(Box::new(log), small.clone()).await.expect("opens");
    for start in 0..30 {
        let mut delta = lakebed_schemas::position::CheckpointDelta::default();
        let mut rows = Vec::new();
        for offset in start * 100..start * 100 + 100 {
            rows.push((tp(0), bronze_row(&schema, offset)));
            delta.extend(&tp(0), start * 100, offset + 1, None);
        }
        let batch = crate::table::AppendBatch { rows, delta, ..Default::default() };
        let written = bronze.write(batch).await.expect("written");
        assert!(matches!(written, Written::Committed { .. }));
        bronze.maintain().await.expect("maintained");
    }
}

fn evolve_for_readers(batch: &mut crate::table::UpsertBatch) {
    use ColumnType as T;
    let added = [
        ("local", T::Timestamp),
        ("price", T::Decimal { precision: 38, scale: 10 }),
        ("tags", T::List(Box::new(T::Text))),
    ];
    for (name, column_type) in added {
        let (name, source_name) = (name.to_owned(), name.to_uppercase());
        batch.schema.columns.push(Column { name, source_name, column_type, id: 0 });
    }
    for change in &mut batch.changes {
        let Value::Long(id) = change.key[0] else { panic!("ids are numbers") };
        let values = [
            Value::Timestamp(1_700_000_000_123_456 + id),
            Value::Decimal { unscaled: i128::from(id) * 10i128.pow(27) + 1, scale: 10 },
            Value::List(vec![Value::Text(format!("tag {id}")), Value::Null]),
        ];
        change.row.iter_mut().for_each(|row| row.extend(values.clone()));
    }
}

fn bronze_row(schema: &TableSchema, offset: i64) -> Vec<Value> {
    let day = 20_000 + i32::try_from(offset / 700).expect("small");
    let header = Value::Struct(vec![Value::Text("h".to_owned()), Value::Binary(vec![0, 255])]);
    let value = |name: &str| match name {
        "_topic" => Value::Text(TOPIC.to_owned()),
        "_kafka_partition" => Value::Long(0),
        "_offset" => Value::Long(offset),
        "_timestamp" => Value::TimestampTz(i64::from(day) * 86_400_000_000 + offset),
        "_date" => Value::Date(day),
        "headers" => Value::List(vec![header.clone()]),
        _ => Value::Null,
    };
    schema.columns.iter().map(|column| value(&column.name)).collect()
}

/// Needs `LAKEBED_READBACK`, the location of a silver table that others have written to: prints
/// what we read.
#[tokio::test]
#[ignore = "reads a table that another program has changed"]
async fn a_table_that_others_have_changed() {
    let location = std::env::var("LAKEBED_READBACK").expect("LAKEBED_READBACK names a table");
    let storage = Storage::open(&location, &S3Options::default()).expect("opens");
    let log = open(&storage, &options()).await.expect("opens").expect("is there");
    let rows = all_rows(&storage, log.head()).await;
    let ids = rows.iter().map(|row| match row[0] {
        Value::Long(id) => id,
        _ => panic!("ids are numbers"),
    });
    eprintln!("version {}: {} rows, sum {}", log.head().version, rows.len(), ids.sum::<i64>());
    let mut silver = UpsertTable::open(Box::new(log), Default::default()).await.expect("opens");
    let next = silver.checkpoint().next(&tp(0)).expect("progress").offset;
    commit(&mut silver, batch(next, &[(5000, Some("lakebed")), (5001, Some("new"))])).await;
    silver.maintain().await.expect("maintained");
    eprintln!("{} rows after an upsert of one old and one new", silver.head().live_rows());
}
