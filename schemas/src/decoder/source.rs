//! The `source` block: who, when, and the position in the source's own log.
//!
//! A position is lower-case hex of a fixed width for its connector, and its text order is the
//! order of the source's commits: epoch (8 digits), lane (2: snapshot before stream), the
//! connector's numbers, and last the rank of the op (2: at one place, a delete goes before the
//! insert that a key change makes of it).

use super::envelope::{Envelope, micros};
use crate::change_event::{Op, SourceInfo};
use crate::json::{Json, Kind};

/// Members of the block that are used.
#[derive(Default)]
struct Block<'p, 'a> {
    connector: Option<Json<'p, 'a>>,
    ts_ms: Option<Json<'p, 'a>>,
    ts_us: Option<Json<'p, 'a>>,
    snapshot: Option<Json<'p, 'a>>,
    sequence: Option<Json<'p, 'a>>,
    lsn: Option<Json<'p, 'a>>,
    tx_id: Option<Json<'p, 'a>>,
    gtid: Option<Json<'p, 'a>>,
    file: Option<Json<'p, 'a>>,
    pos: Option<Json<'p, 'a>>,
    row: Option<Json<'p, 'a>>,
}

/// Reads the block.
pub(super) fn read(
    json: Json<'_, '_>,
    envelope: &Envelope<'_, '_>,
    epoch: u32,
) -> Result<SourceInfo, String> {
    let mut block = Block::default();
    for (name, value) in json.members() {
        let name = name.text().unwrap_or_default();
        let slot = match name.as_ref() {
            "connector" => &mut block.connector,
            "ts_ms" => &mut block.ts_ms,
            "ts_us" => &mut block.ts_us,
            "snapshot" => &mut block.snapshot,
            "sequence" => &mut block.sequence,
            "lsn" => &mut block.lsn,
            "txId" => &mut block.tx_id,
            "gtid" => &mut block.gtid,
            "file" => &mut block.file,
            "pos" => &mut block.pos,
            "row" => &mut block.row,
            _ => continue,
        };
        *slot = Some(value).filter(|value| !value.is_null());
    }
    let connector = block.connector.and_then(|connector| connector.text());
    let connector = connector.ok_or("`source.connector` is missing")?.into_owned();
    let snapshot = snapshot(block.snapshot)?;
    let numbers = match connector.as_str() {
        "postgresql" => postgresql(&block),
        "mysql" | "mariadb" => binlog(&block),
        _ => None,
    };
    // An incremental read carries the position of the change streamed before it, or none.
    let numbers = numbers.filter(|_| snapshot.as_deref() != Some("incremental"));
    let lane = u8::from(snapshot.is_none());
    let rank = u8::from(!matches!(envelope.op, Op::Delete | Op::Truncate));
    Ok(SourceInfo {
        ts_us: micros(block.ts_us, block.ts_ms),
        position: numbers.map(|numbers| format!("{epoch:08x}{lane:02x}{numbers}{rank:02x}")),
        tx: tx(envelope.transaction, &block),
        connector,
        snapshot,
    })
}

/// `None` for streamed events: `"false"`, false, or nothing at all.
fn snapshot(json: Option<Json<'_, '_>>) -> Result<Option<String>, String> {
    let Some(json) = json else { return Ok(None) };
    match (json.kind(), json.text()) {
        (Kind::False, _) => Ok(None),
        (Kind::True, _) => Ok(Some("true".to_owned())),
        (_, Some(text)) if text == "false" => Ok(None),
        (_, Some(text)) => Ok(Some(text.into_owned())),
        _ => Err("`source.snapshot` is neither a string nor a boolean".to_owned()),
    }
}

/// The commit seen before this change, then its own place: the second alone goes back and forth
/// between transactions that overlapped.
fn postgresql(block: &Block<'_, '_>) -> Option<String> {
    let lsn = u64::try_from(block.lsn?.integer()?).ok()?;
    let sequence = block.sequence.and_then(|sequence| sequence.text());
    let committed = sequence.as_deref().and_then(first_of_sequence).unwrap_or(0);
    Some(format!("{committed:016x}{lsn:016x}"))
}

/// The first element of `["24023119","24023300"]`, where it is not null.
fn first_of_sequence(sequence: &str) -> Option<u64> {
    let (first, _) = sequence.trim().strip_prefix('[')?.split_once(',')?;
    first.trim().strip_prefix('"')?.strip_suffix('"')?.parse().ok()
}

/// The number of the binlog file, not its name: `999999` is followed by `1000000`.
fn binlog(block: &Block<'_, '_>) -> Option<String> {
    let file = block.file?.text()?;
    let (_, suffix) = file.rsplit_once('.')?;
    let file: u64 = suffix.parse().ok()?;
    let pos = u64::try_from(block.pos?.integer()?).ok()?;
    let row = u32::try_from(block.row.map_or(Some(0), |row| row.integer())?).ok()?;
    Some(format!("{file:016x}{pos:016x}{row:08x}"))
}

fn tx(transaction: Option<Json<'_, '_>>, block: &Block<'_, '_>) -> Option<String> {
    let text = |json: Json<'_, '_>| {
        let text = json.text().map(|text| text.into_owned());
        text.or_else(|| json.number().map(str::to_owned))
    };
    let id = transaction.and_then(|transaction| transaction.get("id")).and_then(text);
    id.or_else(|| block.tx_id.or(block.gtid).and_then(text))
}
