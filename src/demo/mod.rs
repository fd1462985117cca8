//! A whole world in one process: broker, changing shop, tables, and a look at the result.
//!
//! Needs nothing but the binary. The broker is librdkafka's own, in memory; it keeps only 5 MiB a
//! partition, so changes are made no faster than the tables commit them.

mod event;
pub mod generator;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::{Duration, Instant};

use async_trait::async_trait;
use futures::TryStreamExt;
use indicatif::{ProgressBar, ProgressStyle};
use lakebed_schemas::config::{ResolvedConfig, TableFormat};
use lakebed_schemas::position::TopicPartition;
use lakebed_schemas::value::Value;
use lakebed_sinks::log::Head;
use lakebed_sinks::storage::Storage;
use lakebed_sinks::table::arrow_values::value_at;
use lakebed_sinks::table::reader;
use rdkafka::ClientConfig;
use rdkafka::mocking::MockCluster;
use rdkafka::producer::{FutureProducer, FutureRecord};

use crate::memory::MemoryBudget;
use crate::pipeline::{self, RunEnd, RunOptions};
use crate::source::{
    GroupOffset, KafkaSource, LOOK_EVERY, Source, SourceEvent, SourceOptions, SourceStats, View,
};
use crate::tables::{self, ConfiguredTables};
use crate::telemetry::Telemetry;
use generator::{Event, Generator, Order, ShopOptions, TOPIC};

/// Partitions of the topic.
const PARTITIONS: i32 = 4;

/// Memory for records and indexes.
const MEMORY: u64 = 256 * 1024 * 1024;

/// Bytes produced before the records that came this far earlier must be in the tables: twice this
/// is ahead of them at most, well below what the broker keeps in its partitions.
const STRIDE_BYTES: usize = 6 * 1024 * 1024;

/// Rows of a batch. Less than a stride of events, so that a full batch and not its age lets the
/// shop go on.
const BATCH_ROWS: usize = 1_000;

/// How long the tables may stand still before the demonstration gives up.
const STALLED: Duration = Duration::from_secs(60);

/// What to demonstrate.
#[derive(Debug, Clone)]
pub struct DemoOptions {
    /// Where the lake goes; must be empty or not there.
    pub dir: PathBuf,
    /// Changes to make.
    pub changes: u64,
    /// Format of the tables.
    pub format: TableFormat,
    /// Seed of the changes.
    pub seed: u64,
}

/// What came out.
#[derive(Debug)]
pub struct DemoResult {
    /// Changes made.
    pub changes: u64,
    /// Kafka records that they took.
    pub records: u64,
    /// Rows in silver.
    pub rows: u64,
    /// From the first change to the last commit.
    pub took: Duration,
    /// Folder of the silver table.
    pub silver: PathBuf,
    /// Folder of the bronze table.
    pub bronze: PathBuf,
    /// The configuration that shows the tables.
    pub config: PathBuf,
}

/// Runs the demonstration and compares silver with what the shop knows, row by row.
///
/// # Errors
/// When the folder is taken, something cannot be started, or silver differs.
pub async fn run(options: DemoOptions) -> Result<DemoResult, String> {
    prepare(&options.dir)?;
    let cluster = MockCluster::new(1).map_err(|e| format!("in-process broker: {e}"))?;
    cluster.create_topic(TOPIC, PARTITIONS, 1).map_err(|e| format!("topic: {e}"))?;
    let brokers = cluster.bootstrap_servers();
    let config_file = options.dir.join("lakebed.yaml");
    let text = config_text(&options, &brokers);
    std::fs::write(&config_file, text)
        .map_err(|e| format!("could not write `{}`: {e}", config_file.display()))?;
    let config = Arc::new(crate::config::load(&config_file).map_err(|e| e.to_string())?);

    let started = Instant::now();
    let (generator, records) = play(&config, &brokers, &options).await?;
    let took = started.elapsed();

    let rows = compare(&config, generator.expected()).await?;
    let place = |layer: &str| options.dir.join("lake").join(layer).join("public_orders");
    Ok(DemoResult {
        changes: options.changes,
        records,
        rows,
        took,
        silver: place("silver"),
        bronze: place("bronze"),
        config: config_file,
    })
}

fn prepare(dir: &Path) -> Result<(), String> {
    let failed = |e| format!("could not use folder `{}`: {e}", dir.display());
    std::fs::create_dir_all(dir).map_err(failed)?;
    if std::fs::read_dir(dir).map_err(failed)?.next().is_some() {
        return Err(format!("folder `{}` is not empty: name another with --dir", dir.display()));
    }
    Ok(())
}

