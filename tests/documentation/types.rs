//! The tables of types: made into real tables of both formats, whose metadata is compared with them.

use std::collections::{BTreeMap, BTreeSet};

use lakebed_schemas::change_event::{Decoded, Row};
use lakebed_schemas::column_override::ColumnOverride;
use lakebed_schemas::config::{Deletes, OutOfRange, TableFormat};
use lakebed_schemas::decoder::{DecodeOptions, Decoder, RecordRef};
use lakebed_schemas::evolve::{self, Rules};
use lakebed_sinks::log::{Retention, TableOptions};
use lakebed_sinks::storage::{S3Options, Storage};
use serde_json::{Value as Json, json};

use crate::recorded::recording::{self, Recording};

const TYPES: &str = include_str!("../../docs/types.md");

/// Rows of every table that says how something is sent: its cells, `sent as` third.
fn rows() -> Vec<Vec<&'static str>> {
    rows_of(TYPES)
}

fn rows_of(text: &'static str) -> Vec<Vec<&'static str>> {
    let mut rows = Vec::new();
    let mut lines = text.lines();
    while let Some(line) = lines.next() {
        if !line.contains("| sent as | Iceberg | Delta | Athena |") {
            continue;
        }
        let table = lines.by_ref().skip(1).take_while(|line| line.starts_with('|'));
        let cells = |line: &'static str| {
            let line = line.trim_start_matches('|').trim_end_matches('|');
            line.split('|').map(str::trim).collect::<Vec<_>>()
        };
        rows.extend(table.map(cells));
    }
    rows
}

/// The schema that `bytes connect.Decimal(10,2)` stands for.
fn schema(sent_as: &str) -> Json {
    let (own, items) = match sent_as.split_once(" of ") {
        Some((own, items)) => (own, Some(schema(items))),
        None => (sent_as, sent_as.strip_prefix("array of ").map(schema)),
    };
    let (base, name) = own.split_once(' ').unwrap_or((own, ""));
    let mut schema = json!({ "type": base, "optional": true });
    if let Some(items) = items {
        schema["items"] = items;
    }
    if name.chars().all(|c| c.is_ascii_uppercase() || c == ' ') {
        if !name.is_empty() {
            schema["parameters"] = json!({ "__debezium.source.column.type": name });
        }
        return schema;
    }
    let (name, arguments) = name.split_once('(').unwrap_or((name, ""));
    let full = [
        ("time.", "io.debezium.time."),
        ("data.", "io.debezium.data."),
        ("connect.", "org.apache.kafka.connect.data."),
    ];
    let full = full.iter().find_map(|(short, full)| Some((full, name.strip_prefix(short)?)));
    let (prefix, rest) = full.unwrap_or_else(|| panic!("`{name}` begins with no known prefix"));
    schema["name"] = format!("{prefix}{rest}").into();
    if let Some((precision, scale)) = arguments.trim_end_matches(')').split_once(',') {
        schema["parameters"] = json!({ "scale": scale });
        if precision != "?" {
            schema["parameters"]["connect.decimal.precision"] = precision.into();
        }
    }
    schema
}

/// A snapshot's record with a NULL in each column.
fn record(sent_as: &[&str]) -> String {
    let mut fields = vec![json!({ "type": "int64", "optional": false, "field": "id" })];
    for (index, sent_as) in sent_as.iter().enumerate() {
        let mut field = schema(sent_as);
        field["field"] = format!("c{index}").into();
        fields.push(field);
    }
    let after = json!({ "type": "struct", "fields": fields, "optional": true, "field": "after" });
    json!({
        "schema": { "type": "struct", "fields": [after] },
        "payload": { "op": "r", "after": { "id": 1 }, "source": { "connector": "any" } },
    })
    .to_string()
}

