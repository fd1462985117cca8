//! Staging one commit: delete files, manifests, manifest list and metadata, all invisible.
//!
//! Reads nothing but manifests that are due for merging. Whatever is left over by an attempt that
//! lost is an orphan, which maintenance removes.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use futures::{StreamExt, TryStreamExt};
use iceberg::spec::{
    DataFile as IcebergFile, ManifestContentType, ManifestFile, Schema, SchemaRef, TableMetadata,
};
use lakebed_schemas::column::TableSchema;
use lakebed_schemas::position::Fit;
use roaring::RoaringBitmap;
use uuid::Uuid;

use super::convert::evolve;
use super::leaving::Leaving;
use super::manifest_stage::{ManifestStage, Remembered};
use super::manifests;
use super::metadata::{self, Next};
use super::pointer::{Answered, Located};
use super::position_deletes::{self, DeleteFile, Target};
use super::progress::{self, Progress};
use super::state::{DeleteStats, Placement, READS_AT_ONCE, Reader, State};
use super::summary;
use super::{entries, partition_spec};
use crate::log::{DataFile, LiveFile, TableChange, TableOptions, apply_memos};
use crate::storage::Storage;
use crate::{Error, Result};

/// Staged delete files older than this are written anew: cleanup may have taken them for orphans.
const REUSE_AGE_MAX: Duration = Duration::from_secs(600);

/// Delete files of one change, in storage and invisible.
#[derive(Debug)]
pub(super) struct StagedDeletes {
    commit_id: Uuid,
    deleted: BTreeMap<String, RoaringBitmap>,
    staged_at: Instant,
    files: Vec<(String, DeleteFile)>,
}

impl StagedDeletes {
    /// Whether they are what `change` needs: a conflict restages the same change on another head.
    pub(super) fn serves(&self, change: &TableChange, age_max: Duration) -> bool {
        self.commit_id == change.commit_id
            && self.deleted == change.deleted
            && self.staged_at.elapsed() < age_max.min(REUSE_AGE_MAX)
    }
}

/// Everything that one commit makes visible, in storage but for the metadata itself.
#[derive(Debug)]
pub(super) struct Staged {
    pub(super) located: Located,
    pub(super) snapshot_id: i64,
    /// The metadata as it will be stored.
    pub(super) bytes: Vec<u8>,
    pub(super) metadata: TableMetadata,
    manifests: Vec<ManifestFile>,
    added: Vec<(DataFile, Placement)>,
    deletes: Vec<(String, DeleteStats)>,
    /// No delete file of the version before stays.
    drops_deletes: bool,
    /// Which manifest holds a data file now, for those whose manifest is new.
    holders: Vec<(String, Arc<str>)>,
    progress: Progress,
    schema: TableSchema,
    /// Snapshots that branches and tags name by now, where the catalog has told.
    pinned: Option<BTreeSet<i64>>,
}

/// Checks that `change` can be made on this head.
///
/// # Errors
/// `Invalid`, naming what does not fit.
pub(super) fn check(state: &State, change: &TableChange) -> Result<()> {
    let head = &state.head;
    let refused = |what: String| {
        Err(Error::invalid(format!("table `{}`: {what}", state.metadata.location())))
    };
    match head.checkpoint.fit(&change.delta) {
        Fit::Applies => {}
        Fit::Covered => return refused("the batch is covered by the table's checkpoint".into()),
        Fit::Overtaken { tp, stored, start } => {
            return refused(format!(
                "the batch starts at {tp}@{start}, the table is at {stored:?}"
            ));
        }
    }
    if !change.added.is_empty() {
        metadata::check_writable(&state.metadata)?;
    }
    let mut paths = HashSet::new();
    for file in &change.added {
        if head.files.contains_key(&file.path) || !paths.insert(&file.path) {
            return refused(format!("`{}` is in the table already", file.path));
        }
    }
    change.check_removed(head).or_else(refused)?;
    for (path, positions) in &change.deleted {
        let Some(live) = head.files.get(path) else {
            return refused(format!("deletes in `{path}`, which is not a live file"));
        };
        if positions.max().is_some_and(|max| u64::from(max) >= live.file.rows) {
            return refused(format!("a delete beyond the {} rows of `{path}`", live.file.rows));
        }
        if !live.deleted.is_disjoint(positions) {
            return refused(format!("a delete of a row of `{path}` that is dead already"));
        }
    }
    Ok(())
}

