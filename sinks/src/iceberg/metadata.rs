//! Table metadata: that of a new table, and that of the next version.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use iceberg::spec::{
    FormatVersion, Operation, PartitionSpec, Schema, Snapshot, Summary, TableMetadata,
};
use lakebed_schemas::column::TableSchema;
use serde_json::json;
use uuid::Uuid;

use super::convert::{from_iceberg, library, to_iceberg};
use super::{convert, partition_spec, progress};
use crate::clock::now_ms;
use crate::log::{MEMO, Retention};
use crate::{Error, Result};

pub(super) const MAIN: &str = "main";
/// Property that bounds the metadata log inside the metadata.
const PREVIOUS_VERSIONS_MAX: &str = "write.metadata.previous-versions-max";
/// Property: JSON list of the field ids of the key columns. Ids, because a column that another
/// engine renames is still the key. (Iceberg's identifier fields may not be nullable, ours are.)
const KEY: &str = "lakebed.key";

/// Metadata of an empty table with these columns (ids assigned).
///
/// Written as JSON and not by the library's builder, which would give every nested field a new id.
pub(super) fn create(
    location: &str,
    schema: &TableSchema,
    retention: &Retention,
) -> Result<TableMetadata> {
    let stored = to_iceberg(schema, 0)?;
    let (fields, last_partition_id) = partition_spec::to_json(schema)?;
    let key: Vec<i32> = schema.key_indexes().iter().map(|i| schema.columns[*i].id).collect();
    let mut properties = json!({
        PREVIOUS_VERSIONS_MAX: retention.versions_min.max(1).to_string(),
        // What other engines write here should read as cheaply as what we write.
        "write.delete.mode": "merge-on-read",
        "write.update.mode": "merge-on-read",
        "write.merge.mode": "merge-on-read",
        "write.parquet.compression-codec": "zstd",
    });
    if !key.is_empty() {
        properties[KEY] = json!(json!(key).to_string());
    }
    let metadata = json!({
        "format-version": 2,
        "table-uuid": Uuid::new_v4().to_string(),
        "location": location,
        "last-sequence-number": 0,
        "last-updated-ms": now_ms(),
        "last-column-id": stored.highest_field_id(),
        "current-schema-id": 0,
        "schemas": [serde_json::to_value(&stored)
            .map_err(|e| Error::internal("could not encode the schema").with_source(e))?],
        "default-spec-id": 0,
        "partition-specs": [{"spec-id": 0, "fields": fields}],
        "last-partition-id": last_partition_id,
        "default-sort-order-id": 0,
        "sort-orders": [{"order-id": 0, "fields": []}],
        "properties": properties,
        "snapshots": [],
        "snapshot-log": [],
        "metadata-log": [],
    });
    serde_json::from_value(metadata)
        .map_err(|e| Error::internal("the metadata of a new table is not valid").with_source(e))
}

/// Whether it is an empty table that is not yet all that [`create`] says: some catalogs make one in
/// two steps.
pub(super) fn is_half_made(metadata: &TableMetadata) -> bool {
    let is_numbered = || {
        let schema = metadata.current_schema();
        matches!(convert::numbered(schema, schema.schema_id()), Ok(None))
    };
    let is_ours = metadata.properties().contains_key(PREVIOUS_VERSIONS_MAX);
    metadata.current_snapshot().is_none() && !(is_ours && is_numbered())
}

/// The properties of a `created` table as they are where its columns have the numbers of `made`.
pub(super) fn properties_in(
    made: &TableMetadata,
    created: &TableMetadata,
) -> HashMap<String, String> {
    let mut properties = created.properties().clone();
    let renumbered = |ids: &String| {
        let ids: Vec<i32> = serde_json::from_str(ids).ok()?;
        let name = |id: i32| created.current_schema().name_by_field_id(id);
        let id = |id: i32| made.current_schema().field_id_by_name(name(id)?);
        let ids: Option<Vec<i32>> = ids.into_iter().map(id).collect();
        Some(json!(ids?).to_string())
    };
    if let Some(key) = properties.remove(KEY).as_ref().and_then(renumbered) {
        properties.insert(KEY.to_owned(), key);
    }
    properties
}

