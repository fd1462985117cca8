//! The Kafka source: a thread that polls, one that looks topics up, and one that looks at ends.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use async_trait::async_trait;
use lakebed_schemas::config::Kafka;
use lakebed_schemas::position::TopicPartition;
use rdkafka::consumer::BaseConsumer;
use tokio::sync::mpsc;
use tracing::{info, warn};

use super::assignment::{Assignment, EndAsked};
use super::client::{consumer_config, metadata_client};
use super::control::Control;
use super::discovery::{self, Wanted};
use super::ends::{Drained, Lookup, bounds_of};
use super::poller::Poller;
use super::rebalance::Context;
use super::shared::{Shared, lock};
use super::view::KafkaView;
use super::{GroupOffset, Source, SourceEvent, SourceStats, View};

/// How long leaving the group may take.
const CLOSE_LIMIT: Duration = Duration::from_secs(20);

/// How long to wait before an end that could not be looked up is looked up again.
const END_AGAIN: Duration = Duration::from_secs(1);

/// How a source is opened.
pub struct SourceOptions {
    /// The cluster and the group.
    pub kafka: Kafka,
    /// Which topics.
    pub wanted: Wanted,
    /// Bytes of records that may be out at once.
    pub budget_bytes: usize,
    /// How often topics and ends are looked up.
    pub look_every: Duration,
}

/// Records of a consumer group's share of the wanted topics.
pub struct KafkaSource {
    events: mpsc::UnboundedReceiver<SourceEvent>,
    control: Sender<Control>,
    shared: Arc<Shared>,
    view: Arc<KafkaView>,
    threads: Vec<std::thread::JoinHandle<()>>,
}

impl KafkaSource {
    /// Connects, finds the topics, and starts to read.
    ///
    /// # Errors
    /// When settings contradict each other or no broker answers.
    pub fn open(options: &SourceOptions) -> Result<Self, String> {
        let kafka = &options.kafka;
        let lookup = Lookup::new(metadata_client(kafka)?);
        let topics = discovery::find(lookup.client(), &options.wanted).map_err(|error| {
            format!("no broker answers at `{}`: {error}", kafka.bootstrap_servers)
        })?;
        let topics: Vec<String> = topics.into_keys().collect();
        info!(topics = topics.len(), group = %kafka.group_id, "reading");
        if topics.is_empty() {
            warn!("no topic matches yet; looking again every few seconds");
        }
        let (events_in, events) = mpsc::unbounded_channel();
        let (control, commands) = std::sync::mpsc::channel();
        let (ends, asked_ends) = std::sync::mpsc::channel();
        let shared = Arc::new(shared(lookup, events_in, options.budget_bytes));
        // A quarter of the budget may lie in the client's own queue.
        let consumer: BaseConsumer<Context> = consumer_config(kafka, options.budget_bytes / 4)
            .create_with_context(Context(shared.clone()))
            .map_err(|error| format!("kafka consumer: {error}"))?;
        let poller = Poller::new(consumer, shared.clone(), commands, ends);
        let view = Arc::new(KafkaView::new(kafka, topics.clone()));
        let watcher = watcher(options, &shared, &control, topics.clone())?;
        let looker = {
            let shared = shared.clone();
            move || answer_ends(&shared, &asked_ends)
        };
        let threads = vec![
            spawn("kafka-poll", move || poller.run(topics))?,
            spawn("kafka-topics", watcher)?,
            spawn("kafka-ends", looker)?,
        ];
        Ok(Self { events, control, shared, view, threads })
    }
}

fn shared(
    lookup: Lookup,
    events: mpsc::UnboundedSender<SourceEvent>,
    budget_bytes: usize,
) -> Shared {
    let (resolver, resolved) = std::sync::mpsc::channel();
    Shared {
        events,
        assignment: Mutex::new(Assignment::default()),
        lookup: Mutex::new(lookup),
        closing: AtomicBool::new(false),
        paused: AtomicBool::new(false),
        rebalances: AtomicU64::new(0),
        out_bytes: AtomicUsize::new(0),
        budget_bytes: AtomicUsize::new(budget_bytes),
        unfinished: Mutex::new(BTreeMap::new()),
        resolved: Mutex::new(resolved),
        resolver,
        bounds: Mutex::new(BTreeMap::new()),
        partitions: Mutex::new(BTreeMap::new()),
    }
}