/// Puts the delete files that `change` needs.
///
/// # Errors
/// When storage refuses; nothing is visible.
pub(super) async fn stage_deletes(
    storage: &Storage,
    state: &State,
    change: &TableChange,
) -> Result<StagedDeletes> {
    let mut targets = Vec::new();
    for (path, positions) in change.deleted.iter().filter(|(_, dead)| !dead.is_empty()) {
        let placement = state
            .placements
            .get(path)
            .ok_or_else(|| Error::internal(format!("live file `{path}` without a placement")))?;
        targets.push(Target {
            uri: &placement.uri,
            spec_id: placement.spec_id,
            partition: &placement.partition,
            positions,
        });
    }
    let attempt = Uuid::new_v4().simple().to_string();
    let files: Vec<(String, DeleteFile)> = position_deletes::encode_all(&targets)?
        .into_iter()
        .enumerate()
        .map(|(index, file)| (format!("data/d0-{attempt}-{index}.parquet"), file))
        .collect();
    let puts = files.iter().map(|(path, file)| (path.clone(), file.bytes.clone()));
    put_all(storage, puts.collect()).await?;
    Ok(StagedDeletes {
        commit_id: change.commit_id,
        deleted: change.deleted.clone(),
        staged_at: Instant::now(),
        files,
    })
}

async fn put_all(storage: &Storage, objects: Vec<(String, Bytes)>) -> Result<()> {
    futures::stream::iter(objects)
        .map(|(path, bytes)| async move { storage.put(&path, bytes).await })
        .buffer_unordered(READS_AT_ONCE)
        .try_collect()
        .await
}

/// One attempt at staging a commit on one head.
pub(super) struct Attempt<'a> {
    pub(super) storage: &'a Storage,
    pub(super) options: &'a TableOptions,
    pub(super) state: &'a State,
    pub(super) change: &'a TableChange,
    pub(super) deletes: &'a StagedDeletes,
    /// Where the next metadata file goes.
    pub(super) next: Located,
    /// Whether an object that no manifest names may lie beside.
    pub(super) beside: bool,
}

