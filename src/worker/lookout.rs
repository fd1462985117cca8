//! What is to be known of a source beyond its rows, and kept with the tables: epochs, snapshots, and
//! keys that it makes up.

use std::collections::BTreeMap;
use std::sync::Arc;

use lakebed_schemas::change_event::Decoded;
use lakebed_schemas::position::{CheckpointDelta, TopicPartition};
use lakebed_sinks::table::Sweep;
use tracing::warn;

use super::epochs::Epochs;
use super::ghosts::Ghosts;
use super::invented_keys::InventedKeys;
use super::layers::Layers;
use crate::metrics::TableMetrics;

/// What a layer's table tells, by name.
type Memos = BTreeMap<String, String>;

/// Of one table entry.
pub(super) struct Lookout {
    epochs: Epochs,
    ghosts: Ghosts,
    invented_keys: InventedKeys,
    /// How many partitions each topic has.
    partitions: BTreeMap<Arc<str>, usize>,
    /// What each layer's table has been told.
    bronze_told: Memos,
    silver_told: Memos,
    metrics: TableMetrics,
}

impl Lookout {
    /// Knows nothing yet.
    pub(super) fn new(sweep_ghosts: bool, metrics: TableMetrics) -> Self {
        Self {
            epochs: Epochs::default(),
            ghosts: Ghosts::new(sweep_ghosts),
            invented_keys: InventedKeys::default(),
            partitions: BTreeMap::new(),
            bronze_told: Memos::new(),
            silver_told: Memos::new(),
            metrics,
        }
    }

    /// Notes how many partitions a topic has: a snapshot tells what there is where there is one.
    pub(super) fn set_partitions(&mut self, topic: Arc<str>, count: usize) {
        self.partitions.insert(topic, count);
    }

    /// How many partitions a topic has; 0 where that has not been told.
    pub(super) fn partitions(&self, topic: &str) -> usize {
        self.partitions.get(topic).copied().unwrap_or(0)
    }

    /// Takes over what the tables tell of a partition that is read from where they stand.
    /// `is_added`: whether it was added to its topic while the tables were kept.
    pub(super) fn load(&mut self, tp: &TopicPartition, layers: &Layers, is_added: bool) {
        self.epochs.load(tp, [layers.bronze_memos(), layers.silver_memos()], is_added);
        self.ghosts.load(tp, layers.silver_memos(), layers.silver_next(tp).is_some());
    }

    /// Takes over what the tables have been told.
    pub(super) fn settled(&mut self, layers: &Layers) {
        self.bronze_told.clone_from(layers.bronze_memos());
        self.silver_told.clone_from(layers.silver_memos());
    }

    /// Judges the next record of a partition; says whether what was read before it is not to be
    /// compared with it.
    pub(super) fn see(&mut self, tp: &TopicPartition, offset: i64, decoded: &mut Decoded) -> bool {
        let Decoded::Change(event) = decoded else { return false };
        let judged = self.epochs.see(tp, offset, event);
        if let Some(evidence) = judged.found {
            self.metrics.epoch_began(evidence.name());
        }
        if judged.goes_back {
            self.metrics.position_went_back();
            warn!(%tp, offset, "positions of the source go back behind all that is remembered: a long \
                  repeat, or a log that begins anew. Nothing is left out for it. If the source was \
                  restored or moved, raise `epoch` of the table by one");
        }
        judged.begins
    }

    /// Notes a record that silver takes, or passes because it was set aside.
    pub(super) fn taken(
        &mut self,
        tp: &TopicPartition,
        offset: i64,
        decoded: &Decoded,
        set_aside: bool,
    ) {
        if set_aside {
            // It may have been one of a snapshot.
            self.ghosts.set_aside(tp);
            return;
        }
        if let Decoded::Change(event) = decoded {
            let partitions = self.partitions(&tp.topic);
            self.ghosts.take(tp, offset, event, partitions);
        }
        if self.invented_keys.see(tp, offset, decoded) {
            self.metrics.invented_key();
        }
    }

    /// Notes that records were gone before they were read.
    pub(super) fn passed_gap(&mut self, tp: &TopicPartition) {
        self.ghosts.passed_gap(tp);
    }

    /// What to keep with bronze when it has taken this.
    pub(super) fn bronze_memos(&self, delta: &CheckpointDelta) -> Memos {
        news(delta.ranges.keys().filter_map(|tp| self.epochs.memo(tp)), &self.bronze_told)
    }

    /// What to keep with silver when it has taken this.
    pub(super) fn silver_memos(&self, delta: &CheckpointDelta) -> Memos {
        let memos = delta.ranges.keys().flat_map(|tp| [self.epochs.memo(tp), self.ghosts.memo(tp)]);
        news(memos.flatten(), &self.silver_told)
    }

    /// Rows that go with the batch that is closed now.
    pub(super) fn take_sweeps(&mut self) -> Vec<Sweep> {
        self.ghosts.take_sweeps()
    }

    /// Forgets partitions, until they are loaded again.
    pub(super) fn forget(&mut self, partitions: &[TopicPartition]) {
        self.epochs.forget(partitions);
        self.ghosts.forget(partitions);
    }

    /// Forgets what was read and will be read again.
    pub(super) fn clear(&mut self) {
        self.epochs.clear();
        self.ghosts.clear();
    }
}

/// Those that the table does not tell already.
fn news(memos: impl Iterator<Item = (String, String)>, told: &Memos) -> Memos {
    memos.filter(|(name, text)| told.get(name) != Some(text)).collect()
}
