//! `show`, `status` and `check` on tables with deletes, in both formats.

use std::collections::BTreeMap;
use std::path::Path;

use lakebed_schemas::column::{Column, ColumnType, TableSchema};
use lakebed_schemas::partition::PartitionField;
use lakebed_schemas::position::{CheckpointDelta, TopicPartition};
use lakebed_schemas::value::Value;
use lakebed_sinks::Format;
use lakebed_sinks::log::{Retention, TableOptions};
use lakebed_sinks::storage::{S3Options, Storage};
use lakebed_sinks::table::upsert::UpsertTable;
use lakebed_sinks::table::{KeyChange, UpsertBatch, WriteOptions, Written};

use super::{config, folder_with, run};

pub(super) const FORMATS: [(Format, &str); 2] =
    [(Format::Iceberg, "iceberg"), (Format::Delta, "delta")];
pub(super) const TOPIC: &str = "shop.public.orders";

fn schema(partition_by: Vec<PartitionField>) -> TableSchema {
    let columns = [
        ("id", ColumnType::Long),
        ("name", ColumnType::Text),
        ("price", ColumnType::Decimal { precision: 38, scale: 2 }),
        ("at", ColumnType::TimestampTz),
        ("raw", ColumnType::Binary),
    ];
    let column = |(name, column_type): (&str, ColumnType)| Column {
        name: name.to_owned(),
        source_name: name.to_owned(),
        column_type,
        id: 0,
    };
    TableSchema {
        columns: columns.into_iter().map(column).collect(),
        key: vec!["id".to_owned()],
        partition_by,
    }
}

fn change(id: i64, row: Option<(&str, i128)>) -> KeyChange {
    let row = row.map(|(name, cents)| {
        let at = Value::TimestampTz(1_700_000_000_000_000 + id);
        let raw = if id % 2 == 0 { Value::Null } else { Value::Binary(vec![0xab, 0]) };
        let price = Value::Decimal { unscaled: cents, scale: 2 };
        vec![Value::Long(id), Value::Text(name.to_owned()), price, at, raw]
    });
    KeyChange {
        topic_partition: TopicPartition::new(TOPIC, 0),
        key: vec![Value::Long(id)],
        row,
        inherit: None,
    }
}

/// Three rows, then one changed and one deleted: versions before and after.
async fn make(lake: &Path, format: Format, partition_by: Vec<PartitionField>) -> [i64; 2] {
    let place = lake.join("silver/public_orders");
    let place = place.to_str().expect("UTF-8");
    let storage = Storage::open(place, &S3Options::default()).expect("storage");
    let options = TableOptions {
        sink_id: "lakebed".to_owned(),
        cluster: None,
        owner: "test".to_owned(),
        retention: Retention::default(),
        catalog: Default::default(),
        mode: Default::default(),
    };
    let schema = schema(partition_by);
    let log = lakebed_sinks::create_or_open(format, &storage, &options, &schema).await;
    let log = log.expect("created");
    let mut table = UpsertTable::open(log, WriteOptions::default()).await.expect("opened");
    let batches = [
        vec![
            change(1, Some(("Ann, \"the\" first", 1))),
            change(2, Some(("Bo", -1250))),
            change(3, Some(("Cy", 300))),
        ],
        vec![change(2, Some(("Bo", 99))), change(3, None)],
    ];
    let mut versions = Vec::new();
    for (at, changes) in batches.into_iter().enumerate() {
        let mut delta = CheckpointDelta::default();
        let at = at as i64;
        delta.extend(&TopicPartition::new(TOPIC, 0), at * 10, at * 10 + 10, None);
        let batch = UpsertBatch {
            schema: table.head().schema.clone(),
            changes,
            delta,
            freshness: Some(1_700_000_000_000_000),
            ..UpsertBatch::default()
        };
        match table.write(batch).await.expect("written") {
            Written::Committed { version, .. } => versions.push(version),
            Written::Overtaken => panic!("nobody else writes"),
        }
    }
    versions.try_into().expect("two batches")
}

