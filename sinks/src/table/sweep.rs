//! Ghosts: rows that a whole snapshot of their source did not find again.
//!
//! The source deleted them while nobody told: between two attempts of a snapshot, or while the
//! connector was away. A row that the snapshot has read was written at or behind the snapshot's
//! first record, so what was written before it, in the same partition, is gone at the source.

use std::collections::HashSet;

use futures::TryStreamExt;
use lakebed_schemas::column::TableSchema;
use lakebed_schemas::value::{Value, key_hash};

use super::arrow_values::value_at;
use super::{KeyChange, Sweep, reader};
use crate::log::Head;
use crate::storage::Storage;
use crate::{Error, Result};

/// Where a row was read last.
const PLACE: [&str; 3] = ["_cdc_topic", "_cdc_partition", "_cdc_offset"];

/// Deletes of the rows that `sweeps` take, but for those whose keys are among `written`. Reads the
/// keys and places of the whole table: for a sweep only.
///
/// # Errors
/// When a file cannot be read; `Invalid` when rows do not say where they were read.
pub(super) async fn find(
    storage: &Storage,
    head: &Head,
    sweeps: &[Sweep],
    mut written: HashSet<u128>,
) -> Result<Vec<KeyChange>> {
    let schema = &head.schema;
    let columns: Vec<usize> = place_in(schema)?.into_iter().chain(schema.key_indexes()).collect();
    let mut gone = Vec::new();
    let mut batches = reader::scan(storage, head, &columns);
    while let Some(batch) = batches.try_next().await? {
        for row in 0..batch.num_rows() {
            let mut cells = columns.iter().zip(batch.columns()).map(|(column, array)| {
                value_at(array.as_ref(), &schema.columns[*column].column_type, row)
            });
            let place = [(); 3].map(|()| cells.next().unwrap_or(Value::Null));
            let Some(sweep) = sweeps.iter().find(|sweep| sweep.takes(&place)) else { continue };
            let key: Vec<Value> = cells.collect();
            // A key that has two rows goes once.
            if written.insert(key_hash(&key)) {
                let topic_partition = sweep.topic_partition.clone();
                gone.push(KeyChange { topic_partition, key, row: None, inherit: None });
            }
        }
    }
    Ok(gone)
}

/// Has the rows among `changes` go that `sweeps` take; says how many.
///
/// # Errors
/// As [`find`].
pub(super) fn apply(
    schema: &TableSchema,
    sweeps: &[Sweep],
    changes: &mut [KeyChange],
) -> Result<u64> {
    let place = place_in(schema)?;
    let mut gone = 0;
    for change in changes {
        let Some(row) = &change.row else { continue };
        let place = place.map(|column| row.get(column).cloned().unwrap_or(Value::Null));
        if sweeps.iter().any(|sweep| sweep.takes(&place)) {
            change.row = None;
            gone += 1;
        }
    }
    Ok(gone)
}

fn place_in(schema: &TableSchema) -> Result<[usize; 3]> {
    match PLACE.map(|name| schema.index_of(name)) {
        [Some(topic), Some(partition), Some(offset)] => Ok([topic, partition, offset]),
        _ => Err(Error::invalid(
            "the table's rows do not say where they were read: set `sweep_ghosts: false`",
        )),
    }
}

impl Sweep {
    /// Whether a row that was last read there goes. One that does not say where it was stays.
    fn takes(&self, place: &[Value; 3]) -> bool {
        let from = &self.topic_partition;
        match place {
            [Value::Text(topic), partition, offset] => {
                **topic == *from.topic
                    && integer(partition) == Some(i64::from(from.partition))
                    && integer(offset).is_some_and(|offset| offset < self.below)
            }
            _ => false,
        }
    }
}

fn integer(value: &Value) -> Option<i64> {
    match value {
        Value::Long(value) => Some(*value),
        _ => None,
    }
}
