//! Recognises the events that a connector writes again after a restart.
//!
//! Kafka Connect restarts a connector from the last position that was acknowledged, so a run of
//! events comes twice, and a task that was given up may go on writing for a while. In one partition
//! the first coming of events is in order (each run starts at or before the successor of an
//! acknowledged event), so to skip what was applied already gives the source's order. To skip it
//! although something older has been applied since would freeze the older state for ever: then the
//! ring is emptied, and the repeated run is applied as it comes, which ends where it did before.
//!
//! Emptying the ring is always safe. What is never safe is to skip by position alone.

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;

/// What an event is, in the order of its partition.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    /// Not applied before, as far as the ring reaches: apply it.
    New,
    /// Applied before, and nothing older since: skip it.
    Repeat,
}

/// An event as the ring knows it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Identity {
    /// Of the row and the place in the source's log: no two events of a sound source have the same.
    pub place: u128,
    /// Of what the event says.
    pub content: u64,
}

/// An event that was read.
#[derive(Debug)]
struct Read {
    offset: i64,
    place: u128,
    position: Arc<str>,
}

/// The events read last in one topic-partition.
///
/// Holds at most as many as it was made for, about 150 bytes each. What it answers depends only on
/// the events from [`Self::known_from`] on. So a ring that is fed with these anew, or with fewer of
/// them, skips nothing that this one has not skipped: it never takes for skipped, and so for still
/// true, what was applied.
#[derive(Debug)]
pub struct ReplayRing {
    capacity: usize,
    read: VecDeque<Read>,
    /// Number of the first event in `read`.
    first: u64,
    /// By place, the number of the event when it was last read, and what it said.
    seen: HashMap<u128, (u64, u64)>,
    /// Numbers of those applied events that no later applied one lies below: their positions ascend, and the first
    /// at or after a number is the lowest from there on.
    lowest: VecDeque<u64>,
}

impl ReplayRing {
    /// An empty ring of so many events; 0 recognises nothing.
    pub fn new(capacity: usize) -> Self {
        Self {
            capacity,
            read: VecDeque::new(),
            first: 0,
            seen: HashMap::new(),
            lowest: VecDeque::new(),
        }
    }

    /// Forgets everything: always safe, and right where an event was applied that could not be
    /// recognised if it came again.
    pub fn clear(&mut self) {
        self.read.clear();
        self.seen.clear();
        self.lowest.clear();
    }

    /// How many events it remembers.
    pub fn len(&self) -> usize {
        self.read.len()
    }

    /// Whether it remembers nothing.
    pub fn is_empty(&self) -> bool {
        self.read.is_empty()
    }

    /// Offset of the first event that it remembers.
    pub fn known_from(&self) -> Option<i64> {
        self.read.front().map(|read| read.offset)
    }

    /// Takes the next event of the partition, at its offset; `position` is text that sorts as the
    /// source's log goes. Two events that say different things at one place show that places are not told
    /// there (rows of a compressed binlog transaction share theirs): the ring is emptied.
    pub fn next(&mut self, offset: i64, identity: Identity, position: &str) -> Verdict {
        if let Some((number, content)) = self.seen.get(&identity.place).copied() {
            if content == identity.content && !self.older_since(number) {
                // The table is as if it had been applied here, and nothing below it was.
                self.remember(offset, identity, self.position(number).clone());
                return Verdict::Repeat;
            }
            self.clear();
        }
        if let Some(number) = self.remember(offset, identity, position.into()) {
            while self.lowest.back().is_some_and(|last| **self.position(*last) > *position) {
                self.lowest.pop_back();
            }
            self.lowest.push_back(number);
        }
        Verdict::New
    }

    /// Remembers so many at most from now on.
    pub fn set_capacity(&mut self, capacity: usize) {
        self.capacity = capacity;
        while self.read.len() > capacity {
            self.forget_first();
        }
    }

    /// Whether something below an event was applied after it.
    fn older_since(&self, number: u64) -> bool {
        let at = self.lowest.partition_point(|lowest| *lowest <= number);
        self.lowest.get(at).is_some_and(|lowest| self.position(*lowest) < self.position(number))
    }

