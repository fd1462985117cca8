//! Avro records as Connect's converters write them: the writer's schema once, then many bodies.
//!
//! A schema becomes two things: the Connect schema that AvroData would make of it, which says what
//! the values mean, and a plan for reading bodies. Named types are followed where they are used;
//! one that uses itself is refused, because Connect has no such rows.

use std::collections::{BTreeMap, HashSet};
use std::rc::Rc;

use serde_json::{Map, Value as Json};

use super::SchemaText;
use super::avro_body::{Field, Node, Plan};
use super::connect::{Base, Connect};
use super::text;

/// How deep types may nest, references followed.
const DEPTH_MAX: usize = 100;
/// Parts of all types together.
const NODES_MAX: usize = 100_000;

/// Understands a schema and those that it refers to, which come first: Connect's schema, as
/// JsonConverter would write it, and how bodies are read.
///
/// # Errors
/// When it is no Avro schema, or none that Connect could have.
pub(super) fn read(schema: &SchemaText) -> Result<(String, Plan), String> {
    let mut types = Types::default();
    for (name, text) in &schema.references {
        let json = parse(text).map_err(|error| format!("refers to `{name}`, which {error}"))?;
        types.compile(&json, "")?;
    }
    let root = types.compile(&parse(&schema.text)?, "")?;
    Ok((root.connect.text()?, Plan::new(types.nodes, root.node)))
}

fn parse(text: &str) -> Result<Json, String> {
    match serde_json::from_str(text) {
        // A registry may keep the name of a primitive type without quotes.
        Err(_) if !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_lowercase()) => {
            Ok(Json::String(text.to_owned()))
        }
        Err(error) => Err(format!("is not JSON: {error}")),
        Ok(json) => Ok(json),
    }
}

/// A type that has been understood.
#[derive(Debug, Clone)]
struct Compiled {
    node: usize,
    depth: usize,
    connect: Rc<Connect>,
}

/// The types met so far.
#[derive(Debug, Default)]
struct Types {
    nodes: Vec<Node>,
    named: BTreeMap<String, Compiled>,
    /// Named types whose parts are being looked at.
    open: HashSet<String>,
}

impl Types {
    fn compile(&mut self, json: &Json, namespace: &str) -> Result<Compiled, String> {
        match json {
            Json::String(name) => match primitive(name) {
                Some((node, base)) => self.add(node, 1, Connect::plain(base)),
                None => self.reference(name, namespace),
            },
            Json::Array(branches) => self.union(branches, namespace),
            Json::Object(object) => self.object(object, namespace),
            _ => Err("has a type that is neither a name, an object nor a union".to_owned()),
        }
    }

    fn add(&mut self, node: Node, depth: usize, connect: Connect) -> Result<Compiled, String> {
        if depth > DEPTH_MAX {
            return Err(format!("nests types deeper than {DEPTH_MAX}"));
        }
        if self.nodes.len() >= NODES_MAX {
            return Err(format!("has more than {NODES_MAX} parts"));
        }
        self.nodes.push(node);
        Ok(Compiled { node: self.nodes.len() - 1, depth, connect: Rc::new(connect) })
    }

    fn reference(&self, name: &str, namespace: &str) -> Result<Compiled, String> {
        let full = full_name(name, namespace);
        let known = self.named.get(&full).or_else(|| self.named.get(name));
        if let Some(known) = known {
            return Ok(known.clone());
        }
        if self.open.contains(&full) || self.open.contains(name) {
            return Err(format!("type `{full}` holds itself, which no row of a table does"));
        }
        Err(format!("names the type `{name}`, which it does not define"))
    }

