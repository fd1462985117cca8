//! Position-delete files: Parquet with two columns, which row of which data file is dead.
//!
//! Sorted by path and position. A file that names one data file says so in the manifest, so that
//! readers open it for that data file alone; the bounds are exact for the same reason.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use arrow::array::{
    Array, ArrayRef, AsArray, DictionaryArray, Int32Array, Int64Array, RecordBatch, StringArray,
};
use arrow::compute::cast;
use arrow::datatypes::{DataType, Field, Int32Type, Int64Type, Schema};
use bytes::Bytes;
use iceberg::spec::{DataContentType, DataFile, DataFileBuilder, DataFileFormat, Datum, Struct};
use parquet::arrow::ArrowWriter;
use parquet::arrow::PARQUET_FIELD_ID_META_KEY;
use parquet::arrow::ProjectionMask;
use parquet::arrow::arrow_reader::ParquetRecordBatchReaderBuilder;
use parquet::arrow::arrow_writer::ArrowWriterOptions;
use parquet::basic::{Compression, Encoding, ZstdLevel};
use parquet::file::properties::WriterProperties;
use parquet::schema::types::ColumnPath;
use roaring::RoaringBitmap;

use crate::{Error, Result};

/// Reserved field id of the path column.
const PATH_ID: i32 = 2_147_483_546;
/// Reserved field id of the position column.
const POS_ID: i32 = 2_147_483_545;
/// Up to so many data files in one commit get a delete file each; beyond that their deletes share
/// one for each partition, so that a wide batch does not cost a request for every file it touches.
const FILE_SCOPED_MAX: usize = 32;

/// One data file that loses rows.
#[derive(Debug, Clone)]
pub(super) struct Target<'a> {
    /// As the manifest names it.
    pub(super) uri: &'a str,
    /// Partition spec and tuple of the data file, which its deletes must share.
    pub(super) spec_id: i32,
    /// See `spec_id`.
    pub(super) partition: &'a Struct,
    /// Newly dead positions, not empty.
    pub(super) positions: &'a RoaringBitmap,
}

/// An encoded delete file, not yet in storage.
#[derive(Debug, Clone)]
pub(super) struct DeleteFile {
    /// The spec that it belongs to.
    pub(super) spec_id: i32,
    /// Positions in it.
    pub(super) records: u64,
    /// Its Parquet bytes.
    pub(super) bytes: Bytes,
    /// The tuple of its data files.
    pub(super) partition: Struct,
    paths: (String, String),
    positions: (u32, u32),
}

impl DeleteFile {
    /// Its manifest entry, once it lies at `uri`; `partition` is its own, as the manifest holds it.
    pub(super) fn entry(&self, uri: String, partition: Struct) -> Result<DataFile> {
        let bounds = |path: &str, position: u32| {
            HashMap::from([
                (PATH_ID, Datum::string(path)),
                (POS_ID, Datum::long(i64::from(position))),
            ])
        };
        let counts = |count: u64| HashMap::from([(PATH_ID, count), (POS_ID, count)]);
        let (first, last) = (&self.paths.0, &self.paths.1);
        DataFileBuilder::default()
            .content(DataContentType::PositionDeletes)
            .file_path(uri)
            .file_format(DataFileFormat::Parquet)
            .partition(partition)
            .partition_spec_id(self.spec_id)
            .record_count(self.records)
            .file_size_in_bytes(self.bytes.len() as u64)
            .value_counts(counts(self.records))
            .null_value_counts(counts(0))
            .lower_bounds(bounds(first, self.positions.0))
            .upper_bounds(bounds(last, self.positions.1))
            .referenced_data_file((first == last).then(|| first.clone()))
            .build()
            .map_err(|e| Error::internal("a delete file's entry lacks a field").with_source(e))
    }
}

