//! Rings fed with events as a connector, its successor and a snapshot write them.

use lakebed_schemas::change_event::{Field, RowShape, SourceInfo};
use lakebed_schemas::value::Value;

use super::*;
use crate::worker::fixtures::{event, tp};

fn key(key: i64) -> Row {
    let fields = vec![Field { name: "id".into(), column_type: None }];
    Row { shape: RowShape { fields }.into(), values: vec![Value::Long(key)] }
}

/// The change at a place of the log.
fn change(op: Op, of: i64, at: u64) -> ChangeEvent {
    let source = SourceInfo {
        connector: "postgresql".into(),
        position: Some(format!("{at:016x}")),
        place: Some(at.into()),
        ..SourceInfo::default()
    };
    ChangeEvent {
        key: (op != Op::Truncate).then(|| key(of)),
        after_json: (op != Op::Delete).then(|| format!("{{\"id\":{of}}}")),
        ..event(op, source)
    }
}

fn read(of: i64, kind: &str) -> ChangeEvent {
    let mut read = change(Op::Read, of, 0);
    read.source.snapshot = Some(kind.into());
    read.source.place = None;
    read
}

fn tombstone(of: i64) -> Decoded {
    Decoded::Tombstone { key: Some(key(of)) }
}

/// The next record, at an offset that says nothing.
fn next(repeats: &mut Repeats, decoded: &Decoded) -> Standing {
    repeats.next(&tp(), 1_000, decoded)
}

fn is_repeat(repeats: &mut Repeats, event: ChangeEvent) -> bool {
    next(repeats, &Decoded::Change(event.into())).repeated
}

#[test]
fn a_tombstone_shares_the_fate_of_its_delete_whatever_comes_between() {
    let mut repeats = Repeats::new(10);
    assert!(!is_repeat(&mut repeats, change(Op::Delete, 1, 5)));
    assert_eq!(next(&mut repeats, &tombstone(1)), Standing { repeated: false, echo: true });
    assert!(!is_repeat(&mut repeats, change(Op::Create, 1, 6)));
    // An old task writes the delete again, and the new one between it and its tombstone.
    assert!(is_repeat(&mut repeats, change(Op::Delete, 1, 5)));
    assert!(!is_repeat(&mut repeats, change(Op::Update, 1, 7)));
    assert_eq!(next(&mut repeats, &tombstone(1)), Standing { repeated: true, echo: true });
    // One without a delete is a delete.
    assert_eq!(next(&mut repeats, &tombstone(1)), Standing::default());
    assert_eq!(next(&mut repeats, &Decoded::Tombstone { key: None }), Standing::default());
}

#[test]
fn the_same_place_is_another_change_for_another_key_operation_or_partition() {
    let mut repeats = Repeats::new(10);
    assert!(!is_repeat(&mut repeats, change(Op::Delete, 1, 5)));
    assert!(!is_repeat(&mut repeats, change(Op::Create, 2, 5)), "the other half of a key change");
    let elsewhere = TopicPartition::new("t", 1);
    let same = Decoded::Change(change(Op::Delete, 1, 5).into());
    assert!(!repeats.next(&elsewhere, 0, &same).repeated);
    assert!(next(&mut repeats, &same).repeated);
}

#[test]
fn snapshot_reads_are_never_repeats_and_a_whole_one_begins_anew() {
    let mut repeats = Repeats::new(10);
    assert!(!is_repeat(&mut repeats, change(Op::Create, 1, 5)));
    assert!(!is_repeat(&mut repeats, read(1, "incremental")));
    assert!(!is_repeat(&mut repeats, read(1, "incremental")));
    assert!(is_repeat(&mut repeats, change(Op::Create, 1, 5)), "it runs beside the stream");
    assert!(!is_repeat(&mut repeats, read(1, "first")));
    assert!(!is_repeat(&mut repeats, change(Op::Create, 1, 5)));
}

#[test]
fn what_has_no_place_or_another_writer_makes_the_past_unknown() {
    let mut repeats = Repeats::new(10);
    assert!(!is_repeat(&mut repeats, change(Op::Create, 1, 5)));
    let mut other = change(Op::Create, 2, 1);
    other.source.writer = 9;
    assert!(!is_repeat(&mut repeats, other));
    assert!(!is_repeat(&mut repeats, change(Op::Create, 1, 5)));
    let mut unplaced = change(Op::Update, 1, 6);
    unplaced.source.place = None;
    assert!(!is_repeat(&mut repeats, unplaced));
    assert!(!is_repeat(&mut repeats, change(Op::Create, 1, 5)));
    // What only bronze takes says nothing.
    let mut keyless = change(Op::Create, 3, 1);
    keyless.key = None;
    assert!(!is_repeat(&mut repeats, keyless.clone()));
    assert!(!is_repeat(&mut repeats, keyless));
    assert!(is_repeat(&mut repeats, change(Op::Create, 1, 5)));
}

#[test]
fn a_truncate_that_comes_again_is_a_repeat() {
    let mut repeats = Repeats::new(10);
    assert!(!is_repeat(&mut repeats, change(Op::Truncate, 0, 5)));
    assert!(!is_repeat(&mut repeats, change(Op::Create, 1, 6)));
    assert!(is_repeat(&mut repeats, change(Op::Truncate, 0, 5)));
    assert!(is_repeat(&mut repeats, change(Op::Create, 1, 6)));
}

#[test]
fn nothing_is_known_that_the_process_before_did_not_know() {
    let mut repeats = Repeats::new(10);
    let events = [(4, 1), (5, 2), (6, 3)];
    let feed = |repeats: &mut Repeats| {
        for (offset, at) in events {
            let event = Decoded::Change(change(Op::Create, 1, at).into());
            assert!(!repeats.next(&tp(), offset, &event).repeated);
        }
    };
    assert_eq!(repeats.known_from(&tp()), None);
    feed(&mut repeats);
    assert_eq!(repeats.known_from(&tp()), Some(4));
    repeats.begin(&tp(), 5);
    feed(&mut repeats);
    assert_eq!(repeats.known_from(&tp()), Some(5));
    assert!(is_repeat(&mut repeats, change(Op::Create, 1, 2)));
    assert!(!is_repeat(&mut repeats, change(Op::Create, 1, 1)), "below what was known");
}

#[test]
fn all_partitions_together_stay_within_the_bound() {
    let mut repeats = Repeats::new(usize::MAX);
    assert_eq!(repeats.window(), EVENTS_MAX);
    for partition in 0..8 {
        let tp = TopicPartition::new("t", partition);
        for at in 0..50_000 {
            let event = change(Op::Create, 1, at);
            repeats.next(&tp, at as i64, &Decoded::Change(event.into()));
        }
    }
    let held: usize = repeats.partitions.values().map(|partition| partition.ring.len()).sum();
    assert!(held <= EVENTS_MAX, "{held}");
    repeats.forget(&[tp()]);
    assert_eq!(repeats.partitions.len(), 7);
}
