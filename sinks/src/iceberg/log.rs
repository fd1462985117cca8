//! The log of one Iceberg table: open it, commit to it, look after it.
//!
//! Invariant: the state in memory is a version that is, or was, in storage, whole; a commit either
//! moves it on by exactly what it made visible or leaves it as it is.

use std::time::{Duration, Instant, SystemTime};

use async_trait::async_trait;
use lakebed_schemas::column::TableSchema;
use uuid::Uuid;

use super::maintenance::Cleaner;
use super::manifest_stage::{Remembered, forget};
use super::pointer::{Located, Pointer, Step, Swapped};
use super::stage::{self, Attempt, Staged, StagedDeletes};
use super::state::{self, State};
use super::{metadata, progress};
use crate::failpoint;
use crate::log::{CommitOutcome, Head, MaintenanceReport, TableChange, TableLog, TableOptions};
use crate::storage::Storage;
use crate::table::field_ids;
use crate::{Error, Result};

/// A head that was verified longer ago is verified anew before a commit is built on it.
const BASE_AGE_MAX: Duration = Duration::from_secs(600);

/// The log of one Iceberg table, on any catalog.
#[derive(Debug)]
pub struct IcebergLog {
    storage: Storage,
    options: TableOptions,
    pointer: Pointer,
    state: State,
    /// When the head was last seen to be the newest.
    verified: Moment,
    /// Opened at an old version: reads only.
    frozen: bool,
    staged_deletes: Option<StagedDeletes>,
    remembered: Remembered,
    cleaner: Cleaner,
}

/// A moment by both clocks: one stands still while a machine sleeps, the other may be set.
#[derive(Debug, Clone, Copy)]
struct Moment {
    monotonic: Instant,
    wall: SystemTime,
}

impl Moment {
    fn now() -> Self {
        Self { monotonic: Instant::now(), wall: SystemTime::now() }
    }

    fn age(self) -> Duration {
        self.monotonic.elapsed().max(self.wall.elapsed().unwrap_or_default())
    }
}

impl IcebergLog {
    /// Opens the table at `storage`, or makes an empty one with these columns.
    ///
    /// A table that is there keeps its own schema. Columns without an id get one.
    ///
    /// # Errors
    /// When storage does not answer, the schema cannot be stored, or the table there is one that
    /// Lakebed must not touch.
    pub async fn create_or_open(
        storage: Storage,
        options: TableOptions,
        schema: &TableSchema,
    ) -> Result<Self> {
        if let Some(log) = Self::open(storage.clone(), options.clone()).await? {
            return Ok(log);
        }
        let schema = field_ids::assign(&TableSchema::default(), schema, 0);
        let created = metadata::create(storage.location(), &schema, &options.retention)?;
        Pointer::of(&options.catalog).create(&storage, &created).await?;
        // Created, by us or by somebody who was quicker: either way it is there now.
        Self::open(storage.clone(), options).await?.ok_or_else(|| {
            Error::unavailable(format!("could not create table `{}`", storage.location()))
        })
    }

    /// Opens the table at `storage` at its newest version; `None` where there is no table, or one
    /// that somebody was stopped while making, or is making now.
    ///
    /// Repairs the version hint if a crash has left it behind.
    ///
    /// # Errors
    /// When storage does not answer, `Invalid` for a table that Lakebed does not read (format
    /// version, types, equality deletes, another sink's progress, one that its catalog does not
    /// have), `Corrupt` where what is stored contradicts itself.
    pub async fn open(storage: Storage, options: TableOptions) -> Result<Option<Self>> {
        let pointer = Pointer::of(&options.catalog);
        let verified = Moment::now();
        let storage = pointer.place(&storage).await?;
        let newest = match pointer.newest(&storage).await? {
            Some(newest) => newest,
            None => match pointer.refuse_occupied(&storage).await {
                Ok(()) => return Ok(None),
                // Unless somebody has just made it.
                Err(refused) => pointer.newest(&storage).await?.ok_or(refused)?,
            },
        };
        let log = Self::load(storage, options, pointer, newest, verified, false).await?;
        if log.pointer.creates_in_steps() && metadata::is_half_made(&log.state.metadata) {
            return Ok(None);
        }
        log.announce().await;
        Ok(Some(log))
    }

