//! A shop that changes its orders: Debezium events, and the rows they must come to.
//!
//! The same seed gives the same changes. The expected rows are kept by plain assignment, not by
//! anything that the pipeline uses.

use std::collections::BTreeMap;

use serde_json::{Value as Json, json};

/// The topic of the demonstration.
pub(super) const TOPIC: &str = "shop.public.orders";

/// One order as the shop knows it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Order {
    /// Who ordered.
    pub(super) customer: String,
    /// Where it stands.
    pub(super) status: &'static str,
    /// Amount in cents.
    pub(super) total_cents: i64,
    /// When, microseconds since the epoch.
    pub(super) ordered_at: i64,
    /// Words on it.
    pub(super) tags: Vec<String>,
    /// Free text, or none.
    pub(super) note: Option<String>,
}

/// One Kafka record to produce.
#[derive(Debug)]
pub(super) struct Event {
    /// By which the partition is chosen.
    pub(super) id: i64,
    /// Key bytes.
    pub(super) key: Vec<u8>,
    /// Value bytes; `None` is a tombstone.
    pub(super) value: Option<Vec<u8>>,
}

/// Makes changes one after another.
pub(super) struct Generator {
    random: Random,
    orders: BTreeMap<i64, Order>,
    next_id: i64,
    lsn: i64,
    clock_us: i64,
    key_schema: Json,
    value_schema: String,
}

/// xorshift64*: enough for a demonstration, the same everywhere.
struct Random(u64);

impl Random {
    fn below(&mut self, bound: u64) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        (self.0.wrapping_mul(0x2545_F491_4F6C_DD1D) >> 33) % bound
    }

    fn pick<'a, T>(&mut self, from: &'a [T]) -> &'a T {
        &from[self.below(from.len() as u64) as usize]
    }
}

const CUSTOMERS: &[&str] = &["Ada", "Blaise", "Čapek", "Dürer", "Émilie", "Фёдор", "葛飾", "Grace"];
const STATUSES: &[&str] = &["open", "paid", "packed", "sent", "returned"];
const TAGS: &[&str] = &["gift", "express", "fragile", "b2b", "pick-up"];

impl Generator {
    /// Starts with an empty shop on 1 January 2026.
    pub(super) fn new(seed: u64) -> Self {
        Self {
            random: Random(seed.max(1)),
            orders: BTreeMap::new(),
            next_id: 1,
            lsn: 24_000_000,
            clock_us: 1_767_225_600_000_000,
            key_schema: key_schema(),
            value_schema: value_schema().to_string(),
        }
    }

    /// The rows that the table must hold now.
    pub(super) fn expected(&self) -> &BTreeMap<i64, Order> {
        &self.orders
    }

    /// The records of the next change: one, or two for a delete with its tombstone.
    pub(super) fn change(&mut self) -> Vec<Event> {
        self.lsn += 56;
        self.clock_us += 1_000 + self.random.below(50_000) as i64;
        match self.random.below(100) {
            _ if self.orders.len() < 50 => vec![self.insert()],
            0..45 => vec![self.insert()],
            45..90 => vec![self.update()],
            _ => self.delete(),
        }
    }

    fn insert(&mut self) -> Event {
        let id = self.next_id;
        self.next_id += 1;
        let order = Order {
            customer: (*self.random.pick(CUSTOMERS)).to_owned(),
            status: "open",
            total_cents: 1 + self.random.below(5_000_000) as i64,
            ordered_at: self.clock_us,
            tags: self.tags(),
            note: None,
        };
        let event = self.event(id, "c", Some(&order));
        self.orders.insert(id, order);
        event
    }

    fn update(&mut self) -> Event {
        let (id, mut order) = self.any();
        order.status = *self.random.pick::<&'static str>(STATUSES);
        if self.random.below(4) == 0 {
            order.tags = self.tags();
            order.note = Some(format!("call {} \"before\" noon\n", order.customer));
        }
        let event = self.event(id, "u", Some(&order));
        self.orders.insert(id, order);
        event
    }

    fn delete(&mut self) -> Vec<Event> {
        let (id, _) = self.any();
        self.orders.remove(&id);
        let deleted = self.event(id, "d", None);
        let tombstone = Event { id, key: deleted.key.clone(), value: None };
        vec![deleted, tombstone]
    }

    fn any(&mut self) -> (i64, Order) {
        let from = self.random.below(self.next_id as u64) as i64;
        let found = self.orders.range(from..).next().or_else(|| self.orders.iter().next());
        let (id, order) = found.expect("the shop has orders");
        (*id, order.clone())
    }

    fn tags(&mut self) -> Vec<String> {
        let count = self.random.below(3);
        (0..count).map(|_| (*self.random.pick(TAGS)).to_owned()).collect()
    }

    fn event(&self, id: i64, op: &str, after: Option<&Order>) -> Event {
        let key = json!({ "schema": self.key_schema, "payload": { "id": id } });
        let source = json!({
            "version": "3.7.0.Final", "connector": "postgresql", "name": "shop",
            "ts_ms": self.clock_us / 1_000, "snapshot": "false", "db": "shop",
            "sequence": format!("[\"{}\",\"{}\"]", self.lsn - 8, self.lsn),
            "ts_us": self.clock_us, "ts_ns": self.clock_us * 1_000,
            "schema": "public", "table": "orders", "txId": self.lsn / 8, "lsn": self.lsn,
        });
        let before = (op == "d").then(|| json!({ "id": id, "customer": "", "status": "",
            "total": "AA==", "ordered_at": "1970-01-01T00:00:00.000000Z", "tags": null, "note": null }));
        let payload = json!({
            "before": before, "after": after.map(|order| row(id, order)), "source": source,
            "op": op, "ts_ms": self.clock_us / 1_000 + 3, "transaction": null,
        });
        // The schema is the larger part and always the same: it is not rendered anew.
        let value = format!("{{\"schema\":{},\"payload\":{payload}}}", self.value_schema);
        Event { id, key: key.to_string().into_bytes(), value: Some(value.into_bytes()) }
    }
}

fn row(id: i64, order: &Order) -> Json {
    json!({
        "id": id,
        "customer": order.customer,
        "status": order.status,
        "total": decimal(order.total_cents),
        "ordered_at": timestamp(order.ordered_at),
        "tags": order.tags,
        "note": order.note,
    })
}

/// Connect's form of a decimal: the unscaled value's two's complement bytes, in base64.
fn decimal(unscaled: i64) -> String {
    use base64::Engine;
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
    let fields = json!([
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
                "field": field, "fields": fields })
    };
    json!({ "type": "struct", "optional": false, "name": "shop.public.orders.Envelope", "version": 2,
            "fields": [image("before"), image("after"),
                       { "type": "string", "optional": false, "field": "op" }] })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_same_seed_makes_the_same_shop() {
        let run = |seed| {
            let mut generator = Generator::new(seed);
            let changes: Vec<_> =
                (0..500).flat_map(|_| generator.change()).map(|e| e.value).collect();
            (changes, generator.orders)
        };
        assert_eq!(run(7), run(7));
        assert_ne!(run(7).1, run(8).1);
    }

    #[test]
    fn decimals_are_two_complement_bytes() {
        for (unscaled, base64) in [(0, "AA=="), (128, "AIA="), (-1, "/w=="), (102_345, "AY/J")] {
            assert_eq!(decimal(unscaled), base64, "{unscaled}");
        }
    }
}
