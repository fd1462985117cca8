//! Exact decimals: between Connect's bytes, number texts and unscaled integers. Never through f64.

/// Digits beyond which a number is refused: PostgreSQL's largest scale, and far more than any
/// column of a real table.
pub(crate) const DIGITS_MAX: usize = 16_384;

/// A decimal of any size: `±digits / 10^scale`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Decimal {
    pub(crate) negative: bool,
    /// Without leading zeros; `0` for zero.
    pub(crate) digits: String,
    pub(crate) scale: i32,
}

impl Decimal {
    /// From two's complement, big-endian: Connect's unscaled value. `None` for no bytes or more
    /// than [`DIGITS_MAX`] digits.
    pub(crate) fn from_bytes(bytes: &[u8], scale: i32) -> Option<Self> {
        if let Some(unscaled) = i128_from_bytes(bytes) {
            let digits = unscaled.unsigned_abs().to_string();
            return Some(Self { negative: unscaled < 0, digits, scale });
        }
        let negative = *bytes.first()? >= 0x80;
        // log10(256) < 2.41.
        if bytes.len() * 241 / 100 > DIGITS_MAX {
            return None;
        }
        Some(Self { negative, digits: magnitude_digits(bytes, negative), scale })
    }

    /// From a number in plain or exponent notation. `None` if it is none, or beyond [`DIGITS_MAX`].
    pub(crate) fn parse(text: &str) -> Option<Self> {
        let (negative, rest) = match text.as_bytes().first()? {
            b'-' => (true, &text[1..]),
            b'+' => (false, &text[1..]),
            _ => (false, text),
        };
        let (mantissa, exponent) = match rest.find(['e', 'E']) {
            Some(at) => (&rest[..at], rest[at + 1..].parse::<i32>().ok()?),
            None => (rest, 0),
        };
        let (whole, fraction) = mantissa.split_once('.').unwrap_or((mantissa, ""));
        let numeric = |part: &str| part.bytes().all(|byte| byte.is_ascii_digit());
        let empty = whole.is_empty() && fraction.is_empty();
        if empty || !numeric(whole) || !numeric(fraction) || mantissa.len() > DIGITS_MAX {
            return None;
        }
        let scale = i32::try_from(fraction.len()).ok()?.checked_sub(exponent)?;
        if scale.unsigned_abs() as usize > DIGITS_MAX {
            return None;
        }
        let digits = format!("{whole}{fraction}");
        let digits = digits.trim_start_matches('0');
        let digits = if digits.is_empty() { "0" } else { digits };
        Some(Self { negative: negative && digits != "0", digits: digits.to_owned(), scale })
    }

    /// The unscaled value at `scale`; `None` where digits would be lost or it has more than
    /// `precision` digits.
    pub(crate) fn unscaled(&self, precision: u8, scale: u8) -> Option<i128> {
        let mut digits = self.digits.as_str();
        let mut shift = i64::from(scale) - i64::from(self.scale);
        if digits == "0" {
            return Some(0);
        }
        while shift < 0 {
            digits = digits.strip_suffix('0')?;
            shift += 1;
        }
        let length = digits.len() as i64 + shift;
        if length > i64::from(precision) {
            return None;
        }
        let magnitude: i128 = digits.parse().ok()?;
        let magnitude = magnitude.checked_mul(10i128.checked_pow(u32::try_from(shift).ok()?)?)?;
        Some(if self.negative { -magnitude } else { magnitude })
    }

    /// Plain notation with all digits of the scale: `-0.001`, `120`, `1.10`.
    pub(crate) fn plain(&self) -> String {
        let sign = if self.negative { "-" } else { "" };
        let Ok(scale) = usize::try_from(self.scale) else {
            let zeros = if self.digits == "0" { 0 } else { self.scale.unsigned_abs() as usize };
            return format!("{sign}{}{}", self.digits, "0".repeat(zeros));
        };
        if scale == 0 {
            return format!("{sign}{}", self.digits);
        }
        if self.digits.len() <= scale {
            let zeros = "0".repeat(scale - self.digits.len());
            return format!("{sign}0.{zeros}{}", self.digits);
        }
        let (whole, fraction) = self.digits.split_at(self.digits.len() - scale);
        format!("{sign}{whole}.{fraction}")
    }