/// Metadata as stored, never compressed.
pub(super) fn encode(metadata: &TableMetadata) -> Result<Vec<u8>> {
    serde_json::to_vec(metadata)
        .map_err(|e| Error::internal("could not encode the table metadata").with_source(e))
}

/// Snapshots that branches and tags name. The library keeps them to itself.
#[derive(serde::Deserialize)]
struct Refs {
    #[serde(default)]
    refs: HashMap<String, Ref>,
}

#[derive(serde::Deserialize)]
struct Ref {
    #[serde(rename = "snapshot-id")]
    snapshot_id: i64,
}

/// Metadata read back, and the snapshots that its branches and tags pin.
///
/// # Errors
/// `Invalid` for a format version that we do not write, `Corrupt` for what cannot be read.
pub(super) fn decode(uri: &str, bytes: &[u8]) -> Result<(TableMetadata, BTreeSet<i64>)> {
    let unreadable =
        |e: serde_json::Error| Error::corrupt(format!("could not read `{uri}`")).with_source(e);
    let metadata: TableMetadata = serde_json::from_slice(bytes).map_err(unreadable)?;
    if metadata.format_version() != FormatVersion::V2 {
        return Err(Error::invalid(format!(
            "table `{}` has Iceberg format version {}, Lakebed reads and writes version 2, which every reader here has: \
             a table cannot be taken back to it, so write to a new one",
            metadata.location(),
            metadata.format_version() as u8
        )));
    }
    let refs: Refs = serde_json::from_slice(bytes).map_err(unreadable)?;
    let others = refs.refs.into_iter().filter(|(name, _)| name != MAIN);
    Ok((metadata, others.map(|(_, reference)| reference.snapshot_id).collect()))
}

/// Our columns of a table.
pub(super) fn table_schema(metadata: &TableMetadata) -> Result<TableSchema> {
    let key: Vec<i32> = match metadata.properties().get(KEY) {
        None => Vec::new(),
        Some(text) => serde_json::from_str(text).map_err(|e| {
            Error::corrupt(format!("table `{}`: property {KEY}", metadata.location()))
                .with_source(e)
        })?,
    };
    from_iceberg(metadata.current_schema(), metadata.default_partition_spec(), &key)
}

/// The highest id that any top-level column ever had.
pub(super) fn highest_column_id(metadata: &TableMetadata) -> i32 {
    let fields = metadata.schemas_iter().flat_map(|schema| schema.as_struct().fields());
    fields.map(|field| field.id).max().unwrap_or(0)
}

/// Number and name of each column.
pub(super) fn top_level(metadata: &TableMetadata) -> Vec<(i32, &str)> {
    let fields = metadata.current_schema().as_struct().fields();
    fields.iter().map(|field| (field.id, field.name.as_str())).collect()
}

/// Id for a schema that the table does not have yet.
pub(super) fn next_schema_id(metadata: &TableMetadata) -> i32 {
    metadata.schemas_iter().map(|schema| schema.schema_id()).max().map_or(0, |id| id + 1)
}

/// Partition spec by id.
pub(super) fn spec(metadata: &TableMetadata, id: i32) -> Result<&PartitionSpec> {
    metadata.partition_spec_by_id(id).map(AsRef::as_ref).ok_or_else(|| {
        Error::corrupt(format!("table `{}` has no partition spec {id}", metadata.location()))
    })
}

/// Whether we can write files of the table's newest partition spec.
///
/// # Errors
/// `Invalid` if not.
pub(super) fn check_writable(metadata: &TableMetadata) -> Result<()> {
    let spec = metadata.default_partition_spec();
    if partition_spec::fields(spec, metadata.current_schema()).is_some() {
        return Ok(());
    }
    Err(Error::invalid(format!(
        "table `{}`: its partition spec is not one that Lakebed writes: transforms of top-level \
         columns, none of floating point",
        metadata.location()
    )))
}

