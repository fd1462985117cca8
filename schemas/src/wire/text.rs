//! JSON as Connect's JsonConverter writes it (Jackson on Java's own texts of numbers).

use base64::Engine;
use base64::engine::general_purpose::STANDARD;

/// Appends a string with its quotes. Characters beyond 16 bits become a pair of escapes.
pub(crate) fn string(text: &str, out: &mut String) {
    out.push('"');
    let mut from = 0;
    for (at, byte) in text.bytes().enumerate() {
        let short = match byte {
            b'"' => "\\\"",
            b'\\' => "\\\\",
            b'\n' => "\\n",
            b'\r' => "\\r",
            b'\t' => "\\t",
            0x08 => "\\b",
            0x0c => "\\f",
            0..0x20 | 0xf0.. => "",
            _ => continue,
        };
        out.push_str(&text[from..at]);
        let width = if byte < 0x80 { 1 } else { 4 };
        from = at + width;
        if !short.is_empty() {
            out.push_str(short);
            continue;
        }
        for unit in text[at..from].encode_utf16() {
            out.push_str(&format!("\\u{unit:04X}"));
        }
    }
    out.push_str(&text[from..]);
    out.push('"');
}

/// Appends bytes in base64.
pub(super) fn bytes(bytes: &[u8], out: &mut String) {
    out.push('"');
    STANDARD.encode_string(bytes, out);
    out.push('"');
}

/// Appends an integer.
pub(super) fn integer(number: i64, out: &mut String) {
    use std::fmt::Write;
    // Writing to a string does not fail.
    let _ = write!(out, "{number}");
}

/// Appends a double as `Double.toString` does; what is no number, as a string.
pub(super) fn double(number: f64, out: &mut String) {
    if number.is_finite() {
        java(&format!("{number:e}"), || format!("{number:.1e}"), out);
    } else {
        special(number.is_nan(), number.is_sign_negative(), out);
    }
}

/// Appends a float as `Float.toString` does; what is no number, as a string.
pub(super) fn float(number: f32, out: &mut String) {
    if number.is_finite() {
        java(&format!("{number:e}"), || format!("{number:.1e}"), out);
    } else {
        special(number.is_nan(), number.is_sign_negative(), out);
    }
}

fn special(is_nan: bool, is_negative: bool, out: &mut String) {
    out.push_str(match (is_nan, is_negative) {
        (true, _) => "\"NaN\"",
        (false, false) => "\"Infinity\"",
        (false, true) => "\"-Infinity\"",
    });
}

/// Java's layout of the shortest digits, which come as `-1.25e-7`: plain from a thousandth to ten
/// millions, with an exponent beyond. Java writes two digits at least, and where one would do it
/// takes the nearest two.
fn java(shortest: &str, two_digits: impl Fn() -> String, out: &mut String) {
    let two = (!shortest.contains('.')).then(two_digits);
    let two = two.as_deref().filter(|two| !two.contains(".0e"));
    let shortest = two.unwrap_or(shortest);
    let (mantissa, exponent) = shortest.split_once('e').unwrap_or((shortest, "0"));
    let exponent: i32 = exponent.parse().unwrap_or(0);
    let mantissa = match mantissa.strip_prefix('-') {
        Some(positive) => {
            out.push('-');
            positive
        }
        None => mantissa,
    };
    let digits = mantissa.replace('.', "");
    if !(-3..7).contains(&exponent) {
        out.push_str(&digits[..1]);
        out.push('.');
        out.push_str(if digits.len() > 1 { &digits[1..] } else { "0" });
        out.push('E');
        out.push_str(&exponent.to_string());
    } else if exponent < 0 {
        out.push_str("0.");
        out.extend(std::iter::repeat_n('0', exponent.unsigned_abs() as usize - 1));
        out.push_str(&digits);
    } else {
        let whole = exponent.unsigned_abs() as usize + 1;
        out.push_str(&digits[..whole.min(digits.len())]);
        out.extend(std::iter::repeat_n('0', whole.saturating_sub(digits.len())));
        out.push('.');
        out.push_str(if digits.len() > whole { &digits[whole..] } else { "0" });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn written(write: impl Fn(&mut String)) -> String {
        let mut out = String::new();
        write(&mut out);
        out
    }

    #[test]
    fn numbers_look_as_java_writes_them() {
        for (number, expected) in [
            (0.0, "0.0"),
            (-0.0, "-0.0"),
            (1.0, "1.0"),
            (100.0, "100.0"),
            (123.456, "123.456"),
            (0.001, "0.001"),
            (0.000_999, "9.99E-4"),
            (9_999_999.0, "9999999.0"),
            (1.0e7, "1.0E7"),
            (-1.797_693_134_862_315_7e308, "-1.7976931348623157E308"),
            (5e-324, "4.9E-324"),
            (2e-323, "2.0E-323"),
            (1.5e-5, "1.5E-5"),
            (f64::NAN, "\"NaN\""),
            (f64::NEG_INFINITY, "\"-Infinity\""),
        ] {
            assert_eq!(written(|out| double(number, out)), expected);
        }
        assert_eq!(written(|out| float(f32::MAX, out)), "3.4028235E38");
        assert_eq!(written(|out| float(1e-45, out)), "1.4E-45");
        assert_eq!(written(|out| float(9999.999, out)), "9999.999");
        assert_eq!(written(|out| float(f32::INFINITY, out)), "\"Infinity\"");
    }

    #[test]
    fn strings_are_escaped_as_jackson_does() {
        let text = "a\"\\/\n\r\t\u{8}\u{c}\u{1}\u{1f}\u{7f}é\u{1f600}!";
        let expected = "\"a\\\"\\\\/\\n\\r\\t\\b\\f\\u0001\\u001F\u{7f}é\\uD83D\\uDE00!\"";
        assert_eq!(written(|out| string(text, out)), expected);
        assert_eq!(written(|out| bytes(&[0, 255], out)), "\"AP8=\"");
    }
}
