//! One table entry at work: decodes its records, keeps the open batch, commits both layers.
//!
//! A worker is one task that owns its tables. It takes [`Command`]s in order and never waits for
//! anything but its own commit, so tables do not wait for each other. Bronze and silver each own
//! their checkpoint: the worker reads from the lower of the two and each layer drops what lies
//! below its own. After a commit nothing can fail the batch; what follows is reported, not awaited.

mod layers;
mod open_batch;
mod silver_rows;

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use lakebed_schemas::position::{Checkpoint, NextOffset, TopicPartition};
use tokio::sync::{mpsc, oneshot};
use tracing::{error, info, warn};

pub use layers::{LayerOptions, Layers};
pub use open_batch::{BatchLimits, OpenBatch};
pub use silver_rows::{SilverRows, SilverRules};

use crate::source::Message;

/// What the pipeline asks of a worker.
pub enum Command {
    /// Partitions are ours: says where each layer of the table stands.
    Assign {
        /// Assigned now.
        partitions: Vec<TopicPartition>,
        /// Messages of older generations are dropped.
        generation: u64,
        /// Lowest stored next offset of the layers; `None` where the table has none.
        reply: oneshot::Sender<Result<BTreeMap<TopicPartition, Option<NextOffset>>, String>>,
    },
    /// Partitions go away: commit what is open, or drop it, then acknowledge.
    Revoke {
        /// Leaving.
        partitions: Vec<TopicPartition>,
        /// Sent when nothing of them is open any more.
        ack: oneshot::Sender<()>,
    },
    /// Records of our topics, in order per topic-partition.
    Messages(Vec<Message>),
    /// Everything below `next_offset` has been read.
    EndOfPartition {
        /// Where.
        tp: TopicPartition,
        /// First offset not there yet, or not visible yet.
        next_offset: i64,
        /// Of the assignment.
        generation: u64,
    },
    /// The table must not go on: a policy of the pipeline's says so.
    Halt(String),
    /// Commit what is open now.
    Flush,
    /// Commit what is open and end.
    Drain,
}

/// What a worker tells the pipeline.
#[derive(Debug)]
pub enum Report {
    /// Both layers hold everything below this; the table's UUID goes into the group's metadata.
    Committed {
        /// Index of the worker.
        worker: usize,
        /// The lower of the layers, by topic-partition.
        checkpoint: Checkpoint,
        /// For the metadata of the group's offsets.
        uuid: String,
    },
    /// Nothing more is taken; other tables go on.
    Halted {
        /// Index of the worker.
        worker: usize,
        /// For people.
        reason: String,
        /// Whether a policy halted it (exit code 3) rather than a failure.
        by_policy: bool,
    },
    /// The batch was lost to another writer: read these again from the table's checkpoint.
    Rewind {
        /// Index of the worker.
        worker: usize,
        /// What to read again.
        partitions: Vec<TopicPartition>,
    },
    /// Bytes of messages that need no memory any more.
    Released {
        /// How many.
        bytes: usize,
    },
    /// A flush that was asked for is done, as far as it could be.
    Flushed {
        /// Index of the worker.
        worker: usize,
        /// Whether everything taken is committed.
        is_empty: bool,
    },
    /// The worker has ended.
    Drained {
        /// Index of the worker.
        worker: usize,
    },
}

/// How long to wait before a failed write is tried again: first and longest.
const RETRY_FIRST: Duration = Duration::from_millis(200);
const RETRY_LONGEST: Duration = Duration::from_secs(30);

/// How long a flush may wait for the second half of a key change that is in the log already.
const KEY_CHANGE_WAIT: Duration = Duration::from_secs(5);

