//! How rows of a source land in the columns of a table, and which do not.

use super::*;
use crate::change_event::Row;
use crate::value::Value;

const ICEBERG: Rules = Rules {
    format: TableFormat::Iceberg,
    out_of_range: OutOfRange::Halt,
    deletes: Deletes::Hard,
    topic_in_key: false,
};
const DELTA: Rules = Rules { format: TableFormat::Delta, ..ICEBERG };

fn decimal(precision: u8, scale: u8) -> ColumnType {
    ColumnType::Decimal { precision, scale }
}

fn shape(fields: &[(&str, Option<ColumnType>)]) -> Arc<RowShape> {
    let field = |(name, column_type): &(&str, Option<ColumnType>)| Field {
        name: (*name).to_owned(),
        column_type: column_type.clone(),
    };
    Arc::new(RowShape { fields: fields.iter().map(field).collect() })
}

fn id_and(name: &str, column_type: ColumnType) -> Arc<RowShape> {
    shape(&[("id", Some(ColumnType::Int)), (name, Some(column_type))])
}

fn key() -> Vec<String> {
    vec!["id".to_owned()]
}

fn types(schema: &TableSchema) -> Vec<String> {
    let source = data_columns(schema).into_iter().map(|index| &schema.columns[index]);
    source.map(|column| format!("{} {}", column.name, column.column_type)).collect()
}

fn values(plan: &Plan, shape: &Arc<RowShape>, values: Vec<Value>) -> Result<Applied, RowRefused> {
    plan.apply(&Row { shape: Arc::clone(shape), values })
}

/// The data columns after rows of the second type have come to a table made by the first.
fn evolved(first: ColumnType, second: ColumnType, rules: &Rules) -> Vec<String> {
    let schema = create(&id_and("v", first), &key(), &[], rules).expect("schema");
    let plan = plan(&schema, &id_and("v", second), rules).expect("plan");
    types(plan.successor.as_ref().unwrap_or(&schema))
}

#[test]
fn a_new_table_has_the_sources_columns_and_then_ours() {
    let fields = shape(&[
        ("Id", Some(ColumnType::Int)),
        ("ID", Some(ColumnType::Text)),
        ("_cdc_op", Some(ColumnType::Text)),
        ("nothing yet", None),
        ("amount", Some(decimal(10, 2))),
    ]);
    let key = ["Id".to_owned()];

    let schema =
        create(&fields, &key, &[], &Rules { deletes: Deletes::Soft, ..ICEBERG }).expect("schema");
    let names: Vec<&str> = schema.columns.iter().map(|column| column.name.as_str()).collect();
    assert_eq!(&names[..5], ["id", "id__2", "_cdc_op__2", "amount", "_cdc_op"]);
    assert_eq!(names.last(), Some(&"_cdc_deleted"));
    assert_eq!(schema.columns[1].source_name, "ID");
    assert_eq!(schema.key, ["id"]);

    let delta = create(&fields, &key, &[], &DELTA).expect("schema");
    assert_eq!(types(&delta), ["id long", "id__2 text", "_cdc_op__2 text", "amount decimal(38,2)"]);
    assert!(delta.columns.iter().all(|column| column.column_type != ColumnType::Int));
}

#[test]
fn a_table_without_a_usable_key_is_refused_by_name() {
    let fields = shape(&[("id", None), ("v", Some(ColumnType::Text))]);
    let named = |name: &str| vec![name.to_owned()];
    assert_eq!(create(&fields, &[], &[], &ICEBERG), Err(Refusal::NoKey));
    assert_eq!(create(&fields, &named("x"), &[], &ICEBERG), Err(Refusal::KeyMissing("x".into())));
    assert_eq!(create(&fields, &named("id"), &[], &ICEBERG), Err(Refusal::KeyUntyped("id".into())));
}

#[test]
fn the_shape_that_made_a_table_changes_nothing() {
    let fields = id_and("v", ColumnType::Text);
    let schema = create(&fields, &key(), &[], &ICEBERG).expect("schema");
    let plan = plan(&schema, &fields, &ICEBERG).expect("plan");

    assert_eq!(plan.successor, None);
    assert!(plan.is_for(&fields));
    let row = vec![Value::Long(1), Value::Text("a".into())];
    assert_eq!(values(&plan, &fields, row.clone()).expect("row").values, row);
}

