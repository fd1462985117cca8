//! How the JSON of a field is read into a value, by what its schema or the configuration says.

use std::borrow::Cow;

use base64::Engine;
use base64::engine::general_purpose::{STANDARD, URL_SAFE};

use crate::column::ColumnType;
use crate::decimal::{Decimal, i128_from_bytes};
use crate::json::{Json, Kind, exact_double};
use crate::structured::{self, Structured};
use crate::temporal::{self, Point, Unit};
use crate::value::{Value, digits};

/// How bytes stand in a string.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum BytesForm {
    Base64,
    Base64Url,
    Hex,
}

/// How a decimal stands in the record. JSON numbers are understood in each of them, but for
/// `Variable`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum DecimalForm {
    /// Two's complement of the unscaled value in base64: Connect's default.
    Base64,
    /// Digits.
    Plain,
    /// A struct of scale and unscaled value.
    Variable,
}

/// How a date, time or timestamp stands in the record.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum TemporalForm {
    Count(Unit),
    Iso,
}

/// How to read a field.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum FieldKind {
    Boolean,
    /// A boolean, as such or as 0 or 1: MySQL's TINYINT(1) is both in the life of one table.
    BooleanNumber,
    /// Signed integer of this many bits.
    Integer(u8),
    /// An integer of 32 bits, with true and false as 1 and 0.
    IntegerFlag,
    /// Unsigned integer of 64 bits that went through a signed one, hence negative from 2^63 on.
    Unsigned,
    Float,
    Double,
    Text,
    Bytes(BytesForm),
    Decimal {
        precision: u8,
        scale: u8,
        form: DecimalForm,
    },
    /// A decimal that no decimal column holds: exact text. The scale is that of base64.
    DecimalText {
        scale: i32,
        form: DecimalForm,
    },
    /// Days since 1970-01-01.
    Date,
    IsoDate,
    /// Text.
    Time(TemporalForm),
    Timestamp(TemporalForm),
    TimestampTz(TemporalForm),
    /// Components of a date or time: `time.precision.mode=structured`.
    Structured(Structured),
    List(Box<FieldKind>),
    /// Struct or map, kept as JSON text.
    Json,
    /// JSON text, or the object or array itself.
    Document,
    /// No schema: as the JSON shows it.
    Inferred,
}

/// What a value should have been. Holds nothing of the value itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Expected(pub(crate) &'static str);

impl FieldKind {
    /// The column type of what [`FieldKind::read`] gives; `None` where only the value can tell.
    pub(crate) fn column_type(&self) -> Option<ColumnType> {
        use ColumnType as T;
        Some(match self {
            Self::Boolean | Self::BooleanNumber => T::Boolean,
            Self::Integer(64) => T::Long,
            Self::Integer(_) | Self::IntegerFlag => T::Int,
            Self::Unsigned => T::Decimal { precision: 20, scale: 0 },
            Self::Float => T::Float,
            Self::Double => T::Double,
            Self::Text | Self::DecimalText { .. } | Self::Time(_) => T::Text,
            Self::Json | Self::Document => T::Text,
            Self::Structured(part) => part.column_type(),
            Self::Bytes(_) => T::Binary,
            Self::Decimal { precision, scale, .. } => {
                T::Decimal { precision: *precision, scale: *scale }
            }
            Self::Date | Self::IsoDate => T::Date,
            Self::Timestamp(_) => T::Timestamp,
            Self::TimestampTz(_) => T::TimestampTz,
            Self::List(element) => T::List(Box::new(element.column_type()?)),
            Self::Inferred => return None,
        })
    }

