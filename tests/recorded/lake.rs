//! A lake in a folder: runs of the pipeline on it, and what its tables hold.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::RangeInclusive;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use futures::TryStreamExt;
use lakebed::memory::MemoryBudget;
use lakebed::pipeline::{self, RunEnd, RunOptions};
use lakebed::source::GroupOffset;
use lakebed::tables::{self, ConfiguredTables};
use lakebed::telemetry::Telemetry;
use lakebed_schemas::change_event::{Field, Row, RowShape};
use lakebed_schemas::column::TableSchema;
use lakebed_schemas::config::ResolvedConfig;
use lakebed_schemas::position::TopicPartition;
use lakebed_schemas::value::{Value, key_hash};
use lakebed_sinks::conformance::taken::athena_takes_every_table;
use lakebed_sinks::table::arrow_values::value_at;
use lakebed_sinks::table::reader;
use serde_json::json;
use tokio::runtime::Runtime;
use tokio::sync::oneshot;

use super::Form;
use super::recording::TableState;
use super::replay::{Dice, Enough, Replay, Topics};

/// Each topic goes to a table in each.
pub(super) const FORMATS: [&str; 2] = ["iceberg", "delta"];

/// Files of a table that are opened to look at their footers, at most.
const FILES_OPENED_MAX: usize = 8;

/// How long a run may take.
const PATIENCE: Duration = Duration::from_secs(240);

/// How a run comes to its end.
#[derive(Debug, Clone, Copy)]
pub(super) enum Stop {
    /// By itself, when the tables have everything.
    CaughtUp,
    /// As by SIGTERM.
    Asked,
    /// The pipeline is gone, and its workers finish what they have been given while others run.
    Dropped,
    /// Everything is gone, in the middle of whatever it was doing.
    Killed,
    /// One of the three above after so many records.
    After(u64, &'static Stop),
}

impl Stop {
    /// The same after so many records.
    pub(super) fn after(self, records: u64) -> Self {
        let stop = match self {
            Self::Dropped => &Self::Dropped,
            Self::Killed => &Self::Killed,
            _ => &Self::Asked,
        };
        Self::After(records, stop)
    }
}

/// One table's live rows: its values that are not NULL by column, by key.
pub(super) type Rows = BTreeMap<u128, BTreeMap<String, String>>;

/// Tables of recorded topics, in both formats.
pub(super) struct Lake {
    config: Arc<ResolvedConfig>,
    group: Arc<Mutex<BTreeMap<TopicPartition, GroupOffset>>>,
    _folder: tempfile::TempDir,
}

fn table_name(table: &str, format: &str) -> String {
    let plain = table.to_lowercase().replace(|c: char| !c.is_ascii_alphanumeric(), "_");
    format!("{plain}_{format}")
}

impl Lake {
    /// An empty lake. `cuts`: what the sizes of batches are drawn with, and from.
    pub(super) fn new(
        sources: &[TableState],
        topics: &Topics,
        form: &Form<'_>,
        mut cuts: Option<(&mut Dice, &RangeInclusive<u64>)>,
    ) -> Self {
        let folder = tempfile::tempdir().expect("folder");
        let mut entries = Vec::new();
        for table in sources {
            for format in FORMATS {
                let said = table.columns.iter().filter_map(|(name, source_type)| {
                    let (column_type, encoding) = (form.entry.columns)(source_type)?;
                    let mut said = json!({ "type": column_type });
                    if let Some(encoding) = encoding {
                        said["encoding"] = encoding.into();
                    }
                    Some((name.clone(), said))
                });
                let batch = match &mut cuts {
                    Some((dice, rows)) => {
                        let rows = rows.start() + dice.below(rows.end() - rows.start() + 1);
                        let age = ["100ms", "300ms", "60s"][dice.below(3) as usize];
                        json!({ "max_rows": rows, "max_age": age })
                    }
                    None => json!({ "max_rows": 100_000, "max_age": "60s" }),
                };
                entries.push(json!({
                    "topic": topics.topic(&table.name),
                    "name": table_name(&table.name, format),
                    "format": format,
                    "columns": said.collect::<serde_json::Map<_, _>>(),
                    "batch": batch,
                    "sweep_ghosts": form.sweep_ghosts,
                    "out_of_range": if table.name.ends_with("_edge") { "text" } else { "halt" },
                }));
            }
        }
        let mut records = form.registry.as_ref().map_or(json!({}), |r| r.records.clone());
        records["flattened"] = form.flattened.into();
        if let Some(placeholder) = form.entry.placeholder {
            records["unavailable_value_placeholder"] = placeholder.into();
        }
        let text = json!({
            "records": records,
            "kafka": { "bootstrap_servers": "localhost:9092" },
            "lake": { "location": folder.path(), "format": "iceberg" },
            "tables": entries,
        });
        let file = folder.path().join("lakebed.yaml");
        let config = lakebed::config::parse(&text.to_string(), &file, &|_| None);
        let config = Arc::new(config.expect("a good configuration"));
        Self { config, group: Arc::default(), _folder: folder }
    }

