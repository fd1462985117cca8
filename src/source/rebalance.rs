//! The group's callbacks: start offsets are set inside them, from where the tables stand.
//!
//! They run on the poll thread, inside `poll`. They send an event and wait for its answer, bounded:
//! the members of the group wait for us, and heartbeats go on by themselves meanwhile.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use lakebed_schemas::position::TopicPartition;
use rdkafka::consumer::{BaseConsumer, Consumer, ConsumerContext};
use rdkafka::error::{KafkaError, KafkaResult, RDKafkaErrorCode};
use rdkafka::types::RDKafkaRespErr;
use rdkafka::{ClientContext, Offset, TopicPartitionList};
use tokio::sync::{mpsc, oneshot};
use tracing::{info, warn};

use super::assignment::Assignment;
use super::ends::{Lookup, end_offsets};
use super::{GapDecision, SourceEvent, Start};

/// How long an assignment waits for the tables to say where they stand. Past it, it is finished
/// later: the partitions are ours but not read.
const ASSIGN_LIMIT: Duration = Duration::from_secs(120);

/// How long a revocation waits for open rows to be committed. Past it, the offset compare of the
/// commit fences what is left.
const REVOKE_LIMIT: Duration = Duration::from_secs(30);

/// What the poll thread and the callbacks share.
pub(super) struct Shared {
    pub(super) events: mpsc::UnboundedSender<SourceEvent>,
    pub(super) assignment: Mutex<Assignment>,
    pub(super) lookup: Mutex<Lookup>,
    /// Nobody answers any more.
    pub(super) closing: AtomicBool,
    pub(super) paused: AtomicBool,
    pub(super) rebalances: AtomicU64,
    /// Partitions that are ours and whose start could not be told.
    pub(super) unfinished: Mutex<Vec<TopicPartition>>,
    /// Next offset of the log of assigned partitions, as last looked up.
    pub(super) ends: Mutex<BTreeMap<TopicPartition, i64>>,
}

/// Locks that were held by a thread that died are as good as any: the state is bookkeeping.
pub(super) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// The consumer's context. Token refresh for OAUTHBEARER belongs here, too.
#[derive(Clone)]
pub(super) struct Context(pub(super) Arc<Shared>);

impl ClientContext for Context {
    fn error(&self, error: KafkaError, reason: &str) {
        // The end of a partition is an event like any other, and the poll thread has it.
        if error.rdkafka_error_code() != Some(RDKafkaErrorCode::PartitionEOF) {
            warn!(%error, reason, "kafka client");
        }
    }
}

impl ConsumerContext for Context {
    fn rebalance(
        &self,
        consumer: &BaseConsumer<Self>,
        kind: RDKafkaRespErr,
        partitions: &mut TopicPartitionList,
    ) {
        self.0.rebalances.fetch_add(1, Ordering::Relaxed);
        let moved = of_list(partitions);
        if kind == RDKafkaRespErr::RD_KAFKA_RESP_ERR__ASSIGN_PARTITIONS {
            info!(partitions = moved.len(), "partitions assigned");
            self.0.assign(consumer, moved);
        } else {
            info!(partitions = moved.len(), "partitions revoked");
            self.0.revoke(consumer, &moved);
        }
    }

    fn commit_callback(&self, result: KafkaResult<()>, _: &TopicPartitionList) {
        if let Err(error) = result {
            warn!(%error, "could not commit the group's offsets; the tables hold them");
        }
    }
}

impl Shared {
    /// Asks where to begin, looks for gaps, and begins. What cannot be told now is left for later.
    pub(super) fn assign(&self, consumer: &BaseConsumer<Context>, partitions: Vec<TopicPartition>) {
        if self.closing.load(Ordering::Acquire) || partitions.is_empty() {
            return;
        }
        let generation = lock(&self.assignment).next_generation();
        let (reply, answer) = oneshot::channel();
        let event = SourceEvent::Assigned { generation, partitions: partitions.clone(), reply };
        let _ = self.events.send(event);
        let starts = match self.wait(answer, ASSIGN_LIMIT) {
            Some(Ok(starts)) => starts,
            Some(Err(reason)) => return self.put_off(partitions, &reason),
            None => return self.put_off(partitions, "the tables did not answer in time"),
        };
        let mut list = TopicPartitionList::new();
        let mut begun = Vec::new();
        for (tp, start) in starts {
            match self.begin_at(&tp, start) {
                Ok(Some((offset, position))) => {
                    if list.add_partition_offset(&tp.topic, tp.partition, offset).is_ok() {
                        begun.push((tp, position));
                    }
                }
                Ok(None) => {}
                Err(reason) => self.put_off(vec![tp], &reason),
            }
        }
        for (tp, position) in begun {
            lock(&self.assignment).begin(tp, generation, position);
        }
        if let Err(error) = consumer.incremental_assign(&list) {
            let _ = self.events.send(SourceEvent::Fatal(format!("could not assign: {error}")));
            return;
        }
        if self.paused.load(Ordering::Relaxed) {
            let _ = consumer.pause(&list);
        }
    }

