//! Partition columns as Delta keeps them.

use std::sync::Arc;

use lakebed_schemas::config::TableFormat;
use lakebed_schemas::partition::PartitionField;
use lakebed_schemas::value::{Value, key_hash};

use super::{DeltaFactory, change};
use crate::conformance::CopyOnWrite;
use crate::conformance::fixture::{Fixture, all_rows, batch, commit, expected, silver_schema};
use crate::conformance::partitions::{
    Partitioned, any_value_may_be_a_partition, partitioned, rows_move_between_partitions,
};
use crate::log::{CommitOutcome, DataFile};
use crate::table::writer;

const FORMAT: TableFormat = TableFormat::Delta;

mod conformance {
    use super::{DeltaFactory, FORMAT, Partitioned};

    crate::conformance_tests!(@partitioned Partitioned { inner: DeltaFactory, format: FORMAT });

    mod copy_on_write {
        use super::*;

        crate::conformance_tests!(@partitioned crate::conformance::CopyOnWrite(Partitioned {
            inner: DeltaFactory,
            format: FORMAT
        }));
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn rows_move_where_files_are_rewritten() {
    let factory = CopyOnWrite(Partitioned { inner: DeltaFactory, format: FORMAT });
    rows_move_between_partitions(&factory).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn any_value_is_a_partition() {
    any_value_may_be_a_partition(&DeltaFactory, FORMAT).await;
}

#[tokio::test]
async fn what_a_table_is_partitioned_by_reads_back() {
    let table = Fixture::new(&DeltaFactory);
    let by = ["note", "truncate(2, name)", "bucket(16, id)"];
    let schema = partitioned(&silver_schema(), &by, FORMAT);
    table.create(&schema).await;
    let read = table.open().await.head().schema.clone();
    assert_eq!(read, schema);
    let said: Vec<String> =
        read.partition_by.iter().map(|field| field.configured().to_string()).collect();
    assert_eq!(said, by);
    assert!(read.is_partition_value("id_bucket") && !read.is_partition_value("note"));
}

/// Other writers leave partition columns out of their files: rows have them from the log, keys too.
#[tokio::test]
async fn a_file_without_its_partition_column_reads_by_the_log() {
    let table = Fixture::new(&DeltaFactory);
    let mut schema = silver_schema();
    schema.partition_by = vec![PartitionField::identity("id"), PartitionField::identity("note")];
    let mut silver = table.silver_on(table.create(&schema).await).await;
    commit(&mut silver, batch(0, &[(7, Some("seven")), (8, Some("eight"))])).await;
    let before = all_rows(&table.storage, silver.head()).await;

    // As OPTIMIZE would write them.
    let mut log = table.open().await;
    let head = log.head().clone();
    let mut lean = schema.clone();
    lean.columns.retain(|column| column.name != "id" && column.name != "note");
    let mut compacted = change(Vec::new(), 2, 2);
    for (path, live) in &head.files {
        let alone =
            crate::log::Head { files: [(path.clone(), live.clone())].into(), ..head.clone() };
        let rows: Vec<Vec<Value>> = all_rows(&table.storage, &alone)
            .await
            .into_iter()
            .map(|mut row| {
                row.remove(2);
                row.remove(0);
                row
            })
            .collect();
        let encoded = writer::encode(&lean, &rows, 10).expect("a file");
        let file = DataFile {
            path: format!("part-{}.parquet", uuid::Uuid::new_v4()),
            size: encoded.bytes.len() as u64,
            stats: Vec::new(),
            ..live.file.as_ref().clone()
        };
        table.storage.put(&file.path, encoded.bytes).await.expect("put");
        compacted.added.push(Arc::new(file));
        compacted.removed.insert(path.clone());
    }
    let outcome = log.commit(&compacted).await.expect("settled");
    assert!(matches!(outcome, CommitOutcome::Committed { .. }));

    let mut silver = table.silver().await;
    let mut after = all_rows(&table.storage, silver.head()).await;
    after.sort_by_key(|row| format!("{:?}", row[0]));
    assert_eq!(after, before);
    for id in [7, 8] {
        assert!(silver.index().find(key_hash(&[Value::Long(id)])).is_some(), "id {id}");
    }
    commit(&mut silver, batch(2, &[(7, Some("sept")), (8, None)])).await;
    assert_eq!(table.names().await, expected(&[(7, "sept")]));
}
