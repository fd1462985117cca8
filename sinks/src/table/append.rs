//! Bronze: every row is new.

use std::collections::BTreeMap;
use std::sync::Arc;

use async_trait::async_trait;
use lakebed_schemas::column::TableSchema;
use lakebed_schemas::position::{Checkpoint, Fit, TopicPartition};
use lakebed_schemas::value::Value;
use uuid::Uuid;

use super::settle::{Rebase, Rebased, Settled, Settler};
use super::writer::{self, FileRows};
use super::{AppendBatch, WriteOptions, WriteStats, Written};
use crate::log::{DataFile, Head, MaintenanceReport, TableChange, TableLog};
use crate::storage::Storage;
use crate::{Error, Result};

/// A table that only grows.
pub struct AppendTable {
    storage: Storage,
    settler: Settler,
    options: WriteOptions,
}

impl AppendTable {
    /// Takes over a table whose log has just been opened.
    ///
    /// # Errors
    /// Never today; the signature is that of [`super::upsert::UpsertTable::open`].
    pub async fn open(
        storage: Storage,
        log: Box<dyn TableLog>,
        options: WriteOptions,
    ) -> Result<Self> {
        let settler = Settler::new(log, options.settle.clone());
        Ok(Self { storage, settler, options })
    }

    /// The newest version seen.
    pub fn head(&self) -> &Head {
        self.settler.head()
    }

    /// The progress of the newest version seen.
    pub fn checkpoint(&self) -> &Checkpoint {
        &self.settler.head().checkpoint
    }

    /// Catches up with what others have committed; says whether there was anything.
    ///
    /// # Errors
    /// When storage does not answer.
    pub async fn refresh(&mut self) -> Result<bool> {
        self.settler.refresh().await
    }

    /// Deletes what no kept version needs. Off the commit path; an error harms nothing.
    ///
    /// # Errors
    /// When storage does not answer.
    pub async fn maintain(&mut self) -> Result<MaintenanceReport> {
        self.settler.maintain().await
    }

    /// Adds the rows and moves the progress on, in one version. Without rows it moves only the
    /// progress; without either it does nothing.
    ///
    /// # Errors
    /// `Unavailable` when it could not be found out in time whether the batch is in: the same batch
    /// may be written again, its offsets keep it from being applied twice. `Internal` when a row
    /// does not fit the schema. Nothing fails after the commit.
    pub async fn write(&mut self, batch: AppendBatch) -> Result<Written> {
        match self.settler.fit(&batch.delta).await? {
            Fit::Applies => {}
            Fit::Covered => return Ok(Written::covered(self.head().version)),
            Fit::Overtaken { .. } => return Ok(Written::Overtaken),
        }
        if batch.rows.is_empty() && batch.delta.is_empty() {
            return Ok(Written::covered(self.head().version));
        }
        let schema = Arc::new(self.head().schema.clone());
        let files = by_file(&schema, batch.rows)?;
        let staged = writer::stage(&self.storage, &schema, &files, &self.options.writer).await?;
        let mut stats = WriteStats {
            rows: staged.iter().map(|file| file.rows).sum(),
            files: staged.len() as u64,
            bytes: staged.iter().map(|file| file.size).sum(),
            ..WriteStats::default()
        };
        let mut change = TableChange {
            commit_id: Uuid::now_v7(),
            delta: batch.delta,
            added: staged,
            deleted: BTreeMap::new(),
            schema: None,
            freshness: batch.freshness,
            notes: BTreeMap::new(),
        };
        match self.settler.settle(&mut change, &mut Nothing { schema }).await? {
            Settled::Committed { version, attempts, .. } => {
                stats.attempts = attempts;
                Ok(Written::Committed { version, stats })
            }
            Settled::Overtaken => Ok(Written::Overtaken),
            Settled::Restage => Err(Error::invalid(
                "another program has changed columns of a bronze table that Lakebed writes: put its schema back",
            )),
        }
    }
}

/// New rows depend on nothing in the table but its columns.
struct Nothing {
    schema: Arc<TableSchema>,
}

#[async_trait]
impl Rebase for Nothing {
    async fn rebase(&mut self, log: &dyn TableLog, _change: &mut TableChange) -> Result<Rebased> {
        let now = &log.head().schema;
        let kept = self.schema.columns.iter().all(|column| now.columns.contains(column));
        Ok(if kept { Rebased::Ready } else { Rebased::Restage })
    }
}

/// Rows by the file they go into: one for each topic-partition and partition value, in push order.
pub(super) fn by_file(
    schema: &TableSchema,
    rows: Vec<(TopicPartition, Vec<Value>)>,
) -> Result<Vec<Arc<FileRows>>> {
    let mut files = Files::new(schema)?;
    for (topic_partition, row) in rows {
        files.push(&topic_partition, row)?;
    }
    Ok(files.into_vec())
}

/// Files being filled.
pub(super) struct Files {
    partition_column: Option<usize>,
    files: Vec<FileRows>,
    /// Files by topic-partition and the canonical form of the partition value.
    places: std::collections::HashMap<(TopicPartition, Vec<u8>), usize>,
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
        Ok(Self { partition_column, files: Vec::new(), places: Default::default(), last: None })
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

impl Written {
    /// Nothing was written because the table holds it, or there was nothing.
    pub(super) fn covered(version: i64) -> Self {
        Self::Committed { version, stats: WriteStats::default() }
    }
}

/// The files of a change, for those who count them.
pub(super) fn total_size(files: &[Arc<DataFile>]) -> u64 {
    files.iter().map(|file| file.size).sum()
}
