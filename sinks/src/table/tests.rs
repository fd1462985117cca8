//! Files as they are written and read, below any log.

use std::collections::BTreeMap;
use std::sync::Arc;

use arrow::array::{Int32Array, RecordBatch, StringArray};
use arrow::datatypes::{DataType, Field, Schema};
use bytes::Bytes;
use futures::TryStreamExt;
use lakebed_schemas::column::{Column, ColumnType, TableSchema};
use lakebed_schemas::position::{Checkpoint, TopicPartition};
use lakebed_schemas::value::Value;
use parquet::arrow::ArrowWriter;
use parquet::basic::Type as Physical;
use parquet::file::reader::{FileReader, SerializedFileReader};
use roaring::RoaringBitmap;
use uuid::Uuid;

use super::reader::{self, RowsWanted};
use super::writer::{self, FileRows, WriterOptions};
use crate::log::{DataFile, Head, LiveFile};
use crate::storage::{S3Options, Storage};

fn schema(columns: &[(&str, ColumnType)]) -> TableSchema {
    let columns = columns.iter().zip(1..).map(|((name, column_type), id)| Column {
        name: (*name).to_owned(),
        source_name: (*name).to_owned(),
        column_type: column_type.clone(),
        id,
    });
    TableSchema { columns: columns.collect(), ..TableSchema::default() }
}

fn local() -> (tempfile::TempDir, Storage) {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let location = folder.path().to_str().expect("a temporary path is text").to_owned();
    (folder, Storage::open(&location, &S3Options::default()).expect("local storage"))
}

fn text(text: &str) -> Value {
    Value::Text(text.to_owned())
}

fn decimal(precision: u8) -> ColumnType {
    ColumnType::Decimal { precision, scale: 2 }
}

async fn stage(storage: &Storage, schema: &TableSchema, rows: Vec<Vec<Value>>) -> Arc<DataFile> {
    let rows =
        FileRows { topic_partition: TopicPartition::new("t", 0), partition: Vec::new(), rows };
    let options =
        WriterOptions { row_group_rows: 1_000, parallel_max: 1, ..WriterOptions::default() };
    writer::stage(storage, &Arc::new(schema.clone()), &[Arc::new(rows)], &options)
        .await
        .expect("staged")
        .remove(0)
}

fn head(schema: TableSchema, files: Vec<LiveFile>) -> Head {
    Head {
        version: 1,
        uuid: Uuid::nil(),
        schema,
        checkpoint: Checkpoint::default(),
        freshness: None,
        memos: BTreeMap::new(),
        files: files.into_iter().map(|live| (live.file.path.clone(), live)).collect(),
    }
}

fn alive(file: Arc<DataFile>) -> LiveFile {
    LiveFile { file, deleted: RoaringBitmap::new() }
}

async fn scan(storage: &Storage, head: &Head, columns: &[usize]) -> Vec<Vec<Value>> {
    let batches: Vec<RecordBatch> =
        reader::scan(storage, head, columns).try_collect().await.expect("read");
    let value = |batch: &RecordBatch, at: usize, row: usize| {
        let column_type = &head.schema.columns[columns[at]].column_type;
        super::arrow_values::value_at(batch.column(at).as_ref(), column_type, row)
    };
    let rows = batches.iter().flat_map(|batch| {
        (0..batch.num_rows())
            .map(move |row| (0..columns.len()).map(|at| value(batch, at, row)).collect())
    });
    rows.collect()
}

