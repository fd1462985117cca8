//! Between our columns and values and Iceberg's.
//!
//! Both ways for schemas and for values (bounds and partition values), in the spec's single-value
//! form.

use iceberg::spec::{
    Datum, ListType, NestedField, PartitionSpec, PrimitiveLiteral, PrimitiveType, Schema,
    StructType, Type,
};
use lakebed_schemas::column::{Column, ColumnType, TableSchema};
use lakebed_schemas::position::TopicPartition;
use lakebed_schemas::value::{Value, rescale};

use super::partition_spec;
use crate::table::field_ids::{self, FieldIds};
use crate::{Error, Result};

/// Characters (or bytes) of a text (or binary) bound that are kept: Iceberg's own default.
const BOUND_LENGTH: usize = 16;

/// Before the source's name in a field's doc.
const SOURCE_NAME: &str = "source: ";

/// Whose rows a file holds that another program wrote: nobody's partition.
pub fn foreign_topic_partition() -> TopicPartition {
    TopicPartition::new("", -1)
}

/// An error of the Iceberg library while we were `doing` something.
pub(super) fn library(doing: impl Into<String>) -> impl FnOnce(iceberg::Error) -> Error {
    let doing = doing.into();
    move |error| Error::corrupt(doing).with_source(error)
}

/// The Iceberg schema of a new table.
pub(super) fn to_iceberg(schema: &TableSchema, schema_id: i32) -> Result<Schema> {
    field_ids::check(schema)?;
    build_schema(schema.columns.iter().map(new_field).collect(), schema_id)
}

/// The Iceberg schema after a change: known columns keep what they have and may only be promoted,
/// new ones are added.
pub(super) fn evolve(current: &Schema, next: &TableSchema, schema_id: i32) -> Result<Schema> {
    field_ids::check(next)?;
    for field in current.as_struct().fields() {
        if !next.columns.iter().any(|column| column.id == field.id) {
            return Err(Error::invalid(format!(
                "the new schema lacks column `{}`: columns are never dropped from a table",
                field.name
            )));
        }
    }
    let fields = next.columns.iter().map(|column| {
        let known = current.as_struct().fields().iter().find(|field| field.id == column.id);
        known.map_or_else(|| Ok(new_field(column)), |field| promoted(field, column))
    });
    build_schema(fields.collect::<Result<Vec<_>>>()?, schema_id)
}

/// The same columns with the ids inside of them that our files have; `None` where they have them.
pub(super) fn numbered(schema: &Schema, schema_id: i32) -> Result<Option<Schema>> {
    let fields = schema.as_struct().fields();
    let ours = fields.iter().map(|field| {
        let column_type = column_type(&field.field_type, &field.name)?;
        let ids = field_ids::field_ids(field.id, &column_type);
        let mut ours = field.as_ref().clone();
        if !ours.field_type.is_primitive() {
            ours.field_type = Box::new(to_type(&column_type, &ids));
        }
        Ok(ours)
    });
    let ours = ours.collect::<Result<Vec<NestedField>>>()?;
    if fields.iter().map(AsRef::as_ref).eq(&ours) {
        return Ok(None);
    }
    build_schema(ours, schema_id).map(Some)
}

/// The same schema under another number.
pub(super) fn with_id(schema: &Schema, schema_id: i32) -> Result<Schema> {
    let fields = schema.as_struct().fields();
    build_schema(fields.iter().map(|field| field.as_ref().clone()).collect(), schema_id)
}

fn build_schema(fields: Vec<NestedField>, schema_id: i32) -> Result<Schema> {
    Schema::builder()
        .with_schema_id(schema_id)
        .with_fields(fields.into_iter().map(Into::into))
        .build()
        .map_err(|e| Error::invalid("the columns make no Iceberg schema").with_source(e))
}

