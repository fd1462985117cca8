//! What has been read since the last commit, for both layers of one table.
//!
//! Invariant: each layer's delta covers exactly the records that it has taken, from its own stored
//! next offset on. A record that a layer holds already extends nothing there.

mod beside;
mod take;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use lakebed_schemas::column::TableSchema;
use lakebed_schemas::config::BadRecords;
use lakebed_schemas::decoder::Decoder;
use lakebed_schemas::position::TopicPartition;
use lakebed_sinks::table::{AppendBatch, UpsertBatch};

use super::bronze_rows::BronzeRows;
use super::layers::Layers;
use super::lookout::Lookout;
use super::progress::Progress;
use super::repeats::Repeats;
use super::sealed::Sealed;
use super::silver_rows::SilverRows;
use super::waiting::SourcePlace;
use crate::dead_letter::DeadLetter;
use crate::fold;
use crate::metrics::TableMetrics;

/// When the open batch is due.
#[derive(Debug, Clone, Copy)]
pub struct BatchLimits {
    /// Oldest record it may hold.
    pub max_age: Duration,
    /// Most records.
    pub max_rows: usize,
    /// Most bytes in memory, about.
    pub max_bytes: usize,
    /// How long progress without records may wait for a commit of its own.
    pub quiet_every: Duration,
    /// How many events of a partition are remembered, to know them when they come again; 0: none.
    pub repeat_window: usize,
    /// Whether rows go that a whole snapshot of the source did not find again.
    pub sweep_ghosts: bool,
}

/// The open batch of one table entry.
pub struct OpenBatch {
    decoder: Decoder,
    repeats: Repeats,
    lookout: Lookout,
    limits: BatchLimits,
    bad_records: BadRecords,
    metrics: TableMetrics,
    has_bronze: bool,
    silver: Option<SilverRows>,
    bronze_rows: BronzeRows,
    bronze_progress: Progress,
    silver_progress: Progress,
    dead_letters: Vec<DeadLetter>,
    ops: BTreeMap<&'static str, u64>,
    /// Records that are no change of a row, by kind.
    others: BTreeMap<&'static str, u64>,
    freshness: Option<i64>,
    records: usize,
    /// Bytes of the messages taken, to give back to the source's budget.
    taken_bytes: usize,
    /// Bytes of messages that both layers hold already, to give back at once.
    passed_bytes: usize,
    opened: Option<Instant>,
    postponed: Option<Instant>,
    /// When it was last handed out to be written.
    sealed: Instant,
    /// While that is watched, how far each partition has got in the source's log.
    seen: Option<BTreeMap<TopicPartition, SourcePlace>>,
}

impl OpenBatch {
    /// An empty batch.
    pub fn new(
        decoder: Decoder,
        limits: BatchLimits,
        bad_records: BadRecords,
        has_bronze: bool,
        silver: Option<SilverRows>,
        metrics: TableMetrics,
    ) -> Self {
        Self {
            decoder,
            repeats: Repeats::new(limits.repeat_window),
            lookout: Lookout::new(limits.sweep_ghosts, metrics.clone()),
            limits,
            bad_records,
            metrics,
            has_bronze,
            silver,
            bronze_rows: BronzeRows::default(),
            bronze_progress: Progress::default(),
            silver_progress: Progress::default(),
            dead_letters: Vec::new(),
            ops: BTreeMap::new(),
            others: BTreeMap::new(),
            freshness: None,
            records: 0,
            taken_bytes: 0,
            passed_bytes: 0,
            opened: None,
            postponed: None,
            sealed: Instant::now(),
            seen: None,
        }
    }

    /// Whether what is open of these partitions still starts where the layers stand.
    pub(super) fn continues(&self, layers: &Layers, partitions: &[TopicPartition]) -> bool {
        partitions.iter().all(|tp| {
            let stands = |progress: &Progress, next: Option<i64>| {
                let range = progress.delta.ranges.get(tp);
                range.is_none_or(|range| next.is_none_or(|next| next == range.start))
            };
            stands(&self.bronze_progress, layers.bronze_next(tp).map(|next| next.offset))
                && stands(&self.silver_progress, layers.silver_next(tp).map(|next| next.offset))
        })
    }

