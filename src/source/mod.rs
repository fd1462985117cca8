//! Where records come from.
//!
//! A source gives events in order and takes hints back. It never waits for what lies downstream:
//! it pauses when too many bytes are out. Which offsets to start from it asks at each assignment;
//! it keeps no progress of its own.

mod assignment;
mod client;
mod control;
mod discovery;
mod ends;
mod kafka;
mod poller;
mod rebalance;
mod record;
mod shared;
mod starts;
#[cfg(test)]
mod tests;
mod view;

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;

use async_trait::async_trait;
use lakebed_schemas::decoder::RecordRef;
use lakebed_schemas::position::{NextOffset, TopicPartition};
use tokio::sync::oneshot;

pub use client::{client_config, metadata_client};
pub use discovery::{LOOK_EVERY, Wanted};
pub use kafka::{KafkaSource, SourceOptions};
pub use view::KafkaView;

/// One Kafka record.
#[derive(Debug, Clone)]
pub struct Message {
    /// Where it was read.
    pub tp: TopicPartition,
    /// Its offset.
    pub offset: i64,
    /// Milliseconds since the epoch, as the broker or the producer set it.
    pub timestamp_ms: Option<i64>,
    /// Key bytes.
    pub key: Option<Vec<u8>>,
    /// Value bytes.
    pub value: Option<Vec<u8>>,
    /// Headers in order; names may repeat.
    pub headers: Vec<(String, Option<Vec<u8>>)>,
    /// Of the assignment under which it was read; older ones are dropped by the receiver.
    pub generation: u64,
}

impl Message {
    /// Bytes it takes in memory, about.
    pub fn weight(&self) -> usize {
        let len = |bytes: &Option<Vec<u8>>| bytes.as_ref().map_or(0, Vec::len);
        let headers: usize =
            self.headers.iter().map(|(name, value)| 48 + name.len() + len(value)).sum();
        size_of::<Self>() + len(&self.key) + len(&self.value) + headers
    }

    /// Its headers, borrowed: what [`Self::record`] wants.
    pub fn header_refs(&self) -> Vec<(&str, Option<&[u8]>)> {
        self.headers.iter().map(|(name, value)| (name.as_str(), value.as_deref())).collect()
    }

    /// As the decoder takes it.
    pub fn record<'a>(&'a self, headers: &'a [(&'a str, Option<&'a [u8]>)]) -> RecordRef<'a> {
        RecordRef {
            topic: &self.tp.topic,
            partition: self.tp.partition,
            offset: self.offset,
            timestamp_ms: self.timestamp_ms,
            key: self.key.as_deref(),
            value: self.value.as_deref(),
            headers,
        }
    }

    /// By which a re-created topic is noticed: xxh3-64 over timestamp, key and value.
    pub fn fingerprint(&self) -> u64 {
        let mut hasher = xxhash_rust::xxh3::Xxh3::new();
        hasher.update(&self.timestamp_ms.unwrap_or(-1).to_le_bytes());
        for part in [&self.key, &self.value] {
            let length = part.as_ref().map_or(u64::MAX, |bytes| bytes.len() as u64);
            hasher.update(&length.to_le_bytes());
            hasher.update(part.as_deref().unwrap_or_default());
        }
        hasher.digest()
    }
}

/// Where to begin in a topic-partition.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Start {
    /// The offset; `None`: the first record that the log still has.
    pub at: Option<i64>,
    /// Where tables stand: the log has to go on where each of them does, which their fingerprints
    /// tell.
    pub stored: Vec<NextOffset>,
    /// How many offsets before `at` reading begins, as far as the log still has them: for those who
    /// want to know what came before.
    pub window: i64,
    /// Whether it must not be read yet: it is asked for again.
    pub held: bool,
}

impl Start {
    /// Where a table begins that stands there, in all its layers; `None` where one holds nothing.
    pub fn of(layers: &[Option<NextOffset>]) -> Self {
        let at: Option<Vec<i64>> = layers.iter().map(|next| Some((*next)?.offset)).collect();
        let mut start = Self { at: at.and_then(|at| at.into_iter().min()), ..Self::default() };
        start.add(layers.iter().copied().flatten());
        start
    }

    /// The same with a window before it.
    #[must_use]
    pub fn after_window(self, window: i64) -> Self {
        Self { window, ..self }
    }

    /// The same, to be read now or to wait.
    #[must_use]
    pub fn hold(self, held: bool) -> Self {
        Self { held, ..self }
    }

    /// The first offset to read of a log that begins at `log_start`.
    pub fn first(&self, log_start: i64) -> i64 {
        let at = self.at.unwrap_or(log_start);
        at.saturating_sub(self.window).max(log_start).min(at)
    }

    /// Where to begin for both: at the lower, when both may. A table that holds nothing is below all
    /// others.
    #[must_use]
    pub fn and(mut self, other: Self) -> Self {
        self.at = self.at.zip(other.at).map(|(ours, theirs)| ours.min(theirs));
        self.window = self.window.max(other.window);
        self.held |= other.held;
        self.add(other.stored);
        self
    }

    fn add(&mut self, stored: impl IntoIterator<Item = NextOffset>) {
        for next in stored {
            if !self.stored.contains(&next) {
                self.stored.push(next);
            }
        }
    }
}

