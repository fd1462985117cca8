//! Tables on S3 and in Glue that lead engines astray, each in one way.

use lakebed_schemas::config::Mode;
use serde_json::{Map, Value as Json, json};
use uuid::Uuid;

use super::broken;
use crate::Format::{self, Delta, Iceberg};
use crate::catalog::Entry;
use crate::catalog::glue::GlueOptions;
use crate::catalog::glue::double::GlueDouble;
use crate::conformance::fixture::{batch, commit, silver_schema};
use crate::log::{Retention, TableLog, TableOptions};
use crate::profile::{Report, Rule, inspect, shared_locations};
use crate::storage::Storage;
use crate::table::WriteOptions;
use crate::table::upsert::UpsertTable;

const DATABASE: &str = "silver";
const TABLE: &str = "orders";
const PLACE: &str = "s3://bucket/lake/silver/orders";

/// What somebody does to an entry.
type Edit = fn(&mut Map<String, Json>);

/// A table with rows and dead rows in a bucket, told to a Glue.
struct Placed {
    glue: GlueDouble,
    entry: Entry,
    storage: Storage,
    format: Format,
}

impl Placed {
    async fn at(location: &str, format: Format) -> Self {
        let table = Self::empty(location, format).await;
        fill(log(&table.storage, format, &table.entry).await).await;
        table
    }

    async fn empty(location: &str, format: Format) -> Self {
        let glue = GlueDouble::start(&[DATABASE]).await;
        let catalog = glue.catalog(GlueOptions::default()).await;
        let entry = Entry::Glue(catalog.table(DATABASE, TABLE));
        let storage = Storage::in_memory(location);
        drop(log(&storage, format, &entry).await);
        Self { glue, entry, storage, format }
    }

    async fn rules(&self) -> Vec<Rule> {
        broken(&looked_at(&self.storage, self.format, &self.entry).await)
    }

    /// The rules that are broken after somebody has changed the entry; then it is as before.
    async fn rules_after(&self, edit: Edit) -> Vec<Rule> {
        let mut before = Map::new();
        self.glue.edit(DATABASE, TABLE, |entry| {
            before = entry.clone();
            edit(entry);
        });
        let rules = self.rules().await;
        self.glue.edit(DATABASE, TABLE, |entry| *entry = before);
        rules
    }

    /// Has somebody write the newest metadata anew, with a change.
    async fn rewrite(&self, change: fn(&mut Json)) {
        let entry = self.glue.table(DATABASE, TABLE).expect("an entry");
        let uri = entry["Parameters"]["metadata_location"].as_str().expect("a URI").to_owned();
        let path = uri.strip_prefix(PLACE).expect("inside");
        let bytes = self.storage.get(path).await.expect("reads").expect("is there");
        let mut metadata: Json = serde_json::from_slice(&bytes).expect("JSON");
        change(&mut metadata);
        let path = format!("metadata/00077-{}.metadata.json", Uuid::new_v4());
        self.storage.put(&path, metadata.to_string()).await.expect("puts");
        self.glue.edit(DATABASE, TABLE, |entry| {
            entry["Parameters"]["metadata_location"] = json!(self.storage.uri(&path));
        });
    }
}

async fn log(storage: &Storage, format: Format, entry: &Entry) -> Box<dyn TableLog> {
    let options = TableOptions {
        sink_id: "lakebed".to_owned(),
        cluster: None,
        owner: "test".to_owned(),
        retention: Retention::default(),
        catalog: entry.clone(),
        mode: Mode::default(),
    };
    let log = crate::create_or_open(format, storage, &options, &silver_schema()).await;
    log.expect("a table")
}

async fn fill(log: Box<dyn TableLog>) {
    let silver = UpsertTable::open(log, WriteOptions::default()).await;
    let mut silver = silver.expect("opens");
    commit(&mut silver, batch(0, &[(1, Some("a")), (2, Some("b"))])).await;
    commit(&mut silver, batch(2, &[(1, Some("c"))])).await;
}

async fn looked_at(storage: &Storage, format: Format, entry: &Entry) -> Report {
    inspect(storage, format, entry, usize::MAX).await.expect("reads")
}

fn parameters(entry: &mut Map<String, Json>) -> &mut Map<String, Json> {
    entry["Parameters"].as_object_mut().expect("parameters")
}

/// What either format's entry must not be.
static EITHER: [(Edit, Rule); 13] = [
    (|entry| entry["TableType"] = json!("VIRTUAL_VIEW"), Rule::Entry),
    (|entry| drop(entry.remove("TableType")), Rule::Entry),
    (|entry| drop(parameters(entry).remove("table_type")), Rule::Entry),
    (|entry| parameters(entry)["table_type"] = json!("HUDI"), Rule::Entry),
    (|entry| entry["StorageDescriptor"]["Location"] = json!("s3://bucket/x"), Rule::EntryLocation),
    (
        |entry| entry["StorageDescriptor"]["Location"] = json!("s3a://bucket/lake/silver/orders"),
        Rule::EntryLocation,
    ),
    (|entry| drop(entry.remove("StorageDescriptor")), Rule::EntryLocation),
    (|entry| entry["StorageDescriptor"]["Columns"][0]["Type"] = json!("int"), Rule::EntryColumns),
    (
        |entry| {
            let columns = entry["StorageDescriptor"]["Columns"].as_array_mut().expect("columns");
            columns.pop();
        },
        Rule::EntryColumns,
    ),
    (
        |entry| entry["StorageDescriptor"]["Columns"][0]["Comment"] = json!("a\nb"),
        Rule::EntryComment,
    ),
    (
        |entry| entry["StorageDescriptor"]["Columns"][0]["Comment"] = json!("x".repeat(256)),
        Rule::EntryComment,
    ),
    (|entry| drop(entry.insert("Description".to_owned(), json!("x".repeat(2_049)))), Rule::Length),
    (|entry| drop(parameters(entry).insert("x".repeat(256), json!("y"))), Rule::Length),
];

