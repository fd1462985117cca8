//! Manifest entries of data files, with the statistics that readers prune by.

use std::collections::HashMap;

use iceberg::spec::{
    DataContentType, DataFile as IcebergFile, DataFileBuilder, DataFileFormat, PartitionSpec,
    Schema, SchemaRef, Struct,
};
use lakebed_schemas::column::TableSchema;

use super::convert::{lower_bound, upper_bound};
use super::partition_spec;
use crate::log::DataFile;
use crate::{Error, Result};

/// A file of an older manifest as a manifest of this schema names it: see
/// [`partition_spec::promoted`].
pub(super) fn promoted(
    file: &IcebergFile,
    spec: &PartitionSpec,
    schema: &Schema,
) -> Result<IcebergFile> {
    let partition = partition_spec::promoted(file.partition(), spec, schema);
    if partition == *file.partition() {
        return Ok(file.clone());
    }
    let mut same = DataFileBuilder::default();
    if let Some(sort_order) = file.sort_order_id() {
        same.sort_order_id(sort_order);
    }
    same.content(file.content_type())
        .file_path(file.file_path().to_owned())
        .file_format(file.file_format())
        .partition(partition)
        .partition_spec_id(spec.spec_id())
        .record_count(file.record_count())
        .file_size_in_bytes(file.file_size_in_bytes())
        .column_sizes(file.column_sizes().clone())
        .value_counts(file.value_counts().clone())
        .null_value_counts(file.null_value_counts().clone())
        .nan_value_counts(file.nan_value_counts().clone())
        .lower_bounds(file.lower_bounds().clone())
        .upper_bounds(file.upper_bounds().clone())
        .key_metadata(file.key_metadata().map(<[u8]>::to_vec))
        .split_offsets(file.split_offsets().map(<[i64]>::to_vec))
        .equality_ids(file.equality_ids())
        .referenced_data_file(file.referenced_data_file())
        .build()
        .map_err(|e| Error::internal("an entry lacks a field").with_source(e))
}

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
