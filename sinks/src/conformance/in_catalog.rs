//! Tables that a catalog tells of: what the tests on doubles of catalogs share.

use std::collections::BTreeMap;

use async_trait::async_trait;
use lakebed_schemas::column::TableSchema;

use super::LogFactory;
use super::fixture::{Fixture, batch_of, commit, silver_schema};
use crate::catalog::Entry;
use crate::log::{CommitOutcome, TableLog, TableOptions};
use crate::storage::Storage;
use crate::{Format, Result};

/// A catalog, and the tables of one format in it.
#[async_trait]
pub(crate) trait InCatalog: Send + Sync {
    /// Of the tables.
    const FORMAT: Format;

    /// Where the catalog tells of the table at this place; starts the catalog if need be.
    async fn entry_of(&self, storage: &Storage) -> Entry;

    /// The same, without a start.
    fn entry_if_started(&self, storage: &Storage) -> Entry;

    /// Where the table at this place is looked for: there, or elsewhere if the catalog chooses.
    fn asked(&self, storage: &Storage) -> Storage {
        storage.clone()
    }

    /// The options for the table at this place.
    async fn placed(&self, storage: &Storage, options: &TableOptions) -> TableOptions {
        TableOptions { catalog: self.entry_of(storage).await, ..options.clone() }
    }

    /// The options for a fixture's table.
    async fn placed_of(&self, table: &Fixture<'_>) -> TableOptions {
        self.placed(&table.storage, &table.table).await
    }
}

#[async_trait]
impl<C: InCatalog> LogFactory for C {
    async fn create(
        &self,
        storage: &Storage,
        options: &TableOptions,
        schema: &TableSchema,
    ) -> Result<Box<dyn TableLog>> {
        let options = self.placed(storage, options).await;
        crate::create_or_open(C::FORMAT, &self.asked(storage), &options, schema).await
    }

    async fn open(&self, storage: &Storage, options: &TableOptions) -> Result<Box<dyn TableLog>> {
        let options = self.placed(storage, options).await;
        let log = crate::open(C::FORMAT, &self.asked(storage), &options).await?;
        Ok(log.expect("there is a table"))
    }

    fn looked_up(&self, storage: &Storage) -> Entry {
        self.entry_if_started(storage)
    }
}

/// A name that only the table at this place has.
pub(crate) fn name(storage: &Storage) -> String {
    format!("t{:x}", xxhash_rust::xxh3::xxh3_64(storage.location().as_bytes()))
}

/// The version that a commit made.
pub(crate) fn committed(outcome: Result<CommitOutcome>) -> i64 {
    match outcome.expect("no error") {
        CommitOutcome::Committed { version } => version,
        other => panic!("{other:?}"),
    }
}

/// Commits of two writers in turn, twelve each, to a new table that somebody else changes as well:
/// `disturb` is called before each round. All of their rows are there in the end.
pub(crate) async fn two_writers_beside_somebody(table: &Fixture<'_>, disturb: impl Fn()) {
    let mut silver = table.silver_on(table.create(&silver_schema()).await).await;
    let mut other = table.silver().await;
    let mut rows = BTreeMap::new();
    for n in 0..12i64 {
        disturb();
        let name = format!("ours {n}");
        commit(&mut silver, batch_of(0, n, &[(n, Some(&name))])).await;
        rows.insert(n, name);
        let name = format!("theirs {n}");
        commit(&mut other, batch_of(1, n, &[(100 + n, Some(&name))])).await;
        rows.insert(100 + n, name);
    }
    assert_eq!(table.names().await, rows);
}
