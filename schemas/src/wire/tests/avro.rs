//! Avro, next to `apache-avro`.

use apache_avro::types::Value as Avro;
use apache_avro::{Schema, to_avro_datum};
use proptest::prelude::*;
use serde_json::{Value as Json, json};

use super::super::avro;
use super::*;
use crate::value::Value;

/// Every type that a converter writes, and what AvroData annotates.
const EVERY_TYPE: &str = r#"{
  "type": "record", "name": "Row", "namespace": "shop", "connect.name": "shop.Row",
  "fields": [
    { "name": "flag", "type": "boolean" },
    { "name": "tiny", "type": { "type": "int", "connect.type": "int8" } },
    { "name": "number", "type": "int" },
    { "name": "big", "type": ["null", "long"], "default": null },
    { "name": "single", "type": "float" },
    { "name": "real", "type": "double" },
    { "name": "price", "type": { "type": "bytes", "scale": 2, "precision": 10, "logicalType": "decimal",
        "connect.name": "org.apache.kafka.connect.data.Decimal", "connect.version": 1,
        "connect.parameters": { "scale": "2", "connect.decimal.precision": "10" } } },
    { "name": "name", "type": [{ "type": "string", "connect.default": "x" }, "null"], "default": "x" },
    { "name": "mark", "type": { "type": "fixed", "name": "Mark", "size": 3 } },
    { "name": "mood", "type": { "type": "enum", "name": "Mood", "symbols": ["SAD", "GLAD"] } },
    { "name": "list", "type": { "type": "array", "items": ["null", "long"] } },
    { "name": "map", "type": { "type": "map", "values": "int" } },
    { "name": "day", "type": { "type": "int", "logicalType": "date" } },
    { "name": "inner", "type": { "type": "record", "name": "Inner", "fields": [{ "name": "mood", "type": "Mood" }] } },
    { "name": "again", "type": ["null", "Inner"], "default": null }
  ]
}"#;

fn read(schema: &str, body: &[u8]) -> Result<String, String> {
    let (_, plan) = avro::read(&text(schema))?;
    let mut out = String::new();
    plan.read(body, 1 << 20, &mut out)?;
    Ok(out)
}

fn encoded(schema: &str, value: Avro) -> Vec<u8> {
    let schema = Schema::parse_str(schema).expect("schema");
    to_avro_datum(&schema, value).expect("encodes")
}

fn field(name: &str, value: Avro) -> (String, Avro) {
    (name.to_owned(), value)
}

fn union(branch: u32, value: Avro) -> Avro {
    Avro::Union(branch, Box::new(value))
}

