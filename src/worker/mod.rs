//! One table entry at work: decodes its records, keeps the open batch, commits both layers.
//!
//! A worker is one task that owns its tables. It takes [`Command`]s in order and never waits for
//! anything but its own commit, so tables do not wait for each other. Bronze and silver each own
//! their checkpoint: the worker reads from the lower of the two and each layer drops what lies
//! below its own. After a commit nothing can fail the batch; what follows is reported, not awaited.

mod assignments;
mod bronze_rows;
mod epochs;
mod eras;
#[cfg(test)]
mod fixtures;
mod floors;
mod ghosts;
mod intake;
mod invented_keys;
mod kept_rows;
mod layers;
mod lookout;
mod messages;
mod open_batch;
mod progress;
mod repeats;
mod schema_texts;
mod sealed;
mod silver_rows;
mod starts;
mod waiting;
mod waits;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use lakebed_schemas::config::{OnGap, OnLostTable};
use lakebed_schemas::position::TopicPartition;
use tokio::sync::mpsc;
use tracing::{debug, error, info, warn};

use eras::{Eras, Hold};
use intake::{Intake, Taken};
use waiting::{Pushed, Waiting};

pub(crate) use epochs::stamp_as_noted;
pub use layers::{LayerOptions, LayerPlace, Layers, Refusal, check_partitions, find_lost};
pub use messages::{Command, Report};
pub use open_batch::{BatchLimits, OpenBatch};
pub use schema_texts::SchemaTexts;
pub use silver_rows::{Place, Refused, SilverRows, SilverRules};

use crate::metrics::TableState;
use crate::registry::Registry;
use crate::source::Message;

/// How long to wait before a failed write is tried again: first and longest.
const RETRY_FIRST: Duration = Duration::from_millis(200);
const RETRY_LONGEST: Duration = Duration::from_secs(30);

/// A batch that has been open this long is committed when memory is short: it may be what takes it,
/// and waits for records that nobody reads.
const RELIEF_AGE: Duration = Duration::from_secs(5);

/// How long a flush may wait for the second half of a key change that is in the log already.
const KEY_CHANGE_WAIT: Duration = Duration::from_secs(5);

/// What to do where the log and the table do not fit together.
#[derive(Debug, Clone, Copy)]
pub struct Policies {
    /// Records were deleted before they were read.
    pub on_gap: OnGap,
    /// The group knows of a table that is not there.
    pub on_lost_table: OnLostTable,
    /// How long producers may not know that a topic has more partitions.
    pub producer_metadata_age: Duration,
}

/// One table entry at work.
pub struct Worker {
    index: usize,
    name: String,
    layers: Layers,
    open: OpenBatch,
    intake: Intake,
    waiting: Waiting,
    /// When storage was last asked for what other processes have read.
    others_asked: Option<Instant>,
    /// When a wait for another process was last in vain.
    others_failed: Option<Instant>,
    policies: Policies,
    generations: BTreeMap<TopicPartition, u64>,
    /// How many partitions topics have had; `None` without silver, where their order is no matter.
    eras: Option<Eras>,
    /// Partitions that are ours and not read yet, with what comes before them.
    held: BTreeMap<TopicPartition, Hold>,
    /// When to read again what could not be written, and how long that waits.
    retry: Option<(Instant, Duration)>,
    /// What to read again then.
    lost: Vec<TopicPartition>,
    halted: bool,
    commands: mpsc::UnboundedReceiver<Command>,
    reports: mpsc::UnboundedSender<Report>,
}

enum Flow {
    Go,
    End,
}

impl Worker {
    /// A worker over opened layers. Commands are bounded by the source's byte budget, not by the
    /// channel: the pipeline must never wait for one table while others could go on.
    pub fn new(
        index: usize,
        name: String,
        layers: Layers,
        open: OpenBatch,
        policies: Policies,
        reports: mpsc::UnboundedSender<Report>,
    ) -> (Self, mpsc::UnboundedSender<Command>) {
        let (sender, commands) = mpsc::unbounded_channel();
        let eras = layers.silver_storage();
        let worker = Self {
            index,
            name,
            eras: eras.map(|storage| Eras::new(storage, policies.producer_metadata_age)),
            held: BTreeMap::new(),
            layers,
            open,
            intake: Intake::new(None),
            waiting: Waiting::default(),
            others_asked: None,
            others_failed: None,
            policies,
            generations: BTreeMap::new(),
            retry: None,
            lost: Vec::new(),
            halted: false,
            commands,
            reports,
        };
        (worker, sender)
    }

    /// Has records' schemas looked up here.
    #[must_use]
    pub fn with_registry(self, registry: Option<Arc<Registry>>) -> Self {
        Self { intake: Intake::new(registry), ..self }
    }

