//! The shop's changes as Debezium's PostgreSQL connector writes them, with or without the schema.

use base64::Engine;
use serde_json::{Value as Json, json};

use super::generator::Order;

/// One Kafka record to produce.
#[derive(Debug)]
pub struct Event {
    /// By which the partition is chosen.
    pub id: i64,
    /// Key bytes.
    pub key: Vec<u8>,
    /// Value bytes; `None` is a tombstone.
    pub value: Option<Vec<u8>>,
}

/// When and where in its log the database made a change.
#[derive(Debug, Clone, Copy)]
pub(super) struct Moment {
    pub(super) lsn: i64,
    /// Microseconds since the epoch.
    pub(super) clock_us: i64,
}

/// Writes events. What is the same in all of them is rendered once.
pub(super) struct Writer {
    key_start: String,
    value_start: String,
    end: &'static str,
}

impl Writer {
    pub(super) fn new(with_schema: bool) -> Self {
        let start = |schema: Json| match with_schema {
            true => format!("{{\"schema\":{schema},\"payload\":"),
            false => String::new(),
        };
        let end = if with_schema { "}" } else { "" };
        Self { key_start: start(key_schema()), value_start: start(value_schema()), end }
    }

    fn key(&self, id: i64) -> Vec<u8> {
        format!("{}{{\"id\":{id}}}{}", self.key_start, self.end).into_bytes()
    }

    /// An event of this `op`; without a row the row is gone, and only its key is known.
    pub(super) fn event(&self, at: Moment, op: &str, id: i64, row: Option<&Order>) -> Event {
        let (before, after) = match row {
            Some(row) => ("null".to_owned(), image(id, row)),
            None => (key_only(id), "null".to_owned()),
        };
        let Moment { lsn, clock_us } = at;
        // The connector is a little behind the database.
        let seen_us = clock_us + 3_217;
        let value = format!(
            "{start}{{\"before\":{before},\"after\":{after},\"source\":{source},\
             \"transaction\":null,\"op\":\"{op}\",\"ts_ms\":{ms},\"ts_us\":{seen_us},\
             \"ts_ns\":{seen_us}000}}{end}",
            start = self.value_start,
            source = source(lsn, clock_us),
            ms = seen_us / 1_000,
            end = self.end,
        );
        Event { id, key: self.key(id), value: Some(value.into_bytes()) }
    }

    pub(super) fn tombstone(&self, id: i64) -> Event {
        Event { id, key: self.key(id), value: None }
    }
}

fn source(lsn: i64, clock_us: i64) -> String {
    format!(
        "{{\"version\":\"3.7.0.Final\",\"connector\":\"postgresql\",\"name\":\"shop\",\
         \"ts_ms\":{ms},\"snapshot\":\"false\",\"db\":\"shop\",\
         \"sequence\":\"[\\\"{before}\\\",\\\"{lsn}\\\"]\",\"ts_us\":{clock_us},\
         \"ts_ns\":{clock_us}000,\"schema\":\"public\",\"table\":\"orders\",\"txId\":{tx},\
         \"lsn\":{lsn},\"xmin\":null,\"origin\":null,\"origin_lsn\":null}}",
        ms = clock_us / 1_000,
        before = lsn - 8,
        tx = lsn / 8,
    )
}

fn image(id: i64, order: &Order) -> String {
    let text = |text: &str| Json::from(text).to_string();
    format!(
        "{{\"id\":{id},\"customer\":{customer},\"status\":\"{status}\",\"total\":\"{total}\",\
         \"ordered_at\":\"{ordered_at}\",\"tags\":{tags},\"note\":{note}}}",
        customer = text(&order.customer),
        status = order.status,
        total = decimal(order.total_cents),
        ordered_at = timestamp(order.ordered_at),
        tags = json!(order.tags),
        note = order.note.as_deref().map_or_else(|| "null".to_owned(), text),
    )
}

/// What PostgreSQL logs of a deleted row by default, filled up by the connector.
fn key_only(id: i64) -> String {
    format!(
        "{{\"id\":{id},\"customer\":\"\",\"status\":\"\",\"total\":\"AA==\",\
         \"ordered_at\":\"1970-01-01T00:00:00.000000Z\",\"tags\":null,\"note\":null}}"
    )
}

/// Connect's form of a decimal: the unscaled value's two's complement bytes, in base64.
fn decimal(unscaled: i64) -> String {
    let bytes = unscaled.to_be_bytes();
    let sign = if unscaled < 0 { 0xff } else { 0x00 };
    let spare = (0..7).take_while(|i| bytes[*i] == sign && (bytes[i + 1] ^ sign) & 0x80 == 0);
    let spare = spare.count();
    base64::engine::general_purpose::STANDARD.encode(&bytes[spare..])
}

