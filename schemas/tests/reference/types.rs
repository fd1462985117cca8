//! A field's value by its schema: the type mappings of the contract, one after the other.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use lakebed_schemas::value::Value;
use regex::Regex;

use super::Bad;
use super::numbers::{self, Number, date_text, day_number};
use super::tree::{Content, Node};

const DAY: i128 = 86_400_000_000_000;
/// Nanoseconds of 0001-01-01 and of 10000-01-01.
const HELD: std::ops::Range<i128> = -719_162 * DAY..2_932_897 * DAY;

const PLACEHOLDER: &str = "__debezium_unavailable_value";
const PLACEHOLDER_BASE64: &str = "X19kZWJleml1bV91bmF2YWlsYWJsZV92YWx1ZQ==";
const PLACEHOLDER_HEX: &str = "5f5f646562657a69756d5f756e617661696c61626c655f76616c7565";
const PLACEHOLDER_UUID: &str = "b68a35a7-17ad-35b3-af2a-ae46edb4545a";

/// Whether a struct's schema can be understood at all: its fields named, once each, of known types.
pub(crate) fn check(schema: &Node<'_>, fields_max: usize) -> Result<(), Bad> {
    let fields = schema.get("fields").ok_or(Bad)?;
    if !matches!(fields.content, Content::List(_)) || fields.items().len() > fields_max {
        return Err(Bad);
    }
    let mut names: Vec<&str> = Vec::new();
    for field in fields.items() {
        let name = field.get("field").and_then(Node::text).ok_or(Bad)?;
        if names.contains(&name) {
            return Err(Bad);
        }
        names.push(name);
        check_type(field)?;
    }
    Ok(())
}

fn check_type(schema: &Node<'_>) -> Result<(), Bad> {
    match (base(schema).ok_or(Bad)?, name(schema)) {
        ("bytes", "org.apache.kafka.connect.data.Decimal") => decimal_type(schema).map(|_| ()),
        ("array", _) => check_type(schema.get("items").ok_or(Bad)?),
        ("boolean" | "int8" | "int16" | "int32" | "int64" | "float" | "float32" | "double", _)
        | ("float64" | "string" | "bytes" | "struct" | "map", _) => Ok(()),
        _ => Err(Bad),
    }
}

fn base<'s>(schema: &'s Node<'_>) -> Option<&'s str> {
    schema.get("type").and_then(Node::text)
}

fn name<'s>(schema: &'s Node<'_>) -> &'s str {
    schema.get("name").and_then(Node::text).unwrap_or_default()
}

/// Precision and scale; precision 0 where no decimal column holds it, and it is text.
fn decimal_type(schema: &Node<'_>) -> Result<(usize, i64), Bad> {
    let parameter = |name: &str| {
        let parameters = schema.get("parameters")?;
        parameters.get(name).and_then(Node::text)?.parse::<i32>().ok()
    };
    let scale = i64::from(parameter("scale").ok_or(Bad)?);
    let precision = parameter("connect.decimal.precision").unwrap_or(38).max(1);
    if scale.abs() > 16_384 {
        return Err(Bad);
    }
    let held = precision <= 38 && (0..=i64::from(precision)).contains(&scale);
    Ok((if held { precision as usize } else { 0 }, scale))
}

