//! What a configuration comes to: defaults filled in, overrides applied, everything checked.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use super::{
    AGE_MIN, BATCH_AGE_MAX, BATCH_BYTES_MAX, BATCH_ROWS_MAX, BadRecords, Batch, Catalog, Config,
    Deletes, Http, Kafka, LayerSetting, Limits, MEMORY_MAX, Mode, ModeChoice, NameRule, OnGap,
    OnLostTable, OnTruncate, OutOfRange, Problem, REWRITE_AGE_MAX, REWRITE_MEMORY_SHARE,
    REWRITE_ROWS_MAX, Reader, Registry, ResolvedLimits, S3, Start, Table, TableFormat, Topics,
    VERSIONS_MIN, hidden, naming, not_yet, partitioned, readers, records, validate,
};
use crate::column_override::ColumnOverride;
use crate::masking::Masking;
use crate::partition::PartitionBy;
use crate::wire::Wire;

/// A checked configuration with every default filled in.
#[derive(Debug, Clone)]
pub struct ResolvedConfig {
    /// Where records come from.
    pub kafka: Kafka,
    /// Where tables go.
    pub lake: ResolvedLake,
    /// The entries of `tables`, in order; which tables they give, [`ResolvedConfig::route`] says.
    pub tables: Vec<ResolvedTable>,
    /// All buffers, queues and the key index together stay below this many bytes.
    pub memory_max: u64,
    /// Table versions kept, at least.
    pub versions_min: usize,
    /// Age below which nothing is deleted.
    pub age_min: Duration,
    /// `host:port` on which health and metrics are served, if at all.
    pub http_listen: Option<String>,
}

/// The lake with its defaults.
#[derive(Debug, Clone)]
pub struct ResolvedLake {
    /// An absolute path, `file://` or `s3://bucket/prefix`, no slash at the end.
    pub location: String,
    /// Which catalog.
    pub catalog: Catalog,
    /// How to reach S3.
    pub s3: S3,
    /// Whose progress it is, inside the tables.
    pub sink_id: String,
}

/// One entry of `tables` with its defaults and overrides.
#[derive(Debug, Clone)]
pub struct ResolvedTable {
    /// Where it stands in the file: `tables[2]`.
    pub path: String,
    /// Which topics it reads.
    pub topics: Topics,
    /// What its tables are called.
    pub name: NameRule,
    /// Key columns by the source's names; `None`: the fields of the record key.
    pub key: Option<Vec<String>>,
    /// Whether `_cdc_topic` is part of the key: several topics may share a table, and the entry
    /// names no key that would tell their rows apart.
    pub topic_in_key: bool,
    /// What a delete does.
    pub deletes: Deletes,
    /// How rows go from silver.
    pub mode: Mode,
    /// What the silver table is partitioned by.
    pub partition_by: Vec<PartitionBy>,
    /// Why they go so, for people.
    pub mode_because: String,
    /// Engines that must be able to read its tables.
    pub readers: Vec<Reader>,
    /// What columns are, by the source's names, where records carry no schema.
    pub columns: BTreeMap<String, ColumnOverride>,
    /// Where to begin in a topic of which the table knows nothing.
    pub start: Start,
    /// What to do when records are gone before they were read.
    pub on_gap: OnGap,
    /// What to do when the consumer group was told of a table that is not there any more.
    pub on_lost_table: OnLostTable,
    /// What to do when the source's table was truncated.
    pub on_truncate: OnTruncate,
    /// How many events of a partition are remembered, to know them when they come again.
    pub repeat_window: u32,
    /// Which life of the source this is, in front of every position.
    pub epoch: u32,
    /// Whether rows go that a whole snapshot of the source did not find again.
    pub sweep_ghosts: bool,
    /// What to do with values that the column's type cannot hold.
    pub out_of_range: OutOfRange,
    /// What to do with records that cannot be understood.
    pub bad_records: BadRecords,
    /// How records are encoded.
    pub records: ResolvedRecords,
    /// The connector's `unavailable.value.placeholder`.
    pub placeholder: String,
    /// Columns left out or masked.
    pub masking: Arc<Masking>,
    /// What is taken for a record, and how fast the table may grow columns.
    pub limits: ResolvedLimits,
    /// When a batch is flushed.
    pub batch: ResolvedBatch,
    /// Table format.
    pub format: TableFormat,
    /// Databases of its layers.
    pub layers: Layers,
}

/// How a table's records are encoded.
#[derive(Debug, Clone)]
pub struct ResolvedRecords {
    /// Encoding and framing; `None`: JSON.
    pub wire: Option<Wire>,
    /// Where schemas are kept; there unless records are JSON.
    pub registry: Option<Registry>,
    /// Rows alone instead of Debezium's envelope.
    pub flattened: bool,
}

/// Databases of the two layers; `None` where a layer is off. At least one is on.
#[derive(Debug, Clone, PartialEq, Eq)]
#[allow(missing_docs)]
pub struct Layers {
    pub bronze: Option<String>,
    pub silver: Option<String>,
}

