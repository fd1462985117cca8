//! Records of a table with hidden columns: rewritten before they become rows.

use std::sync::Arc;

use super::{NEW_KEY, OLD_KEY, RecordRef};
use crate::json::{Json, Kind, Parser};
use crate::masking::Masking;
use crate::placeholder::Placeholder;

/// What follows the reason why a record of a table with hidden columns cannot be understood.
pub const NOT_KEPT: &str =
    "; its bytes are not kept, because columns of this table are left out or masked";

/// Headers that hold no value of a row.
const HARMLESS: &str = "__debezium.context.";

/// What may be kept of a record beside what it was decoded to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Kept {
    /// Its key, as JSON where a column of it is masked.
    pub key: Option<Vec<u8>>,
    /// Its headers; without values where these might show one of the row.
    pub headers: Vec<(String, Option<Vec<u8>>)>,
}

/// Rewrites records, reusing its memory.
#[derive(Debug)]
pub(super) struct Masked {
    masking: Arc<Masking>,
    placeholder: Placeholder,
    value: Rewritten,
    key: Rewritten,
    header: Rewritten,
    /// Whether the last record had a key that could be read.
    read_key: bool,
    refusal: Option<String>,
}

#[derive(Debug, Default)]
struct Rewritten {
    parser: Parser,
    text: String,
    /// Whether a hidden column was in it.
    concerned: bool,
}

impl Rewritten {
    fn parse(&mut self) -> Result<Json<'_, '_>, String> {
        let parsed = self.parser.parse(self.text.as_bytes(), crate::json::DEPTH_MAX + 1);
        parsed.map_err(|error| format!("what is left of the record cannot be read: {error}"))
    }
}

impl Masked {
    pub(super) fn new(masking: Arc<Masking>, placeholder: Placeholder) -> Self {
        Self {
            masking,
            placeholder,
            value: Rewritten::default(),
            key: Rewritten::default(),
            header: Rewritten::default(),
            read_key: false,
            refusal: None,
        }
    }

    /// Forgets the last record.
    pub(super) fn begin(&mut self) {
        self.read_key = false;
        self.refusal = None;
    }

    pub(super) fn refusal(&self) -> Option<&str> {
        self.refusal.as_deref()
    }

    /// The envelope without what is hidden. What is none holds no row.
    pub(super) fn envelope<'p>(&'p mut self, json: Json<'p, 'p>) -> Result<Json<'p, 'p>, String> {
        if json.kind() != Kind::Object || super::envelope::other(json).is_some() {
            return Ok(json);
        }
        self.value.text.clear();
        self.masking.envelope(json, &self.placeholder, &mut self.value.text)?;
        self.value.parse()
    }

    /// The key without what is hidden.
    pub(super) fn key<'p>(&'p mut self, json: Json<'p, 'p>) -> Result<Json<'p, 'p>, String> {
        self.read_key = true;
        self.key.concerned = false;
        if json.kind() != Kind::Object {
            return Ok(json);
        }
        self.refusal = self.masking.key_refusal(json);
        self.key.text.clear();
        self.key.concerned = self.masking.row(json, &self.placeholder, &mut self.key.text)?;
        self.key.parse()
    }

    /// The key in a header without what is hidden.
    pub(super) fn header<'p>(&'p mut self, json: Json<'p, 'p>) -> Result<Json<'p, 'p>, String> {
        self.header.text.clear();
        self.masking.row(json, &self.placeholder, &mut self.header.text)?;
        self.header.parse()
    }

    /// What may be kept of the record that was decoded last.
    pub(super) fn kept(&self, record: &RecordRef<'_>) -> Kept {
        let key = match (self.read_key, self.key.concerned) {
            (false, _) => None,
            (true, true) => Some(self.key.text.clone().into_bytes()),
            (true, false) => record.key.map(<[u8]>::to_vec),
        };
        let headers = record.headers.iter().map(|(name, value)| {
            let value = value.and_then(|value| self.kept_header(name, value));
            ((*name).to_owned(), value)
        });
        Kept { key, headers: headers.collect() }
    }

    fn kept_header(&self, name: &str, value: &[u8]) -> Option<Vec<u8>> {
        if name.starts_with(HARMLESS) {
            return Some(value.to_vec());
        }
        if name != OLD_KEY && name != NEW_KEY {
            return None;
        }
        let mut parser = Parser::default();
        let json = parser.parse(value, crate::json::DEPTH_MAX).ok()?;
        let json = super::enveloped(json).map_or(json, |(_, payload)| payload);
        let mut out = String::new();
        let is_row = json.kind() == Kind::Object;
        is_row.then(|| self.masking.row(json, &self.placeholder, &mut out).ok())??;
        Some(out.into_bytes())
    }
}
