//! Dates and times by their components: what Debezium sends with `time.precision.mode=structured`.
//!
//! Nothing is converted at the source, so zero dates, 24:00:00 and infinity arrive as they are. What
//! no column holds comes back as text in the source's own form: `0000-00-00`, `infinity`.

use std::fmt::Write;

use crate::column::ColumnType;
use crate::field_kind::{Expected, date, instant, local};
use crate::json::{Json, Kind};
use crate::temporal::{self, Point, Unit};
use crate::value::Value;

const NANOS_A_SECOND: i64 = 1_000_000_000;
const EXPECTED: Expected = Expected("a struct of the components of a date or time");

/// What the components make up.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Structured {
    Date,
    Time,
    Timestamp,
    ZonedTime,
    ZonedTimestamp,
    Duration,
}

impl Structured {
    /// By the name that follows `io.debezium.time.Structured`.
    pub(crate) fn named(name: &str) -> Option<Self> {
        Some(match name {
            "Date" => Self::Date,
            "Time" => Self::Time,
            "Timestamp" => Self::Timestamp,
            "ZonedTime" => Self::ZonedTime,
            "ZonedTimestamp" => Self::ZonedTimestamp,
            "Duration" => Self::Duration,
            _ => return None,
        })
    }

    /// Type of the column that takes it.
    pub(crate) fn column_type(self) -> ColumnType {
        match self {
            Self::Date => ColumnType::Date,
            Self::Timestamp => ColumnType::Timestamp,
            Self::ZonedTimestamp => ColumnType::TimestampTz,
            Self::Time | Self::ZonedTime | Self::Duration => ColumnType::Text,
        }
    }
}

/// Reads a value; nanoseconds are cut to the microseconds of a timestamp column.
pub(crate) fn read(json: Json<'_, '_>, part: Structured) -> Result<Value, Expected> {
    if json.kind() != Kind::Object {
        return Err(EXPECTED);
    }
    let parts = Parts { json };
    if let Some(special) = json.get("specialValue").filter(|special| !special.is_null()) {
        let text = special.text().ok_or(EXPECTED)?;
        let infinity = match text.as_ref() {
            "POSITIVE_INFINITY" => "infinity",
            "NEGATIVE_INFINITY" => "-infinity",
            _ => return Err(EXPECTED),
        };
        return Ok(Value::OutOfRange(infinity.to_owned()));
    }
    Ok(match part {
        Structured::Date => match parts.days()? {
            Some(days) => date(temporal::date(days)),
            None => Value::OutOfRange(parts.date_text()?),
        },
        Structured::Time => Value::Text(temporal::time_of_day(parts.nanos()?, Unit::Nanos)),
        Structured::Timestamp => match parts.point("", 0)? {
            Ok(point) => local(point),
            Err(text) => Value::OutOfRange(text),
        },
        Structured::ZonedTime => {
            let time = temporal::time_of_day(parts.nanos()?, Unit::Nanos);
            Value::Text(time + &offset_text(parts.offset()?))
        }
        Structured::ZonedTimestamp => match parts.point("Z", parts.offset()?)? {
            Ok(point) => instant(point),
            Err(text) => Value::OutOfRange(text),
        },
        Structured::Duration => Value::Text(parts.duration()?),
    })
}

/// The members of a struct; one that is null or absent counts as 0.
struct Parts<'p, 'a> {
    json: Json<'p, 'a>,
}

impl Parts<'_, '_> {
    fn number(&self, name: &str, max: i64) -> Result<i64, Expected> {
        let member = self.json.get(name).filter(|member| !member.is_null());
        let Some(member) = member else { return Ok(0) };
        member.integer().filter(|number| (-max..=max).contains(number)).ok_or(EXPECTED)
    }

    fn date(&self) -> Result<[i64; 3], Expected> {
        let year = self.number("year", 999_999_999)?;
        Ok([year, self.number("month", 99)?, self.number("day", 99)?])
    }

    /// `None` where the calendar has no such date.
    fn days(&self) -> Result<Option<i64>, Expected> {
        let [year, month, day] = self.date()?;
        Ok(temporal::civil_date(year, month, day))
    }

    fn date_text(&self) -> Result<String, Expected> {
        let [year, month, day] = self.date()?;
        let sign = if year < 0 { "-" } else { "" };
        Ok(format!("{sign}{:04}-{month:02}-{day:02}", year.unsigned_abs()))
    }

    /// Fractions are nanoseconds in the first releases and picoseconds in later ones.
    fn fraction(&self) -> Result<i64, Expected> {
        let nanos = self.number("nanos", NANOS_A_SECOND - 1)?;
        Ok(nanos + self.number("picoseconds", NANOS_A_SECOND * 1_000 - 1)? / 1_000)
    }

    /// Nanoseconds since midnight.
    fn nanos(&self) -> Result<i64, Expected> {
        let (hours, minutes) = (self.number("hour", 999)?, self.number("minute", 59)?);
        let seconds = (hours * 60 + minutes) * 60 + self.number("second", 60)?;
        Ok(seconds * NANOS_A_SECOND + self.fraction()?)
    }

    /// Seconds east of UTC.
    fn offset(&self) -> Result<i64, Expected> {
        self.number("offsetSeconds", 18 * 3_600)
    }

    /// The point, or the text of one that the calendar does not have.
    fn point(&self, zone: &str, offset: i64) -> Result<Result<Point, String>, Expected> {
        let nanos = self.nanos()?;
        Ok(match self.days()? {
            Some(days) => Ok(temporal::moved(days, nanos - offset * NANOS_A_SECOND, zone)),
            None => {
                let time = temporal::time_of_day(nanos, Unit::Nanos);
                Err(format!("{}T{time}{zone}", self.date_text()?))
            }
        })
    }