fn new_field(column: &Column) -> NestedField {
    let ids = field_ids::field_ids(column.id, &column.column_type);
    let field = NestedField::optional(column.id, &column.name, to_type(&column.column_type, &ids));
    if column.source_name == column.name {
        return field;
    }
    field.with_doc(format!("{SOURCE_NAME}{}", column.source_name))
}

fn promoted(field: &NestedField, column: &Column) -> Result<NestedField> {
    let refused = |what: String| {
        Error::invalid(format!("column `{}` (field id {}) {what}", field.name, field.id))
    };
    if field.name != column.name {
        return Err(refused(format!("cannot be renamed to `{}`", column.name)));
    }
    let ids = field_ids::field_ids(column.id, &column.column_type);
    let wanted = to_type(&column.column_type, &ids);
    let mut promoted = field.clone();
    // What is inside a column may have ids of another engine's choice: where nothing changes, it
    // stays as it is.
    let nested = !wanted.is_primitive();
    if nested && column_type(&field.field_type, &field.name)? == column.column_type {
        return Ok(promoted);
    }
    if !promotes(&field.field_type, &wanted) {
        return Err(refused(format!("cannot change from {} to {wanted}", field.field_type)));
    }
    promoted.field_type = Box::new(wanted);
    Ok(promoted)
}

/// Whether a field of type `from` may become one of type `to`, itself or inside.
fn promotes(from: &Type, to: &Type) -> bool {
    use PrimitiveType as P;
    match (from, to) {
        (Type::Primitive(from), Type::Primitive(to)) => match (from, to) {
            (P::Int, P::Long) | (P::Float, P::Double) => true,
            (
                P::Decimal { precision: from, scale: old },
                P::Decimal { precision: to, scale: new },
            ) => from <= to && old == new,
            (from, to) => from == to,
        },
        (Type::List(from), Type::List(to)) => {
            let (from, to) = (&from.element_field, &to.element_field);
            from.id == to.id && promotes(&from.field_type, &to.field_type)
        }
        (from, to) => from == to,
    }
}

fn to_type(column_type: &ColumnType, ids: &FieldIds) -> Type {
    let primitive = match column_type {
        ColumnType::Boolean => PrimitiveType::Boolean,
        ColumnType::Int => PrimitiveType::Int,
        ColumnType::Long => PrimitiveType::Long,
        ColumnType::Float => PrimitiveType::Float,
        ColumnType::Double => PrimitiveType::Double,
        ColumnType::Decimal { precision, scale } => {
            PrimitiveType::Decimal { precision: u32::from(*precision), scale: u32::from(*scale) }
        }
        ColumnType::Date => PrimitiveType::Date,
        ColumnType::Timestamp => PrimitiveType::Timestamp,
        ColumnType::TimestampTz => PrimitiveType::Timestamptz,
        ColumnType::Text => PrimitiveType::String,
        ColumnType::Binary => PrimitiveType::Binary,
        ColumnType::List(element) => {
            let inner = &ids.children[0];
            let field = NestedField::list_element(inner.id, to_type(element, inner), false);
            return Type::List(ListType::new(field.into()));
        }
        ColumnType::Struct(fields) => {
            let fields = fields.iter().zip(&ids.children).map(|((name, field), inner)| {
                NestedField::optional(inner.id, name, to_type(field, inner)).into()
            });
            return Type::Struct(StructType::new(fields.collect()));
        }
    };
    Type::Primitive(primitive)
}