fn timestamp(micros: i64) -> String {
    let time = chrono::DateTime::from_timestamp_micros(micros).unwrap_or_default();
    time.format("%Y-%m-%dT%H:%M:%S%.6fZ").to_string()
}

fn key_schema() -> Json {
    json!({ "type": "struct", "optional": false, "name": "shop.public.orders.Key",
            "fields": [{ "type": "int64", "optional": false, "field": "id" }] })
}

fn value_schema() -> Json {
    let row = json!([
        { "type": "int64", "optional": false, "field": "id" },
        { "type": "string", "optional": false, "field": "customer" },
        { "type": "string", "optional": false, "field": "status" },
        { "type": "bytes", "optional": false, "name": "org.apache.kafka.connect.data.Decimal",
          "version": 1, "parameters": { "scale": "2", "connect.decimal.precision": "12" },
          "field": "total" },
        { "type": "string", "optional": false, "name": "io.debezium.time.ZonedTimestamp",
          "version": 1, "field": "ordered_at" },
        { "type": "array", "items": { "type": "string", "optional": true }, "optional": true,
          "field": "tags" },
        { "type": "string", "optional": true, "field": "note" },
    ]);
    let image = |field: &str| {
        json!({ "type": "struct", "optional": true, "name": "shop.public.orders.Value",
                "field": field, "fields": row })
    };
    let optional = |field: &str| json!({ "type": "int64", "optional": true, "field": field });
    let op = json!({ "type": "string", "optional": false, "field": "op" });
    json!({ "type": "struct", "optional": false, "name": "shop.public.orders.Envelope", "version": 2,
            "fields": [image("before"), image("after"), source_schema(), transaction_schema(), op,
                       optional("ts_ms"), optional("ts_us"), optional("ts_ns")] })
}

fn source_schema() -> Json {
    let field = |kind: &str, optional: bool, name: &str| json!({ "type": kind, "optional": optional, "field": name });
    let snapshot = json!({
        "type": "string", "optional": true, "name": "io.debezium.data.Enum", "version": 1,
        "parameters": { "allowed":
            "true,first,first_in_data_collection,last_in_data_collection,last,false,incremental" },
        "default": "false", "field": "snapshot",
    });
    json!({ "type": "struct", "optional": false, "version": 1, "field": "source",
            "name": "io.debezium.connector.postgresql.Source", "fields": [
        field("string", false, "version"), field("string", false, "connector"),
        field("string", false, "name"), field("int64", false, "ts_ms"), snapshot,
        field("string", false, "db"), field("string", true, "sequence"),
        field("int64", true, "ts_us"), field("int64", true, "ts_ns"),
        field("string", false, "schema"), field("string", false, "table"),
        field("int64", true, "txId"), field("int64", true, "lsn"), field("int64", true, "xmin"),
        field("string", true, "origin"), field("int64", true, "origin_lsn"),
    ] })
}

fn transaction_schema() -> Json {
    json!({ "type": "struct", "optional": true, "name": "event.block", "version": 1,
            "field": "transaction", "fields": [
        { "type": "string", "optional": false, "field": "id" },
        { "type": "int64", "optional": false, "field": "total_order" },
        { "type": "int64", "optional": false, "field": "data_collection_order" },
    ] })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn decimals_are_two_complement_bytes() {
        for (unscaled, base64) in [(0, "AA=="), (128, "AIA="), (-1, "/w=="), (102_345, "AY/J")] {
            assert_eq!(decimal(unscaled), base64, "{unscaled}");
        }
    }

    #[test]
    fn an_event_is_the_same_with_its_schema_and_without() {
        let order = Order {
            customer: "Ada \"the\" first".into(),
            status: "open",
            total_cents: 5,
            ordered_at: 1,
            tags: vec!["gift".into()],
            note: Some("a\nb".into()),
        };
        let at = Moment { lsn: 64, clock_us: 1_767_225_600_000_000 };
        for (op, row) in [("c", Some(&order)), ("d", None)] {
            let json = |with_schema| -> (Json, Json) {
                let event = Writer::new(with_schema).event(at, op, 7, row);
                let parse = |bytes: &[u8]| serde_json::from_slice(bytes).expect("JSON");
                (parse(&event.key), parse(&event.value.expect("a value")))
            };
            let (key, bare) = json(false);
            let (key_with_schema, enveloped) = json(true);
            assert_eq!(key_with_schema["payload"], key);
            assert_eq!(enveloped["payload"], bare);
            assert_eq!(bare["op"], op);
            let note = row.map_or(Json::Null, |_| Json::from("a\nb"));
            assert_eq!(bare["after"]["note"], note);
            let named = |field: &Json| bare.get(field["field"].as_str().expect("a name")).is_some();
            let fields = enveloped["schema"]["fields"].as_array().expect("fields");
            assert!(fields.iter().all(named), "{enveloped}");
            assert_eq!(fields.len(), bare.as_object().expect("an object").len());
        }
    }
}
