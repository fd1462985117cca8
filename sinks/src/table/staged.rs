//! A silver batch in storage and invisible: what its commit adds and takes away, in either mode.

use std::collections::BTreeMap;
use std::sync::Arc;

use lakebed_schemas::column::TableSchema;
use lakebed_schemas::config::Mode;
use roaring::RoaringBitmap;

use super::WriteOptions;
use super::index::{KeyIndex, Location};
use super::rewrite::{NewPlace, Rewrite, Rewritten};
use super::writer::{self, FileRows};
use crate::Result;
use crate::log::{DataFile, Head, TableChange};
use crate::storage::Storage;

/// Rows that die, by path of a live file; none without any.
pub(super) type Dying = BTreeMap<String, RoaringBitmap>;

/// New files, and how old rows go.
#[derive(Debug)]
pub(super) enum Staged {
    /// Old rows are marked dead where they are. One file for each of the batch's.
    Marked(Vec<Arc<DataFile>>),
    /// Files with old rows leave whole.
    Anew(Rewrite, Rewritten),
}

impl Staged {
    /// Writes the files of a batch for `head`, where these rows die.
    ///
    /// # Errors
    /// When storage does not answer or a row does not fit the schema. What is written stays behind
    /// as orphans, which maintenance removes.
    pub(super) async fn write(
        storage: &Storage,
        head: &Head,
        dying: Dying,
        (schema, files): (&Arc<TableSchema>, &[Arc<FileRows>]),
        options: &WriteOptions,
    ) -> Result<Self> {
        match options.mode {
            Mode::MergeOnRead => {
                let staged = writer::stage(storage, schema, files, &options.writer).await?;
                Ok(Self::Marked(staged))
            }
            Mode::CopyOnWrite => {
                let rewrite =
                    Rewrite::plan(storage, head, dying, (schema, files), &options.writer).await?;
                let written = rewrite.write(storage, schema, files, &options.writer).await?;
                Ok(Self::Anew(rewrite, written))
            }
        }
    }

    /// The new files.
    pub(super) fn files(&self) -> &[Arc<DataFile>] {
        match self {
            Self::Marked(files) => files,
            Self::Anew(_, written) => &written.files,
        }
    }

    /// Rows that were in the table and have been written again.
    pub(super) fn copied(&self) -> u64 {
        match self {
            Self::Marked(_) => 0,
            Self::Anew(_, written) => written.copied(),
        }
    }

    /// Makes `change` take these rows away, on this head; `false` where other files have to be
    /// written for that.
    pub(super) fn resolve(&self, head: &Head, dying: Dying, change: &mut TableChange) -> bool {
        match self {
            Self::Marked(_) => change.deleted = dying,
            Self::Anew(rewrite, _) => {
                if !rewrite.holds(head, &dying) {
                    return false;
                }
                change.removed = rewrite.removed();
            }
        }
        true
    }

    /// Where a row of the batch is: which of the new files, and which row of it.
    fn landed(&self, file: usize, position: u32) -> NewPlace {
        match self {
            Self::Marked(_) => (file, position),
            Self::Anew(_, written) => written.landed(file, position),
        }
    }

    /// Tells the index where rows are now: those that were there before, and those of the batch by
    /// key hash, file and position (`None`: the key has no row any more).
    ///
    /// # Errors
    /// When the index has met all the files it can.
    pub(super) fn enter(
        &self,
        index: &mut KeyIndex,
        keys: &[(u128, Option<(usize, u32)>)],
    ) -> Result<()> {
        let ordinals: Result<Vec<u32>> =
            self.files().iter().map(|file| index.add_file(file.clone())).collect();
        let ordinals = ordinals?;
        let locate = |(file, position): NewPlace| Location { ordinal: ordinals[file], position };
        if let Self::Anew(_, written) = self {
            let to = |which, position| written.moved_to(which, position).map(locate);
            index.relocate(&written.moved_paths(), to);
        }
        for (hash, place) in keys {
            match place {
                Some((file, position)) => {
                    index.insert(*hash, locate(self.landed(*file, *position)));
                }
                None => index.remove(*hash),
            }
        }
        Ok(())
    }
}