/// Encodes the delete files for one commit: few and narrow, or one for each partition.
pub(super) fn encode_all(targets: &[Target<'_>]) -> Result<Vec<DeleteFile>> {
    if targets.len() <= FILE_SCOPED_MAX {
        return targets.iter().map(|target| encode(std::slice::from_ref(target))).collect();
    }
    let mut groups: HashMap<(i32, &Struct), Vec<Target<'_>>> = HashMap::new();
    for target in targets {
        groups.entry((target.spec_id, target.partition)).or_default().push(target.clone());
    }
    groups.into_values().map(|group| encode(&group)).collect()
}

/// Encodes one delete file. All targets are of one partition.
fn encode(targets: &[Target<'_>]) -> Result<DeleteFile> {
    let mut targets: Vec<&Target<'_>> = targets.iter().collect();
    targets.sort_by_key(|target| target.uri);
    let (Some(first), Some(last)) = (targets.first(), targets.last()) else {
        return Err(Error::internal("a delete file without a target"));
    };
    let lowest = targets.iter().filter_map(|target| target.positions.min()).min();
    let highest = targets.iter().filter_map(|target| target.positions.max()).max();
    Ok(DeleteFile {
        spec_id: first.spec_id,
        partition: first.partition.clone(),
        records: targets.iter().map(|target| target.positions.len()).sum(),
        paths: (first.uri.to_owned(), last.uri.to_owned()),
        positions: (lowest.unwrap_or(0), highest.unwrap_or(0)),
        bytes: write(&targets)
            .map_err(|e| Error::internal("could not encode position deletes").with_source(e))?,
    })
}

fn write(targets: &[&Target<'_>]) -> parquet::errors::Result<Bytes> {
    let path_column = ColumnPath::from("file_path");
    let pos_column = ColumnPath::from("pos");
    let properties = WriterProperties::builder()
        .set_compression(Compression::ZSTD(ZstdLevel::default()))
        // Readers prune by the path's statistics; a cut path would not be equal any more.
        .set_statistics_truncate_length(None)
        .set_column_index_truncate_length(None)
        .set_column_dictionary_enabled(path_column, true)
        .set_column_dictionary_enabled(pos_column.clone(), false)
        .set_column_encoding(pos_column, Encoding::DELTA_BINARY_PACKED)
        .build();
    let schema = schema();
    let mut buffer = Vec::new();
    let options =
        ArrowWriterOptions::new().with_properties(properties).with_skip_arrow_metadata(true);
    let mut writer = ArrowWriter::try_new_with_options(&mut buffer, schema.clone(), options)?;

    let paths: ArrayRef = Arc::new(StringArray::from_iter_values(targets.iter().map(|t| t.uri)));
    let mut keys = Vec::new();
    let mut positions = Vec::new();
    for (target, key) in targets.iter().zip(0i32..) {
        positions.extend(target.positions.iter().map(i64::from));
        keys.resize(positions.len(), key);
    }
    let paths = DictionaryArray::<Int32Type>::try_new(Int32Array::from(keys), paths)?;
    let columns: Vec<ArrayRef> = vec![Arc::new(paths), Arc::new(Int64Array::from(positions))];
    writer.write(&RecordBatch::try_new(schema, columns)?)?;
    writer.close()?;
    Ok(buffer.into())
}

fn schema() -> Arc<Schema> {
    let field = |name: &str, data_type: DataType, id: i32| {
        let id = (PARQUET_FIELD_ID_META_KEY.to_owned(), id.to_string());
        Field::new(name, data_type, false).with_metadata(HashMap::from([id]))
    };
    let path = DataType::Dictionary(Box::new(DataType::Int32), Box::new(DataType::Utf8));
    Arc::new(Schema::new(vec![
        field("file_path", path, PATH_ID),
        field("pos", DataType::Int64, POS_ID),
    ]))
}

/// Reads a delete file, ours or not: dead positions by the data file's URI.
pub(super) fn decode(uri: &str, bytes: Bytes) -> Result<BTreeMap<String, RoaringBitmap>> {
    let doing = || format!("could not read position deletes `{uri}`");
    let mut dead: BTreeMap<String, RoaringBitmap> = BTreeMap::new();
    let mut read = || -> parquet::errors::Result<bool> {
        let builder = ParquetRecordBatchReaderBuilder::try_new(bytes.clone())?;
        let (path, pos) = columns(builder.schema());
        let mask =
            ProjectionMask::roots(builder.parquet_schema(), [path, pos].into_iter().flatten());
        let (Some(path), Some(pos)) = (path, pos) else { return Ok(false) };
        // The projection keeps the order of the file.
        let (path, pos) = if path < pos { (0, 1) } else { (1, 0) };
        for batch in builder.with_projection(mask).with_batch_size(65_536).build()? {
            let batch = batch?;
            let paths = cast(batch.column(path), &DataType::Utf8)?;
            let positions = cast(batch.column(pos), &DataType::Int64)?;
            if paths.null_count() + positions.null_count() > 0 {
                return Ok(false);
            }
            if !collect(paths.as_string::<i32>(), positions.as_primitive::<Int64Type>(), &mut dead)
            {
                return Ok(false);
            }
        }
        Ok(true)
    };
    match read() {
        Ok(true) => Ok(dead),
        Ok(false) => Err(Error::corrupt(format!(
            "{}: it lacks file_path or pos, or holds a null or a position out of range",
            doing()
        ))),
        Err(error) => Err(Error::corrupt(doing()).with_source(error)),
    }
}

/// Adds the rows of one batch; false if a position is no row number that we can hold.
fn collect(
    paths: &StringArray,
    positions: &arrow::array::PrimitiveArray<Int64Type>,
    dead: &mut BTreeMap<String, RoaringBitmap>,
) -> bool {
    let mut start = 0;
    while start < paths.len() {
        // Files are sorted by path, so a path comes in one long run.
        let path = paths.value(start);
        let run = (start..paths.len()).take_while(|row| paths.value(*row) == path).count();
        let bitmap = dead.entry(path.to_owned()).or_default();
        for row in start..start + run {
            let Ok(position) = u32::try_from(positions.value(row)) else { return false };
            bitmap.insert(position);
        }
        start += run;
    }
    true
}

/// Indexes of the two columns: by field id, or by name where a writer left the ids out.
fn columns(schema: &Schema) -> (Option<usize>, Option<usize>) {
    let find = |id: i32, name: &str| {
        let by_id = schema.fields().iter().position(|field| {
            field.metadata().get(PARQUET_FIELD_ID_META_KEY).is_some_and(|v| *v == id.to_string())
        });
        by_id.or_else(|| schema.fields().iter().position(|field| field.name() == name))
    };
    (find(PATH_ID, "file_path"), find(POS_ID, "pos"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn deletes_read_back_and_a_long_path_keeps_exact_bounds() {
        let uri = format!("s3://bucket/{}/data/x.parquet", "deep/".repeat(60));
        let positions: RoaringBitmap = [7, 3, 100_000].into_iter().collect();
        let partition = Struct::empty();
        let target = Target { uri: &uri, spec_id: 0, partition: &partition, positions: &positions };
        let [file] = &encode_all(&[target]).expect("encodes")[..] else { panic!("one file") };

        assert_eq!(
            decode("d", file.bytes.clone()).expect("decodes"),
            BTreeMap::from([(uri.clone(), positions)])
        );
        let entry = file.entry("s3://bucket/d.parquet".into(), Struct::empty()).expect("entry");
        assert_eq!(entry.referenced_data_file(), Some(uri.clone()));
        assert_eq!(entry.upper_bounds()[&PATH_ID], Datum::string(&uri));
        assert_eq!(entry.lower_bounds()[&POS_ID], Datum::long(3));
        assert_eq!(entry.upper_bounds()[&POS_ID], Datum::long(100_000));
    }

    #[test]
    fn many_touched_files_share_one_delete_file() {
        let positions: RoaringBitmap = (0..50).collect();
        let partition = Struct::empty();
        let uris: Vec<String> = (0..33).map(|n| format!("file:///t/data/{n}.parquet")).collect();
        let target = |uri: &'_ String| (uri.clone(), positions.clone());
        let wanted: BTreeMap<String, RoaringBitmap> = uris.iter().map(target).collect();
        let targets: Vec<Target<'_>> = uris
            .iter()
            .map(|uri| Target { uri, spec_id: 0, partition: &partition, positions: &positions })
            .collect();

        assert_eq!(encode_all(&targets[..32]).expect("encodes").len(), 32);
        let [file] = &encode_all(&targets).expect("encodes")[..] else { panic!("one file") };
        assert_eq!(file.records, 33 * 50);
        assert_eq!(decode("d", file.bytes.clone()).expect("decodes"), wanted);
        let entry = file.entry("file:///t/data/d.parquet".into(), Struct::empty()).expect("entry");
        assert_eq!(entry.referenced_data_file(), None);
        assert_eq!(entry.lower_bounds()[&PATH_ID], Datum::string(&uris[0]));
    }

    #[test]
    fn what_is_no_delete_file_is_refused_by_name() {
        let error =
            decode("s3://b/d.parquet", Bytes::from_static(b"PAR1")).expect_err("no Parquet");
        assert!(error.to_string().contains("s3://b/d.parquet"), "{error}");
    }
}