/// When a batch is flushed: at whichever bound it meets first.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ResolvedBatch {
    /// Since its first record.
    pub age_max: Duration,
    /// Rows.
    pub rows_max: u64,
    /// Bytes in memory.
    pub bytes_max: u64,
}

/// A table's place: `<database>.<name>`, stored at `<location>/<database>/<name>`.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct TablePath {
    /// Database.
    pub database: String,
    /// Table name.
    pub name: String,
}

impl TablePath {
    /// Relative to the lake's location.
    pub fn relative(&self) -> String {
        format!("{}/{}", self.database, self.name)
    }
}

impl std::fmt::Display for TablePath {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}.{}", self.database, self.name)
    }
}

impl ResolvedTable {
    /// Name of the table that this topic goes to; `None` if the entry does not read it.
    pub fn table_name(&self, topic: &str) -> Option<String> {
        self.topics.contains(topic).then(|| self.name.table_name(&self.topics, topic))?
    }

    /// The bronze table of this name, if the layer is on.
    pub fn bronze(&self, name: &str) -> Option<TablePath> {
        let database = self.layers.bronze.clone()?;
        Some(TablePath { database, name: name.to_owned() })
    }

    /// The silver table of this name, if the layer is on.
    pub fn silver(&self, name: &str) -> Option<TablePath> {
        let database = self.layers.silver.clone()?;
        Some(TablePath { database, name: name.to_owned() })
    }
}

impl Config {
    /// Checks everything and fills in what is not written.
    ///
    /// # Errors
    /// All problems, each with its place and next move.
    pub fn resolve(self) -> Result<ResolvedConfig, Vec<Problem>> {
        let mut problems = Vec::new();
        not_yet::problems(&self, &mut problems);
        validate::problems(&self, &mut problems);
        readers::problems(&self, &mut problems);
        let tables = self.tables.iter().enumerate();
        let mut tables: Vec<_> = tables
            .filter_map(|(index, table)| self.resolve_table(index, table, &mut problems))
            .collect();
        leave_out_dead_letters(&mut tables);
        let resolved = ResolvedConfig {
            tables,
            memory_max: self.memory_max(),
            versions_min: self.maintenance.versions_min.unwrap_or(VERSIONS_MIN),
            age_min: self.maintenance.age_min.map_or(AGE_MIN, |age| age.0),
            http_listen: match self.http {
                Http::Off => None,
                Http::Listen(address) => Some(address),
            },
            kafka: self.kafka,
            lake: ResolvedLake {
                location: self.lake.location.trim_end_matches('/').to_owned(),
                catalog: self.lake.catalog,
                s3: self.lake.s3,
                sink_id: self.lake.sink_id,
            },
        };
        // Entries that name their topics clash whatever the cluster has.
        if let Err(clashes) = resolved.route([]) {
            problems.extend(clashes);
        }
        if problems.is_empty() { Ok(resolved) } else { Err(problems) }
    }

    fn resolve_table(
        &self,
        index: usize,
        table: &Table,
        problems: &mut Vec<Problem>,
    ) -> Option<ResolvedTable> {
        let path = format!("tables[{index}]");
        validate::table_problems(table, &path, problems);
        let topics = naming::topics(table, &path, problems)?;
        let name = naming::name_rule(table, &topics, &path, problems)?;
        let layers = self.layers(table, &path, problems)?;
        let one_topic = matches!(&topics, Topics::Names(names) if names.len() == 1);
        let merges = matches!(name, NameRule::Template(_)) && !one_topic;
        let mut columns = columns(table, &path, problems);
        let format = table.format.unwrap_or(self.lake.format);
        let readers = table.readers.as_ref().unwrap_or(&self.lake.readers).clone();
        let choice = mode(table, &path, format, (&readers, &layers), problems);
        let masking = hidden::resolve(table, &self.masking, &path, &mut columns, problems);
        Some(ResolvedTable {
            topic_in_key: merges && table.key.is_none(),
            topics,
            name,
            key: table.key.clone(),
            deletes: table.deletes,
            partition_by: partitioned::resolve(table, layers.silver.is_some(), &path, problems),
            mode: choice.mode,
            mode_because: choice.because,
            readers,
            columns,
            masking,
            placeholder: records::placeholder(table.records.as_ref(), &self.records),
            limits: Limits::resolve(table.limits.as_ref(), &self.limits),
            start: table.start,
            on_gap: table.on_gap,
            on_lost_table: table.on_lost_table,
            on_truncate: table.on_truncate,
            repeat_window: table.repeat_window.unwrap_or(super::REPEAT_WINDOW),
            epoch: table.epoch,
            sweep_ghosts: table.sweep_ghosts,
            out_of_range: table.out_of_range,
            bad_records: table.bad_records.as_ref().unwrap_or(&self.bad_records).clone(),
            records: records::resolve(table.records.as_ref(), &self.records, &path, problems),
            batch: self.batch(table.batch.as_ref(), choice.mode),
            format,
            layers,
            path,
        })
    }

