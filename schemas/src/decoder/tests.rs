//! What is understood of a record.

mod mutated;
mod positions;
mod refused;
mod schemaless;

use super::*;
use crate::change_event::OtherKind;

const FIXTURES: &str = include_str!("../../fixtures/debezium/records.jsonl");

#[derive(Clone)]
struct Fixture {
    topic: String,
    key: Option<String>,
    value: Option<String>,
    headers: Vec<(String, Option<String>)>,
}

impl Fixture {
    fn named(name: &str) -> Self {
        let line = FIXTURES.lines().find(|line| line.contains(&format!("{{\"name\":\"{name}\"")));
        Self::read(line.unwrap_or_else(|| panic!("no fixture `{name}`")))
    }

    fn read(line: &str) -> Self {
        let json: serde_json::Value = serde_json::from_str(line).expect("json");
        let text = |json: &serde_json::Value| json.as_str().map(str::to_owned);
        let headers = json["headers"].as_array().into_iter().flatten();
        Self {
            topic: text(&json["topic"]).expect("topic"),
            key: text(&json["key"]),
            value: text(&json["value"]),
            headers: headers.map(|h| (text(&h[0]).expect("name"), text(&h[1]))).collect(),
        }
    }

    fn decode(&self, decoder: &mut Decoder) -> Decoded {
        let bytes = |text: &'_ Option<String>| text.as_ref().map(|text| text.as_bytes().to_vec());
        let (key, value) = (bytes(&self.key), bytes(&self.value));
        decode_bytes(decoder, &self.topic, key.as_deref(), value.as_deref(), &self.headers)
    }

    fn change(&self) -> ChangeEvent {
        change(self.decode(&mut Decoder::new(DecodeOptions::default())))
    }
}

fn decode_bytes(
    decoder: &mut Decoder,
    topic: &str,
    key: Option<&[u8]>,
    value: Option<&[u8]>,
    headers: &[(String, Option<String>)],
) -> Decoded {
    let headers: Vec<_> = headers
        .iter()
        .map(|(name, value)| (name.as_str(), value.as_ref().map(String::as_bytes)))
        .collect();
    let record = RecordRef {
        topic,
        partition: 0,
        offset: 0,
        timestamp_ms: None,
        key,
        value,
        headers: &headers,
    };
    decoder.decode(&record)
}

fn change(decoded: Decoded) -> ChangeEvent {
    match decoded {
        Decoded::Change(event) => *event,
        other => panic!("no change: {other:?}"),
    }
}

fn decode_value(decoder: &mut Decoder, value: &str) -> Decoded {
    decode_bytes(decoder, "t", Some(b"{\"id\":1}"), Some(value.as_bytes()), &[])
}

fn reason(value: &[u8]) -> String {
    let mut decoder = Decoder::new(DecodeOptions::default());
    match decode_bytes(&mut decoder, "t", None, Some(value), &[]) {
        Decoded::Malformed { reason } => reason,
        other => panic!("{:?} is understood as {other:?}", String::from_utf8_lossy(value)),
    }
}

fn envelope(op: &str, after: &str) -> String {
    format!(
        r#"{{"before":null,"after":{after},"source":{{"connector":"postgresql","lsn":7}},"op":"{op}"}}"#
    )
}

fn row(decoder: &mut Decoder, after: &str) -> Row {
    change(decode_value(decoder, &envelope("r", after))).after.expect("a row")
}

fn typed(row: &Row) -> Vec<String> {
    let fields = row.shape.fields.iter();
    fields.map(|field| field.column_type.as_ref().map_or("?".into(), ToString::to_string)).collect()
}

fn text(text: &str) -> Value {
    Value::Text(text.to_owned())
}

#[test]
fn a_read_with_inline_schema_is_typed_by_it() {
    let event = Fixture::named("read-with-schema").change();
    assert_eq!(event.op, Op::Read);
    let row = event.after.expect("a row");
    assert_eq!(typed(&row), ["int", "int", "text", "decimal(10,2)", "text", "int"]);
    assert_eq!(row.get("c"), Some(&Value::Decimal { unscaled: 110, scale: 2 }));
    assert_eq!(row.get("d"), Some(&text("d1")));
    assert_eq!(event.key.expect("a key").values, [Value::Long(1)]);
    assert!(event.source.snapshot.is_some() && event.schema_hash.is_some());
    assert!(
        event.after_json.is_some_and(|json| json.starts_with("{\"id\":1,") && json.ends_with('}'))
    );
}

