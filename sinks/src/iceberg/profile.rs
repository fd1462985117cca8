//! What Athena asks of an Iceberg table's metadata and manifests.

use serde_json::Value as Json;

use iceberg::spec::{DataContentType, DataFileFormat, ManifestEntryRef};

use super::manifests::{decode_list, decode_manifest};
use super::pointer::Pointer;
use super::state::Reader;
use crate::catalog::Entry;
use crate::profile::{DeadRows, File, Found, Rule, TypeWords};
use crate::storage::Storage;
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

/// Where the table lies that is looked up there.
pub(crate) async fn place(storage: &Storage, entry: &Entry) -> Result<Storage> {
    Pointer::of(entry).place(storage).await
}

/// Reads the newest version.
pub(crate) async fn read(storage: &Storage, entry: &Entry) -> Result<Found> {
    let pointer = Pointer::of(entry);
    let located = pointer.newest(storage).await?.ok_or_else(|| {
        Error::invalid(format!("there is no Iceberg table at `{}`", storage.location()))
    })?;
    let uri = storage.uri(&located.path);
    let bytes = pointer.read(storage, &located).await?;
    let metadata: Json = serde_json::from_slice(&bytes)
        .map_err(|e| Error::corrupt(format!("`{uri}` is not JSON")).with_source(e))?;
    let mut found = Found::default();
    let version = &metadata["format-version"];
    if version != 2 {
        found.breaks(Rule::FormatVersion, &uri, format!("format version {version}"));
        // What else is in there is written by other rules.
        return Ok(found);
    }
    schema(&metadata, &mut found);
    files(storage, &metadata, &mut found).await?;
    Ok(found)
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
    let spec = current(metadata, "partition-specs", "spec-id", &metadata["default-spec-id"]);
    for part in spec["fields"].as_array().into_iter().flatten() {
        let place = format!("partition field {}", part["name"]);
        let transform = part["transform"].as_str().unwrap_or_default();
        let with_width = ["bucket[", "truncate["].iter().any(|name| transform.starts_with(name));
        if !TRANSFORMS.contains(&transform) && !with_width {
            found.breaks(Rule::Transform, &place, format!("`{transform}`"));
        }
        match fields.iter().find(|field| field["id"] == part["source-id"]) {
            None => found.breaks(Rule::Transform, &place, "a field inside of a column"),
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

async fn files(storage: &Storage, metadata: &Json, found: &mut Found) -> Result<()> {
    let location = metadata["location"].as_str().unwrap_or_default();
    let reader = Reader::new(storage, location);
    scheme(storage.location(), location, found);
    let id = &metadata["current-snapshot-id"];
    let snapshot = current(metadata, "snapshots", "snapshot-id", id);
    let Some(list) = snapshot["manifest-list"].as_str() else { return Ok(()) };
    let Some(bytes) = object(storage, &reader, list, found).await? else { return Ok(()) };
    for manifest in decode_list(list, &bytes)? {
        let uri = &manifest.manifest_path;
        let Some(bytes) = object(storage, &reader, uri, found).await? else { continue };
        let entries = decode_manifest(&manifest, bytes).await?;
        for entry in entries.iter().filter(|entry| entry.is_alive()) {
            file(storage, &reader, entry, found);
        }
    }
    Ok(())
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
            found.breaks(Rule::OutsideLocation, format!("`{uri}`"), "outside of the table");
            Ok(None)
        }
    }
}

/// What a table at `location` names so.
pub(super) fn scheme(location: &str, uri: &str, found: &mut Found) {
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
        Err(_) => found.breaks(Rule::OutsideLocation, format!("`{uri}`"), "outside of the table"),
    }
}
