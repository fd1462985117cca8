//! Which snapshots are swept after, and that doubt sweeps nothing.

use lakebed_schemas::change_event::{Op, SourceInfo};

use super::*;
use crate::worker::fixtures::{event, tp};

fn marked(mark: Option<&str>, table: u64) -> ChangeEvent {
    let source = SourceInfo { snapshot: mark.map(str::to_owned), table, ..SourceInfo::default() };
    event(Op::Read, source)
}

/// `f`irst, `t`rue, `l`ast, `i`ncremental, a `c`hange, a `C`hange of another table, set `a`side, a
/// `g`ap; each at the next offset from 0.
fn take(ghosts: &mut Ghosts, history: &str, from: i64, partitions: usize) {
    for (letter, offset) in history.chars().zip(from..) {
        let mark = match letter {
            'f' => Some("first_in_data_collection"),
            't' => Some("true"),
            'l' => Some("last"),
            'i' => Some("incremental"),
            'c' | 'C' => None,
            'a' => {
                ghosts.set_aside(&tp());
                continue;
            }
            _ => {
                ghosts.passed_gap(&tp());
                continue;
            }
        };
        ghosts.take(&tp(), offset, &marked(mark, u64::from(letter == 'C')), partitions);
    }
}

/// Where each sweep of a history begins.
fn swept(history: &str) -> Vec<i64> {
    let mut ghosts = Ghosts::new(true);
    take(&mut ghosts, history, 0, 1);
    ghosts.take_sweeps().into_iter().map(|sweep| sweep.below).collect()
}

#[test]
fn a_whole_snapshot_sweeps_what_is_older_than_its_first_record() {
    assert_eq!(swept("ftlccfttlc"), [5]);
    // Interrupted and begun again: from the first record of the attempt that came to its end.
    assert_eq!(swept("fttftl"), [3]);
    assert_eq!(swept("ccfttfltflc"), [5, 8]);
    assert_eq!(swept("cfitl"), [1], "a signal's reads lie beside it");
}

#[test]
fn a_snapshot_that_does_not_tell_what_there_is_sweeps_nothing() {
    assert_eq!(swept("ftl"), [0i64; 0], "nothing is older");
    assert_eq!(swept("cctl"), [0i64; 0], "its first record was not read");
    assert_eq!(swept("ccl"), [0i64; 0], "nor this one's, or it had one row");
    assert_eq!(swept("ccftc"), [0i64; 0], "it did not come to its end");
    assert_eq!(swept("ccftcl"), [0i64; 0]);
    assert_eq!(swept("cciii"), [0i64; 0]);
    assert_eq!(swept("ccftatl"), [0i64; 0], "a record was set aside");
    assert_eq!(swept("ccftgtl"), [0i64; 0], "some are gone");
    assert_eq!(swept("ccftatlftl"), [7], "and the next one is whole");
    assert_eq!(swept("cCftl"), [0i64; 0], "the topic holds two tables");
}

#[test]
fn several_partitions_and_who_has_not_asked_sweep_nothing() {
    let mut ghosts = Ghosts::new(true);
    take(&mut ghosts, "ccftl", 0, 3);
    assert_eq!(ghosts.take_sweeps(), []);
    let mut ghosts = Ghosts::new(false);
    take(&mut ghosts, "ccftl", 0, 1);
    assert_eq!(ghosts.take_sweeps(), []);
}

#[test]
fn a_restart_at_any_place_sweeps_the_same() {
    for history in ["ftlccfttlc", "ccfttflc", "ccftatlftl", "cCftlc", "cctl"] {
        let expected = swept(history);
        for stopped in 0..=history.len() {
            let mut first = Ghosts::new(true);
            take(&mut first, &history[..stopped], 0, 1);
            let kept: BTreeMap<String, String> = first.memo(&tp()).into_iter().collect();
            let mut next = Ghosts::new(true);
            next.load(&tp(), &kept, stopped > 0);
            take(&mut next, &history[stopped..], stopped as i64, 1);
            let both = first.take_sweeps().into_iter().chain(next.take_sweeps());
            let both: Vec<i64> = both.map(|sweep| sweep.below).collect();
            assert_eq!(both, expected, "{history}, stopped at {stopped}");
        }
    }
}

#[test]
fn a_table_made_before_this_was_watched_may_hold_anything() {
    let mut ghosts = Ghosts::new(true);
    ghosts.load(&tp(), &BTreeMap::new(), true);
    take(&mut ghosts, "ftl", 10, 1);
    assert_eq!(ghosts.take_sweeps().len(), 1, "its rows are older");
}
