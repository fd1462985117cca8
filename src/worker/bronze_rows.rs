//! Records on their way into bronze, and the texts of the schemas that they name.

use std::collections::{BTreeMap, HashSet};
use std::sync::Arc;

use lakebed_schemas::bronze::{self, Remarks};
use lakebed_schemas::change_event::Decoded;
use lakebed_schemas::decoder::Decoder;
use lakebed_schemas::position::TopicPartition;
use lakebed_schemas::value::Value;

use crate::source::Message;

/// Schema hashes remembered; beyond that they are forgotten, and at worst kept again.
const SCHEMAS_SEEN_MAX: usize = 10_000;

/// Bronze's share of the open batch.
#[derive(Default)]
pub(super) struct BronzeRows {
    rows: Vec<(TopicPartition, Vec<Value>)>,
    /// Texts of schemas that are named for the first time, by hash.
    schemas: BTreeMap<Arc<str>, Arc<str>>,
    /// Hashes of schemas that are kept, or will be with this batch.
    schemas_seen: HashSet<Arc<str>>,
    weight: usize,
}

impl BronzeRows {
    /// Takes a record, as the decoder has just read it.
    pub(super) fn push(
        &mut self,
        message: &Message,
        decoded: &Decoded,
        remarks: Remarks<'_>,
        decoder: &Decoder,
    ) {
        if let Decoded::Change(event) = decoded
            && let Some(hash) = &event.schema_hash
        {
            self.note_schema(hash, decoder);
        }
        let headers = message.header_refs();
        let row = bronze::row(&message.record(&headers), decoded, remarks);
        self.weight += row.iter().map(Value::weight).sum::<usize>();
        self.rows.push((message.tp.clone(), row));
    }

    /// Has the text of a schema kept before a row names it.
    fn note_schema(&mut self, hash: &Arc<str>, decoder: &Decoder) {
        if self.schemas_seen.contains(hash) {
            return;
        }
        if let Some(text) = decoder.schema_text(hash) {
            if self.schemas_seen.len() >= SCHEMAS_SEEN_MAX {
                self.schemas_seen.clear();
            }
            self.schemas_seen.insert(hash.clone());
            self.schemas.insert(hash.clone(), text);
        }
    }

    /// Bytes of the rows held, about.
    pub(super) fn weight(&self) -> usize {
        self.weight
    }

    /// The rows; none are held afterwards.
    pub(super) fn take(&mut self) -> Vec<(TopicPartition, Vec<Value>)> {
        self.weight = 0;
        std::mem::take(&mut self.rows)
    }

    /// Texts of schemas to keep before the rows are written, by hash.
    pub(super) fn take_schemas(&mut self) -> BTreeMap<Arc<str>, Arc<str>> {
        std::mem::take(&mut self.schemas)
    }
}
