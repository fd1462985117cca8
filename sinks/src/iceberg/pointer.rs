//! Which metadata file is the newest, and how the next one becomes it: one way for each catalog.

use std::collections::BTreeSet;

use bytes::Bytes;
use iceberg::spec::TableMetadata;
use uuid::Uuid;

use super::filesystem::{self, Filesystem};
use super::glue::{self, GluePointer};
use super::rest::RestPointer;
use crate::catalog::Entry;
use crate::storage::{PutOutcome, Storage};
use crate::{Error, Result};

/// One version of the table and its metadata file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Located {
    /// Number of the version: from 1 in the file system, from 0 elsewhere. In a REST catalog the
    /// table's sequence number.
    pub(super) version: i64,
    /// Path of the metadata file, relative to the table's location; elsewhere, or not known yet, only
    /// in a REST catalog, which reads and writes it.
    pub(super) path: String,
}

/// A version as its catalog has made it.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Answered {
    pub(super) located: Located,
    pub(super) metadata: TableMetadata,
    /// Snapshots that branches and tags name.
    pub(super) pinned: BTreeSet<i64>,
}

/// One version and the next.
pub(super) struct Step<'a> {
    pub(super) base: &'a Located,
    pub(super) from: &'a TableMetadata,
    pub(super) next: &'a Located,
    pub(super) to: &'a TableMetadata,
    /// `to` as it is stored.
    pub(super) bytes: Vec<u8>,
}

/// What became of an attempt to make a version the newest.
#[derive(Debug, Clone, PartialEq)]
#[must_use]
pub(super) enum Swapped {
    /// It is the newest.
    Done,
    /// It is the newest, and this is what the catalog has made of it.
    DoneAs(Box<Answered>),
    /// Another version came first; nothing of ours is visible.
    Conflict,
    /// There is a version of this number: perhaps ours, if an answer was lost. Read it to know.
    Exists,
    /// No answer that can be trusted.
    Unknown(String),
}

impl From<PutOutcome> for Swapped {
    fn from(outcome: PutOutcome) -> Self {
        match outcome {
            PutOutcome::Created => Self::Done,
            PutOutcome::Exists => Self::Exists,
            PutOutcome::Unknown(reason) => Self::Unknown(reason),
        }
    }
}

/// Where a table's newest version is written down.
#[derive(Debug, Clone)]
pub(super) enum Pointer {
    /// In the names of the metadata files.
    Filesystem,
    /// In its entry in AWS Glue.
    Glue(Box<GluePointer>),
    /// In a REST catalog.
    Rest(Box<RestPointer>),
}

impl Pointer {
    /// That of a table with this entry.
    pub(super) fn of(entry: &Entry) -> Self {
        match entry {
            Entry::Filesystem => Self::Filesystem,
            Entry::Glue(table) => Self::Glue(Box::new(GluePointer::new(table.clone()))),
            Entry::Rest(table) => Self::Rest(Box::new(RestPointer::new(table.clone()))),
        }
    }

    /// Where the table lies: at `storage`, where it was looked for, unless its catalog has chosen
    /// another place.
    ///
    /// # Errors
    /// When the catalog does not answer, or the place is none that Lakebed reaches.
    pub(super) async fn place(&self, storage: &Storage) -> Result<Storage> {
        match self {
            Self::Filesystem | Self::Glue(_) => Ok(storage.clone()),
            Self::Rest(pointer) => pointer.place(storage).await,
        }
    }

    /// Whether files that no version needs are ours to delete.
    ///
    /// # Errors
    /// When the catalog does not answer.
    pub(super) async fn may_delete(&self) -> Result<bool> {
        match self {
            Self::Filesystem | Self::Glue(_) => Ok(true),
            Self::Rest(pointer) => pointer.may_delete().await,
        }
    }

    /// Where the metadata of the version after `base` goes.
    pub(super) fn next(&self, base: &Located) -> Located {
        let version = base.version + 1;
        match self {
            Self::Filesystem => Filesystem.locate(version),
            Self::Glue(_) => glue::locate(version, Uuid::new_v4()),
            Self::Rest(_) => RestPointer::next(base),
        }
    }

    /// The newest version, whatever anybody remembers; `None` where there is no table.
    ///
    /// # Errors
    /// When storage or catalog do not answer, or contradict themselves.
    pub(super) async fn newest(&self, storage: &Storage) -> Result<Option<Located>> {
        match self {
            Self::Filesystem => Filesystem.newest(storage).await,
            Self::Glue(pointer) => pointer.newest(storage).await,
            Self::Rest(pointer) => pointer.newest(storage).await,
        }
    }

