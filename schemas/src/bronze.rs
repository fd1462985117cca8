//! The bronze table: one row for each Kafka record, enough to rebuild silver from.

use std::sync::Arc;

use crate::change_event::{ChangeEvent, Decoded, Op};
use crate::column::{Column, ColumnType, TableSchema};
use crate::decoder::RecordRef;
use crate::partition::PartitionField;
use crate::temporal::{self, Point, Unit};
use crate::value::Value;

/// Name of the partition column: UTC day of `_timestamp`.
pub const DATE: &str = "_date";

/// The columns of every bronze table, in order, with the field ids that never change.
pub fn schema() -> TableSchema {
    use ColumnType as T;
    let headers = T::List(Box::new(T::Struct(vec![
        ("key".to_owned(), T::Text),
        ("value".to_owned(), T::Binary),
    ])));
    let columns = [
        ("_topic", T::Text),
        // Not `_partition`: Iceberg keeps that name for itself, and Spark refuses a table that has
        // it. 32 bits in Iceberg; the Delta table holds it as 64.
        ("_kafka_partition", T::Int),
        ("_offset", T::Long),
        ("_timestamp", T::TimestampTz),
        (DATE, T::Date),
        ("_key", T::Binary),
        ("_op", T::Text),
        ("_source_ts", T::Long),
        ("_event_ts", T::Long),
        ("_position", T::Text),
        ("_snapshot", T::Text),
        ("_tx", T::Text),
        ("_repeat", T::Boolean),
        ("before", T::Text),
        ("after", T::Text),
        ("source", T::Text),
        ("headers", headers),
        ("_schema", T::Text),
        ("_error", T::Text),
        ("_value", T::Binary),
    ];
    let columns = columns.into_iter().zip(1..).map(|((name, column_type), id)| Column {
        name: name.to_owned(),
        source_name: name.to_owned(),
        column_type,
        id,
    });
    TableSchema {
        columns: columns.collect(),
        key: Vec::new(),
        partition_by: vec![PartitionField::identity(DATE)],
    }
}

/// What is known of a record beside its bytes and their meaning.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Remarks<'a> {
    /// Whether the source has sent the same change before, under another offset.
    pub repeated: bool,
    /// Keep the value's bytes in any case.
    pub keep_value: bool,
    /// Why the record could not be applied, where it was understood but did not fit its table.
    pub error: Option<&'a str>,
}

/// The row of a record, in the order of [`schema`].
///
/// The value's bytes are kept for every record that is not a change of a row, or could not be
/// applied: truncates and messages too, so that nothing of the topic is lost.
pub fn row(record: &RecordRef<'_>, decoded: &Decoded, remarks: Remarks<'_>) -> Vec<Value> {
    let event = match decoded {
        Decoded::Change(event) => Some(&**event),
        _ => None,
    };
    let error = match decoded {
        Decoded::Malformed { reason } => Some(reason.as_str()),
        _ => remarks.error,
    };
    let is_row_change = event.is_some_and(|event| !matches!(event.op, Op::Truncate | Op::Message));
    let keeps_value = remarks.keep_value || !is_row_change || error.is_some();
    let (timestamp, date) = time_columns(record.timestamp_ms);
    let source = event.map(|event| &event.source);
    vec![
        Value::Text(record.topic.to_owned()),
        Value::Long(i64::from(record.partition)),
        Value::Long(record.offset),
        timestamp,
        date,
        bytes(record.key),
        text(event.map(|event| event.op.letter())),
        long(source.and_then(|source| source.ts_us)),
        long(event.and_then(|event| event.event_ts_us)),
        text(source.and_then(|source| source.position.as_deref())),
        text(source.and_then(|source| source.snapshot.as_deref())),
        text(source.and_then(|source| source.tx.as_deref())),
        Value::Boolean(remarks.repeated),
        json(event, |event| &event.before_json),
        json(event, |event| &event.after_json),
        json(event, |event| &event.source_json),
        headers(record.headers),
        text(event.and_then(|event| event.schema_hash.as_ref()).map(Arc::as_ref)),
        text(error),
        bytes(record.value.filter(|_| keeps_value)),
    ]
}

/// `_timestamp` and its day; NULL where Kafka has none or it lies outside the years 1 to 9999.
fn time_columns(timestamp_ms: Option<i64>) -> (Value, Value) {
    const MILLIS_A_DAY: i64 = 86_400_000;
    let held = timestamp_ms.map(|ms| (ms, temporal::timestamp(ms, Unit::Millis, "Z")));
    let Some((ms, Point::Held(micros))) = held else { return (Value::Null, Value::Null) };
    let date = i32::try_from(ms.div_euclid(MILLIS_A_DAY)).map_or(Value::Null, Value::Date);
    (Value::TimestampTz(micros), date)
}

