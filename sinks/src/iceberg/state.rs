//! What one version of a table holds, as read from its metadata, manifests and delete files.
//!
//! A refresh reads only manifests and delete files that it has not seen. A manifest that is written
//! anew because files leave it says which; if the counts in the manifest list then add up to what is
//! known and what is new, nothing else was removed. If they do not add up, everything is read.

use std::collections::hash_map::Entry;
use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::sync::Arc;

use futures::{StreamExt, TryStreamExt};
use iceberg::spec::{
    DataContentType, DataFileFormat, ManifestContentType, ManifestEntryRef, ManifestFile, Struct,
    TableMetadata,
};
use roaring::RoaringBitmap;

use super::convert::foreign_topic_partition;
use super::manifests::{decode_list, decode_manifest, live_files};
use super::pointer::{Located, Pointer};
use super::{metadata, partition_spec, position_deletes, progress};
use crate::log::{DataFile, Head, LiveFile, memos_among};
use crate::storage::{Storage, normal};
use crate::table::file_name;
use crate::{Error, Result};

/// Objects that are read at the same time.
pub(super) const READS_AT_ONCE: usize = 16;

/// What the log must know of a data file beyond what [`DataFile`] tells.
#[derive(Debug, Clone)]
pub(super) struct Placement {
    /// As the manifests name it, to the byte.
    pub(super) uri: String,
    /// Its partition spec.
    pub(super) spec_id: i32,
    /// Its partition tuple.
    pub(super) partition: Struct,
    /// Its data sequence number: only deletes of this one or a later one apply.
    pub(super) sequence: i64,
    /// Path of the manifest that holds its entry.
    pub(super) manifest: Arc<str>,
}

/// A live position-delete file.
#[derive(Debug, Clone, Copy)]
pub(super) struct DeleteStats {
    /// Bytes.
    pub(super) size: u64,
    /// Positions in it.
    pub(super) records: u64,
}

/// Live files of one version.
#[derive(Debug, Clone, Default)]
pub(super) struct Files {
    /// Data files with their dead rows, by path.
    pub(super) live: BTreeMap<String, LiveFile>,
    /// Where each of them belongs, by path.
    pub(super) placements: HashMap<String, Placement>,
    /// Delete files by path.
    pub(super) deletes: HashMap<String, DeleteStats>,
}

/// One version of a table, whole.
#[derive(Debug)]
pub(super) struct State {
    pub(super) located: Located,
    pub(super) metadata: TableMetadata,
    /// Snapshots that branches and tags name.
    pub(super) pinned: BTreeSet<i64>,
    /// The manifest list of the current snapshot.
    pub(super) manifests: Vec<ManifestFile>,
    pub(super) placements: HashMap<String, Placement>,
    pub(super) deletes: HashMap<String, DeleteStats>,
    pub(super) head: Head,
}

/// Reads objects of one table by the names that its metadata gives them.
pub(super) struct Reader<'a> {
    storage: &'a Storage,
    /// Location by the metadata.
    location: String,
}

impl<'a> Reader<'a> {
    /// A reader of a table whose metadata says that it lies at `location`.
    pub(super) fn new(storage: &'a Storage, location: &str) -> Self {
        Self { storage, location: normal(location) }
    }

    /// Path relative to the table.
    ///
    /// # Errors
    /// When the object lies elsewhere.
    pub(super) fn relative(&self, uri: &str) -> Result<String> {
        let plain = normal(uri);
        let relative = plain.strip_prefix(&self.location).and_then(|rest| rest.strip_prefix('/'));
        relative.map(str::to_owned).ok_or_else(|| {
            Error::invalid(format!(
                "`{uri}` lies outside its table `{}`, where Lakebed does not look: \
                 rewrite the table with all files in one place",
                self.location
            ))
        })
    }

    /// The bytes of an object that the metadata names.
    pub(super) async fn get(&self, uri: &str) -> Result<bytes::Bytes> {
        self.storage.get(&self.relative(uri)?).await?.ok_or_else(|| {
            Error::corrupt(format!("`{uri}` is gone, though the table's metadata names it"))
        })
    }

    /// The manifests of a snapshot.
    pub(super) async fn manifest_list(&self, uri: &str) -> Result<Vec<ManifestFile>> {
        decode_list(uri, &self.get(uri).await?)
    }

    /// The entries of a manifest.
    pub(super) async fn manifest(&self, manifest: &ManifestFile) -> Result<Vec<ManifestEntryRef>> {
        decode_manifest(manifest, self.get(&manifest.manifest_path).await?).await
    }
}

