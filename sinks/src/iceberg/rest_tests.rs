//! Iceberg tables whose newest version a REST catalog tells: the suite, and what only such a catalog
//! can do to them.

mod places;

use std::collections::BTreeMap;
use std::time::Duration;

use async_trait::async_trait;
use iceberg::spec::TableMetadata;
use lakebed_schemas::column::{Column, ColumnType};
use lakebed_schemas::config::TableFormat;
use serde_json::{Value as Json, json};
use tokio::sync::OnceCell;

use super::log::IcebergLog;
use super::updates;
use crate::catalog::Entry;
use crate::catalog::rest::double::{Fault, Manners, Places, RestDouble, Staging};
use crate::catalog::rest::{Rest, RestOptions};
use crate::conformance::commits::change;
use crate::conformance::fixture::{Fixture, batch, commit, delta, expected, silver_schema, tp};
use crate::conformance::in_catalog::{InCatalog, committed, name, two_writers_beside_somebody};
use crate::conformance::partitions::{Partitioned, partitioned, rows_move_between_partitions};
use crate::log::{CommitOutcome, Retention, TableLog};
use crate::storage::Storage;
use crate::table::field_ids;
use crate::{ErrorKind, Format, Result};

const DATABASE: &str = "silver";

/// Tables in a catalog of their own.
struct Factory {
    namespaces: &'static [&'static str],
    manners: Manners,
    double: OnceCell<RestDouble>,
    catalog: OnceCell<Rest>,
    options: RestOptions,
}

impl Factory {
    fn new() -> Self {
        // Long enough for a loaded machine, short enough for tests of silence.
        let options = RestOptions { timeout: Duration::from_secs(5), ..RestOptions::default() };
        let (double, catalog) = (OnceCell::new(), OnceCell::new());
        Self { namespaces: &[DATABASE], manners: Manners::default(), double, catalog, options }
    }

    fn with(manners: Manners) -> Self {
        Self { manners, ..Self::new() }
    }

    /// A catalog that chooses the places of tables.
    fn choosing(manners: Manners) -> Self {
        let mut factory = Self::with(Manners { places: Places::Chosen, ..manners });
        factory.options.chooses_places = true;
        factory
    }

    async fn double(&self) -> &RestDouble {
        let start = || RestDouble::start(self.namespaces, self.manners.clone());
        self.double.get_or_init(start).await
    }

    async fn catalog(&self) -> &Rest {
        let double = self.double().await;
        self.catalog.get_or_init(|| async { double.catalog(self.options.clone()) }).await
    }

    async fn open(&self, table: &Fixture<'_>) -> Result<Option<IcebergLog>> {
        let options = self.placed_of(table).await;
        IcebergLog::open(self.asked(&table.storage), options).await
    }

    async fn create(&self, table: &Fixture<'_>) -> Result<IcebergLog> {
        let options = self.placed_of(table).await;
        IcebergLog::create_or_open(self.asked(&table.storage), options, &silver_schema()).await
    }

    /// The table's metadata as the catalog has it.
    async fn metadata(&self, table: &Fixture<'_>) -> Json {
        self.double().await.metadata(DATABASE, &name(&table.storage)).expect("a table")
    }
}

#[async_trait]
impl InCatalog for Factory {
    const FORMAT: Format = Format::Iceberg;

    async fn entry_of(&self, storage: &Storage) -> Entry {
        self.double().await.choose(&name(storage), storage.location());
        Entry::Rest(self.catalog().await.table(DATABASE, &name(storage)))
    }

    fn asked(&self, storage: &Storage) -> Storage {
        match self.options.chooses_places {
            true => storage.child("not/here"),
            false => storage.clone(),
        }
    }

