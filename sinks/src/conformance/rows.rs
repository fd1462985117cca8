//! Rows: one for each key, as it was written, wherever it lies.

use std::collections::BTreeMap;

use lakebed_schemas::bronze;
use lakebed_schemas::column::{Column, ColumnType, TableSchema};
use lakebed_schemas::position::CheckpointDelta;
use lakebed_schemas::value::{Value, key_hash};
use roaring::RoaringBitmap;

use super::LogFactory;
use super::commits::{change, staged};
use super::fixture::{
    self, Fixture, all_rows, batch, batch_of, commit, delta, expected, silver_schema, tp,
};
use crate::log::{CommitOutcome, TableLog};
use crate::storage::Storage;
use crate::table::append::AppendTable;
use crate::table::upsert::UpsertTable;
use crate::table::{AppendBatch, KeyChange, UpsertBatch, Written};

/// Rows of one file die in several commits, far apart.
pub async fn two_deletes_of_one_file_add_up(factory: &dyn LogFactory) {
    let table = Fixture::new(factory);
    let mut silver = table.silver_on(table.create(&silver_schema()).await).await;
    let many: Vec<(i64, Option<&str>)> = (0..200).map(|id| (id, Some("old"))).collect();
    commit(&mut silver, batch(0, &many)).await;
    commit(&mut silver, batch(200, &[(3, None), (150, Some("new"))])).await;
    commit(&mut silver, batch(202, &[(4, None), (199, None), (0, Some("new"))])).await;
    commit(&mut table.silver().await, batch(205, &[(5, None), (150, None)])).await;

    let mut left: BTreeMap<i64, String> = (0..200).map(|id| (id, "old".to_owned())).collect();
    [3, 4, 5, 150, 199].iter().for_each(|id| drop(left.remove(id)));
    left.insert(0, "new".to_owned());
    assert_eq!(table.names().await, left);
}

/// What the index has learned commit by commit is what it would read from the table.
pub async fn a_table_opened_again_has_the_same_index(factory: &dyn LogFactory) {
    let table = Fixture::new(factory);
    let mut silver = table.silver_on(table.create(&silver_schema()).await).await;
    let mut offset = 0;
    for round in 0..12i64 {
        let name = format!("round {round}");
        let touched = (0..30).map(|n| (n * 7 + round * 13) % 97);
        let mut events: BTreeMap<i64, Option<&str>> = BTreeMap::new();
        for id in touched {
            events.insert(id, (id % 5 != round % 5).then_some(name.as_str()));
        }
        let events: Vec<_> = events.into_iter().collect();
        commit(&mut silver, batch(offset, &events)).await;
        offset += events.len() as i64;
    }

    let reopened = table.silver().await;

    assert_same_index(&silver, &reopened);
    assert_eq!(reopened.index().len() as u64, reopened.head().live_rows());
    assert!(reopened.head().live_rows() > 30, "there is something to compare");
}

/// Both find every key of the suite at the same place.
fn assert_same_index(one: &UpsertTable, other: &UpsertTable) {
    let place = |table: &UpsertTable, id: i64| {
        let place = table.index().find(key_hash(&[Value::Long(id)]))?;
        let file = table.index().file(place.ordinal).expect("a place is in a file");
        Some((file.path.clone(), place.position))
    };
    for id in 0..100 {
        assert_eq!(place(one, id), place(other, id), "id {id}");
    }
}

fn with_column(mut schema: TableSchema, name: &str, column_type: ColumnType) -> TableSchema {
    schema.columns.push(Column {
        name: name.to_owned(),
        source_name: name.to_owned(),
        column_type,
        id: 0,
    });
    schema
}