    /// Opens the table as it was at a version that is still kept. Commits are refused.
    ///
    /// # Errors
    /// As [`Self::open`], and `Invalid` when the version is not kept.
    pub async fn open_at(storage: Storage, options: TableOptions, version: i64) -> Result<Self> {
        let pointer = Pointer::of(&options.catalog);
        let storage = pointer.place(&storage).await?;
        let located = pointer.at(&storage, version).await?;
        Self::load(storage, options, pointer, located, Moment::now(), true).await
    }

    async fn load(
        storage: Storage,
        options: TableOptions,
        pointer: Pointer,
        located: Located,
        verified: Moment,
        frozen: bool,
    ) -> Result<Self> {
        let state = state::load(&storage, &pointer, located, &options.sink_id, None).await?;
        state::check_location(&state.metadata, &storage)?;
        Ok(Self {
            pointer,
            storage,
            options,
            state,
            verified,
            frozen,
            staged_deletes: None,
            remembered: Remembered::new(),
            cleaner: Cleaner::default(),
        })
    }

    /// How long after it was verified the head is proven to be the newest by the absence of the
    /// next version alone: cleanup cannot have removed one that was younger than that.
    fn trust(&self) -> Duration {
        BASE_AGE_MAX.min(self.options.retention.age_min / 2)
    }

    /// The newest version if it is not the head.
    async fn newer(&self) -> Result<Option<Located>> {
        let recent = self.verified.age() < self.trust();
        self.pointer.newer(&self.storage, &self.state.located, recent).await
    }

    /// Tells readers of the head; they find it without the hint, only slower.
    async fn announce(&self) {
        if let Err(error) = self.pointer.announce(&self.storage, self.state.located.version).await {
            tracing::warn!(
                table = self.storage.location(),
                error = error.chain(),
                "could not write the version hint"
            );
        }
    }

    /// Puts everything but the pointer.
    async fn stage(&mut self, change: &TableChange) -> Result<Staged> {
        failpoint::hit(failpoint::BEFORE_COMMIT_METADATA);
        let age_max = self.trust();
        let reusable = self.staged_deletes.take().filter(|staged| staged.serves(change, age_max));
        let deletes = match reusable {
            Some(staged) => staged,
            None => stage::stage_deletes(&self.storage, &self.state, change).await?,
        };
        let deletes = self.staged_deletes.insert(deletes);
        let attempt = Attempt {
            storage: &self.storage,
            options: &self.options,
            state: &self.state,
            change,
            deletes,
            next: self.pointer.next(&self.state.located),
            beside: self.pointer.may_delete().await?,
        };
        attempt.stage(&mut self.remembered).await
    }

    /// The commit point and what must be known after it.
    async fn swap(&mut self, change: &TableChange, mut staged: Staged) -> Result<CommitOutcome> {
        failpoint::hit(failpoint::BEFORE_COMMIT_POINT);
        let step = Step {
            base: &self.state.located,
            from: &self.state.metadata,
            next: &staged.located,
            to: &staged.metadata,
            bytes: staged.bytes.clone(),
        };
        let swapped = self.pointer.swap(&self.storage, step).await?;
        failpoint::hit(failpoint::AFTER_COMMIT_POINT);
        match swapped {
            Swapped::Done => {}
            Swapped::DoneAs(answered) => staged.adopt(*answered),
            Swapped::Conflict => return Ok(CommitOutcome::Conflict),
            Swapped::Unknown(reason) => return Ok(CommitOutcome::Unknown { reason }),
            // A reply may have been lost below us and the request repeated.
            Swapped::Exists => match self.is_ours(&staged).await {
                Ok(true) => {}
                Ok(false) => return Ok(CommitOutcome::Conflict),
                Err(error) => return Ok(CommitOutcome::Unknown { reason: error.chain() }),
            },
        }
        // If we slept since the head was verified, later versions may have come and their
        // predecessors gone: then ours is a version in the past, which nobody will ever see.
        if !self.pointer.is_fenced() && self.verified.age() >= self.trust() {
            match self.pointer.newest(&self.storage).await {
                Ok(Some(newest)) if newest == staged.located => {}
                Ok(_) => return Ok(CommitOutcome::Conflict),
                Err(error) => return Ok(CommitOutcome::Unknown { reason: error.chain() }),
            }
        }
        let version = staged.located.version;
        staged.apply(&mut self.state, change);
        forget(&mut self.remembered, &self.state);
        self.verified = Moment::now();
        self.staged_deletes = None;
        failpoint::hit(failpoint::BEFORE_HINT);
        self.announce().await;
        Ok(CommitOutcome::Committed { version })
    }

