//! From a Kafka record to a change event: Debezium's envelope, as JSON with and without inline
//! schema, and whatever [`crate::wire`] and `flat` bring to that form.
//!
//! Takes untrusted bytes: whatever they are, the answer is a [`Decoded`], and a record that cannot
//! be understood comes back with a reason that names the place and the expectation, never a value
//! of the row. Values are typed by the record's own schema, by the configured columns, or by what
//! the JSON shows; see [`DecodeOptions::columns`].

mod document;
mod envelope;
pub(crate) mod flat;
mod limits;
mod masked;
mod rows;
mod source;
mod source_position;

use std::collections::BTreeMap;
use std::sync::Arc;

use crate::change_event::{ChangeEvent, Decoded, Op, Row};
use crate::column_override::ColumnOverride;
use crate::connect_schema::{InlineSchema, Part, RowSchema, SchemaCache};
use crate::json::{Json, Kind, LESS_NESTING, Parser};
use crate::masking::Masking;
use crate::placeholder::{self, Placeholder};
use crate::value::Value;
use crate::wire::{Bodies, Means, Place, SchemaId, SchemaText, Wire, looks_like};
use document::Documents;
use envelope::Envelope;
use flat::Flat;
pub use limits::{LimitName, Limits};
use masked::Masked;
pub use masked::{Kept, NOT_KEPT};
use rows::ShapeCache;

/// Header that names the old key in the `c` of a key change.
pub const OLD_KEY: &str = "__debezium.oldkey";
/// Header that names the new key in the `d` of a key change.
pub const NEW_KEY: &str = "__debezium.newkey";

/// How records of one table are to be understood.
#[derive(Debug, Clone)]
pub struct DecodeOptions {
    /// What columns are, by the source's names. Goes before what an inline schema says.
    ///
    /// Without both, a value is what the JSON shows: an integer is a long, a fraction a double, an
    /// object or array its JSON text. An integer beyond 64 bits, and a fraction that no double
    /// holds exactly, are [`Value::OutOfRange`]. A null has the type of the values seen before.
    pub columns: BTreeMap<String, ColumnOverride>,
    /// The connector's `unavailable.value.placeholder`.
    pub placeholder: String,
    /// Which life of the source this is: in front of every position. Raised when positions begin
    /// anew.
    pub epoch: u32,
    /// Whether `before` is read into a row. Its JSON text is kept in any case.
    pub before: bool,
    /// How keys and values are encoded; `None`: as JSON.
    pub wire: Option<Wire>,
    /// Whether values are rows alone (`ExtractNewRecordState`), with what was added to them in
    /// fields and headers whose names begin with `__`.
    pub flattened: bool,
    /// Columns that nobody may see. They have to stand in `columns`, too, as the configuration puts
    /// them there.
    pub masking: Arc<Masking>,
    /// Bounds.
    pub limits: Limits,
}

impl Default for DecodeOptions {
    fn default() -> Self {
        Self {
            columns: BTreeMap::new(),
            placeholder: placeholder::DEFAULT.to_owned(),
            epoch: 0,
            before: true,
            wire: None,
            flattened: false,
            masking: Arc::default(),
            limits: Limits::default(),
        }
    }
}

/// A Kafka record, borrowed.
#[derive(Debug, Clone, Copy)]
pub struct RecordRef<'a> {
    /// Topic.
    pub topic: &'a str,
    /// Partition of the topic, from 0.
    pub partition: i32,
    /// Offset in the partition.
    pub offset: i64,
    /// Kafka's timestamp in milliseconds since 1970; `None` where there is none.
    pub timestamp_ms: Option<i64>,
    /// Key bytes; `None` is Kafka's null.
    pub key: Option<&'a [u8]>,
    /// Value bytes; `None` is Kafka's null.
    pub value: Option<&'a [u8]>,
    /// Headers in order, names may repeat.
    pub headers: &'a [(&'a str, Option<&'a [u8]>)],
}

