//! What must hold for any bytes as a decimal or as a date or time: shared by the fuzz targets and by
//! the replay of their corpora. What is expected comes from arithmetic of its own, digit by digit,
//! and from chrono.
//!
//! An input is one byte that chooses the column, one that chooses how the rest stands in the record,
//! and the rest.

use std::collections::BTreeMap;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use chrono::{DateTime, NaiveDate};
use lakebed_schemas::change_event::Decoded;
use lakebed_schemas::column_override::ColumnOverride;
use lakebed_schemas::decoder::{DecodeOptions, Decoder, RecordRef};
use lakebed_schemas::value::Value;
use serde_json::json;

/// Columns of decimals, and the scale that base64 has in them.
const DECIMALS: [(&str, &str, i64); 10] = [
    ("decimal(12,3)", "base64", 3),
    ("decimal(38,0)", "base64", 0),
    ("decimal(38,38)", "base64", 38),
    ("decimal(60,20)", "base64", 20),
    ("decimal(3,2046)", "base64", 2_046),
    ("decimal(12,3)", "string", 3),
    ("decimal(38,10)", "string", 10),
    ("decimal", "string", 0),
    ("decimal(20,5)", "variable", 5),
    ("decimal", "variable", 0),
];

/// Columns of dates and times.
const TEMPORALS: [(&str, &str); 14] = [
    ("date", "days"),
    ("date", "iso"),
    ("time", "millis"),
    ("time", "micros"),
    ("time", "nanos"),
    ("time", "iso"),
    ("timestamp", "millis"),
    ("timestamp", "micros"),
    ("timestamp", "nanos"),
    ("timestamp", "iso"),
    ("timestamptz", "iso"),
    ("timestamptz", "micros"),
    ("timestamp", "structured"),
    ("timestamptz", "structured"),
];

