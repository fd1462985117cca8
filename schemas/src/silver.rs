//! The silver table: one row for each key, the source's columns and ours.

use crate::column::ColumnType;

/// Columns that Lakebed adds to every silver table, after the source's own at creation.
pub fn system_columns() -> Vec<(&'static str, ColumnType)> {
    vec![
        ("_cdc_op", ColumnType::Text),
        ("_cdc_source_ts", ColumnType::Long),
        ("_cdc_position", ColumnType::Text),
        ("_cdc_topic", ColumnType::Text),
        ("_cdc_partition", ColumnType::Int),
        ("_cdc_offset", ColumnType::Long),
        ("_cdc_incomplete", ColumnType::List(Box::new(ColumnType::Text))),
    ]
}

/// The system column added where deletes are soft.
pub const DELETED: &str = "_cdc_deleted";

/// Whether a column of a silver table is one of ours and not the source's.
pub fn is_system(name: &str) -> bool {
    name == DELETED || system_columns().iter().any(|(system, _)| *system == name)
}