#[test]
fn added_columns_stand_last_and_dropped_ones_get_null() {
    let schema = create(&id_and("a", ColumnType::Text), &key(), &[], &ICEBERG).expect("schema");
    let later = id_and("b", ColumnType::Boolean);

    let plan = plan(&schema, &later, &ICEBERG).expect("plan");
    let successor = plan.successor.clone().expect("a new column");
    assert_eq!(successor.columns.last().expect("columns").name, "b");
    assert_eq!(plan.columns, [0, 1, successor.columns.len() - 1]);
    let applied = values(&plan, &later, vec![Value::Long(1), Value::Boolean(true)]).expect("row");
    assert_eq!(applied.values, [Value::Long(1), Value::Null, Value::Boolean(true)]);
}

#[test]
fn iceberg_promotes_and_delta_has_the_room_already() {
    use ColumnType as T;
    for (first, second, iceberg, delta) in [
        (T::Int, T::Long, "v long", "v long"),
        (T::Long, T::Int, "v long", "v long"),
        (T::Float, T::Double, "v double", "v double"),
        (decimal(10, 2), decimal(12, 2), "v decimal(12,2)", "v decimal(38,2)"),
        (decimal(12, 2), decimal(10, 2), "v decimal(12,2)", "v decimal(38,2)"),
    ] {
        assert_eq!(evolved(first.clone(), second.clone(), &ICEBERG), ["id int", iceberg]);
        assert_eq!(evolved(first, second, &DELTA), ["id long", delta]);
    }
    assert_eq!(
        evolved(decimal(10, 2), decimal(14, 4), &ICEBERG),
        ["id int", "v decimal(10,2)", "v__2 decimal(14,4)"]
    );
}

#[test]
fn a_name_that_comes_back_as_something_else_is_a_new_column_and_the_old_one_stays() {
    let text = id_and("d", ColumnType::Text);
    let number = id_and("d", ColumnType::Int);
    let schema = create(&text, &key(), &[], &ICEBERG).expect("schema");

    let changed = plan(&schema, &number, &ICEBERG).expect("plan");
    let schema = changed.successor.clone().expect("a new column");
    assert_eq!(types(&schema), ["id int", "d text", "d__2 int"]);
    let row = vec![Value::Long(1), Value::Long(7)];
    let applied = values(&changed, &number, row).expect("row");
    assert_eq!(applied.values, [Value::Long(1), Value::Null, Value::Long(7)]);

    // A replay of the old rows goes back to the old column, and nothing is added again.
    let replayed = plan(&schema, &text, &ICEBERG).expect("plan");
    assert_eq!(replayed.successor, None);
    let row = vec![Value::Long(1), Value::Text("x".into())];
    let applied = values(&replayed, &text, row).expect("row");
    assert_eq!(applied.values, [Value::Long(1), Value::Text("x".into()), Value::Null]);
}

#[test]
fn a_placeholder_of_unknown_type_keeps_every_column_of_its_name() {
    let schema = create(&id_and("d", ColumnType::Text), &key(), &[], &ICEBERG).expect("schema");
    let changed = plan(&schema, &id_and("d", ColumnType::Int), &ICEBERG).expect("plan");
    let schema = changed.successor.expect("a new column");
    let unknown = shape(&[("id", Some(ColumnType::Int)), ("d", None)]);

    let plan = plan(&schema, &unknown, &ICEBERG).expect("plan");
    assert_eq!(plan.successor, None);
    let applied = values(&plan, &unknown, vec![Value::Long(1), Value::Unavailable]).expect("row");
    assert_eq!(applied.values, [Value::Long(1), Value::Unavailable, Value::Unavailable]);
}

#[test]
fn a_key_column_is_promoted_but_never_replaced() {
    let schema = create(&id_and("v", ColumnType::Text), &key(), &[], &ICEBERG).expect("schema");
    let wide = shape(&[("id", Some(ColumnType::Long))]);
    let promoted = plan(&schema, &wide, &ICEBERG).expect("plan").successor.expect("promotion");
    assert_eq!(types(&promoted)[0], "id long");

    let text = shape(&[("id", Some(ColumnType::Text))]);
    assert!(matches!(plan(&schema, &text, &ICEBERG), Err(Refusal::KeyType { .. })));
    let none = shape(&[("v", Some(ColumnType::Text))]);
    assert_eq!(plan(&schema, &none, &ICEBERG), Err(Refusal::KeyMissing("id".into())));
}

