//! The entries of the log, as they stand in JSON and, column by column, in log checkpoints.
//!
//! Our own types and not the library's: those decode and encode paths anew, so that a `remove`
//! could name a file otherwise than the `add` that it is meant for.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::{Error, Result};

/// Map as the log has it: values may be null.
pub(super) type TextMap = BTreeMap<String, Option<String>>;

/// One line of a log entry or one row of a log checkpoint: exactly one field is set, or none for
/// an action that does not concern us.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Action {
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) commit_info: Option<serde_json::Map<String, serde_json::Value>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) protocol: Option<Protocol>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) meta_data: Option<Metadata>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) txn: Option<Txn>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) remove: Option<Remove>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) add: Option<Add>,
}

macro_rules! action_from {
    ($($field:ident: $kind:ty),*) => {$(
        impl From<$kind> for Action {
            fn from(value: $kind) -> Self {
                Self { $field: Some(value), ..Self::default() }
            }
        }
    )*};
}

action_from!(protocol: Protocol, meta_data: Metadata, txn: Txn, remove: Remove, add: Add);

/// What a reader and a writer must be able to do.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Protocol {
    pub(super) min_reader_version: i32,
    pub(super) min_writer_version: i32,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) reader_features: Option<Vec<String>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) writer_features: Option<Vec<String>>,
}

/// What the table is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Metadata {
    pub(super) id: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) name: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) description: Option<String>,
    pub(super) format: Format,
    pub(super) schema_string: String,
    pub(super) partition_columns: Vec<String>,
    #[serde(default)]
    pub(super) configuration: TextMap,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) created_time: Option<i64>,
}

impl Metadata {
    /// A table property, if set.
    pub(super) fn property(&self, name: &str) -> Option<&str> {
        self.configuration.get(name)?.as_deref()
    }
}

/// Format of the data files: always Parquet.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Format {
    pub(super) provider: String,
    #[serde(default)]
    pub(super) options: TextMap,
}

/// Progress of an application: its own number, kept for it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Txn {
    pub(super) app_id: String,
    pub(super) version: i64,
    /// Absent in ours: what has it may be forgotten by other writers after a while.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) last_updated: Option<i64>,
}

/// A file that is live from now on, with these dead rows.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Add {
    /// As in the log: percent-encoded.
    pub(super) path: String,
    #[serde(default)]
    pub(super) partition_values: TextMap,
    pub(super) size: i64,
    pub(super) modification_time: i64,
    pub(super) data_change: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) stats: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) tags: Option<TextMap>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) deletion_vector: Option<DeletionVector>,
}

/// A file, or the version of a file with these dead rows, that is live no longer.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Remove {
    /// As in the log: percent-encoded.
    pub(super) path: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) deletion_timestamp: Option<i64>,
    pub(super) data_change: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) extended_file_metadata: Option<bool>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) partition_values: Option<TextMap>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) size: Option<i64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) deletion_vector: Option<DeletionVector>,
}

/// Where the dead rows of a file are written down.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct DeletionVector {
    /// `u`: a file named by a UUID; `i`: in the text itself; `p`: an absolute path.
    pub(super) storage_type: String,
    pub(super) path_or_inline_dv: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) offset: Option<i32>,
    pub(super) size_in_bytes: i32,
    pub(super) cardinality: i64,
}

impl Add {
    /// The `remove` that takes back exactly this `add`.
    pub(super) fn to_remove(&self, now_ms: i64) -> Remove {
        Remove {
            path: self.path.clone(),
            deletion_timestamp: Some(now_ms),
            data_change: true,
            extended_file_metadata: Some(true),
            partition_values: Some(self.partition_values.clone()),
            size: Some(self.size),
            deletion_vector: self.deletion_vector.clone(),
        }
    }
}

/// Reads a log entry.
pub(super) fn parse(name: &str, bytes: &[u8]) -> Result<Vec<Action>> {
    bytes
        .split(|byte| *byte == b'\n')
        .filter(|line| !line.trim_ascii().is_empty())
        .map(|line| {
            serde_json::from_slice(line).map_err(|e| {
                Error::corrupt(format!("log entry `{name}` is not readable")).with_source(e)
            })
        })
        .collect()
}

/// Writes a log entry.
pub(super) fn render(actions: &[Action]) -> Result<Vec<u8>> {
    let mut bytes = Vec::new();
    for action in actions {
        serde_json::to_writer(&mut bytes, action)
            .map_err(|e| Error::internal("could not write a log entry as JSON").with_source(e))?;
        bytes.push(b'\n');
    }
    Ok(bytes)
}

/// Percent-encodes what may not stand in a relative URI.
pub(super) fn encode_path(path: &str) -> String {
    let mut out = String::with_capacity(path.len());
    for byte in path.bytes() {
        if byte.is_ascii_alphanumeric() || b"-_.~/=".contains(&byte) {
            out.push(char::from(byte));
        } else {
            out.push_str(&format!("%{byte:02X}"));
        }
    }
    out
}

/// The storage path that a path of the log means. Refuses what lies outside the table.
pub(super) fn decode_path(path: &str) -> Result<String> {
    if path.contains("://") || path.starts_with('/') || path.starts_with("file:") {
        return Err(Error::invalid(format!(
            "file `{path}` is named by an absolute path: shallow clones cannot be used, copy the table"
        )));
    }
    let mut bytes = Vec::with_capacity(path.len());
    let mut rest = path.as_bytes();
    while let Some((&byte, tail)) = rest.split_first() {
        let escaped = (byte == b'%')
            .then(|| tail.get(..2))
            .flatten()
            .and_then(|hex| std::str::from_utf8(hex).ok())
            .and_then(|hex| u8::from_str_radix(hex, 16).ok());
        match escaped {
            Some(value) => {
                bytes.push(value);
                rest = &tail[2..];
            }
            None => {
                bytes.push(byte);
                rest = tail;
            }
        }
    }
    String::from_utf8(bytes)
        .map_err(|e| Error::corrupt(format!("path `{path}` is not UTF-8")).with_source(e))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_path_survives_the_log() {
        for path in ["data/t0-0-ab-a.b_c-1.parquet", "data/k=a b%2F:ü/x.parquet"] {
            let encoded = encode_path(path);

            assert!(encoded.is_ascii() && !encoded.contains([' ', ':']), "{encoded}");
            assert_eq!(decode_path(&encoded).expect("decodes"), path);
        }
        assert!(decode_path("s3://bucket/x.parquet").is_err());
    }

    #[test]
    fn an_action_of_a_kind_we_do_not_know_is_passed_over() {
        let entry = b"{\"domainMetadata\":{\"domain\":\"x\"}}\n\n{\"txn\":{\"appId\":\"a\",\"version\":7}}\n";

        let actions = parse("0.json", entry).expect("parses");

        assert_eq!(actions.len(), 2);
        assert_eq!(actions[1].txn.as_ref().map(|txn| txn.version), Some(7));
        assert!(parse("0.json", b"{\"txn\":").is_err());
    }
}