/// A new column and its first values are one version; older rows are NULL in it.
pub async fn a_schema_changes_in_the_commit_of_its_data(factory: &dyn LogFactory) {
    let table = Fixture::new(factory);
    let mut silver = table.silver_on(table.create(&silver_schema()).await).await;
    commit(&mut silver, batch(0, &[(1, Some("one")), (2, Some("two"))])).await;

    let mut wider = batch(2, &[(2, Some("dos")), (3, Some("three"))]);
    wider.schema = with_column(wider.schema, "tags", ColumnType::List(Box::new(ColumnType::Text)));
    let tags = Value::List(vec![Value::Text("a".to_owned()), Value::Null]);
    wider.changes.iter_mut().for_each(|change| {
        change.row.iter_mut().for_each(|row| row.push(tags.clone()));
    });
    commit(&mut silver, wider).await;
    // A batch of the old schema still lands: its rows are NULL in the new column.
    commit(&mut silver, batch(4, &[(4, Some("four"))])).await;

    let log = table.open().await;
    let schema = &log.head().schema;
    let at = schema.index_of("tags").expect("the column is there");
    assert_eq!(at, schema.columns.len() - 1);
    assert!(schema.columns[at].id > schema.columns[at - 1].id, "with an id of its own");
    assert_eq!(schema.key, vec!["id".to_owned()]);
    let mut seen: Vec<(Value, Value)> = all_rows(&table.storage, log.head())
        .await
        .into_iter()
        .map(|row| (row[0].clone(), row[at].clone()))
        .collect();
    seen.sort_by_key(|(id, _)| format!("{id:?}"));
    let expected = [(1, Value::Null), (2, tags.clone()), (3, tags), (4, Value::Null)];
    assert_eq!(seen, expected.map(|(id, tags)| (Value::Long(id), tags)));
    assert_eq!(table.silver().await.index().len(), 4);
}

/// Two processes give one name to columns of two kinds: the loser drops its batch, whose rows fit
/// the table no more, and neither halts nor mixes the two.
pub async fn a_name_that_another_writer_took_is_read_again(factory: &dyn LogFactory) {
    let table = Fixture::new(factory);
    let mut one = table.silver_on(table.create(&silver_schema()).await).await;
    commit(&mut one, batch(0, &[(1, Some("one"))])).await;
    let known = table.open().await.head().schema.clone();
    // The loser knows of the winner's version, or finds it when it commits.
    for has_seen in [false, true] {
        let (start, partition) = if has_seen { (2, 6) } else { (1, 5) };
        let name = format!("blue{start}");
        let mut two = table.silver().await;
        let wide = |mut batch: UpsertBatch, column_type: ColumnType, value: Value| {
            batch.schema = with_column(known.clone(), &name, column_type);
            batch.changes.iter_mut().for_each(|change| {
                change.row.iter_mut().for_each(|row| row.push(value.clone()));
            });
            batch
        };
        let text = Value::Text("b".to_owned());
        commit(&mut one, wide(batch(start, &[(2, Some("two"))]), ColumnType::Text, text)).await;
        if has_seen {
            two.refresh().await.expect("refreshed");
        }
        let other = batch_of(partition, 0, &[(50, Some("fifty"))]);
        let other = wide(other, ColumnType::Long, Value::Long(7));
        assert_eq!(two.write(other).await.expect("settled"), Written::Overtaken);
        let seen = table.names().await;
        assert_eq!(seen, expected(&[(1, "one"), (2, "two")]));
    }
}

/// Two processes evolve the table in a race: the loser's files are written again.
pub async fn two_writers_may_add_columns_at_once(factory: &dyn LogFactory) {
    let table = Fixture::new(factory);
    let mut one = table.silver_on(table.create(&silver_schema()).await).await;
    commit(&mut one, batch(0, &[(1, Some("one"))])).await;
    let mut two = table.silver().await;
    let wide = |mut batch: UpsertBatch, name: &str, value: &str| {
        batch.schema = with_column(batch.schema, name, ColumnType::Text);
        batch.changes.iter_mut().for_each(|change| {
            change.row.iter_mut().for_each(|row| row.push(Value::Text(value.to_owned())));
        });
        batch
    };
    commit(&mut one, wide(batch(1, &[(2, Some("two"))]), "blue", "b")).await;
    commit(&mut two, wide(batch_of(5, 0, &[(50, Some("fifty"))]), "green", "g")).await;
    commit(&mut one, wide(batch(2, &[(3, Some("three"))]), "green", "G")).await;

    let log = table.open().await;
    let schema = &log.head().schema;
    let [blue, green] = ["blue", "green"].map(|name| schema.index_of(name).expect(name));
    let mut seen: Vec<_> = all_rows(&table.storage, log.head())
        .await
        .into_iter()
        .map(|row| (row[1].clone(), row[blue].clone(), row[green].clone()))
        .collect();
    seen.sort_by_key(|row| format!("{row:?}"));
    let text = |text: &str| Value::Text(text.to_owned());
    let expected = vec![
        (text("fifty"), Value::Null, text("g")),
        (text("one"), Value::Null, Value::Null),
        (text("three"), Value::Null, text("G")),
        (text("two"), text("b"), Value::Null),
    ];
    assert_eq!(seen, expected);
}

