//! Partition values as people read them, and as folders of a path.

use super::Transform;
use super::transform::civil;
use crate::value::Value;

/// What a folder is called where there is no value, or an empty one: Hive's word.
const NOTHING: &str = "__HIVE_DEFAULT_PARTITION__";
/// Characters of a folder's name that a value gets: file systems allow 255 bytes for the whole, an
/// object store 1024 for the path. Only the log tells a value; its folder need not.
const VALUE_BYTES_MAX: usize = 120;

/// The text of a partition value: that of Iceberg's own paths (`2026-01` for a month). `None` for
/// NULL.
pub fn partition_text(transform: Transform, value: &Value) -> Option<String> {
    Some(match (transform, value) {
        (_, Value::Null | Value::Unavailable) => return None,
        (Transform::Year, Value::Long(years)) => format!("{:04}", years + 1970),
        (Transform::Month, Value::Long(months)) => {
            let (year, month) = (months.div_euclid(12) + 1970, months.rem_euclid(12) + 1);
            format!("{year:04}-{month:02}")
        }
        (Transform::Hour, Value::Long(hours)) => {
            let (days, hour) = (hours.div_euclid(24), hours.rem_euclid(24));
            format!("{}-{hour:02}", date_text(days))
        }
        (_, Value::Date(days)) => date_text(i64::from(*days)),
        (_, Value::Boolean(value)) => value.to_string(),
        (_, Value::Long(value)) => value.to_string(),
        (_, Value::Decimal { unscaled, scale }) => decimal_text(*unscaled, *scale),
        (_, Value::Timestamp(micros)) => moment_text(*micros, ""),
        (_, Value::TimestampTz(micros)) => moment_text(*micros, "Z"),
        (_, Value::Text(text)) => text.clone(),
        // No column of another type is partitioned by.
        (_, _) => return None,
    })
}

/// `YYYY-MM-DD`.
fn date_text(days: i64) -> String {
    let (year, month) = civil(days);
    let first = (0..31).take_while(|back| civil(days - back) == (year, month)).count();
    format!("{year:04}-{month:02}-{first:02}")
}

/// ISO 8601, in microseconds where there are any.
fn moment_text(micros: i64, zone: &str) -> String {
    const DAY: i64 = 86_400_000_000;
    let (days, rest) = (micros.div_euclid(DAY), micros.rem_euclid(DAY));
    let (seconds, fraction) = (rest / 1_000_000, rest % 1_000_000);
    let (hour, minute, second) = (seconds / 3600, seconds / 60 % 60, seconds % 60);
    let fraction = if fraction == 0 { String::new() } else { format!(".{fraction:06}") };
    format!("{}T{hour:02}:{minute:02}:{second:02}{fraction}{zone}", date_text(days))
}

/// All digits, with the point where the scale says.
pub fn decimal_text(unscaled: i128, scale: u8) -> String {
    let scale = usize::from(scale);
    let digits = format!("{:0>width$}", unscaled.unsigned_abs(), width = scale + 1);
    let (whole, fraction) = digits.split_at(digits.len() - scale);
    let sign = if unscaled < 0 { "-" } else { "" };
    let point = if scale > 0 { "." } else { "" };
    format!("{sign}{whole}{point}{fraction}")
}

/// `name=value`, a folder of a path as Hive writes it: ASCII, with everything but letters, digits,
/// `.`, `_` and `-` as `%XX` of its UTF-8, cut after some 120 of them.
pub fn folder(name: &str, transform: Transform, value: &Value) -> String {
    let text = partition_text(transform, value).filter(|text| !text.is_empty());
    let mut folder = format!("{name}=");
    let Some(text) = text else { return folder + NOTHING };
    let longest = folder.len() + VALUE_BYTES_MAX;
    for character in text.chars() {
        let mut utf8 = [0; 4];
        let bytes = character.encode_utf8(&mut utf8).as_bytes();
        let is_plain = character.is_ascii_alphanumeric() || "._-".contains(character);
        let length = if is_plain { 1 } else { 3 * bytes.len() };
        if folder.len() + length > longest {
            break;
        }
        match is_plain {
            true => folder.push(character),
            false => bytes.iter().for_each(|byte| folder.push_str(&format!("%{byte:02X}"))),
        }
    }
    folder
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text(transform: Transform, value: Value) -> String {
        partition_text(transform, &value).expect("a value")
    }

    #[test]
    fn values_are_written_as_in_paths_of_iceberg() {
        assert_eq!(text(Transform::Year, Value::Long(47)), "2017");
        assert_eq!(text(Transform::Month, Value::Long(574)), "2017-11");
        assert_eq!(text(Transform::Month, Value::Long(-1)), "1969-12");
        assert_eq!(text(Transform::Day, Value::Date(17_486)), "2017-11-16");
        assert_eq!(text(Transform::Day, Value::Date(-1)), "1969-12-31");
        assert_eq!(text(Transform::Hour, Value::Long(419_686)), "2017-11-16-22");
        assert_eq!(text(Transform::Hour, Value::Long(-1)), "1969-12-31-23");
        assert_eq!(text(Transform::Bucket(16), Value::Long(3)), "3");
        let identity = |value| text(Transform::Identity, value);
        assert_eq!(identity(Value::Decimal { unscaled: -5, scale: 2 }), "-0.05");
        assert_eq!(identity(Value::TimestampTz(1)), "1970-01-01T00:00:00.000001Z");
        assert_eq!(identity(Value::Timestamp(-1_000_000)), "1969-12-31T23:59:59");
        assert_eq!(identity(Value::Boolean(true)), "true");
        assert_eq!(identity(Value::Date(-719_162)), "0001-01-01");
        assert_eq!(identity(Value::Date(2_932_896)), "9999-12-31");
    }

    #[test]
    fn a_folder_is_plain_whatever_the_value() {
        let named = |text: &str| folder("c", Transform::Identity, &Value::Text(text.to_owned()));
        assert_eq!(named("north-west_1.5"), "c=north-west_1.5");
        assert_eq!(named("a/b=c%d e"), "c=a%2Fb%3Dc%25d%20e");
        assert_eq!(named("Zürich"), "c=Z%C3%BCrich");
        assert_eq!(named("\u{0}\n\u{7F}"), "c=%00%0A%7F");
        assert_eq!(named(".."), "c=..");
        assert_eq!(named(""), "c=__HIVE_DEFAULT_PARTITION__");
        assert_eq!(folder("c", Transform::Day, &Value::Null), "c=__HIVE_DEFAULT_PARTITION__");
        for long in ["x".repeat(5000), "😀".repeat(5000)] {
            let folder = named(&long);
            assert_eq!(folder.len(), 2 + VALUE_BYTES_MAX, "no character is cut in two");
        }
    }
}
