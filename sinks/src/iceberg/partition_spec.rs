//! Between our partition fields and Iceberg's partition specs and tuples.

use iceberg::spec::{
    Literal, PartitionSpec, PrimitiveLiteral, PrimitiveType, Schema, Struct, Transform as Stored,
};
use lakebed_schemas::column::TableSchema;
use lakebed_schemas::partition::{PartitionField, Transform};
use lakebed_schemas::value::Value;
use serde_json::{Value as Json, json};

use super::convert::{datum, value};
use crate::{Error, Result};

/// Ids of partition fields count from here.
const FIRST_ID: i32 = 1000;

/// The fields of a new table's partition spec as JSON, and the last id that they have.
///
/// # Errors
/// `Invalid` when one is made of a column that the schema does not have.
pub(super) fn to_json(schema: &TableSchema) -> Result<(Vec<Json>, i32)> {
    let fields = schema.partition_by.iter().zip(FIRST_ID..).map(|(field, id)| {
        let source = schema.index_of(&field.column).ok_or_else(|| {
            Error::invalid(format!("partition column `{}` is not among the columns", field.column))
        })?;
        Ok(json!({
            "source-id": schema.columns[source].id,
            "field-id": id,
            "name": field.name,
            "transform": to_stored(field.transform).to_string(),
        }))
    });
    let fields = fields.collect::<Result<Vec<_>>>()?;
    let last =
        schema.partition_by.iter().zip(FIRST_ID..).last().map_or(FIRST_ID - 1, |last| last.1);
    Ok((fields, last))
}

fn to_stored(transform: Transform) -> Stored {
    match transform {
        Transform::Identity => Stored::Identity,
        Transform::Year => Stored::Year,
        Transform::Month => Stored::Month,
        Transform::Day => Stored::Day,
        Transform::Hour => Stored::Hour,
        Transform::Bucket(buckets) => Stored::Bucket(buckets),
        Transform::Truncate(width) => Stored::Truncate(width),
    }
}

fn from_stored(transform: Stored) -> Option<Transform> {
    Some(match transform {
        Stored::Identity => Transform::Identity,
        Stored::Year => Transform::Year,
        Stored::Month => Transform::Month,
        Stored::Day => Transform::Day,
        Stored::Hour => Transform::Hour,
        Stored::Bucket(buckets) => Transform::Bucket(buckets),
        Stored::Truncate(width) => Transform::Truncate(width),
        Stored::Void | Stored::Unknown => return None,
    })
}

/// Our partition fields of a spec; `None` where Lakebed cannot write files of it.
pub(super) fn fields(spec: &PartitionSpec, schema: &Schema) -> Option<Vec<PartitionField>> {
    let columns = schema.as_struct();
    let field = |field: &iceberg::spec::PartitionField| {
        let source = columns.fields().iter().find(|column| column.id == field.source_id)?;
        let transform = from_stored(field.transform)?;
        // A column of that name would be taken for the place of its values.
        let is_column = columns.fields().iter().any(|column| column.name == field.name);
        if is_column && field.name != source.name {
            return None;
        }
        let column_type = super::convert::column_type(&source.field_type, &source.name).ok()?;
        transform.accepts(&column_type).then(|| PartitionField {
            name: field.name.clone(),
            column: source.name.clone(),
            transform,
        })
    };
    spec.fields().iter().map(field).collect()
}

/// The partition tuple of a file of ours.
///
/// # Errors
/// `Invalid` when the values are not those of the spec.
pub(super) fn tuple(values: &[Value], spec: &PartitionSpec, schema: &Schema) -> Result<Struct> {
    if values.len() != spec.fields().len() {
        return Err(Error::invalid(format!(
            "a file has {} partition values, its table {} partition fields",
            values.len(),
            spec.fields().len()
        )));
    }
    let literals = values.iter().zip(spec.fields()).map(|(value, field)| {
        if value.is_null() {
            return Ok(None);
        }
        let literal = literal(value, field.transform, primitive(field.source_id, schema));
        let literal = literal.ok_or_else(|| {
            Error::invalid(format!("no value for partition field `{}`", field.name))
        })?;
        Ok(Some(Literal::Primitive(literal)))
    });
    Ok(Struct::from_iter(literals.collect::<Result<Vec<_>>>()?))
}

fn primitive(source_id: i32, schema: &Schema) -> Option<&PrimitiveType> {
    schema.field_by_id(source_id)?.field_type.as_primitive_type()
}

fn literal(
    value: &Value,
    transform: Stored,
    source: Option<&PrimitiveType>,
) -> Option<PrimitiveLiteral> {
    Some(match (transform, value) {
        (Stored::Year | Stored::Month | Stored::Hour | Stored::Bucket(_), Value::Long(value)) => {
            PrimitiveLiteral::Int(i32::try_from(*value).ok()?)
        }
        (Stored::Day, Value::Date(days)) => PrimitiveLiteral::Int(*days),
        (Stored::Identity | Stored::Truncate(_), value) => datum(value, source?)?.literal().clone(),
        _ => return None,
    })
}