    /// Without trailing zeros after the point.
    pub(crate) fn stripped(mut self) -> Self {
        while self.scale > 0 && self.digits.len() > 1 && self.digits.ends_with('0') {
            self.digits.pop();
            self.scale -= 1;
        }
        if self.digits == "0" {
            self.scale = 0;
        }
        self
    }
}

/// Plain notation of an unscaled value.
pub(crate) fn plain_i128(unscaled: i128, scale: i32) -> String {
    let digits = unscaled.unsigned_abs().to_string();
    Decimal { negative: unscaled < 0, digits, scale }.plain()
}

/// Two's complement, big-endian, as an integer; `None` for no bytes or more than 128 bits.
pub(crate) fn i128_from_bytes(bytes: &[u8]) -> Option<i128> {
    let fill = if *bytes.first()? >= 0x80 { 0xff } else { 0 };
    let mut rest = bytes;
    while rest.len() > 16 && rest[0] == fill {
        rest = &rest[1..];
    }
    // What is left has to carry the sign itself.
    if rest.len() > 16 || (rest.len() == 16 && (rest[0] >= 0x80) != (fill == 0xff)) {
        return None;
    }
    let mut whole = [fill; 16];
    whole[16 - rest.len()..].copy_from_slice(rest);
    Some(i128::from_be_bytes(whole))
}

/// Decimal digits of the magnitude of a two's complement number of any length.
fn magnitude_digits(bytes: &[u8], negative: bool) -> String {
    const LIMB: u64 = 10_000_000_000_000_000_000;
    let mut limbs: Vec<u64> = vec![0; bytes.len().div_ceil(8)];
    let mut carry = negative;
    for (index, byte) in bytes.iter().rev().enumerate() {
        let (magnitude, overflow) = match negative {
            true => (!byte).overflowing_add(u8::from(carry)),
            false => (*byte, false),
        };
        carry = overflow;
        limbs[index / 8] |= u64::from(magnitude) << (index % 8 * 8);
    }
    if negative && carry {
        // The magnitude of -2^n has one bit more than its bytes, all of which are zero now.
        if bytes.len().is_multiple_of(8) {
            limbs.push(1);
        } else {
            limbs[bytes.len() / 8] |= 1 << (bytes.len() % 8 * 8);
        }
    }
    let mut groups = Vec::new();
    while limbs.last().is_some_and(|limb| *limb == 0) {
        limbs.pop();
    }
    while !limbs.is_empty() {
        let mut remainder = 0u64;
        for limb in limbs.iter_mut().rev() {
            let whole = (u128::from(remainder) << 64) | u128::from(*limb);
            // Both fit: the remainder is smaller than the divisor, which is smaller than 2^64.
            *limb = (whole / u128::from(LIMB)) as u64;
            remainder = (whole % u128::from(LIMB)) as u64;
        }
        groups.push(remainder);
        while limbs.last().is_some_and(|limb| *limb == 0) {
            limbs.pop();
        }
    }
    let mut digits = groups.pop().unwrap_or(0).to_string();
    groups.iter().rev().for_each(|group| digits.push_str(&format!("{group:019}")));
    digits
}

#[cfg(test)]
mod tests {
    use base64::Engine;
    use base64::engine::general_purpose::STANDARD;
    use proptest::prelude::*;

    use super::*;

    fn decoded(base64: &str) -> Vec<u8> {
        STANDARD.decode(base64).expect("base64")
    }

