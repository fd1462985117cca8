//! The table's columns in a file: where each is, and its values in the table's type.
//!
//! Columns are found by field id, or by name in a file without ids; one that an older file lacks is
//! NULL, or the file's partition value if it is a column of those, and one that has been promoted
//! since is widened.

use std::sync::Arc;

use arrow::array::{ArrayRef, RecordBatch, RecordBatchOptions, new_null_array};
use arrow::compute::cast;
use arrow::datatypes::{DataType, Schema, SchemaRef};
use lakebed_schemas::column::{Column, TableSchema};
use lakebed_schemas::value::Value;
use parquet::arrow::PARQUET_FIELD_ID_META_KEY;

use crate::table::arrow_values;
use crate::table::partitions::stored_at;
use crate::{Error, Result};

/// Columns asked for, in the table's types.
#[derive(Clone)]
pub(super) struct Columns {
    pub(super) columns: Arc<[Column]>,
    pub(super) schema: SchemaRef,
    /// For each column, which of a file's partition values it is, if any.
    partition_values: Arc<[Option<usize>]>,
}

/// Where the values of a column come from.
#[derive(Clone)]
pub(super) enum Found {
    /// From this field of the file.
    Field(usize),
    /// All rows have this one.
    Constant(Value),
}

impl Found {
    pub(super) fn root(&self) -> Option<usize> {
        match self {
            Self::Field(root) => Some(*root),
            Self::Constant(_) => None,
        }
    }
}

impl Columns {
    pub(super) fn of(schema: &TableSchema, indexes: &[usize]) -> Self {
        let columns: Arc<[Column]> =
            indexes.iter().map(|index| schema.columns[*index].clone()).collect();
        let fields: Vec<_> = columns.iter().map(arrow_values::field).collect();
        let value = |index: &usize| {
            let mut fields = schema.partition_by.iter();
            fields.position(|field| stored_at(schema, field) == Some(*index))
        };
        let partition_values = indexes.iter().map(value).collect();
        Self { columns, schema: Arc::new(Schema::new(fields)), partition_values }
    }

    /// For each column, where its values come from in a file of this partition.
    pub(super) fn find(&self, file: &Schema, partition: &[Value]) -> Vec<Found> {
        let id = |field: &arrow::datatypes::Field| -> Option<i32> {
            field.metadata().get(PARQUET_FIELD_ID_META_KEY)?.parse().ok()
        };
        let find = |column: &Column| {
            file.fields().iter().position(|field| match id(field) {
                Some(id) if column.id != 0 => id == column.id,
                _ => *field.name() == column.name,
            })
        };
        let columns = self.columns.iter().zip(self.partition_values.iter());
        let found = columns.map(|(column, value)| match find(column) {
            Some(root) => Found::Field(root),
            None => {
                let value = value.and_then(|at| partition.get(at));
                Found::Constant(value.cloned().unwrap_or(Value::Null))
            }
        });
        found.collect()
    }

    /// A decoded batch in the table's columns and types. `found` as [`Columns::find`] gave it.
    pub(super) fn adapt(&self, batch: &RecordBatch, found: &[Found]) -> Result<RecordBatch> {
        // The decoder gives the projected fields in the file's order, whatever was asked.
        let mut projected: Vec<usize> = found.iter().filter_map(Found::root).collect();
        projected.sort_unstable();
        projected.dedup();
        let rows = batch.num_rows();
        let array = |(found, column): (&Found, &Column)| match found {
            Found::Constant(Value::Null) => {
                Ok(new_null_array(arrow_values::field(column).data_type(), rows))
            }
            Found::Constant(value) => arrow_values::array(column, &vec![value; rows]),
            Found::Field(root) => {
                let at = projected.binary_search(root).expect("found fields are projected");
                let target = arrow_values::field(column);
                widen(batch.column(at), target.data_type(), &column.name)
            }
        };
        let arrays: Vec<ArrayRef> =
            found.iter().zip(self.columns.iter()).map(array).collect::<Result<_>>()?;
        let options = RecordBatchOptions::new().with_row_count(Some(rows));
        RecordBatch::try_new_with_options(self.schema.clone(), arrays, &options)
            .map_err(|e| Error::internal("columns do not fit together").with_source(e))
    }
}

fn widen(array: &ArrayRef, target: &DataType, name: &str) -> Result<ArrayRef> {
    if array.data_type() == target {
        return Ok(array.clone());
    }
    cast(array, target).map_err(|e| {
        Error::corrupt(format!(
            "column `{name}` is {} in a data file and {target} in the table",
            array.data_type()
        ))
        .with_source(e)
    })
}
