//! Deletes objects that no kept version needs.
//!
//! Kept are the newest metadata files (at least `versions_min`) and all that are younger than
//! `age_min`. What a version needs once it is no longer current never comes back once it is gone
//! from a later one, so an object that is older than the oldest kept version is needed only if
//! that version, or the head, names it; younger objects are not touched at all. So a few manifest
//! lists tell what may go, however many versions are kept.

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use futures::{StreamExt, TryStreamExt};
use iceberg::spec::{ManifestFile, SnapshotRef, TableMetadata};

use super::metadata;
use super::pointer::Pointer;
use super::progress::{self, lineage};
use super::state::{READS_AT_ONCE, Reader, State};
use crate::Result;
use crate::clock::now_ms;
use crate::failpoint;
use crate::log::{MaintenanceReport, Retention};
use crate::storage::{Entry, Storage};

/// Deletions in one call; the rest waits for the next.
const DELETIONS_MAX: usize = 1000;
/// An object is written a while before the version that names it.
const STAGING_MARGIN: Duration = Duration::from_secs(3600);

/// Remembers when the table was last looked through, because listings cost.
#[derive(Debug, Default)]
pub(super) struct Cleaner {
    metadata_at: Option<Instant>,
    data_at: Option<Instant>,
}

impl Cleaner {
    /// Deletes some of what may go. `state` is the newest version.
    ///
    /// # Errors
    /// When storage does not answer; the next call goes on.
    pub(super) async fn clean(
        &mut self,
        storage: &Storage,
        pointer: &Pointer,
        state: &State,
        retention: &Retention,
    ) -> Result<MaintenanceReport> {
        let mut report = MaintenanceReport::default();
        if !is_due(self.metadata_at, retention.age_min / 24) {
            return Ok(report);
        }
        let listed = storage.list("metadata").await?;
        let versions = versions(pointer, &listed, state.located.version);
        let window = Window::of(storage, state, retention, versions).await?;
        let mut doomed = window.old_versions.clone();
        doomed.extend(window.doomed(&listed, is_metadata_of_ours));
        let mut complete = true;
        if is_due(self.data_at, retention.age_min / 4) {
            doomed.extend(window.doomed(&storage.list("data").await?, |_| true));
            complete = doomed.len() <= DELETIONS_MAX;
            self.data_at = complete.then(Instant::now);
        }
        complete &= doomed.len() <= DELETIONS_MAX;
        doomed.truncate(DELETIONS_MAX);
        report.deleted = doomed.len() as u64;
        delete_all(storage, doomed).await?;
        self.metadata_at = complete.then(Instant::now);
        Ok(report)
    }
}

fn is_due(last: Option<Instant>, every: Duration) -> bool {
    last.is_none_or(|last| last.elapsed() >= every)
}

/// Manifests, manifest lists and checkpoints; what other engines keep here is theirs.
fn is_metadata_of_ours(path: &str) -> bool {
    path.ends_with(".avro") || progress::is_side_object(path)
}

async fn delete_all(storage: &Storage, paths: Vec<String>) -> Result<()> {
    if paths.is_empty() {
        return Ok(());
    }
    failpoint::hit(failpoint::BEFORE_CLEANUP);
    for chunk in paths.chunks(READS_AT_ONCE) {
        futures::stream::iter(chunk.to_vec())
            .map(|path| async move { storage.delete(&path).await })
            .buffer_unordered(READS_AT_ONCE)
            .try_collect::<()>()
            .await?;
        failpoint::hit(failpoint::AMID_CLEANUP);
    }
    Ok(())
}

/// What is kept, and since when.
struct Window {
    /// Metadata files that may go, oldest first.
    old_versions: Vec<String>,
    /// Objects written at or after this, milliseconds since the epoch, are not touched.
    cutoff_ms: i64,
    /// Older objects that are needed.
    needed: BTreeSet<String>,
}