    /// Takes over where the layers stand, for partitions that are assigned now. What is open and
    /// [`Self::continues`] stays: its records come again and are passed over.
    ///
    /// `is_added`: whether a partition was added to its topic while the table was kept.
    pub(super) fn set_stored(
        &mut self,
        layers: &Layers,
        partitions: &[TopicPartition],
        is_added: &dyn Fn(&TopicPartition) -> bool,
    ) {
        self.lookout.settled(layers);
        if let Some(silver) = &mut self.silver {
            silver.recall(layers.silver_memos());
        }
        for tp in partitions {
            let open = [&self.bronze_progress, &self.silver_progress];
            if open.iter().all(|progress| !progress.delta.ranges.contains_key(tp)) {
                self.lookout.load(tp, layers, is_added(tp));
            }
            let mut known_from = self.open_known_from(tp).unwrap_or(0);
            for (progress, next) in [
                (&mut self.bronze_progress, layers.bronze_next(tp)),
                (&mut self.silver_progress, layers.silver_next(tp)),
            ] {
                known_from = known_from.max(next.map_or(0, |next| next.known_from));
                match next {
                    Some(next) => progress.stored.insert(tp.clone(), next.offset),
                    None => progress.stored.remove(tp),
                };
            }
            self.repeats.begin(tp, known_from);
        }
    }

    /// From where on events are known to whom the open records of a partition were judged by.
    fn open_known_from(&self, tp: &TopicPartition) -> Option<i64> {
        let progress = [&self.bronze_progress, &self.silver_progress];
        let end = progress.iter().filter_map(|progress| Some(progress.delta.ranges.get(tp)?.end));
        let end = end.max()?;
        Some(self.repeats.known_from(tp).unwrap_or(end))
    }

    /// Notes how many partitions a topic has: what a truncate means depends on it.
    pub(super) fn set_partitions(&mut self, topic: Arc<str>, count: usize) {
        self.lookout.set_partitions(topic.clone(), count);
        if let Some(silver) = &mut self.silver {
            silver.set_partitions(topic, count);
        }
    }

    /// Notes that a topic has more partitions than it had.
    pub(super) fn notice_partitions(&mut self, topic: Arc<str>, count: usize) {
        if count > self.lookout.partitions(&topic) {
            self.set_partitions(topic, count);
        }
    }

    /// Takes over the columns of silver as the table has them, unless rows in newer ones are open.
    pub(super) fn set_schema(&mut self, schema: Option<TableSchema>) {
        if let Some(silver) = &mut self.silver
            && silver.fold().is_empty()
        {
            silver.reset(schema);
        }
    }

    /// Moves progress to where a partition ends.
    pub fn reach(&mut self, tp: &TopicPartition, next: i64) {
        if self.has_bronze {
            self.bronze_progress.reach(tp, next);
        }
        if self.silver.is_some() {
            self.silver_progress.reach(tp, next);
        }
    }

    /// Whether what is open covers a partition up to this offset, for the layer that tells which
    /// rows there are.
    pub(super) fn has_reached(&self, tp: &TopicPartition, offset: i64) -> bool {
        let of_rows = [&self.silver_progress, &self.bronze_progress];
        let mut open = of_rows.iter().filter_map(|progress| progress.delta.ranges.get(tp));
        open.any(|range| range.end >= offset)
    }

    /// Whether there is nothing to commit, progress included.
    pub fn is_empty(&self) -> bool {
        self.records == 0 && !self.has_progress()
    }

    fn has_progress(&self) -> bool {
        !self.bronze_progress.delta.is_empty() || !self.silver_progress.delta.is_empty()
    }

    /// Whether it must be committed before it takes more.
    pub fn is_full(&self) -> bool {
        let silver = self.silver.as_ref().map_or(0, |silver| silver.fold().weight());
        let held = self.bronze_rows.weight() + silver;
        self.records >= self.limits.max_rows || held >= self.limits.max_bytes
    }

    /// When its age makes it due; `None` while there is nothing to commit.
    ///
    /// Progress alone is no hurry and every commit costs, so it waits longer: only as long as keeps
    /// retention from overtaking a quiet topic.
    pub fn due_at(&self) -> Option<Instant> {
        let aged = self.postponed.or(self.opened.map(|opened| opened + self.limits.max_age));
        let quiet = self.has_progress().then(|| self.sealed + self.limits.quiet_every);
        aged.or(quiet)
    }

    /// How long it has been open.
    pub fn age(&self) -> Duration {
        self.opened.map_or(Duration::ZERO, |opened| opened.elapsed())
    }

    /// The configured greatest age.
    pub fn max_age(&self) -> Duration {
        self.limits.max_age
    }

    /// Whether the first half of a key change is in and the second is not.
    pub fn is_mid_key_change(&self) -> bool {
        self.silver.as_ref().is_some_and(|silver| silver.fold().is_mid_key_change())
    }

    /// Makes it due a moment later.
    pub fn postpone(&mut self) {
        self.postponed = Some(Instant::now() + Duration::from_millis(20));
    }