#[test]
fn values_out_of_range_follow_the_policy_and_nulls_are_counted() {
    let fields = id_and("at", ColumnType::Timestamp);
    let row = || vec![Value::Long(1), Value::OutOfRange("infinity".into())];
    let apply = |rules: &Rules| {
        let schema = create(&fields, &key(), &[], rules).expect("schema");
        values(&plan(&schema, &fields, rules).expect("plan"), &fields, row())
    };

    let error = apply(&ICEBERG).expect_err("halt");
    assert!(matches!(error, RowRefused::OutOfRange { .. }));
    assert!(!error.to_string().contains("infinity"), "no values in errors");
    let nulled = apply(&Rules { out_of_range: OutOfRange::Null, ..ICEBERG }).expect("null");
    assert_eq!((nulled.values, nulled.nulled), (vec![Value::Long(1), Value::Null], 1));

    let text = Rules { out_of_range: OutOfRange::Text, ..ICEBERG };
    assert_eq!(apply(&text).expect("text").values[1], Value::Text("infinity".into()));
    let schema = create(&fields, &key(), &[], &text).expect("schema");
    let plan = plan(&schema, &fields, &text).expect("plan");
    let ordinary = values(&plan, &fields, vec![Value::Long(1), Value::Timestamp(1)]).expect("row");
    assert_eq!(ordinary.values[1], Value::Text("1970-01-01T00:00:00.000001".into()));
}

#[test]
fn text_is_for_what_can_be_out_of_range_in_both_formats() {
    let decimal = |precision, scale| Some(ColumnType::Decimal { precision, scale });
    let fields = shape(&[
        ("id", Some(ColumnType::Long)),
        ("price", decimal(10, 2)),
        ("any", decimal(38, 2)),
        ("at", Some(ColumnType::TimestampTz)),
        ("days", Some(ColumnType::List(Box::new(ColumnType::Date)))),
    ]);
    for (format, price) in
        [(TableFormat::Iceberg, "decimal(10,2)"), (TableFormat::Delta, "decimal(38,2)")]
    {
        let rules = Rules { out_of_range: OutOfRange::Text, format, ..ICEBERG };
        let schema = create(&fields, &key(), &[], &rules).expect("schema");
        let expected = [
            "id long".to_owned(),
            format!("price {price}"),
            "any text".to_owned(),
            "at text".to_owned(),
            "days list<text>".to_owned(),
        ];
        assert_eq!(types(&schema)[..5], expected, "{format:?}");
    }
}

#[test]
fn a_key_out_of_range_or_missing_halts_whatever_the_policy() {
    let fields = shape(&[("at", Some(ColumnType::Timestamp))]);
    let key = ["at".to_owned()];
    for out_of_range in [OutOfRange::Halt, OutOfRange::Null, OutOfRange::Text] {
        let rules = Rules { out_of_range, ..ICEBERG };
        let schema = create(&fields, &key, &[], &rules).expect("schema");
        assert_eq!(types(&schema), ["at timestamp"]);
        let keys = key_plan(&schema, &fields, &rules).expect("plan");
        for value in [Value::OutOfRange("infinity".into()), Value::Null, Value::Unavailable] {
            let row = Row { shape: Arc::clone(&fields), values: vec![value.clone()] };
            assert!(matches!(keys.apply(&row), Err(RowRefused::Key { .. })), "{value:?}");
            let plan = plan(&schema, &fields, &rules).expect("plan");
            assert!(matches!(plan.apply(&row), Err(RowRefused::Key { .. })), "{value:?}");
        }
    }
}

