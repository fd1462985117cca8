//! What the service counts, in Prometheus's form.
//!
//! One [`Metrics`] for the process, one [`TableMetrics`] for each table. Labels are bounded: tables,
//! topics, partitions and words from closed lists, never anything from a row. Ages are worked out
//! when they are asked for, so that they go on growing when nothing else does.

use std::collections::{BTreeMap, HashMap};
use std::sync::atomic::AtomicU64;
use std::sync::{Arc, Mutex, RwLock};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use lakebed_schemas::position::TopicPartition;
use lakebed_sinks::table::WriteStats;
use prometheus_client::encoding::text::encode;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::{Histogram, exponential_buckets};
use prometheus_client::metrics::info::Info;
use prometheus_client::registry::Registry;

type Labels = Vec<(&'static str, String)>;
type Counters = Family<Labels, Counter>;
type Gauges = Family<Labels, Gauge>;
type Seconds = Family<Labels, Gauge<f64, AtomicU64>>;

/// What a table is doing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TableState {
    /// Its partitions are assigned and it takes records.
    Running,
    /// Stopped by policy, until an operator does something.
    Halted,
    /// Waiting to learn what became of a commit.
    Unsettled,
}

impl TableState {
    const ALL: [Self; 3] = [Self::Running, Self::Halted, Self::Unsettled];

    fn as_str(self) -> &'static str {
        match self {
            Self::Running => "running",
            Self::Halted => "halted",
            Self::Unsettled => "unsettled",
        }
    }
}

/// The families with a label for each table.
#[derive(Clone)]
struct TableFamilies {
    applied: Counters,
    bytes_written: Counters,
    files_written: Counters,
    rows_written: Counters,
    commits: Counters,
    commit_retries: Counters,
    commit_duration: Family<Labels, Histogram, fn() -> Histogram>,
    since_commit: Seconds,
    freshness: Seconds,
    bad_records: Counters,
    dead_letters: Counters,
    incomplete: Counters,
    state: Gauges,
}

/// 5 ms to 164 s: a local commit takes tens of milliseconds, one to a throttled store minutes.
fn commit_histogram() -> Histogram {
    Histogram::new(exponential_buckets(0.005, 2.0, 16))
}

impl TableFamilies {
    fn register(registry: &mut Registry) -> Self {
        let families = Self {
            applied: Counters::default(),
            bytes_written: Counters::default(),
            files_written: Counters::default(),
            rows_written: Counters::default(),
            commits: Counters::default(),
            commit_retries: Counters::default(),
            commit_duration: Family::new_with_constructor(commit_histogram as fn() -> Histogram),
            since_commit: Seconds::default(),
            freshness: Seconds::default(),
            bad_records: Counters::default(),
            dead_letters: Counters::default(),
            incomplete: Counters::default(),
            state: Gauges::default(),
        };
        let f = families.clone();
        registry.register(
            "records_applied",
            "Records applied to the table, by operation",
            f.applied,
        );
        registry.register("bytes_written", "Bytes of data files written", f.bytes_written);
        registry.register("files_written", "Files written, by kind", f.files_written);
        registry.register("rows_written", "Rows written to data files", f.rows_written);
        registry.register("commits", "Commits of the table, by result", f.commits);
        registry.register("commit_retries", "Commit attempts after the first", f.commit_retries);
        registry.register(
            "commit_duration_seconds",
            "Time from staging a batch to its commit",
            f.commit_duration,
        );
        registry.register(
            "seconds_since_last_commit",
            "Seconds since the table's last commit, or since the process started",
            f.since_commit,
        );
        registry.register(
            "freshness_seconds",
            "Now minus the source's commit time of the newest applied change",
            f.freshness,
        );
        registry.register("bad_records", "Records that could not be understood", f.bad_records);
        registry.register("dlq_records", "Records sent to a dead-letter topic", f.dead_letters);
        registry.register(
            "incomplete_values",
            "Values that neither the event nor an older row gave, written as NULL",
            f.incomplete,
        );
        registry.register("table_state", "1 for the state that the table is in", f.state);
        families
    }
}

