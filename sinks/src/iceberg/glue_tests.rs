//! Iceberg tables whose newest version AWS Glue tells: the suite, and what only Glue can do to them.

use std::collections::BTreeMap;
use std::time::Duration;

use async_trait::async_trait;
use lakebed_schemas::column::{Column, ColumnType};
use lakebed_schemas::config::TableFormat;
use serde_json::{Value as Json, json};
use tokio::sync::OnceCell;

use super::log::IcebergLog;
use crate::catalog::Entry;
use crate::catalog::glue::double::{Fault, GlueDouble};
use crate::catalog::glue::{Glue, GlueOptions};
use crate::conformance::commits::change;
use crate::conformance::fixture::{Fixture, batch, commit, delta, expected, silver_schema};
use crate::conformance::in_catalog::{InCatalog, committed, name, two_writers_beside_somebody};
use crate::conformance::partitions::{Partitioned, rows_move_between_partitions};
use crate::log::{CommitOutcome, TableLog};
use crate::storage::Storage;
use crate::table::field_ids;
use crate::{ErrorKind, Format, Result};

const DATABASE: &str = "silver";

/// Tables in a catalog of their own.
struct Factory {
    glue: OnceCell<GlueDouble>,
    /// One client for all: to make one costs more than a test's requests.
    catalog: OnceCell<Glue>,
    options: GlueOptions,
}

impl Factory {
    fn new() -> Self {
        // Long enough for a loaded machine, short enough for tests of silence.
        let options = GlueOptions { timeout: Duration::from_secs(5), ..GlueOptions::default() };
        Self { glue: OnceCell::new(), catalog: OnceCell::new(), options }
    }

    async fn glue(&self) -> &GlueDouble {
        self.glue.get_or_init(|| GlueDouble::start(&[DATABASE])).await
    }

    async fn open(&self, table: &Fixture<'_>) -> Result<Option<IcebergLog>> {
        let options = self.placed_of(table).await;
        IcebergLog::open(table.storage.clone(), options).await
    }

    async fn create(&self, table: &Fixture<'_>) -> Result<IcebergLog> {
        let options = self.placed_of(table).await;
        IcebergLog::create_or_open(table.storage.clone(), options, &silver_schema()).await
    }

    /// The entry of the table as Glue tells it.
    async fn entry(&self, table: &Fixture<'_>) -> Json {
        self.glue().await.table(DATABASE, &name(&table.storage)).expect("an entry")
    }
}

#[async_trait]
impl InCatalog for Factory {
    const FORMAT: Format = Format::Iceberg;

    async fn entry_of(&self, storage: &Storage) -> Entry {
        let glue = self.glue().await;
        let catalog = self.catalog.get_or_init(|| glue.catalog(self.options.clone())).await;
        Entry::Glue(catalog.table(DATABASE, &name(storage)))
    }