impl Attempt<'_> {
    /// Writes manifests and manifest list and makes the metadata.
    ///
    /// # Errors
    /// When storage refuses or the change cannot be expressed; nothing is visible.
    pub(super) async fn stage(self, remembered: &mut Remembered) -> Result<Staged> {
        let base = &self.state.metadata;
        let (schema, evolved) = self.schema()?;
        let snapshot_id = fresh_snapshot_id(base);
        let sequence = base.next_sequence_number();
        let attempt = Uuid::new_v4().simple().to_string();
        let added = self.added_entries(&schema, sequence)?;
        let deletes = self.delete_entries(&schema)?;
        let leaving = Leaving::of(self.state, self.change);

        // One whose files have all left was kept for the version in which they did.
        let is_needed = |manifest: &&ManifestFile| manifests::live_files(manifest) != Some(0);
        let mut writer = ManifestStage {
            storage: self.storage,
            reader: Reader::new(self.storage, base.location()),
            base,
            schema: schema.clone(),
            snapshot_id,
            sequence,
            prefix: format!("metadata/{attempt}-m"),
            manifests: self.state.manifests.iter().filter(is_needed).cloned().collect(),
            leaving: &leaving,
            holders: Vec::new(),
            written: 0,
            remembered,
        };
        let spec_id = base.default_partition_spec_id();
        let files = added.iter().map(|(file, ..)| (spec_id, file.clone()));
        writer.add_all(ManifestContentType::Data, files).await?;
        let files = deletes.iter().map(|(file, spec_id, _)| (*spec_id, file.clone()));
        writer.add_all(ManifestContentType::Deletes, files).await?;
        let (manifests, holders) = (writer.manifests, writer.holders);

        let list = format!("metadata/snap-{snapshot_id}-1-{attempt}.avro");
        let list_uri = self.storage.uri(&list);
        let parent = base.current_snapshot_id();
        let bytes =
            manifests::encode_list(&list_uri, snapshot_id, parent, sequence, &manifests).await?;
        self.storage.put(&list, bytes).await?;

        let progress = self.progress();
        let summary = self.summary(&added, &deletes, &leaving, &progress).await?;
        let next = Next {
            snapshot_id,
            sequence,
            manifest_list: list_uri,
            operation: summary::operation(self.change),
            summary,
            schema: evolved,
            memos: self.change.memos.clone(),
        };
        let base_uri = self.storage.uri(&self.state.located.path);
        let retention = &self.options.retention;
        let metadata = metadata::next(base, &base_uri, next, &self.state.pinned, retention)?;
        Ok(Staged {
            located: self.next,
            snapshot_id,
            bytes: metadata::encode(&metadata)?,
            schema: metadata::table_schema(&metadata)?,
            metadata,
            manifests,
            added: added.into_iter().map(|(_, file, placement)| (file, placement)).collect(),
            deletes: deletes
                .into_iter()
                .map(|(file, _, path)| {
                    let (size, records) = (file.file_size_in_bytes(), file.record_count());
                    (path, DeleteStats { size, records })
                })
                .collect(),
            drops_deletes: leaving.takes_deletes(),
            holders,
            progress,
            pinned: None,
        })
    }

    /// The schema that the commit's manifests are written with, and the same if it is new.
    fn schema(&self) -> Result<(SchemaRef, Option<Schema>)> {
        let base = &self.state.metadata;
        let Some(wanted) = self.change.schema.as_ref().filter(|s| **s != self.state.head.schema)
        else {
            return Ok((base.current_schema().clone(), None));
        };
        if wanted.partition_by != self.state.head.schema.partition_by
            || wanted.key != self.state.head.schema.key
        {
            return Err(Error::invalid(format!(
                "table `{}`: its key and its partitions cannot change",
                base.location()
            )));
        }
        let highest = metadata::highest_column_id(base);
        let current = base.current_schema();
        let reused = wanted
            .columns
            .iter()
            .find(|column| current.field_by_id(column.id).is_none() && column.id <= highest);
        if let Some(column) = reused {
            return Err(Error::invalid(format!(
                "table `{}`: new column `{}` has id {}, which the table has used before",
                base.location(),
                column.name,
                column.id
            )));
        }
        let evolved = evolve(current, wanted, metadata::next_schema_id(base))?;
        Ok((Arc::new(evolved.clone()), Some(evolved)))
    }

    fn added_entries(
        &self,
        schema: &SchemaRef,
        sequence: i64,
    ) -> Result<Vec<(IcebergFile, DataFile, Placement)>> {
        let base = &self.state.metadata;
        let spec = base.default_partition_spec();
        // Statistics go by the column's index in the schema that the file was written with.
        let columns = self.change.schema.as_ref().unwrap_or(&self.state.head.schema);
        let entries = self.change.added.iter().map(|file| {
            let partition = partition_spec::tuple(&file.partition, spec, schema)?;
            let uri = self.storage.uri(&file.path);
            let entry =
                entries::data(file, &uri, partition.clone(), spec.spec_id(), columns, schema)?;
            let (spec_id, manifest) = (spec.spec_id(), Arc::from(""));
            let placement = Placement { uri, spec_id, partition, sequence, manifest };
            // As it would be read back: statistics are the manifest's from here on.
            let file = DataFile { stats: Vec::new(), ..file.as_ref().clone() };
            Ok((entry, file, placement))
        });
        entries.collect()
    }

    fn delete_entries(&self, schema: &Schema) -> Result<Vec<(IcebergFile, i32, String)>> {
        let entries = self.deletes.files.iter().map(|(path, file)| {
            let spec = metadata::spec(&self.state.metadata, file.spec_id)?;
            let partition = partition_spec::promoted(&file.partition, spec, schema);
            let entry = file.entry(self.storage.uri(path), partition)?;
            Ok((entry, file.spec_id, path.clone()))
        });
        entries.collect()
    }

    fn progress(&self) -> Progress {
        let mut checkpoint = self.state.head.checkpoint.clone();
        checkpoint.apply(&self.change.delta);
        Progress { checkpoint, freshness: self.state.head.freshness.max(self.change.freshness) }
    }

    /// The snapshot's summary: ours first, then the counters that the spec names.
    async fn summary(
        &self,
        added: &[(IcebergFile, DataFile, Placement)],
        deletes: &[(IcebergFile, i32, String)],
        leaving: &Leaving<'_>,
        progress: &Progress,
    ) -> Result<HashMap<String, String>> {
        let mut summary = HashMap::new();
        for (key, value) in &self.change.notes {
            summary.insert(format!("{}{key}", progress::NOTE), value.clone());
        }
        let encoded = progress::encode(&progress.checkpoint, self.options, self.beside)?;
        if let Some((path, bytes)) = encoded.side_object {
            self.storage.put(&path, bytes).await?;
        }
        summary.insert(progress::CHECKPOINT.into(), encoded.text);
        summary.insert(progress::COMMIT_ID.into(), self.change.commit_id.to_string());
        summary.insert(progress::VERSION.into(), self.next.version.to_string());
        summary.insert(progress::OWNER.into(), self.options.owner.clone());
        if let Some(freshness) = progress.freshness {
            summary.insert(progress::FRESHNESS.into(), freshness.to_string());
        }
        let entries = |file: &(IcebergFile, DataFile, Placement)| file.0.clone();
        let added: Vec<IcebergFile> = added.iter().map(entries).collect();
        let deletes: Vec<IcebergFile> = deletes.iter().map(|(file, ..)| file.clone()).collect();
        summary::count(self.state, &added, &deletes, leaving, &mut summary);
        Ok(summary)
    }
}

