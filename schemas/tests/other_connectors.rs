//! Records in the documented shapes of connectors that no recording is of: what their rows hold.

use lakebed_schemas::change_event::{ChangeEvent, Decoded, Op};
use lakebed_schemas::decoder::{DecodeOptions, Decoder, RecordRef};
use lakebed_schemas::value::Value;
use serde_json::{Value as Json, json};

fn decode(key: &Json, value: &Json) -> Decoded {
    let (key, value) = (key.to_string(), value.to_string());
    Decoder::new(DecodeOptions::default()).decode(&RecordRef {
        topic: "t",
        partition: 0,
        offset: 0,
        timestamp_ms: None,
        key: Some(key.as_bytes()),
        value: Some(value.as_bytes()),
        headers: &[],
    })
}

fn change(key: &Json, value: &Json) -> Box<ChangeEvent> {
    match decode(key, value) {
        Decoded::Change(event) => event,
        other => panic!("{other:?}"),
    }
}

/// A column as the schema has it: its base type, semantic name and parameters, and its value.
type Sent = (&'static str, &'static str, &'static str, Json, Value);

/// The values of a snapshot's record with these columns are the expected ones.
fn check(source: &Json, columns: &[Sent]) {
    let mut fields = vec![json!({ "type": "int32", "optional": false, "field": "id" })];
    let mut after = json!({ "id": 1 });
    for (index, (base, name, parameters, sent, _)) in columns.iter().enumerate() {
        let mut field = json!({ "type": base, "optional": true, "field": format!("c{index}") });
        if !name.is_empty() {
            field["name"] = (*name).into();
        }
        if !parameters.is_empty() {
            field["parameters"] = serde_json::from_str(parameters).expect("JSON");
        }
        if *base == "array" {
            field["items"] = json!({ "type": "double", "optional": true });
        }
        fields.push(field);
        after[format!("c{index}")] = sent.clone();
    }
    let row = json!({ "type": "struct", "fields": fields, "optional": true, "field": "after" });
    let value = json!({
        "schema": { "type": "struct", "fields": [row] },
        "payload": { "before": null, "after": after, "source": source, "op": "c" },
    });
    let event = change(&json!({ "id": 1 }), &value);
    let row = event.after.expect("a row");
    for (index, (base, name, _, _, expected)) in columns.iter().enumerate() {
        let found = row.get(&format!("c{index}"));
        assert_eq!(found, Some(expected), "{}: {base} {name}", event.source.connector);
    }
}

fn text(text: &str) -> Value {
    Value::Text(text.to_owned())
}

fn decimal(unscaled: i128, scale: u8) -> Value {
    Value::Decimal { unscaled, scale }
}

const DECIMAL: &str = "org.apache.kafka.connect.data.Decimal";

#[test]
fn columns_of_sql_server_are_read_as_they_were() {
    let source = json!({
        "version": "3.6.1.Final", "connector": "sqlserver", "name": "s", "ts_ms": 1_720_000_000_000_i64,
        "snapshot": "false", "db": "app", "schema": "dbo", "table": "t",
        "change_lsn": "00000027:00000758:0003", "commit_lsn": "00000027:00000758:0005",
        "event_serial_no": 1,
    });
    check(
        &source,
        &[
            ("int16", "", "", json!(255), Value::Long(255)),
            (
                "bytes",
                DECIMAL,
                r#"{"scale":"4","connect.decimal.precision":"19"}"#,
                json!("AY/J"),
                decimal(102_345, 4),
            ),
            (
                "int64",
                "io.debezium.time.NanoTime",
                "",
                json!(86_399_999_999_900_i64),
                text("23:59:59.9999999"),
            ),
            (
                "int64",
                "io.debezium.time.NanoTimestamp",
                "",
                json!(1_720_000_000_123_456_700_i64),
                Value::Timestamp(1_720_000_000_123_456),
            ),
            (
                "int64",
                "io.debezium.time.Timestamp",
                "",
                json!(1_720_000_000_123_i64),
                Value::Timestamp(1_720_000_000_123_000),
            ),
            (
                "string",
                "io.debezium.time.ZonedTimestamp",
                "",
                json!("2024-07-03T12:46:40.1234567+03:00"),
                Value::TimestampTz(1_720_000_000_123_456),
            ),
            (
                "string",
                "io.debezium.time.ZonedTimestamp",
                "",
                json!("9999-12-31T23:59:59.9999999Z"),
                Value::TimestampTz(253_402_300_799_999_999),
            ),
            ("int32", "io.debezium.time.Date", "", json!(-719_162), Value::Date(-719_162)),
            ("string", "io.debezium.data.Xml", "", json!("<a b=\"1\"/>"), text("<a b=\"1\"/>")),
            (
                "string",
                "",
                "",
                json!("6F9619FF-8B86-D011-B42D-00C04FC964FF"),
                text("6F9619FF-8B86-D011-B42D-00C04FC964FF"),
            ),
            ("bytes", "", "", json!("AAAAAAAAB9E="), Value::Binary(vec![0, 0, 0, 0, 0, 0, 7, 209])),
            (
                "bytes",
                "",
                "",
                json!("X19kZWJleml1bV91bmF2YWlsYWJsZV92YWx1ZQ=="),
                Value::Unavailable,
            ),
            ("string", "", "", json!("__debezium_unavailable_value"), Value::Unavailable),
        ],
    );
}

#[test]
fn columns_of_oracle_are_read_as_they_were() {
    let source = json!({
        "connector": "oracle", "name": "o", "ts_ms": 1_720_000_000_000_i64, "snapshot": "false",
        "db": "ORCL", "schema": "APP", "table": "T", "txId": "0a001f00", "scn": "2868546",
        "commit_scn": "2868570", "rs_id": "0x1", "ssn": 0, "redo_thread": 1, "txSeq": 3,
    });
    let variable = "io.debezium.data.VariableScaleDecimal";
    let duration = "io.debezium.time.MicroDuration";
    check(
        &source,
        &[
            ("struct", variable, "", json!({ "scale": 2, "value": "MDk=" }), text("123.45")),
            ("struct", variable, "", json!({ "scale": -3, "value": "AQ==" }), text("1000")),
            (
                "struct",
                variable,
                "",
                json!({ "scale": 130, "value": "AQ==" }),
                text(&format!("0.{}1", "0".repeat(129))),
            ),
            (
                "bytes",
                DECIMAL,
                r#"{"scale":"-3","connect.decimal.precision":"38"}"#,
                json!("Ag=="),
                text("2000"),
            ),
            (
                "bytes",
                DECIMAL,
                r#"{"scale":"0","connect.decimal.precision":"38"}"#,
                json!("AQ=="),
                decimal(1, 0),
            ),
            (
                "int64",
                "io.debezium.time.Timestamp",
                "",
                json!(-62_135_596_800_000_i64),
                Value::Timestamp(-62_135_596_800_000_000),
            ),
            (
                "int64",
                "io.debezium.time.Timestamp",
                "",
                json!(-210_863_520_000_000_i64),
                Value::OutOfRange("-4712-01-01T00:00:00".to_owned()),
            ),
            ("int64", "io.debezium.time.MicroTimestamp", "", json!(1), Value::Timestamp(1)),
            ("int64", "io.debezium.time.NanoTimestamp", "", json!(-1), Value::Timestamp(-1)),
            (
                "string",
                "io.debezium.time.ZonedTimestamp",
                "",
                json!("2024-07-03T11:46:40.123456+02:00"),
                Value::TimestampTz(1_720_000_000_123_456),
            ),
            (
                "int64",
                duration,
                "",
                json!(-31_557_600_000_000_i64),
                Value::Long(-31_557_600_000_000),
            ),
            ("double", duration, "", json!(1.5e6), Value::Double(1_500_000.0)),
            (
                "string",
                "io.debezium.time.Interval",
                "",
                json!("P1Y2M3DT4H5M6.78S"),
                text("P1Y2M3DT4H5M6.78S"),
            ),
            ("string", "", "", json!("__debezium_unavailable_value"), Value::Unavailable),
        ],
    );
}

#[test]
fn columns_of_db2_informix_and_vitess_are_read_as_they_were() {
    let db2 = json!({
        "connector": "db2", "name": "d", "ts_ms": 1, "snapshot": "false", "db": "TESTDB",
        "schema": "DB2INST1", "table": "T", "change_lsn": "00000000:00000000:00000000:0000aa",
        "commit_lsn": "00000000:00000000:00000000:0000ab",
    });
    check(
        &db2,
        &[
            ("string", "io.debezium.data.Xml", "", json!("<r/>"), text("<r/>")),
            ("int64", "io.debezium.time.NanoTimestamp", "", json!(1_999), Value::Timestamp(1)),
            (
                "bytes",
                DECIMAL,
                r#"{"scale":"31","connect.decimal.precision":"31"}"#,
                json!("AQ=="),
                decimal(1, 31),
            ),
            ("int32", "io.debezium.time.Time", "", json!(86_400_000), text("24:00:00")),
        ],
    );
    let informix = json!({
        "connector": "informix", "name": "i", "ts_ms": 1, "snapshot": "false", "db": "app",
        "schema": "informix", "table": "t", "commit_lsn": "21484679168", "change_lsn": "21484679200",
        "txId": "5", "begin_lsn": "21484679100",
    });
    check(
        &informix,
        &[
            (
                "struct",
                "io.debezium.data.VariableScaleDecimal",
                "",
                json!({ "scale": 0, "value": "AQ==" }),
                text("1"),
            ),
            ("int64", "io.debezium.time.MicroTimestamp", "", json!(1), Value::Timestamp(1)),
            (
                "string",
                "io.debezium.time.Interval",
                "",
                json!("P0Y0M1DT0H0M0S"),
                text("P0Y0M1DT0H0M0S"),
            ),
        ],
    );
    let vitess = json!({
        "connector": "vitess", "name": "v", "ts_ms": 1, "snapshot": "false", "db": "",
        "keyspace": "commerce", "table": "t", "shard": "-80",
        "vgtid": "[{\"keyspace\":\"commerce\",\"shard\":\"-80\",\"gtid\":\"MySQL56/a:1-38\"}]",
    });
    check(
        &vitess,
        &[
            // Unsigned bigints are text unless told otherwise.
            ("string", "", "", json!("18446744073709551615"), text("18446744073709551615")),
            ("string", "io.debezium.data.Enum", r#"{"allowed":"a,b"}"#, json!("b"), text("b")),
            (
                "string",
                "io.debezium.data.EnumSet",
                r#"{"allowed":"a,b"}"#,
                json!("a,b"),
                text("a,b"),
            ),
            ("string", "io.debezium.data.Json", "", json!("{\"a\": 1.10}"), text("{\"a\": 1.10}")),
            ("int32", "io.debezium.time.Year", "", json!(0), Value::Long(0)),
            (
                "string",
                "io.debezium.time.ZonedTimestamp",
                "",
                json!("1970-01-01T00:00:00Z"),
                Value::TimestampTz(0),
            ),
        ],
    );
}

#[test]
fn columns_of_spanner_are_read_as_they_were_and_parts_of_rows_are_refused() {
    let source = |capture: &str| {
        json!({
            "connector": "spanner", "name": "s", "ts_ms": 1, "snapshot": "false", "db": "d",
            "sequence": "1", "project_id": "p", "instance_id": "i", "database_id": "d",
            "change_stream_name": "c", "table": "t", "server_transaction_id": "x",
            "value_capture_type": capture, "mod_number": 0,
        })
    };
    check(
        &source("NEW_ROW"),
        &[
            (
                "string",
                "",
                "",
                json!("99999999999999999999999999999.999999999"),
                text("99999999999999999999999999999.999999999"),
            ),
            (
                "string",
                "",
                "",
                json!("2024-07-03T09:46:40.123456789Z"),
                text("2024-07-03T09:46:40.123456789Z"),
            ),
            (
                "array",
                "",
                "",
                json!([1.5, null]),
                Value::List(vec![Value::Double(1.5), Value::Null]),
            ),
        ],
    );
    let update = |capture: &str| {
        let value = json!({ "after": { "id": 1, "v": 2 }, "source": source(capture), "op": "u" });
        decode(&json!({ "id": 1 }), &value)
    };
    assert!(matches!(update("NEW_ROW"), Decoded::Change(_)));
    for capture in ["OLD_AND_NEW_VALUES", "NEW_VALUES"] {
        let Decoded::Malformed { reason } = update(capture) else { panic!("{capture} is taken") };
        assert!(reason.contains("NEW_ROW"), "{reason}");
    }
}

#[test]
fn a_document_of_mongodb_is_kept_as_text_under_its_key() {
    let source = json!({
        "connector": "mongodb", "name": "m", "ts_ms": 1_558_965_508_000_i64, "snapshot": "false",
        "db": "inventory", "collection": "customers", "ord": 1, "wallTime": 1_558_965_508_123_i64,
    });
    let key = json!({ "id": "{\"$oid\": \"596e275826f08b2730779e1f\"}" });
    let document = "{\"_id\": {\"$oid\": \"596e275826f08b2730779e1f\"},\"n\": {\"$numberLong\": \"9007199254740993\"}}";
    let described = json!({ "updatedFields": "{\"n\": 1}", "removedFields": null });
    for (op, schema) in [("r", false), ("c", false), ("u", false), ("c", true)] {
        let mut value = json!({
            "before": null, "after": document, "source": source, "op": op,
            "updateDescription": if op == "u" { described.clone() } else { Json::Null },
        });
        if schema {
            let after = json!({ "type": "string", "optional": true, "name": "io.debezium.data.Json", "field": "after" });
            value = json!({ "schema": { "type": "struct", "fields": [after] }, "payload": value });
        }
        let event = change(&key, &value);
        let row = event.after.expect("a row");
        let names: Vec<&str> = row.shape.fields.iter().map(|field| field.name.as_str()).collect();
        assert_eq!(names, ["id", "document"], "{op}");
        assert_eq!(row.values[0], text("{\"$oid\": \"596e275826f08b2730779e1f\"}"));
        assert_eq!(row.values[1], text(document));
        assert_eq!(event.key.expect("a key").values, row.values[..1]);
    }
    let gone = json!({ "before": document, "after": null, "source": source, "op": "d" });
    let event = change(&key, &gone);
    assert_eq!((event.op, event.after, event.before), (Op::Delete, None, None));
    let patch =
        json!({ "after": null, "updateDescription": described, "source": source, "op": "u" });
    let Decoded::Malformed { reason } = decode(&key, &patch) else { panic!("a patch is taken") };
    assert!(reason.contains("change_streams_update_full"), "{reason}");
}

#[test]
fn rows_of_one_collection_share_their_shape() {
    let source = json!({ "connector": "mongodb", "snapshot": "false" });
    let mut decoder = Decoder::new(DecodeOptions::default());
    let mut row = |id: &str| {
        let key = json!({ "id": id }).to_string();
        let value = json!({ "after": "{}", "source": source, "op": "c" }).to_string();
        let record = RecordRef {
            topic: "t",
            partition: 0,
            offset: 0,
            timestamp_ms: None,
            key: Some(key.as_bytes()),
            value: Some(value.as_bytes()),
            headers: &[],
        };
        match decoder.decode(&record) {
            Decoded::Change(event) => event.after.expect("a row"),
            other => panic!("{other:?}"),
        }
    };
    let (first, second) = (row("1"), row("2"));
    assert!(std::sync::Arc::ptr_eq(&first.shape, &second.shape));
    assert_ne!(first.values, second.values);
}