    fn position(&self, number: u64) -> &Arc<str> {
        &self.read[(number - self.first) as usize].position
    }

    /// Takes an event in; gives its number, if there is room for any.
    fn remember(&mut self, offset: i64, identity: Identity, position: Arc<str>) -> Option<u64> {
        if self.capacity == 0 {
            return None;
        }
        while self.read.len() >= self.capacity {
            self.forget_first();
        }
        let number = self.first + self.read.len() as u64;
        self.seen.insert(identity.place, (number, identity.content));
        self.read.push_back(Read { offset, place: identity.place, position });
        Some(number)
    }

    fn forget_first(&mut self) {
        if let Some(gone) = self.read.pop_front() {
            // It may have been read again since.
            if self.seen.get(&gone.place).is_some_and(|(number, _)| *number == self.first) {
                self.seen.remove(&gone.place);
            }
            if self.lowest.front() == Some(&self.first) {
                self.lowest.pop_front();
            }
            self.first += 1;
        }
    }
}

#[cfg(test)]
mod model;

#[cfg(test)]
mod tests {
    use super::*;

    fn of(event: u32) -> Identity {
        Identity { place: u128::from(event), content: u64::from(event) }
    }

    fn feed(ring: &mut ReplayRing, events: impl IntoIterator<Item = u32>) -> Vec<u32> {
        let mut offset = 0;
        let new = |event: &u32| {
            offset += 1;
            ring.next(offset, of(*event), &format!("{event:08x}")) == Verdict::New
        };
        events.into_iter().filter(new).collect()
    }

    #[test]
    fn a_run_that_comes_again_is_skipped() {
        let mut ring = ReplayRing::new(100);
        assert_eq!(feed(&mut ring, 1..=10), Vec::from_iter(1..=10));
        assert_eq!(feed(&mut ring, 6..=12), [11, 12]);
        assert_eq!(feed(&mut ring, 12..=13), [13]);
    }

    #[test]
    fn a_run_longer_than_the_ring_is_applied_whole() {
        let mut ring = ReplayRing::new(50);
        feed(&mut ring, 1..=100);
        // 30 is forgotten and applied; 51, which is known, must follow it.
        assert_eq!(feed(&mut ring, 30..=101), Vec::from_iter(30..=101));
    }

    #[test]
    fn a_late_writer_is_skipped_as_far_as_the_ring_reaches() {
        let mut ring = ReplayRing::new(100);
        feed(&mut ring, 1..=110);
        assert!(feed(&mut ring, [105]).is_empty());
        assert_eq!(feed(&mut ring, [111, 106, 112]), [111, 112]);
        assert_eq!(feed(&mut ring, [3]), [3], "beyond it nobody can tell");
    }

    #[test]
    fn an_event_without_identity_empties_the_ring() {
        let mut ring = ReplayRing::new(10);
        feed(&mut ring, 1..=3);
        ring.clear();
        assert!(ring.is_empty());
        assert_eq!(feed(&mut ring, 2..=3), [2, 3]);
    }

    #[test]
    fn different_changes_at_one_place_are_all_applied() {
        // A row that goes to and fro in one compressed transaction, all at one place.
        let toggle = |content| Identity { place: 7, content };
        let mut ring = ReplayRing::new(10);
        for content in [1, 2, 1, 2] {
            assert_eq!(ring.next(content as i64, toggle(content), "07"), Verdict::New);
        }
        assert_eq!(ring.next(9, toggle(2), "07"), Verdict::Repeat, "it is what was applied last");
    }

    #[test]
    fn the_ring_stays_as_small_as_it_was_made() {
        let mut ring = ReplayRing::new(3);
        feed(&mut ring, [5, 1, 9, 2, 8, 3, 7, 4, 6]);
        assert_eq!((ring.len(), ring.seen.len()), (3, 3));
        assert!(ring.lowest.len() <= 3);
        let mut none = ReplayRing::new(0);
        assert_eq!(feed(&mut none, [1, 1, 2]), [1, 1, 2]);
    }
}