/// The partition values of a file; none where the spec is not ours.
pub(super) fn values(tuple: &Struct, spec: &PartitionSpec, schema: &Schema) -> Vec<Value> {
    let value = |(literal, field): (&Option<Literal>, &iceberg::spec::PartitionField)| {
        let Some(literal) = literal else { return Some(Value::Null) };
        let literal = literal.as_primitive_literal()?;
        Some(match (field.transform, literal) {
            (Stored::Day, PrimitiveLiteral::Int(days)) => Value::Date(days),
            (
                Stored::Year | Stored::Month | Stored::Hour | Stored::Bucket(_),
                PrimitiveLiteral::Int(value),
            ) => Value::Long(i64::from(value)),
            (Stored::Identity | Stored::Truncate(_), literal) => {
                self::value(&literal, primitive(field.source_id, schema)?)?
            }
            _ => return None,
        })
    };
    let values: Option<Vec<Value>> = tuple.fields().iter().zip(spec.fields()).map(value).collect();
    values.filter(|values| values.len() == spec.fields().len()).unwrap_or_default()
}

/// A tuple as manifests of this schema hold it: the column of a partition field may have been
/// promoted since the tuple was written.
pub(super) fn promoted(tuple: &Struct, spec: &PartitionSpec, schema: &Schema) -> Struct {
    let literals = tuple.fields().iter().enumerate().map(|(at, literal)| {
        let field = spec.fields().get(at);
        let is_of_source = |field: &&iceberg::spec::PartitionField| {
            matches!(field.transform, Stored::Identity | Stored::Truncate(_))
        };
        let source =
            field.filter(is_of_source).and_then(|field| primitive(field.source_id, schema));
        match (literal, source) {
            (Some(Literal::Primitive(PrimitiveLiteral::Int(value))), Some(PrimitiveType::Long)) => {
                Some(Literal::Primitive(PrimitiveLiteral::Long(i64::from(*value))))
            }
            (literal, _) => literal.clone(),
        }
    });
    Struct::from_iter(literals)
}

#[cfg(test)]
mod tests {
    use std::str::FromStr;

    use iceberg::spec::Datum;
    use iceberg::transform::create_transform_function;
    use lakebed_schemas::column::{Column, ColumnType};

    use super::*;

    const COLUMNS: [(&str, ColumnType); 9] = [
        ("flag", ColumnType::Boolean),
        ("small", ColumnType::Int),
        ("big", ColumnType::Long),
        ("price", ColumnType::Decimal { precision: 9, scale: 2 }),
        ("born", ColumnType::Date),
        ("local", ColumnType::Timestamp),
        ("at", ColumnType::TimestampTz),
        ("name", ColumnType::Text),
        ("bytes", ColumnType::Binary),
    ];

    fn values_of(column_type: &ColumnType) -> Vec<Value> {
        let longs = [0, 1, -1, 34, -17, 1_000_003, i64::from(i32::MIN) + 7, i64::from(i32::MAX)];
        let wide = [i64::MAX, i64::MIN + 7];
        let micros = [0, -1, 1, 1_510_871_468_000_001, -62_135_596_800_000_000, 3_599_999_999];
        match column_type {
            ColumnType::Boolean => vec![Value::Boolean(true), Value::Boolean(false)],
            ColumnType::Int => longs.map(Value::Long).to_vec(),
            ColumnType::Long => longs.into_iter().chain(wide).map(Value::Long).collect(),
            ColumnType::Decimal { .. } => [0, 1, -1, 1065, -999_999_999, 127, 128, -129]
                .map(|unscaled| Value::Decimal { unscaled, scale: 2 })
                .to_vec(),
            ColumnType::Date => {
                [0, -1, 1, 17_486, -719_162, 2_932_896, 59, 60].map(Value::Date).to_vec()
            }
            ColumnType::Timestamp => micros.map(Value::Timestamp).to_vec(),
            ColumnType::TimestampTz => micros.map(Value::TimestampTz).to_vec(),
            // The last are longer in UTF-16 than in characters, before where they are cut.
            ColumnType::Text => ["", "a", "iceberg", "üñîçødé 😀!", "😀😀b", "😀😀😀b"]
                .map(|t| Value::Text(t.into()))
                .to_vec(),
            _ => vec![Value::Binary(vec![]), Value::Binary(vec![0, 1, 2, 3, 255])],
        }
    }

