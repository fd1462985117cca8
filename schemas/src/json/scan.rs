//! The grammar: from text to nodes.

use super::{Kind, Node};

/// Where and why a text is not JSON. Tells nothing of the text itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("at byte {at}: expected {expected}")]
pub struct JsonError {
    /// Bytes from the start.
    pub at: usize,
    /// What should have been there.
    pub expected: &'static str,
}

/// What is expected where a text nests deeper than allowed.
pub(crate) const LESS_NESTING: &str = "less nesting";

/// Nodes whose memory is kept for the next document: 1 MiB.
const NODES_KEPT_MAX: usize = 1 << 16;

/// Fills `nodes` with the one value of `text`. `open` is scratch space.
pub(super) fn scan(
    text: &str,
    depth_max: usize,
    nodes: &mut Vec<Node>,
    open: &mut Vec<u32>,
) -> Result<(), JsonError> {
    nodes.clear();
    // One huge record must not hold its memory for ever.
    nodes.shrink_to(NODES_KEPT_MAX);
    open.clear();
    if u32::try_from(text.len()).is_err() {
        return Err(JsonError { at: u32::MAX as usize, expected: "an end before 4 GiB" });
    }
    Scanner { bytes: text.as_bytes(), at: 0, depth_max, nodes, open }.document()
}

struct Scanner<'s> {
    bytes: &'s [u8],
    at: usize,
    depth_max: usize,
    nodes: &'s mut Vec<Node>,
    open: &'s mut Vec<u32>,
}

impl Scanner<'_> {
    fn document(&mut self) -> Result<(), JsonError> {
        self.space();
        loop {
            // A value begins here; an opening bracket is followed by another, or closed at once.
            if self.value()? {
                continue;
            }
            loop {
                self.space();
                let Some(&container) = self.open.last() else {
                    let ended = self.at == self.bytes.len();
                    return if ended { Ok(()) } else { self.expected("the end") };
                };
                let object = self.nodes[container as usize].kind == Kind::Object;
                match (self.peek(), object) {
                    (Some(b','), true) => {
                        self.at += 1;
                        self.space();
                        self.name()?;
                        break;
                    }
                    (Some(b','), false) => {
                        self.at += 1;
                        self.space();
                        break;
                    }
                    (Some(b'}'), true) | (Some(b']'), false) => self.close(container),
                    (_, true) => return self.expected("`,` or `}`"),
                    (_, false) => return self.expected("`,` or `]`"),
                }
            }
        }
    }

    /// Reads a scalar or an empty container (`false`), or opens a container and stands at its
    /// first value (`true`).
    fn value(&mut self) -> Result<bool, JsonError> {
        match self.peek() {
            Some(b'"') => self.string()?,
            Some(b'-' | b'0'..=b'9') => self.number()?,
            Some(b'{') => return self.container(Kind::Object),
            Some(b'[') => return self.container(Kind::Array),
            Some(b'n') => self.literal("null", Kind::Null)?,
            Some(b't') => self.literal("true", Kind::True)?,
            Some(b'f') => self.literal("false", Kind::False)?,
            _ => return self.expected("a value"),
        }
        Ok(false)
    }

    fn container(&mut self, kind: Kind) -> Result<bool, JsonError> {
        if self.open.len() >= self.depth_max {
            return self.expected(LESS_NESTING);
        }
        let index = self.nodes.len() as u32;
        self.push(kind, self.at, self.at);
        self.at += 1;
        self.space();
        let closing = if kind == Kind::Object { b'}' } else { b']' };
        if self.peek() == Some(closing) {
            self.open.push(index);
            self.close(index);
            return Ok(false);
        }
        self.open.push(index);
        if kind == Kind::Object {
            self.name()?;
        }
        Ok(true)
    }

    fn close(&mut self, container: u32) {
        self.at += 1;
        let next = self.nodes.len() as u32;
        let node = &mut self.nodes[container as usize];
        (node.end, node.next) = (self.at as u32, next);
        self.open.pop();
    }

    /// A member's name and its colon.
    fn name(&mut self) -> Result<(), JsonError> {
        if self.peek() != Some(b'"') {
            return self.expected("a member's name");
        }
        self.string()?;
        self.space();
        if self.peek() != Some(b':') {
            return self.expected("`:`");
        }
        self.at += 1;
        self.space();
        Ok(())
    }

    #[inline]
    fn string(&mut self) -> Result<(), JsonError> {
        let start = self.at;
        self.at += 1;
        let mut kind = Kind::Plain;
        loop {
            self.at += plain_length(&self.bytes[self.at..]);
            match self.peek() {
                Some(b'"') => {
                    self.at += 1;
                    self.push(kind, start, self.at);
                    return Ok(());
                }
                Some(b'\\') => {
                    kind = Kind::Escaped;
                    self.escape()?;
                }
                Some(_) => return self.expected("an escape instead of a control character"),
                None => return self.expected("the end of a string"),
            }
        }
    }

    fn escape(&mut self) -> Result<(), JsonError> {
        self.at += 1;
        match self.peek() {
            Some(b'"' | b'\\' | b'/' | b'b' | b'f' | b'n' | b'r' | b't') => self.at += 1,
            Some(b'u') => {
                let unit = self.hex()?;
                match unit {
                    0xd800..=0xdbff => {
                        let low = self.bytes[self.at..].starts_with(b"\\u");
                        if !low {
                            return self.expected("the second half of a surrogate pair");
                        }
                        self.at += 1;
                        if !(0xdc00..=0xdfff).contains(&self.hex()?) {
                            return self.expected("the second half of a surrogate pair");
                        }
                    }
                    0xdc00..=0xdfff => return self.expected("the first half of a surrogate pair"),
                    _ => {}
                }
            }
            _ => return self.expected("an escape"),
        }
        Ok(())
    }

    /// The four hex digits after the `u` at which it stands.
    fn hex(&mut self) -> Result<u32, JsonError> {
        let digits = self.bytes.get(self.at + 1..self.at + 5);
        let Some(unit) = digits.and_then(hex_unit) else { return self.expected("four hex digits") };
        self.at += 5;
        Ok(unit)
    }

    fn number(&mut self) -> Result<(), JsonError> {
        let start = self.at;
        if self.peek() == Some(b'-') {
            self.at += 1;
        }
        match self.peek() {
            Some(b'0') => self.at += 1,
            _ => self.digits()?,
        }
        if self.peek() == Some(b'.') {
            self.at += 1;
            self.digits()?;
        }
        if matches!(self.peek(), Some(b'e' | b'E')) {
            self.at += 1;
            if matches!(self.peek(), Some(b'+' | b'-')) {
                self.at += 1;
            }
            self.digits()?;
        }
        self.push(Kind::Number, start, self.at);
        Ok(())
    }

    fn digits(&mut self) -> Result<(), JsonError> {
        let rest = &self.bytes[self.at..];
        let count = rest.iter().take_while(|byte| byte.is_ascii_digit()).count();
        self.at += count;
        if count == 0 { self.expected("a digit") } else { Ok(()) }
    }

    fn literal(&mut self, text: &str, kind: Kind) -> Result<(), JsonError> {
        if !self.bytes[self.at..].starts_with(text.as_bytes()) {
            return self.expected("a value");
        }
        let start = self.at;
        self.at += text.len();
        self.push(kind, start, self.at);
        Ok(())
    }

    #[inline]
    fn push(&mut self, kind: Kind, start: usize, end: usize) {
        let next = self.nodes.len() as u32 + 1;
        // The text is shorter than 4 GiB, and has at least as many bytes as nodes.
        self.nodes.push(Node { kind, start: start as u32, end: end as u32, next });
    }

    #[inline]
    fn space(&mut self) {
        while matches!(self.peek(), Some(b' ' | b'\n' | b'\r' | b'\t')) {
            self.at += 1;
        }
    }

    #[inline]
    fn peek(&self) -> Option<u8> {
        self.bytes.get(self.at).copied()
    }

    fn expected<T>(&self, expected: &'static str) -> Result<T, JsonError> {
        Err(JsonError { at: self.at, expected })
    }
}