    /// Turns what is open into batches to write; nothing is open afterwards.
    pub(super) fn seal(&mut self) -> Sealed {
        let mut sealed = Sealed {
            dead_letters: std::mem::take(&mut self.dead_letters),
            rows: self.records as u64,
            ops: std::mem::take(&mut self.ops),
            others: std::mem::take(&mut self.others),
            schemas: self.bronze_rows.take_schemas(),
            nulled: self.silver.as_mut().map_or(0, |silver| silver.take_nulled() as u64),
            floors: self
                .silver
                .as_mut()
                .map_or_else(Vec::new, |silver| silver.floors().unwritten()),
            passed_over: self.silver.as_mut().map_or(0, SilverRows::take_passed_over),
            ..Sealed::default()
        };
        let freshness = self.freshness.take();
        for progress in [&mut self.bronze_progress, &mut self.silver_progress] {
            progress.delta.remember(|tp| self.repeats.known_from(tp));
        }
        let delta = std::mem::take(&mut self.bronze_progress.delta);
        if self.has_bronze && !delta.ranges.is_empty() {
            let rows = self.bronze_rows.take();
            let memos = self.lookout.bronze_memos(&delta);
            sealed.bronze = Some(AppendBatch { rows, delta, freshness, memos });
        }
        let delta = std::mem::take(&mut self.silver_progress.delta);
        if let Some(silver) = &mut self.silver
            && !delta.ranges.is_empty()
        {
            let fold::Sealed { truncated, changes, lost, departed } = silver.seal();
            (sealed.departed, sealed.lost) = (departed, lost.len() as u64);
            // Without a schema no row has been seen: there is no table to hold progress yet.
            if let Some(schema) = silver.schema().cloned() {
                let mut memos = silver.memos();
                memos.extend(self.lookout.silver_memos(&delta));
                let sweeps = self.lookout.take_sweeps();
                let batch =
                    UpsertBatch { truncated, sweeps, schema, changes, delta, freshness, memos };
                sealed.silver = Some(batch);
            }
        }
        self.close();
        sealed
    }

    fn close(&mut self) {
        self.sealed = Instant::now();
        self.records = 0;
        self.opened = None;
        self.postponed = None;
        self.metrics.buffered_since(None);
    }

    /// After a commit: takes over where the layers stand now, and their columns.
    pub(super) fn settled(&mut self, layers: &Layers) {
        self.lookout.settled(layers);
        for (progress, checkpoint) in [
            (&mut self.bronze_progress, layers.bronze_checkpoint()),
            (&mut self.silver_progress, layers.silver_checkpoint()),
        ] {
            if let Some(checkpoint) = checkpoint {
                // What it does not hold yet stays where it was begun.
                progress.stored.extend(checkpoint.iter().map(|(tp, next)| (tp, next.offset)));
            }
        }
        if let (Some(silver), Some(schema)) = (&mut self.silver, layers.silver_schema()) {
            silver.committed(Some(schema));
        }
    }

    /// Bytes of messages that were passed over, because both layers hold them.
    pub(super) fn release_passed(&mut self) -> usize {
        std::mem::take(&mut self.passed_bytes)
    }

    /// How many records before those that a layer lacks are to be read.
    pub(super) fn repeat_window(&self) -> i64 {
        i64::try_from(self.repeats.window()).unwrap_or(i64::MAX)
    }

    /// Bytes of the events that are remembered.
    pub(super) fn repeats_bytes(&self) -> usize {
        self.repeats.memory_bytes()
    }

    /// Notes that records were gone before they were read.
    pub(super) fn passed_gap(&mut self, tp: &TopicPartition) {
        self.lookout.passed_gap(tp);
    }

    /// Forgets what was read of partitions that have gone.
    pub(super) fn forget(&mut self, partitions: &[TopicPartition]) {
        self.repeats.forget(partitions);
        self.lookout.forget(partitions);
    }

    /// Bytes of messages that are written or dropped.
    pub fn release(&mut self) -> usize {
        std::mem::take(&mut self.taken_bytes)
    }

    /// Drops everything; the records will be read again. Gives the bytes to return to the source.
    pub(super) fn abandon(&mut self, silver_schema: Option<TableSchema>) -> usize {
        self.repeats.clear();
        self.lookout.clear();
        self.dead_letters.clear();
        self.bronze_rows = BronzeRows::default();
        self.bronze_progress = Progress::default();
        self.silver_progress = Progress::default();
        self.ops.clear();
        self.others.clear();
        self.freshness = None;
        self.close();
        if let Some(silver) = &mut self.silver {
            silver.take_nulled();
            silver.take_passed_over();
            silver.reset(silver_schema);
        }
        self.release() + self.release_passed()
    }
}
