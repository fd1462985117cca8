//! Dates, times and timestamps: between Debezium's numbers and texts, and days and microseconds.
//!
//! Calendar dates are proleptic Gregorian. What every reader can read lies in the years 1 to 9999;
//! the rest is out of range and comes back as text (`infinity`, `-4712-01-01`, `+10000-01-01`).

use crate::value::Value;

/// 0001-01-01 in days since 1970-01-01.
const DAY_MIN: i64 = -719_162;
/// 9999-12-31 in days since 1970-01-01.
const DAY_MAX: i64 = 2_932_896;
const SECONDS_A_DAY: i64 = 86_400;
const MICROS_A_DAY: i64 = SECONDS_A_DAY * 1_000_000;
const NANOS_A_DAY: i64 = MICROS_A_DAY * 1_000;

/// What a number of a temporal type counts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Unit {
    Millis,
    Micros,
    Nanos,
}

impl Unit {
    fn a_second(self) -> i64 {
        match self {
            Self::Millis => 1_000,
            Self::Micros => 1_000_000,
            Self::Nanos => 1_000_000_000,
        }
    }
}

/// A point of the calendar: one that tables can hold, or its text.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Point {
    /// Days or microseconds since 1970-01-01.
    Held(i64),
    /// Outside the years 1 to 9999.
    Outside(String),
}

/// PostgreSQL's infinite dates as Debezium sends them, by the snapshot's driver, by the stream, and
/// in both ways as texts. No database has a date so far away.
const INFINITE_DAYS: [(i64, &str); 6] = [
    (-622_191_234, "infinity"),
    (2_146_033_979, "infinity"),
    (106_751_991_166, "infinity"),
    (-625_821_272, "-infinity"),
    (-2_147_472_691, "-infinity"),
    (106_748_361_128, "-infinity"),
];
/// Infinite timestamps: the limits, or the driver's sentinels, as counts and as text.
const INFINITE_COUNTS: [(i64, &str); 4] = [
    (i64::MAX, "infinity"),
    (9_223_372_036_825_200_000, "infinity"),
    (i64::MIN, "-infinity"),
    (-9_223_372_036_832_400_000, "-infinity"),
];

fn infinity(table: &[(i64, &str)], number: i64) -> Option<Point> {
    let found = table.iter().find(|(sentinel, _)| *sentinel == number);
    found.map(|(_, text)| Point::Outside((*text).to_owned()))
}

/// The date that is `days` after 1970-01-01.
pub(crate) fn date(days: i64) -> Point {
    if (DAY_MIN..=DAY_MAX).contains(&days) {
        return Point::Held(days);
    }
    infinity(&INFINITE_DAYS, days).unwrap_or_else(|| Point::Outside(date_text(days)))
}

/// The instant (`zone` is `Z`) or local time that is `count` units after 1970-01-01T00:00:00;
/// nanoseconds are cut.
pub(crate) fn timestamp(count: i64, unit: Unit, zone: &str) -> Point {
    // The driver's sentinels are ordinary times in nanoseconds; the limits are not.
    let is_limit = matches!(count, i64::MIN | i64::MAX);
    let infinite = infinity(&INFINITE_COUNTS, count).filter(|_| is_limit || unit != Unit::Nanos);
    if let Some(infinite) = infinite {
        return infinite;
    }
    let a_day = SECONDS_A_DAY * unit.a_second();
    let (days, of_day) = (count.div_euclid(a_day), count.rem_euclid(a_day));
    let nanos = of_day * (1_000_000_000 / unit.a_second());
    point(days, nanos, zone)
}

fn point(days: i64, nanos_of_day: i64, zone: &str) -> Point {
    if (DAY_MIN..=DAY_MAX).contains(&days) {
        return Point::Held(days * MICROS_A_DAY + nanos_of_day / 1_000);
    }
    let millis = i128::from(days) * 86_400_000 + i128::from(nanos_of_day / 1_000_000);
    let millis = i64::try_from(millis).ok();
    if let Some(infinite) = millis.and_then(|millis| infinity(&INFINITE_COUNTS, millis)) {
        return infinite;
    }
    let time = time_of_day(nanos_of_day, Unit::Nanos);
    Point::Outside(format!("{}T{time}{zone}", date_text(days)))
}