/// The value of a field. `null` is the caller's.
pub(crate) fn read(schema: &Node<'_>, json: &Node<'_>) -> Result<Value, Bad> {
    let count = || numbers::integer(json).map(i128::from).ok_or(Bad);
    let text = || json.text().ok_or(Bad);
    let long = |bits: u32| {
        let fits = |value: &i64| i128::from(*value).unsigned_abs() <= 1 << (bits - 1);
        let value = numbers::integer(json).filter(fits).ok_or(Bad)?;
        // The magnitude of the smallest is one more than that of the greatest.
        let beyond = i128::from(value) == 1 << (bits - 1);
        if beyond { Err(Bad) } else { Ok(Value::Long(value)) }
    };
    match (base(schema).ok_or(Bad)?, name(schema)) {
        ("int32", "io.debezium.time.Date" | "org.apache.kafka.connect.data.Date") => {
            long(32)?;
            Ok(date(count()?))
        }
        ("int32", "io.debezium.time.Time" | "org.apache.kafka.connect.data.Time") => {
            Ok(Value::Text(time_text(count()? * 1_000_000)))
        }
        ("int64", "io.debezium.time.MicroTime") => Ok(Value::Text(time_text(count()? * 1_000))),
        ("int64", "io.debezium.time.NanoTime") => Ok(Value::Text(time_text(count()?))),
        ("int64", "io.debezium.time.Timestamp" | "org.apache.kafka.connect.data.Timestamp") => {
            Ok(counted(count()?, 1_000_000))
        }
        ("int64", "io.debezium.time.MicroTimestamp") => Ok(counted(count()?, 1_000)),
        ("int64", "io.debezium.time.NanoTimestamp") => Ok(counted(count()?, 1)),
        ("string", "io.debezium.time.ZonedTimestamp") => zoned(text()?),
        ("string", "io.debezium.time.IsoDate") => iso_date(text()?),
        ("string", "io.debezium.time.IsoTime") => iso_time(text()?),
        ("string", "io.debezium.time.IsoTimestamp") => iso_timestamp(text()?),
        ("bytes", "org.apache.kafka.connect.data.Decimal") => decimal(schema, json),
        ("struct", "io.debezium.data.VariableScaleDecimal") => variable_scale(json),
        ("int64", "") if is_unsigned(schema) => unsigned(json),
        ("boolean", _) => match json.content {
            Content::Boolean(value) => Ok(Value::Boolean(value)),
            _ => Err(Bad),
        },
        ("int8", _) => long(8),
        ("int16", _) => long(16),
        ("int32", _) => long(32),
        ("int64", _) => long(64),
        ("float" | "float32", _) => floating(json, |text| {
            text.parse().ok().filter(|value: &f32| value.is_finite()).map(Value::Float)
        }),
        ("double" | "float64", _) => floating(json, |text| {
            text.parse().ok().filter(|value: &f64| value.is_finite()).map(Value::Double)
        }),
        ("string", _) => Ok(Value::Text(text()?.to_owned())),
        ("bytes", _) => STANDARD.decode(text()?).map(Value::Binary).map_err(|_| Bad),
        ("array", _) => {
            let Content::List(items) = &json.content else { return Err(Bad) };
            let of = schema.get("items").ok_or(Bad)?;
            let item = |item: &Node<'_>| match item.content {
                Content::Null => Ok(Value::Null),
                _ => read(of, item),
            };
            items.iter().map(item).collect::<Result<_, _>>().map(Value::List)
        }
        ("struct" | "map", _) => match json.content {
            Content::List(_) | Content::Object(_) => Ok(Value::Text(json.raw.to_owned())),
            _ => Err(Bad),
        },
        _ => Err(Bad),
    }
}

fn is_unsigned(schema: &Node<'_>) -> bool {
    let parameters = schema.get("parameters");
    let said = parameters.and_then(|p| p.get("__debezium.source.column.type"));
    let said = said.and_then(Node::text).unwrap_or_default().to_uppercase();
    said == "SERIAL" || said.starts_with("BIGINT UNSIGNED")
}

fn unsigned(json: &Node<'_>) -> Result<Value, Bad> {
    let wrapped = numbers::integer(json).map(i128::from);
    let number = || (json.content == Content::Number).then(|| json.raw.parse::<u64>().ok())?;
    let value = wrapped.or_else(|| number().map(i128::from)).ok_or(Bad)?;
    let unscaled = if value < 0 { value + (1 << 64) } else { value };
    Ok(Value::Decimal { unscaled, scale: 0 })
}

fn floating(json: &Node<'_>, parse: impl Fn(&str) -> Option<Value>) -> Result<Value, Bad> {
    match &json.content {
        Content::Number => {
            Ok(parse(json.raw).unwrap_or_else(|| Value::OutOfRange(json.raw.to_owned())))
        }
        Content::Text(text) => {
            let value = match text.as_str() {
                "NaN" => f64::NAN,
                "Infinity" => f64::INFINITY,
                "-Infinity" => f64::NEG_INFINITY,
                _ => return Err(Bad),
            };
            // Rust prints and reads these; so each width gets its own.
            Ok(match parse("0").ok_or(Bad)? {
                Value::Float(_) => Value::Float(value as f32),
                _ => Value::Double(value),
            })
        }
        _ => Err(Bad),
    }
}

fn decimal(schema: &Node<'_>, json: &Node<'_>) -> Result<Value, Bad> {
    let (precision, scale) = decimal_type(schema)?;
    let number = match &json.content {
        Content::Number => Number::parse(json.raw).ok_or(Bad)?,
        Content::Text(text) => {
            let bytes = STANDARD.decode(text).map_err(|_| Bad)?;
            Number::from_bytes(&bytes, scale).ok_or(Bad)?
        }
        _ => return Err(Bad),
    };
    if precision == 0 {
        let text = if scale > 1_000 { number.stripped() } else { number.plain() };
        return Ok(Value::Text(text));
    }
    Ok(match number.unscaled(precision, scale) {
        Some(unscaled) => Value::Decimal { unscaled, scale: scale as u8 },
        None => Value::OutOfRange(number.plain()),
    })
}

