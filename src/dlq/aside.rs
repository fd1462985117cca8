//! Records read back from bronze: those set aside, or the keys of all others.

use std::collections::VecDeque;

use arrow::array::{Array, RecordBatch};
use futures::StreamExt;
use futures::stream::BoxStream;
use lakebed_schemas::change_event::Op;
use lakebed_schemas::column::ColumnType;
use lakebed_schemas::decoder::NOT_KEPT;
use lakebed_schemas::position::TopicPartition;
use lakebed_schemas::value::Value;
use lakebed_sinks::log::TableLog;
use lakebed_sinks::table::arrow_values::value_at;
use lakebed_sinks::table::reader;
use lakebed_sinks::{Error, Result};

use crate::source::Message;

/// What is read, in this order. The last is left out where keys alone are wanted.
const COLUMNS: [&str; 11] = [
    "_error",
    "_topic",
    "_kafka_partition",
    "_offset",
    "_timestamp",
    "_op",
    "_key",
    "headers",
    "_repeat",
    "_position",
    "_value",
];

/// A record of bronze.
pub(super) struct Aside {
    pub(super) message: Message,
    /// Whether the bytes are those that were read from Kafka.
    pub(super) has_bytes: bool,
    /// Whether the source had sent it before: silver has passed it over.
    pub(super) repeated: bool,
    /// Whether it empties its topic's rows.
    pub(super) truncates: bool,
    /// Its place in the source's log, as it was understood then.
    pub(super) position: Option<String>,
}

/// Reads one row group after the other.
pub(super) struct Reader {
    batches: BoxStream<'static, Result<RecordBatch>>,
    types: Vec<ColumnType>,
    /// Rows that are set aside, or the others.
    aside: bool,
    rows: VecDeque<Aside>,
}

impl Reader {
    /// The records that were set aside.
    pub(super) fn open(bronze: &dyn TableLog) -> Result<Self> {
        Self::new(bronze, &COLUMNS, true)
    }

    /// The others, without their values.
    pub(super) fn good_keys(bronze: &dyn TableLog) -> Result<Self> {
        Self::new(bronze, &COLUMNS[..COLUMNS.len() - 1], false)
    }

    fn new(bronze: &dyn TableLog, names: &[&str], aside: bool) -> Result<Self> {
        let head = bronze.head();
        let index = |name: &&str| {
            let index = head.schema.index_of(name);
            index.ok_or_else(|| {
                Error::invalid(format!("the table has no column `{name}`: is it bronze?"))
            })
        };
        let columns = names.iter().map(index).collect::<Result<Vec<_>>>()?;
        let types = columns.iter().map(|at| head.schema.columns[*at].column_type.clone());
        Ok(Self {
            types: types.collect(),
            batches: reader::scan(bronze.storage(), head, &columns),
            aside,
            rows: VecDeque::new(),
        })
    }

    /// The next record; files come in no order.
    pub(super) async fn next(&mut self) -> Result<Option<Aside>> {
        loop {
            if let Some(row) = self.rows.pop_front() {
                return Ok(Some(row));
            }
            let Some(batch) = self.batches.next().await else { return Ok(None) };
            let batch = batch?;
            for row in 0..batch.num_rows() {
                if batch.column(0).is_null(row) != self.aside {
                    self.rows.extend(self.record(&batch, row));
                }
            }
        }
    }

    fn record(&self, batch: &RecordBatch, row: usize) -> Option<Aside> {
        let mut cells = self
            .types
            .iter()
            .zip(batch.columns())
            .map(|(column_type, array)| value_at(array.as_ref(), column_type, row));
        let mut next = || cells.next().unwrap_or(Value::Null);
        let (error, topic, partition, offset) = (next(), next(), next(), next());
        let (timestamp, op, key, headers) = (next(), next(), next(), next());
        let (repeat, position, value) = (next(), next(), next());
        let (Value::Text(topic), Value::Long(partition), Value::Long(offset)) =
            (topic, partition, offset)
        else {
            return None;
        };
        let timestamp_ms = match timestamp {
            Value::TimestampTz(micros) => Some(micros / 1_000),
            _ => None,
        };
        let value = bytes(value);
        // A change without bytes had them withheld, as its reason says; so had what was not understood.
        let withheld = matches!(&error, Value::Text(reason) if reason.contains(NOT_KEPT));
        let has_bytes = value.is_some() || (op.is_null() && !withheld);
        let message = Message {
            tp: TopicPartition::new(topic, i32::try_from(partition).ok()?),
            offset,
            timestamp_ms,
            key: bytes(key),
            value,
            headers: headers_of(headers),
            generation: 0,
        };
        let truncates = matches!(&op, Value::Text(op) if op == Op::Truncate.letter());
        let repeated = repeat == Value::Boolean(true);
        let position = match position {
            Value::Text(position) => Some(position),
            _ => None,
        };
        Some(Aside { message, has_bytes, repeated, truncates, position })
    }
}

fn bytes(value: Value) -> Option<Vec<u8>> {
    match value {
        Value::Binary(bytes) => Some(bytes),
        _ => None,
    }
}

fn headers_of(value: Value) -> Vec<(String, Option<Vec<u8>>)> {
    let Value::List(headers) = value else { return Vec::new() };
    let header = |header: Value| match header {
        Value::Struct(mut parts) if parts.len() == 2 => {
            let value = bytes(parts.pop()?);
            match parts.pop()? {
                Value::Text(name) => Some((name, value)),
                _ => None,
            }
        }
        _ => None,
    };
    headers.into_iter().filter_map(header).collect()
}
