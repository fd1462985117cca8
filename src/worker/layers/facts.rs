//! Facts of the source that lie beside silver: written before the commit that relies on them.

use std::collections::BTreeSet;
use std::sync::Arc;

use lakebed_schemas::column::TableSchema;
use lakebed_schemas::position::{Checkpoint, TopicPartition};
use lakebed_schemas::value::Value;
use lakebed_sinks::Error;
use lakebed_sinks::storage::Storage;
use tracing::debug;

use super::Layers;
use crate::fold::DepartedRow;
use crate::worker::floors::{Floor, FloorFiles};
use crate::worker::kept_rows::{KeptFile, KeptFiles, KeptRow};

impl Layers {
    fn floor_files(&self) -> Option<FloorFiles> {
        self.options.silver.as_ref().map(|place| FloorFiles::new(place.storage.clone()))
    }

    /// Writes down where topics were truncated, before anything that follows from it is committed.
    pub(super) async fn keep_floors(&self, floors: &[(Arc<str>, Floor)]) -> Result<(), Error> {
        let Some(files) = self.floor_files() else { return Ok(()) };
        for (topic, floor) in floors {
            files.write(topic, floor).await?;
        }
        Ok(())
    }

    /// Where a topic was truncated, if it was.
    ///
    /// # Errors
    /// When storage does not answer or the file cannot be read.
    pub(in crate::worker) async fn read_floor(&self, topic: &str) -> Result<Option<Floor>, Error> {
        match self.floor_files() {
            Some(files) => files.read(topic).await,
            None => Ok(None),
        }
    }

    pub(super) fn kept_files(&self) -> Option<KeptFiles> {
        self.options.silver.as_ref().map(|place| KeptFiles::new(place.storage.clone()))
    }

    /// Where silver lies or will lie, if it is on.
    pub(in crate::worker) fn silver_storage(&self) -> Option<Storage> {
        self.options.silver.as_ref().map(|place| place.storage.clone())
    }

    /// The layer that tells which rows there are: silver or, until its first row, bronze.
    fn of_rows(&self) -> Option<&Checkpoint> {
        self.silver_checkpoint().or_else(|| self.bronze_checkpoint())
    }

    /// How many partitions of a topic rows have been read of, by the highest; `None`: of none.
    pub(in crate::worker) fn partitions_read(&self, topic: &str) -> Option<i32> {
        let progress = self.of_rows()?.topics.get(topic)?;
        let highest = *progress.next.keys().next_back()?;
        Some(progress.partition_count.max(highest + 1))
    }

    /// Up to where rows of a partition have been read.
    pub(in crate::worker) fn stands_at(&self, tp: &TopicPartition) -> Option<i64> {
        let next = match self.silver_checkpoint() {
            Some(_) => self.silver_next(tp),
            None => self.bronze_next(tp),
        };
        next.map(|next| next.offset)
    }

    /// Writes down what rows were that the batch deletes, as far as a later one will ask for them:
    /// once it is committed, nothing else knows.
    pub(super) async fn keep_departed(
        &mut self,
        departed: &[DepartedRow],
        schema: Option<&TableSchema>,
    ) -> Result<Option<KeptFile>, Error> {
        let (Some(files), Some(schema)) = (self.kept_files(), schema) else { return Ok(None) };
        if departed.is_empty() {
            return Ok(None);
        }
        let mut stored = vec![None; departed.len()];
        let mut columns: Vec<&str> = Vec::new();
        if let Some(silver) = &mut self.silver {
            let table = silver.head().schema.clone();
            columns.extend(schema.columns.iter().map(|column| column.name.as_str()));
            columns.retain(|name| table.index_of(name).is_some());
            let keys: Vec<Vec<Value>> =
                departed.iter().map(|row| row.from.as_ref().unwrap_or(&row.key).clone()).collect();
            stored = silver.rows_of(&keys, &columns).await?;
        }
        let rows = departed.iter().zip(stored);
        let rows: Vec<KeptRow> = rows
            .filter_map(|(row, stored)| KeptRow::of(row, schema, &columns, stored.as_deref()))
            .collect();
        if rows.is_empty() {
            return Ok(None);
        }
        files.write(rows).await.map(Some)
    }

    /// Rows that left their keys in batches that are not known here: of the process before this
    /// one, or of another that has some of the topic's partitions.
    ///
    /// # Errors
    /// When storage does not answer or a file cannot be read.
    pub(in crate::worker) async fn read_kept(
        &self,
        known: &BTreeSet<Arc<str>>,
    ) -> Result<Vec<KeptFile>, Error> {
        match self.kept_files() {
            Some(files) => files.read(known).await,
            None => Ok(Vec::new()),
        }
    }

    /// Removes files that nobody needs any more. One that stays harms nothing and is removed when
    /// it is old.
    pub(in crate::worker) async fn remove_kept(&self, spent: Vec<Arc<str>>) {
        let Some(files) = self.kept_files() else { return };
        for path in spent {
            if let Err(failure) = files.remove(&path).await {
                debug!(path = %path, error = %failure.chain(), "could not remove a kept row");
            }
        }
    }
}
