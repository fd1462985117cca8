//! Rows that the source deleted without telling: found when a whole snapshot has not read them.
//!
//! A snapshot that is repeated reads what is there now, and no event says what has gone since the one
//! before. Where every record of a snapshot was read in one partition, from its first to its last,
//! and none was set aside, the rows that were written last before its first record are no more. Where
//! anything about that is in doubt nothing goes.

use std::collections::BTreeMap;

use lakebed_schemas::change_event::ChangeEvent;
use lakebed_schemas::position::TopicPartition;
use lakebed_sinks::table::Sweep;
use serde::{Deserialize, Serialize};
use tracing::{info, warn};

/// What silver has taken of a partition, as far as snapshots go. Kept with the table.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
struct Reading {
    /// Offset of the first change; `None` before it.
    first: Option<i64>,
    /// Tables of the source that changes came from, two at most: with more than one, a snapshot
    /// tells nothing of the rows of the others.
    tables: Vec<u64>,
    /// The snapshot that is being read.
    open: Option<Snapshot>,
}

#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
struct Snapshot {
    /// Offset of its first record.
    start: i64,
    /// Why it does not tell what there is, if so.
    flaw: Option<Flaw>,
}

#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
enum Flaw {
    Beginning,
    SetAside,
    Gap,
}

impl Flaw {
    fn in_words(self) -> &'static str {
        match self {
            Self::Beginning => "its first record was not read",
            Self::SetAside => "records of it were set aside: replay them and take a new snapshot",
            Self::Gap => "records of it were gone before they were read",
        }
    }
}

/// The snapshots of one table's topics.
#[derive(Debug, Default)]
pub(super) struct Ghosts {
    /// Whether they are to be swept.
    asked: bool,
    readings: BTreeMap<TopicPartition, Reading>,
    sweeps: Vec<Sweep>,
}

/// Name of the memo of a partition.
fn memo(tp: &TopicPartition) -> String {
    format!("snapshot/{}/{}", tp.topic, tp.partition)
}

impl Ghosts {
    /// Sweeps if asked to; watches in any case, for it may be asked to later.
    pub(super) fn new(asked: bool) -> Self {
        Self { asked, ..Self::default() }
    }

    /// Takes over what silver tells of a partition. `stored`: whether it holds any of it.
    pub(super) fn load(
        &mut self,
        tp: &TopicPartition,
        memos: &BTreeMap<String, String>,
        stored: bool,
    ) {
        let told = memos.get(&memo(tp)).and_then(|text| serde_json::from_str(text).ok());
        // Without a word, rows may have been written by anyone before.
        let unknown = Reading { first: stored.then_some(-1), ..Reading::default() };
        self.readings.insert(tp.clone(), told.unwrap_or(unknown));
    }

    /// Forgets partitions, until they are loaded again.
    pub(super) fn forget(&mut self, partitions: &[TopicPartition]) {
        partitions.iter().for_each(|tp| drop(self.readings.remove(tp)));
    }

    /// Forgets all, and what was to be swept.
    pub(super) fn clear(&mut self) {
        (self.readings, self.sweeps) = Default::default();
    }

    /// What to keep with silver once it has taken a partition as far as it was read.
    pub(super) fn memo(&self, tp: &TopicPartition) -> Option<(String, String)> {
        let reading = self.readings.get(tp).filter(|reading| !reading.tables.is_empty())?;
        Some((memo(tp), serde_json::to_string(reading).expect("numbers are JSON")))
    }

    /// What goes with the batch that is closed now.
    pub(super) fn take_sweeps(&mut self) -> Vec<Sweep> {
        std::mem::take(&mut self.sweeps)
    }

    /// Takes a change that silver has taken. `partitions`: of its topic.
    pub(super) fn take(
        &mut self,
        tp: &TopicPartition,
        offset: i64,
        event: &ChangeEvent,
        partitions: usize,
    ) {
        if !self.readings.contains_key(tp) {
            self.readings.insert(tp.clone(), Reading::default());
        }
        let reading = self.readings.get_mut(tp).expect("inserted above");
        reading.first.get_or_insert(offset);
        let table = event.source.table;
        if reading.tables.len() < 2 && !reading.tables.contains(&table) {
            reading.tables.push(table);
        }
        match event.source.snapshot.as_deref() {
            // Changes are streamed again: whatever was read before has not told its end.
            None => reading.open = None,
            Some("incremental") => {}
            Some(mark) if mark.starts_with("first") => {
                reading.open = Some(Snapshot { start: offset, flaw: None });
            }
            Some(mark) if mark.starts_with("last") => {
                if let Some(snapshot) = reading.open.take() {
                    self.finish(tp, snapshot, partitions);
                }
            }
            Some(_) => {
                let unseen = Snapshot { start: offset, flaw: Some(Flaw::Beginning) };
                reading.open.get_or_insert(unseen);
            }
        }
    }

    /// A record was set aside: it may have been one of the snapshot.
    pub(super) fn set_aside(&mut self, tp: &TopicPartition) {
        self.flaw(tp, Flaw::SetAside);
    }

    /// Records were gone before they were read.
    pub(super) fn passed_gap(&mut self, tp: &TopicPartition) {
        self.flaw(tp, Flaw::Gap);
    }

    fn flaw(&mut self, tp: &TopicPartition, flaw: Flaw) {
        if let Some(snapshot) = self.readings.get_mut(tp).and_then(|r| r.open.as_mut()) {
            snapshot.flaw.get_or_insert(flaw);
        }
    }

    /// The snapshot is complete: what is older than it goes, if it tells what there is.
    fn finish(&mut self, tp: &TopicPartition, snapshot: Snapshot, partitions: usize) {
        let reading = &self.readings[tp];
        let nothing_older = reading.first.is_none_or(|first| first >= snapshot.start);
        if !self.asked || nothing_older {
            return;
        }
        let doubt = match (snapshot.flaw, reading.tables.len(), partitions) {
            (Some(flaw), ..) => flaw.in_words(),
            (None, 2.., _) => "the topic holds several tables of the source",
            (None, _, 1) => {
                info!(%tp, from = snapshot.start, "a whole snapshot has been read: rows that it did not \
                      find go");
                self.sweeps.push(Sweep { topic_partition: tp.clone(), below: snapshot.start });
                return;
            }
            (None, ..) => "its topic has several partitions, which do not tell when all was read",
        };
        warn!(%tp, from = snapshot.start, because = doubt,
              "no ghosts are swept after this snapshot: rows that the source has no more may stay");
    }
}

#[cfg(test)]
mod tests;
