//! The bronze and the silver table of one entry: opening, writing, where they stand.
//!
//! The two layers are written at the same time and each owns its checkpoint. Silver does not exist
//! until the first row tells its columns.

mod beginnings;
mod facts;
mod opening;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use lakebed_schemas::bronze;
use lakebed_schemas::column::TableSchema;
use lakebed_schemas::config::{Mode, Start};
use lakebed_schemas::partition::PartitionBy;
use lakebed_schemas::position::{Checkpoint, NextOffset, TopicPartition};
use lakebed_sinks::catalog::Entry;
use lakebed_sinks::log::{Head, TableLog, TableOptions};
use lakebed_sinks::storage::Storage;
use lakebed_sinks::table::append::AppendTable;
use lakebed_sinks::table::upsert::UpsertTable;
use lakebed_sinks::table::{WriteOptions, Written};
use lakebed_sinks::{Error, ErrorKind, Format};
use tracing::warn;

pub use beginnings::find_lost;
pub use opening::{Refusal, check_partitions};

use super::kept_rows::KeptFile;
use super::schema_texts::SchemaTexts;
use super::sealed::Sealed;
use super::starts::LateStarts;
use crate::dead_letter::{DeadLetter, DeadLetters};
use crate::metrics::{TableMetrics, TableState};

/// Commits between two rounds of maintenance, and the longest time between them.
const MAINTAIN_COMMITS: u32 = 20;
const MAINTAIN_EVERY: Duration = Duration::from_secs(300);

/// How the layers of one entry are opened.
#[derive(Clone)]
pub struct LayerOptions {
    /// Table format of both.
    pub format: Format,
    /// Where bronze lies; `None` turns it off.
    pub bronze: Option<LayerPlace>,
    /// Where silver lies; `None` turns it off.
    pub silver: Option<LayerPlace>,
    /// Whose progress it is.
    pub table: TableOptions,
    /// What silver is partitioned by.
    pub partition_by: Vec<PartitionBy>,
    /// How rows go from silver.
    pub mode: Mode,
    /// Where to begin in topics of which a layer holds nothing.
    pub start: Start,
    /// Where bad records go, if anywhere.
    pub dead_letters: Option<Arc<DeadLetters>>,
    /// Where inline schemas are kept.
    pub schema_texts: Arc<SchemaTexts>,
    /// Counts of the entry.
    pub metrics: TableMetrics,
}

/// One layer's table.
#[derive(Clone)]
pub struct LayerPlace {
    /// `database.table`.
    pub name: String,
    /// Where it lies, unless its catalog chooses another place, and what is kept beside it.
    pub storage: Storage,
    /// Where readers look it up.
    pub catalog: Entry,
    /// Its counts.
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
    /// Rows of silver that left their keys and whose new row is still to come.
    pub(super) kept: Option<KeptFile>,
}

/// The opened layers of one table entry.
pub struct Layers {
    options: LayerOptions,
    bronze: Option<AppendTable>,
    silver: Option<UpsertTable>,
    bronze_starts: Option<LateStarts>,
    silver_starts: Option<LateStarts>,
    commits: u32,
    maintained: Instant,
}

impl Layers {
    /// Layers that are still to be opened, by the first [`Self::refresh`].
    pub fn new(options: LayerOptions) -> Self {
        let late = |place: &Option<LayerPlace>| {
            let place = place.as_ref().filter(|_| options.start == Start::Latest)?;
            Some(LateStarts::new(place.storage.clone(), options.table.sink_id.clone()))
        };
        Self {
            bronze_starts: late(&options.bronze),
            silver_starts: late(&options.silver),
            options,
            bronze: None,
            silver: None,
            commits: 0,
            maintained: Instant::now(),
        }
    }

    /// Opens what exists and creates bronze, whose columns are known; afterwards loads the newest
    /// versions.
    ///
    /// # Errors
    /// When storage does not answer or a table is not one of ours.
    pub async fn refresh(&mut self) -> Result<(), Error> {
        match (&mut self.bronze, &self.options.bronze) {
            (Some(bronze), _) => drop(bronze.refresh().await?),
            (None, Some(place)) => {
                let log = create_or_open(&self.options, place, &bronze::schema()).await?;
                self.bronze = Some(AppendTable::open(log, WriteOptions::default()).await?);
            }
            (None, None) => {}
        }
        match (&mut self.silver, &self.options.silver) {
            (Some(silver), _) => drop(silver.refresh().await?),
            (None, Some(place)) => {
                // Ours of an earlier life, or made by another member of the group meanwhile.
                let (storage, options) = (&place.storage, table_options(&self.options, place));
                let log = lakebed_sinks::open(self.options.format, storage, &options).await?;
                if let Some(log) = log {
                    check_partitions(&place.name, log.head(), &self.options.partition_by)?;
                    self.silver = Some(open_silver(log, self.options.mode).await?);
                }
            }
            (None, None) => {}
        }
        self.tell_freshness();
        Ok(())
    }

