//! What must hold for the position of any event: shared by the fuzz target and by the replay of its
//! corpus.
//!
//! An input is a byte that chooses the connector and the kind of change, then two source blocks'
//! members as JSON, and the transaction block of both, with `0xff` between them.

use lakebed_schemas::change_event::{Decoded, SourceInfo};
use lakebed_schemas::decoder::{DecodeOptions, Decoder, RecordRef};
use serde_json::Value as Json;

/// What parts of an input stand apart by.
const BETWEEN: u8 = 0xff;

/// Each connector, and the hex digits of its positions; 0 where there are none.
const CONNECTORS: [(&str, usize); 10] = [
    ("postgresql", 32),
    ("mysql", 40),
    ("mariadb", 40),
    ("sqlserver", 48),
    ("oracle", 24),
    ("db2", 64),
    ("informix", 32),
    ("vitess", 88),
    ("spanner", 40),
    ("mongodb", 0),
];
/// Digits of epoch and lane in front, and of the rank behind.
const FRONT: usize = 10;
const BEHIND: usize = 2;

/// # Panics
/// When something does not hold that must hold for any event.
pub(crate) fn check(bytes: &[u8]) {
    let Some((choice, rest)) = bytes.split_first() else { return };
    let mut parts = rest.splitn(3, |byte| *byte == BETWEEN);
    let mut part = || std::str::from_utf8(parts.next().unwrap_or_default()).ok();
    let (Some(first), Some(second), Some(transaction)) = (part(), part(), part()) else { return };
    // Members may end their block early, and are then no JSON for the other reader, either.
    if !transaction.is_empty() && serde_json::from_str::<Json>(transaction).is_err() {
        return;
    }
    let (connector, width) = CONNECTORS[usize::from(choice & 0x0f) % CONNECTORS.len()];
    let op = if choice & 0x10 == 0 { "c" } else { "d" };
    let read = |members: &str| {
        let source = source(connector, members);
        let info = info(op, &source, transaction)?;
        has_the_form(&info, width, op);
        Some((info, serde_json::from_str::<Json>(&source).ok()))
    };
    let both = [read(first), read(second)];
    let [Some((a, a_json)), Some((b, b_json))] = both else { return };
    let (Some(a_at), Some(b_at)) = (&a.position, &b.position) else { return };
    // What identifies is finer than what orders, but for what a failover may repeat.
    let shares = |info: &SourceInfo| matches!(&*info.connector, "postgresql" | "spanner");
    if a_at != b_at && a.place.is_some() && !shares(&a) && !shares(&b) {
        assert_ne!(a.place, b.place, "{connector}: {a_at} {b_at}");
    }
    // The order of the texts is that of the numbers.
    let numbers = |json: Option<Json>| numbers(connector, &json?);
    if let (Some(x), Some(y)) = (numbers(a_json), numbers(b_json)) {
        let digits = |text: &str| text[FRONT..text.len() - BEHIND].to_owned();
        assert_eq!(x.cmp(&y), digits(a_at).cmp(&digits(b_at)), "{connector}: {x:?} {y:?}");
    }
}

fn source(connector: &str, members: &str) -> String {
    let comma = if members.is_empty() { "" } else { "," };
    format!(r#"{{"connector":"{connector}"{comma}{members}}}"#)
}

/// The source of a change, if it is one. The same event gives the same twice.
fn info(op: &str, source: &str, transaction: &str) -> Option<SourceInfo> {
    let after = if op == "d" { "null" } else { "{}" };
    let transaction = if transaction.is_empty() { "null" } else { transaction };
    let value =
        format!(r#"{{"after":{after},"source":{source},"transaction":{transaction},"op":"{op}"}}"#);
    let record = RecordRef {
        topic: "shop.public.orders",
        partition: 0,
        offset: 0,
        timestamp_ms: None,
        key: None,
        value: Some(value.as_bytes()),
        headers: &[],
    };
    let mut decoder = Decoder::new(DecodeOptions { epoch: 7, ..DecodeOptions::default() });
    let decoded = decoder.decode(&record);
    assert_eq!(decoded, decoder.decode(&record), "{value}");
    let Decoded::Change(event) = decoded else { return None };
    Some(event.source)
}

fn has_the_form(info: &SourceInfo, width: usize, op: &str) {
    // Members may name another connector once more.
    let of_width = CONNECTORS.iter().find(|(name, _)| *name == info.connector);
    let width = of_width.map_or(width, |(_, width)| *width);
    assert!(info.place.is_none() || info.position.is_some(), "{info:?}");
    assert!(info.place.is_none() || info.snapshot.is_none(), "{info:?}");
    let Some(position) = &info.position else { return };
    assert_eq!(position.len(), FRONT + width + BEHIND, "{info:?}");
    assert!(position.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f')), "{info:?}");
    let lane = if info.snapshot.is_none() { "01" } else { "00" };
    assert_eq!(&position[..FRONT], format!("00000007{lane}"), "{info:?}");
    let rank = if op == "d" { "00" } else { "01" };
    assert_eq!(&position[FRONT + width..], rank, "{info:?}");
}

/// The numbers that a position is made of, by another reader of JSON; `None` where that one cannot
/// tell them.
fn numbers(connector: &str, source: &Json) -> Option<Vec<u128>> {
    if source["connector"] != connector {
        return None;
    }
    let number = |name: &str| source[name].as_u64().map(u128::from);
    // The text of a number, if it is plain.
    let text = |name: &str| source[name].as_str()?.parse::<u64>().ok().map(u128::from);
    let either = |name: &str| number(name).or_else(|| text(name));
    let hex = |name: &str| u128::from_str_radix(&source[name].as_str()?.replace(':', ""), 16).ok();
    match connector {
        "postgresql" if source["sequence"].is_null() => Some(vec![number("lsn")?]),
        "mysql" | "mariadb" => {
            let file = source["file"].as_str()?.rsplit_once('.')?.1.parse::<u64>().ok()?;
            let row = if source["row"].is_null() { 0 } else { number("row")? };
            Some(vec![file.into(), number("pos")?, row])
        }
        "sqlserver" if source["event_serial_no"].is_null() => {
            Some(vec![hex("commit_lsn")?, hex("change_lsn")?])
        }
        "oracle" => Some(vec![either("commit_scn")?, number("txSeq")?]),
        "db2" => Some(vec![hex("commit_lsn")?, hex("change_lsn")?]),
        "informix" => Some(vec![either("commit_lsn")?, either("change_lsn")?]),
        "spanner" => Some(vec![number("ts_ns")?, either("sequence")?, number("mod_number")?]),
        _ => None,
    }
}
