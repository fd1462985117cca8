//! Progress inside the table (stored format, version 1): where it is written and which one counts.
//!
//! Every snapshot of ours carries the whole checkpoint in its summary. The same text stands in a
//! table property, together with the snapshot that it belongs to, so that neither expiry of
//! snapshots nor commits of others lose it, and so that a rollback is noticed.

use std::collections::{BTreeSet, HashMap};

use iceberg::spec::{SnapshotRef, TableMetadata};
use lakebed_schemas::position::{Checkpoint, StoredCheckpointError};
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use crate::log::TableOptions;
use crate::storage::Storage;
use crate::{Error, Result};

/// The checkpoint: summary key and table property.
pub(super) const CHECKPOINT: &str = "lakebed.checkpoint";
/// Table property: the snapshot that the property's checkpoint belongs to.
pub(super) const CHECKPOINT_SNAPSHOT: &str = "lakebed.checkpoint-snapshot";
/// Newest source commit time, microseconds: summary key and table property.
pub(super) const FRESHNESS: &str = "lakebed.freshness";
/// Summary key: by which a commit is recognised.
pub(super) const COMMIT_ID: &str = "lakebed.commit-id";
/// Summary key: number of the metadata file that made the snapshot current.
pub(super) const VERSION: &str = "lakebed.version";
/// Summary key: who wrote it.
pub(super) const OWNER: &str = "lakebed.owner";
/// Before the name of each note in a summary.
pub(super) const NOTE: &str = "lakebed.note.";

/// Whether a table property is about progress.
pub(super) fn is_property(key: &str) -> bool {
    [CHECKPOINT, CHECKPOINT_SNAPSHOT, FRESHNESS].contains(&key)
}

/// Beyond so many topic-partitions the checkpoint lies in an object of its own: it stands in every
/// kept snapshot's summary, all of which are rewritten by every commit.
const INLINE_PARTITIONS_MAX: usize = 256;
const SIDE_OBJECT: &str = "metadata/checkpoint-";

/// What stands in place of a checkpoint that lies elsewhere.
#[derive(Serialize, Deserialize)]
struct SideObject {
    v: u32,
    sink: String,
    cluster: Option<String>,
    object: String,
}

/// A checkpoint ready to be written.
pub(super) struct Encoded {
    /// For the summary and the property.
    pub(super) text: String,
    /// Object to put first, path and bytes, if the checkpoint is too large for a summary.
    pub(super) side_object: Option<(String, Vec<u8>)>,
}

/// The stored form of a checkpoint. Whole, whatever its size, where objects that no manifest names
/// are not safe (`beside`): others would delete one.
pub(super) fn encode(
    checkpoint: &Checkpoint,
    options: &TableOptions,
    beside: bool,
) -> Result<Encoded> {
    let internal = |e| Error::internal("could not encode the checkpoint").with_source(e);
    let stored = checkpoint.to_stored(&options.sink_id, options.cluster.as_deref());
    let text = serde_json::to_string(&stored).map_err(internal)?;
    if !beside || checkpoint.iter().nth(INLINE_PARTITIONS_MAX).is_none() {
        return Ok(Encoded { text, side_object: None });
    }
    let path = format!("{SIDE_OBJECT}{}.json", Uuid::new_v4().simple());
    let reference = SideObject {
        v: stored.v,
        sink: stored.sink,
        cluster: stored.cluster,
        object: path.clone(),
    };
    let reference = serde_json::to_string(&reference).map_err(internal)?;
    Ok(Encoded { text: reference, side_object: Some((path, text.into_bytes())) })
}

/// Path of the side object that a stored checkpoint names, if it names one.
pub(super) fn side_object(text: &str) -> Option<String> {
    let reference: SideObject = serde_json::from_str(text).ok()?;
    // Only what we name ourselves is followed.
    reference.object.starts_with(SIDE_OBJECT).then_some(reference.object)
}

/// Whether an object in the metadata folder is a checkpoint of ours.
pub(super) fn is_side_object(path: &str) -> bool {
    path.starts_with(SIDE_OBJECT)
}

