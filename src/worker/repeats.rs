//! Which of a table's records the source has sent before.
//!
//! Fed with every record that is read, those that both layers hold included: reading begins a window
//! before them, so that the rings know after a restart what they knew before. They must not know
//! more: what the process before did not recognise it has applied, and to take it for skipped would
//! freeze an old row for ever. So each commit says from which offset on its events were known, and
//! nothing before that is taken in. Both layers go by one answer.

use std::collections::{BTreeMap, VecDeque};

use lakebed_schemas::change_event::{ChangeEvent, Decoded, Op, Row};
use lakebed_schemas::position::TopicPartition;
use lakebed_schemas::value::key_hash;
use tracing::{info, warn};
use xxhash_rust::xxh3::Xxh3;

use crate::replay_ring::{Identity, ReplayRing, Verdict};

/// Most events remembered of all partitions of a table together.
const EVENTS_MAX: usize = 200_000;

/// What one takes, about: its place and position, and its entry by place.
const EVENT_BYTES: usize = 150;

/// Most deletes of a partition whose tombstones are still to come: a tombstone follows its delete at
/// once, unless two tasks write at the same time.
const TOMBSTONES_MAX: usize = 1_024;

/// What a record is, beside what it says.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) struct Standing {
    /// The source has sent it before and nothing older since.
    pub(super) repeated: bool,
    /// A tombstone that belongs to a delete that has been read: it has that one's fate and does
    /// nothing itself.
    pub(super) echo: bool,
}

/// What is remembered of one partition.
struct Partition {
    ring: ReplayRing,
    /// Whose positions the ring holds; `None` before the first.
    writer: Option<u64>,
    /// Keys whose tombstone is still to come, and whether their delete was a repeat.
    deleted: VecDeque<(u128, bool)>,
    /// First offset that may be known.
    known_from: i64,
}

/// The rings of one table.
pub(super) struct Repeats {
    window: usize,
    partitions: BTreeMap<TopicPartition, Partition>,
}

impl Repeats {
    /// Remembers so many events of each partition; 0 recognises none.
    pub(super) fn new(window: usize) -> Self {
        Self { window: window.min(EVENTS_MAX), partitions: BTreeMap::new() }
    }

    /// Bytes that the rings take, about.
    pub(super) fn memory_bytes(&self) -> usize {
        let events = self.partitions.values().map(|partition| partition.ring.len());
        events.sum::<usize>() * EVENT_BYTES
    }

    /// An epoch of the source begins: what was read before is not compared with what comes.
    pub(super) fn begin_anew(&mut self, tp: &TopicPartition) {
        self.partition(tp).empty(tp, "a new epoch");
    }

    /// How many records are read before those that a layer lacks.
    pub(super) fn window(&self) -> usize {
        self.window
    }

    /// Begins anew with a partition, of which nothing before `known_from` may be known.
    pub(super) fn begin(&mut self, tp: &TopicPartition, known_from: i64) {
        self.partitions.remove(tp);
        self.partition(tp).known_from = known_from;
    }

    /// Offset from which on events of a partition are known; `None`: none is.
    pub(super) fn known_from(&self, tp: &TopicPartition) -> Option<i64> {
        self.partitions.get(tp)?.ring.known_from()
    }

    /// Forgets what was read of partitions: they are read anew, or by another.
    pub(super) fn forget(&mut self, partitions: &[TopicPartition]) {
        partitions.iter().for_each(|tp| drop(self.partitions.remove(tp)));
    }

    /// Forgets everything.
    pub(super) fn clear(&mut self) {
        self.partitions.clear();
    }

    /// Takes the next record of a partition.
    pub(super) fn next(&mut self, tp: &TopicPartition, offset: i64, decoded: &Decoded) -> Standing {
        match decoded {
            Decoded::Change(event) => {
                let partition = self.partition(tp);
                let repeated = partition.is_repeat(tp, offset, event);
                if let (Op::Delete, Some(key)) = (event.op, &event.key) {
                    partition.expect_tombstone(hash(key), repeated);
                }
                Standing { repeated, echo: false }
            }
            Decoded::Tombstone { key: Some(key) } => self.partition(tp).tombstone(hash(key)),
            _ => Standing::default(),
        }
    }

    fn partition(&mut self, tp: &TopicPartition) -> &mut Partition {
        if !self.partitions.contains_key(tp) {
            let capacity = self.window.min(EVENTS_MAX / (self.partitions.len() + 1));
            let ring = ReplayRing::new(capacity);
            let deleted = VecDeque::new();
            let partition = Partition { ring, writer: None, deleted, known_from: 0 };
            self.partitions.insert(tp.clone(), partition);
            self.partitions.values_mut().for_each(|other| other.ring.set_capacity(capacity));
        }
        self.partitions.get_mut(tp).expect("inserted above")
    }
}

impl Partition {
    fn is_repeat(&mut self, tp: &TopicPartition, offset: i64, event: &ChangeEvent) -> bool {
        let source = &event.source;
        if offset < self.known_from {
            return false;
        }
        if event.key.is_none() && event.op != Op::Truncate {
            // For bronze only.
            return false;
        }
        if let Some(kind) = &source.snapshot {
            // A snapshot of the whole table begins a new life: what was streamed before it says
            // nothing of what is streamed after. One that runs beside the stream reads what is
            // there at its offset.
            if kind != "incremental" {
                self.empty(tp, "a snapshot");
            }
            return false;
        }
        let (Some(place), Some(position)) = (source.place, &source.position) else {
            self.ring.clear();
            return false;
        };
        if self.writer.replace(source.writer).is_some_and(|writer| writer != source.writer) {
            warn!(%tp, "the topic goes on under another connector: its positions are not compared \
                        with those before");
            self.ring.clear();
        }
        self.ring.next(offset, identity(event, place), position) == Verdict::Repeat
    }

    fn empty(&mut self, tp: &TopicPartition, why: &str) {
        if !self.ring.is_empty() {
            info!(%tp, because = why, "forgot which changes have been read before");
            self.ring.clear();
        }
    }

    fn expect_tombstone(&mut self, key: u128, repeated: bool) {
        if self.deleted.len() == TOMBSTONES_MAX {
            self.deleted.pop_front();
        }
        self.deleted.push_back((key, repeated));
    }

    fn tombstone(&mut self, key: u128) -> Standing {
        let of_key = self.deleted.iter().position(|(deleted, _)| *deleted == key);
        match of_key.and_then(|index| self.deleted.remove(index)) {
            Some((_, repeated)) => Standing { repeated, echo: true },
            None => Standing::default(),
        }
    }
}

fn hash(key: &Row) -> u128 {
    key_hash(&key.values)
}

/// The key by its values, the row by its text: both as they are when the event comes again.
fn identity(event: &ChangeEvent, place: u128) -> Identity {
    let key = event.key.as_ref().map_or(0, hash);
    let mut content = Xxh3::new();
    content.update(event.op.letter().as_bytes());
    content.update(event.after_json.as_deref().unwrap_or_default().as_bytes());
    Identity { place: place ^ key.rotate_left(1), content: content.digest() }
}

#[cfg(test)]
mod tests;
