//! What the service counts, in Prometheus's form.
//!
//! One [`Metrics`] for the process, one [`TableMetrics`] for each table. Labels are bounded: tables,
//! topics, partitions and words from closed lists, never anything from a row. Ages are worked out
//! when they are asked for, so that they go on growing when nothing else does.

mod table;

use std::collections::{BTreeMap, HashMap};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, RwLock};

use lakebed_schemas::position::TopicPartition;
use prometheus_client::encoding::text::encode;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::info::Info;
use prometheus_client::registry::Registry;

use table::TableFamilies;
pub use table::{TableMetrics, TableState};

type Labels = Vec<(&'static str, String)>;
type Counters = Family<Labels, Counter>;
type Gauges = Family<Labels, Gauge>;
type Seconds = Family<Labels, Gauge<f64, AtomicU64>>;

/// Counters of one topic, looked up once for each record.
#[derive(Clone)]
struct TopicCounters {
    records: Counter,
    bytes: Counter,
}

/// The numbers of the process.
pub struct Metrics {
    registry: Registry,
    consumed: Counters,
    consumed_bytes: Counters,
    topics: RwLock<HashMap<Arc<str>, TopicCounters>>,
    lag: Gauges,
    buffer_bytes: Gauge,
    paused: Gauge,
    assigned: Gauge,
    rebalances: Counter,
    memory_max: Gauge,
    memory_ratio: Gauge<f64, AtomicU64>,
    resident: Gauge,
    registry_answers: Counters,
    registry_up: Gauge,
    families: TableFamilies,
    tables: Mutex<BTreeMap<String, TableMetrics>>,
}

impl std::fmt::Debug for Metrics {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Metrics")
    }
}

impl Default for Metrics {
    fn default() -> Self {
        let mut root = Registry::default();
        let registry = root.sub_registry_with_prefix("lakebed");
        registry.register(
            "build",
            "The running program",
            Info::new(vec![("version", env!("CARGO_PKG_VERSION").to_owned())]),
        );
        let consumed = Counters::default();
        registry.register("records_consumed", "Records read from Kafka", consumed.clone());
        let consumed_bytes = Counters::default();
        registry.register("bytes_consumed", "Bytes read from Kafka", consumed_bytes.clone());
        let lag = Gauges::default();
        registry.register(
            "lag_records",
            "Records not yet in the tables, by partition",
            lag.clone(),
        );
        let buffer_bytes = Gauge::default();
        let help = "Bytes of records read and not yet committed";
        registry.register("buffer_bytes", help, buffer_bytes.clone());
        let paused = Gauge::default();
        let help = "Partitions not read for the moment, for want of memory";
        registry.register("partitions_paused", help, paused.clone());
        let assigned = Gauge::default();
        let help = "Partitions that the consumer group has given us";
        registry.register("assigned_partitions", help, assigned.clone());
        let rebalances = Counter::default();
        registry.register("rebalances", "Changes of the assignment", rebalances.clone());
        let memory_max = Gauge::default();
        let help = "What `memory.max` allows buffers, queues and key indexes together";
        registry.register("memory_budget_bytes", help, memory_max.clone());
        let memory_ratio = Gauge::<f64, AtomicU64>::default();
        let help = "Part of the memory budget that is taken, as it is counted";
        registry.register("memory_budget_ratio", help, memory_ratio.clone());
        let registry_answers = Counters::default();
        let help = "Requests to schema registries, by result";
        registry.register("registry_requests", help, registry_answers.clone());
        let registry_up = Gauge::default();
        registry_up.set(1);
        let help = "Whether schema registries answer, as far as they have been asked";
        registry.register("registry_up", help, registry_up.clone());
        let families = TableFamilies::register(registry);
        let resident = Gauge::default();
        let help = "Memory that the process holds";
        root.register("process_resident_memory_bytes", help, resident.clone());
        Self {
            registry: root,
            consumed,
            consumed_bytes,
            topics: RwLock::default(),
            lag,
            buffer_bytes,
            paused,
            assigned,
            rebalances,
            memory_max,
            memory_ratio,
            resident,
            registry_answers,
            registry_up,
            families,
            tables: Mutex::default(),
        }
    }
}

impl Metrics {
    /// Counts an answer of a schema registry: `found`, `absent` or `failed`.
    pub fn registry_answered(&self, result: &'static str) {
        self.registry_answers.get_or_create(&vec![("result", result.to_owned())]).inc();
    }

    /// Notes whether schema registries answer.
    pub fn registry_up(&self, up: bool) {
        self.registry_up.set(up.into());
    }

    /// The numbers of one table, named `database.table`. The same name gives the same numbers.
    pub fn table(&self, name: &str) -> TableMetrics {
        let mut tables = self.tables.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        let table = tables
            .entry(name.to_owned())
            .or_insert_with(|| TableMetrics::new(name, self.families.clone()));
        table.clone()
    }

