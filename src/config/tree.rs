//! A YAML document as a tree that knows where each of its nodes stands.
//!
//! The document is read into the tree first and into the configuration's types from there. That is
//! what lets every problem, also one found long after parsing, name its line.

use std::fmt;

use serde::Deserialize;
use serde::de::{Deserializer, MapAccess, SeqAccess, Visitor};
use serde_saphyr::Spanned;

/// A place in the file, both numbers from 1.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Place {
    pub(super) line: u64,
    pub(super) column: u64,
}

impl Place {
    fn of<T>(spanned: &Spanned<T>) -> Self {
        Self { line: spanned.referenced.line(), column: spanned.referenced.column() }
    }
}

/// One node.
#[derive(Debug, Clone)]
pub(super) struct Node {
    pub(super) place: Place,
    pub(super) value: Value,
    /// Whether the text came, in whole or in part, from a reference: it is not shown then.
    pub(super) referenced: bool,
}

/// What a node is.
#[derive(Debug, Clone)]
pub(super) enum Value {
    Null,
    Bool(bool),
    Signed(i64),
    Unsigned(u64),
    Float(f64),
    Text(String),
    List(Vec<Node>),
    Map(Vec<(Key, Node)>),
}

/// A key of a map.
#[derive(Debug, Clone)]
pub(super) struct Key {
    pub(super) place: Place,
    pub(super) name: String,
}

/// A YAML mistake: where, if known, and what.
pub(super) type SyntaxError = (Option<Place>, String);

/// Reads one document. Nothing of the text is repeated in the error.
pub(super) fn parse(text: &str) -> Result<Node, SyntaxError> {
    let options = serde_saphyr::options! { strict_booleans: true, with_snippet: false };
    serde_saphyr::from_str_with_options(text, options).map_err(|error| {
        use serde_saphyr::MessageFormatter;
        let place = error.location().filter(|location| location.line() > 0);
        let place = place.map(|l| Place { line: l.line(), column: l.column() });
        let message = serde_saphyr::DefaultMessageFormatter.format_message(error.without_snippet());
        (place, message.escape_debug().to_string())
    })
}

impl Node {
    /// Where the node at a path such as `tables[2].key` stands, or the nearest one around it, and
    /// the node itself if it is there. Keys may have dots of their own.
    pub(super) fn find(&self, path: &str) -> (Place, Option<&Node>) {
        match &self.value {
            _ if path.is_empty() => (self.place, Some(self)),
            Value::Map(entries) => {
                let longest = entries
                    .iter()
                    .filter_map(|(key, node)| Some((key, node, after_key(path, key)?)))
                    .max_by_key(|(key, ..)| key.name.len());
                match longest {
                    Some((key, node, "")) => (key.place, Some(node)),
                    Some((key, node, rest)) => match node.find(rest) {
                        // The key says more than the place where its value begins.
                        (place, None) if place == node.place => (key.place, None),
                        found => found,
                    },
                    None => (self.place, None),
                }
            }
            Value::List(items) => {
                let index = path.strip_prefix('[').and_then(|rest| rest.split_once(']'));
                let item = index.and_then(|(index, rest)| {
                    Some((items.get(index.parse::<usize>().ok()?)?, rest))
                });
                match item {
                    Some((item, rest)) => item.find(rest.strip_prefix('.').unwrap_or(rest)),
                    None => (self.place, None),
                }
            }
            _ => (self.place, None),
        }
    }

    /// Takes out the entry at these steps, if it is there.
    pub(super) fn remove(&mut self, steps: &[Step]) {
        match (&mut self.value, steps) {
            (Value::Map(entries), [Step::Key(name)]) => {
                entries.retain(|(key, _)| key.name != *name);
            }
            (Value::Map(entries), [Step::Key(name), rest @ ..]) => {
                entries
                    .iter_mut()
                    .filter(|(key, _)| key.name == *name)
                    .for_each(|(_, node)| node.remove(rest));
            }
            (Value::List(items), [Step::Index(index), rest @ ..]) => {
                if let Some(item) = items.get_mut(*index) {
                    item.remove(rest);
                }
            }
            _ => {}
        }
    }

    /// What it is, for a message; shows scalars that did not come from a reference.
    pub(super) fn describe(&self) -> String {
        match &self.value {
            _ if self.referenced => "what its reference gives (not shown)".to_owned(),
            Value::Null => "nothing".to_owned(),
            Value::Bool(value) => format!("`{value}`"),
            Value::Signed(value) => format!("the number `{value}`"),
            Value::Unsigned(value) => format!("the number `{value}`"),
            Value::Float(value) => format!("the number `{value}`"),
            Value::Text(text) => format!("`{}`", shortened(text)),
            Value::List(_) => "a list".to_owned(),
            Value::Map(_) => "a block of keys".to_owned(),
        }
    }
}

/// What is left of a path after this key; `None` if it does not begin with it.
fn after_key<'a>(path: &'a str, key: &Key) -> Option<&'a str> {
    let rest = path.strip_prefix(key.name.as_str()).filter(|_| !key.name.is_empty())?;
    let ends = rest.is_empty() || rest.starts_with(['.', '[']);
    ends.then(|| rest.strip_prefix('.').unwrap_or(rest))
}

/// At most 60 characters, on one line.
pub(super) fn shortened(text: &str) -> String {
    let line: String = text.chars().take(60).flat_map(char::escape_debug).collect();
    if text.chars().nth(60).is_some() { format!("{line}…") } else { line }
}

/// One step of a path.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Step {
    Key(String),
    Index(usize),
}

/// `tables[2].key`.
pub(super) fn path(steps: &[Step]) -> String {
    let mut path = String::new();
    for step in steps {
        match step {
            Step::Key(name) if path.is_empty() => path.push_str(name),
            Step::Key(name) => {
                path.push('.');
                path.push_str(name);
            }
            Step::Index(index) => path.push_str(&format!("[{index}]")),
        }
    }
    path
}

impl<'de> Deserialize<'de> for Node {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let spanned = Spanned::<Value>::deserialize(deserializer)?;
        Ok(Self { place: Place::of(&spanned), value: spanned.value, referenced: false })
    }
}

impl<'de> Deserialize<'de> for Value {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(ValueVisitor)
    }
}

struct ValueVisitor;

impl<'de> Visitor<'de> for ValueVisitor {
    type Value = Value;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a YAML value")
    }

    fn visit_unit<E>(self) -> Result<Value, E> {
        Ok(Value::Null)
    }

    fn visit_bool<E>(self, value: bool) -> Result<Value, E> {
        Ok(Value::Bool(value))
    }

    fn visit_i64<E>(self, value: i64) -> Result<Value, E> {
        Ok(Value::Signed(value))
    }

    fn visit_u64<E>(self, value: u64) -> Result<Value, E> {
        Ok(Value::Unsigned(value))
    }

    fn visit_f64<E>(self, value: f64) -> Result<Value, E> {
        Ok(Value::Float(value))
    }

    fn visit_str<E>(self, text: &str) -> Result<Value, E> {
        Ok(Value::Text(text.to_owned()))
    }

    fn visit_string<E>(self, text: String) -> Result<Value, E> {
        Ok(Value::Text(text))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Value, A::Error> {
        let mut items = Vec::new();
        while let Some(item) = seq.next_element()? {
            items.push(item);
        }
        Ok(Value::List(items))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Value, A::Error> {
        let mut entries = Vec::new();
        while let Some(key) = map.next_key::<Spanned<String>>()? {
            let place = Place::of(&key);
            entries.push((Key { place, name: key.value }, map.next_value()?));
        }
        Ok(Value::Map(entries))
    }
}
