//! The transforms themselves.

use super::murmur3::murmur3;
use super::{Transform, partition_text};
use crate::column::ColumnType;
use crate::value::{Value, digits, rescale};

const DAY_MICROS: i64 = 86_400_000_000;
const HOUR_MICROS: i64 = 3_600_000_000;

impl Transform {
    /// Whether columns of this type can be partitioned so.
    ///
    /// Narrower than the specification of Iceberg where readers are: no floating point (whose
    /// equality they do not agree about), no bytes but in buckets.
    pub fn accepts(self, column_type: &ColumnType) -> bool {
        use ColumnType as T;
        match self {
            Self::Identity => matches!(
                column_type,
                T::Boolean
                    | T::Int
                    | T::Long
                    | T::Decimal { .. }
                    | T::Date
                    | T::Timestamp
                    | T::TimestampTz
                    | T::Text
            ),
            Self::Year | Self::Month | Self::Day => {
                matches!(column_type, T::Date | T::Timestamp | T::TimestampTz)
            }
            Self::Hour => matches!(column_type, T::Timestamp | T::TimestampTz),
            Self::Bucket(_) => matches!(
                column_type,
                T::Int
                    | T::Long
                    | T::Decimal { .. }
                    | T::Date
                    | T::Timestamp
                    | T::TimestampTz
                    | T::Text
                    | T::Binary
            ),
            Self::Truncate(_) => {
                matches!(column_type, T::Int | T::Long | T::Decimal { .. } | T::Text)
            }
        }
    }

    /// The types that it accepts, for people.
    pub(super) fn accepted(self) -> String {
        let types = match self {
            Self::Identity => {
                "boolean, int, long, decimal, date, timestamp, timestamptz and text columns"
            }
            Self::Year | Self::Month | Self::Day => "date, timestamp and timestamptz columns",
            Self::Hour => "timestamp and timestamptz columns",
            Self::Bucket(_) => {
                "int, long, decimal, date, timestamp, timestamptz, text and binary columns"
            }
            Self::Truncate(_) => "int, long, decimal and text columns",
        };
        match self {
            Self::Identity => format!("values can be partitioned by in {types}"),
            other => format!("`{}` takes {types}", other.name()),
        }
    }

    /// The partition value of a column's value; NULL of NULL.
    ///
    /// `None` where there is none: the value is not of the column's type, or the result does not
    /// fit its own. Years, months, hours and buckets are [`Value::Long`], days [`Value::Date`], a
    /// truncated value is of the column's type.
    pub fn apply(self, value: &Value, column_type: &ColumnType) -> Option<Value> {
        if value.is_null() {
            return Some(Value::Null);
        }
        Some(match self {
            Self::Identity => value.clone(),
            Self::Year => Value::Long(civil(days(value)?).0 - 1970),
            Self::Month => {
                let (year, month) = civil(days(value)?);
                Value::Long((year - 1970) * 12 + i64::from(month) - 1)
            }
            Self::Day => Value::Date(i32::try_from(days(value)?).ok()?),
            Self::Hour => {
                let (Value::Timestamp(micros) | Value::TimestampTz(micros)) = value else {
                    return None;
                };
                let hours = i32::try_from(micros.div_euclid(HOUR_MICROS)).ok()?;
                Value::Long(i64::from(hours))
            }
            Self::Bucket(buckets) => {
                let hash = hash(value, column_type)? & i32::MAX;
                Value::Long(i64::from(hash) % i64::from(buckets))
            }
            Self::Truncate(width) => truncated(value, column_type, width)?,
        })
    }
}

impl Transform {
    /// The type of a column that holds partition values of a column of `column_type`.
    pub fn stored_as(self, column_type: &ColumnType) -> ColumnType {
        match self {
            Self::Year | Self::Bucket(_) => ColumnType::Long,
            Self::Month | Self::Hour => ColumnType::Text,
            Self::Day => ColumnType::Date,
            Self::Identity | Self::Truncate(_) => column_type.clone(),
        }
    }

    /// A partition value as such a column holds it: years as the calendar counts them, months and
    /// hours as text that sorts (`2026-01`, `2026-01-31-23`), everything else as it is.
    pub fn stored(self, applied: Value) -> Value {
        match (self, applied) {
            (Self::Year, Value::Long(years)) => Value::Long(years + 1970),
            (Self::Month | Self::Hour, value) => {
                partition_text(self, &value).map_or(Value::Null, Value::Text)
            }
            (_, value) => value,
        }
    }
}

/// Days since 1970-01-01 of a date or a timestamp.
fn days(value: &Value) -> Option<i64> {
    match value {
        Value::Date(days) => Some(i64::from(*days)),
        Value::Timestamp(micros) | Value::TimestampTz(micros) => {
            Some(micros.div_euclid(DAY_MICROS))
        }
        _ => None,
    }
}

