//! The poll thread: reads, hands out, and never waits for what lies downstream.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::sync::mpsc::{Receiver, Sender};
use std::time::{Duration, Instant};

use lakebed_schemas::position::TopicPartition;
use lakebed_sinks::failpoint;
use rdkafka::consumer::{BaseConsumer, CommitMode, Consumer};
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::message::BorrowedMessage;
use rdkafka::{Message as _, Offset, TopicPartitionList};
use tracing::{debug, info, warn};

use super::assignment::EndAsked;
use super::control::Control;
use super::rebalance::Context;
use super::record::to_message;
use super::shared::{Shared, lock};
use super::{GroupOffset, Message, SourceEvent, starts};

/// Most records handed out at once, and most bytes but for the last record.
const CHUNK: usize = 1_000;
const CHUNK_BYTES: usize = 1 << 20;

/// How long `poll` may sleep: the longest that a command waits.
const POLL: Duration = Duration::from_millis(50);

/// The poll thread's state.
pub(super) struct Poller {
    consumer: BaseConsumer<Context>,
    shared: Arc<Shared>,
    commands: Receiver<Control>,
    ends: Sender<EndAsked>,
    /// Read and not handed out yet.
    chunk: Vec<Message>,
    chunk_bytes: usize,
    /// One shared name for each topic, so that records do not copy it.
    names: BTreeMap<String, Arc<str>>,
    /// What the group was told last, to say it again when leaving.
    told: BTreeMap<TopicPartition, GroupOffset>,
}

impl Poller {
    pub(super) fn new(
        consumer: BaseConsumer<Context>,
        shared: Arc<Shared>,
        commands: Receiver<Control>,
        ends: Sender<EndAsked>,
    ) -> Self {
        Self {
            consumer,
            shared,
            commands,
            ends,
            chunk: Vec::new(),
            chunk_bytes: 0,
            names: BTreeMap::new(),
            told: BTreeMap::new(),
        }
    }

    /// Reads until it is told to leave.
    pub(super) fn run(mut self, topics: Vec<String>) {
        if let Err(reason) = self.subscribe(&topics) {
            self.fail(reason);
        }
        loop {
            while let Ok(command) = self.commands.try_recv() {
                if matches!(command, Control::Close) {
                    return self.leave();
                }
                self.obey(command);
            }
            self.keep_budget();
            self.finish_assignments();
            let patience = if self.chunk.is_empty() { POLL } else { Duration::ZERO };
            let polled = self.consumer.poll(patience).map(|polled| match polled {
                Ok(record) => Ok(take(&self.shared, &mut self.names, &record)),
                Err(error) => Err(error),
            });
            match polled {
                Some(Ok(Some(message))) => {
                    self.chunk_bytes += message.weight();
                    self.chunk.push(message);
                }
                Some(Ok(None)) => {}
                Some(Err(error)) => self.on_error(error),
                None => self.hand_out(),
            }
            if self.chunk.len() >= CHUNK || self.chunk_bytes >= CHUNK_BYTES {
                self.hand_out();
            }
        }
    }

    fn subscribe(&self, topics: &[String]) -> Result<(), String> {
        if topics.is_empty() {
            return Ok(());
        }
        let topics: Vec<&str> = topics.iter().map(String::as_str).collect();
        self.consumer.subscribe(&topics).map_err(|error| format!("could not subscribe: {error}"))
    }

    fn obey(&mut self, command: Control) {
        match command {
            Control::Topics(topics) => {
                info!(topics = topics.len(), "the set of topics has changed");
                if let Err(reason) = self.subscribe(&topics) {
                    self.fail(reason);
                }
            }
            Control::Commit(offsets) => {
                failpoint::hit(failpoint::BEFORE_OFFSET_COMMIT);
                if let Err(error) = self.consumer.commit(&list_of(&offsets), CommitMode::Async) {
                    debug!(%error, "could not ask for an offset commit");
                }
                failpoint::hit(failpoint::AFTER_OFFSET_COMMIT);
                self.told.extend(offsets.into_iter().map(|offset| (offset.tp.clone(), offset)));
            }
            Control::Rewind(partitions) => self.restart(&partitions),
            Control::LookAtEnds => {
                // What has been read must be out before anyone hears that it was all.
                self.hand_out();
                let bounds = lock(&self.shared.bounds).clone();
                let asked = lock(&self.shared.assignment).ends_to_ask_again(&bounds);
                self.ask_ends(asked);
            }
            Control::Close => {}
        }
    }

    fn ask_ends(&self, asked: Vec<EndAsked>) {
        for asked in asked {
            let _ = self.ends.send(asked);
        }
    }

    /// Unassigns those of the partitions that are still ours, and has their starts found out anew.
    fn restart(&self, partitions: &[TopicPartition]) {
        let ours: Vec<TopicPartition> = {
            let assignment = lock(&self.shared.assignment);
            partitions.iter().filter(|tp| assignment.is_ours(tp)).cloned().collect()
        };
        if !ours.is_empty() {
            self.shared.unassign(&self.consumer, &ours);
            starts::find(&self.shared, ours);
        }
    }

