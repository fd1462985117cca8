//! What Athena asks of an Iceberg table's metadata and manifests.

use std::collections::BTreeSet;

use serde_json::Value as Json;

use iceberg::spec::{DataContentType, DataFileFormat, ManifestEntryRef};

use super::manifests::{decode_list, decode_manifest};
use super::pointer::Pointer;
use super::state::Reader;
use crate::catalog::Entry;
use crate::profile::{DeadRows, File, Found, Rule, TypeWords};
use crate::storage::{Storage, normal};
use crate::{Error, Result};

const TYPES: [&str; 10] = [
    "boolean",
    "int",
    "long",
    "float",
    "double",
    "string",
    "binary",
    "date",
    "timestamp",
    "timestamptz",
];
const WORDS: TypeWords = TypeWords {
    list: "list",
    element: "element",
    key: "key",
    value: "value",
    takes: |name| TYPES.contains(&name) || is_decimal(name),
};
const TRANSFORMS: [&str; 5] = ["identity", "year", "month", "day", "hour"];
const PRECISION_MAX: u32 = 38;
const OUTSIDE: &str = "outside of the table";

/// Where the table lies that is looked up there.
pub(crate) async fn place(storage: &Storage, entry: &Entry) -> Result<Storage> {
    Pointer::of(entry).place(storage).await
}

/// Reads the newest version.
pub(crate) async fn read(storage: &Storage, entry: &Entry, found: &mut Found) -> Result<()> {
    let pointer = Pointer::of(entry);
    let located = pointer.newest(storage).await?.ok_or_else(|| {
        Error::invalid(format!("there is no Iceberg table at `{}`", storage.location()))
    })?;
    let bytes = pointer.read(storage, &located).await?;
    version(storage, &storage.uri(&located.path), &bytes, found).await
}

/// Reads the version whose metadata file an entry names.
pub(crate) async fn read_at(storage: &Storage, uri: &str, found: &mut Found) -> Result<()> {
    scheme(storage.location(), uri, found);
    let Ok(path) = Reader::new(storage, storage.location()).relative(uri) else {
        let there = format!("`{uri}`, the table lies at `{}`", storage.location());
        found.breaks(Rule::EntryLocation, "`metadata_location` of the entry", there);
        return Ok(());
    };
    let bytes = storage.get(&path).await?.ok_or_else(|| {
        Error::corrupt(format!("there is no `{uri}`, which the table's entry names"))
    })?;
    version(storage, uri, &bytes, found).await
}

async fn version(storage: &Storage, uri: &str, bytes: &[u8], found: &mut Found) -> Result<()> {
    let metadata: Json = serde_json::from_slice(bytes)
        .map_err(|e| Error::corrupt(format!("`{uri}` is not JSON")).with_source(e))?;
    let version = &metadata["format-version"];
    if version != 2 {
        found.breaks(Rule::FormatVersion, uri, format!("format version {version}"));
        // What else is in there is written by other rules.
        return Ok(());
    }
    found.has_history = metadata["metadata-log"].as_array().is_some_and(|log| !log.is_empty());
    schema(&metadata, found);
    let location = metadata["location"].as_str().unwrap_or_default();
    scheme(storage.location(), location, found);
    if normal(location) != normal(storage.location()) {
        found.locations.insert(location.to_owned());
        let there = format!("`{location}`, the table lies at `{}`", storage.location());
        found.breaks(Rule::OutsideLocation, "`location` of the metadata", there);
        // It names its files as if they lay there.
        return Ok(());
    }
    named(storage, &metadata, found);
    let specs = files(storage, &metadata, found).await?;
    let default = metadata["default-spec-id"].clone();
    for id in specs.into_iter().map(Json::from).chain([default]) {
        partitions(&metadata, &id, found);
    }
    Ok(())
}

/// Where the metadata looks for what is not part of the newest version's files.
const NAMED: [(&str, &str); 4] = [
    ("metadata-log", "metadata-file"),
    ("snapshots", "manifest-list"),
    ("statistics", "statistics-path"),
    ("partition-statistics", "statistics-path"),
];

fn named(storage: &Storage, metadata: &Json, found: &mut Found) {
    let reader = Reader::new(storage, storage.location());
    for (list, key) in NAMED {
        let entries = metadata[list].as_array().into_iter().flatten();
        for uri in entries.filter_map(|entry| entry[key].as_str()) {
            scheme(storage.location(), uri, found);
            if reader.relative(uri).is_err() {
                found.breaks(Rule::OutsideLocation, format!("`{uri}`"), OUTSIDE);
            }
        }
    }
}