#[test]
fn files_carry_ids_and_the_physical_types_that_athena_reads() {
    let headers = vec![("key".to_owned(), ColumnType::Text), ("n".to_owned(), ColumnType::Int)];
    let columns = [
        ("local", ColumnType::Timestamp),
        ("instant", ColumnType::TimestampTz),
        ("d9", decimal(9)),
        ("d18", decimal(18)),
        ("d38", decimal(38)),
        ("headers", ColumnType::List(Box::new(ColumnType::Struct(headers)))),
    ];
    let schema = schema(&columns);
    let encoded = writer::encode(&schema, &[vec![Value::Null; 6]], 10).expect("encoded");
    let file = SerializedFileReader::new(Bytes::from(encoded.bytes)).expect("a Parquet file");
    let metadata = file.metadata().file_metadata();

    assert!(metadata.created_by().is_some_and(|by| by.starts_with("lakebed version ")));
    assert_eq!(metadata.key_value_metadata(), None);
    let leaves: Vec<_> = metadata
        .schema_descr()
        .columns()
        .iter()
        .map(|leaf| {
            (leaf.path().string(), leaf.physical_type(), leaf.self_type().get_basic_info().id())
        })
        .collect();
    let expected = [
        ("local", Physical::INT64, 1),
        ("instant", Physical::INT64, 2),
        ("d9", Physical::INT32, 3),
        ("d18", Physical::INT64, 4),
        ("d38", Physical::FIXED_LEN_BYTE_ARRAY, 5),
        ("headers.list.element.key", Physical::BYTE_ARRAY, 10_601),
        ("headers.list.element.n", Physical::INT32, 10_602),
    ];
    assert_eq!(leaves, expected.map(|(path, physical, id)| (path.to_owned(), physical, id)));
    let logical =
        |leaf: usize| format!("{:?}", metadata.schema_descr().column(leaf).logical_type_ref());
    assert!(logical(0).contains("is_adjusted_to_u_t_c: false") && logical(0).contains("MICROS"));
    assert!(logical(1).contains("is_adjusted_to_u_t_c: true") && logical(1).contains("MICROS"));
    let list = metadata.schema_descr().root_schema().get_fields()[5].clone();
    let element = list.get_fields()[0].get_fields()[0].clone();
    assert_eq!(list.get_basic_info().id(), 6);
    assert_eq!((element.name(), element.get_basic_info().id()), ("element", 10_600));
}

#[test]
fn statistics_are_exact_or_absent() {
    let columns = [
        ("n", ColumnType::Long),
        ("text", ColumnType::Text),
        ("long_text", ColumnType::Text),
        ("nan", ColumnType::Double),
        ("money", decimal(38)),
        ("none", ColumnType::Date),
        ("list", ColumnType::List(Box::new(ColumnType::Long))),
    ];
    let row = |n: i64| {
        vec![
            Value::Long(n),
            if n % 3 == 0 { Value::Null } else { text(&format!("é{n}")) },
            text(&"x".repeat(100)),
            Value::Double(if n == 2 { f64::NAN } else { n as f64 }),
            Value::Decimal { unscaled: i128::from(n - 5) * 10i128.pow(30), scale: 1 },
            Value::Null,
            Value::List(vec![Value::Long(n)]),
        ]
    };
    let rows: Vec<_> = (0..10).map(row).collect();
    let encoded = writer::encode(&schema(&columns), &rows, 4).expect("encoded");

    let at = |column: usize| {
        let stats = &encoded.stats[column];
        assert_eq!(stats.column, column);
        assert!(stats.bytes > 0, "column {column}");
        (stats.null_count, stats.min.clone(), stats.max.clone())
    };
    assert_eq!(at(0), (0, Some(Value::Long(0)), Some(Value::Long(9))));
    assert_eq!(at(1), (4, Some(text("é1")), Some(text("é8"))));
    assert_eq!(at(2), (0, None, None));
    assert_eq!(at(3), (0, None, None));
    let money = |n: i128| Some(Value::Decimal { unscaled: n * 10i128.pow(31), scale: 2 });
    assert_eq!(at(4), (0, money(-5), money(4)));
    assert_eq!(at(5), (10, None, None));
    assert_eq!(at(6), (0, None, None));
    assert_eq!(encoded.split_offsets.len(), 3, "ten rows are three groups of four");
    assert_eq!(encoded.split_offsets[0], 4, "right after the magic number");
    assert!(encoded.split_offsets.is_sorted());
}

#[test]
fn a_row_that_does_not_fit_is_refused_without_its_value() {
    let schema = schema(&[("amount", decimal(5))]);
    for value in [text("secret"), Value::Decimal { unscaled: 1_000_000, scale: 2 }] {
        let error = writer::encode(&schema, &[vec![value]], 10).expect_err("refused");
        assert_eq!(error.kind(), crate::ErrorKind::Internal);
        assert!(error.to_string().contains("`amount`"), "{error}");
        assert!(!error.to_string().contains("secret"), "{error}");
    }
    let error = writer::encode(&schema, &[vec![]], 10).expect_err("refused");
    assert!(error.to_string().contains("0 values"), "{error}");
}