    /// Counts a record read from Kafka.
    pub fn consumed(&self, tp: &TopicPartition, bytes: usize) {
        self.consumed_many(tp, 1, bytes as u64);
    }

    /// Counts records read from Kafka.
    pub fn consumed_many(&self, tp: &TopicPartition, records: u64, bytes: u64) {
        let known = {
            let topics = self.topics.read().unwrap_or_else(std::sync::PoisonError::into_inner);
            topics.get(&tp.topic).cloned()
        };
        let counters = known.unwrap_or_else(|| self.topic(&tp.topic));
        counters.records.inc_by(records);
        counters.bytes.inc_by(bytes);
    }

    fn topic(&self, topic: &Arc<str>) -> TopicCounters {
        let labels = vec![("topic", topic.to_string())];
        let counters = TopicCounters {
            records: self.consumed.get_or_create(&labels).clone(),
            bytes: self.consumed_bytes.get_or_create(&labels).clone(),
        };
        let mut topics = self.topics.write().unwrap_or_else(std::sync::PoisonError::into_inner);
        topics.insert(topic.clone(), counters.clone());
        counters
    }

    /// Notes how many records of a partition are not in the tables yet.
    pub fn lag(&self, tp: &TopicPartition, records: i64) {
        self.lag.get_or_create(&Self::partition(tp)).set(records);
    }

    /// Forgets the lag of a partition that is no longer ours: its new owner tells it.
    pub fn forget_lag(&self, tp: &TopicPartition) {
        self.lag.remove(&Self::partition(tp));
    }

    fn partition(tp: &TopicPartition) -> Labels {
        vec![("topic", tp.topic.to_string()), ("partition", tp.partition.to_string())]
    }

    /// Notes how many bytes of records are read and not yet committed.
    pub fn buffer_bytes(&self, bytes: usize) {
        self.buffer_bytes.set(i64::try_from(bytes).unwrap_or(i64::MAX));
    }

    /// Notes how many partitions are paused.
    pub fn partitions_paused(&self, count: usize) {
        self.paused.set(i64::try_from(count).unwrap_or(i64::MAX));
    }

    /// Notes how many partitions are ours.
    pub fn assigned(&self, count: usize) {
        self.assigned.set(i64::try_from(count).unwrap_or(i64::MAX));
    }

    /// Notes how often the assignment has changed since the start.
    pub fn rebalances(&self, count: u64) {
        self.rebalances.inner().store(count, Ordering::Relaxed);
    }

    /// Notes how much memory there is for buffers, queues and indexes, and how much is taken.
    pub fn memory(&self, max: usize, taken: usize) {
        self.memory_max.set(i64::try_from(max).unwrap_or(i64::MAX));
        self.memory_ratio.set(taken as f64 / max.max(1) as f64);
    }

    /// Everything in OpenMetrics text form.
    pub fn render(&self) -> String {
        if let Some(bytes) = resident_bytes() {
            self.resident.set(bytes);
        }
        let tables: Vec<TableMetrics> = {
            let tables = self.tables.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
            tables.values().cloned().collect()
        };
        tables.iter().for_each(TableMetrics::refresh);
        let mut text = String::new();
        encode(&mut text, &self.registry).expect("writing to a string does not fail");
        text
    }
}

/// Memory of this process that is in RAM; `None` where the system does not tell.
pub fn resident_bytes() -> Option<i64> {
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"))?;
    let kib: i64 = line.trim().strip_suffix("kB")?.trim().parse().ok()?;
    Some(kib * 1024)
}

#[cfg(test)]
mod tests {
    use super::*;
    use lakebed_sinks::table::WriteStats;
    use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

    fn value(text: &str, series: &str) -> f64 {
        let line = text.lines().find_map(|line| line.strip_prefix(&format!("{series} ")));
        line.unwrap_or_else(|| panic!("no {series} in:\n{text}")).parse().expect("number")
    }