    /// Runs until stopped. What comes back keeps workers alive that go on.
    pub(super) fn run(&self, topics: &Topics, seed: u64, stop: Stop) -> Option<Runtime> {
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(2)
            .enable_all()
            .build()
            .expect("runtime");
        let (told, enough) = oneshot::channel();
        let (until_caught_up, stop, when) = match stop {
            Stop::After(after, stop) => (false, stop, Some(Enough { after, told })),
            _ => (true, &Stop::CaughtUp, None),
        };
        let source = Box::new(Replay::new(topics, self.group.clone(), seed, when));
        let telemetry = Telemetry::default();
        let lake = runtime.block_on(tables::open_lake(&self.config)).expect("lake");
        let owner = "test".to_owned();
        let tables =
            ConfiguredTables::new(self.config.clone(), lake, owner, None, &telemetry, None);
        let tables = Box::new(tables.expect("tables"));
        let memory = MemoryBudget::new(self.config.memory_max);
        let options = RunOptions { until_caught_up, memory };
        runtime.block_on(async {
            let ended = tokio::time::timeout(PATIENCE, async {
                match stop {
                    Stop::CaughtUp | Stop::After(..) => {
                        let never = std::future::pending();
                        Some(pipeline::run(source, tables, options, telemetry, never).await)
                    }
                    Stop::Asked => {
                        let asked = async {
                            let _ = enough.await;
                        };
                        Some(pipeline::run(source, tables, options, telemetry, asked).await)
                    }
                    Stop::Dropped | Stop::Killed => {
                        let never = std::future::pending();
                        let run = pipeline::run(source, tables, options, telemetry, never);
                        let moment = Duration::from_micros(seed % 40_000);
                        tokio::select! {
                            ended = run => Some(ended),
                            () = async { let _ = enough.await; tokio::time::sleep(moment).await } => None,
                        }
                    }
                }
            });
            let ended = ended.await.expect("the run ends in time");
            let as_asked = matches!(stop, Stop::Dropped | Stop::Killed);
            assert_eq!(ended, (!as_asked).then_some(RunEnd::Done));
        });
        if matches!(stop, Stop::Dropped) {
            return Some(runtime);
        }
        // Files that are being written are finished: the process is still there.
        runtime.shutdown_timeout(Duration::from_secs(10));
        None
    }

    /// Every live row of a table, as its schema has it.
    fn read(&self, place: &str, format: &str) -> (TableSchema, Vec<Vec<Value>>) {
        let runtime = Runtime::new().expect("runtime");
        runtime.block_on(async {
            let entry = self.config.tables.iter().find(|entry| entry.format.as_str() == format);
            let format = tables::format(entry.expect("an entry of each format").format);
            let storage = tables::open_lake(&self.config).await.expect("lake").storage.child(place);
            let options = tables::table_options(&self.config, "test".into());
            let log = lakebed_sinks::open(format, &storage, &options).await.expect("opens");
            let log = log.unwrap_or_else(|| panic!("there is no table {place}"));
            let schema = log.head().schema.clone();
            let columns: Vec<usize> = (0..schema.columns.len()).collect();
            let mut batches = reader::scan(&storage, log.head(), &columns);
            let mut rows = Vec::new();
            while let Some(batch) = batches.try_next().await.expect("reads") {
                rows.extend((0..batch.num_rows()).map(|row| {
                    let cells = batch.columns().iter().zip(&schema.columns);
                    cells.map(|(array, column)| value_at(array, &column.column_type, row)).collect()
                }));
            }
            (schema, rows)
        })
    }

    /// Silver, table by table, with everything that a reader sees.
    pub(super) fn silver(&self) -> BTreeMap<(String, &'static str), Rows> {
        let mut all = BTreeMap::new();
        for entry in &self.config.tables {
            let format = entry.format.as_str();
            let path = entry.silver(&entry_name(entry)).expect("silver is on");
            let (schema, rows) = self.read(&path.relative(), format);
            let keys = schema.key_indexes();
            let mut found = Rows::new();
            for row in rows {
                let hash = key_hash(keys.iter().map(|index| &row[*index]));
                let cells = schema.columns.iter().zip(&row).filter(|(_, value)| !value.is_null());
                let cells =
                    cells.map(|(column, value)| (column.name.clone(), format!("{value:?}")));
                let twice = found.insert(hash, cells.collect());
                assert!(twice.is_none(), "{path}: a key is there twice: {twice:?}");
            }
            all.insert((path.to_string(), format), found);
        }
        all
    }

