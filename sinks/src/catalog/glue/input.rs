//! Entries as query engines expect them, made on top of whatever others have put there.

use std::collections::HashMap;

use aws_sdk_glue::types::{SerDeInfo, StorageDescriptor, Table, TableInput};

use super::columns::{self, CatalogColumn};
use crate::{Error, Result};

const EXTERNAL_TABLE: &str = "EXTERNAL_TABLE";
const TABLE_TYPE: &str = "table_type";
const METADATA_LOCATION: &str = "metadata_location";
const PREVIOUS_METADATA_LOCATION: &str = "previous_metadata_location";
const PROVIDER: &str = "spark.sql.sources.provider";

/// The metadata file that an Iceberg table's entry names.
///
/// # Errors
/// `Invalid` for an entry that is not an Iceberg table's.
pub(crate) fn metadata_location(table: &Table) -> Result<&str> {
    let parameter = |key: &str| table.parameters().and_then(|all| all.get(key));
    let kind = parameter(TABLE_TYPE).map_or("", String::as_str);
    if !kind.eq_ignore_ascii_case("ICEBERG") {
        let kind = if kind.is_empty() { "none that is named" } else { kind };
        return Err(Error::invalid(format!(
            "Glue table `{}.{}` is there already and is no Iceberg table (its type: {kind}): \
             drop that entry, or give the table another name",
            table.database_name().unwrap_or_default(),
            table.name()
        )));
    }
    parameter(METADATA_LOCATION).map(String::as_str).ok_or_else(|| {
        Error::corrupt(format!(
            "Glue table `{}.{}` is an Iceberg table without `{METADATA_LOCATION}`",
            table.database_name().unwrap_or_default(),
            table.name()
        ))
    })
}

/// The entry of an Iceberg table at a version. Everything that is not ours stays as `existing` has
/// it: parameters, owner, description, retention, what is said of columns.
///
/// # Errors
/// `Invalid` where the columns cannot stand in Glue.
pub(crate) fn iceberg_input(
    existing: Option<&Table>,
    name: &str,
    location: &str,
    metadata: &str,
    columns: &[CatalogColumn],
) -> Result<TableInput> {
    let mut parameters = foreign_parameters(existing);
    parameters.insert(TABLE_TYPE.to_owned(), "ICEBERG".to_owned());
    if let Some(previous) = parameters.insert(METADATA_LOCATION.to_owned(), metadata.to_owned()) {
        parameters.insert(PREVIOUS_METADATA_LOCATION.to_owned(), previous);
    }
    let descriptor = with_columns(existing, location, columns)?;
    entry(existing, name, parameters, descriptor)
}

/// Whether an entry is a Delta table's, by either of the markers that engines go by.
pub(crate) fn is_delta(table: &Table) -> bool {
    let is = |key: &str| {
        let value = table.parameters().and_then(|all| all.get(key));
        value.is_some_and(|value| value.eq_ignore_ascii_case("delta"))
    };
    is(PROVIDER) || is(TABLE_TYPE)
}

/// The entry of a Delta table: both markers and both locations, because some engines go by one and
/// some by the other. `columns` keep step with the log; `None` stands for the one column of a name
/// that every engine takes for "see the log".
///
/// # Errors
/// `Invalid` where the columns cannot stand in Glue.
pub(crate) fn delta_input(
    existing: Option<&Table>,
    name: &str,
    location: &str,
    columns: Option<&[CatalogColumn]>,
) -> Result<TableInput> {
    let mut parameters = foreign_parameters(existing);
    for (key, value) in [("EXTERNAL", "TRUE"), (TABLE_TYPE, "DELTA"), (PROVIDER, "delta")] {
        parameters.insert(key.to_owned(), value.to_owned());
    }
    let placeholder = [CatalogColumn {
        name: "col".to_owned(),
        hive_type: "array<string>".to_owned(),
        comment: None,
        parameters: Vec::new(),
    }];
    // With a slash at the end, as AWS's own example has it: a prefix of objects.
    let location = format!("{location}/");
    let mut descriptor = with_columns(existing, &location, columns.unwrap_or(&placeholder))?;
    let mut serde = descriptor.serde_info.take().unwrap_or_else(|| SerDeInfo::builder().build());
    let mut named = serde.parameters.take().unwrap_or_default();
    named.insert("serialization.format".to_owned(), "1".to_owned());
    named.insert("path".to_owned(), location);
    serde.parameters = Some(named);
    serde.serialization_library =
        Some("org.apache.hadoop.hive.serde2.lazy.LazySimpleSerDe".to_owned());
    descriptor.serde_info = Some(serde);
    // Never those of Parquet: a reader that misses the markers would read deleted files, too.
    descriptor.input_format = Some("org.apache.hadoop.mapred.SequenceFileInputFormat".to_owned());
    descriptor.output_format =
        Some("org.apache.hadoop.hive.ql.io.HiveSequenceFileOutputFormat".to_owned());
    let mut input = entry(existing, name, parameters, descriptor)?;
    // Athena needs the list, be it empty; partitions are the log's affair.
    input.partition_keys = Some(Vec::new());
    Ok(input)
}

fn foreign_parameters(existing: Option<&Table>) -> HashMap<String, String> {
    existing.and_then(|table| table.parameters().cloned()).unwrap_or_default()
}

fn with_columns(
    existing: Option<&Table>,
    location: &str,
    columns: &[CatalogColumn],
) -> Result<StorageDescriptor> {
    let existing = existing.and_then(Table::storage_descriptor);
    let mut descriptor = existing.cloned().unwrap_or_else(|| StorageDescriptor::builder().build());
    let known = existing.map(StorageDescriptor::columns).unwrap_or_default();
    descriptor.columns = Some(columns::to_glue(columns, known)?);
    descriptor.location = Some(location.to_owned());
    Ok(descriptor)
}

/// An entry with everything that an update would otherwise take away.
fn entry(
    existing: Option<&Table>,
    name: &str,
    parameters: HashMap<String, String>,
    descriptor: StorageDescriptor,
) -> Result<TableInput> {
    let mut builder = TableInput::builder()
        .name(name)
        .table_type(EXTERNAL_TABLE)
        .set_parameters(Some(parameters))
        .storage_descriptor(descriptor);
    if let Some(existing) = existing {
        builder = builder
            .set_description(existing.description.clone())
            .set_owner(existing.owner.clone())
            .set_last_access_time(existing.last_access_time)
            .set_last_analyzed_time(existing.last_analyzed_time)
            .retention(existing.retention)
            .set_partition_keys(existing.partition_keys.clone())
            .set_view_original_text(existing.view_original_text.clone())
            .set_view_expanded_text(existing.view_expanded_text.clone())
            .set_target_table(existing.target_table.clone());
    }
    let built = builder.build();
    built.map_err(|e| Error::internal(format!("entry of `{name}`")).with_source(e))
}
