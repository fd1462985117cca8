//! Changes that depend on other partitions, batches and processes: those of keys, and truncates.

use std::collections::HashMap;
use std::sync::Arc;

use lakebed_schemas::change_event::{ChangeEvent, Decoded, Op};
use lakebed_schemas::config::OnTruncate;
use lakebed_schemas::source_order;
use lakebed_schemas::value::{Value, key_hash};

use super::{Place, Refused, SilverRows};
use crate::fold::RowMove;
use crate::worker::floors::{Floor, Floors};
use crate::worker::kept_rows::{KeptFile, KeptRows};

impl SilverRows {
    /// Notes how many partitions of each topic are read here.
    pub(in crate::worker) fn set_read(&mut self, read: HashMap<Arc<str>, usize>) {
        self.read = read;
    }

    /// Whether all partitions of a topic are read here.
    pub(in crate::worker) fn has_all(&self, topic: &str) -> bool {
        self.read.get(topic).copied().unwrap_or(0) >= self.partitions(topic).max(1)
    }

    /// Truncates of topics with several partitions.
    pub(in crate::worker) fn floors(&mut self) -> &mut Floors {
        &mut self.floors
    }

    /// Changes since the last call that a truncate had taken before they came.
    pub(in crate::worker) fn take_passed_over(&mut self) -> u64 {
        std::mem::take(&mut self.passed_over)
    }

    /// Rows that left their keys in earlier batches.
    pub(in crate::worker) fn kept(&mut self) -> &mut KeptRows {
        &mut self.kept
    }

    /// Takes over rows that left their keys in a batch that is committed, or in another process.
    pub(in crate::worker) fn keep(&mut self, files: impl IntoIterator<Item = KeptFile>) {
        files.into_iter().for_each(|file| self.kept.learn(file));
    }

    /// Whether a record is a truncate that is to be applied and cannot be, because some partitions
    /// of its topic are not read here.
    pub(in crate::worker) fn lacks_partitions(&self, place: Place<'_>, decoded: &Decoded) -> bool {
        matches!(decoded, Decoded::Change(event) if event.op == Op::Truncate)
            && self.rules.on_truncate == OnTruncate::Apply
            && !self.has_all(&place.tp.topic)
    }

    /// Whether a truncate is to be applied though the source has sent it before: with several
    /// partitions, what is sent again beside it may have been applied.
    pub(in crate::worker) fn applies_again(&self, place: Place<'_>, decoded: &Decoded) -> bool {
        matches!(decoded, Decoded::Change(event) if event.op == Op::Truncate)
            && self.partitions(&place.tp.topic) > 1
    }

    /// The change of key whose deleted row this event asks for, where that has not been read: its
    /// `d` is in another partition, and the event should wait for it.
    pub(in crate::worker) fn awaits(
        &mut self,
        place: Place<'_>,
        decoded: &Decoded,
    ) -> Option<RowMove> {
        let Decoded::Change(event) = decoded else { return None };
        if self.floors.is_below(place.tp, &event.source) {
            return None;
        }
        let (Some(key), Some(after), Some(_)) = (&event.key, &event.after, &event.old_key) else {
            return None;
        };
        let is_open = after.values.contains(&Value::Unavailable);
        if !is_open || event.source.place.is_none() || self.partitions(&place.tp.topic) < 2 {
            return None;
        }
        if self.schema.is_none() {
            let schema = self.create(key, after).ok()?;
            self.set_schema(Some(schema));
        }
        // What is wrong with the old key is said when the event is applied.
        let moved = self.came_by(place, event).ok()??;
        (!self.is_known(&moved)).then_some(moved)
    }

    /// Whether the row that left so has been read.
    pub(in crate::worker) fn is_known(&self, moved: &RowMove) -> bool {
        self.fold.has_departed(moved) || self.kept.contains(moved)
    }

    /// The change of key that made an event's row.
    pub(super) fn came_by(
        &mut self,
        place: Place<'_>,
        event: &ChangeEvent,
    ) -> Result<Option<RowMove>, Refused> {
        let old_key = event.old_key.as_ref().filter(|_| self.rules.key.is_empty());
        let Some(old_key) = old_key else { return Ok(None) };
        let old_key = key_hash(&self.key_values(place, old_key)?);
        Ok(Some(RowMove { old_key, place: event.source.place }))
    }

    /// A truncate comes in one partition only. Where there are others, their rows tell by their place
    /// in the source's log whether they were there before it.
    pub(in crate::worker) fn truncate(
        &mut self,
        place: Place<'_>,
        event: &ChangeEvent,
    ) -> Result<(), Refused> {
        let topic = &place.tp.topic;
        match self.rules.on_truncate {
            OnTruncate::Ignore => Ok(()),
            OnTruncate::Apply if self.partitions(topic) == 1 => {
                if self.schema.is_some() {
                    self.fold.truncate(topic);
                }
                Ok(())
            }
            OnTruncate::Apply => self.truncate_all_partitions(place, event).map_err(|problem| {
                Refused::Table(format!(
                    "a truncate, and topic `{topic}` has {} partitions: {problem}. Say \
                     `on_truncate: ignore` to keep the rows (delete them at the source instead), or \
                     have the topic made with one partition and build the table anew",
                    self.partitions(topic)
                ))
            }),
            OnTruncate::Halt => Err(Refused::Table(
                "a truncate, where `on_truncate: halt` is set: say `apply` to empty the table, or \
                 `ignore` to keep its rows"
                    .to_owned(),
            )),
        }
    }

    fn truncate_all_partitions(
        &mut self,
        place: Place<'_>,
        event: &ChangeEvent,
    ) -> Result<(), String> {
        let tp = place.tp;
        if !self.has_all(&tp.topic) {
            let read = self.read.get(&tp.topic).copied().unwrap_or(0);
            return Err(format!(
                "{read} of them are read by this process, and the others' owners would not know of \
                 it: run one process for this table until it has passed this record"
            ));
        }
        let position = event.source.position.as_ref();
        let position = position.filter(|position| source_order::is_comparable(position));
        let Some(position) = position.filter(|_| event.source.snapshot.is_none()) else {
            return Err(format!(
                "it does not say where it stands in the log of a `{}` source, by which the others' \
                 rows could be compared",
                event.source.connector
            ));
        };
        if let Some(schema) = &self.schema {
            let slot = schema.index_of("_cdc_position");
            let was_before = |row: &[Value]| match row.get(slot?)? {
                Value::Text(own) => source_order::is_before(own, position),
                _ => None,
            };
            self.fold.truncate_before(tp, position, was_before).map_err(|other| {
                format!(
                    "rows of {other} do not tell whether they were there before it (those of an \
                     incremental snapshot or of another epoch do not)"
                )
            })?;
        }
        let floor = Floor { partition: tp.partition, position: position.clone() };
        self.floors.raise(tp.topic.clone(), floor);
        Ok(())
    }
}
