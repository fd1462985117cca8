//! Statistics of a file as the log tells them: bounds that a reader may skip the file by.
//!
//! A bound may be looser than the truth, never tighter. What cannot be bounded safely in every
//! reader is left out.

use std::collections::BTreeMap;

use lakebed_schemas::column::TableSchema;
use lakebed_schemas::partition::decimal_text;
use lakebed_schemas::value::Value;
use serde::Deserialize;
use serde_json::value::RawValue;

use super::schema::date_text;
use crate::log::DataFile;
use crate::{Error, Result};

/// Columns that get statistics, counted from the first; key columns get them in any case.
const COLUMNS_MAX: usize = 32;
/// Characters of text that a bound keeps.
const TEXT_CHARS_MAX: usize = 32;
/// Sorts behind every other character.
const LAST_CHAR: char = '\u{10FFFF}';

/// `stats` of a new file of a table with this schema.
pub(super) fn render(file: &DataFile, schema: &TableSchema) -> String {
    let [mut min, mut max, mut nulls] = [Vec::new(), Vec::new(), Vec::new()];
    for stats in &file.stats {
        let Some(column) = schema.columns.get(stats.column) else { continue };
        let is_key = schema.key.contains(&column.name);
        if schema.partition_by.iter().any(|field| field.name == column.name)
            || (stats.column >= COLUMNS_MAX && !is_key)
            || is_nested(&column.column_type)
        {
            continue;
        }
        let name = json_text(&column.name);
        if let Some(bound) = stats.min.as_ref().and_then(lower) {
            min.push(format!("{name}:{bound}"));
        }
        if let Some(bound) = stats.max.as_ref().and_then(upper) {
            max.push(format!("{name}:{bound}"));
        }
        nulls.push(format!("{name}:{}", stats.null_count));
    }
    format!(
        r#"{{"numRecords":{},"minValues":{{{}}},"maxValues":{{{}}},"nullCount":{{{}}},"tightBounds":true}}"#,
        file.rows,
        min.join(","),
        max.join(","),
        nulls.join(",")
    )
}

fn is_nested(column_type: &lakebed_schemas::column::ColumnType) -> bool {
    use lakebed_schemas::column::ColumnType as T;
    matches!(column_type, T::List(_) | T::Struct(_))
}

fn json_text(text: &str) -> String {
    serde_json::to_string(text).expect("text is JSON")
}

/// JSON has no infinities, and readers disagree about NaN.
fn number(value: f64) -> Option<String> {
    value.is_finite().then(|| serde_json::to_string(&value).expect("a finite number is JSON"))
}

fn lower(value: &Value) -> Option<String> {
    match value {
        Value::Timestamp(micros) => timestamp_text(micros.div_euclid(1000), ""),
        Value::TimestampTz(micros) => timestamp_text(micros.div_euclid(1000), "Z"),
        Value::Float(value) => number(f64::from(*value)),
        Value::Double(value) => number(*value),
        Value::Text(text) => {
            Some(json_text(&text.chars().take(TEXT_CHARS_MAX).collect::<String>()))
        }
        other => exact(other),
    }
}

fn upper(value: &Value) -> Option<String> {
    let ceil = |micros: i64| micros.div_euclid(1000) + i64::from(micros.rem_euclid(1000) != 0);
    match value {
        Value::Timestamp(micros) => timestamp_text(ceil(*micros), ""),
        Value::TimestampTz(micros) => timestamp_text(ceil(*micros), "Z"),
        Value::Float(value) => number(f64::from(*value)),
        Value::Double(value) => number(*value),
        Value::Text(text) => {
            let Some((end, next)) = text.char_indices().nth(TEXT_CHARS_MAX) else {
                return Some(json_text(text));
            };
            (next != LAST_CHAR).then(|| json_text(&format!("{}{LAST_CHAR}", &text[..end])))
        }
        other => exact(other),
    }
}

fn exact(value: &Value) -> Option<String> {
    match value {
        Value::Long(value) => Some(value.to_string()),
        Value::Decimal { unscaled, scale } => Some(decimal_text(*unscaled, *scale)),
        Value::Date(days) => Some(json_text(&date_text(*days)?)),
        _ => None,
    }
}