fn made(format: Format, name: &str) -> (tempfile::TempDir, [i64; 2]) {
    let text =
        config("127.0.0.1:1", &[TOPIC]).replace("format: iceberg", &format!("format: {name}"));
    let folder = folder_with(&text);
    let versions = make_in(folder.path(), format, Vec::new());
    (folder, versions)
}

/// The silver table of [`TOPIC`] in the lake of a folder: its versions.
pub(super) fn make_in(
    folder: &Path,
    format: Format,
    partition_by: Vec<PartitionField>,
) -> [i64; 2] {
    let runtime = tokio::runtime::Runtime::new().expect("runtime");
    runtime.block_on(make(&folder.join("lake"), format, partition_by))
}

#[test]
fn show_prints_live_rows_exactly_in_every_form() {
    for (format, name) in FORMATS {
        let (folder, [first, _]) = made(format, name);
        let show = |args: &[&str]| {
            let (code, stdout, stderr) = run(folder.path(), &[&["show"], args].concat());
            assert_eq!((code, stderr.as_str()), (0, ""), "{name} {args:?}");
            stdout
        };
        let sorted = |text: String| {
            let mut lines: Vec<String> = text.lines().map(str::to_owned).collect();
            lines.sort();
            lines
        };

        assert_eq!(show(&["silver.public_orders", "--count"]), "2\n");
        assert_eq!(show(&["public_orders", "--count", "--where", "name=Bo"]), "1\n");
        assert_eq!(
            sorted(show(&[
                "public_orders",
                "--output",
                "csv",
                "--columns",
                "id,name,price,at,raw"
            ])),
            [
                "1,\"Ann, \"\"the\"\" first\",0.01,2023-11-14T22:13:20.000001Z,ab00",
                "2,Bo,0.99,2023-11-14T22:13:20.000002Z,",
                "id,name,price,at,raw",
            ],
            "{name}"
        );
        assert_eq!(
            show(&[
                "public_orders",
                "--output",
                "json",
                "--columns",
                "price,id",
                "--where",
                "id=2"
            ]),
            "{\"id\":2,\"price\":\"0.99\"}\n"
        );
        let nulls = ["public_orders", "--columns", "id", "--output", "csv", "--where", "raw=NULL"];
        assert_eq!(show(&nulls), "id\n2\n");
        let table = show(&["public_orders", "--limit", "1"]);
        assert!(table.contains("| id | name "), "{table}");
        assert!(table.ends_with("the first 1 rows; --limit 0 shows all\n"), "{table}");
        assert_eq!(show(&["public_orders", "--where", "id=77"]), "no rows\n");

        let first = first.to_string();
        assert_eq!(show(&["public_orders", "--count", "--version", &first]), "3\n");
    }
}

#[test]
fn a_column_that_is_not_there_is_named_with_those_that_are() {
    let (folder, _) = made(Format::Iceberg, "iceberg");
    let (code, _, stderr) = run(folder.path(), &["show", "public_orders", "--columns", "nme"]);
    assert_eq!(code, 2);
    assert_eq!(stderr, "error: there is no column `nme`; there are id, name, price, at, raw\n");
    let (code, _, stderr) = run(folder.path(), &["show", "public_orders", "--version", "77"]);
    assert_eq!(code, 1, "{stderr}");
}

