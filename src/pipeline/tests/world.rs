//! The pipeline and its tables with a source that does what a test says.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use async_trait::async_trait;
use futures::{FutureExt, TryStreamExt};
use lakebed_schemas::config::ResolvedConfig;
use lakebed_schemas::position::TopicPartition;
use lakebed_schemas::value::Value;
use lakebed_sinks::conformance::taken::athena_takes_every_table;
use lakebed_sinks::log::Head;
use lakebed_sinks::table::arrow_values::value_at;
use lakebed_sinks::table::reader;
use tokio::sync::{mpsc, oneshot};
use tokio::task::JoinHandle;

use crate::memory::MemoryBudget;
use crate::pipeline::{self, RunEnd, RunOptions};
use crate::source::{
    Gap, GapDecision, GapKind, GroupOffset, Message, Source, SourceEvent, SourceStats, Start,
    Starts, View,
};
use crate::tables::{self, ConfiguredTables};
use crate::telemetry::Telemetry;

/// The topic of [`World::start`].
pub(super) const TOPIC: &str = "shop.public.orders";

/// How long a test waits for what must come.
const PATIENCE: Duration = Duration::from_secs(20);

/// What the source was told.
#[derive(Default)]
pub(super) struct Told {
    pub(super) group: BTreeMap<TopicPartition, GroupOffset>,
    pub(super) budget: Option<usize>,
    /// How many partitions each topic has, if not one.
    pub(super) partitions: Option<usize>,
    /// Topics that turned up while running.
    pub(super) new_topics: Vec<String>,
    /// What the view says of ends, and how often it was asked.
    pub(super) ends: BTreeMap<i32, i64>,
    pub(super) ends_asked: usize,
    pub(super) rewound: Vec<TopicPartition>,
    /// Bytes that are out, as the pipeline accounts for them.
    pub(super) out: i64,
    pub(super) stats: SourceStats,
    pub(super) stats_asked: usize,
}

/// The cluster as [`Told`] has it: the group remembers what it was told.
struct Sight(Arc<Mutex<Told>>);

#[async_trait]
impl View for Sight {
    fn is_new(&self, topic: &str) -> bool {
        self.0.lock().expect("lock").new_topics.iter().any(|new| new == topic)
    }

    async fn ends(&self, _topic: &str) -> Result<BTreeMap<i32, i64>, String> {
        let mut told = self.0.lock().expect("lock");
        told.ends_asked += 1;
        Ok(told.ends.clone())
    }

    async fn partitions(&self, _topic: &str) -> Result<usize, String> {
        Ok(self.0.lock().expect("lock").partitions.unwrap_or(1))
    }

    async fn group(&self, partitions: &[TopicPartition]) -> Result<Vec<GroupOffset>, String> {
        let told = self.0.lock().expect("lock");
        Ok(partitions.iter().filter_map(|tp| told.group.get(tp)).cloned().collect())
    }
}

struct Script {
    events: mpsc::UnboundedReceiver<SourceEvent>,
    told: Arc<Mutex<Told>>,
}

fn bytes(bytes: usize) -> i64 {
    i64::try_from(bytes).expect("fits")
}

#[async_trait]
impl Source for Script {
    async fn next(&mut self) -> Option<SourceEvent> {
        self.events.recv().await
    }

    fn commit_offsets(&mut self, offsets: Vec<GroupOffset>) {
        let mut told = self.told.lock().expect("lock");
        told.group.extend(offsets.into_iter().map(|offset| (offset.tp.clone(), offset)));
    }

    fn set_budget(&mut self, bytes: usize) {
        self.told.lock().expect("lock").budget = Some(bytes);
    }

    fn view(&self) -> Arc<dyn View> {
        Arc::new(Sight(self.told.clone()))
    }

    fn consumed(&mut self, count: usize) {
        self.told.lock().expect("lock").out -= bytes(count);
    }

    fn held(&mut self, count: usize) {
        self.told.lock().expect("lock").out += bytes(count);
    }

    fn rewind(&mut self, partitions: &[TopicPartition]) {
        self.told.lock().expect("lock").rewound.extend_from_slice(partitions);
    }

    fn stats(&self) -> SourceStats {
        let mut told = self.told.lock().expect("lock");
        told.stats_asked += 1;
        told.stats.clone()
    }

    async fn close(&mut self) {}
}

/// A running pipeline over tables in a folder.
pub(super) struct World {
    pub(super) config: Arc<ResolvedConfig>,
    pub(super) telemetry: Telemetry,
    pub(super) told: Arc<Mutex<Told>>,
    events: mpsc::UnboundedSender<SourceEvent>,
    stop: oneshot::Sender<()>,
    run: JoinHandle<RunEnd>,
}