/// The row after of a record that is decoded with these columns.
fn row(record: &[u8], columns: BTreeMap<String, ColumnOverride>) -> Row {
    let mut decoder = Decoder::new(DecodeOptions { columns, ..DecodeOptions::default() });
    let decoded = decoder.decode(&RecordRef {
        topic: "t",
        partition: 0,
        offset: 0,
        timestamp_ms: None,
        key: None,
        value: Some(record),
        headers: &[],
    });
    match decoded {
        Decoded::Change(event) => event.after.expect("a row"),
        other => panic!("{other:?}"),
    }
}

/// Types of the columns `c0`, `c1`, … in the metadata of a table made for such a record.
async fn columns_of(record: &str, format: TableFormat) -> Vec<String> {
    let shape = row(record.as_bytes(), BTreeMap::new()).shape;
    let rules = Rules {
        format,
        out_of_range: OutOfRange::Halt,
        deletes: Deletes::Hard,
        topic_in_key: false,
    };
    let schema = evolve::create(&shape, &["id".to_owned()], &[], &rules).expect("a table");
    let folder = tempfile::tempdir().expect("folder");
    let storage =
        Storage::open(&folder.path().to_string_lossy(), &S3Options::default()).expect("storage");
    let options = TableOptions {
        sink_id: "lakebed".to_owned(),
        cluster: None,
        owner: "test".to_owned(),
        retention: Retention::default(),
        catalog: Default::default(),
        mode: Default::default(),
    };
    let format = lakebed::tables::format(format);
    let made = lakebed_sinks::create_or_open(format, &storage, &options, &schema).await;
    drop(made.expect("the table is made"));
    let fields = match format {
        lakebed_sinks::Format::Iceberg => {
            let metadata = read(&folder.path().join("metadata/v1.metadata.json"));
            let metadata: Json = serde_json::from_str(&metadata).expect("JSON");
            metadata["schemas"][0]["fields"].clone()
        }
        lakebed_sinks::Format::Delta => {
            let log = read(&folder.path().join("_delta_log/00000000000000000000.json"));
            let actions = log.lines().map(|line| serde_json::from_str::<Json>(line).expect("JSON"));
            let mut schemas =
                actions.filter_map(|a| Some(a["metaData"]["schemaString"].as_str()?.to_owned()));
            let schema: Json =
                serde_json::from_str(&schemas.next().expect("a schema")).expect("JSON");
            schema["fields"].clone()
        }
    };
    let is_column = |field: &&Json| field["name"].as_str().is_some_and(|n| n.starts_with('c'));
    let fields = fields.as_array().expect("fields").iter().filter(is_column);
    fields.map(|field| type_text(&field["type"])).collect()
}