fn timestamp_text(millis: i64, zone: &str) -> Option<String> {
    use chrono::Datelike;
    let moment = chrono::DateTime::from_timestamp_millis(millis)?;
    let text = format!("\"{}{zone}\"", moment.format("%Y-%m-%dT%H:%M:%S%.3f"));
    (1..=9999).contains(&moment.year()).then_some(text)
}

/// The same statistics for the file with dead rows: its bounds need no longer be met.
pub(super) fn widened(stats: &str) -> Result<String> {
    // Numbers stay text: a decimal would not survive as a float.
    let mut parts: BTreeMap<&str, &RawValue> = serde_json::from_str(stats).map_err(unreadable)?;
    let loose: &RawValue = serde_json::from_str("false").map_err(unreadable)?;
    parts.insert("tightBounds", loose);
    serde_json::to_string(&parts).map_err(unreadable)
}

fn unreadable(cause: serde_json::Error) -> Error {
    Error::corrupt("statistics in the log are not readable").with_source(cause)
}

/// Rows of a file, dead ones included, if its statistics say.
pub(super) fn rows(stats: &str) -> Result<Option<u64>> {
    #[derive(Deserialize)]
    #[serde(rename_all = "camelCase")]
    struct Rows {
        num_records: Option<u64>,
    }
    let stats: Rows = serde_json::from_str(stats).map_err(unreadable)?;
    Ok(stats.num_records)
}

#[cfg(test)]
mod tests {
    use lakebed_schemas::column::{Column, ColumnType};
    use lakebed_schemas::position::TopicPartition;

    use super::*;
    use crate::log::ColumnStats;

    fn rendered(column_type: ColumnType, min: Value, max: Value) -> String {
        let column = Column { name: "c".into(), source_name: "c".into(), column_type, id: 1 };
        let stats =
            ColumnStats { column: 0, null_count: 2, min: Some(min), max: Some(max), bytes: 0 };
        let file = DataFile {
            path: "f".into(),
            size: 1,
            rows: 9,
            topic_partition: TopicPartition::new("t", 0),
            partition: Vec::new(),
            stats: vec![stats],
            split_offsets: Vec::new(),
        };
        render(&file, &TableSchema { columns: vec![column], ..Default::default() })
    }

    #[test]
    fn bounds_are_never_tighter_than_the_truth() {
        let zoned = rendered(
            ColumnType::TimestampTz,
            Value::TimestampTz(-1),
            Value::TimestampTz(1_700_000_000_123_001),
        );
        assert!(zoned.contains(r#""minValues":{"c":"1969-12-31T23:59:59.999Z"}"#), "{zoned}");
        assert!(zoned.contains(r#""maxValues":{"c":"2023-11-14T22:13:20.124Z"}"#), "{zoned}");

        let long = "ä".repeat(40);
        let text = rendered(ColumnType::Text, Value::Text(long.clone()), Value::Text(long));
        let cut = "ä".repeat(32);
        assert!(text.contains(&format!(r#""minValues":{{"c":"{cut}"}}"#)), "{text}");
        assert!(text.contains(&format!("\"maxValues\":{{\"c\":\"{cut}\u{10FFFF}\"}}")), "{text}");

        let double = rendered(ColumnType::Double, Value::Double(-0.5), Value::Double(2.0));
        assert!(double.contains(r#""minValues":{"c":-0.5},"maxValues":{"c":2.0}"#), "{double}");
        let infinite =
            rendered(ColumnType::Double, Value::Double(f64::NEG_INFINITY), Value::Double(f64::NAN));
        assert!(infinite.contains(r#""minValues":{},"maxValues":{}"#), "{infinite}");
    }

    #[test]
    fn a_decimal_keeps_all_its_digits_when_rows_die() {
        let big = Value::Decimal { unscaled: -12_345_678_901_234_567_890_123_456_789, scale: 2 };
        let small = Value::Decimal { unscaled: 5, scale: 2 };
        let stats = rendered(ColumnType::Decimal { precision: 38, scale: 2 }, big, small);

        let loose = widened(&stats).expect("stats");

        assert!(loose.contains(r#""c":-123456789012345678901234567.89"#), "{loose}");
        assert!(
            loose.contains(r#""c":0.05"#) && loose.contains(r#""tightBounds":false"#),
            "{loose}"
        );
        assert_eq!(rows(&loose).expect("stats"), Some(9));
    }
}