    /// The layers that there are, by name, with their UUIDs.
    pub fn names(&self) -> Vec<(String, String)> {
        let name = |(place, head): (&LayerPlace, Option<&Head>)| {
            Some((place.name.clone(), head?.uuid.to_string()))
        };
        self.on().into_iter().rev().filter_map(name).collect()
    }

    /// The layers that are on, bronze first, and what is known of those that exist.
    fn on(&self) -> Vec<(&LayerPlace, Option<&Head>)> {
        let bronze = self.bronze.as_ref().map(AppendTable::head);
        let silver = self.silver.as_ref().map(UpsertTable::head);
        let all = [(&self.options.bronze, bronze), (&self.options.silver, silver)];
        all.into_iter().filter_map(|(place, head)| Some((place.as_ref()?, head))).collect()
    }

    /// Bytes of the key index, and keys in it.
    pub fn index_size(&self) -> (usize, usize) {
        let index = self.silver.as_ref().map(UpsertTable::index);
        index.map_or((0, 0), |index| (index.memory_bytes(), index.len()))
    }

    /// Tells what the entry's tables are doing.
    pub fn set_state(&self, state: TableState) {
        self.on().into_iter().for_each(|(place, _)| place.metrics.state(state));
    }

    /// Counts a gap in the log that was passed.
    pub fn passed_gap(&self, tp: &TopicPartition, offsets: u64) {
        self.options.metrics.gap(tp, offsets);
    }

    /// How fresh the tables are they know themselves.
    fn tell_freshness(&self) {
        for (place, head) in self.on() {
            if let Some(head) = head {
                place.metrics.fresh_as_of(head.freshness);
            }
        }
    }

    /// Progress of bronze, if it is on.
    pub fn bronze_checkpoint(&self) -> Option<&Checkpoint> {
        self.bronze.as_ref().map(|table| &table.head().checkpoint)
    }

    /// Progress of silver, if there is a table.
    pub fn silver_checkpoint(&self) -> Option<&Checkpoint> {
        self.silver.as_ref().map(|table| &table.head().checkpoint)
    }

    /// What bronze tells beside rows and progress.
    pub(super) fn bronze_memos(&self) -> &BTreeMap<String, String> {
        memos(self.bronze.as_ref().map(AppendTable::head))
    }

    /// What silver tells beside rows and progress.
    pub(super) fn silver_memos(&self) -> &BTreeMap<String, String> {
        memos(self.silver.as_ref().map(UpsertTable::head))
    }

    /// Where bronze stands, or begins.
    pub fn bronze_next(&self, tp: &TopicPartition) -> Option<NextOffset> {
        let stored = self.bronze_checkpoint().and_then(|checkpoint| checkpoint.next(tp));
        stored.or_else(|| self.bronze_starts.as_ref()?.next(tp))
    }

    /// Where silver stands, or begins.
    pub fn silver_next(&self, tp: &TopicPartition) -> Option<NextOffset> {
        let stored = self.silver_checkpoint().and_then(|checkpoint| checkpoint.next(tp));
        stored.or_else(|| self.silver_starts.as_ref()?.next(tp))
    }

    /// The columns of silver as committed.
    pub fn silver_schema(&self) -> Option<TableSchema> {
        self.silver.as_ref().map(|table| table.head().schema.clone())
    }

    /// Where each of the layers that are on stands, or begins.
    pub fn next(&self, tp: &TopicPartition) -> Vec<Option<NextOffset>> {
        let on = [
            self.options.bronze.as_ref().map(|_| self.bronze_next(tp)),
            self.options.silver.as_ref().map(|_| self.silver_next(tp)),
        ];
        on.into_iter().flatten().collect()
    }

    /// The lower of the layers, for every topic-partition that all of them have.
    pub fn checkpoint(&self) -> Checkpoint {
        let on = self.on();
        let on: Option<Vec<&Checkpoint>> =
            on.into_iter().map(|(_, head)| head.map(|head| &head.checkpoint)).collect();
        let Some((first, others)) = on.as_deref().and_then(<[_]>::split_first) else {
            return Checkpoint::default();
        };
        let mut lowest = (*first).clone();
        for (topic, progress) in &mut lowest.topics {
            progress.next.retain(|partition, next| {
                let tp = TopicPartition::new(topic.clone(), *partition);
                others.iter().all(|other| {
                    let other = other.next(&tp);
                    *next = other.filter(|other| other.offset < next.offset).unwrap_or(*next);
                    other.is_some()
                })
            });
        }
        lowest
    }

