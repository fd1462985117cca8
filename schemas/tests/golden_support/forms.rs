//! Values that the events write in another form than the servers do: geometries, hstore, intervals,
//! bits. Each is brought to one form here, by hand and without the decoder.

use std::collections::BTreeMap;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde_json::Value as Json;

/// A point of the plane.
pub(crate) type Point = (f64, f64);

/// A geometry as well-known binary has it: its kind and its rings, or one line of points.
#[derive(Debug, PartialEq)]
pub(crate) struct Geometry {
    pub(crate) kind: u32,
    pub(crate) rings: Vec<Vec<Point>>,
}

/// Reads the base64 of little-endian well-known binary: a point (1), a line (2) or a polygon (3).
pub(crate) fn geometry(wkb: &str) -> Option<Geometry> {
    let bytes = STANDARD.decode(wkb).ok()?;
    let mut reader = Wkb { bytes: bytes.strip_prefix(&[1])? };
    let kind = reader.count()?;
    let rings = match kind {
        1 => vec![vec![reader.point()?]],
        2 => vec![reader.points()?],
        3 => (0..reader.count()?).map(|_| reader.points()).collect::<Option<_>>()?,
        _ => return None,
    };
    reader.bytes.is_empty().then_some(Geometry { kind, rings })
}

struct Wkb<'a> {
    bytes: &'a [u8],
}

impl Wkb<'_> {
    fn count(&mut self) -> Option<u32> {
        let (count, rest) = self.bytes.split_first_chunk::<4>()?;
        self.bytes = rest;
        Some(u32::from_le_bytes(*count))
    }

    fn number(&mut self) -> Option<f64> {
        let (number, rest) = self.bytes.split_first_chunk::<8>()?;
        self.bytes = rest;
        Some(f64::from_le_bytes(*number))
    }

    fn point(&mut self) -> Option<Point> {
        Some((self.number()?, self.number()?))
    }

    fn points(&mut self) -> Option<Vec<Point>> {
        (0..self.count()?).map(|_| self.point()).collect()
    }
}

/// Whether a struct that Debezium makes of a PostgreSQL geometry is what the server writes.
pub(crate) fn is_pg_geometry(found: &str, pg_type: &str, text: &str) -> bool {
    let Ok(json) = serde_json::from_str::<Json>(found) else { return false };
    let number = |json: &Json| json.as_f64().unwrap_or(f64::NAN);
    let written = |point: &Point| format!("({},{})", point.0, point.1);
    let points = |points: &[Point]| points.iter().map(written).collect::<Vec<_>>().join(",");
    let shape = json["wkb"].as_str().and_then(geometry);
    let rings = shape.map(|shape| shape.rings).unwrap_or_default();
    let ring = rings.first().map(Vec::as_slice).unwrap_or_default();
    let closed = json["extensions"]["closed"] == "true";
    let own = match pg_type {
        "point" => {
            let point = (number(&json["x"]), number(&json["y"]));
            if ring != [point] {
                return false;
            }
            written(&point)
        }
        "line" => {
            format!("{{{},{},{}}}", number(&json["a"]), number(&json["b"]), number(&json["c"]))
        }
        "lseg" => format!("[{}]", points(ring)),
        "path" if closed => format!("({})", points(ring)),
        "path" => format!("[{}]", points(ring)),
        // Corner by corner; the server names two of them.
        "box" if ring.len() == 5 => points(&[ring[0], ring[2]]),
        "polygon" if ring.len() > 1 => format!("({})", points(&ring[..ring.len() - 1])),
        "circle" => {
            let center = &json["center"];
            let center = (number(&center["x"]), number(&center["y"]));
            format!("<{},{}>", written(&center), number(&json["radius"]))
        }
        _ => return false,
    };
    own == text
}

/// Whether a struct that Debezium makes of a MariaDB geometry is the server's `srid;WKT`.
pub(crate) fn is_my_geometry(found: &str, text: &str) -> bool {
    let Ok(json) = serde_json::from_str::<Json>(found) else { return false };
    let Some(shape) = json["wkb"].as_str().and_then(geometry) else { return false };
    let points = |points: &Vec<Point>| {
        let points = points.iter().map(|point| format!("{} {}", point.0, point.1));
        points.collect::<Vec<_>>().join(",")
    };
    let rings: Vec<String> = shape.rings.iter().map(points).collect();
    let shape = match shape.kind {
        1 => format!("POINT({})", rings.join(",")),
        2 => format!("LINESTRING({})", rings.join(",")),
        _ => format!("POLYGON(({}))", rings.join("),(")),
    };
    // 0 is the server's word for none.
    format!("{};{shape}", json["srid"].as_i64().unwrap_or(0)) == text
}

/// Whether a JSON object is an hstore's text.
pub(crate) fn is_hstore(found: &str, text: &str) -> bool {
    let Ok(json) = serde_json::from_str::<BTreeMap<String, Option<String>>>(found) else {
        return false;
    };
    hstore(text).is_some_and(|pairs| pairs == json)
}

