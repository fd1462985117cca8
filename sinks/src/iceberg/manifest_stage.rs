//! Writing the manifests of one snapshot: new files in, those that leave marked, the rest as it was.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::sync::Arc;

use bytes::Bytes;
use iceberg::spec::{
    DataFile as IcebergFile, ManifestContentType, ManifestFile, SchemaRef, TableMetadata,
};

use super::leaving::Leaving;
use super::manifests::{self, Entry, ManifestContext};
use super::metadata;
use super::state::{Reader, State};
use crate::Result;
use crate::storage::Storage;

/// Manifests up to this size are remembered, so that merging recent ones reads nothing.
const REMEMBERED_BYTES_MAX: usize = 32 << 10;

/// Small manifests that are in the table, by URI.
pub(super) type Remembered = HashMap<String, Bytes>;

/// The manifests of the next snapshot, while they are written.
pub(super) struct ManifestStage<'a> {
    pub(super) storage: &'a Storage,
    pub(super) reader: Reader<'a>,
    pub(super) base: &'a TableMetadata,
    pub(super) schema: SchemaRef,
    pub(super) snapshot_id: i64,
    pub(super) sequence: i64,
    pub(super) prefix: String,
    pub(super) manifests: Vec<ManifestFile>,
    pub(super) leaving: &'a Leaving<'a>,
    /// Data files by path, and the new manifest that holds them.
    pub(super) holders: Vec<(String, Arc<str>)>,
    /// How many have been written.
    pub(super) written: usize,
    pub(super) remembered: &'a mut Remembered,
}

impl ManifestStage<'_> {
    /// Writes manifests with the new files of one content, each with the spec that it belongs to,
    /// and without those that leave.
    pub(super) async fn add_all(
        &mut self,
        content: ManifestContentType,
        files: impl Iterator<Item = (i32, IcebergFile)>,
    ) -> Result<()> {
        let mut by_spec: BTreeMap<i32, Vec<IcebergFile>> = BTreeMap::new();
        for (spec_id, file) in files {
            by_spec.entry(spec_id).or_default().push(file);
        }
        for manifest in self.manifests.iter().filter(|manifest| manifest.content == content) {
            if self.leaving.is_holder(manifest) {
                by_spec.entry(manifest.partition_spec_id).or_default();
            }
        }
        for (spec_id, files) in by_spec {
            self.add((content, spec_id), files).await?;
        }
        Ok(())
    }

    /// Writes one manifest with the new files of one content and spec, with those of the
    /// manifests that are due for merging, and with what stays of manifests from which files leave.
    /// Large ones of these are written anew by themselves.
    async fn add(&mut self, of: (ManifestContentType, i32), files: Vec<IcebergFile>) -> Result<()> {
        let mut merged: BTreeSet<usize> = match files.is_empty() {
            true => BTreeSet::new(),
            false => {
                manifests::merge_with(&self.manifests, of, files.len() as u64).into_iter().collect()
            }
        };
        let mut apart = BTreeSet::new();
        let mut length: i64 =
            merged.iter().map(|index| self.manifests[*index].manifest_length).sum();
        for (index, manifest) in self.manifests.iter().enumerate() {
            let is_kin = (manifest.content, manifest.partition_spec_id) == of;
            if !is_kin || merged.contains(&index) || !self.leaving.is_holder(manifest) {
                continue;
            }
            length += manifest.manifest_length;
            let fits = length <= manifests::MERGED_BYTES_MAX;
            if fits {
                merged.insert(index)
            } else {
                apart.insert(index)
            };
        }
        let take = |index: &usize| self.manifests[*index].clone();
        let together: Vec<ManifestFile> = merged.iter().map(take).collect();
        let alone: Vec<ManifestFile> = apart.iter().map(take).collect();
        let mut index = 0;
        self.manifests.retain(|_| {
            index += 1;
            !merged.contains(&(index - 1)) && !apart.contains(&(index - 1))
        });
        if !(files.is_empty() && together.is_empty()) {
            self.write(of, files, together).await?;
        }
        for manifest in alone {
            self.write(of, Vec::new(), vec![manifest]).await?;
        }
        Ok(())
    }

    /// Writes a manifest in place of these.
    async fn write(
        &mut self,
        (content, spec_id): (ManifestContentType, i32),
        files: Vec<IcebergFile>,
        instead_of: Vec<ManifestFile>,
    ) -> Result<()> {
        let path = format!("{}{}.avro", self.prefix, self.written);
        self.written += 1;
        let uri = self.storage.uri(&path);
        let mut entries: Vec<Entry> =
            files.into_iter().map(|file| Entry::Added(Box::new(file))).collect();
        for manifest in &instead_of {
            let decoded = match self.remembered.get(&manifest.manifest_path) {
                Some(bytes) => manifests::decode_manifest(manifest, bytes.clone()).await?,
                None => self.reader.manifest(manifest).await?,
            };
            for entry in decoded.into_iter().filter(|entry| entry.is_alive()) {
                entries.push(match self.leaving.takes(content, entry.file_path()) {
                    true => Entry::Deleted(entry),
                    false => Entry::Existing(entry),
                });
            }
        }
        if content == ManifestContentType::Data {
            self.note_holders(&entries, &uri)?;
        }
        let context = ManifestContext {
            snapshot_id: self.snapshot_id,
            schema: self.schema.clone(),
            spec: metadata::spec(self.base, spec_id)?.clone(),
            content,
        };
        let (mut manifest, bytes) = manifests::encode_manifest(&uri, context, entries).await?;
        self.storage.put(&path, bytes.clone()).await?;

        // What the manifest list will say when it is read back.
        manifest.sequence_number = self.sequence;
        if manifest.min_sequence_number < 0 {
            manifest.min_sequence_number = self.sequence;
        }
        self.manifests.push(manifest);
        if bytes.len() <= REMEMBERED_BYTES_MAX {
            self.remembered.insert(uri, bytes);
        }
        Ok(())
    }

    fn note_holders(&mut self, entries: &[Entry], manifest: &str) -> Result<()> {
        let manifest: Arc<str> = Arc::from(manifest);
        for entry in entries {
            let uri = match entry {
                Entry::Added(file) => file.file_path(),
                Entry::Existing(entry) => entry.file_path(),
                Entry::Deleted(_) => continue,
            };
            self.holders.push((self.reader.relative(uri)?, manifest.clone()));
        }
        Ok(())
    }
}

/// Forgets manifests that are no longer in the table.
pub(super) fn forget(remembered: &mut Remembered, state: &State) {
    let current: HashSet<&str> =
        state.manifests.iter().map(|manifest| manifest.manifest_path.as_str()).collect();
    remembered.retain(|uri, _| current.contains(uri.as_str()));
}
