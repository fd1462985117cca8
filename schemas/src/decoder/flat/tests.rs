//! Every way in which the transformation writes a change, with and without schema.

use super::*;
use crate::change_event::{ChangeEvent, Decoded, Op, OtherKind};
use crate::decoder::{DecodeOptions, Decoder};
use crate::value::Value;

fn decode(value: Option<&str>, headers: &[(&str, &str)]) -> Decoded {
    let headers: Vec<(&str, Option<&[u8]>)> =
        headers.iter().map(|(name, value)| (*name, Some(value.as_bytes()))).collect();
    let record = RecordRef {
        topic: "t",
        partition: 0,
        offset: 0,
        timestamp_ms: None,
        key: Some(b"{\"id\":1}"),
        value: value.map(str::as_bytes),
        headers: &headers,
    };
    let mut decoder = Decoder::new(DecodeOptions { flattened: true, ..DecodeOptions::default() });
    let first = decoder.decode(&record);
    assert_eq!(first, decoder.decode(&record), "the second time is as the first");
    first
}

fn change(value: &str, headers: &[(&str, &str)]) -> ChangeEvent {
    match decode(Some(value), headers) {
        Decoded::Change(event) => *event,
        other => panic!("no change: {other:?}"),
    }
}

const ROW: [Value; 2] = [Value::Long(1), Value::Long(2)];

