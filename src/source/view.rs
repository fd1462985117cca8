//! What the cluster knows beside the log: ends of whole topics, and what the group was told.

use std::collections::{BTreeMap, BTreeSet};
use std::panic::{AssertUnwindSafe, catch_unwind};

use async_trait::async_trait;
use lakebed_schemas::config::Kafka;
use lakebed_schemas::position::TopicPartition;
use rdkafka::consumer::Consumer;
use rdkafka::{Offset, TopicPartitionList};

use super::client::{LOOKUP, group_client, metadata_client};
use super::{GroupOffset, View};

/// A look at the cluster from the side. Connects when it is asked: seldom, and only for partitions
/// of which the tables know nothing.
pub(super) struct KafkaView {
    kafka: Kafka,
    /// Topics that were there when the source was opened.
    known: BTreeSet<String>,
}

impl KafkaView {
    pub(super) fn new(kafka: &Kafka, known: Vec<String>) -> Self {
        Self { kafka: kafka.clone(), known: known.into_iter().collect() }
    }

    /// Does something with the settings on a thread that may wait.
    async fn ask<T: Send + 'static>(
        &self,
        what: impl FnOnce(&Kafka) -> Result<T, String> + Send + 'static,
    ) -> Result<T, String> {
        let kafka = self.kafka.clone();
        let asked = tokio::task::spawn_blocking(move || what(&kafka)).await;
        asked.map_err(|error| format!("a look-up at the brokers died: {error}"))?
    }
}

#[async_trait]
impl View for KafkaView {
    fn is_new(&self, topic: &str) -> bool {
        !self.known.contains(topic)
    }

    async fn ends(&self, topic: &str) -> Result<BTreeMap<i32, i64>, String> {
        let topic = topic.to_owned();
        self.ask(move |kafka| {
            let client = metadata_client(kafka)?;
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

    async fn group(&self, partitions: &[TopicPartition]) -> Result<Vec<GroupOffset>, String> {
        let mut asked = TopicPartitionList::new();
        for tp in partitions {
            asked.add_partition(&tp.topic, tp.partition);
        }
        self.ask(move |kafka| {
            let client = group_client(kafka)?;
            let told = client.committed_offsets(asked, LOOKUP).map_err(|error| {
                format!("could not look up the offsets of group `{}`: {error}", kafka.group_id)
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