    /// Runs until drained or until the pipeline has gone.
    pub async fn run(mut self) {
        loop {
            let due = self.next_due();
            let flow = tokio::select! {
                biased;
                () = sleep_until(due), if due.is_some() => { self.on_due().await; Flow::Go }
                () = self.intake.answered(), if self.intake.is_asking() => {
                    self.take_in().await;
                    Flow::Go
                }
                command = self.commands.recv() => match command {
                    Some(command) => self.handle(command).await,
                    None => Flow::End,
                },
            };
            if matches!(flow, Flow::End) {
                self.report(Report::Drained { worker: self.index });
                return;
            }
        }
    }

    /// When something must be done although nothing arrives: the batch's age, a retry, or a look at
    /// what waits.
    fn next_due(&self) -> Option<Instant> {
        if self.halted {
            return None;
        }
        let retry = self.retry.filter(|_| !self.lost.is_empty()).map(|(at, _)| at);
        let due = retry.or(self.open.due_at());
        due.into_iter().chain(self.waiting.look_at()).min()
    }

    async fn on_due(&mut self) {
        if self.waiting.look_at().is_some_and(|at| at <= Instant::now()) {
            self.look_at_waits().await;
        }
        let now = Instant::now();
        if self.lost.is_empty() && self.open.due_at().is_none_or(|due| due > now) {
            return;
        }
        if self.lost.is_empty() {
            self.flush().await;
        } else {
            let partitions = std::mem::take(&mut self.lost);
            self.report(Report::Rewind { worker: self.index, partitions });
        }
    }

    async fn handle(&mut self, command: Command) -> Flow {
        match command {
            Command::Assign { partitions, generation, view, reply } => {
                let _ = reply.send(self.assign(&partitions, generation, &view).await);
            }
            Command::Revoke { partitions, ack } => {
                self.revoke(&partitions).await;
                let _ = ack.send(());
            }
            Command::Gap { gap, reply } => {
                let _ = reply.send(self.decide_gap(&gap).await);
            }
            Command::Partitions { topic, count } => self.open.notice_partitions(topic, count),
            Command::Drain => {
                self.flush().await;
                return Flow::End;
            }
            Command::Messages(messages) => {
                for message in messages {
                    self.intake.push(Taken::Record(message));
                }
                self.take_in().await;
            }
            Command::EndOfPartition { tp, next_offset, generation } => {
                self.intake.push(Taken::End { tp, next_offset, generation });
                self.take_in().await;
            }
            Command::Relieve => {
                if self.open.age() >= RELIEF_AGE {
                    self.flush().await;
                }
            }
            Command::Flush => {
                self.flush().await;
                let is_empty = self.open.is_empty()
                    && self.lost.is_empty()
                    && self.intake.is_empty()
                    && self.waiting.is_empty();
                self.report(Report::Flushed { worker: self.index, is_empty });
            }
        }
        Flow::Go
    }

    /// Takes what has come, as far as its schemas are there.
    async fn take_in(&mut self) {
        loop {
            self.let_go_on();
            let (generations, halted, waiting) = (&self.generations, self.halted, &self.waiting);
            let is_next = |taken: &Taken| {
                is_ours(generations, halted, taken) && !waiting.holds(taken.place().0)
            };
            let Some(taken) = self.intake.next(&mut self.open, is_next) else { break };
            let ours = is_ours(&self.generations, self.halted, &taken);
            match taken {
                taken if ours && self.waiting.holds(taken.place().0) => {
                    self.waiting.add(taken);
                    if self.waiting.is_overfull() {
                        self.give_up_waits();
                    }
                }
                Taken::Record(message) if ours => self.take(message).await,
                Taken::Record(message) => self.report(Report::Released { bytes: message.weight() }),
                Taken::End { tp, next_offset, .. } if ours => {
                    self.open.reach(&tp, next_offset);
                    self.waiting.ends(tp);
                }
                Taken::End { .. } => {}
            }
        }
        let passed = self.open.release_passed();
        if passed > 0 {
            self.report(Report::Released { bytes: passed });
        }
    }

    async fn take(&mut self, message: Message) {
        let weight = message.weight();
        self.waiting.goes_on(&message.tp);
        let resumed = self.waiting.resume(&message.tp, message.offset);
        match self.open.push(message, resumed) {
            Ok(Pushed::Taken) if self.open.is_full() => self.flush().await,
            Ok(Pushed::Taken) => {}
            Ok(Pushed::Waits(message, wait)) => {
                self.waiting.begin(*message, wait);
                self.open.watch(true);
            }
            Err(reason) => {
                // What came before the bad record is good: it is committed, then the table halts.
                self.report(Report::Released { bytes: weight });
                self.flush().await;
                self.halt(&reason, true);
            }
        }
    }

