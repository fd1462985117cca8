//! Positions in the source's log, connector by connector.
//!
//! Each position is a tuple of numbers in hex of a fixed width, so that its text order is the order
//! in which the source committed. What cannot be read gives no position, and then no repeat is
//! recognised: arrival decides.

use crate::json::{Json, Kind};

/// Where a change stands in the log of its source.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Position {
    /// Sorts as the source committed; of one width for each connector.
    pub(super) order: String,
    /// With the row's key, what no other change has; `None` where two changes may share it.
    pub(super) identity: Option<String>,
}

impl Position {
    /// A tuple that orders and identifies.
    fn exact(order: String) -> Self {
        Self { identity: Some(order.clone()), order }
    }
}

/// The parts of an event that tell where it stands.
#[derive(Clone, Copy)]
pub(super) struct Parts<'p, 'a> {
    pub(super) source: Json<'p, 'a>,
    pub(super) transaction: Option<Json<'p, 'a>>,
}

impl<'p, 'a> Parts<'p, 'a> {
    fn get(&self, name: &str) -> Option<Json<'p, 'a>> {
        self.source.get(name).filter(|value| !value.is_null())
    }

    fn number(&self, name: &str) -> Option<u64> {
        number(self.get(name)?)
    }

    fn in_transaction(&self, name: &str) -> Option<Json<'p, 'a>> {
        self.transaction?.get(name).filter(|value| !value.is_null())
    }

    /// The position, if the connector's events have one.
    pub(super) fn position(&self, connector: &str) -> Option<Position> {
        match connector {
            "sqlserver" => self.sqlserver(),
            "oracle" => self.oracle(),
            "db2" => self.db2(),
            "informix" => self.informix(),
            "vitess" => self.vitess(),
            "spanner" => self.spanner(),
            // MongoDB's cluster time is not in its events; of the others no order is known.
            _ => None,
        }
    }

    /// Two log sequence numbers of ten bytes each; the commit's alone is that of all its rows.
    fn sqlserver(&self) -> Option<Position> {
        let commit = lsn(self.get("commit_lsn"), 10)?;
        let change = lsn(self.get("change_lsn"), 10).unwrap_or_else(|| "0".repeat(20));
        let serial = match self.get("event_serial_no") {
            Some(serial) => u32::try_from(number(serial)?).ok()?,
            None => 0,
        };
        Some(Position::exact(format!("{commit}{change}{serial:08x}")))
    }

    /// Of a commit, and the change's number in it; connectors before 3.2 do not tell the latter, and
    /// then several changes of a row may share a place.
    fn oracle(&self) -> Option<Position> {
        let commit = self.number("commit_scn")?;
        let sequence = self.number("txSeq").map(u32::try_from);
        let sequence = sequence.transpose().ok()?;
        let order = format!("{commit:016x}{:08x}", sequence.unwrap_or(0));
        let tx = self.get("txId").and_then(|tx| tx.text()).unwrap_or_default();
        let identity = sequence.map(|sequence| format!("{commit:016x}{sequence:08x}{tx}"));
        Some(Position { order, identity })
    }

    fn db2(&self) -> Option<Position> {
        let commit = lsn(self.get("commit_lsn"), 16)?;
        let change = lsn(self.get("change_lsn"), 16).unwrap_or_else(|| "0".repeat(32));
        Some(Position::exact(format!("{commit}{change}")))
    }

    /// Decimal numbers in text: as text, 999 would follow 1000.
    fn informix(&self) -> Option<Position> {
        let (commit, change) = (self.number("commit_lsn")?, self.number("change_lsn")?);
        Some(Position::exact(format!("{commit:016x}{change:016x}")))
    }

    /// Only with ordered transaction metadata; `vgtid` can be contained in another, and no more.
    fn vitess(&self) -> Option<Position> {
        let epoch = number(self.in_transaction("transaction_epoch")?)?;
        let rank = self.in_transaction("transaction_rank")?;
        let rank = rank.text().map(|text| text.into_owned());
        let rank = rank.or_else(|| {
            let rank = self.in_transaction("transaction_rank")?;
            rank.number().map(str::to_owned)
        })?;
        let rank = wide(&rank)?;
        let order = u32::try_from(number(self.in_transaction("total_order")?)?).ok()?;
        Some(Position::exact(format!("{epoch:016x}{rank}{order:08x}")))
    }

