//! The one loop that knows the order of the stages.
//!
//! Source events go to the workers of their topics; what workers report goes back to the source.
//! The loop itself never waits for a table: assignments are answered by a task of their own, and
//! workers commit at their own pace. State here is bookkeeping that can be lost at any time.

use std::collections::{BTreeMap, BTreeSet};
use std::future::Future;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use lakebed_schemas::position::{Checkpoint, NextOffset, TopicPartition};
use tokio::sync::{mpsc, oneshot};
use tracing::{info, warn};

use crate::health::{Health, Milestone};
use crate::metrics::Metrics;
use crate::source::{GapDecision, Message, Source, SourceEvent, Start};
use crate::telemetry::Telemetry;
use crate::worker::{Command, Report};

/// How long open batches may take to commit when the process is asked to stop.
const DRAIN_LIMIT: Duration = Duration::from_secs(60);

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
    /// Whether a gap in the log halts the table.
    pub halts_on_gap: bool,
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
    until_caught_up: bool,
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
        until_caught_up,
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
    uuid: String,
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
    until_caught_up: bool,
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

    fn tick(&mut self) {
        self.health.beat("pipeline");
        let stats = self.source.stats();
        self.metrics.buffer_bytes(stats.out_bytes);
        self.metrics.partitions_paused(if stats.paused { self.assigned.len() } else { 0 });
        for (tp, end) in &stats.ends {
            let route = self.routes.get(&tp.topic).cloned().unwrap_or_default();
            let stored = route.iter().map(|w| self.progress[*w].committed.next(tp));
            let low = stored.reduce(lower).flatten().map_or(0, |next| next.offset);
            self.metrics.lag(tp, (end - low).max(0));
        }
    }

    fn is_over(&self) -> bool {
        let halted = self.progress.iter().filter(|p| p.halted.is_some()).count();
        if self.failure.is_some() || (halted > 0 && halted == self.progress.len()) {
            return true;
        }
        self.until_caught_up
            && self.flush_asked
            && self.assigned.iter().all(|tp| self.ends.contains_key(tp))
            && self.progress.iter().all(|p| p.flushed || p.halted.is_some())
    }

    fn dispatch(&mut self, event: SourceEvent) {
        match event {
            SourceEvent::Assigned { generation, partitions, reply } => {
                self.health.reached(Milestone::Joined);
                self.metrics.rebalanced(self.assigned.len());
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
            SourceEvent::Gap { tp, stored, log_start, log_end, kind, reply } => {
                let what = format!(
                    "{tp}: the table stands at offset {stored}, the log holds [{log_start}, {log_end}): {kind}"
                );
                let decision = self.decide_gap(&tp, &what);
                let _ = reply.send(decision);
            }
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
        reply: oneshot::Sender<Result<BTreeMap<TopicPartition, Start>, String>>,
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
        let mut answers = Vec::new();
        for (worker, partitions) in by_worker {
            let (reply, answer) = oneshot::channel();
            self.send(worker, Command::Assign { partitions, generation, reply });
            answers.push(answer);
        }
        let health = self.health.clone();
        tokio::spawn(async move {
            let mut lowest: BTreeMap<TopicPartition, Option<NextOffset>> = BTreeMap::new();
            for answer in answers {
                let stored = match answer.await {
                    Ok(Ok(stored)) => stored,
                    Ok(Err(reason)) => {
                        let _ = reply.send(Err(reason));
                        return;
                    }
                    Err(_) => continue,
                };
                for (tp, next) in stored {
                    lowest.entry(tp).and_modify(|low| *low = lower(*low, next)).or_insert(next);
                }
            }
            health.reached(Milestone::CatalogReached);
            let start = |next: Option<NextOffset>| next.map_or(Start::Earliest, Start::At);
            let starts = lowest.into_iter().map(|(tp, next)| (tp, start(next))).collect();
            let _ = reply.send(Ok(starts));
        });
    }

    fn revoke(&mut self, partitions: Vec<TopicPartition>, ack: oneshot::Sender<()>) {
        let mut by_worker: BTreeMap<usize, Vec<TopicPartition>> = BTreeMap::new();
        for tp in partitions {
            self.assigned.remove(&tp);
            self.ends.remove(&tp);
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

    fn decide_gap(&mut self, tp: &TopicPartition, what: &str) -> GapDecision {
        let route = self.route_of(&tp.topic);
        let mut goes_on = false;
        for worker in route.iter() {
            if self.workers[*worker].halts_on_gap {
                let reason = format!(
                    "{what}; records may be lost. Take a new snapshot of the source into a new table, \
                     or set `on_gap: record` to go on from what the log still holds"
                );
                self.send(*worker, Command::Halt(reason));
            } else {
                warn!(%what, "gap in the log, going on as `on_gap: record` says");
                self.metrics.gap(tp);
                goes_on = true;
            }
        }
        if goes_on { GapDecision::GoOn } else { GapDecision::Stop }
    }

    fn settle(&mut self, report: Report) {
        match report {
            Report::Released { bytes } => self.source.consumed(bytes),
            Report::Committed { worker, checkpoint, uuid } => {
                self.progress[worker].committed = checkpoint;
                self.progress[worker].uuid = uuid;
                self.commit_offsets(worker);
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

    /// Tells the group what every table of a topic holds: the lowest. A hint; the tables rule.
    fn commit_offsets(&mut self, worker: usize) {
        let mut hint = Checkpoint::default();
        let moved: Vec<_> = self.progress[worker].committed.iter().collect();
        for (tp, next) in moved {
            if !self.assigned.contains(&tp) {
                continue;
            }
            let route = self.route_of(&tp.topic);
            let stored = route.iter().map(|w| self.progress[*w].committed.next(&tp));
            // A table without an offset yet holds nothing: the group must not claim more.
            if let Some(low) = stored.reduce(lower).flatten() {
                let progress = hint.topics.entry(tp.topic.clone()).or_default();
                let low = NextOffset { offset: low.offset.min(next.offset), ..low };
                progress.next.insert(tp.partition, low);
            }
        }
        self.source.commit_offsets(&hint, &self.progress[worker].uuid);
    }

    fn ask_flush_at_the_ends(&mut self) {
        let at_the_ends =
            !self.assigned.is_empty() && self.assigned.iter().all(|tp| self.ends.contains_key(tp));
        if self.until_caught_up && at_the_ends && !self.flush_asked {
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

/// The lower of two stored offsets; a table that has none stands below all others.
fn lower(a: Option<NextOffset>, b: Option<NextOffset>) -> Option<NextOffset> {
    match (a, b) {
        (Some(a), Some(b)) => Some(if a.offset <= b.offset { a } else { b }),
        _ => None,
    }
}
