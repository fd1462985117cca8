//! Protobuf records as Confluent's converter writes them.
//!
//! What a message means is what ProtobufData would make of it. That converter keeps no semantic
//! names for numbers and strings, so `io.debezium.time.*` is lost on the wire, and the table's
//! `columns` have to say what such columns are; Connect's own logical types have messages.

use std::collections::{BTreeMap, HashSet};
use std::path::Path;
use std::rc::Rc;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use prost_reflect::{
    DescriptorPool, FieldDescriptor, FileDescriptor, Kind, MapKey, MessageDescriptor,
};
use protox::file::{File, FileResolver, GoogleFileResolver};

use super::SchemaText;
use super::connect::{Base, Connect};
use super::protobuf_body::{Form, Member, Message, Plan, opening};

/// The most levels of a message index, and how deep messages may nest.
const DEPTH_MAX: usize = 60;
/// Types of all messages together.
const MESSAGES_MAX: usize = 10_000;
/// What the schema is opened as.
const ROOT: &str = "lakebed-root.proto";

/// Files that a Confluent registry knows and does not list as references.
const KNOWN: [(&str, &str); 4] = [
    ("confluent/meta.proto", include_str!("proto/meta.proto")),
    ("confluent/type/decimal.proto", include_str!("proto/decimal.proto")),
    ("google/type/date.proto", include_str!("proto/date.proto")),
    ("google/type/timeofday.proto", include_str!("proto/timeofday.proto")),
];

/// A schema: a file of messages.
#[derive(Debug)]
pub(super) struct Schema {
    pool: DescriptorPool,
    file: FileDescriptor,
}

struct Resolver {
    root: File,
    references: BTreeMap<String, String>,
    google: GoogleFileResolver,
}

impl FileResolver for Resolver {
    fn resolve_path(&self, path: &Path) -> Option<String> {
        path.to_str().map(str::to_owned)
    }

    fn open_file(&self, name: &str) -> Result<File, protox::Error> {
        if name == ROOT {
            return Ok(self.root.clone());
        }
        if let Some(text) = self.references.get(name) {
            return file(name, text);
        }
        let known = KNOWN.iter().find(|(known, _)| *known == name);
        known.map_or_else(|| self.google.open_file(name), |(_, text)| File::from_source(name, text))
    }
}

/// A file from its text, or from a serialized descriptor in base64, as some clients register it.
fn file(name: &str, text: &str) -> Result<File, protox::Error> {
    if let Ok(bytes) = STANDARD.decode(text.trim())
        && let Ok(file) = File::decode_file_descriptor_proto(bytes.as_slice())
    {
        let mut descriptor = file.file_descriptor_proto().clone();
        descriptor.name = Some(name.to_owned());
        return Ok(File::from_file_descriptor_proto(descriptor));
    }
    File::from_source(name, text)
}

impl Schema {
    /// Every message that it knows.
    #[cfg(test)]
    pub(super) fn pool(&self) -> &DescriptorPool {
        &self.pool
    }

    /// Understands a schema and those that it refers to.
    ///
    /// # Errors
    /// When it is no `.proto` file, or names files that are not there.
    pub(super) fn new(schema: &SchemaText) -> Result<Self, String> {
        let broken = |error: protox::Error| format!("is no Protobuf schema: {error}");
        let resolver = Resolver {
            root: file(ROOT, &schema.text).map_err(broken)?,
            references: schema.references.iter().cloned().collect(),
            google: GoogleFileResolver::new(),
        };
        let mut compiler = protox::Compiler::with_file_resolver(resolver);
        let compiler = compiler.include_imports(true).open_file(ROOT).map_err(broken)?;
        let pool = compiler.descriptor_pool();
        let file = pool.get_file_by_name(ROOT).ok_or("is no Protobuf schema")?;
        Ok(Self { pool, file })
    }

    /// Of the message at this index, Connect's schema, as JsonConverter would write it, and how
    /// bodies are read.
    ///
    /// # Errors
    /// When there is none, or it is none that Connect could have.
    pub(super) fn plan(&self, index: &[usize]) -> Result<(String, Plan), String> {
        let mut message: Option<MessageDescriptor> = None;
        for at in index {
            let plain = |message: &MessageDescriptor| !message.is_map_entry();
            message = match &message {
                None => self.file.messages().nth(*at),
                Some(outer) => outer.child_messages().filter(plain).nth(*at),
            };
            if message.is_none() {
                break;
            }
        }
        let message = message.ok_or_else(|| format!("has no message of index {index:?}"))?;
        refuse_lost_nulls(&message)?;
        let mut types = Types::new(&self.pool);
        let root = types.message(&message)?;
        let plan = Plan { messages: types.messages, root: root.index, descriptor: message };
        Ok((root.connect.text()?, plan))
    }
}

