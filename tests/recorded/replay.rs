//! Recorded topics as a source that goes on where the tables stand.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use async_trait::async_trait;
use lakebed::source::{GroupOffset, Message, Source, SourceEvent, SourceStats, Starts, View};
use lakebed_schemas::position::TopicPartition;
use tokio::sync::oneshot;

use super::recording::Recording;

/// Random numbers that a seed fixes (SplitMix64).
pub(super) struct Dice(u64);

impl Dice {
    pub(super) fn new(seed: u64) -> Self {
        Self(seed)
    }

    pub(super) fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    /// From 0 to `end`, which is left out.
    pub(super) fn below(&mut self, end: u64) -> u64 {
        self.next() % end.max(1)
    }
}

/// What the group has been told, over all runs.
type Group = Arc<Mutex<BTreeMap<TopicPartition, GroupOffset>>>;

/// The records by partition, in order.
pub(super) struct Topics {
    pub(super) logs: Arc<BTreeMap<TopicPartition, Vec<Message>>>,
}

impl Topics {
    /// Those of a recording whose table, as the topic spells it, is wanted.
    pub(super) fn new(recording: Recording, wanted: impl Fn(&str) -> bool) -> Self {
        let mut logs: BTreeMap<TopicPartition, Vec<Message>> = BTreeMap::new();
        for record in recording.records.into_iter().filter(|record| wanted(record.table())) {
            let tp = TopicPartition::new(record.topic.as_str(), record.partition);
            let log = logs.entry(tp.clone()).or_default();
            assert!(log.last().is_none_or(|last| last.offset < record.offset), "{tp} is in order");
            log.push(Message {
                tp,
                offset: record.offset,
                timestamp_ms: record.timestamp_ms,
                key: record.key,
                value: record.value,
                headers: record.headers,
                generation: 0,
            });
        }
        Self { logs: Arc::new(logs) }
    }

    pub(super) fn records(&self) -> usize {
        self.logs.values().map(Vec::len).sum()
    }

    /// The topic of a table.
    pub(super) fn topic(&self, table: &str) -> String {
        let ends = format!(".{}", super::recording::topic_name(table));
        let topic = self.logs.keys().find(|tp| tp.topic.ends_with(&ends));
        topic.unwrap_or_else(|| panic!("no topic of {table}")).topic.to_string()
    }
}

/// How far a partition has been handed out.
struct Position {
    generation: u64,
    /// Index of the next record.
    at: usize,
    end_told: bool,
}

/// A run's source.
pub(super) struct Replay {
    logs: Arc<BTreeMap<TopicPartition, Vec<Message>>>,
    dice: Dice,
    group: Group,
    generation: u64,
    to_assign: BTreeSet<TopicPartition>,
    asked: Option<(u64, oneshot::Receiver<Starts>)>,
    positions: BTreeMap<TopicPartition, Position>,
    /// How many records are handed out before `enough` is told and no more come.
    left: u64,
    enough: Option<oneshot::Sender<()>>,
}

impl Replay {
    pub(super) fn new(topics: &Topics, group: Group, seed: u64, stop: Option<Enough>) -> Self {
        let (left, enough) = match stop {
            Some(Enough { after, told }) => (after, Some(told)),
            None => (u64::MAX, None),
        };
        Self {
            logs: topics.logs.clone(),
            dice: Dice::new(seed),
            group,
            generation: 0,
            to_assign: topics.logs.keys().cloned().collect(),
            asked: None,
            positions: BTreeMap::new(),
            left,
            enough,
        }
    }

    fn assign(&mut self) -> SourceEvent {
        self.generation += 1;
        let (reply, answer) = oneshot::channel();
        self.asked = Some((self.generation, answer));
        let partitions = std::mem::take(&mut self.to_assign).into_iter().collect();
        SourceEvent::Assigned { generation: self.generation, partitions, reply }
    }

    fn begin(&mut self, generation: u64, starts: Starts) {
        for (tp, start) in starts {
            let Ok(start) = start else {
                self.to_assign.insert(tp);
                continue;
            };
            let log = &self.logs[&tp];
            let index = |offset| log.partition_point(|message| message.offset < offset);
            for next in &start.stored {
                let before = index(next.offset).checked_sub(1);
                let before = before.map(|before| log[before].fingerprint());
                assert_eq!(before, next.fingerprint, "{tp}@{} is another record", next.offset);
            }
            let at = index(start.first(log.first().map_or(0, |first| first.offset)));
            self.positions.insert(tp, Position { generation, at, end_told: false });
        }
    }