/// The work of the thread that looks up topics, and on its way where the log begins and ends.
fn watcher(
    options: &SourceOptions,
    shared: &Arc<Shared>,
    control: &Sender<Control>,
    known: Vec<String>,
) -> Result<impl FnOnce() + Send + 'static, String> {
    let client = metadata_client(&options.kafka)?;
    let (wanted, control, shared) = (options.wanted.clone(), control.clone(), shared.clone());
    let look_every = options.look_every;
    Ok(move || {
        let stopped = || {
            let stopped = sleep_unless_closing(&shared, look_every);
            let assigned: Vec<_> = lock(&shared.assignment).ours().cloned().collect();
            *lock(&shared.bounds) = bounds_of(&client, assigned);
            let _ = control.send(Control::LookAtEnds);
            stopped
        };
        let counted = |partitions| *lock(&shared.partitions) = partitions;
        discovery::watch(&client, &wanted, known, &control, &counted, &stopped);
    })
}

#[async_trait]
impl Source for KafkaSource {
    async fn next(&mut self) -> Option<SourceEvent> {
        self.events.recv().await
    }

    fn commit_offsets(&mut self, offsets: Vec<GroupOffset>) {
        if !offsets.is_empty() {
            let _ = self.control.send(Control::Commit(offsets));
        }
    }

    fn consumed(&mut self, bytes: usize) {
        self.shared.out_bytes.fetch_sub(bytes, Ordering::Relaxed);
    }

    fn held(&mut self, bytes: usize) {
        self.shared.out_bytes.fetch_add(bytes, Ordering::Relaxed);
    }

    fn set_budget(&mut self, bytes: usize) {
        self.shared.budget_bytes.store(bytes, Ordering::Relaxed);
    }

    fn rewind(&mut self, partitions: &[TopicPartition]) {
        let _ = self.control.send(Control::Rewind(partitions.to_vec()));
    }

    fn stats(&self) -> SourceStats {
        SourceStats {
            rebalances: self.shared.rebalances.load(Ordering::Relaxed),
            paused: self.shared.paused.load(Ordering::Relaxed),
            out_bytes: self.shared.out_bytes.load(Ordering::Relaxed),
            bounds: lock(&self.shared.bounds).clone(),
            partitions: lock(&self.shared.partitions).clone(),
        }
    }

    fn view(&self) -> Arc<dyn View> {
        self.view.clone()
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
        std::thread::sleep(Duration::from_millis(100).min(pause));
    }
    shared.closing.load(Ordering::Acquire)
}

/// Answers whether partitions have really ended, beside the poll thread.
fn answer_ends(shared: &Shared, asked: &Receiver<EndAsked>) {
    // What could not be told, and when to look again.
    let mut again: Vec<(Instant, EndAsked)> = Vec::new();
    loop {
        let mut due: Vec<EndAsked> =
            again.extract_if(.., |(at, _)| *at <= Instant::now()).map(|(_, end)| end).collect();
        match asked.recv_timeout(Duration::from_millis(200)) {
            Ok(end) => due.push(end),
            Err(RecvTimeoutError::Timeout) => {
                if shared.closing.load(Ordering::Acquire) {
                    return;
                }
            }
            Err(RecvTimeoutError::Disconnected) => return,
        }
        for end in due {
            if !lock(&shared.assignment).stands(&end) {
                continue;
            }
            let drained = lock(&shared.lookup).drained_at(&end.tp, end.position);
            match drained {
                Drained::Yes(next) => tell_end(shared, &end, next),
                Drained::No => {}
                Drained::Unknown => again.push((Instant::now() + END_AGAIN, end)),
            }
        }
    }
}

fn tell_end(shared: &Shared, end: &EndAsked, next_offset: i64) {
    if lock(&shared.assignment).tell_end(end, next_offset) {
        let (tp, generation) = (end.tp.clone(), end.generation);
        let _ = shared.events.send(SourceEvent::EndOfPartition { tp, next_offset, generation });
    }
}
