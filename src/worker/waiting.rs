//! Records that wait for what is in another partition.
//!
//! The `c` of a key change may ask for values that only the row under the old key has, and that
//! row's events are in the old key's partition. So the `c` waits, and with it what follows it in its
//! own partition, until the `d` of the same change has been read. In the source's order every such
//! wait ends: of the changes that are waited for, the oldest waits for nothing. What repeats itself
//! unnoticed or is read by another process need not, so waiting is bounded in time and bytes.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::time::{Duration, Instant};

use lakebed_schemas::change_event::{ChangeEvent, Decoded};
use lakebed_schemas::position::TopicPartition;

use super::intake::Taken;
use super::repeats::Standing;
use crate::fold::RowMove;
use crate::source::Message;

/// Longest wait while other partitions of the topic are still being read.
const LONGEST: Duration = Duration::from_secs(600);

/// Longest wait for the other partitions of a topic to be given to this process.
const SETTLING: Duration = Duration::from_secs(30);

/// Most bytes that wait in one table.
const BYTES_MAX: usize = 32 << 20;

/// How often it is looked whether a wait is in vain.
const LOOK_EVERY: Duration = Duration::from_millis(50);

/// What became of a record.
pub(super) enum Pushed {
    /// It is in the open batch.
    Taken,
    /// It has to wait, and with it what follows in its partition.
    Waits(Box<Message>, Wait),
}

/// What is known of a record that has waited.
#[derive(Debug, Clone, Copy)]
pub(super) struct Resumed {
    /// Found out when it was first seen: it must not be asked for twice.
    pub(super) standing: Standing,
    /// It is taken as it is.
    pub(super) given_up: bool,
}

/// What has to be first.
#[derive(Debug)]
pub(super) enum Until {
    /// The row that left so is known.
    Departed(RowMove),
    /// All partitions of the topic are read here: they are while a group settles.
    AllRead,
}

/// What a record waits for.
#[derive(Debug)]
pub(super) struct Wait {
    pub(super) until: Until,
    pub(super) standing: Standing,
    /// Where the source made the change.
    pub(super) place: Option<SourcePlace>,
}

/// A place in a source's log.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct SourcePlace {
    writer: u64,
    position: String,
}

impl SourcePlace {
    /// Where a streamed change stands.
    pub(super) fn of(decoded: &Decoded) -> Option<Self> {
        let Decoded::Change(event) = decoded else { return None };
        let ChangeEvent { source, .. } = event.as_ref();
        let position = source.position.clone().filter(|_| source.snapshot.is_none())?;
        Some(Self { writer: source.writer, position })
    }

    /// Whether this is behind another place of the same log.
    fn is_behind(&self, other: &Self) -> bool {
        self.writer == other.writer && self.position > other.position
    }
}

/// Records of one partition, the first of which waits.
struct Lane {
    wait: Wait,
    offset: i64,
    records: VecDeque<Taken>,
    since: Instant,
    /// Since when nothing that is read can bring what it waits for.
    in_vain_since: Option<Instant>,
}

/// What a look at a wait needs to know.
pub(super) struct Outlook<'a> {
    /// Partitions that are read.
    pub(super) ours: &'a dyn Fn(&TopicPartition) -> Vec<TopicPartition>,
    /// Whether all partitions of the topic are among them.
    pub(super) has_all: &'a dyn Fn(&TopicPartition) -> bool,
    /// How far a partition has got.
    pub(super) seen: &'a dyn Fn(&TopicPartition) -> Option<SourcePlace>,
    /// How long to wait for what has been written and has not arrived, and for other processes.
    pub(super) patience: [Duration; 2],
}

/// The partitions of one table that wait.
#[derive(Default)]
pub(super) struct Waiting {
    lanes: BTreeMap<TopicPartition, Lane>,
    /// Partitions that were read to their end.
    ended: BTreeSet<TopicPartition>,
    /// What is known of records that go on, until they are taken.
    resumed: BTreeMap<TopicPartition, (i64, Resumed)>,
    bytes: usize,
    look_at: Option<Instant>,
}

impl Waiting {
    /// Whether nothing waits.
    pub(super) fn is_empty(&self) -> bool {
        self.lanes.is_empty()
    }

    /// Whether a partition waits, so that its next record does, too.
    pub(super) fn holds(&self, tp: &TopicPartition) -> bool {
        self.lanes.contains_key(tp)
    }

    /// The partitions that wait.
    pub(super) fn partitions(&self) -> impl Iterator<Item = &TopicPartition> {
        self.lanes.keys()
    }

    /// Has a record wait.
    pub(super) fn begin(&mut self, message: Message, wait: Wait) {
        let (tp, offset) = (message.tp.clone(), message.offset);
        self.bytes += message.weight();
        let records = VecDeque::from([Taken::Record(message)]);
        let since = Instant::now();
        self.look_at.get_or_insert(since + LOOK_EVERY);
        self.lanes.insert(tp, Lane { wait, offset, records, since, in_vain_since: None });
    }

    /// Has what comes next in a waiting partition wait as well.
    pub(super) fn add(&mut self, taken: Taken) {
        if let Taken::Record(message) = &taken {
            self.bytes += message.weight();
        }
        let lane = self.lanes.get_mut(taken.place().0);
        lane.expect("asked for by `holds`").records.push_back(taken);
    }

    /// Notes that a partition goes on.
    pub(super) fn goes_on(&mut self, tp: &TopicPartition) {
        if !self.ended.is_empty() {
            self.ended.remove(tp);
        }
    }

