//! What must hold for any bytes of a registry's records: shared by the fuzz targets and by the replay
//! of their corpora.
//!
//! An input for Avro and Protobuf begins with a byte that chooses one of the schemas below, or says
//! that a schema of its own follows, up to the byte `0xff`; the rest is a body. An input for framings
//! is a byte that chooses one, then value and an id for headers, with `0xff` between them.

use lakebed_schemas::bronze;
use lakebed_schemas::change_event::Decoded;
use lakebed_schemas::config::{IdForm, IdSpace};
use lakebed_schemas::decoder::{DecodeOptions, Decoder, Limits, OLD_KEY, RecordRef};
use lakebed_schemas::value::Value;
use lakebed_schemas::wire::{Encoding, Framing, SchemaId, SchemaText, Wire};

/// What parts of an input stand apart by.
const BETWEEN: u8 = 0xff;
/// Bytes of a record and of the JSON that it comes to.
const BYTES_MAX: usize = 64 << 10;
/// Memory that a decoded row may take for each byte that its JSON may have, and beside that.
const WEIGHT_PER_BYTE: usize = 64;

const AVRO: [&str; 3] = [
    r#"{"type":"record","name":"Envelope","fields":[
        {"name":"before","type":["null",{"type":"record","name":"Value","fields":[
            {"name":"id","type":"int"},
            {"name":"at","type":["null",{"type":"long","connect.name":"io.debezium.time.MicroTimestamp"}]},
            {"name":"n","type":["null",{"type":"bytes","logicalType":"decimal","scale":2,"precision":10}]},
            {"name":"v","type":["null",{"type":"record","name":"VariableScaleDecimal","namespace":"io.debezium.data",
                "connect.name":"io.debezium.data.VariableScaleDecimal","fields":[{"name":"scale","type":"int"},{"name":"value","type":"bytes"}]}]},
            {"name":"d","type":["double","null"]},
            {"name":"s","type":["string","null"]},
            {"name":"l","type":{"type":"array","items":["null","string"]}}]}]},
        {"name":"after","type":["null","Value"]},
        {"name":"source","type":{"type":"record","name":"Source","fields":[{"name":"connector","type":"string"},{"name":"lsn","type":["null","long"]}]}},
        {"name":"op","type":"string"},{"name":"ts_ms","type":["null","long"]}]}"#,
    r#"{"type":"record","name":"R","fields":[{"name":"b","type":"boolean"},{"name":"f","type":"float"},
        {"name":"x","type":{"type":"fixed","name":"X","size":3}},{"name":"e","type":{"type":"enum","name":"E","symbols":["A","B"]}},
        {"name":"m","type":{"type":"map","values":["null","long","string"]}},{"name":"n","type":"null"}]}"#,
    r#"{"type":"array","items":{"type":"record","name":"MapEntry","fields":[{"name":"key","type":"int"},{"name":"value","type":["null","E",{"type":"array","items":"null"}]}]}}"#,
];
const PROTOBUF: [&str; 2] = [
    "syntax = \"proto3\"; message Envelope { Value before = 1; Value after = 2; Source source = 3; string op = 4; optional int64 ts_ms = 5;
     message Value { int32 id = 1; optional string note = 2; repeated sint64 list = 3; map<string, bytes> map = 4; oneof c { double d = 5; uint64 u = 6; } }
     message Source { string connector = 1; optional int64 lsn = 2; } }",
    "syntax = \"proto3\"; import \"google/protobuf/timestamp.proto\"; import \"google/protobuf/wrappers.proto\"; import \"google/type/date.proto\";
     import \"google/type/timeofday.proto\"; import \"confluent/type/decimal.proto\";
     message R { google.protobuf.Timestamp t = 1; google.type.Date d = 2; google.type.TimeOfDay o = 3; confluent.type.Decimal n = 4;
     google.protobuf.StringValue s = 5; E e = 6; repeated R2 r = 7; enum E { A = 0; B = 1; } } message R2 { fixed32 f = 1; }",
];

fn options(wire: Option<Wire>, flattened: bool) -> DecodeOptions {
    let limits = Limits { record_bytes_max: BYTES_MAX, ..Limits::default() };
    DecodeOptions { wire, flattened, limits, ..DecodeOptions::default() }
}

/// Any bytes as an Avro body, of a schema that is there or of any bytes as a schema.
///
/// # Panics
/// When something does not hold that must hold for any bytes.
pub(crate) fn avro(bytes: &[u8]) {
    body(Encoding::Avro, &AVRO, bytes);
}

