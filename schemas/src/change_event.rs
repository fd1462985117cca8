//! One Kafka record understood as a Debezium change event, or the reason why it is none.

use std::sync::Arc;

use crate::column::ColumnType;
use crate::value::Value;

/// What an event did to its row.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Op {
    /// `r`: read by a snapshot.
    Read,
    /// `c`: inserted.
    Create,
    /// `u`: updated.
    Update,
    /// `d`: deleted.
    Delete,
    /// `t`: table truncated.
    Truncate,
    /// `m`: logical decoding message.
    Message,
}

impl Op {
    /// Debezium's letter.
    pub fn letter(self) -> &'static str {
        match self {
            Self::Read => "r",
            Self::Create => "c",
            Self::Update => "u",
            Self::Delete => "d",
            Self::Truncate => "t",
            Self::Message => "m",
        }
    }
}

/// One column of a row as the source sends it.
#[derive(Debug, Clone, PartialEq)]
pub struct Field {
    /// The source's name.
    pub name: String,
    /// What the value is, if known. `None`: schemaless and only nulls seen in this record.
    pub column_type: Option<ColumnType>,
}

/// The columns of a row. Shared by all rows of one schema, so that a plan can be kept for it.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct RowShape {
    /// In the order of the event.
    pub fields: Vec<Field>,
}

/// A row of the source: values in the order of its shape.
#[derive(Debug, Clone, PartialEq)]
pub struct Row {
    /// Which columns.
    pub shape: Arc<RowShape>,
    /// One value for each field.
    pub values: Vec<Value>,
}

impl Row {
    /// The value of a field by the source's name.
    pub fn get(&self, name: &str) -> Option<&Value> {
        let index = self.shape.fields.iter().position(|field| field.name == name)?;
        self.values.get(index)
    }
}

/// Where in the source a change was made. Recognises repeats; does not order within a partition.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct SourceInfo {
    /// `source.connector`.
    pub connector: String,
    /// `source.ts_us`, else `ts_ms * 1000`: source commit time in microseconds.
    pub ts_us: Option<i64>,
    /// `source.snapshot` as text; `None` for streamed events.
    pub snapshot: Option<String>,
    /// Fixed-width hex whose text order is the connector's order; `None` where it has no position.
    pub position: Option<String>,
    /// Hash of what, with the row's key, no other change of the source has; `None` for snapshot
    /// reads, and where several changes of a row may stand at one place. The two halves of a key
    /// change have the same.
    pub place: Option<u128>,
    /// Hash of whose position it is: those of two writers cannot be compared.
    pub writer: u64,
    /// Hash of the connector that wrote the event: its kind and its `topic.prefix`.
    pub connection: u64,
    /// Hash of the server that made the change, where a log of its own tells (MySQL, MariaDB): the
    /// part of the GTID that names it, else `server_id`. `None` for snapshot reads.
    pub server: Option<u64>,
    /// Hash of the table at the source: database, schema and name.
    pub table: u64,
    /// `transaction.id`, else the source's own transaction id, as text.
    pub tx: Option<String>,
}

/// A decoded change of one row (or `t` / `m`, which have no row).
#[derive(Debug, Clone, PartialEq)]
pub struct ChangeEvent {
    /// What happened.
    pub op: Op,
    /// Key columns in key order; `None` when the record key is null.
    pub key: Option<Row>,
    /// The row before; not data unless the source declares REPLICA IDENTITY FULL.
    pub before: Option<Row>,
    /// The row after.
    pub after: Option<Row>,
    /// The old key of a key change, from header `__debezium.oldkey`; `None` where there is no such
    /// header, or where it cannot be read and the row has nothing to inherit from it.
    pub old_key: Option<Row>,
    /// Its place in the source.
    pub source: SourceInfo,
    /// Envelope `ts_us`, else `ts_ms * 1000`: the connector's clock, microseconds.
    pub event_ts_us: Option<i64>,
    /// JSON text of `before`, as JsonConverter renders it.
    pub before_json: Option<String>,
    /// JSON text of `after`.
    pub after_json: Option<String>,
    /// JSON text of `source`.
    pub source_json: Option<String>,
    /// Hash of the value's inline schema, 32 hex digits; `None` without one.
    pub schema_hash: Option<Arc<str>>,
}

/// Records that Debezium writes beside row changes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum OtherKind {
    /// The connector is alive.
    Heartbeat,
    /// Begin or end of a source transaction.
    Transaction,
    /// DDL of the source.
    SchemaChange,
    /// A signal sent to the connector.
    Signal,
    /// A notification sent by the connector.
    Notification,
}

impl OtherKind {
    /// Its name, for counts.
    pub fn name(self) -> &'static str {
        match self {
            Self::Heartbeat => "heartbeat",
            Self::Transaction => "transaction",
            Self::SchemaChange => "schema_change",
            Self::Signal => "signal",
            Self::Notification => "notification",
        }
    }
}

/// What a record turned out to be.
#[derive(Debug, Clone, PartialEq)]
pub enum Decoded {
    /// A change event.
    Change(Box<ChangeEvent>),
    /// Null value, JSON `null` or `payload: null`: delete this key.
    Tombstone {
        /// The key; `None` when that is null too.
        key: Option<Row>,
    },
    /// A record that is no change of a row by its nature: for bronze only.
    Other {
        /// What it is.
        kind: OtherKind,
    },
    /// Cannot be understood: says what is wrong, without any value of the row.
    Malformed {
        /// For people.
        reason: String,
    },
}