    /// Reads a value; `null` is NULL for every kind.
    pub(crate) fn read(&self, json: Json<'_, '_>) -> Result<Value, Expected> {
        if json.is_null() {
            return Ok(Value::Null);
        }
        match self {
            Self::Boolean => json.boolean().map(Value::Boolean).ok_or(Expected("true or false")),
            Self::BooleanNumber => boolean_number(json),
            Self::Integer(bits) => integer(json, *bits),
            Self::IntegerFlag => match json.boolean() {
                Some(flag) => Ok(Value::Long(flag.into())),
                None => integer(json, 32),
            },
            Self::Unsigned => unsigned(json),
            Self::Float => float(json),
            Self::Double => double(json),
            Self::Text => Ok(Value::Text(string(json, "a string")?.into_owned())),
            Self::Bytes(form) => bytes(json, *form).map(Value::Binary),
            Self::Decimal { precision, scale, form } => decimal(json, *precision, *scale, *form),
            Self::DecimalText { scale, form } => decimal_text(json, *scale, *form),
            Self::Date => Ok(date(temporal::date(days(json)?))),
            Self::IsoDate => iso(json, temporal::parse_date, date, "an ISO date"),
            Self::Time(form) => time(json, *form),
            Self::Timestamp(form) => timestamp(json, *form),
            Self::TimestampTz(form) => timestamp_tz(json, *form),
            Self::Structured(part) => structured::read(json, *part),
            Self::List(element) => {
                if json.kind() != Kind::Array {
                    return Err(Expected("an array"));
                }
                let items = json.items().map(|item| element.read(item));
                Ok(Value::List(items.collect::<Result<_, _>>()?))
            }
            Self::Json => match json.kind() {
                Kind::Array | Kind::Object => Ok(Value::Text(json.raw().to_owned())),
                _ => Err(Expected("an object or array")),
            },
            Self::Document => match json.kind() {
                Kind::Array | Kind::Object => Ok(Value::Text(json.raw().to_owned())),
                _ => {
                    Ok(Value::Text(string(json, "JSON text, an object or an array")?.into_owned()))
                }
            },
            Self::Inferred => Ok(infer(json)),
        }
    }
}

/// The value as the JSON shows it. A number that its type cannot hold exactly is out of range;
/// arrays and objects stay JSON text.
pub(crate) fn infer(json: Json<'_, '_>) -> Value {
    let out_of_range = || Value::OutOfRange(json.raw().to_owned());
    match json.kind() {
        Kind::Null => Value::Null,
        Kind::True => Value::Boolean(true),
        Kind::False => Value::Boolean(false),
        Kind::Number if is_fraction(json.raw()) => {
            exact_double(json.raw()).map_or_else(out_of_range, Value::Double)
        }
        Kind::Number => json.integer().map_or_else(out_of_range, Value::Long),
        Kind::Plain | Kind::Escaped => Value::Text(json.text().unwrap_or_default().into_owned()),
        Kind::Array | Kind::Object => Value::Text(json.raw().to_owned()),
    }
}

/// The type of what [`infer`] gives; `None` of null.
pub(crate) fn shown_type(json: Json<'_, '_>) -> Option<ColumnType> {
    match json.kind() {
        Kind::Null => None,
        Kind::True | Kind::False => Some(ColumnType::Boolean),
        Kind::Number if is_fraction(json.raw()) => Some(ColumnType::Double),
        Kind::Number => Some(ColumnType::Long),
        Kind::Plain | Kind::Escaped | Kind::Array | Kind::Object => Some(ColumnType::Text),
    }
}

fn is_fraction(number: &str) -> bool {
    number.bytes().any(|byte| matches!(byte, b'.' | b'e' | b'E'))
}

fn string<'a>(json: Json<'_, 'a>, expected: &'static str) -> Result<Cow<'a, str>, Expected> {
    json.text().ok_or(Expected(expected))
}

fn count(json: Json<'_, '_>, expected: &'static str) -> Result<i64, Expected> {
    json.integer().ok_or(Expected(expected))
}

fn integer(json: Json<'_, '_>, bits: u8) -> Result<Value, Expected> {
    let fits = |value: &i64| {
        let spare = 64 - u32::from(bits);
        (value << spare) >> spare == *value
    };
    json.integer().filter(fits).map(Value::Long).ok_or(Expected(match bits {
        8 => "an integer of 8 bits",
        16 => "an integer of 16 bits",
        32 => "an integer of 32 bits",
        _ => "an integer of 64 bits",
    }))
}

fn boolean_number(json: Json<'_, '_>) -> Result<Value, Expected> {
    let number = match json.integer() {
        Some(0) => Some(false),
        Some(1) => Some(true),
        _ => None,
    };
    json.boolean().or(number).map(Value::Boolean).ok_or(Expected("true, false, 0 or 1"))
}

fn unsigned(json: Json<'_, '_>) -> Result<Value, Expected> {
    let wrapped = json.integer().map(|wrapped| wrapped.cast_unsigned());
    let whole = wrapped.or_else(|| json.number()?.parse().ok());
    let unscaled = whole.map(i128::from).ok_or(Expected("an integer of 64 bits"))?;
    Ok(Value::Decimal { unscaled, scale: 0 })
}

