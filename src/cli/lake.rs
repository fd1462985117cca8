//! The lake as the reading commands see it: which tables there are, and opening one.

use lakebed_schemas::config::{ResolvedConfig, TablePath};
use lakebed_sinks::catalog::{Catalog, Entry};
use lakebed_sinks::log::{TableLog, TableOptions};
use lakebed_sinks::storage::Storage;
use lakebed_sinks::{Format, Result};

use super::Failure;
use crate::tables::{self, OpenLake};

/// The lake of a configuration.
pub(super) struct Lake {
    storage: Storage,
    catalog: Catalog,
    options: TableOptions,
    /// Databases in which the configuration keeps current rows, then those of logs.
    databases: Vec<String>,
}

/// Where a table lies, unless its catalog chooses.
pub(super) struct Place {
    pub(super) path: TablePath,
    pub(super) storage: Storage,
    pub(super) format: Format,
    /// Where it is looked up.
    pub(super) entry: Entry,
}

/// A table that is there.
pub(super) struct OpenTable {
    pub(super) format: Format,
    pub(super) log: Box<dyn TableLog>,
}

impl Lake {
    pub(super) async fn open(config: &ResolvedConfig) -> Result<Self> {
        let options = tables::table_options(config, "lakebed command line".to_owned());
        let OpenLake { storage, catalog } = tables::open_lake(config).await?;
        Ok(Self { storage, catalog, options, databases: tables::databases(config) })
    }

    pub(super) fn catalog(&self) -> &Catalog {
        &self.catalog
    }

    pub(super) fn storage(&self) -> &Storage {
        &self.storage
    }

    /// Opens a table, at an older version if asked; `None` if there is no table.
    pub(super) async fn table(
        &self,
        path: &TablePath,
        version: Option<i64>,
    ) -> Result<Option<OpenTable>> {
        let Some(place) = self.place(path).await? else { return Ok(None) };
        self.open_at(place, version).await
    }

    /// Opens the table of an entry as `lakebed run` does: in the configured format, whatever lies
    /// there. `None` if there is no table and one may be made.
    pub(super) async fn configured_table(
        &self,
        path: &TablePath,
        format: Format,
    ) -> Result<Option<OpenTable>> {
        let storage = self.storage.child(&path.relative());
        let entry = self.catalog.read_only_table(&path.database, &path.name);
        self.open_at(Place { path: path.clone(), storage, format, entry }, None).await
    }

    /// Where a table lies; `None` if there is none.
    pub(super) async fn place(&self, path: &TablePath) -> Result<Option<Place>> {
        let storage = self.storage.child(&path.relative());
        let entry = self.catalog.read_only_table(&path.database, &path.name);
        let format = match &entry {
            Entry::Rest(table) if table.has_own_place() => {
                table.exists().await?.then_some(Format::Iceberg)
            }
            _ => Format::at(&storage).await?,
        };
        Ok(format.map(|format| Place { path: path.clone(), storage, format, entry }))
    }

    /// The table that a user means; see [`Self::candidates`].
    pub(super) async fn find(&self, name: &str) -> Result<Place, Failure> {
        for path in self.candidates(name) {
            if let Some(place) = self.place(&path).await? {
                return Ok(place);
            }
        }
        let tables = self.tables().await?;
        let names: Vec<String> = tables.iter().map(ToString::to_string).collect();
        let next = match names.is_empty() {
            true => "there are no tables yet: start `lakebed run`".to_owned(),
            false => format!("there are {}", names.join(", ")),
        };
        let place = self.storage().location();
        Err(Failure::usage(format!("there is no table `{name}` in {place}; {next}")))
    }

    /// Opens a table that was found, at an older version if asked.
    pub(super) async fn open_at(
        &self,
        place: Place,
        version: Option<i64>,
    ) -> Result<Option<OpenTable>> {
        let Place { path: _, storage, format, entry } = place;
        let options = TableOptions { catalog: entry, ..self.options.clone() };
        let log = match version {
            None => lakebed_sinks::open(format, &storage, &options).await?,
            Some(version) => {
                Some(lakebed_sinks::open_at(format, &storage, &options, version).await?)
            }
        };
        Ok(log.map(|log| OpenTable { format, log }))
    }

    /// What a user may mean by `silver.orders` or `orders`: the first is exact, the other is
    /// looked for in the configuration's databases, current rows first.
    fn candidates(&self, name: &str) -> Vec<TablePath> {
        match name.split_once('.') {
            Some((database, name)) => {
                vec![TablePath { database: database.to_owned(), name: name.to_owned() }]
            }
            None => {
                let path = |database: &String| TablePath {
                    database: database.clone(),
                    name: name.to_owned(),
                };
                self.databases.iter().map(path).collect()
            }
        }
    }

    /// Every table in the configuration's databases, sorted.
    pub(super) async fn tables(&self) -> Result<Vec<TablePath>> {
        let mut found = Vec::new();
        for database in &self.databases {
            let names = match &self.catalog {
                Catalog::Rest(rest) if rest.chooses_places() => rest.tables(database).await?,
                _ => self.storage.child(database).folders().await?,
            };
            for name in names {
                found.push(TablePath { database: database.clone(), name });
            }
        }
        found.sort();
        Ok(found)
    }
}
