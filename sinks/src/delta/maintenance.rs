//! Upkeep: log checkpoints, and the end of what no kept version needs.
//!
//! Nothing here runs on the commit path. What may be deleted is told by storage alone, so that a
//! crash or a change of owner loses nothing: the oldest kept log checkpoint says which files the
//! oldest readable version has, the head says which the newest has, and what is in neither and
//! older than both is garbage, be it replaced or left by an attempt that died.

use std::collections::HashSet;
use std::time::{Duration, SystemTime};

use futures::{StreamExt, TryStreamExt};
use serde_json::json;

use super::actions::{Add, decode_path};
use super::deletion_vectors::stored_in;
use super::delta_log::DeltaLog;
use super::log_checkpoint;
use super::log_files::{LAST_CHECKPOINT, LogFiles, checkpoint_path};
use crate::clock::now_ms;
use crate::log::{MaintenanceReport, TableLog};
use crate::storage::{Entry, PutOutcome};
use crate::{Error, Result, failpoint};

/// Versions from one log checkpoint to the next, at most: a reader replays the entries between.
const CHECKPOINT_INTERVAL: usize = 50;
/// Versions whose commit ids are kept in memory; those of older ones are read from the log.
const COMMIT_IDS_MAX: i64 = 10_000;
/// Objects deleted in one call, of the log and of the table each.
const DELETES_MAX: usize = 1000;
/// Deletions under way at once.
const DELETES_AT_ONCE: usize = 16;
/// Least time between two searches for garbage: each lists the whole table.
const SWEEP_INTERVAL: Duration = Duration::from_secs(3600);

impl DeltaLog {
    /// See [`TableLog::maintain`].
    pub(super) async fn upkeep(&mut self) -> Result<MaintenanceReport> {
        if self.stale {
            self.refresh().await?;
        }
        let mut report = MaintenanceReport::default();
        if self.is_checkpoint_due() {
            self.write_log_checkpoint().await?;
            report.log_checkpoint = Some(self.state.head.version);
        }
        if self.state.log_checkpoint <= self.tidied {
            return Ok(report);
        }
        let files = LogFiles::list(&self.storage, 0).await?;
        let (deleted, log_is_tidy) = self.clean_log(&files).await?;
        report.deleted += deleted;
        if log_is_tidy {
            let (deleted, table_is_tidy) = self.sweep().await?;
            report.deleted += deleted;
            if table_is_tidy {
                self.tidied = self.state.log_checkpoint;
            }
        }
        Ok(report)
    }

    fn is_checkpoint_due(&self) -> bool {
        let interval = self.options.retention.versions_min.clamp(1, CHECKPOINT_INTERVAL);
        let since = self.state.head.version - self.state.log_checkpoint.unwrap_or(0);
        usize::try_from(since).is_ok_and(|since| since >= interval)
    }

    async fn write_log_checkpoint(&mut self) -> Result<()> {
        let version = self.state.head.version;
        // Readers of removed files are given as long as our own clean-up gives them.
        self.state.replay.forget(self.young_from(), version - COMMIT_IDS_MAX);
        self.state.entries_from = self.state.entries_from.max(version - COMMIT_IDS_MAX);
        let rows = log_checkpoint::rows(&self.state.replay);
        let count = rows.len();
        let encoded = tokio::task::spawn_blocking(move || log_checkpoint::encode(&rows)).await;
        let bytes = encoded.map_err(|e| Error::internal("the writer died").with_source(e))??;
        let size = bytes.len();
        let path = checkpoint_path(version);
        let outcome = self.storage.put_if_absent(&path, bytes).await?;
        if let PutOutcome::Unknown(reason) = outcome {
            return Err(Error::unavailable(format!(
                "no answer when log checkpoint {version} was written: {reason}"
            )));
        }
        if let Err(error) = log_checkpoint::verify(&self.storage, &self.state).await {
            if outcome == PutOutcome::Created {
                self.storage.delete(&path).await?;
            }
            return Err(error);
        }
        self.verified = true;
        failpoint::hit(failpoint::BEFORE_HINT);
        let hint = json!({
            "version": version,
            "size": count,
            "sizeInBytes": size,
            "numOfAddFiles": self.state.head.files.len(),
        });
        self.storage.put_hint(LAST_CHECKPOINT, hint.to_string()).await?;
        self.state.log_checkpoint = Some(version);
        Ok(())
    }

    /// The log checkpoint that the oldest kept version starts from.
    fn floor(&self, files: &LogFiles) -> Option<i64> {
        let head = self.state.head.version;
        let kept = i64::try_from(self.options.retention.versions_min).unwrap_or(i64::MAX);
        let by_count = head.saturating_sub(kept.saturating_sub(1));
        let young = self.young_from();
        let by_age = files.entries.iter().find(|(_, entry)| entry.modified_ms > young);
        let by_age = by_age.map_or(head, |(version, _)| *version);
        let oldest = by_count.min(by_age).min(head);
        files.checkpoints.range(..=oldest).next_back().map(|(version, _)| *version)
    }

