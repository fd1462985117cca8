//! Flattened records (`ExtractNewRecordState`), brought back into Debezium's envelope.
//!
//! The row is the value, and what the transformation was told to add stands beside its columns or
//! in headers, under names that begin with `__`. From these the envelope is written again as far as
//! they go, so that everything after this knows one form only. Without an operation a row is an
//! upsert; without a position nothing can be told to be a repeat.

use super::{OLD_KEY, Parsed, RecordRef, envelope};
use crate::json::{Json, Kind, Parser};
use crate::wire::write_string;

/// What the transformation puts in front of the names that it adds.
const PREFIX: &str = "__";

/// Fields of the envelope that it can add; those of `source` and `transaction` beside these.
const OF_ENVELOPE: [&str; 5] = ["op", "deleted", "ts_ms", "ts_us", "ts_ns"];

/// Fields of the source block that it can add without saying `source`.
const OF_SOURCE: [&str; 35] = [
    "version",
    "connector",
    "name",
    "snapshot",
    "db",
    "sequence",
    "schema",
    "table",
    "collection",
    "txId",
    "lsn",
    "xmin",
    "origin",
    "origin_lsn",
    "server_id",
    "gtid",
    "file",
    "pos",
    "row",
    "thread",
    "query",
    "change_lsn",
    "commit_lsn",
    "begin_lsn",
    "event_serial_no",
    "scn",
    "commit_scn",
    "lcr_position",
    "rs_id",
    "ssn",
    "redo_thread",
    "txSeq",
    "ord",
    "vgtid",
    "shard",
];

/// Where an added field stood in the envelope.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Place<'n> {
    Envelope(&'n str),
    Source(&'n str),
    Transaction(&'n str),
}

fn place(name: &str) -> Option<Place<'_>> {
    let name = name.strip_prefix(PREFIX)?;
    if let Some(name) = name.strip_prefix("source_") {
        return Some(Place::Source(name));
    }
    if let Some(name) = name.strip_prefix("transaction_") {
        return Some(Place::Transaction(name));
    }
    if OF_ENVELOPE.contains(&name) {
        return Some(Place::Envelope(name));
    }
    OF_SOURCE.contains(&name).then_some(Place::Source(name))
}

/// Whether a field is none of the table's but one that the transformation adds.
pub(crate) fn is_added(name: &str) -> bool {
    place(name).is_some()
}

/// Writes envelopes, reusing its memory.
#[derive(Debug, Default)]
pub(super) struct Flat {
    parser: Parser,
    text: String,
}

/// What was added, each the last of its name: from the value, or from a header.
#[derive(Default)]
struct Added {
    /// Without prefix, with the JSON of the value.
    envelope: Vec<(String, String)>,
    source: Vec<(String, String)>,
    transaction: Vec<(String, String)>,
}

impl Added {
    /// Takes a field over unless it is known.
    fn offer(&mut self, name: &str, json: impl FnOnce() -> Option<String>) {
        let (list, name) = match place(name) {
            Some(Place::Envelope(name)) => (&mut self.envelope, name),
            Some(Place::Source(name)) => (&mut self.source, name),
            Some(Place::Transaction(name)) => (&mut self.transaction, name),
            None => return,
        };
        if !list.iter().any(|(known, _)| known == name)
            && let Some(json) = json()
        {
            list.push((name.to_owned(), json));
        }
    }

    fn envelope(&self, name: &str) -> Option<&str> {
        let of_name = self.envelope.iter().find(|(known, _)| known == name);
        of_name.map(|(_, json)| json.as_str()).filter(|json| *json != "null")
    }

    fn has_source(&self, name: &str) -> bool {
        self.source.iter().any(|(known, json)| known == name && json != "null")
    }

    /// The letter of the operation.
    fn op(&self, record: &RecordRef<'_>) -> String {
        let deleted = self.envelope("deleted");
        if deleted.is_some_and(|deleted| matches!(deleted, "true" | "\"true\"")) {
            return "\"d\"".to_owned();
        }
        match self.envelope("op") {
            Some(op) => op.to_owned(),
            // The first half of a key change has gone before: what this one lacks, that one had.
            None if record.header(OLD_KEY).is_some() => "\"c\"".to_owned(),
            None => "\"u\"".to_owned(),
        }
    }

    /// Which connector it was, where its own fields tell.
    fn connector(&self) -> &'static str {
        if self.has_source("lsn") {
            "postgresql"
        } else if self.has_source("file") && self.has_source("pos") {
            "mysql"
        } else if self.has_source("commit_scn") || self.has_source("scn") {
            "oracle"
        } else {
            "unknown"
        }
    }
}

