//! When a worker's waiting records go on, and when they are given up.

use std::time::{Duration, Instant};

use lakebed_schemas::position::TopicPartition;
use tracing::warn;

use super::waiting::Outlook;
use super::{KEY_CHANGE_WAIT, Worker};

/// How often storage is asked what other processes have read, while something waits for it.
const ASK_OTHERS_EVERY: Duration = Duration::from_secs(1);

/// How long other processes are not waited for again after one has not answered in time.
const OTHERS_PASSED_OVER: Duration = Duration::from_secs(60);

impl Worker {
    /// Has those partitions go on that have what they waited for.
    pub(super) fn let_go_on(&mut self) {
        if self.waiting.is_empty() {
            return;
        }
        while let Some(records) = self.waiting.release(|tp, wait| self.open.has_come(tp, wait)) {
            self.intake.put_back(records);
        }
        self.open.watch(!self.waiting.is_empty());
    }

    /// Goes on with what waits in vain, after asking what other processes have read.
    pub(super) async fn look_at_waits(&mut self) {
        let asked_lately = self.others_asked.is_some_and(|at| at.elapsed() < ASK_OTHERS_EVERY);
        if !asked_lately && self.waiting.partitions().any(|tp| !self.open.has_all(&tp.topic)) {
            self.others_asked = Some(Instant::now());
            match self.layers.read_kept(&self.open.kept_files()).await {
                Ok(kept) => self.open.keep(kept),
                Err(failure) => warn!(table = %self.name, error = %failure.chain(),
                                      "could not look up what other processes have read"),
            }
        }
        self.take_in().await;
        self.give_up_waits();
        self.take_in().await;
    }

    pub(super) fn give_up_waits(&mut self) {
        let others_failed = self.others_failed.is_some_and(|at| at.elapsed() < OTHERS_PASSED_OVER);
        let others = match others_failed {
            true => Duration::ZERO,
            false => KEY_CHANGE_WAIT + self.open.max_age(),
        };
        let (generations, held) = (&self.generations, &self.held);
        let beside = |tp: &TopicPartition| {
            let others = generations.keys().filter(|other| other.topic == tp.topic && *other != tp);
            // One that is held brings nothing, and may itself be held until this goes on.
            others.filter(|other| !held.contains_key(*other)).cloned().collect()
        };
        let outlook = Outlook {
            ours: &beside,
            has_all: &|tp| self.open.has_all(&tp.topic),
            seen: &|tp| self.open.seen(tp).cloned(),
            patience: [KEY_CHANGE_WAIT, others],
        };
        let Some((tp, records)) = self.waiting.look(&outlook) else { return };
        warn!(table = %self.name, %tp,
              "a record that needs another partition to be read first goes on without it");
        if !self.open.has_all(&tp.topic) {
            self.others_failed = Some(Instant::now());
        }
        self.intake.put_back(records);
    }
}
