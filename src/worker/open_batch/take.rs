//! One record into the open batch: decoded, judged, and taken into the layers that lack it.

use std::time::Instant;

use lakebed_schemas::bronze;
use lakebed_schemas::change_event::Decoded;
use lakebed_schemas::config::BadRecords;
use lakebed_schemas::decoder::{Kept, LimitName, NEW_KEY};
use lakebed_schemas::wire::{SchemaId, SchemaText};

use super::OpenBatch;
use crate::dead_letter::DeadLetter;
use crate::source::Message;
use crate::worker::repeats::Standing;
use crate::worker::silver_rows::{Place, Refused, SilverRows};
use crate::worker::waiting::{Pushed, Resumed};

impl OpenBatch {
    /// Whether bronze and silver lack a record.
    fn wanted(&self, message: &Message) -> (bool, bool) {
        let (tp, offset) = (&message.tp, message.offset);
        (
            self.has_bronze && self.bronze_progress.wants(tp, offset),
            self.silver.is_some() && self.silver_progress.wants(tp, offset),
        )
    }

    /// Schemas that have to be told before the record is pushed.
    pub(in crate::worker) fn missing_schemas(&self, message: &Message) -> Vec<SchemaId> {
        let (for_bronze, for_silver) = self.wanted(message);
        if !for_bronze && !for_silver && self.repeats.window() == 0 {
            return Vec::new();
        }
        let headers = message.header_refs();
        self.decoder.missing_schemas(&message.record(&headers))
    }

    /// Takes over a schema of the registry.
    pub(in crate::worker) fn learn(&mut self, id: SchemaId, schema: &SchemaText) {
        self.decoder.learn(id, schema);
    }

    /// Notes, for the next record, that the registry has no such schema.
    pub(in crate::worker) fn refuse(&mut self, id: SchemaId, reason: String) {
        self.decoder.refuse(id, reason);
    }

    /// Takes one record into both layers, each unless it holds it already, or gives it back where it
    /// has to wait for another partition: `resumed` is what was found out about it then.
    ///
    /// # Errors
    /// With the place and the reason when the table must halt before this record; nothing of it
    /// has been taken then.
    pub(in crate::worker) fn push(
        &mut self,
        message: Message,
        resumed: Option<Resumed>,
    ) -> Result<Pushed, String> {
        let (tp, offset) = (message.tp.clone(), message.offset);
        let wanted @ (for_bronze, for_silver) = self.wanted(&message);
        let is_known = !for_bronze && !for_silver;
        if is_known && self.repeats.window() == 0 {
            self.passed_bytes += message.weight();
            return Ok(Pushed::Taken);
        }
        let headers = message.header_refs();
        let mut decoded = self.decoder.decode(&message.record(&headers));
        drop(headers);
        let begins = self.lookout.see(&tp, offset, &mut decoded);
        let standing = match &resumed {
            Some(resumed) => resumed.standing,
            None => {
                if begins {
                    self.repeats.begin_anew(&tp);
                }
                self.repeats.next(&tp, offset, &decoded)
            }
        };
        self.look_at(&tp, &decoded);
        if is_known {
            self.passed_bytes += message.weight();
            return Ok(Pushed::Taken);
        }
        let may_wait = for_silver && !resumed.is_some_and(|resumed| resumed.given_up);
        if may_wait && let Some(wait) = self.wait_of(Place { tp: &tp, offset }, &decoded, standing)
        {
            return Ok(Pushed::Waits(Box::new(message), wait));
        }
        self.take(message, &decoded, standing, wanted)?;
        Ok(Pushed::Taken)
    }

