//! A member of a consumer group that keeps what it reads as a table would: by offsets, checked.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use lakebed_schemas::config::Kafka;
use lakebed_schemas::position::{NextOffset, TopicPartition};
use rdkafka::ClientConfig;
use rdkafka::mocking::MockCluster;
use rdkafka::producer::{BaseProducer, BaseRecord, DefaultProducerContext, Producer as _};
use tokio::sync::{mpsc, oneshot};

use crate::source::{
    Gap, GapDecision, GapKind, KafkaSource, Message, Source, SourceEvent, SourceOptions,
    SourceStats, Start, Starts,
};

/// How long a test waits for what must come: a second member joins after ten seconds.
const PATIENCE: Duration = Duration::from_secs(60);

/// A broker in this process.
pub(super) struct Cluster {
    pub(super) mock: MockCluster<'static, DefaultProducerContext>,
    producer: BaseProducer,
}

impl Cluster {
    pub(super) fn start(topics: &[(&str, i32)]) -> Self {
        let mock = MockCluster::new(1).expect("a broker");
        for (topic, partitions) in topics {
            mock.create_topic(topic, *partitions, 1).expect("a topic");
        }
        let mut config = ClientConfig::new();
        config.set("bootstrap.servers", mock.bootstrap_servers());
        let producer = config.create().expect("a producer");
        Self { mock, producer }
    }

    /// Produces records with these numbers as keys; waits until they are there.
    pub(super) fn produce(&self, tp: &TopicPartition, numbers: std::ops::Range<i64>, size: usize) {
        let value = "v".repeat(size);
        for number in numbers {
            let key = number.to_string();
            let mut record = BaseRecord::to(&tp.topic).partition(tp.partition);
            record = record.key(&key).payload(&value);
            while let Err((_, again)) = self.producer.send(record) {
                self.producer.poll(Duration::from_millis(20));
                record = again;
            }
        }
        self.producer.flush(PATIENCE).expect("all are there");
    }

    pub(super) fn kafka(&self, group: &str) -> Kafka {
        let text = format!(
            "kafka: {{ bootstrap_servers: '{}', group_id: {group}, properties: {{ session.timeout.ms: 6000 }} }}\n\
             lake: {{ location: /lake, format: iceberg }}\n\
             tables: [{{ topic: a.b.c }}]\n",
            self.mock.bootstrap_servers()
        );
        let file = std::path::Path::new("lakebed.yaml");
        crate::config::parse(&text, file, &|_| None).expect("config").kafka
    }

    pub(super) fn options(&self, group: &str) -> SourceOptions {
        SourceOptions {
            kafka: self.kafka(group),
            wanted: Arc::new(|topic: &str| !topic.starts_with("__")),
            budget_bytes: 64 << 20,
            look_every: Duration::from_millis(300),
        }
    }
}

/// What the members of a group keep together.
#[derive(Default)]
pub(super) struct Table {
    pub(super) next: BTreeMap<TopicPartition, NextOffset>,
    /// Records that did not follow the one before them.
    pub(super) misfits: Vec<(TopicPartition, i64)>,
    /// Topics whose gaps are passed.
    pub(super) passes_gaps: BTreeSet<&'static str>,
    /// Topics of which the table does not say where it stands.
    pub(super) silent: BTreeSet<&'static str>,
    /// Topics that something else comes before.
    pub(super) held: BTreeSet<&'static str>,
    /// Nothing is committed and no memory given back.
    pub(super) holds: bool,
}

/// What one member has seen.
#[derive(Default)]
pub(super) struct Seen {
    pub(super) messages: Vec<(TopicPartition, i64, u64)>,
    /// Bytes that were not given back.
    pub(super) held: usize,
    pub(super) ends: Vec<(TopicPartition, i64)>,
    pub(super) gaps: Vec<(TopicPartition, GapKind, [i64; 3])>,
    pub(super) generations: BTreeMap<TopicPartition, u64>,
    pub(super) revoked: usize,
    pub(super) fatal: Vec<String>,
}

impl Seen {
    pub(super) fn offsets(&self, tp: &TopicPartition) -> Vec<i64> {
        let ours = self.messages.iter().filter(|(at, _, _)| at == tp);
        ours.map(|(_, offset, _)| *offset).collect()
    }
}

type Work = Box<dyn FnOnce(&mut KafkaSource) + Send>;

/// A member of a group, with a task that answers its source.
pub(super) struct Member {
    pub(super) table: Arc<Mutex<Table>>,
    pub(super) seen: Arc<Mutex<Seen>>,
    work: mpsc::UnboundedSender<Work>,
    close: oneshot::Sender<()>,
    task: tokio::task::JoinHandle<Duration>,
}

impl Member {
    pub(super) async fn join(options: SourceOptions, table: &Arc<Mutex<Table>>) -> Self {
        let opened = tokio::task::spawn_blocking(move || KafkaSource::open(&options)).await;
        let source = opened.expect("no panic").expect("opens");
        let seen = Arc::<Mutex<Seen>>::default();
        let (work, works) = mpsc::unbounded_channel();
        let (close, closed) = oneshot::channel();
        let task = tokio::spawn(live(source, table.clone(), seen.clone(), works, closed));
        Self { table: table.clone(), seen, work, close, task }
    }

