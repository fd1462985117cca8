//! Partition columns of a Delta table, and their values as the log spells them.
//!
//! Delta knows columns only. A transform is a column that holds nothing but its values, and a table
//! property says which columns are of this kind.

use lakebed_schemas::column::{ColumnType, TableSchema};
use lakebed_schemas::partition::{PartitionBy, PartitionField, decimal_text};
use lakebed_schemas::value::Value;

use super::actions::{Add, Metadata, TextMap};
use super::schema::{EPOCH, date_text};
use crate::log::DataFile;
use crate::table::partitions::stored_at;
use crate::{Error, Result};

/// Table property: JSON array of what the partition columns hold, in their order, written as in a
/// configuration. Absent where all of them are columns of the source.
pub(super) const PROPERTY: &str = "lakebed.partition_by";

/// The partition columns of a new table.
///
/// # Errors
/// `Invalid` where one of them is not among the columns.
pub(super) fn columns(schema: &TableSchema) -> Result<Vec<String>> {
    let name = |field: &PartitionField| match schema.index_of(&field.name) {
        Some(_) => Ok(field.name.clone()),
        None => Err(Error::invalid(format!("partition column `{}` is not there", field.name))),
    };
    schema.partition_by.iter().map(name).collect()
}

/// What [`PROPERTY`] of a new table is; `None` where it has none.
pub(super) fn property(schema: &TableSchema) -> Result<Option<String>> {
    if schema.partition_by.iter().all(PartitionField::is_identity) {
        return Ok(None);
    }
    let texts: Vec<String> =
        schema.partition_by.iter().map(|field| field.configured().to_string()).collect();
    let text = serde_json::to_string(&texts);
    text.map(Some).map_err(|e| Error::internal("could not write a property").with_source(e))
}

/// What a table is partitioned by.
///
/// # Errors
/// `Corrupt` where the property does not say it of the table's partition columns.
pub(super) fn fields(metadata: &Metadata) -> Result<Vec<PartitionField>> {
    let columns = &metadata.partition_columns;
    let Some(text) = metadata.property(PROPERTY) else {
        return Ok(columns.iter().map(PartitionField::identity).collect());
    };
    let unreadable = || Error::corrupt(format!("table property `{PROPERTY}` is not readable"));
    let texts: Vec<String> = serde_json::from_str(text).map_err(|e| unreadable().with_source(e))?;
    if texts.len() != columns.len() {
        return Err(Error::corrupt(format!(
            "table property `{PROPERTY}` tells of {} columns, the table is partitioned by {}",
            texts.len(),
            columns.len()
        )));
    }
    let field = |(text, name): (&String, &String)| {
        let PartitionBy { transform, column } = text.parse().map_err(|_| unreadable())?;
        Ok(PartitionField { name: name.clone(), column, transform })
    };
    texts.iter().zip(columns).map(field).collect()
}

/// The partition values of a new file, by column.
///
/// # Errors
/// `Invalid` where the log cannot spell one.
pub(super) fn texts(file: &DataFile, schema: &TableSchema) -> Result<TextMap> {
    if file.partition.len() != schema.partition_by.len() {
        return Err(Error::invalid(format!(
            "file `{}` has {} partition values, its table {} partition columns",
            file.path,
            file.partition.len(),
            schema.partition_by.len()
        )));
    }
    let text = |(field, value): (&PartitionField, &Value)| {
        let is_empty = matches!(value, Value::Text(text) if text.is_empty());
        if is_empty && schema.key.contains(&field.name) {
            return Err(Error::invalid(format!(
                "key column `{}` is an empty text, which a Delta table partitioned by it would hold \
                 as NULL: build the table anew, partitioned by `truncate(…, {0})` or otherwise",
                field.name
            )));
        }
        Ok((field.name.clone(), text_of(value)?))
    };
    schema.partition_by.iter().zip(&file.partition).map(text).collect()
}

/// A partition value as the log spells it.
fn text_of(value: &Value) -> Result<Option<String>> {
    Ok(Some(match value {
        Value::Null | Value::Unavailable => return Ok(None),
        Value::Boolean(value) => value.to_string(),
        Value::Long(value) => value.to_string(),
        Value::Decimal { unscaled, scale } => decimal_text(*unscaled, *scale),
        // The log spells NULL and the empty text alike.
        Value::Text(value) if value.is_empty() => return Ok(None),
        Value::Text(value) => value.clone(),
        Value::Date(days) => date_text(*days)
            .ok_or_else(|| Error::invalid("a partition date lies outside the years 1 to 9999"))?,
        _ => {
            return Err(Error::invalid(
                "a Delta table is partitioned by dates, text, integers, decimals or booleans",
            ));
        }
    }))
}

