//! What the tests of a worker's parts begin with.

use lakebed_schemas::change_event::{ChangeEvent, Op, SourceInfo};
use lakebed_schemas::position::TopicPartition;

/// The partition that is read.
pub(super) fn tp() -> TopicPartition {
    TopicPartition::new("t", 0)
}

/// An event of which nothing else is told.
pub(super) fn event(op: Op, source: SourceInfo) -> ChangeEvent {
    ChangeEvent {
        op,
        key: None,
        before: None,
        after: None,
        old_key: None,
        source,
        event_ts_us: None,
        before_json: None,
        after_json: None,
        source_json: None,
        schema_hash: None,
    }
}
