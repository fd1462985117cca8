//! Replays what bronze has set aside: decodes it again and applies it to silver where silver knows
//! nothing newer of the key.
//!
//! Nothing is read from Kafka and nothing is written to it, and no offset moves. Each commit fences
//! itself: it names, without moving it, the offset at which silver stands in every partition
//! concerned, and applies only where the head still stands there. What was found out before (which
//! row a key has, that no later event took it) is true for that head; where a running service has
//! moved on, it is found out anew. The service in turn catches up with the new version as with any
//! other's. Invariant: after a replay a second one changes nothing.

mod aside;
mod later;

use std::collections::{BTreeMap, HashSet};
use std::sync::Arc;

use lakebed_schemas::change_event::{Decoded, Op, Row};
use lakebed_schemas::decoder::{Decoder, NEW_KEY};
use lakebed_schemas::position::{Checkpoint, CheckpointDelta, TopicPartition};
use lakebed_schemas::value::{Value, key_hash};
use lakebed_sinks::Error;
use lakebed_sinks::log::TableLog;
use lakebed_sinks::table::upsert::UpsertTable;
use lakebed_sinks::table::{UpsertBatch, Written};

use crate::registry::{Answer, Registry};
use crate::source::Message;
use crate::worker::{Place, Refused, SilverRows, stamp_as_noted};
use aside::Aside;
use later::{Later, Moment};

/// Records applied with one commit, and their bytes.
const CHUNK_RECORDS: usize = 10_000;
const CHUNK_BYTES: usize = 32 << 20;

/// How often a chunk is looked at anew because the table has moved on.
const ATTEMPTS: usize = 5;

/// What became of the records that were set aside.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Tally {
    /// Set aside, in all.
    pub found: u64,
    /// Applied to silver.
    pub applied: u64,
    /// Silver holds something newer of their keys, or a later event took the row.
    pub superseded: u64,
    /// Silver has not come to them: the service will decide.
    pub not_passed: u64,
    /// Bronze does not have their bytes: columns were left out or masked.
    pub without_bytes: u64,
    /// Still not understood, or not fit for the table.
    pub refused: u64,
    /// Nothing for silver: no key, or no change of a row.
    pub without_row: u64,
    /// Place and reason of the first records that were refused.
    pub reasons: Vec<(TopicPartition, i64, String)>,
}

/// Refusals told one by one.
const REASONS_MAX: usize = 20;

impl Tally {
    fn refuse(&mut self, message: &Message, reason: String) {
        self.refused += 1;
        if self.reasons.len() < REASONS_MAX {
            self.reasons.push((message.tp.clone(), message.offset, reason));
        }
    }
}

/// The two layers of a table entry, and how its records are read.
pub struct Replay {
    /// The log of bronze.
    pub bronze: Box<dyn TableLog>,
    /// Silver.
    pub silver: UpsertTable,
    /// Reads records as the service would.
    pub decoder: Decoder,
    /// Turns them into rows as the service would.
    pub rows: SilverRows,
    /// Where their schemas are, if anywhere.
    pub registry: Option<Arc<Registry>>,
    /// Find out, and apply nothing.
    pub dry_run: bool,
}

/// A record that was set aside and is understood now.
struct Ready {
    message: Message,
    decoded: Decoded,
    /// Of silver.
    key: Vec<Value>,
    /// Hash of the record key; `None` where it has none.
    record_key: Option<u128>,
    deletes: bool,
}

impl Replay {
    /// Replays everything that bronze has set aside.
    ///
    /// # Errors
    /// When a table cannot be read or written, and when silver is committed to all the time.
    pub async fn run(&mut self) -> Result<Tally, Error> {
        let mut tally = Tally::default();
        let deletes = self.deletes_aside().await?;
        let mut reader = aside::Reader::open(self.bronze.as_ref())?;
        let (mut chunk, mut bytes) = (Vec::new(), 0);
        while let Some(record) = reader.next().await? {
            tally.found += 1;
            let Aside { message, has_bytes, .. } = record;
            if !has_bytes {
                tally.without_bytes += 1;
                continue;
            }
            bytes += message.weight();
            chunk.push(message);
            if chunk.len() >= CHUNK_RECORDS || bytes >= CHUNK_BYTES {
                self.chunk(std::mem::take(&mut chunk), &deletes, &mut tally).await?;
                bytes = 0;
            }
        }
        self.chunk(chunk, &deletes, &mut tally).await?;
        Ok(tally)
    }

    /// Deletes among what was set aside: they supersede what lies before them, applied or not.
    async fn deletes_aside(&mut self) -> Result<Later, Error> {
        let mut deletes = Later::default();
        let mut reader = aside::Reader::open(self.bronze.as_ref())?;
        while let Some(Aside { message, has_bytes, .. }) = reader.next().await? {
            if !has_bytes {
                continue;
            }
            let decoded = self.decode(&message).await;
            if let (true, Some(key)) = (deletes_row(&decoded), record_key(&decoded)) {
                deletes.see_key(&message, key, Moment::of(&message, &decoded));
            }
        }
        Ok(deletes)
    }