/// Year and month (1 to 12) of a day, in the proleptic Gregorian calendar.
pub(super) fn civil(days: i64) -> (i64, u32) {
    // Years from March on, in eras of 400 years, so that leap days come last.
    let days = days + 719_468;
    let (era, of_era) = (days.div_euclid(146_097), days.rem_euclid(146_097));
    let year = (of_era - of_era / 1_460 + of_era / 36_524 - of_era / 146_096) / 365;
    let of_year = of_era - (365 * year + year / 4 - year / 100);
    let month = (5 * of_year + 2) / 153;
    let (month, next) = if month < 10 { (month + 3, 0) } else { (month - 9, 1) };
    (era * 400 + year + next, month as u32)
}

/// The 32-bit hash of a value that is not NULL.
fn hash(value: &Value, column_type: &ColumnType) -> Option<i32> {
    let long = |value: i64| murmur3(&value.to_le_bytes());
    Some(match value {
        Value::Long(value) | Value::Timestamp(value) | Value::TimestampTz(value) => long(*value),
        Value::Date(days) => long(i64::from(*days)),
        Value::Decimal { .. } => {
            let bytes = unscaled(value, column_type)?.to_be_bytes();
            murmur3(&bytes[needless(&bytes)..])
        }
        Value::Text(text) => murmur3(text.as_bytes()),
        Value::Binary(bytes) => murmur3(bytes),
        _ => return None,
    })
}

/// How many leading bytes of a two's complement number say nothing.
fn needless(bytes: &[u8; 16]) -> usize {
    let sign = if bytes[0] & 0x80 == 0 { 0 } else { 0xFF };
    let says_nothing = |at: &usize| bytes[*at] == sign && (bytes[at + 1] ^ sign) & 0x80 == 0;
    (0..15).take_while(says_nothing).count()
}

/// A decimal's digits in the scale of its column.
fn unscaled(value: &Value, column_type: &ColumnType) -> Option<i128> {
    match (value, column_type) {
        (Value::Decimal { unscaled, scale }, ColumnType::Decimal { scale: to, .. }) => {
            rescale(*unscaled, *scale, *to)
        }
        _ => None,
    }
}