/// Progress as a table's metadata tells it.
#[derive(Debug, Clone, Default, PartialEq)]
pub(super) struct Progress {
    pub(super) checkpoint: Checkpoint,
    pub(super) freshness: Option<i64>,
}

/// Reads the progress that counts.
///
/// # Errors
/// `Corrupt` where the table was rolled back behind its progress; `Invalid` where the progress is
/// another sink's or a newer release's.
pub(super) async fn read(
    metadata: &TableMetadata,
    storage: &Storage,
    sink_id: &str,
) -> Result<Progress> {
    let Some(stored) = newest(metadata, storage.location())? else {
        return Ok(Progress::default());
    };
    let number = |text: &String| text.parse().ok();
    let freshness = stored.get(FRESHNESS).and_then(number);
    let Some(text) = stored.get(CHECKPOINT) else { return Ok(Progress::default()) };
    let text = match side_object(text) {
        None => text.clone(),
        Some(path) => {
            let bytes = storage.get(&path).await?.ok_or_else(|| {
                Error::corrupt(format!("the checkpoint `{}` is gone", storage.uri(&path)))
            })?;
            String::from_utf8_lossy(&bytes).into_owned()
        }
    };
    let checkpoint = Checkpoint::from_stored(&text, sink_id).map_err(|error| {
        let doing = format!("table `{}`", storage.location());
        match error {
            StoredCheckpointError::Unreadable(_) => Error::corrupt(doing),
            _ => Error::invalid(doing),
        }
        .with_source(error)
    })?;
    Ok(Progress { checkpoint, freshness })
}

/// The summary or the properties that hold the newest checkpoint of the current lineage.
fn newest<'m>(
    metadata: &'m TableMetadata,
    location: &str,
) -> Result<Option<&'m HashMap<String, String>>> {
    let properties = metadata.properties();
    let named: Option<i64> = match properties.get(CHECKPOINT_SNAPSHOT) {
        None => None,
        Some(text) => Some(text.parse().map_err(|_| {
            Error::corrupt(format!(
                "table `{location}`: property {CHECKPOINT_SNAPSHOT} is no number"
            ))
        })?),
    };
    let holder = lineage(metadata)
        .into_iter()
        .find(|snapshot| snapshot.summary().additional_properties.contains_key(CHECKPOINT));
    match (holder, named) {
        (Some(holder), named) if named.is_none_or(|id| id == holder.snapshot_id()) => {
            Ok(Some(&holder.summary().additional_properties))
        }
        // All snapshots with progress have expired; a rollback would have left this one visible.
        (None, Some(id)) if metadata.snapshot_by_id(id).is_none() => Ok(Some(properties)),
        (None, None) => Ok(None),
        _ => Err(Error::corrupt(format!(
            "table `{location}` was rolled back behind its progress: the snapshot in its property {CHECKPOINT_SNAPSHOT} is not in the \
             history of the current one. Make that snapshot current again, or, to go on from the older progress and \
             write everything after it once more, remove that property"
        ))),
    }
}

/// The current snapshot and its ancestors, newest first, as far as they are kept.
pub(super) fn lineage(metadata: &TableMetadata) -> Vec<&SnapshotRef> {
    let mut seen = BTreeSet::new();
    let mut line = Vec::new();
    let mut next = metadata.current_snapshot();
    while let Some(snapshot) = next {
        if !seen.insert(snapshot.snapshot_id()) {
            break;
        }
        line.push(snapshot);
        next = snapshot.parent_snapshot_id().and_then(|id| metadata.snapshot_by_id(id));
    }
    line
}

/// The version that the commit with this id made.
pub(super) fn find_commit(metadata: &TableMetadata, commit_id: Uuid) -> Option<i64> {
    let wanted = commit_id.to_string();
    lineage(metadata).into_iter().find_map(|snapshot| {
        let summary = &snapshot.summary().additional_properties;
        (summary.get(COMMIT_ID) == Some(&wanted)).then(|| summary.get(VERSION)?.parse().ok())?
    })
}