    /// Understands a record, with what the registry says.
    async fn decode(&mut self, message: &Message) -> Decoded {
        let headers = message.header_refs();
        let record = message.record(&headers);
        if let Some(registry) = &self.registry {
            for id in self.decoder.missing_schemas(&record) {
                match registry.fetch(id).await {
                    Answer::Found(schema) => self.decoder.learn(id, &schema),
                    Answer::Absent(reason) => self.decoder.refuse(id, reason),
                }
            }
        }
        let mut decoded = self.decoder.decode(&record);
        if let Decoded::Change(event) = &mut decoded {
            stamp_as_noted(&self.silver.head().memos, &message.tp, message.offset, event);
        }
        decoded
    }

    async fn chunk(
        &mut self,
        mut messages: Vec<Message>,
        deletes: &Later,
        tally: &mut Tally,
    ) -> Result<(), Error> {
        if messages.is_empty() {
            return Ok(());
        }
        // Each partition in its own order; what comes first across them does not matter.
        messages.sort_by(|a, b| (&a.tp, a.offset).cmp(&(&b.tp, b.offset)));
        for _ in 0..ATTEMPTS {
            self.silver.refresh().await?;
            let checkpoint = self.silver.checkpoint().clone();
            // Loaded after silver: it has to show every event that this silver holds.
            self.bronze.refresh().await?;
            self.bronze_is_ahead(&checkpoint, &messages)?;
            let mut counted = tally.clone();
            if self.attempt(&messages, deletes, &checkpoint, &mut counted).await? {
                *tally = counted;
                return Ok(());
            }
        }
        Err(Error::unavailable(
            "silver was committed to all the time while records were looked up: stop `lakebed run` \
             for this table, or try again when its topics are quiet",
        ))
    }

    fn bronze_is_ahead(&self, silver: &Checkpoint, messages: &[Message]) -> Result<(), Error> {
        let bronze = &self.bronze.head().checkpoint;
        let next = |checkpoint: &Checkpoint, tp| checkpoint.next(tp).map(|next| next.offset);
        for message in messages {
            let tp = &message.tp;
            if next(silver, tp) > next(bronze, tp) {
                return Err(Error::unavailable(format!(
                    "{tp}: silver stands at a later offset than bronze, which has to tell what came \
                     after a record: let `lakebed run` catch up, then try again"
                )));
            }
        }
        Ok(())
    }

    /// One look at the tables and one commit; false where silver has moved meanwhile.
    async fn attempt(
        &mut self,
        messages: &[Message],
        deletes: &Later,
        checkpoint: &Checkpoint,
        tally: &mut Tally,
    ) -> Result<bool, Error> {
        self.rows.reset(Some(self.silver.head().schema.clone()));
        self.rows.recall(&self.silver.head().memos);
        let ready = self.ready(messages, checkpoint, tally).await;
        let wanted = self.wanted(ready, deletes, tally).await?;
        let mut delta = CheckpointDelta::default();
        for Ready { message, decoded, .. } in wanted {
            let place = Place { tp: &message.tp, offset: message.offset };
            let pushed = match &decoded {
                Decoded::Change(event) => {
                    let key_changes = message.headers.iter().any(|(name, _)| name == NEW_KEY);
                    self.rows.push(place, event, key_changes)
                }
                Decoded::Tombstone { key } => self.rows.push_tombstone(place, key.as_ref()),
                _ => Ok(()),
            };
            match pushed {
                Ok(()) => {
                    tally.applied += 1;
                    if let Some(next) = checkpoint.next(&message.tp) {
                        delta.extend(&message.tp, next.offset, next.offset, next.fingerprint);
                    }
                }
                Err(Refused::Record(reason) | Refused::Table(reason)) => {
                    tally.refuse(&message, reason);
                }
            }
        }
        let changes = self.rows.seal().changes;
        if changes.is_empty() || self.dry_run {
            return Ok(true);
        }
        let (schema, memos) = (self.rows.schema().cloned().unwrap_or_default(), self.rows.memos());
        let batch = UpsertBatch { schema, changes, delta, memos, ..UpsertBatch::default() };
        Ok(matches!(self.silver.write(batch).await?, Written::Committed { .. }))
    }

    /// The records that are understood now and concern a row that silver has come to.
    async fn ready(
        &mut self,
        messages: &[Message],
        checkpoint: &Checkpoint,
        tally: &mut Tally,
    ) -> Vec<Ready> {
        let mut ready = Vec::new();
        for message in messages {
            if checkpoint.next(&message.tp).is_none_or(|next| message.offset >= next.offset) {
                tally.not_passed += 1;
                continue;
            }
            let decoded = self.decode(message).await;
            let place = Place { tp: &message.tp, offset: message.offset };
            let key = match &decoded {
                Decoded::Malformed { reason } => {
                    tally.refuse(message, reason.clone());
                    continue;
                }
                decoded => self.rows.key_of(place, decoded),
            };
            match key {
                Ok(Some(key)) => ready.push(Ready {
                    message: message.clone(),
                    key,
                    record_key: record_key(&decoded),
                    deletes: deletes_row(&decoded),
                    decoded,
                }),
                Ok(None) => tally.without_row += 1,
                Err(Refused::Record(reason) | Refused::Table(reason)) => {
                    tally.refuse(message, reason);
                }
            }
        }
        ready
    }