/// Our columns of a table, from its current schema.
pub(super) fn from_iceberg(
    schema: &Schema,
    spec: &PartitionSpec,
    key_ids: &[i32],
) -> Result<TableSchema> {
    let columns = schema.as_struct().fields().iter().map(|field| {
        let source_name = field
            .doc
            .as_deref()
            .and_then(|doc| doc.strip_prefix(SOURCE_NAME))
            .unwrap_or(&field.name);
        Ok(Column {
            name: field.name.clone(),
            source_name: source_name.to_owned(),
            column_type: column_type(&field.field_type, &field.name)?,
            id: field.id,
        })
    });
    let columns = columns.collect::<Result<Vec<_>>>()?;
    let name_of = |id: i32| columns.iter().find(|column| column.id == id).map(|c| c.name.clone());
    let key = key_ids.iter().map(|id| {
        name_of(*id).ok_or_else(|| {
            Error::corrupt(format!("the key column with field id {id} is not in the schema"))
        })
    });
    let key = key.collect::<Result<Vec<_>>>()?;
    // A spec of another kind is refused when a file is to be written.
    let partition_by = partition_spec::fields(spec, schema).unwrap_or_default();
    Ok(TableSchema { columns, key, partition_by })
}

pub(super) fn column_type(field_type: &Type, name: &str) -> Result<ColumnType> {
    let foreign = || {
        Error::invalid(format!(
            "column `{name}` has type {field_type}, which Lakebed neither reads nor writes: \
             leave it out of the table, or give it another type"
        ))
    };
    let primitive = match field_type {
        Type::Primitive(primitive) => primitive,
        Type::List(list) => {
            return Ok(ColumnType::List(Box::new(column_type(
                &list.element_field.field_type,
                name,
            )?)));
        }
        Type::Struct(fields) => {
            let fields = fields
                .fields()
                .iter()
                .map(|field| Ok((field.name.clone(), column_type(&field.field_type, name)?)));
            return Ok(ColumnType::Struct(fields.collect::<Result<Vec<_>>>()?));
        }
        Type::Map(_) => return Err(foreign()),
    };
    Ok(match primitive {
        PrimitiveType::Boolean => ColumnType::Boolean,
        PrimitiveType::Int => ColumnType::Int,
        PrimitiveType::Long => ColumnType::Long,
        PrimitiveType::Float => ColumnType::Float,
        PrimitiveType::Double => ColumnType::Double,
        PrimitiveType::Decimal { precision, scale } => ColumnType::Decimal {
            precision: u8::try_from(*precision).map_err(|_| foreign())?,
            scale: u8::try_from(*scale).map_err(|_| foreign())?,
        },
        PrimitiveType::Date => ColumnType::Date,
        PrimitiveType::Timestamp => ColumnType::Timestamp,
        PrimitiveType::Timestamptz => ColumnType::TimestampTz,
        PrimitiveType::String => ColumnType::Text,
        PrimitiveType::Binary => ColumnType::Binary,
        _ => return Err(foreign()),
    })
}

/// A value in Iceberg's single-value form; `None` for NULL, NaN and what does not fit the type.
pub(super) fn datum(value: &Value, primitive: &PrimitiveType) -> Option<Datum> {
    let bytes: Vec<u8> = match (value, primitive) {
        (Value::Boolean(value), PrimitiveType::Boolean) => vec![u8::from(*value)],
        (Value::Long(value), PrimitiveType::Int) => {
            i32::try_from(*value).ok()?.to_le_bytes().into()
        }
        (Value::Long(value), PrimitiveType::Long) => value.to_le_bytes().into(),
        (Value::Float(value), PrimitiveType::Float) if !value.is_nan() => {
            value.to_le_bytes().into()
        }
        (Value::Float(value), PrimitiveType::Double) if !value.is_nan() => {
            f64::from(*value).to_le_bytes().into()
        }
        (Value::Double(value), PrimitiveType::Double) if !value.is_nan() => {
            value.to_le_bytes().into()
        }
        (Value::Decimal { unscaled, scale }, PrimitiveType::Decimal { scale: to, .. }) => {
            rescale(*unscaled, *scale, u8::try_from(*to).ok()?)?.to_be_bytes().into()
        }
        (Value::Date(value), PrimitiveType::Date) => value.to_le_bytes().into(),
        (Value::Timestamp(value), PrimitiveType::Timestamp)
        | (Value::TimestampTz(value), PrimitiveType::Timestamptz) => value.to_le_bytes().into(),
        (Value::Text(value), PrimitiveType::String) => value.as_bytes().into(),
        (Value::Binary(value), PrimitiveType::Binary) => value.clone(),
        _ => return None,
    };
    Datum::try_from_bytes(&bytes, primitive.clone()).ok()
}

