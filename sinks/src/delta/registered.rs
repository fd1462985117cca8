//! A Delta table that AWS Glue is told of.
//!
//! The log is the table; Glue's entry says where it lies and, for engines that compare, which
//! columns it has. So the entry is brought in step beside the commits: at once after each that
//! changes the schema, again and again until it succeeds, and never at a batch's expense.

use std::time::Duration;

use async_trait::async_trait;
use aws_sdk_glue::types::Table;
use lakebed_schemas::column::TableSchema;
use tokio::task::JoinHandle;
use uuid::Uuid;

use super::{DeltaLog, open, schema};
use crate::catalog::glue::{CatalogColumn, Changed, GlueTable, delta_input, is_delta, version_id};
use crate::log::{CommitOutcome, Head, MaintenanceReport, TableChange, TableLog, TableOptions};
use crate::storage::Storage;
use crate::{Error, Result};

/// Wait after the first failure; doubles.
const RETRY_MIN: Duration = Duration::from_millis(250);
/// Longest wait between attempts.
const RETRY_MAX: Duration = Duration::from_secs(300);
/// What a commit waits for Glue, at most; only one that changes the schema waits at all.
const PATIENCE: Duration = Duration::from_secs(10);
/// Others' changes of the entry that one attempt gives way to.
const CONFLICTS_MAX: u32 = 5;

/// A Delta log whose schema is told to Glue.
#[derive(Debug)]
pub struct RegisteredLog {
    log: DeltaLog,
    entry: GlueTable,
    /// The schema that Glue shows, or that somebody is trying to tell it, as the log has it.
    told: String,
    trying: Option<JoinHandle<()>>,
}

impl Drop for RegisteredLog {
    fn drop(&mut self) {
        self.stop_trying();
    }
}

impl RegisteredLog {
    /// Tells Glue of a table, now and from then on whenever its schema changes. Where Glue does not
    /// take it, that is said, and tried again beside everything else.
    pub async fn new(log: DeltaLog, entry: GlueTable) -> Self {
        let told = log.schema_string().to_owned();
        let mut registered = Self { log, entry, told, trying: None };
        registered.tell().await;
        registered
    }

    async fn tell_if_changed(&mut self) {
        if self.told != self.log.schema_string() {
            self.told = self.log.schema_string().to_owned();
            self.tell().await;
        }
    }

    /// One attempt here, bounded; the rest elsewhere.
    async fn tell(&mut self) {
        self.stop_trying();
        let (storage, options) = (self.log.storage.clone(), self.log.options.clone());
        let (entry, told) = (self.entry.clone(), self.told.clone());
        let first = bring_in_step(&entry, &storage, &options, &told);
        let failed = match tokio::time::timeout(PATIENCE, first).await {
            Ok(Ok(())) => return,
            Ok(Err(error)) => error,
            Err(_) => Error::unavailable(format!("no answer within {} s", PATIENCE.as_secs())),
        };
        complain(&entry, &failed);
        self.trying = Some(tokio::spawn(async move {
            let mut wait = RETRY_MIN;
            loop {
                tokio::time::sleep(wait).await;
                match bring_in_step(&entry, &storage, &options, &told).await {
                    Ok(()) => return,
                    Err(error) => complain(&entry, &error),
                }
                wait = (wait * 2).min(RETRY_MAX);
            }
        }));
    }

    fn stop_trying(&mut self) {
        if let Some(trying) = self.trying.take() {
            trying.abort();
        }
    }
}

fn complain(entry: &GlueTable, error: &Error) {
    tracing::error!(
        table = %entry,
        error = error.chain(),
        "Glue does not show the table as it is, and Athena may refuse it: will be tried again"
    );
}

/// Makes Glue's entry what the log says, if it is not. `known` is the schema as the log had it when
/// this was begun: whoever has been told of a later one meanwhile is not told of it again.
pub(super) async fn bring_in_step(
    entry: &GlueTable,
    storage: &Storage,
    options: &TableOptions,
    known: &str,
) -> Result<()> {
    let mut columns = columns(entry, known)?;
    for _ in 0..CONFLICTS_MAX {
        let shown = entry.get().await?;
        if let Some(table) = &shown {
            refuse_other_kinds(entry, table)?;
            if shows_more(table, columns.as_deref()) {
                // Read after the entry: what comes later changes the entry's version, too.
                columns = self::columns(entry, &newest(storage, options).await?)?;
            }
        }
        let input =
            delta_input(shown.as_ref(), entry.name(), storage.location(), columns.as_deref())?;
        let changed = match shown {
            None => entry.create(input).await?,
            Some(table) => {
                let in_step = input.storage_descriptor == table.storage_descriptor
                    && input.parameters == table.parameters
                    && input.partition_keys == table.partition_keys
                    && input.table_type == table.table_type;
                if in_step {
                    return Ok(());
                }
                entry.update(input, &version_id(&table)?).await?
            }
        };
        match changed {
            Changed::Done => return Ok(()),
            // Whatever became of it, the next look tells.
            Changed::Conflict | Changed::Unknown(_) => {}
        }
    }
    Err(Error::unavailable(format!("Glue table `{entry}` is changed by others all the time")))
}

fn refuse_other_kinds(entry: &GlueTable, table: &Table) -> Result<()> {
    match is_delta(table) {
        true => Ok(()),
        false => Err(Error::invalid(format!(
            "Glue table `{entry}` is there already and is no Delta table: drop that entry, or give \
             the table another name"
        ))),
    }
}

/// What Glue is to show; `None` for the placeholder.
fn columns(entry: &GlueTable, schema: &str) -> Result<Option<Vec<CatalogColumn>>> {
    match entry.glue().placeholder_columns() {
        true => Ok(None),
        false => schema::catalog_columns(schema),
    }
}

/// Whether an entry shows what is not among the columns that it is to have: columns are only ever
/// added to a table, so it may be a newer schema's.
fn shows_more(table: &Table, columns: Option<&[CatalogColumn]>) -> bool {
    let (Some(columns), Some(shown)) = (columns, table.storage_descriptor()) else { return false };
    let is_known = |name: &str| columns.iter().any(|column| column.name.eq_ignore_ascii_case(name));
    shown.columns().iter().any(|column| !is_known(column.name()))
}

/// The newest schema in the log.
async fn newest(storage: &Storage, options: &TableOptions) -> Result<String> {
    let log = open(storage, options).await?.ok_or_else(|| {
        Error::corrupt(format!("the Delta table at `{}` is gone", storage.location()))
    })?;
    Ok(log.schema_string().to_owned())
}

#[async_trait]
impl TableLog for RegisteredLog {
    fn head(&self) -> &Head {
        self.log.head()
    }

    fn storage(&self) -> &Storage {
        self.log.storage()
    }

    async fn refresh(&mut self) -> Result<bool> {
        let moved = self.log.refresh().await?;
        self.tell_if_changed().await;
        Ok(moved)
    }

    fn assign_ids(&self, schema: &TableSchema) -> TableSchema {
        self.log.assign_ids(schema)
    }

    async fn commit(&mut self, change: &TableChange) -> Result<CommitOutcome> {
        let outcome = self.log.commit(change).await?;
        self.tell_if_changed().await;
        Ok(outcome)
    }

    async fn find_commit(&mut self, commit_id: Uuid) -> Result<Option<i64>> {
        self.log.find_commit(commit_id).await
    }

    async fn maintain(&mut self) -> Result<MaintenanceReport> {
        self.log.maintain().await
    }
}
