//! The seam between rows and table formats: what a table's log must do.
//!
//! A log makes data files, row-level deletes, a schema change and progress visible together, or
//! none of them. It never retries a commit by itself and never deletes on the commit path.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use async_trait::async_trait;
use lakebed_schemas::column::TableSchema;
use lakebed_schemas::config::Mode;
use lakebed_schemas::position::{Checkpoint, CheckpointDelta, TopicPartition};
use lakebed_schemas::value::Value;
use roaring::RoaringBitmap;
use uuid::Uuid;

use crate::Result;
use crate::catalog::Entry;
use crate::storage::Storage;

/// Smallest, largest and missing values of one column in one file.
#[derive(Debug, Clone, PartialEq)]
pub struct ColumnStats {
    /// Index of the column in the schema that the file was written with.
    pub column: usize,
    /// Rows in which it is null.
    pub null_count: u64,
    /// Smallest value; `None` for all-null, nested, and where no exact bound is kept.
    pub min: Option<Value>,
    /// Largest value, likewise.
    pub max: Option<Value>,
    /// Compressed bytes of the column chunk(s).
    pub bytes: u64,
}

/// A Parquet file of rows, durable in storage; visible once committed.
#[derive(Debug, Clone, PartialEq)]
pub struct DataFile {
    /// Relative to the table's location, `/`-separated, no leading slash.
    pub path: String,
    /// Bytes.
    pub size: u64,
    /// Rows; positions are `0..rows`.
    pub rows: u64,
    /// The one topic-partition whose rows it holds. Also told by its name: see
    /// [`crate::table::file_name`].
    pub topic_partition: TopicPartition,
    /// Its rows' partition values, one for each of the table's partition fields, as
    /// [`lakebed_schemas::partition::Transform::apply`] gives them, or as the column of the field's
    /// name holds them if there is one. Empty in an unpartitioned table, and for a file that was
    /// written when the table was partitioned otherwise.
    pub partition: Vec<Value>,
    /// Statistics by column; empty for a file read back from a log that need not keep them.
    pub stats: Vec<ColumnStats>,
    /// Byte offsets at which its row groups start.
    pub split_offsets: Vec<i64>,
}

/// A live file and its dead rows.
#[derive(Debug, Clone)]
pub struct LiveFile {
    /// The file.
    pub file: Arc<DataFile>,
    /// Positions of its deleted rows.
    pub deleted: RoaringBitmap,
}

/// The newest version of a table, as far as we have seen.
#[derive(Debug, Clone)]
pub struct Head {
    /// Iceberg: sequence number of the metadata file (`v<N>`); Delta: log version.
    pub version: i64,
    /// The table's UUID.
    pub uuid: Uuid,
    /// Its columns, with field ids.
    pub schema: TableSchema,
    /// Its progress.
    pub checkpoint: Checkpoint,
    /// Newest source commit time among the applied events, microseconds.
    pub freshness: Option<i64>,
    /// What the writers keep with the table beside rows and progress: see [`TableChange::memos`].
    pub memos: BTreeMap<String, String>,
    /// Its live files by path.
    pub files: BTreeMap<String, LiveFile>,
}

impl Head {
    /// Rows that a reader sees.
    pub fn live_rows(&self) -> u64 {
        self.files.values().map(|live| live.file.rows - live.deleted.len()).sum()
    }
}

/// What one commit changes, all at once.
#[derive(Debug, Clone)]
pub struct TableChange {
    /// By which the commit is recognised afterwards, whatever answer we got.
    pub commit_id: Uuid,
    /// Moves the table's progress on. Applies only where [`Checkpoint::fit`] says so; the log
    /// checks that on the head it commits to.
    pub delta: CheckpointDelta,
    /// New files, durable already.
    pub added: Vec<Arc<DataFile>>,
    /// Newly dead positions by path of a live file; disjoint from what is dead there already.
    pub deleted: BTreeMap<String, RoaringBitmap>,
    /// Live files that leave whole, by path, with the rows that are dead in them; none of those
    /// that `deleted` names.
    pub removed: BTreeSet<String>,
    /// The schema after the change, if it differs. New columns have ids already, those that
    /// [`TableLog::assign_ids`] gave on the head that the change is for: `added` was written with them.
    pub schema: Option<TableSchema>,
    /// Newest source commit time in the batch, microseconds.
    pub freshness: Option<i64>,
    /// Owner and cause, for people: goes into the commit's own metadata.
    pub notes: BTreeMap<String, String>,
    /// What the writers must know again after a restart, by name: small texts in the table's
    /// properties, from this version on. An empty text takes the name away. One writer for each
    /// name: the last one counts.
    pub memos: BTreeMap<String, String>,
}

impl TableChange {
    /// Whether the files that leave are there to leave; says what is wrong.
    pub(crate) fn check_removed(&self, head: &Head) -> std::result::Result<(), String> {
        for path in &self.removed {
            if !head.files.contains_key(path) {
                return Err(format!("`{path}` is to leave and is not a live file"));
            }
            if self.deleted.contains_key(path) {
                return Err(format!("`{path}` is to leave and to lose rows"));
            }
        }
        Ok(())
    }
}

