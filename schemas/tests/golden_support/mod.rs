//! Recordings and source states as files, a replay by key, and a comparison by PostgreSQL's texts.

mod pg_text;

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;
use std::process::Command;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use lakebed_schemas::change_event::{ChangeEvent, Decoded, Op, Row};
use lakebed_schemas::decoder::{Decoder, RecordRef};
use lakebed_schemas::value::{Value, key_hash};
use serde_json::Value as Json;

fn golden(name: &str) -> PathBuf {
    let beside = concat!(env!("CARGO_MANIFEST_DIR"), "/../../shared");
    let shared = std::env::var("LAKEBED_SHARED").unwrap_or_else(|_| beside.to_owned());
    let path = PathBuf::from(shared).join("golden").join(name);
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
    pub(crate) key: Option<Vec<u8>>,
    pub(crate) value: Option<Vec<u8>>,
    pub(crate) headers: Vec<(String, Option<Vec<u8>>)>,
}

impl Record {
    pub(crate) fn decode(&self, decoder: &mut Decoder) -> Decoded {
        let headers: Vec<_> =
            self.headers.iter().map(|(name, value)| (name.as_str(), value.as_deref())).collect();
        decoder.decode(&RecordRef {
            topic: &self.topic,
            partition: self.partition,
            offset: self.offset,
            timestamp_ms: None,
            key: self.key.as_deref(),
            value: self.value.as_deref(),
            headers: &headers,
        })
    }

    /// `schema.table` as the topic spells it.
    fn table(&self) -> &str {
        self.topic.split_once('.').map_or("", |(_, table)| table)
    }
}

/// A recorded topic set.
pub(crate) struct Recording {
    pub(crate) records: Vec<Record>,
}

impl Recording {
    pub(crate) fn read(name: &str) -> Self {
        let path = golden(&format!("{name}.jsonl.gz"));
        let unpacked = Command::new("gzip").arg("-dc").arg(path).output().expect("gzip runs");
        assert!(unpacked.status.success(), "{name} does not unpack");
        let text = String::from_utf8(unpacked.stdout).expect("UTF-8");
        Self { records: text.lines().map(record).collect() }
    }

    pub(crate) fn has_table(&self, table: &str) -> bool {
        self.records.iter().any(|record| record.table() == topic_name(table))
    }

    /// The rows that the table's topic leads to, by key hash.
    pub(crate) fn replay(&self, table: &TableState, mut decoder: Decoder) -> BTreeMap<u128, Row> {
        let mut rows = BTreeMap::new();
        let mut gone = BTreeMap::new();
        for record in self.records.iter().filter(|r| r.table() == topic_name(&table.name)) {
            match record.decode(&mut decoder) {
                Decoded::Change(event) => apply(*event, &mut rows, &mut gone),
                Decoded::Tombstone { key: Some(key) } => {
                    rows.remove(&key_hash(&key.values));
                }
                Decoded::Malformed { reason } => panic!("{}: {reason}", record.topic),
                _ => {}
            }
        }
        rows
    }
}

fn topic_name(table: &str) -> String {
    table.replace(|c: char| !c.is_ascii_alphanumeric() && !matches!(c, '.' | '_' | '-'), "_")
}

fn apply(event: ChangeEvent, rows: &mut BTreeMap<u128, Row>, gone: &mut BTreeMap<u128, Row>) {
    if event.op == Op::Truncate {
        rows.clear();
    }
    let Some(key) = &event.key else { return };
    let hash = key_hash(&key.values);
    let held = match (&event.op, &event.old_key) {
        (Op::Update, _) => rows.get(&hash),
        (_, Some(old)) => gone.get(&key_hash(&old.values)),
        _ => None,
    };
    match event.after {
        Some(mut after) => {
            for index in 0..after.values.len() {
                if after.values[index] == Value::Unavailable {
                    let name = &after.shape.fields[index].name;
                    let value = held.and_then(|held| held.get(name)).cloned();
                    after.values[index] = value.unwrap_or(Value::Unavailable);
                }
            }
            rows.insert(hash, after);
        }
        None => {
            if let Some(row) = rows.remove(&hash) {
                gone.insert(hash, row);
            }
        }
    }
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
        key: bytes(&json["key"]),
        value: bytes(&json["value"]),
        headers: headers.map(header).collect(),
    }
}

/// The source's final rows of one table, as the server's own texts.
pub(crate) struct TableState {
    pub(crate) name: String,
    /// Name and type.
    pub(crate) columns: Vec<(String, String)>,
    primary_key: Vec<String>,
    rows: Vec<Vec<Option<String>>>,
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

/// What a comparison found.
#[derive(Default)]
pub(crate) struct Cells {
    pub(crate) equal: usize,
    /// Table and what differs: a column, or `rows`.
    different: BTreeMap<(String, String), Vec<String>>,
}

impl Cells {
    pub(crate) fn compare(&mut self, table: &TableState, rows: &BTreeMap<u128, Row>) {
        if table.primary_key.is_empty() {
            return;
        }
        let index = |name: &String| table.columns.iter().position(|column| column.0 == *name);
        let keys: Vec<usize> = table.primary_key.iter().filter_map(index).collect();
        let mut left: Vec<&Row> = rows.values().collect();
        for expected in &table.rows {
            let matches = |row: &&Row| keys.iter().all(|key| self.cell(table, *key, expected, row));
            match left.iter().position(matches) {
                Some(found) => {
                    let row = left.swap_remove(found);
                    for column in 0..table.columns.len() {
                        self.count(table, column, expected, row);
                    }
                }
                None => self.differs(table, "rows", format!("{:?} is missing", expected[keys[0]])),
            }
        }
        for row in left {
            self.differs(table, "rows", format!("{:?} is too much", row.values.first()));
        }
    }

    fn cell(
        &self,
        table: &TableState,
        index: usize,
        expected: &[Option<String>],
        row: &Row,
    ) -> bool {
        let (name, pg_type) = &table.columns[index];
        row.get(name)
            .is_some_and(|value| pg_text::equal(value, pg_type, expected[index].as_deref()))
    }

    fn count(&mut self, table: &TableState, index: usize, expected: &[Option<String>], row: &Row) {
        if self.cell(table, index, expected, row) {
            self.equal += 1;
            return;
        }
        let (name, pg_type) = &table.columns[index];
        let found =
            format!("{pg_type}: {:?} in the source, {:?} here", expected[index], row.get(name));
        self.differs(table, name, found.chars().take(300).collect());
    }

    fn differs(&mut self, table: &TableState, what: &str, how: String) {
        self.different.entry((table.name.clone(), what.to_owned())).or_default().push(how);
    }

    /// The listed differences and no others were found; one that is gone has to leave the list.
    pub(crate) fn assert_divergences(&self, name: &str, divergent: &[(&str, &str)]) {
        let listed: BTreeSet<(String, String)> = divergent
            .iter()
            .map(|(table, what)| ((*table).to_owned(), (*what).to_owned()))
            .collect();
        let mut problems = Vec::new();
        for (place, how) in &self.different {
            if !listed.contains(place) {
                problems.push(format!("{}.{} differs: {}", place.0, place.1, how.join("\n      ")));
            }
        }
        for place in listed.iter().filter(|place| !self.different.contains_key(place)) {
            problems.push(format!("{}.{} is equal by now: take it off the list", place.0, place.1));
        }
        assert!(problems.is_empty(), "{name}:\n  {}", problems.join("\n  "));
    }
}
