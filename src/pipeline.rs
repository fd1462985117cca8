//! The one loop that knows the order of the stages.
//!
//! Source events go to the workers of their topics; what workers report goes back to the source.
//! The loop itself never waits for a table: assignments are answered by a task of their own, and
//! workers commit at their own pace. State here is bookkeeping that can be lost at any time.

mod accounts;

use std::collections::{BTreeMap, BTreeSet};
use std::future::Future;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use lakebed_schemas::position::{Checkpoint, NextOffset, TopicPartition};
use tokio::sync::{mpsc, oneshot};
use tracing::{info, warn};

use crate::health::{Health, Milestone};
use crate::memory::MemoryBudget;
use crate::metrics::{Metrics, TableMetrics};
use crate::source::{Gap, GapDecision, Message, Source, SourceEvent, Starts};
use crate::telemetry::Telemetry;
use crate::worker::{Command, Report};

/// How long open batches may take to commit when the process is asked to stop.
const DRAIN_LIMIT: Duration = Duration::from_secs(60);

/// How long a table may take to say where it stands before the others go on without it.
const ANSWER_SOON: Duration = Duration::from_secs(10);

/// How often gauges are set and the loop says that it is alive.
const TICK: Duration = Duration::from_secs(1);

/// How often a bounded run asks again for what could not be committed yet.
const FLUSH_AGAIN: Duration = Duration::from_millis(100);

/// A worker as the loop sees it.
pub struct WorkerHandle {
    /// As [`Tables::of_topic`] names it.
    pub id: String,
    /// `silver.orders` or the like, for logs and metrics.
    pub table: String,
    /// Its counts.
    pub metrics: TableMetrics,
    /// Its commands.
    pub commands: mpsc::UnboundedSender<Command>,
}

/// Which tables there are: decided by the topics that exist, so found while running.
pub trait Tables: Send {
    /// Identities of the workers that a topic goes to: one for each table entry and name.
    fn of_topic(&self, topic: &str) -> Vec<String>;
    /// Starts the worker of a table. It opens its layers when its first partition is assigned.
    fn start(
        &mut self,
        id: &str,
        index: usize,
        reports: mpsc::UnboundedSender<Report>,
    ) -> WorkerHandle;
}

/// How to run.
#[derive(Debug, Clone, Copy)]
pub struct RunOptions {
    /// End as soon as everything that the topics hold now is committed.
    pub until_caught_up: bool,
    /// For records on their way and key indexes together.
    pub memory: MemoryBudget,
}

/// How a run ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum RunEnd {
    /// Asked to, or caught up: everything that was taken is committed.
    Done,
    /// These tables were halted by policy; the rest is committed.
    Halted(Vec<(String, String)>),
    /// The run cannot go on.
    Failed(String),
}

/// Runs until the source ends, `shutdown` completes, everything is caught up (if asked), or no
/// table can go on.
pub async fn run(
    source: Box<dyn Source>,
    tables: Box<dyn Tables>,
    options: RunOptions,
    telemetry: Telemetry,
    shutdown: impl Future<Output = ()>,
) -> RunEnd {
    let (reporter, reports) = mpsc::unbounded_channel();
    let mut run = Run {
        source,
        tables,
        reporter,
        routes: BTreeMap::new(),
        progress: Vec::new(),
        workers: Vec::new(),
        options,
        partitions: BTreeMap::new(),
        ends: BTreeMap::new(),
        assigned: BTreeSet::new(),
        flush_asked: false,
        metrics: telemetry.metrics,
        health: telemetry.health,
        failure: None,
    };
    let end = run.turn(reports, shutdown).await;
    run.source.close().await;
    end
}

/// What the loop knows of one worker.
#[derive(Debug, Clone, Default)]
struct Progress {
    committed: Checkpoint,
    /// Its layers by name, with their UUIDs.
    tables: Vec<(String, String)>,
    index_bytes: usize,
    repeats_bytes: usize,
    halted: Option<(String, bool)>,
    flushed: bool,
    drained: bool,
}