    /// The metadata of a version that was looked up here.
    ///
    /// # Errors
    /// When storage or catalog do not answer, and `Invalid` where it is not kept.
    pub(super) async fn read(&self, storage: &Storage, located: &Located) -> Result<Bytes> {
        if let Self::Rest(pointer) = self {
            return pointer.read(storage, located).await.map(Bytes::from);
        }
        storage.get(&located.path).await?.ok_or_else(|| {
            Error::invalid(format!(
                "version {} of table `{}` is not kept: there is no `{}`",
                located.version,
                storage.location(),
                storage.uri(&located.path)
            ))
        })
    }

    /// Whether a table may be left behind that is made and not finished.
    pub(super) fn creates_in_steps(&self) -> bool {
        matches!(self, Self::Rest(_))
    }

    /// The version of this number, if it is kept.
    ///
    /// # Errors
    /// As [`Self::newest`], and `Invalid` where it is not kept.
    pub(super) async fn at(&self, storage: &Storage, version: i64) -> Result<Located> {
        match self {
            Self::Filesystem => Ok(Filesystem.locate(version)),
            Self::Glue(pointer) => pointer.at(storage, version).await,
            Self::Rest(pointer) => pointer.at(storage, version).await,
        }
    }

    /// The newest version if it is not `base`.
    ///
    /// `recent` says that `base` was verified so shortly ago that cleanup cannot have removed
    /// anything younger.
    ///
    /// # Errors
    /// As [`Self::newest`], and `Corrupt` where the table is gone.
    pub(super) async fn newer(
        &self,
        storage: &Storage,
        base: &Located,
        recent: bool,
    ) -> Result<Option<Located>> {
        if let Self::Filesystem = self
            && !Filesystem.moved_past(storage, base, recent).await?
        {
            return Ok(None);
        }
        let newest = self
            .newest(storage)
            .await?
            .ok_or_else(|| Error::corrupt(format!("table `{}` is gone", storage.location())))?;
        Ok((newest != *base).then_some(newest))
    }

    /// Refuses a place where a table has versions that the catalog knows nothing of: a new one
    /// there would hide its rows. What an attempt to create one has left behind has no rows.
    ///
    /// # Errors
    /// `Invalid` if so, and when storage does not answer.
    pub(super) async fn refuse_occupied(&self, storage: &Storage) -> Result<()> {
        match self {
            // What lies there is the table.
            Self::Filesystem => Ok(()),
            Self::Glue(pointer) => pointer.refuse_occupied(storage).await,
            Self::Rest(pointer) => pointer.refuse_occupied(storage).await,
        }
    }

    /// Makes the first version of a table, where [`Self::refuse_occupied`] has seen none; what there
    /// is afterwards tells whether it was ours.
    ///
    /// # Errors
    /// When nothing can have been made.
    pub(super) async fn create(&self, storage: &Storage, metadata: &TableMetadata) -> Result<()> {
        let bytes = || super::metadata::encode(metadata);
        let swapped: Swapped = match self {
            Self::Filesystem => {
                Filesystem.swap(storage, &Filesystem.locate(1), bytes()?).await?.into()
            }
            Self::Glue(pointer) => pointer.create(storage, metadata, bytes()?).await?,
            Self::Rest(pointer) => pointer.create(storage, metadata).await?,
        };
        if let Swapped::Unknown(reason) = swapped {
            tracing::warn!(table = storage.location(), reason, "creating a table was not answered");
        }
        Ok(())
    }

    /// Makes the next version the newest, if its base still is. The commit point.
    ///
    /// # Errors
    /// Only when nothing can have become visible.
    pub(super) async fn swap(&self, storage: &Storage, step: Step<'_>) -> Result<Swapped> {
        match self {
            Self::Filesystem => Ok(Filesystem.swap(storage, step.next, step.bytes).await?.into()),
            Self::Glue(pointer) => {
                let Step { base, next, to, bytes, .. } = step;
                pointer.swap(storage, base, next, to, bytes).await
            }
            Self::Rest(pointer) => pointer.swap(storage, step).await,
        }
    }

    /// Whether a swap is refused by itself wherever `base` is no longer the newest, however long
    /// ago that was looked up. In the file system only the absence of the next number says so, and
    /// cleanup takes numbers away.
    pub(super) fn is_fenced(&self) -> bool {
        matches!(self, Self::Glue(_) | Self::Rest(_))
    }

    /// Tells readers of `version`, unless they have been told of a later one.
    ///
    /// # Errors
    /// When storage does not answer; the version stands all the same.
    pub(super) async fn announce(&self, storage: &Storage, version: i64) -> Result<()> {
        match self {
            Self::Filesystem => Filesystem.announce(storage, version).await,
            Self::Glue(_) | Self::Rest(_) => Ok(()),
        }
    }

    /// The number of the version whose metadata file has this name; `None` for every other name,
    /// and for all that are not ours to take away.
    pub(super) fn version_of(&self, path: &str) -> Option<i64> {
        match self {
            Self::Filesystem => filesystem::version_of(path),
            Self::Glue(_) => glue::version_of(path),
            Self::Rest(_) => None,
        }
    }
}
