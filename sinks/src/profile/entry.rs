//! The entry of a table in AWS Glue, held against the table.

use aws_sdk_glue::types::{StorageDescriptor, Table};
use serde_json::Value as Json;

use super::{Found, LOCATION_MAX, Rule};
use crate::Format;

/// Longest comment in Glue, in characters.
const COMMENT_MAX: usize = 255;
/// Longest description there.
const DESCRIPTION_MAX: usize = 2_048;
/// Longest name of a parameter there.
const KEY_MAX: usize = 255;
/// Longest value of a parameter there.
const VALUE_MAX: usize = 512_000;

const METADATA_LOCATION: &str = "metadata_location";
const PREVIOUS_METADATA_LOCATION: &str = "previous_metadata_location";

fn parameter<'t>(table: &'t Table, key: &str) -> Option<&'t str> {
    table.parameters().and_then(|all| Some(all.get(key)?.as_str()))
}

/// The metadata file that engines are led to, as it is spelled there.
pub(super) fn newest(table: Option<&Table>) -> Option<String> {
    table.and_then(|table| parameter(table, METADATA_LOCATION)).map(str::to_owned)
}

/// Looks at an entry; `None`: there is none.
pub(super) fn check(table: Option<&Table>, format: Format, location: &str, found: &mut Found) {
    let Some(table) = table else {
        found.breaks(Rule::Entry, "the entry in Glue", "none");
        return;
    };
    let markers: &[(&str, &str)] = match format {
        Format::Iceberg => &[("table_type", "ICEBERG")],
        Format::Delta => &[
            ("EXTERNAL", "TRUE"),
            ("table_type", "DELTA"),
            ("spark.sql.sources.provider", "delta"),
        ],
    };
    let mut wants = vec![("TableType", table.table_type(), "EXTERNAL_TABLE")];
    wants.extend(markers.iter().map(|(key, value)| (*key, parameter(table, key), *value)));
    for (key, is, wanted) in wants {
        if !is.is_some_and(|is| is.eq_ignore_ascii_case(wanted)) {
            found.breaks(Rule::Entry, format!("`{key}` of the entry"), format!("{is:?}"));
        }
    }
    let pointers: &[&str] = match (format, found.has_history) {
        (Format::Iceberg, true) => &[METADATA_LOCATION, PREVIOUS_METADATA_LOCATION],
        (Format::Iceberg, false) => &[METADATA_LOCATION],
        (Format::Delta, _) => &[],
    };
    for key in pointers.iter().filter(|key| parameter(table, key).is_none()) {
        found.breaks(Rule::Entry, format!("`{key}` of the entry"), "none");
    }
    lengths(table, found);
    if format == Format::Delta && table.partition_keys.is_none() {
        found.breaks(Rule::Entry, "`PartitionKeys` of the entry", "none");
    }
    if let Some(descriptor) = table.storage_descriptor() {
        place(descriptor, format, location, found);
        columns(descriptor, format, found);
    } else {
        found.breaks(Rule::EntryLocation, "the entry", "no storage descriptor");
    }
}

/// Texts other than columns; those of columns go by the table's.
fn lengths(table: &Table, found: &mut Found) {
    let description = table.description().unwrap_or_default();
    found.length("the description of the entry", description, DESCRIPTION_MAX);
    for (key, value) in table.parameters().into_iter().flatten() {
        found.length(format!("parameter `{key}` of the entry"), key, KEY_MAX);
        found.length(format!("the value of parameter `{key}`"), value, VALUE_MAX);
    }
}

fn place(descriptor: &StorageDescriptor, format: Format, location: &str, found: &mut Found) {
    let serde = descriptor.serde_info().and_then(|serde| serde.parameters());
    let path = serde.and_then(|parameters| parameters.get("path")).map(String::as_str);
    let mut places = vec![("Location", descriptor.location())];
    if format == Format::Delta {
        places.push(("SerDe path", path));
    }
    for (key, is) in places {
        if let Some(is) = is {
            found.length(format!("`{key}` of the entry"), is, LOCATION_MAX);
            found.locations.insert(is.to_owned());
        }
        if is.map(|is| is.trim_end_matches('/')) != Some(location.trim_end_matches('/')) {
            let found_there = format!("{is:?}, the table lies at `{location}`");
            found.breaks(Rule::EntryLocation, format!("`{key}` of the entry"), found_there);
        }
    }
}

fn columns(descriptor: &StorageDescriptor, format: Format, found: &mut Found) {
    let columns: Vec<(String, String)> = descriptor
        .columns()
        .iter()
        .map(|column| (column.name().to_owned(), column.r#type().unwrap_or_default().to_owned()))
        .collect();
    let is_placeholder = columns == [("col".to_owned(), "array<string>".to_owned())];
    let is_known = !found.columns.is_empty();
    if is_known && columns != found.columns && !(is_placeholder && format == Format::Delta) {
        let names = |columns: &[(String, String)]| {
            columns.iter().map(|(name, of)| format!("{name} {of}")).collect::<Vec<_>>().join(", ")
        };
        let there = format!("{}; the table has {}", names(&columns), names(&found.columns));
        found.breaks(Rule::EntryColumns, "the columns of the entry", there);
    }
    for column in descriptor.columns() {
        let comment = column.comment().unwrap_or_default();
        if comment.chars().count() > COMMENT_MAX || comment.contains(['\r', '\n']) {
            let place = format!("the comment of column `{}`", column.name());
            found.breaks(Rule::EntryComment, place, "too long, or of several lines");
        }
    }
}

/// A column's type as Hive spells it, from the type that Iceberg's or Delta's metadata gives it.
pub(crate) fn hive_type(of: &Json) -> String {
    let at = |keys: [&str; 2]| {
        hive_type(keys.iter().map(|key| &of[*key]).find(|of| !of.is_null()).unwrap_or(of))
    };
    match of["type"].as_str() {
        Some("struct") => {
            let fields = of["fields"].as_array().into_iter().flatten();
            let field = |field: &Json| {
                let name = field["name"].as_str().unwrap_or_default().to_lowercase();
                format!("{name}:{}", hive_type(&field["type"]))
            };
            format!("struct<{}>", fields.map(field).collect::<Vec<_>>().join(","))
        }
        Some("list" | "array") => format!("array<{}>", at(["element", "elementType"])),
        Some("map") => {
            format!("map<{},{}>", at(["key", "keyType"]), at(["value", "valueType"]))
        }
        _ => primitive(of.as_str().unwrap_or_default()),
    }
}

fn primitive(name: &str) -> String {
    let hive = match name {
        "integer" => "int",
        "long" => "bigint",
        "byte" => "tinyint",
        "short" => "smallint",
        "timestamptz" | "timestamp_ntz" => "timestamp",
        "uuid" | "time" => "string",
        name if name.starts_with("fixed") => "binary",
        name => return name.replace(' ', ""),
    };
    hive.to_owned()
}