/// Reads the version at `located`, going on from `base` where that saves reads.
///
/// # Errors
/// When storage does not answer, or when the table holds what Lakebed must not touch.
pub(super) async fn load(
    storage: &Storage,
    pointer: &Pointer,
    located: Located,
    sink_id: &str,
    base: Option<&State>,
) -> Result<State> {
    let uri = storage.uri(&located.path);
    let bytes = pointer.read(storage, &located).await?;
    let (metadata, pinned) = metadata::decode(&uri, &bytes)?;
    let reader = Reader::new(storage, metadata.location());
    let manifests = match metadata.current_snapshot() {
        Some(snapshot) => reader.manifest_list(snapshot.manifest_list()).await?,
        None => Vec::new(),
    };
    // Partition values are told of files of the newest spec only, so that all are read for another.
    let like = |state: &State| (state.metadata.uuid(), state.metadata.default_partition_spec_id());
    let ours = (metadata.uuid(), metadata.default_partition_spec_id());
    let known = base.filter(|base| like(base) == ours);
    let mut files = None;
    if let Some(base) = known {
        let seen: HashSet<&str> =
            base.manifests.iter().map(|manifest| manifest.manifest_path.as_str()).collect();
        let new = manifests.iter().filter(|m| !seen.contains(m.manifest_path.as_str()));
        let read = read_files(&reader, &metadata, new, base.files()).await?;
        files = adds_up(&read, &manifests).then_some(read);
    }
    let files = match files {
        Some(files) => files,
        None => read_files(&reader, &metadata, manifests.iter(), Files::default()).await?,
    };
    let progress = progress::read(&metadata, storage, sink_id).await?;
    let head = Head {
        version: located.version,
        uuid: metadata.uuid(),
        schema: metadata::table_schema(&metadata)?,
        checkpoint: progress.checkpoint,
        freshness: progress.freshness,
        memos: memos_among(metadata.properties().iter()),
        files: files.live,
    };
    let (placements, deletes) = (files.placements, files.deletes);
    Ok(State { located, metadata, pinned, manifests, placements, deletes, head })
}

impl State {
    fn files(&self) -> Files {
        Files {
            live: self.head.files.clone(),
            placements: self.placements.clone(),
            deletes: self.deletes.clone(),
        }
    }
}

/// Refuses a table that says it lies elsewhere: what we wrote into it would carry other names.
pub(super) fn check_location(metadata: &TableMetadata, storage: &Storage) -> Result<()> {
    if normal(metadata.location()) == normal(storage.location()) {
        return Ok(());
    }
    Err(Error::invalid(format!(
        "the table at `{}` says that it lies at `{}`: Iceberg tables cannot be moved by copying, \
         use the place it was made for",
        storage.location(),
        metadata.location()
    )))
}

/// Whether `files` is exactly what the manifests hold. It holds at least that.
fn adds_up(files: &Files, manifests: &[ManifestFile]) -> bool {
    let count = |content: ManifestContentType| {
        let of = manifests.iter().filter(|manifest| manifest.content == content);
        of.map(live_files).sum::<Option<u64>>()
    };
    count(ManifestContentType::Data) == Some(files.live.len() as u64)
        && count(ManifestContentType::Deletes) == Some(files.deletes.len() as u64)
}

/// Adds what `manifests` hold to `files`: data files first, then the deletes that are new.
async fn read_files<'m>(
    reader: &Reader<'_>,
    metadata: &TableMetadata,
    manifests: impl Iterator<Item = &'m ManifestFile>,
    mut files: Files,
) -> Result<Files> {
    // Collected first: a stream over a borrowed iterator would not be `Send`.
    let manifests: Vec<ManifestFile> = manifests.cloned().collect();
    let entries: Vec<(Holder, Vec<ManifestEntryRef>)> = futures::stream::iter(manifests)
        .map(|manifest| async move {
            let entries = reader.manifest(&manifest).await?;
            let (spec_id, path) = (manifest.partition_spec_id, manifest.manifest_path.into());
            Ok::<_, Error>((Holder { spec_id, path }, entries))
        })
        .buffered(READS_AT_ONCE)
        .try_collect()
        .await?;
    let all =
        || entries.iter().flat_map(|(holder, entries)| entries.iter().map(move |e| (holder, e)));
    // Before what is alive: a file may have been taken out of one manifest and into another.
    for (_, entry) in all().filter(|(_, entry)| !entry.is_alive()) {
        if entry.content_type() == DataContentType::Data {
            files.remove_data(&reader.relative(entry.file_path())?);
        }
    }
    let mut new_deletes = Vec::new();
    for (holder, entry) in all().filter(|(_, entry)| entry.is_alive()) {
        let path = reader.relative(entry.file_path())?;
        check_entry(entry, metadata)?;
        if entry.content_type() == DataContentType::Data {
            files.add_data(path, holder, entry, metadata)?;
        } else if let Entry::Vacant(place) = files.deletes.entry(path) {
            let stats =
                DeleteStats { size: entry.file_size_in_bytes(), records: entry.record_count() };
            place.insert(stats);
            let sequence = entry.sequence_number().unwrap_or(0);
            new_deletes.push((entry.file_path().to_owned(), sequence));
        }
    }
    let mut dead = futures::stream::iter(new_deletes)
        .map(|(uri, sequence)| async move {
            let bytes = reader.get(&uri).await?;
            Ok::<_, Error>((position_deletes::decode(&uri, bytes)?, sequence))
        })
        .buffered(READS_AT_ONCE);
    while let Some((positions, sequence)) = dead.try_next().await? {
        files.apply(reader, positions, sequence);
    }
    Ok(files)
}

