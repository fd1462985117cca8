//! Protobuf in the shapes that Confluent's converter gives to Connect's schemas.

use prost_reflect::prost::Message;
use prost_reflect::{DescriptorPool, DynamicMessage, MapKey, Value as Proto};

use super::super::protobuf::{Schema, message_index};
use super::*;
use crate::value::Value;

const EVERY_TYPE: &str = r#"
syntax = "proto3";
package shop;
import "google/protobuf/timestamp.proto";
import "google/protobuf/wrappers.proto";
import "google/type/date.proto";
import "google/type/timeofday.proto";
import "confluent/meta.proto";
import "confluent/type/decimal.proto";
import "other.proto";
message First { int32 id = 1; }
message Row {
  int32 tiny = 1 [(confluent.field_meta) = { params: [{ key: "connect.type", value: "int8" }] }];
  optional int64 big = 2;
  uint64 huge = 3;
  float single = 4;
  double real = 5;
  bool flag = 6;
  string name = 7;
  bytes bits = 8;
  Mood mood = 9;
  google.protobuf.Timestamp at = 10;
  google.type.Date day = 11;
  google.type.TimeOfDay time = 12;
  confluent.type.Decimal price = 13 [(confluent.field_meta) = { params: [
    { key: "precision", value: "10" }, { key: "scale", value: "2" } ] }];
  google.protobuf.StringValue note = 14;
  repeated int64 list = 15;
  map<string, int32> map = 16;
  map<int32, string> pairs = 17;
  VariableScaleDecimal exact = 18;
  oneof choice { int32 left = 19; string right = 20; }
  other.Place place = 21;
  message VariableScaleDecimal { int32 scale = 1; bytes value = 2; }
  enum Mood { SAD = 0; GLAD = 1; }
}
"#;
const OTHER: &str =
    "syntax = \"proto3\"; package other; message Place { optional string city = 1; }";

fn schema_text() -> SchemaText {
    let references = vec![("other.proto".to_owned(), OTHER.to_owned())];
    SchemaText { text: EVERY_TYPE.to_owned(), references }
}

fn pool() -> DescriptorPool {
    Schema::new(&schema_text()).expect("schema").pool().clone()
}

fn message(pool: &DescriptorPool, name: &str, fields: &[(&str, Proto)]) -> DynamicMessage {
    let mut message = DynamicMessage::new(pool.get_message_by_name(name).expect(name));
    for (name, value) in fields {
        message.set_field_by_name(name, value.clone());
    }
    message
}

fn read(index: &[usize], body: &[u8]) -> Result<String, String> {
    let (_, plan) = Schema::new(&schema_text())?.plan(index)?;
    let mut out = String::new();
    plan.read(body, 1 << 20, &mut out)?;
    Ok(out)
}

