//! The partition of a row: its values by the table's partition fields.
//!
//! A field is a transform of a column. Where the table has a column of the field's own name (Delta,
//! which knows no transforms), each row holds its partition value there, and the value of a file is
//! that of the column.

use std::collections::BTreeSet;

use lakebed_schemas::column::{ColumnType, TableSchema};
use lakebed_schemas::partition::{PartitionField, Transform, folder};
use lakebed_schemas::value::Value;

use crate::{Error, Result};

/// How rows of one schema find their partition.
#[derive(Debug, Clone)]
pub(crate) struct Partitions {
    parts: Vec<Part>,
}

#[derive(Debug, Clone)]
struct Part {
    field: PartitionField,
    /// Index of the column that it is made of.
    source: usize,
    source_type: ColumnType,
    /// Index of the column that holds the value, if another than the source.
    stored: Option<usize>,
}

impl Partitions {
    /// # Errors
    /// `Internal` when a field is made of a column that the schema does not have.
    pub(crate) fn new(schema: &TableSchema) -> Result<Self> {
        let parts = schema.partition_by.iter().map(|field| {
            let source = schema.index_of(&field.column).ok_or_else(|| {
                Error::internal(format!("partition column `{}` is not in the schema", field.column))
            })?;
            let stored = stored_at(schema, field).filter(|at| *at != source);
            let source_type = schema.columns[source].column_type.clone();
            Ok(Part { field: field.clone(), source, source_type, stored })
        });
        Ok(Self { parts: parts.collect::<Result<_>>()? })
    }

    /// The columns that [`Self::of`] looks at, by index, each once.
    pub(super) fn columns(&self) -> Vec<usize> {
        let columns = self.parts.iter().map(|part| part.stored.unwrap_or(part.source));
        columns.collect::<BTreeSet<_>>().into_iter().collect()
    }

    /// Sets the columns of a row that hold nothing but its partition values.
    ///
    /// # Errors
    /// `Invalid` where a value has no partition.
    pub(super) fn fill(&self, row: &mut [Value]) -> Result<()> {
        for part in &self.parts {
            let Some(stored) = part.stored else { continue };
            let value = part.field.transform.stored(part.value(row)?);
            *row.get_mut(stored).ok_or_else(too_short)? = value;
        }
        Ok(())
    }

    /// The partition of a row, which [`Self::fill`] has seen.
    ///
    /// # Errors
    /// `Invalid` where a value has no partition.
    pub(crate) fn of(&self, row: &[Value]) -> Result<Vec<Value>> {
        let value = |part: &Part| match part.stored {
            Some(stored) => row.get(stored).cloned().ok_or_else(too_short),
            None => part.value(row),
        };
        self.parts.iter().map(value).collect()
    }

    /// Whether a row is surely of this partition, told without copying its values.
    pub(super) fn is_of(&self, row: &[Value], partition: &[Value]) -> bool {
        self.parts.iter().zip(partition).all(|(part, value)| {
            let at = part.stored.unwrap_or(part.source);
            let is_as_it_is = part.stored.is_some() || part.field.transform == Transform::Identity;
            match is_as_it_is {
                true => row.get(at) == Some(value),
                false => part.value(row).is_ok_and(|of_row| of_row == *value),
            }
        })
    }
}

impl Part {
    fn value(&self, row: &[Value]) -> Result<Value> {
        let value = row.get(self.source).ok_or_else(too_short)?;
        self.field.transform.apply(value, &self.source_type).ok_or_else(|| {
            Error::invalid(format!(
                "a value of column `{}` cannot be partitioned by `{}`: what it becomes does not fit \
                 {}; build the table anew, partitioned otherwise",
                self.field.column,
                self.field.configured(),
                self.source_type
            ))
        })
    }
}

fn too_short() -> Error {
    Error::internal("a row has no value for its table's partition column")
}

/// Index of the column that holds the values of a partition field, if there is one.
pub(crate) fn stored_at(schema: &TableSchema, field: &PartitionField) -> Option<usize> {
    match field.transform {
        Transform::Identity => schema.index_of(&field.column),
        _ => schema.index_of(&field.name),
    }
}

/// The folders of a file's path that name its partition; `None` in an unpartitioned table.
///
/// # Errors
/// `Internal` when the values are not those of the table's partition fields.
pub(super) fn folders(schema: &TableSchema, partition: &[Value]) -> Result<Option<String>> {
    if schema.partition_by.len() != partition.len() {
        return Err(Error::internal(format!(
            "a file has {} partition values, its table {} partition fields",
            partition.len(),
            schema.partition_by.len()
        )));
    }
    let folders = schema.partition_by.iter().zip(partition).map(|(field, value)| {
        // A column holds the value as it is read.
        let transform = match stored_at(schema, field) {
            Some(_) => Transform::Identity,
            None => field.transform,
        };
        folder(&field.name, transform, value)
    });
    let folders: Vec<String> = folders.collect();
    Ok((!folders.is_empty()).then(|| folders.join("/")))
}