/// Why a stored offset cannot be gone on from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum GapKind {
    /// Retention has deleted records that were not read.
    BehindRetention,
    /// The log ends before it: the topic or the cluster was made anew.
    BeyondEnd,
    /// The record before it is another one: the topic was made anew.
    FingerprintDiffers,
}

impl fmt::Display for GapKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::BehindRetention => "records were deleted by retention before they were read",
            Self::BeyondEnd => "the log ends before it, so the topic was made anew or truncated",
            Self::FingerprintDiffers => "the record before it differs, so the topic was made anew",
        })
    }
}

/// A stored offset that the log does not continue.
#[derive(Debug, Clone)]
pub struct Gap {
    /// Where.
    pub tp: TopicPartition,
    /// A stored next offset of one of the topic's tables.
    pub stored: i64,
    /// First offset of the log.
    pub log_start: i64,
    /// Next offset of the log.
    pub log_end: i64,
    /// What is wrong.
    pub kind: GapKind,
}

/// What to do about a gap.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum GapDecision {
    /// Go on at the first record that the log has.
    GoOn,
    /// Do not read this topic-partition.
    Stop,
}

/// Answer to an assignment: where to begin, or why that cannot be told yet, which is asked again.
/// Partitions left out are not read.
pub type Starts = BTreeMap<TopicPartition, Result<Start, String>>;

/// What the group is told of one partition.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct GroupOffset {
    /// Where.
    pub tp: TopicPartition,
    /// First offset that is not in the tables.
    pub offset: i64,
    /// Says which tables hold what lies below. At most 4 KiB by Kafka's default.
    pub metadata: Arc<str>,
}

/// The cluster as seen from the side: what an assignment may have to know of partitions of which
/// the tables know nothing.
#[async_trait]
pub trait View: Send + Sync {
    /// Whether a topic turned up after the source was opened.
    fn is_new(&self, topic: &str) -> bool;
    /// Next offset of each partition of a topic's log.
    ///
    /// # Errors
    /// When no broker answers for one of them.
    async fn ends(&self, topic: &str) -> Result<BTreeMap<i32, i64>, String>;
    /// How many partitions a topic has; 0 where there is no such topic.
    ///
    /// # Errors
    /// When no broker answers.
    async fn partitions(&self, topic: &str) -> Result<usize, String>;
    /// What the group has been told of these partitions; those of which nothing are left out.
    ///
    /// # Errors
    /// When no broker answers.
    async fn group(&self, partitions: &[TopicPartition]) -> Result<Vec<GroupOffset>, String>;
}

/// What happened, in order.
#[derive(Debug)]
pub enum SourceEvent {
    /// Partitions are ours. The group waits for the answer, up to a deadline.
    Assigned {
        /// Of this assignment.
        generation: u64,
        /// New ones only; may be none.
        partitions: Vec<TopicPartition>,
        /// Where to begin.
        reply: oneshot::Sender<Starts>,
    },
    /// Partitions go. The group waits for the acknowledgement, up to a deadline.
    Revoked {
        /// Which.
        partitions: Vec<TopicPartition>,
        /// When nothing of them is open any more.
        ack: oneshot::Sender<()>,
    },
    /// Records, in order for each topic-partition.
    Messages(Vec<Message>),
    /// Everything visible below `next_offset` has been handed out.
    EndOfPartition {
        /// Where.
        tp: TopicPartition,
        /// May lie beyond the last record: transaction markers and compacted tails hold none.
        next_offset: i64,
        /// Of the assignment.
        generation: u64,
    },
    /// A stored offset that the log does not continue.
    Gap {
        /// What is wrong.
        gap: Gap,
        /// What to do.
        reply: oneshot::Sender<GapDecision>,
    },
    /// The client cannot go on: the process must end.
    Fatal(String),
}

/// What it has counted and looked up.
#[derive(Debug, Clone, Default)]
pub struct SourceStats {
    /// Rebalances since the start.
    pub rebalances: u64,
    /// Whether reading is paused because too many bytes are out.
    pub paused: bool,
    /// Bytes of records that are out.
    pub out_bytes: usize,
    /// First and next offset of the log of assigned partitions, as last looked up.
    pub bounds: BTreeMap<TopicPartition, (i64, i64)>,
    /// How many partitions wanted topics have, as last looked up.
    pub partitions: BTreeMap<String, usize>,
}

/// A partitioned, ordered stream of records that goes on from where tables stand.
#[async_trait]
pub trait Source: Send {
    /// The next thing that happened; `None` after the stream has ended.
    async fn next(&mut self) -> Option<SourceEvent>;
    /// Tells the group how far tables are. A hint: a failure is logged, never retried.
    fn commit_offsets(&mut self, offsets: Vec<GroupOffset>);
    /// Bytes of handed-out records that need no memory any more.
    fn consumed(&mut self, bytes: usize);
    /// Bytes of copies that the receiver made: they count against the same budget.
    fn held(&mut self, bytes: usize);
    /// Bounds the bytes that may be out from now on.
    fn set_budget(&mut self, bytes: usize);
    /// Reads partitions again: they are assigned anew, with a new generation.
    fn rewind(&mut self, partitions: &[TopicPartition]);
    /// What it has counted and looked up.
    fn stats(&self) -> SourceStats;
    /// The cluster from the side.
    fn view(&self) -> Arc<dyn View>;
    /// Leaves the group; bounded.
    async fn close(&mut self);
}