impl<'a> RecordRef<'a> {
    /// The last header of this name that has a value.
    pub fn header(&self, name: &str) -> Option<&'a [u8]> {
        let mut headers = self.headers.iter().rev().filter(|(header, _)| *header == name);
        headers.find_map(|(_, value)| *value)
    }
}

/// Decodes the records of one table. Keeps the schemas and row shapes it has seen, so that rows of
/// one shape share it by pointer.
#[derive(Debug)]
pub struct Decoder {
    options: DecodeOptions,
    placeholder: Placeholder,
    values: Parser,
    keys: Parser,
    value_schemas: SchemaCache,
    key_schemas: SchemaCache,
    row_shapes: ShapeCache,
    key_shapes: ShapeCache,
    documents: Documents,
    bodies: Option<Bodies>,
    /// Payloads that did not come as JSON.
    value_text: String,
    key_text: String,
    /// What is hashed.
    scratch: Vec<u8>,
    flat: Option<Flat>,
    masked: Option<Masked>,
}

/// The parts of a value or key: its payload and what describes it.
struct Parsed<'p, 'a> {
    payload: Json<'p, 'a>,
    schema: Option<Arc<InlineSchema>>,
}

impl Decoder {
    /// A decoder that has seen nothing yet.
    pub fn new(options: DecodeOptions) -> Self {
        Self {
            placeholder: Placeholder::new(&options.placeholder),
            row_shapes: ShapeCache::new(&options.columns, options.limits.fields_max),
            key_shapes: ShapeCache::new(&options.columns, options.limits.fields_max),
            documents: Documents::default(),
            bodies: options.wire.map(Bodies::new),
            value_text: String::new(),
            key_text: String::new(),
            scratch: Vec::new(),
            flat: options.flattened.then(Flat::default),
            masked: (!options.masking.is_empty()).then(|| {
                Masked::new(options.masking.clone(), Placeholder::new(&options.placeholder))
            }),
            value_schemas: SchemaCache::new(match options.flattened {
                true => Part::FlatValue,
                false => Part::Value,
            }),
            options,
            values: Parser::default(),
            keys: Parser::default(),
            key_schemas: SchemaCache::new(Part::Key),
        }
    }

    /// Understands one record. Never panics, and leaves the decoder usable whatever the bytes were.
    pub fn decode(&mut self, record: &RecordRef<'_>) -> Decoded {
        if let Some(masked) = &mut self.masked {
            masked.begin();
        }
        let decoded = self.try_decode(record).unwrap_or_else(|reason| match &self.masked {
            Some(_) => Decoded::Malformed { reason: reason + NOT_KEPT },
            None => Decoded::Malformed { reason },
        });
        if let Some(bodies) = &mut self.bodies {
            bodies.forget_refusals();
        }
        decoded
    }

    /// Schemas of the registry that this record names and the decoder does not have: each has to be
    /// told by [`Self::learn`] or [`Self::refuse`] before the record is decoded.
    pub fn missing_schemas(&self, record: &RecordRef<'_>) -> Vec<SchemaId> {
        let Some(bodies) = &self.bodies else { return Vec::new() };
        let old_key = record.header(OLD_KEY).filter(|bytes| is_framed(bytes));
        let parts =
            [(Place::Key, record.key), (Place::Value, record.value), (Place::Header, old_key)];
        let parts = parts.into_iter().filter_map(|(place, bytes)| Some((place, bytes?)));
        let mut missing: Vec<SchemaId> =
            parts.filter_map(|(place, bytes)| bodies.missing(place, bytes, record)).collect();
        missing.sort_unstable();
        missing.dedup();
        missing
    }

    /// Takes over a schema of the registry. One that cannot be used makes its records malformed.
    pub fn learn(&mut self, id: SchemaId, schema: &SchemaText) {
        if let Some(bodies) = &mut self.bodies {
            bodies.learn(id, schema);
        }
    }