static ICEBERG: [(Edit, Rule); 4] = [
    (|entry| drop(parameters(entry).remove("metadata_location")), Rule::Entry),
    (|entry| drop(parameters(entry).remove("previous_metadata_location")), Rule::Entry),
    (
        |entry| {
            let uri = parameters(entry)["metadata_location"].as_str().expect("a URI").to_owned();
            parameters(entry)["metadata_location"] = json!(uri.replacen("s3:", "s3a:", 1));
        },
        Rule::Scheme,
    ),
    (
        |entry| {
            parameters(entry)["metadata_location"] =
                json!("s3://bucket/x/metadata/1.metadata.json");
        },
        Rule::EntryLocation,
    ),
];

fn serde(entry: &mut Map<String, Json>) -> &mut Map<String, Json> {
    let serde = &mut entry["StorageDescriptor"]["SerdeInfo"]["Parameters"];
    serde.as_object_mut().expect("parameters")
}

static DELTA: [(Edit, Rule); 6] = [
    (|entry| drop(parameters(entry).remove("EXTERNAL")), Rule::Entry),
    (|entry| parameters(entry)["EXTERNAL"] = json!("FALSE"), Rule::Entry),
    (|entry| drop(parameters(entry).remove("spark.sql.sources.provider")), Rule::Entry),
    (|entry| drop(entry.remove("PartitionKeys")), Rule::Entry),
    (|entry| drop(serde(entry).remove("path")), Rule::EntryLocation),
    (|entry| serde(entry)["path"] = json!("s3://bucket/x"), Rule::EntryLocation),
];

type Change = fn(&mut Json);

/// What Iceberg's metadata must not name in a bucket.
static NAMED: [(Change, Rule); 4] = [
    (|metadata| metadata["location"] = json!("s3a://bucket/lake/silver/orders"), Rule::Scheme),
    (
        |metadata| {
            let uri = "s3a://bucket/lake/silver/orders/metadata/x.stats";
            metadata["statistics"] = json!([{ "statistics-path": uri }]);
        },
        Rule::Scheme,
    ),
    (
        |metadata| {
            let uri = "s3://bucket/lake/silver/customers/metadata/x.stats";
            metadata["partition-statistics"] = json!([{ "statistics-path": uri }]);
        },
        Rule::OutsideLocation,
    ),
    (
        |metadata| metadata["metadata-log"][0]["metadata-file"] = json!("s3://x/0.metadata.json"),
        Rule::OutsideLocation,
    ),
];

/// Makes tables that break one rule each, and answers the rules.
pub(super) async fn tables_that_break_rules() -> Vec<Rule> {
    let mut seen = Vec::new();
    for format in [Iceberg, Delta] {
        let table = Placed::at(PLACE, format).await;
        assert_eq!(table.rules().await, [], "{format:?}");
        let own = if format == Iceberg { &ICEBERG[..] } else { &DELTA[..] };
        for (n, (edit, rule)) in EITHER.iter().chain(own).enumerate() {
            assert_eq!(table.rules_after(*edit).await, [*rule], "{format:?}, entry {n}");
            seen.push(*rule);
        }
        table.glue.drop_table(DATABASE, TABLE);
        assert_eq!(table.rules().await, [Rule::Entry], "{format:?} without an entry");

        let at_the_root = Placed::at("s3://bucket", format).await;
        assert_eq!(at_the_root.rules().await, [Rule::BucketRoot], "{format:?}");
        seen.push(Rule::BucketRoot);
    }
    for (n, (change, rule)) in NAMED.iter().enumerate() {
        let table = Placed::at(PLACE, Iceberg).await;
        table.rewrite(*change).await;
        assert_eq!(table.rules().await, [*rule], "metadata {n}");
        seen.push(*rule);
    }
    seen.extend(tables_in_each_other().await);
    seen
}

async fn tables_in_each_other() -> Vec<Rule> {
    let outer = Storage::in_memory(PLACE);
    let inner = outer.child("inner");
    let mut reports = Vec::new();
    for storage in [&outer, &inner] {
        fill(log(storage, Delta, &Entry::Filesystem).await).await;
        reports.push(looked_at(storage, Delta, &Entry::Filesystem).await);
    }
    let shared = shared_locations(&reports);
    assert_eq!(shared.len(), 2, "{shared:?}");
    shared.into_iter().map(|(_, broken)| broken.rule).collect()
}

#[tokio::test]
async fn a_first_version_has_none_before_it_and_a_placeholder_is_for_delta_alone() {
    let placeholder: Edit = |entry| {
        let column = json!([{ "Name": "col", "Type": "array<string>" }]);
        entry["StorageDescriptor"]["Columns"] = column;
    };
    for (format, expected) in [(Iceberg, vec![Rule::EntryColumns]), (Delta, vec![])] {
        let table = Placed::empty(PLACE, format).await;
        assert_eq!(table.rules().await, [], "{format:?}");
        assert_eq!(table.rules_after(placeholder).await, expected, "{format:?}");
    }
}
