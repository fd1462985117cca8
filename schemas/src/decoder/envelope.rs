//! Debezium's envelope, and the records beside it.

use crate::change_event::{Op, OtherKind};
use crate::json::{Json, Kind};

/// The parts of an envelope. Members that are null are absent.
pub(super) struct Envelope<'p, 'a> {
    pub(super) op: Op,
    pub(super) before: Option<Json<'p, 'a>>,
    pub(super) after: Option<Json<'p, 'a>>,
    pub(super) source: Json<'p, 'a>,
    pub(super) transaction: Option<Json<'p, 'a>>,
    /// The connector's clock, microseconds.
    pub(super) ts_us: Option<i64>,
}

impl<'p, 'a> Envelope<'p, 'a> {
    /// Reads the members and checks that they fit the op. Unknown members are ignored: Debezium
    /// adds some now and then.
    pub(super) fn read(json: Json<'p, 'a>) -> Result<Self, String> {
        let (mut op, mut before, mut after, mut source) = (None, None, None, None);
        let (mut transaction, mut ts_ms, mut ts_us) = (None, None, None);
        for (name, value) in json.members() {
            let name = name.text().unwrap_or_default();
            let slot = match name.as_ref() {
                "op" => &mut op,
                "before" => &mut before,
                "after" => &mut after,
                "source" => &mut source,
                "transaction" => &mut transaction,
                "ts_ms" => &mut ts_ms,
                "ts_us" => &mut ts_us,
                _ => continue,
            };
            *slot = Some(value).filter(|value| !value.is_null());
        }
        let op = op.ok_or(
            "value has no `op`: no Debezium envelope; if the connector unwraps it (ExtractNewRecordState), set `records.flattened: true`",
        )?;
        let op = letter(op).ok_or("`op` is none of r, c, u, d, t, m")?;
        let source = source.filter(|source| source.kind() == Kind::Object);
        let source = source.ok_or("`source` is missing or not an object")?;
        let transaction = transaction.filter(|transaction| transaction.kind() == Kind::Object);
        let ts_us = micros(ts_us, ts_ms);
        match op {
            Op::Update if after.is_none() && json.get("updateDescription").is_some() => {
                Err("`after` is missing in an update of a MongoDB document: set \
                 `capture.mode=change_streams_update_full`; the document may also be gone by now"
                    .to_owned())
            }
            Op::Update if is_partial(source) => {
                Err("an update with the changed columns only: create the change stream with \
                 `value_capture_type='NEW_ROW'`"
                    .to_owned())
            }
            Op::Create | Op::Update | Op::Read if after.is_none() => {
                Err(format!("`after` is missing in an event with op {}", op.letter()))
            }
            Op::Delete | Op::Truncate | Op::Message if after.is_some() => {
                Err(format!("`after` is not null in an event with op {}", op.letter()))
            }
            _ => Ok(Self { op, before, after, source, transaction, ts_us }),
        }
    }
}

/// Whether a change stream of Spanner leaves out the columns that stayed as they were, which nobody
/// can tell from columns that are NULL.
fn is_partial(source: Json<'_, '_>) -> bool {
    let Some(captured) = source.get("value_capture_type") else { return false };
    ["OLD_AND_NEW_VALUES", "NEW_VALUES"].iter().any(|partial| captured.is_text(partial))
}

/// Microseconds by whichever member there is.
pub(super) fn micros(us: Option<Json<'_, '_>>, ms: Option<Json<'_, '_>>) -> Option<i64> {
    let ms = || ms.and_then(|ms| ms.integer()?.checked_mul(1_000));
    us.and_then(|us| us.integer()).or_else(ms)
}

fn letter(json: Json<'_, '_>) -> Option<Op> {
    let text = json.text()?;
    let ops = [Op::Read, Op::Create, Op::Update, Op::Delete, Op::Truncate, Op::Message];
    ops.into_iter().find(|op| op.letter() == text)
}

/// What a record is that is no envelope, by the members it has.
pub(super) fn other(json: Json<'_, '_>) -> Option<OtherKind> {
    let has = |name: &str| json.get(name).is_some();
    if has("op") {
        return None;
    }
    let only =
        |names: &[&str]| json.members().all(|(n, _)| names.iter().any(|name| n.is_text(name)));
    let integer = |name: &str| json.get(name).is_some_and(|value| value.integer().is_some());
    let text = |name: &str| json.get(name).is_some_and(|value| value.text().is_some());
    if integer("ts_ms") && only(&["ts_ms"]) {
        Some(OtherKind::Heartbeat)
    } else if text("status") && text("id") && has("event_count") {
        Some(OtherKind::Transaction)
    } else if has("databaseName") && (has("ddl") || has("tableChanges")) {
        Some(OtherKind::SchemaChange)
    } else if text("aggregate_type") && text("type") {
        Some(OtherKind::Notification)
    } else if text("type") && has("data") && only(&["id", "type", "data"]) {
        Some(OtherKind::Signal)
    } else {
        None
    }
}