/// The message index that a body begins with: how many, then each; a single 0 stands for the first
/// message.
///
/// # Errors
/// When there is none.
pub(super) fn message_index(body: &[u8]) -> Result<(Vec<usize>, &[u8]), String> {
    let broken =
        || "has no message index after its schema id: it is no Confluent Protobuf".to_owned();
    let mut rest = body;
    let mut next = || {
        let mut value = 0u64;
        for shift in (0..35).step_by(7) {
            let (byte, after) = rest.split_first()?;
            rest = after;
            value |= u64::from(byte & 0x7f) << shift;
            if *byte < 0x80 {
                // Zigzag; neither counts nor indexes are negative.
                return (value & 1 == 0).then(|| usize::try_from(value >> 1).ok())?;
            }
        }
        None
    };
    let count = next().filter(|count| *count <= DEPTH_MAX).ok_or_else(broken)?;
    let mut index = Vec::with_capacity(count.max(1));
    for _ in 0..count {
        index.push(next().ok_or_else(broken)?);
    }
    if index.is_empty() {
        index.push(0);
    }
    Ok((index, rest))
}

/// Without either option the converter writes a null as 0 or the empty string. Debezium's envelope
/// has optional fields of which one can tell.
fn refuse_lost_nulls(message: &MessageDescriptor) -> Result<(), String> {
    let field = |name: &str| message.get_field_by_name(name);
    let is_envelope = ["op", "source", "after"].iter().all(|name| field(name).is_some());
    let loses = field("ts_ms").is_some_and(|field| !field.supports_presence());
    if is_envelope && loses {
        return Err("does not tell nulls from zeros: set `optional.for.nullables` or \
                    `wrapper.for.nullables` to true on the connector's Protobuf converters"
            .to_owned());
    }
    Ok(())
}

#[derive(Debug, Clone)]
struct Compiled {
    index: usize,
    depth: usize,
    connect: Rc<Connect>,
}

/// A value's form, how deep it nests, and its Connect schema.
type Typed = (Form, usize, Connect);

struct Types<'p> {
    pool: &'p DescriptorPool,
    messages: Vec<Message>,
    known: BTreeMap<String, Compiled>,
    open: HashSet<String>,
}

impl<'p> Types<'p> {
    fn new(pool: &'p DescriptorPool) -> Self {
        Self { pool, messages: Vec::new(), known: BTreeMap::new(), open: HashSet::new() }
    }

    fn message(&mut self, message: &MessageDescriptor) -> Result<Compiled, String> {
        let full = message.full_name();
        if let Some(known) = self.known.get(full) {
            return Ok(known.clone());
        }
        if !self.open.insert(full.to_owned()) {
            return Err(format!("holds message `{full}` in itself, which no row of a table does"));
        }
        if self.open.len() > DEPTH_MAX || self.messages.len() >= MESSAGES_MAX {
            return Err("nests its messages beyond all bounds".to_owned());
        }
        let (mut members, mut fields, mut depth) = (Vec::new(), Vec::new(), 0);
        for oneof in message.oneofs().filter(|oneof| !oneof.is_synthetic()) {
            let name = format!("{}_{}", oneof.name(), fields.len());
            let (mut branches, mut of) = (Vec::new(), Vec::new());
            for field in oneof.fields() {
                let (form, below, connect) = self.field(&field)?;
                depth = depth.max(below + 1);
                of.push((field.name().to_owned(), Rc::new(connect.optional())));
                branches.push((opening(field.name()), field, form));
            }
            let union = format!("io.confluent.connect.protobuf.Union.{}", oneof.name());
            let connect = Connect::new(Base::Struct(of)).named(union).optional();
            members.push(Member::OneOf { opening: opening(&name), branches });
            fields.push((name, Rc::new(connect)));
        }
        // In the order of the declaration, as Connect has them.
        let declared = message.descriptor_proto().field.iter();
        let declared =
            declared.filter_map(|field| message.get_field(u32::try_from(field.number()).ok()?));
        for field in declared {
            if field.containing_oneof().is_some_and(|oneof| !oneof.is_synthetic()) {
                continue;
            }
            let (form, below, connect) = self.field(&field)?;
            depth = depth.max(below);
            let connect = if field.supports_presence() { connect.optional() } else { connect };
            fields.push((field.name().to_owned(), Rc::new(connect)));
            members.push(Member::Field { opening: opening(field.name()), field, form });
        }
        if depth >= DEPTH_MAX {
            return Err("nests its messages beyond all bounds".to_owned());
        }
        self.open.remove(full);
        self.messages.push(Message { members });
        let connect = Rc::new(Connect::new(Base::Struct(fields)).named(struct_name(message)));
        let compiled = Compiled { index: self.messages.len() - 1, depth: depth + 1, connect };
        self.known.insert(full.to_owned(), compiled.clone());
        Ok(compiled)
    }