    /// As `interval.handling.mode=string` writes it: `P1Y2M3DT4H5M6.78S`.
    fn duration(&self) -> Result<String, Expected> {
        let whole = |name| self.number(name, i64::from(u32::MAX));
        let (years, months, days) = (whole("years")?, whole("months")?, whole("days")?);
        let (hours, minutes) = (whole("hours")?, whole("minutes")?);
        let seconds = self.number("seconds", i64::MAX / NANOS_A_SECOND - 1)?;
        let nanos = seconds * NANOS_A_SECOND + self.fraction()?;
        let sign = if nanos < 0 { "-" } else { "" };
        let (seconds, nanos) = (nanos.abs() / NANOS_A_SECOND, nanos.abs() % NANOS_A_SECOND);
        let mut text = format!("P{years}Y{months}M{days}DT{hours}H{minutes}M{sign}{seconds}");
        if nanos > 0 {
            let digits = format!(".{nanos:09}");
            text.push_str(digits.trim_end_matches('0'));
        }
        text.push('S');
        Ok(text)
    }
}

fn offset_text(seconds: i64) -> String {
    if seconds == 0 {
        return "Z".to_owned();
    }
    let (sign, distance) = (if seconds < 0 { '-' } else { '+' }, seconds.unsigned_abs());
    let mut text = format!("{sign}{:02}:{:02}", distance / 3_600, distance / 60 % 60);
    if distance % 60 > 0 {
        // Writing into a string cannot fail.
        let _ = write!(text, ":{:02}", distance % 60);
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::json::Parser;

    fn value(part: Structured, text: &str) -> Result<Value, Expected> {
        let mut parser = Parser::default();
        read(parser.parse(text.as_bytes(), 8).expect("json"), part)
    }

    #[test]
    fn components_become_the_value_they_make_up() {
        use Structured as S;
        let text = |text: &str| Value::Text(text.to_owned());
        let outside = |text: &str| Value::OutOfRange(text.to_owned());
        for (part, json, expected) in [
            (
                S::Date,
                r#"{"year":2026,"month":2,"day":28,"specialValue":null}"#,
                Value::Date(20_512),
            ),
            (S::Date, r#"{"year":0,"month":0,"day":0}"#, outside("0000-00-00")),
            (S::Date, r#"{"year":2026,"month":2,"day":31}"#, outside("2026-02-31")),
            (S::Date, r#"{"year":-43,"month":3,"day":15}"#, outside("-0043-03-15")),
            (S::Date, r#"{"specialValue":"NEGATIVE_INFINITY"}"#, outside("-infinity")),
            (S::Time, r#"{"hour":24,"minute":0,"second":0,"nanos":0}"#, text("24:00:00")),
            (
                S::Time,
                r#"{"hour":1,"minute":2,"second":3,"picoseconds":4000000}"#,
                text("01:02:03.000004"),
            ),
            (
                S::Timestamp,
                r#"{"year":1970,"month":1,"day":2,"hour":0,"minute":0,"second":1,"nanos":1999}"#,
                Value::Timestamp(86_401_000_001),
            ),
            (
                S::Timestamp,
                r#"{"year":2026,"month":0,"day":1,"hour":5}"#,
                outside("2026-00-01T05:00:00"),
            ),
            (
                S::Timestamp,
                r#"{"specialValue":"POSITIVE_INFINITY","precision":6}"#,
                outside("infinity"),
            ),
            (
                S::ZonedTimestamp,
                r#"{"year":1970,"month":1,"day":1,"hour":1,"offsetSeconds":3600,"zoneId":"Europe/Paris"}"#,
                Value::TimestampTz(0),
            ),
            (
                S::ZonedTimestamp,
                r#"{"year":10000,"month":1,"day":1,"offsetSeconds":-1}"#,
                outside("+10000-01-01T00:00:01Z"),
            ),
            (
                S::ZonedTime,
                r#"{"hour":23,"minute":59,"second":59,"offsetSeconds":-28800}"#,
                text("23:59:59-08:00"),
            ),
            (S::ZonedTime, r#"{"hour":12,"offsetSeconds":0}"#, text("12:00:00Z")),
            (
                S::Duration,
                r#"{"years":1,"months":2,"days":3,"hours":4,"minutes":5,"seconds":6,"picoseconds":789012000000}"#,
                text("P1Y2M3DT4H5M6.789012S"),
            ),
            (
                S::Duration,
                r#"{"months":-1,"days":1,"seconds":0,"nanos":-1000}"#,
                text("P0Y-1M1DT0H0M-0.000001S"),
            ),
        ] {
            assert_eq!(value(part, json), Ok(expected), "{part:?} {json}");
        }
    }

    #[test]
    fn what_is_no_component_is_refused() {
        for json in [
            "1",
            r#"{"year":"2026"}"#,
            r#"{"year":1e9}"#,
            r#"{"year":9223372036854775807}"#,
            r#"{"specialValue":"NAN"}"#,
            r#"{"hour":-9223372036854775808}"#,
        ] {
            for part in [Structured::Timestamp, Structured::ZonedTimestamp] {
                assert_eq!(value(part, json), Err(EXPECTED), "{json}");
            }
        }
        let longest = format!(r#"{{"seconds":{}}}"#, i64::MAX);
        assert_eq!(value(Structured::Duration, &longest), Err(EXPECTED));
    }
}
