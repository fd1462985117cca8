//! Statistics of a data file's columns: what both logs store, exact or absent.

use arrow::array::{Array, ArrayRef, AsArray};
use arrow::datatypes::{DataType, Float32Type, Float64Type};
use lakebed_schemas::column::{ColumnType, TableSchema};
use lakebed_schemas::value::Value;
use parquet::file::metadata::ParquetMetaData;
use parquet::file::statistics::Statistics;

use crate::log::ColumnStats;

/// What is counted while writing, because the footer does not say it exactly.
#[derive(Debug, Clone, Default)]
pub(super) struct ColumnFacts {
    nulls: u64,
    nan: bool,
}

impl ColumnFacts {
    /// Takes in one more array of the column.
    pub(super) fn add(&mut self, array: &ArrayRef) {
        self.nulls += array.null_count() as u64;
        self.nan = self.nan
            || match array.data_type() {
                DataType::Float32 => {
                    array.as_primitive::<Float32Type>().iter().flatten().any(f32::is_nan)
                }
                DataType::Float64 => {
                    array.as_primitive::<Float64Type>().iter().flatten().any(f64::is_nan)
                }
                _ => false,
            };
    }
}

/// Statistics of each column of a file just written, from its footer and from what was counted.
pub(super) fn column_stats(
    schema: &TableSchema,
    metadata: &ParquetMetaData,
    facts: &[ColumnFacts],
) -> Vec<ColumnStats> {
    let descriptor = metadata.file_metadata().schema_descr();
    let mut stats: Vec<ColumnStats> = facts
        .iter()
        .enumerate()
        .map(|(column, facts)| ColumnStats {
            column,
            null_count: facts.nulls,
            min: None,
            max: None,
            bytes: 0,
        })
        .collect();
    for leaf in 0..descriptor.num_columns() {
        let column = descriptor.get_column_root_idx(leaf);
        let chunks = || metadata.row_groups().iter().map(|group| group.column(leaf));
        stats[column].bytes += chunks().map(|chunk| chunk.compressed_size() as u64).sum::<u64>();
        // NaN is larger than everything to some readers and outside all bounds to others.
        if facts[column].nan {
            continue;
        }
        let column_type = &schema.columns[column].column_type;
        let bounds = Bounds::of(column_type, chunks().map(|chunk| chunk.statistics()));
        if let Some(Bounds { min, max }) = bounds {
            stats[column].min = min;
            stats[column].max = max;
        }
    }
    stats
}

/// Smallest and largest value; a side is `None` where it is not known exactly.
struct Bounds {
    min: Option<Value>,
    max: Option<Value>,
}

impl Bounds {
    /// Over row groups; `None` for nested types and where a row group has no bounds for its values.
    fn of<'a>(
        column_type: &ColumnType,
        groups: impl Iterator<Item = Option<&'a Statistics>>,
    ) -> Option<Self> {
        if matches!(column_type, ColumnType::List(_) | ColumnType::Struct(_)) {
            return None;
        }
        let mut all: Option<Self> = None;
        for statistics in groups {
            let statistics = statistics?;
            let (min, max) = (statistics.min_bytes_opt(), statistics.max_bytes_opt());
            let (Some(min), Some(max)) = (min, max) else {
                // Only nulls: no bounds. The writer counts them in every chunk.
                continue;
            };
            let exact = |is_exact: bool, bytes| {
                if is_exact { decode_bound(column_type, statistics, bytes) } else { None }
            };
            let group = Self {
                min: exact(statistics.min_is_exact(), min),
                max: exact(statistics.max_is_exact(), max),
            };
            all = Some(match all {
                None => group,
                Some(all) => Self {
                    min: pick(all.min, group.min, std::cmp::Ordering::Less),
                    max: pick(all.max, group.max, std::cmp::Ordering::Greater),
                },
            });
        }
        all
    }
}

/// The one of two bounds that is on this side; `None` if either is unknown.
fn pick(a: Option<Value>, b: Option<Value>, side: std::cmp::Ordering) -> Option<Value> {
    let (a, b) = (a?, b?);
    let order = match (&a, &b) {
        (Value::Boolean(a), Value::Boolean(b)) => a.cmp(b),
        (Value::Long(a), Value::Long(b))
        | (Value::Timestamp(a), Value::Timestamp(b))
        | (Value::TimestampTz(a), Value::TimestampTz(b)) => a.cmp(b),
        (Value::Float(a), Value::Float(b)) => a.total_cmp(b),
        (Value::Double(a), Value::Double(b)) => a.total_cmp(b),
        (Value::Decimal { unscaled: a, .. }, Value::Decimal { unscaled: b, .. }) => a.cmp(b),
        (Value::Date(a), Value::Date(b)) => a.cmp(b),
        (Value::Text(a), Value::Text(b)) => a.cmp(b),
        (Value::Binary(a), Value::Binary(b)) => a.cmp(b),
        _ => return None,
    };
    Some(if order == side { a } else { b })
}

fn decode_bound(column_type: &ColumnType, statistics: &Statistics, bytes: &[u8]) -> Option<Value> {
    use ColumnType as T;
    let int = || match statistics {
        Statistics::Int32(_) => Some(i64::from(i32::from_le_bytes(bytes.try_into().ok()?))),
        Statistics::Int64(_) => Some(i64::from_le_bytes(bytes.try_into().ok()?)),
        _ => None,
    };
    Some(match column_type {
        T::Boolean => Value::Boolean(*bytes.first()? != 0),
        T::Int | T::Long => Value::Long(int()?),
        T::Float => Value::Float(f32::from_le_bytes(bytes.try_into().ok()?)),
        T::Double => Value::Double(f64::from_le_bytes(bytes.try_into().ok()?)),
        T::Decimal { scale, .. } => {
            let unscaled = match statistics {
                Statistics::FixedLenByteArray(_) | Statistics::ByteArray(_) => signed(bytes)?,
                _ => i128::from(int()?),
            };
            Value::Decimal { unscaled, scale: *scale }
        }
        T::Date => Value::Date(i32::try_from(int()?).ok()?),
        T::Timestamp => Value::Timestamp(int()?),
        T::TimestampTz => Value::TimestampTz(int()?),
        T::Text => Value::Text(std::str::from_utf8(bytes).ok()?.to_owned()),
        T::Binary => Value::Binary(bytes.to_vec()),
        T::List(_) | T::Struct(_) => return None,
    })
}

/// Two's complement, most significant byte first, up to 16 bytes.
fn signed(bytes: &[u8]) -> Option<i128> {
    let first = *bytes.first()?;
    let mut whole = if first & 0x80 == 0 { [0u8; 16] } else { [0xff; 16] };
    let start = whole.len().checked_sub(bytes.len())?;
    whole[start..].copy_from_slice(bytes);
    Some(i128::from_be_bytes(whole))
}