impl Window {
    async fn of(
        storage: &Storage,
        state: &State,
        retention: &Retention,
        versions: Vec<(i64, &Entry)>,
    ) -> Result<Self> {
        let age_ms = i64::try_from(retention.age_min.as_millis()).unwrap_or(i64::MAX);
        let horizon_ms = now_ms().saturating_sub(age_ms);
        let (old_versions, oldest_kept) =
            split(versions, state.located.version, retention, horizon_ms);

        let reader = Reader::new(storage, state.metadata.location());
        let mut needed = Needed::new(&reader, state);
        needed.add_head()?;
        let mut cutoff_ms = horizon_ms;
        for entry in oldest_kept {
            cutoff_ms = cutoff_ms.min(entry.modified_ms);
            if let Some(bytes) = storage.get(&entry.path).await? {
                let (oldest, _) = metadata::decode(&storage.uri(&entry.path), &bytes)?;
                needed.add_metadata(&oldest)?;
                if let Some(snapshot) = oldest.current_snapshot() {
                    needed.add_snapshot(snapshot).await?;
                }
            }
        }
        let line = lineage(&state.metadata);
        if let Some(oldest) = line.last() {
            cutoff_ms = cutoff_ms.min(oldest.timestamp_ms());
            needed.add_snapshot(oldest).await?;
        }
        let inline: BTreeSet<i64> = line.iter().map(|snapshot| snapshot.snapshot_id()).collect();
        for snapshot in state.metadata.snapshots() {
            if !inline.contains(&snapshot.snapshot_id()) {
                needed.add_snapshot(snapshot).await?;
            }
        }
        let margin = STAGING_MARGIN.min(retention.age_min).as_millis();
        Ok(Self {
            old_versions,
            cutoff_ms: cutoff_ms.saturating_sub(i64::try_from(margin).unwrap_or(i64::MAX)),
            needed: needed.paths,
        })
    }

    fn doomed(&self, listed: &[Entry], ours: impl Fn(&str) -> bool) -> Vec<String> {
        let doomed = listed.iter().filter(|entry| {
            ours(&entry.path)
                && entry.modified_ms < self.cutoff_ms
                && !self.needed.contains(&entry.path)
        });
        doomed.map(|entry| entry.path.clone()).collect()
    }
}

/// The metadata files up to the newest version, by its number; several of one number where an
/// attempt lost its race and the catalog does not go by names.
fn versions<'l>(pointer: &Pointer, listed: &'l [Entry], newest: i64) -> Vec<(i64, &'l Entry)> {
    let mut versions: Vec<(i64, &Entry)> = listed
        .iter()
        .filter_map(|entry| Some((pointer.version_of(&entry.path)?, entry)))
        .filter(|(version, _)| *version <= newest)
        .collect();
    versions.sort_unstable_by_key(|(version, entry)| (*version, entry.modified_ms));
    versions
}

/// Metadata files that may go, and the oldest that are kept: those of the oldest number, and of
/// the one after it where the oldest may be of an attempt that lost.
///
/// Versions have no gaps. What lies below a gap is left over by a cleanup that was cut short or by
/// a writer that slept through one: nobody's version, which goes once it is old.
fn split<'l>(
    versions: Vec<(i64, &'l Entry)>,
    newest: i64,
    retention: &Retention,
    horizon_ms: i64,
) -> (Vec<String>, Vec<&'l Entry>) {
    let gap = versions.windows(2).rposition(|pair| pair[0].0 + 1 < pair[1].0);
    let (below, chain) = versions.split_at(gap.map_or(0, |index| index + 1));
    let keep = i64::try_from(retention.versions_min.max(1)).unwrap_or(i64::MAX);
    let is_old = |(_, entry): &&(i64, &Entry)| entry.modified_ms <= horizon_ms;
    let old = chain
        .iter()
        .take_while(|version| version.0 <= newest.saturating_sub(keep) && is_old(version));
    let doomed: Vec<String> =
        below.iter().filter(is_old).chain(old).map(|(_, entry)| entry.path.clone()).collect();
    let kept: Vec<&(i64, &Entry)> =
        chain.iter().filter(|(_, entry)| !doomed.contains(&entry.path)).collect();
    let doubled = chain.windows(2).any(|pair| pair[0].0 == pair[1].0);
    let last = kept.first().map_or(0, |(version, _)| version + i64::from(doubled));
    let oldest = kept.iter().take_while(|(version, _)| *version <= last);
    (doomed, oldest.map(|(_, entry)| *entry).collect())
}

