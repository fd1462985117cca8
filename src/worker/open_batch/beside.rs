//! What an open batch has to do with other partitions, batches and processes.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;

use lakebed_schemas::change_event::Decoded;
use lakebed_schemas::position::TopicPartition;

use super::OpenBatch;
use crate::worker::floors::Floor;
use crate::worker::kept_rows::KeptFile;
use crate::worker::repeats::Standing;
use crate::worker::silver_rows::Place;
use crate::worker::waiting::{SourcePlace, Until, Wait};

impl OpenBatch {
    /// What a record waits for, if it does. One that does nothing waits for nothing.
    pub(in crate::worker) fn wait_of(
        &mut self,
        place: Place<'_>,
        decoded: &Decoded,
        standing: Standing,
    ) -> Option<Wait> {
        let silver = self.silver.as_mut()?;
        let until = if silver.lacks_partitions(place, decoded) {
            Until::AllRead
        } else if standing.repeated {
            return None;
        } else {
            Until::Departed(silver.awaits(place, decoded)?)
        };
        Some(Wait { until, standing, place: SourcePlace::of(decoded) })
    }

    /// Whether what a record waits for has been read.
    pub(in crate::worker) fn has_come(&self, tp: &TopicPartition, wait: &Wait) -> bool {
        self.silver.as_ref().is_none_or(|silver| match &wait.until {
            Until::Departed(moved) => silver.is_known(moved),
            Until::AllRead => silver.has_all(&tp.topic),
        })
    }

    /// Notes from now on how far partitions have got in the source's log, or no longer.
    pub(in crate::worker) fn watch(&mut self, is_on: bool) {
        if is_on != self.seen.is_some() {
            self.seen = is_on.then(BTreeMap::new);
        }
    }

    /// How far a partition has got in the source's log since this is watched.
    pub(in crate::worker) fn seen(&self, tp: &TopicPartition) -> Option<&SourcePlace> {
        self.seen.as_ref()?.get(tp)
    }

    pub(in crate::worker) fn look_at(&mut self, tp: &TopicPartition, decoded: &Decoded) {
        if let (Some(seen), Some(place)) = (&mut self.seen, SourcePlace::of(decoded)) {
            seen.insert(tp.clone(), place);
        }
    }

    /// Whether all partitions of a topic are read here.
    pub(in crate::worker) fn has_all(&self, topic: &str) -> bool {
        self.silver.as_ref().is_none_or(|silver| silver.has_all(topic))
    }

    /// Notes which partitions are read here.
    pub(in crate::worker) fn set_read<'a>(
        &mut self,
        partitions: impl Iterator<Item = &'a TopicPartition>,
    ) {
        let mut read: HashMap<Arc<str>, usize> = HashMap::new();
        partitions.for_each(|tp| *read.entry(tp.topic.clone()).or_default() += 1);
        if let Some(silver) = &mut self.silver {
            silver.set_read(read);
        }
    }

    /// Takes over where a topic was truncated.
    pub(in crate::worker) fn learn_floor(&mut self, topic: Arc<str>, floor: Floor) {
        if let Some(silver) = &mut self.silver {
            silver.floors().learn(topic, floor);
        }
    }

    /// After a commit: where topics were truncated is written down.
    pub(in crate::worker) fn floors_written(&mut self) {
        if let Some(silver) = &mut self.silver {
            silver.floors().written();
        }
    }

    /// Files of rows that left their keys, as far as they are known.
    pub(in crate::worker) fn kept_files(&mut self) -> BTreeSet<Arc<str>> {
        self.silver.as_mut().map(|silver| silver.kept().files()).unwrap_or_default()
    }

    /// Takes over rows that left their keys.
    pub(in crate::worker) fn keep(&mut self, files: impl IntoIterator<Item = KeptFile>) {
        if let Some(silver) = &mut self.silver {
            silver.keep(files);
        }
    }

    /// After a commit: the files of rows that left their keys and that nobody needs any more.
    pub(in crate::worker) fn spent_files(&mut self) -> Vec<Arc<str>> {
        self.silver.as_mut().map(|silver| silver.kept().committed()).unwrap_or_default()
    }
}
