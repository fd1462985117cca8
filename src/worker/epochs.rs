//! Which life of its source a record belongs to.
//!
//! Positions of a source begin anew when it is read anew, when another connector writes, or when its
//! log is another server's. Where the records themselves show that beyond doubt, a new epoch begins:
//! it stands in front of every position, and no change is compared with one of an epoch before.
//! Nothing is ever left out for it. What is found is kept with the tables from the commit of the
//! record that showed it, so that a record read again belongs where it belonged.

use std::collections::BTreeMap;

use lakebed_schemas::change_event::{ChangeEvent, SourceInfo};
use lakebed_schemas::position::TopicPartition;
use serde::{Deserialize, Serialize};
use tracing::warn;

/// Epochs, connectors and servers remembered of a partition, each.
const REMEMBERED_MAX: usize = 32;

/// Digits of the epoch in front of a position.
const EPOCH_DIGITS: usize = 8;

/// Where the first number of a position stands, behind epoch and lane, and how wide it is.
const FIRST_NUMBER: std::ops::Range<usize> = 10..26;

/// How much later than all that are remembered a change must have been made that is none of them:
/// servers tell the time of a statement's start, and that of others may be behind it.
const LATER_US: i64 = 60_000_000;

/// What shows that positions begin anew.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Evidence {
    /// A snapshot of the whole table after changes had been streamed.
    Snapshot,
    /// Another connector, by its kind or its `topic.prefix`.
    Connector,
    /// Changes of a server that was not heard of before, at lower places of the log.
    Server,
    /// Changes before all places that are remembered, made after all of them: no repeats.
    Log,
}

impl Evidence {
    /// Its name, for counts.
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Snapshot => "snapshot",
            Self::Connector => "connector",
            Self::Server => "server",
            Self::Log => "log",
        }
    }

    fn in_words(self) -> &'static str {
        match self {
            Self::Snapshot => "the whole table is read anew",
            Self::Connector => "another connector writes the topic, by its kind or `topic.prefix`",
            Self::Server => "changes of another server, at lower places of the log",
            Self::Log => "changes before all places of the log that are remembered, made later",
        }
    }
}

/// What is kept of a partition. It changes rarely: changes cost a line in the table's properties.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default)]
struct Life {
    /// Offset of the last record that changed anything here: up to there all has been judged.
    at: i64,
    /// The epochs that began: offset of the first record, and number.
    began: Vec<(i64, u32)>,
    /// Connectors that have written, the present one last.
    connections: Vec<u64>,
    /// Servers whose changes have come in this epoch.
    servers: Vec<u64>,
    /// Whether changes have been streamed since the last snapshot.
    streamed: bool,
    /// Several connectors write by turns: then none of them shows anything.
    shared: bool,
}

impl Default for Life {
    fn default() -> Self {
        Self {
            at: -1,
            began: Vec::new(),
            connections: Vec::new(),
            servers: Vec::new(),
            streamed: false,
            shared: false,
        }
    }
}

impl Life {
    fn epoch_at(&self, offset: i64) -> u32 {
        let begun = self.began.iter().rev().find(|(first, _)| *first <= offset);
        begun.map_or(0, |(_, epoch)| *epoch)
    }

    fn newest(&self) -> u32 {
        self.began.last().map_or(0, |(_, epoch)| *epoch)
    }
}

/// A partition as far as it has been read.
#[derive(Debug, Default)]
struct Partition {
    life: Life,
    /// Highest and lowest position streamed in this epoch, as far as this process has read.
    highest: Option<String>,
    lowest: Option<String>,
    /// When the latest of them was made, microseconds.
    latest: Option<i64>,
    /// Whether it has been said that positions go back.
    told: bool,
}

/// The partitions of one table.
#[derive(Debug, Default)]
pub(super) struct Epochs {
    partitions: BTreeMap<TopicPartition, Partition>,
}

/// What a record turned out to be.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) struct Judged {
    /// Whether it is the first of an epoch.
    pub(super) begins: bool,
    /// What showed that, where it was not known before.
    pub(super) found: Option<Evidence>,
    /// Whether its position lies before all that are remembered, for no reason that shows.
    pub(super) goes_back: bool,
}

/// Name of the memo of a partition.
fn memo(tp: &TopicPartition) -> String {
    format!("epochs/{}/{}", tp.topic, tp.partition)
}