fn bronze_row(schema: &TableSchema, partition: i32, offset: i64, day: i32) -> Vec<Value> {
    let header = Value::Struct(vec![Value::Text("h".to_owned()), Value::Binary(vec![0, 255])]);
    let value = |name: &str| match name {
        "_topic" => Value::Text(fixture::TOPIC.to_owned()),
        "_kafka_partition" => Value::Long(i64::from(partition)),
        "_offset" => Value::Long(offset),
        "_timestamp" => Value::TimestampTz(i64::from(day) * 86_400_000_000 + offset),
        "_date" => Value::Date(day),
        "_repeat" => Value::Boolean(offset % 2 == 0),
        "_value" => Value::Binary(vec![u8::try_from(offset % 251).unwrap_or(0); 9]),
        "headers" => Value::List(vec![header.clone(), Value::Null]),
        _ => Value::Null,
    };
    schema.columns.iter().map(|column| value(&column.name)).collect()
}

/// A bronze batch over two days and two partitions: four files, each in its place.
pub async fn bronze_lands_in_its_partitions(factory: &dyn LogFactory) {
    let table = Fixture::new(factory);
    let mut schema = bronze::schema();
    // What Delta holds, so that one schema does for both formats.
    schema.columns[1].column_type = ColumnType::Long;
    let log = table.create(&schema).await;
    let mut bronze = AppendTable::open(log, table.options.clone()).await.expect("opened");
    let mut delta = CheckpointDelta::default();
    let mut rows = Vec::new();
    for offset in 0..200 {
        for partition in [0, 1] {
            let day = 20_000 + i32::from(offset >= 100);
            rows.push((tp(partition), bronze_row(&schema, partition, offset, day)));
            delta.extend(&tp(partition), 0, offset + 1, None);
        }
    }
    let batch =
        AppendBatch { rows: rows.clone(), delta, freshness: Some(5), ..AppendBatch::default() };
    let written = bronze.write(batch.clone()).await.expect("written");
    assert!(matches!(written, Written::Committed { stats, .. } if stats.files == 4));
    let again = bronze.write(batch).await.expect("covered");
    assert!(matches!(again, Written::Committed { stats, .. } if stats.rows == 0));

    let log = table.open().await;
    let places = log.head().files.values().map(|live| {
        let date = if live.file.path.contains("/_date=2024-10-04/") { 20_000 } else { 20_001 };
        assert_eq!(live.file.partition, [Value::Date(date)], "{}", live.file.path);
        (date, live.file.topic_partition.clone(), live.file.rows)
    });
    let mut places: Vec<_> = places.collect();
    places.sort();
    let all = [20_000, 20_001].map(|day| [(day, tp(0), 100), (day, tp(1), 100)]);
    assert_eq!(places, all.concat());
    let mut read = all_rows(&table.storage, log.head()).await;
    let mut wrote: Vec<_> = rows.into_iter().map(|(_, row)| row).collect();
    read.sort_by_key(|row| format!("{row:?}"));
    wrote.sort_by_key(|row| format!("{row:?}"));
    assert_eq!(read, wrote);
}

fn placeholder_change(id: i64, offset: i64, name: &str, inherit: Option<i64>) -> KeyChange {
    let name = Value::Text(name.to_owned());
    KeyChange {
        topic_partition: tp(0),
        key: vec![Value::Long(id)],
        row: Some(fixture::row(id, name, Value::Unavailable, 0, offset)),
        inherit: inherit.map(|id| vec![Value::Long(id)]),
    }
}