/// Connect's dates are of 32 bits.
fn days(json: Json<'_, '_>) -> Result<i64, Expected> {
    let days = json.integer().filter(|days| i32::try_from(*days).is_ok());
    days.ok_or(Expected("a number of days of 32 bits"))
}

/// Debezium writes what JSON numbers cannot say as strings.
fn special(json: Json<'_, '_>) -> Option<f64> {
    match json.text()?.as_ref() {
        "NaN" => Some(f64::NAN),
        "Infinity" => Some(f64::INFINITY),
        "-Infinity" => Some(f64::NEG_INFINITY),
        _ => None,
    }
}

fn float(json: Json<'_, '_>) -> Result<Value, Expected> {
    if let Some(text) = json.number() {
        // Never by way of f64, which would round twice.
        return Ok(match text.parse::<f32>() {
            Ok(value) if value.is_finite() => Value::Float(value),
            _ => Value::OutOfRange(text.to_owned()),
        });
    }
    let special = special(json).ok_or(Expected("a number, \"NaN\" or \"Infinity\""))?;
    Ok(Value::Float(special as f32))
}

fn double(json: Json<'_, '_>) -> Result<Value, Expected> {
    if let Some(text) = json.number() {
        return Ok(match text.parse::<f64>() {
            Ok(value) if value.is_finite() => Value::Double(value),
            _ => Value::OutOfRange(text.to_owned()),
        });
    }
    special(json).map(Value::Double).ok_or(Expected("a number, \"NaN\" or \"Infinity\""))
}

fn bytes(json: Json<'_, '_>, form: BytesForm) -> Result<Vec<u8>, Expected> {
    let (expected, engine) = match form {
        BytesForm::Base64 => ("bytes in base64", &STANDARD),
        BytesForm::Base64Url => ("bytes in base64 for URLs", &URL_SAFE),
        BytesForm::Hex => {
            let text = string(json, "bytes in hex")?;
            return unhex(&text).ok_or(Expected("bytes in hex"));
        }
    };
    let text = string(json, expected)?;
    engine.decode(text.as_bytes()).map_err(|_| Expected(expected))
}

fn unhex(text: &str) -> Option<Vec<u8>> {
    let (pairs, rest) = text.as_bytes().as_chunks::<2>();
    let digit = |byte: u8| char::from(byte).to_digit(16).and_then(|digit| u8::try_from(digit).ok());
    let byte = |[high, low]: &[u8; 2]| Some((digit(*high)? << 4) | digit(*low)?);
    rest.is_empty().then(|| pairs.iter().map(byte).collect())?
}

const DECIMAL: Expected = Expected("a decimal: base64, a number or a plain number in a string");
const DECIMAL_BYTES: Expected = Expected("the bytes of a decimal in base64, at most 16384 digits");

fn decimal(
    json: Json<'_, '_>,
    precision: u8,
    scale: u8,
    form: DecimalForm,
) -> Result<Value, Expected> {
    // The usual case, without memory: base64 of at most 128 bits, at the column's own scale.
    if form == DecimalForm::Base64 && json.kind() == Kind::Plain {
        let raw = json.raw().as_bytes();
        let mut buffer = [0; 18];
        let decoded = STANDARD.decode_slice(&raw[1..raw.len() - 1], &mut buffer);
        let unscaled = decoded.ok().and_then(|length| i128_from_bytes(&buffer[..length]));
        if let Some(unscaled) = unscaled.filter(|u| digits(*u) <= u32::from(precision)) {
            return Ok(Value::Decimal { unscaled, scale });
        }
    }
    let decimal = match any_decimal(json, i32::from(scale), form)? {
        Ok(decimal) => decimal,
        Err(special) => return Ok(Value::OutOfRange(special)),
    };
    Ok(match decimal.unscaled(precision, scale) {
        Some(unscaled) => Value::Decimal { unscaled, scale },
        None => Value::OutOfRange(decimal.plain()),
    })
}

fn decimal_text(json: Json<'_, '_>, scale: i32, form: DecimalForm) -> Result<Value, Expected> {
    /// PostgreSQL's largest scale. Above it stands a negative one, in 11 bits: the value is right,
    /// its digits after the point are zeros that the source does not have.
    const SCALE_MAX: i32 = 1_000;
    Ok(match any_decimal(json, scale, form)? {
        Ok(decimal) if scale > SCALE_MAX => Value::Text(decimal.stripped().plain()),
        Ok(decimal) => Value::Text(decimal.plain()),
        Err(special) => Value::OutOfRange(special),
    })
}

