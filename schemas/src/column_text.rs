//! Column types as people write them: `decimal(12,2)`, `timestamptz`, `list<text>`.

use std::fmt;
use std::str::FromStr;

use crate::column::ColumnType;

/// How deep lists and structs may nest in a type's text.
const DEPTH_MAX: usize = 16;

/// Why a text is no column type.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "`{text}` is no column type: {reason}; use boolean, int, long, float, double, decimal(p,s), date, timestamp, timestamptz, text, binary, list<type> or struct<name: type, ...>"
)]
pub struct TypeTextError {
    /// What was given.
    pub text: String,
    /// What is wrong with it.
    pub reason: String,
}

impl fmt::Display for ColumnType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Boolean => f.write_str("boolean"),
            Self::Int => f.write_str("int"),
            Self::Long => f.write_str("long"),
            Self::Float => f.write_str("float"),
            Self::Double => f.write_str("double"),
            Self::Decimal { precision, scale } => write!(f, "decimal({precision},{scale})"),
            Self::Date => f.write_str("date"),
            Self::Timestamp => f.write_str("timestamp"),
            Self::TimestampTz => f.write_str("timestamptz"),
            Self::Text => f.write_str("text"),
            Self::Binary => f.write_str("binary"),
            Self::List(element) => write!(f, "list<{element}>"),
            Self::Struct(fields) => {
                f.write_str("struct<")?;
                for (index, (name, field)) in fields.iter().enumerate() {
                    let comma = if index == 0 { "" } else { ", " };
                    write!(f, "{comma}{name}: {field}")?;
                }
                f.write_str(">")
            }
        }
    }
}

impl FromStr for ColumnType {
    type Err = TypeTextError;

    /// Reads what [`Display`](fmt::Display) writes; also `bigint`, `integer`, `bool` and `string`.
    fn from_str(text: &str) -> Result<Self, TypeTextError> {
        parse(text.trim(), 0)
            .map_err(|reason| TypeTextError { text: text.to_owned(), reason: reason.to_owned() })
    }
}

fn parse(text: &str, depth: usize) -> Result<ColumnType, &'static str> {
    use ColumnType as T;
    if depth > DEPTH_MAX {
        return Err("it is nested too deeply");
    }
    let lower = text.to_ascii_lowercase();
    if let Some(inner) = enclosed(text, &lower, "list<", '>') {
        return Ok(T::List(Box::new(parse(inner.trim(), depth + 1)?)));
    }
    if let Some(inner) = enclosed(text, &lower, "struct<", '>') {
        let fields = split_top(inner).into_iter().map(|field| {
            let (name, field) = field.split_once(':').ok_or("a struct field is `name: type`")?;
            Ok((name.trim().to_owned(), parse(field.trim(), depth + 1)?))
        });
        return Ok(T::Struct(fields.collect::<Result<_, &'static str>>()?));
    }
    if let Some((precision, scale)) = decimal_arguments(&lower)? {
        return match (u8::try_from(precision), u8::try_from(scale)) {
            (Ok(precision @ 1..=38), Ok(scale)) if scale <= precision => {
                Ok(T::Decimal { precision, scale })
            }
            _ => Err("a decimal has 1 to 38 digits, of which 0 to all stand after the point"),
        };
    }
    Ok(match lower.as_str() {
        "boolean" | "bool" => T::Boolean,
        "int" | "integer" => T::Int,
        "long" | "bigint" => T::Long,
        "float" => T::Float,
        "double" => T::Double,
        "date" => T::Date,
        "timestamp" => T::Timestamp,
        "timestamptz" => T::TimestampTz,
        "text" | "string" => T::Text,
        "binary" => T::Binary,
        _ => return Err("its name is not known"),
    })
}

/// Precision and scale of `decimal(p,s)` or `decimal(p)`; `None` if it is something else.
pub(crate) fn decimal_arguments(lower: &str) -> Result<Option<(u32, i32)>, &'static str> {
    let Some(inner) = enclosed(lower, lower, "decimal(", ')') else { return Ok(None) };
    let (precision, scale) = inner.split_once(',').unwrap_or((inner, "0"));
    match (precision.trim().parse(), scale.trim().parse()) {
        (Ok(precision), Ok(scale)) => Ok(Some((precision, scale))),
        _ => Err("a decimal is written as decimal(precision,scale)"),
    }
}

/// What stands between `open` and `close`, ignoring the case of `open`.
pub(crate) fn enclosed<'a>(text: &'a str, lower: &str, open: &str, close: char) -> Option<&'a str> {
    let inner = lower.starts_with(open).then(|| text.get(open.len()..))??;
    inner.strip_suffix(close)
}

/// Splits at the commas that are outside of brackets.
fn split_top(text: &str) -> Vec<&str> {
    let (mut parts, mut depth, mut start) = (Vec::new(), 0i32, 0);
    for (at, byte) in text.bytes().enumerate() {
        match byte {
            b'<' | b'(' => depth += 1,
            b'>' | b')' => depth -= 1,
            b',' if depth == 0 => {
                parts.push(&text[start..at]);
                start = at + 1;
            }
            _ => {}
        }
    }
    parts.push(&text[start..]);
    parts
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_type_reads_back_from_its_text() {
        for text in [
            "boolean",
            "int",
            "long",
            "float",
            "double",
            "decimal(12,2)",
            "decimal(38,38)",
            "date",
            "timestamp",
            "timestamptz",
            "text",
            "binary",
            "list<decimal(10,2)>",
            "list<list<text>>",
            "struct<a: int, b: list<struct<c: decimal(3,1), d: text>>>",
        ] {
            let parsed: ColumnType = text.parse().expect(text);
            assert_eq!(parsed.to_string(), text);
        }
        assert_eq!("List< BIGINT >".parse(), Ok(ColumnType::List(Box::new(ColumnType::Long))));
    }

    #[test]
    fn what_is_no_type_is_refused_by_name() {
        for text in ["", "decimal", "decimal(39,2)", "decimal(2,3)", "list<", "varchar(3)", "x"] {
            let error = text.parse::<ColumnType>().expect_err(text);
            assert!(error.to_string().starts_with(&format!("`{text}` is no column type")));
        }
        assert!("list<".repeat(500).parse::<ColumnType>().is_err());
    }
}
