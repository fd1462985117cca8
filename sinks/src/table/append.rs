//! Bronze: every row is new.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use async_trait::async_trait;
use lakebed_schemas::column::TableSchema;
use lakebed_schemas::position::{Checkpoint, Fit};
use uuid::Uuid;

use super::grouping::Files;
use super::settle::{Rebase, Rebased, Settled, Settler};
use super::writer;
use super::{AppendBatch, WriteOptions, WriteStats, Written};
use crate::log::{Head, MaintenanceReport, TableChange, TableLog};
use crate::storage::Storage;
use crate::{Error, Result};

/// A table that only grows.
pub struct AppendTable {
    storage: Storage,
    settler: Settler,
    options: WriteOptions,
}

impl AppendTable {
    /// Refuses a table to which no rows can be added.
    ///
    /// # Errors
    /// `Invalid`, naming what is in the way.
    pub fn check(log: &dyn TableLog) -> Result<()> {
        log.check_writable()
    }

    /// Takes over a table whose log has just been opened.
    ///
    /// # Errors
    /// As [`Self::check`].
    pub async fn open(log: Box<dyn TableLog>, options: WriteOptions) -> Result<Self> {
        Self::check(log.as_ref())?;
        let storage = log.storage().clone();
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
        let mut files = Files::new(&schema)?;
        for (topic_partition, row) in batch.rows {
            files.push(&topic_partition, row)?;
        }
        let files = files.into_vec();
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
            removed: BTreeSet::new(),
            schema: None,
            freshness: batch.freshness,
            notes: BTreeMap::new(),
            memos: batch.memos,
        };
        match self.settler.settle(&mut change, &mut Nothing { schema }).await? {
            Settled::Committed { version, attempts, .. } => {
                stats.attempts = attempts;
                stats.unanswered = self.settler.unanswered();
                Ok(Written::Committed { version, stats })
            }
            Settled::Overtaken => Ok(Written::Overtaken),
            Settled::Restage => Err(Error::invalid(
                "another program has changed columns or partitions of a bronze table that Lakebed writes: put its schema back",
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
        let kept = self.schema.columns.iter().all(|column| now.columns.contains(column))
            && now.partition_by == self.schema.partition_by;
        Ok(if kept { Rebased::Ready } else { Rebased::Restage })
    }
}

impl Written {
    /// Nothing was written because the table holds it, or there was nothing.
    pub(super) fn covered(version: i64) -> Self {
        Self::Committed { version, stats: WriteStats::default() }
    }
}
