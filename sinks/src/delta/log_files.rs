//! The files of the log: their names, and which of them make up a version.

use std::collections::BTreeMap;

use crate::Result;
use crate::storage::{Entry, Storage};

/// Folder of the log.
pub(super) const FOLDER: &str = "_delta_log";
/// Names the newest log checkpoint, as a hint.
pub(super) const LAST_CHECKPOINT: &str = "_delta_log/_last_checkpoint";

/// The log entry of a version.
pub(super) fn entry_path(version: i64) -> String {
    format!("{FOLDER}/{version:020}.json")
}

/// The log checkpoint of a version.
pub(super) fn checkpoint_path(version: i64) -> String {
    format!("{FOLDER}/{version:020}.checkpoint.parquet")
}

/// What a listing of the log shows.
#[derive(Debug, Default)]
pub(super) struct LogFiles {
    /// Log entries by version.
    pub(super) entries: BTreeMap<i64, Entry>,
    /// Complete log checkpoints by version, each with its parts.
    pub(super) checkpoints: BTreeMap<i64, Vec<Entry>>,
    /// Everything else that belongs to one version: checksums, parts, temporary files.
    pub(super) others: Vec<(i64, Entry)>,
}

impl LogFiles {
    /// Lists the log from a version on.
    pub(super) async fn list(storage: &Storage, from: i64) -> Result<Self> {
        // Sorts right before every file of that version.
        let listed = storage.list_after(FOLDER, &format!("{FOLDER}/{from:020}")).await?;
        Ok(Self::sort(listed))
    }

    fn sort(listed: Vec<Entry>) -> Self {
        let mut files = Self::default();
        let mut parts: BTreeMap<(i64, u64), Vec<Entry>> = BTreeMap::new();
        for entry in listed {
            let Some((version, kind)) = split(&entry.path) else { continue };
            match part_count(kind) {
                _ if kind == "json" => {
                    files.entries.insert(version, entry);
                }
                Some(count) => parts.entry((version, count)).or_default().push(entry),
                None => files.others.push((version, entry)),
            }
        }
        for ((version, count), entries) in parts {
            if entries.len() as u64 == count {
                files.checkpoints.insert(version, entries);
            } else {
                files.others.extend(entries.into_iter().map(|entry| (version, entry)));
            }
        }
        files
    }

    /// The newest version there is.
    pub(super) fn newest(&self) -> Option<i64> {
        let entry = self.entries.last_key_value().map(|(version, _)| *version);
        entry.max(self.checkpoints.last_key_value().map(|(version, _)| *version))
    }

    /// The first of the entries that reach without a gap up to the newest version.
    pub(super) fn run_start(&self) -> Option<i64> {
        let mut start = *self.entries.last_key_value()?.0;
        for version in self.entries.keys().rev().skip(1) {
            if *version != start - 1 {
                break;
            }
            start = *version;
        }
        Some(start)
    }
}

/// Version and kind of a file directly in the log's folder.
fn split(path: &str) -> Option<(i64, &str)> {
    let name = path.strip_prefix(FOLDER)?.strip_prefix('/')?;
    let (version, kind) = name.split_once('.')?;
    let is_version = version.len() == 20 && version.bytes().all(|byte| byte.is_ascii_digit());
    (is_version && !name.contains('/')).then(|| Some((version.parse().ok()?, kind)))?
}

/// How many parts a log checkpoint of this kind has; `None` for what is none, or none we can read.
fn part_count(kind: &str) -> Option<u64> {
    let middle = kind.strip_prefix("checkpoint.")?.strip_suffix("parquet")?;
    if middle.is_empty() {
        return Some(1);
    }
    let (part, count) = middle.strip_suffix('.')?.split_once('.')?;
    let _part: u64 = part.parse().ok()?;
    count.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn files(names: &[&str]) -> LogFiles {
        let entry =
            |name: &&str| Entry { path: format!("{FOLDER}/{name}"), size: 1, modified_ms: 0 };
        LogFiles::sort(names.iter().map(entry).collect())
    }

    #[test]
    fn only_whole_log_checkpoints_count() {
        let files = files(&[
            "00000000000000000003.json",
            "00000000000000000004.json",
            "00000000000000000004.crc",
            "00000000000000000004.checkpoint.0000000001.0000000002.parquet",
            "00000000000000000003.checkpoint.parquet",
            "00000000000000000003.checkpoint.80a083e8-7026-4e79-81be-64bd76c43a11.parquet",
            "_last_checkpoint",
            "_staged_commits/00000000000000000005.x.json",
        ]);

        assert_eq!(files.checkpoints.keys().collect::<Vec<_>>(), [&3]);
        assert_eq!(files.entries.keys().collect::<Vec<_>>(), [&3, &4]);
        assert_eq!((files.newest(), files.run_start(), files.others.len()), (Some(4), Some(3), 3));
    }

    #[test]
    fn a_run_of_entries_ends_at_a_gap() {
        let files = files(&[
            "00000000000000000001.json",
            "00000000000000000003.json",
            "00000000000000000004.json",
        ]);

        assert_eq!(files.run_start(), Some(3));
    }
}