#[tokio::test]
async fn an_old_file_reads_in_the_schema_of_today() {
    let (_folder, storage) = local();
    let old = schema(&[
        ("n", ColumnType::Int),
        ("x", ColumnType::Float),
        ("money", decimal(5)),
        ("renamed", ColumnType::Text),
    ]);
    let row = vec![
        Value::Long(-7),
        Value::Float(0.5),
        Value::Decimal { unscaled: 12_345, scale: 2 },
        text("kept"),
    ];
    let file = stage(&storage, &old, vec![row]).await;
    let mut today = old.clone();
    today.columns[0].column_type = ColumnType::Long;
    today.columns[1].column_type = ColumnType::Double;
    today.columns[2].column_type = decimal(20);
    today.columns[3].name = "new_name".to_owned();
    today.columns.push(Column {
        name: "added".to_owned(),
        source_name: "added".to_owned(),
        column_type: ColumnType::List(Box::new(ColumnType::Text)),
        id: 9,
    });
    // In another order, and a name that once was another column's.
    today.columns.push(Column { name: "renamed".to_owned(), id: 10, ..old.columns[3].clone() });

    let head = head(today, vec![alive(file)]);
    let read = scan(&storage, &head, &[4, 3, 2, 1, 0, 5]).await;

    let expected = vec![
        Value::Null,
        text("kept"),
        Value::Decimal { unscaled: 12_345, scale: 2 },
        Value::Double(0.5),
        Value::Long(-7),
        Value::Null,
    ];
    assert_eq!(read, vec![expected]);
    // Nothing at all of the file is needed, but how many rows it has.
    assert_eq!(scan(&storage, &head, &[4]).await, vec![vec![Value::Null]]);
}

#[tokio::test]
async fn a_table_without_a_key_is_refused() {
    use crate::conformance::LogFactory;
    use crate::conformance::fixture::Fixture;

    let factory = crate::memory::MemoryFactory::new();
    let table = Fixture::new(&factory);
    let schema = schema(&[("n", ColumnType::Long)]);
    let log = factory.create(&table.storage, &table.table, &schema).await.expect("made");
    let opened = super::upsert::UpsertTable::open(log, table.options.clone());
    let error = opened.await.err().expect("refused");
    assert_eq!(error.kind(), crate::ErrorKind::Invalid);
}

#[tokio::test]
async fn a_file_without_ids_reads_by_name() {
    let (_folder, storage) = local();
    let arrow = Arc::new(Schema::new(vec![
        Field::new("name", DataType::Utf8, true),
        Field::new("n", DataType::Int32, true),
    ]));
    let names = Arc::new(StringArray::from(vec!["a", "b"]));
    let numbers = Arc::new(Int32Array::from(vec![Some(1), None]));
    let batch = RecordBatch::try_new(arrow.clone(), vec![names, numbers]).expect("a batch");
    let mut bytes = Vec::new();
    let mut writer = ArrowWriter::try_new(&mut bytes, arrow, None).expect("a writer");
    writer.write(&batch).expect("written");
    writer.close().expect("closed");
    let size = bytes.len() as u64;
    storage.put("foreign.parquet", bytes).await.expect("put");
    let file = Arc::new(DataFile {
        path: "foreign.parquet".to_owned(),
        size,
        rows: 2,
        topic_partition: TopicPartition::new("t", 0),
        partition: Vec::new(),
        stats: vec![],
        split_offsets: vec![],
    });
    let schema = schema(&[("n", ColumnType::Long), ("name", ColumnType::Text)]);

    let read = scan(&storage, &head(schema, vec![alive(file)]), &[0, 1]).await;

    assert_eq!(read, vec![vec![Value::Long(1), text("a")], vec![Value::Null, text("b")]]);
}

fn wide_rows(count: i64) -> Vec<Vec<Value>> {
    // Text that does not compress, so that what is read shows in bytes.
    let noise = |n: i64| format!("{:x}", xxhash_rust::xxh3::xxh3_128(&n.to_le_bytes()));
    let long = |n: i64| (4 * n..4 * n + 4).map(noise).collect::<String>();
    (0..count).map(|n| vec![Value::Long(n), text(&long(n))]).collect()
}