impl Staged {
    /// Takes what the catalog has made of the version for what it is: others may have changed what
    /// is not ours in the meantime.
    pub(super) fn adopt(&mut self, answered: Answered) {
        if let Ok(schema) = metadata::table_schema(&answered.metadata) {
            self.schema = schema;
            self.located = answered.located;
            self.metadata = answered.metadata;
            self.pinned = Some(answered.pinned);
        }
    }

    /// Moves the state on: the commit is visible.
    pub(super) fn apply(self, state: &mut State, change: &TableChange) {
        for path in &change.removed {
            state.head.files.remove(path);
            state.placements.remove(path);
        }
        if self.drops_deletes {
            state.deletes.clear();
        }
        for (file, placement) in self.added {
            state.placements.insert(file.path.clone(), placement);
            let live = LiveFile { file: Arc::new(file), deleted: RoaringBitmap::new() };
            state.head.files.insert(live.file.path.clone(), live);
        }
        for (path, manifest) in self.holders {
            if let Some(placement) = state.placements.get_mut(&path) {
                placement.manifest = manifest;
            }
        }
        for (path, positions) in &change.deleted {
            if let Some(live) = state.head.files.get_mut(path) {
                live.deleted |= positions;
            }
        }
        state.deletes.extend(self.deletes);
        state.head.version = self.located.version;
        state.head.schema = self.schema;
        state.head.checkpoint = self.progress.checkpoint;
        state.head.freshness = self.progress.freshness;
        apply_memos(&mut state.head.memos, change);
        state.manifests = self.manifests;
        state.metadata = self.metadata;
        if let Some(pinned) = self.pinned {
            state.pinned = pinned;
        }
        state.located = self.located;
    }
}

fn fresh_snapshot_id(base: &TableMetadata) -> i64 {
    loop {
        let (high, low) = Uuid::new_v4().as_u64_pair();
        let id = i64::from_ne_bytes((high ^ low).to_ne_bytes()) & i64::MAX;
        if id > 0 && base.snapshot_by_id(id).is_none() {
            return id;
        }
    }
}
