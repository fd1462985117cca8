//! Where a layer begins in topics of which it holds nothing, if not at the beginning.
//!
//! With `start: latest` the end of the log moves on, so the choice is made once for each layer and
//! topic and written down beside the table before anything is read: a restart before the first
//! commit, which is what makes the progress the table's own, must not begin at a later end. It goes
//! away with the table's folder.

use std::collections::BTreeMap;
use std::sync::Arc;

use lakebed_schemas::position::{Checkpoint, NextOffset, TopicPartition};
use lakebed_sinks::storage::{PutOutcome, Storage};
use lakebed_sinks::{Error, Result};
use tracing::info;

use crate::source::View;

/// The chosen starts of one layer.
pub(super) struct LateStarts {
    storage: Storage,
    sink_id: String,
    /// Topics that are decided.
    chosen: BTreeMap<Arc<str>, Checkpoint>,
}

impl LateStarts {
    /// Nothing decided yet, for the layer that lies (or will lie) there.
    pub(super) fn new(storage: Storage, sink_id: String) -> Self {
        Self { storage, sink_id, chosen: BTreeMap::new() }
    }

    /// Where to begin; `None`: at the beginning.
    pub(super) fn next(&self, tp: &TopicPartition) -> Option<NextOffset> {
        self.chosen.get(&tp.topic)?.next(tp)
    }

    /// Decides where to begin in a topic, or learns what was decided. Partitions that are added
    /// later, topics that turn up while running, and topics of which the layer holds a part
    /// already, begin at the beginning.
    ///
    /// # Errors
    /// `Unavailable` when storage or the brokers do not answer.
    pub(super) async fn decide(
        &mut self,
        topic: &Arc<str>,
        has_progress: bool,
        view: &dyn View,
    ) -> Result<()> {
        if self.chosen.contains_key(topic) {
            return Ok(());
        }
        let chosen = match self.read(topic).await? {
            Some(chosen) => chosen,
            None if has_progress => Checkpoint::default(),
            None => self.choose(topic, view).await?,
        };
        self.chosen.insert(topic.clone(), chosen);
        Ok(())
    }

    async fn choose(&self, topic: &Arc<str>, view: &dyn View) -> Result<Checkpoint> {
        let mut ends = BTreeMap::new();
        if !view.is_new(topic) {
            ends = view.ends(topic).await.map_err(Error::unavailable)?;
        }
        let mut chosen = Checkpoint::default();
        let progress = chosen.topics.entry(topic.clone()).or_default();
        for (partition, offset) in ends {
            progress.partition_count = progress.partition_count.max(partition + 1);
            progress.next.insert(partition, NextOffset::at(offset));
        }
        let text = serde_json::to_string(&chosen.to_stored(&self.sink_id, None));
        let text =
            text.map_err(|error| Error::internal("the start has no JSON").with_source(error))?;
        let path = path(topic);
        match self.storage.put_if_absent(&path, text).await? {
            PutOutcome::Created => {
                info!(%topic, table = self.storage.location(), "starting after the last record");
                Ok(chosen)
            }
            // Another member of the group was faster, or our answer was lost.
            PutOutcome::Exists | PutOutcome::Unknown(_) => {
                let there = self.read(topic).await?;
                there.ok_or_else(|| {
                    let uri = self.storage.uri(&path);
                    Error::unavailable(format!("could not write where to start to `{uri}`"))
                })
            }
        }
    }

    async fn read(&self, topic: &str) -> Result<Option<Checkpoint>> {
        let path = path(topic);
        let Some(bytes) = self.storage.get(&path).await? else { return Ok(None) };
        let unreadable = |cause: String| {
            let uri = self.storage.uri(&path);
            Error::corrupt(format!("`{uri}` does not say where to start: {cause}"))
        };
        let text = std::str::from_utf8(&bytes).map_err(|error| unreadable(error.to_string()))?;
        let chosen = Checkpoint::from_stored(text, &self.sink_id);
        chosen.map(Some).map_err(|error| unreadable(error.to_string()))
    }
}

/// Names of topics hold only letters, digits, `.`, `_` and `-`.
fn path(topic: &str) -> String {
    format!("_lakebed/start/{topic}.json")
}
