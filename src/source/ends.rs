//! Looks into the log from the side: where partitions begin and end, and single records.
//!
//! The consumer tells that *some* partition of a number has ended, but neither its topic nor whether
//! what lies between our position and the end are only transaction markers. A client of its own,
//! in no group, answers that without disturbing the consumer.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use lakebed_schemas::position::{NextOffset, TopicPartition};
use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::error::KafkaError;
use rdkafka::{Message as _, Offset, TopicPartitionList};

use super::client::LOOKUP;
use super::record::to_message;
use super::{GapKind, Message};

/// How long to wait for a record that should be there.
const RECORD: Duration = Duration::from_secs(5);

/// The side client.
pub(super) struct Lookup {
    client: BaseConsumer,
}

impl Lookup {
    pub(super) fn new(client: BaseConsumer) -> Self {
        Self { client }
    }

    pub(super) fn client(&self) -> &BaseConsumer {
        &self.client
    }

    /// First and next offset of the log.
    pub(super) fn bounds(&self, tp: &TopicPartition) -> Result<(i64, i64), String> {
        self.client.fetch_watermarks(&tp.topic, tp.partition, LOOKUP).map_err(|error| {
            format!("{tp}: could not look up where the log begins and ends: {error}")
        })
    }

    /// Whether something visible lies between `position` and the end.
    pub(super) fn drained_at(&self, tp: &TopicPartition, position: i64) -> Drained {
        let Ok((low, high)) = self.bounds(tp) else { return Drained::Unknown };
        if position < low {
            // Retention has overtaken us: what lay there has not been read, and the consumer will
            // say so.
            return Drained::No;
        }
        if position >= high {
            return Drained::Yes(position);
        }
        match self.first_from(tp, position) {
            Seen::End => Drained::Yes(high),
            Seen::Record(_) => Drained::No,
            Seen::Nothing => Drained::Unknown,
        }
    }

    /// Where the log does not continue what is stored, and how.
    pub(super) fn gap(
        &self,
        tp: &TopicPartition,
        stored: NextOffset,
    ) -> Result<Option<(GapKind, i64, i64)>, String> {
        let (low, high) = self.bounds(tp)?;
        let kind = if stored.offset < low {
            Some(GapKind::BehindRetention)
        } else if stored.offset > high {
            Some(GapKind::BeyondEnd)
        } else {
            match stored.fingerprint {
                Some(expected)
                    if stored.offset > low && self.differs(tp, stored.offset - 1, expected) =>
                {
                    Some(GapKind::FingerprintDiffers)
                }
                _ => None,
            }
        };
        Ok(kind.map(|kind| (kind, low, high)))
    }

    /// Whether the record at an offset is there and another one. One that compaction has removed
    /// proves nothing.
    fn differs(&self, tp: &TopicPartition, offset: i64, expected: u64) -> bool {
        match self.first_from(tp, offset) {
            Seen::Record(message) => message.offset == offset && message.fingerprint() != expected,
            Seen::End | Seen::Nothing => false,
        }
    }

    fn first_from(&self, tp: &TopicPartition, offset: i64) -> Seen {
        let mut one = TopicPartitionList::new();
        let placed = one.add_partition_offset(&tp.topic, tp.partition, Offset::Offset(offset));
        if placed.is_err() || self.client.assign(&one).is_err() {
            return Seen::Nothing;
        }
        let seen = self.poll_first();
        let _ = self.client.assign(&TopicPartitionList::new());
        seen
    }

    fn poll_first(&self) -> Seen {
        let deadline = Instant::now() + RECORD;
        while Instant::now() < deadline {
            match self.client.poll(Duration::from_millis(100)) {
                Some(Ok(record)) => {
                    let tp = TopicPartition::new(record.topic(), record.partition());
                    return Seen::Record(Box::new(to_message(&record, tp, 0)));
                }
                Some(Err(KafkaError::PartitionEOF(_))) => return Seen::End,
                Some(Err(_)) | None => {}
            }
        }
        Seen::Nothing
    }
}

/// Whether a partition ends at a position.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Drained {
    /// It does; the next offset.
    Yes(i64),
    /// There are records to read.
    No,
    /// That could not be told now.
    Unknown,
}

enum Seen {
    Record(Box<Message>),
    End,
    Nothing,
}

/// First and next offset of the log of several partitions; those that no broker answers for are
/// left out.
pub(super) fn bounds_of(
    client: &BaseConsumer,
    partitions: impl IntoIterator<Item = TopicPartition>,
) -> BTreeMap<TopicPartition, (i64, i64)> {
    let bounds = partitions.into_iter().filter_map(|tp| {
        let bounds = client.fetch_watermarks(&tp.topic, tp.partition, LOOKUP).ok()?;
        Some((tp, bounds))
    });
    bounds.collect()
}
