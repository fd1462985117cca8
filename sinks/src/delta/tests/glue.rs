//! Delta tables that Glue is told of: the suite, what the entry says, and Glue at its worst.

use std::time::Duration;

use async_trait::async_trait;
use lakebed_schemas::column::{Column, ColumnType};
use lakebed_schemas::config::TableFormat;
use serde_json::{Value as Json, json};
use tokio::sync::OnceCell;

use crate::Format;
use crate::catalog::Entry;
use crate::catalog::glue::double::{Fault, GlueDouble};
use crate::catalog::glue::{Glue, GlueOptions};
use crate::conformance::commits::change;
use crate::conformance::fixture::{Fixture, delta, silver_schema};
use crate::conformance::in_catalog::InCatalog;
use crate::conformance::partitions::{Partitioned, rows_move_between_partitions};
use crate::delta::registered::bring_in_step;
use crate::log::{CommitOutcome, TableLog, TableOptions};
use crate::storage::Storage;

const DATABASE: &str = "silver";
const TABLE: &str = "orders";

struct Factory {
    glue: OnceCell<GlueDouble>,
    catalog: OnceCell<Glue>,
    options: GlueOptions,
}

impl Factory {
    fn new() -> Self {
        let options = GlueOptions { timeout: Duration::from_secs(5), ..GlueOptions::default() };
        Self { glue: OnceCell::new(), catalog: OnceCell::new(), options }
    }

    async fn glue(&self) -> &GlueDouble {
        self.glue.get_or_init(|| GlueDouble::start(&[DATABASE])).await
    }

    async fn entry(&self) -> Json {
        self.glue().await.table(DATABASE, TABLE).expect("an entry")
    }

    /// The names and types of the entry's columns, once they satisfy.
    async fn columns_when(&self, enough: impl Fn(&[(String, String)]) -> bool) {
        let deadline = std::time::Instant::now() + Duration::from_secs(30);
        loop {
            let columns = columns(&self.entry().await);
            if enough(&columns) {
                return;
            }
            assert!(std::time::Instant::now() < deadline, "{columns:?}");
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }
}

fn columns(entry: &Json) -> Vec<(String, String)> {
    let columns = entry["StorageDescriptor"]["Columns"].as_array().expect("columns");
    let text = |value: &Json| value.as_str().expect("text").to_owned();
    columns.iter().map(|column| (text(&column["Name"]), text(&column["Type"]))).collect()
}

#[async_trait]
impl InCatalog for Factory {
    const FORMAT: Format = Format::Delta;

    async fn entry_of(&self, _storage: &Storage) -> Entry {
        let glue = self.glue().await;
        let catalog = self.catalog.get_or_init(|| glue.catalog(self.options.clone())).await;
        Entry::Glue(catalog.table(DATABASE, TABLE))
    }

    /// Not to be looked at where tests leave it behind the log.
    fn entry_if_started(&self, _storage: &Storage) -> Entry {
        Entry::Filesystem
    }
}

mod conformance {
    use super::Factory;

    crate::conformance_tests!(@behaviour Factory::new());
}

mod copy_on_write {
    use super::Factory;

    crate::conformance_tests!(@copy_on_write Factory::new());
}

/// Partition columns are columns: Athena finds partitions by the log.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_partitioned_table_has_no_partition_keys() {
    let factory = Partitioned { inner: Factory::new(), format: TableFormat::Delta };
    rows_move_between_partitions(&factory).await;
    let entry = factory.inner.entry().await;
    assert_eq!(entry["PartitionKeys"], json!([]));
    let columns = columns(&entry);
    let tail = &columns[columns.len() - 2..];
    let told = |name: &str, kind: &str| (name.to_owned(), kind.to_owned());
    assert_eq!(tail, [told("name_trunc", "string"), told("id_bucket", "bigint")]);
}

/// A commit that adds a column.
async fn add(log: &mut dyn TableLog, start: i64, name: &str, column_type: ColumnType) {
    let mut schema = log.head().schema.clone();
    let name = name.to_owned();
    schema.columns.push(Column { source_name: name.clone(), name, column_type, id: 0 });
    let mut evolving = change(vec![], delta(0, start, start + 1));
    evolving.schema = Some(log.assign_ids(&schema));
    let outcome = log.commit(&evolving).await.expect("no error");
    assert!(matches!(outcome, CommitOutcome::Committed { .. }), "{outcome:?}");
}

