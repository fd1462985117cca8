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
use super::kafka::to_message;
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

    /// The next offset if nothing visible lies between `position` and the end; `None` if something
    /// does, or if that cannot be told now.
    pub(super) fn drained_at(&self, tp: &TopicPartition, position: i64) -> Option<i64> {
        let (low, high) = self.bounds(tp).ok()?;
        let position = position.max(low);
        if position >= high {
            return Some(position);
        }
        match self.first_from(tp, position) {
            Seen::End => Some(high),
            Seen::Record(_) | Seen::Nothing => None,
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

enum Seen {
    Record(Box<Message>),
    End,
    Nothing,
}

/// Everything known of several partitions' bounds, for a caller that only wants to show lag.
///
/// # Errors
/// When a broker does not answer.
pub fn end_offsets(
    client: &BaseConsumer,
    partitions: impl IntoIterator<Item = TopicPartition>,
) -> Result<BTreeMap<TopicPartition, i64>, String> {
    partitions
        .into_iter()
        .map(|tp| {
            let (_, high) = client
                .fetch_watermarks(&tp.topic, tp.partition, LOOKUP)
                .map_err(|error| format!("{tp}: {error}"))?;
            Ok((tp, high))
        })
        .collect()
}
