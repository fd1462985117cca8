//! A JSON document as a tree, each node with its own text. Read by `serde_json`.

use std::fmt;

use serde::de::{Deserialize, Deserializer, MapAccess, Visitor};
use serde_json::value::RawValue;

/// A value and its text.
#[derive(Debug, PartialEq)]
pub(crate) struct Node<'a> {
    pub(crate) raw: &'a str,
    pub(crate) content: Content<'a>,
}

/// What a value is.
#[derive(Debug, PartialEq)]
pub(crate) enum Content<'a> {
    Null,
    Boolean(bool),
    /// The node's text says which.
    Number,
    Text(String),
    List(Vec<Node<'a>>),
    /// In the order of the document, repeated names included.
    Object(Vec<(String, Node<'a>)>),
}

/// `None` for what is not one JSON value, or nests deeper than `depth_max`.
pub(crate) fn parse(bytes: &[u8], depth_max: usize) -> Option<Node<'_>> {
    let raw: &RawValue = serde_json::from_slice(bytes).ok()?;
    node(raw.get(), depth_max)
}

fn node(raw: &str, depth_left: usize) -> Option<Node<'_>> {
    let content = match raw.as_bytes()[0] {
        b'n' => Content::Null,
        b't' => Content::Boolean(true),
        b'f' => Content::Boolean(false),
        b'"' => Content::Text(serde_json::from_str(raw).ok()?),
        b'[' => {
            let left = depth_left.checked_sub(1)?;
            let items: Vec<&RawValue> = serde_json::from_str(raw).ok()?;
            Content::List(items.iter().map(|item| node(item.get(), left)).collect::<Option<_>>()?)
        }
        b'{' => {
            let left = depth_left.checked_sub(1)?;
            let Members(members) = serde_json::from_str(raw).ok()?;
            let mut nodes = Vec::new();
            for (name, value) in members {
                nodes.push((name, node(value.get(), left)?));
            }
            Content::Object(nodes)
        }
        _ => Content::Number,
    };
    Some(Node { raw, content })
}

/// The members of an object, all of them.
struct Members<'a>(Vec<(String, &'a RawValue)>);

impl<'de> Deserialize<'de> for Members<'de> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Collect;
        impl<'de> Visitor<'de> for Collect {
            type Value = Members<'de>;
            fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
                formatter.write_str("an object")
            }
            fn visit_map<M: MapAccess<'de>>(self, mut map: M) -> Result<Members<'de>, M::Error> {
                let mut members = Vec::new();
                while let Some(member) = map.next_entry()? {
                    members.push(member);
                }
                Ok(Members(members))
            }
        }
        deserializer.deserialize_map(Collect)
    }
}

impl<'a> Node<'a> {
    /// The content of a string.
    pub(crate) fn text(&self) -> Option<&str> {
        match &self.content {
            Content::Text(text) => Some(text),
            _ => None,
        }
    }

    /// The elements of an array; of anything else none.
    pub(crate) fn items(&self) -> &[Node<'a>] {
        match &self.content {
            Content::List(items) => items,
            _ => &[],
        }
    }

    fn members(&self) -> &[(String, Node<'a>)] {
        match &self.content {
            Content::Object(members) => members,
            _ => &[],
        }
    }

    /// The last member of this name.
    pub(crate) fn get(&self, name: &str) -> Option<&Node<'a>> {
        let mut named = self.members().iter().rev().filter(|(member, _)| member == name);
        named.next().map(|(_, node)| node)
    }

    /// Each name once, where it stood first, with what it is last.
    pub(crate) fn unique_members(&self) -> Vec<(String, &Node<'a>)> {
        let mut unique: Vec<(String, &Node<'a>)> = Vec::new();
        for (name, node) in self.members() {
            match unique.iter_mut().find(|(known, _)| known == name) {
                Some(known) => known.1 = node,
                None => unique.push((name.clone(), node)),
            }
        }
        unique
    }

    /// Connect's pair of schema and payload, or the document itself as the payload.
    pub(crate) fn with_schema(&self) -> (Option<&Node<'a>>, &Node<'a>) {
        let members = self.members();
        if members.iter().any(|(name, _)| name != "schema" && name != "payload") {
            return (None, self);
        }
        let schema = self.get("schema");
        let described = schema.filter(|s| matches!(s.content, Content::Object(_) | Content::Null));
        match described.zip(self.get("payload")) {
            None => (None, self),
            Some((schema, payload)) => {
                (Some(schema).filter(|s| s.content != Content::Null), payload)
            }
        }
    }
}