/// Collects the paths that kept versions name.
struct Needed<'a> {
    reader: &'a Reader<'a>,
    state: &'a State,
    paths: BTreeSet<String>,
}

impl<'a> Needed<'a> {
    fn new(reader: &'a Reader<'a>, state: &'a State) -> Self {
        Self { reader, state, paths: BTreeSet::new() }
    }

    /// Everything that the head names, its manifests' entries included.
    fn add_head(&mut self) -> Result<()> {
        self.paths.extend(self.state.head.files.keys().cloned());
        self.paths.extend(self.state.deletes.keys().cloned());
        for manifest in &self.state.manifests {
            self.paths.insert(self.reader.relative(&manifest.manifest_path)?);
        }
        self.add_metadata(&self.state.metadata)
    }

    /// Manifest lists and checkpoints of all snapshots of one metadata file.
    fn add_metadata(&mut self, metadata: &TableMetadata) -> Result<()> {
        let summaries = metadata.snapshots().map(|s| &s.summary().additional_properties);
        let texts = summaries.chain([metadata.properties()]);
        let named =
            texts.filter_map(|texts| progress::side_object(texts.get(progress::CHECKPOINT)?));
        self.paths.extend(named);
        for snapshot in metadata.snapshots() {
            self.paths.insert(self.reader.relative(snapshot.manifest_list())?);
        }
        Ok(())
    }

    /// The manifests of a snapshot and the files in those that the head does not share.
    async fn add_snapshot(&mut self, snapshot: &SnapshotRef) -> Result<()> {
        let manifests = self.reader.manifest_list(snapshot.manifest_list()).await?;
        let known: BTreeSet<&str> =
            self.state.manifests.iter().map(|m| m.manifest_path.as_str()).collect();
        let mut new: Vec<ManifestFile> = Vec::new();
        for manifest in manifests {
            let path = self.reader.relative(&manifest.manifest_path)?;
            if self.paths.insert(path) && !known.contains(manifest.manifest_path.as_str()) {
                new.push(manifest);
            }
        }
        let reader = self.reader;
        let mut entries = futures::stream::iter(new)
            .map(|manifest| async move { reader.manifest(&manifest).await })
            .buffer_unordered(READS_AT_ONCE);
        while let Some(entries) = entries.try_next().await? {
            for entry in entries.iter().filter(|entry| entry.is_alive()) {
                self.paths.insert(self.reader.relative(entry.file_path())?);
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn listed(versions: &[(i64, i64)]) -> Vec<Entry> {
        let entry = |(version, modified_ms): &(i64, i64)| Entry {
            path: format!("metadata/v{version}.metadata.json"),
            size: 1,
            modified_ms: *modified_ms,
        };
        versions.iter().map(entry).collect()
    }

    #[test]
    fn versions_are_kept_by_number_and_by_age() {
        let listed = listed(&[(7, 70), (8, 80), (9, 90), (10, 100), (11, 110)]);
        let split = |versions_min, horizon_ms| {
            let retention = Retention { versions_min, age_min: Duration::ZERO };
            let versions = versions(&Pointer::Filesystem, &listed, 11);
            let (doomed, oldest) = split(versions, 11, &retention, horizon_ms);
            let [oldest] = oldest[..] else { panic!("one version of each number") };
            (doomed.len(), Pointer::Filesystem.version_of(&oldest.path))
        };
        assert_eq!(split(2, 200), (3, Some(10)));
        assert_eq!(split(2, 80), (2, Some(9)));
        assert_eq!(split(9, 200), (0, Some(7)));
    }

    #[test]
    fn a_version_in_the_past_does_not_hold_up_cleanup() {
        // Version 3 was made by a sleeper a moment ago, long after its time.
        let listed = listed(&[(3, 990), (7, 70), (8, 80), (9, 90)]);
        let retention = Retention { versions_min: 1, age_min: Duration::ZERO };
        let versions = versions(&Pointer::Filesystem, &listed, 9);
        let (doomed, oldest) = split(versions, 9, &retention, 500);
        assert_eq!(doomed, ["metadata/v7.metadata.json", "metadata/v8.metadata.json"]);
        assert_eq!(oldest.iter().map(|entry| entry.modified_ms).collect::<Vec<_>>(), [90]);
    }
}