    /// Notes that the registry has no such schema, and says so: for the next record only.
    pub fn refuse(&mut self, id: SchemaId, reason: String) {
        if let Some(bodies) = &mut self.bodies {
            bodies.refuse(id, reason);
        }
    }

    /// Where columns are left out or masked: what may be kept of the record that was decoded last,
    /// in place of its own bytes. Nothing of its value.
    pub fn kept(&self, record: &RecordRef<'_>) -> Option<Kept> {
        self.masked.as_ref().map(|masked| masked.kept(record))
    }

    /// Why the table cannot take the record that was decoded last, nor any like it: what is hidden
    /// would make different keys equal.
    pub fn refusal(&self) -> Option<&str> {
        self.masked.as_ref()?.refusal()
    }

    /// The text of an inline schema by [`ChangeEvent::schema_hash`], as long as it is remembered:
    /// certainly right after its record was decoded.
    pub fn schema_text(&self, hash: &str) -> Option<Arc<str>> {
        self.value_schemas.text(hash)
    }

    fn try_decode(&mut self, record: &RecordRef<'_>) -> Result<Decoded, String> {
        let Some(bytes) = record.value else {
            return Ok(Decoded::Tombstone { key: self.key(record)?.0 });
        };
        let Self { options, values, value_schemas, bodies, value_text, flat, .. } = self;
        let source = Source { place: Place::Value, bytes, record };
        let means = (values, value_schemas, &*options);
        let mut parsed = read_part(source, bodies.as_mut(), value_text, means)?;
        if let Some(flat) = flat {
            parsed = flat.envelope(parsed, record, self.options.limits.depth_max)?;
        }
        if let Some(masked) = &mut self.masked {
            parsed.payload = masked.envelope(parsed.payload)?;
        }
        if parsed.payload.is_null() {
            return Ok(Decoded::Tombstone { key: self.key(record)?.0 });
        }
        if parsed.payload.kind() != Kind::Object {
            return Err("value is not an object: no Debezium envelope".to_owned());
        }
        let envelope = match Envelope::read(parsed.payload) {
            Ok(envelope) => envelope,
            Err(reason) => {
                let other = envelope::other(parsed.payload).ok_or(reason)?;
                return Ok(Decoded::Other { kind: other });
            }
        };
        let schema = parsed.schema.clone();
        // Only what the source left as it was is sent as the placeholder.
        let may_lack = matches!(envelope.op, Op::Create | Op::Update | Op::Read);
        let placeholder = may_lack.then_some(&self.placeholder);
        let described =
            schema.as_ref().map(|schema| (schema.before.as_ref(), schema.after.as_ref()));
        let mut row =
            |name, json: Option<Json<'_, '_>>, schema: Option<&Arc<RowSchema>>, placeholder| {
                let Some(json) = json else { return Ok(None) };
                let shapes = &mut self.row_shapes;
                rows::read(name, json, schema.map(|s| &**s), shapes, placeholder).map(Some)
            };
        let document = document::text(envelope.after, envelope.source);
        let fields = envelope.after.filter(|_| document.is_none());
        let after = row("after", fields, described.and_then(|d| d.1), placeholder)?;
        let is_row = |json: &Json<'_, '_>| document::text(Some(*json), envelope.source).is_none();
        let before = match envelope.before.filter(|_| self.options.before).filter(is_row) {
            Some(json) => row("before", Some(json), described.and_then(|d| d.0), None)?,
            None => None,
        };
        let limits = &self.options.limits;
        for (part, json, row, schema) in [
            ("before", envelope.before, &before, described.and_then(|d| d.0)),
            ("after", envelope.after, &after, described.and_then(|d| d.1)),
        ] {
            if let (Some(json), Some(row)) = (json, row) {
                limits.check(part, json, row, schema.map(|schema| &**schema), &self.options)?;
            }
        }
        let source =
            source::read(envelope.source, &envelope, self.options.epoch, &mut self.scratch)?;
        let raw = |json: Option<Json<'_, '_>>| json.map(|json| json.raw().to_owned());
        let mut event = ChangeEvent {
            op: envelope.op,
            key: None,
            before,
            after,
            old_key: None,
            source,
            event_ts_us: envelope.ts_us,
            before_json: raw(envelope.before),
            after_json: raw(envelope.after),
            source_json: raw(Some(envelope.source)),
            schema_hash: schema.map(|schema| Arc::clone(&schema.hash)),
        };
        let (key, key_schema) = self.key(record)?;
        event.key = key;
        if let Some(document) = document {
            event.after = Some(self.documents.row(event.key.as_ref(), document));
        }
        event.old_key = self.old_key(record, key_schema, &event)?;
        Ok(Decoded::Change(Box::new(event)))
    }

