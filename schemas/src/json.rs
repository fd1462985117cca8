//! A strict JSON parser that keeps what a table needs: number texts, and the raw text of every
//! value.
//!
//! A document becomes a flat list of nodes over the borrowed text, which is reused from record to
//! record; nothing is allocated for a value, and strings are unescaped when asked for. Grammar and
//! UTF-8 are checked in full. Of members with the same name the last one counts, as in Jackson,
//! which Kafka Connect writes and reads with. No recursion: nesting is bounded by a number.

use std::borrow::Cow;

mod number;
mod scan;

pub use scan::JsonError;
pub(crate) use scan::LESS_NESTING;

/// How deep arrays and objects may nest.
pub const DEPTH_MAX: usize = 128;

/// What a value is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// `null`.
    Null,
    /// `true`.
    True,
    /// `false`.
    False,
    /// A number.
    Number,
    /// A string, without escapes.
    Plain,
    /// A string with escapes.
    Escaped,
    /// An array.
    Array,
    /// An object.
    Object,
}

#[derive(Debug, Clone, Copy)]
struct Node {
    kind: Kind,
    /// Bytes of the value, `[start, end)`.
    start: u32,
    end: u32,
    /// The node after this value and all within it.
    next: u32,
}

/// Parses documents, reusing its memory.
#[derive(Debug, Default)]
pub struct Parser {
    nodes: Vec<Node>,
    open: Vec<u32>,
}

impl Parser {
    /// Parses one document, whole: nothing but white space may surround the value.
    ///
    /// # Errors
    /// When the bytes are not UTF-8 or not JSON, nest deeper than `depth_max`, or are 4 GiB or more.
    pub fn parse<'p, 'a>(
        &'p mut self,
        bytes: &'a [u8],
        depth_max: usize,
    ) -> Result<Json<'p, 'a>, JsonError> {
        let text = self.read(bytes, depth_max)?;
        Ok(self.document(text))
    }

    /// Parses one document as [`Self::parse`] does; [`Self::document`] then shows it. For callers
    /// that go on with something else where it fails.
    pub(crate) fn read<'a>(
        &mut self,
        bytes: &'a [u8],
        depth_max: usize,
    ) -> Result<&'a str, JsonError> {
        let text = std::str::from_utf8(bytes)
            .map_err(|error| JsonError { at: error.valid_up_to(), expected: "UTF-8" })?;
        scan::scan(text, depth_max, &mut self.nodes, &mut self.open)?;
        Ok(text)
    }

    /// The document that [`Self::read`] gave this text of.
    pub(crate) fn document<'p, 'a>(&'p self, text: &'a str) -> Json<'p, 'a> {
        Json { nodes: &self.nodes, text, at: 0 }
    }
}

/// A value of a parsed document.
#[derive(Debug, Clone, Copy)]
pub struct Json<'p, 'a> {
    nodes: &'p [Node],
    text: &'a str,
    at: u32,
}

impl<'p, 'a> Json<'p, 'a> {
    #[inline]
    fn node(&self) -> &'p Node {
        &self.nodes[self.at as usize]
    }

    /// What it is.
    #[inline]
    pub fn kind(&self) -> Kind {
        self.node().kind
    }

    /// Whether it is `null`.
    #[inline]
    pub fn is_null(&self) -> bool {
        self.kind() == Kind::Null
    }

    /// Its text as it stands in the document.
    #[inline]
    pub fn raw(&self) -> &'a str {
        let node = self.node();
        &self.text[node.start as usize..node.end as usize]
    }

    /// The content of a string; `None` for anything else.
    #[inline]
    pub fn text(&self) -> Option<Cow<'a, str>> {
        let node = self.node();
        let inner = || &self.text[node.start as usize + 1..node.end as usize - 1];
        match node.kind {
            Kind::Plain => Some(Cow::Borrowed(inner())),
            Kind::Escaped => Some(Cow::Owned(scan::unescape(inner()))),
            _ => None,
        }
    }

    /// Whether it is a string with this content.
    #[inline]
    pub fn is_text(&self, content: &str) -> bool {
        let node = self.node();
        let length = (node.end - node.start) as usize;
        match node.kind {
            Kind::Plain => {
                length == content.len() + 2
                    && &self.text.as_bytes()[node.start as usize + 1..node.end as usize - 1]
                        == content.as_bytes()
            }
            // An escape is longer than what it stands for, up to six times.
            Kind::Escaped if length <= content.len() * 6 + 2 => {
                self.text().is_some_and(|text| text == content)
            }
            _ => false,
        }
    }

    /// The text of a number; `None` for anything else.
    pub fn number(&self) -> Option<&'a str> {
        (self.kind() == Kind::Number).then(|| self.raw())
    }

    /// A number that is an integer of 64 bits, however it is written (`1`, `1.0`, `1e3`); `None`
    /// for anything else.
    pub fn integer(&self) -> Option<i64> {
        number::integer(self.number()?)
    }

    /// `true` or `false`; `None` for anything else.
    pub fn boolean(&self) -> Option<bool> {
        match self.kind() {
            Kind::True => Some(true),
            Kind::False => Some(false),
            _ => None,
        }
    }

    /// The elements of an array; nothing for anything else.
    pub fn items(&self) -> Items<'p, 'a> {
        let end = if self.kind() == Kind::Array { self.node().next } else { self.at + 1 };
        Items { nodes: self.nodes, text: self.text, at: self.at + 1, end }
    }

    /// The members of an object in the order of the document, repeated names included; nothing for
    /// anything else.
    pub fn members(&self) -> Members<'p, 'a> {
        let end = if self.kind() == Kind::Object { self.node().next } else { self.at + 1 };
        Members(Items { nodes: self.nodes, text: self.text, at: self.at + 1, end })
    }

    /// The last member of an object with this name.
    pub fn get(&self, name: &str) -> Option<Self> {
        let mut found = None;
        for (key, value) in self.members() {
            if key.is_text(name) {
                found = Some(value);
            }
        }
        found
    }
}

/// Elements of an array.
#[derive(Debug, Clone)]
pub struct Items<'p, 'a> {
    nodes: &'p [Node],
    text: &'a str,
    at: u32,
    end: u32,
}

impl<'p, 'a> Iterator for Items<'p, 'a> {
    type Item = Json<'p, 'a>;

    #[inline]
    fn next(&mut self) -> Option<Json<'p, 'a>> {
        if self.at >= self.end {
            return None;
        }
        let item = Json { nodes: self.nodes, text: self.text, at: self.at };
        self.at = item.node().next;
        Some(item)
    }
}

/// Members of an object: name and value.
#[derive(Debug, Clone)]
pub struct Members<'p, 'a>(Items<'p, 'a>);

impl<'p, 'a> Iterator for Members<'p, 'a> {
    type Item = (Json<'p, 'a>, Json<'p, 'a>);

    #[inline]
    fn next(&mut self) -> Option<Self::Item> {
        let name = self.0.next()?;
        Some((name, self.0.next()?))
    }
}

pub use number::exact_double;

#[cfg(test)]
mod tests;
