//! Keys that the source's log does not hold and the connector made up.
//!
//! PostgreSQL logs of an old row what its REPLICA IDENTITY names. Where that is not the key (USING
//! INDEX on other columns), Debezium fills the key of a delete, and the old key of a key change, with
//! the types' defaults: `{"id": 0}`. Such a delete takes no row, and nothing in it says which. So it
//! is noticed by what a delete by key never has: values of other columns, in a table whose updates do
//! not bring whole old rows.

use std::collections::BTreeSet;
use std::sync::Arc;

use lakebed_schemas::change_event::{ChangeEvent, Decoded, Op, Row};
use lakebed_schemas::position::TopicPartition;
use lakebed_schemas::value::Value;
use tracing::warn;

/// What has been seen of the topics of one table.
#[derive(Debug, Default)]
pub(super) struct InventedKeys {
    /// Topics whose old rows are whole (REPLICA IDENTITY FULL): there a key of defaults is a key.
    whole: BTreeSet<Arc<str>>,
    told: bool,
}

impl InventedKeys {
    /// Whether the key of a delete is not the row's. Says so once for the table.
    pub(super) fn see(&mut self, tp: &TopicPartition, offset: i64, decoded: &Decoded) -> bool {
        let Decoded::Change(event) = decoded else { return false };
        let (Some(key), Some(before)) = (&event.key, &event.before) else { return false };
        if event.source.snapshot.is_some() {
            return false;
        }
        let others = !beside(key, before).all(is_default);
        match event.op {
            // An old row with other columns under a key that is one: all of it is logged.
            Op::Update if others && !is_made_up(key) => {
                self.whole.insert(tp.topic.clone());
                false
            }
            Op::Delete => {
                let invented = contradicts(key, before)
                    || (is_postgres(event)
                        && others
                        && is_made_up(key)
                        && !self.whole.contains(&tp.topic));
                if invented && !std::mem::replace(&mut self.told, true) {
                    warn!(%tp, offset, "a delete without its row's key: the source does not log it \
                          (REPLICA IDENTITY USING INDEX, or message.key.columns outside of it), so \
                          rows that are deleted or change their key stay in silver. Set REPLICA \
                          IDENTITY DEFAULT or FULL and take a new snapshot");
                }
                invented
            }
            _ => false,
        }
    }
}

fn is_postgres(event: &ChangeEvent) -> bool {
    event.source.connector == "postgresql"
}

/// Whether the old row has another value, or none, for a column of the key.
fn contradicts(key: &Row, before: &Row) -> bool {
    let fields = key.shape.fields.iter().zip(&key.values);
    fields.into_iter().any(|(field, value)| {
        let old = before.get(&field.name);
        old.is_some_and(|old| *old == Value::Null && *value != Value::Null)
    })
}

/// Values of the old row that are not of the key.
fn beside<'r>(key: &'r Row, before: &'r Row) -> impl Iterator<Item = &'r Value> {
    let is_key = |name: &str| key.shape.fields.iter().any(|field| field.name == name);
    let fields = before.shape.fields.iter().zip(&before.values);
    fields.filter(move |(field, _)| !is_key(&field.name)).map(|(_, value)| value)
}

/// Whether all of it is what a connector writes where it has nothing.
fn is_made_up(key: &Row) -> bool {
    key.values.iter().all(|value| *value != Value::Null && is_default(value))
}

/// Whether it is NULL or what Debezium takes for a value that is missing and must not be NULL.
fn is_default(value: &Value) -> bool {
    match value {
        Value::Null | Value::Unavailable => true,
        Value::Boolean(value) => !value,
        Value::Long(value) | Value::Timestamp(value) | Value::TimestampTz(value) => *value == 0,
        Value::Date(days) => *days == 0,
        Value::Float(value) => *value == 0.0,
        Value::Double(value) => *value == 0.0,
        Value::Decimal { unscaled, .. } => *unscaled == 0,
        Value::Text(text) => {
            text.is_empty() || text.starts_with("1970-01-01") || text.starts_with("00:00:00")
        }
        Value::Binary(bytes) => bytes.iter().all(|byte| *byte == 0),
        Value::List(items) => items.is_empty(),
        Value::Struct(_) | Value::OutOfRange(_) => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use lakebed_schemas::decoder::{DecodeOptions, Decoder, RecordRef};

    /// Deletes and updates as the recorded connector writes them; whether the key is invented.
    fn see(events: &[(&str, &str, &str, &str)]) -> Vec<bool> {
        let tp = TopicPartition::new("t", 0);
        let mut decoder = Decoder::new(DecodeOptions::default());
        let mut keys = InventedKeys::default();
        let mut see = |(connector, op, key, before): &(&str, &str, &str, &str)| {
            let after = if *op == "d" { "null" } else { "{\"id\":1,\"code\":\"c9\",\"v\":\"z\"}" };
            let value = format!(
                r#"{{"before":{before},"after":{after},"source":{{"connector":"{connector}","lsn":7}},"op":"{op}"}}"#
            );
            let record = RecordRef {
                topic: "t",
                partition: 0,
                offset: 0,
                timestamp_ms: None,
                key: Some(key.as_bytes()),
                value: Some(value.as_bytes()),
                headers: &[],
            };
            keys.see(&tp, 0, &decoder.decode(&record))
        };
        events.iter().map(&mut see).collect()
    }

    const PG: &str = "postgresql";

    #[test]
    fn a_delete_by_another_index_has_a_key_of_defaults_and_values_of_others() {
        let by_index = (PG, "d", r#"{"id":0}"#, r#"{"id":0,"code":"c1","v":null}"#);
        let update = (PG, "u", r#"{"id":1}"#, "null");
        assert_eq!(see(&[update, by_index, by_index]), [false, true, true]);
    }

    #[test]
    fn a_delete_by_the_key_is_left_alone_whatever_the_connector_fills_in() {
        let by_key = (PG, "d", r#"{"id":7}"#, r#"{"id":7,"code":"","v":null}"#);
        let of_zero = (PG, "d", r#"{"id":0}"#, r#"{"id":0,"code":"","v":null}"#);
        assert_eq!(see(&[by_key, of_zero]), [false, false]);
    }

    #[test]
    fn where_old_rows_are_whole_a_key_of_zero_is_a_key() {
        let update = (PG, "u", r#"{"id":1}"#, r#"{"id":1,"code":"c1","v":"a"}"#);
        let delete = (PG, "d", r#"{"id":0}"#, r#"{"id":0,"code":"c1","v":"a"}"#);
        assert_eq!(see(&[update, delete]), [false, false]);
        let elsewhere = ("mysql", "d", r#"{"id":0}"#, r#"{"id":0,"code":"c1","v":"a"}"#);
        assert_eq!(see(&[elsewhere]), [false]);
    }

    #[test]
    fn an_old_row_without_its_key_contradicts_it() {
        let delete = ("mysql", "d", r#"{"id":3}"#, r#"{"id":null,"code":"c1","v":"a"}"#);
        assert_eq!(see(&[delete]), [true]);
    }
}
