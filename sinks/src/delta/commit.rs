//! One attempt to make a change visible.

use std::collections::BTreeMap;
use std::sync::Arc;

use lakebed_schemas::config::Mode;
use lakebed_schemas::position::{CheckpointDelta, Fit};
use roaring::RoaringBitmap;
use serde_json::{Map, Value as Json, json};
use uuid::Uuid;

use super::actions::{Action, Add, Metadata, encode_path, parse, render};
use super::deletion_vectors::VectorFile;
use super::delta_log::DeltaLog;
use super::log_files::entry_path;
use super::replay::{COMMIT_ID, Entry, Known, State, commit_id};
use super::{partitions, progress, protocol, schema, stats};
use crate::clock::now_ms;
use crate::log::{CommitOutcome, DataFile, MEMO, TableChange, TableOptions};
use crate::storage::PutOutcome;
use crate::{Error, Result, failpoint};

fn engine() -> String {
    format!("lakebed/{}", env!("CARGO_PKG_VERSION"))
}

/// `commitInfo` of a table's first version.
pub(super) fn creation_info(options: &TableOptions, now_ms: i64) -> Action {
    let info = json!({
        "timestamp": now_ms,
        "operation": "CREATE TABLE",
        "operationParameters": {},
        "engineInfo": engine(),
        "lakebed.owner": options.owner,
    });
    Action { commit_info: info.as_object().cloned(), ..Action::default() }
}

/// What one commit writes.
struct Plan {
    actions: Vec<Action>,
    vectors: Option<VectorFile>,
    known: Known,
}

impl DeltaLog {
    /// See [`crate::log::TableLog::commit`].
    pub(super) async fn try_commit(&mut self, change: &TableChange) -> Result<CommitOutcome> {
        self.refuse_if_frozen()?;
        if self.stale {
            return Ok(CommitOutcome::Conflict);
        }
        check(&self.state, change)?;
        let Plan { actions, vectors, known } = plan(&self.state, change, &self.options)?;
        let bytes = render(&actions)?;
        let entry = Entry { actions, size: bytes.len() as u64 };
        failpoint::hit(failpoint::BEFORE_COMMIT_METADATA);
        if let Some(file) = vectors {
            self.storage.put(&file.path(), file.into_bytes()).await?;
        }
        let base = self.state.marker.0.clone();
        let version = self.state.head.version + 1;
        let path = entry_path(version);
        // The log is cleaned up from its old end only: while the base is there, nothing behind it
        // has been, and a free place is free because nobody has taken it. So the head is known to
        // be the newest, however long the process has slept.
        let (base_is_there, taken) =
            futures::try_join!(self.storage.head(&base), self.storage.head(&path))?;
        if taken.is_some() {
            return self.settle_taken(version, change.commit_id, entry, known).await;
        }
        if base_is_there.is_none() {
            self.stale = true;
            return Ok(CommitOutcome::Conflict);
        }
        failpoint::hit(failpoint::BEFORE_COMMIT_POINT);
        match self.storage.put_if_absent(&path, bytes).await? {
            PutOutcome::Unknown(reason) => Ok(CommitOutcome::Unknown { reason }),
            PutOutcome::Exists => self.settle_taken(version, change.commit_id, entry, known).await,
            PutOutcome::Created => {
                failpoint::hit(failpoint::AFTER_COMMIT_POINT);
                self.settle_created(&base, version, entry, known).await
            }
        }
    }

    /// Somebody's entry is there: perhaps our own, if an answer was lost.
    async fn settle_taken(
        &mut self,
        version: i64,
        wanted: Uuid,
        entry: Entry,
        known: Known,
    ) -> Result<CommitOutcome> {
        let path = entry_path(version);
        let theirs = match self.storage.get(&path).await {
            Ok(Some(bytes)) => parse(&path, &bytes)?,
            Ok(None) => return Ok(CommitOutcome::Conflict),
            Err(error) => return Ok(CommitOutcome::Unknown { reason: error.chain() }),
        };
        let info = theirs.into_iter().find_map(|action| action.commit_info);
        if info.as_ref().and_then(commit_id) == Some(wanted) {
            return Ok(self.take_over(version, entry, known).await);
        }
        Ok(CommitOutcome::Conflict)
    }

    /// The entry is ours. If the base has gone meanwhile, the process may have slept while the log
    /// was cleaned up beyond this version: then the entry lies where nobody reads.
    async fn settle_created(
        &mut self,
        base: &str,
        version: i64,
        entry: Entry,
        known: Known,
    ) -> Result<CommitOutcome> {
        match self.storage.head(base).await {
            Ok(Some(_)) => Ok(self.take_over(version, entry, known).await),
            Ok(None) => {
                self.stale = true;
                Ok(CommitOutcome::Unknown {
                    reason: format!("the log was cleaned up while version {version} was written"),
                })
            }
            Err(error) => Ok(CommitOutcome::Unknown { reason: error.chain() }),
        }
    }