#[test]
fn a_row_without_a_word_more_is_an_upsert_without_a_position() {
    let event = change(r#"{"id":1,"n":2}"#, &[]);
    assert_eq!(event.op, Op::Update);
    assert_eq!(event.after.expect("a row").values, ROW);
    assert_eq!(event.after_json.as_deref(), Some(r#"{"id":1,"n":2}"#));
    assert_eq!((event.source.position, event.source.ts_us), (None, None));
    assert_eq!(event.source_json.as_deref(), Some(r#"{"connector":"unknown"}"#));
}

#[test]
fn what_was_added_is_taken_for_what_it_is_and_is_no_column() {
    let of_postgresql = r#"{"id":1,"__op":"u","n":2,"__deleted":"false","__source_ts_ms":3,"__lsn":5,"__source_sequence":"[\"4\",\"5\"]","__ts_us":6,"__transaction_id":"9:5"}"#;
    let event = change(of_postgresql, &[]);
    assert_eq!((event.op, event.event_ts_us), (Op::Update, Some(6)));
    assert_eq!(event.after.expect("a row").values, ROW);
    assert_eq!(event.after_json.as_deref(), Some(r#"{"id":1,"n":2}"#));
    assert_eq!((event.source.ts_us, event.source.tx.as_deref()), (Some(3_000), Some("9:5")));
    let enveloped = r#"{"before":null,"after":{"id":1,"n":2},"source":{"connector":"postgresql","lsn":5,"sequence":"[\"4\",\"5\"]"},"op":"u"}"#;
    assert_eq!(event.source.position, change(enveloped, &[]).source.position);
    assert!(event.source.position.is_some());

    let of_mysql =
        r#"{"id":1,"n":2,"__op":"c","__source_file":"b.000002","__source_pos":7,"__source_row":1}"#;
    let event = change(of_mysql, &[]);
    assert_eq!((event.op, event.source.connector.as_str()), (Op::Create, "mysql"));
    assert!(event.source.position.is_some());
}

#[test]
fn headers_say_what_the_value_does_not() {
    let headers = [("__op", "c"), ("__source_ts_ms", "3"), ("__source_lsn", "5"), ("__db", "null")];
    let event = change(r#"{"id":1,"n":2}"#, &headers);
    assert_eq!((event.op, event.source.ts_us), (Op::Create, Some(3_000)));
    assert!(event.source.position.is_some());
    // The value goes before; other converters write JSON.
    let headers = [("__op", "\"c\""), ("__source_ts_ms", r#"{"schema":{},"payload":4}"#)];
    let event = change(r#"{"id":1,"n":2,"__op":"r"}"#, &headers);
    assert_eq!((event.op, event.source.ts_us), (Op::Read, Some(4_000)));
    assert_eq!(event.source.snapshot.as_deref(), Some("true"));
}

#[test]
fn each_way_to_write_a_delete_is_one() {
    // `tombstone` and `delete-to-tombstone`: nothing, or JSON's null, or a payload that is none.
    for value in
        [None, Some("null"), Some(r#"{"schema":{"type":"struct","fields":[]},"payload":null}"#)]
    {
        let decoded = decode(value, &[("__op", "d")]);
        assert!(matches!(decoded, Decoded::Tombstone { key: Some(_) }), "{value:?}: {decoded:?}");
    }
    // `rewrite` and `rewrite-with-tombstone`; only the op; the flag as a boolean.
    for (value, headers) in [
        (r#"{"id":1,"n":2,"__deleted":"true"}"#, &[][..]),
        (r#"{"id":1,"n":2,"__deleted":"true","__op":"d"}"#, &[]),
        (r#"{"id":1,"n":2,"__deleted":true}"#, &[]),
        (r#"{"id":1,"n":2,"__op":"d"}"#, &[]),
        (r#"{"id":1,"n":2}"#, &[("__op", "d")]),
    ] {
        let event = change(value, headers);
        assert_eq!(event.op, Op::Delete, "{value}");
        assert_eq!(event.before.expect("a row").values, ROW);
        assert_eq!((event.after, event.after_json), (None, None));
    }
}

#[test]
fn with_inline_schema_columns_have_its_types() {
    let schema = r#"{"type":"struct","fields":[{"type":"int32","field":"id"},{"type":"int64","name":"io.debezium.time.MicroTimestamp","optional":true,"field":"at"},{"type":"string","optional":true,"field":"__op"},{"type":"string","optional":true,"field":"__deleted"},{"type":"int64","optional":true,"field":"__source_lsn"}]}"#;
    let value = |payload: &str| format!(r#"{{"schema":{schema},"payload":{payload}}}"#);
    let event =
        change(&value(r#"{"id":1,"at":2,"__op":"u","__deleted":"false","__source_lsn":5}"#), &[]);
    assert_eq!(event.after.expect("a row").values, [Value::Long(1), Value::Timestamp(2)]);
    let event =
        change(&value(r#"{"id":1,"at":null,"__op":"d","__deleted":"true","__source_lsn":5}"#), &[]);
    assert_eq!(event.before.expect("a row").values, [Value::Long(1), Value::Null]);
}

#[test]
fn the_second_half_of_a_key_change_takes_what_it_lacks_from_the_old_row() {
    let value = r#"{"id":1,"n":"__debezium_unavailable_value"}"#;
    let event = change(value, &[(OLD_KEY, "{\"id\":9}")]);
    assert_eq!(event.op, Op::Create);
    assert_eq!(event.after.expect("a row").values[1], Value::Unavailable);
    assert_eq!(event.old_key.expect("a key").values, [Value::Long(9)]);
}

#[test]
fn what_the_transformation_leaves_alone_stays_what_it_is() {
    let message = r#"{"op":"m","source":{"connector":"postgresql"},"message":{"prefix":"p"}}"#;
    assert_eq!(change(message, &[]).op, Op::Message);
    let heartbeat = decode(Some(r#"{"ts_ms":5}"#), &[]);
    assert_eq!(heartbeat, Decoded::Other { kind: OtherKind::Heartbeat });
    // A table may have such a column all the same.
    let event = change(r#"{"ts_ms":5,"__op":"c"}"#, &[]);
    assert_eq!(event.after.expect("a row").values, [Value::Long(5)]);
}

#[test]
fn columns_of_the_table_stay_whatever_they_begin_with() {
    let event = change(r#"{"id":1,"__mine":2,"op":"x","deleted":"true","source":"web"}"#, &[]);
    let row = event.after.expect("a row");
    let names: Vec<&str> = row.shape.fields.iter().map(|field| field.name.as_str()).collect();
    assert_eq!(names, ["id", "__mine", "op", "deleted", "source"]);
    assert_eq!(event.op, Op::Update);
}
