//! The `source` block: who, when, and the position in the source's own log.
//!
//! A position is lower-case hex of a fixed width for its connector, and its text order is the
//! order of the source's commits: epoch (8 digits), lane (2: snapshot before stream), the
//! connector's numbers, and last the rank of the op (2: at one place, a delete goes before the
//! insert that a key change makes of it).

use xxhash_rust::xxh3::{xxh3_64, xxh3_128};

use super::envelope::{Envelope, micros};
use super::source_position::{BinlogPlace, Parts, postgresql};
use crate::change_event::{Op, SourceInfo};
use crate::json::{Json, Kind};

/// Members of the block that are used.
#[derive(Default)]
struct Block<'p, 'a> {
    connector: Option<Json<'p, 'a>>,
    name: Option<Json<'p, 'a>>,
    db: Option<Json<'p, 'a>>,
    schema: Option<Json<'p, 'a>>,
    table: Option<Json<'p, 'a>>,
    server_id: Option<Json<'p, 'a>>,
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
    scratch: &mut Vec<u8>,
) -> Result<SourceInfo, String> {
    let mut block = Block::default();
    for (name, value) in json.members() {
        let name = name.text().unwrap_or_default();
        let slot = match name.as_ref() {
            "connector" => &mut block.connector,
            "name" => &mut block.name,
            "db" => &mut block.db,
            "schema" => &mut block.schema,
            "table" => &mut block.table,
            "server_id" => &mut block.server_id,
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
    let position = match connector.as_str() {
        "postgresql" => postgresql(block.sequence, block.lsn, block.tx_id),
        "mysql" | "mariadb" => {
            let Block { file, pos, row, gtid, server_id, .. } = block;
            BinlogPlace { file, pos, row, gtid, server_id }.position()
        }
        other => Parts { source: json, transaction: envelope.transaction }.position(other),
    };
    // An incremental read carries the position of the change streamed before it, or none.
    let position = position.filter(|_| snapshot.as_deref() != Some("incremental"));
    let lane = u8::from(snapshot.is_none());
    let rank = u8::from(!matches!(envelope.op, Op::Delete | Op::Truncate));
    let (writer, connection) = block.writer(&connector, json, scratch);
    let server = block.server(&connector).filter(|_| snapshot.is_none());
    let identity = position.as_ref().and_then(|position| position.identity.as_ref());
    Ok(SourceInfo {
        ts_us: micros(block.ts_us, block.ts_ms),
        // All rows that a snapshot reads stand at one place.
        place: identity
            .filter(|_| snapshot.is_none())
            .map(|(digits, text)| block.place(writer, [digits.text(), text], scratch)),
        position: position.as_ref().map(|at| at.text(epoch, lane, rank)),
        writer,
        connection,
        server,
        table: block.table(scratch),
        tx: tx(envelope.transaction, &block),
        connector,
        snapshot,
    })
}

impl Block<'_, '_> {
    /// Whose positions can be compared: a connector's, and where it reads several logs, one of them.
    /// And the connector alone.
    fn writer(&self, connector: &str, json: Json<'_, '_>, scratch: &mut Vec<u8>) -> (u64, u64) {
        let log = match connector {
            "sqlserver" => self.db,
            "vitess" => json.get("shard"),
            _ => None,
        };
        scratch.clear();
        scratch.extend_from_slice(connector.as_bytes());
        append(scratch, self.name);
        let connection = xxh3_64(scratch);
        append(scratch, log);
        (xxh3_64(scratch), connection)
    }

    /// The server that wrote a binary log: of a GTID all but the number of the transaction.
    fn server(&self, connector: &str) -> Option<u64> {
        if !matches!(connector, "mysql" | "mariadb") {
            return None;
        }
        match self.gtid.and_then(|gtid| gtid.text()) {
            Some(gtid) => {
                let end = if connector == "mysql" { gtid.find(':') } else { gtid.rfind('-') };
                Some(xxh3_64(gtid.get(..end?)?.as_bytes()))
            }
            None => Some(xxh3_64(self.server_id?.number()?.as_bytes())),
        }
    }

    fn table(&self, scratch: &mut Vec<u8>) -> u64 {
        scratch.clear();
        for part in [self.db, self.schema, self.table] {
            append(scratch, part);
        }
        xxh3_64(scratch)
    }

    fn place(&self, writer: u64, identity: [&str; 2], scratch: &mut Vec<u8>) -> u128 {
        scratch.clear();
        scratch.extend_from_slice(&writer.to_le_bytes());
        for part in [self.db, self.schema, self.table] {
            append(scratch, part);
        }
        for part in identity {
            scratch.extend_from_slice(part.as_bytes());
        }
        xxh3_128(scratch)
    }
}

/// Text with its end, so that no two lists of texts hash alike.
fn append(list: &mut Vec<u8>, text: Option<Json<'_, '_>>) {
    list.extend_from_slice(text.map_or("", |text| text.raw()).as_bytes());
    list.push(0);
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

fn tx(transaction: Option<Json<'_, '_>>, block: &Block<'_, '_>) -> Option<String> {
    let text = |json: Json<'_, '_>| {
        let text = json.text().map(|text| text.into_owned());
        text.or_else(|| json.number().map(str::to_owned))
    };
    let id = transaction.and_then(|transaction| transaction.get("id")).and_then(text);
    id.or_else(|| block.tx_id.or(block.gtid).and_then(text))
}