    /// `[null, T]` is an optional T; several others are a struct with a field for each.
    fn union(&mut self, branches: &[Json], namespace: &str) -> Result<Compiled, String> {
        let mut compiled = Vec::with_capacity(branches.len());
        for branch in branches {
            compiled.push((branch_name(branch), self.compile(branch, namespace)?));
        }
        let depth = 1 + compiled.iter().map(|(_, branch)| branch.depth).max().unwrap_or(0);
        let is_null = |node: usize| matches!(self.nodes[node], Node::Null);
        let values: Vec<_> =
            compiled.iter().filter(|(_, branch)| !is_null(branch.node)).cloned().collect();
        let has_null = values.len() < compiled.len();
        let nodes: Vec<usize> = compiled.iter().map(|(_, branch)| branch.node).collect();
        let (node, connect) = match &values[..] {
            [] => (Node::Union(nodes), Connect::plain("string").optional()),
            [(_, only)] => {
                let optional = only.connect.optional || has_null;
                (Node::Union(nodes), Connect { optional, ..(*only.connect).clone() })
            }
            several => {
                let fields = several.iter().map(|(name, branch)| {
                    let optional = (*branch.connect).clone().optional();
                    (name.clone(), Rc::new(optional))
                });
                let base = Base::Struct(fields.collect());
                let connect = Connect::new(base).named("io.confluent.connect.avro.Union");
                let branches = several.iter().map(|(name, of)| Field::new(name, of.node));
                let branches = branches.collect();
                (Node::Choice { branches, of: nodes }, Connect { optional: has_null, ..connect })
            }
        };
        self.add(node, depth, connect)
    }

    fn object(&mut self, object: &Map<String, Json>, namespace: &str) -> Result<Compiled, String> {
        let kind = match object.get("type") {
            Some(Json::String(kind)) => kind.as_str(),
            // `{"type": {"type": …}}`: what is said outside belongs to what is inside.
            Some(inner @ (Json::Object(_) | Json::Array(_))) => {
                return self.compile(inner, namespace);
            }
            _ => return Err("has a type without `type`".to_owned()),
        };
        let compiled = match kind {
            "record" | "error" => return self.record(object, namespace),
            "enum" => return self.enumeration(object, namespace),
            "fixed" => return self.fixed(object, namespace),
            "array" => self.array(object, namespace)?,
            "map" => {
                let values = self.part(object, "values", namespace)?;
                let keys = Rc::new(Connect::plain("string"));
                let base = Base::Map(keys, values.connect);
                self.add(Node::Map(values.node), values.depth + 1, Connect::new(base))?
            }
            _ => match primitive(kind) {
                Some((node, base)) => {
                    let connect = match logical(object, kind) {
                        Some(logical) => logical,
                        None => Connect::plain(small(object, kind).unwrap_or(base)),
                    };
                    self.add(node, 1, connect)?
                }
                None => self.reference(kind, namespace)?,
            },
        };
        let connect = Rc::new(annotated((*compiled.connect).clone(), object));
        Ok(Compiled { connect, ..compiled })
    }

    fn part(
        &mut self,
        object: &Map<String, Json>,
        member: &str,
        namespace: &str,
    ) -> Result<Compiled, String> {
        let part = object.get(member);
        let part = part.ok_or_else(|| format!("has an array or map without `{member}`"))?;
        self.compile(part, namespace)
    }

    /// An array; or a map whose keys are no strings, as AvroData writes it.
    fn array(&mut self, object: &Map<String, Json>, namespace: &str) -> Result<Compiled, String> {
        let items = self.part(object, "items", namespace)?;
        if let (Node::Record(fields), Base::Struct(of)) =
            (&self.nodes[items.node], &items.connect.base)
            && items.connect.name.as_deref().is_some_and(|name| name.ends_with("MapEntry"))
            && let ([key, value], [(_, keys), (_, values)]) = (&fields[..], &of[..])
        {
            let node = Node::Entries { key: key.node, value: value.node };
            let base = Base::Map(Rc::clone(keys), Rc::clone(values));
            return self.add(node, items.depth + 1, Connect::new(base));
        }
        let base = Base::Array(items.connect);
        self.add(Node::Array(items.node), items.depth + 1, Connect::new(base))
    }