    fn entry_if_started(&self, storage: &Storage) -> Entry {
        let table = |catalog: &Rest| Entry::Rest(catalog.table(DATABASE, &name(storage)));
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

/// The number inside of the one column that is a list, and the column's own.
fn list_ids(metadata: &Json) -> (i64, i64) {
    let schemas = metadata["schemas"].as_array().expect("schemas");
    let current = schemas.iter().find(|s| s["schema-id"] == metadata["current-schema-id"]);
    let fields = current.expect("a schema")["fields"].as_array().expect("fields");
    let field = fields.iter().find(|field| field["name"] == "_cdc_incomplete").expect("a list");
    let id = |id: &Json| id.as_i64().expect("a number");
    (id(&field["type"]["element-id"]), id(&field["id"]))
}

/// Whoever makes the table: what is inside of a column has the numbers that it has in our files.
#[tokio::test]
async fn a_new_table_has_the_numbers_of_our_files_whatever_the_catalog_can_do() {
    for staging in [Staging::Known, Staging::Refused, Staging::Forgotten] {
        let factory = Factory::with(Manners { staging, ..Manners::default() });
        let table = Fixture::new(&factory);
        let mut log = factory.create(&table).await.expect("made");
        committed(log.commit(&change(vec![], delta(0, 0, 1))).await);

        let metadata = factory.metadata(&table).await;
        let (element, column) = list_ids(&metadata);
        assert_eq!(element, 10_000 + 100 * column, "{staging:?}");
        assert_eq!(metadata["location"], table.storage.location());
        assert_eq!(metadata["properties"]["made-by"], "the double", "what the catalog adds stays");
        let cleaned = &metadata["properties"]["write.metadata.delete-after-commit.enabled"];
        assert_eq!(cleaned, "true", "metadata files are taken away by the catalog");
    }
}

#[tokio::test]
async fn a_table_that_was_left_half_made_is_finished() {
    let factory = Factory::with(Manners { staging: Staging::Refused, ..Manners::default() });
    let table = Fixture::new(&factory);
    factory.double().await.push("commit", Fault::Refused(503));
    // The first attempt ends between the two steps.
    drop(factory.create(&table).await);
    assert!(factory.open(&table).await.expect("answered").is_none(), "it is no table yet");
    let (element, column) = list_ids(&factory.metadata(&table).await);
    assert_ne!(element, 10_000 + 100 * column);

    factory.create(&table).await.expect("opens");

    let (element, column) = list_ids(&factory.metadata(&table).await);
    assert_eq!(element, 10_000 + 100 * column);
}

/// Some catalogs take the columns of a new table, and nothing else.
#[tokio::test]
async fn a_new_table_is_what_it_should_be_whatever_the_catalog_forgets() {
    let staging = Staging::Refused;
    let factory = Factory::with(Manners { staging, forgets: true, ..Manners::default() });
    let table = Fixture::new(&factory);
    let schema = partitioned(&silver_schema(), &["bucket(4, id)"], TableFormat::Iceberg);
    let options = factory.placed_of(&table).await;
    let log = IcebergLog::create_or_open(table.storage.clone(), options, &schema).await;
    let mut log = log.expect("made");
    assert_eq!(log.head().schema, schema);
    committed(log.commit(&change(vec![], delta(0, 0, 1))).await);

    let metadata = factory.metadata(&table).await;
    assert_eq!(metadata["properties"]["lakebed.key"], "[1]");
    assert_eq!(metadata["properties"]["write.delete.mode"], "merge-on-read");
    let specs = metadata["partition-specs"].as_array().expect("specs");
    let spec = specs.iter().find(|spec| spec["spec-id"] == metadata["default-spec-id"]);
    assert_eq!(spec.expect("a spec")["fields"][0]["transform"], "bucket[4]");
}

#[tokio::test]
async fn what_others_set_survives_every_commit() {
    let factory = Factory::new();
    let table = Fixture::new(&factory);
    let mut log = factory.create(&table).await.expect("made");
    committed(log.commit(&change(vec![], delta(0, 0, 1))).await);
    let double = factory.double().await;
    let current = factory.metadata(&table).await["current-snapshot-id"].clone();
    double.change(DATABASE, &name(&table.storage), &json!([
        { "action": "set-properties", "updates": { "owner": "the lake's people" } },
        { "action": "set-snapshot-ref", "ref-name": "audit", "type": "tag", "snapshot-id": current },
        { "action": "set-snapshot-ref", "ref-name": "main", "type": "branch",
          "snapshot-id": current, "min-snapshots-to-keep": 7 },
    ]));

    let mut schema = silver_schema();
    schema.columns.push(Column {
        name: "added".to_owned(),
        source_name: "Added".to_owned(),
        column_type: ColumnType::TimestampTz,
        id: 0,
    });
    let mut evolving = change(vec![], delta(0, 1, 2));
    evolving.schema = Some(field_ids::assign(&log.head().schema, &schema, 0));
    // Nobody has made a snapshot in the meantime: no reason to begin anew.
    committed(log.commit(&evolving).await);
    committed(log.commit(&change(vec![], delta(0, 2, 3))).await);

    let metadata = factory.metadata(&table).await;
    assert_eq!(metadata["properties"]["owner"], "the lake's people");
    assert_eq!(metadata["refs"]["audit"]["snapshot-id"], current);
    assert_eq!(metadata["schemas"].as_array().map(Vec::len), Some(2));
    assert_eq!(log.head().schema.columns.last().map(|c| c.name.as_str()), Some("added"));
    let reopened = factory.open(&table).await.expect("opens").expect("a table");
    assert_eq!(reopened.head().schema, log.head().schema);
}

/// A commit costs one request, whatever it holds; the metadata is written by the catalog.
#[tokio::test]
async fn a_commit_is_one_request() {
    let factory = Factory::new();
    let table = Fixture::new(&factory);
    let mut silver = table.silver_on(table.create(&silver_schema()).await).await;
    commit(&mut silver, batch(0, &[(1, Some("one")), (2, Some("two"))])).await;
    let double = factory.double().await;
    double.take_counts();
    table.storage.counters().take();

    commit(&mut silver, batch(2, &[(1, Some("uno")), (3, Some("three"))])).await;

    assert_eq!(double.take_counts(), BTreeMap::from([("commit".to_owned(), 1)]));
    let counts = table.storage.counters().take();
    // Rows, deletes of the old row, a manifest of each, their list.
    assert_eq!((counts.puts, counts.gets, counts.lists, counts.heads), (5, 0, 0, 0), "{counts:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn each_answer_of_the_catalog_has_its_outcome() {
    let mut faults = vec![
        Fault::LostReply,
        Fault::CutReply,
        Fault::LostRequest,
        Fault::LandsLate,
        Fault::Foreign,
    ];
    let statuses = [409, 429, 500, 502, 503, 504, 499];
    faults.extend(statuses.map(Fault::Refused));
    faults.extend([409, 500, 502, 503, 504, 499].map(Fault::DoneAndRefused));
    let factory = Factory::new();
    let table = Fixture::new(&factory);
    let mut silver = table.silver_on(table.create(&silver_schema()).await).await;
    let double = factory.double().await;
    let mut rows: Vec<(i64, &str)> = Vec::new();
    for (fault, id) in faults.into_iter().zip(0..) {
        double.push("commit", fault.clone());
        let before = silver.head().version;
        let (_, attempts) = commit(&mut silver, batch(id, &[(id, Some("written once"))])).await;
        rows.push((id, "written once"));

        assert_eq!(table.names().await, expected(&rows), "{fault:?}");
        assert!(attempts <= 2, "{fault:?} took {attempts} attempts");
        assert_eq!(silver.head().version, before + 1, "{fault:?} is one version, not two");
    }
}

#[tokio::test]
async fn one_attempt_at_a_commit_is_one_request() {
    let factory = Factory::new();
    let table = Fixture::new(&factory);
    let mut log = factory.create(&table).await.expect("made");
    let double = factory.double().await;
    for fault in [Fault::LostReply, Fault::LostRequest, Fault::Refused(429), Fault::Refused(503)] {
        double.take_counts();
        double.push("commit", fault.clone());
        let next = log.head().checkpoint.next(&tp(0));
        let start = next.map_or(0, |next| next.offset);
        let outcome = log.commit(&change(vec![], delta(0, start, start + 1))).await;

        assert!(!matches!(outcome, Ok(CommitOutcome::Committed { .. })), "{fault:?}");
        assert_eq!(double.take_counts()["commit"], 1, "{fault:?}");
        log.refresh().await.expect("refreshed");
    }
}

#[tokio::test]
async fn refusals_halt_with_what_to_do() {
    let factory = Factory::new();
    let table = Fixture::new(&factory);
    let mut log = factory.create(&table).await.expect("made");
    let double = factory.double().await;
    let refusals = [
        (400, ErrorKind::Invalid),
        (401, ErrorKind::Denied),
        (403, ErrorKind::Denied),
        (404, ErrorKind::Corrupt),
        (413, ErrorKind::Invalid),
        (301, ErrorKind::Invalid),
    ];
    for (status, kind) in refusals {
        double.push("commit", Fault::Refused(status));
        let refused = log.commit(&change(vec![], delta(0, 0, 1))).await.expect_err("refused");
        assert_eq!(refused.kind(), kind, "{status}: {}", refused.chain());
        assert!(refused.chain().contains(&status.to_string()), "{}", refused.chain());
    }
    committed(log.commit(&change(vec![], delta(0, 0, 1))).await);

    double.drop_table(DATABASE, &name(&table.storage));
    let gone = log.commit(&change(vec![], delta(0, 1, 2))).await.expect_err("gone");
    assert_eq!(gone.kind(), ErrorKind::Corrupt);
    assert!(gone.to_string().contains("is gone"), "{gone}");
    let forgotten = factory.create(&table).await.expect_err("rows are there");
    assert_eq!(forgotten.kind(), ErrorKind::Invalid);
    let unseen = factory.open(&table).await.expect_err("not a table that is still to be made");
    assert_eq!(unseen.to_string(), forgotten.to_string());
    assert!(forgotten.to_string().contains("does not have"), "{forgotten}");
}

#[tokio::test]
async fn a_login_that_has_ended_is_renewed_and_the_commit_made_once() {
    let factory = Factory::with(Manners { token_uses: Some(3), ..Manners::default() });
    let table = Fixture::new(&factory);
    let mut log = factory.create(&table).await.expect("made");
    let double = factory.double().await;
    for n in 0..6 {
        committed(log.commit(&change(vec![], delta(0, n, n + 1))).await);
    }

    assert_eq!(log.head().version, 6);
    let counts = double.take_counts();
    assert!(counts["token"] > 2, "{counts:?}");
    assert!(counts["commit"] <= 7 + counts["token"], "{counts:?}");

    // A client that the catalog does not know gets nowhere, and is told what to look at.
    let login = crate::catalog::rest::LoginOptions::OAuth2 {
        token_uri: Some(format!("{}/v1/oauth/tokens", double.uri())),
        client_id: "somebody".to_owned(),
        client_secret: "never shown".to_owned(),
        scope: None,
    };
    let options = RestOptions { uri: double.uri(), login, ..RestOptions::default() };
    let refused = Rest::open(options).expect("opens").connect().await.expect_err("refused");
    assert_eq!(refused.kind(), ErrorKind::Denied);
    assert!(refused.chain().contains("client_id"), "{}", refused.chain());
    assert!(!refused.chain().contains("never shown"), "{}", refused.chain());
}

#[tokio::test]
async fn many_requests_fetch_one_token_and_one_that_ends_is_renewed_before() {
    for (token_seconds, wanted) in [(None, 1), (Some(3600), 1), (Some(0), 9)] {
        let token_uses = Some(1000);
        let factory = Factory::with(Manners { token_uses, token_seconds, ..Manners::default() });
        let catalog = factory.catalog().await;
        let asked = (0..8).map(|_| catalog.has_database(DATABASE));
        for found in futures::future::join_all(asked).await {
            assert!(found.expect("answered"));
        }
        let counts = factory.double().await.take_counts();
        assert_eq!((counts["token"], counts["config"]), (wanted, 1), "{token_seconds:?}");
    }
}

#[tokio::test]
async fn a_missing_namespace_is_made_only_where_that_is_wanted() {
    let mut factory = Factory { namespaces: &[], ..Factory::new() };
    let table = Fixture::new(&factory);
    let refused = factory.create(&table).await.expect_err("no namespace");
    assert_eq!(refused.kind(), ErrorKind::Invalid);
    assert!(refused.to_string().contains("create_databases: true"), "{refused}");

    drop(table);
    factory.options.create_databases = true;
    factory.catalog = OnceCell::new();
    let table = Fixture::new(&factory);
    factory.create(&table).await.expect("made, with its namespace");
    assert!(factory.catalog().await.has_database(DATABASE).await.expect("looks"));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_foreign_writer_that_never_rests_loses_nothing_and_stops_nobody() {
    let factory = Factory::new();
    let table = Fixture::new(&factory);
    let double = factory.double().await;
    two_writers_beside_somebody(&table, || double.keep_busy("commit", 2)).await;
    let metadata = factory.metadata(&table).await;
    assert!(metadata["properties"]["touched"].is_string(), "the property survives");
    let log = factory.open(&table).await.expect("opens").expect("a table");
    assert_eq!(log.head().version, 24, "each commit is one version");
}

#[tokio::test]
async fn overloaded_look_ups_are_borne_and_older_versions_are_found() {
    let factory = Factory::new();
    let table = Fixture::new(&factory);
    let mut log = factory.create(&table).await.expect("made");
    for n in 0..3 {
        committed(log.commit(&change(vec![], delta(0, n, n + 1))).await);
    }
    let double = factory.double().await;
    double.push("load", Fault::Refused(429));
    double.push("load", Fault::Refused(503));
    let options = factory.placed(&table.storage, &table.table).await;
    let open_at = |version| IcebergLog::open_at(table.storage.clone(), options.clone(), version);

    let old = open_at(1).await.expect("opens");
    assert_eq!(old.head().version, 1);
    assert_eq!(old.head().checkpoint.next(&tp(0)).map(|next| next.offset), Some(1));
    assert_eq!(open_at(9).await.expect_err("not made").kind(), ErrorKind::Invalid);
}

#[tokio::test]
async fn old_snapshots_go_and_the_catalogs_files_stay() {
    let factory = Factory::new();
    let mut table = Fixture::new(&factory);
    table.table.retention = Retention { versions_min: 3, age_min: Duration::ZERO };
    let mut log = factory.create(&table).await.expect("made");
    for n in 0..8 {
        committed(log.commit(&change(vec![], delta(0, n, n + 1))).await);
    }
    let files = |listed: Vec<crate::storage::Entry>, end: &str| {
        listed.iter().filter(|entry| entry.path.ends_with(end)).count()
    };
    let before = table.storage.list("metadata").await.expect("listed");
    let report = log.maintain().await.expect("maintained");

    let metadata = factory.metadata(&table).await;
    assert_eq!(metadata["snapshots"].as_array().map(Vec::len), Some(3));
    assert_eq!(report.deleted, 5, "the lists of snapshots that are gone");
    let after = table.storage.list("metadata").await.expect("listed");
    assert_eq!(files(before, ".metadata.json"), files(after, ".metadata.json"));
    committed(log.commit(&change(vec![], delta(0, 8, 9))).await);
    factory.open(&table).await.expect("opens").expect("a table");
}

#[tokio::test]
async fn whether_a_commit_would_be_let_in_is_asked_without_making_one() {
    let factory = Factory::new();
    let table = Fixture::new(&factory);
    factory.create(&table).await.expect("made");
    let before = factory.metadata(&table).await;
    let entry = factory.catalog().await.table(DATABASE, &name(&table.storage));

    assert!(entry.may_commit().await.expect("answered"));
    let double = factory.double().await;
    double.push("commit", Fault::Refused(403));
    assert!(!entry.may_commit().await.expect("answered"));
    double.push("commit", Fault::Refused(503));
    assert_eq!(entry.may_commit().await.expect_err("no answer").kind(), ErrorKind::Unavailable);
    assert_eq!(factory.metadata(&table).await, before);
}

/// No requirement can say that a snapshot which is about to go has no tag, so the table is looked at.
#[tokio::test]
async fn a_tag_that_came_in_between_keeps_its_snapshot() {
    let factory = Factory::new();
    let mut table = Fixture::new(&factory);
    table.table.retention = Retention { versions_min: 3, age_min: Duration::ZERO };
    let mut log = factory.create(&table).await.expect("made");
    for n in 0..3 {
        committed(log.commit(&change(vec![], delta(0, n, n + 1))).await);
    }
    let double = factory.double().await;
    let oldest = factory.metadata(&table).await["snapshots"][0]["snapshot-id"].clone();
    double.change(DATABASE, &name(&table.storage), &json!([
        { "action": "set-snapshot-ref", "ref-name": "audit", "type": "tag", "snapshot-id": oldest },
    ]));

    let next = change(vec![], delta(0, 3, 4));
    assert_eq!(log.commit(&next).await.expect("no error"), CommitOutcome::Conflict);
    assert!(log.refresh().await.expect("refreshed"));
    committed(log.commit(&next).await);

    let metadata = factory.metadata(&table).await;
    assert_eq!(metadata["refs"]["audit"]["snapshot-id"], oldest);
    assert_eq!(metadata["snapshots"][0]["snapshot-id"], oldest);
}

/// What differs, and nothing else, makes the second version of the first by the library's own
/// hand.
#[tokio::test]
async fn updates_lead_from_one_version_to_the_next() {
    let factory = Factory::new();
    let mut table = Fixture::new(&factory);
    table.table.retention = Retention { versions_min: 2, age_min: Duration::ZERO };
    let mut log = factory.create(&table).await.expect("made");
    let mut versions = vec![factory.metadata(&table).await];
    for n in 0..4 {
        let mut next = change(vec![], delta(0, n, n + 1));
        let text = if n == 2 { String::new() } else { n.to_string() };
        next.memos.insert("epochs/t/0".to_owned(), text);
        committed(log.commit(&next).await);
        versions.push(factory.metadata(&table).await);
    }
    for pair in versions.windows(2) {
        let read = |json: &Json| -> TableMetadata {
            serde_json::from_value(json.clone()).expect("metadata")
        };
        let (base, next) = (read(&pair[0]), read(&pair[1]));
        for requirement in updates::requirements(&base, &next) {
            requirement.check(Some(&base)).expect("holds");
        }
        let encoded = pair[1].to_string().into_bytes();
        let mut builder = base.clone().into_builder(None);
        for update in updates::updates(&base, &next, &encoded).expect("derived") {
            builder = update.apply(builder).expect("applies");
        }
        let made = builder.build().expect("whole").metadata;
        assert_eq!(made.properties(), next.properties());
        assert_eq!(made.current_snapshot(), next.current_snapshot());
        assert_eq!(made.snapshots().len(), next.snapshots().len());
        assert!(updates::updates(&next, &next, &encoded).expect("derived").is_empty());
    }
}