/// `HH:MM:SS[.f]` without trailing zeros, as PostgreSQL prints it; 24:00:00 stays, and what MySQL
/// allows beyond (negative, up to 838 hours) is printed in the same way.
pub(crate) fn time_of_day(count: i64, unit: Unit) -> String {
    let sign = if count < 0 { "-" } else { "" };
    let (count, a_second) = (count.unsigned_abs(), unit.a_second().unsigned_abs());
    let (seconds, fraction) = (count / a_second, count % a_second);
    let (hours, minutes, seconds) = (seconds / 3_600, seconds / 60 % 60, seconds % 60);
    let mut text = format!("{sign}{hours:02}:{minutes:02}:{seconds:02}");
    if fraction > 0 {
        let width = a_second.ilog10() as usize;
        let digits = format!("{fraction:0width$}");
        text.push('.');
        text.push_str(digits.trim_end_matches('0'));
    }
    text
}

/// `YYYY-MM-DD`, with a sign where the year has not four digits.
pub(crate) fn date_text(days: i64) -> String {
    let (year, month, day) = civil(days);
    match year {
        0..=9_999 => format!("{year:04}-{month:02}-{day:02}"),
        _ => {
            let (sign, year) = (if year < 0 { '-' } else { '+' }, year.unsigned_abs());
            format!("{sign}{year:04}-{month:02}-{day:02}")
        }
    }
}

/// The text of a value in a column that is text because values out of range are kept as such.
/// `None` for values that need no such text.
pub(crate) fn text(value: &Value) -> Option<String> {
    let local = |micros: i64| {
        let (days, of_day) = (micros.div_euclid(MICROS_A_DAY), micros.rem_euclid(MICROS_A_DAY));
        format!("{}T{}", date_text(days), time_of_day(of_day, Unit::Micros))
    };
    match value {
        Value::Date(days) => Some(date_text(i64::from(*days))),
        Value::Timestamp(micros) => Some(local(*micros)),
        Value::TimestampTz(micros) => Some(local(*micros) + "Z"),
        Value::Decimal { unscaled, scale } => {
            Some(crate::decimal::plain_i128(*unscaled, i32::from(*scale)))
        }
        _ => None,
    }
}

/// Reads `2017-09-15` and `2017-09-15Z` (isostring's form).
pub(crate) fn parse_date(text: &str) -> Option<Point> {
    let mut reader = Reader::new(text);
    let days = reader.date()?;
    reader.eat(b'Z');
    reader.ended().then(|| date(days))
}

/// Reads `04:05:11.789` and `04:05:11.789Z`; gives the form of [`time_of_day`].
pub(crate) fn parse_time(text: &str) -> Option<String> {
    let mut reader = Reader::new(text);
    let nanos = reader.time()?;
    reader.eat(b'Z');
    reader.ended().then(|| time_of_day(nanos, Unit::Nanos))
}

/// Reads `2019-07-09T02:28:57.123456` as local time; isostring's `Z` says nothing about a zone.
pub(crate) fn parse_timestamp(text: &str) -> Option<Point> {
    if let Some(infinite) = infinite(text) {
        return Some(infinite);
    }
    let mut reader = Reader::new(text);
    let (days, nanos) = reader.date_time()?;
    reader.eat(b'Z');
    reader.ended().then(|| point(days, nanos, ""))
}

/// Reads `2019-07-09T02:28:57.123456+02:00` as an instant.
pub(crate) fn parse_timestamp_tz(text: &str) -> Option<Point> {
    if let Some(infinite) = infinite(text) {
        return Some(infinite);
    }
    let mut reader = Reader::new(text);
    let (days, nanos) = reader.date_time()?;
    let offset_seconds = reader.zone()?;
    if !reader.ended() {
        return None;
    }
    Some(moved(days, nanos - offset_seconds * 1_000_000_000, "Z"))
}

