//! Values without an inline schema: what the JSON shows, or what the configuration says.

use super::*;
use crate::column::ColumnType;

#[test]
fn without_schema_values_are_what_the_json_shows() {
    let mut decoder = Decoder::new(DecodeOptions::default());
    let json = r#"{"i":9007199254740993,"d":0.1,"b":true,"s":"x","o":{"a" : 1.10},"a":[1],"n":null,"e":1E2}"#;
    let found = row(&mut decoder, json);
    assert_eq!(typed(&found), ["long", "double", "boolean", "text", "text", "text", "?", "double"]);
    let expected = [
        Value::Long(9_007_199_254_740_993),
        Value::Double(0.1),
        Value::Boolean(true),
        text("x"),
        text(r#"{"a" : 1.10}"#),
        text("[1]"),
        Value::Null,
        Value::Double(100.0),
    ];
    assert_eq!(found.values, expected);
    let lossy = row(&mut decoder, r#"{"i":9223372036854775808,"d":0.1000000000000000055}"#);
    let out = |text: &str| Value::OutOfRange(text.to_owned());
    assert_eq!(lossy.values, [out("9223372036854775808"), out("0.1000000000000000055")]);
    assert_eq!(typed(&lossy), ["long", "double"]);
}

#[test]
fn without_schema_nulls_fit_the_shape_that_was_there_before() {
    let mut decoder = Decoder::new(DecodeOptions::default());
    let first = row(&mut decoder, r#"{"id":1,"v":null}"#).shape;
    let second = row(&mut decoder, r#"{"id":2,"v":"a"}"#).shape;
    assert_eq!(first.fields[1].column_type, None);
    assert_eq!(second.fields[1].column_type, Some(ColumnType::Text));
    for again in [r#"{"id":3,"v":null}"#, r#"{"id":4,"v":"b"}"#, r#"{"id":null,"v":null}"#] {
        assert!(Arc::ptr_eq(&row(&mut decoder, again).shape, &second), "{again}");
    }
    let other = row(&mut decoder, r#"{"v":1,"id":5}"#);
    assert_eq!(typed(&other), ["long", "long"]);
    assert!(Arc::ptr_eq(&row(&mut decoder, r#"{"id":6,"v":null}"#).shape, &second));
    let added = row(&mut decoder, r#"{"id":7,"v":null,"w":null}"#);
    assert_eq!(typed(&added)[2], "?");
    assert_eq!(typed(&row(&mut decoder, r#"{"id":7,"v":null,"id":"x"}"#)), ["text", "text"]);
}

#[test]
fn configured_columns_go_before_everything() {
    let column = |column_type, encoding| {
        ColumnOverride::parse(column_type, None, Some(encoding)).expect("a column")
    };
    let columns = [("c", column("decimal(10,2)", "base64")), ("at", column("timestamp", "micros"))];
    let columns = columns.into_iter().map(|(name, column)| (name.to_owned(), column)).collect();
    let mut decoder = Decoder::new(DecodeOptions { columns, ..DecodeOptions::default() });
    let found = row(&mut decoder, r#"{"c":"AY/J","at":null,"x":1}"#);
    assert_eq!(typed(&found), ["decimal(10,2)", "timestamp", "long"]);
    assert_eq!(found.values[0], Value::Decimal { unscaled: 102_345, scale: 2 });
    let wrong = decode_value(&mut decoder, &envelope("c", r#"{"c":"!","at":1,"x":1}"#));
    assert!(
        matches!(wrong, Decoded::Malformed { reason } if reason.starts_with("`after.c` is not"))
    );
    let again = row(&mut decoder, r#"{"c":"AA==","at":1,"x":null}"#);
    assert!(Arc::ptr_eq(&again.shape, &found.shape));
}