#[test]
fn keys_come_out_in_the_tables_key_order() {
    let fields = shape(&[("a", Some(ColumnType::Int)), ("b", Some(ColumnType::Text))]);
    let key = ["b".to_owned(), "a".to_owned()];
    let rules = Rules { topic_in_key: true, ..ICEBERG };
    let schema = create(&fields, &key, &[], &rules).expect("schema");
    assert_eq!(schema.key, ["b", "a", "_cdc_topic"]);

    let keys = key_plan(&schema, &fields, &rules).expect("plan");
    let row = vec![Value::Long(1), Value::Text("x".into())];
    let values = keys.apply(&Row { shape: fields, values: row }).expect("key");
    assert_eq!(values, [Value::Text("x".into()), Value::Long(1)]);
}

#[test]
fn a_key_with_another_column_is_refused() {
    let fields = shape(&[("a", Some(ColumnType::Int)), ("b", Some(ColumnType::Text))]);
    let schema = create(&fields, &["a".to_owned()], &[], &ICEBERG).expect("schema");
    let known = shape(&[("a", Some(ColumnType::Int))]);
    assert_eq!(refuse_grown_key(&schema, &known), Ok(()));
    assert_eq!(refuse_grown_key(&schema, &fields), Err(Refusal::KeyGrown("b".into())));
}

#[test]
fn what_is_inside_a_list_is_promoted_or_wide_from_the_start() {
    use ColumnType as T;
    let list = |element| T::List(Box::new(element));
    let widened = evolved(list(T::Int), list(T::Long), &ICEBERG);
    assert_eq!(widened, ["id int", "v list<long>"]);
    assert_eq!(evolved(list(T::Int), list(T::Long), &DELTA), ["id long", "v list<long>"]);
    let other = evolved(list(T::Int), list(T::Text), &ICEBERG);
    assert_eq!(other, ["id int", "v list<int>", "v__2 list<text>"]);
}

#[test]
fn a_row_of_another_shape_is_refused() {
    let fields = id_and("v", ColumnType::Text);
    let schema = create(&fields, &key(), &[], &ICEBERG).expect("schema");
    let plan = plan(&schema, &fields, &ICEBERG).expect("plan");
    let other = id_and("w", ColumnType::Text);
    let row = vec![Value::Long(1), Value::Null];
    assert_eq!(values(&plan, &other, row), Err(RowRefused::OtherShape));
}

#[test]
fn what_a_table_is_partitioned_by_is_a_column_in_delta_and_never_the_sources() {
    let by = ["month(v)", "bucket(4, id)", "id"].map(|text| text.parse().expect("an entry"));
    let first = id_and("v", ColumnType::Date);
    // The source gets columns of those names later.
    let later = shape(&[
        ("id", Some(ColumnType::Int)),
        ("v", Some(ColumnType::Date)),
        ("v_month", Some(ColumnType::Text)),
        ("month(v)", Some(ColumnType::Text)),
    ]);
    for rules in [ICEBERG, DELTA] {
        let schema = create(&first, &key(), &by, &rules).expect("schema");
        let fields: Vec<&str> = schema.partition_by.iter().map(|f| f.name.as_str()).collect();
        assert_eq!(fields, ["v_month", "id_bucket", "id"]);
        let own: Vec<String> = schema.columns[2..]
            .iter()
            .filter(|column| !silver::is_system(&column.name))
            .map(|column| format!("{} {}", column.name, column.column_type))
            .collect();
        let expected: &[&str] = match rules.format {
            TableFormat::Iceberg => &[],
            TableFormat::Delta => &["v_month text", "id_bucket long"],
        };
        assert_eq!(own, expected);

        let plan = plan(&schema, &later, &rules).expect("plan");
        let next = plan.successor.as_ref().expect("columns come");
        let added = &next.columns[schema.columns.len()..];
        let added: Vec<&str> = added.iter().map(|column| column.name.as_str()).collect();
        assert_eq!(added, ["v_month__2", "month_v_"]);
        assert!(plan.columns.iter().all(|at| !next.is_partition_value(&next.columns[*at].name)));
    }
    let refused = |text: &str| {
        let by = [text.parse().expect("an entry")];
        create(&first, &key(), &by, &ICEBERG).expect_err("refused").to_string()
    };
    assert!(refused("region").contains("`region`"), "{}", refused("region"));
    assert!(refused("hour(v)").contains("takes timestamp"), "{}", refused("hour(v)"));
}