    /// Those of which silver knows nothing newer.
    async fn wanted(
        &mut self,
        ready: Vec<Ready>,
        deletes: &Later,
        tally: &mut Tally,
    ) -> Result<Vec<Ready>, Error> {
        let keys: Vec<Vec<Value>> = ready.iter().map(|ready| ready.key.clone()).collect();
        let columns = ["_cdc_topic", "_cdc_partition", "_cdc_offset"];
        let stored = self.silver.rows_of(&keys, &columns).await?;
        let absent = ready.iter().zip(&stored).filter(|(_, stored)| stored.is_none());
        let absent: Vec<&Ready> = absent.map(|(ready, _)| ready).collect();
        let later = self.taken_later(&absent).await?;
        let mut wanted = Vec::new();
        for (ready, stored) in ready.into_iter().zip(stored) {
            let newer = match stored {
                Some(row) => !is_older(&row, &ready.message.tp, ready.message.offset),
                // There is nothing to delete.
                None if ready.deletes => true,
                None => ready.record_key.is_none_or(|key| {
                    let made = Moment::of(&ready.message, &ready.decoded);
                    let taken = |by: &Later| by.takes(&ready.message, key, &made);
                    taken(&later) || taken(deletes)
                }),
            };
            if newer {
                tally.superseded += 1;
            } else {
                wanted.push(ready);
            }
        }
        Ok(wanted)
    }

    /// For records whose row is not there: the last good records of the same record key, and the
    /// last truncates.
    async fn taken_later(&mut self, absent: &[&Ready]) -> Result<Later, Error> {
        let mut first: BTreeMap<TopicPartition, i64> = BTreeMap::new();
        let mut wanted: HashSet<(Arc<str>, u128)> = HashSet::new();
        for ready in absent {
            let (Message { tp, offset, .. }, Some(key)) = (&ready.message, ready.record_key) else {
                continue;
            };
            let least = first.entry(tp.clone()).or_insert(*offset);
            *least = (*offset).min(*least);
            wanted.insert((tp.topic.clone(), key));
        }
        let mut later = Later::default();
        if first.is_empty() {
            return Ok(later);
        }
        let topics: HashSet<Arc<str>> = first.keys().map(|tp| tp.topic.clone()).collect();
        let mut reader = aside::Reader::good_keys(self.bronze.as_ref())?;
        while let Some(Aside { message, repeated, truncates, position, .. }) = reader.next().await?
        {
            // What the source had sent before has done nothing where it came again.
            let is_before_all =
                first.get(&message.tp).is_some_and(|first| message.offset <= *first);
            if repeated || is_before_all || !topics.contains(&message.tp.topic) {
                continue;
            }
            if truncates && self.rows.follows_truncates() {
                later.see_truncate(&message, Moment::at(&message, position));
            } else if let Some(key) = record_key(&self.decode(&message).await)
                && wanted.contains(&(message.tp.topic.clone(), key))
            {
                later.see_key(&message, key, Moment::at(&message, position));
            }
        }
        Ok(later)
    }
}

/// Whether the row in silver was written by an earlier record. Rows of other partitions do not
/// compare, and stay.
fn is_older(row: &[Value], tp: &TopicPartition, offset: i64) -> bool {
    match row {
        [Value::Text(topic), Value::Long(partition), Value::Long(stored)] => {
            **topic == *tp.topic && *partition == i64::from(tp.partition) && *stored < offset
        }
        _ => false,
    }
}

fn deletes_row(decoded: &Decoded) -> bool {
    match decoded {
        Decoded::Change(event) => event.op == Op::Delete,
        Decoded::Tombstone { .. } => true,
        _ => false,
    }
}

/// Of the record key as typed values: one key may stand in several forms.
fn record_key(decoded: &Decoded) -> Option<u128> {
    let key: &Row = match decoded {
        Decoded::Change(event) => event.key.as_ref()?,
        Decoded::Tombstone { key } => key.as_ref()?,
        _ => return None,
    };
    Some(key_hash(&key.values))
}

/// Whether any record of this bronze version is set aside: a topic of one, to know the entry by.
///
/// # Errors
/// When bronze cannot be read.
pub async fn first_topic(bronze: &dyn TableLog) -> Result<Option<Arc<str>>, Error> {
    let mut reader = aside::Reader::open(bronze)?;
    Ok(reader.next().await?.map(|aside| aside.message.tp.topic))
}

#[cfg(test)]
mod tests;