    /// The record key and the schema that describes it.
    fn key(
        &mut self,
        record: &RecordRef<'_>,
    ) -> Result<(Option<Row>, Option<Arc<RowSchema>>), String> {
        let Some(bytes) = record.key else { return Ok((None, None)) };
        let Self { options, keys, key_schemas, key_shapes, bodies, key_text, masked, .. } = self;
        let source = Source { place: Place::Key, bytes, record };
        let means = (keys, key_schemas, &*options);
        let mut parsed = read_part(source, bodies.as_mut(), key_text, means)?;
        if let Some(masked) = masked {
            parsed.payload = masked.key(parsed.payload)?;
        }
        if parsed.payload.is_null() {
            return Ok((None, None));
        }
        let schema = parsed.schema.and_then(|schema| schema.root.clone());
        let (payload, described) = (parsed.payload, schema.as_deref());
        let row = rows::read("key", payload, described, key_shapes, None)?;
        options.limits.check("key", payload, &row, described, options)?;
        Ok((Some(row), schema))
    }

    /// The old key of a key change. Connect writes this header in a form of its own, which is not
    /// always JSON: unreadable is an error only if the row has something to inherit.
    fn old_key(
        &mut self,
        record: &RecordRef<'_>,
        schema: Option<Arc<RowSchema>>,
        event: &ChangeEvent,
    ) -> Result<Option<Row>, String> {
        if event.op != Op::Create {
            return Ok(None);
        }
        let Some(bytes) = record.header(OLD_KEY) else { return Ok(None) };
        let Self { options, keys, key_schemas, key_shapes, bodies, key_text, masked, .. } = self;
        let source = Source { place: Place::Header, bytes, record };
        // Connect's own header converter writes text, whatever keys are.
        let bodies = bodies.as_mut().filter(|_| is_framed(bytes));
        let means = (keys, key_schemas, &*options);
        let read = read_part(source, bodies, key_text, means).and_then(|mut parsed| {
            if let Some(masked) = masked {
                parsed.payload = masked.header(parsed.payload)?;
            }
            let own = parsed.schema.and_then(|schema| schema.root.clone());
            let schema = own.or(schema);
            rows::read("header", parsed.payload, schema.as_deref(), key_shapes, None)
        });
        let row = event.after.as_ref();
        let lacks = row.is_some_and(|row| row.values.contains(&Value::Unavailable));
        match read {
            Ok(row) => Ok(Some(row)),
            Err(reason) if lacks => Err(format!(
                "header `{OLD_KEY}` cannot be read, and the row has values to take from the old key's row: {reason}"
            )),
            Err(_) => Ok(None),
        }
    }
}

/// Bytes of a record, and where they stand.
#[derive(Clone, Copy)]
struct Source<'a, 'r> {
    place: Place,
    bytes: &'a [u8],
    record: &'r RecordRef<'r>,
}

/// Whether bytes begin as a registry's serializers do, and no text does.
fn is_framed(bytes: &[u8]) -> bool {
    matches!(bytes.first(), Some(0 | 1 | 3))
}