fn variable_scale(json: &Node<'_>) -> Result<Value, Bad> {
    if json.content == Content::Number {
        return Ok(Value::Text(Number::parse(json.raw).ok_or(Bad)?.plain()));
    }
    let scale = json.get("scale").and_then(numbers::integer).filter(|s| s.abs() <= 16_384);
    let bytes = json.get("value").and_then(Node::text).ok_or(Bad)?;
    let bytes = STANDARD.decode(bytes).map_err(|_| Bad)?;
    Ok(Value::Text(Number::from_bytes(&bytes, scale.ok_or(Bad)?).ok_or(Bad)?.plain()))
}

fn date(days: i128) -> Value {
    match days {
        -622_191_234 | 2_146_033_979 | 106_751_991_166 => Value::OutOfRange("infinity".into()),
        -625_821_272 | -2_147_472_691 | 106_748_361_128 => Value::OutOfRange("-infinity".into()),
        _ if HELD.contains(&(days * DAY)) => Value::Date(days as i32),
        _ => Value::OutOfRange(date_text(days as i64)),
    }
}

/// Of nanoseconds, which may be negative or more than a day has.
fn time_text(nanos: i128) -> String {
    let sign = if nanos < 0 { "-" } else { "" };
    let (seconds, fraction) = (nanos.abs() / 1_000_000_000, nanos.abs() % 1_000_000_000);
    let (hours, minutes, seconds) = (seconds / 3_600, seconds / 60 % 60, seconds % 60);
    let text = format!("{sign}{hours:02}:{minutes:02}:{seconds:02}.{fraction:09}");
    text.trim_end_matches('0').trim_end_matches('.').to_owned()
}

const INFINITE: [i128; 2] = [i64::MAX as i128, 9_223_372_036_825_200_000];
const MINUS_INFINITE: [i128; 2] = [i64::MIN as i128, -9_223_372_036_832_400_000];

fn infinity(count: i128) -> Option<Value> {
    let text = match count {
        count if INFINITE.contains(&count) => "infinity",
        count if MINUS_INFINITE.contains(&count) => "-infinity",
        _ => return None,
    };
    Some(Value::OutOfRange(text.to_owned()))
}

fn counted(count: i128, nanos_each: i128) -> Value {
    // Nanoseconds of these numbers are of 1677 and 2262: only the limits are nobody's time.
    let limit = [i128::from(i64::MIN), i128::from(i64::MAX)].contains(&count);
    let infinite = infinity(count).filter(|_| nanos_each > 1 || limit);
    infinite.unwrap_or_else(|| moment(count * nanos_each, "", Value::Timestamp))
}

/// Nanoseconds since 1970, without a zone or with one.
fn moment(nanos: i128, zone: &str, held: fn(i64) -> Value) -> Value {
    if HELD.contains(&nanos) {
        return held(nanos.div_euclid(1_000) as i64);
    }
    let days = nanos.div_euclid(DAY) as i64;
    infinity(nanos.div_euclid(1_000_000)).unwrap_or_else(|| {
        let time = time_text(nanos.rem_euclid(DAY));
        Value::OutOfRange(format!("{}T{time}{zone}", date_text(days)))
    })
}

fn matched<'t>(pattern: &str, text: &'t str) -> Result<regex::Captures<'t>, Bad> {
    Regex::new(&format!("^(?:{pattern})$")).expect("a pattern").captures(text).ok_or(Bad)
}

const DATE: &str = "([+-]?)([0-9]{4,9})-([0-9]{2})-([0-9]{2})";
const TIME: &str = r"([0-9]{2}):([0-9]{2})(?::([0-9]{2})(?:\.([0-9]{1,9}))?)?";

/// Groups `first` to `first + 3` of a match of [`DATE`].
fn days_of(found: &regex::Captures<'_>, first: usize) -> Result<i128, Bad> {
    let number = |group: usize| found[group].parse::<i64>().map_err(|_| Bad);
    let year = if &found[first] == "-" { -number(first + 1)? } else { number(first + 1)? };
    let days = day_number(year, number(first + 2)? as u32, number(first + 3)? as u32);
    days.map(i128::from).ok_or(Bad)
}

/// Nanoseconds of groups `first` to `first + 3` of a match of [`TIME`].
fn nanos_of(found: &regex::Captures<'_>, first: usize) -> Result<i128, Bad> {
    let number = |group: usize| match found.get(group) {
        Some(digits) => digits.as_str().parse::<i128>().map_err(|_| Bad),
        None => Ok(0),
    };
    let (hours, minutes, seconds) = (number(first)?, number(first + 1)?, number(first + 2)?);
    let fraction = found.get(first + 3).map_or("", |digits| digits.as_str());
    let fraction: i128 = format!("{fraction:0<9}").parse().map_err(|_| Bad)?;
    let nanos = ((hours * 60 + minutes) * 60 + seconds) * 1_000_000_000 + fraction;
    if minutes > 59 || seconds > 59 || nanos > DAY { Err(Bad) } else { Ok(nanos) }
}