/// The same for Protobuf.
///
/// # Panics
/// When something does not hold that must hold for any bytes.
pub(crate) fn protobuf(bytes: &[u8]) {
    body(Encoding::Protobuf, &PROTOBUF, bytes);
}

fn body(encoding: Encoding, known: &[&str], bytes: &[u8]) {
    let Some((choice, rest)) = bytes.split_first() else { return };
    let (schema, body) = match known.get(usize::from(*choice & 0x0f)) {
        Some(schema) => ((*schema).to_owned(), rest),
        None => {
            let mut parts = rest.splitn(2, |byte| *byte == BETWEEN);
            let schema = parts.next().unwrap_or_default();
            let Ok(schema) = str::from_utf8(schema) else { return };
            (schema.to_owned(), parts.next().unwrap_or_default())
        }
    };
    let schema = SchemaText { text: schema, references: Vec::new() };
    let wire = Wire { encoding, framing: Framing::Confluent };
    let mut decoder = Decoder::new(options(Some(wire), choice & 0x80 != 0));
    decoder.learn(SchemaId::Confluent(1), &schema);
    let value = [&[0, 0, 0, 0, 1], body].concat();
    check(&mut decoder, &value, &[(OLD_KEY, Some(&value))]);
}

/// Any bytes as a record of any framing, flattened or not.
///
/// # Panics
/// When something does not hold that must hold for any bytes.
pub(crate) fn framing(bytes: &[u8]) {
    let Some((choice, rest)) = bytes.split_first() else { return };
    let mut parts = rest.splitn(2, |byte| *byte == BETWEEN);
    let (value, header) = (parts.next().unwrap_or_default(), parts.next());
    let framing = match choice & 7 {
        0 => Some(Framing::Confluent),
        1 => Some(Framing::Apicurio(IdForm::FourByte, IdSpace::Content)),
        2 => Some(Framing::Apicurio(IdForm::EightByte, IdSpace::Global)),
        3 => Some(Framing::Apicurio(IdForm::Headers, IdSpace::Global)),
        4 => Some(Framing::Glue),
        _ => None,
    };
    let wire = framing.map(|framing| Wire { encoding: Encoding::Avro, framing });
    let mut decoder = Decoder::new(options(wire, choice & 8 != 0));
    let name = match choice & 16 {
        0 => ["apicurio.value.globalId", "apicurio.key.contentId", "__op", "__source_lsn"]
            [usize::from(choice >> 6)],
        _ => "__value_schema_id",
    };
    check(&mut decoder, value, &[(name, header), (OLD_KEY, header)]);
}

/// Decodes a record whose key and value are these bytes.
fn check(decoder: &mut Decoder, bytes: &[u8], headers: &[(&str, Option<&[u8]>)]) {
    let record = RecordRef {
        topic: "shop.public.orders",
        partition: 3,
        offset: 7,
        timestamp_ms: None,
        key: Some(bytes),
        value: Some(bytes),
        headers,
    };
    for id in decoder.missing_schemas(&record) {
        let schema = SchemaText { text: AVRO[0].to_owned(), references: Vec::new() };
        decoder.learn(id, &schema);
    }
    assert_eq!(decoder.missing_schemas(&record), [], "schemas are asked for once");
    let decoded = decoder.decode(&record);
    // What the decoder remembers of a record must not change what it makes of the next. NaN is not
    // equal to itself: the texts decide.
    assert_eq!(format!("{decoded:?}"), format!("{:?}", decoder.decode(&record)));
    if let Decoded::Malformed { reason } = &decoded {
        assert!(!reason.is_empty() && reason.len() < bytes.len() * 8 + 200_000, "{}", reason.len());
    }
    if let Decoded::Change(event) = &decoded {
        let rows = [&event.key, &event.before, &event.after, &event.old_key];
        let values = rows.into_iter().flatten().flat_map(|row| &row.values);
        let weight: usize = values.map(Value::weight).sum();
        assert!(weight <= 4 * BYTES_MAX * WEIGHT_PER_BYTE, "{weight} bytes in memory");
        if let Some(hash) = &event.schema_hash {
            assert!(decoder.schema_text(hash).is_some(), "the schema's text is gone");
        }
    }
    let row = bronze::row(&record, &decoded, bronze::Remarks::default());
    for (column, value) in bronze::schema().columns.iter().zip(&row) {
        assert!(value.fits(&column.column_type), "{} cannot hold its value", column.name);
    }
}