#[test]
fn keys_keep_the_order_of_the_key() {
    let fixture = Fixture::named("create-with-schema");
    let key = fixture.change().key.expect("a key");
    let names: Vec<&str> = key.shape.fields.iter().map(|field| field.name.as_str()).collect();
    assert_eq!(names, ["b", "a"]);
    assert_eq!(key.values, [text("k6"), Value::Long(6)]);
    let mut decoder = Decoder::new(DecodeOptions::default());
    let tombstone = Fixture::named("tombstone-with-schema").decode(&mut decoder);
    assert!(matches!(tombstone, Decoded::Tombstone { key: Some(key) } if key.values.len() == 2));
}

#[test]
fn placeholders_of_an_update_are_unavailable_in_every_encoding() {
    let row = Fixture::named("update-with-placeholders").change().after.expect("a row");
    for field in ["big", "bigb", "bigj", "biga"] {
        assert_eq!(row.get(field), Some(&Value::Unavailable), "{field}");
    }
    assert_eq!(row.get("small"), Some(&Value::Long(101)));
}

#[test]
fn a_placeholder_is_looked_for_only_where_the_source_sends_one() {
    let mut fixture = Fixture::named("update-with-placeholders");
    let value = fixture.value.as_ref().expect("a value").replace("\"op\":\"u\"", "\"op\":\"d\"");
    fixture.value = Some(value.replace("\"after\":", "\"then\":").replace("\"before\":null,", ""));
    fixture.value = fixture.value.map(|value| value.replace("\"then\":", "\"before\":"));
    let row = fixture.change().before.expect("a row before");
    assert_eq!(row.get("big"), Some(&text(placeholder::DEFAULT)));
    let options = DecodeOptions { placeholder: "N/A".into(), ..DecodeOptions::default() };
    let update = Fixture::named("update-with-placeholders").decode(&mut Decoder::new(options));
    assert_eq!(change(update).after.expect("a row").get("big"), Some(&text(placeholder::DEFAULT)));
}

#[test]
fn a_key_change_names_its_old_key() {
    let created = Fixture::named("create-of-key-change");
    let event = created.change();
    assert_eq!(event.key.as_ref().expect("a key").values, [Value::Long(30)]);
    assert_eq!(event.old_key.as_ref().expect("an old key").values, [Value::Long(3)]);
    let deleted = Fixture::named("delete-of-key-change").change();
    assert_eq!((deleted.op, deleted.after, deleted.old_key), (Op::Delete, None, None));
    // At one place in the log, the delete comes first.
    assert!(deleted.source.position < event.source.position);

    let mut unreadable = created.clone();
    unreadable.headers.iter_mut().filter(|h| h.0 == OLD_KEY).for_each(|h| h.1 = Some("{x".into()));
    let decoded = unreadable.decode(&mut Decoder::new(DecodeOptions::default()));
    assert!(matches!(decoded, Decoded::Malformed { reason } if reason.contains(OLD_KEY)));
    let value = unreadable.value.as_ref().expect("a value");
    unreadable.value = Some(value.replace(placeholder::DEFAULT, "x").replace("X19k", "AAAA"));
    assert_eq!(unreadable.change().old_key, None);
}

