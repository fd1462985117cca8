//! Our progress inside a Delta table (stored format, version 1).
//!
//! The next offset of each topic-partition is an application transaction of its own, because those
//! are what every writer carries over: `lakebed/1/<sink>/<topic>/<partition>`, with `…/fp` for the
//! fingerprint and `…/from` for where what is remembered begins. The topics themselves stand in the table's properties.

use std::collections::BTreeMap;

use lakebed_schemas::position::{
    Checkpoint, CheckpointDelta, NextOffset, TopicPartition, TopicProgress,
};
use serde::{Deserialize, Serialize};

use super::actions::{Metadata, Txn};
use crate::log::TableOptions;
use crate::{Error, Result};

/// Table property: version of the stored format.
const FORMAT: &str = "lakebed.format";
/// Table property: whose progress the table holds.
const SINK: &str = "lakebed.sink_id";
/// Table property: the Kafka cluster's id.
const CLUSTER: &str = "lakebed.cluster";
/// Table property: what is known of each topic.
const TOPICS: &str = "lakebed.topics";
/// The version of the stored format that this module reads and writes.
const FORMAT_VERSION: u32 = 1;

#[derive(Serialize, Deserialize)]
struct StoredTopic {
    id: Option<String>,
    partitions: i32,
}

fn sink_prefix(sink: &str) -> String {
    format!("lakebed/{FORMAT_VERSION}/{sink}/")
}

/// What one of our application transactions says.
enum Mark {
    Next(TopicPartition, i64),
    Fingerprint(TopicPartition, Option<u64>),
    KnownFrom(TopicPartition, i64),
    Freshness(i64),
}

fn read_mark(txn: &Txn, sink: &str) -> Result<Option<Mark>> {
    let Some(rest) = txn.app_id.strip_prefix(&sink_prefix(sink)) else { return Ok(None) };
    let unknown = || {
        Error::invalid(format!(
            "the table holds progress `{}` of a form that this release does not know: upgrade lakebed",
            txn.app_id
        ))
    };
    let parts: Vec<&str> = rest.split('/').collect();
    let topic_partition = |topic: &str, partition: &str| {
        Ok(TopicPartition::new(topic, partition.parse().map_err(|_| unknown())?))
    };
    Ok(Some(match parts.as_slice() {
        ["freshness"] => Mark::Freshness(txn.version),
        [topic, partition] => Mark::Next(topic_partition(topic, partition)?, txn.version),
        [topic, partition, "fp"] => {
            let hash = Some(txn.version.cast_unsigned()).filter(|hash| *hash != 0);
            Mark::Fingerprint(topic_partition(topic, partition)?, hash)
        }
        [topic, partition, "from"] => {
            Mark::KnownFrom(topic_partition(topic, partition)?, txn.version)
        }
        _ => return Err(unknown()),
    }))
}

/// Takes over what `txns`, all of one version of the table, say.
pub(super) fn apply<'a>(
    txns: impl Iterator<Item = &'a Txn> + Clone,
    sink: &str,
    checkpoint: &mut Checkpoint,
    freshness: &mut Option<i64>,
) -> Result<()> {
    let (mut fingerprints, mut known_from) = (Vec::new(), Vec::new());
    for txn in txns {
        match read_mark(txn, sink)? {
            None => {}
            Some(Mark::Freshness(micros)) => *freshness = Some(micros),
            Some(Mark::Fingerprint(tp, hash)) => fingerprints.push((tp, hash)),
            Some(Mark::KnownFrom(tp, offset)) => known_from.push((tp, offset)),
            Some(Mark::Next(tp, offset)) => {
                let topic = checkpoint.topics.entry(tp.topic).or_default();
                topic.partition_count = topic.partition_count.max(tp.partition + 1);
                let stood = topic.next.get(&tp.partition).filter(|next| next.offset == offset);
                let known_from = stood.map_or(offset, |next| next.known_from);
                let next = NextOffset { known_from, ..NextOffset::at(offset) };
                topic.next.insert(tp.partition, next);
            }
        }
    }
    let mut at = |tp: &TopicPartition, change: &dyn Fn(&mut NextOffset)| {
        let topic = checkpoint.topics.get_mut(&tp.topic);
        topic.and_then(|topic| topic.next.get_mut(&tp.partition)).map(change);
    };
    fingerprints.iter().for_each(|(tp, hash)| at(tp, &|next| next.fingerprint = *hash));
    known_from.iter().for_each(|(tp, offset)| at(tp, &|next| next.known_from = *offset));
    Ok(())
}

