//! Random histories of a source, written by tasks that crash, are put back and go on after they
//! were given up, and read through the ring: the table must end as the source did.

use std::collections::{BTreeMap, VecDeque};

use proptest::prelude::*;
use proptest::strategy::ValueTree;
use proptest::test_runner::TestRunner;

use super::{Identity, ReplayRing, Verdict};

const EVENTS: u32 = 60;

/// The source's history: event `n` sets key `keys[n]` to `n`, or deletes it.
#[derive(Debug, Clone)]
struct History {
    keys: Vec<u8>,
    deletes: Vec<bool>,
}

type Table = BTreeMap<u8, u32>;

impl History {
    fn apply(&self, table: &mut Table, event: u32) {
        let key = self.keys[event as usize];
        match self.deletes[event as usize] {
            true => table.remove(&key),
            false => table.insert(key, event),
        };
    }

    fn end(&self) -> Table {
        let mut table = Table::new();
        (0..EVENTS).for_each(|event| self.apply(&mut table, event));
        table
    }
}

/// What one task does until its successor starts.
#[derive(Debug, Clone)]
struct Run {
    /// Events it writes.
    events: u32,
    /// Of what it has written, how many the successor writes again.
    unacknowledged: u32,
    /// Events it writes although its successor runs already.
    late: u32,
    /// How many events of the successor come before each late one.
    every: u32,
}

/// The log that the runs leave; the last one writes the history to its end.
fn log(runs: &[Run]) -> Vec<u32> {
    let mut log = Vec::new();
    let mut at = 0;
    let mut late: Vec<(u32, u32, u32)> = Vec::new();
    let last = Run { events: EVENTS, unacknowledged: 0, late: 0, every: 1 };
    for run in runs.iter().chain([&last]) {
        let end = (at + run.events).min(EVENTS);
        for (written, event) in (at..end).enumerate() {
            log.push(event);
            for (next, until, every) in &mut late {
                if next < until && (written as u32 + 1).is_multiple_of(*every) {
                    log.push(*next);
                    *next += 1;
                }
            }
        }
        let goes_on = (end, (end + run.late).min(EVENTS), run.every);
        late.push(goes_on);
        at = end.saturating_sub(run.unacknowledged);
    }
    late.into_iter().for_each(|(next, until, _)| log.extend(next..until));
    log
}

fn history() -> impl Strategy<Value = History> {
    let events = EVENTS as usize;
    (
        proptest::collection::vec(0..6u8, events),
        proptest::collection::vec(proptest::bool::weighted(0.2), events),
    )
        .prop_map(|(keys, deletes)| History { keys, deletes })
}

fn runs(unacknowledged: u32, late: u32) -> impl Strategy<Value = Vec<Run>> {
    let run = (1..40u32, 0..=unacknowledged, 0..=late, 1..6u32).prop_map(
        |(events, unacknowledged, late, every)| Run { events, unacknowledged, late, every },
    );
    proptest::collection::vec(run, 1..6)
}

/// What a reader remembers of events: the ring, or one that does without its questions.
trait Memory {
    fn is_new(&mut self, place: usize, event: u32) -> bool;

    /// From where on a successor is to be fed, at a place of the log.
    fn known_from(&self, place: usize) -> usize;
}

impl Memory for ReplayRing {
    fn is_new(&mut self, place: usize, event: u32) -> bool {
        let identity = Identity { place: event.into(), content: 0 };
        self.next(place as i64, identity, &format!("{event:08x}")) == Verdict::New
    }

    fn known_from(&self, place: usize) -> usize {
        ReplayRing::known_from(self).map_or(place, |offset| offset as usize)
    }
}

/// A ring whose successors are fed with all that they can read.
struct Forgetful(ReplayRing);

impl Memory for Forgetful {
    fn is_new(&mut self, place: usize, event: u32) -> bool {
        self.0.is_new(place, event)
    }

    fn known_from(&self, _place: usize) -> usize {
        0
    }
}

/// Skips what it knows, whatever came since.
struct Naive {
    capacity: usize,
    known: VecDeque<u32>,
}

impl Memory for Naive {
    fn is_new(&mut self, _place: usize, event: u32) -> bool {
        if self.known.contains(&event) {
            return false;
        }
        self.known.push_back(event);
        if self.known.len() > self.capacity {
            self.known.pop_front();
        }
        true
    }

    fn known_from(&self, _place: usize) -> usize {
        0
    }
}

/// How the log is read: a process that starts reads some records before its place once more, to
/// know them, but none before what its predecessor has known.
#[derive(Debug, Clone)]
struct Reader {
    /// Of one process after the other, over and over: it depends on what else they read.
    capacities: Vec<usize>,
    window: usize,
    starts: Vec<usize>,
}