/// A decimal, or the text of what is none (`NaN` and the infinities).
fn any_decimal(
    json: Json<'_, '_>,
    scale: i32,
    form: DecimalForm,
) -> Result<Result<Decimal, String>, Expected> {
    if let Some(text) = json.number() {
        return Decimal::parse(text).map(Ok).ok_or(DECIMAL);
    }
    match form {
        DecimalForm::Base64 => {
            let bytes = bytes(json, BytesForm::Base64).map_err(|_| DECIMAL_BYTES)?;
            Decimal::from_bytes(&bytes, scale).map(Ok).ok_or(DECIMAL_BYTES)
        }
        DecimalForm::Plain => {
            let text = json.text().ok_or(DECIMAL)?;
            match Decimal::parse(&text) {
                Some(decimal) => Ok(Ok(decimal)),
                None => special_decimal(&text).map(Err).ok_or(DECIMAL),
            }
        }
        DecimalForm::Variable => {
            let expected = Expected("a struct of `scale` and `value`");
            let (scale, value) = json.get("scale").zip(json.get("value")).ok_or(expected)?;
            let scale = scale.integer().and_then(|scale| i32::try_from(scale).ok());
            let scale = scale.filter(|s| s.unsigned_abs() as usize <= crate::decimal::DIGITS_MAX);
            let bytes = bytes(value, BytesForm::Base64).map_err(|_| DECIMAL_BYTES)?;
            let decimal = Decimal::from_bytes(&bytes, scale.ok_or(expected)?);
            decimal.map(Ok).ok_or(DECIMAL_BYTES)
        }
    }
}

/// What `decimal.handling.mode=string` writes for a numeric that is no number.
fn special_decimal(text: &str) -> Option<String> {
    let special = match text {
        "NAN" | "NaN" => "NaN",
        "POSITIVE_INFINITY" | "Infinity" => "Infinity",
        "NEGATIVE_INFINITY" | "-Infinity" => "-Infinity",
        _ => return None,
    };
    Some(special.to_owned())
}

pub(crate) fn date(point: Point) -> Value {
    match point {
        Point::Held(days) => match i32::try_from(days) {
            Ok(days) => Value::Date(days),
            Err(_) => Value::OutOfRange(days.to_string()),
        },
        Point::Outside(text) => Value::OutOfRange(text),
    }
}

pub(crate) fn local(point: Point) -> Value {
    match point {
        Point::Held(micros) => Value::Timestamp(micros),
        Point::Outside(text) => Value::OutOfRange(text),
    }
}

pub(crate) fn instant(point: Point) -> Value {
    match point {
        Point::Held(micros) => Value::TimestampTz(micros),
        Point::Outside(text) => Value::OutOfRange(text),
    }
}

fn iso<T>(
    json: Json<'_, '_>,
    parse: impl Fn(&str) -> Option<T>,
    value: impl Fn(T) -> Value,
    expected: &'static str,
) -> Result<Value, Expected> {
    let text = string(json, expected)?;
    parse(&text).map(value).ok_or(Expected(expected))
}

fn time(json: Json<'_, '_>, form: TemporalForm) -> Result<Value, Expected> {
    match form {
        TemporalForm::Count(unit) => {
            let count = count(json, "a time of day as an integer")?;
            Ok(Value::Text(temporal::time_of_day(count, unit)))
        }
        TemporalForm::Iso => iso(json, temporal::parse_time, Value::Text, "an ISO time of day"),
    }
}

fn timestamp(json: Json<'_, '_>, form: TemporalForm) -> Result<Value, Expected> {
    match form {
        TemporalForm::Count(unit) => {
            let count = count(json, "a timestamp as an integer")?;
            Ok(local(temporal::timestamp(count, unit, "")))
        }
        TemporalForm::Iso => iso(json, temporal::parse_timestamp, local, "an ISO timestamp"),
    }
}

fn timestamp_tz(json: Json<'_, '_>, form: TemporalForm) -> Result<Value, Expected> {
    match form {
        TemporalForm::Count(unit) => {
            let count = count(json, "a timestamp as an integer")?;
            Ok(instant(temporal::timestamp(count, unit, "Z")))
        }
        TemporalForm::Iso => {
            iso(json, temporal::parse_timestamp_tz, instant, "an ISO timestamp with its zone")
        }
    }
}
