//! The configuration file as it is written, and what it comes to.
//!
//! The types here mirror the YAML: unknown keys are refused, defaults are the constants below.
//! [`Config::resolve`] checks the whole, reports every problem at once, and gives the
//! [`ResolvedConfig`] that the service runs on. Reading files and resolving references to secrets
//! is done elsewhere: nothing here does I/O.

mod catalog;
mod hidden;
mod kafka;
mod lake;
mod librdkafka;
mod limits;
mod naming;
mod not_yet;
mod partitioned;
mod readers;
mod records;
mod resolve;
mod scalar;
mod service;
mod table;
mod validate;

use std::time::Duration;

use serde::Deserialize;

pub use catalog::{Catalog, CatalogKind, DeltaColumns, OAuth2};
pub use hidden::{Mask, MaskingSetting};
pub use kafka::{Connect, Kafka, Mechanism, Protocol, Security};
pub use lake::{Lake, LayerSetting, LayersSetting, Reader, S3, S3Encryption, TableFormat};
pub use librdkafka::OWNED_PROPERTIES;
pub use limits::{Limits, NEW_COLUMNS_PER_HOUR, ResolvedLimits};
pub use naming::{NameRule, Routed, Topics, is_internal_topic};
pub use readers::{ModeChoice, Takes, dead_rows_of};
pub use records::{
    IdForm, IdSpace, RecordFormat, Records, Registry, RegistryKind, apicurio_version,
};
pub use resolve::{
    Layers, ResolvedBatch, ResolvedConfig, ResolvedLake, ResolvedRecords, ResolvedTable, TablePath,
};
pub use scalar::{ByteSize, Interval, Properties, Secret};
pub use service::{BadRecords, Batch, Http, Maintenance, Memory};
pub use table::{
    ColumnRule, Deletes, Mode, OnGap, OnLostTable, OnTruncate, OutOfRange, Start, Table,
};

/// Consumer group when `kafka.group_id` is not given.
pub const GROUP_ID: &str = "lakebed";
/// How long producers may not know that a topic has more partitions, when
/// `kafka.producer_metadata_age` is not given: Kafka's own default.
pub const PRODUCER_METADATA_AGE: Duration = Duration::from_secs(300);
/// Owner of the progress inside the tables when `lake.sink_id` is not given. Never the group id:
/// that may change, the tables' progress must not be lost with it.
pub const SINK_ID: &str = "lakebed";
/// Events of a partition that are remembered: more than a connector's queue (8192 by default) and a
/// minute of most sources.
pub const REPEAT_WINDOW: u32 = 50_000;
/// Database of the append-only tables when `lake.bronze` is not given.
pub const BRONZE_DATABASE: &str = "bronze";
/// Database of the current rows when `lake.silver` is not given.
pub const SILVER_DATABASE: &str = "silver";
/// A batch is flushed at this age: the freshness people expect without asking, at a number of
/// commits a day (8 640) that metadata upkeep carries easily.
pub const BATCH_AGE_MAX: Duration = Duration::from_secs(10);
/// A batch is flushed at this many rows: keeps one commit's key look-ups well under a second.
pub const BATCH_ROWS_MAX: u64 = 100_000;
/// A batch is flushed at this many bytes in memory: bounds a burst before back-pressure reacts.
pub const BATCH_BYTES_MAX: u64 = 64 << 20;
/// A batch of a copy-on-write table is flushed at this age: every commit writes whole files anew, so
/// the fewer there are the less is written.
pub const REWRITE_AGE_MAX: Duration = Duration::from_secs(300);
/// A batch of a copy-on-write table is flushed at this many rows.
pub const REWRITE_ROWS_MAX: u64 = 1_000_000;
/// A batch of a copy-on-write table is flushed at this part of `memory.max`, or at
/// [`BATCH_BYTES_MAX`] if that is more.
pub const REWRITE_MEMORY_SHARE: u64 = 4;
/// All buffers, queues and the key index together stay below this.
pub const MEMORY_MAX: u64 = 1 << 30;
/// Where health and metrics are served: this machine only.
pub const HTTP_LISTEN: &str = "127.0.0.1:9464";
/// Table versions kept for readers and for writers that were asleep.
pub const VERSIONS_MIN: usize = 100;
/// Age below which nothing is deleted, whatever its version.
pub const AGE_MIN: Duration = Duration::from_secs(24 * 3600);

/// One thing that is wrong with a configuration.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Problem {
    /// Where, as keys and indexes: `tables[2].key`. Empty for the whole file.
    pub path: String,
    /// What is wrong.
    pub message: String,
    /// What to do about it.
    pub next_move: String,
}

impl Problem {
    /// A problem at `path`.
    pub fn new(
        path: impl Into<String>,
        message: impl Into<String>,
        next_move: impl Into<String>,
    ) -> Self {
        Self { path: path.into(), message: message.into(), next_move: next_move.into() }
    }
}

impl std::fmt::Display for Problem {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        if !self.path.is_empty() {
            write!(f, "`{}`: ", self.path)?;
        }
        write!(f, "{}; {}", self.message, self.next_move)
    }
}

/// The whole file.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Config {
    /// Where records come from.
    pub kafka: Kafka,
    /// How topics are encoded.
    #[serde(default)]
    pub records: Records,
    /// Where tables go.
    pub lake: Lake,
    /// Which topics become which tables.
    #[serde(default)]
    pub tables: Vec<Table>,
    /// When a batch is flushed.
    #[serde(default)]
    pub batch: Batch,
    /// What to do with records that cannot be understood.
    #[serde(default)]
    pub bad_records: BadRecords,
    /// Bounds of what is taken for a record.
    #[serde(default)]
    pub limits: Limits,
    /// The key of masked columns.
    #[serde(default)]
    pub masking: MaskingSetting,
    /// Bounds of memory.
    #[serde(default)]
    pub memory: Memory,
    /// Upkeep of the tables.
    #[serde(default)]
    pub maintenance: Maintenance,
    /// Health and metrics.
    #[serde(default)]
    pub http: Http,
}
