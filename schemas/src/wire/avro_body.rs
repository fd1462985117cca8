//! Avro's binary encoding, read straight into JSON.
//!
//! Nothing is allocated for what a body only claims to hold: counts and lengths are checked against
//! the bytes that are left. Recursion goes as deep as the schema's types, which are bounded.

use super::text;

/// A part of a schema. Parts refer to each other by their index.
#[derive(Debug)]
pub(super) enum Node {
    Null,
    Boolean,
    Int,
    Long,
    Float,
    Double,
    Bytes,
    Text,
    Fixed(usize),
    /// The symbols as JSON.
    Enum(Vec<String>),
    Array(usize),
    Map(usize),
    /// Pairs of key and value: a map whose keys are no strings.
    Entries {
        key: usize,
        value: usize,
    },
    Record(Vec<Field>),
    /// One type, or nothing.
    Union(Vec<usize>),
    /// Several types: an object with a member for each.
    Choice {
        branches: Vec<Field>,
        of: Vec<usize>,
    },
}

/// A field of a record.
#[derive(Debug)]
pub(super) struct Field {
    /// The name as a JSON member begins: `"id":`.
    opening: String,
    pub(super) node: usize,
}

impl Field {
    pub(super) fn new(name: &str, node: usize) -> Self {
        let mut opening = String::new();
        text::string(name, &mut opening);
        opening.push(':');
        Self { opening, node }
    }
}

/// How bodies of one schema are read.
#[derive(Debug)]
pub(super) struct Plan {
    nodes: Vec<Node>,
    root: usize,
}

impl Plan {
    pub(super) fn new(nodes: Vec<Node>, root: usize) -> Self {
        Self { nodes, root }
    }

    /// Appends the JSON of a body, which must be read to its end.
    pub(super) fn read(
        &self,
        body: &[u8],
        text_max: usize,
        out: &mut String,
    ) -> Result<(), String> {
        let mut reader = Reader { nodes: &self.nodes, bytes: body, text_max };
        reader.value(self.root, out)?;
        match reader.bytes.len() {
            0 => Ok(()),
            left => Err(format!("is not of its schema: {left} bytes are left over")),
        }
    }
}

struct Reader<'a> {
    nodes: &'a [Node],
    bytes: &'a [u8],
    text_max: usize,
}

type Outcome<T = ()> = Result<T, String>;

