//! What Athena asks of a Delta table's log.

use std::collections::BTreeMap;

use serde_json::Value as Json;

use super::actions::{Add, Metadata, Protocol, decode_path};
use super::delta_log::{list_log, read_log};
use crate::profile::{DeadRows, File, Found, Rule, TypeWords};
use crate::storage::Storage;
use crate::{Error, Result};

const READER_VERSION_MAX: i32 = 3;
const READER_FEATURES: [&str; 3] = ["columnMapping", "timestampNtz", "deletionVectors"];
const TYPES: [&str; 12] = [
    "boolean",
    "byte",
    "short",
    "integer",
    "long",
    "float",
    "double",
    "string",
    "binary",
    "date",
    "timestamp",
    "timestamp_ntz",
];
const WORDS: TypeWords = TypeWords {
    list: "array",
    element: "elementType",
    key: "keyType",
    value: "valueType",
    takes: |name| TYPES.contains(&name) || name.starts_with("decimal("),
};
const CHECKPOINT_POLICY: &str = "delta.checkpointPolicy";

/// What the log says of its newest version, as it stands there.
#[derive(Default)]
struct Stored {
    protocol: Option<Protocol>,
    metadata: Option<Metadata>,
    /// Live files by their path in the log.
    adds: BTreeMap<String, Add>,
}

/// Reads the newest version.
pub(crate) async fn read(storage: &Storage, found: &mut Found) -> Result<()> {
    let files = list_log(storage, None).await?;
    let location = storage.location();
    let newest = files
        .newest()
        .ok_or_else(|| Error::invalid(format!("there is no Delta table at `{location}`")))?;
    // Named by a UUID, or in JSON.
    for (_, other) in files.others.iter().filter(|(_, other)| is_v2_checkpoint(&other.path)) {
        let place = format!("`{}`", other.path);
        found.breaks(Rule::LogCheckpoint, place, "a log checkpoint of version 2");
    }
    let checkpoint = files.checkpoints.range(..=newest).next_back();
    let first = checkpoint.map_or(0, |(version, _)| version + 1);
    let entries = read_log(storage, checkpoint, first..=newest).await?.ok_or_else(|| {
        Error::unavailable(format!("the log of `{location}` was cleaned up while it was read"))
    })?;
    let mut stored = Stored::default();
    for action in entries.into_iter().flat_map(|(_, actions)| actions) {
        stored.protocol = action.protocol.or(stored.protocol);
        stored.metadata = action.meta_data.or(stored.metadata);
        if let Some(remove) = action.remove {
            let same = |add: &Add| add.deletion_vector == remove.deletion_vector;
            if stored.adds.get(&remove.path).is_some_and(same) {
                stored.adds.remove(&remove.path);
            }
        }
        if let Some(add) = action.add {
            stored.adds.insert(add.path.clone(), add);
        }
    }
    protocol(stored.protocol.as_ref(), found);
    if let Some(metadata) = &stored.metadata {
        schema(metadata, found)?;
    }
    stored.adds.values().for_each(|add| file(add, found));
    Ok(())
}

fn is_v2_checkpoint(path: &str) -> bool {
    let kind = path.split_once(".checkpoint.").map(|(_, kind)| kind);
    let uuid = kind.and_then(|kind| kind.split_once('.')).map(|(uuid, _)| uuid);
    uuid.is_some_and(|uuid| uuid::Uuid::try_parse(uuid).is_ok())
}

fn protocol(protocol: Option<&Protocol>, found: &mut Found) {
    let Some(protocol) = protocol else { return };
    if protocol.min_reader_version > READER_VERSION_MAX {
        let version = protocol.min_reader_version;
        found.breaks(Rule::ReaderVersion, "the protocol", format!("reader version {version}"));
    }
    for feature in protocol.reader_features.iter().flatten() {
        if feature == "deletionVectors" {
            found.dead_rows.push(("the protocol".to_owned(), DeadRows::Feature));
        }
        if !READER_FEATURES.contains(&feature.as_str()) {
            found.breaks(Rule::ReaderFeature, "the protocol", format!("`{feature}`"));
        }
    }
}

fn schema(metadata: &Metadata, found: &mut Found) -> Result<()> {
    if metadata.format.provider != "parquet" {
        let provider = &metadata.format.provider;
        found.breaks(Rule::FileFormat, "the metadata", format!("files in {provider}"));
    }
    if let Some(policy) = metadata.property(CHECKPOINT_POLICY).filter(|policy| *policy != "classic")
    {
        found.breaks(Rule::LogCheckpoint, CHECKPOINT_POLICY, format!("`{policy}`"));
    }
    let schema: Json = serde_json::from_str(&metadata.schema_string)
        .map_err(|e| Error::corrupt("the table's schema is not JSON").with_source(e))?;
    let fields: Vec<&Json> = schema["fields"].as_array().into_iter().flatten().collect();
    found.take_schema(&fields, &WORDS);
    for field in fields {
        let name = field["name"].as_str().unwrap_or_default();
        let is_scalar = field["type"].as_str().is_some_and(|name| name != "binary");
        if metadata.partition_columns.iter().any(|column| column == name) && !is_scalar {
            let of = &field["type"];
            found.breaks(Rule::PartitionType, format!("column `{name}`"), of.to_string());
        }
    }
    Ok(())
}

fn file(add: &Add, found: &mut Found) {
    match decode_path(&add.path) {
        Ok(path) if path.split('/').any(|part| part == "..") => {
            found.breaks(Rule::OutsideLocation, format!("`{path}`"), "outside of the table");
        }
        Ok(path) => {
            let size = u64::try_from(add.size).unwrap_or(0);
            found.files.push(File { path, size });
        }
        Err(_) => found.breaks(Rule::AbsolutePath, format!("`{}`", add.path), "an absolute path"),
    }
    if add.deletion_vector.is_some() {
        found.dead_rows.push((format!("`{}`", add.path), DeadRows::DeletionVector));
    }
    let is_absolute = |vector: &super::actions::DeletionVector| vector.storage_type == "p";
    if add.deletion_vector.as_ref().is_some_and(is_absolute) {
        let place = format!("the deleted rows of `{}`", add.path);
        found.breaks(Rule::AbsolutePath, place, "an absolute path");
    }
}
