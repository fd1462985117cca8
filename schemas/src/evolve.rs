//! How rows of a source land in a silver table whose columns were made by earlier rows.
//!
//! [`create`] makes the first columns, [`plan`] fits a row shape into the columns that are there:
//! it adds nullable columns, promotes what the format can promote, and gives a field that comes
//! back as something else a new column. Columns are never dropped. Whatever [`plan`] decides
//! depends on the table's schema, the row shape and the rules alone, so a replay decides the same.

mod apply;
mod names;

use std::sync::Arc;

pub use apply::{Applied, RowRefused};
pub use names::column_name;

use crate::change_event::{Field, RowShape};
use crate::column::{Column, ColumnType, TableSchema};
use crate::config::{Deletes, OutOfRange, TableFormat};
use crate::partition::{self, PartitionBy, Unpartitionable};
use crate::silver;
use apply::Slot;

/// The decimal that out-of-range values are possible for: its source gave no precision.
const WIDEST_DECIMAL: u8 = 38;

/// What a table's configuration says about its columns.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Rules {
    /// Delta cannot widen a column, so there each is created at the widest of its family.
    pub format: TableFormat,
    /// What becomes of values that a column cannot hold. With [`OutOfRange::Text`], columns of
    /// types that can meet such values (date, timestamp, timestamptz, decimal(38,s)) are text from
    /// the start, key columns excepted.
    pub out_of_range: OutOfRange,
    /// Whether there is a column that marks deleted rows.
    pub deletes: Deletes,
    /// Whether `_cdc_topic` belongs to the key: several topics share the table.
    pub topic_in_key: bool,
}

/// Why a row shape cannot land in a table. The table halts; nothing was changed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// A key column is not in the record.
    #[error(
        "key column `{0}` is not in the record: list columns that every record has under `key`, or leave `key` out"
    )]
    KeyMissing(String),
    /// A key column's type is not known: schemaless, and only nulls so far.
    #[error(
        "key column `{0}` has only nulls and no schema, so its type is not known: give it under `columns`"
    )]
    KeyUntyped(String),
    /// A key column has become another type: rows could not be found by it any more.
    #[error(
        "key column `{column}` is {stored} in the table and {found} in the record: build the table anew under another name"
    )]
    KeyType {
        /// The source's name.
        column: String,
        /// In the table.
        stored: ColumnType,
        /// In the record.
        found: ColumnType,
    },
    /// The record's key has more than the table's: rows that the source tells apart would be one.
    #[error(
        "the record's key has the field `{0}`, by which the table's rows are not told apart: build the table anew under another name, or name the columns that do under `key`"
    )]
    KeyGrown(String),
    /// There is nothing to be a row's key.
    #[error("the record has no key: name the key columns under `key`, or turn silver off")]
    NoKey,
    /// The table cannot be partitioned as configured.
    #[error(transparent)]
    Partition(#[from] Unpartitionable),
}

/// The schema of a new table for rows of `shape`.
///
/// The source's columns come first, in the order of the event, then ours. Fields whose type is not
/// known yet (schemaless nulls) get no column until a value is seen. Ids are 0: the table assigns.
/// What the table is partitioned by is a column at the end in Delta, unless it is one already.
///
/// # Errors
/// When `key` is empty, when it or `partition_by` names what `shape` does not have, and when values
/// of such a column cannot be partitioned by.
pub fn create(
    shape: &RowShape,
    key: &[String],
    partition_by: &[PartitionBy],
    rules: &Rules,
) -> Result<TableSchema, Refusal> {
    if key.is_empty() {
        return Err(Refusal::NoKey);
    }
    let mut schema = TableSchema::default();
    for field in &shape.fields {
        let is_key = key.contains(&field.name);
        if let Some(column_type) = wanted(field, is_key, rules) {
            push(&mut schema, &field.name, column_type);
        } else if is_key {
            return Err(Refusal::KeyUntyped(field.name.clone()));
        }
    }
    for name in key {
        let index =
            schema.index_of_source(name).ok_or_else(|| Refusal::KeyMissing(name.clone()))?;
        schema.key.push(schema.columns[index].name.clone());
    }
    let deleted = matches!(rules.deletes, Deletes::Soft);
    let deleted = deleted.then_some((silver::DELETED, ColumnType::Boolean));
    for (name, column_type) in silver::system_columns().into_iter().chain(deleted) {
        let column_type = storable(&column_type, rules.format);
        let (name, source_name) = (name.to_owned(), name.to_owned());
        schema.columns.push(Column { name, source_name, column_type, id: 0 });
    }
    if rules.topic_in_key {
        schema.key.push("_cdc_topic".to_owned());
    }
    schema.partition_by = partition::fields(&schema, partition_by, rules.format)?;
    if rules.format == TableFormat::Delta {
        let columns = partition::value_columns(&schema);
        schema.columns.extend(columns);
    }
    Ok(schema)
}