fn iso_date(text: &str) -> Result<Value, Bad> {
    Ok(date(days_of(&matched(&format!("{DATE}Z?"), text)?, 1)?))
}

fn iso_time(text: &str) -> Result<Value, Bad> {
    Ok(Value::Text(time_text(nanos_of(&matched(&format!("{TIME}Z?"), text)?, 1)?)))
}

fn iso_timestamp(text: &str) -> Result<Value, Bad> {
    if matches!(text, "infinity" | "-infinity") {
        return Ok(Value::OutOfRange(text.to_owned()));
    }
    let found = matched(&format!("{DATE}[T ]{TIME}Z?"), text)?;
    Ok(moment(days_of(&found, 1)? * DAY + nanos_of(&found, 5)?, "", Value::Timestamp))
}

fn zoned(text: &str) -> Result<Value, Bad> {
    if matches!(text, "infinity" | "-infinity") {
        return Ok(Value::OutOfRange(text.to_owned()));
    }
    let zone = "(?:Z|([+-])([0-9]{2})(?::?([0-9]{2})(?::([0-9]{2}))?)?)";
    let found = matched(&format!("{DATE}[T ]{TIME}{zone}"), text)?;
    let number = |group: usize| found.get(group).map_or(Ok(0), |g| g.as_str().parse::<i128>());
    let part = |group: usize| number(group).map_err(|_| Bad);
    let (hours, minutes, seconds) = (part(10)?, part(11)?, part(12)?);
    if hours > 18 || minutes > 59 || seconds > 59 {
        return Err(Bad);
    }
    let east = ((hours * 60 + minutes) * 60 + seconds) * 1_000_000_000;
    let east = if found.get(9).is_some_and(|sign| sign.as_str() == "-") { -east } else { east };
    let nanos = days_of(&found, 1)? * DAY + nanos_of(&found, 5)? - east;
    Ok(moment(nanos, "Z", Value::TimestampTz))
}

/// A value that no schema describes.
pub(crate) fn as_shown(json: &Node<'_>) -> Value {
    match &json.content {
        Content::Null => Value::Null,
        Content::Boolean(value) => Value::Boolean(*value),
        Content::Text(text) => Value::Text(text.clone()),
        Content::List(_) | Content::Object(_) => Value::Text(json.raw.to_owned()),
        Content::Number if json.raw.contains(['.', 'e', 'E']) => {
            // What it decides is the next test's; the contract only says "if it round-trips".
            lakebed_schemas::json::exact_double(json.raw)
                .map_or_else(|| Value::OutOfRange(json.raw.to_owned()), Value::Double)
        }
        Content::Number => match json.raw.parse() {
            Ok(value) => Value::Long(value),
            Err(_) => Value::OutOfRange(json.raw.to_owned()),
        },
    }
}

/// Whether a value says "unchanged, not sent", in any of the encodings.
pub(crate) fn is_placeholder(json: &Node<'_>, schema: Option<&Node<'_>>) -> bool {
    let kind = schema.map(|schema| (base(schema).unwrap_or_default(), name(schema)));
    let may_be_encoded = match kind {
        None => true,
        Some(("string", name)) => {
            !name.starts_with("io.debezium.time.Iso") && name != "io.debezium.time.ZonedTimestamp"
        }
        Some(("bytes", name)) => name != "org.apache.kafka.connect.data.Decimal",
        Some(_) => false,
    };
    let pair = format!("{{\"{PLACEHOLDER}\":\"{PLACEHOLDER}\"}}");
    match &json.content {
        Content::Text(text) if text == PLACEHOLDER => true,
        Content::Text(text) => {
            may_be_encoded && [PLACEHOLDER_BASE64, PLACEHOLDER_HEX, &pair].contains(&text.as_str())
        }
        Content::List(items) if kind.is_none_or(|(base, _)| base == "array") => {
            let texts: Option<Vec<&str>> = items.iter().map(Node::text).collect();
            let forms = [PLACEHOLDER, PLACEHOLDER_BASE64, PLACEHOLDER_UUID, PLACEHOLDER_HEX];
            let numbers: Option<Vec<i64>> = items.iter().map(numbers::integer).collect();
            let bytes: Vec<i64> = PLACEHOLDER.bytes().map(i64::from).collect();
            texts.is_some_and(|texts| texts.len() == 1 && forms.contains(&texts[0]))
                || numbers == Some(bytes)
        }
        Content::Object(members) => {
            let is = |(name, value): &(String, Node<'_>)| {
                name == PLACEHOLDER && value.text() == Some(PLACEHOLDER)
            };
            members.len() == 1 && is(&members[0])
        }
        _ => false,
    }
}
