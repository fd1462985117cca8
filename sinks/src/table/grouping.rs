//! Rows by the file they go into: one for each topic-partition and partition of a batch.

use std::collections::HashMap;
use std::sync::Arc;

use lakebed_schemas::column::TableSchema;
use lakebed_schemas::position::TopicPartition;
use lakebed_schemas::value::Value;

use super::partitions::Partitions;
use super::writer::FileRows;
use crate::{Error, Result};

/// Files being filled, in the order in which their first rows came.
pub(super) struct Files {
    partitions: Partitions,
    files: Vec<FileRows>,
    /// Files by topic-partition and the canonical form of the partition values.
    places: HashMap<(TopicPartition, Vec<u8>), usize>,
    /// The file of the last row: the next one mostly goes there too.
    last: Option<usize>,
}

impl Files {
    pub(super) fn new(schema: &TableSchema) -> Result<Self> {
        let partitions = Partitions::new(schema)?;
        Ok(Self { partitions, files: Vec::new(), places: HashMap::new(), last: None })
    }

    /// Adds a row; answers its file (by index) and position.
    ///
    /// # Errors
    /// `Invalid` where a value of the row has no partition.
    pub(super) fn push(
        &mut self,
        tp: &TopicPartition,
        mut row: Vec<Value>,
    ) -> Result<(usize, u32)> {
        self.partitions.fill(&mut row)?;
        let same = |file: &FileRows| {
            file.topic_partition == *tp && self.partitions.is_of(&row, &file.partition)
        };
        let at = match self.last.filter(|at| same(&self.files[*at])) {
            Some(at) => at,
            None => {
                let partition = self.partitions.of(&row)?;
                let mut values = Vec::new();
                partition.iter().for_each(|value| value.canonical(&mut values));
                *self.places.entry((tp.clone(), values)).or_insert_with(|| {
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