    /// The offset to fetch from and the position known with it; `None`: do not read.
    fn begin_at(
        &self,
        tp: &TopicPartition,
        start: Start,
    ) -> Result<Option<(Offset, Option<i64>)>, String> {
        let next = match start {
            Start::At(next) => next,
            Start::Earliest | Start::Latest => {
                let (low, high) = lock(&self.lookup).bounds(tp)?;
                let at = if start == Start::Earliest { low } else { high };
                return Ok(Some((Offset::Offset(at), Some(at))));
            }
        };
        let gap = lock(&self.lookup).gap(tp, next)?;
        let Some((kind, log_start, log_end)) = gap else {
            return Ok(Some((Offset::Offset(next.offset), Some(next.offset))));
        };
        let (reply, answer) = oneshot::channel();
        let stored = next.offset;
        let event = SourceEvent::Gap { tp: tp.clone(), stored, log_start, log_end, kind, reply };
        let _ = self.events.send(event);
        match self.wait(answer, ASSIGN_LIMIT) {
            Some(GapDecision::GoOn) => Ok(Some((Offset::Offset(log_start), Some(log_start)))),
            Some(GapDecision::Stop) => Ok(None),
            None => Err("nobody decided about the gap in time".into()),
        }
    }

    /// Looks up where the assigned partitions end, for lag.
    pub(super) fn look_up_ends(&self, client: &BaseConsumer) {
        let assigned: Vec<_> = lock(&self.assignment).iter().map(|(tp, _)| tp.clone()).collect();
        if let Ok(ends) = end_offsets(client, assigned) {
            *lock(&self.ends) = ends;
        }
    }

    fn put_off(&self, partitions: Vec<TopicPartition>, reason: &str) {
        warn!(partitions = partitions.len(), reason, "could not begin to read, will try again");
        lock(&self.unfinished).extend(partitions);
    }

    /// Lets open rows settle, then gives the partitions back.
    pub(super) fn revoke(&self, consumer: &BaseConsumer<Context>, partitions: &[TopicPartition]) {
        lock(&self.unfinished).retain(|tp| !partitions.contains(tp));
        if !self.closing.load(Ordering::Acquire) {
            let (ack, acknowledged) = oneshot::channel();
            let partitions = partitions.to_vec();
            let _ = self.events.send(SourceEvent::Revoked { partitions, ack });
            if self.wait(acknowledged, REVOKE_LIMIT).is_none() {
                warn!("open rows did not settle in time; their commit will be refused if late");
            }
        }
        self.unassign(consumer, partitions);
    }

    /// Stops reading partitions.
    pub(super) fn unassign(&self, consumer: &BaseConsumer<Context>, partitions: &[TopicPartition]) {
        let mut list = TopicPartitionList::new();
        for tp in partitions {
            if lock(&self.assignment).end(tp) {
                list.add_partition(&tp.topic, tp.partition);
            }
        }
        if list.count() > 0
            && let Err(error) = consumer.incremental_unassign(&list)
        {
            warn!(%error, "could not unassign");
        }
    }

    /// Waits for an answer on a thread that is not the runtime's.
    fn wait<T>(&self, mut answer: oneshot::Receiver<T>, limit: Duration) -> Option<T> {
        let deadline = Instant::now() + limit;
        loop {
            match answer.try_recv() {
                Ok(answer) => return Some(answer),
                Err(oneshot::error::TryRecvError::Closed) => return None,
                Err(oneshot::error::TryRecvError::Empty) => {}
            }
            if Instant::now() > deadline || self.closing.load(Ordering::Acquire) {
                return None;
            }
            std::thread::sleep(Duration::from_millis(2));
        }
    }
}

fn of_list(list: &TopicPartitionList) -> Vec<TopicPartition> {
    let elements = list.elements();
    elements.iter().map(|e| TopicPartition::new(e.topic(), e.partition())).collect()
}
