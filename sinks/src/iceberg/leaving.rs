//! What leaves a table with one commit: data files, and delete files that mean nothing afterwards.

use std::collections::HashSet;

use iceberg::spec::{ManifestContentType, ManifestFile, Struct};

use super::state::State;
use crate::log::TableChange;

/// The files that leave.
#[derive(Debug)]
pub(super) struct Leaving<'a> {
    state: &'a State,
    change: &'a TableChange,
    /// Names of data files as the manifests have them.
    uris: HashSet<&'a str>,
    /// Manifests that hold them.
    holders: HashSet<&'a str>,
    deletes: bool,
}

/// How much leaves.
#[derive(Debug, Default)]
pub(super) struct Gone {
    pub(super) files: u64,
    pub(super) rows: u64,
    pub(super) bytes: u64,
    pub(super) delete_files: u64,
    pub(super) delete_rows: u64,
    pub(super) delete_bytes: u64,
}

impl<'a> Leaving<'a> {
    /// What `change` takes out of `state`.
    ///
    /// Delete files go, all of them, once no file that stays has a dead row: whatever they name is
    /// then gone. As long as one is needed they stay, because one file may name many.
    pub(super) fn of(state: &'a State, change: &'a TableChange) -> Self {
        let placements = || change.removed.iter().filter_map(|path| state.placements.get(path));
        let stays_whole = || {
            let stay = state.head.files.iter().filter(|(path, _)| !change.removed.contains(*path));
            stay.into_iter().all(|(_, live)| live.deleted.is_empty())
        };
        let adds_deletes = change.deleted.values().any(|dying| !dying.is_empty());
        let asked = !change.removed.is_empty() && !state.deletes.is_empty();
        Self {
            state,
            change,
            uris: placements().map(|placement| placement.uri.as_str()).collect(),
            holders: placements().map(|placement| &*placement.manifest).collect(),
            deletes: asked && !adds_deletes && stays_whole(),
        }
    }

    /// Whether this manifest holds a file that leaves.
    pub(super) fn is_holder(&self, manifest: &ManifestFile) -> bool {
        match manifest.content {
            ManifestContentType::Data => self.holders.contains(manifest.manifest_path.as_str()),
            ManifestContentType::Deletes => self.deletes,
        }
    }

    /// Whether a file of that name leaves.
    pub(super) fn takes(&self, content: ManifestContentType, uri: &str) -> bool {
        match content {
            ManifestContentType::Data => self.uris.contains(uri),
            ManifestContentType::Deletes => self.deletes,
        }
    }

    /// Whether the delete files of the table leave.
    pub(super) fn takes_deletes(&self) -> bool {
        self.deletes
    }

    pub(super) fn count(&self) -> Gone {
        let mut gone = Gone::default();
        for live in self.change.removed.iter().filter_map(|path| self.state.head.files.get(path)) {
            gone.files += 1;
            gone.rows += live.file.rows;
            gone.bytes += live.file.size;
        }
        for delete in self.state.deletes.values().filter(|_| self.deletes) {
            gone.delete_files += 1;
            gone.delete_rows += delete.records;
            gone.delete_bytes += delete.size;
        }
        gone
    }

    /// Partitions that lose data files.
    pub(super) fn partitions(&self) -> impl Iterator<Item = &'a Struct> {
        let placement = |path: &'a String| self.state.placements.get(path);
        self.change.removed.iter().filter_map(placement).map(|placement| &placement.partition)
    }
}
