//! The schema of a batch and the schema of its table, brought together.

use lakebed_schemas::column::{ColumnType, TableSchema};
use lakebed_schemas::value::Value;

use crate::{Error, Result};

/// A schema that has the columns of the table and those of a batch, and how rows move into it.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Merged {
    /// New columns have id 0.
    pub(super) schema: TableSchema,
    /// For each of its columns, which column of the batch it is; `None` where the batch has none.
    sources: Vec<Option<usize>>,
}

/// The table's columns, promoted where the batch's are wider, and then the batch's new ones.
///
/// `is_new` says of a column of the batch, by index, that the table did not have it when the rows
/// were planned. `None` where the name of such a column has been given to something else since: by
/// another writer, so the rows have to be planned again.
///
/// # Errors
/// `Invalid` where any other column has two types of which neither is a promotion of the other.
pub(super) fn merge(
    table: &TableSchema,
    batch: &TableSchema,
    is_new: impl Fn(usize) -> bool,
) -> Result<Option<Merged>> {
    let mut schema = table.clone();
    let mut sources: Vec<Option<usize>> = Vec::with_capacity(batch.columns.len());
    for column in &mut schema.columns {
        let source = batch.index_of(&column.name);
        if let Some(at) = source {
            let ours = &batch.columns[at];
            if is_new(at) && ours.source_name != column.source_name {
                return Ok(None);
            }
            if promotes(&column.column_type, &ours.column_type) {
                column.column_type = ours.column_type.clone();
            } else if !holds(&ours.column_type, &column.column_type) {
                if is_new(at) {
                    return Ok(None);
                }
                return Err(Error::invalid(format!(
                    "column `{}` is {} in the table and {} in the batch",
                    column.name, column.column_type, ours.column_type
                )));
            }
        }
        sources.push(source);
    }
    for (source, column) in batch.columns.iter().enumerate() {
        if table.index_of(&column.name).is_none() {
            let mut column = column.clone();
            column.id = 0;
            schema.columns.push(column);
            sources.push(Some(source));
        }
    }
    Ok(Some(Merged { schema, sources }))
}

impl Merged {
    /// Whether rows of the batch are rows of the merged schema as they are.
    pub(super) fn is_identity(&self) -> bool {
        self.sources.iter().enumerate().all(|(at, source)| *source == Some(at))
    }

    /// A row of the batch as a row of the merged schema.
    pub(super) fn remap(&self, mut row: Vec<Value>) -> Vec<Value> {
        let mut take = |source: usize| {
            row.get_mut(source).map_or(Value::Null, |value| std::mem::replace(value, Value::Null))
        };
        self.sources.iter().map(|source| source.map_or(Value::Null, &mut take)).collect()
    }
}

/// Whether `to` is another type that holds every value of `from`, and Iceberg allows the change.
fn promotes(from: &ColumnType, to: &ColumnType) -> bool {
    from != to && holds(from, to)
}

/// Whether `to` holds every value of `from`, itself or inside.
fn holds(from: &ColumnType, to: &ColumnType) -> bool {
    use ColumnType as T;
    match (from, to) {
        (T::Int, T::Long) | (T::Float, T::Double) => true,
        (T::Decimal { precision: from, scale: a }, T::Decimal { precision: to, scale: b }) => {
            to >= from && a == b
        }
        (T::List(from), T::List(to)) => holds(from, to),
        (T::Struct(from), T::Struct(to)) => {
            let fields = from.iter().zip(to);
            from.len() == to.len()
                && fields.into_iter().all(|(from, to)| from.0 == to.0 && holds(&from.1, &to.1))
        }
        (from, to) => from == to,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use lakebed_schemas::column::Column;

    fn known(_: usize) -> bool {
        false
    }

    fn schema(columns: &[(&str, ColumnType, i32)]) -> TableSchema {
        let columns = columns.iter().map(|(name, column_type, id)| Column {
            name: (*name).into(),
            source_name: (*name).into(),
            column_type: column_type.clone(),
            id: *id,
        });
        TableSchema { columns: columns.collect(), ..Default::default() }
    }

    #[test]
    fn a_batch_adds_and_promotes_and_its_rows_follow() {
        let table = schema(&[("a", ColumnType::Int, 1), ("gone", ColumnType::Text, 2)]);
        let batch = schema(&[("new", ColumnType::Text, 0), ("a", ColumnType::Long, 0)]);

        let merged = merge(&table, &batch, known).expect("compatible").expect("no name is taken");

        let expected = schema(&[
            ("a", ColumnType::Long, 1),
            ("gone", ColumnType::Text, 2),
            ("new", ColumnType::Text, 0),
        ]);
        assert_eq!(merged.schema, expected);
        assert!(!merged.is_identity());
        let row = merged.remap(vec![Value::Text("x".into()), Value::Long(7)]);
        assert_eq!(row, vec![Value::Long(7), Value::Null, Value::Text("x".into())]);
    }

    #[test]
    fn a_batch_that_is_narrower_than_the_table_is_widened() {
        let table = schema(&[("a", ColumnType::Long, 1)]);
        let batch = schema(&[("a", ColumnType::Int, 0)]);
        let merged = merge(&table, &batch, known).expect("compatible").expect("no name is taken");
        assert_eq!(merged.schema, table);
        assert!(merged.is_identity());
    }

    #[test]
    fn what_is_inside_a_list_is_widened_too() {
        let list = |element| ColumnType::List(Box::new(element));
        let table = schema(&[("a", list(ColumnType::Long), 1)]);
        let narrow = schema(&[("a", list(ColumnType::Int), 0)]);
        let merged = merge(&table, &narrow, known).expect("the table holds it").expect("as it is");
        assert_eq!(merged.schema, table);
        let other = schema(&[("a", list(ColumnType::Text), 1)]);
        assert!(merge(&table, &other, known).is_err());
    }

    #[test]
    fn another_type_is_refused_by_name() {
        let table = schema(&[("a", ColumnType::Long, 1)]);
        let batch = schema(&[("a", ColumnType::Text, 1)]);
        let error = merge(&table, &batch, known).expect_err("incompatible");
        assert!(error.to_string().contains("`a`"), "{error}");
    }

    #[test]
    fn a_new_column_whose_name_another_writer_has_used_is_planned_again() {
        let table = schema(&[("a", ColumnType::Long, 1)]);
        let other_type = schema(&[("a", ColumnType::Text, 0)]);
        assert!(matches!(merge(&table, &other_type, |_| true), Ok(None)));
        let mut other_source = schema(&[("a", ColumnType::Long, 0)]);
        other_source.columns[0].source_name = "A".into();
        assert!(matches!(merge(&table, &other_source, |_| true), Ok(None)));
        let same = schema(&[("a", ColumnType::Long, 0)]);
        let merged = merge(&table, &same, |_| true).expect("fits").expect("fits");
        assert_eq!(merged.schema, table);
    }
}
