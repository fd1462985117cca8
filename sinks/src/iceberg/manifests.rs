//! Manifests and manifest lists: bytes in, bytes out, and when to merge manifests.
//!
//! The library writes Avro only to a file of its own kind, so each one is written to a file in
//! memory and the bytes are put by us.

use std::collections::HashMap;

use bytes::Bytes;
use iceberg::io::FileIO;
use iceberg::spec::{
    DataFile, FormatVersion, ManifestContentType, ManifestEntryRef, ManifestFile, ManifestList,
    ManifestListWriter, ManifestWriterBuilder, PartitionSpec, SchemaRef,
};

use super::convert::library;
use super::entries;
use crate::{Error, Result};

/// So many manifests of one size tier become one manifest of the next, so their number grows with
/// the logarithm of the number of files and each entry is rewritten once for each tier.
const FANOUT_LOG2: u32 = 3;

/// A manifest of this size stays as it is: a reader takes it in one go, and rewriting it buys nothing.
pub(super) const MERGED_BYTES_MAX: i64 = 8 << 20;

/// What goes into a manifest.
pub(super) enum Entry {
    /// A file that the commit adds.
    Added(Box<DataFile>),
    /// A file from a manifest that is merged, with its own history.
    Existing(ManifestEntryRef),
    /// A file from such a manifest that leaves with this commit.
    Deleted(ManifestEntryRef),
}

/// Where a manifest belongs: its table version, columns and partitioning.
pub(super) struct ManifestContext {
    pub(super) snapshot_id: i64,
    pub(super) schema: SchemaRef,
    pub(super) spec: PartitionSpec,
    pub(super) content: ManifestContentType,
}

/// Encodes a manifest that will lie at `uri`.
pub(super) async fn encode_manifest(
    uri: &str,
    context: ManifestContext,
    entries: Vec<Entry>,
) -> Result<(ManifestFile, Bytes)> {
    let doing = || format!("could not encode manifest `{uri}`");
    let io = FileIO::new_with_memory();
    let output = io.new_output(uri).map_err(library(doing()))?;
    let ManifestContext { snapshot_id, schema, spec, content } = context;
    let now = |entry: &ManifestEntryRef| entries::promoted(entry.data_file(), &spec, &schema);
    let builder =
        ManifestWriterBuilder::new(output, Some(snapshot_id), schema.clone(), spec.clone());
    let mut writer = match content {
        ManifestContentType::Data => builder.build_v2_data(),
        ManifestContentType::Deletes => builder.build_v2_deletes(),
    };
    for entry in entries {
        match entry {
            // A negative number is inherited from the manifest list at commit.
            Entry::Added(file) => writer.add_file(*file, -1).map_err(library(doing()))?,
            Entry::Existing(entry) => {
                let (snapshot_id, sequence, file_sequence) = history(&entry)?;
                writer
                    .add_existing_file(now(&entry)?, snapshot_id, sequence, Some(file_sequence))
                    .map_err(library(doing()))?;
            }
            Entry::Deleted(entry) => {
                let (_, sequence, file_sequence) = history(&entry)?;
                writer
                    .add_delete_file(now(&entry)?, sequence, Some(file_sequence))
                    .map_err(library(doing()))?;
            }
        }
    }
    let manifest = writer.write_manifest_file().await.map_err(library(doing()))?;
    let bytes = take(&io, uri).await?;
    Ok((manifest, bytes))
}

/// The snapshot that an entry came with, and its data and file sequence numbers.
fn history(entry: &ManifestEntryRef) -> Result<(i64, i64, i64)> {
    let (Some(snapshot_id), Some(sequence)) = (entry.snapshot_id, entry.sequence_number) else {
        return Err(Error::corrupt(format!(
            "`{}` has no sequence number in its manifest",
            entry.file_path()
        )));
    };
    Ok((snapshot_id, sequence, entry.file_sequence_number.unwrap_or(sequence)))
}

/// Decodes a manifest; entries have inherited what the list says of it.
pub(super) async fn decode_manifest(
    manifest: &ManifestFile,
    bytes: Bytes,
) -> Result<Vec<ManifestEntryRef>> {
    let doing = || format!("could not decode manifest `{}`", manifest.manifest_path);
    let io = FileIO::new_with_memory();
    let output = io.new_output(&manifest.manifest_path).map_err(library(doing()))?;
    output.write(bytes).await.map_err(library(doing()))?;
    let decoded = manifest.load_manifest(&io).await.map_err(library(doing()))?;
    Ok(decoded.into_parts().0)
}