#[test]
fn every_type_is_what_connect_makes_of_it() {
    let pool = pool();
    let of = |name: &str, fields: &[(&str, Proto)]| Proto::Message(message(&pool, name, fields));
    let bytes = |bytes: &'static [u8]| Proto::Bytes(bytes.into());
    let row = message(
        &pool,
        "shop.Row",
        &[
            ("tiny", Proto::I32(-1)),
            ("big", Proto::I64(i64::MIN)),
            ("huge", Proto::U64(u64::MAX)),
            ("single", Proto::F32(0.1)),
            ("real", Proto::F64(f64::NAN)),
            ("flag", Proto::Bool(true)),
            ("name", Proto::String("ü".into())),
            ("bits", bytes(&[0, 255])),
            ("mood", Proto::EnumNumber(1)),
            (
                "at",
                of(
                    "google.protobuf.Timestamp",
                    &[("seconds", Proto::I64(-1)), ("nanos", Proto::I32(5_000_000))],
                ),
            ),
            (
                "day",
                of(
                    "google.type.Date",
                    &[
                        ("year", Proto::I32(1969)),
                        ("month", Proto::I32(12)),
                        ("day", Proto::I32(31)),
                    ],
                ),
            ),
            (
                "time",
                of(
                    "google.type.TimeOfDay",
                    &[("hours", Proto::I32(1)), ("nanos", Proto::I32(2_000_000))],
                ),
            ),
            (
                "price",
                of("confluent.type.Decimal", &[("value", bytes(&[1])), ("scale", Proto::I32(2))]),
            ),
            ("note", of("google.protobuf.StringValue", &[("value", Proto::String(String::new()))])),
            ("list", Proto::List(vec![Proto::I64(1), Proto::I64(2)])),
            (
                "map",
                Proto::Map(
                    [
                        (MapKey::String("b".into()), Proto::I32(2)),
                        (MapKey::String("a".into()), Proto::I32(1)),
                    ]
                    .into(),
                ),
            ),
            ("pairs", Proto::Map([(MapKey::I32(3), Proto::String("x".into()))].into())),
            (
                "exact",
                of(
                    "shop.Row.VariableScaleDecimal",
                    &[("scale", Proto::I32(3)), ("value", bytes(&[7]))],
                ),
            ),
            ("right", Proto::String("r".into())),
            ("place", of("other.Place", &[])),
        ],
    );
    let expected = r#"{"choice_0":{"left":null,"right":"r"},"tiny":-1,"big":-9223372036854775808,"huge":18446744073709551615,"single":0.1,"real":"NaN","flag":true,"name":"ü","bits":"AP8=","mood":"GLAD","at":-995,"day":-1,"time":3600002,"price":"AQ==","note":"","list":[1,2],"map":{"a":1,"b":2},"pairs":[[3,"x"]],"exact":{"scale":3,"value":"Bw=="},"place":{"city":null}}"#;
    assert_eq!(read(&[1], &row.encode_to_vec()).as_deref(), Ok(expected));
    let nothing = r#"{"choice_0":null,"tiny":0,"big":null,"huge":0,"single":0.0,"real":0.0,"flag":false,"name":"","bits":"","mood":"SAD","at":null,"day":null,"time":null,"price":null,"note":null,"list":[],"map":{},"pairs":[],"exact":null,"place":null}"#;
    assert_eq!(read(&[1], &[]).as_deref(), Ok(nothing));
}

#[test]
fn the_schema_is_connects() {
    let (schema, _) = Schema::new(&schema_text()).expect("schema").plan(&[1]).expect("plan");
    let schema: serde_json::Value = serde_json::from_str(&schema).expect("JSON");
    let fields = schema["fields"].as_array().expect("fields");
    let field = |name: &str| fields.iter().find(|field| field["field"] == name).expect(name);
    let kind = |name: &str| {
        let field = field(name);
        let name = field["name"].as_str().unwrap_or_default();
        (field["type"].as_str().unwrap_or_default(), field["optional"] == true, name.to_owned())
    };
    let logical = |name: &str| format!("org.apache.kafka.connect.data.{name}");
    assert_eq!(kind("tiny"), ("int8", false, String::new()));
    assert_eq!(kind("big"), ("int64", true, String::new()));
    assert_eq!(kind("note"), ("string", true, String::new()));
    assert_eq!(kind("at"), ("int64", true, logical("Timestamp")));
    assert_eq!(kind("day"), ("int32", true, logical("Date")));
    assert_eq!(kind("price"), ("bytes", true, logical("Decimal")));
    assert_eq!(field("price")["parameters"]["scale"], "2");
    assert_eq!(kind("exact"), ("struct", true, "io.debezium.data.VariableScaleDecimal".to_owned()));
    assert_eq!(field("list")["items"]["type"], "int64");
}

