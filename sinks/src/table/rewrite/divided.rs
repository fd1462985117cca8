//! Files that were written when their table was partitioned otherwise: which of their rows belong to
//! which partition now.

use std::collections::HashMap;
use std::sync::Arc;

use arrow::array::RecordBatch;
use lakebed_schemas::column::TableSchema;
use lakebed_schemas::value::Value;
use roaring::RoaringBitmap;
use roaring::bitmap::IntoIter;

use crate::log::DataFile;
use crate::storage::Storage;
use crate::table::arrow_values::value_at;
use crate::table::partitions::Partitions;
use crate::table::reader::Rows;
use crate::{Error, Result};

/// Rows of one file by their partition in a table of this schema. Reads no more than the columns
/// that the table is partitioned by.
///
/// # Errors
/// `Invalid` where a value of a row has no partition; else when the file cannot be read.
pub(super) async fn divide(
    storage: &Storage,
    schema: &Arc<TableSchema>,
    file: &DataFile,
    rows: &RoaringBitmap,
) -> Result<Vec<(Vec<Value>, RoaringBitmap)>> {
    if rows.is_empty() {
        return Ok(Vec::new());
    }
    let partitions = Partitions::new(schema)?;
    let columns = partitions.columns();
    let mut reader = Rows::open(storage, schema, &columns, file, rows).await?;
    let mut division = Division {
        row: vec![Value::Null; schema.columns.len()],
        schema: schema.clone(),
        columns,
        partitions,
        positions: rows.clone().into_iter(),
        parts: HashMap::new(),
    };
    let mut is_more = true;
    while is_more {
        (division, is_more) = reader.next_group(division, Division::take).await?;
    }
    match division.positions.next() {
        None => Ok(division.parts.into_values().collect()),
        Some(_) => Err(Error::corrupt(format!("`{}` gave too few rows", file.path))),
    }
}

struct Division {
    schema: Arc<TableSchema>,
    /// Columns that are read, by index in the schema.
    columns: Vec<usize>,
    partitions: Partitions,
    /// Of the rows that are still to come.
    positions: IntoIter,
    /// A row of the table with nothing in it but what is read.
    row: Vec<Value>,
    /// By the canonical form of their values.
    parts: HashMap<Vec<u8>, (Vec<Value>, RoaringBitmap)>,
}

impl Division {
    fn take(&mut self, batch: RecordBatch) -> Result<()> {
        let mut canonical = Vec::new();
        for at in 0..batch.num_rows() {
            for (array, column) in batch.columns().iter().zip(&self.columns) {
                let column_type = &self.schema.columns[*column].column_type;
                self.row[*column] = value_at(array, column_type, at);
            }
            let partition = self.partitions.of(&self.row)?;
            canonical.clear();
            partition.iter().for_each(|value| value.canonical(&mut canonical));
            let position = self.positions.next().ok_or_else(|| {
                Error::corrupt("a data file gave more rows than it was asked for")
            })?;
            match self.parts.get_mut(&canonical) {
                Some((_, rows)) => {
                    rows.insert(position);
                }
                None => {
                    let rows = RoaringBitmap::from_iter([position]);
                    self.parts.insert(canonical.clone(), (partition, rows));
                }
            }
        }
        Ok(())
    }
}