/// What the next version changes.
pub(super) struct Next {
    pub(super) snapshot_id: i64,
    pub(super) sequence: i64,
    pub(super) manifest_list: String,
    pub(super) operation: Operation,
    pub(super) summary: HashMap<String, String>,
    /// The schema after it, with an id that the table does not have yet; `None` to keep it.
    pub(super) schema: Option<Schema>,
    /// Memos that it sets; an empty text takes one away.
    pub(super) memos: BTreeMap<String, String>,
}

/// Metadata of the version after `base`, whose file lies at `base_uri`: one more snapshot, and
/// those beyond the bound gone.
pub(super) fn next(
    base: &TableMetadata,
    base_uri: &str,
    next: Next,
    pinned: &BTreeSet<i64>,
    retention: &Retention,
) -> Result<TableMetadata> {
    let doing = || format!("could not make the next metadata of `{}`", base.location());
    let mut properties: HashMap<String, String> =
        HashMap::from([(PREVIOUS_VERSIONS_MAX.into(), retention.versions_min.max(1).to_string())]);
    for key in [progress::CHECKPOINT, progress::FRESHNESS] {
        if let Some(value) = next.summary.get(key) {
            properties.insert(key.into(), value.clone());
        }
    }
    properties.insert(progress::CHECKPOINT_SNAPSHOT.into(), next.snapshot_id.to_string());
    let memo = |name: &String| format!("{MEMO}{name}");
    let (gone, kept): (Vec<_>, Vec<_>) = next.memos.iter().partition(|(_, text)| text.is_empty());
    properties.extend(kept.into_iter().map(|(name, text)| (memo(name), text.clone())));
    let gone: Vec<String> = gone.into_iter().map(|(name, _)| memo(name)).collect();
    let mut builder = base
        .clone()
        .into_builder(Some(base_uri.to_owned()))
        .set_properties(properties)
        .and_then(|builder| builder.remove_properties(&gone))
        .map_err(library(doing()))?;
    let mut schema_id = base.current_schema_id();
    if let Some(schema) = next.schema {
        schema_id = schema.schema_id();
        builder = builder.add_current_schema(schema).map_err(library(doing()))?;
    }
    let parent = base.current_snapshot();
    let snapshot = Snapshot::builder()
        .with_snapshot_id(next.snapshot_id)
        .with_parent_snapshot_id(parent.map(|snapshot| snapshot.snapshot_id()))
        .with_sequence_number(next.sequence)
        .with_timestamp_ms(snapshot_time(base))
        .with_manifest_list(next.manifest_list)
        .with_summary(Summary { operation: next.operation, additional_properties: next.summary })
        .with_schema_id(schema_id)
        .build();
    builder
        .set_branch_snapshot(snapshot, MAIN)
        .map_err(library(doing()))?
        .remove_snapshots(&expired(base, pinned, retention))
        .build()
        .map(|built| built.metadata)
        .map_err(library(doing()))
}

/// Later than everything in the table, whatever the clock says: time travel must stay in order.
fn snapshot_time(base: &TableMetadata) -> i64 {
    let last = base.current_snapshot().map_or(0, |snapshot| snapshot.timestamp_ms());
    let logged = base.history().last().map_or(0, |entry| entry.timestamp_ms());
    now_ms().max(last.max(logged).max(base.last_updated_ms()) + 1)
}

/// Snapshots that one more snapshot pushes out: the oldest beyond the bound, none that a branch or
/// tag names.
fn expired(base: &TableMetadata, pinned: &BTreeSet<i64>, retention: &Retention) -> Vec<i64> {
    let mut snapshots: Vec<(i64, i64)> = base
        .snapshots()
        .map(|snapshot| (snapshot.sequence_number(), snapshot.snapshot_id()))
        .collect();
    snapshots.sort_unstable();
    let keep = retention.versions_min.max(1) - 1;
    let current = base.current_snapshot_id();
    let beyond = snapshots.len().saturating_sub(keep);
    snapshots
        .into_iter()
        .take(beyond)
        .map(|(_, id)| id)
        // The parent may go only when no snapshot but the new one is kept.
        .filter(|id| !pinned.contains(id) && (keep == 0 || Some(*id) != current))
        .collect()
}