/// Unsent values come from the key's row, or from the old key's; otherwise the row says so.
pub async fn placeholders_keep_what_the_row_had(factory: &dyn LogFactory) {
    let table = Fixture::new(factory);
    let mut silver = table.silver_on(table.create(&silver_schema()).await).await;
    let many: Vec<(i64, Option<&str>)> = (0..150).map(|id| (id, Some("old"))).collect();
    commit(&mut silver, batch(0, &many)).await;

    let mut partial = batch(150, &[(140, None)]);
    partial.changes.extend([
        placeholder_change(70, 151, "kept", None),
        placeholder_change(500, 152, "moved", Some(140)),
        placeholder_change(600, 153, "unknown", None),
    ]);
    partial.delta = delta(0, 150, 154);
    let written = silver.write(partial).await.expect("written");
    assert!(matches!(written, Written::Committed { stats, .. } if stats.incomplete == 1));
    // What was unknown stays unknown, and says so, when only another column changes.
    let mut later = batch(154, &[]);
    later.changes = vec![placeholder_change(600, 154, "still unknown", None)];
    later.delta = delta(0, 154, 155);
    commit(&mut table.silver().await, later).await;

    let log = table.open().await;
    let incomplete = log.head().schema.index_of("_cdc_incomplete").expect("a system column");
    let rows = all_rows(&table.storage, log.head()).await;
    let find = |id: i64| {
        let row = rows.iter().find(|row| row[0] == Value::Long(id)).expect("the row is there");
        (row[1].clone(), row[2].clone(), row[incomplete].clone())
    };
    let text = |text: &str| Value::Text(text.to_owned());
    assert_eq!(find(70), (text("kept"), text("note of 70"), Value::Null));
    assert_eq!(find(500), (text("moved"), text("note of 140"), Value::Null));
    let unknown = Value::List(vec![text("note")]);
    assert_eq!(find(600), (text("still unknown"), Value::Null, unknown));
    assert_eq!(rows.len(), 151);
}

/// One column of each type that both formats hold.
fn typed_schema() -> TableSchema {
    use ColumnType as T;
    let point = vec![("x".to_owned(), T::Double), ("tags".to_owned(), T::List(Box::new(T::Long)))];
    let types = [
        ("id", T::Long),
        ("flag", T::Boolean),
        ("double", T::Double),
        ("small", T::Decimal { precision: 9, scale: 2 }),
        ("middle", T::Decimal { precision: 18, scale: 0 }),
        ("large", T::Decimal { precision: 38, scale: 10 }),
        ("day", T::Date),
        ("local", T::Timestamp),
        ("instant", T::TimestampTz),
        ("text", T::Text),
        ("bytes", T::Binary),
        ("list", T::List(Box::new(T::Decimal { precision: 5, scale: 1 }))),
        ("point", T::Struct(point)),
    ];
    let columns = types.into_iter().zip(1..).map(|((name, column_type), id)| Column {
        name: name.to_owned(),
        source_name: name.to_owned(),
        column_type,
        id,
    });
    TableSchema { columns: columns.collect(), key: vec!["id".to_owned()], partition_by: Vec::new() }
}

fn decimal(unscaled: i128, scale: u8) -> Value {
    Value::Decimal { unscaled, scale }
}

/// A row whose every value is at an end of its type, by `sign`.
fn extreme_row(id: i64, sign: i128) -> Vec<Value> {
    let long = i64::try_from(sign).unwrap_or(1);
    let point = Value::Struct(vec![Value::Null, Value::List(vec![Value::Long(i64::MIN)])]);
    vec![
        Value::Long(id),
        Value::Boolean(sign > 0),
        Value::Double(f64::MAX * long as f64),
        decimal(999_999_999 * sign, 2),
        decimal(999_999_999_999_999_999 * sign, 0),
        decimal((10i128.pow(38) - 1) * sign, 10),
        Value::Date(700_000 * long as i32),
        Value::Timestamp(253_402_300_799_999_999 * long),
        Value::TimestampTz(62_135_596_800_000_001 * long),
        Value::Text(if sign > 0 { "\u{10ffff}é" } else { "" }.to_owned()),
        Value::Binary(vec![0, 1, 255]),
        Value::List(vec![decimal(99_999 * sign, 1), Value::Null]),
        point,
    ]
}