    fn record(&mut self, object: &Map<String, Json>, outer: &str) -> Result<Compiled, String> {
        let (full, namespace) = self.define(object, outer)?;
        let Some(Json::Array(list)) = object.get("fields") else {
            return Err(format!("record `{full}` has no `fields`"));
        };
        let (mut fields, mut of, mut depth) = (Vec::new(), Vec::new(), 0);
        let mut names = HashSet::new();
        for field in list {
            let name = field.get("name").and_then(Json::as_str);
            let name = name.ok_or_else(|| format!("record `{full}` has a field without `name`"))?;
            if !names.insert(name) {
                return Err(format!("record `{full}` names field `{name}` twice"));
            }
            let of_field = field.get("type");
            let of_field = of_field.ok_or_else(|| format!("field `{name}` has no `type`"))?;
            let compiled = self.compile(of_field, &namespace).map_err(|error| {
                if error.len() < 300 { format!("`{name}`: {error}") } else { error }
            })?;
            depth = depth.max(compiled.depth);
            fields.push(Field::new(name, compiled.node));
            of.push((name.to_owned(), with_default(compiled.connect, field.get("default"))));
        }
        let connect = annotated(Connect::new(Base::Struct(of)).named(full.as_str()), object);
        let compiled = self.add(Node::Record(fields), depth + 1, connect)?;
        Ok(self.close(full, compiled))
    }

    fn enumeration(&mut self, object: &Map<String, Json>, outer: &str) -> Result<Compiled, String> {
        let (full, _) = self.define(object, outer)?;
        let Some(Json::Array(symbols)) = object.get("symbols") else {
            return Err(format!("enum `{full}` has no `symbols`"));
        };
        let symbol = |symbol: &Json| {
            let mut text = String::new();
            text::string(symbol.as_str().unwrap_or_default(), &mut text);
            text
        };
        let node = Node::Enum(symbols.iter().map(symbol).collect());
        let compiled = self.add(node, 1, annotated(Connect::plain("string"), object))?;
        Ok(self.close(full, compiled))
    }

    fn fixed(&mut self, object: &Map<String, Json>, outer: &str) -> Result<Compiled, String> {
        let (full, _) = self.define(object, outer)?;
        let size = object.get("size").and_then(Json::as_u64);
        let size = size.and_then(|size| usize::try_from(size).ok());
        let size = size.ok_or_else(|| format!("fixed `{full}` has no `size`"))?;
        let connect = logical(object, "bytes").unwrap_or_else(|| Connect::plain("bytes"));
        let compiled = self.add(Node::Fixed(size), 1, annotated(connect, object))?;
        Ok(self.close(full, compiled))
    }

    /// Begins a named type; gives its full name and the namespace of what is in it.
    fn define(
        &mut self,
        object: &Map<String, Json>,
        outer: &str,
    ) -> Result<(String, String), String> {
        let name = object.get("name").and_then(Json::as_str);
        let name = name.filter(|name| !name.is_empty());
        let name = name.ok_or("has a record, enum or fixed without `name`")?;
        let namespace = object.get("namespace").and_then(Json::as_str).unwrap_or(outer);
        let full = full_name(name, namespace);
        if self.named.contains_key(&full) || !self.open.insert(full.clone()) {
            return Err(format!("defines the type `{full}` twice"));
        }
        let namespace = full.rsplit_once('.').map_or("", |(namespace, _)| namespace).to_owned();
        Ok((full, namespace))
    }

    fn close(&mut self, full: String, compiled: Compiled) -> Compiled {
        self.open.remove(&full);
        self.named.insert(full, compiled.clone());
        compiled
    }
}

fn full_name(name: &str, namespace: &str) -> String {
    if name.contains('.') || namespace.is_empty() {
        name.to_owned()
    } else {
        format!("{namespace}.{name}")
    }
}