fn read(path: &std::path::Path) -> String {
    std::fs::read_to_string(path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

/// A type of either format's metadata as the document writes it.
fn type_text(json: &Json) -> String {
    let element = json.get("element").or_else(|| json.get("elementType"));
    match (json.as_str(), element) {
        (Some(name), _) => name.replace(", ", ","),
        (None, Some(element)) => {
            format!("{}<{}>", json["type"].as_str().expect("a name"), type_text(element))
        }
        (None, None) => panic!("{json}"),
    }
}

/// What Athena calls a column: its own guide's tables of types of both formats.
fn athena(column: &str, format: TableFormat) -> String {
    let inner = ["list<", "array<"].iter().find_map(|open| column.strip_prefix(open));
    if let Some(inner) = inner.and_then(|inner| inner.strip_suffix('>')) {
        return format!("array({})", athena(inner, format));
    }
    match (column, format) {
        ("long", _) => "bigint",
        ("integer", _) => "int",
        ("string", _) => "varchar",
        ("binary", _) => "varbinary",
        ("timestamptz", TableFormat::Iceberg) | ("timestamp", TableFormat::Delta) => {
            "timestamp with time zone"
        }
        ("timestamp_ntz", _) => "timestamp",
        (same, _) => same,
    }
    .to_owned()
}

#[tokio::test]
async fn the_tables_of_types_are_what_the_program_makes() {
    let rows = rows();
    assert!(rows.len() > 120, "{}", rows.len());
    let sent_as: Vec<&str> = rows.iter().map(|row| row[2].trim_matches('`')).collect();
    let record = record(&sent_as);
    let iceberg = columns_of(&record, TableFormat::Iceberg).await;
    let delta = columns_of(&record, TableFormat::Delta).await;
    assert_eq!((iceberg.len(), delta.len()), (rows.len(), rows.len()));
    let mut wrong = Vec::new();
    for (row, (iceberg, delta)) in rows.iter().zip(iceberg.iter().zip(&delta)) {
        let ours = athena(iceberg, TableFormat::Iceberg);
        let deltas = athena(delta, TableFormat::Delta);
        let both = if ours == deltas { ours } else { format!("{ours} ({deltas})") };
        let expected = [iceberg.as_str(), delta.as_str(), both.as_str()];
        if row.get(3..) != Some(&expected[..]) {
            let start = row[..3].join(" | ");
            wrong.push(format!("| {start} | {} |", expected.join(" | ")).replace("|  |", "| |"));
        }
    }
    assert!(wrong.is_empty(), "these rows of docs/types.md have to be:\n{}", wrong.join("\n"));
}

/// What the document says under `columns`, by how something is sent.
fn entries() -> BTreeMap<&'static str, (&'static str, Option<&'static str>)> {
    let (_, table) = TYPES.split_once("| sent as | under `columns` |").expect("the table is there");
    let lines = table.lines().skip(2).take_while(|line| line.starts_with('|'));
    let mut entries = BTreeMap::new();
    for line in lines {
        let (sent_as, said) = line.trim_matches('|').split_once('|').expect("two cells");
        let said = said.trim().trim_matches('`');
        let said = match said.split_once(", encoding: ") {
            Some((column_type, encoding)) => (column_type, Some(encoding)),
            None => (said, None),
        };
        entries.extend(sent_as.split("; ").map(|sent_as| (sent_as.trim().trim_matches('`'), said)));
    }
    entries
}

/// The entry for a field of a recorded schema.
fn said_of(field: &Json) -> ColumnOverride {
    let sent_as = sent_as(field);
    if !sent_as.ends_with("connect.Decimal") {
        return said(&sent_as);
    }
    // The document has examples of decimals; here are others. Arrays have them in their items.
    let parameters = field.get("items").unwrap_or(field)["parameters"].clone();
    let scale = text(&parameters["scale"]);
    let precision = parameters["connect.decimal.precision"].as_str().unwrap_or("38");
    let decimal = format!("decimal({precision},{scale})");
    let column_type = match field.get("items") {
        Some(_) => format!("list<{decimal}>"),
        None => decimal,
    };
    ColumnOverride::parse(&column_type, None, None).expect("a decimal")
}

/// The entry for something that is sent like this, array or not.
fn said(sent_as: &str) -> ColumnOverride {
    let entries = entries();
    let element = sent_as.strip_prefix("array of ").filter(|_| !entries.contains_key(sent_as));
    let (column_type, encoding) = entries
        .get(element.unwrap_or(sent_as))
        .unwrap_or_else(|| panic!("`{sent_as}` is not in the table of `columns`"));
    let column_type = match element {
        Some(_) => format!("list<{column_type}>"),
        None => (*column_type).to_owned(),
    };
    ColumnOverride::parse(&column_type, None, *encoding).expect(sent_as)
}

#[test]
fn under_columns_everything_gets_the_column_that_its_schema_would_give_it() {
    let rows = rows();
    let sent_as: Vec<&str> = rows.iter().map(|row| row[2].trim_matches('`')).collect();
    let shape = row(record(&sent_as).as_bytes(), BTreeMap::new()).shape;
    for (sent_as, field) in sent_as.iter().zip(&shape.fields[1..]) {
        let column_type = field.column_type.as_ref().expect("typed");
        assert_eq!(said(sent_as).column_type(), *column_type, "{sent_as}");
    }
}

#[test]
fn a_recorded_row_without_its_schema_is_the_same_once_its_columns_are_said() {
    if !recording::shared().join("golden").exists() {
        eprintln!("skipped: the recordings are not there; set LAKEBED_SHARED");
        return;
    }
    let mut values = 0;
    for name in [
        "postgres/json-schema",
        "postgres/modes-string",
        "postgres/modes-connect",
        "mariadb/json-schema",
        "mariadb/modes",
        "mariadb/modes-connect",
    ] {
        for record in Recording::read(name).records {
            let value = record.value.as_deref().unwrap_or(b"null");
            let json: Json = serde_json::from_slice(value).expect("JSON");
            let is_row = json["payload"]["op"].is_string() && !json["payload"]["after"].is_null();
            if !is_row {
                continue;
            }
            let members = json["schema"]["fields"].as_array().into_iter().flatten();
            let after = members.filter(|member| member["field"] == "after");
            let fields = after.flat_map(|row| row["fields"].as_array().into_iter().flatten());
            let columns = fields.map(|field| (text(&field["field"]), said_of(field))).collect();
            // As it was sent, digit for digit, and not as this parser would write it again.
            let bytes = std::str::from_utf8(value).expect("UTF-8");
            let (_, payload) = bytes.split_once(",\"payload\":").expect("a payload");
            let payload = payload.strip_suffix('}').expect("it ends");
            let described = row(value, BTreeMap::new());
            let said = row(payload.as_bytes(), columns);
            assert_eq!(format!("{said:?}"), format!("{described:?}"), "{name} {}", record.topic);
            values += described.values.len();
        }
    }
    assert_eq!(values, 9_378);
}

fn text(json: &Json) -> String {
    json.as_str().expect("a text").to_owned()
}

/// How a field of a recorded schema is sent, without parameters.
fn sent_as(field: &Json) -> String {
    let base = field["type"].as_str().expect("a type");
    let name = field["name"].as_str().unwrap_or_default();
    let name = name.replace("org.apache.kafka.connect.data.", "connect.");
    let own = format!("{base} {}", name.replace("io.debezium.", ""));
    match field.get("items") {
        Some(items) => format!("{} of {}", own.trim_end(), sent_as(items)),
        None => own.trim_end().to_owned(),
    }
}

#[test]
fn whatever_a_recording_sends_stands_in_the_table_of_its_database() {
    if !recording::shared().join("golden").exists() {
        eprintln!("skipped: the recordings are not there; set LAKEBED_SHARED");
        return;
    }
    for (heading, recordings) in [
        (
            "## PostgreSQL",
            ["json-schema", "modes-string", "modes-connect"].map(|r| format!("postgres/{r}")),
        ),
        (
            "## MySQL and MariaDB",
            ["json-schema", "modes", "modes-connect"].map(|r| format!("mariadb/{r}")),
        ),
    ] {
        let (_, section) = TYPES.split_once(heading).expect("the section is there");
        let section = section.split_once("\n## ").map_or(section, |(section, _)| section);
        let bare = |cell: &str| {
            let cell = cell.trim_matches('`').trim_end_matches(" BIGINT UNSIGNED");
            cell.split('(').next().unwrap_or(cell).to_owned()
        };
        let listed: BTreeSet<String> = rows_of(section).iter().map(|row| bare(row[2])).collect();
        let mut seen = BTreeSet::new();
        for record in recordings.iter().flat_map(|name| Recording::read(name).records) {
            let value = record.value.as_deref().unwrap_or(b"null");
            let json: Json = serde_json::from_slice(value).expect("JSON");
            let members = json["schema"]["fields"].as_array().into_iter().flatten();
            let rows = members.filter(|member| member["field"] == "after");
            let fields = rows.flat_map(|row| row["fields"].as_array().into_iter().flatten());
            seen.extend(fields.map(sent_as));
        }
        assert!(seen.len() > 20, "{heading}: {seen:?}");
        let missing: Vec<_> = seen.difference(&listed).collect();
        assert!(missing.is_empty(), "{heading} of docs/types.md lacks {missing:?}");
    }
}