fn config_text(options: &DemoOptions, brokers: &str) -> String {
    let format = options.format.as_str();
    let lake =
        std::path::absolute(options.dir.join("lake")).unwrap_or_else(|_| options.dir.clone());
    let lake = serde_json::Value::from(lake.display().to_string());
    format!(
        "# Made by `lakebed demo`. Its broker is gone; `show` and `status` still work.\n\
         kafka: {{ bootstrap_servers: \"{brokers}\" }}\n\
         lake: {{ location: {lake}, format: {format} }}\n\
         tables: [{{ topic: {TOPIC} }}]\n\
         batch: {{ max_age: 1s, max_rows: {BATCH_ROWS} }}\n\
         http: false\n"
    )
}

/// Makes changes and keeps the tables in step until both are done.
async fn play(
    config: &Arc<ResolvedConfig>,
    brokers: &str,
    options: &DemoOptions,
) -> Result<(Generator, u64), String> {
    let telemetry = Telemetry::default();
    let committed = Arc::new(AtomicI64::new(0));
    let memory = MemoryBudget::new(MEMORY);
    let source = KafkaSource::open(&SourceOptions {
        kafka: config.kafka.clone(),
        wanted: Arc::new(|topic: &str| topic == TOPIC),
        budget_bytes: memory.for_records(0),
        look_every: LOOK_EVERY,
    })?;
    let source = Observed { inner: source, committed: committed.clone(), next: BTreeMap::new() };
    let lake = tables::open_lake(config).await.map_err(|error| error.chain())?;
    let tables = ConfiguredTables::new(config.clone(), lake, "demo".into(), None, &telemetry, None)
        .map_err(|error| error.chain())?;
    let (done, finished) = tokio::sync::oneshot::channel();
    let shutdown = async move {
        let _ = finished.await;
    };
    let options_of_run = RunOptions { until_caught_up: false, memory };
    let (source, tables) = (Box::new(source), Box::new(tables));
    let pipeline = tokio::spawn(pipeline::run(source, tables, options_of_run, telemetry, shutdown));
    let producer: FutureProducer = ClientConfig::new()
        .set("bootstrap.servers", brokers)
        .set("linger.ms", "5")
        .create()
        .map_err(|e| format!("producer: {e}"))?;
    let played = tokio::select! {
        played = produce(&producer, &committed, options) => played,
        end = watch(&pipeline) => Err(end),
    };
    let _ = done.send(());
    let end = pipeline.await.map_err(|e| format!("the pipeline died: {e}"))?;
    let played = played?;
    match end {
        RunEnd::Done => Ok(played),
        RunEnd::Halted(tables) => Err(format!("halted: {tables:?}")),
        RunEnd::Failed(reason) => Err(reason),
    }
}