/// Takes over what the table's properties say of its topics.
pub(super) fn apply_properties(
    metadata: &Metadata,
    sink: &str,
    checkpoint: &mut Checkpoint,
) -> Result<()> {
    let Some(owner) = metadata.property(SINK) else { return Ok(()) };
    if owner != sink {
        return Err(Error::invalid(format!(
            "stored progress belongs to sink id `{owner}`, this process is `{sink}`: set \
             lake.sink_id, or use another table"
        )));
    }
    let version = metadata.property(FORMAT).unwrap_or("1");
    if version.parse().ok().is_none_or(|version: u32| version > FORMAT_VERSION) {
        return Err(Error::invalid(format!(
            "the table has stored format {version}, this release reads up to {FORMAT_VERSION}: \
             upgrade lakebed"
        )));
    }
    let Some(topics) = metadata.property(TOPICS) else { return Ok(()) };
    let topics: BTreeMap<String, StoredTopic> = serde_json::from_str(topics).map_err(|e| {
        Error::corrupt(format!("table property `{TOPICS}` is not readable")).with_source(e)
    })?;
    for (name, stored) in topics {
        let topic = checkpoint.topics.entry(name.into()).or_default();
        topic.id = stored.id;
        topic.partition_count = topic.partition_count.max(stored.partitions);
    }
    Ok(())
}

/// Whose table this is, if it says so.
pub(super) fn owner(metadata: &Metadata) -> Option<&str> {
    metadata.property(SINK)
}

/// The application transactions that make `delta` and `freshness` stored.
pub(super) fn txns(delta: &CheckpointDelta, freshness: Option<i64>, sink: &str) -> Vec<Txn> {
    let prefix = sink_prefix(sink);
    let txn = |app_id: String, version: i64| Txn { app_id, version, last_updated: None };
    let mut txns = Vec::new();
    for (tp, range) in &delta.ranges {
        let app_id = format!("{prefix}{}/{}", tp.topic, tp.partition);
        // Zero stands for "none": one record in 2^64 has that hash, and is then not checked.
        let hash = range.fingerprint.unwrap_or(0).cast_signed();
        txns.push(txn(format!("{app_id}/fp"), hash));
        if range.end > range.start {
            txns.push(txn(format!("{app_id}/from"), range.known_from));
        }
        txns.push(txn(app_id, range.end));
    }
    txns.extend(freshness.map(|micros| txn(format!("{prefix}freshness"), micros)));
    txns
}

/// Writes identity and topics into a table's properties; says whether that changed them.
pub(super) fn write_properties(
    topics: &BTreeMap<std::sync::Arc<str>, TopicProgress>,
    options: &TableOptions,
    metadata: &mut Metadata,
) -> bool {
    let known: BTreeMap<String, StoredTopic> = metadata
        .property(TOPICS)
        .and_then(|text| serde_json::from_str(text).ok())
        .unwrap_or_default();
    let is_known = |(name, topic): (&std::sync::Arc<str>, &TopicProgress)| {
        known.get(&**name).is_some_and(|stored| stored.id == topic.id)
    };
    // Partition counts follow from the offsets: a new one alone is not worth a rewrite.
    if owner(metadata).is_some() && topics.iter().all(is_known) {
        return false;
    }
    let topics: BTreeMap<&str, StoredTopic> = topics
        .iter()
        .map(|(name, topic)| {
            (&**name, StoredTopic { id: topic.id.clone(), partitions: topic.partition_count })
        })
        .collect();
    let topics = serde_json::to_string(&topics).expect("names and numbers are JSON");
    let mut set = |key: &str, value: String| metadata.configuration.insert(key.into(), Some(value));
    set(FORMAT, FORMAT_VERSION.to_string());
    set(SINK, options.sink_id.clone());
    set(TOPICS, topics);
    if let Some(cluster) = &options.cluster {
        set(CLUSTER, cluster.clone());
    }
    true
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn offsets_and_fingerprints_read_back_and_other_sinks_are_passed_over() {
        let mut delta = CheckpointDelta::default();
        delta.extend(&TopicPartition::new("a.b-c", 11), 0, i64::MAX, Some(u64::MAX));
        delta.extend(&TopicPartition::new("a.b-c", 2), 5, 5, None);
        delta.extend(&TopicPartition::new("a.b-c", 3), 5, 9, None);
        delta.remember(|tp| (tp.partition == 3).then_some(2));
        let mut expected = Checkpoint::default();
        expected.apply(&delta);

        let mut stored = txns(&delta, Some(77), "lakebed");
        stored.push(Txn { app_id: "lakebed/1/other/t/0".into(), version: 3, last_updated: None });
        let (mut checkpoint, mut freshness) = (Checkpoint::default(), None);
        apply(stored.iter(), "lakebed", &mut checkpoint, &mut freshness).expect("reads");

        assert_eq!((checkpoint, freshness), (expected, Some(77)));
    }

    #[test]
    fn progress_of_a_newer_form_is_refused() {
        let newer =
            Txn { app_id: "lakebed/1/lakebed/t/0/g1".into(), version: 3, last_updated: None };

        let read = apply([newer].iter(), "lakebed", &mut Checkpoint::default(), &mut None);

        assert!(read.expect_err("refused").to_string().contains("upgrade lakebed"));
    }
}
