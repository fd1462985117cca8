//! Columns left out or masked: no file of the lake holds what they held.

use std::path::Path;

use lakebed_sinks::table::reader;

use super::world::{Setting, World, message, metric};
use super::{BRONZE, SILVER, tp};
use crate::pipeline::RunEnd;
use crate::source::Message;
use futures::StreamExt;

/// What nobody may see, in columns, keys, headers, statements and broken records.
const SECRET: &str = "Zq7Zq7Zq7Zq7";

const ENTRY: &str = "    columns: { ssn: { mask: hmac-sha256 }, card: { mask: last4 }, note: { mask: null }, photo: { exclude: true } }\n";

fn setting(file: &'static str) -> Setting {
    Setting { entry: ENTRY, file, ..Setting::default() }
}

fn event(offset: i64, op: &str, row: &str) -> Message {
    let (before, after) = if op == "d" { (row, "null") } else { ("null", row) };
    let value = format!(
        r#"{{"before":{before},"after":{after},"source":{{"connector":"mariadb","ts_ms":1,"query":"{SECRET}"}},"op":"{op}","ts_ms":1}}"#
    );
    let key = format!(r#"{{"ssn":"{SECRET}"}}"#);
    let mut message = message(&tp(0), offset, 1, Some(key.clone()), Some(value));
    message.headers = vec![
        ("__debezium.newkey".to_owned(), Some(key.into_bytes())),
        ("mine".to_owned(), Some(SECRET.as_bytes().to_vec())),
        ("__debezium.context.taskId".to_owned(), Some(b"0".to_vec())),
    ];
    message
}

fn row(more: &str) -> String {
    format!(
        r#"{{"ssn":"{SECRET}","card":"{SECRET}4321","note":"{SECRET}","photo":"{SECRET}"{more}}}"#
    )
}

fn files(folder: &Path, found: &mut Vec<(String, Vec<u8>)>) {
    for entry in std::fs::read_dir(folder).expect("folder") {
        let path = entry.expect("entry").path();
        if path.is_dir() {
            files(&path, found);
        } else {
            found.push((path.display().to_string(), std::fs::read(&path).expect("file")));
        }
    }
}

/// The cells of a table as text: files are compressed.
async fn cells(world: &World, table: &str) -> String {
    let head = world.head(table).await.expect("table");
    let lake = crate::tables::open_lake(&world.config).await.expect("lake");
    let storage = lake.storage.child(&table.replace('.', "/"));
    let columns: Vec<usize> = (0..head.schema.columns.len()).collect();
    let batches: Vec<_> = reader::scan(&storage, &head, &columns).collect().await;
    let batches: Vec<_> = batches.into_iter().map(|batch| batch.expect("batch")).collect();
    arrow::util::pretty::pretty_format_batches(&batches).expect("text").to_string()
}

#[tokio::test(flavor = "multi_thread")]
async fn nothing_of_the_lake_holds_what_is_hidden() {
    let folder = tempfile::tempdir().expect("folder");
    let file = "masking: { hmac_key: \"${env:K}\" }\nbad_records: { dead_letter_topic: letters }\n";
    let world = World::start(&folder, &setting(file));
    world.assign(1, &[tp(0)]).await;
    world.read(vec![
        event(0, "c", &row("")),
        event(1, "u", &row(r#","added":1"#)),
        message(&tp(0), 2, 1, None, Some(format!(r#"{{"ts_ms":1,"x":"{SECRET}"#))),
    ]);
    // Without a producer for dead letters the batch is not written: what is bad is left out here.
    world
        .until_metric(&format!("lakebed_bad_records_total{{table=\"{SILVER}\"}}"), |n| n >= 1.0)
        .await;
    let _ = world.stop().await;
    let world = World::start(&folder, &setting("masking: { hmac_key: \"${env:K}\" }\n"));
    world.assign(1, &[tp(0)]).await;
    world.read(vec![
        event(0, "c", &row("")),
        event(1, "u", &row(r#","added":1"#)),
        event(2, "d", &row("")),
        message(&tp(0), 3, 1, Some(format!(r#"{{"ssn":"{SECRET}"}}"#)), None),
        message(&tp(0), 4, 1, None, Some(r#"{"ts_ms":1}"#.to_owned())),
        event(5, "c", &row("")),
    ]);
    world.stands_at(SILVER, &tp(0), 6).await;
    world.stands_at(BRONZE, &tp(0), 6).await;
    let heartbeats =
        format!("lakebed_other_records_total{{table=\"{SILVER}\",kind=\"heartbeat\"}}");
    world.until_metric(&heartbeats, |count| count == 1.0).await;

    let silver = cells(&world, SILVER).await;
    assert!(silver.contains("****4321") && !silver.contains("photo"), "{silver}");
    assert_eq!(world.head(SILVER).await.expect("silver").live_rows(), 1, "one key, one digest");
    let bronze = cells(&world, BRONZE).await;
    let mut found = Vec::new();
    files(folder.path(), &mut found);
    assert!(found.len() > 5);
    found.push(("silver".to_owned(), silver.into_bytes()));
    found.push(("bronze".to_owned(), bronze.into_bytes()));
    found.push(("metrics".to_owned(), world.telemetry.metrics.render().into_bytes()));
    let hex: String = SECRET.bytes().map(|byte| format!("{byte:02x}")).collect();
    for (name, bytes) in &found {
        for form in [SECRET, &hex] {
            let held = bytes.windows(form.len()).any(|window| window == form.as_bytes());
            assert!(!held, "{name} holds the value");
        }
    }
    let bad = format!("lakebed_bad_records_total{{table=\"{SILVER}\"}}");
    assert_eq!(metric(&world.telemetry, &bad), None);
    assert_eq!(world.stop().await, RunEnd::Done);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_key_that_would_lose_its_identity_halts_the_table() {
    let folder = tempfile::tempdir().expect("folder");
    let entry =
        "    columns: { ssn: { mask: last4 } }\n    bad_records: { dead_letter_topic: letters }\n";
    let world = World::start(&folder, &Setting { entry, ..Setting::default() });
    world.assign(1, &[tp(0)]).await;
    world.read(vec![event(0, "c", &row(""))]);
    let halted = format!("lakebed_table_state{{table=\"{SILVER}\",state=\"halted\"}}");
    world.until_metric(&halted, |value| value == 1.0).await;
    assert!(world.head(SILVER).await.is_none());
    assert!(matches!(world.ended().await, RunEnd::Halted(_)));
}

#[tokio::test(flavor = "multi_thread")]
async fn too_many_new_columns_halt_the_table_and_are_counted() {
    let folder = tempfile::tempdir().expect("folder");
    let file = "limits: { new_columns_per_hour: 2 }\n";
    let world = World::start(&folder, &Setting { file, ..Setting::default() });
    world.assign(1, &[tp(0)]).await;
    let grown = |offset: i64, row: &str| {
        let value = format!(
            r#"{{"before":null,"after":{row},"source":{{"connector":"mariadb","ts_ms":1}},"op":"c"}}"#
        );
        message(&tp(0), offset, 1, Some(r#"{"id":1}"#.to_owned()), Some(value))
    };
    world.read(vec![grown(0, r#"{"id":1,"a":1,"b":1,"c":1,"d":1}"#)]);
    world.read(vec![grown(1, r#"{"id":1,"e":1,"f":1}"#), grown(2, r#"{"id":1,"g":1}"#)]);
    let limit = format!(
        "lakebed_limits_exceeded_total{{table=\"{SILVER}\",limit=\"new_columns_per_hour\"}}"
    );
    world.until_metric(&limit, |value| value >= 1.0).await;
    world.stands_at(SILVER, &tp(0), 2).await;
    assert!(matches!(world.ended().await, RunEnd::Halted(_)));
}

#[tokio::test(flavor = "multi_thread")]
async fn columns_that_an_earlier_process_added_count_as_new_for_their_hour() {
    for format in ["    format: iceberg\n", "    format: delta\n"] {
        let folder = tempfile::tempdir().expect("folder");
        let file = "limits: { new_columns_per_hour: 2 }\n";
        let setting = Setting { file, entry: format, ..Setting::default() };
        let grown = |offset: i64, row: &str| {
            let value = format!(
                r#"{{"before":null,"after":{row},"source":{{"connector":"mariadb","ts_ms":1}},"op":"c"}}"#
            );
            message(&tp(0), offset, 1, Some(r#"{"id":1}"#.to_owned()), Some(value))
        };
        let rows = [r#"{"id":1,"a":1}"#, r#"{"id":1,"b":1}"#, r#"{"id":1,"c":1}"#];
        for (offset, row) in (0..).zip(rows) {
            let world = World::start(&folder, &setting);
            world.assign(1, &[tp(0)]).await;
            world.read(vec![grown(offset, row)]);
            world.stands_at(SILVER, &tp(0), offset + 1).await;
            assert_eq!(world.stop().await, RunEnd::Done);
        }
        let world = World::start(&folder, &setting);
        world.assign(1, &[tp(0)]).await;
        world.read(vec![grown(3, r#"{"id":1,"b":2,"c":2}"#), grown(4, r#"{"id":1,"d":1}"#)]);
        let RunEnd::Halted(reasons) = world.ended().await else { panic!("goes on") };
        let reasons = format!("{reasons:?}");
        assert!(reasons.contains("@4: 3 new columns within an hour"), "{reasons}");
    }
}
