//! What the loop tells others: gauges, shares of the memory, and the group's offsets.

use std::collections::BTreeMap;
use std::sync::Arc;

use tracing::warn;

use super::{Run, lower};
use crate::group_metadata;
use crate::source::GroupOffset;
use crate::worker::Command;

impl Run {
    /// Sets the gauges, says that the loop is alive, and hands on what the source has looked up.
    pub(super) fn tick(&mut self) {
        self.health.beat("pipeline");
        let stats = self.source.stats();
        self.metrics.rebalances(stats.rebalances);
        self.metrics.assigned(self.assigned.len());
        self.metrics.buffer_bytes(stats.out_bytes);
        self.metrics.partitions_paused(if stats.paused { self.assigned.len() } else { 0 });
        if stats.paused {
            // Each table's open batch may be far from its own bounds, all of them together are not.
            (0..self.workers.len()).for_each(|worker| self.send(worker, Command::Relieve));
        }
        let memory = self.options.memory;
        self.metrics.memory(memory.max(), memory.taken(self.kept_bytes(), stats.out_bytes));
        for (tp, (start, end)) in &stats.bounds {
            if !self.assigned.contains(tp) {
                continue;
            }
            let route = self.routes.get(&tp.topic).cloned().unwrap_or_default();
            let stored = route.iter().map(|w| self.progress[*w].committed.next(tp));
            let low = stored.reduce(lower).flatten().map_or(*start, |next| next.offset);
            self.metrics.lag(tp, (end - low).max(0));
        }
        self.tell_partitions(stats.partitions);
    }

    /// Tells the tables of topics that have more partitions than they had: where none of those added
    /// comes to this process, nothing else would.
    fn tell_partitions(&mut self, partitions: BTreeMap<String, usize>) {
        for (topic, count) in partitions {
            if self.partitions.get(&topic) == Some(&count) {
                continue;
            }
            let route = self.routes.get_key_value(topic.as_str());
            if let Some((topic, route)) = route.map(|(topic, route)| (topic.clone(), route.clone()))
            {
                for worker in route.iter() {
                    self.send(*worker, Command::Partitions { topic: topic.clone(), count });
                }
                self.partitions.insert(topic.to_string(), count);
            }
        }
    }

    /// What tables keep between batches: key indexes, and events that may come again.
    fn kept_bytes(&self) -> usize {
        self.progress.iter().map(|progress| progress.index_bytes + progress.repeats_bytes).sum()
    }

    /// Leaves to records what tables do not keep: bytes of the key index, and of remembered events.
    pub(super) fn share_memory(
        &mut self,
        worker: usize,
        [index_bytes, repeats_bytes]: [usize; 2],
        index_keys: usize,
    ) {
        let memory = self.options.memory;
        let kept_before = self.kept_bytes();
        self.progress[worker].repeats_bytes = repeats_bytes;
        let before = std::mem::replace(&mut self.progress[worker].index_bytes, index_bytes);
        if index_bytes > memory.max() && before <= memory.max() {
            warn!(
                table = %self.workers[worker].table, index_bytes, index_keys,
                memory_max = memory.max(),
                "the key index of this table alone takes more than `memory.max`, and nothing can be \
                 left out of it: raise `memory.max` to twice `index_bytes` or more, or run the \
                 table in a process of its own on a larger machine (`run --only`)"
            );
        }
        if kept_before != self.kept_bytes() {
            self.source.set_budget(memory.for_records(self.kept_bytes()));
        }
    }

    /// Tells the group what every table of a topic holds: the lowest. A hint; the tables rule.
    pub(super) fn commit_offsets(&mut self, worker: usize) {
        let mut notes: BTreeMap<Arc<str>, Arc<str>> = BTreeMap::new();
        let mut offsets = Vec::new();
        let moved: Vec<_> = self.progress[worker].committed.iter().collect();
        for (tp, next) in moved {
            if !self.assigned.contains(&tp) {
                continue;
            }
            let route = self.route_of(&tp.topic);
            let stored = route.iter().map(|w| self.progress[*w].committed.next(&tp));
            // A table without an offset yet holds nothing: the group must not claim more.
            let Some(low) = stored.reduce(lower).flatten() else { continue };
            let note = notes.entry(tp.topic.clone()).or_insert_with(|| {
                let tables = route.iter().flat_map(|w| &self.progress[*w].tables);
                group_metadata::note(tables.map(|(name, uuid)| (&**name, &**uuid))).into()
            });
            let metadata = note.clone();
            offsets.push(GroupOffset { tp, offset: low.offset.min(next.offset), metadata });
        }
        self.source.commit_offsets(offsets);
    }
}