#[test]
fn a_schema_becomes_the_one_that_the_json_converter_writes() {
    let (schema, _) = avro::read(&text(EVERY_TYPE)).expect("schema");
    let schema: Json = serde_json::from_str(&schema).expect("JSON");
    assert_eq!(schema["type"], "struct");
    assert_eq!(schema["name"], "shop.Row");
    let fields = schema["fields"].as_array().expect("fields");
    let field =
        |name: &str| fields.iter().find(|field| field["field"] == name).cloned().expect(name);
    assert_eq!(field("tiny"), json!({"type":"int8","optional":false,"field":"tiny"}));
    assert_eq!(field("big"), json!({"type":"int64","optional":true,"field":"big"}));
    assert_eq!(
        field("price"),
        json!({"type":"bytes","optional":false,"name":"org.apache.kafka.connect.data.Decimal","version":1,
            "parameters":{"scale":"2","connect.decimal.precision":"10"},"field":"price"})
    );
    assert_eq!(
        field("name"),
        json!({"type":"string","optional":true,"default":"x","field":"name"})
    );
    assert_eq!(
        field("list"),
        json!({"type":"array","items":{"type":"int64","optional":true},"optional":false,"field":"list"})
    );
    assert_eq!(
        field("map"),
        json!({"type":"map","keys":{"type":"string","optional":false},
            "values":{"type":"int32","optional":false},"optional":false,"field":"map"})
    );
    assert_eq!(field("day")["name"], "org.apache.kafka.connect.data.Date");
    assert_eq!(field("again")["fields"][0]["type"], "string");
    assert_eq!(
        (&field("mark")["type"], &field("mood")["type"]),
        (&json!("bytes"), &json!("string"))
    );
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]
    #[test]
    fn what_apache_avro_writes_is_read_as_it_was_meant(
        flag: bool, tiny: i8, number: i32, big: Option<i64>, single in proptest::num::f32::NORMAL,
        real in proptest::num::f64::NORMAL, price: Vec<u8>, name: Option<String>, mark: [u8; 3],
        glad: bool, list: Vec<Option<i64>>, map: std::collections::HashMap<String, i32>,
    ) {
        use base64::Engine;
        let base64 = |bytes: &[u8]| base64::engine::general_purpose::STANDARD.encode(bytes);
        let mood = |glad: bool| if glad { "GLAD" } else { "SAD" };
        let mood_of = |glad: bool| Avro::Enum(glad.into(), mood(glad).to_owned());
        let long = |value: Option<i64>| value.map_or(union(0, Avro::Null), |n| union(1, Avro::Long(n)));
        let inner = || Avro::Record(vec![field("mood", mood_of(glad))]);
        let value = Avro::Record(vec![
            field("flag", Avro::Boolean(flag)),
            field("tiny", Avro::Int(tiny.into())),
            field("number", Avro::Int(number)),
            field("big", long(big)),
            field("single", Avro::Float(single)),
            field("real", Avro::Double(real)),
            field("price", Avro::Decimal(price.clone().into())),
            field("name", name.clone().map_or(union(1, Avro::Null), |n| union(0, Avro::String(n)))),
            field("mark", Avro::Fixed(3, mark.into())),
            field("mood", mood_of(glad)),
            field("list", Avro::Array(list.iter().map(|item| long(*item)).collect())),
            field("map", Avro::Map(map.iter().map(|(k, v)| (k.clone(), Avro::Int(*v))).collect())),
            field("day", Avro::Date(number)),
            field("inner", inner()),
            field("again", union(1, inner())),
        ]);
        prop_assume!(!price.is_empty());
        let found = read(EVERY_TYPE, &encoded(EVERY_TYPE, value)).expect("read");
        let found: Json = serde_json::from_str(&found).expect("JSON");
        // By themselves, because the JSON reader here rounds.
        let alone = read("float", &encoded("\"float\"", Avro::Float(single))).expect("read");
        prop_assert_eq!(alone.parse::<f32>(), Ok(single));
        let alone = read("double", &encoded("\"double\"", Avro::Double(real))).expect("read");
        prop_assert_eq!(alone.parse::<f64>(), Ok(real));
        let expected = json!({
            "flag": flag, "tiny": tiny, "number": number, "big": big, "single": found["single"],
            "real": found["real"], "price": base64(&price), "name": name, "mark": base64(&mark),
            "mood": mood(glad), "list": list, "map": map, "day": number,
            "inner": { "mood": mood(glad) }, "again": { "mood": mood(glad) },
        });
        prop_assert_eq!(found, expected);
    }

    #[test]
    fn no_body_brings_the_reader_down(body: Vec<u8>) {
        let _ = read(EVERY_TYPE, &body);
    }
}

#[test]
fn int64_keeps_every_digit_and_specials_are_words() {
    assert_eq!(
        read("\"long\"", &encoded("\"long\"", Avro::Long(i64::MIN))).as_deref(),
        Ok("-9223372036854775808")
    );
    assert_eq!(
        read("\"long\"", &encoded("\"long\"", Avro::Long(i64::MAX))).as_deref(),
        Ok("9223372036854775807")
    );
    let nan = encoded("\"double\"", Avro::Double(f64::NAN));
    assert_eq!(read("\"double\"", &nan).as_deref(), Ok("\"NaN\""));
    let infinity = encoded("\"float\"", Avro::Float(f32::NEG_INFINITY));
    assert_eq!(read("float", &infinity).as_deref(), Ok("\"-Infinity\""));
}

