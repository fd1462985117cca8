//! The plain decoder that the real one is compared with: written from the contract, without its
//! caches, its parser, its number and calendar code. Slow, and short enough to be read.
//!
//! JSON is `serde_json`'s, calendars are `chrono`'s, and big numbers are digits in a text.

mod numbers;
mod tree;
mod types;

use lakebed_schemas::change_event::{Op, OtherKind};
use lakebed_schemas::decoder::{OLD_KEY, RecordRef};
use lakebed_schemas::value::Value;

use tree::{Content, Node};

/// Bounds of the contract's defaults.
const BYTES_MAX: usize = 32 << 20;
const DEPTH_MAX: usize = 128;
const FIELDS_MAX: usize = 5_000;

/// Names and values in the order of the event, or of its schema.
pub(crate) type Row = Vec<(String, Value)>;

/// What a record says, by the contract.
#[derive(Debug, PartialEq)]
pub(crate) enum Said {
    Change(Box<Change>),
    Tombstone { key: Option<Row> },
    Other(OtherKind),
    Malformed,
}

/// Everything of a change event but its position and schema.
#[derive(Debug, PartialEq)]
pub(crate) struct Change {
    pub(crate) op: Op,
    pub(crate) key: Option<Row>,
    pub(crate) before: Option<Row>,
    pub(crate) after: Option<Row>,
    pub(crate) old_key: Option<Row>,
    pub(crate) connector: String,
    pub(crate) ts_us: Option<i64>,
    pub(crate) snapshot: Option<String>,
    pub(crate) tx: Option<String>,
    pub(crate) event_ts_us: Option<i64>,
    pub(crate) before_json: Option<String>,
    pub(crate) after_json: Option<String>,
    pub(crate) source_json: Option<String>,
}

/// Something is not as the contract wants it.
pub(crate) struct Bad;

/// Understands one record.
pub(crate) fn decode(record: &RecordRef<'_>) -> Said {
    understand(record).unwrap_or(Said::Malformed)
}

fn understand(record: &RecordRef<'_>) -> Result<Said, Bad> {
    let Some(bytes) = record.value else {
        return Ok(Said::Tombstone { key: key(record)?.0 });
    };
    let document = parse(bytes)?;
    let (schema, payload) = document.with_schema();
    let rows = schema.map(value_schemas).transpose()?.unwrap_or_default();
    match &payload.content {
        Content::Null => return Ok(Said::Tombstone { key: key(record)?.0 }),
        Content::Object(_) => {}
        _ => return Err(Bad),
    }
    if let Some(kind) = other(payload) {
        return Ok(Said::Other(kind));
    }
    change(record, payload, &rows).map(|change| Said::Change(Box::new(change)))
}

fn parse(bytes: &[u8]) -> Result<Node<'_>, Bad> {
    if bytes.len() > BYTES_MAX || matches!(bytes.first(), None | Some(0 | 1 | 3)) {
        return Err(Bad);
    }
    tree::parse(bytes, DEPTH_MAX).ok_or(Bad)
}

/// The structs `before` and `after` of a value's schema.
#[derive(Default)]
struct ValueSchemas<'s, 'a> {
    before: Option<&'s Node<'a>>,
    after: Option<&'s Node<'a>>,
}

fn value_schemas<'s, 'a>(schema: &'s Node<'a>) -> Result<ValueSchemas<'s, 'a>, Bad> {
    let row = |name: &str| {
        let fields = schema.get("fields").into_iter().flat_map(Node::items);
        let mut named = fields.filter(|f| f.get("field").and_then(Node::text) == Some(name));
        let row = named.next().filter(|row| is_struct(row));
        row.map(|row| types::check(row, FIELDS_MAX).map(|()| row)).transpose()
    };
    if !is_struct(schema) {
        return Ok(ValueSchemas::default());
    }
    Ok(ValueSchemas { before: row("before")?, after: row("after")? })
}

fn is_struct(schema: &Node<'_>) -> bool {
    schema.get("type").and_then(Node::text) == Some("struct")
}

fn change(
    record: &RecordRef<'_>,
    payload: &Node<'_>,
    rows: &ValueSchemas<'_, '_>,
) -> Result<Change, Bad> {
    let part = |name: &str| payload.get(name).filter(|part| part.content != Content::Null);
    let letter = part("op").and_then(Node::text).ok_or(Bad)?;
    let ops = [Op::Read, Op::Create, Op::Update, Op::Delete, Op::Truncate, Op::Message];
    let op = ops.into_iter().find(|op| op.letter() == letter).ok_or(Bad)?;
    let source = part("source").filter(|s| matches!(s.content, Content::Object(_))).ok_or(Bad)?;
    let (before, after) = (part("before"), part("after"));
    let writes = matches!(op, Op::Read | Op::Create | Op::Update);
    if writes != after.is_some() {
        return Err(Bad);
    }
    let read = |json: Option<&Node<'_>>, schema: Option<&Node<'_>>, may_lack| {
        json.map(|json| row(json, schema, may_lack)).transpose()
    };
    let after_row = read(after, rows.after, writes)?;
    let before_row = read(before, rows.before, false)?;
    let transaction = part("transaction").filter(|t| matches!(t.content, Content::Object(_)));
    let (key, key_schema) = key(record)?;
    let lacks = after_row.iter().flatten().any(|(_, value)| *value == Value::Unavailable);
    let old_key = match record.header(OLD_KEY).filter(|_| op == Op::Create) {
        None => None,
        Some(bytes) => match old_key(bytes, key_schema) {
            Err(Bad) if lacks => return Err(Bad),
            read => read.ok(),
        },
    };
    let raw = |json: Option<&Node<'_>>| json.map(|json| json.raw.to_owned());
    Ok(Change {
        op,
        key,
        before: before_row,
        after: after_row,
        old_key,
        connector: not_null(source, "connector").and_then(Node::text).ok_or(Bad)?.to_owned(),
        ts_us: micros(source),
        snapshot: snapshot(source)?,
        tx: tx(transaction, source),
        event_ts_us: micros(payload),
        before_json: raw(before),
        after_json: raw(after),
        source_json: raw(Some(source)),
    })
}

