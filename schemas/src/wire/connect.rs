//! Connect schemas, written as JsonConverter writes them beside a payload.

use std::rc::Rc;

use super::text;

/// A schema's text may have this many bytes: schemas are written out where they are used, so a few
/// named types that use each other twice would grow beyond all bounds.
const TEXT_MAX: usize = 8 << 20;

/// What values are by their base type.
#[derive(Debug, Clone)]
pub(super) enum Base {
    /// By Connect's JSON name: `int32`, `string`, …
    Plain(&'static str),
    Array(Rc<Connect>),
    Map(Rc<Connect>, Rc<Connect>),
    Struct(Vec<(String, Rc<Connect>)>),
}

/// A Connect schema.
#[derive(Debug, Clone)]
pub(super) struct Connect {
    pub(super) base: Base,
    pub(super) optional: bool,
    pub(super) name: Option<String>,
    pub(super) version: Option<i64>,
    pub(super) doc: Option<String>,
    pub(super) parameters: Vec<(String, String)>,
    /// JSON text.
    pub(super) default: Option<String>,
}

impl Connect {
    /// A schema that says nothing beside its base; not optional.
    pub(super) fn new(base: Base) -> Self {
        Self {
            base,
            optional: false,
            name: None,
            version: None,
            doc: None,
            parameters: Vec::new(),
            default: None,
        }
    }

    pub(super) fn plain(name: &'static str) -> Self {
        Self::new(Base::Plain(name))
    }

    pub(super) fn named(self, name: impl Into<String>) -> Self {
        Self { name: Some(name.into()), ..self }
    }

    /// One of Connect's logical types.
    pub(super) fn logical(base: &'static str, name: &str) -> Self {
        let schema = Self::plain(base).named(format!("org.apache.kafka.connect.data.{name}"));
        Self { version: Some(1), ..schema }
    }

    pub(super) fn optional(self) -> Self {
        Self { optional: true, ..self }
    }

    /// The text.
    ///
    /// # Errors
    /// When it grows beyond all bounds.
    pub(super) fn text(&self) -> Result<String, String> {
        let mut out = String::new();
        self.write(None, &mut out)?;
        Ok(out)
    }

    fn write(&self, field: Option<&str>, out: &mut String) -> Result<(), String> {
        if out.len() > TEXT_MAX {
            return Err(format!("it comes to more than {TEXT_MAX} bytes when written out"));
        }
        out.push_str("{\"type\":");
        match &self.base {
            Base::Plain(name) => text::string(name, out),
            Base::Array(items) => {
                out.push_str("\"array\",\"items\":");
                items.write(None, out)?;
            }
            Base::Map(keys, values) => {
                out.push_str("\"map\",\"keys\":");
                keys.write(None, out)?;
                out.push_str(",\"values\":");
                values.write(None, out)?;
            }
            Base::Struct(fields) => {
                out.push_str("\"struct\",\"fields\":[");
                for (index, (name, schema)) in fields.iter().enumerate() {
                    if index > 0 {
                        out.push(',');
                    }
                    schema.write(Some(name), out)?;
                }
                out.push(']');
            }
        }
        self.write_annotations(out);
        if let Some(field) = field {
            member("field", field, out);
        }
        out.push('}');
        Ok(())
    }

    fn write_annotations(&self, out: &mut String) {
        out.push_str(if self.optional { ",\"optional\":true" } else { ",\"optional\":false" });
        if let Some(name) = &self.name {
            member("name", name, out);
        }
        if let Some(version) = self.version {
            out.push_str(",\"version\":");
            text::integer(version, out);
        }
        if let Some(doc) = &self.doc {
            member("doc", doc, out);
        }
        for (index, (name, value)) in self.parameters.iter().enumerate() {
            out.push_str(if index == 0 { ",\"parameters\":{" } else { "," });
            text::string(name, out);
            out.push(':');
            text::string(value, out);
        }
        if !self.parameters.is_empty() {
            out.push('}');
        }
        if let Some(default) = &self.default {
            out.push_str(",\"default\":");
            out.push_str(default);
        }
    }
}

fn member(name: &str, value: &str, out: &mut String) {
    out.push(',');
    text::string(name, out);
    out.push(':');
    text::string(value, out);
}