#[test]
fn status_tells_rows_offsets_and_freshness_without_a_broker() {
    for (format, name) in FORMATS {
        let (folder, [_, last]) = made(format, name);

        let (code, stdout, _) = run(folder.path(), &["status", "--output", "json"]);

        assert_eq!(code, 0);
        let status: serde_json::Value = serde_json::from_str(&stdout).expect("JSON");
        assert!(status["broker_error"].is_string());
        let tables: BTreeMap<&str, &serde_json::Value> = status["tables"]
            .as_array()
            .expect("tables")
            .iter()
            .map(|table| (table["table"].as_str().expect("name"), table))
            .collect();
        let silver = tables["silver.public_orders"];
        assert_eq!((&silver["format"], &silver["version"]), (&name.into(), &last.into()));
        assert_eq!((&silver["rows"], &silver["dead_rows"]), (&2.into(), &2.into()));
        assert_eq!(silver["files"], 2);
        assert_eq!(silver["newest_change"], "2023-11-14T22:13:20.000000Z");
        assert!(silver["freshness_seconds"].as_f64().expect("seconds") > 9e7);
        assert_eq!(silver["offsets"][0]["next"], 20);
        assert_eq!(silver["offsets"][0]["topic"], TOPIC);
        assert_eq!(silver["lag"], serde_json::Value::Null);
        assert_eq!(tables["bronze.public_orders"]["version"], serde_json::Value::Null);
    }
}

fn copy(from: &Path, to: &Path) {
    std::fs::create_dir_all(to).expect("folder");
    for entry in std::fs::read_dir(from).expect("listed") {
        let (path, name) = entry.map(|entry| (entry.path(), entry.file_name())).expect("entry");
        if path.is_dir() {
            copy(&path, &to.join(name));
        } else {
            std::fs::copy(&path, to.join(name)).expect("copied");
        }
    }
}

#[test]
fn check_of_all_tables_goes_on_after_one_that_cannot_be_read() {
    let (folder, _) = made(Format::Iceberg, "iceberg");
    let silver = folder.path().join("lake/silver");
    std::fs::create_dir_all(silver.join("a_table_to_come/_lakebed")).expect("folder");
    let check = || run(folder.path(), &["check", "--all-tables"]);
    let good = "ok       table `silver.public_orders` (iceberg, 3 of 3 files opened)\n";
    assert_eq!(check(), (0, format!("{good}Athena can query 1 tables\n"), String::new()));

    std::fs::create_dir_all(silver.join("damaged/metadata")).expect("folder");
    std::fs::write(silver.join("damaged/metadata/v1.metadata.json"), "{").expect("write");
    for log in ["metadata", "_delta_log"] {
        let inside = silver.join("of_two_kinds").join(log);
        std::fs::create_dir_all(&inside).expect("folder");
        std::fs::write(inside.join("x"), "").expect("write");
    }

    let (code, stdout, stderr) = check();

    let lines: Vec<&str> = stdout.lines().collect();
    assert_eq!(lines.len(), 3, "{stdout}");
    assert!(
        lines[0].starts_with("BROKEN   table `silver.damaged` cannot be looked at: "),
        "{stdout}"
    );
    assert!(lines[1].starts_with("BROKEN   table `silver.of_two_kinds` cannot "), "{stdout}");
    assert_eq!(format!("{}\n", lines[2]), good);
    assert_eq!((code, stderr.as_str()), (1, "error: 2 of 3 tables break rules\n"));
}

#[test]
fn check_of_all_tables_names_a_copy_and_the_table_that_it_says_to_be() {
    let (folder, _) = made(Format::Iceberg, "iceberg");
    let silver = folder.path().join("lake/silver");
    copy(&silver.join("public_orders"), &silver.join("copied"));

    let (code, stdout, stderr) = run(folder.path(), &["check", "--all-tables"]);

    let about = |table: &str| {
        let start = format!("BROKEN   table `silver.{table}`");
        stdout.lines().filter(|line| line.starts_with(&start)).collect::<Vec<_>>()
    };
    let copied = about("copied");
    assert_eq!(copied.len(), 2, "{stdout}");
    assert!(copied[0].contains("`location` of the metadata: `file://"), "{stdout}");
    assert!(copied[1].contains(": another table lies at `file://"), "{stdout}");
    let taken = about("public_orders");
    assert!(taken.len() == 1 && taken[0].contains(": another table lies at `file://"), "{stdout}");
    assert_eq!((code, stderr.as_str()), (1, "error: 2 of 2 tables break rules\n"));
}
