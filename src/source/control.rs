//! What the other threads ask of the poll thread, which alone touches the consumer.

use lakebed_schemas::position::TopicPartition;

use super::GroupOffset;

/// What the poll thread is asked.
pub(super) enum Control {
    /// Subscribe to these.
    Topics(Vec<String>),
    /// Tell the group.
    Commit(Vec<GroupOffset>),
    /// Read again.
    Rewind(Vec<TopicPartition>),
    /// The log's ends have been looked up: is there one that lies behind what was told?
    LookAtEnds,
    /// Leave.
    Close,
}
