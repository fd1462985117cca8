//! What a topic comes to, record by record.

use std::collections::BTreeMap;

use lakebed_schemas::change_event::{ChangeEvent, Decoded, Op, Row};
use lakebed_schemas::decoder::{Decoder, RecordRef};
use lakebed_schemas::value::{Value, key_hash};

use super::recording::{Record, Recording, TableState, topic_name};

impl Record {
    /// Its headers, borrowed: what [`Self::borrowed`] wants.
    pub(crate) fn header_refs(&self) -> Vec<(&str, Option<&[u8]>)> {
        self.headers.iter().map(|(name, value)| (name.as_str(), value.as_deref())).collect()
    }

    /// As the decoder takes it.
    pub(crate) fn borrowed<'a>(
        &'a self,
        headers: &'a [(&'a str, Option<&'a [u8]>)],
    ) -> RecordRef<'a> {
        RecordRef {
            topic: &self.topic,
            partition: self.partition,
            offset: self.offset,
            timestamp_ms: self.timestamp_ms,
            key: self.key.as_deref(),
            value: self.value.as_deref(),
            headers,
        }
    }
}

impl Recording {
    /// How many changes, tombstones and other records it has; each table has a decoder of its own.
    /// `check` is told of each change and its place.
    ///
    /// # Panics
    /// At a record that cannot be understood, and a change without what every change has.
    pub(crate) fn count(
        &self,
        name: &str,
        decoder: impl Fn() -> Decoder,
        check: impl Fn(&ChangeEvent, &str),
    ) -> [usize; 3] {
        let mut counts = [0; 3];
        let mut decoders: BTreeMap<&str, Decoder> = BTreeMap::new();
        for record in &self.records {
            let decoder = decoders.entry(&record.topic).or_insert_with(&decoder);
            let place = format!("{name} {}-{}@{}", record.topic, record.partition, record.offset);
            match self.decode(record, decoder) {
                Decoded::Change(event) => {
                    counts[0] += 1;
                    assert!(event.source.ts_us.is_some(), "{place}: no source time");
                    check(&event, &place);
                    let is_row = !matches!(event.op, Op::Truncate | Op::Message | Op::Delete);
                    assert_eq!(event.after.is_some(), is_row, "{place}: after");
                }
                Decoded::Tombstone { .. } => counts[1] += 1,
                Decoded::Other { .. } => counts[2] += 1,
                Decoded::Malformed { reason } => panic!("{place}: {reason}"),
            }
        }
        counts
    }

    /// Decodes one of its records, with the schemas that it needs.
    pub(crate) fn decode(&self, record: &Record, decoder: &mut Decoder) -> Decoded {
        let headers = record.header_refs();
        let record = record.borrowed(&headers);
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