fn read(tp: &TopicPartition, text: &str) -> Option<Life> {
    let told = |error: &serde_json::Error| {
        warn!(%tp, %error, "what the table tells of epochs is not readable");
    };
    serde_json::from_str(text).inspect_err(told).ok()
}

impl Epochs {
    /// Takes over what the tables tell of a partition: of two, whichever knows more. One that was
    /// added to its topic begins in the life that the others are in.
    pub(super) fn load(
        &mut self,
        tp: &TopicPartition,
        tables: [&BTreeMap<String, String>; 2],
        is_added: bool,
    ) {
        let own = memo(tp);
        let lives = tables.into_iter().filter_map(|memos| read(tp, memos.get(&own)?));
        let known = lives.max_by_key(|life: &Life| life.at);
        let life = known.or_else(|| {
            let prefix = own.strip_suffix(&tp.partition.to_string())?;
            let memos = tables.into_iter().flatten().filter(|_| is_added);
            let of_topic = memos.filter(|(name, _)| name.starts_with(prefix));
            let newest =
                of_topic.filter_map(|(_, text)| read(tp, text)).max_by_key(Life::newest)?;
            let began = Vec::from_iter((newest.newest() > 0).then(|| (0, newest.newest())));
            Some(Life { at: 0, began, ..newest })
        });
        let life = life.unwrap_or_default();
        self.partitions.insert(tp.clone(), Partition { life, ..Partition::default() });
    }

    /// Forgets partitions, until they are loaded again.
    pub(super) fn forget(&mut self, partitions: &[TopicPartition]) {
        partitions.iter().for_each(|tp| drop(self.partitions.remove(tp)));
    }

    /// Forgets all.
    pub(super) fn clear(&mut self) {
        self.partitions.clear();
    }

    /// What to keep with a table that has taken a partition as far as it was read; `None` where
    /// there is nothing to tell.
    pub(super) fn memo(&self, tp: &TopicPartition) -> Option<(String, String)> {
        let life = &self.partitions.get(tp)?.life;
        let text = serde_json::to_string(life).expect("numbers are JSON");
        (life.at >= 0).then(|| (memo(tp), text))
    }

    /// Judges the next record of a partition, and puts its epoch in front of its position.
    pub(super) fn see(
        &mut self,
        tp: &TopicPartition,
        offset: i64,
        event: &mut ChangeEvent,
    ) -> Judged {
        if !self.partitions.contains_key(tp) {
            self.partitions.insert(tp.clone(), Partition::default());
        }
        let partition = self.partitions.get_mut(tp).expect("inserted above");
        let found = partition.judge(tp, offset, &event.source);
        let partition = match found {
            None => partition,
            Some(evidence) => {
                let of_topic = self.partitions.iter().filter(|(other, _)| other.topic == tp.topic);
                let newest = of_topic.map(|(_, other)| other.life.newest()).max().unwrap_or(0);
                let partition = self.partitions.get_mut(tp).expect("judged above");
                partition.begin(tp, offset, newest, evidence);
                partition
            }
        };
        let begins = partition.life.began.iter().any(|(first, _)| *first == offset);
        let goes_back = partition.follow(&event.source, begins);
        stamp(event, partition.life.epoch_at(offset));
        Judged { begins, found, goes_back }
    }
}

impl Partition {
    /// What the record shows, if it is the first to show it; notes who wrote it.
    fn judge(&mut self, tp: &TopicPartition, offset: i64, source: &SourceInfo) -> Option<Evidence> {
        let is_incremental = source.snapshot.as_deref() == Some("incremental");
        if offset <= self.life.at || is_incremental {
            return None;
        }
        let life = &mut self.life;
        let (mut found, mut changed) = (None, true);
        match life.connections.iter().position(|known| *known == source.connection) {
            Some(at) if at + 1 == life.connections.len() => changed = false,
            None => {
                found = (!life.connections.is_empty()).then_some(Evidence::Connector);
                remember(&mut life.connections, source.connection);
            }
            Some(_) if life.shared => changed = false,
            Some(_) => {
                life.shared = true;
                warn!(%tp, offset, "two connectors write into this topic: their positions are not \
                       compared, and none shows any more that the source begins anew; give each \
                       its own `topic.prefix`");
            }
        }
        if source.snapshot.is_some() {
            found = found.or(life.streamed.then_some(Evidence::Snapshot));
            changed |= std::mem::replace(&mut life.streamed, false);
        } else {
            changed |= !std::mem::replace(&mut life.streamed, true);
            if let Some(server) = source.server.filter(|server| !life.servers.contains(server)) {
                let back = source.position.as_ref().zip(self.highest.as_ref());
                let is_back = back.is_some_and(|(position, highest)| position < highest);
                found = found.or((is_back && !life.servers.is_empty()).then_some(Evidence::Server));
                remember(&mut life.servers, server);
                changed = true;
            }
            let is_anew = self.shows_another_log(source);
            found = found.or(is_anew.then_some(Evidence::Log));
            changed |= is_anew;
        }
        let life = &mut self.life;
        if changed {
            life.at = offset;
        }
        found.filter(|_| !life.shared)
    }

