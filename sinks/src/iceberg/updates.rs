//! From one version of a table to the next in the words of the REST specification: what must be so
//! before, and what changes.
//!
//! Told from the two versions alone, whoever made the second: only what differs is sent, so that
//! everything else stays as others have set it in the meantime.

use std::collections::{BTreeSet, HashMap};

use iceberg::spec::{SnapshotReference, TableMetadata};
use iceberg::{TableRequirement, TableUpdate};
use serde::Deserialize;
use uuid::Uuid;

use super::convert;
use super::metadata::{self, MAIN};
use crate::{Error, Result};

/// Stands for what was added last, in the specification.
const LAST_ADDED: i32 = -1;

/// What must be so in the catalog for `next` to follow: that nobody has changed what `next` was
/// derived from. Properties, tags and other branches may change at any time.
pub(super) fn requirements(base: &TableMetadata, next: &TableMetadata) -> Vec<TableRequirement> {
    let mut all = vec![
        TableRequirement::UuidMatch { uuid: base.uuid() },
        TableRequirement::RefSnapshotIdMatch {
            r#ref: MAIN.to_owned(),
            snapshot_id: base.current_snapshot_id(),
        },
        TableRequirement::CurrentSchemaIdMatch { current_schema_id: base.current_schema_id() },
        TableRequirement::DefaultSpecIdMatch { default_spec_id: base.default_partition_spec_id() },
    ];
    if next.schemas_iter().any(|schema| base.schema_by_id(schema.schema_id()).is_none()) {
        let last_assigned_field_id = base.last_column_id();
        all.push(TableRequirement::LastAssignedFieldIdMatch { last_assigned_field_id });
    }
    if next.partition_specs_iter().any(|spec| base.partition_spec_by_id(spec.spec_id()).is_none()) {
        let last_assigned_partition_id = base.last_partition_id();
        all.push(TableRequirement::LastAssignedPartitionIdMatch { last_assigned_partition_id });
    }
    if next.default_sort_order_id() != base.default_sort_order_id() {
        let default_sort_order_id = base.default_sort_order_id();
        all.push(TableRequirement::DefaultSortOrderIdMatch { default_sort_order_id });
    }
    all
}

/// What makes `next`, whose JSON is `encoded`, of `base`.
///
/// # Errors
/// `Internal` where `next` cannot follow `base`, or `encoded` is not `next`.
pub(super) fn updates(
    base: &TableMetadata,
    next: &TableMetadata,
    encoded: &[u8],
) -> Result<Vec<TableUpdate>> {
    let mut all = Vec::new();
    if next.location() != base.location() {
        all.push(TableUpdate::SetLocation { location: next.location().to_owned() });
    }
    schemas(base, next, &mut all);
    specs(base, next, &mut all);
    sort_orders(base, next, &mut all);
    snapshots(base, next, encoded, &mut all)?;
    properties(base.properties(), next.properties(), &mut all);
    Ok(all)
}

/// What makes a table of nothing.
pub(super) fn creation(
    created: &TableMetadata,
    uuid: Uuid,
    location: String,
    properties: HashMap<String, String>,
) -> Vec<TableUpdate> {
    let spec = created.default_partition_spec().as_ref().clone().into_unbound();
    let sort_order = created.default_sort_order().as_ref().clone();
    vec![
        TableUpdate::AssignUuid { uuid },
        TableUpdate::UpgradeFormatVersion { format_version: created.format_version() },
        TableUpdate::AddSchema { schema: created.current_schema().as_ref().clone() },
        TableUpdate::SetCurrentSchema { schema_id: LAST_ADDED },
        TableUpdate::AddSpec { spec },
        TableUpdate::SetDefaultSpec { spec_id: LAST_ADDED },
        TableUpdate::AddSortOrder { sort_order },
        TableUpdate::SetDefaultSortOrder { sort_order_id: i64::from(LAST_ADDED) },
        TableUpdate::SetLocation { location },
        TableUpdate::SetProperties { updates: properties },
    ]
}

/// What makes of a new table, as a catalog has `made` it, the one that was to be `created`, with these
/// properties.
///
/// Catalogs number the fields inside of columns themselves, and some pass over whatever is more
/// than columns.
///
/// # Errors
/// `Invalid` where a column cannot be numbered.
pub(super) fn completion(
    made: &TableMetadata,
    created: &TableMetadata,
    mut missing: HashMap<String, String>,
) -> Result<Vec<TableUpdate>> {
    let mut all = Vec::new();
    let schema_id = metadata::next_schema_id(made);
    let (theirs, ours) = (made.current_schema(), created.current_schema());
    let schema = match metadata::top_level(made) == metadata::top_level(created) {
        true if theirs.as_struct() == ours.as_struct() => None,
        true => Some(convert::with_id(ours, schema_id)?),
        // Another process has begun it, with columns of its own.
        false => convert::numbered(theirs, schema_id)?,
    };
    if let Some(schema) = schema {
        all.push(TableUpdate::AddSchema { schema });
        all.push(TableUpdate::SetCurrentSchema { schema_id });
    }
    let (theirs, ours) = (made.default_partition_spec(), created.default_partition_spec());
    if theirs.is_unpartitioned() && !ours.is_unpartitioned() {
        let ids = made.partition_specs_iter().map(|spec| spec.spec_id());
        let spec_id = ids.max().map_or(0, |id| id + 1);
        let spec = ours.as_ref().clone().into_unbound().with_spec_id(spec_id);
        all.push(TableUpdate::AddSpec { spec });
        all.push(TableUpdate::SetDefaultSpec { spec_id: LAST_ADDED });
    }
    missing.retain(|key, _| !made.properties().contains_key(key));
    if !missing.is_empty() {
        all.push(TableUpdate::SetProperties { updates: missing });
    }
    Ok(all)
}