    /// Notes that a partition was read to its end.
    pub(super) fn ends(&mut self, tp: TopicPartition) {
        self.ended.insert(tp);
    }

    /// What is known of a record that has waited.
    pub(super) fn resume(&mut self, tp: &TopicPartition, offset: i64) -> Option<Resumed> {
        if self.resumed.is_empty() {
            return None;
        }
        let (at, _) = self.resumed.get(tp)?;
        if *at != offset {
            return None;
        }
        self.resumed.remove(tp).map(|(_, resumed)| resumed)
    }

    /// The records of a partition whose wait is over.
    pub(super) fn release(
        &mut self,
        has_come: impl Fn(&TopicPartition, &Wait) -> bool,
    ) -> Option<VecDeque<Taken>> {
        let mut over = self.lanes.iter().filter(|(tp, lane)| has_come(tp, &lane.wait));
        let tp = over.next()?.0.clone();
        Some(self.let_go(&tp, false))
    }

    fn let_go(&mut self, tp: &TopicPartition, given_up: bool) -> VecDeque<Taken> {
        let Some(lane) = self.lanes.remove(tp) else { return VecDeque::new() };
        let resumed = Resumed { standing: lane.wait.standing, given_up };
        self.resumed.insert(tp.clone(), (lane.offset, resumed));
        self.bytes -= weight(&lane.records);
        if self.lanes.is_empty() {
            self.look_at = None;
        }
        lane.records
    }

    /// When to look whether a wait is in vain.
    pub(super) fn look_at(&self) -> Option<Instant> {
        self.look_at
    }

    /// The partition whose wait is given up now, if any, the oldest in the source's log first; its
    /// records go on as they are.
    pub(super) fn look(
        &mut self,
        outlook: &Outlook<'_>,
    ) -> Option<(TopicPartition, VecDeque<Taken>)> {
        let now = Instant::now();
        self.look_at = (!self.lanes.is_empty()).then(|| now + LOOK_EVERY);
        let waiting: BTreeSet<TopicPartition> = self.lanes.keys().cloned().collect();
        let ended = &self.ended;
        let in_vain = self.lanes.iter_mut().filter_map(|(tp, lane)| {
            let is_in_vain = lane.is_in_vain(tp, now, &waiting, ended, outlook);
            is_in_vain.then(|| (lane.wait.place.as_ref().map(|place| &place.position), tp))
        });
        // What the others wait for may follow the oldest in its partition; what the oldest waits
        // for follows none of them.
        let mut given_up = in_vain.min().map(|(_, tp)| tp.clone());
        if given_up.is_none() && self.bytes > BYTES_MAX {
            let largest = self.lanes.iter().max_by_key(|(_, lane)| weight(&lane.records));
            given_up = largest.map(|(tp, _)| tp.clone());
        }
        let tp = given_up?;
        let records = self.let_go(&tp, true);
        Some((tp, records))
    }

    /// Whether bytes wait beyond the bound: looked at as records come.
    pub(super) fn is_overfull(&self) -> bool {
        self.bytes > BYTES_MAX
    }

    /// Notes that partitions are read anew.
    pub(super) fn begins(&mut self, partitions: &[TopicPartition]) {
        for tp in partitions {
            self.ended.remove(tp);
            self.resumed.remove(tp);
        }
    }

    /// Drops what is not `ours` any more, `is_read` telling of partitions; gives the bytes of its
    /// records.
    pub(super) fn shed(
        &mut self,
        ours: impl Fn(&Taken) -> bool,
        is_read: impl Fn(&TopicPartition) -> bool,
    ) -> usize {
        let before = self.bytes;
        self.lanes.retain(|_, lane| lane.records.front().is_some_and(&ours));
        for lane in self.lanes.values_mut() {
            lane.records.retain(&ours);
        }
        self.bytes = self.lanes.values().map(|lane| weight(&lane.records)).sum();
        self.resumed.retain(|tp, _| is_read(tp));
        self.ended.retain(|tp| is_read(tp));
        if self.lanes.is_empty() {
            self.look_at = None;
        }
        before - self.bytes
    }
}

impl Lane {
    fn is_in_vain(
        &mut self,
        tp: &TopicPartition,
        now: Instant,
        waiting: &BTreeSet<TopicPartition>,
        ended: &BTreeSet<TopicPartition>,
        outlook: &Outlook<'_>,
    ) -> bool {
        if let Until::AllRead = self.wait.until {
            return now >= self.since + SETTLING;
        }
        let ours = (outlook.ours)(tp);
        let has_passed = |other: &TopicPartition| {
            let seen = (outlook.seen)(other);
            seen.zip(self.wait.place.as_ref()).is_some_and(|(seen, place)| seen.is_behind(place))
        };
        let passed = ours.iter().filter(|other| has_passed(other)).count();
        let has_all = (outlook.has_all)(tp);
        if passed == ours.len() && has_all {
            return true;
        }
        let may_bring = |other: &TopicPartition| {
            !waiting.contains(other) && !ended.contains(other) && !has_passed(other)
        };
        if ours.iter().any(may_bring) && now < self.since + LONGEST {
            self.in_vain_since = None;
            return false;
        }
        let patience = outlook.patience[usize::from(!has_all)];
        now >= *self.in_vain_since.get_or_insert(now) + patience
    }
}

fn weight(records: &VecDeque<Taken>) -> usize {
    let weights = records.iter().map(|taken| match taken {
        Taken::Record(message) => message.weight(),
        Taken::End { .. } => 0,
    });
    weights.sum()
}
