//! What the suite's tests are made of: a table in a temporary folder, batches and a reader.

use std::collections::BTreeMap;
use std::time::Duration;

use futures::TryStreamExt;
use lakebed_schemas::column::{Column, ColumnType, TableSchema};
use lakebed_schemas::config::Mode;
use lakebed_schemas::position::{CheckpointDelta, TopicPartition};
use lakebed_schemas::value::Value;

use tokio::runtime::{Handle, RuntimeFlavor};

use super::LogFactory;
use crate::Format;
use crate::catalog::Entry;
use crate::faults::{FaultyLog, Script};
use crate::log::{Head, Retention, TableLog, TableOptions};
use crate::profile::inspect;
use crate::storage::{S3Options, Storage};
use crate::table::arrow_values::value_at;
use crate::table::reader;
use crate::table::settle::SettleOptions;
use crate::table::upsert::UpsertTable;
use crate::table::writer::WriterOptions;
use crate::table::{KeyChange, UpsertBatch, WriteOptions, Written};

/// Topic of every batch of the suite.
pub const TOPIC: &str = "shop.public.orders";

/// A place for one table and the factory of its log. When it is dropped, the table that a test has
/// left there must be one that Athena takes.
pub struct Fixture<'a> {
    factory: &'a dyn LogFactory,
    is_for_nobody: bool,
    /// Kept until the end of the test.
    _folder: tempfile::TempDir,
    /// Where the table is.
    pub storage: Storage,
    /// With little patience and small row groups, so that small tests see several.
    pub options: WriteOptions,
    /// How the table is kept.
    pub table: TableOptions,
}

impl<'a> Fixture<'a> {
    /// An empty place.
    pub fn new(factory: &'a dyn LogFactory) -> Self {
        Self::in_mode(factory, factory.mode())
    }

    /// An empty place for a table from which rows go in this way.
    pub fn in_mode(factory: &'a dyn LogFactory, mode: Mode) -> Self {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let path = folder.path().join("lake/table");
        std::fs::create_dir_all(&path).expect("a table's folder");
        let location = path.to_str().expect("a temporary path is text");
        let storage = Storage::open(location, &S3Options::default()).expect("local storage");
        let settle = SettleOptions {
            attempts_max: 10,
            backoff_min: Duration::from_millis(1),
            backoff_max: Duration::from_millis(20),
            unknown_max: Duration::from_secs(20),
            ..SettleOptions::default()
        };
        let writer =
            WriterOptions { row_group_rows: 64, file_bytes: 16 << 10, ..WriterOptions::default() };
        let table = TableOptions {
            sink_id: "lakebed".to_owned(),
            cluster: None,
            owner: "conformance".to_owned(),
            retention: Retention::default(),
            catalog: Default::default(),
            mode,
        };
        let options = WriteOptions { writer, settle, mode };
        Self { factory, is_for_nobody: false, _folder: folder, storage, options, table }
    }

    /// For a test that leaves a table which Athena does not take.
    #[must_use]
    pub fn for_nobody(mut self) -> Self {
        self.is_for_nobody = true;
        self
    }

    /// A new table of this schema, as a bare log.
    pub async fn create(&self, schema: &TableSchema) -> Box<dyn TableLog> {
        self.factory.create(&self.storage, &self.table, schema).await.expect("a new table")
    }

    /// The table's log as a new process sees it.
    pub async fn open(&self) -> Box<dyn TableLog> {
        self.factory.open(&self.storage, &self.table).await.expect("the table opens")
    }

    /// The silver table, opened.
    pub async fn silver(&self) -> UpsertTable {
        self.silver_on(self.open().await).await
    }

    /// The silver table on this log.
    pub async fn silver_on(&self, log: Box<dyn TableLog>) -> UpsertTable {
        UpsertTable::open(log, self.options.clone()).await.expect("the index is read")
    }

    /// The silver table on a log with faults.
    pub async fn faulty_silver(&self) -> (UpsertTable, Script) {
        let script = Script::default();
        let log = FaultyLog::new(self.open().await, self.open().await, script.clone());
        (self.silver_on(Box::new(log)).await, script)
    }

    /// Every live row of a newly opened table: name by id.
    pub async fn names(&self) -> BTreeMap<i64, String> {
        let log = self.open().await;
        names(&self.storage, log.head()).await
    }
}

impl Drop for Fixture<'_> {
    fn drop(&mut self) {
        let is_there = |folder: &str| self._folder.path().join("lake/table").join(folder).is_dir();
        let format = match (is_there("metadata"), is_there("_delta_log")) {
            _ if self.is_for_nobody || std::thread::panicking() => return,
            (true, _) => Format::Iceberg,
            (_, true) => Format::Delta,
            _ => return,
        };
        let entry = self.factory.looked_up(&self.storage);
        let flavor = Handle::current().runtime_flavor();
        if matches!(
            (&entry, flavor),
            (Entry::Glue(_) | Entry::Rest(_), RuntimeFlavor::CurrentThread)
        ) {
            // The catalog is served by the thread that would wait for it.
            return;
        }
        let storage = self.storage.clone();
        // A runtime cannot wait inside of another.
        let look = std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
            runtime.expect("a runtime").block_on(inspect(&storage, format, &entry, usize::MAX))
        });
        let report = look.join().expect("looks").expect("the table can be read");
        assert_eq!(report.broken, [], "Athena takes the table");
        assert_eq!(report.opened, report.files, "every file has been opened");
    }
}

