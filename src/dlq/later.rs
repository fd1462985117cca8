//! What came after records whose rows are not there: a row that such a record made and another took
//! is gone for good.
//!
//! Within a partition the order of the records says what came after. Across partitions, where a
//! topic was truncated or a key has moved because partitions were added, the source's positions do,
//! and where these do not tell, the times of the records. In doubt the row stays away.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use lakebed_schemas::change_event::Decoded;
use lakebed_schemas::position::TopicPartition;
use lakebed_schemas::source_order::is_before;

use crate::source::Message;

/// When a record was made.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Moment {
    position: Option<String>,
    timestamp_ms: Option<i64>,
}

impl Moment {
    /// Of a record that is understood.
    pub(super) fn of(message: &Message, decoded: &Decoded) -> Self {
        let position = match decoded {
            Decoded::Change(event) => event.source.position.clone(),
            _ => None,
        };
        Self::at(message, position)
    }

    /// Of a record at a place of the source's log.
    pub(super) fn at(message: &Message, position: Option<String>) -> Self {
        Self { position, timestamp_ms: message.timestamp_ms }
    }

    /// Whether this came after another, or may have.
    fn is_after(&self, other: &Self) -> bool {
        let by_source = self.position.as_deref().zip(other.position.as_deref());
        let by_source = by_source.and_then(|(ours, theirs)| {
            // A row that a snapshot read compares in one direction only.
            is_before(theirs, ours).or_else(|| is_before(ours, theirs).map(|before| !before))
        });
        by_source.unwrap_or_else(|| {
            let times = self.timestamp_ms.zip(other.timestamp_ms);
            times.is_none_or(|(ours, theirs)| ours >= theirs)
        })
    }
}

/// The last record of something in each partition of a topic.
#[derive(Debug, Clone, Default)]
struct Last(BTreeMap<i32, (i64, Moment)>);

impl Last {
    fn see(&mut self, partition: i32, offset: i64, moment: Moment) {
        let last = self.0.entry(partition).or_insert((i64::MIN, Moment::default()));
        if last.0 < offset {
            *last = (offset, moment);
        }
    }

    /// Whether one of them came after a record.
    fn is_after(&self, message: &Message, made: &Moment) -> bool {
        self.0.iter().any(|(partition, (offset, moment))| {
            match *partition == message.tp.partition {
                true => *offset > message.offset,
                false => moment.is_after(made),
            }
        })
    }
}

/// Records that take rows away.
#[derive(Debug, Default)]
pub(super) struct Later {
    keys: HashMap<(Arc<str>, u128), Last>,
    truncates: HashMap<Arc<str>, Last>,
}

impl Later {
    /// A record of this key was read: what its row was before is no more.
    pub(super) fn see_key(&mut self, message: &Message, key: u128, moment: Moment) {
        let TopicPartition { topic, partition } = &message.tp;
        let last = self.keys.entry((topic.clone(), key)).or_default();
        last.see(*partition, message.offset, moment);
    }

    /// A topic was truncated.
    pub(super) fn see_truncate(&mut self, message: &Message, moment: Moment) {
        let TopicPartition { topic, partition } = &message.tp;
        let last = self.truncates.entry(topic.clone()).or_default();
        last.see(*partition, message.offset, moment);
    }

    /// Whether the row that a record makes, under this key, was taken later.
    pub(super) fn takes(&self, message: &Message, key: u128, made: &Moment) -> bool {
        let topic = &message.tp.topic;
        let is_after = |last: &Last| last.is_after(message, made);
        self.keys.get(&(topic.clone(), key)).is_some_and(is_after)
            || self.truncates.get(topic).is_some_and(is_after)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn message(partition: i32, offset: i64, timestamp_ms: i64) -> Message {
        Message {
            tp: TopicPartition::new("t", partition),
            offset,
            timestamp_ms: Some(timestamp_ms),
            key: None,
            value: None,
            headers: Vec::new(),
            generation: 0,
        }
    }

    fn position(lane: u8, lsn: u64) -> Option<String> {
        Some(format!("00000000{lane:02x}{lsn:016x}{lsn:016x}01"))
    }

    #[test]
    fn a_record_of_the_partition_comes_after_by_its_offset() {
        let mut later = Later::default();
        later.see_key(&message(0, 5, 1), 7, Moment::default());
        later.see_key(&message(0, 3, 9), 7, Moment::default());
        let takes = |offset, key| later.takes(&message(0, offset, 50), key, &Moment::default());
        assert!(takes(4, 7) && !takes(5, 7) && !takes(4, 8));
    }

    #[test]
    fn one_of_another_partition_by_its_place_or_else_its_time() {
        let mut later = Later::default();
        let truncate = message(0, 5, 100);
        later.see_truncate(&truncate, Moment::at(&truncate, position(1, 50)));
        let takes = |time, position| {
            let record = message(1, 9, time);
            later.takes(&record, 7, &Moment::at(&record, position))
        };
        assert!(takes(500, position(1, 40)) && !takes(1, position(1, 60)));
        assert!(takes(500, position(0, 40)), "a snapshot that began before it");
        assert!(takes(99, None) && !takes(101, None));
        assert!(takes(100, None), "in doubt the row stays away");
    }
}