    /// Lets go of what waits and is not ours any more.
    fn shed(&mut self) {
        let (generations, halted) = (&self.generations, self.halted);
        let ours = |taken: &Taken| is_ours(generations, halted, taken);
        let is_read = |tp: &TopicPartition| generations.contains_key(tp);
        let bytes = self.intake.shed(ours) + self.waiting.shed(ours, is_read);
        self.open.watch(!self.waiting.is_empty());
        self.report(Report::Released { bytes });
    }

    /// Writes what is open, in both layers at once; then goes on with what waited for it.
    async fn flush(&mut self) {
        if self.halted || self.open.is_empty() {
            return;
        }
        if self.open.is_mid_key_change() && self.open.age() < KEY_CHANGE_WAIT + self.open.max_age()
        {
            self.open.postpone();
            return;
        }
        let started = Instant::now();
        let sealed = self.open.seal();
        match self.layers.write(sealed).await {
            layers::Outcome::Written(written) => {
                self.log_written(&written, started);
                self.after_commit();
                self.open.floors_written();
                let spent = self.open.spent_files();
                self.open.keep(written.kept);
                self.layers.remove_kept(spent).await;
                self.layers.maintain_if_due().await;
            }
            layers::Outcome::Overtaken => {
                self.abandon("another writer has moved the table's offsets");
            }
            layers::Outcome::TryAgain(failure) => self.put_off(&failure),
            layers::Outcome::Failed(failure) => self.halt(&failure, false),
        }
    }

    fn log_written(&self, written: &layers::BatchWritten, started: Instant) {
        let elapsed_ms = started.elapsed().as_millis() as u64;
        let layers::BatchWritten { rows, bronze_version, silver_version, .. } = *written;
        if rows == 0 {
            debug!(table = %self.name, bronze_version, silver_version, elapsed_ms,
                   "committed progress without records");
        } else {
            info!(table = %self.name, records = rows, bronze_version, silver_version, elapsed_ms,
                  "committed batch");
        }
    }

    /// Drops a batch that could not be written and reads it again later: from the tables'
    /// checkpoints, so that whatever has become visible after all is not written twice.
    fn put_off(&mut self, failure: &str) {
        let wait = self.retry.map_or(RETRY_FIRST, |(_, wait)| (wait * 2).min(RETRY_LONGEST));
        warn!(table = %self.name, error = failure, retry_ms = wait.as_millis() as u64,
              "could not write the batch, reading it again later");
        self.retry = Some((Instant::now() + wait, wait));
        self.lost = self.drop_open();
    }

    fn after_commit(&mut self) {
        self.retry = None;
        self.open.settled(&self.layers);
        self.layers.set_state(TableState::Running);
        let released = self.open.release();
        self.report(Report::Released { bytes: released });
        self.report_standing();
    }

    /// What the tables hold and take. Told when partitions are assigned, too: whoever had them
    /// before may have died before the group knew.
    fn report_standing(&self) {
        let (index_bytes, index_keys) = self.layers.index_size();
        let repeats_bytes = self.open.repeats_bytes();
        self.report(Report::Memory { worker: self.index, index_bytes, index_keys, repeats_bytes });
        self.report(Report::Committed {
            worker: self.index,
            checkpoint: self.layers.checkpoint(),
            tables: self.layers.names(),
        });
    }

    /// Drops the open batch and asks to read the partitions again.
    fn abandon(&mut self, why: &str) {
        warn!(table = %self.name, reason = why, "dropped the open batch, reading it again");
        let partitions = self.drop_open();
        if !partitions.is_empty() {
            self.report(Report::Rewind { worker: self.index, partitions });
        }
    }

    /// Drops the open batch; gives the partitions that were read until now.
    fn drop_open(&mut self) -> Vec<TopicPartition> {
        let released = self.open.abandon(self.layers.silver_schema());
        self.report(Report::Released { bytes: released });
        let partitions = std::mem::take(&mut self.generations).into_keys().collect();
        self.open.set_read(self.generations.keys());
        self.shed();
        partitions
    }

    fn halt(&mut self, reason: &str, by_policy: bool) {
        error!(table = %self.name, reason, "table halted");
        self.halted = true;
        self.layers.set_state(TableState::Halted);
        self.drop_open();
        self.report(Report::Halted { worker: self.index, reason: reason.to_owned(), by_policy });
    }

    fn report(&self, report: Report) {
        // The pipeline outlives its workers; if it is gone, there is nobody to tell.
        let _ = self.reports.send(report);
    }
}

/// Whether something is of an assignment that still is.
fn is_ours(generations: &BTreeMap<TopicPartition, u64>, halted: bool, taken: &Taken) -> bool {
    let (tp, generation) = taken.place();
    !halted && generations.get(tp) == Some(&generation)
}

async fn sleep_until(at: Option<Instant>) {
    if let Some(at) = at {
        tokio::time::sleep_until(at.into()).await;
    }
}
