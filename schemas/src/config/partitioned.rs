//! What a table is partitioned by, as its entry says.

use super::{Problem, Table};
use crate::partition::{PartitionBy, redundant};

/// Reads `partition_by` of an entry. `layer_is_on`: it has a silver table.
pub(super) fn resolve(
    table: &Table,
    layer_is_on: bool,
    path: &str,
    problems: &mut Vec<Problem>,
) -> Vec<PartitionBy> {
    let place = |index: usize| format!("{path}.partition_by[{index}]");
    let mut entries = Vec::with_capacity(table.partition_by.len());
    for (index, text) in table.partition_by.iter().enumerate() {
        match text.parse::<PartitionBy>() {
            Ok(by) => entries.push(by),
            Err(mistake) => {
                problems.push(Problem::new(place(index), mistake.message, mistake.next_move));
            }
        }
    }
    if entries.len() < table.partition_by.len() {
        return entries;
    }
    if !entries.is_empty() && !layer_is_on {
        let message = "has no effect: the entry has no silver table";
        let next = "remove it, or turn silver on";
        problems.push(Problem::new(format!("{path}.partition_by"), message, next));
    }
    if let Some((before, index)) = redundant(&entries) {
        let message = format!("`{}` adds nothing to `{}`", entries[index], entries[before]);
        problems.push(Problem::new(place(index), message, "keep the finer one of them"));
    }
    for (index, by) in entries.iter().enumerate() {
        if table.columns.get(&by.column).is_some_and(|rule| rule.exclude) {
            let message = format!("column `{}` is left out of the table by `columns`", by.column);
            problems.push(Problem::new(place(index), message, "name another column"));
        }
    }
    entries
}
