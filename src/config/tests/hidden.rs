//! Columns left out or masked, and limits.

use std::path::Path;

use lakebed_schemas::masking::Rule;

use super::{SMALLEST, parse, refused};

const KEY: &str = "masking: { hmac_key: \"${env:K}\" }\n";

/// The smallest file with one more line in its table.
fn entry(line: &str) -> String {
    format!("{SMALLEST}    {line}\n")
}

fn key(name: &str) -> Option<String> {
    (name == "K").then(|| "0123456789abcdef".to_owned())
}

#[test]
fn columns_are_left_out_and_masked_as_written() {
    let columns = "columns: { a: { exclude: true }, b: { mask: null }, c: { mask: last4 }, d: { mask: hmac-sha256 }, e: { mask: 'null' } }";
    let text = format!("{KEY}{}", entry(columns));
    let config = parse(&text, Path::new("lakebed.yaml"), &key).expect("accepted");
    let rules: Vec<_> = config.tables[0].masking.rules().collect();
    let expected =
        [("a", Rule::Exclude), ("b", Rule::Null), ("c", Rule::LastFour), ("d", Rule::Hmac)];
    assert_eq!(rules[..4], expected);
    assert_eq!(rules[4], ("e", Rule::Null));
    assert!(!format!("{config:?}").contains("0123456789abcdef"));
}

#[test]
fn what_would_not_hide_or_would_merge_rows_is_refused() {
    let cases = [
        (entry("columns: { a: { mask: x } }"), "`x` is not known here"),
        (entry("columns: { a: { mask: hmac-sha256 } }"), "columns.a.mask`: needs a key"),
        (entry("columns: { a: { mask: last4, exclude: true } }"), "left out and masked"),
        (entry("columns: { a: { mask: last4, type: long } }"), "has a type"),
        (entry("key: [a]\n    columns: { a: { mask: last4 } }"), "different keys equal"),
        (entry("key: [a]\n    columns: { a: { exclude: true } }"), "different keys equal"),
        (format!("masking: {{ hmac_key: geheim }}\n{SMALLEST}"), "stands in the file itself"),
        (entry("limits: { depth: 4 }"), "tables[0].limits.depth`: 4 is no limit"),
        (format!("limits: {{ decimal_digits: 99999 }}\n{SMALLEST}"), "limits.decimal_digits`"),
        (
            SMALLEST.replace("kafka:", "kafka:\n  connect: { url: 'c:8083' }"),
            "kafka.connect.url`: is not an address",
        ),
    ];
    for (text, expected) in cases {
        let said = refused(&text);
        assert!(said.contains(expected), "{text}\n{said}");
    }
    let short = format!("{KEY}{SMALLEST}");
    let error = parse(&short, Path::new("lakebed.yaml"), &|_| Some("k3y!".to_owned()));
    let said = error.expect_err("refused").to_string();
    assert!(said.contains("shorter than 16 bytes") && !said.contains("k3y!"), "{said}");
}

#[test]
fn limits_of_a_table_go_before_those_of_all() {
    let all = "limits: { text_bytes: 2KiB, fields: 7 }\n";
    let text = format!("{all}{}", entry("limits: { fields: 8, new_columns_per_hour: 0 }"));
    let config = parse(&text, Path::new("lakebed.yaml"), &|_| None).expect("accepted");
    let limits = config.tables[0].limits;
    assert_eq!((limits.record.text_bytes_max, limits.record.fields_max), (2048, 8));
    assert_eq!((limits.record.depth_max, limits.new_columns_per_hour), (128, 0));
}
