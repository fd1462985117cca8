//! The Kafka source: one thread that polls and never waits for what lies downstream.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use async_trait::async_trait;
use lakebed_schemas::config::Kafka;
use lakebed_schemas::position::{Checkpoint, TopicPartition};
use lakebed_sinks::failpoint;
use rdkafka::consumer::{BaseConsumer, CommitMode, Consumer};
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::message::{BorrowedMessage, Headers};
use rdkafka::{Message as _, Offset, TopicPartitionList};
use tokio::sync::mpsc;
use tracing::{debug, info, warn};

use super::assignment::Assignment;
use super::client::{consumer_config, metadata_client};
use super::discovery::{self, Wanted};
use super::ends::Lookup;
use super::rebalance::{Context, Shared, lock};
use super::{Message, Source, SourceEvent, SourceStats};

/// Most records handed out at once.
const CHUNK: usize = 1_000;

/// How long `poll` may sleep: the longest that a command waits.
const POLL: Duration = Duration::from_millis(50);

/// How long leaving the group may take.
const CLOSE_LIMIT: Duration = Duration::from_secs(20);

/// How long to wait before an assignment that could not be finished is tried again.
const FINISH_AGAIN: Duration = Duration::from_secs(1);

/// What the poll thread is asked.
pub(super) enum Control {
    /// Subscribe to these.
    Topics(Vec<String>),
    /// Tell the group.
    Commit(TopicPartitionList),
    /// Read again.
    Rewind(Vec<TopicPartition>),
    /// Leave.
    Close,
}

/// How a source is opened.
pub struct SourceOptions {
    /// The cluster and the group.
    pub kafka: Kafka,
    /// Which topics.
    pub wanted: Wanted,
    /// Bytes of records that may be out at once.
    pub budget_bytes: usize,
}

/// Records of a consumer group's share of the wanted topics.
pub struct KafkaSource {
    events: mpsc::UnboundedReceiver<SourceEvent>,
    control: Sender<Control>,
    shared: Arc<Shared>,
    out_bytes: Arc<AtomicUsize>,
    threads: Vec<std::thread::JoinHandle<()>>,
}

impl KafkaSource {
    /// Connects, finds the topics, and starts to read.
    ///
    /// # Errors
    /// When settings contradict each other or no broker answers.
    pub fn open(options: &SourceOptions) -> Result<Self, String> {
        let lookup = Lookup::new(metadata_client(&options.kafka)?);
        let topics = discovery::find(lookup.client(), &options.wanted).map_err(|error| {
            format!("no broker answers at `{}`: {error}", options.kafka.bootstrap_servers)
        })?;
        let (events_in, events) = mpsc::unbounded_channel();
        let (control, commands) = std::sync::mpsc::channel();
        let shared = Arc::new(Shared {
            events: events_in,
            assignment: Mutex::new(Assignment::default()),
            lookup: Mutex::new(lookup),
            closing: AtomicBool::new(false),
            paused: AtomicBool::new(false),
            rebalances: AtomicU64::new(0),
            unfinished: Mutex::new(Vec::new()),
            ends: Mutex::new(BTreeMap::new()),
        });
        // A quarter of the budget may lie in the client's own queue.
        let consumer: BaseConsumer<Context> =
            consumer_config(&options.kafka, options.budget_bytes / 4)
                .create_with_context(Context(shared.clone()))
                .map_err(|error| format!("kafka consumer: {error}"))?;
        let (ends, asked_ends) = std::sync::mpsc::channel();
        let out_bytes = Arc::new(AtomicUsize::new(0));
        let poller = Poller {
            consumer,
            shared: shared.clone(),
            commands,
            ends,
            out_bytes: out_bytes.clone(),
            budget: options.budget_bytes,
            names: BTreeMap::new(),
            last_commit: None,
            finish_at: None,
        };
        info!(topics = topics.len(), group = %options.kafka.group_id, "reading");
        if topics.is_empty() {
            warn!("no topic matches yet; looking again every few seconds");
        }
        let watcher = {
            let client = metadata_client(&options.kafka)?;
            let (wanted, control) = (options.wanted.clone(), control.clone());
            let (shared, known) = (shared.clone(), topics.clone());
            move || {
                let stopped = |pause: Duration| {
                    let stopped = sleep_unless_closing(&shared, pause);
                    shared.look_up_ends(&client);
                    stopped
                };
                discovery::watch(&client, &wanted, known, &control, &stopped);
            }
        };
        let looker = {
            let shared = shared.clone();
            move || answer_ends(&shared, &asked_ends)
        };
        let threads = vec![
            spawn("kafka-poll", move || poller.run(topics))?,
            spawn("kafka-topics", watcher)?,
            spawn("kafka-ends", looker)?,
        ];
        Ok(Self { events, control, shared, out_bytes, threads })
    }
}

