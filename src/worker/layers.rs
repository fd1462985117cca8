//! The bronze and the silver table of one entry: opening, writing, where they stand.
//!
//! The two layers are written at the same time and each owns its checkpoint. Silver does not exist
//! until the first row tells its columns.

use std::sync::Arc;
use std::time::{Duration, Instant};

use lakebed_schemas::bronze;
use lakebed_schemas::column::TableSchema;
use lakebed_schemas::position::{Checkpoint, NextOffset, TopicPartition};
use lakebed_sinks::log::{TableLog, TableOptions};
use lakebed_sinks::storage::Storage;
use lakebed_sinks::table::append::AppendTable;
use lakebed_sinks::table::upsert::UpsertTable;
use lakebed_sinks::table::{WriteOptions, Written};
use lakebed_sinks::{Error, ErrorKind, Format};
use tracing::warn;

use super::open_batch::Sealed;
use crate::dead_letter::{DeadLetter, DeadLetters};
use crate::metrics::TableMetrics;

/// Commits between two rounds of maintenance, and the longest time between them.
const MAINTAIN_COMMITS: u32 = 20;
const MAINTAIN_EVERY: Duration = Duration::from_secs(300);

/// How the layers of one entry are opened.
#[derive(Clone)]
pub struct LayerOptions {
    /// Table format of both.
    pub format: Format,
    /// Where bronze lies; `None` turns it off.
    pub bronze: Option<Storage>,
    /// Where silver lies; `None` turns it off.
    pub silver: Option<Storage>,
    /// Whose progress it is.
    pub table: TableOptions,
    /// Where bad records go, if anywhere.
    pub dead_letters: Option<Arc<DeadLetters>>,
    /// Counts.
    pub metrics: TableMetrics,
}

/// What became of a sealed batch.
pub(super) enum Outcome {
    /// In both layers.
    Written(BatchWritten),
    /// Another writer moved the offsets.
    Overtaken,
    /// Storage or broker did not answer: nothing is lost, the records are read again later.
    TryAgain(String),
    /// Cannot succeed by trying again.
    Failed(String),
}

/// Counts of a written batch.
pub(super) struct BatchWritten {
    pub(super) rows: u64,
    pub(super) bronze_version: Option<i64>,
    pub(super) silver_version: Option<i64>,
}

/// The opened layers of one table entry.
pub struct Layers {
    options: LayerOptions,
    bronze: Option<AppendTable>,
    silver: Option<UpsertTable>,
    commits: u32,
    maintained: Instant,
}

impl Layers {
    /// Layers that are still to be opened, by the first [`Self::refresh`].
    pub fn new(options: LayerOptions) -> Self {
        Self { options, bronze: None, silver: None, commits: 0, maintained: Instant::now() }
    }

    /// Opens what exists and creates bronze, whose columns are known; afterwards loads the newest
    /// versions.
    ///
    /// # Errors
    /// When storage does not answer or a table is not one of ours.
    pub async fn refresh(&mut self) -> Result<(), Error> {
        match (&mut self.bronze, &self.options.bronze) {
            (Some(bronze), _) => drop(bronze.refresh().await?),
            (None, Some(storage)) => {
                let log = create_or_open(&self.options, storage, &bronze::schema()).await?;
                self.bronze =
                    Some(AppendTable::open(storage.clone(), log, WriteOptions::default()).await?);
            }
            (None, None) => {}
        }
        match (&mut self.silver, &self.options.silver) {
            (Some(silver), _) => drop(silver.refresh().await?),
            (None, Some(storage)) => {
                // Ours of an earlier life, or made by another member of the group meanwhile.
                let log =
                    lakebed_sinks::open(self.options.format, storage, &self.options.table).await?;
                if let Some(log) = log {
                    self.silver = Some(open_silver(storage, log).await?);
                }
            }
            (None, None) => {}
        }
        Ok(())
    }

    /// Progress of bronze, if it is on.
    pub fn bronze_checkpoint(&self) -> Option<&Checkpoint> {
        self.bronze.as_ref().map(|table| &table.head().checkpoint)
    }

    /// Progress of silver, if there is a table.
    pub fn silver_checkpoint(&self) -> Option<&Checkpoint> {
        self.silver.as_ref().map(|table| &table.head().checkpoint)
    }

    /// Where bronze stands.
    pub fn bronze_next(&self, tp: &TopicPartition) -> Option<NextOffset> {
        self.bronze_checkpoint()?.next(tp)
    }

    /// Where silver stands.
    pub fn silver_next(&self, tp: &TopicPartition) -> Option<NextOffset> {
        self.silver_checkpoint()?.next(tp)
    }

    /// The columns of silver as committed.
    pub fn silver_schema(&self) -> Option<TableSchema> {
        self.silver.as_ref().map(|table| table.head().schema.clone())
    }

    /// Where reading must go on: the lower of the layers that are on.
    pub fn next(&self, tp: &TopicPartition) -> Option<NextOffset> {
        let on = [
            self.options.bronze.as_ref().map(|_| self.bronze_next(tp)),
            self.options.silver.as_ref().map(|_| self.silver_next(tp)),
        ];
        let stored: Option<Vec<NextOffset>> = on.into_iter().flatten().collect();
        stored?.into_iter().min_by_key(|next| next.offset)
    }