fn truncated(value: &Value, column_type: &ColumnType, width: u32) -> Option<Value> {
    Some(match (value, column_type) {
        // Both wrap around below the smallest number, as Iceberg's own implementation does.
        (Value::Long(value), ColumnType::Int) => {
            let (value, width) = (i32::try_from(*value).ok()?, i32::try_from(width).ok()?);
            Value::Long(i64::from(value.wrapping_sub(value.rem_euclid(width))))
        }
        (Value::Long(value), _) => {
            Value::Long(value.wrapping_sub(value.rem_euclid(i64::from(width))))
        }
        (Value::Decimal { .. }, ColumnType::Decimal { precision, scale }) => {
            let unscaled = unscaled(value, column_type)?;
            let unscaled = unscaled.checked_sub(unscaled.rem_euclid(i128::from(width)))?;
            if digits(unscaled) > u32::from(*precision) {
                return None;
            }
            Value::Decimal { unscaled, scale: *scale }
        }
        (Value::Text(text), _) => {
            let end = text.char_indices().nth(width as usize).map_or(text.len(), |(at, _)| at);
            Value::Text(text[..end].to_owned())
        }
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    const DECIMAL: ColumnType = ColumnType::Decimal { precision: 9, scale: 2 };

    fn decimal(unscaled: i128) -> Value {
        Value::Decimal { unscaled, scale: 2 }
    }

    /// 2017-11-16T22:31:08, the moment of the specification's vectors.
    const MOMENT: i64 = 1_510_871_468_000_000;
    const MOMENT_DAY: i32 = 17_486;

    #[test]
    fn hashes_are_those_of_the_specification() {
        let text = Value::Text("iceberg".into());
        let uuid = 0xF79C_3E09_677C_4BBD_A479_3F34_9CB7_85E7_u128.to_be_bytes();
        for (value, column_type, expected) in [
            (Value::Long(34), ColumnType::Int, 2_017_239_379),
            (Value::Long(34), ColumnType::Long, 2_017_239_379),
            (decimal(1420), DECIMAL, -500_754_589),
            (Value::Decimal { unscaled: 142, scale: 1 }, DECIMAL, -500_754_589),
            (Value::Date(MOMENT_DAY), ColumnType::Date, -653_330_422),
            (Value::Timestamp(MOMENT), ColumnType::Timestamp, -2_047_944_441),
            (Value::TimestampTz(MOMENT), ColumnType::TimestampTz, -2_047_944_441),
            (Value::Timestamp(MOMENT + 1), ColumnType::Timestamp, -1_207_196_810),
            (text, ColumnType::Text, 1_210_000_089),
            (Value::Binary(vec![0, 1, 2, 3]), ColumnType::Binary, -188_683_207),
            (Value::Binary(uuid.to_vec()), ColumnType::Binary, 1_488_055_340),
        ] {
            assert_eq!(hash(&value, &column_type), Some(expected), "{value:?}");
            let bucket = i64::from(expected & i32::MAX) % 16;
            let applied = Transform::Bucket(16).apply(&value, &column_type);
            assert_eq!(applied, Some(Value::Long(bucket)));
        }
    }

    #[test]
    fn decimals_are_hashed_as_short_as_can_be() {
        let short = |value: i128| {
            let bytes = value.to_be_bytes();
            bytes[needless(&bytes)..].to_vec()
        };
        assert_eq!(short(0), [0]);
        assert_eq!(short(-1), [0xFF]);
        assert_eq!(short(127), [0x7F]);
        assert_eq!(short(128), [0, 0x80]);
        assert_eq!(short(-128), [0x80]);
        assert_eq!(short(-129), [0xFF, 0x7F]);
        assert_eq!(short(i128::MIN).len(), 16);
    }

    #[test]
    fn dates_and_moments_count_down_before_1970() {
        let of = |transform: Transform, micros: i64| {
            transform.apply(&Value::TimestampTz(micros), &ColumnType::TimestampTz)
        };
        let long = |value: i64| Some(Value::Long(value));
        assert_eq!(of(Transform::Year, MOMENT), long(47));
        assert_eq!(of(Transform::Month, MOMENT), long(574));
        assert_eq!(of(Transform::Day, MOMENT), Some(Value::Date(MOMENT_DAY)));
        assert_eq!(of(Transform::Hour, MOMENT), long(419_686));
        // The last moment of 1969.
        assert_eq!(of(Transform::Year, -1), long(-1));
        assert_eq!(of(Transform::Month, -1), long(-1));
        assert_eq!(of(Transform::Day, -1), Some(Value::Date(-1)));
        assert_eq!(of(Transform::Hour, -1), long(-1));
        assert_eq!(of(Transform::Year, 0), long(0));
        // 1969-01-01, and the day before it.
        assert_eq!(of(Transform::Month, -365 * DAY_MICROS), long(-12));
        assert_eq!(of(Transform::Month, -366 * DAY_MICROS), long(-13));
        assert_eq!(of(Transform::Hour, i64::MAX), None);
    }

    #[test]
    fn years_and_months_are_those_of_the_calendar() {
        use chrono::Datelike;
        let epoch = chrono::NaiveDate::from_ymd_opt(1970, 1, 1).expect("a date");
        for days in (-719_162..=2_932_896).step_by(13).chain([-1, 0, 58, 59, 60, 789, 790]) {
            let date = epoch + chrono::TimeDelta::days(days);
            assert_eq!(civil(days), (i64::from(date.year()), date.month()), "{date}");
        }
    }

    #[test]
    fn truncation_goes_down_also_below_zero_and_cuts_between_characters() {
        let of = |value: Value, column_type: &ColumnType, width: u32| {
            Transform::Truncate(width).apply(&value, column_type)
        };
        let long = |value: i64| Some(Value::Long(value));
        assert_eq!(of(Value::Long(1), &ColumnType::Long, 10), long(0));
        assert_eq!(of(Value::Long(-1), &ColumnType::Long, 10), long(-10));
        assert_eq!(of(Value::Long(-1), &ColumnType::Int, 10), long(-10));
        let lowest = Value::Long(i64::from(i32::MIN));
        assert_eq!(of(lowest, &ColumnType::Int, 10), long(2_147_483_646));
        assert_eq!(of(decimal(1065), &DECIMAL, 50), Some(decimal(1050)));
        assert_eq!(of(decimal(-5), &DECIMAL, 10), Some(decimal(-10)));
        let narrow = ColumnType::Decimal { precision: 2, scale: 0 };
        assert_eq!(of(Value::Decimal { unscaled: -99, scale: 0 }, &narrow, 70), None);
        let text = |text: &str| Value::Text(text.to_owned());
        assert_eq!(of(text("iceberg"), &ColumnType::Text, 3), Some(text("ice")));
        assert_eq!(of(text("üñîçødé"), &ColumnType::Text, 3), Some(text("üñî")));
        assert_eq!(of(text("ab"), &ColumnType::Text, 3), Some(text("ab")));
    }

    #[test]
    fn a_column_holds_partition_values_as_people_read_them() {
        let of = |transform: Transform| {
            let applied = transform.apply(&Value::Timestamp(MOMENT), &ColumnType::Timestamp);
            transform.stored(applied.expect("a value"))
        };
        assert_eq!(of(Transform::Year), Value::Long(2017));
        assert_eq!(of(Transform::Month), Value::Text("2017-11".into()));
        assert_eq!(of(Transform::Day), Value::Date(MOMENT_DAY));
        assert_eq!(of(Transform::Hour), Value::Text("2017-11-16-22".into()));
        for transform in [Transform::Year, Transform::Month, Transform::Hour, Transform::Day] {
            assert!(of(transform).fits(&transform.stored_as(&ColumnType::Timestamp)));
            assert_eq!(transform.stored(Value::Null), Value::Null);
        }
    }

    #[test]
    fn null_is_a_partition_of_its_own() {
        for transform in [Transform::Identity, Transform::Hour, Transform::Bucket(4)] {
            assert_eq!(transform.apply(&Value::Null, &ColumnType::Timestamp), Some(Value::Null));
        }
    }
}