    async fn is_ours(&self, staged: &Staged) -> Result<bool> {
        let path = &staged.located.path;
        let Some(bytes) = self.storage.get(path).await? else { return Ok(false) };
        let (metadata, _) = metadata::decode(&self.storage.uri(path), &bytes)?;
        Ok(metadata.current_snapshot_id() == Some(staged.snapshot_id))
    }
}

#[async_trait]
impl TableLog for IcebergLog {
    fn head(&self) -> &Head {
        &self.state.head
    }

    fn storage(&self) -> &Storage {
        &self.storage
    }

    fn check_writable(&self) -> Result<()> {
        metadata::check_writable(&self.state.metadata)
    }

    async fn refresh(&mut self) -> Result<bool> {
        if self.frozen {
            return Ok(false);
        }
        let verified = Moment::now();
        let Some(newest) = self.newer().await? else {
            self.verified = verified;
            return Ok(false);
        };
        let uuid = self.state.head.uuid;
        let sink_id = &self.options.sink_id;
        let state =
            state::load(&self.storage, &self.pointer, newest, sink_id, Some(&self.state)).await?;
        if state.head.uuid != uuid {
            return Err(Error::corrupt(format!(
                "table `{}` was replaced by another one while it was in use: restart to work with the new one",
                self.storage.location()
            )));
        }
        state::check_location(&state.metadata, &self.storage)?;
        self.state = state;
        self.verified = verified;
        forget(&mut self.remembered, &self.state);
        Ok(true)
    }

    fn assign_ids(&self, schema: &TableSchema) -> TableSchema {
        let highest = metadata::highest_column_id(&self.state.metadata);
        field_ids::assign(&self.state.head.schema, schema, highest)
    }

    async fn commit(&mut self, change: &TableChange) -> Result<CommitOutcome> {
        if self.frozen {
            return Err(Error::invalid(format!(
                "table `{}` was opened at version {} for reading",
                self.storage.location(),
                self.state.located.version
            )));
        }
        if self.verified.age() > BASE_AGE_MAX && self.refresh().await? {
            return Ok(CommitOutcome::Conflict);
        }
        stage::check(&self.state, change)?;
        let staged = self.stage(change).await?;
        // Right before the commit point, because staging takes its time.
        if !self.pointer.is_fenced() && self.newer().await?.is_some() {
            return Ok(CommitOutcome::Conflict);
        }
        self.swap(change, staged).await
    }

    async fn find_commit(&mut self, commit_id: Uuid) -> Result<Option<i64>> {
        Ok(progress::find_commit(&self.state.metadata, commit_id))
    }

    async fn maintain(&mut self) -> Result<MaintenanceReport> {
        if self.frozen {
            return Ok(MaintenanceReport::default());
        }
        // What a stale head does not name may be what the newest one lives on.
        self.refresh().await?;
        if !self.pointer.may_delete().await? {
            return Ok(MaintenanceReport::default());
        }
        let retention = &self.options.retention;
        self.cleaner.clean(&self.storage, &self.pointer, &self.state, retention).await
    }
}