/// One table entry at work.
pub struct Worker {
    index: usize,
    name: String,
    layers: Layers,
    open: OpenBatch,
    generations: BTreeMap<TopicPartition, u64>,
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
        reports: mpsc::UnboundedSender<Report>,
    ) -> (Self, mpsc::UnboundedSender<Command>) {
        let (sender, commands) = mpsc::unbounded_channel();
        let worker = Self {
            index,
            name,
            layers,
            open,
            generations: BTreeMap::new(),
            retry: None,
            lost: Vec::new(),
            halted: false,
            commands,
            reports,
        };
        (worker, sender)
    }

    /// Runs until drained or until the pipeline has gone.
    pub async fn run(mut self) {
        loop {
            let due = self.next_due();
            let flow = tokio::select! {
                biased;
                () = sleep_until(due), if due.is_some() => { self.on_due().await; Flow::Go }
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

    /// When something must be done although nothing arrives: the batch's age, or a retry.
    fn next_due(&self) -> Option<Instant> {
        if self.halted {
            return None;
        }
        let retry = self.retry.filter(|_| !self.lost.is_empty()).map(|(at, _)| at);
        retry.or(self.open.due_at())
    }

    async fn on_due(&mut self) {
        if self.lost.is_empty() {
            self.flush().await;
        } else {
            let partitions = std::mem::take(&mut self.lost);
            self.report(Report::Rewind { worker: self.index, partitions });
        }
    }

    async fn handle(&mut self, command: Command) -> Flow {
        match command {
            Command::Assign { partitions, generation, reply } => {
                let _ = reply.send(self.assign(&partitions, generation).await);
            }
            Command::Revoke { partitions, ack } => {
                self.revoke(&partitions).await;
                let _ = ack.send(());
            }
            Command::Halt(reason) => self.halt(&reason, true),
            Command::Drain => {
                self.flush().await;
                return Flow::End;
            }
            Command::Messages(messages) => self.take(messages).await,
            Command::EndOfPartition { tp, next_offset, generation } => {
                if self.generations.get(&tp) == Some(&generation) && !self.halted {
                    self.open.reach(&tp, next_offset);
                }
            }
            Command::Flush => {
                self.flush().await;
                let is_empty = self.open.is_empty() && self.lost.is_empty();
                self.report(Report::Flushed { worker: self.index, is_empty });
            }
        }
        Flow::Go
    }

    async fn assign(
        &mut self,
        partitions: &[TopicPartition],
        generation: u64,
    ) -> Result<BTreeMap<TopicPartition, Option<NextOffset>>, String> {
        if let Err(failure) = self.layers.refresh().await {
            return Err(format!("table `{}`: {}", self.name, failure.chain()));
        }
        if !self.open.continues(&self.layers, partitions) {
            // Another writer has taken these partitions further while they were not ours.
            self.abandon("the table has moved on while its partitions were elsewhere");
        }
        self.open.set_stored(&self.layers, partitions);
        self.open.set_schema(self.layers.silver_schema());
        for tp in partitions {
            self.generations.insert(tp.clone(), generation);
        }
        Ok(partitions.iter().map(|tp| (tp.clone(), self.layers.next(tp))).collect())
    }

    async fn revoke(&mut self, partitions: &[TopicPartition]) {
        self.flush().await;
        for tp in partitions {
            self.generations.remove(tp);
        }
        self.lost.retain(|tp| !partitions.contains(tp));
        if !self.open.is_empty() {
            // Half of a key change: its second half will be read by the next owner.
            self.abandon("its partitions were revoked");
        }
    }

    async fn take(&mut self, messages: Vec<Message>) {
        for message in messages {
            let weight = message.weight();
            let ours = self.generations.get(&message.tp) == Some(&message.generation);
            if self.halted || !ours {
                self.report(Report::Released { bytes: weight });
                continue;
            }
            if let Err(reason) = self.open.push(message) {
                // What came before the bad record is good: it is committed, then the table halts.
                self.report(Report::Released { bytes: weight });
                self.flush().await;
                self.halt(&reason, true);
                continue;
            }
            if self.open.is_full() {
                self.flush().await;
            }
        }
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
                info!(
                    table = %self.name,
                    records = written.rows,
                    bronze_version = written.bronze_version,
                    silver_version = written.silver_version,
                    elapsed_ms = started.elapsed().as_millis() as u64,
                    "committed batch"
                );
                self.after_commit();
                self.layers.maintain_if_due().await;
            }
            layers::Outcome::Overtaken => {
                self.abandon("another writer has moved the table's offsets");
            }
            layers::Outcome::TryAgain(failure) => self.put_off(&failure),
            layers::Outcome::Failed(failure) => self.halt(&failure, false),
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
        let released = self.open.release();
        self.report(Report::Released { bytes: released });
        self.report(Report::Committed {
            worker: self.index,
            checkpoint: self.layers.checkpoint(),
            uuid: self.layers.uuid(),
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
        std::mem::take(&mut self.generations).into_keys().collect()
    }

    fn halt(&mut self, reason: &str, by_policy: bool) {
        error!(table = %self.name, reason, "table halted");
        self.halted = true;
        self.drop_open();
        self.report(Report::Halted { worker: self.index, reason: reason.to_owned(), by_policy });
    }

    fn report(&self, report: Report) {
        // The pipeline outlives its workers; if it is gone, there is nobody to tell.
        let _ = self.reports.send(report);
    }
}

async fn sleep_until(at: Option<Instant>) {
    if let Some(at) = at {
        tokio::time::sleep_until(at.into()).await;
    }
}
