//! One cell of a record batch as text or as JSON, exactly.
//!
//! Instants are in UTC, bytes in hex, decimals in all their digits.

use arrow::array::{Array, AsArray, RecordBatch};
use arrow::datatypes::{DataType, Float32Type, Float64Type, Int32Type, Int64Type};
use arrow::error::ArrowError;
use arrow::util::display::{ArrayFormatter, FormatOptions};
use serde_json::{Map, Value};

/// How NULL is written where a text has to stand for it.
pub(super) const NULL: &str = "NULL";

/// The options by which every command prints cells.
pub(super) fn options() -> FormatOptions<'static> {
    FormatOptions::new().with_display_error(false).with_null(NULL)
}

/// The cells of one batch as text.
pub(super) struct Texts<'a> {
    batch: &'a RecordBatch,
    columns: Vec<ArrayFormatter<'a>>,
}

impl<'a> Texts<'a> {
    pub(super) fn new(batch: &'a RecordBatch) -> Result<Self, ArrowError> {
        static OPTIONS: std::sync::LazyLock<FormatOptions<'static>> =
            std::sync::LazyLock::new(options);
        let formatter =
            |array: &'a arrow::array::ArrayRef| ArrayFormatter::try_new(array.as_ref(), &OPTIONS);
        let columns = batch.columns().iter().map(formatter).collect::<Result<_, _>>()?;
        Ok(Self { batch, columns })
    }

    /// The text of a cell; `None` for NULL.
    pub(super) fn get(&self, column: usize, row: usize) -> Result<Option<String>, ArrowError> {
        if self.batch.column(column).is_null(row) {
            return Ok(None);
        }
        self.columns[column].value(row).try_to_string().map(Some)
    }
}

/// One row as a JSON object.
pub(super) fn json_row(batch: &RecordBatch, row: usize) -> Result<Value, ArrowError> {
    let schema = batch.schema();
    let cells = schema.fields().iter().zip(batch.columns());
    let cells = cells.map(|(field, array)| Ok((field.name().clone(), json(array.as_ref(), row)?)));
    cells.collect::<Result<Map<_, _>, _>>().map(Value::Object)
}

/// One cell as JSON. Integers and finite floats are numbers; decimals are text, because most
/// readers of JSON would round them.
fn json(array: &dyn Array, row: usize) -> Result<Value, ArrowError> {
    if array.is_null(row) {
        return Ok(Value::Null);
    }
    Ok(match array.data_type() {
        DataType::Boolean => array.as_boolean().value(row).into(),
        DataType::Int32 => array.as_primitive::<Int32Type>().value(row).into(),
        DataType::Int64 => array.as_primitive::<Int64Type>().value(row).into(),
        // Through the shortest text: widening 0.1f32 would give 0.10000000149011612.
        DataType::Float32 => float(array.as_primitive::<Float32Type>().value(row).to_string()),
        DataType::Float64 => float(array.as_primitive::<Float64Type>().value(row).to_string()),
        DataType::Utf8 => array.as_string::<i32>().value(row).into(),
        DataType::List(_) => {
            let items = array.as_list::<i32>().value(row);
            let cells = (0..items.len()).map(|at| json(items.as_ref(), at));
            Value::Array(cells.collect::<Result<_, _>>()?)
        }
        DataType::Struct(fields) => {
            let columns = array.as_struct().columns();
            let cells = fields.iter().zip(columns);
            let cells =
                cells.map(|(field, cell)| Ok((field.name().clone(), json(cell.as_ref(), row)?)));
            Value::Object(cells.collect::<Result<_, ArrowError>>()?)
        }
        _ => ArrayFormatter::try_new(array, &options())?.value(row).try_to_string()?.into(),
    })
}

/// NaN and the infinities have no number in JSON: they are text.
fn float(text: String) -> Value {
    match text.parse::<f64>() {
        Ok(number) if number.is_finite() => number.into(),
        _ => Value::String(text),
    }
}

