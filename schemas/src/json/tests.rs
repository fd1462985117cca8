//! What the parser takes and refuses, and that it agrees with another one.

use proptest::prelude::*;
use serde_json::Value;

use super::*;

/// Rebuilds what serde_json would have made; `None` where a number does not survive `Value`.
fn value(json: Json<'_, '_>) -> Value {
    match json.kind() {
        Kind::Null => Value::Null,
        Kind::True | Kind::False => Value::Bool(json.boolean().expect("boolean")),
        Kind::Number => serde_json::from_str(json.raw()).expect("a number"),
        Kind::Plain | Kind::Escaped => Value::String(json.text().expect("text").into_owned()),
        Kind::Array => Value::Array(json.items().map(value).collect()),
        Kind::Object => {
            let member = |(name, member): (Json<'_, '_>, Json<'_, '_>)| {
                (name.text().expect("name").into_owned(), value(member))
            };
            Value::Object(json.members().map(member).collect())
        }
    }
}

/// Both parsers accept it with the same value, or both refuse it.
fn agrees(bytes: &[u8]) -> Result<(), String> {
    let mut parser = Parser::default();
    let ours = parser.parse(bytes, DEPTH_MAX);
    let theirs = serde_json::from_slice::<Value>(bytes);
    match (&ours, &theirs) {
        (Ok(ours), Ok(theirs)) if value(*ours) == *theirs => Ok(()),
        (Err(_), Err(_)) => Ok(()),
        // serde_json reads numbers into f64, counts nesting from another end.
        (_, Err(error)) if error.to_string().starts_with("number out of range") => Ok(()),
        (_, Err(error)) if error.to_string().starts_with("recursion limit") => Ok(()),
        _ => Err(format!("{:?} differs: {ours:?} and {theirs:?}", String::from_utf8_lossy(bytes))),
    }
}

#[test]
fn the_grammar_is_kept_to_the_letter() {
    for text in [
        "null",
        " true ",
        "[]",
        "{}",
        "[[],{}]",
        "{\"a\":{\"b\":[1,2]}}",
        "-0",
        "1e5",
        "1E+05",
        "0.10",
        "\"\"",
        "\"\\u00e9\\n\\/\\\"\"",
        "\"\\ud83c\\udf89\"",
        "\"é🎉\"",
        "[1 , 2]",
        "\t{\n\"a\"\r: 1}",
        "",
        " ",
        "nul",
        "tru",
        "[",
        "]",
        "{",
        "[1,]",
        "{,}",
        "{\"a\"}",
        "{\"a\":}",
        "{\"a\":1,}",
        "{a:1}",
        "01",
        "-",
        "1.",
        ".5",
        "1e",
        "+1",
        "0x1",
        "--1",
        "\"",
        "\"\\\"",
        "\"\\x\"",
        "\"\\u12\"",
        "\"\n\"",
        "\"\u{1}\"",
        "\"\\ud800\"",
        "\"\\udc00\"",
        "\"\\ud800\\u0041\"",
        "1 2",
        "[1]]",
        "{}}",
        "'a'",
        "\u{feff}1",
        "NaN",
        "Infinity",
        "[\"a\":1]",
        "{\"a\",1}",
        "{1:2}",
        "/**/1",
        "\u{a0}1",
        "nullx",
    ] {
        agrees(text.as_bytes()).unwrap_or_else(|difference| panic!("{difference}"));
    }
    for bytes in [&b"\"\xff\""[..], b"\"\xc3\"", b"\xc3\xa9", b"\"\xed\xa0\x80\"", b"\0", b"1\0"] {
        agrees(bytes).unwrap_or_else(|difference| panic!("{difference}"));
    }
}

#[test]
fn control_characters_are_found_at_every_place_of_a_long_string() {
    for length in 0..40 {
        for at in 0..length {
            for byte in [0u8, 0x1f, b'\\', b'"', 0x7f, 0x20, 0x80] {
                let mut bytes = vec![b'a'; length];
                bytes[at] = byte;
                let quoted = [b"\"", &bytes[..], b"\""].concat();
                agrees(&quoted).unwrap_or_else(|difference| panic!("{difference}"));
            }
        }
    }
}

#[test]
fn nesting_is_bounded_and_never_overflows() {
    let mut parser = Parser::default();
    let nested = |depth: usize| "[".repeat(depth) + &"]".repeat(depth);
    assert!(parser.parse(nested(DEPTH_MAX).as_bytes(), DEPTH_MAX).is_ok());
    let error = parser.parse(nested(DEPTH_MAX + 1).as_bytes(), DEPTH_MAX).expect_err("too deep");
    assert_eq!(error.to_string(), "at byte 128: expected less nesting");
    assert!(parser.parse("{\"a\":".repeat(1_000_000).as_bytes(), DEPTH_MAX).is_err());
    assert!(parser.parse(nested(1_000_000).as_bytes(), usize::MAX).is_ok());
}