/// How rows of one shape land in one schema. Good as long as both stay the same.
#[derive(Debug, Clone, PartialEq)]
pub struct Plan {
    /// The schema that the rows need, where it is not the table's: new columns (id 0) at the end,
    /// promoted types.
    pub successor: Option<TableSchema>,
    /// Where [`Plan::apply`]'s values stand in the (successor) schema: indexes of its columns.
    pub columns: Vec<usize>,
    slots: Vec<Slot>,
    shape: Arc<RowShape>,
}

/// Fits rows of `shape` into `schema`.
///
/// A field goes to the column made for its name that can hold its type, after promotion if need
/// be; else to a new column (`name__2` where the name is taken). A column without a field gets
/// NULL.
///
/// # Errors
/// When a key column is missing in the shape or has another type than in the table.
pub fn plan(schema: &TableSchema, shape: &Arc<RowShape>, rules: &Rules) -> Result<Plan, Refusal> {
    let mut next = schema.clone();
    let mut targets: Vec<Option<usize>> = Vec::with_capacity(shape.fields.len());
    for field in &shape.fields {
        targets.push(place(&mut next, schema, field, rules)?);
    }
    for name in &schema.key {
        let index = schema.index_of(name).expect("key columns are columns");
        let source_name = &schema.columns[index].source_name;
        let present = shape.fields.iter().any(|field| field.name == *source_name);
        if !silver::is_system(name) && !present {
            return Err(Refusal::KeyMissing(source_name.clone()));
        }
    }
    let columns = data_columns(&next);
    let slots = columns.iter().map(|index| {
        let column = &next.columns[*index];
        let field = targets.iter().position(|target| *target == Some(*index)).or_else(|| {
            // A field of unknown type is NULL or unavailable, and so are all columns of its name.
            let same =
                |field: &Field| field.column_type.is_none() && field.name == column.source_name;
            shape.fields.iter().position(same)
        });
        let is_target = targets.contains(&Some(*index));
        let of_name = |other: &&usize| next.columns[**other].source_name == column.source_name;
        let is_key = next.key.contains(&column.name);
        let mut slot = Slot::new(column, field, is_key, rules.out_of_range);
        slot.retyped = is_target && columns.iter().filter(of_name).count() > 1;
        slot
    });
    let slots = slots.collect();
    let successor = (next != *schema).then_some(next);
    Ok(Plan { successor, columns, slots, shape: Arc::clone(shape) })
}

/// How record keys of one shape become key values of one table, in the table's key order.
#[derive(Debug, Clone, PartialEq)]
pub struct KeyPlan {
    slots: Vec<Slot>,
    shape: Arc<RowShape>,
}

/// Fits rows of `shape`, which hold at least the key columns, to the key of `schema`; `_cdc_topic`
/// is left out and is the caller's to append.
///
/// # Errors
/// When a key column is missing in the shape or has another type than in the table.
pub fn key_plan(
    schema: &TableSchema,
    shape: &Arc<RowShape>,
    rules: &Rules,
) -> Result<KeyPlan, Refusal> {
    let mut slots = Vec::with_capacity(schema.key.len());
    for name in schema.key.iter().filter(|name| !silver::is_system(name)) {
        let column = &schema.columns[schema.index_of(name).expect("key columns are columns")];
        let field = shape.fields.iter().position(|field| field.name == column.source_name);
        let field = field.ok_or_else(|| Refusal::KeyMissing(column.source_name.clone()))?;
        if let Some(found) = wanted(&shape.fields[field], true, rules) {
            let compatible = holds(&column.column_type, &found)
                || promoted(&column.column_type, &found).is_some();
            if !compatible {
                return Err(key_type(column, found));
            }
        }
        slots.push(Slot::new(column, Some(field), true, rules.out_of_range));
    }
    Ok(KeyPlan { slots, shape: Arc::clone(shape) })
}

/// Refuses record keys of a shape that tells more rows apart than the key of `schema` does.
///
/// # Errors
/// When the shape has a field that is no key column.
pub fn refuse_grown_key(schema: &TableSchema, shape: &RowShape) -> Result<(), Refusal> {
    let keys = schema.key_indexes();
    let is_key =
        |field: &&Field| keys.iter().any(|index| schema.columns[*index].source_name == field.name);
    match shape.fields.iter().find(|field| !is_key(field)) {
        Some(field) => Err(Refusal::KeyGrown(field.name.clone())),
        None => Ok(()),
    }
}

/// Indexes of the columns that are the source's.
fn data_columns(schema: &TableSchema) -> Vec<usize> {
    let names = schema.columns.iter().enumerate();
    names.filter(|(_, column)| is_of_source(schema, column)).map(|(index, _)| index).collect()
}

fn is_of_source(schema: &TableSchema, column: &Column) -> bool {
    !silver::is_system(&column.name) && !schema.is_partition_value(&column.name)
}