fn hstore(text: &str) -> Option<BTreeMap<String, Option<String>>> {
    let (mut pairs, mut chars) = (BTreeMap::new(), text.chars().peekable());
    while chars.peek().is_some() {
        let key = quoted(&mut chars)?;
        (chars.next()? == '=' && chars.next()? == '>').then_some(())?;
        let value = match chars.peek()? {
            '"' => Some(quoted(&mut chars)?),
            _ => "NULL".chars().all(|c| chars.next() == Some(c)).then_some(None)?,
        };
        pairs.insert(key, value);
        if chars.next_if_eq(&',').is_some() {
            chars.next_if_eq(&' ')?;
        }
    }
    Some(pairs)
}

fn quoted(chars: &mut std::iter::Peekable<std::str::Chars<'_>>) -> Option<String> {
    chars.next_if_eq(&'"')?;
    let mut text = String::new();
    loop {
        match chars.next()? {
            '"' => return Some(text),
            '\\' => text.push(chars.next()?),
            other => text.push(other),
        }
    }
}

/// Months, days and microseconds.
type Interval = (i64, i64, i64);

/// Whether an ISO 8601 duration is PostgreSQL's text of an interval.
pub(crate) fn is_interval(found: &str, text: &str) -> bool {
    iso_interval(found).is_some_and(|interval| pg_interval(text) == Some(interval))
}

/// Whether a number of microseconds is an interval: only one without months and days is such.
pub(crate) fn is_microseconds(found: i64, text: &str) -> bool {
    pg_interval(text) == Some((0, 0, found))
}

fn iso_interval(text: &str) -> Option<Interval> {
    let (mut months, mut days, mut micros, mut in_time) = (0, 0, 0, false);
    let mut number = String::new();
    for unit in text.strip_prefix('P')?.chars() {
        if unit == 'T' {
            in_time = true;
        } else if unit.is_ascii_alphabetic() {
            let whole = || number.parse::<i64>().ok();
            match (unit, in_time) {
                ('Y', false) => months += whole()?.checked_mul(12)?,
                ('M', false) => months += whole()?,
                ('D', false) => days += whole()?,
                ('H', true) => micros += whole()? * 3_600_000_000,
                ('M', true) => micros += whole()? * 60_000_000,
                ('S', true) => micros += micros_of(&number)?,
                _ => return None,
            }
            number.clear();
        } else {
            number.push(unit);
        }
    }
    number.is_empty().then_some((months, days, micros))
}

fn pg_interval(text: &str) -> Option<Interval> {
    let (mut months, mut days, mut micros) = (0, 0, 0);
    let mut words = text.split(' ');
    while let Some(word) = words.next() {
        if let Some((hours, rest)) = word.trim_start_matches(['-', '+']).split_once(':') {
            let (minutes, seconds) = rest.split_once(':')?;
            let hours: i64 = hours.parse().ok()?;
            let time = (hours * 60 + minutes.parse::<i64>().ok()?) * 60_000_000;
            let time = time + micros_of(seconds)?;
            micros = if word.starts_with('-') { -time } else { time };
            continue;
        }
        let number: i64 = word.parse().ok()?;
        match words.next()?.trim_end_matches('s') {
            "year" => months += number * 12,
            "mon" => months += number,
            "day" => days += number,
            _ => return None,
        }
    }
    Some((months, days, micros))
}

/// Microseconds of `-6.789012`.
fn micros_of(seconds: &str) -> Option<i64> {
    let (whole, fraction) = seconds.split_once('.').unwrap_or((seconds, ""));
    let micros = format!("{}{fraction:0<6}", whole.trim_start_matches('-')).parse::<i64>().ok()?;
    Some(if whole.starts_with('-') { -micros } else { micros })
}

/// Bits that came as little-endian bytes, the highest first, without leading zeros.
pub(crate) fn bits(found: &[u8]) -> String {
    let bits: String = found.iter().rev().map(|byte| format!("{byte:08b}")).collect();
    bits.trim_start_matches('0').to_owned()
}

/// A time of day with its zone in seconds of UTC's day, and its fraction: `23:59:59.5-08`.
pub(crate) fn utc_time(text: &str) -> Option<(i64, &str)> {
    let at = text.find(['+', '-', 'Z'])?;
    let (time, zone) = text.split_at(at);
    let (time, fraction) = time.split_once('.').unwrap_or((time, ""));
    let seconds = |text: &str| {
        let parts = text.split(':').map(|part| part.parse::<i64>().ok());
        let scaled = parts.zip([3_600, 60, 1]).map(|(part, scale)| Some(part? * scale));
        scaled.sum::<Option<i64>>()
    };
    let offset = match zone.strip_prefix('-') {
        _ if zone == "Z" => 0,
        Some(west) => -seconds(west)?,
        None => seconds(zone.strip_prefix('+')?)?,
    };
    Some(((seconds(time)? - offset).rem_euclid(86_400), fraction.trim_end_matches('0')))
}

/// Whether a double is the decimal that a text spells, digit for digit.
pub(crate) fn is_number(found: f64, text: &str) -> bool {
    let trimmed = |text: &str| match text.split_once('.') {
        Some((whole, fraction)) => {
            let fraction = fraction.trim_end_matches('0');
            if fraction.is_empty() { whole.to_owned() } else { format!("{whole}.{fraction}") }
        }
        None => text.to_owned(),
    };
    // The shortest text of a double in plain notation.
    trimmed(&format!("{found}")) == trimmed(text)
}