    /// Takes a record that was decoded last and waits for nothing, into the layers that lack it.
    ///
    /// # Errors
    /// As [`Self::push`].
    fn take(
        &mut self,
        message: Message,
        decoded: &Decoded,
        standing: Standing,
        (for_bronze, for_silver): (bool, bool),
    ) -> Result<(), String> {
        let (tp, offset) = (message.tp.clone(), message.offset);
        let weight = message.weight();
        if let Some(reason) = self.decoder.refusal() {
            return Err(format!("{tp}@{offset}: {reason}"));
        }
        let headers = message.header_refs();
        let record = message.record(&headers);
        let key_changes = record.header(NEW_KEY).is_some();
        // A hash of a record tells its key to whoever tries all of them.
        let kept = self.decoder.kept(&record);
        let fingerprint = kept.is_none().then(|| message.fingerprint());
        drop(headers);
        let message = match kept {
            None => message,
            Some(Kept { key, headers }) => Message { key, value: None, headers, ..message },
        };
        let place = Place { tp: &tp, offset };
        let error = self.judge(place, for_silver, key_changes, decoded, standing)?;
        self.count(decoded, standing);
        if for_bronze {
            let error = error.as_ref().map(|(reason, _)| reason.as_str());
            let repeated = standing.repeated;
            let remarks = bronze::Remarks { repeated, error, ..bronze::Remarks::default() };
            self.bronze_rows.push(&message, decoded, remarks, &self.decoder);
            self.bronze_progress.extend(&tp, offset, offset + 1, fingerprint);
        }
        if for_silver {
            self.lookout.taken(&tp, offset, decoded, error.is_some());
            self.silver_progress.extend(&tp, offset, offset + 1, fingerprint);
        }
        self.taken_bytes += weight;
        self.records += 1;
        self.begin();
        if let Some((reason, topic)) = error {
            self.dead_letters.push(DeadLetter { message, reason, topic });
        }
        Ok(())
    }

    fn begin(&mut self) {
        if self.opened.is_none() {
            self.opened = Some(Instant::now());
            self.metrics.buffered_since(self.opened);
        }
    }

    /// Brings a record into silver, or sees whether it could be, where silver has it: both layers go
    /// by one answer. Gives the reason and the topic of a record that is set aside.
    ///
    /// # Errors
    /// With the place and the reason when the table must halt before this record.
    fn judge(
        &mut self,
        place: Place<'_>,
        for_silver: bool,
        key_changes: bool,
        decoded: &Decoded,
        standing: Standing,
    ) -> Result<Option<(String, String)>, String> {
        if let Decoded::Malformed { reason } = decoded {
            return self.set_aside(place, reason.clone()).map(Some);
        }
        let Some(silver) = &mut self.silver else { return Ok(None) };
        let taken = match for_silver {
            true => apply(silver, place, key_changes, decoded, standing),
            false => silver.fits(place, decoded),
        };
        match taken {
            Ok(()) => Ok(None),
            Err(Refused::Record(reason)) => self.set_aside(place, reason).map(Some),
            Err(Refused::Table(reason)) => {
                self.count_limit(&reason);
                Err(format!("{}@{}: {reason}", place.tp, place.offset))
            }
        }
    }

    fn count(&mut self, decoded: &Decoded, standing: Standing) {
        if standing.repeated {
            self.metrics.repeated();
        }
        match decoded {
            Decoded::Change(event) => {
                *self.ops.entry(event.op.letter()).or_default() += 1;
                self.freshness = self.freshness.max(event.source.ts_us);
            }
            Decoded::Other { kind } => *self.others.entry(kind.name()).or_default() += 1,
            Decoded::Tombstone { .. } | Decoded::Malformed { .. } => {}
        }
    }

    /// What becomes of a bad record: its reason and the topic that it goes to.
    ///
    /// # Errors
    /// With the place and the reason when the policy is to halt.
    fn set_aside(&self, place: Place<'_>, reason: String) -> Result<(String, String), String> {
        self.metrics.bad_record();
        self.count_limit(&reason);
        match &self.bad_records {
            BadRecords::DeadLetterTopic(topic) => Ok((reason, topic.clone())),
            BadRecords::Halt => Err(format!(
                "{}@{}: {reason}; correct the source, or set `bad_records: {{ dead_letter_topic: … \
                 }}` to keep such records aside and go on",
                place.tp, place.offset
            )),
        }
    }

    fn count_limit(&self, reason: &str) {
        if let Some(limit) = LimitName::named_in(reason) {
            self.metrics.limit_exceeded(limit.key());
        }
    }
}

/// Applies a record to silver, unless its source has sent it before.
fn apply(
    silver: &mut SilverRows,
    place: Place<'_>,
    key_changes: bool,
    decoded: &Decoded,
    standing: Standing,
) -> Result<(), Refused> {
    let is_done = standing.repeated && !silver.applies_again(place, decoded);
    match decoded {
        _ if is_done || standing.echo => Ok(()),
        Decoded::Change(event) => silver.push(place, event, key_changes),
        Decoded::Tombstone { key } => silver.push_tombstone(place, key.as_ref()),
        Decoded::Malformed { .. } | Decoded::Other { .. } => Ok(()),
    }
}
