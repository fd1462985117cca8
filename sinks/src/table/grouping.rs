//! Rows by the file they go into: one for each topic-partition and partition value of a batch.

use std::collections::HashMap;
use std::sync::Arc;

use lakebed_schemas::column::TableSchema;
use lakebed_schemas::position::TopicPartition;
use lakebed_schemas::value::Value;

use super::writer::FileRows;
use crate::{Error, Result};

/// Files being filled, in the order in which their first rows came.
pub(super) struct Files {
    partition_column: Option<usize>,
    files: Vec<FileRows>,
    /// Files by topic-partition and the canonical form of the partition value.
    places: HashMap<(TopicPartition, Vec<u8>), usize>,
    /// The file of the last row: the next one mostly goes there too.
    last: Option<usize>,
}

impl Files {
    pub(super) fn new(schema: &TableSchema) -> Result<Self> {
        let partition_column = match &schema.partition_by {
            None => None,
            Some(name) => Some(schema.index_of(name).ok_or_else(|| {
                Error::internal(format!("partition column `{name}` is not in the schema"))
            })?),
        };
        Ok(Self { partition_column, files: Vec::new(), places: HashMap::new(), last: None })
    }

    /// Adds a row; answers its file (by index) and position.
    pub(super) fn push(&mut self, tp: &TopicPartition, row: Vec<Value>) -> Result<(usize, u32)> {
        let partition = match self.partition_column {
            None => None,
            Some(column) => Some(row.get(column).ok_or_else(|| {
                Error::internal("a row has no value for its table's partition column")
            })?),
        };
        let same =
            |file: &FileRows| file.topic_partition == *tp && file.partition.as_ref() == partition;
        let at = match self.last.filter(|at| same(&self.files[*at])) {
            Some(at) => at,
            None => {
                let mut value = Vec::new();
                partition.iter().for_each(|partition| partition.canonical(&mut value));
                let partition = partition.cloned();
                *self.places.entry((tp.clone(), value)).or_insert_with(|| {
                    let topic_partition = tp.clone();
                    self.files.push(FileRows { topic_partition, partition, rows: Vec::new() });
                    self.files.len() - 1
                })
            }
        };
        self.last = Some(at);
        let rows = &mut self.files[at].rows;
        rows.push(row);
        let position = u32::try_from(rows.len() - 1)
            .map_err(|_| Error::internal("a batch has more than 2³² rows"))?;
        Ok((at, position))
    }

    pub(super) fn into_vec(self) -> Vec<Arc<FileRows>> {
        self.files.into_iter().map(Arc::new).collect()
    }
}