fn text(text: Option<&str>) -> Value {
    text.map_or(Value::Null, |text| Value::Text(text.to_owned()))
}

fn long(value: Option<i64>) -> Value {
    value.map_or(Value::Null, Value::Long)
}

fn bytes(bytes: Option<&[u8]>) -> Value {
    bytes.map_or(Value::Null, |bytes| Value::Binary(bytes.to_vec()))
}

fn json(event: Option<&ChangeEvent>, of: impl Fn(&ChangeEvent) -> &Option<String>) -> Value {
    text(event.and_then(|event| of(event).as_deref()))
}

fn headers(headers: &[(&str, Option<&[u8]>)]) -> Value {
    let header = |(key, value): &(&str, Option<&[u8]>)| {
        Value::Struct(vec![Value::Text((*key).to_owned()), bytes(*value)])
    };
    Value::List(headers.iter().map(header).collect())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::decoder::{DecodeOptions, Decoder};

    fn cell(record: &RecordRef<'_>, remarks: Remarks<'_>, column: &str) -> Value {
        let decoded = Decoder::new(DecodeOptions::default()).decode(record);
        let (schema, row) = (schema(), row(record, &decoded, remarks));
        assert_eq!(schema.columns.len(), row.len());
        for (column, value) in schema.columns.iter().zip(&row) {
            assert!(value.fits(&column.column_type), "{} cannot hold its value", column.name);
        }
        row[schema.index_of(column).expect(column)].clone()
    }

    fn record<'a>(value: Option<&'a [u8]>) -> RecordRef<'a> {
        RecordRef {
            topic: "t",
            partition: 2,
            offset: 5,
            timestamp_ms: Some(-1),
            key: Some(b"{\"id\":1}"),
            value,
            headers: &[("a", Some(b"x")), ("b", None)],
        }
    }

    const CHANGE: &[u8] = br#"{"before":null,"after":{"id": 1},"op":"c","ts_us":7,"source":{"connector":"postgresql","ts_ms":3,"snapshot":null,"lsn":5,"sequence":"[null,\"5\"]","txId":9}}"#;

    #[test]
    fn a_change_keeps_the_json_of_its_parts_and_not_its_bytes() {
        let record = record(Some(CHANGE));
        let cell = |column| cell(&record, Remarks::default(), column);
        let text = |text: &str| Value::Text(text.to_owned());
        assert_eq!(cell("after"), text("{\"id\": 1}"));
        assert_eq!(cell("before"), Value::Null);
        assert_eq!(cell("_op"), text("c"));
        assert_eq!((cell("_source_ts"), cell("_event_ts")), (Value::Long(3_000), Value::Long(7)));
        assert_eq!(cell("_position"), text(&format!("0000000001{:016x}{:016x}01", 0, 5)));
        assert_eq!(cell("_tx"), text("9"));
        assert_eq!(cell("_timestamp"), Value::TimestampTz(-1_000));
        assert_eq!(cell("_date"), Value::Date(-1));
        assert_eq!((cell("_value"), cell("_error")), (Value::Null, Value::Null));
        let b = Value::Struct(vec![text("b"), Value::Null]);
        assert!(matches!(cell("headers"), Value::List(headers) if headers[1] == b));
    }

    #[test]
    fn what_is_no_change_keeps_its_bytes_and_the_reason() {
        let value = |bytes: &[u8]| Value::Binary(bytes.to_vec());
        let cell_of = |bytes, column| cell(&record(Some(bytes)), Remarks::default(), column);
        assert_eq!(cell_of(b"{", "_value"), value(b"{"));
        assert!(
            matches!(cell_of(b"{", "_error"), Value::Text(reason) if reason.contains("not JSON"))
        );
        assert_eq!(cell_of(b"null", "_value"), value(b"null"));
        assert_eq!(cell_of(b"{\"ts_ms\":1}", "_value"), value(b"{\"ts_ms\":1}"));
        assert_eq!(cell(&record(None), Remarks::default(), "_value"), Value::Null);
        let remarks = Remarks { error: Some("does not fit"), repeated: true, keep_value: false };
        assert_eq!(cell(&record(Some(CHANGE)), remarks, "_value"), value(CHANGE));
        assert_eq!(cell(&record(Some(CHANGE)), remarks, "_repeat"), Value::Boolean(true));
        let far = RecordRef { timestamp_ms: Some(i64::MAX), ..record(None) };
        assert_eq!(cell(&far, Remarks::default(), "_timestamp"), Value::Null);
    }
}