struct Run {
    source: Box<dyn Source>,
    tables: Box<dyn Tables>,
    /// Given to each new worker.
    reporter: mpsc::UnboundedSender<Report>,
    workers: Vec<WorkerHandle>,
    progress: Vec<Progress>,
    /// Workers by topic, found once.
    routes: BTreeMap<Arc<str>, Arc<[usize]>>,
    options: RunOptions,
    /// How many partitions topics have, as the tables were told.
    partitions: BTreeMap<String, usize>,
    /// Where each assigned partition ended when its end was first reached.
    ends: BTreeMap<TopicPartition, i64>,
    assigned: BTreeSet<TopicPartition>,
    flush_asked: bool,
    metrics: Arc<Metrics>,
    health: Arc<Health>,
    failure: Option<String>,
}

impl Run {
    /// Order: reports first, because they free memory and end waits; then the wish to stop; then
    /// the next event.
    async fn turn(
        &mut self,
        mut reports: mpsc::UnboundedReceiver<Report>,
        shutdown: impl Future<Output = ()>,
    ) -> RunEnd {
        let mut shutdown = pin!(shutdown);
        let mut tick = tokio::time::interval(TICK);
        loop {
            if self.is_over() {
                return self.drain(reports).await;
            }
            tokio::select! {
                biased;
                Some(report) = reports.recv() => self.settle(report),
                () = &mut shutdown => {
                    info!("stopping: committing what is open");
                    return self.drain(reports).await;
                }
                event = self.source.next() => match event {
                    Some(event) => self.dispatch(event),
                    None => return self.drain(reports).await,
                },
                () = tokio::time::sleep(FLUSH_AGAIN), if self.flush_asked => self.ask_flush(),
                _ = tick.tick() => self.tick(),
            }
        }
    }

    fn is_over(&self) -> bool {
        let halted = self.progress.iter().filter(|p| p.halted.is_some()).count();
        if self.failure.is_some() || (halted > 0 && halted == self.progress.len()) {
            return true;
        }
        self.options.until_caught_up
            && self.flush_asked
            && self.is_at_the_ends()
            && self.progress.iter().all(|p| p.flushed || p.halted.is_some())
    }

    /// Whether every assigned partition has been read up to the end that it had, but for those
    /// whose tables are all halted.
    fn is_at_the_ends(&self) -> bool {
        let is_halted = |worker: &usize| self.progress[*worker].halted.is_some();
        self.assigned.iter().all(|tp| {
            let route = self.routes.get(&tp.topic);
            self.ends.contains_key(tp) || route.is_some_and(|route| route.iter().all(is_halted))
        })
    }

    fn dispatch(&mut self, event: SourceEvent) {
        match event {
            SourceEvent::Assigned { generation, partitions, reply } => {
                self.health.reached(Milestone::Joined);
                self.assign(generation, partitions, reply);
            }
            SourceEvent::Revoked { partitions, ack } => self.revoke(partitions, ack),
            SourceEvent::Messages(messages) => self.route(messages),
            SourceEvent::EndOfPartition { tp, next_offset, generation } => {
                for worker in self.route_of(&tp.topic).iter() {
                    let tp = tp.clone();
                    self.send(*worker, Command::EndOfPartition { tp, next_offset, generation });
                }
                self.ends.entry(tp).or_insert(next_offset);
                self.ask_flush_at_the_ends();
            }
            SourceEvent::Gap { gap, reply } => self.decide_gap(&gap, reply),
            SourceEvent::Fatal(reason) => self.failure = Some(reason),
        }
    }

    /// Workers that take a topic.
    fn route_of(&mut self, topic: &Arc<str>) -> Arc<[usize]> {
        if let Some(known) = self.routes.get(topic) {
            return known.clone();
        }
        let ids = self.tables.of_topic(topic);
        let route: Arc<[usize]> = ids.iter().map(|id| self.worker_of(id)).collect();
        self.routes.insert(topic.clone(), route.clone());
        route
    }

    /// Index of a table's worker, started if need be.
    fn worker_of(&mut self, id: &str) -> usize {
        if let Some(known) = self.workers.iter().position(|worker| worker.id == id) {
            return known;
        }
        let index = self.workers.len();
        self.workers.push(self.tables.start(id, index, self.reporter.clone()));
        self.progress.push(Progress::default());
        index
    }

