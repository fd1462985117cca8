//! Topics that are given more partitions.
//!
//! From then on a key's records may go to another partition than before, and those before it have to
//! be applied first. So partitions that were added wait until the table has passed, in those that
//! there were, the ends they had when every producer knew of the change. These ends are written down
//! beside the table by whoever is first, before any of the new partitions is read, so that all
//! processes go by the same ones, in this life and the next. Each number of partitions that a topic
//! has had is an era; those of one are never rewritten.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;
use std::time::{Duration, Instant};

use lakebed_schemas::position::TopicPartition;
use lakebed_sinks::storage::{PutOutcome, Storage};
use lakebed_sinks::{Error, Result};
use serde::{Deserialize, Serialize};
use tracing::{info, warn};

use crate::source::View;

/// Version of the stored form, refused where it is higher.
const VERSION: u32 = 1;

/// A number of partitions that a topic has or had, as it is written down.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct Era {
    /// Version of this form.
    v: u32,
    /// How many there are.
    partitions: i32,
    /// What comes before the records of partitions that are new in this era: next offsets in those
    /// that there were. Empty in the first.
    ends: BTreeMap<i32, i64>,
}

impl Era {
    fn new(partitions: i32, ends: BTreeMap<i32, i64>) -> Self {
        Self { v: VERSION, partitions, ends }
    }
}

/// What is known of one topic.
#[derive(Debug, Default)]
struct Topic {
    /// Written down, oldest first.
    eras: Vec<Era>,
    /// More partitions than the last era has, and since when they have been seen here.
    seen: Option<(i32, Instant)>,
}

impl Topic {
    /// The last era whose partitions wait for nothing, and those after it.
    fn eras(&self) -> &[Era] {
        let base = self.eras.iter().rposition(|era| era.ends.is_empty());
        &self.eras[base.unwrap_or(0)..]
    }

    /// Whether partitions of any era wait.
    fn waits(&self) -> bool {
        self.eras.last().is_some_and(|era| !era.ends.is_empty())
    }
}

/// Why a partition is not read yet.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Hold {
    /// It was added to its topic, and producers may not know of it.
    New,
    /// What lies in another partition comes first.
    Behind {
        /// Where.
        tp: TopicPartition,
        /// How far the table has to be there.
        end: i64,
    },
}

impl fmt::Display for Hold {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::New => f.write_str("until all producers know that it was added to its topic"),
            Self::Behind { tp, end } => write!(f, "until the table has passed {tp}@{end}"),
        }
    }
}

/// The eras of one table's topics.
pub(super) struct Eras {
    storage: Storage,
    /// How long producers may go on with the number of partitions that they knew.
    notice: Duration,
    topics: BTreeMap<Arc<str>, Topic>,
}

impl Eras {
    /// Nothing known yet, for the table that lies (or will lie) there.
    pub(super) fn new(storage: Storage, notice: Duration) -> Self {
        Self { storage, notice, topics: BTreeMap::new() }
    }

    /// Learns which eras a topic has had, and writes down the next one when it is time. `count`: how
    /// many partitions it has now; `read`: how many of them the table has read of, by the highest.
    ///
    /// # Errors
    /// `Unavailable` when storage or the brokers do not answer; `Corrupt` for an object that is none
    /// of ours.
    pub(super) async fn look(
        &mut self,
        topic: &Arc<str>,
        count: i32,
        read: Option<i32>,
        view: &dyn View,
    ) -> Result<()> {
        if count < 2 {
            // There is nothing to wait for, and the table's progress tells as much.
            return Ok(());
        }
        let mut known = self.topics.remove(topic).unwrap_or_default();
        let looked = self.look_on(topic, &mut known, count, read, view).await;
        self.topics.insert(topic.clone(), known);
        looked
    }

    async fn look_on(
        &self,
        topic: &Arc<str>,
        known: &mut Topic,
        count: i32,
        read: Option<i32>,
        view: &dyn View,
    ) -> Result<()> {
        loop {
            while let Some(era) = self.read(topic, known.eras.len()).await? {
                known.eras.push(era);
            }
            let last = known.eras.last().map(|era| era.partitions);
            let next = match (last, read) {
                // A table that was begun before there were eras, or with one partition.
                (None, Some(read)) => Era::new(read.min(count), BTreeMap::new()),
                (None, None) => Era::new(count, BTreeMap::new()),
                // No row is there that could be overtaken: the table was begun anew, perhaps.
                (Some(last), None) if last < count || known.waits() => {
                    Era::new(count, BTreeMap::new())
                }
                (Some(last), _) if last >= count => {
                    known.seen = None;
                    return Ok(());
                }
                (Some(last), _) => {
                    if !self.is_noticed(topic, known, last, count) {
                        return Ok(());
                    }
                    Era::new(count, ends_of(topic, last, view).await?)
                }
            };
            self.write(topic, known.eras.len(), next).await?;
        }
    }