    fn field(&mut self, field: &FieldDescriptor) -> Result<Typed, String> {
        if field.is_map() {
            let Kind::Message(entry) = field.kind() else {
                return Err(format!("has a map `{}` without entries", field.name()));
            };
            let (key, value) = (entry.map_entry_key_field(), entry.map_entry_value_field());
            let (_, _, keys) = self.single(&key)?;
            let (form, depth, values) = self.single(&value)?;
            let text_keys = matches!(key.kind(), Kind::String);
            let base = Base::Map(Rc::new(keys), Rc::new(values));
            let form = Form::Map { text_keys, value: Box::new(form) };
            return Ok((form, depth + 1, Connect::new(base)));
        }
        let (form, depth, connect) = self.single(field)?;
        if field.is_list() {
            let base = Base::Array(Rc::new(connect.optional()));
            return Ok((Form::List(Box::new(form)), depth + 1, Connect::new(base)));
        }
        Ok((form, depth, connect))
    }

    /// The type of a field, or of each item of a repeated one.
    fn single(&mut self, field: &FieldDescriptor) -> Result<Typed, String> {
        let plain = |form, name| Ok((form, 1, Connect::plain(name)));
        match field.kind() {
            Kind::Double => plain(Form::Plain, "double"),
            Kind::Float => plain(Form::Plain, "float"),
            Kind::Int32 | Kind::Sint32 | Kind::Sfixed32 => {
                let said = self.meta(field, "connect.type");
                plain(
                    Form::Plain,
                    match said.as_deref() {
                        Some("int8") => "int8",
                        Some("int16") => "int16",
                        _ => "int32",
                    },
                )
            }
            Kind::Int64
            | Kind::Uint32
            | Kind::Uint64
            | Kind::Sint64
            | Kind::Fixed32
            | Kind::Fixed64
            | Kind::Sfixed64 => plain(Form::Plain, "int64"),
            Kind::Bool => plain(Form::Plain, "boolean"),
            Kind::String => plain(Form::Plain, "string"),
            Kind::Bytes => plain(Form::Plain, "bytes"),
            Kind::Enum(of) => plain(Form::Enum(of), "string"),
            Kind::Message(message) => self.of_message(field, &message),
        }
    }

    fn of_message(
        &mut self,
        field: &FieldDescriptor,
        message: &MessageDescriptor,
    ) -> Result<Typed, String> {
        let full = message.full_name();
        let wrapped = full.strip_prefix("google.protobuf.").and_then(|name| {
            let value = message.get_field_by_name("value")?;
            name.ends_with("Value").then_some(value).filter(|_| message.fields().len() == 1)
        });
        if let Some(value) = wrapped {
            let (form, depth, connect) = self.single(&value)?;
            return Ok((Form::Wrapper(value, Box::new(form)), depth + 1, connect.optional()));
        }
        let logical = |form, base, name| Ok((form, 1, Connect::logical(base, name)));
        match full {
            "google.protobuf.Timestamp" => logical(Form::Timestamp, "int64", "Timestamp"),
            "google.type.Date" => logical(Form::Date, "int32", "Date"),
            "google.type.TimeOfDay" => logical(Form::TimeOfDay, "int32", "Time"),
            "confluent.type.Decimal" => {
                let scale = self.meta(field, "scale");
                let scale: i32 = scale.and_then(|scale| scale.parse().ok()).unwrap_or(0);
                let mut connect = Connect::logical("bytes", "Decimal");
                connect.parameters.push(("scale".to_owned(), scale.to_string()));
                if let Some(precision) = self.meta(field, "precision") {
                    connect.parameters.push(("connect.decimal.precision".to_owned(), precision));
                }
                Ok((Form::Decimal { scale }, 1, connect))
            }
            _ => {
                let compiled = self.message(message)?;
                let connect = (*compiled.connect).clone();
                Ok((Form::Message(compiled.index), compiled.depth, connect))
            }
        }
    }

    /// A parameter that the converter has kept in the field's options.
    fn meta(&self, field: &FieldDescriptor, name: &str) -> Option<String> {
        let extension = self.pool.get_extension_by_name("confluent.field_meta")?;
        let options = field.options();
        let meta = options.get_extension(&extension);
        let params = meta.as_message()?.get_field_by_name("params")?.into_owned();
        let params = params.as_map()?;
        let value = params.get(&MapKey::String(name.to_owned()))?;
        value.as_str().map(str::to_owned)
    }
}

/// Connect's name of a struct. The converter keeps only the last part of it, by which Debezium's
/// decimal with a scale of its own is known again.
fn struct_name(message: &MessageDescriptor) -> String {
    let is = |name, kind| message.get_field_by_name(name).is_some_and(|field| field.kind() == kind);
    if message.name() == "VariableScaleDecimal"
        && is("scale", Kind::Int32)
        && is("value", Kind::Bytes)
    {
        return "io.debezium.data.VariableScaleDecimal".to_owned();
    }
    message.name().to_owned()
}
