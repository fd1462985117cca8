//! What a column is, said by the configuration: for records that carry no schema, and for columns
//! whose schema says less than the operator knows (`binary.handling.mode=base64`).

use serde::Deserialize;

use crate::column::ColumnType;
use crate::column_text::{decimal_arguments, enclosed};
use crate::field_kind::{BytesForm, DecimalForm, FieldKind, TemporalForm};
use crate::structured::Structured;
use crate::temporal::Unit;

/// One entry of a table's `columns`: the type of a column, and how its values stand in the record.
///
/// | `type` | `encoding`, the default first |
/// |---|---|
/// | `long`, `float`, `double`, `text` | none |
/// | `boolean` | none, `number` (0 and 1 as well) |
/// | `int` | none, `boolean` (true and false as well, as 1 and 0) |
/// | `decimal(p,s)` | `base64`, `string` or `number`, `variable`; JSON numbers always |
/// | `decimal(20,0)` | also `unsigned`: 64 bits that came as a signed integer |
/// | `decimal` (no precision: exact text) | `variable`, `string` or `number` |
/// | `date` | `days`, `iso`, `structured` |
/// | `time` (becomes text) | `micros`, `millis`, `nanos`, `iso`, `structured` |
/// | `timetz`, `interval` (become text) | `iso`, `structured` |
/// | `timestamp` | `micros`, `millis`, `nanos`, `iso`, `structured` |
/// | `timestamptz` | `iso`, `micros`, `millis`, `nanos`, `structured` |
/// | `binary` | `base64`, `base64url`, `hex` |
/// | `list<type>` | that of the elements |
/// | `json` (JSON text, an object or an array; becomes text) | none |
///
/// A `decimal(p,s)` that no table can hold (p above 38, s above p or negative) becomes exact text.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(try_from = "Written")]
pub struct ColumnOverride {
    kind: FieldKind,
    hidden: Option<Hidden>,
}

/// What there is to a column whose values nobody may see.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Hidden {
    Masked,
    Excluded,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Written {
    #[serde(rename = "type")]
    column_type: String,
    unit: Option<String>,
    encoding: Option<String>,
}

/// Why an entry of `columns` is refused.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum OverrideError {
    /// The type is not known.
    #[error(
        "`{0}` is no type: use boolean, int, long, float, double, decimal(p,s), decimal, date, time, timetz, timestamp, timestamptz, interval, text, binary, json or list<type>"
    )]
    Type(String),
    /// The encoding is not one of the type's.
    #[error("`{encoding}` is no encoding of {column_type}: use {allowed}")]
    Encoding {
        /// The type as given.
        column_type: String,
        /// The encoding as given.
        encoding: String,
        /// What there is.
        allowed: &'static str,
    },
    /// `unit` and `encoding` say different things.
    #[error("`unit` and `encoding` are given both: keep one of them")]
    Both,
}

impl TryFrom<Written> for ColumnOverride {
    type Error = OverrideError;

    fn try_from(written: Written) -> Result<Self, OverrideError> {
        Self::parse(&written.column_type, written.unit.as_deref(), written.encoding.as_deref())
    }
}

impl ColumnOverride {
    /// Reads an entry; `unit` is another word for the encoding of a number (`days`, `ms`, `us`,
    /// `ns`).
    ///
    /// # Errors
    /// When the type is not known, or the encoding is none of the type's.
    pub fn parse(
        column_type: &str,
        unit: Option<&str>,
        encoding: Option<&str>,
    ) -> Result<Self, OverrideError> {
        if unit.is_some() && encoding.is_some() {
            return Err(OverrideError::Both);
        }
        let encoding = encoding.or(unit).map(|encoding| encoding.trim().to_ascii_lowercase());
        let kind = kind(column_type.trim(), encoding.as_deref(), 0)?;
        Ok(Self { kind, hidden: None })
    }

    /// A masked column: text, and NULL even where the source has none.
    pub(crate) fn masked() -> Self {
        Self { kind: FieldKind::Text, hidden: Some(Hidden::Masked) }
    }

    /// A column that is left out.
    pub(crate) fn excluded() -> Self {
        Self { kind: FieldKind::Text, hidden: Some(Hidden::Excluded) }
    }

    pub(crate) fn is_excluded(&self) -> bool {
        self.hidden == Some(Hidden::Excluded)
    }

    pub(crate) fn is_masked(&self) -> bool {
        self.hidden == Some(Hidden::Masked)
    }