/// One line of CSV, by RFC 4180: NULL is empty, an empty text is quoted.
pub(super) fn csv_line(cells: &[Option<String>]) -> String {
    let mut line = String::new();
    for (index, cell) in cells.iter().enumerate() {
        if index > 0 {
            line.push(',');
        }
        match cell {
            None => {}
            Some(text) if text.is_empty() || text.contains(['"', ',', '\n', '\r']) => {
                line.push('"');
                line.push_str(&text.replace('"', "\"\""));
                line.push('"');
            }
            Some(text) => line.push_str(text),
        }
    }
    line.push('\n');
    line
}

#[cfg(test)]
mod tests {
    use super::*;
    use arrow::array::{
        ArrayRef, BinaryArray, Date32Array, Decimal128Array, Float32Array, Float64Array,
        Int64Array, ListArray, StringArray, TimestampMicrosecondArray,
    };
    use std::sync::Arc;

    fn batch() -> RecordBatch {
        let micros = 1_700_000_000_123_456;
        let decimals = Decimal128Array::from(vec![Some(-120), None]);
        let columns: Vec<(&str, ArrayRef)> = vec![
            ("id", Arc::new(Int64Array::from(vec![i64::MAX, 2]))),
            ("price", Arc::new(decimals.with_precision_and_scale(38, 2).expect("fits"))),
            ("at", Arc::new(TimestampMicrosecondArray::from(vec![micros, 0]).with_timezone("UTC"))),
            ("local", Arc::new(TimestampMicrosecondArray::from(vec![micros, 0]))),
            ("day", Arc::new(Date32Array::from(vec![19_000, 0]))),
            ("bytes", Arc::new(BinaryArray::from(vec![&[0u8, 255][..], b""]))),
            ("single", Arc::new(Float32Array::from(vec![0.1, f32::NAN]))),
            ("double", Arc::new(Float64Array::from(vec![1e300, f64::NEG_INFINITY]))),
            ("text", Arc::new(StringArray::from(vec![Some("a,\"b\"\n"), Some("")]))),
            (
                "tags",
                Arc::new(ListArray::from_iter_primitive::<Int32Type, _, _>(vec![
                    Some(vec![Some(1), None]),
                    None,
                ])),
            ),
        ];
        RecordBatch::try_from_iter_with_nullable(
            columns.into_iter().map(|(name, array)| (name, array, true)),
        )
        .expect("batch")
    }

    #[test]
    fn every_value_is_shown_exactly() {
        let batch = batch();
        let texts = Texts::new(&batch).expect("formatters");
        let row = |row| -> Vec<String> {
            let cell = |column| texts.get(column, row).expect("text");
            (0..batch.num_columns()).map(|c| cell(c).unwrap_or(NULL.to_owned())).collect()
        };
        assert_eq!(
            row(0),
            [
                "9223372036854775807",
                "-1.20",
                "2023-11-14T22:13:20.123456Z",
                "2023-11-14T22:13:20.123456",
                "2022-01-08",
                "00ff",
                "0.1",
                "1e300",
                "a,\"b\"\n",
                "[1, NULL]"
            ]
        );
        assert_eq!(row(1)[1], "NULL");
    }

    #[test]
    fn json_keeps_numbers_that_json_can_keep() {
        let batch = batch();
        assert_eq!(
            json_row(&batch, 0).expect("json").to_string(),
            r#"{"at":"2023-11-14T22:13:20.123456Z","bytes":"00ff","day":"2022-01-08","double":1e+300,"id":9223372036854775807,"local":"2023-11-14T22:13:20.123456","price":"-1.20","single":0.1,"tags":[1,null],"text":"a,\"b\"\n"}"#
        );
        let second = json_row(&batch, 1).expect("json");
        assert_eq!(second["single"], "NaN");
        assert_eq!(second["double"], "-inf");
        assert_eq!(second["price"], Value::Null);
    }

    #[test]
    fn csv_tells_null_from_empty_and_quotes_what_it_must() {
        let cells = ["a".to_owned(), "b,\"c\"".to_owned(), String::new()].map(Some);
        assert_eq!(csv_line(&cells), "a,\"b,\"\"c\"\"\",\"\"\n");
        assert_eq!(csv_line(&[None, Some("x".to_owned())]), ",x\n");
    }
}