/// Extremes, NULLs and nested values, and keys of another type.
pub async fn every_type_reads_back_as_it_was_written(factory: &dyn LogFactory) {
    let table = Fixture::new(factory);
    let schema = typed_schema();
    let mut silver = table.silver_on(table.create(&schema).await).await;
    let mut nulls = vec![Value::Null; schema.columns.len()];
    nulls[0] = Value::Long(3);
    let rows = vec![extreme_row(1, 1), extreme_row(2, -1), nulls];
    let changes = rows.iter().map(|row| KeyChange {
        topic_partition: tp(0),
        key: vec![row[0].clone()],
        row: Some(row.clone()),
        inherit: None,
    });
    let batch = UpsertBatch {
        schema: schema.clone(),
        changes: changes.collect(),
        delta: delta(0, 0, 3),
        freshness: None,
        ..UpsertBatch::default()
    };
    commit(&mut silver, batch).await;

    let log = table.open().await;
    assert_eq!(log.head().schema, schema);
    let mut read = all_rows(&table.storage, log.head()).await;
    read.sort_by_key(|row| format!("{:?}", row[0]));
    assert_eq!(read, rows);
}

/// Two live rows of one key, by whatever mishap: the newer stays.
pub async fn a_key_with_two_rows_is_healed(factory: &dyn LogFactory) {
    let table = Fixture::new(factory);
    let schema = silver_schema();
    let mut log = table.create(&schema).await;
    for (n, name) in [(0, "older"), (1, "newer")] {
        let row = fixture::row(1, Value::Text(name.to_owned()), Value::Null, 0, n);
        let file = stage_row(&table.storage, &schema, row).await;
        let outcome = log.commit(&change(vec![file], delta(0, n, n + 1))).await.expect("committed");
        assert!(matches!(outcome, CommitOutcome::Committed { .. }));
    }
    assert_eq!(log.head().live_rows(), 2);

    let mut silver = table.silver().await;
    commit(&mut silver, batch(2, &[(2, Some("two"))])).await;

    assert_eq!(table.names().await, expected(&[(1, "newer"), (2, "two")]));
    commit(&mut silver, batch(3, &[(1, Some("newest"))])).await;
    assert_eq!(table.names().await, expected(&[(1, "newest"), (2, "two")]));
}

async fn stage_row(
    storage: &Storage,
    schema: &TableSchema,
    row: Vec<Value>,
) -> std::sync::Arc<crate::log::DataFile> {
    use crate::table::writer::{FileRows, WriterOptions, stage};
    let rows = FileRows { topic_partition: tp(0), partition: Vec::new(), rows: vec![row] };
    let schema = std::sync::Arc::new(schema.clone());
    stage(storage, &schema, &[std::sync::Arc::new(rows)], &WriterOptions::default())
        .await
        .expect("staged")
        .remove(0)
}

/// Another program deletes a row and moves one; the next batch finds what is there now.
pub async fn rows_that_others_moved_are_found_again(factory: &dyn LogFactory) {
    let table = Fixture::new(factory);
    let mut silver = table.silver_on(table.create(&silver_schema()).await).await;
    commit(&mut silver, batch(0, &[(1, Some("one")), (2, Some("two")), (3, Some("three"))])).await;

    let mut other: Box<dyn TableLog> = table.open().await;
    let path = other.head().files.keys().next().expect("one file").clone();
    let moved = staged(&table, &silver_schema(), 4, 2, "two, moved").await;
    let mut foreign = change(vec![moved], delta(4, 0, 1));
    foreign.deleted.insert(path, RoaringBitmap::from([1, 2]));
    let outcome = other.commit(&foreign).await.expect("committed");
    assert!(matches!(outcome, CommitOutcome::Committed { .. }));

    let events = [(2, Some("dos")), (3, Some("tres")), (1, None)];
    commit(&mut silver, batch(3, &events)).await;

    assert_eq!(table.names().await, expected(&[(2, "dos"), (3, "tres")]));
    assert_same_index(&silver, &table.silver().await);
}
