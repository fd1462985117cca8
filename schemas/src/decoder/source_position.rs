//! Positions in the source's log, connector by connector.
//!
//! Each position is a tuple of numbers in hex of a fixed width, so that its text order is the order
//! in which the source committed. What cannot be read gives no position, and then no repeat is
//! recognised: arrival decides.

use std::borrow::Cow;

use crate::json::{Json, Kind};

/// Digits of the longest position, Vitess's.
const DIGITS_MAX: usize = 88;

/// Numbers in hex, each of a fixed width, one after another. Not on the heap: there is one for
/// every record.
#[derive(Debug, Clone, Copy)]
pub(super) struct Digits {
    bytes: [u8; DIGITS_MAX],
    length: usize,
}

impl Digits {
    fn new() -> Self {
        Self { bytes: [b'0'; DIGITS_MAX], length: 0 }
    }

    /// With one more number, of which so many digits, 16 at most, say all.
    #[inline]
    fn then(mut self, number: u64, width: usize) -> Self {
        const HEX: &[u8; 16] = b"0123456789abcdef";
        let digits: [u8; 16] =
            std::array::from_fn(|index| HEX[(number >> (60 - 4 * index)) as usize & 15]);
        self.bytes[self.length..self.length + width].copy_from_slice(&digits[16 - width..]);
        self.length += width;
        self
    }

    /// 64 bits.
    fn long(self, number: u64) -> Self {
        self.then(number, 16)
    }

    /// 32 bits.
    fn int(self, number: u32) -> Self {
        self.then(number.into(), 8)
    }

    /// What they are as text.
    pub(super) fn text(&self) -> &str {
        std::str::from_utf8(&self.bytes[..self.length]).expect("hex digits")
    }
}

/// Where a change stands in the log of its source.
#[derive(Debug)]
pub(super) struct Position<'a> {
    /// Sorts as the source committed; of one width for each connector.
    pub(super) order: Digits,
    /// With the row's key, what no other change has; `None` where two changes may share it.
    pub(super) identity: Option<(Digits, Cow<'a, str>)>,
}

impl Position<'_> {
    /// As tables have it: epoch and lane in front, the rank of the op behind.
    pub(super) fn text(&self, epoch: u32, lane: u8, rank: u8) -> String {
        let two = |number: u8| Digits::new().then(number.into(), 2);
        let parts = [Digits::new().int(epoch), two(lane), self.order, two(rank)];
        parts.iter().map(Digits::text).collect()
    }

    /// A tuple that orders and identifies.
    fn exact(order: Digits) -> Self {
        Self { order, identity: Some((order, Cow::Borrowed(""))) }
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
    pub(super) fn position(&self, connector: &str) -> Option<Position<'a>> {
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
    fn sqlserver(&self) -> Option<Position<'a>> {
        let order = lsn(Digits::new(), self.get("commit_lsn"), 10)?;
        let order = lsn(order, self.get("change_lsn"), 10).unwrap_or_else(|| zeros(order, 20));
        let serial = match self.get("event_serial_no") {
            Some(serial) => u32::try_from(number(serial)?).ok()?,
            None => 0,
        };
        Some(Position::exact(order.int(serial)))
    }

    /// Of a commit, and the change's number in it; connectors before 3.2 do not tell the latter, and
    /// then several changes of a row may share a place.
    fn oracle(&self) -> Option<Position<'a>> {
        let commit = self.number("commit_scn")?;
        let sequence = self.number("txSeq").map(u32::try_from);
        let sequence = sequence.transpose().ok()?;
        let order = Digits::new().long(commit).int(sequence.unwrap_or(0));
        let tx = self.get("txId").and_then(|tx| tx.text()).unwrap_or_default();
        let identity = sequence.map(|_| (order, tx));
        Some(Position { order, identity })
    }

    fn db2(&self) -> Option<Position<'a>> {
        let commit = lsn(Digits::new(), self.get("commit_lsn"), 16)?;
        let change = lsn(commit, self.get("change_lsn"), 16);
        Some(Position::exact(change.unwrap_or_else(|| zeros(commit, 32))))
    }

    /// Decimal numbers in text: as text, 999 would follow 1000.
    fn informix(&self) -> Option<Position<'a>> {
        let (commit, change) = (self.number("commit_lsn")?, self.number("change_lsn")?);
        Some(Position::exact(Digits::new().long(commit).long(change)))
    }

    /// Only with ordered transaction metadata; `vgtid` can be contained in another, and no more.
    fn vitess(&self) -> Option<Position<'a>> {
        let epoch = number(self.in_transaction("transaction_epoch")?)?;
        let rank = self.in_transaction("transaction_rank")?;
        let rank = rank.text().map(|text| text.into_owned());
        let rank = rank.or_else(|| {
            let rank = self.in_transaction("transaction_rank")?;
            rank.number().map(str::to_owned)
        })?;
        let rank = wide(Digits::new().long(epoch), &rank)?;
        let order = u32::try_from(number(self.in_transaction("total_order")?)?).ok()?;
        Some(Position::exact(rank.int(order)))
    }

    /// By the commit's time, the only one that orders a key's changes.
    fn spanner(&self) -> Option<Position<'a>> {
        let (ts, sequence) = (self.number("ts_ns")?, self.number("sequence")?);
        let modification = u32::try_from(self.number("mod_number")?).ok()?;
        let order = Digits::new().long(ts).long(sequence).int(modification);
        let tx = self.get("server_transaction_id").and_then(|tx| tx.text());
        let identity = tx.map(|tx| (Digits::new().long(sequence).int(modification), tx));
        Some(Position { order, identity })
    }
}