/// Encodes the manifest list of one snapshot that will lie at `uri`.
pub(super) async fn encode_list(
    uri: &str,
    snapshot_id: i64,
    parent: Option<i64>,
    sequence: i64,
    manifests: &[ManifestFile],
) -> Result<Bytes> {
    let doing = || format!("could not encode manifest list `{uri}`");
    let io = FileIO::new_with_memory();
    let output = io.new_output(uri).map_err(library(doing()))?;
    let writer = output.writer().await.map_err(library(doing()))?;
    let mut list = ManifestListWriter::v2(writer, snapshot_id, parent, sequence);
    list.add_manifests(manifests.iter().cloned()).map_err(library(doing()))?;
    list.close().await.map_err(library(doing()))?;
    take(&io, uri).await
}

/// Decodes the manifest list at `uri`.
pub(super) fn decode_list(uri: &str, bytes: &Bytes) -> Result<Vec<ManifestFile>> {
    let list = ManifestList::parse_with_version(bytes, FormatVersion::V2)
        .map_err(library(format!("could not decode manifest list `{uri}`")))?;
    Ok(list.consume_entries().into_iter().collect())
}

async fn take(io: &FileIO, uri: &str) -> Result<Bytes> {
    let doing = || format!("lost the bytes of `{uri}` in memory");
    let input = io.new_input(uri).map_err(library(doing()))?;
    input.read().await.map_err(library(doing()))
}

/// Live files of a manifest; `None` if it does not say.
pub(super) fn live_files(manifest: &ManifestFile) -> Option<u64> {
    Some(u64::from(manifest.added_files_count?) + u64::from(manifest.existing_files_count?))
}

/// Which of `manifests` are merged with the manifest of `added` new files of the same content and
/// partition spec: indexes.
pub(super) fn merge_with(
    manifests: &[ManifestFile],
    of: (ManifestContentType, i32),
    added: u64,
) -> Vec<usize> {
    let mut tiers: HashMap<u32, Vec<usize>> = HashMap::new();
    for (index, manifest) in manifests.iter().enumerate() {
        let kin = (manifest.content, manifest.partition_spec_id) == of;
        if let Some(live) = live_files(manifest).filter(|_| kin)
            && manifest.manifest_length < MERGED_BYTES_MAX
        {
            tiers.entry(tier(live)).or_default().push(index);
        }
    }
    let mut merged = Vec::new();
    let mut pending = added;
    // A merge may fill the next tier, and so on.
    while let Some(same) = tiers.remove(&tier(pending)) {
        if same.len() + 1 < 1 << FANOUT_LOG2 {
            break;
        }
        pending += same.iter().filter_map(|index| live_files(&manifests[*index])).sum::<u64>();
        merged.extend(same);
    }
    merged
}

fn tier(live: u64) -> u32 {
    live.max(1).ilog2() / FANOUT_LOG2
}

#[cfg(test)]
mod tests {
    use super::*;

    fn manifest(live: u32) -> ManifestFile {
        ManifestFile {
            manifest_path: String::new(),
            manifest_length: i64::from(live) * 500,
            partition_spec_id: 0,
            content: ManifestContentType::Data,
            sequence_number: 1,
            min_sequence_number: 1,
            added_snapshot_id: 1,
            added_files_count: Some(live),
            existing_files_count: Some(0),
            deleted_files_count: Some(0),
            added_rows_count: Some(0),
            existing_rows_count: Some(0),
            deleted_rows_count: Some(0),
            partitions: None,
            key_metadata: None,
            first_row_id: None,
        }
    }

    #[test]
    fn manifests_stay_few_and_entries_are_rewritten_once_a_tier() {
        let mut manifests: Vec<ManifestFile> = Vec::new();
        let (mut most, mut rewritten) = (0, 0);
        for _ in 0..10_000 {
            let merged = merge_with(&manifests, (ManifestContentType::Data, 0), 1);
            let live: u64 = merged.iter().filter_map(|index| live_files(&manifests[*index])).sum();
            rewritten += live;
            let mut index = 0;
            manifests.retain(|_| {
                index += 1;
                !merged.contains(&(index - 1))
            });
            manifests.push(manifest(u32::try_from(live).expect("small") + 1));
            most = most.max(manifests.len());
        }
        let files: u64 = manifests.iter().filter_map(live_files).sum();
        assert_eq!(files, 10_000);
        assert!(most <= 30, "{most} manifests at once");
        assert!(rewritten < 10_000 * 5, "{rewritten} entries rewritten");
    }

    #[test]
    fn manifests_of_another_spec_or_content_are_left_alone() {
        let manifests = vec![manifest(1); 20];
        assert!(merge_with(&manifests, (ManifestContentType::Deletes, 0), 1).is_empty());
        assert!(merge_with(&manifests, (ManifestContentType::Data, 1), 1).is_empty());
        assert_eq!(merge_with(&manifests, (ManifestContentType::Data, 0), 1).len(), 20);
    }
}
