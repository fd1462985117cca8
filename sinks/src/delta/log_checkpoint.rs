//! Log checkpoints: the whole state of the table in one Parquet file (classic, version 1).
//!
//! Rows pass through the same JSON form as log entries, so that both are read and written alike.

use std::sync::Arc;

use arrow::datatypes::{DataType, Field, Fields, Schema, SchemaRef};
use bytes::Bytes;
use deltalake_core::logstore::{StorageConfig, default_logstore};
use parquet::arrow::ArrowWriter;
use parquet::arrow::ProjectionMask;
use parquet::arrow::arrow_reader::ParquetRecordBatchReaderBuilder;
use parquet::basic::Compression;
use parquet::file::properties::WriterProperties;
use url::Url;

use super::actions::{Action, parse};
use super::replay::{Replay, State};
use crate::storage::Storage;
use crate::{Error, Result};

/// Rows converted at once.
const ROWS_AT_ONCE: usize = 4096;

/// Every row of the log checkpoint of this state.
///
/// Of what is gone, only whole files are kept in mind, and only those that [`Replay::forget`] has
/// left. The old deletion vectors of living files are not: there is one for each file touched by
/// each commit, so that they would soon outweigh the table. Reading the state does not need them.
pub(super) fn rows(replay: &Replay) -> Vec<Action> {
    let mut rows: Vec<Action> = Vec::with_capacity(replay.adds.len() + replay.txns.len() + 2);
    rows.extend(replay.protocol.clone().map(Action::from));
    rows.extend(replay.metadata.clone().map(Action::from));
    rows.extend(replay.txns.values().cloned().map(Action::from));
    rows.extend(replay.adds.values().cloned().map(|mut add| {
        add.data_change = false;
        Action::from(add)
    }));
    rows.extend(replay.tombstones.values().cloned().map(|mut remove| {
        remove.data_change = false;
        Action::from(remove)
    }));
    rows
}

/// Parquet bytes of a log checkpoint.
pub(super) fn encode(rows: &[Action]) -> Result<Vec<u8>> {
    let failed = |e: String| Error::internal(format!("could not write a log checkpoint: {e}"));
    let schema = checkpoint_schema();
    let properties = WriterProperties::builder().set_compression(Compression::SNAPPY).build();
    let mut bytes = Vec::new();
    let mut writer = ArrowWriter::try_new(&mut bytes, schema.clone(), Some(properties))
        .map_err(|e| failed(e.to_string()))?;
    let mut decoder = arrow_json::ReaderBuilder::new(schema)
        .build_decoder()
        .map_err(|e| failed(e.to_string()))?;
    for some in rows.chunks(ROWS_AT_ONCE) {
        decoder.serialize(some).map_err(|e| failed(e.to_string()))?;
        if let Some(batch) = decoder.flush().map_err(|e| failed(e.to_string()))? {
            writer.write(&batch).map_err(|e| failed(e.to_string()))?;
        }
    }
    writer.close().map_err(|e| failed(e.to_string()))?;
    Ok(bytes)
}

/// The rows of (one part of) a log checkpoint, ours or another engine's.
pub(super) fn decode(name: &str, bytes: Bytes) -> Result<Vec<Action>> {
    let corrupt = |e: String| Error::corrupt(format!("log checkpoint `{name}`: {e}"));
    let builder =
        ParquetRecordBatchReaderBuilder::try_new(bytes).map_err(|e| corrupt(e.to_string()))?;
    // Engines add columns of their own, such as parsed statistics.
    let mask = ProjectionMask::columns(builder.parquet_schema(), WANTED.iter().copied());
    let reader = builder
        .with_projection(mask)
        .with_batch_size(ROWS_AT_ONCE)
        .build()
        .map_err(|e| corrupt(e.to_string()))?;
    let mut actions = Vec::new();
    for batch in reader {
        let batch = batch.map_err(|e| corrupt(e.to_string()))?;
        let mut writer = arrow_json::LineDelimitedWriter::new(Vec::new());
        writer.write(&batch).map_err(|e| corrupt(e.to_string()))?;
        writer.finish().map_err(|e| corrupt(e.to_string()))?;
        actions.extend(parse(name, &writer.into_inner())?);
    }
    Ok(actions)
}

const WANTED: [&str; 18] = [
    "protocol",
    "metaData",
    "txn",
    "add.path",
    "add.partitionValues",
    "add.size",
    "add.modificationTime",
    "add.dataChange",
    "add.stats",
    "add.tags",
    "add.deletionVector",
    "remove.path",
    "remove.deletionTimestamp",
    "remove.dataChange",
    "remove.extendedFileMetadata",
    "remove.partitionValues",
    "remove.size",
    "remove.deletionVector",
];

