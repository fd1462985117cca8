//! What the cluster knows beside the log: ends of whole topics, and what the group was told.

use std::collections::{BTreeMap, BTreeSet};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, Mutex};

use async_trait::async_trait;
use lakebed_schemas::config::Kafka;
use lakebed_schemas::position::TopicPartition;
use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::{Offset, TopicPartitionList};

use super::client::{LOOKUP, group_client, metadata_client};
use super::shared::lock;
use super::{GroupOffset, View};

/// A look at the cluster from the side. Connects when it is asked first: seldom, and only for
/// partitions of which the tables know nothing.
pub struct KafkaView {
    kafka: Kafka,
    /// Topics that were there when the source was opened.
    known: BTreeSet<String>,
    lookup: Kept,
    group: Kept,
}

/// A client, kept for the next question: many tables may ask at once.
type Kept = Arc<Mutex<Option<BaseConsumer>>>;

type Connect = fn(&Kafka) -> Result<BaseConsumer, String>;

impl KafkaView {
    /// `known` are the topics that are not new: see [`View::is_new`].
    pub fn new(kafka: &Kafka, known: Vec<String>) -> Self {
        let known = known.into_iter().collect();
        Self { kafka: kafka.clone(), known, lookup: Kept::default(), group: Kept::default() }
    }

    /// Asks with a kept client, on a thread that may wait.
    async fn ask<T: Send + 'static>(
        &self,
        kept: &Kept,
        connect: Connect,
        what: impl FnOnce(&BaseConsumer) -> Result<T, String> + Send + 'static,
    ) -> Result<T, String> {
        let (kept, kafka) = (kept.clone(), self.kafka.clone());
        let asked = tokio::task::spawn_blocking(move || {
            let mut kept = lock(&kept);
            let client = match kept.take() {
                Some(client) => client,
                None => connect(&kafka)?,
            };
            what(kept.insert(client))
        });
        asked.await.map_err(|error| format!("a look-up at the brokers died: {error}"))?
    }
}

#[async_trait]
impl View for KafkaView {
    fn is_new(&self, topic: &str) -> bool {
        !self.known.contains(topic)
    }

    async fn ends(&self, topic: &str) -> Result<BTreeMap<i32, i64>, String> {
        let topic = topic.to_owned();
        self.ask(&self.lookup, metadata_client, move |client| {
            let failed = |error| format!("topic `{topic}`: could not look up its ends: {error}");
            let metadata = client.fetch_metadata(Some(&topic), LOOKUP).map_err(failed)?;
            let found = metadata.topics().iter().find(|found| found.name() == topic);
            let partitions = found.map_or(&[][..], |topic| topic.partitions());
            let ends = partitions.iter().map(|partition| {
                let bounds = client.fetch_watermarks(&topic, partition.id(), LOOKUP);
                bounds.map(|(_, end)| (partition.id(), end)).map_err(failed)
            });
            ends.collect()
        })
        .await
    }

    async fn partitions(&self, topic: &str) -> Result<usize, String> {
        let topic = topic.to_owned();
        self.ask(&self.lookup, metadata_client, move |client| {
            let metadata = client.fetch_metadata(Some(&topic), LOOKUP).map_err(|error| {
                format!("topic `{topic}`: could not look up its partitions: {error}")
            })?;
            let found = metadata.topics().iter().find(|found| found.name() == topic);
            Ok(found.map_or(0, |topic| topic.partitions().len()))
        })
        .await
    }

    async fn group(&self, partitions: &[TopicPartition]) -> Result<Vec<GroupOffset>, String> {
        let mut asked = TopicPartitionList::new();
        for tp in partitions {
            asked.add_partition(&tp.topic, tp.partition);
        }
        let group = self.kafka.group_id.clone();
        self.ask(&self.group, group_client, move |client| {
            let told = client.committed_offsets(asked, LOOKUP).map_err(|error| {
                format!("could not look up the offsets of group `{group}`: {error}")
            })?;
            Ok(told.elements().iter().filter_map(told_of).collect())
        })
        .await
    }
}

fn told_of(
    element: &rdkafka::topic_partition_list::TopicPartitionListElem<'_>,
) -> Option<GroupOffset> {
    let Offset::Offset(offset) = element.offset() else { return None };
    // Others may have written what is no text, at which the client panics. It is none of ours.
    let metadata = catch_unwind(AssertUnwindSafe(|| element.metadata().to_owned())).ok()?;
    let tp = TopicPartition::new(element.topic(), element.partition());
    Some(GroupOffset { tp, offset, metadata: metadata.into() })
}