    async fn take_over(&mut self, version: i64, entry: Entry, known: Known) -> CommitOutcome {
        if let Err(error) = self.advance(version, entry, known).await {
            // It is in, but what we hold of it is not to be trusted: the caller looks again.
            return CommitOutcome::Unknown { reason: error.chain() };
        }
        CommitOutcome::Committed { version }
    }
}

/// Refuses what does not fit the head.
fn check(state: &State, change: &TableChange) -> Result<()> {
    let head = &state.head;
    if !matches!(head.checkpoint.fit(&change.delta), Fit::Applies) {
        return Err(Error::invalid(format!(
            "the batch does not start where version {} ends: {:?}",
            head.version,
            head.checkpoint.fit(&change.delta)
        )));
    }
    if let Some(file) = change.added.iter().find(|file| head.files.contains_key(&file.path)) {
        return Err(Error::invalid(format!("file `{}` is in the table already", file.path)));
    }
    change.check_removed(head).map_err(Error::invalid)?;
    let takes = !change.deleted.is_empty() || !change.removed.is_empty();
    if takes && protocol::is_append_only(state.metadata()) {
        return Err(Error::invalid("the table has delta.appendOnly: rows cannot be deleted"));
    }
    for (path, dying) in &change.deleted {
        let refuse = |what: &str| {
            Err(Error::invalid(format!(
                "cannot delete rows of `{path}` at version {}: {what}",
                head.version
            )))
        };
        let Some(live) = head.files.get(path) else { return refuse("the file is not live") };
        if dying.max().is_some_and(|last| u64::from(last) >= live.file.rows) {
            return refuse("it has fewer rows");
        }
        if !live.deleted.is_disjoint(dying) {
            return refuse("some are deleted already");
        }
    }
    Ok(())
}

fn plan(state: &State, change: &TableChange, options: &TableOptions) -> Result<Plan> {
    let head = &state.head;
    let now_ms = now_ms().max(state.replay.timestamp_ms + 1);
    let mut known = Known::default();
    let mut actions = Vec::new();

    let moved = moved(head, &change.delta);
    let mut metadata = state.metadata().clone();
    let mut topics = head.checkpoint.clone();
    topics.apply(&moved);
    let mut metadata_changes = progress::write_properties(&topics.topics, options, &mut metadata);
    metadata_changes |= write_memos(&change.memos, &mut metadata);
    let mut table_schema = head.schema.clone();
    if let Some(wanted) = &change.schema {
        table_schema = schema::evolve(&head.schema, wanted)?;
        if table_schema != head.schema {
            metadata.schema_string = schema::extended(&metadata.schema_string, &table_schema)?;
            metadata_changes = true;
        }
    }
    let vectors_are_on = protocol::has_deletion_vectors(state.protocol(), &metadata);
    let needs_vectors = !vectors_are_on && leaves_dead_rows(head, change);
    if needs_vectors {
        metadata_changes |= protocol::enable_deletion_vectors(&mut metadata, true);
    } else if vectors_are_on && options.mode == Mode::CopyOnWrite {
        // Others should not leave what this table's readers may not take.
        metadata_changes |= protocol::enable_deletion_vectors(&mut metadata, false);
    }
    let upgraded = protocol::upgrade(state.protocol(), &table_schema, needs_vectors);
    actions.extend(upgraded.map(Action::from));
    actions.extend(metadata_changes.then(|| Action::from(metadata)));

    let freshness = change.freshness.filter(|micros| head.freshness.is_none_or(|at| *micros > at));
    let txns = progress::txns(&moved, freshness, &options.sink_id);
    actions.extend(txns.into_iter().map(Action::from));

    let mut vectors = None;
    for (path, dying) in change.deleted.iter().filter(|(_, dying)| !dying.is_empty()) {
        let live = &head.files[path];
        let dead = &live.deleted | dying;
        let add = &state.replay.adds[path];
        actions.push(add.to_remove(now_ms).into());
        if dead.len() < live.file.rows {
            let file = vectors.get_or_insert_with(VectorFile::new);
            actions.push(with_dead_rows(add, live.file.rows, &dead, file)?.into());
            known.dead.insert(path.clone(), dead);
        }
    }
    let removed = change.removed.iter().map(|path| state.replay.adds[path].to_remove(now_ms));
    actions.extend(removed.map(Action::from));
    for file in &change.added {
        actions.push(add(file, &table_schema, now_ms)?.into());
        // The log has the statistics; a second copy in memory serves nobody.
        let lean = DataFile { stats: Vec::new(), ..(**file).clone() };
        known.files.insert(file.path.clone(), Arc::new(lean));
    }
    actions.insert(0, commit_info(state, change, options, now_ms));
    Ok(Plan { actions, vectors, known })
}