/// A table of orders: `id` (the key), `name`, `note` and what Lakebed adds.
pub fn silver_schema() -> TableSchema {
    let own = [("id", ColumnType::Long), ("name", ColumnType::Text), ("note", ColumnType::Text)];
    let system = lakebed_schemas::silver::system_columns();
    let columns = own.into_iter().chain(system).zip(1..).map(|((name, column_type), id)| {
        let column_type = match column_type {
            // What Delta holds, so that one schema does for both formats.
            ColumnType::Int => ColumnType::Long,
            other => other,
        };
        Column { name: name.to_owned(), source_name: name.to_owned(), column_type, id }
    });
    TableSchema { columns: columns.collect(), key: vec!["id".to_owned()], partition_by: Vec::new() }
}

/// A topic-partition of the suite's topic.
pub fn tp(partition: i32) -> TopicPartition {
    TopicPartition::new(TOPIC, partition)
}

/// The offsets `[start, end)` of one partition.
pub fn delta(partition: i32, start: i64, end: i64) -> CheckpointDelta {
    let mut delta = CheckpointDelta::default();
    delta.extend(&tp(partition), start, end, Some(end as u64));
    delta
}

/// A row of [`silver_schema`].
pub fn row(id: i64, name: Value, note: Value, partition: i32, offset: i64) -> Vec<Value> {
    vec![
        Value::Long(id),
        name,
        note,
        Value::Text("u".to_owned()),
        Value::Long(1_700_000_000_000_000 + offset),
        Value::Text(format!("{offset:016x}")),
        Value::Text(TOPIC.to_owned()),
        Value::Long(i64::from(partition)),
        Value::Long(offset),
        Value::Null,
    ]
}

/// A batch of partition 0: one event for each `(id, name)`, `None` deletes. Its offsets are
/// `start..start + events`.
pub fn batch(start: i64, events: &[(i64, Option<&str>)]) -> UpsertBatch {
    batch_of(0, start, events)
}

/// The same in any partition.
pub fn batch_of(partition: i32, start: i64, events: &[(i64, Option<&str>)]) -> UpsertBatch {
    let changes = events.iter().zip(start..).map(|((id, name), offset)| KeyChange {
        topic_partition: tp(partition),
        key: vec![Value::Long(*id)],
        row: name.map(|name| {
            let note = Value::Text(format!("note of {id}"));
            row(*id, Value::Text(name.to_owned()), note, partition, offset)
        }),
        inherit: None,
    });
    let end = start + events.len() as i64;
    UpsertBatch {
        schema: silver_schema(),
        changes: changes.collect(),
        delta: delta(partition, start, end),
        freshness: Some(end),
        ..UpsertBatch::default()
    }
}

/// Writes a batch that must be committed; answers version and attempts.
pub async fn commit(table: &mut UpsertTable, batch: UpsertBatch) -> (i64, u32) {
    match table.write(batch).await.expect("the batch is settled") {
        Written::Committed { version, stats } => (version, stats.attempts),
        Written::Overtaken => panic!("nobody else has moved the offsets"),
    }
}

/// Every live row of a version as values, by the table's columns.
pub async fn all_rows(storage: &Storage, head: &Head) -> Vec<Vec<Value>> {
    let columns: Vec<usize> = (0..head.schema.columns.len()).collect();
    let batches: Vec<_> =
        reader::scan(storage, head, &columns).try_collect().await.expect("the table reads");
    let mut rows = Vec::new();
    for batch in batches {
        rows.extend((0..batch.num_rows()).map(|row| {
            let columns = batch.columns().iter().zip(&head.schema.columns);
            columns
                .map(|(array, column)| value_at(array.as_ref(), &column.column_type, row))
                .collect::<Vec<_>>()
        }));
    }
    assert_eq!(rows.len() as u64, head.live_rows(), "readers see what the head counts");
    rows
}

/// Name by id of every live row; no id may come twice.
pub async fn names(storage: &Storage, head: &Head) -> BTreeMap<i64, String> {
    let mut names = BTreeMap::new();
    let (id, name) = (0, 1);
    for row in all_rows(storage, head).await {
        let (Value::Long(id), Value::Text(name)) = (&row[id], &row[name]) else {
            panic!("id and name are set in every row");
        };
        assert_eq!(names.insert(*id, name.clone()), None, "id {id} has one row");
    }
    names
}

/// What [`names`] should give.
pub fn expected(rows: &[(i64, &str)]) -> BTreeMap<i64, String> {
    rows.iter().map(|(id, name)| (*id, (*name).to_owned())).collect()
}
