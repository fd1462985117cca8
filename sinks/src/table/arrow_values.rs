//! Values to Arrow and back: the one place that knows which Arrow type a column has.

use std::collections::HashMap;
use std::sync::Arc;

use arrow::array::{
    Array, ArrayRef, AsArray, BinaryArray, BinaryBuilder, BooleanArray, Decimal128Array, ListArray,
    PrimitiveArray, StringArray, StringBuilder, StructArray,
};
use arrow::buffer::{NullBuffer, OffsetBuffer};
use arrow::datatypes::{
    ArrowPrimitiveType, DataType, Date32Type, Decimal128Type, Field, Fields, Float32Type,
    Float64Type, Int32Type, Int64Type, Schema, SchemaRef, TimeUnit, TimestampMicrosecondType,
};
use lakebed_schemas::column::{Column, ColumnType, TableSchema};
use lakebed_schemas::value::{Value, digits, rescale};
use parquet::arrow::PARQUET_FIELD_ID_META_KEY;

use super::field_ids::{FieldIds, field_ids};
use crate::{Error, Result};

/// Name of a list's element field, as Iceberg and Parquet have it.
const ELEMENT: &str = "element";
/// Zone of instants: Parquet keeps only that they are adjusted to UTC.
const UTC: &str = "UTC";

/// The Arrow schema of a table, with the field ids that its Parquet files carry.
pub fn arrow_schema(schema: &TableSchema) -> SchemaRef {
    Arc::new(Schema::new(schema.columns.iter().map(field).collect::<Vec<_>>()))
}

/// The Arrow field of a column, with its field ids.
pub(crate) fn field(column: &Column) -> Field {
    named(&column.name, &column.column_type, &field_ids(column.id, &column.column_type))
}

fn named(name: &str, column_type: &ColumnType, ids: &FieldIds) -> Field {
    let id = HashMap::from([(PARQUET_FIELD_ID_META_KEY.to_owned(), ids.id.to_string())]);
    Field::new(name, data_type(column_type, ids), true).with_metadata(id)
}

fn data_type(column_type: &ColumnType, ids: &FieldIds) -> DataType {
    use ColumnType as T;
    match column_type {
        T::Boolean => DataType::Boolean,
        T::Int => DataType::Int32,
        T::Long => DataType::Int64,
        T::Float => DataType::Float32,
        T::Double => DataType::Float64,
        T::Decimal { precision, scale } => DataType::Decimal128(*precision, *scale as i8),
        T::Date => DataType::Date32,
        T::Timestamp => DataType::Timestamp(TimeUnit::Microsecond, None),
        T::TimestampTz => DataType::Timestamp(TimeUnit::Microsecond, Some(UTC.into())),
        T::Text => DataType::Utf8,
        T::Binary => DataType::Binary,
        T::List(element) => DataType::List(Arc::new(named(ELEMENT, element, &ids.children[0]))),
        T::Struct(fields) => DataType::Struct(struct_fields(fields, ids)),
    }
}

fn struct_fields(fields: &[(String, ColumnType)], ids: &FieldIds) -> Fields {
    let named =
        fields.iter().zip(&ids.children).map(|((name, inner), ids)| named(name, inner, ids));
    named.collect()
}

/// One column of rows as an Arrow array of the column's type.
///
/// # Errors
/// `Internal` when a value does not fit: rows are checked before they come here.
pub(crate) fn array(column: &Column, values: &[&Value]) -> Result<ArrayRef> {
    let ids = field_ids(column.id, &column.column_type);
    build(&column.column_type, &ids, values).map_err(|Misfit(found)| {
        Error::internal(format!(
            "column `{}` is {:?} and was given a value that is {found}",
            column.name, column.column_type
        ))
    })
}

