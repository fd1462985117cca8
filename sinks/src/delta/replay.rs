//! From log entries to the state of the table.
//!
//! One way in for all: a table that is opened, a foreign commit that is caught up with and a commit
//! of our own pass through the same replay, so that the head in memory is what any reader sees.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;

use lakebed_schemas::column::TableSchema;
use lakebed_schemas::position::{Checkpoint, TopicPartition};
use roaring::RoaringBitmap;
use uuid::Uuid;

use super::actions::{Action, Add, Metadata, Protocol, Remove, Txn, decode_path};
use super::{deletion_vectors, partitions, progress, protocol, schema, stats};
use crate::log::{DataFile, Head, LiveFile, memos_among};
use crate::storage::Storage;
use crate::table::{file_name, footer};
use crate::{Error, Result};

/// Key of `commitInfo` that holds our commit id.
pub(super) const COMMIT_ID: &str = "lakebed.commit-id";

/// The log's actions, reconciled.
#[derive(Debug, Default)]
pub(super) struct Replay {
    pub(super) protocol: Option<Protocol>,
    pub(super) metadata: Option<Metadata>,
    pub(super) txns: BTreeMap<String, Txn>,
    /// Live files by storage path.
    pub(super) adds: BTreeMap<String, Add>,
    /// Files that are gone as a whole, by storage path.
    pub(super) tombstones: BTreeMap<String, Remove>,
    /// Commit ids of ours among the entries replayed.
    pub(super) commits: HashMap<Uuid, i64>,
    /// Newest time in a `commitInfo`, milliseconds since the epoch.
    pub(super) timestamp_ms: i64,
}

/// A log entry.
#[derive(Debug)]
pub(super) struct Entry {
    pub(super) actions: Vec<Action>,
    /// Bytes.
    pub(super) size: u64,
}

/// What an entry touched.
#[derive(Debug, Default)]
struct Touched {
    paths: BTreeSet<String>,
    txns: Vec<Txn>,
    metadata: bool,
}

impl Replay {
    fn take(&mut self, version: i64, actions: Vec<Action>) -> Result<Touched> {
        let mut touched = Touched::default();
        let mut adds = Vec::new();
        for action in actions {
            if let Some(remove) = action.remove {
                let path = decode_path(&remove.path)?;
                self.remove(&path, remove);
                touched.paths.insert(path);
            }
            adds.extend(action.add);
            if let Some(txn) = action.txn {
                self.txns.insert(txn.app_id.clone(), txn.clone());
                touched.txns.push(txn);
            }
            if let Some(protocol) = action.protocol {
                self.protocol = Some(protocol);
                touched.metadata = true;
            }
            if let Some(metadata) = action.meta_data {
                self.metadata = Some(metadata);
                touched.metadata = true;
            }
            if let Some(info) = action.commit_info {
                let time = info.get("timestamp").and_then(serde_json::Value::as_i64);
                self.timestamp_ms = self.timestamp_ms.max(time.unwrap_or(0));
                self.commits.extend(commit_id(&info).map(|id| (id, version)));
            }
        }
        // After the removes: the order of actions within an entry means nothing.
        for add in adds {
            let path = decode_path(&add.path)?;
            self.tombstones.remove(&path);
            let twin = self.adds.insert(path.clone(), add);
            if let Some(twin) = twin
                && twin.deletion_vector != self.adds[&path].deletion_vector
            {
                return Err(Error::corrupt(format!(
                    "version {version} makes file `{path}` live a second time, with other deleted rows"
                )));
            }
            touched.paths.insert(path);
        }
        Ok(touched)
    }

    /// Forgets files removed before this time, milliseconds since the epoch, and commit ids of
    /// versions below `version`.
    pub(super) fn forget(&mut self, removed_before_ms: i64, version: i64) {
        self.tombstones.retain(|_, remove| {
            remove.deletion_timestamp.is_some_and(|time| time >= removed_before_ms)
        });
        self.commits.retain(|_, made| *made >= version);
    }

    fn remove(&mut self, path: &str, remove: Remove) {
        // A file and its deletion vector are one thing to the log.
        let live = self.adds.get(path);
        if live.is_none_or(|add| add.deletion_vector == remove.deletion_vector) {
            self.adds.remove(path);
            self.tombstones.insert(path.to_owned(), remove);
        }
    }
}

/// The commit id in a `commitInfo`, if it is one of ours.
pub(super) fn commit_id(info: &serde_json::Map<String, serde_json::Value>) -> Option<Uuid> {
    Uuid::try_parse(info.get(COMMIT_ID)?.as_str()?).ok()
}

/// What is known already of files that an entry touches, so that it is not read back.
#[derive(Debug, Default)]
pub(super) struct Known {
    /// New files by path.
    pub(super) files: HashMap<String, Arc<DataFile>>,
    /// Dead rows of touched files by path.
    pub(super) dead: HashMap<String, RoaringBitmap>,
}

/// A table at one version.
#[derive(Debug)]
pub(super) struct State {
    pub(super) replay: Replay,
    pub(super) head: Head,
    /// The commit ids of entries from this version on are known.
    pub(super) entries_from: i64,
    /// The newest log checkpoint seen.
    pub(super) log_checkpoint: Option<i64>,
    /// The file whose presence shows that the head is still in storage, and its size.
    pub(super) marker: (String, u64),
    sink: String,
}

