//! Tables whose source changes its columns while it is read, in both formats.
//!
//! Each history is read twice: one record a batch with a restart after each, and all of it in one
//! batch. Columns and rows must be the same.

use std::collections::BTreeMap;

use lakebed_schemas::config::ResolvedConfig;
use lakebed_schemas::value::Value;
use lakebed_sinks::table::arrow_values::value_at;
use lakebed_sinks::table::reader;

use super::world::message;
use super::*;
use crate::source::Message;

const FORMATS: [&str; 2] = ["    format: iceberg\n", "    format: delta\n"];

/// A field of a record: name, type and value, as JSON.
type Cell<'a> = (&'a str, &'a str, &'a str);

/// Columns of the source (`name type`), and rows by key with the columns that are not NULL.
type Told = (Vec<String>, BTreeMap<String, String>);

fn connect_type(kind: &str) -> String {
    let decimal = |digits: &str| {
        let (precision, scale) = digits.trim_end_matches(')').split_once(',').expect("two");
        format!(
            r#""type":"bytes","name":"org.apache.kafka.connect.data.Decimal","version":1,"parameters":{{"scale":"{scale}","connect.decimal.precision":"{precision}"}}"#
        )
    };
    match (kind.strip_prefix("decimal("), kind.strip_suffix("[]")) {
        (Some(digits), _) => decimal(digits),
        (_, Some(element)) => {
            format!(r#""type":"array","items":{{{},"optional":true}}"#, connect_type(element))
        }
        _ => format!(r#""type":"{kind}""#),
    }
}

fn structure(name: &str, cells: &[Cell<'_>]) -> String {
    let fields = cells.iter().map(|(name, kind, _)| {
        format!(r#"{{{},"optional":true,"field":"{name}"}}"#, connect_type(kind))
    });
    let fields: Vec<String> = fields.collect();
    format!(
        r#"{{"type":"struct","optional":true,"field":"{name}","fields":[{}]}}"#,
        fields.join(",")
    )
}

fn image(cells: &[Cell<'_>]) -> String {
    let cells = cells.iter().map(|(name, _, value)| format!(r#""{name}":{value}"#));
    format!("{{{}}}", cells.collect::<Vec<_>>().join(","))
}

/// An event with its schema inside; the first cell is the key.
fn event(op: &str, offset: i64, cells: &[Cell<'_>]) -> Message {
    let key = &cells[..1];
    let (before, after) = match op {
        "d" => (image(key), "null".to_owned()),
        _ => ("null".to_owned(), image(cells)),
    };
    let value = format!(
        r#"{{"schema":{{"type":"struct","fields":[{},{},{{"type":"string","field":"op"}}]}},"payload":{{"before":{before},"after":{after},"source":{{"connector":"postgresql","ts_ms":1,"lsn":{},"txId":1}},"op":"{op}","ts_ms":1}}}}"#,
        structure("before", cells),
        structure("after", cells),
        1_000 + offset,
    );
    let key = format!(r#"{{"schema":{},"payload":{}}}"#, structure("key", key), image(key));
    message(&tp(0), offset, 1, Some(key), Some(value))
}

fn shown(value: &Value) -> String {
    match value {
        Value::Long(n) => n.to_string(),
        Value::Double(x) => format!("{x:?}"),
        Value::Float(x) => format!("{x:?}f"),
        Value::Decimal { unscaled, scale } => format!("{unscaled}e-{scale}"),
        Value::Text(text) => text.clone(),
        Value::List(items) => format!("{:?}", items.iter().map(shown).collect::<Vec<_>>()),
        other => format!("{other:?}"),
    }
}

/// What silver holds.
async fn told(config: &ResolvedConfig) -> Told {
    let head = head(config, SILVER).await.expect("the table is there");
    let storage = crate::tables::open_lake(config)
        .await
        .expect("lake")
        .storage
        .child(&SILVER.replace('.', "/"));
    let own = |name: &str| !lakebed_schemas::silver::is_system(name);
    let columns = head.schema.columns.iter().filter(|column| own(&column.name));
    let columns = columns.map(|column| format!("{} {}", column.name, column.column_type)).collect();
    let all: Vec<usize> = (0..head.schema.columns.len()).collect();
    let mut rows = BTreeMap::new();
    let mut batches = reader::scan(&storage, &head, &all);
    while let Some(batch) = futures::TryStreamExt::try_next(&mut batches).await.expect("reads") {
        for row in 0..batch.num_rows() {
            let cells =
                batch.columns().iter().zip(&head.schema.columns).filter_map(|(array, c)| {
                    let value = value_at(array, &c.column_type, row);
                    let told = own(&c.name) || c.name == "_cdc_incomplete";
                    (told && !value.is_null()).then(|| format!("{}={}", c.name, shown(&value)))
                });
            let mut cells = cells.collect::<Vec<_>>().into_iter();
            let key = cells.next().expect("a key");
            let twice = rows.insert(key, cells.collect::<Vec<_>>().join(" "));
            assert!(twice.is_none(), "a key is there twice");
        }
    }
    (columns, rows)
}

/// One record a batch, the process begun anew after each.
async fn step_by_step(entry: &'static str, history: &[Vec<Cell<'_>>]) -> Told {
    let folder = tempfile::tempdir().expect("folder");
    let setting = Setting { entry, ..Setting::default() };
    let mut config = None;
    for (offset, cells) in (0..).zip(history) {
        let world = World::start(&folder, &setting);
        world.assign(1, &[tp(0)]).await;
        world.read(vec![event(op(cells), offset, cells)]);
        world.stands_at(SILVER, &tp(0), offset + 1).await;
        config = Some(world.config.clone());
        assert_eq!(world.stop().await, RunEnd::Done);
    }
    told(&config.expect("a history has records")).await
}

async fn in_one_batch(entry: &'static str, history: &[Vec<Cell<'_>>]) -> Told {
    let folder = tempfile::tempdir().expect("folder");
    let world = World::start(&folder, &Setting { entry, ..Setting::default() });
    world.assign(1, &[tp(0)]).await;
    let events = (0..).zip(history).map(|(offset, cells)| event(op(cells), offset, cells));
    world.read(events.collect());
    let end = i64::try_from(history.len()).expect("few");
    world.stands_at(SILVER, &tp(0), end).await;
    let config = world.config.clone();
    assert_eq!(world.stop().await, RunEnd::Done);
    told(&config).await
}

/// A row of the key alone is a delete.
fn op(cells: &[Cell<'_>]) -> &'static str {
    if cells.len() == 1 { "d" } else { "u" }
}

/// Reads the history both ways, in both formats: columns as in Iceberg and in Delta, rows alike.
async fn check(history: &[Vec<Cell<'_>>], columns: [&[&str]; 2], rows: &[(&str, &str)]) {
    let rows = rows.iter().map(|(key, cells)| ((*key).to_owned(), (*cells).to_owned())).collect();
    for (entry, columns) in FORMATS.into_iter().zip(columns) {
        let columns = columns.iter().map(|column| (*column).to_owned()).collect();
        let wanted: Told = (columns, BTreeMap::clone(&rows));
        assert_eq!(step_by_step(entry, history).await, wanted, "step by step, {entry}");
        assert_eq!(in_one_batch(entry, history).await, wanted, "in one batch, {entry}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn columns_come_and_go_and_change_their_names() {
    let history = [
        vec![("id", "int32", "1"), ("a", "string", r#""a1""#)],
        vec![("id", "int32", "2"), ("a", "string", r#""a2""#), ("b", "int64", "2")],
        // `a` is dropped: rows that change lose it, others keep it.
        vec![("id", "int32", "2"), ("b", "int64", "22")],
        // `b` becomes `c`.
        vec![("id", "int32", "3"), ("c", "int64", "3")],
        vec![("id", "int32", "3"), ("c", "int64", "33"), ("a", "string", r#""back""#)],
    ];
    let columns = |key| [key, "a text", "b long", "c long"];
    let (iceberg, delta) = (columns("id int"), columns("id long"));
    let rows = [("id=1", "a=a1"), ("id=2", "b=22"), ("id=3", "a=back c=33")];
    check(&history, [&iceberg, &delta], &rows).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn numbers_widen_and_narrow_again_without_a_new_column() {
    let row = |id, wide: bool| {
        let pick = |narrow, wider| if wide { wider } else { narrow };
        vec![
            ("id", "int32", id),
            ("n", pick("int32", "int64"), pick("7", "5000000000")),
            ("x", pick("float", "double"), pick("0.5", "0.1")),
            // 12.34, and 12345678.90.
            ("price", pick("decimal(6,2)", "decimal(12,2)"), pick(r#""BNI=""#, r#""SZYC0g==""#)),
            ("list", pick("int32[]", "int64[]"), pick("[1,null]", "[5000000000]")),
        ]
    };
    let history = [row("1", false), row("2", true), row("3", false), row("1", true)];
    let narrow = "list=[\"1\", \"Null\"]";
    let wide = "n=5000000000 x=0.1 price=1234567890e-2 list=[\"5000000000\"]";
    let narrow = format!("n=7 x=0.5 price=1234e-2 {narrow}");
    check(
        &history,
        [
            &["id int", "n long", "x double", "price decimal(12,2)", "list list<long>"],
            &["id long", "n long", "x double", "price decimal(38,2)", "list list<long>"],
        ],
        &[("id=1", wide), ("id=2", wide), ("id=3", &narrow)],
    )
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn another_type_is_another_column_and_flips_find_the_first_again() {
    let row = |id, kind, value| vec![("id", "int32", id), ("d", kind, value)];
    let history = [
        row("1", "string", r#""one""#),
        row("2", "int32", "2"),
        row("3", "string", r#""three""#),
        row("2", "decimal(12,2)", r#""BNI=""#),
        row("4", "decimal(12,4)", r#""MDk=""#),
        row("5", "int64", "5"),
        // A column of the source's own that has the name of one made above.
        vec![("id", "int32", "6"), ("d__2", "boolean", "true"), ("d", "int32", "6")],
    ];
    let rows = [
        ("id=1", "d=one"),
        ("id=2", "d__3=1234e-2"),
        ("id=3", "d=three"),
        ("id=4", "d__4=12345e-4"),
        ("id=5", "d__2=5"),
        ("id=6", "d__2=6 d__2__2=Boolean(true)"),
    ];
    check(
        &history,
        [
            &[
                "id int",
                "d text",
                "d__2 long",
                "d__3 decimal(12,2)",
                "d__4 decimal(12,4)",
                "d__2__2 boolean",
            ],
            &[
                "id long",
                "d text",
                "d__2 long",
                "d__3 decimal(38,2)",
                "d__4 decimal(38,4)",
                "d__2__2 boolean",
            ],
        ],
        &rows,
    )
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn names_that_meet_or_belong_to_others_get_a_suffix_and_keep_it() {
    let row = |id, more: &[Cell<'static>]| {
        let mut cells = vec![("Id", "int32", id), ("Total", "int64", id)];
        cells.extend_from_slice(more);
        cells
    };
    let history = [
        row("1", &[("TOTAL", "int64", "11"), ("a b", "string", r#""blank""#)]),
        row("2", &[("a.b", "string", r#""dot""#), ("_cdc_op", "string", r#""mine""#)]),
        row("3", &[("_file", "int64", "3"), ("TOTAL", "int64", "33"), ("total", "int64", "333")]),
        // In another order, after a restart.
        row("4", &[("_cdc_op", "string", r#""x""#), ("a.b", "string", r#""y""#)]),
    ];
    let columns = |key| {
        [
            key,
            "total long",
            "total__2 long",
            "a_b text",
            "a_b__2 text",
            "_cdc_op__2 text",
            "_file__2 long",
            "total__3 long",
        ]
    };
    let (iceberg, delta) = (columns("id int"), columns("id long"));
    let rows = [
        ("id=1", "total=1 total__2=11 a_b=blank"),
        ("id=2", "total=2 a_b__2=dot _cdc_op__2=mine"),
        ("id=3", "total=3 total__2=33 _file__2=3 total__3=333"),
        ("id=4", "total=4 a_b__2=y _cdc_op__2=x"),
    ];
    check(&history, [&iceberg, &delta], &rows).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_key_widens_and_rows_of_before_are_found_by_it() {
    let row = |kind, id, v| vec![("id", kind, id), ("v", "string", v)];
    let history = [
        row("int32", "1", r#""one""#),
        row("int32", "2", r#""two""#),
        // The first record after the change deletes a row of before.
        vec![("id", "int64", "1")],
        row("int64", "5000000000", r#""big""#),
        row("int64", "2", r#""dos""#),
        row("int32", "3", r#""replayed""#),
    ];
    let rows = [("id=2", "v=dos"), ("id=3", "v=replayed"), ("id=5000000000", "v=big")];
    check(&history, [&["id long", "v text"], &["id long", "v text"]], &rows).await;

    let row = |kind, id, v| vec![("id", kind, id), ("v", "string", v)];
    let history = [
        row("decimal(6,0)", r#""BNI=""#, r#""old""#),
        row("decimal(12,0)", r#""SZYC0g==""#, r#""big""#),
        row("decimal(12,0)", r#""BNI=""#, r#""new""#),
    ];
    let rows = [("id=1234567890e-0", "v=big"), ("id=1234e-0", "v=new")];
    let columns: [&[&str]; 2] = [&["id decimal(12,0)", "v text"], &["id decimal(38,0)", "v text"]];
    check(&history, columns, &rows).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_table_made_anew_replaces_the_rows_whose_keys_it_uses() {
    let history = [
        vec![("id", "int32", "1"), ("a", "string", r#""x""#), ("old", "int64", "9")],
        vec![("id", "int32", "2"), ("a", "string", r#""y""#), ("old", "int64", "9")],
        vec![("id", "int32", "1"), ("a", "int64", "11"), ("b", "string", r#""new""#)],
    ];
    let columns = |key| [key, "a text", "old long", "a__2 long", "b text"];
    let (iceberg, delta) = (columns("id int"), columns("id long"));
    // Dropping a table tells of no row: what is not written again stays.
    let rows = [("id=1", "a__2=11 b=new"), ("id=2", "a=y old=9")];
    check(&history, [&iceberg, &delta], &rows).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn values_that_were_not_sent_stay_while_columns_change_beside_them() {
    const UNSENT: &str = r#""__debezium_unavailable_value""#;
    let history = [
        vec![("id", "int32", "1"), ("body", "string", r#""long""#), ("n", "int32", "1")],
        vec![("id", "int32", "1"), ("body", "string", UNSENT), ("n", "int64", "5000000000")],
        vec![("id", "int32", "1"), ("body", "string", UNSENT), ("m", "string", r#""m""#)],
        // Rewritten as another type: what it is now was never told.
        vec![("id", "int32", "1"), ("body", "bytes", r#""AQI=""#), ("m", "string", r#""n""#)],
    ];
    let columns = |key| [key, "body text", "n long", "m text", "body__2 binary"];
    let (iceberg, delta) = (columns("id int"), columns("id long"));
    let before = [("id=1", "body=long m=m")];
    check(&history[..3], [&iceberg[..4], &delta[..4]], &before).await;
    let after = [("id=1", "m=n body__2=Binary([1, 2])")];
    check(&history, [&iceberg, &delta], &after).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_key_that_is_another_type_or_gone_halts_the_table_with_what_it_has() {
    let first = vec![("id", "int32", "1"), ("v", "string", r#""one""#)];
    for (second, reason) in [
        (vec![("id", "string", r#""1""#), ("v", "string", r#""x""#)], "key column `id` is "),
        (vec![("uid", "int32", "1"), ("v", "string", r#""x""#)], "key column `id` is not in"),
    ] {
        for entry in FORMATS {
            let folder = tempfile::tempdir().expect("folder");
            let world = World::start(&folder, &Setting { entry, ..Setting::default() });
            world.assign(1, &[tp(0)]).await;
            world.read(vec![event("c", 0, &first), event("c", 1, &second)]);
            let config = world.config.clone();
            let RunEnd::Halted(reasons) = world.ended().await else { panic!("goes on") };
            let reasons = format!("{reasons:?}");
            assert!(reasons.contains(reason) && reasons.contains("@1"), "{reasons}");
            let (_, rows) = told(&config).await;
            assert_eq!(rows, BTreeMap::from([("id=1".to_owned(), "v=one".to_owned())]));
        }
    }
}

fn wide_row<'a>(id: &'a str, names: &'a [String]) -> Vec<Cell<'a>> {
    let cells = names.iter().map(|name| (name.as_str(), "int64", "7"));
    [("id", "int64", id)].into_iter().chain(cells).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn very_many_columns_are_one_more_commit() {
    // PostgreSQL's most; then as many whose names meet those of before.
    let names = |form: &dyn Fn(usize) -> String| (0..1_600).map(form).collect::<Vec<_>>();
    let (first, second) = (names(&|n| format!("Column {n}")), names(&|n| format!("column.{n}")));
    for entry in [
        "    format: iceberg\n    limits: { new_columns_per_hour: 2000 }\n",
        "    format: delta\n    limits: { new_columns_per_hour: 2000 }\n",
    ] {
        let history = [wide_row("1", &first), wide_row("2", &second)];
        let (columns, rows) = step_by_step(entry, &history).await;
        assert_eq!(columns.len(), 3_201);
        assert_eq!(columns[1_601], "column_0__2 long");
        assert_eq!(rows["id=2"].split(' ').count(), 1_600);
        assert!(rows["id=2"].starts_with("column_0__2=7 "));
    }
}

/// What Debezium sends of bytes that the statement did not touch.
const UNTOUCHED: &str = r#""X19kZWJleml1bV91bmF2YWlsYWJsZV92YWx1ZQ==""#;

#[tokio::test(flavor = "multi_thread")]
async fn a_value_that_was_not_sent_since_its_column_changed_its_type_is_named() {
    let row = |id, kind, value| vec![("id", "int32", id), ("v", kind, value)];
    let history = [
        row("1", "string", r#""one""#),
        row("2", "string", r#""two""#),
        row("3", "string", r#""three""#),
        row("1", "bytes", UNTOUCHED),
        row("2", "bytes", r#""AQ==""#),
        row("2", "bytes", UNTOUCHED),
        row("1", "bytes", UNTOUCHED),
    ];
    let columns = |key| [key, "v text", "v__2 binary"];
    let (iceberg, delta) = (columns("id int"), columns("id long"));
    let rows = [
        ("id=1", r#"_cdc_incomplete=["v__2"]"#),
        ("id=2", "v__2=Binary([1])"),
        ("id=3", "v=three"),
    ];
    check(&history, [&iceberg, &delta], &rows).await;
}