    /// Whether every producer knows by now that a topic has more partitions.
    fn is_noticed(&self, topic: &str, known: &mut Topic, last: i32, count: i32) -> bool {
        let since = match known.seen {
            Some((seen, since)) if seen == count => since,
            _ => {
                info!(
                    topic,
                    before = last,
                    now = count,
                    table = self.storage.location(),
                    wait_s = self.notice.as_secs(),
                    "a topic has more partitions: those added wait until the table has passed \
                       what lies in the others"
                );
                if count % last != 0 {
                    warn!(
                        topic,
                        before = last,
                        now = count,
                        "the new number of partitions is no multiple of the one before: keys move \
                           between the partitions that there were, too, and nothing waits there"
                    );
                }
                known.seen.insert((count, Instant::now())).1
            }
        };
        since.elapsed() >= self.notice
    }

    /// Why a partition must not be read yet; `None`: it may. `stands`: how far the table is.
    pub(super) fn hold(
        &self,
        tp: &TopicPartition,
        stands: impl Fn(&TopicPartition) -> Option<i64>,
    ) -> Option<Hold> {
        let eras = self.topics.get(&tp.topic)?.eras();
        if eras.is_empty() {
            return None;
        }
        let Some(era) = eras.iter().find(|era| tp.partition < era.partitions) else {
            return Some(Hold::New);
        };
        era.ends.iter().find_map(|(partition, end)| {
            let other = TopicPartition::new(tp.topic.clone(), *partition);
            let is_behind = stands(&other).is_none_or(|next| next < *end);
            is_behind.then_some(Hold::Behind { tp: other, end: *end })
        })
    }

    /// Whether a partition was added to its topic while the table was kept.
    pub(super) fn is_added(&self, tp: &TopicPartition) -> bool {
        let first = self.topics.get(&tp.topic).and_then(|topic| topic.eras().first());
        first.is_some_and(|era| tp.partition >= era.partitions)
    }

    async fn read(&self, topic: &str, number: usize) -> Result<Option<Era>> {
        let path = path(topic, number);
        let Some(bytes) = self.storage.get(&path).await? else { return Ok(None) };
        let era = serde_json::from_slice(&bytes).ok().filter(|era: &Era| era.v <= VERSION);
        era.map(Some).ok_or_else(|| {
            let uri = self.storage.uri(&path);
            Error::corrupt(format!(
                "`{uri}` does not say how many partitions the topic had in a form that this release \
                 knows: upgrade lakebed if a newer one wrote it"
            ))
        })
    }

    /// Writes an era down, unless another process has; the caller reads what is there then.
    async fn write(&self, topic: &str, number: usize, era: Era) -> Result<()> {
        let text = serde_json::to_string(&era).expect("numbers are JSON");
        let path = path(topic, number);
        match self.storage.put_if_absent(&path, text).await? {
            PutOutcome::Created => Ok(()),
            PutOutcome::Exists | PutOutcome::Unknown(_) => match self.read(topic, number).await? {
                Some(_) => Ok(()),
                None => {
                    let uri = self.storage.uri(&path);
                    Err(Error::unavailable(format!("could not write `{uri}`")))
                }
            },
        }
    }
}

/// Where the first `count` partitions of a topic end now.
async fn ends_of(topic: &str, count: i32, view: &dyn View) -> Result<BTreeMap<i32, i64>> {
    let mut ends = view.ends(topic).await.map_err(Error::unavailable)?;
    ends.retain(|partition, _| *partition < count);
    if i32::try_from(ends.len()).is_ok_and(|found| found < count) {
        return Err(Error::unavailable(format!(
            "topic `{topic}`: the brokers do not say where its partitions end"
        )));
    }
    ends.retain(|_, end| *end > 0);
    Ok(ends)
}

/// Names of topics hold only letters, digits, `.`, `_` and `-`.
fn path(topic: &str, number: usize) -> String {
    format!("_lakebed/partitions/{topic}/{number}.json")
}

#[cfg(test)]
mod tests;