#[async_trait]
impl Source for KafkaSource {
    async fn next(&mut self) -> Option<SourceEvent> {
        self.events.recv().await
    }

    fn commit_offsets(&mut self, checkpoint: &Checkpoint, table: &str) {
        let mut list = TopicPartitionList::new();
        for (tp, next) in checkpoint.iter() {
            let offset = Offset::Offset(next.offset);
            let _ = list.add_partition_offset(&tp.topic, tp.partition, offset);
            if let Some(mut element) = list.find_partition(&tp.topic, tp.partition) {
                element.set_metadata(table);
            }
        }
        if list.count() > 0 {
            let _ = self.control.send(Control::Commit(list));
        }
    }

    fn consumed(&mut self, bytes: usize) {
        self.out_bytes.fetch_sub(bytes, Ordering::Relaxed);
    }

    fn held(&mut self, bytes: usize) {
        self.out_bytes.fetch_add(bytes, Ordering::Relaxed);
    }

    fn rewind(&mut self, partitions: &[TopicPartition]) {
        let _ = self.control.send(Control::Rewind(partitions.to_vec()));
    }

    fn stats(&self) -> SourceStats {
        SourceStats {
            rebalances: self.shared.rebalances.load(Ordering::Relaxed),
            paused: self.shared.paused.load(Ordering::Relaxed),
            out_bytes: self.out_bytes.load(Ordering::Relaxed),
            ends: lock(&self.shared.ends).clone(),
        }
    }

