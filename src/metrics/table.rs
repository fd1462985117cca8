//! The numbers of one table.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use lakebed_schemas::position::TopicPartition;
use lakebed_sinks::table::WriteStats;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::histogram::{Histogram, exponential_buckets};
use prometheus_client::registry::Registry;

use super::{Counters, Gauges, Labels, Seconds};

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
pub(super) struct TableFamilies {
    applied: Counters,
    bytes_written: Counters,
    rows_copied: Counters,
    files_written: Counters,
    rows_written: Counters,
    commits: Counters,
    commit_retries: Counters,
    commit_duration: Family<Labels, Histogram, fn() -> Histogram>,
    since_commit: Seconds,
    freshness: Seconds,
    others: Counters,
    bad_records: Counters,
    limits_exceeded: Counters,
    dead_letters: Counters,
    incomplete: Counters,
    repeated: Counters,
    truncated: Counters,
    nulled: Counters,
    gaps: Counters,
    gap_records: Counters,
    state: Gauges,
    buffer_age: Seconds,
    index_bytes: Gauges,
    index_keys: Gauges,
    repeats_bytes: Gauges,
    epochs: Counters,
    went_back: Counters,
    invented_keys: Counters,
    swept: Counters,
}

/// 5 ms to 164 s: a local commit takes tens of milliseconds, one to a throttled store minutes.
fn commit_histogram() -> Histogram {
    Histogram::new(exponential_buckets(0.005, 2.0, 16))
}