/// Day number of a date by its parts, the year signed; `None` where there is no such date.
pub(crate) fn civil_date(year: i64, month: i64, day: i64) -> Option<i64> {
    (year.unsigned_abs() < 1_000_000_000).then(|| day_number(year, month, day))?
}

/// The point that is `nanos` after the begin of a day; they may be more than a day has, or negative.
pub(crate) fn moved(days: i64, nanos: i64, zone: &str) -> Point {
    point(days + nanos.div_euclid(NANOS_A_DAY), nanos.rem_euclid(NANOS_A_DAY), zone)
}

fn infinite(text: &str) -> Option<Point> {
    matches!(text, "infinity" | "-infinity").then(|| Point::Outside(text.to_owned()))
}

/// Year, month, day of a day number.
fn civil(days: i64) -> (i64, i64, i64) {
    // Eras of 400 years that begin on the 1st of March, so that leap days come last.
    let shifted = days + 719_468;
    let (era, of_era) = (shifted.div_euclid(146_097), shifted.rem_euclid(146_097));
    let year_of_era = (of_era - of_era / 1_460 + of_era / 36_524 - of_era / 146_096) / 365;
    let of_year = of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let shifted_month = (5 * of_year + 2) / 153;
    let day = of_year - (153 * shifted_month + 2) / 5 + 1;
    let month = if shifted_month < 10 { shifted_month + 3 } else { shifted_month - 9 };
    (year_of_era + era * 400 + i64::from(month <= 2), month, day)
}

/// Day number of a calendar date; `None` if there is no such date.
fn day_number(year: i64, month: i64, day: i64) -> Option<i64> {
    let leap = year.rem_euclid(4) == 0 && (year.rem_euclid(100) != 0 || year.rem_euclid(400) == 0);
    let length = match month {
        1 | 3 | 5 | 7 | 8 | 10 | 12 => 31,
        4 | 6 | 9 | 11 => 30,
        2 => 28 + i64::from(leap),
        _ => return None,
    };
    if !(1..=length).contains(&day) {
        return None;
    }
    let shifted = year - i64::from(month <= 2);
    let (era, of_era) = (shifted.div_euclid(400), shifted.rem_euclid(400));
    let shifted_month = if month > 2 { month - 3 } else { month + 9 };
    let of_year = (153 * shifted_month + 2) / 5 + day - 1;
    Some(era * 146_097 + of_era * 365 + of_era / 4 - of_era / 100 + of_year - 719_468)
}

/// Reads ISO 8601 from the front of a text.
struct Reader<'a> {
    rest: &'a [u8],
}

impl<'a> Reader<'a> {
    fn new(text: &'a str) -> Self {
        Self { rest: text.as_bytes() }
    }

    fn ended(&self) -> bool {
        self.rest.is_empty()
    }

    fn eat(&mut self, byte: u8) -> bool {
        let found = self.rest.first() == Some(&byte);
        if found {
            self.rest = &self.rest[1..];
        }
        found
    }

    /// A number of `min` to `max` digits.
    fn number(&mut self, min: usize, max: usize) -> Option<i64> {
        let digits = self.rest.iter().take(max).take_while(|byte| byte.is_ascii_digit()).count();
        if digits < min {
            return None;
        }
        let (number, rest) = self.rest.split_at(digits);
        self.rest = rest;
        Some(number.iter().fold(0, |sum, digit| sum * 10 + i64::from(digit - b'0')))
    }

    fn two(&mut self, max: i64) -> Option<i64> {
        self.number(2, 2).filter(|number| *number <= max)
    }

    fn date(&mut self) -> Option<i64> {
        let negative = self.eat(b'-');
        if !negative {
            self.eat(b'+');
        }
        let year = self.number(4, 9)?;
        let month = self.eat(b'-').then(|| self.two(12))??;
        let day = self.eat(b'-').then(|| self.two(31))??;
        day_number(if negative { -year } else { year }, month, day)
    }

