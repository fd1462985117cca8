//! Any bytes at all, and records that another one came before: nothing panics, nothing sticks.

use proptest::prelude::*;

use super::*;
use crate::json::DEPTH_MAX;

fn without_shapes(mut decoded: Decoded) -> Decoded {
    if let Decoded::Change(event) = &mut decoded {
        let rows = [&mut event.key, &mut event.before, &mut event.after, &mut event.old_key];
        rows.into_iter().flatten().for_each(|row| row.shape = Arc::default());
    }
    if let Decoded::Tombstone { key: Some(row) } = &mut decoded {
        row.shape = Arc::default();
    }
    decoded
}

/// A mutation of some bytes: where, what, how.
fn mutate(bytes: &mut Vec<u8>, (at, byte, how): (prop::sample::Index, u8, u8)) {
    if bytes.is_empty() {
        return;
    }
    let at = at.index(bytes.len());
    match how {
        0 => bytes[at] = byte,
        1 => drop(bytes.remove(at)),
        2 => bytes.insert(at, byte),
        3 => bytes.truncate(at),
        _ => {
            let tail = bytes[at..].to_vec();
            bytes.extend(tail);
        }
    }
}

#[test]
fn a_schema_seen_before_changes_nothing_of_what_comes_out() {
    let schema = r#"{"type":"struct","fields":[{"type":"struct","fields":[{"type":"int64","optional":true,"field":"id"}],"optional":true,"field":"after"}]}"#;
    let record = |source: &str, end: &str| {
        let payload = format!(
            r#"{{"op":"c","after":{{"id":1}},"source":{{"connector":"postgresql","ts_ms":1,"lsn":1{source}}}}}"#
        );
        format!(r#"{{"schema":{schema},"payload":{payload}{end}}}"#)
    };
    let nested = |depth: usize| format!(",\"x\":{}{}", "[".repeat(depth), "]".repeat(depth));
    let deep = (DEPTH_MAX - 6..DEPTH_MAX + 3).map(|depth| record(&nested(depth), ""));
    let odd = [r#","payload":null"#, r#","payload":1"#, r#","schema":null"#, "}", ""];
    let (mut understood, mut refused) = (0, 0);
    for value in deep.chain(odd.iter().map(|end| record("", end))) {
        let mut decoder = Decoder::new(DecodeOptions::default());
        change(decode_value(&mut decoder, &record("", "")));

        let known = decode_value(&mut decoder, &value);

        let new = decode_value(&mut Decoder::new(DecodeOptions::default()), &value);
        assert_eq!(known, new, "{value}");
        *if matches!(new, Decoded::Change(_)) { &mut understood } else { &mut refused } += 1;
    }
    assert!(understood > 1 && refused > 1, "{understood} and {refused}");
}

proptest! {
    // More of them by hand: PROPTEST_CASES.
    #![proptest_config(ProptestConfig {
        cases: ProptestConfig::default().cases.max(1_000),
        failure_persistence: None,
        ..ProptestConfig::default()
    })]

    #[test]
    fn no_mutation_of_a_record_makes_the_decoder_panic(
        which in any::<prop::sample::Index>(),
        mutations in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>(), 0u8..5), 1..6),
        in_key in any::<bool>(),
    ) {
        let lines: Vec<&str> = FIXTURES.lines().collect();
        let fixture = Fixture::read(lines[which.index(lines.len())]);
        let mut decoder = Decoder::new(DecodeOptions::default());
        let whole = fixture.decode(&mut decoder);
        let mut key = fixture.key.clone().map(String::into_bytes);
        let mut value = fixture.value.clone().map(String::into_bytes);
        if let Some(bytes) = if in_key { key.as_mut() } else { value.as_mut() } {
            mutations.into_iter().for_each(|mutation| mutate(bytes, mutation));
        }
        let decoded =
            decode_bytes(&mut decoder, "t", key.as_deref(), value.as_deref(), &fixture.headers);
        if let Decoded::Malformed { reason } = decoded {
            prop_assert!(!reason.is_empty() && reason.len() < 400);
        }
        // Whatever came in between, what was understood is understood in the same way; only the
        // types of nulls may have become known.
        prop_assert_eq!(without_shapes(fixture.decode(&mut decoder)), without_shapes(whole));
    }

    #[test]
    fn a_long_and_its_text_are_one_number(number in any::<i64>()) {
        let mut decoder = Decoder::new(DecodeOptions::default());
        let found = row(&mut decoder, &format!("{{\"n\":{number}}}"));
        prop_assert_eq!(&found.values[0], &Value::Long(number));
    }

    #[test]
    fn a_double_survives_as_java_and_rust_print_it(number in any::<f64>()) {
        prop_assume!(number.is_finite());
        let mut decoder = Decoder::new(DecodeOptions::default());
        for text in [format!("{number:e}"), format!("{number:?}"), format!("{number:.16e}")] {
            let found = row(&mut decoder, &format!("{{\"n\":{text}}}"));
            let expected = if text.contains(['.', 'e']) { Value::Double(number) } else { continue };
            prop_assert_eq!(&found.values[0], &expected, "{}", text);
        }
    }
}