    #[test]
    fn what_is_counted_is_shown_under_its_fixed_name() {
        let metrics = Metrics::default();
        let tp = TopicPartition::new("shop.orders", 3);
        let orders = metrics.table("silver.orders");

        metrics.consumed(&tp, 100);
        metrics.consumed(&tp, 50);
        metrics.lag(&tp, 7);
        metrics.assigned(4);
        metrics.rebalances(2);
        metrics.memory(1_000, 250);
        metrics.partitions_paused(2);
        metrics.buffer_bytes(1 << 20);
        orders.applied(&BTreeMap::from([("c", 3), ("d", 1)]));
        metrics.table("silver.orders").applied(&BTreeMap::from([("c", 2)]));
        let stats = WriteStats { rows: 5, files: 1, bytes: 900, attempts: 2, ..Default::default() };
        orders.committed(Duration::from_millis(30), &stats);
        orders.commit_conflict();
        orders.bad_record();
        orders.dead_letters(1);
        orders.nulled(3);
        orders.gap(&tp, 40);
        orders.index(4_096, 12);
        orders.buffered_since(Some(Instant::now() - Duration::from_secs(2)));
        orders.state(TableState::Halted);

        let text = metrics.render();
        let of = "table=\"silver.orders\"";
        assert_eq!(value(&text, "lakebed_records_consumed_total{topic=\"shop.orders\"}"), 2.0);
        assert_eq!(value(&text, "lakebed_bytes_consumed_total{topic=\"shop.orders\"}"), 150.0);
        let lag = "lakebed_lag_records{topic=\"shop.orders\",partition=\"3\"}";
        assert_eq!(value(&text, lag), 7.0);
        assert_eq!(value(&text, "lakebed_assigned_partitions"), 4.0);
        assert_eq!(value(&text, "lakebed_rebalances_total"), 2.0);
        assert_eq!(value(&text, "lakebed_memory_budget_bytes"), 1_000.0);
        assert_eq!(value(&text, "lakebed_memory_budget_ratio"), 0.25);
        assert_eq!(value(&text, "lakebed_partitions_paused"), 2.0);
        assert_eq!(value(&text, "lakebed_buffer_bytes"), 1_048_576.0);
        let applied = format!("lakebed_records_applied_total{{{of},op=\"c\"}}");
        assert_eq!(value(&text, &applied), 5.0);
        assert_eq!(value(&text, &format!("lakebed_commits_total{{{of},result=\"ok\"}}")), 1.0);
        let conflicts = format!("lakebed_commits_total{{{of},result=\"conflict\"}}");
        assert_eq!(value(&text, &conflicts), 1.0);
        assert_eq!(value(&text, &format!("lakebed_commit_retries_total{{{of}}}")), 1.0);
        assert_eq!(value(&text, &format!("lakebed_bytes_written_total{{{of}}}")), 900.0);
        let files = format!("lakebed_files_written_total{{{of},kind=\"data\"}}");
        assert_eq!(value(&text, &files), 1.0);
        assert_eq!(value(&text, &format!("lakebed_commit_duration_seconds_count{{{of}}}")), 1.0);
        assert_eq!(value(&text, &format!("lakebed_bad_records_total{{{of}}}")), 1.0);
        let letters = format!("lakebed_dlq_records_total{{{of},reason=\"decode\"}}");
        assert_eq!(value(&text, &letters), 1.0);
        assert_eq!(value(&text, &format!("lakebed_nulled_values_total{{{of}}}")), 3.0);
        let gap = format!("lakebed_offset_gap_records_total{{{of},topic=\"shop.orders\"}}");
        assert_eq!(value(&text, &gap), 40.0);
        assert_eq!(value(&text, &format!("lakebed_index_bytes{{{of}}}")), 4_096.0);
        assert_eq!(value(&text, &format!("lakebed_index_keys{{{of}}}")), 12.0);
        assert!(value(&text, &format!("lakebed_buffer_age_seconds{{{of}}}")) >= 2.0);
        assert_eq!(value(&text, &format!("lakebed_table_state{{{of},state=\"halted\"}}")), 1.0);
        assert_eq!(value(&text, &format!("lakebed_table_state{{{of},state=\"running\"}}")), 0.0);
        assert!(value(&text, "process_resident_memory_bytes") > 1e6);
        assert!(text.contains("lakebed_build_info{version="), "{text}");
        assert!(text.ends_with("# EOF\n"));
    }

    #[test]
    fn freshness_is_the_age_of_the_newest_change_and_never_goes_back() {
        let metrics = Metrics::default();
        let orders = metrics.table("silver.orders");
        let series = "lakebed_freshness_seconds{table=\"silver.orders\"}";
        assert!(!metrics.render().contains(series), "nothing is known yet");

        let now = SystemTime::now().duration_since(UNIX_EPOCH).expect("clock").as_micros() as i64;
        orders.fresh_as_of(Some(now - 5_000_000));
        orders.fresh_as_of(Some(now - 60_000_000));
        orders.fresh_as_of(None);

        let text = metrics.render();
        let fresh = value(&text, series);
        assert!((5.0..20.0).contains(&fresh), "{fresh}");
        let since = value(&text, "lakebed_seconds_since_last_commit{table=\"silver.orders\"}");
        assert!((0.0..20.0).contains(&since), "{since}");
    }

    #[test]
    fn the_lag_of_a_partition_that_left_is_forgotten() {
        let metrics = Metrics::default();
        let tp = TopicPartition::new("t", 0);
        metrics.lag(&tp, 1);
        metrics.forget_lag(&tp);
        assert!(!metrics.render().contains("lakebed_lag_records{"));
    }
}