/// What became of one commit attempt.
#[derive(Debug, Clone, PartialEq, Eq)]
#[must_use]
pub enum CommitOutcome {
    /// It is in; [`TableLog::head`] shows it.
    Committed {
        /// The table version it made.
        version: i64,
    },
    /// Somebody else took the version: nothing of ours is visible. Refresh, then decide.
    Conflict,
    /// No answer, or none that can be trusted. It may be in: refresh and look for the commit id.
    Unknown {
        /// For the log.
        reason: String,
    },
}

/// What maintenance did.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct MaintenanceReport {
    /// Objects deleted.
    pub deleted: u64,
    /// Log checkpoint written, if one was due (Delta).
    pub log_checkpoint: Option<i64>,
}

/// How much history a table keeps.
#[derive(Debug, Clone, PartialEq)]
pub struct Retention {
    /// Table versions that stay readable by time travel (Iceberg: snapshots in the metadata;
    /// Delta: log files), at least this many.
    pub versions_min: usize,
    /// Nothing younger is deleted from storage, whatever its version.
    pub age_min: std::time::Duration,
}

impl Default for Retention {
    /// 100 versions and 24 hours: a writer thawed from sleep must still find the version that it
    /// would otherwise create in the past (design, commit protocol).
    fn default() -> Self {
        Self { versions_min: 100, age_min: std::time::Duration::from_secs(24 * 3600) }
    }
}

/// Before the name of each memo in a table's properties.
pub(crate) const MEMO: &str = "lakebed.memo.";

/// The memos among a table's properties.
pub(crate) fn memos_among<'a>(
    properties: impl Iterator<Item = (&'a String, &'a String)>,
) -> BTreeMap<String, String> {
    let memo = |(name, text): (&String, &String)| {
        Some((name.strip_prefix(MEMO)?.to_owned(), text.clone()))
    };
    properties.filter_map(memo).collect()
}

/// The memos of a table after a change.
pub(crate) fn apply_memos(memos: &mut BTreeMap<String, String>, change: &TableChange) {
    for (name, text) in &change.memos {
        match text.is_empty() {
            true => drop(memos.remove(name)),
            false => drop(memos.insert(name.clone(), text.clone())),
        }
    }
}

/// Whose table it is and how it is kept: the same for every format.
#[derive(Debug, Clone)]
pub struct TableOptions {
    /// Whose progress it is, inside the table.
    pub sink_id: String,
    /// The Kafka cluster's id, if known.
    pub cluster: Option<String>,
    /// Names the writing process in each commit.
    pub owner: String,
    /// How much history stays.
    pub retention: Retention,
    /// Where readers look the table up.
    pub catalog: Entry,
    /// How rows go from it: what a new Delta table asks of its readers.
    pub mode: Mode,
}

/// The log of one table in one format.
///
/// Implementations keep the head in memory; a commit reads from storage only what it must to be
/// sure that the head is still the newest (O(1) requests), and its cost does not grow with the
/// table. All calls come from one task, in order.
#[async_trait]
pub trait TableLog: Send + Sync {
    /// The newest version seen by `open`, `refresh` or `commit`.
    fn head(&self) -> &Head;

    /// The place that its files lie at, and that [`DataFile::path`] goes from. Not always where the
    /// table was looked for: a catalog may choose another.
    fn storage(&self) -> &Storage;

    /// Refuses a table that takes no rows of ours, whatever they are, so that it is said before
    /// there are any.
    ///
    /// # Errors
    /// `Invalid`, naming what about the table is in the way.
    fn check_writable(&self) -> Result<()> {
        Ok(())
    }

    /// Makes the head equal to the newest version in storage; says whether it moved.
    ///
    /// # Errors
    /// When storage does not answer, or holds what this release must not touch.
    async fn refresh(&mut self) -> Result<bool>;

    /// `schema` with ids for its new columns, whose ids are 0: the ids they will have if they are
    /// committed on the current head. A log that knows of ids once used by columns that are gone
    /// passes over them.
    fn assign_ids(&self, schema: &TableSchema) -> TableSchema {
        crate::table::field_ids::assign(&self.head().schema, schema, 0)
    }

    /// Tries once to make `change` visible on top of the current head.
    ///
    /// Refuses, as an error of kind `Invalid`, a delta that does not fit the head's checkpoint and
    /// a file to leave or to lose rows that is not live: callers settle those first. An error means that
    /// nothing became visible; whatever may have is `Unknown`.
    ///
    /// # Errors
    /// As above, and when storage refuses before the commit point.
    async fn commit(&mut self, change: &TableChange) -> Result<CommitOutcome>;

    /// Whether a commit with this id is in the table's history, as far as history is kept.
    ///
    /// # Errors
    /// When storage does not answer.
    async fn find_commit(&mut self, commit_id: Uuid) -> Result<Option<i64>>;

    /// Deletes what no kept version needs, writes log checkpoints. Off the commit path; bounded
    /// work for each call; an error harms nothing.
    ///
    /// # Errors
    /// When storage does not answer.
    async fn maintain(&mut self) -> Result<MaintenanceReport>;
}
