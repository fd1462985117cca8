//! Whether the source made one change before another, as far as their positions tell.
//!
//! A position is hex of a fixed width for its connector: epoch (8 digits), lane (2), the connector's
//! numbers, and the rank of the op (2). Within the stream its text order is the source's order. A row
//! that a snapshot read stands where the snapshot began, which is compared with the numbers of a
//! streamed change, because its lane only says that it is no part of the stream. Positions of two
//! epochs are not compared: each partition sees by itself that one has begun.

/// Digits of epoch and lane in front, and of the op's rank behind.
const EPOCH: usize = 8;
const LANE: usize = 2;
const RANK: usize = 2;

/// Whole lengths by connector: the commit seen before and the change's own place (PostgreSQL);
/// file, position and row (MySQL, MariaDB).
const POSTGRESQL: usize = EPOCH + LANE + 32 + RANK;
const BINLOG: usize = EPOCH + LANE + 40 + RANK;

/// Whether positions of this form can be compared with a truncate's: those of the connectors that
/// stream truncates and say where a snapshot began.
pub fn is_comparable(position: &str) -> bool {
    let is_of_stream = position.get(EPOCH..EPOCH + LANE).is_some_and(|lane| lane != "00");
    is_of_stream && matches!(position.len(), POSTGRESQL | BINLOG)
}

/// Whether a row or change at `position` was there before the streamed change at `change`; `None`
/// where the two cannot be compared.
pub fn is_before(position: &str, change: &str) -> Option<bool> {
    let comparable = position.len() == change.len() && is_comparable(change);
    let (epoch, lane) = (position.get(..EPOCH)?, position.get(EPOCH..EPOCH + LANE)?);
    if !comparable || !position.is_ascii() || !change.is_ascii() || epoch != &change[..EPOCH] {
        return None;
    }
    if lane != "00" {
        return Some(position < change);
    }
    // PostgreSQL's snapshot has seen no commit before it: only its own place counts.
    let from = if position.len() == POSTGRESQL { EPOCH + LANE + 16 } else { EPOCH + LANE };
    let to = position.len() - RANK;
    Some(position[from..to] < change[from..to])
}

#[cfg(test)]
mod tests {
    use super::*;

    fn postgresql(epoch: u32, lane: u8, committed: u64, lsn: u64) -> String {
        format!("{epoch:08x}{lane:02x}{committed:016x}{lsn:016x}01")
    }

    fn binlog(lane: u8, file: u64, pos: u64) -> String {
        format!("00000000{lane:02x}{file:016x}{pos:016x}0000000001")
    }

    #[test]
    fn streamed_changes_compare_as_the_source_committed_them() {
        let truncate = postgresql(0, 1, 500, 450);
        assert_eq!(is_before(&postgresql(0, 1, 400, 460), &truncate), Some(true));
        assert_eq!(is_before(&postgresql(0, 1, 500, 451), &truncate), Some(false));
        assert_eq!(is_before(&truncate, &truncate), Some(false));
        assert_eq!(is_before(&binlog(1, 9, 7), &binlog(1, 10, 4)), Some(true));
    }

    #[test]
    fn a_snapshot_stands_where_it_began() {
        let truncate = postgresql(0, 1, 500, 450);
        assert_eq!(is_before(&postgresql(0, 0, 0, 300), &truncate), Some(true));
        // Taken anew after the truncate: it saw no commit either.
        assert_eq!(is_before(&postgresql(0, 0, 0, 700), &truncate), Some(false));
        assert_eq!(is_before(&binlog(0, 3, 0), &binlog(1, 3, 4)), Some(true));
        assert_eq!(is_before(&binlog(0, 4, 0), &binlog(1, 3, 4)), Some(false));
    }

    #[test]
    fn another_epoch_and_another_form_say_nothing() {
        let truncate = postgresql(1, 1, 5, 5);
        assert_eq!(is_before(&postgresql(0, 1, 900, 900), &truncate), None);
        assert_eq!(is_before(&postgresql(2, 0, 0, 1), &truncate), None);
        for other in ["", "ü", &binlog(1, 1, 1), "000000000112"] {
            assert_eq!(is_before(other, &truncate), None, "{other}");
        }
        assert!(is_comparable(&truncate) && !is_comparable(&postgresql(0, 0, 0, 1)));
        assert!(!is_comparable(&truncate[..36]));
    }
}