/// The manifest that holds an entry.
struct Holder {
    spec_id: i32,
    path: Arc<str>,
}

/// Refuses what Lakebed does not read.
fn check_entry(entry: &ManifestEntryRef, metadata: &TableMetadata) -> Result<()> {
    let refused = |what: &str, next: &str| {
        Err(Error::invalid(format!(
            "table `{}` holds {what} (`{}`): {next}",
            metadata.location(),
            entry.file_path()
        )))
    };
    if entry.content_type() == DataContentType::EqualityDeletes {
        return refused(
            "equality deletes, which Lakebed does not read",
            "fold them into the data with the engine that wrote them \
             (Spark: rewrite_data_files with delete-file-threshold 1), then start again",
        );
    }
    if entry.file_format() != DataFileFormat::Parquet {
        return refused(
            &format!("a file in the {} format", entry.file_format()),
            "Lakebed reads Parquet only: rewrite the table's data as Parquet",
        );
    }
    Ok(())
}

impl Files {
    fn add_data(
        &mut self,
        path: String,
        holder: &Holder,
        entry: &ManifestEntryRef,
        metadata: &TableMetadata,
    ) -> Result<()> {
        if let Some(placement) = self.placements.get_mut(&path) {
            placement.manifest = holder.path.clone();
            return Ok(());
        }
        let stored = entry.data_file();
        let (spec, schema) = (metadata::spec(metadata, holder.spec_id)?, metadata.current_schema());
        let file = DataFile {
            size: stored.file_size_in_bytes(),
            rows: stored.record_count(),
            topic_partition: file_name::topic_partition(&path)
                .unwrap_or_else(foreign_topic_partition),
            partition: match holder.spec_id == metadata.default_partition_spec_id() {
                true => partition_spec::values(stored.partition(), spec, schema),
                false => Vec::new(),
            },
            stats: Vec::new(),
            split_offsets: stored.split_offsets().unwrap_or_default().to_vec(),
            path: path.clone(),
        };
        let placement = Placement {
            uri: stored.file_path().to_owned(),
            spec_id: holder.spec_id,
            partition: partition_spec::promoted(stored.partition(), spec, schema),
            sequence: entry.sequence_number().unwrap_or(0),
            manifest: holder.path.clone(),
        };
        self.placements.insert(path.clone(), placement);
        let live = LiveFile { file: Arc::new(file), deleted: RoaringBitmap::new() };
        self.live.insert(path, live);
        Ok(())
    }

    fn remove_data(&mut self, path: &str) {
        self.live.remove(path);
        self.placements.remove(path);
    }

    /// Marks rows dead. Deletes of files that are gone are left over and mean nothing.
    fn apply(&mut self, reader: &Reader<'_>, dead: BTreeMap<String, RoaringBitmap>, sequence: i64) {
        for (uri, positions) in dead {
            let Ok(path) = reader.relative(&uri) else { continue };
            let applies = self.placements.get(&path).is_some_and(|p| p.sequence <= sequence);
            if let Some(live) = self.live.get_mut(&path).filter(|_| applies) {
                live.deleted |= positions;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_place_has_many_spellings_and_strangers_have_none() {
        let storage = Storage::open("/lake/t", &Default::default()).expect("opens");
        let reader = Reader::new(&storage, "file:/lake/t");
        for uri in ["file:///lake/t/data/x", "file:/lake/t/data/x", "file://lake/t/data/x"] {
            assert_eq!(reader.relative(uri).expect("inside"), "data/x");
        }
        assert!(reader.relative("file:///lake/t2/data/x").is_err());
        assert_eq!(normal("s3a://b/t"), "s3://b/t");
    }
}
