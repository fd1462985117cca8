//! A log that answers as a bad network would, in front of a real one.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, PoisonError};

use async_trait::async_trait;
use lakebed_schemas::column::TableSchema;
use uuid::Uuid;

use crate::log::{CommitOutcome, Head, MaintenanceReport, TableChange, TableLog};
use crate::storage::Storage;
use crate::{Error, Result};

/// What goes wrong with one commit.
#[derive(Debug, Clone)]
pub enum Fault {
    /// It is said to have lost a race; nothing happened.
    Conflict,
    /// It lands and the answer is lost.
    LostReply,
    /// It never arrives, and nobody can tell.
    LostRequest,
    /// It is not answered, and lands right before the next commit.
    LandsLate,
    /// Another process's commit lands right before.
    Foreign(Box<TableChange>),
    /// Storage refuses before the commit point.
    Refused,
}

/// The faults of the next commits, in order; then none.
#[derive(Debug, Clone, Default)]
pub struct Script(Arc<Mutex<VecDeque<Fault>>>);

impl Script {
    /// Adds one at the end.
    pub fn push(&self, fault: Fault) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).push_back(fault);
    }

    fn next(&self) -> Option<Fault> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).pop_front()
    }
}

/// See the module.
pub struct FaultyLog {
    inner: Box<dyn TableLog>,
    /// The same table as another process sees it.
    twin: Box<dyn TableLog>,
    script: Script,
    late: Option<TableChange>,
}

impl FaultyLog {
    /// `inner` with faults by `script`; `twin` is a second log of the same table.
    pub fn new(inner: Box<dyn TableLog>, twin: Box<dyn TableLog>, script: Script) -> Self {
        Self { inner, twin, script, late: None }
    }
}

fn unanswered() -> CommitOutcome {
    CommitOutcome::Unknown { reason: "the connection was lost".to_owned() }
}

#[async_trait]
impl TableLog for FaultyLog {
    fn head(&self) -> &Head {
        self.inner.head()
    }

    fn storage(&self) -> &Storage {
        self.inner.storage()
    }

    fn check_writable(&self) -> Result<()> {
        self.inner.check_writable()
    }

    async fn refresh(&mut self) -> Result<bool> {
        self.inner.refresh().await
    }

    fn assign_ids(&self, schema: &TableSchema) -> TableSchema {
        self.inner.assign_ids(schema)
    }

    async fn commit(&mut self, change: &TableChange) -> Result<CommitOutcome> {
        if let Some(late) = self.late.take() {
            // The twin still stands where the commit was sent from.
            let _ = self.twin.commit(&late).await?;
        }
        match self.script.next() {
            None => self.inner.commit(change).await,
            Some(Fault::Conflict) => Ok(CommitOutcome::Conflict),
            Some(Fault::LostReply) => {
                self.twin.refresh().await?;
                let _ = self.twin.commit(change).await?;
                Ok(unanswered())
            }
            Some(Fault::LostRequest) => Ok(unanswered()),
            Some(Fault::LandsLate) => {
                self.twin.refresh().await?;
                self.late = Some(change.clone());
                Ok(unanswered())
            }
            Some(Fault::Foreign(foreign)) => {
                self.twin.refresh().await?;
                let _ = self.twin.commit(&foreign).await?;
                self.inner.commit(change).await
            }
            Some(Fault::Refused) => Err(Error::unavailable("storage asked to slow down")),
        }
    }

    async fn find_commit(&mut self, commit_id: Uuid) -> Result<Option<i64>> {
        self.inner.find_commit(commit_id).await
    }

    async fn maintain(&mut self) -> Result<MaintenanceReport> {
        self.inner.maintain().await
    }
}
