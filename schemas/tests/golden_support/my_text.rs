//! Whether a value is what MariaDB's text of it says. Shares no code with the decoder.

use lakebed_schemas::value::Value;

use super::{forms, pg_text};

/// Whether `value` is the `text` of a column of this type; NULL equals NULL.
pub(crate) fn equal(value: &Value, my_type: &str, text: Option<&str>) -> bool {
    let Some(text) = text else { return *value == Value::Null };
    let base = my_type.split(['(', ' ']).next().unwrap_or_default();
    match value {
        Value::Null | Value::Unavailable | Value::Struct(_) | Value::List(_) => false,
        Value::OutOfRange(found) => *found == text,
        Value::Boolean(found) => text == if *found { "1" } else { "0" },
        Value::Long(found) if base == "year" => text == format!("{found:04}"),
        Value::Long(found) => text == found.to_string(),
        Value::Float(found) => same(f64::from(*found), text),
        Value::Double(found) if base == "decimal" => forms::is_number(*found, text),
        Value::Double(found) => same(*found, text),
        Value::Decimal { unscaled, scale } => {
            pg_text::plain(*unscaled, usize::from(*scale)) == text
        }
        Value::Date(days) => pg_text::date(*days).is_some_and(|found| found == text),
        Value::Timestamp(micros) | Value::TimestampTz(micros) => {
            pg_text::timestamp(*micros).is_some_and(|found| found == without_zeros(text))
        }
        Value::Text(found) => match base {
            "time" => found == without_zeros(text),
            "date" | "datetime" | "timestamp" => {
                found.replace('T', " ").trim_end_matches('Z') == without_zeros(text)
            }
            "point" | "geometry" | "linestring" | "polygon" => forms::is_my_geometry(found, text),
            _ => found == text,
        },
        Value::Binary(found) if base == "bit" => {
            let bits = forms::bits(found);
            text == if bits.is_empty() { "0" } else { &bits }
        }
        Value::Binary(found) => {
            let hex: String = found.iter().map(|byte| format!("{byte:02X}")).collect();
            text == hex
        }
    }
}

/// The server pads a fraction with zeros up to the column's precision.
fn without_zeros(text: &str) -> &str {
    if text.contains('.') { text.trim_end_matches('0').trim_end_matches('.') } else { text }
}

fn same(found: f64, text: &str) -> bool {
    text.parse().is_ok_and(|text: f64| text.to_bits() == found.to_bits())
}
