//! The same changes as Avro and as Protobuf: what converters write, and how others read it.

use apache_avro::types::Value as Avro;
use apache_avro::{Schema, from_avro_datum, to_avro_datum};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use lakebed::demo::generator::Event;
use lakebed_schemas::decoder::{DecodeOptions, Decoder};
use lakebed_schemas::wire::{Encoding, Framing, SchemaId, SchemaText, Wire};
use prost_reflect::prost::Message;
use prost_reflect::{DescriptorPool, DynamicMessage, Kind, MessageDescriptor, Value as Proto};
use serde_json::Value as Json;

const KEY: u32 = 1;
const VALUE: u32 = 2;
/// Bytes of the frame: byte 0 and an id.
const FRAME: usize = 5;

/// As Confluent's `AvroConverter` registers it.
const AVRO_KEY: &str = r#"{"type":"record","name":"Key","fields":[{"name":"id","type":"long"}]}"#;
const AVRO: &str = r#"{"type":"record","name":"Envelope","namespace":"shop","fields":[
    {"name":"before","default":null,"type":["null",{"type":"record","name":"Value","fields":[
        {"name":"id","type":"long"},{"name":"customer","type":"string"},{"name":"status","type":"string"},
        {"name":"total","type":{"type":"bytes","logicalType":"decimal","scale":2,"precision":12,
            "connect.name":"org.apache.kafka.connect.data.Decimal","connect.version":1,
            "connect.parameters":{"scale":"2","connect.decimal.precision":"12"}}},
        {"name":"ordered_at","type":{"type":"string","connect.name":"io.debezium.time.ZonedTimestamp","connect.version":1}},
        {"name":"tags","default":null,"type":["null",{"type":"array","items":["null","string"]}]},
        {"name":"note","default":null,"type":["null","string"]}]}]},
    {"name":"after","default":null,"type":["null","Value"]},
    {"name":"source","type":{"type":"record","name":"Source","fields":[
        {"name":"version","type":"string"},{"name":"connector","type":"string"},{"name":"name","type":"string"},
        {"name":"ts_ms","type":"long"},{"name":"snapshot","type":["null","string"]},{"name":"db","type":"string"},
        {"name":"sequence","type":["null","string"]},{"name":"ts_us","type":["null","long"]},
        {"name":"ts_ns","type":["null","long"]},{"name":"schema","type":"string"},{"name":"table","type":"string"},
        {"name":"txId","type":["null","long"]},{"name":"lsn","type":["null","long"]},{"name":"xmin","type":["null","long"]},
        {"name":"origin","type":["null","string"]},{"name":"origin_lsn","type":["null","long"]}]}},
    {"name":"transaction","default":null,"type":["null","string"]},
    {"name":"op","type":"string"},{"name":"ts_ms","type":["null","long"]},
    {"name":"ts_us","type":["null","long"]},{"name":"ts_ns","type":["null","long"]}]}"#;

/// As its `ProtobufConverter` does with `optional.for.nullables`, but for the decimal, which is bytes.
const PROTO: &str = r#"syntax = "proto3"; package shop;
message Envelope {
  Value before = 1; Value after = 2; Source source = 3; string op = 4;
  optional int64 ts_ms = 5; optional int64 ts_us = 6; optional int64 ts_ns = 7;
  message Value { int64 id = 1; string customer = 2; string status = 3; bytes total = 4;
    string ordered_at = 5; repeated string tags = 6; optional string note = 7; }
  message Source { string version = 1; string connector = 2; string name = 3; int64 ts_ms = 4;
    optional string snapshot = 5; string db = 6; optional string sequence = 7; optional int64 ts_us = 8;
    optional int64 ts_ns = 9; string schema = 10; string table = 11; optional int64 txId = 12;
    optional int64 lsn = 13; optional int64 xmin = 14; optional string origin = 15;
    optional int64 origin_lsn = 16; }
}
message Key { int64 id = 1; }
"#;

/// Records of one encoding, ours to read with a decoder that knows their schemas.
pub(crate) struct Records {
    pub(crate) events: Vec<Event>,
    pub(crate) decoder: Decoder,
}

fn decoder(encoding: Encoding, key: &str, value: &str) -> Decoder {
    let wire = Some(Wire { encoding, framing: Framing::Confluent });
    let mut decoder = Decoder::new(DecodeOptions { wire, ..DecodeOptions::default() });
    for (id, text) in [(KEY, key), (VALUE, value)] {
        let schema = SchemaText { text: text.to_owned(), references: Vec::new() };
        decoder.learn(SchemaId::Confluent(id), &schema);
    }
    decoder
}

/// The same events with other bytes.
fn encoded(events: &[Event], encode: impl Fn(u32, &Json) -> Vec<u8>) -> Vec<Event> {
    let bytes = |id: u32, json: &[u8]| {
        let json = serde_json::from_slice(json).expect("JSON");
        [&[0][..], &id.to_be_bytes(), &encode(id, &json)].concat()
    };
    let event = |event: &Event| Event {
        id: event.id,
        key: bytes(KEY, &event.key),
        value: event.value.as_deref().map(|value| bytes(VALUE, value)),
    };
    events.iter().map(event).collect()
}