    /// By the commit's time, the only one that orders a key's changes.
    fn spanner(&self) -> Option<Position> {
        let (ts, sequence) = (self.number("ts_ns")?, self.number("sequence")?);
        let modification = u32::try_from(self.number("mod_number")?).ok()?;
        let order = format!("{ts:016x}{sequence:016x}{modification:08x}");
        let tx = self.get("server_transaction_id").and_then(|tx| tx.text());
        let identity = tx.map(|tx| format!("{sequence:016x}{modification:08x}{tx}"));
        Some(Position { order, identity })
    }
}

/// PostgreSQL: the commit seen before this change, then its own place, which alone goes back and
/// forth between transactions that overlapped. Whether the first part is the same after a restart
/// is not promised, so it does not identify.
pub(super) fn postgresql(
    sequence: Option<Json<'_, '_>>,
    lsn: Option<Json<'_, '_>>,
    tx: Option<Json<'_, '_>>,
) -> Option<Position> {
    let lsn = number(lsn?)?;
    let sequence = sequence.and_then(|sequence| sequence.text());
    let committed = sequence.as_deref().and_then(first_of_sequence).unwrap_or(0);
    let tx = tx.and_then(number);
    Some(Position {
        order: format!("{committed:016x}{lsn:016x}"),
        identity: tx.map(|tx| format!("{lsn:016x}{tx:016x}")),
    })
}

/// The first element of `["24023119","24023300"]`, where it is not null.
fn first_of_sequence(sequence: &str) -> Option<u64> {
    let (first, _) = sequence.trim().strip_prefix('[')?.split_once(',')?;
    first.trim().strip_prefix('"')?.strip_suffix('"')?.parse().ok()
}

/// A place in a binary log, as MySQL and MariaDB tell it.
pub(super) struct BinlogPlace<'p, 'a> {
    pub(super) file: Option<Json<'p, 'a>>,
    pub(super) pos: Option<Json<'p, 'a>>,
    pub(super) row: Option<Json<'p, 'a>>,
    pub(super) gtid: Option<Json<'p, 'a>>,
    pub(super) server_id: Option<Json<'p, 'a>>,
}

impl BinlogPlace<'_, '_> {
    /// By the number of the file, not by its name: `999999` is followed by `1000000`. A GTID says
    /// which transaction it is, but not when.
    pub(super) fn position(&self) -> Option<Position> {
        let file = self.file?.text()?;
        let (_, suffix) = file.rsplit_once('.')?;
        let file: u64 = suffix.parse().ok()?;
        let pos = number(self.pos?)?;
        let row = u32::try_from(self.row.map_or(Some(0), number)?).ok()?;
        let order = format!("{file:016x}{pos:016x}{row:08x}");
        let gtid = self.gtid.and_then(|gtid| gtid.text()).unwrap_or_default();
        let server = self.server_id.and_then(number).unwrap_or(0);
        Some(Position { identity: Some(format!("{order}{server:016x}{gtid}")), order })
    }
}

/// A number that is not negative, as such or in decimal text.
fn number(json: Json<'_, '_>) -> Option<u64> {
    match json.kind() {
        Kind::Plain | Kind::Escaped => {
            let text = json.text()?;
            // `parse` would take a sign.
            let is_plain = text.bytes().all(|byte| byte.is_ascii_digit());
            is_plain.then(|| text.parse().ok()).flatten()
        }
        _ => u64::try_from(json.integer()?).ok(),
    }
}

/// Hex digits in groups (`00000027:00000758:0005`), as many bytes as asked for: fewer are filled up
/// in front, more are no position.
fn lsn(json: Option<Json<'_, '_>>, bytes: usize) -> Option<String> {
    let text = json?.text()?;
    let mut digits = String::with_capacity(2 * bytes);
    for character in text.chars().filter(|character| *character != ':') {
        digits.push(character.is_ascii_hexdigit().then(|| character.to_ascii_lowercase())?);
    }
    let missing = (2 * bytes).checked_sub(digits.len()).filter(|_| !digits.is_empty())?;
    Some(format!("{}{digits}", "0".repeat(missing)))
}

/// A decimal number of up to 256 bits as 64 hex digits.
fn wide(text: &str) -> Option<String> {
    if text.is_empty() {
        return None;
    }
    let mut limbs = [0u32; 8];
    for digit in text.chars() {
        let mut carry = u64::from(digit.to_digit(10)?);
        for limb in limbs.iter_mut().rev() {
            let value = u64::from(*limb) * 10 + carry;
            *limb = value as u32;
            carry = value >> 32;
        }
        if carry != 0 {
            return None;
        }
    }
    Some(limbs.iter().map(|limb| format!("{limb:08x}")).collect())
}