    /// The type that the column gets, in a format that keeps every type as it is.
    pub fn column_type(&self) -> ColumnType {
        self.kind.column_type().expect("an override is never inferred")
    }

    pub(crate) fn kind(&self) -> &FieldKind {
        &self.kind
    }
}

/// Lists of lists are allowed; nobody needs more.
const DEPTH_MAX: usize = 4;

fn kind(text: &str, encoding: Option<&str>, depth: usize) -> Result<FieldKind, OverrideError> {
    let lower = text.to_ascii_lowercase();
    let unknown = || OverrideError::Type(text.to_owned());
    if let Some(element) = enclosed(text, &lower, "list<", '>') {
        if depth == DEPTH_MAX {
            return Err(unknown());
        }
        return Ok(FieldKind::List(Box::new(kind(element.trim(), encoding, depth + 1)?)));
    }
    let refused = |allowed: &'static str| {
        let (column_type, encoding) = (text.to_owned(), encoding.unwrap_or("").to_owned());
        OverrideError::Encoding { column_type, encoding, allowed }
    };
    if let Some((precision, scale)) = decimal_arguments(&lower).map_err(|_| unknown())? {
        if encoding == Some("unsigned") {
            return match (precision, scale) {
                (20, 0) => Ok(FieldKind::Unsigned),
                _ => Err(refused("base64, string, number or variable; unsigned is decimal(20,0)")),
            };
        }
        let form = decimal_form(encoding, DecimalForm::Base64)
            .ok_or_else(|| refused("base64, string, number or variable"))?;
        return decimal_kind(precision, scale, form).ok_or_else(unknown);
    }
    let plain = |kind: FieldKind| match encoding {
        None => Ok(kind),
        Some(_) => Err(refused("none")),
    };
    match lower.as_str() {
        "boolean" | "bool" if encoding == Some("number") => Ok(FieldKind::BooleanNumber),
        "int" | "integer" if encoding == Some("boolean") => Ok(FieldKind::IntegerFlag),
        "boolean" | "bool" => plain(FieldKind::Boolean).map_err(|_| refused("none or number")),
        "int" | "integer" => plain(FieldKind::Integer(32)).map_err(|_| refused("none or boolean")),
        "long" | "bigint" => plain(FieldKind::Integer(64)),
        "float" => plain(FieldKind::Float),
        "double" => plain(FieldKind::Double),
        "text" | "string" => plain(FieldKind::Text),
        "json" => plain(FieldKind::Document),
        "decimal" => match decimal_form(encoding, DecimalForm::Variable) {
            Some(form) if form != DecimalForm::Base64 => {
                Ok(FieldKind::DecimalText { scale: 0, form })
            }
            _ => Err(refused("variable, string or number; base64 needs decimal(p,s)")),
        },
        "date" | "time" | "timetz" | "timestamp" | "timestamptz" | "interval" => {
            temporal(&lower, encoding).map_err(refused)
        }
        "binary" => match encoding {
            None | Some("base64") => Ok(FieldKind::Bytes(BytesForm::Base64)),
            Some("base64url") => Ok(FieldKind::Bytes(BytesForm::Base64Url)),
            Some("hex") => Ok(FieldKind::Bytes(BytesForm::Hex)),
            _ => Err(refused("base64, base64url or hex")),
        },
        _ => Err(unknown()),
    }
}

/// A date, time or duration; else the encodings that it has.
fn temporal(lower: &str, encoding: Option<&str>) -> Result<FieldKind, &'static str> {
    let structured = |part| Ok(FieldKind::Structured(part));
    match (lower, encoding) {
        ("date", None | Some("days")) => Ok(FieldKind::Date),
        ("date", Some("iso")) => Ok(FieldKind::IsoDate),
        ("date", Some("structured")) => structured(Structured::Date),
        ("date", _) => Err("days, iso or structured"),
        // These two are the source's own texts.
        ("timetz" | "interval", None | Some("iso")) => Ok(FieldKind::Text),
        ("timetz", Some("structured")) => structured(Structured::ZonedTime),
        ("interval", Some("structured")) => structured(Structured::Duration),
        ("timetz" | "interval", _) => Err("iso or structured"),
        ("time", Some("structured")) => structured(Structured::Time),
        ("timestamp", Some("structured")) => structured(Structured::Timestamp),
        ("timestamptz", Some("structured")) => structured(Structured::ZonedTimestamp),
        _ => {
            let default = match lower {
                "timestamptz" => TemporalForm::Iso,
                _ => TemporalForm::Count(Unit::Micros),
            };
            let form = temporal_form(encoding, default);
            let form = form.ok_or("iso, millis, micros, nanos or structured")?;
            Ok(match lower {
                "time" => FieldKind::Time(form),
                "timestamp" => FieldKind::Timestamp(form),
                _ => FieldKind::TimestampTz(form),
            })
        }
    }
}