    /// Some records of some partitions, each in order.
    fn some(&mut self) -> Vec<Message> {
        let mut messages = Vec::new();
        for _ in 0..=self.dice.below(4) {
            let open: Vec<&TopicPartition> = self
                .positions
                .iter()
                .filter(|(tp, position)| position.at < self.logs[*tp].len())
                .map(|(tp, _)| tp)
                .collect();
            if open.is_empty() {
                break;
            }
            let tp = open[self.dice.below(open.len() as u64) as usize].clone();
            let count = (self.dice.below(40) + 1).min(self.left) as usize;
            let position = self.positions.get_mut(&tp).expect("it is open");
            let log = &self.logs[&tp];
            let end = (position.at + count).min(log.len());
            let taken = log[position.at..end].iter().cloned();
            let generation = position.generation;
            messages.extend(taken.map(|message| Message { generation, ..message }));
            self.left -= (end - position.at) as u64;
            position.at = end;
        }
        messages
    }

    /// A partition that has been handed out whole and whose end has not been told.
    fn ended(&mut self) -> Option<SourceEvent> {
        let (tp, position) = self
            .positions
            .iter_mut()
            .find(|(tp, position)| position.at == self.logs[*tp].len() && !position.end_told)?;
        position.end_told = true;
        let next_offset = self.logs[tp].last().map_or(0, |last| last.offset + 1);
        let generation = position.generation;
        Some(SourceEvent::EndOfPartition { tp: tp.clone(), next_offset, generation })
    }
}

/// When a source has given enough, and who wants to know.
pub(super) struct Enough {
    pub(super) after: u64,
    pub(super) told: oneshot::Sender<()>,
}

#[async_trait]
impl Source for Replay {
    async fn next(&mut self) -> Option<SourceEvent> {
        loop {
            if let Some((generation, answer)) = &mut self.asked {
                let generation = *generation;
                let starts = answer.await.expect("an assignment is answered");
                self.asked = None;
                self.begin(generation, starts);
            }
            if !self.to_assign.is_empty() {
                return Some(self.assign());
            }
            if self.left == 0 {
                if let Some(enough) = self.enough.take() {
                    let _ = enough.send(());
                }
                std::future::pending::<()>().await;
            }
            if self.dice.below(4) == 0 {
                tokio::time::sleep(Duration::from_millis(self.dice.below(4))).await;
            }
            if self.dice.below(2) == 0
                && let Some(end) = self.ended()
            {
                return Some(end);
            }
            let messages = self.some();
            if !messages.is_empty() {
                return Some(SourceEvent::Messages(messages));
            }
            match self.ended() {
                Some(end) => return Some(end),
                // Whoever waits for more than there is has enough, too.
                None if self.enough.is_some() => self.left = 0,
                None => std::future::pending().await,
            }
        }
    }

    fn commit_offsets(&mut self, offsets: Vec<GroupOffset>) {
        let mut group = self.group.lock().expect("lock");
        group.extend(offsets.into_iter().map(|offset| (offset.tp.clone(), offset)));
    }

    fn consumed(&mut self, _bytes: usize) {}

    fn held(&mut self, _bytes: usize) {}

    fn set_budget(&mut self, _bytes: usize) {}

    fn rewind(&mut self, partitions: &[TopicPartition]) {
        for tp in partitions {
            self.positions.remove(tp);
            self.to_assign.insert(tp.clone());
        }
    }

    fn stats(&self) -> SourceStats {
        SourceStats::default()
    }

    fn view(&self) -> Arc<dyn View> {
        Arc::new(Sight { logs: self.logs.clone(), group: self.group.clone() })
    }

    async fn close(&mut self) {}
}

/// The topics from the side.
struct Sight {
    logs: Arc<BTreeMap<TopicPartition, Vec<Message>>>,
    group: Group,
}

#[async_trait]
impl View for Sight {
    fn is_new(&self, _topic: &str) -> bool {
        false
    }

    async fn ends(&self, topic: &str) -> Result<BTreeMap<i32, i64>, String> {
        let logs = self.logs.iter().filter(|(tp, _)| &*tp.topic == topic);
        let end = |log: &Vec<Message>| log.last().map_or(0, |last| last.offset + 1);
        Ok(logs.map(|(tp, log)| (tp.partition, end(log))).collect())
    }

    async fn partitions(&self, topic: &str) -> Result<usize, String> {
        Ok(self.logs.keys().filter(|tp| &*tp.topic == topic).count())
    }

    async fn group(&self, partitions: &[TopicPartition]) -> Result<Vec<GroupOffset>, String> {
        let group = self.group.lock().expect("lock");
        Ok(partitions.iter().filter_map(|tp| group.get(tp)).cloned().collect())
    }
}