/// Whether rows die in files that stay.
fn leaves_dead_rows(head: &crate::log::Head, change: &TableChange) -> bool {
    let mut dying = change.deleted.iter().filter(|(_, dying)| !dying.is_empty());
    dying.any(|(path, dying)| {
        let live = &head.files[path];
        live.deleted.len() + dying.len() < live.file.rows
    })
}

/// Writes memos into a table's properties; says whether that changed them.
fn write_memos(memos: &BTreeMap<String, String>, metadata: &mut Metadata) -> bool {
    let mut changes = false;
    for (name, text) in memos {
        let (name, text) =
            (format!("{MEMO}{name}"), Some(text.clone()).filter(|text| !text.is_empty()));
        let before = match &text {
            Some(_) => metadata.configuration.insert(name, text.clone()).flatten(),
            None => metadata.configuration.remove(&name).flatten(),
        };
        changes |= before != text;
    }
    changes
}

/// The part of a delta that says something new.
fn moved(head: &crate::log::Head, delta: &CheckpointDelta) -> CheckpointDelta {
    let ranges = delta.ranges.iter().filter(|(tp, range)| {
        let stands = head.checkpoint.next(tp).map(|next| (next.offset, next.fingerprint));
        stands != Some((range.end, range.fingerprint))
    });
    CheckpointDelta { ranges: ranges.map(|(tp, range)| (tp.clone(), *range)).collect() }
}

fn with_dead_rows(
    add: &Add,
    rows: u64,
    dead: &RoaringBitmap,
    file: &mut VectorFile,
) -> Result<Add> {
    let mut packed = dead.clone();
    packed.optimize();
    // A file with dead rows must say how many it has.
    let counted = format!("{{\"numRecords\":{rows}}}");
    let stats = Some(stats::widened(add.stats.as_deref().unwrap_or(&counted))?);
    Ok(Add { stats, data_change: true, deletion_vector: Some(file.push(&packed)?), ..add.clone() })
}

fn add(file: &DataFile, schema: &lakebed_schemas::column::TableSchema, now_ms: i64) -> Result<Add> {
    Ok(Add {
        path: encode_path(&file.path),
        partition_values: partitions::texts(file, schema)?,
        size: i64::try_from(file.size).map_err(|_| Error::invalid("a file beyond 2^63 bytes"))?,
        modification_time: now_ms,
        data_change: true,
        stats: Some(stats::render(file, schema)),
        tags: None,
        deletion_vector: None,
    })
}

fn commit_info(state: &State, change: &TableChange, options: &TableOptions, now_ms: i64) -> Action {
    let takes =
        !change.removed.is_empty() || change.deleted.values().any(|dying| !dying.is_empty());
    let rows: u64 = change.added.iter().map(|file| file.rows).sum();
    let dead: u64 = change.deleted.values().map(RoaringBitmap::len).sum();
    let mut info = Map::new();
    let mut set = |key: &str, value: Json| info.insert(key.to_owned(), value);
    set("timestamp", json!(now_ms));
    set("operation", json!(if takes { "MERGE" } else { "WRITE" }));
    let partition_by = json!(state.metadata().partition_columns).to_string();
    let mode = match takes {
        true => json!({}),
        false => json!({"mode": "Append", "partitionBy": partition_by}),
    };
    set("operationParameters", mode);
    set(
        "operationMetrics",
        json!({
            "numFiles": change.added.len().to_string(),
            "numOutputRows": rows.to_string(),
            "numDeletedRows": dead.to_string(),
            "numRemovedFiles": change.removed.len().to_string(),
        }),
    );
    set("readVersion", json!(state.head.version));
    set("isolationLevel", json!("Serializable"));
    set("isBlindAppend", json!(!takes));
    set("engineInfo", json!(engine()));
    set(COMMIT_ID, json!(change.commit_id.to_string()));
    set("lakebed.owner", json!(options.owner));
    if let Some(micros) = change.freshness {
        set("lakebed.freshness", json!(micros));
    }
    for (name, note) in &change.notes {
        set(&format!("lakebed.note.{name}"), json!(note));
    }
    Action { commit_info: Some(info), ..Action::default() }
}