fn field(name: &str, data_type: DataType) -> Field {
    Field::new(name, data_type, true)
}

fn nested(fields: Vec<Field>) -> DataType {
    DataType::Struct(Fields::from(fields))
}

fn text_map() -> DataType {
    let entry =
        nested(vec![Field::new("key", DataType::Utf8, false), field("value", DataType::Utf8)]);
    DataType::Map(Arc::new(Field::new("key_value", entry, false)), false)
}

fn texts() -> DataType {
    DataType::List(Arc::new(field("element", DataType::Utf8)))
}

fn checkpoint_schema() -> SchemaRef {
    use DataType::{Boolean, Int32, Int64, Utf8};
    let vector = nested(vec![
        field("storageType", Utf8),
        field("pathOrInlineDv", Utf8),
        field("offset", Int32),
        field("sizeInBytes", Int32),
        field("cardinality", Int64),
    ]);
    let txn = vec![field("appId", Utf8), field("version", Int64), field("lastUpdated", Int64)];
    let add = vec![
        field("path", Utf8),
        field("partitionValues", text_map()),
        field("size", Int64),
        field("modificationTime", Int64),
        field("dataChange", Boolean),
        field("stats", Utf8),
        field("tags", text_map()),
        field("deletionVector", vector.clone()),
    ];
    let remove = vec![
        field("path", Utf8),
        field("deletionTimestamp", Int64),
        field("dataChange", Boolean),
        field("extendedFileMetadata", Boolean),
        field("partitionValues", text_map()),
        field("size", Int64),
        field("deletionVector", vector),
    ];
    let format = vec![field("provider", Utf8), field("options", text_map())];
    let metadata = vec![
        field("id", Utf8),
        field("name", Utf8),
        field("description", Utf8),
        field("format", nested(format)),
        field("schemaString", Utf8),
        field("partitionColumns", texts()),
        field("createdTime", Int64),
        field("configuration", text_map()),
    ];
    let protocol = vec![
        field("minReaderVersion", Int32),
        field("minWriterVersion", Int32),
        field("readerFeatures", texts()),
        field("writerFeatures", texts()),
    ];
    Arc::new(Schema::new(vec![
        field("txn", nested(txn)),
        field("add", nested(add)),
        field("remove", nested(remove)),
        field("metaData", nested(metadata)),
        field("protocol", nested(protocol)),
    ]))
}

/// Has the library read the table at the state's version, whose log checkpoint has just been
/// written, and compares what it sees: an error of ours must show while the entries that the
/// checkpoint stands for are still there.
pub(super) async fn verify(storage: &Storage, state: &State) -> Result<()> {
    let version = state.head.version;
    let doing = || {
        format!(
            "the library cannot read the log checkpoint of version {version} of `{}`",
            storage.location()
        )
    };
    let store = storage.object_store();
    // Paths start at the table; for this scheme the library does not count on sorted listings.
    let url = Url::parse("file:///").expect("a constant URL");
    let log_store = default_logstore(store.clone(), store, &url, &StorageConfig::default());
    let mut table = deltalake_core::DeltaTable::new(log_store);
    let wanted = u64::try_from(version).map_err(|_| Error::internal("negative version"))?;
    table.load_version(wanted).await.map_err(|e| Error::corrupt(doing()).with_source(e))?;
    let snapshot = table.snapshot().map_err(|e| Error::corrupt(doing()).with_source(e))?;
    let [mut files, mut bytes, mut dead] = [0u64, 0, 0];
    for file in snapshot.log_data().iter() {
        files += 1;
        bytes += u64::try_from(file.size()).unwrap_or(0);
        let vector = file.deletion_vector_descriptor();
        dead += vector.map_or(0, |vector| u64::try_from(vector.cardinality).unwrap_or(0));
    }
    let ours = state.head.files.values().fold([0u64; 3], |[files, bytes, dead], live| {
        [files + 1, bytes + live.file.size, dead + live.deleted.len()]
    });
    if ours != [files, bytes, dead] {
        return Err(Error::corrupt(format!(
            "version {version} of `{}` has {ours:?} files, bytes and dead rows in memory, and \
             {:?} when the library reads its log checkpoint",
            storage.location(),
            [files, bytes, dead]
        )));
    }
    Ok(())
}