impl TableFamilies {
    pub(super) fn register(registry: &mut Registry) -> Self {
        let families = Self {
            applied: Counters::default(),
            bytes_written: Counters::default(),
            rows_copied: Counters::default(),
            files_written: Counters::default(),
            rows_written: Counters::default(),
            commits: Counters::default(),
            commit_retries: Counters::default(),
            commit_duration: Family::new_with_constructor(commit_histogram as fn() -> Histogram),
            since_commit: Seconds::default(),
            freshness: Seconds::default(),
            others: Counters::default(),
            bad_records: Counters::default(),
            limits_exceeded: Counters::default(),
            dead_letters: Counters::default(),
            incomplete: Counters::default(),
            repeated: Counters::default(),
            truncated: Counters::default(),
            nulled: Counters::default(),
            gaps: Counters::default(),
            gap_records: Counters::default(),
            state: Gauges::default(),
            buffer_age: Seconds::default(),
            index_bytes: Gauges::default(),
            index_keys: Gauges::default(),
            repeats_bytes: Gauges::default(),
            epochs: Counters::default(),
            went_back: Counters::default(),
            invented_keys: Counters::default(),
            swept: Counters::default(),
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
        registry.register(
            "rows_copied",
            "Rows written again because others of their file went (copy-on-write)",
            f.rows_copied,
        );
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
        registry.register(
            "other_records",
            "Records that are no change of a row, by kind: heartbeats, transaction markers and such",
            f.others,
        );
        registry.register(
            "limits_exceeded",
            "Records beyond one of the configured limits, by limit",
            f.limits_exceeded,
        );
        registry.register("bad_records", "Records that could not be understood", f.bad_records);
        registry.register("dlq_records", "Records sent to a dead-letter topic", f.dead_letters);
        registry.register(
            "incomplete_values",
            "Values that neither the event nor an older row gave, written as NULL",
            f.incomplete,
        );
        registry.register(
            "repeated_records",
            "Records that the source had sent before: in bronze, and skipped by silver",
            f.repeated,
        );
        registry.register(
            "truncated_records",
            "Records that a truncate of the source had taken before they came: skipped by silver",
            f.truncated,
        );
        registry.register(
            "nulled_values",
            "Values that the column cannot hold, written as NULL by policy",
            f.nulled,
        );
        registry.register("offset_gaps", "Gaps in the log that were passed", f.gaps);
        registry.register(
            "offset_gap_records",
            "Offsets that retention took before they were read",
            f.gap_records,
        );
        registry.register(
            "buffer_age_seconds",
            "Age of the oldest record read and not yet committed, 0 without any",
            f.buffer_age,
        );
        registry.register("index_bytes", "Memory of the key index", f.index_bytes);
        registry.register("index_keys", "Keys in the key index", f.index_keys);
        registry.register(
            "repeats_bytes",
            "Memory of the events that are remembered, to know those that come again",
            f.repeats_bytes,
        );
        registry.register(
            "epochs_begun",
            "Epochs of the source that the records have shown to begin, by what showed it",
            f.epochs,
        );
        registry.register(
            "position_regressions",
            "Times that positions went back behind all that is remembered",
            f.went_back,
        );
        registry.register(
            "invented_keys",
            "Deletes whose key is not the row's: the row stays",
            f.invented_keys,
        );
        registry.register(
            "ghosts_swept",
            "Rows deleted because a whole snapshot did not find them again",
            f.swept,
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
    /// When the oldest open record was read.
    buffered_since: Option<Instant>,
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
    pub(super) fn new(table: &str, families: TableFamilies) -> Self {
        let ages = Ages { last_commit: Instant::now(), newest_us: None, buffered_since: None };
        Self { table: table.into(), families, ages: Arc::new(Mutex::new(ages)) }
    }

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

    /// Counts a commit that is in, what it wrote, and how long it took from staging on. A batch that
    /// the table held already is none.
    pub fn committed(&self, took: Duration, stats: &WriteStats) {
        let (families, labels) = (&self.families, self.labels());
        let unanswered = self.labels_with("result", "unknown");
        families.commits.get_or_create(&unanswered).inc_by(u64::from(stats.unanswered));
        if stats.attempts == 0 {
            return;
        }
        families.commits.get_or_create(&self.labels_with("result", "ok")).inc();
        families.commit_duration.get_or_create(&labels).observe(took.as_secs_f64());
        let retries = u64::from(stats.attempts.saturating_sub(1));
        families.commit_retries.get_or_create(&labels).inc_by(retries);
        families.bytes_written.get_or_create(&labels).inc_by(stats.bytes);
        families.rows_written.get_or_create(&labels).inc_by(stats.rows);
        families.rows_copied.get_or_create(&labels).inc_by(stats.copied);
        families.incomplete.get_or_create(&labels).inc_by(stats.incomplete);
        families.swept.get_or_create(&labels).inc_by(stats.swept);
        let data = self.labels_with("kind", "data");
        families.files_written.get_or_create(&data).inc_by(stats.files);
        self.ages().last_commit = Instant::now();
    }

    /// Counts a batch that another writer had overtaken.
    pub fn commit_conflict(&self) {
        self.families.commits.get_or_create(&self.labels_with("result", "conflict")).inc();
    }

    /// Counts a commit whose outcome could not be learnt in time.
    pub fn commit_unknown(&self) {
        self.families.commits.get_or_create(&self.labels_with("result", "unknown")).inc();
    }

    /// Counts a commit that is not in.
    pub fn commit_failed(&self) {
        self.families.commits.get_or_create(&self.labels_with("result", "failed")).inc();
    }

    /// Counts records that are no change of a row, by kind.
    pub fn others(&self, by_kind: &BTreeMap<&'static str, u64>) {
        for (kind, count) in by_kind {
            self.families.others.get_or_create(&self.labels_with("kind", kind)).inc_by(*count);
        }
    }

    /// Counts a record beyond a limit, by the limit's key.
    pub fn limit_exceeded(&self, limit: &'static str) {
        self.families.limits_exceeded.get_or_create(&self.labels_with("limit", limit)).inc();
    }

    /// Counts a record that could not be understood.
    pub fn bad_record(&self) {
        self.families.bad_records.get_or_create(&self.labels()).inc();
    }

    /// Counts a record that the source had sent before.
    pub fn repeated(&self) {
        self.families.repeated.get_or_create(&self.labels()).inc();
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

    /// Counts records that a truncate in another partition had taken before they came.
    pub fn truncated(&self, count: u64) {
        self.families.truncated.get_or_create(&self.labels()).inc_by(count);
    }

    /// Counts values that became NULL because nothing that was read could answer them.
    pub fn lost(&self, count: u64) {
        self.families.incomplete.get_or_create(&self.labels()).inc_by(count);
    }

    /// Counts values that became NULL because their column cannot hold them.
    pub fn nulled(&self, count: u64) {
        self.families.nulled.get_or_create(&self.labels()).inc_by(count);
    }

    /// Counts a gap in the log that was passed, and its offsets.
    pub fn gap(&self, tp: &TopicPartition, offsets: u64) {
        let labels = self.labels_with("topic", &tp.topic);
        self.families.gaps.get_or_create(&labels).inc();
        self.families.gap_records.get_or_create(&labels).inc_by(offsets);
    }

    /// Notes since when records are open; `None` without any.
    pub fn buffered_since(&self, since: Option<Instant>) {
        self.ages().buffered_since = since;
    }

    /// Notes how much the key index takes.
    pub fn index(&self, bytes: usize, keys: usize) {
        let number = |count: usize| i64::try_from(count).unwrap_or(i64::MAX);
        self.families.index_bytes.get_or_create(&self.labels()).set(number(bytes));
        self.families.index_keys.get_or_create(&self.labels()).set(number(keys));
    }

    /// Notes how much the remembered events take.
    pub fn repeats_bytes(&self, bytes: usize) {
        let bytes = i64::try_from(bytes).unwrap_or(i64::MAX);
        self.families.repeats_bytes.get_or_create(&self.labels()).set(bytes);
    }

    /// Counts an epoch that the records have shown to begin, by what showed it.
    pub fn epoch_began(&self, by: &'static str) {
        self.families.epochs.get_or_create(&self.labels_with("by", by)).inc();
    }

    /// Counts that positions went back behind all that is remembered.
    pub fn position_went_back(&self) {
        self.families.went_back.get_or_create(&self.labels()).inc();
    }

    /// Counts a delete whose key is not the row's.
    pub fn invented_key(&self) {
        self.families.invented_keys.get_or_create(&self.labels()).inc();
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
    pub(super) fn refresh(&self) {
        let (last_commit, newest_us, buffered_since) = {
            let ages = self.ages();
            (ages.last_commit, ages.newest_us, ages.buffered_since)
        };
        let labels = self.labels();
        let since = last_commit.elapsed().as_secs_f64();
        self.families.since_commit.get_or_create(&labels).set(since);
        let buffered = buffered_since.map_or(0.0, |since| since.elapsed().as_secs_f64());
        self.families.buffer_age.get_or_create(&labels).set(buffered);
        if let Some(newest) = newest_us {
            let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
            let fresh = now.as_secs_f64() - newest as f64 / 1e6;
            self.families.freshness.get_or_create(&labels).set(fresh.max(0.0));
        }
    }
}
