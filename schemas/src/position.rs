//! Progress: which offsets of which topic-partitions a table holds, and the algebra of moving on.
//!
//! Ranges are half-open and a *next offset* is the first offset not yet handled, which is Kafka's
//! own meaning of a committed offset. Nothing here converts to any other convention.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

/// One Kafka partition of one topic.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct TopicPartition {
    /// Topic name.
    pub topic: Arc<str>,
    /// Partition number, from 0.
    pub partition: i32,
}

impl TopicPartition {
    /// Names one partition of a topic.
    pub fn new(topic: impl Into<Arc<str>>, partition: i32) -> Self {
        Self { topic: topic.into(), partition }
    }
}

impl fmt::Display for TopicPartition {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}-{}", self.topic, self.partition)
    }
}

/// A hash of the last record before a next offset, by which a re-created topic is noticed.
///
/// xxh3-64 over timestamp, key and value of the record; `None` where no record was seen.
pub type Fingerprint = Option<u64>;

/// Where to go on in one topic-partition.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct NextOffset {
    /// First offset not yet in the table.
    pub offset: i64,
    /// The record before it.
    pub fingerprint: Fingerprint,
    /// From which offset on the source's events were remembered, to know them when they come
    /// again. What was skipped after it was skipped for what lies there; `offset` where nothing
    /// was remembered.
    pub known_from: i64,
}

impl NextOffset {
    /// A place of which nothing else is known.
    pub fn at(offset: i64) -> Self {
        Self { offset, fingerprint: None, known_from: offset }
    }
}

/// What one batch covers of one topic-partition: `[start, end)`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct OffsetRange {
    /// The next offset that the table must hold for this range to apply.
    pub start: i64,
    /// The next offset afterwards. Equal to `start` is allowed and changes nothing.
    pub end: i64,
    /// The record before `end`.
    pub fingerprint: Fingerprint,
    /// From which offset on the source's events are remembered at `end`: [`NextOffset::known_from`].
    pub known_from: i64,
}

/// What one batch covers: a range for each topic-partition that it touches.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct CheckpointDelta {
    /// Range by topic-partition.
    pub ranges: BTreeMap<TopicPartition, OffsetRange>,
}

impl CheckpointDelta {
    /// Records that everything of `tp` from the end of what is covered up to `next` is handled.
    ///
    /// `start` is used only for a topic-partition seen first. Nothing is remembered, unless
    /// [`Self::remember`] says so afterwards.
    pub fn extend(&mut self, tp: &TopicPartition, start: i64, next: i64, fingerprint: Fingerprint) {
        if let Some(range) = self.ranges.get_mut(tp) {
            range.end = next;
            range.fingerprint = fingerprint;
            range.known_from = next;
        } else {
            let range = OffsetRange { start, end: next, fingerprint, known_from: next };
            self.ranges.insert(tp.clone(), range);
        }
    }

    /// Notes from where on the source's events are remembered.
    pub fn remember(&mut self, known_from: impl Fn(&TopicPartition) -> Option<i64>) {
        for (tp, range) in &mut self.ranges {
            range.known_from = known_from(tp).unwrap_or(range.end).min(range.end);
        }
    }

    /// Whether it moves nothing.
    pub fn is_empty(&self) -> bool {
        self.ranges.values().all(|range| range.start == range.end)
    }
}

/// What the table knows of one topic.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct TopicProgress {
    /// Kafka's topic id, where the client can tell it.
    pub id: Option<String>,
    /// How many partitions the topic had when last seen; 0 where unknown.
    pub partition_count: i32,
    /// Where to go on, by partition.
    pub next: BTreeMap<i32, NextOffset>,
}

/// The progress a table holds: next offset by topic-partition, as stored in its newest version.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Checkpoint {
    /// Progress by topic.
    pub topics: BTreeMap<Arc<str>, TopicProgress>,
}

/// How a delta relates to a checkpoint.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Fit {
    /// Every range starts exactly where the checkpoint stands: it may be applied.
    Applies,
    /// Every range is covered already: it was applied, by us or by a twin.
    Covered,
    /// Neither: somebody else has taken (part of) it. Names the first such topic-partition.
    Overtaken {
        /// The topic-partition.
        tp: TopicPartition,
        /// What the table holds.
        stored: Option<i64>,
        /// What the delta starts from.
        start: i64,
    },
}

impl Checkpoint {
    /// The next offset of a topic-partition, if the table has one.
    pub fn next(&self, tp: &TopicPartition) -> Option<NextOffset> {
        self.topics.get(&tp.topic)?.next.get(&tp.partition).copied()
    }

