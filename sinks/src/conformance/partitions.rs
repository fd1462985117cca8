//! Partitioned tables: rows lie where their values say, move when those change, and are found again.

use async_trait::async_trait;
use lakebed_schemas::column::TableSchema;
use lakebed_schemas::config::TableFormat;
use lakebed_schemas::partition::{self, PartitionBy};
use lakebed_schemas::value::{Value, key_hash};

use super::LogFactory;
use super::fixture::{self, Fixture, all_rows, batch, commit, delta, expected, silver_schema, tp};
use crate::Result;
use crate::catalog::Entry;
use crate::log::{Head, TableLog, TableOptions};
use crate::storage::Storage;
use crate::table::partitions::Partitions;
use crate::table::upsert::UpsertTable;
use crate::table::{KeyChange, Written, field_ids};

/// What the tables of [`Partitioned`] are partitioned by.
pub const PARTITION_BY: [&str; 2] = ["truncate(3, name)", "bucket(3, id)"];

/// A factory whose silver tables are partitioned: the suite passes on them as well.
pub struct Partitioned<F> {
    /// Makes the tables.
    pub inner: F,
    /// In this format.
    pub format: TableFormat,
}

/// A schema, partitioned as a new table of this format would be.
pub fn partitioned(schema: &TableSchema, by: &[&str], format: TableFormat) -> TableSchema {
    let mut schema = schema.clone();
    let by: Vec<PartitionBy> = by.iter().map(|text| text.parse().expect("an entry")).collect();
    schema.partition_by = partition::fields(&schema, &by, format).expect("fields");
    if format == TableFormat::Delta {
        let columns = partition::value_columns(&schema);
        schema.columns.extend(columns);
    }
    field_ids::assign(&schema, &schema, 0)
}

#[async_trait]
impl<F: LogFactory> LogFactory for Partitioned<F> {
    async fn create(
        &self,
        storage: &Storage,
        options: &TableOptions,
        schema: &TableSchema,
    ) -> Result<Box<dyn TableLog>> {
        let schema = match schema.partition_by.is_empty() {
            true => partitioned(schema, &PARTITION_BY, self.format),
            false => schema.clone(),
        };
        self.inner.create(storage, options, &schema).await
    }

    async fn open(&self, storage: &Storage, options: &TableOptions) -> Result<Box<dyn TableLog>> {
        self.inner.open(storage, options).await
    }

    fn looked_up(&self, storage: &Storage) -> Entry {
        self.inner.looked_up(storage)
    }
}

/// Every live row lies in a file of its partition, and the files of a partition are told apart.
async fn every_row_is_in_its_place(table: &Fixture<'_>) -> Head {
    let head = table.open().await.head().clone();
    assert!(!head.schema.partition_by.is_empty(), "the table is partitioned");
    let partitions = Partitions::new(&head.schema).expect("partitions");
    for (path, live) in &head.files {
        assert_eq!(live.file.partition.len(), head.schema.partition_by.len(), "{path}");
        let alone = Head { files: [(path.clone(), live.clone())].into(), ..head.clone() };
        for row in all_rows(&table.storage, &alone).await {
            let of_row = partitions.of(&row).expect("a partition");
            assert_eq!(of_row, live.file.partition, "{path}");
        }
        for field in &head.schema.partition_by {
            assert!(path.contains(&format!("/{}=", field.name)), "{path}");
        }
    }
    head
}

fn placed(table: &UpsertTable, id: i64) -> (String, u32) {
    let place = table.index().find(key_hash(&[Value::Long(id)])).expect("a row");
    (table.index().file(place.ordinal).expect("its file").path.clone(), place.position)
}

/// An update that changes a partition value moves its row, in one commit; what keeps it stays; a
/// value that was not sent is that of the old row, before the partition is chosen.
pub async fn rows_move_between_partitions(factory: &dyn LogFactory) {
    let table = Fixture::new(factory);
    let mut silver = table.silver_on(table.create(&silver_schema()).await).await;
    let names = ["alpha", "beta", "alpine"];
    let all: Vec<(i64, Option<&str>)> =
        (0..24).map(|id| (id, Some(names[id as usize % 3]))).collect();
    commit(&mut silver, batch(0, &all)).await;
    let head = every_row_is_in_its_place(&table).await;
    assert_eq!(head.files.len(), 6, "two names begin with `alp`; three buckets of each");

    // In a new process, which reads its keys from all partitions.
    let mut silver = table.silver().await;
    commit(&mut silver, batch(24, &[(0, Some("beta")), (1, Some("beta")), (2, None)])).await;
    let mut kept = batch(27, &[]);
    kept.delta = delta(0, 27, 28);
    kept.changes = vec![KeyChange {
        topic_partition: tp(0),
        key: vec![Value::Long(5)],
        row: Some(fixture::row(5, Value::Unavailable, Value::Null, 0, 27)),
        inherit: None,
    }];
    commit(&mut silver, kept).await;

    every_row_is_in_its_place(&table).await;
    let mut rows = expected(&[]);
    rows.extend((3..24).map(|id| (id, names[id as usize % 3].to_owned())));
    rows.extend([(0, "beta".to_owned()), (1, "beta".to_owned())]);
    assert_eq!(table.names().await, rows);
    assert!(placed(&silver, 5).0.contains("/name_trunc=alp/"), "{}", placed(&silver, 5).0);
    let again = table.silver().await;
    for id in rows.keys() {
        assert_eq!(placed(&silver, *id), placed(&again, *id), "id {id}");
    }
}

