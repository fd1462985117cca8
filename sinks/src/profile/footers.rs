//! What a data or delete file says of itself in its footer.

use parquet::basic::{
    Compression, ConvertedType, LogicalType, Repetition, TimeUnit, Type as Physical,
};
use parquet::file::metadata::ParquetMetaData;
use parquet::schema::types::Type;

use super::{Broken, Rule};

/// Rules of files. `by_id`: columns are found by their ids.
pub(super) fn check(path: &str, metadata: &ParquetMetaData, by_id: bool) -> Vec<Broken> {
    let mut broken = Vec::new();
    let mut breaks = |rule, column: &str, found: String| {
        broken.push(Broken { rule, place: format!("`{path}`, column `{column}`"), found });
    };
    let schema = metadata.file_metadata().schema_descr();
    for column in schema.columns() {
        if let Some(found) = wrong_time(column.self_type()) {
            breaks(Rule::TimestampUnit, &column.path().string(), found);
        }
    }
    if by_id {
        for field in schema.root_schema().get_fields() {
            if let Some(name) = without_id(field) {
                breaks(Rule::FieldIds, name, "no field id".to_owned());
            }
        }
    }
    for group in metadata.row_groups() {
        for column in group.columns() {
            let codec = column.compression();
            if !matches!(codec, Compression::ZSTD(_) | Compression::SNAPPY) {
                breaks(Rule::Codec, &column.column_path().string(), format!("{codec}"));
            }
        }
    }
    broken
}

/// What is wrong with the unit of a column of times.
fn wrong_time(column: &Type) -> Option<String> {
    if column.get_physical_type() == Physical::INT96 {
        return Some("a timestamp of 96 bits".to_owned());
    }
    let info = column.get_basic_info();
    match info.logical_type_ref() {
        Some(LogicalType::Timestamp(time)) if !matches!(time.unit, TimeUnit::MICROS) => {
            Some(format!("a timestamp in {:?}", time.unit))
        }
        // As writers said it before there were logical types.
        None if info.converted_type() == ConvertedType::TIMESTAMP_MILLIS => {
            Some("a timestamp in milliseconds".to_owned())
        }
        _ => None,
    }
}

/// The first field in here, by depth, that has no id and should have one: the repeated groups
/// between a list or map and its elements have none.
fn without_id(field: &Type) -> Option<&str> {
    let info = field.get_basic_info();
    let is_structure = info.has_repetition() && info.repetition() == Repetition::REPEATED;
    if !info.has_id() && !is_structure {
        return Some(field.name());
    }
    match field {
        Type::PrimitiveType { .. } => None,
        Type::GroupType { fields, .. } => fields.iter().find_map(|field| without_id(field)),
    }
}
