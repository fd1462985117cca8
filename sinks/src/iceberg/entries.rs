//! Manifest entries of data files, with the statistics that readers prune by.

use std::collections::HashMap;

use iceberg::spec::{
    DataContentType, DataFile as IcebergFile, DataFileBuilder, DataFileFormat, SchemaRef, Struct,
};
use lakebed_schemas::column::TableSchema;

use super::convert::{lower_bound, upper_bound};
use crate::log::DataFile;
use crate::{Error, Result};

/// The entry of a data file that lies at `uri`. `columns` is the schema that it was written with.
pub(super) fn data(
    file: &DataFile,
    uri: &str,
    partition: Struct,
    spec_id: i32,
    columns: &TableSchema,
    schema: &SchemaRef,
) -> Result<IcebergFile> {
    let mut sizes = HashMap::new();
    let mut values = HashMap::new();
    let mut nulls = HashMap::new();
    let mut lower = HashMap::new();
    let mut upper = HashMap::new();
    for stats in &file.stats {
        let Some(column) = columns.columns.get(stats.column) else { continue };
        let Some(field) = schema.field_by_id(column.id) else { continue };
        // The spec keeps statistics of leaves; ours are of whole columns.
        let Some(primitive) = field.field_type.as_primitive_type() else { continue };
        sizes.insert(field.id, stats.bytes);
        values.insert(field.id, file.rows);
        nulls.insert(field.id, stats.null_count);
        if let Some(bound) = stats.min.as_ref().and_then(|min| lower_bound(min, primitive)) {
            lower.insert(field.id, bound);
        }
        if let Some(bound) = stats.max.as_ref().and_then(|max| upper_bound(max, primitive)) {
            upper.insert(field.id, bound);
        }
    }
    DataFileBuilder::default()
        .content(DataContentType::Data)
        .file_path(uri.to_owned())
        .file_format(DataFileFormat::Parquet)
        .partition(partition)
        .partition_spec_id(spec_id)
        .record_count(file.rows)
        .file_size_in_bytes(file.size)
        .column_sizes(sizes)
        .value_counts(values)
        .null_value_counts(nulls)
        .lower_bounds(lower)
        .upper_bounds(upper)
        .split_offsets((!file.split_offsets.is_empty()).then(|| file.split_offsets.clone()))
        .build()
        .map_err(|e| Error::internal(format!("the entry of `{uri}` lacks a field")).with_source(e))
}
