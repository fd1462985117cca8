//! Where layers begin that hold nothing of a topic, and whether they should hold something.

use lakebed_schemas::position::TopicPartition;
use lakebed_sinks::Error;
use lakebed_sinks::log::Head;

use super::{Layers, Refusal};
use crate::group_metadata;
use crate::source::{GroupOffset, View};

impl Layers {
    /// Decides where to begin in topics of which a layer holds nothing, if not at the beginning.
    ///
    /// # Errors
    /// `Unavailable` when storage or the brokers do not answer.
    pub async fn decide_starts(
        &mut self,
        partitions: &[TopicPartition],
        view: &dyn View,
    ) -> Result<(), Error> {
        let bronze = self.bronze.as_ref().map(|table| &table.head().checkpoint);
        let silver = self.silver.as_ref().map(|table| &table.head().checkpoint);
        for (starts, checkpoint) in
            [(&mut self.bronze_starts, bronze), (&mut self.silver_starts, silver)]
        {
            let Some(starts) = starts else { continue };
            for tp in partitions {
                if checkpoint.and_then(|checkpoint| checkpoint.next(tp)).is_none() {
                    let topic = checkpoint.and_then(|checkpoint| checkpoint.topics.get(&tp.topic));
                    let has_progress = topic.is_some_and(|topic| !topic.next.is_empty());
                    starts.decide(&tp.topic, has_progress, view).await?;
                }
            }
        }
        Ok(())
    }

    /// Whether one of the layers is lost: see [`find_lost`].
    ///
    /// # Errors
    /// `Unavailable` when the brokers do not answer.
    pub async fn find_lost(
        &self,
        partitions: &[TopicPartition],
        view: &dyn View,
    ) -> Result<Option<Refusal>, Error> {
        let layers: Vec<_> =
            self.on().into_iter().map(|(place, head)| (place.name.as_str(), head)).collect();
        find_lost(&layers, partitions, view).await
    }
}

/// Whether the group was told of a layer's table, named `database.table`, that is not there any
/// more, in one of the partitions.
///
/// # Errors
/// `Unavailable` when the brokers do not answer.
pub async fn find_lost(
    layers: &[(&str, Option<&Head>)],
    partitions: &[TopicPartition],
    view: &dyn View,
) -> Result<Option<Refusal>, Error> {
    let holds = |head: &Option<&Head>, tp: &TopicPartition| {
        head.is_some_and(|head| head.checkpoint.next(tp).is_some())
    };
    let is_unknown = |tp: &&TopicPartition| layers.iter().any(|(_, head)| !holds(head, tp));
    let unknown: Vec<TopicPartition> = partitions.iter().filter(is_unknown).cloned().collect();
    if unknown.is_empty() {
        return Ok(None);
    }
    let told = view.group(&unknown).await.map_err(Error::unavailable)?;
    for GroupOffset { tp, offset, metadata } in told {
        for (name, head) in layers.iter().filter(|(_, head)| !holds(head, &tp)) {
            let Some(named) = group_metadata::uuid_of(&metadata, name) else { continue };
            // The same table without an offset was rolled back: it is the truth.
            if head.is_none_or(|head| head.uuid.to_string() != named) {
                return Ok(Some(lost(name, &named, &tp, offset)));
            }
        }
    }
    Ok(None)
}

fn lost(name: &str, named: &str, tp: &TopicPartition, offset: i64) -> Refusal {
    Refusal {
        what: format!(
            "the consumer group says that table `{name}` ({named}) holds {tp} up to offset \
             {offset}, and that table is not there"
        ),
        next_move: "restore it, check `lake.location` and `kafka.group_id`, or set \
                    `on_lost_table: start` to begin a new one where `start` says"
            .to_owned(),
    }
}