    fn send(&self, worker: usize, command: Command) {
        // A worker that has ended has said so in its last report.
        let _ = self.workers[worker].commands.send(command);
    }

    /// Asks every table concerned where it stands and answers with the lowest, from a task of its
    /// own: a worker may be in the middle of a commit.
    fn assign(
        &mut self,
        generation: u64,
        partitions: Vec<TopicPartition>,
        reply: oneshot::Sender<Starts>,
    ) {
        let mut by_worker: BTreeMap<usize, Vec<TopicPartition>> = BTreeMap::new();
        for tp in &partitions {
            self.assigned.insert(tp.clone());
            for worker in self.route_of(&tp.topic).iter() {
                if self.progress[*worker].halted.is_none() {
                    by_worker.entry(*worker).or_default().push(tp.clone());
                }
            }
        }
        let view = self.source.view();
        let mut answers = Vec::new();
        for (worker, partitions) in by_worker {
            let (reply, answer) = oneshot::channel();
            let (view, asked) = (view.clone(), partitions.clone());
            self.send(worker, Command::Assign { partitions, generation, view, reply });
            answers.push(answer_soon(asked, self.workers[worker].table.clone(), answer));
        }
        let health = self.health.clone();
        tokio::spawn(async move {
            let starts = futures::future::join_all(answers).await;
            let starts = common(starts);
            if starts.values().all(Result::is_ok) {
                health.reached(Milestone::CatalogReached);
            }
            let _ = reply.send(starts);
        });
    }

    fn revoke(&mut self, partitions: Vec<TopicPartition>, ack: oneshot::Sender<()>) {
        let mut by_worker: BTreeMap<usize, Vec<TopicPartition>> = BTreeMap::new();
        for tp in partitions {
            self.assigned.remove(&tp);
            self.ends.remove(&tp);
            self.metrics.forget_lag(&tp);
            for worker in self.route_of(&tp.topic).iter() {
                by_worker.entry(*worker).or_default().push(tp.clone());
            }
        }
        let mut waits = Vec::new();
        for (worker, partitions) in by_worker {
            let (done, wait) = oneshot::channel();
            self.send(worker, Command::Revoke { partitions, ack: done });
            waits.push(wait);
        }
        tokio::spawn(async move {
            for wait in waits {
                let _ = wait.await;
            }
            let _ = ack.send(());
        });
    }

    fn route(&mut self, messages: Vec<Message>) {
        let mut by_worker: BTreeMap<usize, Vec<Message>> = BTreeMap::new();
        for message in messages {
            self.metrics.consumed(&message.tp, message.weight());
            let route = self.route_of(&message.tp.topic);
            let Some((last, others)) = route.split_last() else {
                self.source.consumed(message.weight());
                continue;
            };
            for worker in others {
                // Copies take memory too: they count against the same budget until released.
                self.source.held(message.weight());
                by_worker.entry(*worker).or_default().push(message.clone());
            }
            by_worker.entry(*last).or_default().push(message);
        }
        for (worker, messages) in by_worker {
            self.progress[worker].flushed = false;
            self.send(worker, Command::Messages(messages));
        }
    }

    /// Asks every table of the topic what the gap means to it: reading goes on if one goes on.
    fn decide_gap(&mut self, gap: &Gap, reply: oneshot::Sender<GapDecision>) {
        let route = self.route_of(&gap.tp.topic);
        let asked = route.iter().map(|worker| {
            let (reply, answer) = oneshot::channel();
            self.send(*worker, Command::Gap { gap: gap.clone(), reply });
            answer
        });
        let answers: Vec<_> = asked.collect();
        tokio::spawn(async move {
            let decisions = futures::future::join_all(answers).await;
            let goes_on = decisions.into_iter().flatten().any(|d| d == GapDecision::GoOn);
            let _ = reply.send(if goes_on { GapDecision::GoOn } else { GapDecision::Stop });
        });
    }