    async fn close(&mut self) {
        self.shared.closing.store(true, Ordering::Release);
        let _ = self.control.send(Control::Close);
        let deadline = Instant::now() + CLOSE_LIMIT;
        while self.threads.iter().any(|thread| !thread.is_finished()) {
            if Instant::now() > deadline {
                warn!("the kafka client does not end; leaving it behind");
                return;
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    }
}

fn spawn(
    name: &str,
    work: impl FnOnce() + Send + 'static,
) -> Result<std::thread::JoinHandle<()>, String> {
    let thread = std::thread::Builder::new().name(name.to_owned());
    thread.spawn(work).map_err(|error| format!("could not start thread {name}: {error}"))
}

/// Sleeps; says whether the source is closing.
fn sleep_unless_closing(shared: &Shared, pause: Duration) -> bool {
    let until = Instant::now() + pause;
    while Instant::now() < until {
        if shared.closing.load(Ordering::Acquire) {
            return true;
        }
        std::thread::sleep(Duration::from_millis(100));
    }
    shared.closing.load(Ordering::Acquire)
}

/// A partition that may have ended: where, and how far we are.
struct EndAsked {
    tp: TopicPartition,
    generation: u64,
    position: i64,
}

/// Answers whether partitions have really ended, beside the poll thread.
fn answer_ends(shared: &Shared, asked: &Receiver<EndAsked>) {
    loop {
        match asked.recv_timeout(Duration::from_millis(200)) {
            Ok(EndAsked { tp, generation, position }) => {
                let drained = lock(&shared.lookup).drained_at(&tp, position);
                if let Some(next_offset) = drained {
                    let end = SourceEvent::EndOfPartition { tp, next_offset, generation };
                    let _ = shared.events.send(end);
                }
            }
            Err(RecvTimeoutError::Timeout) => {
                if shared.closing.load(Ordering::Acquire) {
                    return;
                }
            }
            Err(RecvTimeoutError::Disconnected) => return,
        }
    }
}

/// The poll thread's state.
struct Poller {
    consumer: BaseConsumer<Context>,
    shared: Arc<Shared>,
    commands: Receiver<Control>,
    ends: Sender<EndAsked>,
    out_bytes: Arc<AtomicUsize>,
    budget: usize,
    /// One shared name for each topic, so that records do not copy it.
    names: BTreeMap<String, Arc<str>>,
    last_commit: Option<TopicPartitionList>,
    finish_at: Option<Instant>,
}

impl Poller {
    fn run(mut self, topics: Vec<String>) {
        if let Err(reason) = self.subscribe(&topics) {
            self.fail(reason);
        }
        let mut chunk = Vec::new();
        loop {
            while let Ok(command) = self.commands.try_recv() {
                if matches!(command, Control::Close) {
                    return self.leave();
                }
                self.obey(command);
            }
            self.keep_budget();
            self.finish_assignments();
            let patience = if chunk.is_empty() { POLL } else { Duration::ZERO };
            let polled = self.consumer.poll(patience).map(|polled| match polled {
                Ok(record) => Ok(self.take(&record)),
                Err(error) => Err(error),
            });
            match polled {
                Some(Ok(Some(message))) => chunk.push(message),
                Some(Ok(None)) => {}
                Some(Err(error)) => {
                    self.hand_out(&mut chunk);
                    self.on_error(error);
                }
                None => self.hand_out(&mut chunk),
            }
            if chunk.len() >= CHUNK {
                self.hand_out(&mut chunk);
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
            Control::Commit(list) => {
                failpoint::hit(failpoint::BEFORE_OFFSET_COMMIT);
                if let Err(error) = self.consumer.commit(&list, CommitMode::Async) {
                    debug!(%error, "could not ask for an offset commit");
                }
                failpoint::hit(failpoint::AFTER_OFFSET_COMMIT);
                self.remember(&list);
            }
            Control::Rewind(partitions) => self.restart(&partitions),
            Control::Close => {}
        }
    }

    /// Keeps what the group was told last, by partition, to say it again when leaving.
    fn remember(&mut self, list: &TopicPartitionList) {
        let known = self.last_commit.get_or_insert_with(TopicPartitionList::new);
        for element in list.elements() {
            let (topic, partition) = (element.topic(), element.partition());
            if known.set_partition_offset(topic, partition, element.offset()).is_err() {
                let _ = known.add_partition_offset(topic, partition, element.offset());
            }
        }
    }

    /// Unassigns and assigns anew those of the partitions that are still ours.
    fn restart(&self, partitions: &[TopicPartition]) {
        let ours: Vec<TopicPartition> = {
            let assignment = lock(&self.shared.assignment);
            let held: Vec<_> = assignment.iter().map(|(tp, _)| tp.clone()).collect();
            held.into_iter().filter(|tp| partitions.contains(tp)).collect()
        };
        self.shared.unassign(&self.consumer, &ours);
        self.shared.assign(&self.consumer, ours);
    }

    /// Pauses above the budget, resumes below half of it. Pausing throws away what the client has
    /// fetched ahead, hence the distance.
    fn keep_budget(&self) {
        let out = self.out_bytes.load(Ordering::Relaxed);
        let paused = self.shared.paused.load(Ordering::Relaxed);
        let change = match paused {
            false if out > self.budget => true,
            true if out < self.budget / 2 => false,
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

    fn finish_assignments(&mut self) {
        if lock(&self.shared.unfinished).is_empty() {
            return;
        }
        let now = Instant::now();
        if now < *self.finish_at.get_or_insert(now + FINISH_AGAIN) {
            return;
        }
        self.finish_at = None;
        let unfinished = std::mem::take(&mut *lock(&self.shared.unfinished));
        self.shared.assign(&self.consumer, unfinished);
    }

    /// A record as ours; `None` for one of a partition that is not read any more.
    fn take(&self, record: &BorrowedMessage<'_>) -> Option<Message> {
        let name = match self.names.get(record.topic()) {
            Some(name) => name.clone(),
            None => Arc::from(record.topic()),
        };
        let tp = TopicPartition::new(name, record.partition());
        let generation = lock(&self.shared.assignment).advance(&tp, record.offset())?;
        Some(to_message(record, tp, generation))
    }

    fn hand_out(&mut self, chunk: &mut Vec<Message>) {
        if chunk.is_empty() {
            return;
        }
        for message in chunk.iter() {
            if !self.names.contains_key(&*message.tp.topic) {
                self.names.insert(message.tp.topic.to_string(), message.tp.topic.clone());
            }
        }
        let bytes: usize = chunk.iter().map(Message::weight).sum();
        self.out_bytes.fetch_add(bytes, Ordering::Relaxed);
        let _ = self.shared.events.send(SourceEvent::Messages(std::mem::take(chunk)));
    }

    fn on_error(&mut self, error: KafkaError) {
        match error {
            KafkaError::PartitionEOF(partition) => {
                for (tp, held) in lock(&self.shared.assignment).ends_to_ask(partition) {
                    let position = held.position.unwrap_or(0);
                    let _ = self.ends.send(EndAsked { tp, generation: held.generation, position });
                }
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

    fn leave(&mut self) {
        if let Some(list) = self.last_commit.take()
            && let Err(error) = self.consumer.commit(&list, CommitMode::Sync)
        {
            debug!(%error, "could not commit the group's offsets when leaving");
        }
        self.consumer.unsubscribe();
    }
}

/// Copies a record out of the client's buffer, which would otherwise be held as a whole.
pub(super) fn to_message(
    record: &BorrowedMessage<'_>,
    tp: TopicPartition,
    generation: u64,
) -> Message {
    let headers = record.headers().map_or_else(Vec::new, |headers| {
        headers
            .iter()
            .map(|header| (header.key.to_owned(), header.value.map(<[u8]>::to_vec)))
            .collect()
    });
    Message {
        tp,
        offset: record.offset(),
        timestamp_ms: record.timestamp().to_millis(),
        key: record.key().map(<[u8]>::to_vec),
        value: record.payload().map(<[u8]>::to_vec),
        headers,
        generation,
    }
}
