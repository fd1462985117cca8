//! Avro and Protobuf against encoders that nobody here wrote, and what is said of damaged ones.

mod avro;
mod protobuf;

use super::*;
use crate::change_event::{ChangeEvent, Decoded};
use crate::decoder::{DecodeOptions, Decoder};

fn text(text: &str) -> SchemaText {
    SchemaText { text: text.to_owned(), references: Vec::new() }
}

fn framed(id: u32, body: &[u8]) -> Vec<u8> {
    [&[0][..], &id.to_be_bytes(), body].concat()
}

/// A decoder of Confluent's framing that has these schemas.
fn decoder(encoding: Encoding, schemas: &[(u32, SchemaText)]) -> Decoder {
    let wire = Some(Wire { encoding, framing: Framing::Confluent });
    let mut decoder = Decoder::new(DecodeOptions { wire, ..DecodeOptions::default() });
    for (id, schema) in schemas {
        decoder.learn(SchemaId::Confluent(*id), schema);
    }
    decoder
}

fn record<'a>(
    key: Option<&'a [u8]>,
    value: Option<&'a [u8]>,
    headers: &'a [(&'a str, Option<&'a [u8]>)],
) -> RecordRef<'a> {
    RecordRef { topic: "t", partition: 0, offset: 0, timestamp_ms: None, key, value, headers }
}

fn change(decoded: Decoded) -> ChangeEvent {
    match decoded {
        Decoded::Change(event) => *event,
        other => panic!("no change: {other:?}"),
    }
}

fn reason(decoded: Decoded) -> String {
    match decoded {
        Decoded::Malformed { reason } => reason,
        other => panic!("understood: {other:?}"),
    }
}