    /// Does something with the source.
    pub(super) fn with(&self, work: impl FnOnce(&mut KafkaSource) + Send + 'static) {
        assert!(self.work.send(Box::new(work)).is_ok(), "the member lives");
    }

    pub(super) async fn stats(&self) -> SourceStats {
        let (reply, answer) = oneshot::channel();
        self.with(|source| drop(reply.send(source.stats())));
        answer.await.expect("stats")
    }

    /// Leaves the group; gives how long that took.
    pub(super) async fn leave(self) -> Duration {
        let _ = self.close.send(());
        self.task.await.expect("the member ends")
    }

    /// Waits until what was seen, and the table, are so.
    pub(super) async fn until(&self, what: &str, is: impl Fn(&Seen, &Table) -> bool) {
        let deadline = Instant::now() + PATIENCE;
        while !is(&self.seen.lock().expect("lock"), &self.table.lock().expect("lock")) {
            if Instant::now() > deadline {
                let seen = self.seen.lock().expect("lock");
                panic!(
                    "waited in vain for {what}: {} messages, ends {:?}, gaps {:?}, generations {:?}, \
                     table {:?}, fatal {:?}",
                    seen.messages.len(),
                    seen.ends,
                    seen.gaps,
                    seen.generations,
                    self.table.lock().expect("lock").next,
                    seen.fatal
                );
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }

    /// Waits until the table holds everything below these offsets.
    pub(super) async fn stands_at(&self, expected: &[(TopicPartition, i64)]) {
        self.until(&format!("{expected:?}"), |_, table| {
            expected
                .iter()
                .all(|(tp, offset)| table.next.get(tp).is_some_and(|next| next.offset == *offset))
        })
        .await;
    }
}

async fn live(
    mut source: KafkaSource,
    table: Arc<Mutex<Table>>,
    seen: Arc<Mutex<Seen>>,
    mut works: mpsc::UnboundedReceiver<Work>,
    mut closed: oneshot::Receiver<()>,
) -> Duration {
    loop {
        tokio::select! {
            _ = &mut closed => break,
            Some(work) = works.recv() => work(&mut source),
            Some(event) = source.next() => {
                // In the order in which those who wait lock them.
                let mut seen = seen.lock().expect("lock");
                let mut table = table.lock().expect("lock");
                on_event(&mut source, event, &mut table, &mut seen);
            }
        }
    }
    let started = Instant::now();
    source.close().await;
    started.elapsed()
}

fn on_event(source: &mut KafkaSource, event: SourceEvent, table: &mut Table, seen: &mut Seen) {
    match event {
        SourceEvent::Assigned { generation, partitions, reply } => {
            for tp in &partitions {
                seen.generations.insert(tp.clone(), generation);
            }
            let _ = reply.send(starts(table, partitions));
        }
        SourceEvent::Revoked { partitions, ack } => {
            seen.revoked += partitions.len();
            seen.generations.retain(|tp, _| !partitions.contains(tp));
            let _ = ack.send(());
        }
        SourceEvent::Messages(messages) => {
            for message in messages {
                take(source, &message, table, seen);
            }
        }
        SourceEvent::EndOfPartition { tp, next_offset, generation } => {
            if seen.generations.get(&tp) == Some(&generation) {
                seen.ends.push((tp, next_offset));
            }
        }
        SourceEvent::Gap { gap, reply } => {
            let Gap { tp, stored, log_start, log_end, kind } = gap;
            let passes = table.passes_gaps.contains(&*tp.topic);
            if passes {
                table.next.insert(tp.clone(), NextOffset::at(log_start));
            }
            seen.gaps.push((tp, kind, [stored, log_start, log_end]));
            let _ = reply.send(if passes { GapDecision::GoOn } else { GapDecision::Stop });
        }
        SourceEvent::Fatal(reason) => seen.fatal.push(reason),
    }
}

fn starts(table: &Table, partitions: Vec<TopicPartition>) -> Starts {
    let start = |tp: TopicPartition| {
        let start = match table.next.get(&tp) {
            _ if table.silent.contains(&*tp.topic) => Err("the table does not answer".to_owned()),
            next => Ok(Start::of(&[next.copied()]).hold(table.held.contains(&*tp.topic))),
        };
        (tp, start)
    };
    partitions.into_iter().map(start).collect()
}

fn take(source: &mut KafkaSource, message: &Message, table: &mut Table, seen: &mut Seen) {
    let (tp, offset) = (message.tp.clone(), message.offset);
    if seen.generations.get(&tp) != Some(&message.generation) {
        source.consumed(message.weight());
        return;
    }
    seen.messages.push((tp.clone(), offset, message.generation));
    if table.holds {
        seen.held += message.weight();
        return;
    }
    source.consumed(message.weight());
    if table.next.get(&tp).is_some_and(|next| next.offset != offset) {
        table.misfits.push((tp.clone(), offset));
    }
    let next =
        NextOffset { fingerprint: Some(message.fingerprint()), ..NextOffset::at(offset + 1) };
    table.next.insert(tp, next);
}
