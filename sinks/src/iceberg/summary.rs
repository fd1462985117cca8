//! What a snapshot's summary says of its files: the operation and the counters that the spec names.

use std::collections::{HashMap, HashSet};

use iceberg::spec::{DataFile, Operation, Struct};
use roaring::RoaringBitmap;

use super::leaving::Leaving;
use super::state::State;
use crate::log::TableChange;

/// What the commit does, in the spec's words.
pub(super) fn operation(change: &TableChange) -> Operation {
    let takes_nothing =
        change.removed.is_empty() && change.deleted.values().all(RoaringBitmap::is_empty);
    match (change.added.is_empty(), takes_nothing) {
        (_, true) => Operation::Append,
        (true, false) => Operation::Delete,
        (false, false) => Operation::Overwrite,
    }
}

/// Writes what is added to `state` and what leaves it, and the totals after it.
///
/// Totals are counted from what is live and not from the parent's summary, which another engine
/// may have left out.
pub(super) fn count(
    state: &State,
    added: &[DataFile],
    deletes: &[DataFile],
    leaving: &Leaving<'_>,
    summary: &mut HashMap<String, String>,
) {
    let rows = |files: &[DataFile]| files.iter().map(DataFile::record_count).sum::<u64>();
    let bytes = |files: &[DataFile]| files.iter().map(DataFile::file_size_in_bytes).sum::<u64>();
    let live = || state.head.files.values().map(|live| &live.file);
    let live_bytes = live().map(|file| file.size).sum::<u64>()
        + state.deletes.values().map(|delete| delete.size).sum::<u64>();
    let live_deletes = state.deletes.values().map(|delete| delete.records).sum::<u64>();
    let gone = leaving.count();
    let mut partitions: HashSet<&Struct> =
        added.iter().chain(deletes).map(DataFile::partition).collect();
    partitions.extend(leaving.partitions());
    let size = bytes(added) + bytes(deletes);

    let mut put = |key: &str, value: u64| {
        if value > 0 || key.starts_with("total-") {
            summary.insert(key.into(), value.to_string());
        }
    };
    put("added-data-files", added.len() as u64);
    put("added-records", rows(added));
    put("added-files-size", size);
    put("added-delete-files", deletes.len() as u64);
    put("added-position-delete-files", deletes.len() as u64);
    put("added-position-deletes", rows(deletes));
    put("deleted-data-files", gone.files);
    put("deleted-records", gone.rows);
    put("removed-files-size", gone.bytes + gone.delete_bytes);
    put("removed-delete-files", gone.delete_files);
    put("removed-position-delete-files", gone.delete_files);
    put("removed-position-deletes", gone.delete_rows);
    put("changed-partition-count", partitions.len() as u64);
    put("total-data-files", (state.head.files.len() + added.len()) as u64 - gone.files);
    put("total-records", live().map(|file| file.rows).sum::<u64>() + rows(added) - gone.rows);
    put("total-files-size", live_bytes + size - gone.bytes - gone.delete_bytes);
    put("total-delete-files", (state.deletes.len() + deletes.len()) as u64 - gone.delete_files);
    put("total-position-deletes", live_deletes + rows(deletes) - gone.delete_rows);
    put("total-equality-deletes", 0);
}