    /// Whether a streamed change lies before all that are remembered of the source's log and was made
    /// after all of them. A repeat, however long, was made when it was made.
    fn shows_another_log(&self, source: &SourceInfo) -> bool {
        let place = place_of(source).zip(self.lowest.as_deref());
        let time = source.ts_us.zip(self.latest);
        place.is_some_and(|(position, lowest)| position < lowest)
            && time.is_some_and(|(made, latest)| made > latest.saturating_add(LATER_US))
    }

    /// Begins an epoch: the next, or the one that other partitions of the topic are in already.
    fn begin(&mut self, tp: &TopicPartition, offset: i64, of_topic: u32, evidence: Evidence) {
        let epoch = of_topic.max(self.life.newest().saturating_add(1));
        self.life.servers.drain(..self.life.servers.len().saturating_sub(1));
        remember(&mut self.life.began, (offset, epoch));
        warn!(%tp, offset, epoch, because = evidence.in_words(),
              "the source begins anew: positions from here on are not compared with those before");
    }

    /// Notes how far positions have come; says, once, that they have gone back behind all that is
    /// known.
    fn follow(&mut self, source: &SourceInfo, begins: bool) -> bool {
        if begins {
            (self.highest, self.lowest, self.latest, self.told) = (None, None, None, false);
        }
        let Some(position) = place_of(source).filter(|_| !self.life.shared) else { return false };
        self.latest = self.latest.max(source.ts_us);
        if self.highest.as_deref().is_none_or(|highest| highest < position) {
            replace(&mut self.highest, position);
        }
        let is_lowest = self.lowest.as_deref().is_none_or(|lowest| position < lowest);
        let goes_back = is_lowest && self.lowest.is_some();
        if is_lowest {
            replace(&mut self.lowest, position);
        }
        goes_back && !std::mem::replace(&mut self.told, true)
    }
}

/// Where a streamed change stands, if that can be compared.
fn place_of(source: &SourceInfo) -> Option<&str> {
    let position = source.position.as_deref().filter(|_| source.snapshot.is_none())?;
    // PostgreSQL's connector does not know the last commit when it has just been started.
    let first_number = position.get(FIRST_NUMBER).unwrap_or_default();
    (!first_number.bytes().all(|digit| digit == b'0')).then_some(position)
}

/// Without a new allocation for each record.
fn replace(slot: &mut Option<String>, text: &str) {
    match slot {
        Some(held) => {
            held.clear();
            held.push_str(text);
        }
        None => *slot = Some(text.to_owned()),
    }
}

fn remember<T>(list: &mut Vec<T>, item: T) {
    if list.len() >= REMEMBERED_MAX {
        list.remove(0);
    }
    list.push(item);
}

/// Adds epochs to the configured one, in front of a position.
fn stamp(event: &mut ChangeEvent, epochs: u32) {
    let Some(position) = event.source.position.as_mut().filter(|_| epochs > 0) else { return };
    let configured = position.get(..EPOCH_DIGITS).and_then(|hex| u32::from_str_radix(hex, 16).ok());
    if let Some(configured) = configured {
        let epoch = configured.saturating_add(epochs);
        position.replace_range(..EPOCH_DIGITS, &format!("{epoch:08x}"));
    }
}

/// Gives a record the epoch that a table has noted for its place.
pub(crate) fn stamp_as_noted(
    memos: &BTreeMap<String, String>,
    tp: &TopicPartition,
    offset: i64,
    event: &mut ChangeEvent,
) {
    let life = memos.get(&memo(tp)).and_then(|text| serde_json::from_str::<Life>(text).ok());
    stamp(event, life.map_or(0, |life| life.epoch_at(offset)));
}

#[cfg(test)]
mod tests;