/// How a world differs from the usual one.
pub(super) struct Setting {
    /// Lines of the entry of [`TOPIC`], each with four spaces in front.
    pub(super) entry: &'static str,
    /// Lines of the file, or nothing.
    pub(super) file: &'static str,
    /// How long producers may not know that a topic has more partitions.
    pub(super) producer_metadata_age: Duration,
    pub(super) quiet_every: Duration,
    pub(super) until_caught_up: bool,
    /// Instead of the configured memory.
    pub(super) memory: Option<u64>,
}

impl Default for Setting {
    fn default() -> Self {
        let quiet_every = Duration::from_secs(300);
        let producer_metadata_age = Duration::ZERO;
        Self {
            entry: "",
            file: "",
            producer_metadata_age,
            quiet_every,
            until_caught_up: false,
            memory: None,
        }
    }
}

impl World {
    pub(super) fn start(folder: &tempfile::TempDir, setting: &Setting) -> Self {
        Self::start_in(folder, setting, Told::default())
    }

    /// Starts in a cluster that this was told already.
    pub(super) fn start_in(folder: &tempfile::TempDir, setting: &Setting, told: Told) -> Self {
        let Setting { entry, file, producer_metadata_age, .. } = setting;
        let text = format!(
            "kafka: {{ bootstrap_servers: 'localhost:9092', producer_metadata_age: {}ms }}\n\
             lake: {{ location: lake, format: iceberg }}\n\
             batch: {{ max_age: 100ms }}\n{file}\
             tables:\n  - topic: {TOPIC}\n{entry}",
            producer_metadata_age.as_millis()
        );
        let path: PathBuf = folder.path().join("lakebed.yaml");
        let config = crate::config::parse(&text, &path, &|_| Some("0123456789abcdef".to_owned()))
            .expect("config");
        let config = Arc::new(config);
        let telemetry = Telemetry::default();
        let lake = tables::open_lake(&config).now_or_never().expect("a disk needs no waiting");
        let lake = lake.expect("lake");
        let tables =
            ConfiguredTables::new(config.clone(), lake, "test".into(), None, &telemetry, None)
                .expect("tables")
                .with_quiet_every(setting.quiet_every);
        let (events, received) = mpsc::unbounded_channel();
        let told = Arc::new(Mutex::new(told));
        let source = Box::new(Script { events: received, told: told.clone() });
        let (stop, stopped) = oneshot::channel();
        let shutdown = async {
            let _ = stopped.await;
        };
        let memory = MemoryBudget::new(setting.memory.unwrap_or(config.memory_max));
        let options = RunOptions { until_caught_up: setting.until_caught_up, memory };
        let run = pipeline::run(source, Box::new(tables), options, telemetry.clone(), shutdown);
        Self { config, telemetry, told, events, stop, run: tokio::spawn(run) }
    }

    pub(super) fn send(&self, event: SourceEvent) {
        self.events.send(event).expect("the pipeline runs");
    }

    /// Assigns partitions; answers where each begins.
    pub(super) async fn assign(
        &self,
        generation: u64,
        partitions: &[TopicPartition],
    ) -> BTreeMap<TopicPartition, Start> {
        let starts = self.try_assign(generation, partitions).await;
        starts.into_iter().map(|(tp, start)| (tp, start.expect("start"))).collect()
    }

    pub(super) async fn try_assign(
        &self,
        generation: u64,
        partitions: &[TopicPartition],
    ) -> Starts {
        let (reply, answer) = oneshot::channel();
        self.send(SourceEvent::Assigned { generation, partitions: partitions.to_vec(), reply });
        answer.await.expect("an answer")
    }

    pub(super) async fn revoke(&self, partitions: &[TopicPartition]) {
        let (ack, acknowledged) = oneshot::channel();
        self.send(SourceEvent::Revoked { partitions: partitions.to_vec(), ack });
        acknowledged.await.expect("acknowledged");
    }

    pub(super) fn read(&self, messages: Vec<Message>) {
        let weight: usize = messages.iter().map(Message::weight).sum();
        self.told.lock().expect("lock").out += bytes(weight);
        self.send(SourceEvent::Messages(messages));
    }

    pub(super) fn end(&self, tp: &TopicPartition, next_offset: i64, generation: u64) {
        self.send(SourceEvent::EndOfPartition { tp: tp.clone(), next_offset, generation });
    }

    pub(super) async fn gap(
        &self,
        tp: &TopicPartition,
        kind: GapKind,
        range: [i64; 3],
    ) -> GapDecision {
        let [stored, log_start, log_end] = range;
        let (reply, decision) = oneshot::channel();
        let gap = Gap { tp: tp.clone(), stored, log_start, log_end, kind };
        self.send(SourceEvent::Gap { gap, reply });
        decision.await.expect("a decision")
    }

