//! Records that are not understood: the reason names the place, and no value of the row.

use base64::Engine;

use super::*;

#[test]
fn what_cannot_be_understood_says_why_and_shows_no_value() {
    let secret = "hunter2";
    for (value, expected) in [
        ("", "value is empty"),
        ("{\"after\":\"hunter2", "not JSON: at byte"),
        ("\u{0}\u{0}\u{0}\u{0}\u{1}hunter2", "a Confluent or Apicurio registry"),
        ("\"hunter2\"", "not an object"),
        ("[1,2]", "not an object"),
        (r#"{"id":1,"password":"hunter2"}"#, "no `op`"),
        (
            r#"{"op":"x","source":{"connector":"a"},"after":{"p":"hunter2"}}"#,
            "none of r, c, u, d, t, m",
        ),
        (r#"{"op":5,"source":{},"after":{}}"#, "none of"),
        (r#"{"op":"c","after":{"p":"hunter2"}}"#, "`source` is missing"),
        (r#"{"op":"c","source":{},"after":{}}"#, "`source.connector`"),
        (r#"{"op":"c","source":{"connector":"a"},"after":null}"#, "`after` is missing"),
        (r#"{"op":"d","source":{"connector":"a"},"after":{"p":"hunter2"}}"#, "`after` is not null"),
        (r#"{"op":"c","source":{"connector":"a"},"after":"hunter2"}"#, "`after` is not an object"),
        (
            r#"{"schema":{"type":"struct","fields":[{"type":"struct","field":"after","fields":[{"type":"hunter","field":"f"}]}]},"payload":{}}"#,
            "`f` has the unknown type",
        ),
    ] {
        let reason = reason(value.as_bytes());
        assert!(reason.contains(expected), "{value}: {reason}");
        assert!(!reason.contains(secret), "{reason}");
    }
    assert!(reason(b"{\"op\":\"\xff\"}").contains("expected UTF-8"));
    assert!(reason(&[b'['; 200]).contains("`limits.depth`"));
    assert!(reason(&vec![b' '; (32 << 20) + 1]).contains("more than the 33554432 allowed"));
    let wide: Vec<String> = (0..5_001).map(|field| format!("\"f{field}\":1")).collect();
    let wide = envelope("c", &format!("{{{}}}", wide.join(",")));
    assert!(reason(wide.as_bytes()).contains("more than 5000 fields"));
    let mut decoder = Decoder::new(DecodeOptions::default());
    let bad_key = decode_bytes(&mut decoder, "t", Some(b"5"), None, &[]);
    assert!(
        matches!(bad_key, Decoded::Malformed { reason } if reason.contains("`key` is not an object"))
    );
}

#[test]
fn a_decimal_of_more_digits_than_allowed_is_refused_and_one_of_as_many_is_taken() {
    let decimal = |digits: usize| {
        let unscaled = num_bytes(digits);
        format!(
            r#"{{"schema":{{"type":"struct","optional":false,"name":"t.Envelope","fields":[{{"field":"after","type":"struct","optional":true,"name":"t.Value","fields":[{{"field":"id","type":"int32","optional":false}},{{"field":"n","type":"bytes","optional":true,"name":"org.apache.kafka.connect.data.Decimal","version":1,"parameters":{{"scale":"2"}}}}]}}]}},"payload":{{"before":null,"after":{{"id":1,"n":"{unscaled}"}},"source":{{"connector":"postgresql","lsn":7}},"op":"c"}}}}"#
        )
    };
    let limits = Limits { decimal_digits_max: 60, ..Limits::default() };
    let options = DecodeOptions { limits, ..DecodeOptions::default() };
    let mut decoder = Decoder::new(options.clone());
    let taken = change(decode_value(&mut decoder, &decimal(60))).after.expect("a row");
    let digits = |value: &Value| match value {
        Value::Text(text) | Value::OutOfRange(text) => {
            text.bytes().filter(u8::is_ascii_digit).count()
        }
        other => panic!("{other:?}"),
    };
    assert_eq!(taken.get("n").map(digits), Some(60));
    let Decoded::Malformed { reason } = decode_value(&mut decoder, &decimal(61)) else {
        panic!("61 digits are understood");
    };
    assert!(reason.contains("`after.n` has 61 digits, more than the 60 allowed"), "{reason}");
    assert_eq!(LimitName::named_in(&reason), Some(LimitName::DecimalDigits));
    let mut roomy = Decoder::new(DecodeOptions { limits: Limits::default(), ..options });
    assert_eq!(
        change(decode_value(&mut roomy, &decimal(61))).after.expect("a row").get("n").map(digits),
        Some(61)
    );
    // A text is no number, however many digits it has.
    let text = "7".repeat(61);
    let row = row(&mut decoder, &format!(r#"{{"id":1,"n":"{text}"}}"#));
    assert_eq!(row.get("n"), Some(&Value::Text(text)));
}

/// Base64 of the two's complement of a number of so many digits, all of them 9.
fn num_bytes(digits: usize) -> String {
    let mut bytes = vec![0u8];
    for _ in 0..digits {
        let mut carry = 9;
        for byte in bytes.iter_mut().rev() {
            let value = u32::from(*byte) * 10 + carry;
            *byte = value as u8;
            carry = value >> 8;
        }
        if carry > 0 {
            bytes.insert(0, carry as u8);
        }
    }
    if bytes[0] > 127 {
        bytes.insert(0, 0);
    }
    base64::prelude::BASE64_STANDARD.encode(bytes)
}
