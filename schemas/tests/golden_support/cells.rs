//! Rows against the source's own texts of them. No code of the product reads the source here.

use std::collections::{BTreeMap, BTreeSet};

use lakebed_schemas::change_event::Row;

use super::pg_text;
use super::recording::TableState;

/// What a comparison found.
#[derive(Default)]
pub(crate) struct Cells {
    pub(crate) equal: usize,
    /// Table and what differs: a column, or `rows`.
    different: BTreeMap<(String, String), Vec<String>>,
}

impl Cells {
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
        let (name, pg_type) = &table.columns[index];
        row.get(name)
            .is_some_and(|value| pg_text::equal(value, pg_type, expected[index].as_deref()))
    }

    fn count(&mut self, table: &TableState, index: usize, expected: &[Option<String>], row: &Row) {
        if self.cell(table, index, expected, row) {
            self.equal += 1;
            return;
        }
        let (name, pg_type) = &table.columns[index];
        let found =
            format!("{pg_type}: {:?} in the source, {:?} here", expected[index], row.get(name));
        self.differs(table, name, found.chars().take(300).collect());
    }

    fn differs(&mut self, table: &TableState, what: &str, how: String) {
        self.different.entry((table.name.clone(), what.to_owned())).or_default().push(how);
    }

    /// The listed differences and no others were found; one that is gone has to leave the list.
    pub(crate) fn assert_divergences(&self, name: &str, divergent: &[(&str, &str)]) {
        let listed: BTreeSet<(String, String)> = divergent
            .iter()
            .map(|(table, what)| ((*table).to_owned(), (*what).to_owned()))
            .collect();
        let mut problems = Vec::new();
        for (place, how) in &self.different {
            if !listed.contains(place) {
                problems.push(format!("{}.{} differs: {}", place.0, place.1, how.join("\n      ")));
            }
        }
        for place in listed.iter().filter(|place| !self.different.contains_key(place)) {
            problems.push(format!("{}.{} is equal by now: take it off the list", place.0, place.1));
        }
        assert!(problems.is_empty(), "{name}:\n  {}", problems.join("\n  "));
    }
}