#[test]
fn unions_of_several_and_maps_with_other_keys_are_those_of_connect() {
    let several = r#"["null","long",{"type":"string"}]"#;
    assert_eq!(read(several, &[0]).as_deref(), Ok("null"));
    assert_eq!(read(several, &[2, 14]).as_deref(), Ok(r#"{"long":7,"string":null}"#));
    assert_eq!(read(several, &[4, 2, b'a']).as_deref(), Ok(r#"{"long":null,"string":"a"}"#));
    let entries = r#"{"type":"array","items":{"type":"record","name":"MapEntry",
        "namespace":"io.confluent.connect.avro","fields":[{"name":"key","type":"int"},{"name":"value","type":"string"}]}}"#;
    assert_eq!(read(entries, &[2, 14, 2, b'a', 0]).as_deref(), Ok(r#"[[7,"a"]]"#));
    let (schema, _) = avro::read(&text(entries)).expect("schema");
    assert!(schema.starts_with(r#"{"type":"map","keys":{"type":"int32""#), "{schema}");
}

#[test]
fn damaged_bodies_are_refused_and_cost_no_more_than_they_weigh() {
    let huge = [0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x01];
    for (schema, body, part) in [
        ("\"long\"", &[][..], "ends in the middle"),
        ("\"long\"", &[0x80; 11], "more than 64 bits"),
        ("\"long\"", &[2, 2], "1 bytes are left over"),
        ("\"int\"", &[0xfe, 0xff, 0xff, 0xff, 0x7f], "over 32 bits"),
        ("\"boolean\"", &[2], "neither 0 nor 1"),
        ("\"string\"", &huge, "negative length"),
        ("\"bytes\"", &[0xfe, 0xff, 0xff, 0xff, 0x0f], "ends in the middle"),
        ("\"string\"", &[2, 0xff], "not UTF-8"),
        (r#"["null","int"]"#, &[4], "no such branch"),
        (r#"["null","int"]"#, &[1], "negative length"),
        (r#"{"type":"enum","name":"E","symbols":["A"]}"#, &[2], "no such symbol"),
        (r#"{"type":"array","items":"null"}"#, &[0xfe, 0xff, 0xff, 0xff, 0x0f], "more items"),
        (r#"{"type":"map","values":"int"}"#, &[0xfe, 0xff, 0xff, 0xff, 0x0f], "more items"),
    ] {
        let error = read(schema, body).expect_err(schema);
        assert!(error.contains(part), "{schema}: {error}");
    }
}

#[test]
fn schemas_that_no_table_has_are_refused() {
    let deep = (0..200)
        .fold("\"int\"".to_owned(), |inner, _| format!(r#"{{"type":"array","items":{inner}}}"#));
    let chain: String = (1..150).fold(
        r#"{"type":"record","name":"R0","fields":[]}"#.to_owned(),
        |types, n| format!(r#"{types},{{"type":"record","name":"R{n}","fields":[{{"name":"a","type":"R{}"}},{{"name":"b","type":"R{}"}}]}}"#, n - 1, n - 1),
    );
    let doubling = chain.split(",{\"type\":\"record\",\"name\":\"R40\"").next().expect("a part");
    for (schema, part) in [
        ("{", "not JSON"),
        ("{}", "without `type`"),
        ("\"what\"", "`what`, which it does not define"),
        ("1", "neither a name"),
        (r#"{"type":"array"}"#, "without `items`"),
        (r#"{"type":"record","name":"R"}"#, "no `fields`"),
        (r#"{"type":"record","fields":[]}"#, "without `name`"),
        (
            r#"{"type":"record","name":"R","fields":[{"name":"r","type":["null","R"]}]}"#,
            "holds itself",
        ),
        (
            r#"{"type":"record","name":"R","fields":[{"name":"a","type":"int"},{"name":"a","type":"int"}]}"#,
            "twice",
        ),
        (
            r#"["int",{"type":"fixed","name":"F","size":1},{"type":"fixed","name":"F","size":1}]"#,
            "twice",
        ),
        (r#"{"type":"fixed","name":"F","size":-1}"#, "no `size`"),
        (&deep, "not JSON"),
        (&format!("[{chain}]"), "deeper than 100"),
        (&format!("[{doubling}]"), "when written out"),
    ] {
        let error = avro::read(&text(schema)).expect_err(part);
        assert!(error.contains(part), "{error}");
    }
}

/// The envelope of a table with one column beside its key.
const ENVELOPE: &str = r#"{"type":"record","name":"Envelope","fields":[
    {"name":"before","type":["null",{"type":"record","name":"Value","fields":[
        {"name":"id","type":"int"},{"name":"at","type":["null",{"type":"long","connect.name":"io.debezium.time.MicroTimestamp"}]}]}]},
    {"name":"after","type":["null","Value"]},
    {"name":"source","type":{"type":"record","name":"Source","fields":[{"name":"connector","type":"string"},{"name":"lsn","type":["null","long"]}]}},
    {"name":"op","type":"string"}]}"#;
const KEY: &str = r#"{"type":"record","name":"Key","fields":[{"name":"id","type":"int"}]}"#;

/// A change of row 7, `at` one microsecond after 1970 began.
fn envelope() -> Vec<u8> {
    let row = Avro::Record(vec![field("id", Avro::Int(7)), field("at", union(1, Avro::Long(1)))]);
    let source = vec![
        field("connector", Avro::String("postgresql".into())),
        field("lsn", union(1, Avro::Long(5))),
    ];
    let value = Avro::Record(vec![
        field("before", union(0, Avro::Null)),
        field("after", union(1, row)),
        field("source", Avro::Record(source)),
        field("op", Avro::String("c".into())),
    ]);
    framed(2, &encoded(ENVELOPE, value))
}

#[test]
fn keys_values_and_the_old_key_are_understood_by_their_schemas() {
    let schemas = [(1, text(KEY)), (2, text(ENVELOPE))];
    let mut decoder = decoder(Encoding::Avro, &schemas);
    let (key, value, old) = (framed(1, &[14]), envelope(), framed(1, &[6]));
    for (header, expected) in [
        (Some(&old[..]), Some(3)),
        // As Connect's own header converter writes it.
        (Some(&b"{\"id\":4}"[..]), Some(4)),
        (Some(b"Struct{id=4}"), None),
        (None, None),
    ] {
        let headers = [(crate::decoder::OLD_KEY, header)];
        let record = record(Some(&key), Some(&value), &headers);
        assert_eq!(decoder.missing_schemas(&record), []);
        let event = change(decoder.decode(&record));
        assert_eq!(event.key.expect("a key").values, [Value::Long(7)]);
        assert_eq!(event.after.expect("a row").values, [Value::Long(7), Value::Timestamp(1)]);
        assert_eq!(event.after_json.as_deref(), Some(r#"{"id":7,"at":1}"#));
        assert_eq!(event.old_key.map(|key| key.values), expected.map(|id| vec![Value::Long(id)]));
        let hash = event.schema_hash.expect("a schema");
        assert!(decoder.schema_text(&hash).expect("its text").contains("MicroTimestamp"));
    }
    assert!(matches!(
        decoder.decode(&record(Some(&key), None, &[])),
        Decoded::Tombstone { key: Some(_) }
    ));
}

#[test]
fn schemas_are_asked_for_once_and_refusals_last_for_one_record() {
    let mut decoder = decoder(Encoding::Avro, &[]);
    let (key, value) = (framed(1, &[14]), envelope());
    let record = record(Some(&key), Some(&value), &[]);
    assert_eq!(decoder.missing_schemas(&record), [SchemaId::Confluent(1), SchemaId::Confluent(2)]);
    decoder.learn(SchemaId::Confluent(1), &text(KEY));
    decoder.refuse(SchemaId::Confluent(2), "there is no schema 2".to_owned());
    assert!(reason(decoder.decode(&record)).contains("there is no schema 2"));
    assert_eq!(decoder.missing_schemas(&record), [SchemaId::Confluent(2)]);
    decoder.learn(SchemaId::Confluent(2), &text(ENVELOPE));
    change(decoder.decode(&record));
    assert_eq!(decoder.missing_schemas(&record), []);
}

#[test]
fn guids_name_schemas_as_ids_do() {
    let mut decoder = decoder(Encoding::Avro, &[]);
    let guids = [SchemaId::ConfluentGuid([1; 16]), SchemaId::ConfluentGuid([2; 16])];
    let (key, value) = ([[1; 17].as_slice(), &[14]].concat(), envelope());
    let header = [[1].as_slice(), &[2; 16]].concat();
    let headers: [(&str, Option<&[u8]>); 1] = [("__value_schema_id", Some(&header))];
    let record = record(Some(&key), Some(&value[5..]), &headers);
    assert_eq!(decoder.missing_schemas(&record), guids);
    decoder.learn(guids[0], &text(KEY));
    decoder.learn(guids[1], &text(ENVELOPE));
    let event = change(decoder.decode(&record));
    assert_eq!(event.key.expect("a key").values, [Value::Long(7)]);
    assert_eq!(event.after_json.as_deref(), Some(r#"{"id":7,"at":1}"#));
}

#[test]
fn a_schema_that_cannot_be_used_makes_its_records_bad_and_says_why() {
    let mut decoder = decoder(Encoding::Avro, &[(1, text(KEY)), (2, text("syntax = \"proto3\";"))]);
    let value = envelope();
    let reason = reason(decoder.decode(&record(None, Some(&value), &[])));
    assert!(reason.starts_with("value cannot be read: schema 2 is not JSON"), "{reason}");
    let damaged = framed(1, &[14, 0]);
    let reason = super::reason(decoder.decode(&record(None, Some(&damaged), &[])));
    assert!(reason.ends_with("(schema 1 of the registry)"), "{reason}");
}