    /// Pauses above the budget, resumes below half of it. Pausing throws away what the client has
    /// fetched ahead, hence the distance.
    fn keep_budget(&self) {
        let out = self.shared.out_bytes.load(Ordering::Relaxed);
        let budget = self.shared.budget_bytes.load(Ordering::Relaxed);
        let change = match self.shared.paused.load(Ordering::Relaxed) {
            false if out > budget => true,
            true if out < budget / 2 => false,
            _ => return,
        };
        let mut list = TopicPartitionList::new();
        for (tp, _) in lock(&self.shared.assignment).iter() {
            list.add_partition(&tp.topic, tp.partition);
        }
        let done = if change { self.consumer.pause(&list) } else { self.consumer.resume(&list) };
        if let Err(error) = done {
            debug!(%error, "could not pause or resume");
        }
        self.shared.paused.store(change, Ordering::Relaxed);
    }

    /// Begins what was found out since the last look, and asks again for what could not be.
    fn finish_assignments(&self) {
        let mut begin = Vec::new();
        while let Ok(resolved) = { lock(&self.shared.resolved).try_recv() } {
            begin.extend(self.shared.take(resolved));
        }
        if !begin.is_empty() {
            self.shared.begin(&self.consumer, begin);
        }
        let now = Instant::now();
        let due: Vec<TopicPartition> = {
            let mut unfinished = lock(&self.shared.unfinished);
            unfinished.extract_if(.., |_, at| *at <= now).map(|(tp, _)| tp).collect()
        };
        let ours: Vec<TopicPartition> =
            due.into_iter().filter(|tp| lock(&self.shared.assignment).is_ours(tp)).collect();
        if !ours.is_empty() {
            starts::find(&self.shared, ours);
        }
    }

    fn hand_out(&mut self) {
        if self.chunk.is_empty() {
            return;
        }
        let chunk = std::mem::take(&mut self.chunk);
        let bytes = std::mem::take(&mut self.chunk_bytes);
        self.shared.out_bytes.fetch_add(bytes, Ordering::Relaxed);
        let _ = self.shared.events.send(SourceEvent::Messages(chunk));
    }

    fn on_error(&mut self, error: KafkaError) {
        // Whatever it is comes after what has been read.
        self.hand_out();
        match error {
            KafkaError::PartitionEOF(partition) => {
                let asked = lock(&self.shared.assignment).ends_to_ask(partition);
                self.ask_ends(asked);
            }
            KafkaError::MessageConsumptionFatal(code) => self.fail(format!("{code}")),
            KafkaError::MessageConsumption(RDKafkaErrorCode::AutoOffsetReset) => {
                // Retention has overtaken us while reading: the assignment finds out where.
                warn!("a position is outside the log; looking up where the log begins");
                let held: Vec<_> =
                    lock(&self.shared.assignment).iter().map(|(tp, _)| tp.clone()).collect();
                self.restart(&held);
            }
            error => match self.consumer.client().fatal_error() {
                Some((_, reason)) => self.fail(reason),
                None => self.complain(&error),
            },
        }
    }

    /// Errors that the client mends by itself, but for those that only an operator can.
    fn complain(&self, error: &KafkaError) {
        use RDKafkaErrorCode as Code;
        match error.rdkafka_error_code() {
            Some(
                code @ (Code::Authentication
                | Code::SaslAuthenticationFailed
                | Code::TopicAuthorizationFailed
                | Code::GroupAuthorizationFailed
                | Code::ClusterAuthorizationFailed),
            ) => {
                self.fail(format!("the broker refuses us: {code}; check `kafka.security` and ACLs"))
            }
            _ => warn!(%error, "kafka"),
        }
    }

    fn fail(&self, reason: String) {
        let _ = self.shared.events.send(SourceEvent::Fatal(reason));
    }

    /// Tells the group once more how far the tables are, of what is still ours: of the rest its new
    /// owner knows more.
    fn leave(self) {
        let offsets: Vec<GroupOffset> = {
            let assignment = lock(&self.shared.assignment);
            self.told.into_values().filter(|offset| assignment.is_ours(&offset.tp)).collect()
        };
        if !offsets.is_empty()
            && let Err(error) = self.consumer.commit(&list_of(&offsets), CommitMode::Sync)
        {
            debug!(%error, "could not commit the group's offsets when leaving");
        }
        self.consumer.unsubscribe();
    }
}

/// A record as ours; `None` for one of a partition that is not read any more.
fn take(
    shared: &Shared,
    names: &mut BTreeMap<String, Arc<str>>,
    record: &BorrowedMessage<'_>,
) -> Option<Message> {
    let name = match names.get(record.topic()) {
        Some(name) => name.clone(),
        None => {
            let name: Arc<str> = Arc::from(record.topic());
            names.insert(record.topic().to_owned(), name.clone());
            name
        }
    };
    let tp = TopicPartition::new(name, record.partition());
    let generation = lock(&shared.assignment).advance(&tp, record.offset())?;
    Some(to_message(record, tp, generation))
}

fn list_of(offsets: &[GroupOffset]) -> TopicPartitionList {
    let mut list = TopicPartitionList::new();
    for GroupOffset { tp, offset, metadata } in offsets {
        let at = Offset::Offset(*offset);
        if list.add_partition_offset(&tp.topic, tp.partition, at).is_ok()
            && let Some(mut element) = list.find_partition(&tp.topic, tp.partition)
        {
            element.set_metadata(metadata);
        }
    }
    list
}
