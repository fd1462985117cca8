//! Records of a schema registry, brought to the form that the decoder understands.
//!
//! Avro and Protobuf become what Connect's JsonConverter would have written: a Connect schema, made
//! once for each schema of the registry, and the payload as JSON text. What values mean is decided
//! in one place for all wire forms, and bronze holds the same text whatever the form was. Nothing
//! here talks to a registry: the caller is told which schemas are missing, and brings them.

mod avro;
mod avro_body;
mod connect;
mod framing;
mod protobuf;
mod protobuf_body;
#[cfg(test)]
mod tests;
mod text;

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

pub use framing::{Framing, SchemaId};

pub(crate) use framing::{Place, looks_like};
pub(crate) use text::string as write_string;

use crate::column_override::ColumnOverride;
use crate::connect_schema::{InlineSchema, SchemaCache};
use crate::decoder::RecordRef;
use crate::json::{DEPTH_MAX, Parser};

/// Schemas kept. A source has one for each version of a table and of its key; beyond this many all
/// are forgotten and asked for again.
const KNOWN_MAX: usize = 10_000;

/// What the bodies of a table's records are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Encoding {
    /// Apache Avro, binary.
    Avro,
    /// Protocol Buffers.
    Protobuf,
}

/// How a table's records stand on the wire, if not as JSON.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Wire {
    /// What bodies are.
    pub encoding: Encoding,
    /// How they name their schema.
    pub framing: Framing,
}

/// A schema as the registry has it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SchemaText {
    /// JSON of Avro, or `.proto`.
    pub text: String,
    /// Name and text of what it refers to, each after those that it refers to itself.
    pub references: Vec<(String, String)>,
}

/// A schema and what the decoder makes of its Connect form, on keys and on values.
#[derive(Debug)]
struct Described<R> {
    /// Connect's schema, as JsonConverter would write it.
    schema: String,
    reader: R,
    inline: [Option<Result<Arc<InlineSchema>, String>>; 2],
}

/// What is known of a schema.
#[derive(Debug)]
enum Known {
    Avro(Described<avro_body::Plan>),
    Protobuf {
        schema: protobuf::Schema,
        messages: HashMap<Vec<usize>, Result<Described<protobuf_body::Plan>, String>>,
    },
    /// It is there and cannot be used.
    Broken(String),
}

/// What the decoder needs to make something of a schema.
pub(crate) struct Means<'a> {
    pub(crate) schemas: &'a mut SchemaCache,
    pub(crate) columns: &'a BTreeMap<String, ColumnOverride>,
    pub(crate) fields_max: usize,
    pub(crate) bytes_max: usize,
}

/// The schemas of one table's records.
#[derive(Debug)]
pub(crate) struct Bodies {
    wire: Wire,
    known: HashMap<SchemaId, Known>,
    /// Why schemas are not there; until the next record.
    refused: HashMap<SchemaId, String>,
}

impl Bodies {
    pub(crate) fn new(wire: Wire) -> Self {
        Self { wire, known: HashMap::new(), refused: HashMap::new() }
    }

    /// The schema that these bytes name, unless it is known or they name none.
    pub(crate) fn missing(
        &self,
        place: Place,
        bytes: &[u8],
        record: &RecordRef<'_>,
    ) -> Option<SchemaId> {
        let framed = self.wire.framing.split(place, bytes, record).ok()?;
        (!self.known.contains_key(&framed.id)).then_some(framed.id)
    }

    /// Takes a schema over.
    pub(crate) fn learn(&mut self, id: SchemaId, schema: &SchemaText) {
        if self.known.len() >= KNOWN_MAX {
            self.known.clear();
        }
        let known = match self.wire.encoding {
            Encoding::Avro => avro::read(schema).map_or_else(Known::Broken, |(schema, plan)| {
                Known::Avro(Described::new(schema, plan))
            }),
            Encoding::Protobuf => match protobuf::Schema::new(schema) {
                Ok(schema) => Known::Protobuf { schema, messages: HashMap::new() },
                Err(reason) => Known::Broken(reason),
            },
        };
        self.refused.remove(&id);
        self.known.insert(id, known);
    }

    /// Notes why there is no such schema.
    pub(crate) fn refuse(&mut self, id: SchemaId, reason: String) {
        self.refused.insert(id, reason);
    }

    /// Forgets what was refused: the registry may have it by the next record.
    pub(crate) fn forget_refusals(&mut self) {
        self.refused.clear();
    }

    /// Writes the payload of a key, value or header into `out`; gives what describes it.
    ///
    /// # Errors
    /// When the bytes are not framed, their schema is not there or cannot be used, or they are not
    /// of it.
    pub(crate) fn render(
        &mut self,
        place: Place,
        bytes: &[u8],
        record: &RecordRef<'_>,
        means: Means<'_>,
        out: &mut String,
    ) -> Result<Arc<InlineSchema>, String> {
        out.clear();
        let part = place.name();
        let framed = self.wire.framing.split(place, bytes, record);
        let framed = framed.map_err(|reason| format!("{part} {reason}"))?;
        let id = framed.id;
        let of_body = |reason: String| format!("{part} {reason} (schema {id} of the registry)");
        let body = framed.plain(means.bytes_max).map_err(of_body)?;
        let of_schema = |reason: &String| format!("{part} cannot be read: schema {id} {reason}");
        let max = means.bytes_max;
        match self.known.get_mut(&id) {
            Some(Known::Avro(known)) => {
                let inline = known.inline(place, means);
                known.reader.read(&body, max, out).map_err(of_body)?;
                inline.map_err(|reason| of_schema(&reason))
            }
            Some(Known::Protobuf { schema, messages }) => {
                let (index, body) = match framed.after_id {
                    Some(after_id) => {
                        (protobuf::message_index(after_id).map_err(of_body)?.0, &*body)
                    }
                    None => protobuf::message_index(&body).map_err(of_body)?,
                };
                if messages.len() >= KNOWN_MAX {
                    messages.clear();
                }
                let known = messages.entry(index).or_insert_with_key(|index| {
                    schema.plan(index).map(|(schema, plan)| Described::new(schema, plan))
                });
                let known = known.as_mut().map_err(|reason| of_schema(reason))?;
                let inline = known.inline(place, means);
                known.reader.read(body, max, out).map_err(of_body)?;
                inline.map_err(|reason| of_schema(&reason))
            }
            Some(Known::Broken(reason)) => Err(of_schema(reason)),
            None => match self.refused.get(&id) {
                Some(reason) => Err(format!("{part} cannot be read: {reason}")),
                None => Err(format!("{part} cannot be read: schema {id} was not looked up")),
            },
        }
    }
}

impl<R> Described<R> {
    fn new(schema: String, reader: R) -> Self {
        Self { schema, reader, inline: [None, None] }
    }

    fn inline(&mut self, place: Place, means: Means<'_>) -> Result<Arc<InlineSchema>, String> {
        let Means { schemas, columns, fields_max, .. } = means;
        let inline = self.inline[usize::from(place == Place::Value)].get_or_insert_with(|| {
            let mut parser = Parser::default();
            // Each type is an object in a list in an object.
            let json = parser.parse(self.schema.as_bytes(), DEPTH_MAX * 4);
            let json = json.map_err(|error| format!("cannot be used: {error}"))?;
            schemas.get(json, columns, fields_max)
        });
        if let Ok(inline) = inline {
            schemas.used(inline);
        }
        inline.clone()
    }
}