    /// Stops as SIGTERM does. What it leaves are tables that Athena takes, unless one has halted: the
    /// test may have broken it.
    pub(super) async fn stop(self) -> RunEnd {
        let _ = self.stop.send(());
        let end = self.run.await.expect("the pipeline ends");
        if !matches!(end, RunEnd::Halted(_)) {
            let lake = tables::open_lake(&self.config).await.expect("lake");
            athena_takes_every_table(&lake.storage, usize::MAX).await;
        }
        end
    }

    /// Ends as by `kill -9`, wherever it is.
    pub(super) async fn kill(self) {
        self.run.abort();
        let _ = self.run.await;
    }

    /// Waits for the run to end by itself.
    pub(super) async fn ended(self) -> RunEnd {
        tokio::time::timeout(PATIENCE, self.run).await.expect("in time").expect("ends")
    }

    /// The newest version of a table; `None` if there is none.
    pub(super) async fn head(&self, table: &str) -> Option<Head> {
        head(&self.config, table).await
    }

    /// Waits until a table stands at this offset; answers its version.
    pub(super) async fn stands_at(&self, table: &str, tp: &TopicPartition, offset: i64) -> i64 {
        self.until(async || {
            let head = self.head(table).await?;
            let next = head.checkpoint.next(tp)?.offset;
            (next == offset).then_some(head.version)
        })
        .await
    }

    /// Waits for a series of the metrics to have a value.
    pub(super) async fn until_metric(&self, series: &str, is: impl Fn(f64) -> bool) -> f64 {
        self.until(async || metric(&self.telemetry, series).filter(|value| is(*value))).await
    }

    /// Waits for something.
    pub(super) async fn until<T>(&self, seen: impl AsyncFn() -> Option<T>) -> T {
        let deadline = Instant::now() + PATIENCE;
        loop {
            if let Some(seen) = seen().await {
                return seen;
            }
            if Instant::now() > deadline {
                panic!("waited in vain; metrics:\n{}", self.telemetry.metrics.render());
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }
}

/// The newest version of a table; `None` if there is none.
pub(super) async fn head(config: &ResolvedConfig, table: &str) -> Option<Head> {
    let storage =
        tables::open_lake(config).await.expect("lake").storage.child(&table.replace('.', "/"));
    let options = tables::table_options(config, "test".into());
    let format = tables::format(config.tables[0].format);
    let log = lakebed_sinks::open(format, &storage, &options).await.expect("opens");
    log.map(|log| log.head().clone())
}

/// One column of a table's live rows.
pub(super) async fn column(world: &World, table: &str, column: &str) -> Vec<Value> {
    let head = world.head(table).await.expect("table");
    let storage = tables::open_lake(&world.config)
        .await
        .expect("lake")
        .storage
        .child(&table.replace('.', "/"));
    let index = head.schema.index_of(column).expect("column");
    let column_type = head.schema.columns[index].column_type.clone();
    let batches: Vec<_> =
        reader::scan(&storage, &head, &[index]).try_collect().await.expect("reads");
    let values = batches.iter().flat_map(|batch| {
        (0..batch.num_rows()).map(|row| value_at(batch.column(0), &column_type, row))
    });
    values.collect()
}

/// The value of a series, if it is there.
pub(super) fn metric(telemetry: &Telemetry, series: &str) -> Option<f64> {
    let text = telemetry.metrics.render();
    let line = text.lines().find_map(|line| line.strip_prefix(series)?.strip_prefix(' '))?;
    Some(line.parse().expect("number"))
}

/// An insert or update of a row of [`TOPIC`], without schema, committed at the source at `ts_ms`.
pub(super) fn change(tp: &TopicPartition, offset: i64, id: i64, generation: u64) -> Message {
    change_at(tp, offset, id, generation, 1_790_000_000_000 + offset)
}

pub(super) fn change_at(
    tp: &TopicPartition,
    offset: i64,
    id: i64,
    generation: u64,
    ts_ms: i64,
) -> Message {
    let lsn = 1_000 + offset;
    let value = format!(
        r#"{{"before":null,"after":{{"id":{id},"note":"n{offset}"}},"source":{{"connector":"postgresql","ts_ms":{ts_ms},"lsn":{lsn},"txId":1}},"op":"c","ts_ms":{ts_ms}}}"#
    );
    message(tp, offset, generation, Some(format!(r#"{{"id":{id}}}"#)), Some(value))
}

pub(super) fn message(
    tp: &TopicPartition,
    offset: i64,
    generation: u64,
    key: Option<String>,
    value: Option<String>,
) -> Message {
    Message {
        tp: tp.clone(),
        offset,
        timestamp_ms: Some(1_790_000_000_000 + offset),
        key: key.map(String::into_bytes),
        value: value.map(String::into_bytes),
        headers: Vec::new(),
        generation,
    }
}