/// The value of one column whose JSON is this; `None` where the record is refused.
fn decode(column_type: &str, encoding: &str, json: &str) -> Option<Value> {
    let column = ColumnOverride::parse(column_type, None, Some(encoding)).expect(column_type);
    let columns = BTreeMap::from([("a".to_owned(), column)]);
    let mut decoder = Decoder::new(DecodeOptions { columns, ..DecodeOptions::default() });
    let record = format!(r#"{{"op":"c","source":{{"connector":"c"}},"after":{{"a":{json}}}}}"#);
    let decoded = decoder.decode(&RecordRef {
        topic: "t",
        partition: 0,
        offset: 0,
        timestamp_ms: None,
        key: None,
        value: Some(record.as_bytes()),
        headers: &[],
    });
    match decoded {
        Decoded::Change(event) => Some(event.after?.values.remove(0)),
        Decoded::Malformed { reason } => {
            assert!(reason.len() < 300, "a reason holds no value: {reason}");
            None
        }
        other => panic!("{other:?}"),
    }
}

/// A number as sign, digits without zeros around them, and the power of ten of the last one.
#[derive(Debug, PartialEq, Eq)]
struct Number {
    negative: bool,
    digits: Vec<u8>,
    exponent: i64,
}

impl Number {
    fn new(negative: bool, mut digits: Vec<u8>, mut exponent: i64) -> Self {
        let zeros = digits.iter().take_while(|digit| **digit == 0).count();
        digits.drain(..zeros);
        while digits.last() == Some(&0) {
            digits.pop();
            exponent += 1;
        }
        match digits.is_empty() {
            true => Self { negative: false, digits, exponent: 0 },
            false => Self { negative, digits, exponent },
        }
    }

    /// Two's complement, the highest byte first, digit by digit.
    fn from_bytes(bytes: &[u8], scale: i64) -> Option<Self> {
        let negative = *bytes.first()? >= 0x80;
        let mut digits = vec![0u8];
        let multiplied = |digits: &mut Vec<u8>, add: u8| {
            let mut carry = u32::from(add);
            for digit in digits.iter_mut() {
                let sum = u32::from(*digit) * 256 + carry;
                (*digit, carry) = ((sum % 10) as u8, sum / 10);
            }
            while carry > 0 {
                digits.push((carry % 10) as u8);
                carry /= 10;
            }
        };
        bytes.iter().for_each(|byte| multiplied(&mut digits, if negative { !byte } else { *byte }));
        if negative {
            // -x is !x + 1.
            let mut index = 0;
            loop {
                match digits.get_mut(index) {
                    Some(9) => digits[index] = 0,
                    Some(digit) => break *digit += 1,
                    None => break digits.push(1),
                }
                index += 1;
            }
        }
        digits.reverse();
        Some(Self::new(negative, digits, -scale))
    }

    /// `-1.5e3`, and nothing else that a text may hold.
    fn parse(text: &str) -> Option<Self> {
        let (negative, text) = match text.strip_prefix('-') {
            Some(rest) => (true, rest),
            None => (false, text.strip_prefix('+').unwrap_or(text)),
        };
        let (mantissa, exponent) = text.split_once(['e', 'E']).unwrap_or((text, "0"));
        let (whole, fraction) = mantissa.split_once('.').unwrap_or((mantissa, ""));
        let digits = format!("{whole}{fraction}");
        let is_number = !digits.is_empty() && digits.bytes().all(|byte| byte.is_ascii_digit());
        let exponent: i64 = exponent.parse().ok().filter(|_| is_number)?;
        let digits = digits.bytes().map(|byte| byte - b'0').collect();
        Some(Self::new(negative, digits, exponent - i64::try_from(fraction.len()).ok()?))
    }

    fn fits(&self, precision: i64, scale: i64) -> bool {
        let whole = self.digits.len() as i64 + self.exponent;
        self.digits.is_empty() || (-self.exponent <= scale && whole <= precision - scale)
    }
}

/// A decimal is the number that was sent, to the last digit, or out of the range of its column.
pub(crate) fn decimal(input: &[u8]) {
    let [column, form, rest @ ..] = input else { return };
    let (column_type, encoding, scale) = DECIMALS[usize::from(*column) % DECIMALS.len()];
    let text = String::from_utf8_lossy(rest);
    let base64 = json!(STANDARD.encode(rest)).to_string();
    let own_scale = i64::from(i8::from_le_bytes([*form]));
    let variable = format!(r#"{{"scale":{own_scale},"value":{base64}}}"#);
    let is_json = serde_json::from_str::<f64>(&text).is_ok();
    let (json, sent) = match (encoding, form % 3) {
        (_, 0) if is_json => (text.to_string(), Number::parse(text.trim())),
        ("base64", _) => (base64, Number::from_bytes(rest, scale)),
        ("variable", _) => (variable, Number::from_bytes(rest, own_scale)),
        _ => (json!(text).to_string(), Number::parse(&text)),
    };
    let Some(value) = decode(column_type, encoding, &json) else {
        let far = sent.as_ref().is_some_and(|sent| {
            let exponent = sent.digits.is_empty() && json.contains(['e', 'E']);
            exponent || sent.exponent.abs() > 2_000 || rest.len() > 2_000
        });
        assert!(sent.is_none() || far, "{column_type} {encoding} refuses {json}");
        return;
    };
    let (precision, places) = match column_type.trim_start_matches("decimal(").split_once(',') {
        Some((precision, scale)) => (
            precision.parse().expect("digits"),
            scale.trim_end_matches(')').parse().expect("digits"),
        ),
        None => (0, 0),
    };
    match (value, sent) {
        (Value::Decimal { unscaled, scale }, Some(sent)) => {
            let found = Number::parse(&format!("{unscaled}e-{scale}")).expect("a number");
            assert_eq!(found, sent, "{column_type} {encoding} of {json}");
            assert!(sent.fits(precision, places));
        }
        (Value::Text(found), Some(sent)) => {
            assert_eq!(Number::parse(&found), Some(sent), "{column_type} {encoding} of {json}");
            assert!(!found.contains(['e', 'E', '+']), "plain notation: {found}");
        }
        (Value::OutOfRange(found), Some(sent)) => {
            assert_eq!(Number::parse(&found).as_ref(), Some(&sent), "{column_type} of {json}");
            assert!(!sent.fits(precision, places), "{column_type} {encoding} holds {json}");
        }
        (Value::OutOfRange(found) | Value::Text(found), None) => {
            assert!(["NaN", "Infinity", "-Infinity"].contains(&found.as_str()), "{json}");
        }
        (Value::Unavailable | Value::Null, _) => {}
        (found, sent) => panic!("{column_type} {encoding} of {json}: {found:?} for {sent:?}"),
    }
}

/// A date or time is what chrono makes of it, and its text reads back as the same.
pub(crate) fn temporal(input: &[u8]) {
    let [column, form, rest @ ..] = input else { return };
    let (column_type, encoding) = TEMPORALS[usize::from(*column) % TEMPORALS.len()];
    let mut number = [0; 8];
    let length = rest.len().min(8);
    number[..length].copy_from_slice(&rest[..length]);
    let number = i64::from_le_bytes(number);
    let json = match (encoding, form % 2) {
        ("iso", _) => json!(String::from_utf8_lossy(rest)).to_string(),
        ("structured", 0) => structured(rest).to_string(),
        (_, 0) => number.to_string(),
        // Any JSON at all.
        _ => match serde_json::from_slice::<serde_json::Value>(rest) {
            Ok(json) => json.to_string(),
            Err(_) => return,
        },
    };
    let Some(value) = decode(column_type, encoding, &json) else { return };
    if form % 2 == 0 && !matches!(encoding, "iso" | "structured") {
        counted(column_type, encoding, number, &value);
    }
    let text = match &value {
        Value::Null | Value::Unavailable => return,
        Value::Date(days) => date_text(*days),
        Value::Timestamp(micros) => timestamp_text(*micros),
        Value::TimestampTz(micros) => timestamp_text(*micros) + "Z",
        // Hours beyond a day are no ISO time, and a date that is none cannot be read.
        Value::Text(text) if column_type == "time" => text.clone(),
        Value::OutOfRange(text) => text.clone(),
        other => panic!("{column_type} {encoding} of {json}: {other:?}"),
    };
    let again = decode(column_type, "iso", &json!(text).to_string());
    match again {
        Some(again) => assert_eq!(again, value, "{column_type} {encoding} of {json} as {text}"),
        None => {
            let odd =
                encoding == "structured" || column_type == "time" || text.ends_with("infinity");
            assert!(odd, "{column_type} {encoding} of {json}: {text} does not read back");
        }
    }
}

fn structured(rest: &[u8]) -> serde_json::Value {
    let number = |index: usize| rest.get(index).map_or(0, |byte| i64::from(byte.cast_signed()));
    let year = number(0) * 100 + number(1);
    json!({
        "year": year, "month": number(2), "day": number(3), "hour": number(4),
        "minute": number(5), "second": number(6), "nanos": number(7).abs() * 7_000_001,
        "offsetSeconds": number(8) * 300,
    })
}

/// What a count of days or units comes to, by chrono.
fn counted(column_type: &str, encoding: &str, number: i64, value: &Value) {
    let nanos_each = match encoding {
        "days" => {
            let held = i32::try_from(number).expect("more days are refused");
            let outside = matches!(value, Value::OutOfRange(_));
            assert!(*value == Value::Date(held) || outside);
            assert_eq!(outside, !in_range(i64::from(held).checked_mul(86_400_000_000)), "{number}");
            return;
        }
        "millis" => 1_000_000,
        "micros" => 1_000,
        _ => 1,
    };
    let micros = i64::try_from((i128::from(number) * nanos_each).div_euclid(1_000)).ok();
    match (column_type, value) {
        ("time", Value::Text(text)) => {
            let nanos = (i128::from(number) * nanos_each).unsigned_abs();
            let (seconds, fraction) = (nanos / 1_000_000_000, nanos % 1_000_000_000);
            let sign = if number < 0 { "-" } else { "" };
            let of_day = format!(
                "{sign}{:02}:{:02}:{:02}",
                seconds / 3_600,
                seconds / 60 % 60,
                seconds % 60
            );
            let fraction = format!(".{fraction:09}");
            let fraction = fraction.trim_end_matches('0').trim_end_matches('.');
            assert_eq!(*text, of_day + fraction);
        }
        (_, Value::Timestamp(found) | Value::TimestampTz(found)) => {
            assert_eq!(Some(*found), micros, "{number} {encoding}");
            assert!(in_range(micros), "{number} {encoding}");
        }
        // The limits of nanoseconds lie in 1677 and 2262, and stand for infinity all the same.
        (_, Value::OutOfRange(text)) if encoding == "nanos" => {
            let limit = number == i64::MIN || number == i64::MAX;
            assert!(limit && text.ends_with("infinity"), "{number} {text}");
        }
        (_, Value::OutOfRange(_)) => assert!(!in_range(micros), "{number} {encoding}"),
        (_, other) => panic!("{column_type} {encoding} of {number}: {other:?}"),
    }
}

/// Whether these microseconds lie in the years 1 to 9999.
fn in_range(micros: Option<i64>) -> bool {
    let year = |year| NaiveDate::from_ymd_opt(year, 1, 1).and_then(|day| day.and_hms_opt(0, 0, 0));
    let bound = |y| year(y).expect("a date").and_utc().timestamp_micros();
    micros.is_some_and(|micros| (bound(1)..bound(10_000)).contains(&micros))
}

fn date_text(days: i32) -> String {
    let day = DateTime::from_timestamp(i64::from(days) * 86_400, 0).expect("in range");
    day.format("%Y-%m-%d").to_string()
}

fn timestamp_text(micros: i64) -> String {
    let moment = DateTime::from_timestamp_micros(micros).expect("in range");
    moment.format("%Y-%m-%dT%H:%M:%S%.6f").to_string()
}