impl Reader {
    fn read<M: Memory>(
        &self,
        history: &History,
        log: &[u32],
        memory: impl Fn(usize) -> M,
    ) -> Table {
        let mut table = Table::new();
        let mut capacities = self.capacities.iter().cycle();
        let mut next = || memory(*capacities.next().expect("one at least"));
        let mut known = next();
        for (place, event) in log.iter().enumerate() {
            if self.starts.contains(&place) {
                let from = known.known_from(place).max(place.saturating_sub(self.window));
                known = next();
                for (before, event) in log.iter().enumerate().take(place).skip(from) {
                    known.is_new(before, *event);
                }
            }
            if known.is_new(place, *event) {
                history.apply(&mut table, *event);
            }
        }
        table
    }

    fn with_ring(&self, history: &History, log: &[u32]) -> Table {
        self.read(history, log, ReplayRing::new)
    }

    fn with_forgetful_ring(&self, history: &History, log: &[u32]) -> Table {
        self.read(history, log, |capacity| Forgetful(ReplayRing::new(capacity)))
    }

    fn with_naive_ring(&self, history: &History, log: &[u32]) -> Table {
        self.read(history, log, |capacity| Naive { capacity, known: VecDeque::new() })
    }
}

fn reader(capacity: usize) -> impl Strategy<Value = Reader> {
    let starts = proptest::collection::vec(0..200usize, 0..5);
    let capacities = proptest::collection::vec(0..=capacity, 1..4);
    (capacities, 0..=capacity, starts).prop_map(|(capacities, window, starts)| Reader {
        capacities,
        window,
        starts,
    })
}

/// Remembers everything, in one process or in many.
fn unbounded(starts: Vec<usize>) -> Reader {
    Reader { capacities: vec![1_000], window: 1_000, starts }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 2_000, ..ProptestConfig::default() })]

    /// Tasks that crash or are put back, however far; however short the ring, and whenever our own
    /// process starts anew.
    #[test]
    fn a_repeated_run_ends_as_the_source_did(
        history in history(),
        runs in runs(50, 0),
        reader in reader(80),
    ) {
        prop_assert_eq!(reader.with_ring(&history, &log(&runs)), history.end());
    }

    /// Tasks that go on writing, and a ring that holds what they write late and what came since.
    #[test]
    fn a_late_writer_does_no_harm_within_the_ring(
        history in history(),
        runs in runs(10, 10),
        starts in proptest::collection::vec(0..200usize, 0..5),
    ) {
        let reader = unbounded(starts);
        prop_assert_eq!(reader.with_ring(&history, &log(&runs)), history.end());
    }
}

/// In how many of the same worlds a way to read ends with the wrong table.
fn wrong(
    unacknowledged: u32,
    late: u32,
    read: impl Fn(&Reader, &History, &[u32]) -> Table,
) -> usize {
    let mut runner = TestRunner::deterministic();
    let worlds = (history(), runs(unacknowledged, late), reader(80));
    let mut wrong = 0;
    for _ in 0..2_000 {
        let (history, runs, reader) = worlds.new_tree(&mut runner).expect("a world").current();
        wrong += usize::from(read(&reader, &history, &log(&runs)) != history.end());
    }
    wrong
}

/// The worlds above are hard enough to catch the ring that everybody writes first, and its absence.
#[test]
fn the_naive_ring_and_no_ring_fail_in_these_worlds() {
    let naive =
        |reader: &Reader, history: &History, log: &[u32]| reader.with_naive_ring(history, log);
    assert!(wrong(50, 0, naive) > 0);
    let none = |_: &Reader, history: &History, log: &[u32]| {
        Reader { capacities: vec![0], window: 0, starts: Vec::new() }.with_ring(history, log)
    };
    assert!(wrong(10, 10, none) > 0);
}

/// A process that judges anew what its predecessor has judged, by more than that one knew, takes
/// for skipped what was applied: a key stays at an old state for ever.
#[test]
fn what_a_predecessor_did_not_know_must_not_be_known() {
    let history = |changed: &[usize]| History {
        keys: (0..EVENTS as usize)
            .map(|event| if changed.contains(&event) { 4 } else { 0 })
            .collect(),
        deletes: vec![false; EVENTS as usize],
    };
    let history = history(&[23, 47]);
    let run = |events, unacknowledged| Run { events, unacknowledged, late: 0, every: 1 };
    let log = log(&[run(32, 5), run(28, 43), run(32, 0), run(16, 16)]);
    let reader = Reader { capacities: vec![43], window: 50, starts: vec![100, 110] };
    assert_eq!(reader.with_ring(&history, &log), history.end());
    assert_ne!(reader.with_forgetful_ring(&history, &log), history.end());
}
