//! What a worker does when partitions come and go, and where their log does not go on.

use std::collections::BTreeSet;
use std::sync::Arc;

use lakebed_schemas::config::{OnGap, OnLostTable};
use lakebed_schemas::position::TopicPartition;
use lakebed_sinks::{Error, ErrorKind};
use tracing::{info, warn};

use super::Worker;
use super::eras::Hold;
use crate::metrics::TableState;
use crate::source::{Gap, GapDecision, GapKind, Start, Starts, View};

impl Worker {
    pub(super) async fn assign(
        &mut self,
        partitions: &[TopicPartition],
        generation: u64,
        view: &Arc<dyn View>,
    ) -> Starts {
        if self.halted {
            return Starts::new();
        }
        self.press_on(partitions).await;
        match self.settle_in(partitions, generation, view.as_ref()).await {
            Ok(()) if self.halted => Starts::new(),
            Ok(()) => {
                let window = self.open.repeat_window();
                let start = |tp| {
                    let start = Start::of(&self.layers.next(tp)).after_window(window);
                    Ok(start.hold(self.held.contains_key(tp)))
                };
                partitions.iter().map(|tp| (tp.clone(), start(tp))).collect()
            }
            Err(failure) if failure.kind() == ErrorKind::Unavailable => {
                let reason = format!("table `{}`: {}", self.name, failure.chain());
                partitions.iter().map(|tp| (tp.clone(), Err(reason.clone()))).collect()
            }
            // Trying again would not help, and must not keep other tables waiting.
            Err(failure) => {
                self.halt(&failure.chain(), false);
                Starts::new()
            }
        }
    }

    /// Finds out where the layers stand and takes that over.
    async fn settle_in(
        &mut self,
        partitions: &[TopicPartition],
        generation: u64,
        view: &dyn View,
    ) -> Result<(), Error> {
        self.layers.refresh().await?;
        if self.policies.on_lost_table == OnLostTable::Halt
            && let Some(lost) = self.layers.find_lost(partitions, view).await?
        {
            self.halt(&lost.to_string(), true);
            return Ok(());
        }
        self.layers.decide_starts(partitions, view).await?;
        self.look_at_topics(partitions, view).await?;
        self.hold(partitions);
        if !self.open.continues(&self.layers, partitions) {
            // Another writer has taken these partitions further while they were not ours.
            self.abandon("the table has moved on while its partitions were elsewhere");
        }
        let eras = self.eras.as_ref();
        let is_added = |tp: &TopicPartition| eras.is_some_and(|eras| eras.is_added(tp));
        self.open.set_stored(&self.layers, partitions, &is_added);
        self.open.set_schema(self.layers.silver_schema());
        let kept = self.layers.read_kept(&self.open.kept_files()).await?;
        self.open.keep(kept);
        self.waiting.begins(partitions);
        for tp in partitions {
            self.generations.insert(tp.clone(), generation);
        }
        self.open.set_read(self.generations.keys());
        self.layers.set_state(TableState::Running);
        self.report_standing();
        Ok(())
    }

    /// Learns how many partitions the topics have and had, and where they were truncated.
    async fn look_at_topics(
        &mut self,
        partitions: &[TopicPartition],
        view: &dyn View,
    ) -> Result<(), Error> {
        let topics: BTreeSet<&Arc<str>> = partitions.iter().map(|tp| &tp.topic).collect();
        for topic in topics {
            let ours = partitions.iter().filter(|tp| tp.topic == *topic).map(|tp| tp.partition + 1);
            let highest = ours.max().and_then(|ours| usize::try_from(ours).ok()).unwrap_or(0);
            let count = view.partitions(topic).await.map_err(Error::unavailable)?.max(highest);
            self.open.set_partitions(topic.clone(), count);
            if let Some(eras) = &mut self.eras {
                let read = self.layers.partitions_read(topic);
                let count = i32::try_from(count).unwrap_or(i32::MAX);
                eras.look(topic, count, read, view).await?;
            }
            if count > 1
                && let Some(floor) = self.layers.read_floor(topic).await?
            {
                self.open.learn_floor(topic.clone(), floor);
            }
        }
        Ok(())
    }

    /// Finds out which partitions something else comes before.
    fn hold(&mut self, partitions: &[TopicPartition]) {
        let Some(eras) = &self.eras else { return };
        for tp in partitions {
            let hold = eras.hold(tp, |other| self.layers.stands_at(other));
            match (self.held.get(tp), hold) {
                (Some(_), None) => {
                    self.held.remove(tp);
                    info!(table = %self.name, %tp, "an added partition is read from now on");
                }
                (None, None) => {}
                (known, Some(hold)) => {
                    if known != Some(&hold) {
                        info!(table = %self.name, %tp, "an added partition waits {hold}");
                    }
                    self.held.insert(tp.clone(), hold);
                }
            }
        }
    }

    /// Commits what a partition waits for, where that has been read: progress alone would take its
    /// time.
    async fn press_on(&mut self, partitions: &[TopicPartition]) {
        let has_come = |hold: &Hold| match hold {
            Hold::Behind { tp, end } => self.open.has_reached(tp, *end),
            Hold::New => false,
        };
        if partitions.iter().filter_map(|tp| self.held.get(tp)).any(has_come) {
            self.flush().await;
        }
    }

    pub(super) async fn revoke(&mut self, partitions: &[TopicPartition]) {
        self.flush().await;
        for tp in partitions {
            self.generations.remove(tp);
            self.held.remove(tp);
        }
        self.open.set_read(self.generations.keys());
        self.open.forget(partitions);
        self.lost.retain(|tp| !partitions.contains(tp));
        self.shed();
        if !self.open.is_empty() {
            // Half of a key change: its second half will be read by the next owner.
            self.abandon("its partitions were revoked");
        }
    }

    /// What a gap in the log means to this table. One that stands elsewhere is not concerned.
    pub(super) async fn decide_gap(&mut self, gap: &Gap) -> GapDecision {
        let Gap { tp, stored: _, log_start, log_end, kind } = gap;
        // What has been read already may reach over the gap.
        self.flush().await;
        if self.halted {
            return GapDecision::Stop;
        }
        let layers = self.layers.next(tp);
        let Some(next) = layers.iter().flatten().map(|next| next.offset).min() else {
            return GapDecision::GoOn;
        };
        let stands = format!(
            "{tp}: the table stands at offset {next}, the log holds [{log_start}, {log_end}): {kind}"
        );
        let (reason, may_pass) = match kind {
            GapKind::BehindRetention if next >= *log_start => return GapDecision::GoOn,
            GapKind::BehindRetention => (
                format!(
                    "{stands}. Take a new snapshot of the source into a new table, or set \
                     `on_gap: record` to go on from what the log still holds"
                ),
                self.policies.on_gap == OnGap::Record,
            ),
            // Offsets have begun anew: they say nothing of what the table holds, so that nothing
            // can be passed over.
            GapKind::BeyondEnd | GapKind::FingerprintDiffers => (
                format!(
                    "{stands}. Give the table another `name`, so that the new topic has a table of \
                     its own, or move the old table away"
                ),
                false,
            ),
        };
        if may_pass {
            let offsets = u64::try_from(log_start - next).unwrap_or(0);
            warn!(table = %self.name, gap = %stands, offsets,
                  "going on behind a gap, as `on_gap: record` says");
            self.layers.passed_gap(tp, offsets);
            self.open.passed_gap(tp);
            return GapDecision::GoOn;
        }
        self.halt(&reason, true);
        GapDecision::Stop
    }
}
