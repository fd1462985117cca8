//! Rows against the source's own texts of them. No code of the product reads the source here.

use std::collections::{BTreeMap, BTreeSet};

use lakebed_schemas::change_event::Row;
use lakebed_schemas::value::Value;

use super::recording::TableState;
use super::{my_text, pg_text};

/// Cells of one column, or whole rows (`rows`), that no reader can make equal to the source from
/// the events of a recording, and why.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Divergence {
    pub(crate) table: &'static str,
    pub(crate) column: &'static str,
    pub(crate) cells: usize,
    /// An entry of the manifest's `known_divergence`, or `mode: …` where the connector's settings
    /// lose or rewrite the value.
    pub(crate) reason: &'static str,
}

/// Whose texts the state holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Database {
    Postgres,
    MariaDb,
}

impl Database {
    /// Of a recording, such as `postgres/json`.
    pub(crate) fn of(recording: &str) -> Self {
        if recording.starts_with("postgres/") { Self::Postgres } else { Self::MariaDb }
    }
}

/// What a comparison found.
pub(crate) struct Cells {
    database: Database,
    pub(crate) equal: usize,
    /// Table and what differs: a column, or `rows`.
    different: BTreeMap<(String, String), Vec<String>>,
}

impl Cells {
    pub(crate) fn new(database: Database) -> Self {
        Self { database, equal: 0, different: BTreeMap::new() }
    }

    pub(crate) fn compare(&mut self, table: &TableState, rows: &BTreeMap<u128, Row>) {
        if table.primary_key.is_empty() {
            return;
        }
        let index = |name: &String| table.columns.iter().position(|column| column.0 == *name);
        let keys: Vec<usize> = table.primary_key.iter().filter_map(index).collect();
        let mut left: Vec<&Row> = rows.values().collect();
        for expected in &table.rows {
            let matches = |row: &&Row| keys.iter().all(|key| self.cell(table, *key, expected, row));
            match left.iter().position(matches) {
                Some(found) => {
                    let row = left.swap_remove(found);
                    for column in 0..table.columns.len() {
                        self.count(table, column, expected, row);
                    }
                }
                None => self.differs(table, "rows", format!("{:?} is missing", expected[keys[0]])),
            }
        }
        for row in left {
            self.differs(table, "rows", format!("{:?} is too much", row.values.first()));
        }
    }

    fn cell(
        &self,
        table: &TableState,
        index: usize,
        expected: &[Option<String>],
        row: &Row,
    ) -> bool {
        let (name, source_type) = &table.columns[index];
        let equal = match self.database {
            Database::Postgres => pg_text::equal,
            Database::MariaDb => my_text::equal,
        };
        // What the last event of a row does not have is NULL in a table.
        let value = row.get(name).unwrap_or(&Value::Null);
        equal(value, source_type, expected[index].as_deref())
    }

    fn count(&mut self, table: &TableState, index: usize, expected: &[Option<String>], row: &Row) {
        if self.cell(table, index, expected, row) {
            self.equal += 1;
            return;
        }
        let (name, source_type) = &table.columns[index];
        let found = row.get(name);
        let found = format!("{source_type}: {:?} in the source, {found:?} here", expected[index]);
        self.differs(table, name, found.chars().take(300).collect());
    }

    fn differs(&mut self, table: &TableState, what: &str, how: String) {
        self.different.entry((table.name.clone(), what.to_owned())).or_default().push(how);
    }

    /// The listed differences and no others were found, in just as many cells.
    pub(crate) fn assert_divergences(&self, name: &str, divergent: &[Divergence]) {
        let mut listed: BTreeMap<(String, String), usize> = BTreeMap::new();
        let mut reasons: BTreeMap<(&str, &str), &str> = BTreeMap::new();
        for Divergence { table, column, cells, reason } in divergent {
            *listed.entry(((*table).to_owned(), (*column).to_owned())).or_default() += cells;
            reasons.insert((table, column), reason);
        }
        let places: BTreeSet<_> = listed.keys().chain(self.different.keys()).collect();
        let mut problems = Vec::new();
        for place in places {
            let listed = listed.get(place).copied().unwrap_or_default();
            let how = self.different.get(place).map(Vec::as_slice).unwrap_or_default();
            if how.len() != listed {
                let (table, column) = place;
                let reason = reasons.get(&(table.as_str(), column.as_str())).unwrap_or(&"nothing");
                problems.push(format!(
                    "(\"{table}\", \"{column}\", {}) differ, {listed} by {reason}:\n      {}",
                    how.len(),
                    how.join("\n      ")
                ));
            }
        }
        assert!(problems.is_empty(), "{name}:\n  {}", problems.join("\n  "));
    }
}