    /// What was written after this is too young to be deleted, milliseconds since the epoch.
    fn young_from(&self) -> i64 {
        let age = i64::try_from(self.options.retention.age_min.as_millis()).unwrap_or(i64::MAX);
        now_ms().saturating_sub(age)
    }

    /// Deletes log files below the floor, oldest first, because a writer that finds its base in
    /// place concludes that nothing behind it is gone. Says whether it is done.
    async fn clean_log(&mut self, files: &LogFiles) -> Result<(u64, bool)> {
        let Some(floor) = self.floor(files) else { return Ok((0, true)) };
        if !self.verified {
            log_checkpoint::verify(&self.storage, &self.state).await?;
            self.verified = true;
        }
        let young = self.young_from();
        let checkpoints =
            files.checkpoints.iter().flat_map(|(v, parts)| parts.iter().map(|e| (*v, e)));
        let others = files.others.iter().map(|(version, entry)| (*version, entry));
        let loose = checkpoints.chain(others).filter(|(_, entry)| entry.modified_ms <= young);
        let entries = files.entries.iter().map(|(version, entry)| (*version, entry));
        let entries = entries.take_while(|(_, entry)| entry.modified_ms <= young);
        let mut condemned: Vec<(i64, &Entry)> =
            entries.chain(loose).filter(|(version, _)| *version < floor).collect();
        condemned.sort_by(|a, b| (a.0, &a.1.path).cmp(&(b.0, &b.1.path)));
        let count = condemned.len();
        failpoint::hit(failpoint::BEFORE_CLEANUP);
        for (_, entry) in condemned.into_iter().take(DELETES_MAX) {
            self.storage.delete(&entry.path).await?;
            failpoint::hit(failpoint::AMID_CLEANUP);
        }
        Ok((count.min(DELETES_MAX) as u64, count <= DELETES_MAX))
    }

    /// Deletes data files and deletion vectors that no kept version has. Says whether it is done.
    async fn sweep(&mut self) -> Result<(u64, bool)> {
        let files = LogFiles::list(&self.storage, 0).await?;
        let Some((oldest, parts)) = files.checkpoints.first_key_value() else {
            return Ok((0, true));
        };
        let is_readable_below = files.entries.first_key_value().is_some_and(|(v, _)| v < oldest);
        let interval = SWEEP_INTERVAL.min(self.options.retention.age_min);
        let is_fresh = self.swept.is_some_and(|(version, time)| {
            version == *oldest || time.elapsed().is_ok_and(|elapsed| elapsed < interval)
        });
        if is_readable_below || is_fresh {
            return Ok((0, true));
        }
        let mut needed = HashSet::new();
        self.state.replay.adds.values().try_for_each(|add| note_needed(add, &mut needed))?;
        for part in parts {
            let Some(bytes) = self.storage.get(&part.path).await? else { return Ok((0, false)) };
            let path = part.path.clone();
            let read = tokio::task::spawn_blocking(move || log_checkpoint::decode(&path, bytes));
            let rows =
                read.await.map_err(|e| Error::internal("a reader died").with_source(e))??;
            let adds = rows.iter().filter_map(|row| row.add.as_ref());
            adds.into_iter().try_for_each(|add| note_needed(add, &mut needed))?;
        }
        let age = i64::try_from(self.options.retention.age_min.as_millis()).unwrap_or(i64::MAX);
        let written = parts.iter().map(|part| part.modified_ms).min().unwrap_or(0);
        let horizon = written.saturating_sub(age);
        let listed = self.storage.list("").await?;
        let garbage: Vec<String> = listed
            .into_iter()
            .filter(|entry| entry.modified_ms < horizon && is_ours(&entry.path))
            .map(|entry| entry.path)
            .filter(|path| !needed.contains(path))
            .collect();
        let count = garbage.len();
        self.delete_all(garbage).await?;
        let is_done = count <= DELETES_MAX;
        if is_done {
            self.swept = Some((*oldest, SystemTime::now()));
        }
        Ok((count.min(DELETES_MAX) as u64, is_done))
    }

    async fn delete_all(&self, paths: Vec<String>) -> Result<()> {
        failpoint::hit(failpoint::BEFORE_CLEANUP);
        futures::stream::iter(paths.into_iter().take(DELETES_MAX))
            .map(|path| async move {
                let deleted = self.storage.delete(&path).await;
                failpoint::hit(failpoint::AMID_CLEANUP);
                deleted
            })
            .buffer_unordered(DELETES_AT_ONCE)
            .try_collect()
            .await
    }
}

fn note_needed(add: &Add, needed: &mut HashSet<String>) -> Result<()> {
    needed.insert(decode_path(&add.path)?);
    if let Some(vector) = &add.deletion_vector {
        needed.extend(stored_in(vector)?);
    }
    Ok(())
}

/// Whether a table's file is of a kind that the log names. Folders that start with `_` or `.`
/// are other people's.
fn is_ours(path: &str) -> bool {
    let name = path.rsplit('/').next().unwrap_or(path);
    let is_vector = name.starts_with("deletion_vector_") && name.ends_with(".bin");
    !path.starts_with(['_', '.']) && (name.ends_with(".parquet") || is_vector)
}