    /// How `delta` relates to this checkpoint.
    ///
    /// A topic-partition that the table has never seen fits whatever the start.
    pub fn fit(&self, delta: &CheckpointDelta) -> Fit {
        let mut covered = 0;
        let mut misfit = None;
        for (tp, range) in &delta.ranges {
            match self.next(tp).map(|next| next.offset) {
                None => {}
                // Moves nothing, and says that nothing has moved.
                Some(stored) if range.end == range.start && stored != range.start => {
                    misfit = misfit.or(Some((tp.clone(), Some(stored), range.start)));
                }
                Some(stored) if stored == range.start && range.end > range.start => {}
                Some(stored) if stored >= range.end => covered += 1,
                Some(stored) => misfit = misfit.or(Some((tp.clone(), Some(stored), range.start))),
            }
        }
        if !delta.ranges.is_empty() && covered == delta.ranges.len() {
            return if delta.is_empty() { Fit::Applies } else { Fit::Covered };
        }
        let mixed = delta.ranges.iter().find(|(tp, range)| {
            range.end > range.start && self.next(tp).is_some_and(|next| next.offset >= range.end)
        });
        if let Some((tp, range)) = mixed {
            return Fit::Overtaken {
                tp: tp.clone(),
                stored: self.next(tp).map(|next| next.offset),
                start: range.start,
            };
        }
        match misfit {
            Some((tp, stored, start)) => Fit::Overtaken { tp, stored, start },
            None => Fit::Applies,
        }
    }

    /// Moves on by `delta`. The caller has seen [`Fit::Applies`].
    pub fn apply(&mut self, delta: &CheckpointDelta) {
        for (tp, range) in &delta.ranges {
            let topic = self.topics.entry(tp.topic.clone()).or_default();
            topic.partition_count = topic.partition_count.max(tp.partition + 1);
            let stood = topic.next.get(&tp.partition).filter(|next| next.offset == range.end);
            let next = NextOffset {
                offset: range.end,
                fingerprint: range.fingerprint,
                known_from: stood.map_or(range.known_from, |next| next.known_from),
            };
            topic.next.insert(tp.partition, next);
        }
    }

    /// Every topic-partition with its next offset.
    pub fn iter(&self) -> impl Iterator<Item = (TopicPartition, NextOffset)> + '_ {
        self.topics.iter().flat_map(|(topic, progress)| {
            progress.next.iter().map(move |(partition, next)| {
                (TopicPartition::new(topic.clone(), *partition), *next)
            })
        })
    }
}

/// The highest version of the stored format that this program reads and the one it writes.
pub const STORED_FORMAT_VERSION: u32 = 1;

/// A checkpoint as it stands in a table (stored format, version 1).
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct StoredCheckpoint {
    /// Version of this form.
    pub v: u32,
    /// Whose progress it is.
    pub sink: String,
    /// The Kafka cluster's id, where known.
    pub cluster: Option<String>,
    /// Progress by topic.
    pub topics: BTreeMap<String, StoredTopic>,
}

/// One topic of a [`StoredCheckpoint`].
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct StoredTopic {
    /// Kafka's topic id, if known.
    pub id: Option<String>,
    /// Partition count when last seen.
    pub partitions: i32,
    /// Next offset and fingerprint (hex, or null) by partition number.
    pub next: BTreeMap<String, (i64, Option<String>)>,
    /// [`NextOffset::known_from`] by partition number, where it is not the next offset itself.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub known_from: BTreeMap<String, i64>,
}

/// Why a stored checkpoint cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum StoredCheckpointError {
    /// Not the JSON it should be.
    #[error("stored checkpoint is not readable: {0}")]
    Unreadable(String),
    /// Written by a newer release.
    #[error(
        "stored checkpoint has format version {0}, this release reads up to {STORED_FORMAT_VERSION}: upgrade lakebed"
    )]
    TooNew(u32),
    /// Belongs to another sink.
    #[error(
        "stored progress belongs to sink id `{stored}`, this process is `{ours}`: set lake.sink_id, or use another table"
    )]
    OtherSink {
        /// The sink id in the table.
        stored: String,
        /// Ours.
        ours: String,
    },
}

impl Checkpoint {
    /// The stored form (version 1).
    pub fn to_stored(&self, sink: &str, cluster: Option<&str>) -> StoredCheckpoint {
        let topics = self.topics.iter().map(|(name, progress)| {
            let next = progress.next.iter().map(|(partition, next)| {
                let fingerprint = next.fingerprint.map(|hash| format!("{hash:016x}"));
                (partition.to_string(), (next.offset, fingerprint))
            });
            let remembered = progress.next.iter().filter(|(_, next)| next.known_from < next.offset);
            let known_from =
                remembered.map(|(partition, next)| (partition.to_string(), next.known_from));
            let stored = StoredTopic {
                id: progress.id.clone(),
                partitions: progress.partition_count,
                next: next.collect(),
                known_from: known_from.collect(),
            };
            (name.to_string(), stored)
        });
        StoredCheckpoint {
            v: STORED_FORMAT_VERSION,
            sink: sink.to_owned(),
            cluster: cluster.map(str::to_owned),
            topics: topics.collect(),
        }
    }

