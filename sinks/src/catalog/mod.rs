//! Where query engines look tables up: in the tables' own folders, in AWS Glue, or in an Iceberg
//! REST catalog.
//!
//! For Iceberg in a catalog its entry is the table's newest version, and changing it is the commit;
//! for Delta it is a sign that points to the log. What a commit is, the formats know
//! (`iceberg::pointer`, `delta`); what an entry looks like and what an answer means, is here.

#[cfg(any(test, feature = "test-utils"))]
pub mod double;
pub mod glue;
pub mod rest;

use glue::{Glue, GlueTable};
use rest::{Rest, RestTable};

/// The catalog of a lake.
#[derive(Debug, Clone, Default)]
pub enum Catalog {
    /// The tables' own folders: readers open them by path.
    #[default]
    Filesystem,
    /// AWS Glue.
    Glue(Glue),
    /// An Iceberg REST catalog.
    Rest(Rest),
}

impl Catalog {
    /// The same for a program that only looks: Delta tables that it opens are not registered.
    #[must_use]
    pub fn read_only_table(&self, database: &str, name: &str) -> Entry {
        match self.table(database, name) {
            Entry::Glue(table) => Entry::Glue(table.without_registering()),
            entry @ (Entry::Filesystem | Entry::Rest(_)) => entry,
        }
    }

    /// Where a table is looked up.
    pub fn table(&self, database: &str, name: &str) -> Entry {
        match self {
            Self::Filesystem => Entry::Filesystem,
            Self::Glue(glue) => Entry::Glue(glue.table(database, name)),
            Self::Rest(rest) => Entry::Rest(rest.table(database, name)),
        }
    }
}

/// Where one table is looked up.
#[derive(Debug, Clone, Default)]
pub enum Entry {
    /// In its own folder.
    #[default]
    Filesystem,
    /// In AWS Glue.
    Glue(GlueTable),
    /// In an Iceberg REST catalog.
    Rest(RestTable),
}
