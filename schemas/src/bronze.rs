//! The bronze table: one row for each Kafka record, enough to rebuild silver from.

use crate::column::{Column, ColumnType, TableSchema};

/// Name of the partition column: UTC day of `_timestamp`.
pub const DATE: &str = "_date";

/// The columns of every bronze table, in order, with the field ids that never change.
pub fn schema() -> TableSchema {
    use ColumnType as T;
    let headers = T::List(Box::new(T::Struct(vec![
        ("key".to_owned(), T::Text),
        ("value".to_owned(), T::Binary),
    ])));
    let columns = [
        ("_topic", T::Text),
        // 32 bits in Iceberg; the Delta table holds it as 64.
        ("_partition", T::Int),
        ("_offset", T::Long),
        ("_timestamp", T::TimestampTz),
        (DATE, T::Date),
        ("_key", T::Binary),
        ("_op", T::Text),
        ("_source_ts", T::Long),
        ("_event_ts", T::Long),
        ("_position", T::Text),
        ("_snapshot", T::Text),
        ("_tx", T::Text),
        ("_repeat", T::Boolean),
        ("before", T::Text),
        ("after", T::Text),
        ("source", T::Text),
        ("headers", headers),
        ("_schema", T::Text),
        ("_error", T::Text),
        ("_value", T::Binary),
    ];
    let columns = columns.into_iter().zip(1..).map(|((name, column_type), id)| Column {
        name: name.to_owned(),
        source_name: name.to_owned(),
        column_type,
        id,
    });
    TableSchema { columns: columns.collect(), key: Vec::new(), partition_by: Some(DATE.to_owned()) }
}