/// What kind of value was found where another was due.
struct Misfit(&'static str);

fn kind(value: &Value) -> Misfit {
    Misfit(match value {
        Value::Null => "null",
        Value::Unavailable => "an unanswered placeholder",
        Value::Boolean(_) => "boolean",
        Value::Long(_) => "an integer",
        Value::Float(_) | Value::Double(_) => "floating point",
        Value::Decimal { .. } => "decimal",
        Value::Date(_) => "a date",
        Value::Timestamp(_) => "a timestamp without zone",
        Value::TimestampTz(_) => "an instant",
        Value::Text(_) => "text",
        Value::Binary(_) => "binary",
        Value::List(_) => "a list",
        Value::Struct(_) => "a struct",
        Value::OutOfRange(_) => "out of range, with no policy applied",
    })
}

fn build(column_type: &ColumnType, ids: &FieldIds, values: &[&Value]) -> Result<ArrayRef, Misfit> {
    use ColumnType as T;
    Ok(match column_type {
        T::Boolean => Arc::new(
            cells(values, |value| match value {
                Value::Boolean(b) => Some(*b),
                _ => None,
            })
            .collect::<Result<BooleanArray, _>>()?,
        ),
        T::Int => primitive::<Int32Type>(values, |value| match value {
            Value::Long(n) => i32::try_from(*n).ok(),
            _ => None,
        })?,
        T::Long => primitive::<Int64Type>(values, |value| match value {
            Value::Long(n) => Some(*n),
            _ => None,
        })?,
        T::Float => primitive::<Float32Type>(values, |value| match value {
            Value::Float(x) => Some(*x),
            _ => None,
        })?,
        T::Double => primitive::<Float64Type>(values, |value| match value {
            Value::Double(x) => Some(*x),
            Value::Float(x) => Some(f64::from(*x)),
            _ => None,
        })?,
        T::Decimal { precision, scale } => decimals(*precision, *scale, values)?,
        T::Date => primitive::<Date32Type>(values, |value| match value {
            Value::Date(days) => Some(*days),
            _ => None,
        })?,
        T::Timestamp => primitive::<TimestampMicrosecondType>(values, |value| match value {
            Value::Timestamp(micros) => Some(*micros),
            _ => None,
        })?,
        T::TimestampTz => instants(values)?,
        T::Text => texts(values)?,
        T::Binary => binaries(values)?,
        T::List(element) => list(element, ids, values)?,
        T::Struct(fields) => structs(fields, ids, values)?,
    })
}

/// Each value as `take` understands it; `None` for NULL.
fn cells<'a, T: 'a>(
    values: &'a [&'a Value],
    take: impl Fn(&'a Value) -> Option<T> + 'a,
) -> impl Iterator<Item = Result<Option<T>, Misfit>> + 'a {
    values.iter().map(move |value| match value {
        Value::Null => Ok(None),
        value => take(value).map(Some).ok_or_else(|| kind(value)),
    })
}

fn primitives<P: ArrowPrimitiveType>(
    values: &[&Value],
    take: impl Fn(&Value) -> Option<P::Native>,
) -> Result<PrimitiveArray<P>, Misfit> {
    let mut builder = PrimitiveArray::<P>::builder(values.len());
    for value in values {
        match value {
            Value::Null => builder.append_null(),
            value => builder.append_value(take(value).ok_or_else(|| kind(value))?),
        }
    }
    Ok(builder.finish())
}

fn primitive<P: ArrowPrimitiveType>(
    values: &[&Value],
    take: impl Fn(&Value) -> Option<P::Native>,
) -> Result<ArrayRef, Misfit> {
    Ok(Arc::new(primitives::<P>(values, take)?))
}

fn instants(values: &[&Value]) -> Result<ArrayRef, Misfit> {
    let array = primitives::<TimestampMicrosecondType>(values, |value| match value {
        Value::TimestampTz(micros) => Some(*micros),
        _ => None,
    })?;
    Ok(Arc::new(array.with_timezone(UTC)))
}

fn decimals(precision: u8, scale: u8, values: &[&Value]) -> Result<ArrayRef, Misfit> {
    let array = primitives::<Decimal128Type>(values, |value| match value {
        Value::Decimal { unscaled, scale: from } => rescale(*unscaled, *from, scale)
            .filter(|unscaled| digits(*unscaled) <= u32::from(precision)),
        _ => None,
    })?;
    let array: Decimal128Array = array
        .with_precision_and_scale(precision, scale as i8)
        .map_err(|_| Misfit("of an impossible decimal type"))?;
    Ok(Arc::new(array))
}

fn texts(values: &[&Value]) -> Result<ArrayRef, Misfit> {
    let bytes = values.iter().map(|value| if let Value::Text(t) = value { t.len() } else { 0 });
    let mut builder = StringBuilder::with_capacity(values.len(), bytes.sum());
    for value in values {
        match value {
            Value::Null => builder.append_null(),
            Value::Text(text) => builder.append_value(text),
            other => return Err(kind(other)),
        }
    }
    let array: StringArray = builder.finish();
    Ok(Arc::new(array))
}

fn binaries(values: &[&Value]) -> Result<ArrayRef, Misfit> {
    let bytes = values.iter().map(|value| if let Value::Binary(b) = value { b.len() } else { 0 });
    let mut builder = BinaryBuilder::with_capacity(values.len(), bytes.sum());
    for value in values {
        match value {
            Value::Null => builder.append_null(),
            Value::Binary(bytes) => builder.append_value(bytes),
            other => return Err(kind(other)),
        }
    }
    let array: BinaryArray = builder.finish();
    Ok(Arc::new(array))
}

fn list(element: &ColumnType, ids: &FieldIds, values: &[&Value]) -> Result<ArrayRef, Misfit> {
    let mut inner: Vec<&Value> = Vec::new();
    let mut lengths = Vec::with_capacity(values.len());
    let mut valid = Vec::with_capacity(values.len());
    for value in values {
        let items: &[Value] = match value {
            Value::Null => &[],
            Value::List(items) => items,
            other => return Err(kind(other)),
        };
        inner.extend(items);
        lengths.push(items.len());
        valid.push(!value.is_null());
    }
    let ids = &ids.children[0];
    let inner = build(element, ids, &inner)?;
    let field = Arc::new(named(ELEMENT, element, ids));
    let nulls = NullBuffer::from(valid);
    ListArray::try_new(field, OffsetBuffer::from_lengths(lengths), inner, Some(nulls))
        .map(|array| Arc::new(array) as ArrayRef)
        .map_err(|_| Misfit("a list that does not fit together"))
}