    /// Reads the stored form of any version up to ours.
    ///
    /// # Errors
    /// When the text is not a checkpoint, is newer than this release, or is another sink's.
    pub fn from_stored(text: &str, sink: &str) -> Result<Self, StoredCheckpointError> {
        let unreadable = |reason: String| StoredCheckpointError::Unreadable(reason);
        let version: serde_json::Value =
            serde_json::from_str(text).map_err(|e| unreadable(e.to_string()))?;
        let v = version["v"].as_u64().ok_or_else(|| unreadable("no version".into()))?;
        if v > u64::from(STORED_FORMAT_VERSION) {
            return Err(StoredCheckpointError::TooNew(u32::try_from(v).unwrap_or(u32::MAX)));
        }
        let stored: StoredCheckpoint =
            serde_json::from_value(version).map_err(|e| unreadable(e.to_string()))?;
        if stored.sink != sink {
            return Err(StoredCheckpointError::OtherSink {
                stored: stored.sink,
                ours: sink.into(),
            });
        }
        let mut checkpoint = Self::default();
        for (name, topic) in stored.topics {
            let mut progress = TopicProgress {
                id: topic.id,
                partition_count: topic.partitions,
                next: BTreeMap::new(),
            };
            for (partition, (offset, fingerprint)) in topic.next {
                let known_from = topic.known_from.get(&partition).copied().unwrap_or(offset);
                let partition = partition
                    .parse()
                    .map_err(|_| unreadable(format!("partition `{partition}`")))?;
                let fingerprint = fingerprint
                    .map(|hex| u64::from_str_radix(&hex, 16))
                    .transpose()
                    .map_err(|_| unreadable("fingerprint is not hex".into()))?;
                progress.next.insert(partition, NextOffset { offset, fingerprint, known_from });
            }
            checkpoint.topics.insert(name.into(), progress);
        }
        Ok(checkpoint)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn delta(ranges: &[(i32, i64, i64)]) -> CheckpointDelta {
        let mut delta = CheckpointDelta::default();
        for (partition, start, end) in ranges {
            delta.extend(&TopicPartition::new("t", *partition), *start, *end, None);
        }
        delta
    }

    #[test]
    fn a_delta_applies_only_where_the_checkpoint_stands() {
        let mut checkpoint = Checkpoint::default();
        assert_eq!(checkpoint.fit(&delta(&[(0, 0, 5)])), Fit::Applies);
        checkpoint.apply(&delta(&[(0, 0, 5)]));

        assert_eq!(checkpoint.fit(&delta(&[(0, 5, 9)])), Fit::Applies);
        assert_eq!(checkpoint.fit(&delta(&[(0, 0, 5)])), Fit::Covered);
        assert!(matches!(checkpoint.fit(&delta(&[(0, 3, 9)])), Fit::Overtaken { .. }));
        assert!(matches!(checkpoint.fit(&delta(&[(0, 7, 9)])), Fit::Overtaken { .. }));
    }

    #[test]
    fn an_empty_range_applies_only_where_nothing_has_moved() {
        let mut checkpoint = Checkpoint::default();
        checkpoint.apply(&delta(&[(0, 0, 5)]));
        assert_eq!(checkpoint.fit(&delta(&[(0, 5, 5)])), Fit::Applies);
        assert!(matches!(checkpoint.fit(&delta(&[(0, 4, 4)])), Fit::Overtaken { .. }));
        assert!(matches!(checkpoint.fit(&delta(&[(0, 6, 6)])), Fit::Overtaken { .. }));
    }

    #[test]
    fn a_partly_covered_delta_is_overtaken() {
        let mut checkpoint = Checkpoint::default();
        checkpoint.apply(&delta(&[(0, 0, 5)]));
        assert!(matches!(checkpoint.fit(&delta(&[(0, 0, 5), (1, 0, 3)])), Fit::Overtaken { .. }));
    }

    #[test]
    fn the_stored_form_reads_back_and_refuses_what_is_not_ours() {
        let mut checkpoint = Checkpoint::default();
        let mut moved = CheckpointDelta::default();
        moved.extend(&TopicPartition::new("a.b", 2), 0, i64::MAX, Some(u64::MAX));
        moved.extend(&TopicPartition::new("a.b", 3), 0, 9, None);
        moved.remember(|tp| (tp.partition == 2).then_some(7));
        checkpoint.apply(&moved);
        let text =
            serde_json::to_string(&checkpoint.to_stored("lakebed", Some("c"))).expect("json");

        assert_eq!(Checkpoint::from_stored(&text, "lakebed").expect("reads"), checkpoint);
        assert!(matches!(
            Checkpoint::from_stored(&text, "other"),
            Err(StoredCheckpointError::OtherSink { .. })
        ));
        let newer = text.replacen("\"v\":1", "\"v\":2", 1);
        assert!(matches!(
            Checkpoint::from_stored(&newer, "lakebed"),
            Err(StoredCheckpointError::TooNew(2))
        ));
    }
}