#[test]
fn the_message_index_says_which_message_it_is() {
    assert_eq!(message_index(&[0, 9]), Ok((vec![0], &[9][..])));
    assert_eq!(message_index(&[2, 2, 9]), Ok((vec![1], &[9][..])));
    assert_eq!(message_index(&[4, 2, 0, 9]), Ok((vec![1, 0], &[9][..])));
    for bytes in [&[][..], &[2], &[1], &[0x80; 9], &[0xfe, 0xff, 0x03], &[2, 3]] {
        assert!(message_index(bytes).is_err(), "{bytes:?}");
    }
    assert_eq!(read(&[0], &[8, 14]).as_deref(), Ok(r#"{"id":14}"#));
    // Entries of maps are no messages of their own.
    assert_eq!(read(&[1, 0], &[8, 2]).as_deref(), Ok(r#"{"scale":2,"value":""}"#));
    for index in [&[7][..], &[1, 1], &[0, 0]] {
        assert!(read(index, &[]).expect_err("none").contains("no message"), "{index:?}");
    }
}

const ENVELOPE: &str = r#"syntax = "proto3"; package pg.orders;
message Envelope {
  Value before = 1; Value after = 2; Source source = 3; string op = 4; OPTIONAL int64 ts_ms = 5;
  message Value { int32 id = 1; optional string note = 2; }
  message Source { string connector = 1; optional int64 lsn = 2; }
}"#;

#[test]
fn an_envelope_is_understood_and_one_without_nulls_is_refused() {
    let key = "syntax = \"proto3\"; message Key { int32 id = 1; }";
    // source { connector: "postgresql", lsn: 5 }, after { id: 7 }, op: "c"
    let body = b"\x00\x12\x02\x08\x07\x1a\x0e\x0a\x0apostgresql\x10\x05\x22\x01c";
    let (key_bytes, value) = (framed(1, &[0, 8, 7]), framed(2, body));
    let record = record(Some(&key_bytes), Some(&value), &[]);
    let with = |label: &str| text(&ENVELOPE.replace("OPTIONAL", label));

    let schemas = [(1, text(key)), (2, with("optional"))];
    let mut good = decoder(Encoding::Protobuf, &schemas);
    let event = change(good.decode(&record));
    assert_eq!(event.key.expect("a key").values, [Value::Long(7)]);
    assert_eq!(event.after.expect("a row").values, [Value::Long(7), Value::Null]);
    assert_eq!(event.after_json.as_deref(), Some(r#"{"id":7,"note":null}"#));
    assert!(event.source.position.is_some());

    // By a GUID in a header, the message index stands behind it there.
    let guid = [&[1][..], &[6; 16], &[0]].concat();
    good.learn(SchemaId::ConfluentGuid([6; 16]), &with("optional"));
    let headers: [(&str, Option<&[u8]>); 1] = [("__value_schema_id", Some(&guid))];
    let in_header = super::record(Some(&key_bytes), Some(&body[1..]), &headers);
    assert_eq!(good.missing_schemas(&in_header), []);
    assert_eq!(
        change(good.decode(&in_header)).after_json.as_deref(),
        Some(r#"{"id":7,"note":null}"#)
    );

    let mut lossy = decoder(Encoding::Protobuf, &[(1, text(key)), (2, with(""))]);
    let reason = reason(lossy.decode(&record));
    assert!(reason.contains("`optional.for.nullables`"), "{reason}");
}

#[test]
fn a_schema_may_be_registered_as_a_descriptor() {
    use base64::Engine;
    let file = pool().get_file_by_name("lakebed-root.proto").expect("a file");
    let descriptor = base64::engine::general_purpose::STANDARD.encode(file.encode_to_vec());
    let schema = SchemaText { text: descriptor, ..schema_text() };
    let (_, plan) = Schema::new(&schema).expect("schema").plan(&[0]).expect("plan");
    let mut out = String::new();
    plan.read(&[8, 14], 100, &mut out).expect("read");
    assert_eq!(out, r#"{"id":14}"#);
}

#[test]
fn what_is_damaged_or_endless_is_refused() {
    for (schema, part) in [
        ("not a schema", "no Protobuf schema"),
        ("syntax = \"proto3\"; import \"absent.proto\";", "absent.proto"),
        ("syntax = \"proto3\"; message A { A a = 1; }", "in itself"),
        (
            "syntax = \"proto3\"; message A { B b = 1; } message B { repeated A a = 1; }",
            "in itself",
        ),
    ] {
        let error = Schema::new(&text(schema)).and_then(|schema| schema.plan(&[0]).map(|_| ()));
        let error = error.expect_err(schema);
        assert!(error.contains(part), "{error}");
    }
    for body in [&[8][..], &[0x0a, 0xff, 0xff, 0xff, 0x7f], &[7], &[0x12, 1]] {
        assert!(read(&[0], body).expect_err("damaged").contains("no such message"), "{body:?}");
    }
    let pool = pool();
    let price = message(&pool, "confluent.type.Decimal", &[("scale", Proto::I32(3))]);
    let row = message(&pool, "shop.Row", &[("price", Proto::Message(price))]);
    assert!(read(&[1], &row.encode_to_vec()).expect_err("scale").contains("scale of 2"));
    let day =
        message(&pool, "google.type.Date", &[("year", Proto::I32(1)), ("month", Proto::I32(13))]);
    let row = message(&pool, "shop.Row", &[("day", Proto::Message(day))]);
    assert!(read(&[1], &row.encode_to_vec()).expect_err("month").contains("date or time"));
}
