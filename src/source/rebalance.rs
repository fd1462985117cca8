//! The group's callbacks: start offsets are set inside them, from where the tables stand.
//!
//! They run on the poll thread, inside `poll`, and wait for answers, bounded: heartbeats go on by
//! themselves meanwhile, but nothing is read. The client's state machine goes on only once it has
//! been told to assign or unassign *something*, be it nothing: every callback does so exactly once.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use lakebed_schemas::position::TopicPartition;
use rdkafka::consumer::{BaseConsumer, Consumer, ConsumerContext};
use rdkafka::error::{KafkaError, KafkaResult, RDKafkaErrorCode};
use rdkafka::types::RDKafkaRespErr;
use rdkafka::{ClientContext, Offset, TopicPartitionList};
use tokio::sync::oneshot;
use tracing::{info, warn};

use super::SourceEvent;
use super::shared::{Resolved, Shared, lock};
use super::starts;

/// How long an assignment keeps the poll thread waiting. Past it the assignment is finished later:
/// the partitions are ours but not read yet, and the others go on.
const ASSIGN_WAIT: Duration = Duration::from_secs(5);

/// How long a revocation waits for open rows to be committed. Past it, the offset compare of the
/// commit fences what is left.
const REVOKE_LIMIT: Duration = Duration::from_secs(30);

/// How long to wait before an assignment that could not be finished is tried again.
const FINISH_AGAIN: Duration = Duration::from_secs(1);

/// The same for a partition that something else comes before: that takes a commit or more.
const HELD_AGAIN: Duration = Duration::from_secs(2);

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
            assign(&self.0, consumer, moved);
        } else {
            info!(partitions = moved.len(), "partitions revoked");
            revoke(&self.0, consumer, &moved);
        }
    }

    fn commit_callback(&self, result: KafkaResult<()>, _: &TopicPartitionList) {
        if let Err(error) = result {
            warn!(%error, "could not commit the group's offsets; the tables hold them");
        }
    }
}

/// Has the starts found out and begins, or leaves that for later.
fn assign(shared: &Arc<Shared>, consumer: &BaseConsumer<Context>, partitions: Vec<TopicPartition>) {
    let mut begin = Vec::new();
    if !shared.closing.load(Ordering::Acquire) {
        let generation = starts::find(shared, partitions);
        let deadline = Instant::now() + ASSIGN_WAIT;
        while let Ok(resolved) = {
            let patience = deadline.saturating_duration_since(Instant::now());
            lock(&shared.resolved).recv_timeout(patience)
        } {
            let ours = resolved.generation == generation;
            begin.extend(shared.take(resolved));
            if ours {
                break;
            }
        }
    }
    shared.begin(consumer, begin);
}

/// Lets open rows settle, then gives the partitions back.
fn revoke(shared: &Shared, consumer: &BaseConsumer<Context>, partitions: &[TopicPartition]) {
    lock(&shared.unfinished).retain(|tp, _| !partitions.contains(tp));
    if !shared.closing.load(Ordering::Acquire) {
        let (ack, acknowledged) = oneshot::channel();
        let _ = shared.events.send(SourceEvent::Revoked { partitions: partitions.to_vec(), ack });
        let deadline = Instant::now() + REVOKE_LIMIT;
        if starts::wait_until(shared, acknowledged, deadline).is_none() {
            warn!("open rows did not settle in time; their commit will be refused if late");
        }
    }
    shared.unassign(consumer, partitions);
}

impl Shared {
    /// Takes over what was found out; gives what is still ours, with its generation and offset.
    pub(super) fn take(&self, resolved: Resolved) -> Vec<(TopicPartition, u64, i64)> {
        let Resolved { generation, begin, left_out, later, held } = resolved;
        let mut assignment = lock(&self.assignment);
        for tp in left_out
            .iter()
            .filter(|tp| assignment.is_awaited(tp, generation))
            .cloned()
            .collect::<Vec<_>>()
        {
            assignment.leave_out(&tp);
        }
        let now = Instant::now();
        let later = later.into_iter().map(|tp| (tp, now + FINISH_AGAIN));
        let later = later.chain(held.into_iter().map(|tp| (tp, now + HELD_AGAIN)));
        let later = later.filter(|(tp, _)| assignment.is_awaited(tp, generation));
        lock(&self.unfinished).extend(later);
        let begin = begin.into_iter().filter(|(tp, _)| assignment.is_awaited(tp, generation));
        begin.map(|(tp, offset)| (tp, generation, offset)).collect()
    }

    /// Begins to read. Called without partitions, too: see the head of this file.
    pub(super) fn begin(
        &self,
        consumer: &BaseConsumer<Context>,
        partitions: Vec<(TopicPartition, u64, i64)>,
    ) {
        let mut list = TopicPartitionList::new();
        for (tp, generation, offset) in partitions {
            let at = Offset::Offset(offset);
            if list.add_partition_offset(&tp.topic, tp.partition, at).is_ok() {
                lock(&self.assignment).begin(tp, generation, offset);
            }
        }
        if let Err(error) = consumer.incremental_assign(&list) {
            let _ = self.events.send(SourceEvent::Fatal(format!("could not assign: {error}")));
            return;
        }
        if list.count() > 0 && self.paused.load(Ordering::Relaxed) {
            let _ = consumer.pause(&list);
        }
    }

    /// Stops reading partitions. Called without any that are read, too: see the head of this file.
    pub(super) fn unassign(&self, consumer: &BaseConsumer<Context>, partitions: &[TopicPartition]) {
        let mut list = TopicPartitionList::new();
        for tp in partitions {
            if lock(&self.assignment).end(tp) {
                list.add_partition(&tp.topic, tp.partition);
            }
        }
        if let Err(error) = consumer.incremental_unassign(&list) {
            warn!(%error, "could not unassign");
        }
    }
}

fn of_list(list: &TopicPartitionList) -> Vec<TopicPartition> {
    let elements = list.elements();
    elements.iter().map(|e| TopicPartition::new(e.topic(), e.partition())).collect()
}