    /// When a batch is flushed: as the table says, else as all do. Copy-on-write never does it sooner
    /// than its own defaults, unless the table says so.
    fn batch(&self, ours: Option<&Batch>, mode: Mode) -> ResolvedBatch {
        let ours = ours.cloned().unwrap_or_default();
        let outer = &self.batch;
        let least = match mode {
            Mode::MergeOnRead => {
                ResolvedBatch { age_max: Duration::ZERO, rows_max: 0, bytes_max: 0 }
            }
            Mode::CopyOnWrite => ResolvedBatch {
                age_max: REWRITE_AGE_MAX,
                rows_max: REWRITE_ROWS_MAX,
                bytes_max: self.memory_max() / REWRITE_MEMORY_SHARE,
            },
        };
        let outer = ResolvedBatch {
            age_max: outer.max_age.map_or(BATCH_AGE_MAX, |age| age.0).max(least.age_max),
            rows_max: outer.max_rows.unwrap_or(BATCH_ROWS_MAX).max(least.rows_max),
            bytes_max: outer.max_bytes.map_or(BATCH_BYTES_MAX, |b| b.0).max(least.bytes_max),
        };
        ResolvedBatch {
            age_max: ours.max_age.map_or(outer.age_max, |age| age.0),
            rows_max: ours.max_rows.unwrap_or(outer.rows_max),
            bytes_max: ours.max_bytes.map_or(outer.bytes_max, |size| size.0),
        }
    }

    fn memory_max(&self) -> u64 {
        self.memory.max.map_or(MEMORY_MAX, |size| size.0)
    }

    fn layers(&self, table: &Table, path: &str, problems: &mut Vec<Problem>) -> Option<Layers> {
        let overrides = table.layers.clone().unwrap_or_default();
        let database = |ours: Option<LayerSetting>, outer: &LayerSetting, default: &str| match ours
            .unwrap_or(LayerSetting::On)
        {
            LayerSetting::Off => None,
            LayerSetting::Database(name) => Some(name),
            LayerSetting::On => match outer {
                LayerSetting::Off => None,
                LayerSetting::On => Some(default.to_owned()),
                LayerSetting::Database(name) => Some(name.clone()),
            },
        };
        let bronze = database(overrides.bronze, &self.lake.bronze, super::BRONZE_DATABASE);
        let silver = database(overrides.silver, &self.lake.silver, super::SILVER_DATABASE);
        match (&bronze, &silver) {
            (None, None) => {
                let message = "both layers are off, so there is nothing to write";
                problems.push(Problem::new(path, message, "turn bronze or silver on"));
                return None;
            }
            (Some(bronze), Some(silver)) if bronze == silver => {
                let message = format!("bronze and silver are both in database `{bronze}`");
                problems.push(Problem::new(path, message, "give them databases of their own"));
                return None;
            }
            _ => {}
        }
        Some(Layers { bronze, silver })
    }
}

/// What the columns are said to be.
fn columns(
    table: &Table,
    path: &str,
    problems: &mut Vec<Problem>,
) -> BTreeMap<String, ColumnOverride> {
    let mut columns = BTreeMap::new();
    for (name, rule) in &table.columns {
        let Some(column_type) = &rule.column_type else { continue };
        let (unit, encoding) = (rule.unit.as_deref(), rule.encoding.as_deref());
        match ColumnOverride::parse(column_type, unit, encoding) {
            Ok(column) => {
                columns.insert(name.clone(), column);
            }
            Err(error) => {
                // Its messages are `what is wrong: what there is`.
                let message = error.to_string();
                let (message, next) = message.split_once(": ").unwrap_or((&message, "correct it"));
                problems.push(Problem::new(format!("{path}.columns.{name}"), message, next));
            }
        }
    }
    columns
}

/// Keeps patterns from matching the topics that bad records are sent to.
fn leave_out_dead_letters(tables: &mut [ResolvedTable]) {
    let letters = tables.iter().filter_map(|table| match &table.bad_records {
        BadRecords::DeadLetterTopic(topic) => Some(topic.clone()),
        BadRecords::Halt => None,
    });
    let letters: Vec<String> = letters.collect();
    for table in tables {
        if let Topics::Pattern { except, .. } = &mut table.topics {
            except.clone_from(&letters);
        }
    }
}

/// How rows go from the entry's silver table.
fn mode(
    table: &Table,
    path: &str,
    format: TableFormat,
    (readers, layers): (&[Reader], &Layers),
    problems: &mut Vec<Problem>,
) -> ModeChoice {
    if layers.silver.is_none() {
        return ModeChoice { mode: Mode::MergeOnRead, because: "there is no silver".to_owned() };
    }
    readers::choose(table.mode, format, readers).unwrap_or_else(|reader| {
        let reader = reader.as_str();
        let message = format!(
            "merge-on-read leaves {}, which `{reader}` does not read",
            super::dead_rows_of(format)
        );
        let next = format!(
            "use `copy-on-write`, leave `mode` out for it to be chosen, or take `{reader}` from the readers"
        );
        problems.push(Problem::new(format!("{path}.mode"), message, next));
        ModeChoice { mode: Mode::MergeOnRead, because: String::new() }
    })
}