#[test]
fn every_form_of_a_tombstone_is_one() {
    let schema = r#"{"type":"struct","fields":[]}"#;
    let with_schema = format!(r#"{{"schema":{schema},"payload":null}}"#);
    let mut decoder = Decoder::new(DecodeOptions::default());
    for value in [
        None,
        Some("null"),
        Some(" null "),
        Some(with_schema.as_str()),
        Some(r#"{"payload":null,"schema":null}"#),
    ] {
        for _ in 0..2 {
            let value = value.map(str::as_bytes);
            let decoded = decode_bytes(&mut decoder, "t", Some(b"{\"id\":1}"), value, &[]);
            assert!(matches!(decoded, Decoded::Tombstone { key: Some(_) }), "{value:?}");
        }
    }
    let both_null = Fixture::named("null-key-and-value").decode(&mut decoder);
    assert_eq!(both_null, Decoded::Tombstone { key: None });
    let null_key = decode_bytes(&mut decoder, "t", Some(b"null"), None, &[]);
    assert_eq!(null_key, Decoded::Tombstone { key: None });
}

#[test]
fn what_is_no_row_is_told_apart() {
    let mut decoder = Decoder::new(DecodeOptions::default());
    for (name, kind) in [
        ("heartbeat", OtherKind::Heartbeat),
        ("transaction", OtherKind::Transaction),
        ("mariadb-schema-change", OtherKind::SchemaChange),
    ] {
        assert_eq!(Fixture::named(name).decode(&mut decoder), Decoded::Other { kind }, "{name}");
    }
    for (value, kind) in [
        (r#"{"id":"1","type":"execute-snapshot","data":{}}"#, OtherKind::Signal),
        (
            r#"{"id":"1","aggregate_type":"Initial Snapshot","type":"COMPLETED"}"#,
            OtherKind::Notification,
        ),
    ] {
        assert_eq!(decode_value(&mut decoder, value), Decoded::Other { kind });
    }
    let truncate = Fixture::named("truncate").change();
    assert_eq!((truncate.op, truncate.key), (Op::Truncate, None));
    assert_eq!(Fixture::named("message").change().op, Op::Message);
}

#[test]
fn rows_of_one_schema_share_their_shape_and_its_text_can_be_had() {
    let mut decoder = Decoder::new(DecodeOptions::default());
    let fixture = Fixture::named("read-with-schema");
    let (first, second) =
        (change(fixture.decode(&mut decoder)), change(fixture.decode(&mut decoder)));
    let shape = |event: &ChangeEvent| Arc::clone(&event.after.as_ref().expect("a row").shape);
    assert!(Arc::ptr_eq(&shape(&first), &shape(&second)));
    assert_eq!(first, second, "the short way gives what the long way gave");
    let hash = first.schema_hash.expect("a hash");
    let schema = decoder.schema_text(&hash).expect("a text");
    assert!(fixture.value.expect("a value").contains(&*schema));
}

#[test]
fn key_columns_may_be_named_like_the_parts_of_an_envelope() {
    let field = |name: &str| format!(r#"{{"type":"int32","field":"{name}"}}"#);
    let fields = ["op", "source", "after"].map(field).join(",");
    let schema = format!(r#"{{"type":"struct","fields":[{fields}]}}"#);
    let key = format!(r#"{{"schema":{schema},"payload":{{"op":1,"source":2,"after":3}}}}"#);
    let mut decoder = Decoder::new(DecodeOptions::default());
    let decoded = decode_bytes(&mut decoder, "t", Some(key.as_bytes()), None, &[]);
    let Decoded::Tombstone { key: Some(key) } = decoded else { panic!("{decoded:?}") };
    assert_eq!(typed(&key), ["int", "int", "int"]);
}

#[test]
fn members_are_found_by_name_and_the_last_one_counts() {
    let schema = r#"{"type":"struct","fields":[
        {"type":"struct","field":"after","fields":[
            {"type":"int32","field":"a"},{"type":"string","optional":true,"field":"b"}]},
        {"type":"string","field":"op"},{"type":"struct","field":"source","fields":[]}]}"#;
    let mut decoder = Decoder::new(DecodeOptions::default());
    let mut decode = |after: &str| {
        let value = format!(r#"{{"schema":{schema},"payload":{}}}"#, envelope("c", after));
        decode_value(&mut decoder, &value)
    };
    for after in [
        r#"{"a":1,"b":"x"}"#,
        r#"{"b":"x","a":1}"#,
        r#"{"a":2,"b":"x","a":1}"#,
        r#"{"z":[],"a":1,"b":"x"}"#,
    ] {
        let row = change(decode(after)).after.expect("a row");
        assert_eq!(row.values, [Value::Long(1), text("x")], "{after}");
    }
    assert_eq!(change(decode(r#"{"a":1}"#)).after.expect("a row").values[1], Value::Null);
    for (after, expected) in [
        (r#"{"b":"x"}"#, "`after.a` is missing"),
        (r#"{"a":null,"b":"x"}"#, "`after.a` is null"),
        (r#"{"a":2147483648,"b":"x"}"#, "`after.a` is not an integer of 32 bits"),
        (r#"{"a":1.5,"b":"x"}"#, "`after.a` is not an integer"),
        (r#"{"a":1,"b":5}"#, "`after.b` is not a string"),
        (r#""text""#, "`after` is not an object"),
    ] {
        let decoded = decode(after);
        assert!(
            matches!(&decoded, Decoded::Malformed { reason } if reason.contains(expected)),
            "{decoded:?}"
        );
    }
}
