//! Rows in files, whatever the format: what a batch is, and the tables that take one.
//!
//! [`append`] is bronze: every row is new. [`upsert`] is silver: every row is looked up in the key
//! [`index`], its old position dies, or the file that holds it is written anew without it, and the
//! new row lands in a new file. Both stage durable files
//! first and then [`settle`] one [`crate::log::TableChange`]: commit, and on conflict or silence
//! find out what happened before anything else.

pub mod append;
pub mod arrow_values;
mod column_stats;
mod encoder;
mod evolve;
pub mod field_ids;
pub mod file_name;
pub(crate) mod footer;
mod grouping;
pub mod index;
pub(crate) mod partitions;
mod placeholders;
pub mod reader;
mod rewrite;
mod rolling;
pub mod settle;
mod staged;
mod sweep;
mod truncate;
pub mod upsert;
pub mod writer;

#[cfg(test)]
mod tests;

use std::collections::BTreeMap;
use std::sync::Arc;

use lakebed_schemas::column::TableSchema;
use lakebed_schemas::config::Mode;
use lakebed_schemas::position::{CheckpointDelta, TopicPartition};
use lakebed_schemas::value::Value;

pub use truncate::Truncated;

/// How a table is written.
#[derive(Debug, Clone, Default)]
pub struct WriteOptions {
    /// Data files.
    pub writer: writer::WriterOptions,
    /// Commits.
    pub settle: settle::SettleOptions,
    /// How old rows go from silver.
    pub mode: Mode,
}

/// Rows to add to bronze.
#[derive(Debug, Clone, Default)]
pub struct AppendBatch {
    /// Each row with its topic-partition; values in the order of the table's schema.
    pub rows: Vec<(TopicPartition, Vec<Value>)>,
    /// The offsets that the batch covers.
    pub delta: CheckpointDelta,
    /// Newest source commit time, microseconds.
    pub freshness: Option<i64>,
    /// What to keep with the table from this commit on: see [`crate::log::TableChange::memos`].
    pub memos: BTreeMap<String, String>,
}

/// What becomes of one key in silver: events of one batch, folded.
#[derive(Debug, Clone, PartialEq)]
pub struct KeyChange {
    /// Where its newest event came from: the file it lands in holds only such rows.
    pub topic_partition: TopicPartition,
    /// Key values in key order.
    pub key: Vec<Value>,
    /// The row after, in the order of the batch's schema; `None` deletes.
    ///
    /// [`Value::Unavailable`] keeps what the table's row of this key has (or of `inherit`, if set);
    /// where there is no such row the value becomes NULL and its column's name is added to
    /// `_cdc_incomplete`.
    pub row: Option<Vec<Value>>,
    /// Key whose row in the table, as it was before this batch, answers placeholders: the old key
    /// of a key change.
    pub inherit: Option<Vec<Value>>,
}

/// Changes to apply to silver: at most one per key.
#[derive(Debug, Clone, Default)]
pub struct UpsertBatch {
    /// Rows that go before the changes are applied, by topic: the source has truncated its table.
    pub truncated: BTreeMap<Arc<str>, Truncated>,
    /// Rows that go although no change names their keys.
    pub sweeps: Vec<Sweep>,
    /// The schema that the rows are in: the table's, or its successor with new columns (id 0).
    pub schema: TableSchema,
    /// In no order that matters.
    pub changes: Vec<KeyChange>,
    /// The offsets that the batch covers.
    pub delta: CheckpointDelta,
    /// Newest source commit time, microseconds.
    pub freshness: Option<i64>,
    /// What to keep with the table from this commit on: see [`crate::log::TableChange::memos`].
    pub memos: BTreeMap<String, String>,
}

/// Rows of one topic-partition that were last written below an offset: what a whole snapshot that
/// began there did not find again.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Sweep {
    /// Where the snapshot was read, all of it.
    pub topic_partition: TopicPartition,
    /// Offset of its first record.
    pub below: i64,
}

/// What became of a batch.
#[derive(Debug, Clone, PartialEq, Eq)]
#[must_use]
pub enum Written {
    /// It is in, by this attempt or by an earlier one of ours.
    Committed {
        /// The version that holds it.
        version: i64,
        /// Counts for metrics.
        stats: WriteStats,
    },
    /// Another writer has moved the offsets that the batch starts from: drop it and go on from the
    /// table's checkpoint.
    Overtaken,
}

/// Counts of one written batch.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct WriteStats {
    /// Rows written to data files.
    pub rows: u64,
    /// Rows that replaced an older one.
    pub updated: u64,
    /// Keys deleted, and rows that went with a truncate.
    pub deleted: u64,
    /// Values that no row could answer: see `_cdc_incomplete`.
    pub incomplete: u64,
    /// Rows that a sweep took, those of the batch itself included.
    pub swept: u64,
    /// Rows that were in the table and have been written again, by copy-on-write.
    pub copied: u64,
    /// Data files written.
    pub files: u64,
    /// Bytes of data files.
    pub bytes: u64,
    /// Commits tried: 1 or more, or 0 where the table held the batch already.
    pub attempts: u32,
    /// Those of them whose outcome had to be found out, because there was no trustworthy answer.
    pub unanswered: u32,
}