/// What moves between scrapes without anything happening.
#[derive(Debug)]
struct Ages {
    last_commit: Instant,
    /// Source commit time of the newest applied change, microseconds since the epoch.
    newest_us: Option<i64>,
}

/// The numbers of one table. Cheap to clone; all clones count together.
#[derive(Clone)]
pub struct TableMetrics {
    table: Arc<str>,
    families: TableFamilies,
    ages: Arc<Mutex<Ages>>,
}

impl std::fmt::Debug for TableMetrics {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "TableMetrics({})", self.table)
    }
}

impl TableMetrics {
    fn labels(&self) -> Labels {
        vec![("table", self.table.to_string())]
    }

    fn labels_with(&self, name: &'static str, value: &str) -> Labels {
        vec![("table", self.table.to_string()), (name, value.to_owned())]
    }

    /// Counts applied records by Debezium's letter of the operation.
    pub fn applied(&self, by_op: &BTreeMap<&'static str, u64>) {
        for (op, count) in by_op {
            self.families.applied.get_or_create(&self.labels_with("op", op)).inc_by(*count);
        }
    }

    /// Counts a commit that is in, what it wrote, and how long it took from staging on.
    pub fn committed(&self, took: Duration, stats: &WriteStats) {
        let (families, labels) = (&self.families, self.labels());
        families.commits.get_or_create(&self.labels_with("result", "ok")).inc();
        families.commit_duration.get_or_create(&labels).observe(took.as_secs_f64());
        let retries = u64::from(stats.attempts.saturating_sub(1));
        families.commit_retries.get_or_create(&labels).inc_by(retries);
        families.bytes_written.get_or_create(&labels).inc_by(stats.bytes);
        families.rows_written.get_or_create(&labels).inc_by(stats.rows);
        families.incomplete.get_or_create(&labels).inc_by(stats.incomplete);
        let data = self.labels_with("kind", "data");
        families.files_written.get_or_create(&data).inc_by(stats.files);
        self.ages().last_commit = Instant::now();
    }

    /// Counts a batch that another writer had overtaken.
    pub fn commit_conflict(&self) {
        self.families.commits.get_or_create(&self.labels_with("result", "conflict")).inc();
    }

    /// Counts a commit whose outcome could not be learnt yet.
    pub fn commit_unknown(&self) {
        self.families.commits.get_or_create(&self.labels_with("result", "unknown")).inc();
    }

    /// Counts a commit that is not in.
    pub fn commit_failed(&self) {
        self.families.commits.get_or_create(&self.labels_with("result", "failed")).inc();
    }

    /// Counts a record that could not be understood.
    pub fn bad_record(&self) {
        self.families.bad_records.get_or_create(&self.labels()).inc();
    }

    /// Counts records that a dead-letter topic has acknowledged.
    pub fn dead_letters(&self, count: u64) {
        let labels = self.labels_with("reason", "decode");
        self.families.dead_letters.get_or_create(&labels).inc_by(count);
    }

    /// Notes the source's commit time of the newest applied change, microseconds since the epoch:
    /// from a commit, or from the table itself when it is opened.
    pub fn fresh_as_of(&self, source_ts_us: Option<i64>) {
        let mut ages = self.ages();
        ages.newest_us = ages.newest_us.max(source_ts_us);
    }

    /// Notes what the table is doing.
    pub fn state(&self, state: TableState) {
        for each in TableState::ALL {
            let labels = self.labels_with("state", each.as_str());
            self.families.state.get_or_create(&labels).set(i64::from(each == state));
        }
    }