/// A batch that touches very many partitions, twice: one file for each, and rows that all move.
pub async fn a_batch_may_touch_very_many_partitions(factory: &dyn LogFactory) {
    const ROWS: i64 = 60;
    let table = Fixture::new(factory);
    let mut silver = table.silver_on(table.create(&silver_schema()).await).await;
    let named = |of: &str| (0..ROWS).map(|id| (id, format!("{id:03}{of}"))).collect::<Vec<_>>();
    let mut start = 0;
    for of in ["", " again"] {
        // The other way round: no name stays where it was.
        let names = named(of);
        let events: Vec<(i64, Option<&str>)> = names
            .iter()
            .map(|(id, name)| (if of.is_empty() { *id } else { ROWS - 1 - id }, name))
            .map(|(id, name)| (id, Some(name.as_str())))
            .collect();
        let written = silver.write(batch(start, &events)).await.expect("written");
        let Written::Committed { stats, .. } = written else { panic!("nobody else writes") };
        assert_eq!(stats.files, ROWS as u64);
        start += ROWS;
        let head = every_row_is_in_its_place(&table).await;
        assert_eq!(head.live_rows(), ROWS as u64);
    }
    let deletes: Vec<(i64, Option<&str>)> =
        (0..ROWS).filter(|id| *id != 7).map(|id| (id, None)).collect();
    commit(&mut table.silver().await, batch(start, &deletes)).await;
    assert_eq!(table.names().await, expected(&[(7, "052 again")]));
}

/// Values that no path would hold, and those that are nothing.
pub async fn any_value_may_be_a_partition(factory: &dyn LogFactory, format: TableFormat) {
    let table = Fixture::new(factory);
    let long = "ü".repeat(2000);
    let nasty = [
        "",
        " ",
        "a/b=c%d",
        "..",
        ".",
        "%2F",
        "line\nand\ttab",
        "\u{1}\u{7f}",
        "😀",
        "null",
        "__HIVE_DEFAULT_PARTITION__",
        &long,
    ];
    let schema = partitioned(&silver_schema(), &["name"], format);
    let mut silver = table.silver_on(table.create(&schema).await).await;
    let events: Vec<(i64, Option<&str>)> =
        (0..).zip(nasty).map(|(id, name)| (id, Some(name))).collect();
    let count = nasty.len() as i64;
    let mut first = batch(0, &events);
    first.changes.push(KeyChange {
        topic_partition: tp(0),
        key: vec![Value::Long(count)],
        row: Some(fixture::row(count, Value::Null, Value::Null, 0, count)),
        inherit: None,
    });
    first.delta = delta(0, 0, count + 1);
    commit(&mut silver, first).await;

    let head = table.open().await.head().clone();
    assert_eq!(head.files.len(), nasty.len() + 1, "each has a partition of its own");
    let mut partitions: Vec<&Value> = head.files.values().map(|f| &f.file.partition[0]).collect();
    let mut wanted: Vec<Value> = nasty.map(|name| Value::Text(name.to_owned())).to_vec();
    wanted.push(Value::Null);
    if format == TableFormat::Delta {
        // Its log spells both alike.
        wanted[0] = Value::Null;
    }
    let text = |value: &Value| format!("{value:?}");
    partitions.sort_by_key(|value| text(value));
    wanted.sort_by_key(text);
    assert_eq!(partitions, wanted.iter().collect::<Vec<_>>());
    // Found again, every one of them.
    let deletes: Vec<(i64, Option<&str>)> = (0..=count).map(|id| (id, None)).collect();
    commit(&mut table.silver().await, batch(count + 1, &deletes)).await;
    assert_eq!(table.open().await.head().live_rows(), 0);
}