fn not_null<'s, 'a>(object: &'s Node<'a>, name: &str) -> Option<&'s Node<'a>> {
    object.get(name).filter(|member| member.content != Content::Null)
}

fn micros(object: &Node<'_>) -> Option<i64> {
    let count = |name: &str| not_null(object, name).and_then(numbers::integer);
    count("ts_us").or_else(|| count("ts_ms")?.checked_mul(1_000))
}

fn snapshot(source: &Node<'_>) -> Result<Option<String>, Bad> {
    match not_null(source, "snapshot").map(|node| &node.content) {
        None | Some(Content::Boolean(false)) => Ok(None),
        Some(Content::Boolean(true)) => Ok(Some("true".to_owned())),
        Some(Content::Text(text)) => Ok((text != "false").then(|| text.clone())),
        Some(_) => Err(Bad),
    }
}

fn tx(transaction: Option<&Node<'_>>, source: &Node<'_>) -> Option<String> {
    let text = |node: &Node<'_>| match &node.content {
        Content::Text(text) => Some(text.clone()),
        Content::Number => Some(node.raw.to_owned()),
        _ => None,
    };
    let named = transaction.and_then(|transaction| transaction.get("id")).and_then(text);
    let own = || not_null(source, "txId").or_else(|| not_null(source, "gtid")).and_then(text);
    named.or_else(own)
}

/// The key and the text of its schema, which describes a header without one.
fn key<'a>(record: &RecordRef<'a>) -> Result<(Option<Row>, Option<&'a str>), Bad> {
    let Some(bytes) = record.key else { return Ok((None, None)) };
    let document = parse(bytes)?;
    let (schema, payload) = document.with_schema();
    let schema = schema.map(key_schema).transpose()?.flatten();
    if payload.content == Content::Null {
        return Ok((None, None));
    }
    Ok((Some(row(payload, schema, false)?), schema.map(|schema| schema.raw)))
}

fn key_schema<'s, 'a>(schema: &'s Node<'a>) -> Result<Option<&'s Node<'a>>, Bad> {
    if !is_struct(schema) {
        return Ok(None);
    }
    types::check(schema, FIELDS_MAX).map(|()| Some(schema))
}

fn old_key(bytes: &[u8], of_key: Option<&str>) -> Result<Row, Bad> {
    let document = parse(bytes)?;
    let (own, payload) = document.with_schema();
    let own = own.map(key_schema).transpose()?.flatten();
    let of_key = of_key.and_then(|text| tree::parse(text.as_bytes(), DEPTH_MAX));
    row(payload, own.or(of_key.as_ref()), false)
}

/// The fields of an object. What a schema does not name is left out.
fn row(json: &Node<'_>, schema: Option<&Node<'_>>, may_lack: bool) -> Result<Row, Bad> {
    if !matches!(json.content, Content::Object(_)) {
        return Err(Bad);
    }
    let Some(schema) = schema else {
        let members = json.unique_members();
        if members.len() > FIELDS_MAX {
            return Err(Bad);
        }
        let value = |(name, node): (String, &Node<'_>)| {
            let lacks = may_lack && types::is_placeholder(node, None);
            (name, if lacks { Value::Unavailable } else { types::as_shown(node) })
        };
        return Ok(members.into_iter().map(value).collect());
    };
    let mut row = Row::new();
    for field in schema.get("fields").into_iter().flat_map(Node::items) {
        let name = field.get("field").and_then(Node::text).ok_or(Bad)?;
        let optional = field.get("optional").is_some_and(|o| o.content == Content::Boolean(true));
        let value = match json.get(name) {
            None if optional => Value::Null,
            None => return Err(Bad),
            Some(node) if node.content == Content::Null => {
                if !optional {
                    return Err(Bad);
                }
                Value::Null
            }
            Some(node) if may_lack && types::is_placeholder(node, Some(field)) => {
                Value::Unavailable
            }
            Some(node) => types::read(field, node)?,
        };
        row.push((name.to_owned(), value));
    }
    Ok(row)
}

/// What a record without `op` is.
fn other(payload: &Node<'_>) -> Option<OtherKind> {
    let has = |name: &str| payload.get(name).is_some();
    let text = |name: &str| payload.get(name).is_some_and(|node| node.text().is_some());
    let names: Vec<String> = payload.unique_members().into_iter().map(|(name, _)| name).collect();
    let only = |allowed: &[&str]| names.iter().all(|name| allowed.contains(&name.as_str()));
    if has("op") {
        return None;
    }
    if payload.get("ts_ms").is_some_and(|ms| numbers::integer(ms).is_some()) && only(&["ts_ms"]) {
        return Some(OtherKind::Heartbeat);
    }
    if text("status") && text("id") && has("event_count") {
        return Some(OtherKind::Transaction);
    }
    if has("databaseName") && (has("ddl") || has("tableChanges")) {
        return Some(OtherKind::SchemaChange);
    }
    if text("aggregate_type") && text("type") {
        return Some(OtherKind::Notification);
    }
    let signal = text("type") && has("data") && only(&["id", "type", "data"]);
    signal.then_some(OtherKind::Signal)
}