/// A decimal column where one can hold it, else exact text; `None` for no digits at all, or more than
/// there may be.
pub(crate) fn decimal_kind(precision: u32, scale: i32, form: DecimalForm) -> Option<FieldKind> {
    let fits = u8::try_from(precision).ok().zip(u8::try_from(scale).ok());
    if let Some((precision @ 1..=38, scale)) = fits.filter(|(p, s)| s <= p) {
        return Some(FieldKind::Decimal { precision, scale, form });
    }
    let bounded = scale.unsigned_abs() as usize <= crate::decimal::DIGITS_MAX;
    (precision > 0 && bounded).then_some(FieldKind::DecimalText { scale, form })
}

fn decimal_form(encoding: Option<&str>, default: DecimalForm) -> Option<DecimalForm> {
    match encoding {
        None => Some(default),
        Some("base64") => Some(DecimalForm::Base64),
        Some("string" | "number") => Some(DecimalForm::Plain),
        Some("variable") => Some(DecimalForm::Variable),
        Some(_) => None,
    }
}

fn temporal_form(encoding: Option<&str>, default: TemporalForm) -> Option<TemporalForm> {
    Some(match encoding {
        None => default,
        Some("iso") => TemporalForm::Iso,
        Some("millis" | "ms") => TemporalForm::Count(Unit::Millis),
        Some("micros" | "us") => TemporalForm::Count(Unit::Micros),
        Some("nanos" | "ns") => TemporalForm::Count(Unit::Nanos),
        Some(_) => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::json::Parser;
    use crate::value::Value;

    fn read(column_type: &str, encoding: Option<&str>, text: &str) -> Value {
        let column = ColumnOverride::parse(column_type, None, encoding).expect(column_type);
        let mut parser = Parser::default();
        column.kind.read(parser.parse(text.as_bytes(), 16).expect("json")).expect(text)
    }

    fn decimal(unscaled: i128, scale: u8) -> Value {
        Value::Decimal { unscaled, scale }
    }

    #[test]
    fn every_encoding_reads_its_form() {
        let text = |text: &str| Value::Text(text.to_owned());
        let variable = r#"{"scale":1,"value":"AIA="}"#;
        for (column_type, encoding, json, value) in [
            ("decimal(12,2)", None, "\"AY/J\"", decimal(102_345, 2)),
            ("decimal(12,2)", Some("base64"), "12.5", decimal(1_250, 2)),
            ("decimal(12,2)", Some("string"), "\"-1e1\"", decimal(-1_000, 2)),
            (
                "decimal(12,2)",
                Some("number"),
                "1e30",
                Value::OutOfRange("1".to_owned() + &"0".repeat(30)),
            ),
            ("decimal(12,2)", Some("string"), "\"NAN\"", Value::OutOfRange("NaN".into())),
            ("decimal(12,2)", Some("string"), "\"0.001\"", Value::OutOfRange("0.001".into())),
            ("decimal(12,2)", Some("variable"), variable, decimal(1_280, 2)),
            ("decimal", None, variable, text("12.8")),
            ("decimal(60,20)", None, "\"gA==\"", text("-0.00000000000000000128")),
            ("decimal(38,-3)", None, "\"Ag==\"", text("2000")),
            ("decimal(3,5)", None, "\"A+c=\"", text("0.00999")),
            ("decimal(20,0)", Some("unsigned"), "-1", decimal(18_446_744_073_709_551_615, 0)),
            (
                "decimal(20,0)",
                Some("unsigned"),
                "9223372036854775808",
                decimal(9_223_372_036_854_775_808, 0),
            ),
            ("decimal(20,0)", Some("unsigned"), "7", decimal(7, 0)),
            ("boolean", Some("number"), "1", Value::Boolean(true)),
            ("boolean", Some("number"), "false", Value::Boolean(false)),
            ("int", Some("boolean"), "true", Value::Long(1)),
            ("int", Some("boolean"), "-7", Value::Long(-7)),
            ("date", Some("structured"), r#"{"year":1970,"month":1,"day":2}"#, Value::Date(1)),
            ("time", Some("structured"), r#"{"hour":24}"#, text("24:00:00")),
            ("timetz", None, "\"12:00:00Z\"", text("12:00:00Z")),
            ("timetz", Some("structured"), r#"{"hour":1}"#, text("01:00:00Z")),
            ("interval", None, "\"P1Y\"", text("P1Y")),
            ("interval", Some("structured"), r#"{"days":1}"#, text("P0Y0M1DT0H0M0S")),
            (
                "timestamp",
                Some("structured"),
                r#"{"year":1970,"month":1,"day":1}"#,
                Value::Timestamp(0),
            ),
            (
                "timestamptz",
                Some("structured"),
                r#"{"year":1970,"month":1,"day":1,"offsetSeconds":1}"#,
                Value::TimestampTz(-1_000_000),
            ),
            ("date", None, "20512", Value::Date(20_512)),
            ("date", Some("iso"), "\"2026-02-28Z\"", Value::Date(20_512)),
            ("time", None, "86400000000", text("24:00:00")),
            ("time", Some("millis"), "1", text("00:00:00.001")),
            ("time", Some("iso"), "\"12:00:00Z\"", text("12:00:00")),
            ("timestamp", None, "1", Value::Timestamp(1)),
            ("timestamp", Some("ms"), "1", Value::Timestamp(1_000)),
            ("timestamp", Some("nanos"), "-1", Value::Timestamp(-1)),
            ("timestamptz", None, "\"1970-01-01T01:00:00+01:00\"", Value::TimestampTz(0)),
            ("timestamptz", Some("us"), "5", Value::TimestampTz(5)),
            ("binary", None, "\"AP8=\"", Value::Binary(vec![0, 255])),
            ("binary", Some("hex"), "\"00Ff\"", Value::Binary(vec![0, 255])),
            ("binary", Some("base64url"), "\"_-8=\"", Value::Binary(vec![255, 239])),
            (
                "list<decimal(10,2)>",
                None,
                "[\"bg==\",null]",
                Value::List(vec![decimal(110, 2), Value::Null]),
            ),
            ("list<date>", Some("days"), "[]", Value::List(vec![])),
            ("json", None, "[1, 2]", text("[1, 2]")),
            ("json", None, r#""{\"a\": 1.10}""#, text(r#"{"a": 1.10}"#)),
            ("double", None, "\"NaN\"", Value::Double(f64::INFINITY)),
        ] {
            let found = read(column_type, encoding, json);
            match found {
                Value::Double(number) => assert!(number.is_nan()),
                found => assert_eq!(found, value, "{column_type} {encoding:?}"),
            }
        }
    }

    #[test]
    fn what_cannot_be_is_refused_with_what_can() {
        let error = |column_type: &str, unit: Option<&str>, encoding: Option<&str>| {
            ColumnOverride::parse(column_type, unit, encoding).expect_err(column_type).to_string()
        };
        assert!(error("varchar", None, None).contains("use boolean, int"));
        assert!(error("decimal(x)", None, None).contains("is no type"));
        assert!(error("decimal(0,0)", None, None).contains("is no type"));
        assert!(error("date", None, Some("base64")).contains("use days, iso or structured"));
        assert!(error("interval", None, Some("micros")).contains("use iso or structured"));
        assert!(error("time", None, Some("days")).contains("use iso, millis"));
        assert!(error("decimal(19,0)", None, Some("unsigned")).contains("decimal(20,0)"));
        assert!(error("boolean", None, Some("hex")).contains("use none or number"));
        assert!(error("text", None, Some("hex")).contains("use none"));
        assert!(error("decimal", None, Some("base64")).contains("decimal(p,s)"));
        assert!(error("date", Some("days"), Some("iso")).contains("keep one"));
        assert!(error(&"list<".repeat(9), None, None).contains("is no type"));
    }

    #[test]
    fn the_written_form_is_strict() {
        let parse = serde_json::from_str::<ColumnOverride>;
        let column = parse(r#"{"type":"decimal(12,2)","encoding":"base64"}"#).expect("override");
        assert_eq!(column.column_type(), ColumnType::Decimal { precision: 12, scale: 2 });
        assert!(parse(r#"{"type":"date","encodings":"days"}"#).is_err());
        assert!(parse(r#"{"encoding":"days"}"#).is_err());
    }
}