/// How many bytes of a string come before its next quote, backslash or control character.
#[inline]
fn plain_length(bytes: &[u8]) -> usize {
    const ONES: u64 = 0x0101_0101_0101_0101;
    const HIGHS: u64 = ONES << 7;
    let mut length = 0;
    let (words, _) = bytes.as_chunks::<8>();
    for word in words {
        let word = u64::from_le_bytes(*word);
        let zero = |word: u64| word.wrapping_sub(ONES) & !word & HIGHS;
        // The lowest marked byte is right; higher ones may be marked wrongly by the borrow.
        let control = word.wrapping_sub(ONES * 0x20) & !word & HIGHS;
        let found = control | zero(word ^ (ONES * 0x22)) | zero(word ^ (ONES * 0x5c));
        if found != 0 {
            return length + (found.trailing_zeros() / 8) as usize;
        }
        length += 8;
    }
    let ends = |byte: &u8| *byte < 0x20 || matches!(byte, b'"' | b'\\');
    length + bytes[length..].iter().position(ends).unwrap_or(bytes.len() - length)
}

fn hex_unit(digits: &[u8]) -> Option<u32> {
    digits.iter().try_fold(0, |unit, digit| Some(unit * 16 + char::from(*digit).to_digit(16)?))
}

/// The content of a string whose escapes have been checked.
pub(super) fn unescape(inner: &str) -> String {
    let mut out = String::with_capacity(inner.len());
    let mut rest = inner;
    loop {
        // Nothing else ends a stretch: the grammar has been checked.
        let at = plain_length(rest.as_bytes());
        out.push_str(&rest[..at]);
        if at == rest.len() {
            return out;
        }
        let escape = rest.as_bytes().get(at + 1).copied().unwrap_or(b'\\');
        rest = rest.get(at + 2..).unwrap_or("");
        out.push(match escape {
            b'b' => '\u{8}',
            b'f' => '\u{c}',
            b'n' => '\n',
            b'r' => '\r',
            b't' => '\t',
            b'u' => unescape_unit(&mut rest),
            other => char::from(other),
        });
    }
}

/// The character of one or two `\u` escapes, of which the first `\u` has been passed.
fn unescape_unit(rest: &mut &str) -> char {
    let mut unit = |skip: usize| {
        let value = rest.as_bytes().get(skip..skip + 4).and_then(hex_unit).unwrap_or(0xfffd);
        *rest = rest.get(skip + 4..).unwrap_or("");
        value
    };
    let first = unit(0);
    let code = match first {
        0xd800..=0xdbff => {
            let second = unit(2);
            0x10000 + ((first - 0xd800) << 10) + second.saturating_sub(0xdc00)
        }
        _ => first,
    };
    char::from_u32(code).unwrap_or(char::REPLACEMENT_CHARACTER)
}