    /// A schema of every type, partitioned by everything that can be.
    fn table() -> TableSchema {
        let columns = COLUMNS.iter().zip(1..).map(|((name, column_type), id)| Column {
            name: (*name).to_owned(),
            source_name: (*name).to_owned(),
            column_type: column_type.clone(),
            id,
        });
        let mut schema = TableSchema { columns: columns.collect(), ..TableSchema::default() };
        let transforms = ["identity", "year", "month", "day", "hour", "bucket[16]", "truncate[3]"];
        for (name, column_type) in COLUMNS {
            for text in transforms {
                let stored = Stored::from_str(text).expect("a transform");
                let transform = from_stored(stored).expect("one of ours");
                if transform.accepts(&column_type) {
                    let label = if text == "identity" { String::new() } else { format!("_{text}") };
                    let (name, column) = (format!("{name}{label}"), name.to_owned());
                    schema.partition_by.push(PartitionField { name, column, transform });
                }
            }
        }
        schema
    }

    fn spec_of(schema: &TableSchema) -> (PartitionSpec, Schema) {
        let stored = super::super::convert::to_iceberg(schema, 0).expect("converts");
        let mut builder = PartitionSpec::builder(stored.clone());
        for field in &schema.partition_by {
            let transform = to_stored(field.transform);
            builder = builder
                .add_unbound_field(iceberg::spec::UnboundPartitionField {
                    source_id: schema.columns[schema.index_of(&field.column).expect("one")].id,
                    field_id: None,
                    name: field.name.clone(),
                    transform,
                })
                .expect("a field");
        }
        (builder.build().expect("a spec"), stored)
    }

    #[test]
    fn transforms_agree_with_those_of_the_library() {
        let mut compared = 0;
        for field in &table().partition_by {
            let (_, column_type) =
                COLUMNS.iter().find(|(name, _)| *name == field.column).expect("a column");
            let stored = to_stored(field.transform);
            let function = create_transform_function(&stored).expect("a function");
            let schema = table();
            let (_, iceberg) = spec_of(&TableSchema { partition_by: Vec::new(), ..schema.clone() });
            let source = iceberg.field_by_name(&field.column).expect("a field");
            let primitive = source.field_type.as_primitive_type().expect("a primitive");
            for value in values_of(column_type) {
                let theirs: Option<Datum> = function
                    .transform_literal(&datum(&value, primitive).expect("a datum"))
                    .expect("transforms");
                let ours = field.transform.apply(&value, column_type);
                let Some(ours) = ours else {
                    panic!("{value:?} of {column_type} by {stored} is nothing")
                };
                let ours = literal(&ours, stored, Some(primitive));
                assert_eq!(
                    ours,
                    theirs.map(|datum| datum.literal().clone()),
                    "{value:?} of {column_type} by {stored}"
                );
                compared += 1;
            }
        }
        assert!(compared > 100, "{compared} values compared");
    }

    #[test]
    fn fields_and_values_read_back_as_they_were_written() {
        // One transform of each column: a spec takes no two of time for one.
        let mut schema = table();
        let mut seen = std::collections::BTreeSet::new();
        schema.partition_by.reverse();
        schema.partition_by.retain(|field| seen.insert(field.column.clone()));
        let (spec, iceberg) = spec_of(&schema);
        assert_eq!(fields(&spec, &iceberg), Some(schema.partition_by.clone()));

        let apply = |field: &PartitionField, nth: usize| {
            let at = schema.index_of(&field.column).expect("a column");
            let column_type = &schema.columns[at].column_type;
            field.transform.apply(&values_of(column_type)[nth], column_type).expect("a value")
        };
        for nth in [0, 1] {
            let partition: Vec<Value> =
                schema.partition_by.iter().map(|field| apply(field, nth)).collect();
            let tuple = tuple(&partition, &spec, &iceberg).expect("a tuple");
            assert_eq!(values(&tuple, &spec, &iceberg), partition);
        }
        let nulls = vec![Value::Null; schema.partition_by.len()];
        let tuple = tuple(&nulls, &spec, &iceberg).expect("a tuple");
        assert_eq!(values(&tuple, &spec, &iceberg), nulls);
        assert!(super::tuple(&nulls[1..], &spec, &iceberg).is_err());
    }

    #[test]
    fn a_tuple_follows_the_promotion_of_its_column() {
        let mut schema = table();
        schema.partition_by.retain(|field| field.column == "small");
        let (spec, narrow) = spec_of(&schema);
        let partition = [Value::Long(7), Value::Long(3), Value::Long(6)];
        let before = tuple(&partition, &spec, &narrow).expect("a tuple");
        schema.columns[1].column_type = ColumnType::Long;
        let (_, wide) = spec_of(&schema);

        let after = promoted(&before, &spec, &wide);

        assert_eq!(after, tuple(&partition, &spec, &wide).expect("a tuple"));
        assert_ne!(after, before);
        assert_eq!(promoted(&before, &spec, &narrow), before);
    }
}