pub(crate) struct AvroReader(Schema);

impl AvroReader {
    pub(crate) fn new() -> Self {
        Self(Schema::parse_str(AVRO).expect("a schema"))
    }

    pub(crate) fn records(&self, events: &[Event]) -> Records {
        let key = Schema::parse_str(AVRO_KEY).expect("a schema");
        let Schema::Record(envelope) = &self.0 else { panic!("an envelope") };
        let Schema::Union(before) = &envelope.fields[0].schema else { panic!("a union") };
        let row = &before.variants()[1];
        let events = encoded(events, |id, json| {
            let schema = if id == KEY { &key } else { &self.0 };
            to_avro_datum(schema, avro(schema, row, json)).expect("encodes")
        });
        Records { events, decoder: decoder(Encoding::Avro, AVRO_KEY, AVRO) }
    }

    pub(crate) fn read(&self, framed: &[u8]) -> Avro {
        from_avro_datum(&self.0, &mut &framed[FRAME..], None).expect("a record")
    }
}

/// A value of a schema by its JSON. The one schema that is referred to is that of rows.
fn avro(schema: &Schema, row: &Schema, json: &Json) -> Avro {
    let text = || json.as_str().expect("a string");
    match schema {
        Schema::Record(record) => {
            let fields = record.fields.iter();
            let fields =
                fields.map(|f| (f.name.clone(), avro(&f.schema, row, &json[f.name.as_str()])));
            Avro::Record(fields.collect())
        }
        Schema::Ref { .. } => avro(row, row, json),
        Schema::Union(_) if json.is_null() => Avro::Union(0, Box::new(Avro::Null)),
        Schema::Union(union) => Avro::Union(1, Box::new(avro(&union.variants()[1], row, json))),
        Schema::Array(array) => {
            let items = json.as_array().expect("an array").iter();
            Avro::Array(items.map(|item| avro(&array.items, row, item)).collect())
        }
        Schema::Decimal(_) => Avro::Decimal(STANDARD.decode(text()).expect("base64").into()),
        Schema::Long => Avro::Long(json.as_i64().expect("an integer")),
        Schema::String => Avro::String(text().to_owned()),
        other => panic!("{other:?} is not in these schemas"),
    }
}

pub(crate) struct ProtobufReader(DescriptorPool);

impl ProtobufReader {
    pub(crate) fn new() -> Self {
        let folder = tempfile::tempdir().expect("a folder");
        let file = folder.path().join("shop.proto");
        std::fs::write(&file, PROTO).expect("writes");
        let set = protox::compile([file], [folder.path()]).expect("compiles");
        Self(DescriptorPool::from_file_descriptor_set(set).expect("descriptors"))
    }

    fn message(&self, id: u32) -> MessageDescriptor {
        let name = if id == KEY { "shop.Key" } else { "shop.Envelope" };
        self.0.get_message_by_name(name).expect("a message")
    }

    pub(crate) fn records(&self, events: &[Event]) -> Records {
        let events = encoded(events, |id, json| {
            // Which message of the file: the first is a 0, the second a list of one.
            let index: &[u8] = if id == KEY { &[2, 2] } else { &[0] };
            [index, &protobuf(self.message(id), json).encode_to_vec()].concat()
        });
        Records { events, decoder: decoder(Encoding::Protobuf, PROTO, PROTO) }
    }

    pub(crate) fn read(&self, message: &MessageDescriptor, framed: &[u8]) -> DynamicMessage {
        DynamicMessage::decode(message.clone(), &framed[FRAME + 1..]).expect("a message")
    }

    pub(crate) fn envelope(&self) -> MessageDescriptor {
        self.message(VALUE)
    }
}

fn protobuf(descriptor: MessageDescriptor, json: &Json) -> DynamicMessage {
    let mut message = DynamicMessage::new(descriptor.clone());
    for field in descriptor.fields() {
        let json = &json[field.name()];
        let one = |json: &Json| match field.kind() {
            Kind::Int64 => Proto::I64(json.as_i64().expect("an integer")),
            Kind::String => Proto::String(json.as_str().expect("a string").to_owned()),
            Kind::Bytes => {
                let bytes = STANDARD.decode(json.as_str().expect("a string")).expect("base64");
                Proto::Bytes(bytes.into())
            }
            Kind::Message(inner) => Proto::Message(protobuf(inner, json)),
            other => panic!("{other:?} is not in these messages"),
        };
        match json {
            Json::Null => {}
            Json::Array(items) => {
                message.set_field(&field, Proto::List(items.iter().map(one).collect()));
            }
            json => message.set_field(&field, one(json)),
        }
    }
    message
}
