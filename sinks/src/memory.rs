//! A table log in memory: the simplest thing that keeps the contract. Data files are real.

use std::collections::{BTreeMap, HashMap};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use async_trait::async_trait;
use lakebed_schemas::column::TableSchema;
use lakebed_schemas::position::{Checkpoint, Fit};
use roaring::RoaringBitmap;
use uuid::Uuid;

use crate::conformance::LogFactory;
use crate::log::{
    CommitOutcome, Head, LiveFile, MaintenanceReport, TableChange, TableLog, TableOptions,
    apply_memos,
};
use crate::storage::Storage;
use crate::{Error, Result};

/// What is "in storage".
#[derive(Debug)]
struct Stored {
    head: Head,
    commits: HashMap<Uuid, i64>,
}

type Shared = Arc<Mutex<Stored>>;

fn lock(shared: &Shared) -> MutexGuard<'_, Stored> {
    shared.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Tables in memory, by location.
#[derive(Debug, Default)]
pub struct MemoryFactory {
    tables: Mutex<HashMap<String, Shared>>,
}

impl MemoryFactory {
    /// No tables.
    pub fn new() -> Self {
        Self::default()
    }

    fn tables(&self) -> MutexGuard<'_, HashMap<String, Shared>> {
        self.tables.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[async_trait]
impl LogFactory for MemoryFactory {
    async fn create(
        &self,
        storage: &Storage,
        options: &TableOptions,
        schema: &TableSchema,
    ) -> Result<Box<dyn TableLog>> {
        let head = Head {
            version: 1,
            uuid: Uuid::new_v4(),
            schema: schema.clone(),
            checkpoint: Checkpoint::default(),
            freshness: None,
            memos: BTreeMap::new(),
            files: BTreeMap::new(),
        };
        let stored = Stored { head, commits: HashMap::new() };
        self.tables().insert(storage.location().to_owned(), Arc::new(Mutex::new(stored)));
        self.open(storage, options).await
    }

    fn keeps_files(&self) -> bool {
        false
    }

    async fn open(&self, storage: &Storage, _options: &TableOptions) -> Result<Box<dyn TableLog>> {
        let shared = self.tables().get(storage.location()).cloned();
        let shared = shared.ok_or_else(|| {
            Error::invalid(format!("there is no table at `{}`", storage.location()))
        })?;
        let head = lock(&shared).head.clone();
        Ok(Box::new(MemoryLog { storage: storage.clone(), shared, head }))
    }
}

/// One process's view of a table in memory.
#[derive(Debug)]
pub struct MemoryLog {
    storage: Storage,
    shared: Shared,
    head: Head,
}

#[async_trait]
impl TableLog for MemoryLog {
    fn head(&self) -> &Head {
        &self.head
    }

    fn storage(&self) -> &Storage {
        &self.storage
    }

    async fn refresh(&mut self) -> Result<bool> {
        let stored = lock(&self.shared);
        let moved = stored.head.version != self.head.version;
        if moved {
            self.head = stored.head.clone();
        }
        Ok(moved)
    }

    async fn commit(&mut self, change: &TableChange) -> Result<CommitOutcome> {
        check(&self.head, change)?;
        let mut stored = lock(&self.shared);
        if stored.head.version != self.head.version {
            return Ok(CommitOutcome::Conflict);
        }
        apply(&mut stored.head, change);
        let version = stored.head.version;
        stored.commits.insert(change.commit_id, version);
        self.head = stored.head.clone();
        Ok(CommitOutcome::Committed { version })
    }

    async fn find_commit(&mut self, commit_id: Uuid) -> Result<Option<i64>> {
        Ok(lock(&self.shared).commits.get(&commit_id).copied())
    }

    async fn maintain(&mut self) -> Result<MaintenanceReport> {
        Ok(MaintenanceReport::default())
    }
}

fn check(head: &Head, change: &TableChange) -> Result<()> {
    if head.checkpoint.fit(&change.delta) != Fit::Applies {
        return Err(Error::invalid("the change does not start where the table stands"));
    }
    change.check_removed(head).map_err(Error::invalid)?;
    for (path, rows) in &change.deleted {
        let Some(live) = head.files.get(path) else {
            return Err(Error::invalid(format!("`{path}` is deleted from and not live")));
        };
        let beyond = rows.max().is_some_and(|last| u64::from(last) >= live.file.rows);
        if beyond || !rows.is_disjoint(&live.deleted) {
            return Err(Error::invalid(format!("rows deleted from `{path}` are not live")));
        }
    }
    Ok(())
}

fn apply(head: &mut Head, change: &TableChange) {
    head.version += 1;
    head.checkpoint.apply(&change.delta);
    head.freshness = head.freshness.max(change.freshness);
    apply_memos(&mut head.memos, change);
    if let Some(schema) = &change.schema {
        head.schema = schema.clone();
    }
    for (path, rows) in &change.deleted {
        if let Some(live) = head.files.get_mut(path) {
            live.deleted |= rows;
        }
    }
    head.files.retain(|path, _| !change.removed.contains(path));
    for file in &change.added {
        let live = LiveFile { file: file.clone(), deleted: RoaringBitmap::new() };
        head.files.insert(file.path.clone(), live);
    }
}

#[cfg(test)]
mod conformance {
    crate::conformance_tests!(crate::memory::MemoryFactory::new());

    mod copy_on_write {
        crate::conformance_tests!(@copy_on_write crate::memory::MemoryFactory::new());
    }
}