#[tokio::test]
async fn the_entry_has_both_markers_both_locations_and_the_columns_of_the_log() {
    let factory = Factory::new();
    let table = Fixture::new(&factory);
    let mut log = table.create(&silver_schema()).await;

    let entry = factory.entry().await;

    let parameters =
        json!({ "EXTERNAL": "TRUE", "table_type": "DELTA", "spark.sql.sources.provider": "delta" });
    assert_eq!(entry["Parameters"], parameters);
    assert_eq!(entry["TableType"], "EXTERNAL_TABLE");
    assert_eq!(entry["PartitionKeys"], json!([]));
    let descriptor = &entry["StorageDescriptor"];
    let location = format!("{}/", table.storage.location());
    assert_eq!(descriptor["Location"], location);
    assert_eq!(descriptor["SerdeInfo"]["Parameters"]["path"], location);
    assert!(!descriptor.to_string().to_lowercase().contains("parquet"), "{descriptor}");
    let told = columns(&entry);
    assert_eq!(told.len(), log.head().schema.columns.len());
    assert_eq!(told[0], ("id".to_owned(), "bigint".to_owned()));

    factory.glue().await.take_counts();
    add(log.as_mut(), 0, "extra", ColumnType::Decimal { precision: 38, scale: 2 }).await;
    factory.columns_when(|told| told.last().is_some_and(|(_, t)| t == "decimal(38,2)")).await;
    let counts = factory.glue().await.take_counts();
    assert_eq!((counts["GetTable"], counts["UpdateTable"]), (1, 1));
    let outcome = log.commit(&change(vec![], delta(0, 1, 2))).await.expect("no error");
    assert!(matches!(outcome, CommitOutcome::Committed { .. }), "{outcome:?}");
    table.open().await;
    let counts = factory.glue().await.take_counts();
    assert_eq!(counts.get("UpdateTable"), None, "in step: a commit and a start only look");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn glue_is_told_until_it_listens_and_no_batch_fails_for_it() {
    let factory = Factory::new();
    let table = Fixture::new(&factory);
    let glue = factory.glue().await;
    glue.push("CreateTable", Fault::Refused(("AccessDeniedException", 400)));
    let mut log = table.create(&silver_schema()).await;
    assert_eq!(glue.table(DATABASE, TABLE), None);
    add(log.as_mut(), 0, "first", ColumnType::Text).await;
    while glue.table(DATABASE, TABLE).is_none() {
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    factory.columns_when(|told| told.iter().any(|(name, _)| name == "first")).await;

    let throttled = Fault::Refused(("ThrottlingException", 400));
    let faults = [
        vec![throttled.clone(), throttled.clone(), throttled],
        vec![Fault::LostReply],
        vec![Fault::Foreign],
    ];
    for (faults, n) in faults.into_iter().zip(1..) {
        for fault in faults {
            glue.push("UpdateTable", fault);
        }
        let name = format!("column_{n}");
        add(log.as_mut(), n, &name, ColumnType::Text).await;
        factory.columns_when(|told| told.iter().any(|(told, _)| *told == name)).await;
    }
    assert!(factory.entry().await["Parameters"]["touched"].is_string(), "theirs survives");
    assert_eq!(glue.archived(DATABASE, TABLE), 0, "Glue limits their number");
}

/// A process that has not been heard for a while tries again to tell what it knew.
#[tokio::test]
async fn an_older_schema_is_never_told_over_a_newer_one() {
    let factory = Factory::new();
    let table = Fixture::new(&factory);
    drop(table.create(&silver_schema()).await);
    let known = schema_string(&table, &factory).await;
    let mut log = table.open().await;
    add(log.as_mut(), 0, "first", ColumnType::Text).await;
    add(log.as_mut(), 1, "second", ColumnType::Text).await;
    let told = columns(&factory.entry().await);
    assert_eq!(told.last().expect("columns").0, "second");

    let options = factory.placed_of(&table).await;
    let Entry::Glue(entry) = &options.catalog else { panic!("in Glue") };
    let version = factory.entry().await["VersionId"].clone();
    bring_in_step(entry, &table.storage, &options, &known).await.expect("in step");
    assert_eq!(factory.entry().await["VersionId"], version, "nothing was changed");

    // What the log has gone past, or what was never in it, does not stay.
    factory.glue().await.edit(DATABASE, TABLE, |entry| {
        let columns = entry["StorageDescriptor"]["Columns"].as_array_mut().expect("columns");
        columns.pop();
        columns.push(json!({ "Name": "of_a_former_table", "Type": "string" }));
    });
    bring_in_step(entry, &table.storage, &options, &known).await.expect("in step");
    assert_eq!(columns(&factory.entry().await), told);
}

/// The schema as the newest entry of the log that has one tells it.
async fn schema_string(table: &Fixture<'_>, factory: &Factory) -> String {
    let options = factory.placed_of(table).await;
    let log = crate::delta::open(&table.storage, &options).await.expect("opens");
    log.expect("a table").schema_string().to_owned()
}

#[tokio::test]
async fn a_start_finds_what_glue_has_missed_and_keeps_what_others_said() {
    let factory = Factory::new();
    let table = Fixture::new(&factory);
    let mut log = table.create(&silver_schema()).await;
    add(log.as_mut(), 0, "extra", ColumnType::Text).await;
    factory.columns_when(|told| told.iter().any(|(name, _)| name == "extra")).await;
    drop(log);
    factory.glue().await.edit(DATABASE, TABLE, |entry| {
        entry.insert("Owner".to_owned(), json!("the lake's people"));
        let columns = entry["StorageDescriptor"]["Columns"].as_array_mut().expect("columns");
        columns.truncate(1);
        columns[0]["Comment"] = json!("number of the order");
    });

    let reading = factory.placed_of(&table).await;
    let Entry::Glue(entry) = reading.catalog else { panic!("in Glue") };
    let reading = TableOptions { catalog: Entry::Glue(entry.without_registering()), ..reading };
    crate::open(Format::Delta, &table.storage, &reading).await.expect("opens").expect("a table");
    assert_eq!(columns(&factory.entry().await).len(), 1, "who only reads changes nothing");

    let log = table.open().await;
    let entry = factory.entry().await;
    assert_eq!(columns(&entry).len(), log.head().schema.columns.len());
    assert_eq!(entry["Owner"], "the lake's people");
    assert_eq!(entry["StorageDescriptor"]["Columns"][0]["Comment"], "number of the order");
}

#[tokio::test]
async fn the_placeholder_stands_for_zoneless_timestamps_or_by_configuration() {
    let placeholder = [("col".to_owned(), "array<string>".to_owned())];
    let factory = Factory::new();
    let table = Fixture::new(&factory);
    let mut log = table.create(&silver_schema()).await;
    assert_ne!(columns(&factory.entry().await), placeholder);
    add(log.as_mut(), 0, "at", ColumnType::Timestamp).await;
    factory.columns_when(|told| told == placeholder).await;

    let mut factory = Factory::new();
    factory.options.placeholder_columns = true;
    let table = Fixture::new(&factory);
    let _log = table.create(&silver_schema()).await;
    assert_eq!(columns(&factory.entry().await), placeholder);
}

#[tokio::test]
async fn an_entry_of_another_kind_is_left_alone() {
    let factory = Factory::new();
    let table = Fixture::new(&factory);
    drop(table.create(&silver_schema()).await);
    factory.glue().await.edit(DATABASE, TABLE, |entry| {
        entry["Parameters"] = json!({ "table_type": "ICEBERG", "metadata_location": "s3://x" });
    });
    let theirs = factory.entry().await;

    let mut log = table.open().await;
    let outcome = log.commit(&change(vec![], delta(0, 0, 1))).await.expect("no error");

    assert!(matches!(outcome, CommitOutcome::Committed { .. }), "{outcome:?}");
    assert_eq!(factory.entry().await, theirs);
}