/// Completes when the pipeline ends although it was not asked to.
async fn watch(pipeline: &tokio::task::JoinHandle<RunEnd>) -> String {
    while !pipeline.is_finished() {
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    "the pipeline ended early".to_owned()
}

async fn produce(
    producer: &FutureProducer,
    committed: &AtomicI64,
    options: &DemoOptions,
) -> Result<(Generator, u64), String> {
    let bar = progress_bar(options.changes);
    let mut generator =
        Generator::new(&ShopOptions { seed: options.seed, ..ShopOptions::default() });
    let (mut records, mut stride, mut last_stride) = (0u64, 0usize, 0u64);
    for change in 0..options.changes {
        for event in generator.change() {
            stride += event.key.len() + event.value.as_ref().map_or(0, Vec::len);
            send(producer, &event).await?;
            records += 1;
        }
        if stride > STRIDE_BYTES {
            wait_committed(committed, last_stride).await?;
            (stride, last_stride) = (0, records);
        }
        if change % 100 == 0 {
            bar.set_position(change);
        }
    }
    wait_committed(committed, records).await?;
    bar.finish_and_clear();
    Ok((generator, records))
}

async fn send(producer: &FutureProducer, event: &Event) -> Result<(), String> {
    let partition = i32::try_from(event.id % i64::from(PARTITIONS)).unwrap_or(0);
    loop {
        let mut record: FutureRecord<'_, [u8], [u8]> =
            FutureRecord::to(TOPIC).partition(partition).key(&event.key);
        if let Some(value) = &event.value {
            record = record.payload(value);
        }
        match producer.send_result(record) {
            // Order within a partition is the producer's; the answer is seen in what is committed.
            Ok(_) => return Ok(()),
            Err((error, _))
                if error.rdkafka_error_code()
                    == Some(rdkafka::types::RDKafkaErrorCode::QueueFull) =>
            {
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
            Err((error, _)) => return Err(format!("could not produce: {error}")),
        }
    }
}

/// Waits until the tables hold this many records.
async fn wait_committed(committed: &AtomicI64, records: u64) -> Result<(), String> {
    let (mut last, mut moved) = (committed.load(Ordering::Relaxed), Instant::now());
    while u64::try_from(last).unwrap_or(0) < records {
        tokio::time::sleep(Duration::from_millis(10)).await;
        let now = committed.load(Ordering::Relaxed);
        if now != last {
            (last, moved) = (now, Instant::now());
        } else if moved.elapsed() > STALLED {
            return Err(format!("the tables stand still at {now} of {records} records"));
        }
    }
    Ok(())
}

fn progress_bar(changes: u64) -> ProgressBar {
    let bar = ProgressBar::new(changes);
    if let Ok(style) =
        ProgressStyle::with_template("{wide_bar} {human_pos}/{human_len} changes  {elapsed}")
    {
        bar.set_style(style);
    }
    bar
}

/// A source that notes how far the tables are.
struct Observed {
    inner: KafkaSource,
    committed: Arc<AtomicI64>,
    next: BTreeMap<TopicPartition, i64>,
}

#[async_trait]
impl Source for Observed {
    async fn next(&mut self) -> Option<SourceEvent> {
        self.inner.next().await
    }

    fn commit_offsets(&mut self, offsets: Vec<GroupOffset>) {
        for GroupOffset { tp, offset, .. } in &offsets {
            self.next.insert(tp.clone(), *offset);
        }
        self.committed.store(self.next.values().sum(), Ordering::Relaxed);
        self.inner.commit_offsets(offsets);
    }

    fn consumed(&mut self, bytes: usize) {
        self.inner.consumed(bytes);
    }

    fn held(&mut self, bytes: usize) {
        self.inner.held(bytes);
    }

    fn set_budget(&mut self, bytes: usize) {
        self.inner.set_budget(bytes);
    }

    fn rewind(&mut self, partitions: &[TopicPartition]) {
        self.inner.rewind(partitions);
    }

    fn stats(&self) -> SourceStats {
        self.inner.stats()
    }

    fn view(&self) -> Arc<dyn View> {
        self.inner.view()
    }

    async fn close(&mut self) {
        self.inner.close().await;
    }
}

/// Reads silver back and compares it with the shop; gives the number of rows.
async fn compare(config: &ResolvedConfig, expected: &BTreeMap<i64, Order>) -> Result<u64, String> {
    let lake = tables::open_lake(config).await.map_err(|error| error.chain())?;
    let storage = lake.storage.child("silver/public_orders");
    let options = tables::table_options(config, "demo".into());
    let format = tables::format(config.tables[0].format);
    let log = lakebed_sinks::open(format, &storage, &options).await.map_err(|e| e.chain())?;
    let log = log.ok_or("there is no silver table")?;
    let found = read(&storage, log.head()).await?;
    if found.len() != expected.len() {
        return Err(format!("silver has {} rows, the shop {}", found.len(), expected.len()));
    }
    for (id, order) in expected {
        let row = found.get(id).ok_or_else(|| format!("order {id} is not in silver"))?;
        if *row != expected_row(*id, order) {
            return Err(format!("order {id} differs in silver"));
        }
    }
    Ok(found.len() as u64)
}

/// The columns that the shop knows, in the order in which they are compared.
const COLUMNS: [&str; 7] = ["id", "customer", "status", "total", "ordered_at", "tags", "note"];

async fn read(storage: &Storage, head: &Head) -> Result<BTreeMap<i64, Vec<Value>>, String> {
    let columns: Option<Vec<usize>> =
        COLUMNS.iter().map(|name| head.schema.index_of(name)).collect();
    let columns = columns.ok_or("silver lacks a column of the shop")?;
    let mut batches = reader::scan(storage, head, &columns);
    let mut rows = BTreeMap::new();
    while let Some(batch) = batches.try_next().await.map_err(|error| error.chain())? {
        for row in 0..batch.num_rows() {
            let values: Vec<Value> = columns
                .iter()
                .zip(batch.columns())
                .map(|(index, array)| {
                    value_at(array, &head.schema.columns[*index].column_type, row)
                })
                .collect();
            let Value::Long(id) = values[0] else { return Err("an order without an id".into()) };
            if rows.insert(id, values).is_some() {
                return Err(format!("order {id} is twice in silver"));
            }
        }
    }
    Ok(rows)
}

fn expected_row(id: i64, order: &Order) -> Vec<Value> {
    let text = |text: &str| Value::Text(text.to_owned());
    vec![
        Value::Long(id),
        text(&order.customer),
        text(order.status),
        Value::Decimal { unscaled: i128::from(order.total_cents), scale: 2 },
        Value::TimestampTz(order.ordered_at),
        Value::List(order.tags.iter().map(|tag| text(tag)).collect()),
        order.note.as_deref().map_or(Value::Null, text),
    ]
}