/// The element of a list that an id in the metadata names.
fn current<'m>(metadata: &'m Json, list: &str, key: &str, id: &Json) -> &'m Json {
    let mut all = metadata[list].as_array().into_iter().flatten();
    all.find(|entry| entry[key] == *id).unwrap_or(&Json::Null)
}

fn schema(metadata: &Json, found: &mut Found) {
    let schema = current(metadata, "schemas", "schema-id", &metadata["current-schema-id"]);
    let fields: Vec<&Json> = schema["fields"].as_array().into_iter().flatten().collect();
    found.take_schema(&fields, &WORDS);
}

/// The transforms of one partition spec.
fn partitions(metadata: &Json, id: &Json, found: &mut Found) {
    let schema = current(metadata, "schemas", "schema-id", &metadata["current-schema-id"]);
    let fields: Vec<&Json> = schema["fields"].as_array().into_iter().flatten().collect();
    let spec = current(metadata, "partition-specs", "spec-id", id);
    for part in spec["fields"].as_array().into_iter().flatten() {
        let place = format!("partition field {}", part["name"]);
        let transform = part["transform"].as_str().unwrap_or_default();
        let with_width = ["bucket[", "truncate["].iter().any(|name| transform.starts_with(name));
        if !TRANSFORMS.contains(&transform) && !with_width {
            found.breaks(Rule::Transform, &place, format!("`{transform}`"));
            continue;
        }
        match fields.iter().find(|field| field["id"] == part["source-id"]) {
            None => found.breaks(Rule::Transform, &place, "not of a column"),
            Some(field) if transform.starts_with("truncate[") && field["type"] == "binary" => {
                found.breaks(Rule::Transform, &place, "`truncate` of bytes");
            }
            Some(_) => {}
        }
    }
}

fn is_decimal(name: &str) -> bool {
    let inside = name.strip_prefix("decimal(").and_then(|rest| rest.strip_suffix(')'));
    let precision = inside.and_then(|inside| inside.split(',').next()?.trim().parse().ok());
    precision.is_some_and(|precision: u32| precision <= PRECISION_MAX)
}

/// Looks at every live file; answers the partition specs that they have.
async fn files(storage: &Storage, metadata: &Json, found: &mut Found) -> Result<BTreeSet<i32>> {
    let reader = Reader::new(storage, storage.location());
    let mut specs = BTreeSet::new();
    let id = &metadata["current-snapshot-id"];
    let snapshot = current(metadata, "snapshots", "snapshot-id", id);
    let Some(list) = snapshot["manifest-list"].as_str() else { return Ok(specs) };
    let Some(bytes) = object(storage, &reader, list, found).await? else { return Ok(specs) };
    for manifest in decode_list(list, &bytes)? {
        let uri = &manifest.manifest_path;
        let Some(bytes) = object(storage, &reader, uri, found).await? else { continue };
        let entries = decode_manifest(&manifest, bytes).await?;
        for entry in entries.iter().filter(|entry| entry.is_alive()) {
            specs.insert(manifest.partition_spec_id);
            file(storage, &reader, entry, found);
        }
    }
    Ok(specs)
}

/// Reads an object that the table names, if it lies in the table.
async fn object(
    storage: &Storage,
    reader: &Reader<'_>,
    uri: &str,
    found: &mut Found,
) -> Result<Option<bytes::Bytes>> {
    scheme(storage.location(), uri, found);
    match reader.relative(uri) {
        Ok(_) => reader.get(uri).await.map(Some),
        Err(_) => {
            found.breaks(Rule::OutsideLocation, format!("`{uri}`"), OUTSIDE);
            Ok(None)
        }
    }
}

/// What a table at `location` names so.
fn scheme(location: &str, uri: &str, found: &mut Found) {
    if location.starts_with("s3://") && !uri.starts_with("s3://") {
        found.breaks(Rule::Scheme, format!("`{uri}`"), "another scheme");
    }
}

fn file(storage: &Storage, reader: &Reader<'_>, entry: &ManifestEntryRef, found: &mut Found) {
    let uri = entry.file_path();
    scheme(storage.location(), uri, found);
    let is_data = entry.content_type() == DataContentType::Data;
    if !is_data {
        found.dead_rows.push((format!("`{uri}`"), DeadRows::DeleteFile));
    }
    if entry.file_format() != DataFileFormat::Parquet {
        let rule = if is_data { Rule::FileFormat } else { Rule::Deletes };
        found.breaks(rule, format!("`{uri}`"), format!("a file in {}", entry.file_format()));
        return;
    }
    match reader.relative(uri) {
        Ok(path) => found.files.push(File { path, size: entry.file_size_in_bytes() }),
        Err(_) => found.breaks(Rule::OutsideLocation, format!("`{uri}`"), OUTSIDE),
    }
}