/// The partition values of a file of the log; `None` where they cannot be read.
pub(super) fn values(add: &Add, schema: &TableSchema) -> Option<Vec<Value>> {
    let value = |field: &PartitionField| {
        let column = &schema.columns[stored_at(schema, field)?];
        let text = add.partition_values.get(&field.name).and_then(Option::as_deref);
        value_of(&column.column_type, text)
    };
    schema.partition_by.iter().map(value).collect()
}

/// The value that a partition value of the log spells.
fn value_of(column_type: &ColumnType, text: Option<&str>) -> Option<Value> {
    let Some(text) = text.filter(|text| !text.is_empty()) else { return Some(Value::Null) };
    Some(match column_type {
        ColumnType::Boolean => Value::Boolean(text.parse().ok()?),
        ColumnType::Int | ColumnType::Long => Value::Long(text.parse().ok()?),
        ColumnType::Decimal { scale, .. } => decimal(text, *scale)?,
        ColumnType::Text => Value::Text(text.to_owned()),
        ColumnType::Date => {
            let date: chrono::NaiveDate = text.parse().ok()?;
            Value::Date(i32::try_from((date - EPOCH).num_days()).ok()?)
        }
        _ => return None,
    })
}

/// A decimal written out; other writers may leave out zeros at its end.
fn decimal(text: &str, scale: u8) -> Option<Value> {
    let (whole, fraction) = text.split_once('.').unwrap_or((text, ""));
    let missing = usize::from(scale).checked_sub(fraction.len())?;
    let digits = format!("{whole}{fraction}{}", "0".repeat(missing));
    Some(Value::Decimal { unscaled: digits.parse().ok()?, scale })
}

#[cfg(test)]
mod tests {
    use lakebed_schemas::column::Column;
    use lakebed_schemas::position::TopicPartition;

    use super::*;

    fn read_back(column_type: &ColumnType, value: &Value) -> Option<Value> {
        value_of(column_type, text_of(value).expect("text").as_deref())
    }

    #[test]
    fn values_read_back_from_the_log() {
        let decimal = ColumnType::Decimal { precision: 38, scale: 2 };
        for (column_type, value) in [
            (ColumnType::Boolean, Value::Boolean(false)),
            (ColumnType::Long, Value::Long(i64::MIN)),
            (decimal.clone(), Value::Decimal { unscaled: -5, scale: 2 }),
            (decimal.clone(), Value::Decimal { unscaled: 10i128.pow(38) - 1, scale: 2 }),
            (decimal.clone(), Value::Decimal { unscaled: 0, scale: 2 }),
            (ColumnType::Text, Value::Text("a/b=c%d\n\u{0}ü".into())),
            (ColumnType::Date, Value::Null),
        ] {
            assert_eq!(read_back(&column_type, &value), Some(value.clone()), "{value:?}");
        }
        for days in [0, -1, 20_454, -719_162, 2_932_896] {
            let value = Value::Date(days);
            assert_eq!(read_back(&ColumnType::Date, &value), Some(value));
        }
        assert_eq!(read_back(&ColumnType::Text, &Value::Text(String::new())), Some(Value::Null));
        let short = Some(Value::Decimal { unscaled: 1050, scale: 2 });
        assert_eq!(value_of(&decimal, Some("10.5")), short);
        assert_eq!(value_of(&decimal, Some("10.505")), None);
        assert!(text_of(&Value::Date(i32::MAX)).is_err());
        assert!(text_of(&Value::Timestamp(0)).is_err());
    }

    #[test]
    fn an_empty_key_is_refused_where_it_would_become_null() {
        let column = |name: &str| Column {
            name: name.into(),
            source_name: name.into(),
            column_type: ColumnType::Text,
            id: 1,
        };
        let mut schema = TableSchema {
            columns: vec![column("region")],
            key: Vec::new(),
            partition_by: vec![PartitionField::identity("region")],
        };
        let mut file = DataFile {
            path: "f".into(),
            size: 1,
            rows: 1,
            topic_partition: TopicPartition::new("t", 0),
            partition: vec![Value::Text(String::new())],
            stats: Vec::new(),
            split_offsets: Vec::new(),
        };
        assert_eq!(texts(&file, &schema).expect("texts")["region"], None);
        schema.key.push("region".into());
        let error = texts(&file, &schema).expect_err("a key");
        assert!(error.to_string().contains("`region`"), "{error}");
        file.partition[0] = Value::Text("x".into());
        assert_eq!(texts(&file, &schema).expect("texts")["region"].as_deref(), Some("x"));
    }
}
