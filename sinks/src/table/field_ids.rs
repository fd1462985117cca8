//! Field ids: one rule for the Parquet files and for the Iceberg schema.
//!
//! A column keeps its id for ever, and so do the fields nested in it. Top-level ids count from 1;
//! the fields nested in the column with id `c` have the ids `10 000 + 100 c + k`, with k counted
//! from 0 through its type in depth-first order (a list's element, a struct's fields, each followed
//! by what is nested in it). So the ids of a column follow from its own id and type alone, and a
//! column added later moves nobody's. The type of a column may only be promoted, never restructured
//! (a column of another type is another column), so k does not move either.

use lakebed_schemas::column::{ColumnType, TableSchema};

use crate::{Error, Result};

/// First id of nested fields is this plus [`NESTED_PER_COLUMN`] times the column's id.
pub const NESTED_BASE: i32 = 10_000;
/// How many nested fields a column may have.
pub const NESTED_PER_COLUMN: i32 = 100;

/// The id of a field and, in order, of the fields directly inside it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FieldIds {
    /// Its own.
    pub id: i32,
    /// A list's element, or a struct's fields.
    pub children: Vec<FieldIds>,
}

/// The ids of a column with this id and type.
pub fn field_ids(column_id: i32, column_type: &ColumnType) -> FieldIds {
    let mut next = NESTED_BASE + NESTED_PER_COLUMN * column_id;
    FieldIds { id: column_id, children: nested(column_type, &mut next) }
}

fn nested(column_type: &ColumnType, next: &mut i32) -> Vec<FieldIds> {
    let mut take = |inner: &ColumnType| {
        let id = *next;
        *next += 1;
        FieldIds { id, children: nested(inner, next) }
    };
    match column_type {
        ColumnType::List(element) => vec![take(element)],
        ColumnType::Struct(fields) => fields.iter().map(|(_, field)| take(field)).collect(),
        _ => Vec::new(),
    }
}

/// `next` with ids for those of its columns that have none (0): the ids after the highest
/// top-level id among `highest_ever` and both schemas, in column order.
///
/// `highest_ever` is the highest top-level id that the table has ever used, if the log knows of
/// one beyond its current schema (columns that another engine has dropped); else 0.
pub fn assign(current: &TableSchema, next: &TableSchema, highest_ever: i32) -> TableSchema {
    let both = current.columns.iter().chain(&next.columns);
    let mut highest = both.map(|column| column.id).max().unwrap_or(0).max(highest_ever);
    let mut assigned = next.clone();
    for column in assigned.columns.iter_mut().filter(|column| column.id == 0) {
        highest += 1;
        column.id = highest;
    }
    assigned
}

/// Refuses a schema whose nested ids would run into a neighbour's, or whose ids are missing or
/// not unique.
///
/// # Errors
/// `Invalid`, naming the column.
pub fn check(schema: &TableSchema) -> Result<()> {
    let mut seen = std::collections::BTreeSet::new();
    for column in &schema.columns {
        if column.id <= 0 || !seen.insert(column.id) {
            return Err(Error::invalid(format!(
                "column `{}` has field id {}, which is not positive and unique",
                column.name, column.id
            )));
        }
        let nested = count(&column.column_type);
        if nested > NESTED_PER_COLUMN {
            return Err(Error::invalid(format!(
                "column `{}` has {nested} nested fields, more than {NESTED_PER_COLUMN}: store it as JSON text",
                column.name
            )));
        }
    }
    Ok(())
}

fn count(column_type: &ColumnType) -> i32 {
    match column_type {
        ColumnType::List(element) => 1 + count(element),
        ColumnType::Struct(fields) => fields.iter().map(|(_, field)| 1 + count(field)).sum(),
        _ => 0,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use lakebed_schemas::column::Column;

    fn column(name: &str, id: i32, column_type: ColumnType) -> Column {
        Column { name: name.into(), source_name: name.into(), column_type, id }
    }

    #[test]
    fn bronze_headers_have_ids_that_follow_from_their_column() {
        let schema = lakebed_schemas::bronze::schema();
        let headers = &schema.columns[schema.index_of("headers").expect("bronze has headers")];
        let ids = field_ids(headers.id, &headers.column_type);

        let leaf = |id| FieldIds { id, children: vec![] };
        let element = FieldIds { id: 11_700, children: vec![leaf(11_701), leaf(11_702)] };
        assert_eq!(ids, FieldIds { id: 17, children: vec![element] });
        check(&schema).expect("bronze ids are sound");
    }

    #[test]
    fn a_new_column_gets_the_next_top_level_id_and_moves_nobody() {
        let list = ColumnType::List(Box::new(ColumnType::Text));
        let current =
            TableSchema { columns: vec![column("a", 1, list.clone())], ..Default::default() };
        let mut next = current.clone();
        next.columns.push(column("b", 0, list));

        let assigned = assign(&current, &next, 0);
        assert_eq!(assigned.columns[0], current.columns[0]);
        assert_eq!(assigned.columns[1].id, 2);
        assert_eq!(assign(&current, &next, 7).columns[1].id, 8);
    }

    #[test]
    fn too_many_nested_fields_are_refused_by_name() {
        let fields = (0..101).map(|n| (format!("f{n}"), ColumnType::Long)).collect();
        let schema = TableSchema {
            columns: vec![column("wide", 1, ColumnType::Struct(fields))],
            ..Default::default()
        };
        let error = check(&schema).expect_err("101 fields");
        assert!(error.to_string().contains("`wide`"), "{error}");
    }
}
