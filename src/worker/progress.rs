//! How far one layer of a table has got with the open batch.

use std::collections::BTreeMap;

use lakebed_schemas::position::{CheckpointDelta, TopicPartition};

/// How far one layer has got in this batch.
#[derive(Default)]
pub(super) struct Progress {
    /// Next offset in the table, by topic-partition; absent where it has none.
    pub(super) stored: BTreeMap<TopicPartition, i64>,
    /// What the batch covers.
    pub(super) delta: CheckpointDelta,
}

impl Progress {
    /// Whether a record lies beyond what the layer holds and what the batch has taken.
    pub(super) fn wants(&self, tp: &TopicPartition, offset: i64) -> bool {
        let taken = self.delta.ranges.get(tp).map(|range| range.end);
        taken.or(self.stored.get(tp).copied()).is_none_or(|next| offset >= next)
    }

    /// Takes the record at `offset`.
    pub(super) fn extend(
        &mut self,
        tp: &TopicPartition,
        offset: i64,
        next: i64,
        fingerprint: Option<u64>,
    ) {
        let start = self.stored.get(tp).copied().unwrap_or(offset);
        self.delta.extend(tp, start, next, fingerprint);
    }

    /// Moves on without a record: markers and compacted stretches hold none.
    pub(super) fn reach(&mut self, tp: &TopicPartition, next: i64) {
        let range = self.delta.ranges.get(tp).copied();
        // A log whose records were all gone, or never visible, has been read as well.
        let at = range.map(|range| range.end).or(self.stored.get(tp).copied()).unwrap_or(0);
        if next > at {
            let fingerprint = range.and_then(|range| range.fingerprint);
            self.extend(tp, at, next, fingerprint);
        }
    }
}
