//! Numbers by their text.

use crate::decimal::Decimal;

/// An integer of 64 bits, however it is written; `None` if it is none or has a fraction.
pub(super) fn integer(text: &str) -> Option<i64> {
    if let Ok(integer) = text.parse() {
        return Some(integer);
    }
    if text.bytes().all(|byte| byte.is_ascii_digit() || byte == b'-') {
        return None;
    }
    let unscaled = Decimal::parse(text)?.unscaled(19, 0)?;
    i64::try_from(unscaled).ok()
}

/// The `f64` that says the same as a number's text: printed with as many digits, it gives the text
/// again. Every text that a double was written as is one (`0.1`, `4.9E-324`); a decimal with more
/// digits than a double carries is not.
pub fn exact_double(text: &str) -> Option<f64> {
    let value: f64 = text.parse().ok()?;
    let mantissa = text.bytes().take_while(|byte| !matches!(byte, b'e' | b'E'));
    let significant =
        mantissa.filter(u8::is_ascii_digit).skip_while(|digit| *digit == b'0').count();
    if significant == 0 {
        return Some(value);
    }
    // Any decimal of 15 digits survives the way to f64 and back, but for the ends of its range.
    if significant <= 15 && (1e-290..1e290).contains(&value.abs()) {
        return Some(value);
    }
    if !value.is_finite() || value == 0.0 {
        return None;
    }
    let written = Decimal::parse(text)?;
    // Halfway between two texts of as many digits, printers differ in which one they take.
    let printed = [format!("{value:.0$e}", significant - 1), format!("{value:e}")];
    printed
        .iter()
        .filter_map(|text| Decimal::parse(text))
        .any(|printed| same(&written, &printed))
        .then_some(value)
}

/// Whether two decimals are the same number.
fn same(a: &Decimal, b: &Decimal) -> bool {
    let normal = |decimal: &Decimal| {
        let digits = decimal.digits.trim_end_matches('0');
        let cut = i32::try_from(decimal.digits.len() - digits.len()).unwrap_or(i32::MAX);
        (digits.to_owned(), decimal.scale.saturating_sub(cut))
    };
    a.negative == b.negative && normal(a) == normal(b)
}