fn schemas(base: &TableMetadata, next: &TableMetadata, all: &mut Vec<TableUpdate>) {
    let mut new: Vec<_> = next.schemas_iter().collect();
    new.retain(|schema| base.schema_by_id(schema.schema_id()).is_none());
    new.sort_unstable_by_key(|schema| schema.schema_id());
    let last = new.last().map(|schema| schema.schema_id());
    all.extend(
        new.into_iter().map(|schema| TableUpdate::AddSchema { schema: schema.as_ref().clone() }),
    );
    let current = next.current_schema_id();
    if current != base.current_schema_id() {
        let schema_id = if last == Some(current) { LAST_ADDED } else { current };
        all.push(TableUpdate::SetCurrentSchema { schema_id });
    }
}

fn specs(base: &TableMetadata, next: &TableMetadata, all: &mut Vec<TableUpdate>) {
    let mut new: Vec<_> = next.partition_specs_iter().collect();
    new.retain(|spec| base.partition_spec_by_id(spec.spec_id()).is_none());
    new.sort_unstable_by_key(|spec| spec.spec_id());
    let last = new.last().map(|spec| spec.spec_id());
    all.extend(
        new.into_iter()
            .map(|spec| TableUpdate::AddSpec { spec: spec.as_ref().clone().into_unbound() }),
    );
    let default = next.default_partition_spec_id();
    if default != base.default_partition_spec_id() {
        let spec_id = if last == Some(default) { LAST_ADDED } else { default };
        all.push(TableUpdate::SetDefaultSpec { spec_id });
    }
}

fn sort_orders(base: &TableMetadata, next: &TableMetadata, all: &mut Vec<TableUpdate>) {
    let mut new: Vec<_> = next.sort_orders_iter().collect();
    new.retain(|order| base.sort_order_by_id(order.order_id).is_none());
    new.sort_unstable_by_key(|order| order.order_id);
    let last = new.last().map(|order| order.order_id);
    all.extend(
        new.into_iter()
            .map(|order| TableUpdate::AddSortOrder { sort_order: order.as_ref().clone() }),
    );
    let default = next.default_sort_order_id();
    if default != base.default_sort_order_id() {
        let sort_order_id = if last == Some(default) { i64::from(LAST_ADDED) } else { default };
        all.push(TableUpdate::SetDefaultSortOrder { sort_order_id });
    }
}

/// New snapshots, oldest first, then the branch, then those that are gone: in between, everything
/// that a reference names is there.
fn snapshots(
    base: &TableMetadata,
    next: &TableMetadata,
    encoded: &[u8],
    all: &mut Vec<TableUpdate>,
) -> Result<()> {
    let mut new: Vec<_> = next.snapshots().collect();
    new.retain(|snapshot| base.snapshot_by_id(snapshot.snapshot_id()).is_none());
    new.sort_unstable_by_key(|snapshot| snapshot.sequence_number());
    all.extend(
        new.into_iter()
            .map(|snapshot| TableUpdate::AddSnapshot { snapshot: snapshot.as_ref().clone() }),
    );
    if next.current_snapshot_id() != base.current_snapshot_id() {
        let reference = main_reference(next, encoded)?;
        all.push(TableUpdate::SetSnapshotRef { ref_name: MAIN.to_owned(), reference });
    }
    let gone: BTreeSet<i64> = base
        .snapshots()
        .map(|snapshot| snapshot.snapshot_id())
        .filter(|id| next.snapshot_by_id(*id).is_none())
        .collect();
    if !gone.is_empty() {
        all.push(TableUpdate::RemoveSnapshots { snapshot_ids: gone.into_iter().collect() });
    }
    Ok(())
}

/// The main branch with what it says of its own retention, which the library keeps to itself.
fn main_reference(next: &TableMetadata, encoded: &[u8]) -> Result<SnapshotReference> {
    #[derive(Deserialize)]
    struct Refs {
        refs: HashMap<String, SnapshotReference>,
    }
    let doing = || format!("the next metadata of `{}` names no main branch", next.location());
    let mut refs: Refs = serde_json::from_slice(encoded)
        .map_err(|error| Error::internal(doing()).with_source(error))?;
    refs.refs.remove(MAIN).ok_or_else(|| Error::internal(doing()))
}

fn properties(
    base: &HashMap<String, String>,
    next: &HashMap<String, String>,
    all: &mut Vec<TableUpdate>,
) {
    let changed = next.iter().filter(|(key, value)| base.get(*key) != Some(*value));
    let updates: HashMap<String, String> =
        changed.map(|(key, value)| (key.clone(), value.clone())).collect();
    if !updates.is_empty() {
        all.push(TableUpdate::SetProperties { updates });
    }
    let mut removals: Vec<String> =
        base.keys().filter(|key| !next.contains_key(*key)).cloned().collect();
    removals.sort_unstable();
    if !removals.is_empty() {
        all.push(TableUpdate::RemoveProperties { removals });
    }
}
