//! Columns of a table: their types, names and the rules for both formats.

use serde::{Deserialize, Serialize};

use crate::partition::PartitionField;

/// A type that Iceberg v2, Delta and Athena all take.
///
/// Time of day, time with zone, uuid and fixed are text or binary: Athena has no others.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ColumnType {
    /// True or false.
    Boolean,
    /// 32-bit signed integer. Iceberg only: Delta tables hold integers as `Long`.
    Int,
    /// 64-bit signed integer.
    Long,
    /// 32-bit floating point. Iceberg only: Delta tables hold floats as `Double`.
    Float,
    /// 64-bit floating point.
    Double,
    /// Exact decimal number.
    Decimal {
        /// Digits in all, 1 to 38.
        precision: u8,
        /// Digits after the point, 0 to `precision`.
        scale: u8,
    },
    /// Days since 1970-01-01.
    Date,
    /// Microseconds since 1970-01-01T00:00:00, no zone.
    Timestamp,
    /// Microseconds since 1970-01-01T00:00:00Z, an instant.
    TimestampTz,
    /// UTF-8 text.
    Text,
    /// Bytes.
    Binary,
    /// List of nullable elements.
    List(Box<ColumnType>),
    /// Struct of nullable fields.
    Struct(Vec<(String, ColumnType)>),
}

/// One column of a table. Every column is nullable: a source may drop or null anything.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Column {
    /// Name in the table: lower case, `[a-z0-9_]`, unique ignoring case.
    pub name: String,
    /// Name in the source; equal to `name` for columns of ours.
    pub source_name: String,
    /// Its type.
    #[serde(rename = "type")]
    pub column_type: ColumnType,
    /// Iceberg field id of the column itself; nested fields have ids of their own in the format's
    /// schema. 0 until the table has assigned one.
    pub id: i32,
}

/// The columns of a table, in order.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct TableSchema {
    /// In order.
    pub columns: Vec<Column>,
    /// Names of the columns that rows are found by; empty in bronze.
    pub key: Vec<String>,
    /// What the table is partitioned by, in order; empty if it is not.
    pub partition_by: Vec<PartitionField>,
}

impl TableSchema {
    /// Index of the column with this table name.
    pub fn index_of(&self, name: &str) -> Option<usize> {
        self.columns.iter().position(|column| column.name == name)
    }

    /// Index of the column with this source name.
    pub fn index_of_source(&self, source_name: &str) -> Option<usize> {
        self.columns.iter().position(|column| column.source_name == source_name)
    }

    /// Whether a column of this name holds nothing but the partition values of its rows: it is
    /// neither the source's nor one of those that every table has.
    pub fn is_partition_value(&self, name: &str) -> bool {
        self.partition_by.iter().any(|field| !field.is_identity() && field.name == name)
    }

    /// Indexes of the key columns, in key order.
    pub fn key_indexes(&self) -> Vec<usize> {
        self.key.iter().filter_map(|name| self.index_of(name)).collect()
    }
}