/// A lower bound of a column: not above any value, and short.
pub(super) fn lower_bound(min: &Value, primitive: &PrimitiveType) -> Option<Datum> {
    match min {
        Value::Text(text) if text.chars().nth(BOUND_LENGTH).is_some() => {
            datum(&Value::Text(text.chars().take(BOUND_LENGTH).collect()), primitive)
        }
        Value::Binary(bytes) if bytes.len() > BOUND_LENGTH => {
            datum(&Value::Binary(bytes[..BOUND_LENGTH].to_vec()), primitive)
        }
        other => datum(other, primitive),
    }
}

/// An upper bound of a column: not below any value, and short; `None` where there is none such.
pub(super) fn upper_bound(max: &Value, primitive: &PrimitiveType) -> Option<Datum> {
    match max {
        Value::Text(text) if text.chars().nth(BOUND_LENGTH).is_some() => {
            datum(&Value::Text(text_above(text)?), primitive)
        }
        Value::Binary(bytes) if bytes.len() > BOUND_LENGTH => {
            datum(&Value::Binary(bytes_above(&bytes[..BOUND_LENGTH])?), primitive)
        }
        other => datum(other, primitive),
    }
}

/// The shortest text above every text that starts like this one.
fn text_above(text: &str) -> Option<String> {
    let mut head: Vec<char> = text.chars().take(BOUND_LENGTH).collect();
    while let Some(last) = head.pop() {
        // The code points between the two halves of the range are no characters.
        let next = match u32::from(last) + 1 {
            0xD800 => Some('\u{E000}'),
            next => char::from_u32(next),
        };
        if let Some(next) = next {
            head.push(next);
            return Some(head.into_iter().collect());
        }
    }
    None
}

fn bytes_above(bytes: &[u8]) -> Option<Vec<u8>> {
    let kept = bytes.iter().rposition(|byte| *byte != u8::MAX)?;
    let mut above = bytes[..=kept].to_vec();
    above[kept] += 1;
    Some(above)
}

