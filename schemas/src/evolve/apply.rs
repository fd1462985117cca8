//! Moves the values of a row into the columns of a plan, and settles what does not fit.

use std::sync::Arc;

use super::{KeyPlan, Plan};
use crate::change_event::{Row, RowShape};
use crate::column::{Column, ColumnType};
use crate::config::OutOfRange;
use crate::temporal;
use crate::value::{Value, rescale};

/// Values ready for a table.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Applied {
    /// In the order of the plan's columns.
    pub values: Vec<Value>,
    /// How many became NULL by the policy for values out of range: to be counted, never ignored.
    pub nulled: usize,
    /// Indexes of values that the source did not send, in columns made when their field changed its
    /// type: what an older row has there was written before, or in another of its columns.
    pub retyped: Vec<usize>,
}

/// Why a row cannot land. The table halts before it.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum RowRefused {
    /// A value does not fit its column and the policy is to halt.
    #[error(
        "a value of field `{field}` is out of the range of {column_type}: set `out_of_range: null` or `text` for the table, say under `columns` that it is `text` or a `decimal` without digits, or correct the source"
    )]
    OutOfRange {
        /// The source's name.
        field: String,
        /// Type of the column.
        column_type: ColumnType,
    },
    /// A value of the key does not fit, or is missing, which no policy can settle.
    #[error("key field `{field}` has {what}, by which no row can be found: correct the source")]
    Key {
        /// The source's name.
        field: String,
        /// What it has.
        what: &'static str,
    },
    /// The row is of another shape than the plan was made for.
    #[error("a row of another shape than its plan: this is a fault of Lakebed")]
    OtherShape,
}

/// What goes into one column.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Slot {
    field: Option<usize>,
    source_name: String,
    column_type: ColumnType,
    is_key: bool,
    out_of_range: OutOfRange,
    /// Whether its field has other columns, of other types.
    pub(super) retyped: bool,
}

impl Slot {
    pub(super) fn new(
        column: &Column,
        field: Option<usize>,
        is_key: bool,
        out_of_range: OutOfRange,
    ) -> Self {
        let (source_name, column_type) = (column.source_name.clone(), column.column_type.clone());
        Self { field, source_name, column_type, is_key, out_of_range, retyped: false }
    }

    fn settle(&self, value: Value, nulled: &mut usize) -> Result<Value, RowRefused> {
        if self.is_key && matches!(value, Value::Null | Value::Unavailable | Value::OutOfRange(_)) {
            let what = match value {
                Value::Null => "a null",
                Value::Unavailable => "a value that the source did not send",
                _ => "a value out of range",
            };
            return Err(RowRefused::Key { field: self.source_name.clone(), what });
        }
        self.fit(value, &self.column_type, nulled)
    }

    fn fit(
        &self,
        value: Value,
        column_type: &ColumnType,
        nulled: &mut usize,
    ) -> Result<Value, RowRefused> {
        use ColumnType as T;
        Ok(match (value, column_type) {
            (value @ (Value::Null | Value::Unavailable), _) => value,
            (Value::OutOfRange(text), T::Text) => Value::Text(text),
            (Value::OutOfRange(_), _) => self.out_of_range(nulled)?,
            (Value::List(items), T::List(element)) => {
                let items = items.into_iter().map(|item| self.fit(item, element, nulled));
                Value::List(items.collect::<Result<_, _>>()?)
            }
            (Value::Float(value), T::Double) => Value::Double(f64::from(value)),
            (Value::Decimal { unscaled, scale: from }, T::Decimal { scale, .. })
                if from != *scale =>
            {
                match rescale(unscaled, from, *scale) {
                    Some(unscaled) => Value::Decimal { unscaled, scale: *scale },
                    None => self.out_of_range(nulled)?,
                }
            }
            (value, T::Text) => match temporal::text(&value) {
                Some(text) => Value::Text(text),
                None => value,
            },
            (value, _) => value,
        })
    }

    fn out_of_range(&self, nulled: &mut usize) -> Result<Value, RowRefused> {
        match self.out_of_range {
            OutOfRange::Null => {
                *nulled += 1;
                Ok(Value::Null)
            }
            OutOfRange::Halt | OutOfRange::Text => Err(RowRefused::OutOfRange {
                field: self.source_name.clone(),
                column_type: self.column_type.clone(),
            }),
        }
    }
}

impl Plan {
    /// Whether the plan was made for this very shape; compares the pointer only.
    pub fn is_for(&self, shape: &Arc<RowShape>) -> bool {
        Arc::ptr_eq(&self.shape, shape)
    }

    /// The values of `row` in the order of the source's columns of the (successor) schema.
    ///
    /// # Errors
    /// When a value is out of range and the policy is to halt, or a key value is missing.
    pub fn apply(&self, row: &Row) -> Result<Applied, RowRefused> {
        self.apply_owned(row.clone())
    }

    /// As [`Plan::apply`], without copying texts.
    ///
    /// # Errors
    /// As [`Plan::apply`].
    pub fn apply_owned(&self, row: Row) -> Result<Applied, RowRefused> {
        let same = self.is_for(&row.shape) || self.shape == row.shape;
        if !same || row.values.len() != self.shape.fields.len() {
            return Err(RowRefused::OtherShape);
        }
        fill(&self.slots, row.values)
    }
}

impl KeyPlan {
    /// Whether the plan was made for this very shape; compares the pointer only.
    pub fn is_for(&self, shape: &Arc<RowShape>) -> bool {
        Arc::ptr_eq(&self.shape, shape)
    }

    /// The key's values in the table's key order.
    ///
    /// # Errors
    /// When a key value is missing or out of range.
    pub fn apply(&self, key: &Row) -> Result<Vec<Value>, RowRefused> {
        let same = self.is_for(&key.shape) || self.shape == key.shape;
        if !same || key.values.len() != self.shape.fields.len() {
            return Err(RowRefused::OtherShape);
        }
        let mut nulled = 0;
        let pick = |slot: &Slot| {
            let value = slot.field.and_then(|field| key.values.get(field));
            slot.settle(value.cloned().unwrap_or(Value::Null), &mut nulled)
        };
        self.slots.iter().map(pick).collect()
    }
}

fn fill(slots: &[Slot], mut values: Vec<Value>) -> Result<Applied, RowRefused> {
    let mut applied = Applied { values: Vec::with_capacity(slots.len()), ..Applied::default() };
    for slot in slots {
        let value = match slot.field.and_then(|field| values.get_mut(field)) {
            // Several columns of one name may be left as they are by the one field.
            Some(Value::Unavailable) => Value::Unavailable,
            Some(value) => std::mem::replace(value, Value::Null),
            None => Value::Null,
        };
        if slot.retyped && value == Value::Unavailable {
            applied.retyped.push(applied.values.len());
        }
        applied.values.push(slot.settle(value, &mut applied.nulled)?);
    }
    Ok(applied)
}