/// Brings a key, a value or a header to JSON and what describes it.
fn read_part<'a>(
    source: Source<'a, '_>,
    bodies: Option<&mut Bodies>,
    text: &'a mut String,
    (parser, schemas, options): (&'a mut Parser, &mut SchemaCache, &DecodeOptions),
) -> Result<Parsed<'a, 'a>, String> {
    let Source { place, bytes, record } = source;
    let Some(bodies) = bodies else { return parse(source, parser, schemas, options) };
    let limits = &options.limits;
    check_size(place, bytes, limits)?;
    let means = Means {
        schemas,
        columns: &options.columns,
        fields_max: limits.fields_max,
        bytes_max: limits.record_bytes_max,
    };
    let schema = bodies.render(place, bytes, record, means, text)?;
    let payload =
        parser.parse(text.as_bytes(), limits.depth_max).map_err(|error| match error.expected {
            LESS_NESTING => limits.too_deep(place.name()),
            _ => format!("{} cannot be read: {error}", place.name()),
        })?;
    Ok(Parsed { payload, schema: Some(schema) })
}

fn check_size(place: Place, bytes: &[u8], limits: &Limits) -> Result<(), String> {
    let (part, max) = (place.name(), limits.record_bytes_max);
    if bytes.len() > max {
        return Err(format!(
            "{part} has {} bytes, more than the {max} allowed (`limits.record_bytes`)",
            bytes.len()
        ));
    }
    Ok(())
}

/// Parses a key or value and finds its inline schema, if it has one.
fn parse<'a>(
    source: Source<'a, '_>,
    parser: &'a mut Parser,
    schemas: &mut SchemaCache,
    options: &DecodeOptions,
) -> Result<Parsed<'a, 'a>, String> {
    let Source { place, bytes, record } = source;
    let (limits, part) = (&options.limits, place.name());
    check_size(place, bytes, limits)?;
    match bytes.first() {
        None => return Err(format!("{part} is empty: neither null nor JSON")),
        Some(0 | 1 | 3) => {
            let (found, next) = looks_like(bytes, record);
            return Err(format!("{part} is not JSON, as `records.format` says: {found}; {next}"));
        }
        Some(_) => {}
    }
    // A known schema saves reading it again; it must not change what comes out. So the pair around
    // the payload counts as a level, and what is no single value is left to the whole reading.
    if let Some((schema, rest)) = schemas.split(bytes)
        && let Ok(text) = parser.read(rest, limits.depth_max.saturating_sub(1))
    {
        return Ok(Parsed { payload: parser.document(text), schema: Some(schema) });
    }
    let json = parser.parse(bytes, limits.depth_max).map_err(|error| match error.expected {
        LESS_NESTING => limits.too_deep(part),
        _ => format!("{part} is not JSON: {error}"),
    })?;
    let Some((schema, payload)) = enveloped(json) else {
        return Ok(Parsed { payload: json, schema: None });
    };
    if schema.is_null() {
        return Ok(Parsed { payload, schema: None });
    }
    let schema = schemas
        .get(schema, &options.columns, limits.fields_max)
        .map_err(|reason| format!("{part} cannot be read: {reason}"))?;
    Ok(Parsed { payload, schema: Some(schema) })
}

/// Connect's pair of schema and payload, if that is what the object is.
fn enveloped<'p, 'a>(json: Json<'p, 'a>) -> Option<(Json<'p, 'a>, Json<'p, 'a>)> {
    let (mut schema, mut payload) = (None, None);
    for (name, value) in json.members() {
        if name.is_text("schema") {
            schema = Some(value);
        } else if name.is_text("payload") {
            payload = Some(value);
        } else {
            return None;
        }
    }
    let schema = schema.filter(|schema| matches!(schema.kind(), Kind::Object | Kind::Null))?;
    Some((schema, payload?))
}

#[cfg(test)]
mod tests;