    fn settle(&mut self, report: Report) {
        match report {
            Report::Released { bytes } => self.source.consumed(bytes),
            Report::Committed { worker, checkpoint, tables } => {
                self.progress[worker].committed = checkpoint;
                self.progress[worker].tables = tables;
                self.commit_offsets(worker);
            }
            Report::Memory { worker, index_bytes, index_keys, repeats_bytes } => {
                self.workers[worker].metrics.index(index_bytes, index_keys);
                self.workers[worker].metrics.repeats_bytes(repeats_bytes);
                self.share_memory(worker, [index_bytes, repeats_bytes], index_keys);
            }
            Report::Halted { worker, reason, by_policy } => {
                self.progress[worker].halted = Some((reason, by_policy));
                self.ask_flush_at_the_ends();
            }
            Report::Rewind { partitions, .. } => {
                for tp in &partitions {
                    self.ends.remove(tp);
                }
                self.source.rewind(&partitions);
            }
            Report::Flushed { worker, is_empty } => self.progress[worker].flushed = is_empty,
            Report::Drained { worker } => self.progress[worker].drained = true,
        }
    }

    fn ask_flush_at_the_ends(&mut self) {
        let at_the_ends = !self.assigned.is_empty() && self.is_at_the_ends();
        if self.options.until_caught_up && at_the_ends && !self.flush_asked {
            self.ask_flush();
        }
    }

    fn ask_flush(&mut self) {
        self.flush_asked = true;
        for worker in 0..self.workers.len() {
            if !self.progress[worker].flushed && self.progress[worker].halted.is_none() {
                self.send(worker, Command::Flush);
            }
        }
    }

    /// Commits what is open, tells the group, and says how it ended.
    async fn drain(&mut self, mut reports: mpsc::UnboundedReceiver<Report>) -> RunEnd {
        for worker in 0..self.workers.len() {
            self.send(worker, Command::Drain);
        }
        let deadline = tokio::time::sleep(DRAIN_LIMIT);
        let mut deadline = pin!(deadline);
        while !self.progress.iter().all(|progress| progress.drained) {
            tokio::select! {
                biased;
                Some(report) = reports.recv() => self.settle(report),
                () = &mut deadline => {
                    warn!("some tables could not commit in time: their last records will be read again");
                    break;
                }
            }
        }
        if let Some(reason) = self.failure.take() {
            return RunEnd::Failed(reason);
        }
        let halted: Vec<(String, String)> = self
            .workers
            .iter()
            .zip(&self.progress)
            .filter_map(|(worker, progress)| {
                progress.halted.as_ref().map(|(reason, _)| (worker.table.clone(), reason.clone()))
            })
            .collect();
        if halted.is_empty() { RunEnd::Done } else { RunEnd::Halted(halted) }
    }
}

/// A table's answer to an assignment. One that is busy, with a store that does not answer, is asked
/// again later, and does not keep the partitions of other tables waiting.
async fn answer_soon(
    partitions: Vec<TopicPartition>,
    table: String,
    answer: oneshot::Receiver<Starts>,
) -> Starts {
    match tokio::time::timeout(ANSWER_SOON, answer).await {
        // A worker that has ended reads nothing.
        Ok(answer) => answer.unwrap_or_default(),
        Err(_) => {
            let busy = format!("table `{table}` is busy");
            partitions.into_iter().map(|tp| (tp, Err(busy.clone()))).collect()
        }
    }
}

/// Where to begin for several tables, in each partition that one of them reads.
fn common(tables: impl IntoIterator<Item = Starts>) -> Starts {
    let mut common = Starts::new();
    for (tp, start) in tables.into_iter().flatten() {
        let both = match (common.remove(&tp), start) {
            (None, start) => start,
            (Some(Ok(ours)), Ok(theirs)) => Ok(ours.and(theirs)),
            (Some(Err(reason)), _) | (_, Err(reason)) => Err(reason),
        };
        common.insert(tp, both);
    }
    common
}

/// The lower of two stored offsets; a table that has none stands below all others.
fn lower(a: Option<NextOffset>, b: Option<NextOffset>) -> Option<NextOffset> {
    match (a, b) {
        (Some(a), Some(b)) => Some(if a.offset <= b.offset { a } else { b }),
        _ => None,
    }
}

#[cfg(test)]
mod tests;