impl Flat {
    /// The envelope of a flattened record. What is none comes back as it is: the transformation
    /// leaves heartbeats, transaction markers and messages alone.
    pub(super) fn envelope<'p>(
        &'p mut self,
        parsed: Parsed<'p, 'p>,
        record: &RecordRef<'_>,
        depth_max: usize,
    ) -> Result<Parsed<'p, 'p>, String> {
        let row = parsed.payload;
        if row.kind() != Kind::Object || is_envelope(row) {
            return Ok(parsed);
        }
        let (mut added, mut own) = (Added::default(), String::from("{"));
        let members: Vec<_> = row.members().collect();
        // Of members with one name the last counts.
        for (name, json) in members.iter().rev() {
            let name = name.text().unwrap_or_default();
            added.offer(&name, || Some(json.raw().to_owned()));
        }
        let unmarked =
            added.envelope.is_empty() && added.source.is_empty() && added.transaction.is_empty();
        if unmarked && envelope::other(row).is_some() {
            return Ok(parsed);
        }
        for (name, json) in members {
            if !is_added(&name.text().unwrap_or_default()) {
                if own.len() > 1 {
                    own.push(',');
                }
                own.push_str(name.raw());
                own.push(':');
                own.push_str(json.raw());
            }
        }
        own.push('}');
        for (name, value) in record.headers.iter().rev() {
            added.offer(name, || header_json((*value)?));
        }
        write(&own, &added, &added.op(record), &mut self.text);
        let payload = self
            .parser
            .parse(self.text.as_bytes(), depth_max.saturating_add(1))
            .map_err(|error| format!("value cannot be put into an envelope: {error}"))?;
        Ok(Parsed { payload, schema: parsed.schema })
    }
}

fn is_envelope(json: Json<'_, '_>) -> bool {
    let source = json.get("source").is_some_and(|source| source.kind() == Kind::Object);
    source && json.get("op").is_some_and(|op| op.text().is_some())
}

/// A header as JSON. Connect's own header converter writes bare text, others JSON.
fn header_json(value: &[u8]) -> Option<String> {
    let text = std::str::from_utf8(value).ok()?;
    let mut parser = Parser::default();
    let json = parser.parse(value, 8).ok();
    let json = json.and_then(|json| match json.kind() {
        Kind::Object => json.get("payload"),
        Kind::Array => None,
        _ => Some(json),
    });
    let bare = || {
        let mut out = String::new();
        write_string(text, &mut out);
        out
    };
    Some(json.map_or_else(bare, |json| json.raw().to_owned()))
}

fn write(own: &str, added: &Added, op: &str, out: &mut String) {
    out.clear();
    let (before, after) = if op == "\"d\"" { (own, "null") } else { ("null", own) };
    out.push_str("{\"before\":");
    out.push_str(before);
    out.push_str(",\"after\":");
    out.push_str(after);
    out.push_str(",\"source\":{");
    let mut source: Vec<(&str, &str)> = Vec::new();
    let connector = format!("\"{}\"", added.connector());
    if !added.has_source("connector") {
        source.push(("connector", &connector));
    }
    if op == "\"r\"" && !added.has_source("snapshot") {
        source.push(("snapshot", "\"true\""));
    }
    let given = added.source.iter().rev().map(|(name, json)| (name.as_str(), json.as_str()));
    let set = source.len();
    for (name, json) in given {
        if !source[..set].iter().any(|(known, _)| *known == name) {
            source.push((name, json));
        }
    }
    members(&source, out);
    out.push('}');
    if !added.transaction.is_empty() {
        let transaction: Vec<(&str, &str)> =
            added.transaction.iter().rev().map(|(n, json)| (n.as_str(), json.as_str())).collect();
        out.push_str(",\"transaction\":{");
        members(&transaction, out);
        out.push('}');
    }
    out.push_str(",\"op\":");
    out.push_str(op);
    for name in ["ts_ms", "ts_us", "ts_ns"] {
        if let Some(json) = added.envelope(name) {
            out.push_str(",\"");
            out.push_str(name);
            out.push_str("\":");
            out.push_str(json);
        }
    }
    out.push('}');
}

fn members(members: &[(&str, &str)], out: &mut String) {
    for (index, (name, json)) in members.iter().enumerate() {
        if index > 0 {
            out.push(',');
        }
        write_string(name, out);
        out.push(':');
        out.push_str(json);
    }
}

#[cfg(test)]
mod tests;
