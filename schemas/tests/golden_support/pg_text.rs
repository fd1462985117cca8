//! Whether a value is what PostgreSQL's text of it says. Shares no code with the decoder.

use chrono::{DateTime, Days, NaiveDate};
use lakebed_schemas::value::Value;

use super::forms;

/// Whether `value` is the `text` of a column of this type; NULL equals NULL.
pub(crate) fn equal(value: &Value, pg_type: &str, text: Option<&str>) -> bool {
    let Some(text) = text else { return *value == Value::Null };
    match value {
        Value::Null | Value::Unavailable | Value::Struct(_) => false,
        Value::OutOfRange(found) => outside(found) == text,
        Value::Boolean(found) => match text {
            "true" | "t" | "1" => *found,
            "false" | "f" | "0" => !*found,
            _ => false,
        },
        Value::Long(found) if pg_type == "interval" => forms::is_microseconds(*found, text),
        Value::Long(found) => text == found.to_string(),
        Value::Float(found) => {
            text.parse().is_ok_and(|t: f32| same_bits(t.into(), (*found).into()))
        }
        // A column of a Delta table is wider than the source's.
        Value::Double(found) if pg_type == "real" => {
            text.parse().is_ok_and(|t: f32| same_bits(t.into(), *found))
        }
        Value::Double(found) if pg_type == "double precision" || !found.is_finite() => {
            text.parse().is_ok_and(|t: f64| same_bits(t, *found))
        }
        Value::Double(found) => forms::is_number(*found, &text.replace(['$', ','], "")),
        Value::Decimal { unscaled, scale } => {
            plain(*unscaled, usize::from(*scale)) == text.replace(['$', ','], "")
        }
        Value::Date(days) => date(*days).is_some_and(|found| found == text),
        Value::Timestamp(micros) => timestamp(*micros).is_some_and(|found| found == text),
        Value::TimestampTz(micros) => timestamp(*micros).is_some_and(|found| found + "+00" == text),
        Value::Text(found) => text_equal(found, pg_type, text),
        Value::Binary(found) if pg_type.starts_with("bit") => {
            let digits = pg_type.strip_prefix("bit(").and_then(|rest| rest.strip_suffix(')'));
            let digits = digits.map_or(0, |digits| digits.parse().expect("a length"));
            format!("{:0>digits$}", forms::bits(found)) == text
        }
        Value::Binary(found) => {
            let hex: String = found.iter().map(|byte| format!("{byte:02x}")).collect();
            text.strip_prefix("\\x") == Some(&hex)
        }
        Value::List(found) => {
            let (Some(element), Some(texts)) = (pg_type.strip_suffix("[]"), array(text)) else {
                return false;
            };
            let mut pairs = found.iter().zip(&texts);
            found.len() == texts.len() && pairs.all(|(v, t)| equal(v, element, t.as_deref()))
        }
    }
}

fn text_equal(found: &str, pg_type: &str, text: &str) -> bool {
    match pg_type {
        "money" => found == text.replace(['$', ','], ""),
        "interval" => forms::is_interval(found, text),
        "hstore" => forms::is_hstore(found, text),
        "point" | "line" | "lseg" | "box" | "path" | "polygon" | "circle" => {
            forms::is_pg_geometry(found, pg_type, text)
        }
        "time with time zone" => {
            forms::utc_time(found).is_some_and(|time| forms::utc_time(text) == Some(time))
        }
        "date" => outside(found) == text,
        _ if pg_type.starts_with("timestamp") => outside(found) == text,
        _ => found == text,
    }
}

/// PostgreSQL's text of a date or timestamp outside the years 1 to 9999.
fn outside(found: &str) -> String {
    let text = found.replace('T', " ").replace('Z', "+00");
    let (text, before) = match text
        .strip_prefix('-')
        .filter(|text| text.starts_with(|c: char| c.is_ascii_digit()))
    {
        Some(text) => (text.to_owned(), true),
        None => (text.trim_start_matches('+').to_owned(), false),
    };
    match text.split_once('-').and_then(|(year, rest)| Some((year.parse::<u32>().ok()?, rest))) {
        Some((year, rest)) if before => format!("{:04}-{rest} BC", year + 1),
        _ => text,
    }
}

fn same_bits(a: f64, b: f64) -> bool {
    a.to_bits() == b.to_bits() || (a.is_nan() && b.is_nan())
}

pub(super) fn plain(unscaled: i128, scale: usize) -> String {
    let sign = if unscaled < 0 { "-" } else { "" };
    let digits = format!("{:0>1$}", unscaled.unsigned_abs(), scale + 1);
    let (whole, fraction) = digits.split_at(digits.len() - scale);
    if scale == 0 { format!("{sign}{whole}") } else { format!("{sign}{whole}.{fraction}") }
}

pub(super) fn date(days: i32) -> Option<String> {
    let epoch = NaiveDate::from_ymd_opt(1970, 1, 1)?;
    let distance = Days::new(days.unsigned_abs().into());
    let date = match days {
        0.. => epoch.checked_add_days(distance),
        _ => epoch.checked_sub_days(distance),
    };
    Some(date?.format("%Y-%m-%d").to_string())
}

pub(super) fn timestamp(micros: i64) -> Option<String> {
    let text = DateTime::from_timestamp_micros(micros)?.format("%Y-%m-%d %H:%M:%S%.6f").to_string();
    Some(text.trim_end_matches('0').trim_end_matches('.').to_owned()).map(|trimmed| {
        // Whole seconds that end in zeros lose none of them.
        if text.ends_with(".000000") {
            text.trim_end_matches(".000000").to_owned()
        } else {
            trimmed
        }
    })
}

/// The elements of a one-dimensional array.
fn array(text: &str) -> Option<Vec<Option<String>>> {
    let inner = text.strip_prefix('{')?.strip_suffix('}')?;
    let (mut elements, mut chars) = (Vec::new(), inner.chars().peekable());
    while chars.peek().is_some() {
        let (mut element, mut quoted) = (String::new(), false);
        if chars.next_if_eq(&'"').is_some() {
            quoted = true;
            loop {
                match chars.next()? {
                    '"' => break,
                    '\\' => element.push(chars.next()?),
                    other => element.push(other),
                }
            }
        }
        while let Some(other) = chars.next_if(|c| *c != ',') {
            element.push(other);
        }
        elements.push(if !quoted && element == "NULL" { None } else { Some(element) });
        if chars.next().is_some() && chars.peek().is_none() {
            elements.push(Some(String::new()));
        }
    }
    Some(elements)
}