    /// Nanoseconds of the day, up to 24:00:00.
    fn time(&mut self) -> Option<i64> {
        let hours = self.two(24)?;
        let minutes = self.eat(b':').then(|| self.two(59))??;
        let (mut seconds, mut nanos) = (0, 0);
        if self.eat(b':') {
            seconds = self.two(59)?;
            // Only of seconds: of minutes a fraction would mean something else.
            if self.eat(b'.') {
                let before = self.rest.len();
                let fraction = self.number(1, 9)?;
                let digits = before - self.rest.len();
                nanos = fraction * 10i64.pow(9 - u32::try_from(digits).ok()?);
            }
        }
        let total = ((hours * 60 + minutes) * 60 + seconds) * 1_000_000_000 + nanos;
        (total <= NANOS_A_DAY).then_some(total)
    }

    fn date_time(&mut self) -> Option<(i64, i64)> {
        let days = self.date()?;
        if !self.eat(b'T') && !self.eat(b' ') {
            return None;
        }
        let nanos = self.time()?;
        Some((days + nanos / NANOS_A_DAY, nanos % NANOS_A_DAY))
    }

    /// Seconds east of UTC.
    fn zone(&mut self) -> Option<i64> {
        if self.eat(b'Z') {
            return Some(0);
        }
        let west = self.eat(b'-');
        if !west && !self.eat(b'+') {
            return None;
        }
        let hours = self.two(18)?;
        let minutes = if self.eat(b':') || !self.ended() { self.two(59)? } else { 0 };
        let seconds = if self.eat(b':') { self.two(59)? } else { 0 };
        let total = (hours * 60 + minutes) * 60 + seconds;
        Some(if west { -total } else { total })
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn the_years_1_to_9999_are_held_and_no_others() {
        assert_eq!(date(-719_162), Point::Held(-719_162));
        assert_eq!(date(2_932_896), Point::Held(2_932_896));
        assert_eq!(date(-719_163), Point::Outside("0000-12-31".into()));
        assert_eq!(date(2_932_897), Point::Outside("+10000-01-01".into()));
        assert_eq!(parse_date("-4712-01-01Z"), Some(Point::Outside("-4712-01-01".into())));
        assert_eq!(
            timestamp(253_402_300_799_999, Unit::Millis, ""),
            Point::Held(253_402_300_799_999_000)
        );
        assert_eq!(
            timestamp(253_402_300_800_000, Unit::Millis, ""),
            Point::Outside("+10000-01-01T00:00:00".into())
        );
        assert_eq!(timestamp(i64::MAX, Unit::Micros, ""), Point::Outside("infinity".into()));
        assert_eq!(timestamp(i64::MIN, Unit::Micros, ""), Point::Outside("-infinity".into()));
    }

    #[test]
    fn postgresqls_infinity_is_known_in_every_form_it_was_seen_in() {
        let infinity = || Point::Outside("infinity".into());
        let before = || Point::Outside("-infinity".into());
        for (found, expected) in [
            (date(-622_191_234), infinity()),
            (date(2_146_033_979), infinity()),
            (date(-625_821_272), before()),
            (date(-2_147_472_691), before()),
            (parse_date("+292278994-08-16Z").expect("a date"), infinity()),
            (parse_date("+292269055-12-02Z").expect("a date"), before()),
            (parse_date("+5877611-06-21Z").expect("a date"), infinity()),
            (parse_date("-5877611-06-22Z").expect("a date"), before()),
            (timestamp(9_223_372_036_825_200_000, Unit::Millis, ""), infinity()),
            (timestamp(-9_223_372_036_832_400_000, Unit::Millis, ""), before()),
            (parse_timestamp("+292278994-08-16T23:00:00Z").expect("a timestamp"), infinity()),
            (parse_timestamp("-292275055-05-16T23:00:00Z").expect("a timestamp"), before()),
        ] {
            assert_eq!(found, expected);
        }
        // The last date that PostgreSQL has is one, too, and nobody's infinity.
        assert_eq!(date(2_145_042_905), Point::Outside("+5874897-12-31".into()));
        assert_eq!(
            parse_date("+999999999-12-31").map(|p| matches!(p, Point::Outside(_))),
            Some(true)
        );
    }

    #[test]
    fn instants_are_read_in_every_zone_form() {
        let noon = Some(Point::Held(1_772_366_400_000_000));
        for text in [
            "2026-03-01T12:00:00Z",
            "2026-03-01T12:00:00.000000Z",
            "2026-03-01T12:00Z",
            "2026-03-01 14:00:00+02",
            "2026-03-01T06:30:00-05:30",
            "2026-03-01T12:00:01+00:00:01",
            "2026-02-29T12:00:00Z".replace("02-29", "03-01").as_str(),
        ] {
            assert_eq!(parse_timestamp_tz(text), noon, "{text}");
        }
        assert_eq!(parse_timestamp_tz("infinity"), Some(Point::Outside("infinity".into())));
        assert_eq!(
            parse_timestamp_tz("9999-12-31T23:59:59-01:00"),
            Some(Point::Outside("+10000-01-01T00:59:59Z".into()))
        );
        for text in [
            "2026-03-01T12:00:00",
            "2026-02-29T12:00:00Z",
            "2026-03-01",
            "x",
            "",
            "2026-03-01T25:00:00Z",
        ] {
            assert_eq!(parse_timestamp_tz(text), None, "{text}");
        }
    }

    #[test]
    fn times_of_day_print_as_postgresql_prints_them() {
        assert_eq!(time_of_day(0, Unit::Micros), "00:00:00");
        assert_eq!(time_of_day(86_400_000_000, Unit::Micros), "24:00:00");
        assert_eq!(time_of_day(86_399_999, Unit::Millis), "23:59:59.999");
        assert_eq!(time_of_day(-3_020_399_999_999, Unit::Micros), "-838:59:59.999999");
        assert_eq!(time_of_day(1, Unit::Nanos), "00:00:00.000000001");
        assert_eq!(time_of_day(i64::MIN, Unit::Nanos), "-2562047:47:16.854775808");
        assert_eq!(parse_time("04:05:11.7890Z").as_deref(), Some("04:05:11.789"));
        assert_eq!(parse_time("24:00:00").as_deref(), Some("24:00:00"));
        assert_eq!(parse_time("24:00:01"), None);
        assert_eq!(parse_time("04:05.5"), None, "half a minute, or half a second");
    }

    proptest! {
        #[test]
        fn a_date_reads_back_from_its_text(days in -3_000_000_000i64..3_000_000_000) {
            let expected = date(days);
            prop_assert_eq!(parse_date(&date_text(days)), Some(expected));
        }

        #[test]
        fn a_timestamp_reads_back_from_its_text(
            micros in -62_135_596_800_000_000i64..=253_402_300_799_999_999,
        ) {
            let local = text(&Value::Timestamp(micros)).expect("text");
            prop_assert_eq!(parse_timestamp(&local), Some(Point::Held(micros)));
            let instant = text(&Value::TimestampTz(micros)).expect("text");
            prop_assert_eq!(parse_timestamp_tz(&instant), Some(Point::Held(micros)));
            prop_assert_eq!(timestamp(micros, Unit::Micros, ""), Point::Held(micros));
        }

        #[test]
        fn days_agree_with_chrono(days in -719_162i64..=2_932_896) {
            use chrono::Days;
            let epoch = chrono::NaiveDate::from_ymd_opt(1970, 1, 1).expect("epoch");
            let moved = if days >= 0 {
                epoch.checked_add_days(Days::new(days.unsigned_abs()))
            } else {
                epoch.checked_sub_days(Days::new(days.unsigned_abs()))
            };
            prop_assert_eq!(date_text(days), moved.expect("in range").to_string());
        }

        #[test]
        fn no_text_makes_the_readers_panic(text in "[-+0-9TZ:. a-z]{0,40}|\\PC{0,20}") {
            let _ = (parse_date(&text), parse_time(&text));
            let _ = (parse_timestamp(&text), parse_timestamp_tz(&text));
        }
    }
}