    /// Silver of one table under the source's names.
    pub(super) fn rows_of(&self, table: &TableState, format: &str) -> BTreeMap<u128, Row> {
        let place = format!("silver/{}", table_name(&table.name, format));
        let (schema, rows) = self.read(&place, format);
        let field = |column: &lakebed_schemas::column::Column| Field {
            name: column.source_name.clone(),
            column_type: Some(column.column_type.clone()),
        };
        let shape = Arc::new(RowShape { fields: schema.columns.iter().map(field).collect() });
        let keys = schema.key_indexes();
        let row = |mut values: Vec<Value>| {
            let hash = key_hash(keys.iter().map(|index| &values[*index]));
            for (index, column) in schema.columns.iter().enumerate().rev() {
                // The column that came last under a name has what the source has by now.
                let first = schema.index_of_source(&column.source_name).unwrap_or(index);
                if first != index && !values[index].is_null() {
                    values[first] = values[index].clone();
                }
            }
            (hash, Row { shape: shape.clone(), values })
        };
        rows.into_iter().map(row).collect()
    }

    /// Offsets of the records that bronze says were sent before, by table and format.
    pub(super) fn repeated(&self) -> BTreeMap<(String, &'static str), BTreeSet<String>> {
        let mut all = BTreeMap::new();
        for entry in &self.config.tables {
            let path = entry.bronze(&entry_name(entry)).expect("bronze is on");
            let (schema, rows) = self.read(&path.relative(), entry.format.as_str());
            let column = |name| schema.index_of(name).expect("a column of bronze");
            let place = ["_kafka_partition", "_offset"].map(column);
            let repeat = column("_repeat");
            let repeated = rows.iter().filter(|row| row[repeat] == Value::Boolean(true));
            let offsets = repeated.map(|row| format!("{:?}", place.map(|index| &row[index])));
            all.insert((path.to_string(), entry.format.as_str()), offsets.collect());
        }
        all
    }

    /// Bronze has every record once and nothing else.
    pub(super) fn assert_bronze(&self, topics: &Topics) {
        for entry in &self.config.tables {
            let path = entry.bronze(&entry_name(entry)).expect("bronze is on");
            let (schema, rows) = self.read(&path.relative(), entry.format.as_str());
            let column = |name| schema.index_of(name).expect("a column of bronze");
            let place = ["_topic", "_kafka_partition", "_offset"].map(column);
            let text = |value: &Value| format!("{value:?}");
            let mut found: Vec<[String; 3]> =
                rows.iter().map(|row| place.map(|index| text(&row[index]))).collect();
            let topic = found.first().map(|row| row[0].clone()).unwrap_or_default();
            let records = topics.logs.values().flatten();
            let mut expected: Vec<[String; 3]> = records
                .map(|record| {
                    let topic = Value::Text(record.tp.topic.to_string());
                    let partition = Value::Long(record.tp.partition.into());
                    [topic, partition, Value::Long(record.offset)].map(|value| text(&value))
                })
                .filter(|record| record[0] == topic)
                .collect();
            found.sort();
            expected.sort();
            assert!(!expected.is_empty(), "{path} is empty");
            assert_eq!(found, expected, "{path}");
        }
    }
}

/// What a replay leaves are tables that Athena takes, wherever it was cut.
impl Drop for Lake {
    fn drop(&mut self) {
        if std::thread::panicking() {
            return;
        }
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
        let runtime = runtime.expect("runtime");
        let lake = runtime.block_on(tables::open_lake(&self.config)).expect("lake");
        let look = athena_takes_every_table(&lake.storage, FILES_OPENED_MAX);
        let tables = runtime.block_on(look);
        assert!(tables >= self.config.tables.len(), "{tables} tables");
    }
}

fn entry_name(entry: &lakebed_schemas::config::ResolvedTable) -> String {
    let topics = match &entry.topics {
        lakebed_schemas::config::Topics::Names(names) => names.clone(),
        lakebed_schemas::config::Topics::Pattern { .. } => Vec::new(),
    };
    let name = topics.first().and_then(|topic| entry.table_name(topic));
    name.expect("entries are of one topic")
}
