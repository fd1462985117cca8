//! What a topic comes to, record by record.

use std::collections::BTreeMap;

use lakebed_schemas::change_event::{ChangeEvent, Decoded, Op, Row};
use lakebed_schemas::decoder::{Decoder, RecordRef};
use lakebed_schemas::value::{Value, key_hash};

use super::recording::{Record, Recording, TableState, topic_name};

impl Recording {
    /// Decodes one of its records, with the schemas that it needs.
    pub(crate) fn decode(&self, record: &Record, decoder: &mut Decoder) -> Decoded {
        let headers: Vec<_> =
            record.headers.iter().map(|(name, value)| (name.as_str(), value.as_deref())).collect();
        let record = RecordRef {
            topic: &record.topic,
            partition: record.partition,
            offset: record.offset,
            timestamp_ms: record.timestamp_ms,
            key: record.key.as_deref(),
            value: record.value.as_deref(),
            headers: &headers,
        };
        for id in decoder.missing_schemas(&record) {
            match self.schemas.get(&id) {
                Some(schema) => decoder.learn(id, schema),
                None => decoder.refuse(id, format!("the recording has no schema {id}")),
            }
        }
        decoder.decode(&record)
    }

    pub(crate) fn has_table(&self, table: &str) -> bool {
        self.records.iter().any(|record| record.table() == topic_name(table))
    }

    /// The rows that the table's topic leads to, by key hash.
    pub(crate) fn replay(&self, table: &TableState, mut decoder: Decoder) -> BTreeMap<u128, Row> {
        let mut rows = BTreeMap::new();
        let mut gone = BTreeMap::new();
        for record in self.records.iter().filter(|r| r.table() == topic_name(&table.name)) {
            match self.decode(record, &mut decoder) {
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
