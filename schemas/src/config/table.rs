//! One entry of `tables`: which topics, and how they become a table.

use std::collections::BTreeMap;

use serde::Deserialize;

use super::{BadRecords, Batch, LayersSetting, Limits, Mask, Reader, Records, TableFormat};

/// One entry of `tables`.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Table {
    /// One topic.
    pub topic: Option<String>,
    /// Several topics.
    pub topics: Option<Vec<String>>,
    /// Every topic that this regular expression matches as a whole.
    pub topic_pattern: Option<String>,
    /// Debezium's `topic.prefix`, where it has more than one segment: left out of default names.
    pub topic_prefix: Option<String>,
    /// Name of the table; may use captures of the pattern (`$1`, `${table}`).
    pub name: Option<String>,
    /// Key columns, by the source's names; the fields of the record key without.
    pub key: Option<Vec<String>>,
    /// What a delete does.
    #[serde(default)]
    pub deletes: Deletes,
    /// How rows go; by the readers without.
    pub mode: Option<Mode>,
    /// Overrides `lake.readers`.
    pub readers: Option<Vec<Reader>>,
    /// What the silver table is partitioned by: columns, or transforms of columns.
    #[serde(default)]
    pub partition_by: Vec<String>,
    /// What columns are, where records carry no schema; which to leave out or mask.
    #[serde(default)]
    pub columns: BTreeMap<String, ColumnRule>,
    /// Where to begin in a topic of which the table knows nothing.
    #[serde(default)]
    pub start: Start,
    /// What to do when records are gone before they were read.
    #[serde(default)]
    pub on_gap: OnGap,
    /// What to do when the consumer group was told of a table that is not there any more.
    #[serde(default)]
    pub on_lost_table: OnLostTable,
    /// How many events of a partition are remembered, to know those that the source sends again.
    pub repeat_window: Option<u32>,
    /// Raised by an operator when positions of the source begin anew.
    #[serde(default)]
    pub epoch: u32,
    /// Whether rows go that a whole snapshot of the source did not find again.
    #[serde(default)]
    pub sweep_ghosts: bool,
    /// What to do when the source's table was truncated.
    #[serde(default)]
    pub on_truncate: OnTruncate,
    /// What to do with values that the column's type cannot hold.
    #[serde(default)]
    pub out_of_range: OutOfRange,
    /// Overrides `lake.format`.
    pub format: Option<TableFormat>,
    /// Overrides `records`.
    pub records: Option<Records>,
    /// Overrides `batch`, key by key.
    pub batch: Option<Batch>,
    /// Overrides `bad_records`.
    pub bad_records: Option<BadRecords>,
    /// Overrides `limits`, key by key.
    pub limits: Option<Limits>,
    /// Overrides `lake.bronze` and `lake.silver`.
    pub layers: Option<LayersSetting>,
}

/// What a delete of the source does to the silver row.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Deletes {
    /// The row goes.
    #[default]
    Hard,
    /// The row stays and is marked.
    Soft,
}

/// How rows go from silver.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Mode {
    /// They are marked dead where they are: position deletes or deletion vectors.
    #[default]
    MergeOnRead,
    /// Files that hold them are written anew without them.
    CopyOnWrite,
}

/// Where to begin in a topic of which the table knows nothing.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Start {
    /// At the first record that the topic still has.
    #[default]
    Earliest,
    /// After the last record.
    Latest,
}

/// What to do when records were deleted by retention before they were read.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum OnGap {
    /// The table halts.
    #[default]
    Halt,
    /// The gap is written down and passed.
    Record,
}

/// What to do when the consumer group was told of a table that is not there any more.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum OnLostTable {
    /// The table halts: it was dropped, or the lake or the sink id is the wrong one.
    #[default]
    Halt,
    /// A new table begins where `start` says.
    Start,
}

/// What to do when the source's table was truncated.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum OnTruncate {
    /// All rows go, if the topic has one partition; with more the table halts, for the event comes
    /// in one of them only.
    #[default]
    Apply,
    /// The rows stay.
    Ignore,
    /// The table halts.
    Halt,
}

/// What to do with values that the column's type cannot hold.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum OutOfRange {
    /// The table halts.
    #[default]
    Halt,
    /// The value becomes NULL, counted.
    Null,
    /// The column becomes text.
    Text,
}

/// One entry of a table's `columns`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ColumnRule {
    /// Type of the column: `decimal(12,2)`, `timestamptz`, …
    #[serde(rename = "type")]
    pub column_type: Option<String>,
    /// What a number counts, in place of `encoding`: `ms`, `us`, `days`, …
    pub unit: Option<String>,
    /// How it stands in the record: `base64`, …
    pub encoding: Option<String>,
    /// Leave the column out.
    #[serde(default)]
    pub exclude: bool,
    /// Replace its values.
    #[serde(default, deserialize_with = "super::hidden::mask")]
    pub mask: Option<Mask>,
}
