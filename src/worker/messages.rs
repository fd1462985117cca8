//! What the pipeline and a worker say to each other.

use std::sync::Arc;

use lakebed_schemas::position::{Checkpoint, TopicPartition};
use tokio::sync::oneshot;

use crate::source::{Gap, GapDecision, Message, Starts, View};

/// What the pipeline asks of a worker.
pub enum Command {
    /// Partitions are ours: says where the table stands.
    Assign {
        /// Assigned now.
        partitions: Vec<TopicPartition>,
        /// Messages of older generations are dropped.
        generation: u64,
        /// To look at the cluster from the side.
        view: Arc<dyn View>,
        /// Where each begins for this table; those left out are not read for it.
        reply: oneshot::Sender<Starts>,
    },
    /// Partitions go away: commit what is open, or drop it, then acknowledge.
    Revoke {
        /// Leaving.
        partitions: Vec<TopicPartition>,
        /// Sent when nothing of them is open any more.
        ack: oneshot::Sender<()>,
    },
    /// Records of our topics, in order per topic-partition.
    Messages(Vec<Message>),
    /// Everything below `next_offset` has been read.
    EndOfPartition {
        /// Where.
        tp: TopicPartition,
        /// First offset not there yet, or not visible yet.
        next_offset: i64,
        /// Of the assignment.
        generation: u64,
    },
    /// A topic has so many partitions now.
    Partitions {
        /// Which.
        topic: Arc<str>,
        /// How many.
        count: usize,
    },
    /// The log does not go on where a table of the topic stands: what becomes of this one?
    Gap {
        /// What is wrong.
        gap: Gap,
        /// Whether this table reads on, at the first record that the log has.
        reply: oneshot::Sender<GapDecision>,
    },
    /// Commit what is open now.
    Flush,
    /// Memory is short, and nothing is read until some of it is free: commit what has been open for
    /// a while, though it may be neither full nor old enough.
    Relieve,
    /// Commit what is open and end.
    Drain,
}

/// What a worker tells the pipeline.
#[derive(Debug)]
pub enum Report {
    /// Both layers hold everything below this.
    Committed {
        /// Index of the worker.
        worker: usize,
        /// The lower of the layers, by topic-partition.
        checkpoint: Checkpoint,
        /// The layers by name, with their UUIDs: for the metadata of the group's offsets.
        tables: Vec<(String, String)>,
    },
    /// What the table keeps in memory between batches.
    Memory {
        /// Index of the worker.
        worker: usize,
        /// Bytes of the key index.
        index_bytes: usize,
        /// Keys in it.
        index_keys: usize,
        /// Bytes of the events that are remembered, to know those that come again.
        repeats_bytes: usize,
    },
    /// Nothing more is taken; other tables go on.
    Halted {
        /// Index of the worker.
        worker: usize,
        /// For people.
        reason: String,
        /// Whether a policy halted it (exit code 3) rather than a failure.
        by_policy: bool,
    },
    /// The batch was lost to another writer: read these again from the table's checkpoint.
    Rewind {
        /// Index of the worker.
        worker: usize,
        /// What to read again.
        partitions: Vec<TopicPartition>,
    },
    /// Bytes of messages that need no memory any more.
    Released {
        /// How many.
        bytes: usize,
    },
    /// A flush that was asked for is done, as far as it could be.
    Flushed {
        /// Index of the worker.
        worker: usize,
        /// Whether everything taken is committed.
        is_empty: bool,
    },
    /// The worker has ended.
    Drained {
        /// Index of the worker.
        worker: usize,
    },
}