#[tokio::test]
async fn a_few_rows_are_read_without_their_file() {
    let (_folder, storage) = local();
    let schema = schema(&[("n", ColumnType::Long), ("noise", ColumnType::Text)]);
    let rows = wide_rows(100_000);
    let options = WriterOptions::default();
    let file = FileRows {
        topic_partition: TopicPartition::new("t", 0),
        partition: Vec::new(),
        rows: rows.clone(),
    };
    let staged = writer::stage(&storage, &Arc::new(schema.clone()), &[Arc::new(file)], &options)
        .await
        .expect("staged")
        .remove(0);
    storage.counters().take();

    let positions = RoaringBitmap::from([3, 4, 50_000]);
    let wanted = RowsWanted { file: staged.clone(), positions };
    let read = reader::read_rows(&storage, &schema, &[1], vec![wanted]).await.expect("read");

    let expected: Vec<_> = [3, 4, 50_000].map(|at: usize| vec![rows[at][1].clone()]).to_vec();
    assert_eq!(read, vec![expected]);
    let counts = storage.counters().take();
    assert!(staged.size > 4_000_000, "{} bytes", staged.size);
    assert!(counts.bytes_read < staged.size / 4, "{counts:?} of {} bytes", staged.size);
    assert!(counts.gets <= 5, "{counts:?}");

    let beyond = RowsWanted { file: staged, positions: RoaringBitmap::from([100_000]) };
    let error = reader::read_rows(&storage, &schema, &[1], vec![beyond]).await.expect_err("beyond");
    assert_eq!(error.kind(), crate::ErrorKind::Corrupt);
}

#[tokio::test]
async fn a_scan_passes_over_dead_rows_in_every_row_group() {
    let (_folder, storage) = local();
    let schema = schema(&[("n", ColumnType::Long), ("noise", ColumnType::Text)]);
    let file = stage(&storage, &schema, wide_rows(5_000)).await;
    assert_eq!(file.split_offsets.len(), 5);
    let mut deleted = RoaringBitmap::from([0, 999, 1_000, 4_999]);
    deleted.insert_range(2_000..3_000);
    let live = LiveFile { file, deleted: deleted.clone() };
    let read = scan(&storage, &head(schema, vec![live]), &[0]).await;

    let expected: Vec<_> = (0..5_000u32)
        .filter(|n| !deleted.contains(*n))
        .map(|n| vec![Value::Long(i64::from(n))])
        .collect();
    assert_eq!(read, expected);
}

#[tokio::test]
async fn a_file_that_is_not_what_the_log_says_is_corrupt() {
    let (_folder, storage) = local();
    let schema = schema(&[("n", ColumnType::Long)]);
    let file = stage(&storage, &schema, vec![vec![Value::Long(1)]]).await;
    let wrong = Arc::new(DataFile { rows: 2, ..file.as_ref().clone() });
    let read = reader::scan(&storage, &head(schema.clone(), vec![alive(wrong)]), &[0]);
    let error = read.try_collect::<Vec<_>>().await.expect_err("row counts differ");
    assert_eq!(error.kind(), crate::ErrorKind::Corrupt);

    storage.put(&file.path, vec![0; file.size as usize]).await.expect("overwritten");
    let read = reader::scan(&storage, &head(schema, vec![alive(file)]), &[0]);
    let error = read.try_collect::<Vec<_>>().await.expect_err("no footer");
    assert_eq!(error.kind(), crate::ErrorKind::Corrupt);
}

#[tokio::test]
async fn the_index_is_small() {
    let (_folder, storage) = local();
    let mut schema = schema(&[("n", ColumnType::Long), ("noise", ColumnType::Text)]);
    schema.key = vec!["n".to_owned()];
    let rows = 200_000;
    let numbers = (0..rows).map(|n| vec![Value::Long(n), Value::Null]).collect();
    let file = stage(&storage, &schema, numbers).await;
    let head = head(schema, vec![alive(file)]);
    let mut index = super::index::KeyIndex::default();
    index.sync(&storage, &head).await.expect("read");

    assert_eq!(index.len() as i64, rows);
    let each = index.memory_bytes() as f64 / rows as f64;
    // 21 bytes a slot, and a table between 7/16 and 7/8 full.
    assert!((21.0..49.0).contains(&each), "{each} bytes a key");
    let keys: BTreeMap<i64, u32> = [(0, 0), (199_999, 199_999), (77_777, 77_777)].into();
    for (key, position) in keys {
        let place = index.find(lakebed_schemas::value::key_hash(&[Value::Long(key)]));
        assert_eq!(place.map(|place| place.position), Some(position));
    }
    assert_eq!(index.find(lakebed_schemas::value::key_hash(&[Value::Long(-1)])), None);
}
