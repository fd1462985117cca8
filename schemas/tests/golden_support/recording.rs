//! Recordings and source states as files.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::Command;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use lakebed_schemas::config::{IdForm, IdSpace};
use lakebed_schemas::wire::{Encoding, Framing, SchemaId, SchemaText, Wire};
use serde_json::Value as Json;

/// The folder that holds `golden/`: `LAKEBED_SHARED`, or `shared` beside one of the folders that
/// this crate lies in.
pub(crate) fn shared() -> PathBuf {
    if let Ok(named) = std::env::var("LAKEBED_SHARED") {
        return PathBuf::from(named);
    }
    let places = Path::new(env!("CARGO_MANIFEST_DIR")).ancestors().skip(1);
    let mut places = places.map(|folder| folder.join("shared"));
    places.find(|folder| folder.join("golden").exists()).unwrap_or_default()
}

pub(crate) fn golden(name: &str) -> PathBuf {
    let path = shared().join("golden").join(name);
    assert!(
        path.exists(),
        "{} is not there: set LAKEBED_SHARED to the folder that holds `golden/`",
        path.display()
    );
    path
}

/// One recorded record.
pub(crate) struct Record {
    pub(crate) topic: String,
    pub(crate) partition: i32,
    pub(crate) offset: i64,
    pub(crate) timestamp_ms: Option<i64>,
    pub(crate) key: Option<Vec<u8>>,
    pub(crate) value: Option<Vec<u8>>,
    pub(crate) headers: Vec<(String, Option<Vec<u8>>)>,
}

impl Record {
    /// `schema.table` as the topic spells it.
    pub(crate) fn table(&self) -> &str {
        self.topic.split_once('.').map_or("", |(_, table)| table)
    }
}

/// A recorded topic set.
pub(crate) struct Recording {
    pub(crate) records: Vec<Record>,
    /// How its connector's converters wrote it.
    pub(crate) wire: Option<Wire>,
    pub(crate) flattened: bool,
    /// What the registry held.
    pub(crate) schemas: BTreeMap<SchemaId, SchemaText>,
}

impl Recording {
    pub(crate) fn read(name: &str) -> Self {
        let text = unpacked(&golden(&format!("{name}.jsonl.gz")));
        let wire = wire(name);
        Self {
            records: text.lines().map(record).collect(),
            schemas: wire.map_or_else(BTreeMap::new, |wire| schemas(name, wire.framing)),
            flattened: name.ends_with("/flat"),
            wire,
        }
    }

    /// The table under the names that its records have.
    pub(crate) fn named(&self, mut table: TableState) -> TableState {
        if self.wire.is_some() {
            let columns = table.columns.iter_mut().map(|(name, _)| name);
            for name in columns.chain(&mut table.primary_key) {
                *name = avro_name(name);
            }
        }
        table
    }
}

fn wire(name: &str) -> Option<Wire> {
    let framing = match name.rsplit('/').next().expect("a name") {
        "avro" => Framing::Confluent,
        "apicurio-8byte" => Framing::Apicurio(IdForm::EightByte, IdSpace::Global),
        "apicurio-headers" => Framing::Apicurio(IdForm::Headers, IdSpace::Global),
        _ => return None,
    };
    Some(Wire { encoding: Encoding::Avro, framing })
}

fn unpacked(path: &Path) -> String {
    let unpacked = Command::new("gzip").arg("-dc").arg(path).output().expect("gzip runs");
    assert!(unpacked.status.success(), "{} does not unpack", path.display());
    String::from_utf8(unpacked.stdout).expect("UTF-8")
}

/// Schemas by id.
fn schemas(name: &str, framing: Framing) -> BTreeMap<SchemaId, SchemaText> {
    let text = match framing {
        Framing::Confluent => unpacked(&golden(&format!("{name}-schemas.json.gz"))),
        _ => std::fs::read_to_string(golden(&format!("{name}-schemas.json"))).expect("text"),
    };
    let json: BTreeMap<String, Json> = serde_json::from_str(&text).expect("schemas");
    let schema = |(id, schema): (String, Json)| {
        let number: String = id.chars().filter(char::is_ascii_digit).collect();
        match schema["schema"].as_str() {
            Some(text) => (SchemaId::Confluent(number.parse().expect("id")), text.to_owned()),
            None => (SchemaId::Global(number.parse().expect("id")), schema.to_string()),
        }
    };
    let schemas = json.into_iter().map(schema);
    schemas.map(|(id, text)| (id, SchemaText { text, references: Vec::new() })).collect()
}

/// How Debezium spells a table in a topic's name.
pub(crate) fn topic_name(table: &str) -> String {
    table.replace(|c: char| !c.is_ascii_alphanumeric() && !matches!(c, '.' | '_' | '-'), "_")
}

fn record(line: &str) -> Record {
    let json: Json = serde_json::from_str(line).expect("a record");
    let bytes = |json: &Json| json.as_str().map(|text| STANDARD.decode(text).expect("base64"));
    let headers = json["headers"].as_array().into_iter().flatten();
    let header = |pair: &Json| (pair[0].as_str().expect("name").to_owned(), bytes(&pair[1]));
    Record {
        topic: json["topic"].as_str().expect("topic").to_owned(),
        partition: json["partition"].as_i64().and_then(|p| p.try_into().ok()).expect("partition"),
        offset: json["offset"].as_i64().expect("offset"),
        timestamp_ms: json["timestamp"].as_i64(),
        key: bytes(&json["key"]),
        value: bytes(&json["value"]),
        headers: headers.map(header).collect(),
    }
}

/// How Debezium spells a column with `field.name.adjustment.mode=avro`.
fn avro_name(name: &str) -> String {
    let plain = |c: char| c.is_ascii_alphanumeric() || c == '_';
    let adjusted = name.replace(|c: char| !plain(c), "_");
    let digit = adjusted.starts_with(|c: char| c.is_ascii_digit());
    if digit { format!("_{adjusted}") } else { adjusted }
}

/// The source's final rows of one table, as the server's own texts.
pub(crate) struct TableState {
    pub(crate) name: String,
    /// Name and type.
    pub(crate) columns: Vec<(String, String)>,
    pub(crate) primary_key: Vec<String>,
    pub(crate) rows: Vec<Vec<Option<String>>>,
}

/// The source's tables.
pub(crate) fn state(name: &str) -> Vec<TableState> {
    let text = std::fs::read_to_string(golden(&format!("{name}.jsonl"))).expect("a state");
    let table = |line: &str| {
        let json: Json = serde_json::from_str(line).expect("a table");
        let text = |json: &Json| json.as_str().map(str::to_owned);
        let list = |json: &Json| json.as_array().cloned().unwrap_or_default();
        let column = |pair: &Json| (text(&pair[0]).expect("name"), text(&pair[1]).expect("type"));
        TableState {
            name: text(&json["table"]).expect("table"),
            columns: list(&json["columns"]).iter().map(column).collect(),
            primary_key: list(&json["primary_key"]).iter().filter_map(text).collect(),
            rows: list(&json["rows"])
                .iter()
                .map(|row| list(row).iter().map(text).collect())
                .collect(),
        }
    };
    text.lines().map(table).collect()
}
