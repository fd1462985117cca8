//! Partition specs and tuples as Iceberg keeps them.

use iceberg::spec::{Literal, ManifestContentType, PrimitiveLiteral, Struct};
use lakebed_schemas::column::{ColumnType, TableSchema};
use lakebed_schemas::config::{Mode, TableFormat};
use lakebed_schemas::value::{Value, key_hash};
use serde_json::json;

use super::{Factory, loaded, store_changed};
use crate::ErrorKind;
use crate::conformance::CopyOnWrite;
use crate::conformance::fixture::{Fixture, batch, commit, expected, silver_schema};
use crate::conformance::partitions::{
    Partitioned, any_value_may_be_a_partition, partitioned, rows_move_between_partitions,
};
use crate::iceberg::state::{Placement, Reader, State};
use crate::iceberg::{metadata, partition_spec};
use crate::log::Retention;
use crate::table::upsert::UpsertTable;
use crate::table::{UpsertBatch, WriteOptions};

const FORMAT: TableFormat = TableFormat::Iceberg;

mod conformance {
    use super::{FORMAT, Factory, Partitioned};

    crate::conformance_tests!(@partitioned Partitioned { inner: Factory, format: FORMAT });

    mod copy_on_write {
        use super::*;

        crate::conformance_tests!(@partitioned crate::conformance::CopyOnWrite(Partitioned {
            inner: Factory,
            format: FORMAT
        }));
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn rows_move_where_files_are_rewritten() {
    let factory = CopyOnWrite(Partitioned { inner: Factory, format: FORMAT });
    rows_move_between_partitions(&factory).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn any_value_is_a_partition() {
    any_value_may_be_a_partition(&Factory, FORMAT).await;
}

/// `note` as a 32-bit number, which the source makes one of 64 bits.
fn counted(wide: bool) -> TableSchema {
    let mut schema = silver_schema();
    schema.columns[2].column_type = if wide { ColumnType::Long } else { ColumnType::Int };
    schema
}

fn counting(start: i64, ids: &[i64], wide: bool) -> UpsertBatch {
    let events: Vec<(i64, Option<&str>)> = ids.iter().map(|id| (*id, Some("x"))).collect();
    let mut batch = batch(start, &events);
    batch.schema = counted(wide);
    for (change, id) in batch.changes.iter_mut().zip(ids) {
        let of_row = if wide { i64::from(i32::MAX) + id } else { id % 4 };
        change.row.as_mut().expect("a row")[2] = Value::Long(of_row);
    }
    batch
}

/// A column that a table is partitioned by is promoted: tuples of older files follow it in every
/// manifest that is written from then on, their deletes' with them.
#[tokio::test]
async fn tuples_follow_the_promotion_of_their_column() {
    let table = Fixture::new(&Factory);
    let schema = partitioned(&counted(false), &["note", "truncate(10, note)"], FORMAT);
    let mut silver = table.silver_on(table.create(&schema).await).await;
    for n in 0..5 {
        commit(&mut silver, counting(n * 4, &[n * 4, n * 4 + 1, n * 4 + 2, n * 4 + 3], false))
            .await;
    }
    // The column grows in the commit that deletes in older files, and manifests are merged after it.
    for n in 0..6 {
        commit(&mut silver, counting(20 + n * 2, &[n * 3, 100 + n], true)).await;
    }

    let state = loaded(&table).await;
    let reader = Reader::new(&table.storage, state.metadata.location());
    let mut partitions = std::collections::HashMap::new();
    let (mut data, mut deletes) = (0, 0);
    for manifest in &state.manifests {
        let is_new = manifest.added_snapshot_id
            == state.metadata.current_snapshot().expect("a snapshot").snapshot_id();
        for entry in reader.manifest(manifest).await.expect("a manifest") {
            let tuple = entry.data_file().partition().clone();
            let is_long = |field: &Option<Literal>| {
                matches!(field, Some(Literal::Primitive(PrimitiveLiteral::Long(_))))
            };
            assert!(!is_new || tuple.fields().iter().all(is_long), "{tuple:?}");
            match manifest.content {
                ManifestContentType::Data => {
                    data += 1;
                    let path = entry.file_path().to_owned();
                    partitions.insert(
                        path,
                        state
                            .placements
                            .values()
                            .find(|placement| placement.uri == entry.file_path())
                            .expect("a placement")
                            .partition
                            .clone(),
                    );
                }
                ManifestContentType::Deletes => deletes += 1,
            }
        }
    }
    assert!(data > 20 && deletes >= 6, "{data} files, {deletes} with deletes");
    let all_long = |tuple: &iceberg::spec::Struct| {
        tuple
            .fields()
            .iter()
            .all(|field| matches!(field, Some(Literal::Primitive(PrimitiveLiteral::Long(_)))))
    };
    assert!(partitions.values().all(all_long));
    let rows = table.names().await;
    assert_eq!(rows.len(), 26);
    assert_eq!(table.silver().await.index().len(), 26);
}

/// As another engine does it: rows are divided by so many first letters of their name from here on.
async fn partition_by_initials(table: &Fixture<'_>, spec_id: i32, letters: u32) {
    let column = silver_schema().columns[1].id;
    let field = 999 + spec_id;
    store_changed(table, |metadata| {
        metadata["partition-specs"].as_array_mut().expect("specs").push(json!({
            "spec-id": spec_id,
            "fields": [{
                "source-id": column,
                "field-id": field,
                "name": "initial",
                "transform": format!("truncate[{letters}]"),
            }],
        }));
        metadata["default-spec-id"] = json!(spec_id);
        metadata["last-partition-id"] = json!(field);
    })
    .await;
}

/// Spec and partition of every live file.
fn placed(state: &State) -> Vec<(i32, String)> {
    let placed = |placement: &Placement| {
        let texts = placement.partition.iter().map(|field| match field {
            Some(Literal::Primitive(PrimitiveLiteral::String(text))) => text.clone(),
            other => format!("{other:?}"),
        });
        (placement.spec_id, texts.collect())
    };
    let mut placed: Vec<_> = state.placements.values().map(placed).collect();
    placed.sort();
    placed
}

/// What the index says of each row, and what one says that is read anew.
async fn index_is_right(table: &Fixture<'_>, silver: &UpsertTable) {
    let again = table.silver().await;
    for id in table.names().await.into_keys() {
        let place = |table: &UpsertTable| {
            let place = table.index().find(key_hash(&[Value::Long(id)])).expect("a row");
            let file = table.index().file(place.ordinal).expect("its file");
            (file.path.clone(), place.position)
        };
        assert_eq!(place(silver), place(&again), "id {id}");
    }
    assert_eq!(silver.index().len(), again.index().len());
}

/// Where files are written anew, the rows of one of an older spec go where they belong now, and it
/// leaves under its own; also rows that were marked dead in it before, and back again.
#[tokio::test]
async fn a_file_of_an_older_spec_is_divided_when_it_is_written_anew() {
    let factory = CopyOnWrite(Factory);
    let table = Fixture::new(&factory);
    let mut silver = table.silver_on(table.create(&silver_schema()).await).await;
    let first = ["one", "two", "three", "four", "five", "six"];
    let first: Vec<_> = (1..).zip(first.map(Some)).collect();
    commit(&mut silver, batch(0, &first)).await;

    // The process has not seen it when it commits.
    partition_by_initials(&table, 1, 1).await;
    commit(&mut silver, batch(6, &[(1, Some("uno")), (7, Some("fine")), (6, None)])).await;

    let rows = [(1, "uno"), (2, "two"), (3, "three"), (4, "four"), (5, "five"), (7, "fine")];
    assert_eq!(table.names().await, expected(&rows));
    let state = loaded(&table).await;
    let of = |spec_id: i32, initials: &[&str]| -> Vec<_> {
        initials.iter().map(|initial| (spec_id, (*initial).to_owned())).collect()
    };
    assert_eq!(placed(&state), of(1, &["f", "t", "u"]));
    let left = state.manifests.iter().find(|manifest| manifest.deleted_files_count == Some(1));
    assert_eq!(left.expect("a manifest says what left").partition_spec_id, 0);
    index_is_right(&table, &silver).await;

    // All rows of a file, and of others some, in a table of as many partition fields as before.
    partition_by_initials(&table, 2, 2).await;
    commit(&mut silver, batch(9, &[(1, None), (2, Some("thirteen")), (7, None)])).await;
    let rows = [(2, "thirteen"), (3, "three"), (4, "four"), (5, "five")];
    assert_eq!(table.names().await, expected(&rows));
    assert_eq!(placed(&loaded(&table).await), of(2, &["fi", "fo", "th"]));
    index_is_right(&table, &silver).await;

    // And back again.
    store_changed(&table, |metadata| metadata["default-spec-id"] = json!(0)).await;
    commit(&mut silver, batch(12, &[(3, Some("drei")), (4, None), (8, Some("acht"))])).await;
    let rows = [(2, "thirteen"), (3, "drei"), (5, "five"), (8, "acht")];
    assert_eq!(table.names().await, expected(&rows));
    assert_eq!(placed(&loaded(&table).await), [(0, String::new()), (2, "fi".to_owned())]);
    index_is_right(&table, &silver).await;
}

/// Dead rows that merge-on-read has left in a file of an older spec go as others do.
#[tokio::test]
async fn dead_rows_of_an_older_spec_leave_when_the_mode_changes() {
    let marking = Fixture::new(&Factory);
    let mut silver = marking.silver_on(marking.create(&silver_schema()).await).await;
    commit(&mut silver, batch(0, &[(1, Some("one")), (2, Some("two")), (3, Some("three"))])).await;
    commit(&mut silver, batch(3, &[(2, None)])).await;
    partition_by_initials(&marking, 1, 1).await;
    let options = WriteOptions { mode: Mode::CopyOnWrite, ..marking.options.clone() };
    let log = marking.open().await;
    let mut silver = UpsertTable::open(log, options).await.expect("opens");

    commit(&mut silver, batch(4, &[(4, Some("four"))])).await;

    let state = loaded(&marking).await;
    assert_eq!(state.deletes.len(), 0);
    let wanted = ["f", "o", "t"].map(|initial| (1, initial.to_owned()));
    assert_eq!(placed(&state), wanted);
    assert_eq!(marking.names().await, expected(&[(1, "one"), (3, "three"), (4, "four")]));
    index_is_right(&marking, &silver).await;
}

/// Another engine partitions the table otherwise, between two batches and in the middle of one: new
/// files are of the new spec, old ones keep theirs, and so do their deletes.
#[tokio::test]
async fn a_table_that_another_engine_partitions_otherwise_is_written_as_it_is_now() {
    let table = Fixture::new(&Factory);
    let mut silver = table.silver_on(table.create(&silver_schema()).await).await;
    let first = [(1, Some("one")), (2, Some("two")), (3, Some("three")), (4, Some("four"))];
    commit(&mut silver, batch(0, &first)).await;

    // The process has not seen it when it commits.
    partition_by_initials(&table, 1, 1).await;
    commit(&mut silver, batch(4, &[(1, Some("uno")), (5, Some("five")), (6, None)])).await;
    commit(&mut silver, batch(7, &[(2, None), (5, Some("cinco"))])).await;

    let rows = expected(&[(1, "uno"), (3, "three"), (4, "four"), (5, "cinco")]);
    assert_eq!(table.names().await, rows);
    let state = loaded(&table).await;
    let partitions = |spec_id: i32| {
        let placements = state.placements.values();
        let mut tuples: Vec<usize> = placements
            .filter(|placement| placement.spec_id == spec_id)
            .map(|placement| placement.partition.fields().len())
            .collect();
        tuples.sort_unstable();
        tuples
    };
    assert_eq!((partitions(0), partitions(1)), (vec![0], vec![1, 1, 1]), "u, f and c");
    let specs: std::collections::BTreeSet<i32> = state
        .manifests
        .iter()
        .filter(|manifest| manifest.content == ManifestContentType::Deletes)
        .map(|manifest| manifest.partition_spec_id)
        .collect();
    assert_eq!(specs, [0, 1].into());
    assert_eq!(table.silver().await.index().len(), 4);
}

/// What Lakebed does not write is refused, and nothing is lost by it.
#[tokio::test]
async fn a_spec_that_lakebed_does_not_write_is_refused() {
    let table = Fixture::new(&Factory).for_nobody();
    let mut silver = table.silver_on(table.create(&silver_schema()).await).await;
    commit(&mut silver, batch(0, &[(1, Some("one"))])).await;
    let column = silver_schema().columns[1].id;
    store_changed(&table, |metadata| {
        metadata["partition-specs"].as_array_mut().expect("specs").push(json!({
            "spec-id": 1,
            "fields": [{"source-id": column, "field-id": 1000, "name": "gone", "transform": "void"}],
        }));
        metadata["default-spec-id"] = json!(1);
        metadata["last-partition-id"] = json!(1000);
    })
    .await;
    // By the process that was there already, and by one that takes the table on.
    let error = silver.write(batch(1, &[(2, Some("two"))])).await.expect_err("refused");
    assert!(error.to_string().contains("partition spec"), "{error}");
    let opened = UpsertTable::open(table.open().await, table.options.clone()).await;
    let Err(error) = opened else { panic!("it is taken on") };
    assert!(error.to_string().contains("partition spec"), "{error}");
    assert_eq!(table.names().await, expected(&[(1, "one")]));
}

#[test]
fn an_empty_partition_tuple_is_that_of_an_unpartitioned_table() {
    let state = metadata::create("file:///t", &silver_schema(), &Retention::default());
    let state = state.expect("metadata");
    let schema = state.current_schema();
    let spec = state.default_partition_spec();
    let tuple = partition_spec::tuple(&[], spec, schema).expect("a tuple");
    assert_eq!(tuple, Struct::empty());
    let error = partition_spec::tuple(&[Value::Long(1)], spec, schema);
    assert_eq!(error.expect_err("no partitions").kind(), ErrorKind::Invalid);
}
