//! The file system ("Hadoop") convention: the newest version is told by the folder itself.
//!
//! Version N of the table is `metadata/v<N>.metadata.json`, made by a conditional put; numbers have
//! no gaps, and `metadata/version-hint.text` is a hint for readers, never the truth.

use super::pointer::Located;
use crate::storage::{PutOutcome, Storage};
use crate::{Error, Result};

const FOLDER: &str = "metadata";
const HINT: &str = "metadata/version-hint.text";
const SUFFIX: &str = ".metadata.json";

/// A table whose own folder is its catalog.
#[derive(Debug, Clone, Copy)]
pub(super) struct Filesystem;

impl Filesystem {
    /// The version with this number.
    pub(super) fn locate(self, version: i64) -> Located {
        Located { version, path: format!("{FOLDER}/v{version}{SUFFIX}") }
    }

    /// The newest version, whatever anybody remembers; `None` where there is no table.
    ///
    /// # Errors
    /// When storage does not answer, or when the hint names a version beyond the newest file.
    pub(super) async fn newest(self, storage: &Storage) -> Result<Option<Located>> {
        // The hint is read first: a version committed in between can then only be beyond it.
        let hint = self.hint(storage).await?;
        let listed = storage.list_after(FOLDER, &format!("{FOLDER}/v")).await?;
        let newest = listed.iter().filter_map(|entry| version_of(&entry.path)).max();
        match (newest, hint) {
            (Some(newest), Some(hint)) if hint > newest => Err(Error::corrupt(format!(
                "table `{}`: version-hint.text names version {hint}, but the newest metadata file is v{newest}: \
                 restore the missing metadata file, or the hint if somebody edited it",
                storage.location()
            ))),
            (Some(newest), _) => Ok(Some(self.locate(newest))),
            (None, Some(hint)) => Err(Error::corrupt(format!(
                "table `{}`: version-hint.text names version {hint}, but there is no metadata file: \
                 restore the metadata folder",
                storage.location()
            ))),
            (None, None) => Ok(None),
        }
    }

    /// Whether there is a version after `base`.
    ///
    /// Two small look-ups are proof enough while nothing that is younger than `base` can have been
    /// cleaned up (`recent`); otherwise the folder is listed.
    ///
    /// # Errors
    /// When storage does not answer.
    pub(super) async fn moved_past(
        self,
        storage: &Storage,
        base: &Located,
        recent: bool,
    ) -> Result<bool> {
        if storage.head(&self.locate(base.version + 1).path).await?.is_some() {
            return Ok(true);
        }
        if self.hint(storage).await?.is_some_and(|hint| hint > base.version) {
            return Ok(true);
        }
        if recent {
            return Ok(false);
        }
        Ok(self.newest(storage).await?.is_some_and(|newest| newest.version > base.version))
    }

    /// Makes `metadata` the version after `base`, if `base` is still the newest. The commit point.
    ///
    /// # Errors
    /// Only when nothing can have been written.
    pub(super) async fn swap(
        self,
        storage: &Storage,
        next: &Located,
        metadata: Vec<u8>,
    ) -> Result<PutOutcome> {
        storage.put_if_absent(&next.path, metadata).await
    }

    /// Tells readers of `version`, unless they have been told of a later one.
    ///
    /// # Errors
    /// When storage does not answer; the version stands all the same.
    pub(super) async fn announce(self, storage: &Storage, version: i64) -> Result<()> {
        if self.hint(storage).await?.is_some_and(|hint| hint >= version) {
            return Ok(());
        }
        // Digits alone: pyiceberg and DuckDB do not trim it.
        storage.put_hint(HINT, version.to_string()).await
    }

    async fn hint(self, storage: &Storage) -> Result<Option<i64>> {
        let Some(bytes) = storage.get(HINT).await? else { return Ok(None) };
        Ok(std::str::from_utf8(&bytes).ok().and_then(|text| text.trim().parse().ok()))
    }
}

/// The N of `metadata/v<N>.metadata.json`; `None` for every other name.
pub(super) fn version_of(path: &str) -> Option<i64> {
    let name = path.strip_prefix(FOLDER)?.strip_prefix("/v")?.strip_suffix(SUFFIX)?;
    if name.is_empty() || !name.bytes().all(|byte| byte.is_ascii_digit()) {
        return None;
    }
    name.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_numbered_metadata_files_are_versions() {
        assert_eq!(version_of("metadata/v12.metadata.json"), Some(12));
        assert_eq!(version_of("metadata/v12.gz.metadata.json"), None);
        assert_eq!(version_of("metadata/v.metadata.json"), None);
        assert_eq!(version_of("metadata/00001-x.metadata.json"), None);
        assert_eq!(version_of("metadata/version-hint.text"), None);
    }

    #[tokio::test]
    async fn the_newest_version_is_found_beyond_a_stale_hint_and_across_digits() {
        let folder = tempfile::tempdir().expect("temp dir");
        let path = folder.path().to_str().expect("utf-8 path");
        let storage = Storage::open(path, &Default::default()).expect("opens");
        let pointer = Filesystem;
        assert_eq!(pointer.newest(&storage).await.expect("lists"), None);

        for version in 8..=11 {
            let next = pointer.locate(version);
            assert_eq!(
                pointer.swap(&storage, &next, vec![b'{']).await.expect("puts"),
                PutOutcome::Created
            );
        }
        pointer.announce(&storage, 9).await.expect("hint");
        pointer.announce(&storage, 8).await.expect("hint");
        assert_eq!(&storage.get(HINT).await.expect("reads").expect("is there")[..], b"9");
        assert_eq!(pointer.newest(&storage).await.expect("lists"), Some(pointer.locate(11)));
        assert!(pointer.moved_past(&storage, &pointer.locate(10), true).await.expect("looks"));
        assert!(!pointer.moved_past(&storage, &pointer.locate(11), false).await.expect("looks"));
    }

    #[tokio::test]
    async fn a_hint_beyond_the_newest_file_is_corruption() {
        let folder = tempfile::tempdir().expect("temp dir");
        let path = folder.path().to_str().expect("utf-8 path");
        let storage = Storage::open(path, &Default::default()).expect("opens");
        let pointer = Filesystem;
        let first = pointer.locate(1);
        let put = pointer.swap(&storage, &first, vec![b'{']).await.expect("puts");
        assert_eq!(put, PutOutcome::Created);
        pointer.announce(&storage, 2).await.expect("hint");

        let error = pointer.newest(&storage).await.expect_err("contradiction");
        assert_eq!(error.kind(), crate::ErrorKind::Corrupt);
    }
}