/// PostgreSQL: the commit seen before this change, then its own place, which alone goes back and
/// forth between transactions that overlapped. Whether the first part is the same after a restart
/// is not promised, so it does not identify.
pub(super) fn postgresql<'a>(
    sequence: Option<Json<'_, 'a>>,
    lsn: Option<Json<'_, 'a>>,
    tx: Option<Json<'_, 'a>>,
) -> Option<Position<'a>> {
    let lsn = number(lsn?)?;
    let committed = sequence.and_then(first_of_sequence).unwrap_or(0);
    let tx = tx.and_then(number);
    Some(Position {
        order: Digits::new().long(committed).long(lsn),
        identity: tx.map(|tx| (Digits::new().long(lsn).long(tx), Cow::Borrowed(""))),
    })
}

/// The first element of `["24023119","24023300"]`, where it is not null.
fn first_of_sequence(sequence: Json<'_, '_>) -> Option<u64> {
    // As the connector writes it, there is nothing to unescape.
    let written = sequence.raw().strip_prefix(r#""[\""#).and_then(|rest| rest.split_once('\\'));
    if let Some((digits, rest)) = written
        && rest.starts_with("\",")
        && let Ok(number) = digits.parse()
    {
        return Some(number);
    }
    let sequence = sequence.text()?;
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

impl<'a> BinlogPlace<'_, 'a> {
    /// By the number of the file, not by its name: `999999` is followed by `1000000`. A GTID says
    /// which transaction it is, but not when.
    pub(super) fn position(&self) -> Option<Position<'a>> {
        let file = self.file?.text()?;
        let (_, suffix) = file.rsplit_once('.')?;
        let file: u64 = suffix.parse().ok()?;
        let pos = number(self.pos?)?;
        let row = u32::try_from(self.row.map_or(Some(0), number)?).ok()?;
        let order = Digits::new().long(file).long(pos).int(row);
        let gtid = self.gtid.and_then(|gtid| gtid.text()).unwrap_or_default();
        let server = self.server_id.and_then(number).unwrap_or(0);
        Some(Position { order, identity: Some((order.long(server), gtid)) })
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

/// Appends hex digits in groups (`00000027:00000758:0005`), as many bytes as asked for: fewer are
/// filled up in front, more are no position.
fn lsn(to: Digits, json: Option<Json<'_, '_>>, bytes: usize) -> Option<Digits> {
    let text = json?.text()?;
    let digits = || text.chars().filter(|character| *character != ':');
    let count = digits().count();
    let missing = (2 * bytes).checked_sub(count).filter(|_| count > 0)?;
    let filled = zeros(to, missing);
    digits().try_fold(filled, |to, digit| Some(to.then(digit.to_digit(16)?.into(), 1)))
}

/// Appends so many zeros.
fn zeros(to: Digits, count: usize) -> Digits {
    (0..count).fold(to, |to, _| to.then(0, 1))
}

/// Appends a decimal number of up to 256 bits.
fn wide(to: Digits, text: &str) -> Option<Digits> {
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
    Some(limbs.into_iter().fold(to, Digits::int))
}