/// The column that a field goes to, made or promoted if need be; `None` for unknown types.
fn place(
    next: &mut TableSchema,
    stored: &TableSchema,
    field: &Field,
    rules: &Rules,
) -> Result<Option<usize>, Refusal> {
    let of_name =
        |column: &Column| column.source_name == field.name && is_of_source(stored, column);
    let columns = next.columns.iter().enumerate();
    let mut candidates: Vec<usize> =
        columns.filter(|(_, column)| of_name(column)).map(|(index, _)| index).collect();
    let key =
        candidates.iter().copied().find(|index| stored.key.contains(&next.columns[*index].name));
    let Some(found) = wanted(field, key.is_some(), rules) else { return Ok(None) };
    if let Some(index) = key {
        candidates = vec![index];
    }
    let held =
        candidates.iter().copied().find(|index| holds(&next.columns[*index].column_type, &found));
    if let Some(index) = held {
        return Ok(Some(index));
    }
    for index in &candidates {
        let column = &mut next.columns[*index];
        let promoted = promoted(&column.column_type, &found);
        if let Some(column_type) = promoted.filter(|_| rules.format == TableFormat::Iceberg) {
            column.column_type = column_type;
            return Ok(Some(*index));
        }
    }
    match key {
        Some(index) => Err(key_type(&stored.columns[index], found)),
        None => Ok(Some(push(next, &field.name, found))),
    }
}

fn key_type(column: &Column, found: ColumnType) -> Refusal {
    let (name, stored) = (column.source_name.clone(), column.column_type.clone());
    Refusal::KeyType { column: name, stored, found }
}

fn push(schema: &mut TableSchema, source_name: &str, column_type: ColumnType) -> usize {
    let taken = |name: &str| schema.index_of(name).is_some() || schema.is_partition_value(name);
    let name = column_name(source_name, taken);
    schema.columns.push(Column { name, source_name: source_name.to_owned(), column_type, id: 0 });
    schema.columns.len() - 1
}

/// The type of the column that a field wants.
fn wanted(field: &Field, is_key: bool, rules: &Rules) -> Option<ColumnType> {
    let column_type = field.column_type.as_ref()?;
    let as_text = matches!(rules.out_of_range, OutOfRange::Text) && !is_key;
    // By what the source says, before Delta makes every decimal as wide as can be.
    Some(match as_text {
        true => storable(&text_if_unbounded(column_type), rules.format),
        false => storable(column_type, rules.format),
    })
}

/// The type as the format can keep it for good.
fn storable(column_type: &ColumnType, format: TableFormat) -> ColumnType {
    use ColumnType as T;
    match (column_type, format) {
        (T::List(element), _) => T::List(Box::new(storable(element, format))),
        (T::Struct(fields), _) => {
            let fields = fields.iter();
            T::Struct(fields.map(|(name, field)| (name.clone(), storable(field, format))).collect())
        }
        (T::Int, TableFormat::Delta) => T::Long,
        (T::Float, TableFormat::Delta) => T::Double,
        (T::Decimal { scale, .. }, TableFormat::Delta) => {
            T::Decimal { precision: WIDEST_DECIMAL, scale: *scale }
        }
        (other, _) => other.clone(),
    }
}

fn text_if_unbounded(column_type: &ColumnType) -> ColumnType {
    use ColumnType as T;
    match column_type {
        T::Date | T::Timestamp | T::TimestampTz | T::Decimal { precision: WIDEST_DECIMAL, .. } => {
            T::Text
        }
        T::List(element) => T::List(Box::new(text_if_unbounded(element))),
        other => other.clone(),
    }
}

/// Whether a column of type `stored` takes every value of type `found` as it is.
fn holds(stored: &ColumnType, found: &ColumnType) -> bool {
    use ColumnType as T;
    match (stored, found) {
        (T::Long, T::Int) | (T::Double, T::Float) => true,
        (T::Decimal { precision: p, scale: s }, T::Decimal { precision, scale }) => {
            s >= scale && p - s >= precision - scale
        }
        (T::List(stored), T::List(found)) => holds(stored, found),
        (stored, found) => stored == found,
    }
}

/// What Iceberg can make of a column of type `stored` so that it takes `found`, if anything.
fn promoted(stored: &ColumnType, found: &ColumnType) -> Option<ColumnType> {
    use ColumnType as T;
    match (stored, found) {
        (T::Int, T::Long) => Some(T::Long),
        (T::Float, T::Double) => Some(T::Double),
        (T::Decimal { scale: s, .. }, T::Decimal { precision, scale }) if s >= scale => {
            let precision = precision + (s - scale);
            (precision <= WIDEST_DECIMAL).then_some(T::Decimal { precision, scale: *s })
        }
        (T::List(stored), T::List(found)) => Some(T::List(Box::new(promoted(stored, found)?))),
        _ => None,
    }
}

#[cfg(test)]
mod tests;