    /// The lower of the layers, for every topic-partition that all of them have.
    pub fn checkpoint(&self) -> Checkpoint {
        let any =
            self.bronze_checkpoint().or(self.silver_checkpoint()).cloned().unwrap_or_default();
        let mut lowest = any.clone();
        for (topic, progress) in &any.topics {
            for partition in progress.next.keys() {
                let tp = TopicPartition::new(topic.clone(), *partition);
                let kept = lowest.topics.get_mut(topic).map(|topic| &mut topic.next);
                match (kept, self.next(&tp)) {
                    (Some(kept), Some(next)) => {
                        kept.insert(*partition, next);
                    }
                    (Some(kept), None) => {
                        kept.remove(partition);
                    }
                    (None, _) => {}
                }
            }
        }
        lowest
    }

    /// UUID of silver, else of bronze.
    pub fn uuid(&self) -> String {
        let silver = self.silver.as_ref().map(|table| table.head().uuid);
        let bronze = || self.bronze.as_ref().map(|table| table.head().uuid);
        silver.or_else(bronze).map(|uuid| uuid.to_string()).unwrap_or_default()
    }

    /// Writes a sealed batch: dead letters first, because the tables must not pass a record that is
    /// not safe there; then both layers at once. Where one of them fails, the records are read
    /// again and the other passes over them.
    pub(super) async fn write(&mut self, sealed: Sealed) -> Outcome {
        if let Err(failure) = self.send_dead_letters(&sealed.dead_letters).await {
            return Outcome::TryAgain(failure);
        }
        if let Err(error) = self.create_silver(sealed.silver.as_ref().map(|b| &b.schema)).await {
            return outcome_of(&error);
        }
        let started = Instant::now();
        let bronze = async {
            match (&mut self.bronze, sealed.bronze) {
                (Some(table), Some(batch)) => Some(table.write(batch).await),
                _ => None,
            }
        };
        let silver = async {
            match (&mut self.silver, sealed.silver) {
                (Some(table), Some(batch)) => Some(table.write(batch).await),
                _ => None,
            }
        };
        let (bronze, silver) = tokio::join!(bronze, silver);
        let judged = (self.judge(bronze, started), self.judge(silver, started));
        let (bronze_version, silver_version) = match judged {
            (Ok(bronze), Ok(silver)) => (bronze, silver),
            (Err(problem), _) | (_, Err(problem)) => return problem,
        };
        self.options.metrics.applied(&sealed.ops);
        self.commits += 1;
        Outcome::Written(BatchWritten { rows: sealed.rows, bronze_version, silver_version })
    }

    /// Notes one layer's result; `Err` holds what must happen instead of going on.
    fn judge(
        &self,
        written: Option<Result<Written, Error>>,
        started: Instant,
    ) -> Result<Option<i64>, Outcome> {
        let metrics = &self.options.metrics;
        match written {
            None => Ok(None),
            Some(Ok(Written::Committed { version, stats })) => {
                metrics.committed(started.elapsed(), &stats);
                Ok(Some(version))
            }
            Some(Ok(Written::Overtaken)) => {
                metrics.commit_conflict();
                Err(Outcome::Overtaken)
            }
            Some(Err(error)) => {
                metrics.commit_failed();
                Err(outcome_of(&error))
            }
        }
    }

    async fn send_dead_letters(&self, letters: &[DeadLetter]) -> Result<(), String> {
        if letters.is_empty() {
            return Ok(());
        }
        let Some(producer) = &self.options.dead_letters else {
            return Err("there is no dead-letter topic".into());
        };
        producer.send(letters).await?;
        self.options.metrics.dead_letters(letters.len() as u64);
        Ok(())
    }

    async fn create_silver(&mut self, schema: Option<&TableSchema>) -> Result<(), Error> {
        let (None, Some(schema), Some(storage)) = (&self.silver, schema, &self.options.silver)
        else {
            return Ok(());
        };
        let log = create_or_open(&self.options, storage, schema).await?;
        self.silver = Some(open_silver(storage, log).await?);
        Ok(())
    }

    /// Expiry and cleanup, when due: between batches, never inside a commit. A failure harms
    /// nothing and is tried again next time.
    pub async fn maintain_if_due(&mut self) {
        if self.commits < MAINTAIN_COMMITS && self.maintained.elapsed() < MAINTAIN_EVERY {
            return;
        }
        self.commits = 0;
        self.maintained = Instant::now();
        let bronze = async {
            match &mut self.bronze {
                Some(table) => table.maintain().await.map(|_| ()),
                None => Ok(()),
            }
        };
        let silver = async {
            match &mut self.silver {
                Some(table) => table.maintain().await.map(|_| ()),
                None => Ok(()),
            }
        };
        let (bronze, silver) = tokio::join!(bronze, silver);
        for failure in [bronze, silver].into_iter().filter_map(Result::err) {
            warn!(error = %failure.chain(), "maintenance failed, will try again");
        }
    }
}

async fn create_or_open(
    options: &LayerOptions,
    storage: &Storage,
    schema: &TableSchema,
) -> Result<Box<dyn TableLog>, Error> {
    lakebed_sinks::create_or_open(options.format, storage, &options.table, schema).await
}

async fn open_silver(storage: &Storage, log: Box<dyn TableLog>) -> Result<UpsertTable, Error> {
    UpsertTable::open(storage.clone(), log, WriteOptions::default()).await
}

fn outcome_of(error: &Error) -> Outcome {
    match error.kind() {
        ErrorKind::Unavailable => Outcome::TryAgain(error.chain()),
        _ => Outcome::Failed(error.chain()),
    }
}
