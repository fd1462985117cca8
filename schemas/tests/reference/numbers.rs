//! Numbers as digits in a text, and days as dates.

use chrono::{Datelike, NaiveDate};

use super::tree::{Content, Node};

/// Digits, and places of the point, beyond which nobody has to follow.
const DIGITS_MAX: usize = 16_384;

/// `±digits / 10^scale`.
#[derive(Debug, Clone)]
pub(crate) struct Number {
    negative: bool,
    /// Without leading zeros; `0` for zero.
    digits: String,
    scale: i64,
}

impl Number {
    /// From `-12.5e-3` and the like. A sign may be a plus, too, as decimals in strings may have it.
    pub(crate) fn parse(text: &str) -> Option<Self> {
        let unsigned = text.strip_prefix(['-', '+']).unwrap_or(text);
        let (mantissa, exponent) = match unsigned.split_once(['e', 'E']) {
            Some((mantissa, exponent)) => (mantissa, exponent.parse::<i32>().ok()?.into()),
            None => (unsigned, 0),
        };
        let (whole, fraction) = mantissa.split_once('.').unwrap_or((mantissa, ""));
        let digits = format!("{whole}{fraction}");
        let proper = !digits.is_empty() && digits.chars().all(|c| c.is_ascii_digit());
        let scale = fraction.len() as i64 - exponent;
        if !proper || mantissa.len() > DIGITS_MAX || scale.unsigned_abs() > DIGITS_MAX as u64 {
            return None;
        }
        Some(Self::new(text.starts_with('-'), &digits, scale))
    }

    /// Two's complement, the highest byte first.
    pub(crate) fn from_bytes(bytes: &[u8], scale: i64) -> Option<Self> {
        let negative = *bytes.first()? >= 0x80;
        // Decimal digits, the lowest first: times 256, plus the next byte.
        let mut decimal: Vec<u32> = vec![0];
        let add = |decimal: &mut Vec<u32>, factor: u32, more: u32| {
            let mut carry = more;
            for digit in decimal.iter_mut() {
                let sum = *digit * factor + carry;
                (*digit, carry) = (sum % 10, sum / 10);
            }
            while carry > 0 {
                decimal.push(carry % 10);
                carry /= 10;
            }
        };
        for byte in bytes {
            // Of a negative number, its complement: one less than its magnitude.
            let byte = if negative { !byte } else { *byte };
            add(&mut decimal, 256, byte.into());
        }
        if negative {
            add(&mut decimal, 1, 1);
        }
        let digits: String =
            decimal.iter().rev().filter_map(|digit| char::from_digit(*digit, 10)).collect();
        Some(Self::new(negative, &digits, scale))
    }

    fn new(negative: bool, digits: &str, scale: i64) -> Self {
        let digits = digits.trim_start_matches('0');
        let digits = if digits.is_empty() { "0" } else { digits };
        Self { negative: negative && digits != "0", digits: digits.to_owned(), scale }
    }

    /// The integer that is this number times `10^scale`, if it is one of at most `precision`
    /// digits.
    pub(crate) fn unscaled(&self, precision: usize, scale: i64) -> Option<i128> {
        if self.digits == "0" {
            return Some(0);
        }
        let mut digits = self.digits.clone();
        for _ in self.scale..scale {
            digits.push('0');
        }
        for _ in scale..self.scale {
            if digits.pop() != Some('0') {
                return None;
            }
        }
        let integer: i128 =
            if digits.len() <= precision { digits.parse().ok()? } else { return None };
        Some(if self.negative { -integer } else { integer })
    }

    /// All digits, the point where the scale puts it.
    pub(crate) fn plain(&self) -> String {
        let sign = if self.negative { "-" } else { "" };
        if self.scale <= 0 {
            let zeros = if self.digits == "0" { 0 } else { self.scale.unsigned_abs() as usize };
            return format!("{sign}{}{}", self.digits, "0".repeat(zeros));
        }
        let scale = self.scale as usize;
        let digits = format!("{:0>width$}", self.digits, width = scale + 1);
        let (whole, fraction) = digits.split_at(digits.len() - scale);
        format!("{sign}{whole}.{fraction}")
    }

    /// [`Self::plain`] without zeros at the end of the fraction.
    pub(crate) fn stripped(&self) -> String {
        let plain = self.plain();
        match plain.contains('.') {
            true => plain.trim_end_matches('0').trim_end_matches('.').to_owned(),
            false => plain,
        }
    }
}

/// A number that is an integer of 64 bits, however it is written.
pub(crate) fn integer(node: &Node<'_>) -> Option<i64> {
    if node.content != Content::Number {
        return None;
    }
    i64::try_from(Number::parse(node.raw)?.unscaled(19, 0)?).ok()
}

/// The date of a day number: the calendar repeats every 400 years, and `chrono` has some of them.
pub(crate) fn date_text(days: i64) -> String {
    const CYCLE: i64 = 146_097;
    let (cycles, of_cycle) = (days.div_euclid(CYCLE), days.rem_euclid(CYCLE));
    let epoch = NaiveDate::from_ymd_opt(1970, 1, 1).expect("a date");
    let date = epoch + chrono::Days::new(of_cycle as u64);
    let year = i64::from(date.year()) + 400 * cycles;
    let sign = match year {
        ..0 => "-",
        0..=9_999 => "",
        _ => "+",
    };
    format!("{sign}{:04}-{:02}-{:02}", year.unsigned_abs(), date.month(), date.day())
}

/// The day number of a date, if there is such a date.
pub(crate) fn day_number(year: i64, month: u32, day: u32) -> Option<i64> {
    let (cycles, of_cycle) = (year.div_euclid(400), year.rem_euclid(400) + 2_000);
    let date = NaiveDate::from_ymd_opt(of_cycle as i32, month, day)?;
    let epoch = NaiveDate::from_ymd_opt(1970, 1, 1).expect("a date");
    Some(date.signed_duration_since(epoch).num_days() + (cycles - 5) * 146_097)
}