fn primitive(name: &str) -> Option<(Node, &'static str)> {
    Some(match name {
        "null" => (Node::Null, "string"),
        "boolean" => (Node::Boolean, "boolean"),
        "int" => (Node::Int, "int32"),
        "long" => (Node::Long, "int64"),
        "float" => (Node::Float, "float"),
        "double" => (Node::Double, "double"),
        "bytes" => (Node::Bytes, "bytes"),
        "string" => (Node::Text, "string"),
        _ => return None,
    })
}

/// Connect's integers that Avro has not.
fn small(object: &Map<String, Json>, kind: &str) -> Option<&'static str> {
    match (kind, object.get("connect.type")?.as_str()?) {
        ("int", "int8") => Some("int8"),
        ("int", "int16") => Some("int16"),
        _ => None,
    }
}

/// What an Avro logical type means where no `connect.name` says so.
fn logical(object: &Map<String, Json>, kind: &str) -> Option<Connect> {
    let integer = |member: &str| object.get(member).and_then(Json::as_i64);
    match (kind, object.get("logicalType")?.as_str()?) {
        ("int", "date") => Some(Connect::logical("int32", "Date")),
        ("int", "time-millis") => Some(Connect::logical("int32", "Time")),
        ("long", "timestamp-millis") => Some(Connect::logical("int64", "Timestamp")),
        ("bytes", "decimal") => {
            let mut decimal = Connect::logical("bytes", "Decimal");
            decimal.parameters.push(("scale".into(), integer("scale").unwrap_or(0).to_string()));
            // AvroData writes 64 where Connect's schema has none.
            if let Some(precision) = integer("precision").filter(|precision| *precision != 64) {
                decimal
                    .parameters
                    .push(("connect.decimal.precision".into(), precision.to_string()));
            }
            Some(decimal)
        }
        _ => None,
    }
}

/// Takes over what AvroData has kept of the Connect schema.
fn annotated(mut connect: Connect, object: &Map<String, Json>) -> Connect {
    let text = |member: &str| object.get(member).and_then(Json::as_str).map(str::to_owned);
    if let Some(name) = text("connect.name") {
        connect.name = Some(name);
        // What follows describes the same schema, and in full.
        connect.version = None;
    }
    connect.version = object.get("connect.version").and_then(Json::as_i64).or(connect.version);
    connect.doc = text("connect.doc").or(connect.doc);
    if let Some(Json::Object(parameters)) = object.get("connect.parameters") {
        let parameter = |(name, value): (&String, &Json)| {
            let value = value.as_str().map_or_else(|| value.to_string(), str::to_owned);
            (name.clone(), value)
        };
        connect.parameters = parameters.iter().map(parameter).collect();
    }
    if let Some(default) = object.get("connect.default") {
        connect.default = default_text(&connect, default);
    }
    connect
}

/// The default of a field that says none in its type.
fn with_default(connect: Rc<Connect>, default: Option<&Json>) -> Rc<Connect> {
    match default {
        Some(default) if connect.default.is_none() && !default.is_null() => {
            let default = default_text(&connect, default);
            Rc::new(Connect { default, ..(*connect).clone() })
        }
        _ => connect,
    }
}

/// A default as JsonConverter writes it: Avro has bytes as characters up to 255.
fn default_text(connect: &Connect, default: &Json) -> Option<String> {
    let Base::Plain(base) = &connect.base else { return None };
    if *base != "bytes" {
        return Some(default.to_string());
    }
    let bytes: Option<Vec<u8>> =
        default.as_str()?.chars().map(|character| u8::try_from(character).ok()).collect();
    let mut out = String::new();
    text::bytes(&bytes?, &mut out);
    Some(out)
}

/// How AvroData calls a branch of a union of several.
fn branch_name(branch: &Json) -> String {
    let name = match branch {
        Json::String(name) => name.as_str(),
        Json::Object(object) => {
            let text = |member: &str| object.get(member).and_then(Json::as_str);
            text("name").or_else(|| text("type")).unwrap_or("union")
        }
        _ => "union",
    };
    name.rsplit('.').next().unwrap_or(name).to_owned()
}