    fn entry_if_started(&self, storage: &Storage) -> Entry {
        let table = |catalog: &Glue| Entry::Glue(catalog.table(DATABASE, &name(storage)));
        self.catalog.get().map(table).unwrap_or_default()
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

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn rows_of_a_partitioned_table_move() {
    let factory = Partitioned { inner: Factory::new(), format: TableFormat::Iceberg };
    rows_move_between_partitions(&factory).await;
}

#[tokio::test]
async fn the_entry_is_what_every_engine_expects() {
    let factory = Factory::new();
    let table = Fixture::new(&factory);
    let mut log = factory.create(&table).await.expect("made");
    let created = factory.entry(&table).await;
    committed(log.commit(&change(vec![], delta(0, 0, 1))).await);

    let entry = factory.entry(&table).await;

    let metadata = |entry: &Json| entry["Parameters"]["metadata_location"].clone();
    assert_eq!(entry["TableType"], "EXTERNAL_TABLE");
    assert_eq!(entry["Parameters"]["table_type"], "ICEBERG");
    assert_eq!(entry["Parameters"]["previous_metadata_location"], metadata(&created));
    let uri = metadata(&entry).as_str().expect("a URI").to_owned();
    let file = uri.strip_prefix(table.storage.location()).expect("inside the table");
    assert!(file.starts_with("/metadata/00001-") && file.ends_with(".metadata.json"), "{file}");
    assert!(table.storage.get(file).await.expect("read").is_some());
    assert_eq!(entry["StorageDescriptor"]["Location"], table.storage.location());
    let columns = entry["StorageDescriptor"]["Columns"].as_array().expect("columns");
    assert_eq!(columns.len(), silver_schema().columns.len());
    assert_eq!(
        columns[0],
        json!({ "Name": "id", "Type": "bigint", "Parameters": {
            "iceberg.field.id": "1", "iceberg.field.optional": "true", "iceberg.field.current": "true",
        }})
    );
    let incomplete = columns.iter().find(|column| column["Name"] == "_cdc_incomplete");
    assert_eq!(incomplete.expect("a column")["Type"], "array<string>");
}

#[tokio::test]
async fn what_others_put_into_the_entry_survives_every_commit() {
    let factory = Factory::new();
    let table = Fixture::new(&factory);
    let mut log = factory.create(&table).await.expect("made");
    factory.glue().await.edit(DATABASE, &name(&table.storage), |entry| {
        entry.insert("Owner".to_owned(), json!("the lake's people"));
        entry.insert("Description".to_owned(), json!("orders of the shop"));
        entry.insert("Retention".to_owned(), json!(7));
        let Json::Object(parameters) = &mut entry["Parameters"] else { panic!("an object") };
        parameters.insert("use_iceberg_statistics".to_owned(), json!("true"));
        entry["StorageDescriptor"]["Columns"][0]["Comment"] = json!("number of the order");
        entry["StorageDescriptor"]["Columns"][0]["Parameters"]["pii"] = json!("no");
    });

    let mut schema = silver_schema();
    schema.columns.push(Column {
        name: "added".to_owned(),
        source_name: "Added".to_owned(),
        column_type: ColumnType::TimestampTz,
        id: 0,
    });
    let schema = field_ids::assign(&log.head().schema, &schema, 0);
    let mut evolving = change(vec![], delta(0, 0, 1));
    evolving.schema = Some(schema.clone());
    committed(log.commit(&evolving).await);
    committed(log.commit(&change(vec![], delta(0, 1, 2))).await);

    let entry = factory.entry(&table).await;
    assert_eq!(entry["Owner"], "the lake's people");
    assert_eq!(entry["Description"], "orders of the shop");
    assert_eq!(entry["Retention"], 7);
    assert_eq!(entry["Parameters"]["use_iceberg_statistics"], "true");
    let columns = entry["StorageDescriptor"]["Columns"].as_array().expect("columns");
    assert_eq!(columns.len(), schema.columns.len());
    assert_eq!(columns[0]["Comment"], "number of the order");
    assert_eq!(columns[0]["Parameters"]["pii"], "no");
    let added = columns.last().expect("columns");
    assert_eq!((&added["Name"], &added["Type"]), (&json!("added"), &json!("timestamp")));
    assert_eq!(added["Comment"], "source: Added");
}

/// A commit costs one look-up and one update, whatever it holds.
#[tokio::test]
async fn a_commit_is_one_look_up_and_one_update() {
    let factory = Factory::new();
    let table = Fixture::new(&factory);
    let mut silver = table.silver_on(table.create(&silver_schema()).await).await;
    commit(&mut silver, batch(0, &[(1, Some("one")), (2, Some("two"))])).await;
    let glue = factory.glue().await;
    glue.take_counts();
    table.storage.counters().take();

    commit(&mut silver, batch(2, &[(1, Some("uno")), (3, Some("three"))])).await;

    let calls = [("GetTable".to_owned(), 1), ("UpdateTable".to_owned(), 1)];
    assert_eq!(glue.take_counts(), BTreeMap::from(calls));
    let counts = table.storage.counters().take();
    // Rows, deletes of the old row, a manifest of each, their list, the metadata.
    assert_eq!((counts.puts, counts.gets, counts.lists, counts.heads), (6, 0, 0, 0), "{counts:?}");
    // An empty commit: the list and the metadata.
    let mut idle = batch(4, &[]);
    idle.delta = delta(0, 4, 5);
    commit(&mut silver, idle).await;
    let counts = table.storage.counters().take();
    assert_eq!((counts.puts, counts.gets, counts.lists, counts.heads), (2, 0, 0, 0), "{counts:?}");
    let calls = [("GetTable".to_owned(), 1), ("UpdateTable".to_owned(), 1)];
    assert_eq!(glue.take_counts(), BTreeMap::from(calls));
    assert_eq!(glue.archived(DATABASE, &name(&table.storage)), 0, "Glue limits their number");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn each_answer_of_glue_has_its_outcome() {
    let unavailable = |code, status| Fault::Refused((code, status));
    let done = |code, status| Fault::DoneAndRefused((code, status));
    let faults = [
        Fault::LostReply,
        Fault::LostRequest,
        Fault::LandsLate,
        Fault::Foreign,
        unavailable("ThrottlingException", 400),
        unavailable("ConcurrentModificationException", 400),
        unavailable("InternalServiceException", 500),
        unavailable("OperationTimeoutException", 400),
        unavailable("SomethingNew", 503),
        done("InternalServiceException", 500),
        done("OperationTimeoutException", 400),
        done("ConcurrentModificationException", 400),
        done("SomethingNew", 502),
    ];
    let factory = Factory::new();
    let table = Fixture::new(&factory);
    let mut silver = table.silver_on(table.create(&silver_schema()).await).await;
    let glue = factory.glue().await;
    let mut rows: Vec<(i64, &str)> = Vec::new();
    for (fault, id) in faults.into_iter().zip(0..) {
        glue.push("UpdateTable", fault.clone());
        let before = silver.head().version;
        let (_, attempts) = commit(&mut silver, batch(id, &[(id, Some("written once"))])).await;
        rows.push((id, "written once"));

        assert_eq!(table.names().await, expected(&rows), "{fault:?}");
        assert!(attempts <= 2, "{fault:?} took {attempts} attempts");
        assert_eq!(silver.head().version, before + 1, "{fault:?} is one version, not two");
    }
}

/// Nothing but our own time-out ends the wait for an answer that does not come.
#[tokio::test]
async fn a_catalog_that_falls_silent_is_not_waited_for() {
    let mut factory = Factory::new();
    factory.options.timeout = Duration::from_millis(500);
    let table = Fixture::new(&factory);
    let mut silver = table.silver_on(table.create(&silver_schema()).await).await;
    let glue = factory.glue().await;
    for (call, id) in [("UpdateTable", 0), ("GetTable", 1)] {
        glue.push(call, Fault::Silence);
        let before = silver.head().version;

        let settled = commit(&mut silver, batch(id, &[(id, Some("written once"))]));
        tokio::time::timeout(Duration::from_secs(30), settled).await.expect("goes on");

        assert_eq!(silver.head().version, before + 1, "{call}: one version, not two");
    }
    assert_eq!(table.names().await, expected(&[(0, "written once"), (1, "written once")]));
}

#[tokio::test]
async fn one_attempt_at_a_commit_is_one_request() {
    let factory = Factory::new();
    let table = Fixture::new(&factory);
    let mut log = factory.create(&table).await.expect("made");
    let glue = factory.glue().await;
    for fault in [Fault::LostReply, Fault::Refused(("ThrottlingException", 400))] {
        glue.take_counts();
        glue.push("UpdateTable", fault.clone());
        let next = log.head().checkpoint.next(&crate::conformance::fixture::tp(0));
        let start = next.map_or(0, |next| next.offset);
        let outcome = log.commit(&change(vec![], delta(0, start, start + 1))).await;

        assert!(!matches!(outcome, Ok(CommitOutcome::Committed { .. })), "{fault:?}");
        assert_eq!(glue.take_counts()["UpdateTable"], 1, "{fault:?}");
        log.refresh().await.expect("refreshed");
    }
}

#[tokio::test]
async fn refusals_halt_with_what_to_do() {
    let factory = Factory::new();
    let table = Fixture::new(&factory);
    let mut log = factory.create(&table).await.expect("made");
    let glue = factory.glue().await;
    let refusals = [
        ("AccessDeniedException", 400, ErrorKind::Denied),
        ("InvalidInputException", 400, ErrorKind::Invalid),
        ("ResourceNumberLimitExceededException", 400, ErrorKind::Invalid),
        ("EntityNotFoundException", 400, ErrorKind::Corrupt),
        ("SomethingNew", 403, ErrorKind::Denied),
    ];
    for (code, status, kind) in refusals {
        glue.push("UpdateTable", Fault::Refused((code, status)));
        let refused = log.commit(&change(vec![], delta(0, 0, 1))).await.expect_err(code);
        assert_eq!(refused.kind(), kind, "{code}: {}", refused.chain());
        assert!(refused.chain().contains(code), "{}", refused.chain());
    }
    committed(log.commit(&change(vec![], delta(0, 0, 1))).await);

    glue.drop_table(DATABASE, &name(&table.storage));
    let gone = log.commit(&change(vec![], delta(0, 1, 2))).await.expect_err("gone");
    assert_eq!(gone.kind(), ErrorKind::Corrupt);
    assert!(gone.to_string().contains("is gone"), "{gone}");
    let forgotten = factory.create(&table).await.expect_err("rows are there");
    assert_eq!(forgotten.kind(), ErrorKind::Invalid);
    let unseen = factory.open(&table).await.expect_err("not a table that is still to be made");
    assert_eq!(unseen.to_string(), forgotten.to_string());
    assert!(forgotten.to_string().contains("that Glue does not have"), "{forgotten}");
}

#[tokio::test]
async fn a_name_that_something_else_has_is_refused() {
    let factory = Factory::new();
    let table = Fixture::new(&factory);
    let log = factory.create(&table).await.expect("made");
    drop(log);
    let glue = factory.glue().await;
    let renamed = |kind: &'static str| {
        move |entry: &mut serde_json::Map<String, Json>| {
            entry["Parameters"]["table_type"] = json!(kind);
        }
    };
    glue.edit(DATABASE, &name(&table.storage), renamed("DELTA"));
    let refused = factory.open(&table).await.expect_err("another kind");
    assert!(refused.to_string().contains("no Iceberg table"), "{refused}");
    glue.edit(DATABASE, &name(&table.storage), renamed("iceberg"));
    factory.open(&table).await.expect("opens").expect("whatever the case");

    glue.edit(DATABASE, &name(&table.storage), |entry| {
        entry["Parameters"]["metadata_location"] =
            json!("s3://elsewhere/x/metadata/00001-x.metadata.json");
    });
    let refused = factory.open(&table).await.expect_err("another place");
    assert!(refused.to_string().contains("s3://elsewhere"), "{refused}");
}

#[tokio::test]
async fn a_missing_database_is_made_only_where_that_is_wanted() {
    let glue = GlueDouble::start(&[]).await;
    let mut factory = Factory { glue: OnceCell::new_with(Some(glue)), ..Factory::new() };
    let table = Fixture::new(&factory);
    let refused = factory.create(&table).await.expect_err("no database");
    assert_eq!(refused.kind(), ErrorKind::Invalid);
    assert!(refused.to_string().contains("create_databases: true"), "{refused}");

    drop(table);
    factory.options.create_databases = true;
    factory.catalog = OnceCell::new();
    let table = Fixture::new(&factory);
    factory.create(&table).await.expect("made, with its database");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_foreign_writer_that_never_rests_loses_nothing_and_stops_nobody() {
    let factory = Factory::new();
    let table = Fixture::new(&factory);
    let glue = factory.glue().await;
    // Two out of three updates meet a parameter that was set a moment before.
    two_writers_beside_somebody(&table, || glue.keep_busy("UpdateTable", 2)).await;
    let entry = factory.entry(&table).await;
    assert!(entry["Parameters"]["touched"].is_string(), "the parameter survives");
    let log = factory.open(&table).await.expect("opens").expect("a table");
    assert_eq!(log.head().version, 24, "each commit is one version");
}

#[tokio::test]
async fn throttled_look_ups_are_borne_and_older_versions_are_found() {
    let factory = Factory::new();
    let table = Fixture::new(&factory);
    let mut log = factory.create(&table).await.expect("made");
    for n in 0..3 {
        committed(log.commit(&change(vec![], delta(0, n, n + 1))).await);
    }
    let glue = factory.glue().await;
    for _ in 0..2 {
        glue.push("GetTable", Fault::Refused(("ThrottlingException", 400)));
    }
    let options = factory.placed(&table.storage, &table.table).await;
    let open_at = |version| IcebergLog::open_at(table.storage.clone(), options.clone(), version);

    let old = open_at(1).await.expect("opens");
    assert_eq!(old.head().version, 1);
    let tp = crate::conformance::fixture::tp(0);
    assert_eq!(old.head().checkpoint.next(&tp).map(|next| next.offset), Some(1));
    assert_eq!(open_at(9).await.expect_err("not made").kind(), ErrorKind::Invalid);
}
