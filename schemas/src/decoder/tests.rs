//! What is understood of a record, and what is said of one that is not.

mod positions;

use crate::json::DEPTH_MAX;
use base64::Engine;
use proptest::prelude::*;

use super::*;
use crate::change_event::OtherKind;
use crate::column::ColumnType;

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
fn positions_order_as_the_source_commits() {
    let position = |connector: &str, fields: &str, epoch: u32| {
        let options = DecodeOptions { epoch, ..DecodeOptions::default() };
        let value =
            format!(r#"{{"op":"c","after":{{}},"source":{{"connector":"{connector}",{fields}}}}}"#);
        change(decode_value(&mut Decoder::new(options), &value)).source.position
    };
    let pg = |committed: &str, lsn: u64| {
        position("postgresql", &format!(r#""sequence":"[{committed},\"{lsn}\"]","lsn":{lsn}"#), 0)
    };
    // Transactions that overlap: the later commit has the lower log position.
    assert!(pg(r#"\"100\""#, 90) < pg(r#"\"120\""#, 80));
    assert!(pg("null", 90) < pg(r#"\"1\""#, 80));
    assert_eq!(pg("null", 90).expect("a position").len(), 44);
    let read = position("postgresql", r#""lsn":999,"snapshot":"first""#, 0);
    assert!(read < pg("null", 1), "snapshot before stream");
    assert!(
        pg(r#"\"9\""#, u64::from(u32::MAX))
            < position("postgresql", r#""lsn":1,"snapshot":"true""#, 1)
    );
    assert_eq!(position("postgresql", r#""lsn":null"#, 0), None);
    assert_eq!(position("postgresql", r#""lsn":5,"snapshot":"incremental""#, 0), None);

    let binlog = |file: &str, pos: u64, row: u32| {
        position("mysql", &format!(r#""file":"{file}","pos":{pos},"row":{row}"#), 0)
    };
    assert!(binlog("mysql-bin.999999", 9, 9) < binlog("mysql-bin.1000000", 4, 0));
    assert!(binlog("b.000001", 9, 0) < binlog("b.000001", 10, 0));
    assert!(binlog("b.000001", 9, 1) < binlog("b.000001", 9, 2));
    assert_eq!(binlog("nothing", 1, 1), None);
    assert!(Fixture::named("mariadb-update").change().source.position.is_some());
    assert_eq!(Fixture::named("read-incremental").change().source.position, None);
    assert_eq!(position("mongodb", r#""ord":1"#, 0), None);
}

#[test]
fn only_a_snapshot_is_called_one() {
    let snapshot = |json: &str| {
        let value =
            format!(r#"{{"op":"c","after":{{}},"source":{{"connector":"x","snapshot":{json}}}}}"#);
        change(decode_value(&mut Decoder::new(DecodeOptions::default()), &value)).source.snapshot
    };
    for streaming in ["null", "\"false\"", "false"] {
        assert_eq!(snapshot(streaming), None);
    }
    assert_eq!(snapshot("true").as_deref(), Some("true"));
    assert_eq!(snapshot("\"last\"").as_deref(), Some("last"));
}

#[test]
fn without_schema_values_are_what_the_json_shows() {
    let mut decoder = Decoder::new(DecodeOptions::default());
    let json = r#"{"i":9007199254740993,"d":0.1,"b":true,"s":"x","o":{"a" : 1.10},"a":[1],"n":null,"e":1E2}"#;
    let found = row(&mut decoder, json);
    assert_eq!(typed(&found), ["long", "double", "boolean", "text", "text", "text", "?", "double"]);
    let expected = [
        Value::Long(9_007_199_254_740_993),
        Value::Double(0.1),
        Value::Boolean(true),
        text("x"),
        text(r#"{"a" : 1.10}"#),
        text("[1]"),
        Value::Null,
        Value::Double(100.0),
    ];
    assert_eq!(found.values, expected);
    let lossy = row(&mut decoder, r#"{"i":9223372036854775808,"d":0.1000000000000000055}"#);
    let out = |text: &str| Value::OutOfRange(text.to_owned());
    assert_eq!(lossy.values, [out("9223372036854775808"), out("0.1000000000000000055")]);
    assert_eq!(typed(&lossy), ["long", "double"]);
}

#[test]
fn without_schema_nulls_fit_the_shape_that_was_there_before() {
    let mut decoder = Decoder::new(DecodeOptions::default());
    let first = row(&mut decoder, r#"{"id":1,"v":null}"#).shape;
    let second = row(&mut decoder, r#"{"id":2,"v":"a"}"#).shape;
    assert_eq!(first.fields[1].column_type, None);
    assert_eq!(second.fields[1].column_type, Some(ColumnType::Text));
    for again in [r#"{"id":3,"v":null}"#, r#"{"id":4,"v":"b"}"#, r#"{"id":null,"v":null}"#] {
        assert!(Arc::ptr_eq(&row(&mut decoder, again).shape, &second), "{again}");
    }
    let other = row(&mut decoder, r#"{"v":1,"id":5}"#);
    assert_eq!(typed(&other), ["long", "long"]);
    assert!(Arc::ptr_eq(&row(&mut decoder, r#"{"id":6,"v":null}"#).shape, &second));
    let added = row(&mut decoder, r#"{"id":7,"v":null,"w":null}"#);
    assert_eq!(typed(&added)[2], "?");
    assert_eq!(typed(&row(&mut decoder, r#"{"id":7,"v":null,"id":"x"}"#)), ["text", "text"]);
}

#[test]
fn configured_columns_go_before_everything() {
    let column = |column_type, encoding| {
        ColumnOverride::parse(column_type, None, Some(encoding)).expect("a column")
    };
    let columns = [("c", column("decimal(10,2)", "base64")), ("at", column("timestamp", "micros"))];
    let columns = columns.into_iter().map(|(name, column)| (name.to_owned(), column)).collect();
    let mut decoder = Decoder::new(DecodeOptions { columns, ..DecodeOptions::default() });
    let found = row(&mut decoder, r#"{"c":"AY/J","at":null,"x":1}"#);
    assert_eq!(typed(&found), ["decimal(10,2)", "timestamp", "long"]);
    assert_eq!(found.values[0], Value::Decimal { unscaled: 102_345, scale: 2 });
    let wrong = decode_value(&mut decoder, &envelope("c", r#"{"c":"!","at":1,"x":1}"#));
    assert!(
        matches!(wrong, Decoded::Malformed { reason } if reason.starts_with("`after.c` is not"))
    );
    let again = row(&mut decoder, r#"{"c":"AA==","at":1,"x":null}"#);
    assert!(Arc::ptr_eq(&again.shape, &found.shape));
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

#[test]
fn what_cannot_be_understood_says_why_and_shows_no_value() {
    let secret = "hunter2";
    for (value, expected) in [
        ("", "value is empty"),
        ("{\"after\":\"hunter2", "not JSON: at byte"),
        ("\u{0}\u{0}\u{0}\u{0}\u{1}hunter2", "a Confluent or Apicurio registry"),
        ("\"hunter2\"", "not an object"),
        ("[1,2]", "not an object"),
        (r#"{"id":1,"password":"hunter2"}"#, "no `op`"),
        (
            r#"{"op":"x","source":{"connector":"a"},"after":{"p":"hunter2"}}"#,
            "none of r, c, u, d, t, m",
        ),
        (r#"{"op":5,"source":{},"after":{}}"#, "none of"),
        (r#"{"op":"c","after":{"p":"hunter2"}}"#, "`source` is missing"),
        (r#"{"op":"c","source":{},"after":{}}"#, "`source.connector`"),
        (r#"{"op":"c","source":{"connector":"a"},"after":null}"#, "`after` is missing"),
        (r#"{"op":"d","source":{"connector":"a"},"after":{"p":"hunter2"}}"#, "`after` is not null"),
        (r#"{"op":"c","source":{"connector":"a"},"after":"hunter2"}"#, "`after` is not an object"),
        (
            r#"{"schema":{"type":"struct","fields":[{"type":"struct","field":"after","fields":[{"type":"hunter","field":"f"}]}]},"payload":{}}"#,
            "`f` has the unknown type",
        ),
    ] {
        let reason = reason(value.as_bytes());
        assert!(reason.contains(expected), "{value}: {reason}");
        assert!(!reason.contains(secret), "{reason}");
    }
    assert!(reason(b"{\"op\":\"\xff\"}").contains("expected UTF-8"));
    assert!(reason(&[b'['; 200]).contains("`limits.depth`"));
    assert!(reason(&vec![b' '; (32 << 20) + 1]).contains("more than the 33554432 allowed"));
    let wide: Vec<String> = (0..5_001).map(|field| format!("\"f{field}\":1")).collect();
    let wide = envelope("c", &format!("{{{}}}", wide.join(",")));
    assert!(reason(wide.as_bytes()).contains("more than 5000 fields"));
    let mut decoder = Decoder::new(DecodeOptions::default());
    let bad_key = decode_bytes(&mut decoder, "t", Some(b"5"), None, &[]);
    assert!(
        matches!(bad_key, Decoded::Malformed { reason } if reason.contains("`key` is not an object"))
    );
}

fn without_shapes(mut decoded: Decoded) -> Decoded {
    if let Decoded::Change(event) = &mut decoded {
        let rows = [&mut event.key, &mut event.before, &mut event.after, &mut event.old_key];
        rows.into_iter().flatten().for_each(|row| row.shape = Arc::default());
    }
    if let Decoded::Tombstone { key: Some(row) } = &mut decoded {
        row.shape = Arc::default();
    }
    decoded
}

/// A mutation of some bytes: where, what, how.
fn mutate(bytes: &mut Vec<u8>, (at, byte, how): (prop::sample::Index, u8, u8)) {
    if bytes.is_empty() {
        return;
    }
    let at = at.index(bytes.len());
    match how {
        0 => bytes[at] = byte,
        1 => drop(bytes.remove(at)),
        2 => bytes.insert(at, byte),
        3 => bytes.truncate(at),
        _ => {
            let tail = bytes[at..].to_vec();
            bytes.extend(tail);
        }
    }
}

#[test]
fn a_schema_seen_before_changes_nothing_of_what_comes_out() {
    let schema = r#"{"type":"struct","fields":[{"type":"struct","fields":[{"type":"int64","optional":true,"field":"id"}],"optional":true,"field":"after"}]}"#;
    let record = |source: &str, end: &str| {
        let payload = format!(
            r#"{{"op":"c","after":{{"id":1}},"source":{{"connector":"postgresql","ts_ms":1,"lsn":1{source}}}}}"#
        );
        format!(r#"{{"schema":{schema},"payload":{payload}{end}}}"#)
    };
    let nested = |depth: usize| format!(",\"x\":{}{}", "[".repeat(depth), "]".repeat(depth));
    let deep = (DEPTH_MAX - 6..DEPTH_MAX + 3).map(|depth| record(&nested(depth), ""));
    let odd = [r#","payload":null"#, r#","payload":1"#, r#","schema":null"#, "}", ""];
    let (mut understood, mut refused) = (0, 0);
    for value in deep.chain(odd.iter().map(|end| record("", end))) {
        let mut decoder = Decoder::new(DecodeOptions::default());
        change(decode_value(&mut decoder, &record("", "")));

        let known = decode_value(&mut decoder, &value);

        let new = decode_value(&mut Decoder::new(DecodeOptions::default()), &value);
        assert_eq!(known, new, "{value}");
        *if matches!(new, Decoded::Change(_)) { &mut understood } else { &mut refused } += 1;
    }
    assert!(understood > 1 && refused > 1, "{understood} and {refused}");
}

proptest! {
    // More of them by hand: PROPTEST_CASES.
    #![proptest_config(ProptestConfig {
        cases: ProptestConfig::default().cases.max(1_000),
        failure_persistence: None,
        ..ProptestConfig::default()
    })]

    #[test]
    fn no_mutation_of_a_record_makes_the_decoder_panic(
        which in any::<prop::sample::Index>(),
        mutations in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>(), 0u8..5), 1..6),
        in_key in any::<bool>(),
    ) {
        let lines: Vec<&str> = FIXTURES.lines().collect();
        let fixture = Fixture::read(lines[which.index(lines.len())]);
        let mut decoder = Decoder::new(DecodeOptions::default());
        let whole = fixture.decode(&mut decoder);
        let mut key = fixture.key.clone().map(String::into_bytes);
        let mut value = fixture.value.clone().map(String::into_bytes);
        if let Some(bytes) = if in_key { key.as_mut() } else { value.as_mut() } {
            mutations.into_iter().for_each(|mutation| mutate(bytes, mutation));
        }
        let decoded =
            decode_bytes(&mut decoder, "t", key.as_deref(), value.as_deref(), &fixture.headers);
        if let Decoded::Malformed { reason } = decoded {
            prop_assert!(!reason.is_empty() && reason.len() < 400);
        }
        // Whatever came in between, what was understood is understood in the same way; only the
        // types of nulls may have become known.
        prop_assert_eq!(without_shapes(fixture.decode(&mut decoder)), without_shapes(whole));
    }

    #[test]
    fn a_long_and_its_text_are_one_number(number in any::<i64>()) {
        let mut decoder = Decoder::new(DecodeOptions::default());
        let found = row(&mut decoder, &format!("{{\"n\":{number}}}"));
        prop_assert_eq!(&found.values[0], &Value::Long(number));
    }

    #[test]
    fn a_double_survives_as_java_and_rust_print_it(number in any::<f64>()) {
        prop_assume!(number.is_finite());
        let mut decoder = Decoder::new(DecodeOptions::default());
        for text in [format!("{number:e}"), format!("{number:?}"), format!("{number:.16e}")] {
            let found = row(&mut decoder, &format!("{{\"n\":{text}}}"));
            let expected = if text.contains(['.', 'e']) { Value::Double(number) } else { continue };
            prop_assert_eq!(&found.values[0], &expected, "{}", text);
        }
    }
}

#[test]
fn a_decimal_of_more_digits_than_allowed_is_refused_and_one_of_as_many_is_taken() {
    let decimal = |digits: usize| {
        let unscaled = num_bytes(digits);
        format!(
            r#"{{"schema":{{"type":"struct","optional":false,"name":"t.Envelope","fields":[{{"field":"after","type":"struct","optional":true,"name":"t.Value","fields":[{{"field":"id","type":"int32","optional":false}},{{"field":"n","type":"bytes","optional":true,"name":"org.apache.kafka.connect.data.Decimal","version":1,"parameters":{{"scale":"2"}}}}]}}]}},"payload":{{"before":null,"after":{{"id":1,"n":"{unscaled}"}},"source":{{"connector":"postgresql","lsn":7}},"op":"c"}}}}"#
        )
    };
    let limits = Limits { decimal_digits_max: 60, ..Limits::default() };
    let options = DecodeOptions { limits, ..DecodeOptions::default() };
    let mut decoder = Decoder::new(options.clone());
    let taken = change(decode_value(&mut decoder, &decimal(60))).after.expect("a row");
    let digits = |value: &Value| match value {
        Value::Text(text) | Value::OutOfRange(text) => {
            text.bytes().filter(u8::is_ascii_digit).count()
        }
        other => panic!("{other:?}"),
    };
    assert_eq!(taken.get("n").map(digits), Some(60));
    let Decoded::Malformed { reason } = decode_value(&mut decoder, &decimal(61)) else {
        panic!("61 digits are understood");
    };
    assert!(reason.contains("`after.n` has 61 digits, more than the 60 allowed"), "{reason}");
    assert_eq!(LimitName::named_in(&reason), Some(LimitName::DecimalDigits));
    let mut roomy = Decoder::new(DecodeOptions { limits: Limits::default(), ..options });
    assert_eq!(
        change(decode_value(&mut roomy, &decimal(61))).after.expect("a row").get("n").map(digits),
        Some(61)
    );
    // A text is no number, however many digits it has.
    let text = "7".repeat(61);
    let row = row(&mut decoder, &format!(r#"{{"id":1,"n":"{text}"}}"#));
    assert_eq!(row.get("n"), Some(&Value::Text(text)));
}

/// Base64 of the two's complement of a number of so many digits, all of them 9.
fn num_bytes(digits: usize) -> String {
    let mut bytes = vec![0u8];
    for _ in 0..digits {
        let mut carry = 9;
        for byte in bytes.iter_mut().rev() {
            let value = u32::from(*byte) * 10 + carry;
            *byte = value as u8;
            carry = value >> 8;
        }
        if carry > 0 {
            bytes.insert(0, carry as u8);
        }
    }
    if bytes[0] > 127 {
        bytes.insert(0, 0);
    }
    base64::prelude::BASE64_STANDARD.encode(bytes)
}