    #[test]
    fn connects_bytes_give_the_known_values() {
        for (base64, value) in [
            ("AY/J", 102_345),
            ("/w==", -1),
            ("AIA=", 128),
            ("AKtUqYzrHwrS", 12_345_678_901_234_567_890),
            ("AA==", 0),
            ("gA==", -128),
        ] {
            assert_eq!(i128_from_bytes(&decoded(base64)), Some(value), "{base64}");
        }
        assert_eq!(Decimal::from_bytes(&decoded("AY/J"), 4).expect("decimal").plain(), "10.2345");
        assert_eq!(i128_from_bytes(&[]), None);
        assert_eq!(Decimal::from_bytes(&[], 0), None);
    }

    #[test]
    fn numbers_beyond_128_bits_keep_every_digit() {
        let bytes = decoded("E6r1BOS8HmIXP4ekN4w3tJyMz/GWzj8K0g==");
        let text = "1234567890123456789012345678901234567890.12345678901234567890";
        assert_eq!(Decimal::from_bytes(&bytes, 20).expect("decimal").plain(), text);
        let mut lowest = vec![0x80];
        lowest.extend([0; 16]);
        let digits = Decimal::from_bytes(&lowest, 0).expect("decimal");
        assert_eq!(digits.plain(), "-43556142965880123323311949751266331066368");
        assert_eq!(i128_from_bytes(&[vec![0], vec![0xff; 16]].concat()), None);
        assert_eq!(i128_from_bytes(&[vec![0xff], vec![0xff; 16]].concat()), Some(-1));
        assert_eq!(Decimal::from_bytes(&[1; 8_000], 0), None);
    }

    #[test]
    fn number_texts_are_read_exactly() {
        for (text, plain) in [
            ("1e30", "1000000000000000000000000000000"),
            ("-1.5e-3", "-0.0015"),
            ("0.00", "0.00"),
            ("-0", "0"),
            ("1.10", "1.10"),
            ("+12", "12"),
            (".5", "0.5"),
            ("12E+2", "1200"),
        ] {
            assert_eq!(Decimal::parse(text).expect(text).plain(), plain);
        }
        for text in ["", "-", ".", "1e", "NaN", "0x1", "1e99999", "1 ", "--1", "1.2.3"] {
            assert_eq!(Decimal::parse(text), None, "{text}");
        }
    }

    #[test]
    fn a_value_fits_a_decimal_only_with_all_its_digits() {
        let value = Decimal::parse("12.3400").expect("decimal");
        assert_eq!(value.unscaled(4, 2), Some(1_234));
        assert_eq!(value.unscaled(38, 30), Some(12_340_000_000_000_000_000_000_000_000_000));
        assert_eq!(value.unscaled(4, 1), None);
        assert_eq!(value.unscaled(3, 2), None);
        assert_eq!(Decimal::parse("1e37").expect("decimal").unscaled(38, 0), Some(10i128.pow(37)));
        assert_eq!(Decimal::parse("1e38").expect("decimal").unscaled(38, 0), None);
    }

    proptest! {
        #[test]
        fn bytes_and_texts_agree(value in any::<i128>(), scale in 0i32..50) {
            let from_bytes = Decimal::from_bytes(&value.to_be_bytes(), scale).expect("decimal");
            let from_text = Decimal::parse(&from_bytes.plain()).expect("plain notation");
            prop_assert_eq!(&from_text, &from_bytes);
            prop_assert_eq!(plain_i128(value, scale), from_bytes.plain());
        }

        #[test]
        fn the_long_way_agrees_with_the_short(value in any::<i128>(), zeros in 0usize..9) {
            let fill = if value < 0 { 0xff } else { 0 };
            let bytes = [vec![fill; zeros], value.to_be_bytes().to_vec()].concat();
            prop_assert_eq!(magnitude_digits(&bytes, value < 0), value.unsigned_abs().to_string());
            prop_assert_eq!(i128_from_bytes(&bytes), Some(value));
        }

        #[test]
        fn no_text_makes_the_reader_panic(text in "[-+0-9eE.]{0,30}|\\PC{0,20}") {
            if let Some(decimal) = Decimal::parse(&text) {
                let _ = (decimal.unscaled(38, 10), decimal.plain(), decimal.stripped());
            }
        }
    }
}