#[test]
fn numbers_keep_their_text() {
    let mut parser = Parser::default();
    let text = "[9223372036854775807, 9223372036854775808, 1.10, 1e400, 1.0, -2e3, 1.5, \"1\"]";
    let json = parser.parse(text.as_bytes(), DEPTH_MAX).expect("json");
    let numbers: Vec<_> = json.items().map(|item| (item.number(), item.integer())).collect();
    assert_eq!(numbers[0], (Some("9223372036854775807"), Some(i64::MAX)));
    assert_eq!(numbers[1], (Some("9223372036854775808"), None));
    assert_eq!(numbers[2], (Some("1.10"), None));
    assert_eq!(numbers[3], (Some("1e400"), None));
    assert_eq!(numbers[4], (Some("1.0"), Some(1)));
    assert_eq!(numbers[5], (Some("-2e3"), Some(-2_000)));
    assert_eq!(numbers[6], (Some("1.5"), None));
    assert_eq!(numbers[7], (None, None));
}

#[test]
fn raw_text_is_as_it_stands_and_the_last_member_counts() {
    let mut parser = Parser::default();
    let text = r#"{"a": {"x" : [1, 2.0]}, "b":1, "\u0061":"last", "b":null}"#;
    let json = parser.parse(text.as_bytes(), DEPTH_MAX).expect("json");
    let first = json.members().next().expect("a member").1;
    assert_eq!(first.raw(), r#"{"x" : [1, 2.0]}"#);
    assert!(json.get("a").expect("a").is_text("last"));
    assert!(json.get("b").expect("b").is_null());
    assert!(json.get("c").is_none());
}

#[test]
fn a_double_is_exact_if_it_prints_as_its_text() {
    for text in [
        "0.1",
        "-0.0",
        "0",
        "1e22",
        "0.30000000000000004",
        "1.7976931348623157e308",
        "4.9E-324",
        "5e-324",
        "3.40282e38",
        "0e-400",
        "5.6843418860808015E-14",
    ] {
        assert!(exact_double(text).is_some(), "{text}");
    }
    // A double halfway between two texts of seventeen digits is either of them.
    for text in ["2053632118430677.2", "2.0536321184306773e15"] {
        assert_eq!(exact_double(text), Some(8_214_528_473_722_709.0 / 4.0), "{text}");
    }
    assert!(exact_double("-0.0").expect("zero").is_sign_negative());
    for text in [
        "1e400",
        "0.1000000000000000055",
        "12345678901234567.25",
        "1e-400",
        "99999999999999999999.5",
    ] {
        assert_eq!(exact_double(text), None, "{text}");
    }
}

fn any_json() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
        any::<f64>().prop_map(Value::from),
        any::<String>().prop_map(Value::from),
        "[ -~\\n\\t\"\\\\éß🎉]{0,30}".prop_map(Value::from),
    ];
    leaf.prop_recursive(6, 64, 8, |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..8).prop_map(Value::from),
            prop::collection::btree_map(any::<String>(), inner, 0..8)
                .prop_map(|map| Value::Object(map.into_iter().collect())),
        ]
    })
}

proptest! {
    #[test]
    fn what_serde_json_writes_is_read_as_it_reads_it(json in any_json(), pretty in any::<bool>()) {
        let text = if pretty { serde_json::to_string_pretty(&json) } else { serde_json::to_string(&json) };
        agrees(text.expect("json").as_bytes()).map_err(TestCaseError::fail)?;
    }

    #[test]
    fn mutated_documents_are_accepted_and_refused_alike(
        json in any_json(),
        changes in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>(), 0u8..3), 1..4),
    ) {
        let mut bytes = serde_json::to_vec(&json).expect("json");
        for (at, byte, how) in changes {
            let at = at.index(bytes.len().max(1)).min(bytes.len().saturating_sub(1));
            match how {
                0 if !bytes.is_empty() => bytes[at] = byte,
                1 if !bytes.is_empty() => { bytes.remove(at); }
                _ => bytes.insert(at, byte),
            }
        }
        agrees(&bytes).map_err(TestCaseError::fail)?;
    }

    #[test]
    fn texts_of_json_characters_are_accepted_and_refused_alike(text in "[\\[\\]{}:,\"\\\\u0-9eE.+\\-ntfrualse \n]{0,24}") {
        agrees(text.as_bytes()).map_err(TestCaseError::fail)?;
    }
}