impl<'a> Reader<'a> {
    fn take(&mut self, count: usize) -> Outcome<&'a [u8]> {
        let (taken, rest) = self
            .bytes
            .split_at_checked(count)
            .ok_or("is not of its schema: it ends in the middle of a value")?;
        self.bytes = rest;
        Ok(taken)
    }

    fn chunk<const N: usize>(&mut self) -> Outcome<[u8; N]> {
        let taken = self.take(N)?;
        taken.try_into().map_err(|_| "is not of its schema".to_owned())
    }

    /// A zigzag varint.
    fn long(&mut self) -> Outcome<i64> {
        let mut value = 0u64;
        for shift in (0..64).step_by(7) {
            let [byte] = self.chunk()?;
            if shift == 63 && byte > 1 {
                break;
            }
            value |= u64::from(byte & 0x7f) << shift;
            if byte < 0x80 {
                return Ok((value >> 1).cast_signed() ^ -(value & 1).cast_signed());
            }
        }
        Err("is not of its schema: it holds an integer of more than 64 bits".to_owned())
    }

    fn length(&mut self) -> Outcome<usize> {
        usize::try_from(self.long()?)
            .map_err(|_| "is not of its schema: it holds a negative length".to_owned())
    }

    fn bytes(&mut self) -> Outcome<&'a [u8]> {
        let length = self.length()?;
        self.take(length)
    }

    fn text(&mut self) -> Outcome<&'a str> {
        std::str::from_utf8(self.bytes()?)
            .map_err(|_| "is not of its schema: it holds a string that is not UTF-8".to_owned())
    }

    /// Items of the next block; 0 at the end. An item takes at least a byte, but for those of types
    /// without content, which no row has.
    fn block(&mut self) -> Outcome<usize> {
        let count = self.long()?;
        if count < 0 {
            // The block's size in bytes follows.
            self.long()?;
        }
        let count = usize::try_from(count.unsigned_abs()).unwrap_or(usize::MAX);
        if count > self.bytes.len() {
            return Err("is not of its schema: it claims more items than it has bytes".to_owned());
        }
        Ok(count)
    }

    /// The items of an array or map, each read by `item`.
    fn blocks(
        &mut self,
        out: &mut String,
        mut item: impl FnMut(&mut Self, &mut String) -> Outcome,
    ) -> Outcome {
        let mut first = true;
        loop {
            let count = self.block()?;
            if count == 0 {
                return Ok(());
            }
            for _ in 0..count {
                if !first {
                    out.push(',');
                }
                first = false;
                item(self, out)?;
            }
        }
    }

    fn value(&mut self, node: usize, out: &mut String) -> Outcome {
        if out.len() > self.text_max {
            return Err(format!("comes to more than {} bytes of JSON", self.text_max));
        }
        let nodes = self.nodes;
        match &nodes[node] {
            Node::Null => out.push_str("null"),
            Node::Boolean => out.push_str(match self.chunk()? {
                [0] => "false",
                [1] => "true",
                _ => return Err("is not of its schema: a boolean is neither 0 nor 1".to_owned()),
            }),
            Node::Int => match i32::try_from(self.long()?) {
                Ok(number) => text::integer(number.into(), out),
                Err(_) => return Err("is not of its schema: an int has over 32 bits".to_owned()),
            },
            Node::Long => text::integer(self.long()?, out),
            Node::Float => text::float(f32::from_le_bytes(self.chunk()?), out),
            Node::Double => text::double(f64::from_le_bytes(self.chunk()?), out),
            Node::Bytes => text::bytes(self.bytes()?, out),
            Node::Text => text::string(self.text()?, out),
            Node::Fixed(size) => text::bytes(self.take(*size)?, out),
            Node::Enum(symbols) => {
                let symbol = symbols.get(self.length()?);
                out.push_str(symbol.ok_or("is not of its schema: no such symbol of an enum")?);
            }
            Node::Union(branches) => {
                let branch = self.branch(branches)?;
                self.value(branch, out)?;
            }
            Node::Record(fields) => self.record(fields, out)?,
            Node::Choice { branches, of } => self.choice(branches, of, out)?,
            Node::Array(_) | Node::Map(_) | Node::Entries { .. } => self.several(node, out)?,
        }
        Ok(())
    }

    fn branch(&mut self, branches: &[usize]) -> Outcome<usize> {
        let index = self.length()?;
        let branch = branches.get(index).copied();
        branch.ok_or_else(|| "is not of its schema: no such branch of a union".to_owned())
    }

    fn record(&mut self, fields: &[Field], out: &mut String) -> Outcome {
        out.push('{');
        for (index, field) in fields.iter().enumerate() {
            if index > 0 {
                out.push(',');
            }
            out.push_str(&field.opening);
            self.value(field.node, out)?;
        }
        out.push('}');
        Ok(())
    }

    fn choice(&mut self, branches: &[Field], of: &[usize], out: &mut String) -> Outcome {
        let chosen = self.branch(of)?;
        if matches!(self.nodes[chosen], Node::Null) {
            out.push_str("null");
            return Ok(());
        }
        out.push('{');
        for (index, branch) in branches.iter().enumerate() {
            if index > 0 {
                out.push(',');
            }
            out.push_str(&branch.opening);
            if branch.node == chosen {
                self.value(chosen, out)?;
            } else {
                out.push_str("null");
            }
        }
        out.push('}');
        Ok(())
    }

    fn several(&mut self, node: usize, out: &mut String) -> Outcome {
        let nodes = self.nodes;
        match &nodes[node] {
            Node::Map(values) => {
                out.push('{');
                self.blocks(out, |reader, out| {
                    text::string(reader.text()?, out);
                    out.push(':');
                    reader.value(*values, out)
                })?;
                out.push('}');
            }
            Node::Entries { key, value } => {
                out.push('[');
                self.blocks(out, |reader, out| {
                    out.push('[');
                    reader.value(*key, out)?;
                    out.push(',');
                    reader.value(*value, out)?;
                    out.push(']');
                    Ok(())
                })?;
                out.push(']');
            }
            Node::Array(items) => {
                out.push('[');
                self.blocks(out, |reader, out| reader.value(*items, out))?;
                out.push(']');
            }
            _ => {}
        }
        Ok(())
    }
}