fn structs(
    fields: &[(String, ColumnType)],
    ids: &FieldIds,
    values: &[&Value],
) -> Result<ArrayRef, Misfit> {
    static NULL: Value = Value::Null;
    let mut columns: Vec<Vec<&Value>> = vec![Vec::with_capacity(values.len()); fields.len()];
    for value in values {
        match value {
            Value::Null => columns.iter_mut().for_each(|column| column.push(&NULL)),
            Value::Struct(items) if items.len() == fields.len() => {
                columns.iter_mut().zip(items).for_each(|(column, item)| column.push(item));
            }
            other => return Err(kind(other)),
        }
    }
    let arrays = columns.iter().zip(fields).zip(&ids.children);
    let arrays: Vec<ArrayRef> = arrays
        .map(|((column, (_, inner)), ids)| build(inner, ids, column))
        .collect::<Result<_, _>>()?;
    let nulls: NullBuffer = values.iter().map(|value| !value.is_null()).collect();
    let len = values.len();
    StructArray::try_new_with_length(struct_fields(fields, ids), arrays, Some(nulls), len)
        .map(|array| Arc::new(array) as ArrayRef)
        .map_err(|_| Misfit("a struct that does not fit together"))
}

/// The value in one row of an array that has this column type's Arrow type.
pub fn value_at(array: &dyn Array, column_type: &ColumnType, row: usize) -> Value {
    use ColumnType as T;
    if array.is_null(row) {
        return Value::Null;
    }
    match column_type {
        T::Boolean => Value::Boolean(array.as_boolean().value(row)),
        T::Int => Value::Long(i64::from(array.as_primitive::<Int32Type>().value(row))),
        T::Long => Value::Long(array.as_primitive::<Int64Type>().value(row)),
        T::Float => Value::Float(array.as_primitive::<Float32Type>().value(row)),
        T::Double => Value::Double(array.as_primitive::<Float64Type>().value(row)),
        T::Decimal { scale, .. } => Value::Decimal {
            unscaled: array.as_primitive::<Decimal128Type>().value(row),
            scale: *scale,
        },
        T::Date => Value::Date(array.as_primitive::<Date32Type>().value(row)),
        T::Timestamp => Value::Timestamp(micros(array, row)),
        T::TimestampTz => Value::TimestampTz(micros(array, row)),
        T::Text => Value::Text(array.as_string::<i32>().value(row).to_owned()),
        T::Binary => Value::Binary(array.as_binary::<i32>().value(row).to_vec()),
        T::List(element) => {
            let items = array.as_list::<i32>().value(row);
            Value::List((0..items.len()).map(|n| value_at(&items, element, n)).collect())
        }
        T::Struct(fields) => {
            let columns = array.as_struct().columns();
            let values = columns.iter().zip(fields);
            Value::Struct(values.map(|(column, (_, inner))| value_at(column, inner, row)).collect())
        }
    }
}

fn micros(array: &dyn Array, row: usize) -> i64 {
    array.as_primitive::<TimestampMicrosecondType>().value(row)
}

/// A column of rows about to be hashed: downcast once, not once a row.
pub(crate) enum KeyCells<'a> {
    Int(&'a PrimitiveArray<Int32Type>),
    Long(&'a PrimitiveArray<Int64Type>),
    Text(&'a StringArray),
    Other(&'a dyn Array, &'a ColumnType),
}

impl<'a> KeyCells<'a> {
    pub(crate) fn new(array: &'a dyn Array, column_type: &'a ColumnType) -> Self {
        match column_type {
            ColumnType::Int => Self::Int(array.as_primitive()),
            ColumnType::Long => Self::Long(array.as_primitive()),
            ColumnType::Text => Self::Text(array.as_string()),
            other => Self::Other(array, other),
        }
    }

    /// Appends what [`Value::canonical`] would, without making the value where that costs.
    pub(crate) fn canonical(&self, row: usize, out: &mut Vec<u8>) {
        match self {
            Self::Int(array) if array.is_valid(row) => {
                Value::Long(i64::from(array.value(row))).canonical(out);
            }
            Self::Long(array) if array.is_valid(row) => {
                Value::Long(array.value(row)).canonical(out)
            }
            Self::Text(array) if array.is_valid(row) => {
                let text = array.value(row).as_bytes();
                out.push(8);
                out.extend_from_slice(&(text.len() as u64).to_le_bytes());
                out.extend_from_slice(text);
            }
            Self::Int(_) | Self::Long(_) | Self::Text(_) => Value::Null.canonical(out),
            Self::Other(array, column_type) => value_at(*array, column_type, row).canonical(out),
        }
    }
}