    fn ages(&self) -> std::sync::MutexGuard<'_, Ages> {
        self.ages.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
    }

    /// Works the ages out for a scrape.
    fn refresh(&self) {
        let (last_commit, newest_us) = {
            let ages = self.ages();
            (ages.last_commit, ages.newest_us)
        };
        let labels = self.labels();
        let since = last_commit.elapsed().as_secs_f64();
        self.families.since_commit.get_or_create(&labels).set(since);
        if let Some(newest) = newest_us {
            let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
            let fresh = now.as_secs_f64() - newest as f64 / 1e6;
            self.families.freshness.get_or_create(&labels).set(fresh.max(0.0));
        }
    }
}

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
    gaps: Counters,
    gap_records: Counters,
    lag: Gauges,
    buffer_bytes: Gauge,
    paused: Gauge,
    assigned: Gauge,
    rebalances: Counter,
    resident: Gauge,
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
        let gaps = Counters::default();
        registry.register("offset_gaps", "Gaps in the log that were passed", gaps.clone());
        let gap_records = Counters::default();
        let help = "Offsets that retention took before they were read";
        registry.register("offset_gap_records", help, gap_records.clone());
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
        let families = TableFamilies::register(registry);
        let resident = Gauge::default();
        let help = "Memory that the process holds";
        root.register("process_resident_memory_bytes", help, resident.clone());
        Self {
            registry: root,
            consumed,
            consumed_bytes,
            topics: RwLock::default(),
            gaps,
            gap_records,
            lag,
            buffer_bytes,
            paused,
            assigned,
            rebalances,
            resident,
            families,
            tables: Mutex::default(),
        }
    }
}

impl Metrics {
    /// The numbers of one table, named `database.table`. The same name gives the same numbers.
    pub fn table(&self, name: &str) -> TableMetrics {
        let mut tables = self.tables.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        let table = tables.entry(name.to_owned()).or_insert_with(|| TableMetrics {
            table: name.into(),
            families: self.families.clone(),
            ages: Arc::new(Mutex::new(Ages { last_commit: Instant::now(), newest_us: None })),
        });
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

    /// Counts a gap in a log that was passed.
    pub fn gap(&self, tp: &TopicPartition) {
        self.gaps.get_or_create(&vec![("topic", tp.topic.to_string())]).inc();
    }

    /// Counts the offsets of a gap that was passed.
    pub fn gap_records(&self, tp: &TopicPartition, offsets: u64) {
        self.gap_records.get_or_create(&vec![("topic", tp.topic.to_string())]).inc_by(offsets);
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

    /// Notes how many partitions are ours after a change of the assignment, and counts the change.
    pub fn rebalanced(&self, assigned: usize) {
        self.assigned.set(i64::try_from(assigned).unwrap_or(i64::MAX));
        self.rebalances.inc();
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
        metrics.rebalanced(4);
        metrics.partitions_paused(2);
        metrics.buffer_bytes(1 << 20);
        orders.applied(&BTreeMap::from([("c", 3), ("d", 1)]));
        metrics.table("silver.orders").applied(&BTreeMap::from([("c", 2)]));
        let stats = WriteStats { rows: 5, files: 1, bytes: 900, attempts: 2, ..Default::default() };
        orders.committed(Duration::from_millis(30), &stats);
        orders.commit_conflict();
        orders.bad_record();
        orders.dead_letters(1);
        orders.state(TableState::Halted);

        let text = metrics.render();
        let of = "table=\"silver.orders\"";
        assert_eq!(value(&text, "lakebed_records_consumed_total{topic=\"shop.orders\"}"), 2.0);
        assert_eq!(value(&text, "lakebed_bytes_consumed_total{topic=\"shop.orders\"}"), 150.0);
        let lag = "lakebed_lag_records{topic=\"shop.orders\",partition=\"3\"}";
        assert_eq!(value(&text, lag), 7.0);
        assert_eq!(value(&text, "lakebed_assigned_partitions"), 4.0);
        assert_eq!(value(&text, "lakebed_rebalances_total"), 1.0);
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