impl State {
    /// The state after the given entries, each with its version; the first may be a log checkpoint.
    /// `sink` is whose progress is read; without one, that of the table's own owner.
    pub(super) async fn build(
        storage: &Storage,
        entries: Vec<(i64, Vec<Action>)>,
        sink: Option<&str>,
        marker: (String, u64),
    ) -> Result<Self> {
        let mut replay = Replay::default();
        let mut version = -1;
        for (next, actions) in entries {
            replay.take(next, actions)?;
            version = next;
        }
        let location = storage.location();
        let incomplete =
            |what| Error::corrupt(format!("the log of table `{location}` has no {what}"));
        let metadata = replay.metadata.as_ref().ok_or_else(|| incomplete("metadata"))?;
        protocol::check(replay.protocol.as_ref().ok_or_else(|| incomplete("protocol"))?, location)?;
        let sink = sink.or(progress::owner(metadata)).unwrap_or_default().to_owned();
        let head = Head {
            version,
            uuid: table_uuid(metadata)?,
            schema: schema::parse(metadata)?,
            checkpoint: Checkpoint::default(),
            freshness: None,
            memos: BTreeMap::new(),
            files: BTreeMap::new(),
        };
        let touched = Touched {
            paths: replay.adds.keys().cloned().collect(),
            txns: replay.txns.values().cloned().collect(),
            metadata: true,
        };
        let mut state = Self { replay, head, entries_from: 0, log_checkpoint: None, marker, sink };
        state.follow(storage, touched, Known::default()).await?;
        Ok(state)
    }

    /// Moves on by one entry of `size` bytes. After an error the state is not to be used any more.
    pub(super) async fn advance(
        &mut self,
        storage: &Storage,
        version: i64,
        Entry { actions, size }: Entry,
        known: Known,
    ) -> Result<()> {
        let touched = self.replay.take(version, actions)?;
        self.follow(storage, touched, known).await?;
        self.head.version = version;
        self.marker = (super::log_files::entry_path(version), size);
        Ok(())
    }

    pub(super) fn protocol(&self) -> &Protocol {
        self.replay.protocol.as_ref().expect("a built state has a protocol")
    }

    pub(super) fn metadata(&self) -> &Metadata {
        self.replay.metadata.as_ref().expect("a built state has metadata")
    }

    /// Makes the head follow what an entry touched.
    async fn follow(&mut self, storage: &Storage, touched: Touched, known: Known) -> Result<()> {
        if touched.metadata {
            protocol::check(self.protocol(), storage.location())?;
            if table_uuid(self.metadata())? != self.head.uuid {
                return Err(Error::corrupt(format!(
                    "table `{}` has been replaced by another one: check what wrote there, then \
                     restart",
                    storage.location()
                )));
            }
            self.head.schema = schema::parse(self.metadata())?;
            let properties = self.metadata().configuration.iter();
            let set = properties.filter_map(|(name, value)| Some((name, value.as_ref()?)));
            self.head.memos = memos_among(set);
        }
        let mut checkpoint = std::mem::take(&mut self.head.checkpoint);
        progress::apply(
            touched.txns.iter(),
            &self.sink,
            &mut checkpoint,
            &mut self.head.freshness,
        )?;
        if touched.metadata {
            progress::apply_properties(self.metadata(), &self.sink, &mut checkpoint)?;
        }
        self.head.checkpoint = checkpoint;
        self.follow_files(storage, touched.paths, known).await
    }

    async fn follow_files(
        &mut self,
        storage: &Storage,
        paths: BTreeSet<String>,
        mut known: Known,
    ) -> Result<()> {
        let mut unread = Vec::new();
        for path in &paths {
            let Some(add) = self.replay.adds.get(path) else {
                self.head.files.remove(path);
                continue;
            };
            let file = match (known.files.remove(path), self.head.files.get(path)) {
                (Some(file), _) => file,
                (None, Some(live)) => live.file.clone(),
                (None, None) => Arc::new(data_file(storage, &self.head.schema, path, add).await?),
            };
            let deleted = match (known.dead.remove(path), &add.deletion_vector) {
                (Some(dead), _) => dead,
                (None, Some(vector)) => {
                    unread.push((path.clone(), vector.clone()));
                    RoaringBitmap::new()
                }
                (None, None) => RoaringBitmap::new(),
            };
            self.head.files.insert(path.clone(), LiveFile { file, deleted });
        }
        for (path, dead) in deletion_vectors::read_all(storage, unread).await? {
            let live = self.head.files.get_mut(&path).expect("inserted above");
            if dead.max().is_some_and(|last| u64::from(last) >= live.file.rows) {
                return Err(Error::corrupt(format!(
                    "the deletion vector of `{path}` names rows that the file does not have"
                )));
            }
            live.deleted = dead;
        }
        Ok(())
    }
}

fn table_uuid(metadata: &Metadata) -> Result<Uuid> {
    Uuid::try_parse(&metadata.id)
        .map_err(|e| Error::corrupt(format!("table id `{}`", metadata.id)).with_source(e))
}

async fn data_file(
    storage: &Storage,
    schema: &TableSchema,
    path: &str,
    add: &Add,
) -> Result<DataFile> {
    let corrupt = |what: &str| Error::corrupt(format!("file `{path}` has {what} in the log"));
    let size = u64::try_from(add.size).map_err(|_| corrupt("a negative size"))?;
    let partition =
        partitions::values(add, schema).ok_or_else(|| corrupt("an unreadable partition value"))?;
    let counted = add.stats.as_deref().map(stats::rows).transpose()?.flatten();
    let rows = match counted {
        Some(rows) => rows,
        None => footer::rows(storage, path, size).await?,
    };
    Ok(DataFile {
        path: path.to_owned(),
        size,
        rows,
        // Files that others wrote hold rows of any topic-partition.
        topic_partition: file_name::topic_partition(path)
            .unwrap_or_else(|| TopicPartition::new("", -1)),
        partition,
        stats: Vec::new(),
        split_offsets: Vec::new(),
    })
}
