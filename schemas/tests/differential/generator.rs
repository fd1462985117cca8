//! Records at random: of tables with any columns, with values at the edges of their types, whole
//! and damaged.

/// A small generator of numbers (SplitMix64): the same seed gives the same records everywhere.
pub(crate) struct Random(u64);

impl Random {
    pub(crate) fn new(seed: u64) -> Self {
        Self(seed)
    }

    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mixed = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    pub(crate) fn below(&mut self, end: usize) -> usize {
        (self.next() % end as u64) as usize
    }

    pub(crate) fn one_in(&mut self, times: usize) -> bool {
        self.below(times) == 0
    }

    fn pick<'s, T>(&mut self, among: &'s [T]) -> &'s T {
        &among[self.below(among.len())]
    }
}

/// A type: its schema without name and optionality, and values worth trying.
type Kind = (&'static str, &'static [&'static str]);

const KINDS: [Kind; 28] = [
    (r#""type":"boolean""#, &["true", "false", "0", "\"true\""]),
    (r#""type":"int8""#, &["0", "-128", "127", "128", "-129", "1.0", "1e1"]),
    (r#""type":"int16""#, &["7", "-32768", "32767", "32768", "3.5"]),
    (r#""type":"int32""#, &["7", "-2147483648", "2147483647", "2147483648", "\"7\""]),
    (
        r#""type":"int64""#,
        &["9223372036854775807", "-9223372036854775808", "9223372036854775808", "-0", "1e18"],
    ),
    (
        r#""type":"int64","parameters":{"__debezium.source.column.type":"BIGINT UNSIGNED"}"#,
        &["-1", "0", "9223372036854775808", "18446744073709551615", "18446744073709551616"],
    ),
    (
        r#""type":"float""#,
        &["1.5", "0.1", "3.4028236e38", "16777217", "\"NaN\"", "\"-Infinity\"", "1e-50"],
    ),
    (
        r#""type":"double""#,
        &["0.1", "1e308", "1e309", "-4.9E-324", "9007199254740993", "\"Infinity\"", "\"nan\""],
    ),
    (
        r#""type":"string""#,
        &[
            r#""""#,
            r#""a""#,
            r#""ä\u00e4\n\"\\\/""#,
            r#""\ud83c\udf89""#,
            r#""\ud83c""#,
            "7",
            r#""__debezium_unavailable_value""#,
        ],
    ),
    (
        r#""type":"bytes""#,
        &[
            r#""""#,
            r#""AA==""#,
            r#""AAEC/+8=""#,
            r#""AA""#,
            r#""A-_=""#,
            r#""\u0041A==""#,
            r#""X19kZWJleml1bV91bmF2YWlsYWJsZV92YWx1ZQ==""#,
        ],
    ),
    (
        r#""type":"bytes","name":"org.apache.kafka.connect.data.Decimal","version":1,"parameters":{"scale":"2","connect.decimal.precision":"12"}"#,
        &[
            r#""AA==""#,
            r#""/w==""#,
            r#""AY/J""#,
            r#""AOjUpRAA""#,
            r#""AOjUpQ//""#,
            "1.25",
            "1.255",
            r#""""#,
        ],
    ),
    (
        r#""type":"bytes","name":"org.apache.kafka.connect.data.Decimal","version":1,"parameters":{"scale":"30","connect.decimal.precision":"65"}"#,
        &[
            r#""AQ==""#,
            r#""gAAAAAAAAAAAAAAAAAAAAAAAAAAA""#,
            r#""//////////////////////////////////8=""#,
            "-0.0",
        ],
    ),
    (
        r#""type":"bytes","name":"org.apache.kafka.connect.data.Decimal","version":1,"parameters":{"scale":"-3","connect.decimal.precision":"5"}"#,
        &[r#""AQ==""#, r#""/w==""#, r#""AA==""#],
    ),
    (
        r#""type":"bytes","name":"org.apache.kafka.connect.data.Decimal","version":1,"parameters":{"scale":"2045","connect.decimal.precision":"5"}"#,
        &[r#""AQ==""#, r#""AA==""#],
    ),
    (
        r#""type":"struct","name":"io.debezium.data.VariableScaleDecimal","version":1"#,
        &[
            r#"{"scale":2,"value":"AY/J"}"#,
            r#"{"value":"/w==","scale":-2}"#,
            r#"{"scale":40,"value":"f/////////////////////8="}"#,
            r#"{"scale":99999,"value":"AQ=="}"#,
            r#"{"scale":1}"#,
            "12.50",
        ],
    ),
    (
        r#""type":"int32","name":"io.debezium.time.Date","version":1"#,
        &[
            "0",
            "-719162",
            "-719163",
            "2932896",
            "2932897",
            "2146033979",
            "-2147472691",
            "2147483648",
        ],
    ),
    (
        r#""type":"int32","name":"io.debezium.time.Time","version":1"#,
        &["0", "86400000", "-1", "-3020399000", "45296789"],
    ),
    (
        r#""type":"int64","name":"io.debezium.time.MicroTime","version":1"#,
        &["0", "86400000000", "86399999999", "-3020399000000", "1"],
    ),
    (
        r#""type":"int64","name":"io.debezium.time.NanoTime","version":1"#,
        &["0", "86400000000000", "1", "9223372036854775807"],
    ),
    (
        r#""type":"int64","name":"io.debezium.time.Timestamp","version":1"#,
        &[
            "0",
            "-1",
            "253402300799999",
            "253402300800000",
            "-62135596800000",
            "-62135596800001",
            "9223372036825200000",
            "9223372036854775807",
        ],
    ),
    (
        r#""type":"int64","name":"io.debezium.time.MicroTimestamp","version":1"#,
        &[
            "0",
            "253402300799999999",
            "253402300800000000",
            "-62135596800000001",
            "9223372036825200000",
            "-9223372036832400000",
        ],
    ),
    (
        r#""type":"int64","name":"io.debezium.time.NanoTimestamp","version":1"#,
        &["1", "-1", "-1001", "9223372036854775807", "-9223372036854775808"],
    ),
    (
        r#""type":"string","name":"io.debezium.time.ZonedTimestamp","version":1"#,
        &[
            r#""2026-01-02T03:04:05Z""#,
            r#""2026-01-02T03:04:05.123456789+02:00""#,
            r#""infinity""#,
            r#""0001-01-01T00:00:00+18:00""#,
            r#""9999-12-31T23:59:59.999999999-00:01""#,
            r#""-4712-01-01T00:00:00Z""#,
            r#""2026-02-29T00:00:00Z""#,
            r#""2026-01-02T24:00:00Z""#,
            r#""2026-01-02T03:04-0330""#,
            r#""2026-01-02 03:04:05+01""#,
            r#""today""#,
        ],
    ),
    (
        r#""type":"string","name":"io.debezium.time.IsoTimestamp","version":1"#,
        &[
            r#""2026-01-02T03:04:05.6Z""#,
            r#""+12026-01-02T03:04:05""#,
            r#""-infinity""#,
            r#""2026-01-02""#,
        ],
    ),
    (
        r#""type":"string","name":"io.debezium.time.IsoDate","version":1"#,
        &[
            r#""2024-02-29Z""#,
            r#""1900-02-29""#,
            r#""+10000-01-01""#,
            r#""0000-12-31""#,
            r#""+5877611-06-21Z""#,
        ],
    ),
    (
        r#""type":"string","name":"io.debezium.time.IsoTime","version":1"#,
        &[r#""04:05:11.789Z""#, r#""24:00:00""#, r#""24:00:01""#, r#""4:05""#, r#""04:60:00""#],
    ),
    (
        r#""type":"array","items":{"type":"int32","optional":true}"#,
        &["[]", "[1,null,-3]", "[1,\"2\"]", "{}", r#"["__debezium_unavailable_value"]"#],
    ),
    (
        r#""type":"map","keys":{"type":"string"},"values":{"type":"string","optional":true}"#,
        &[
            "{}",
            r#"{"a":null, "b" : "c"}"#,
            "[[1,2]]",
            r#"{"__debezium_unavailable_value":"__debezium_unavailable_value"}"#,
        ],
    ),
];

const NAMES: [&str; 8] =
    ["id", "a", "b", "Name", "total", "größe", "with \\\"quotes\\\"", "c\\u0041"];

/// Key, value and the header of a key change.
pub(crate) struct Made {
    pub(crate) key: Option<Vec<u8>>,
    pub(crate) value: Option<Vec<u8>>,
    pub(crate) old_key: Option<Vec<u8>>,
}

struct Column {
    name: &'static str,
    kind: Kind,
    optional: bool,
}

/// A table of the source.
pub(crate) struct Table {
    columns: Vec<Column>,
    with_schema: bool,
}

impl Table {
    pub(crate) fn new(random: &mut Random) -> Self {
        let first = random.below(NAMES.len());
        let column = |index: usize, random: &mut Random| Column {
            name: NAMES[(first + index) % NAMES.len()],
            kind: *random.pick(&KINDS),
            optional: !random.one_in(3),
        };
        let columns = 1 + random.below(NAMES.len() - 1);
        let columns = (0..columns).map(|index| column(index, random)).collect();
        Self { columns, with_schema: random.one_in(2) }
    }

    pub(crate) fn record(&self, random: &mut Random) -> Made {
        let key = (!random.one_in(20)).then(|| self.part(self.key(random), &self.key_schema()));
        let value = match random.below(30) {
            0 => None,
            1 => Some(self.part("null".to_owned(), "null")),
            2 => Some(self.part(beside(random).to_owned(), "null")),
            _ => Some(self.part(self.envelope(random), &self.value_schema())),
        };
        let old_key =
            random.one_in(8).then(|| self.part(self.key(random), &self.key_schema()).into_bytes());
        Made { key: key.map(String::into_bytes), value: value.map(String::into_bytes), old_key }
    }

    fn part(&self, payload: String, schema: &str) -> String {
        if !self.with_schema {
            return payload;
        }
        format!("{{\"schema\":{schema},\"payload\":{payload}}}")
    }

    fn key(&self, random: &mut Random) -> String {
        format!("{{\"{}\":{}}}", self.columns[0].name, value(&self.columns[0], random))
    }

    fn row(&self, random: &mut Random) -> String {
        let member = |column: &Column, random: &mut Random| {
            let space = if random.one_in(9) { " " } else { "" };
            format!("\"{}\"{space}:{space}{}", column.name, value(column, random))
        };
        let mut members: Vec<String> =
            self.columns.iter().map(|column| member(column, random)).collect();
        match random.below(12) {
            0 => drop(members.pop()),
            1 => members.reverse(),
            2 => {
                let again = random.below(self.columns.len());
                members.push(member(&self.columns[again], random));
            }
            3 => members.push("\"new\":[1, 2]".to_owned()),
            _ => {}
        }
        format!("{{{}}}", members.join(","))
    }

    fn envelope(&self, random: &mut Random) -> String {
        let op = match random.below(30) {
            0 => "x",
            1 => "t",
            2 => "m",
            _ => *random.pick(&["c", "u", "d", "r", "u"]),
        };
        let image = |there: bool, random: &mut Random| match there {
            true => self.row(random),
            false => "null".to_owned(),
        };
        let writes = matches!(op, "c" | "u" | "r" | "x") != random.one_in(40);
        let has_before = random.one_in(3);
        let before = image(has_before, random);
        let after = image(writes, random);
        let unknown =
            if random.one_in(5) { r#"{"connector":7}"# } else { r#"{"connector":"db2"}"# };
        let source = *random.pick(&[
            r#"{"connector":"postgresql","ts_ms":1700000000000,"ts_us":1700000000000123,"snapshot":"false","lsn":42,"txId":7,"sequence":"[\"41\",\"42\"]"}"#,
            r#"{"connector":"postgresql","ts_ms":17,"snapshot":true,"lsn":null}"#,
            r#"{"version":"3.5","connector":"mariadb","ts_ms":9223372036854775807,"snapshot":"incremental","gtid":"0-1-2","file":"bin.000003","pos":4,"row":0}"#,
            r#"{"connector":"mysql","snapshot":false,"txId":"é"}"#,
            unknown,
        ]);
        let transaction = *random.pick(&["null", r#"{"id":"571:3","total_order":1}"#, "[]"]);
        format!(
            "{{\"before\":{before},\"after\":{after},\"source\":{source},\
             \"transaction\":{transaction},\"op\":\"{op}\",\"ts_ms\":1700000000001}}"
        )
    }

    fn fields(columns: &[Column]) -> String {
        let field = |column: &Column| {
            let Column { name, kind: (kind, _), optional } = column;
            format!("{{{kind},\"optional\":{optional},\"field\":\"{name}\"}}")
        };
        columns.iter().map(field).collect::<Vec<_>>().join(",")
    }

    fn key_schema(&self) -> String {
        format!("{{\"type\":\"struct\",\"fields\":[{}]}}", Self::fields(&self.columns[..1]))
    }

    fn value_schema(&self) -> String {
        let fields = Self::fields(&self.columns);
        let image = |name: &str| {
            format!(
                "{{\"type\":\"struct\",\"fields\":[{fields}],\"optional\":true,\"field\":\"{name}\"}}"
            )
        };
        format!(
            "{{\"type\":\"struct\",\"fields\":[{},{},{{\"type\":\"string\",\"field\":\"op\"}}]}}",
            image("before"),
            image("after")
        )
    }
}

fn value(column: &Column, random: &mut Random) -> &'static str {
    let (_, values) = column.kind;
    match random.below(60) {
        0..3 if column.optional || random.one_in(9) => "null",
        3 => {
            random.pick::<&str>(&["{\"a\":[1,{}]}", "[]", "1e400", "\"x\"", "-0.30000000000000004"])
        }
        _ => {
            // The last ones of a type are the odd ones.
            let end = if random.one_in(30) { values.len() } else { values.len().min(3) };
            values[random.below(end)]
        }
    }
}

/// Payloads that Debezium writes beside changes.
fn beside(random: &mut Random) -> &'static str {
    random.pick::<&'static str>(&[
        r#"{"ts_ms":1700000000000}"#,
        r#"{"status":"BEGIN","id":"571:3","event_count":null}"#,
        r#"{"source":{},"databaseName":"shop","ddl":"CREATE TABLE t","tableChanges":[]}"#,
        r#"{"id":"x","aggregate_type":"Initial Snapshot","type":"STARTED"}"#,
        r#"{"id":"x","type":"execute-snapshot","data":"{}"}"#,
    ])
}

/// Pieces that are put into records.
const PIECES: [&str; 16] = [
    "\"",
    "\\",
    "{",
    "}",
    "[",
    "]",
    ",",
    ":",
    "null",
    "1",
    "-",
    "\u{1}",
    "\"op\":\"d\",",
    "\\u00",
    "\"payload\":",
    "ä",
];

impl Made {
    /// Changes a few bytes of one of the parts.
    pub(crate) fn damage(&mut self, random: &mut Random) {
        let part = match random.below(6) {
            0 => &mut self.key,
            1 => &mut self.old_key,
            _ => &mut self.value,
        };
        let Some(bytes) = part.as_mut().filter(|bytes| !bytes.is_empty()) else { return };
        for _ in 0..1 + random.below(2) {
            // Most of the bytes are schema; what follows it is worth more.
            let begin = if random.one_in(3) { 0 } else { bytes.len() * 2 / 3 };
            let at = begin + random.below(bytes.len().saturating_sub(begin).max(1));
            let to = (at + 1 + random.below(12)).min(bytes.len());
            match random.below(6) {
                0 => bytes.truncate(at),
                1 => drop(bytes.splice(at.min(to)..to, [])),
                2 => drop(bytes.splice(at..at, random.pick(&PIECES).bytes())),
                3 => {
                    let copy = bytes[at.min(to)..to].to_vec();
                    drop(bytes.splice(at..at, copy));
                }
                _ => bytes[at] = *random.pick(b"0123456789\"\\{}[],:. eE-+tfnu\x00\xff\xc3"),
            }
            if bytes.is_empty() {
                return;
            }
        }
    }
}