    /// Writes a sealed batch: dead letters first, because the tables must not pass a record that is
    /// not safe there; then both layers at once. Where one of them fails, the records are read
    /// again and the other passes over them.
    pub(super) async fn write(&mut self, sealed: Sealed) -> Outcome {
        if let Err(failure) = self.send_dead_letters(&sealed.dead_letters).await {
            return Outcome::TryAgain(failure);
        }
        if let Err(error) = self.options.schema_texts.keep(&sealed.schemas).await {
            return outcome_of(&error);
        }
        if let Err(error) = self.create_silver(sealed.silver.as_ref().map(|b| &b.schema)).await {
            return outcome_of(&error);
        }
        if let Err(error) = self.keep_floors(&sealed.floors).await {
            return outcome_of(&error);
        }
        let schema = sealed.silver.as_ref().map(|batch| batch.schema.clone());
        let kept = match self.keep_departed(&sealed.departed, schema.as_ref()).await {
            Ok(kept) => kept,
            Err(error) => return outcome_of(&error),
        };
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
        let judged = (
            self.judge(&self.options.bronze, bronze, started),
            self.judge(&self.options.silver, silver, started),
        );
        self.tell_freshness();
        let (bronze_version, silver_version) = match judged {
            (Ok(bronze), Ok(silver)) => (bronze, silver),
            (Err(problem), _) | (_, Err(problem)) => return problem,
        };
        self.options.metrics.applied(&sealed.ops);
        self.options.metrics.others(&sealed.others);
        self.options.metrics.nulled(sealed.nulled);
        self.options.metrics.lost(sealed.lost);
        self.options.metrics.truncated(sealed.passed_over);
        self.commits += 1;
        Outcome::Written(BatchWritten { rows: sealed.rows, bronze_version, silver_version, kept })
    }

    /// Notes one layer's result; `Err` holds what must happen instead of going on.
    fn judge(
        &self,
        place: &Option<LayerPlace>,
        written: Option<Result<Written, Error>>,
        started: Instant,
    ) -> Result<Option<i64>, Outcome> {
        let (Some(place), Some(written)) = (place, written) else { return Ok(None) };
        let metrics = &place.metrics;
        match written {
            Ok(Written::Committed { version, stats }) => {
                metrics.committed(started.elapsed(), &stats);
                Ok(Some(version))
            }
            Ok(Written::Overtaken) => {
                metrics.commit_conflict();
                Err(Outcome::Overtaken)
            }
            Err(error) if error.is_outcome_unknown() => {
                metrics.commit_unknown();
                metrics.state(TableState::Unsettled);
                Err(outcome_of(&error))
            }
            Err(error) => {
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
        let (None, Some(schema), Some(place)) = (&self.silver, schema, &self.options.silver) else {
            return Ok(());
        };
        let log = create_or_open(&self.options, place, schema).await?;
        // Another member of the group may have been quicker, with another configuration.
        check_partitions(&place.name, log.head(), &self.options.partition_by)?;
        self.silver = Some(open_silver(log, self.options.mode).await?);
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
        let kept = self.kept_files();
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
        let kept = async {
            match &kept {
                Some(files) => files.expire().await,
                None => Ok(()),
            }
        };
        let (bronze, silver, kept) = tokio::join!(bronze, silver, kept);
        for failure in [bronze, silver, kept].into_iter().filter_map(Result::err) {
            warn!(error = %failure.chain(), "maintenance failed, will try again");
        }
    }
}

fn memos(head: Option<&Head>) -> &BTreeMap<String, String> {
    static NONE: BTreeMap<String, String> = BTreeMap::new();
    head.map_or(&NONE, |head| &head.memos)
}

/// How the table of one layer is opened.
fn table_options(options: &LayerOptions, place: &LayerPlace) -> TableOptions {
    TableOptions { catalog: place.catalog.clone(), mode: options.mode, ..options.table.clone() }
}

async fn create_or_open(
    options: &LayerOptions,
    place: &LayerPlace,
    schema: &TableSchema,
) -> Result<Box<dyn TableLog>, Error> {
    let of_table = table_options(options, place);
    lakebed_sinks::create_or_open(options.format, &place.storage, &of_table, schema).await
}

async fn open_silver(log: Box<dyn TableLog>, mode: Mode) -> Result<UpsertTable, Error> {
    let options = WriteOptions { mode, ..WriteOptions::default() };
    UpsertTable::open(log, options).await
}

fn outcome_of(error: &Error) -> Outcome {
    match error.kind() {
        ErrorKind::Unavailable => Outcome::TryAgain(error.chain()),
        _ => Outcome::Failed(error.chain()),
    }
}