/// The value of a literal of this type; `None` for what Lakebed has no value for.
pub(super) fn value(literal: &PrimitiveLiteral, primitive: &PrimitiveType) -> Option<Value> {
    Some(match (literal, primitive) {
        (PrimitiveLiteral::Boolean(value), _) => Value::Boolean(*value),
        (PrimitiveLiteral::Int(value), PrimitiveType::Date) => Value::Date(*value),
        (PrimitiveLiteral::Int(value), _) => Value::Long(i64::from(*value)),
        (PrimitiveLiteral::Long(value), PrimitiveType::Timestamp) => Value::Timestamp(*value),
        (PrimitiveLiteral::Long(value), PrimitiveType::Timestamptz) => Value::TimestampTz(*value),
        (PrimitiveLiteral::Long(value), _) => Value::Long(*value),
        (PrimitiveLiteral::Float(value), _) => Value::Float(value.0),
        (PrimitiveLiteral::Double(value), _) => Value::Double(value.0),
        (PrimitiveLiteral::String(value), _) => Value::Text(value.clone()),
        (PrimitiveLiteral::Binary(value), _) => Value::Binary(value.clone()),
        (PrimitiveLiteral::Int128(unscaled), PrimitiveType::Decimal { scale, .. }) => {
            Value::Decimal { unscaled: *unscaled, scale: u8::try_from(*scale).ok()? }
        }
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn column(id: i32, name: &str, column_type: ColumnType) -> Column {
        Column { name: name.into(), source_name: name.into(), column_type, id }
    }

    #[test]
    fn a_schema_reads_back_as_it_was_with_source_names_and_nested_ids() {
        let mut schema = lakebed_schemas::bronze::schema();
        schema.columns[13].source_name = "Before".into();
        let stored = to_iceberg(&schema, 0).expect("converts");
        let spec = iceberg::spec::PartitionSpec::builder(stored.clone())
            .add_partition_field("_date", "_date", iceberg::spec::Transform::Identity)
            .and_then(iceberg::spec::PartitionSpecBuilder::build)
            .expect("spec");

        assert_eq!(from_iceberg(&stored, &spec, &[]).expect("reads"), schema);
        assert_eq!(stored.highest_field_id(), 11_702);
    }

    #[test]
    fn columns_are_added_and_promoted_and_nothing_else() {
        let list = |element| ColumnType::List(Box::new(element));
        let before = TableSchema {
            columns: vec![
                column(1, "id", ColumnType::Int),
                column(2, "price", ColumnType::Decimal { precision: 9, scale: 2 }),
                column(3, "counts", list(ColumnType::Int)),
            ],
            ..Default::default()
        };
        let current = to_iceberg(&before, 0).expect("converts");
        let mut wider = before.clone();
        wider.columns[0].column_type = ColumnType::Long;
        wider.columns[1].column_type = ColumnType::Decimal { precision: 18, scale: 2 };
        wider.columns[2].column_type = list(ColumnType::Long);
        wider.columns.push(column(4, "tags", list(ColumnType::Text)));
        let evolved = evolve(&current, &wider, 1).expect("evolves");
        let inside = |id| evolved.field_by_id(id).map(|field| field.field_type.to_string());
        assert_eq!(inside(10_300).as_deref(), Some("long"));
        assert_eq!(inside(10_400).as_deref(), Some("string"));

        let refused = |change: &dyn Fn(&mut TableSchema)| {
            let mut next = before.clone();
            change(&mut next);
            evolve(&current, &next, 1).expect_err("refused").to_string()
        };
        assert!(refused(&|s| s.columns[0].column_type = ColumnType::Text).contains("`id`"));
        assert!(refused(&|s| s.columns[0].name = "key".into()).contains("renamed"));
        assert!(refused(&|s| s.columns.truncate(1)).contains("`price`"));
        let text_inside = refused(&|s| s.columns[2].column_type = list(ColumnType::Text));
        assert!(text_inside.contains("`counts`"), "{text_inside}");
        assert!(
            refused(&|s| {
                s.columns[1].column_type = ColumnType::Decimal { precision: 9, scale: 3 };
            })
            .contains("`price`")
        );
    }

    #[test]
    fn long_bounds_are_cut_without_excluding_the_value() {
        let long = "zürich-hauptbahnhof-süd".to_owned();
        let string = PrimitiveType::String;
        let lower = lower_bound(&Value::Text(long.clone()), &string).expect("lower");
        let upper = upper_bound(&Value::Text(long.clone()), &string).expect("upper");
        assert_eq!(lower, Datum::string("zürich-hauptbahn"));
        assert_eq!(upper, Datum::string("zürich-hauptbaho"));
        assert!(lower < Datum::string(&long) && Datum::string(&long) < upper);

        let highest = Value::Text("\u{10FFFF}".repeat(17));
        assert_eq!(upper_bound(&highest, &string), None);
        let binary = Value::Binary(vec![0xFF; 17]);
        assert_eq!(upper_bound(&binary, &PrimitiveType::Binary), None);
        let nan = Value::Double(f64::NAN);
        assert_eq!(upper_bound(&nan, &PrimitiveType::Double), None);
    }

    #[test]
    fn decimal_bounds_are_in_the_scale_of_the_column() {
        let decimal = PrimitiveType::Decimal { precision: 12, scale: 4 };
        let bound = lower_bound(&Value::Decimal { unscaled: -125, scale: 2 }, &decimal);
        let bytes = bound.expect("bound").to_bytes().expect("bytes");
        assert_eq!(&bytes[..], &(-12_500i16).to_be_bytes());
    }
}
