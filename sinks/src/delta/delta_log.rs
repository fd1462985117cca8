//! Opening, making and following a table.

use std::time::{Duration, SystemTime};

use async_trait::async_trait;
use futures::{StreamExt, TryStreamExt};
use lakebed_schemas::column::TableSchema;
use lakebed_schemas::config::Mode;
use serde::Deserialize;
use uuid::Uuid;

use super::actions::{Action, Format, Metadata, parse, render};
use super::log_files::{LAST_CHECKPOINT, LogFiles, entry_path};
use super::replay::{Entry, Known, State, commit_id};
use super::{commit, log_checkpoint, partitions, progress, protocol, schema};
use crate::clock::now_ms;
use crate::log::{CommitOutcome, Head, MaintenanceReport, TableChange, TableLog, TableOptions};
use crate::storage::{self, Storage};
use crate::table::field_ids;
use crate::{Error, Result};

/// How far the clocks of storage and of a writer may be apart when a commit is looked for.
const CLOCK_SKEW_MAX: Duration = Duration::from_secs(600);
/// Log entries read at once.
const READS_MAX: usize = 16;
/// How often a table whose log is cleaned up while we read it is opened anew.
const LOADS_MAX: usize = 3;

/// The log of one Delta table.
#[derive(Debug)]
pub struct DeltaLog {
    pub(super) storage: Storage,
    pub(super) options: TableOptions,
    pub(super) state: State,
    /// What is in memory is not to be trusted; the next refresh opens the table anew.
    pub(super) stale: bool,
    /// Opened at an old version: nothing can be written.
    frozen: bool,
    /// Whether the library has read the table in this process.
    pub(super) verified: bool,
    /// The newest log checkpoint up to which upkeep has been done.
    pub(super) tidied: Option<i64>,
    /// The oldest kept log checkpoint when garbage was last looked for, and when that was.
    pub(super) swept: Option<(i64, SystemTime)>,
}

/// Opens the table at `storage`, or makes an empty one with this schema (see
/// [`super::storage_schema`]). A table with a key can have deleted rows
/// in its files, unless they are rewritten ([`TableOptions::mode`]); one without cannot.
///
/// # Errors
/// When storage does not answer, or the table there is not ours to write.
pub async fn create_or_open(
    storage: &Storage,
    options: &TableOptions,
    schema: &TableSchema,
) -> Result<DeltaLog> {
    if let Some(log) = open(storage, options).await? {
        return Ok(log);
    }
    let schema = field_ids::assign(schema, &schema::storage_schema(schema), 0);
    field_ids::check(&schema)?;
    let entry = render(&first_entry(storage, options, &schema)?)?;
    let outcome = storage.put_if_absent(&entry_path(0), entry).await?;
    match open(storage, options).await? {
        Some(log) => Ok(log),
        None => Err(Error::unavailable(format!(
            "could not make table `{}`: storage said {outcome:?} and shows nothing",
            storage.location()
        ))),
    }
}

/// Opens the table at `storage`; `None` if there is none.
///
/// # Errors
/// When storage does not answer, the log is damaged, or the table needs what Lakebed cannot do.
pub async fn open(storage: &Storage, options: &TableOptions) -> Result<Option<DeltaLog>> {
    let state = load(storage, Some(&options.sink_id), None).await?;
    Ok(state.map(|state| DeltaLog::new(storage, options.clone(), state)))
}

/// Opens the table at an older version, to be read only.
///
/// # Errors
/// As [`open`], and when that version is not or no longer there.
pub async fn open_at(storage: &Storage, version: i64) -> Result<DeltaLog> {
    let state = load(storage, None, Some(version)).await?.ok_or_else(|| {
        Error::invalid(format!("there is no Delta table at `{}`", storage.location()))
    })?;
    let options = TableOptions {
        sink_id: progress::owner(state.metadata()).unwrap_or_default().to_owned(),
        cluster: None,
        owner: String::new(),
        retention: Default::default(),
        catalog: Default::default(),
        mode: Default::default(),
    };
    Ok(DeltaLog { frozen: true, ..DeltaLog::new(storage, options, state) })
}

fn first_entry(
    storage: &Storage,
    options: &TableOptions,
    schema: &TableSchema,
) -> Result<Vec<Action>> {
    let now = now_ms();
    let deletion_vectors = !schema.key.is_empty() && options.mode == Mode::MergeOnRead;
    let mut metadata = Metadata {
        id: Uuid::new_v4().to_string(),
        name: storage.location().rsplit('/').next().map(str::to_owned),
        description: None,
        format: Format { provider: "parquet".to_owned(), options: Default::default() },
        schema_string: schema::render(schema),
        partition_columns: partitions::columns(schema)?,
        configuration: Default::default(),
        created_time: Some(now),
    };
    let key = serde_json::to_string(&schema.key)
        .map_err(|e| Error::internal("could not write the key").with_source(e))?;
    metadata.configuration.insert(schema::KEY.to_owned(), Some(key));
    if deletion_vectors {
        protocol::enable_deletion_vectors(&mut metadata, true);
    }
    if let Some(property) = partitions::property(schema)? {
        metadata.configuration.insert(partitions::PROPERTY.to_owned(), Some(property));
    }
    progress::write_properties(&Default::default(), options, &mut metadata);
    let protocol = protocol::for_schema(schema, deletion_vectors);
    // What could not be opened afterwards is not made.
    schema::parse(&metadata)?;
    Ok(vec![commit::creation_info(options, now), protocol.into(), metadata.into()])
}

/// Reads the table at a version, the newest by default.
async fn load(storage: &Storage, sink: Option<&str>, at: Option<i64>) -> Result<Option<State>> {
    for _ in 1..LOADS_MAX {
        match try_load(storage, sink, at).await? {
            Loaded::Nothing => return Ok(None),
            Loaded::State(state) => return Ok(Some(*state)),
            Loaded::Moved => {}
        }
    }
    match try_load(storage, sink, at).await? {
        Loaded::Nothing => Ok(None),
        Loaded::State(state) => Ok(Some(*state)),
        Loaded::Moved => Err(Error::unavailable(format!(
            "the log of `{}` is cleaned up faster than it can be read",
            storage.location()
        ))),
    }
}

enum Loaded {
    Nothing,
    State(Box<State>),
    /// A file that was listed is gone: somebody cleans up.
    Moved,
}

async fn try_load(storage: &Storage, sink: Option<&str>, at: Option<i64>) -> Result<Loaded> {
    let files = list_log(storage, at).await?;
    let Some(newest) = files.newest() else { return Ok(Loaded::Nothing) };
    let target = at.unwrap_or(newest);
    let checkpoint = files.checkpoints.range(..=target).next_back();
    let first = checkpoint.map_or(0, |(version, _)| version + 1);
    let missing = (first..=target).find(|version| !files.entries.contains_key(version));
    if let Some(version) = missing {
        let location = storage.location();
        return Err(match at {
            Some(at) => Error::invalid(format!(
                "version {at} of `{location}` cannot be read: the newest is {newest}, and entry \
                 {version} of its log is not there (any more)"
            )),
            None => Error::corrupt(format!(
                "the log of `{location}` has no entry for version {version}"
            )),
        });
    }
    let Some(entries) = read_log(storage, checkpoint, first..=target).await? else {
        return Ok(Loaded::Moved);
    };
    let first_part = files.checkpoints.get(&target).and_then(|parts| parts.first());
    let marker = files.entries.get(&target).or(first_part);
    let marker = marker.expect("the target was found in the listing");
    let marker = (marker.path.clone(), marker.size);
    let mut state = State::build(storage, entries, sink, marker).await?;
    state.entries_from = first;
    state.log_checkpoint = checkpoint.map(|(version, _)| *version);
    Ok(Loaded::State(Box::new(state)))
}

/// Reads a log checkpoint and the entries after it; `None` where one of them is gone.
pub(super) async fn read_log(
    storage: &Storage,
    checkpoint: Option<(&i64, &Vec<storage::Entry>)>,
    entries: impl Iterator<Item = i64>,
) -> Result<Option<Vec<(i64, Vec<Action>)>>> {
    let mut read = Vec::new();
    if let Some((version, parts)) = checkpoint {
        let mut rows = Vec::new();
        for part in parts {
            let Some(bytes) = storage.get(&part.path).await? else { return Ok(None) };
            let path = part.path.clone();
            let decode = tokio::task::spawn_blocking(move || log_checkpoint::decode(&path, bytes));
            let decoded = decode.await.map_err(|e| Error::internal("a reader died").with_source(e));
            rows.extend(decoded??);
        }
        read.push((*version, rows));
    }
    for (version, entry) in read_entries(storage, entries).await? {
        let Some(entry) = entry else { return Ok(None) };
        read.push((version, entry.actions));
    }
    Ok(Some(read))
}

/// Lists the log, from the newest log checkpoint on if the hint leads there.
pub(super) async fn list_log(storage: &Storage, at: Option<i64>) -> Result<LogFiles> {
    #[derive(Deserialize)]
    struct Hint {
        version: i64,
    }
    if at.is_none()
        && let Some(bytes) = storage.get(LAST_CHECKPOINT).await?
        && let Ok(hint) = serde_json::from_slice::<Hint>(&bytes)
    {
        let files = LogFiles::list(storage, hint.version).await?;
        if files.checkpoints.contains_key(&hint.version) {
            return Ok(files);
        }
    }
    LogFiles::list(storage, 0).await
}

/// Reads log entries in order; `None` for one that is not there.
pub(super) async fn read_entries(
    storage: &Storage,
    versions: impl Iterator<Item = i64>,
) -> Result<Vec<(i64, Option<Entry>)>> {
    futures::stream::iter(versions)
        .map(|version| async move {
            let path = entry_path(version);
            let Some(bytes) = storage.get(&path).await? else { return Ok((version, None)) };
            let actions = parse(&path, &bytes)?;
            Ok((version, Some(Entry { actions, size: bytes.len() as u64 })))
        })
        .buffered(READS_MAX)
        .try_collect()
        .await
}

impl DeltaLog {
    /// The schema as the log has it, types and all.
    pub(super) fn schema_string(&self) -> &str {
        &self.state.metadata().schema_string
    }

    fn new(storage: &Storage, options: TableOptions, state: State) -> Self {
        Self {
            storage: storage.clone(),
            options,
            state,
            stale: false,
            frozen: false,
            verified: false,
            tidied: None,
            swept: None,
        }
    }

    /// Replays what came after the head; says whether anything did.
    async fn catch_up(&mut self) -> Result<bool> {
        let version = self.state.head.version;
        let files = LogFiles::list(&self.storage, version).await?;
        let present = |path: &str| {
            let entries = files.entries.values().chain(files.checkpoints.values().flatten());
            entries.chain(files.others.iter().map(|(_, entry)| entry)).find(|e| e.path == path)
        };
        let (marker, size) = &self.state.marker;
        let newest = files.newest().unwrap_or(-1);
        match present(marker) {
            Some(entry) if *size == entry.size => {}
            None if newest > version => return self.reopen().await,
            _ => {
                return Err(Error::corrupt(format!(
                    "version {version} of `{}` is gone or not the one that was read: the table was \
                     dropped or replaced; restart to go on with what is there now",
                    self.storage.location()
                )));
            }
        }
        let complete = (version + 1..=newest).all(|next| files.entries.contains_key(&next));
        if !complete {
            return self.reopen().await;
        }
        for (next, entry) in read_entries(&self.storage, version + 1..=newest).await? {
            let Some(entry) = entry else { return self.reopen().await };
            self.advance(next, entry, Known::default()).await?;
        }
        if let Some(checkpoint) = files.checkpoints.last_key_value() {
            self.state.log_checkpoint = self.state.log_checkpoint.max(Some(*checkpoint.0));
        }
        Ok(newest > version)
    }

    /// Moves the state on by an entry; what is half done is never used.
    pub(super) async fn advance(&mut self, version: i64, entry: Entry, known: Known) -> Result<()> {
        self.stale = true;
        self.state.advance(&self.storage, version, entry, known).await?;
        self.stale = false;
        Ok(())
    }

    async fn reopen(&mut self) -> Result<bool> {
        self.stale = true;
        let state = load(&self.storage, Some(&self.options.sink_id), None).await?;
        let gone = |what: &str| {
            Error::corrupt(format!(
                "table `{}` {what}: restart to go on with what is there now",
                self.storage.location()
            ))
        };
        let state = state.ok_or_else(|| gone("was dropped"))?;
        if state.head.uuid != self.state.head.uuid {
            return Err(gone("was replaced by another one"));
        }
        let before = self.state.head.version;
        if state.head.version < before {
            return Err(gone("went back to an older version"));
        }
        self.state = state;
        self.stale = false;
        Ok(self.state.head.version > before)
    }

    pub(super) fn refuse_if_frozen(&self) -> Result<()> {
        if self.frozen {
            return Err(Error::invalid(format!(
                "`{}` was opened at version {}, to be read only",
                self.storage.location(),
                self.state.head.version
            )));
        }
        Ok(())
    }

    /// Looks through the entries older than those replayed, as far as they are kept.
    async fn find_in_older(&self, wanted: Uuid) -> Result<Option<i64>> {
        let files = LogFiles::list(&self.storage, 0).await?;
        let Some(start) = files.run_start() else { return Ok(None) };
        // An id that tells its time cannot be in an entry written well before that.
        let made_ms = wanted.get_timestamp().map_or(0, |time| {
            let (seconds, nanos) = time.to_unix();
            i64::try_from(seconds * 1000 + u64::from(nanos) / 1_000_000).unwrap_or(0)
        });
        let earliest = made_ms - i64::try_from(CLOCK_SKEW_MAX.as_millis()).unwrap_or(0);
        let candidates = (start..self.state.entries_from).filter(|version| {
            let entry = &files.entries[version];
            // A writer that slept may have made an entry that nobody reads any more, in a place
            // that had been cleaned up: it is younger than its successor.
            let successor = files.entries.get(&(version + 1));
            entry.modified_ms >= earliest
                && successor.is_none_or(|next| next.modified_ms >= entry.modified_ms)
        });
        let candidates: Vec<i64> = candidates.collect();
        for (version, entry) in read_entries(&self.storage, candidates.into_iter()).await? {
            let actions = entry.map(|entry| entry.actions).unwrap_or_default();
            let info = actions.into_iter().find_map(|action| action.commit_info);
            if info.as_ref().and_then(commit_id) == Some(wanted) {
                return Ok(Some(version));
            }
        }
        Ok(None)
    }
}

#[async_trait]
impl TableLog for DeltaLog {
    fn head(&self) -> &Head {
        &self.state.head
    }

    fn storage(&self) -> &Storage {
        &self.storage
    }

    async fn refresh(&mut self) -> Result<bool> {
        if self.frozen {
            return Ok(false);
        }
        if self.stale { self.reopen().await } else { self.catch_up().await }
    }

    async fn commit(&mut self, change: &TableChange) -> Result<CommitOutcome> {
        self.try_commit(change).await
    }

    async fn find_commit(&mut self, commit_id: Uuid) -> Result<Option<i64>> {
        match self.state.replay.commits.get(&commit_id) {
            Some(version) => Ok(Some(*version)),
            None => self.find_in_older(commit_id).await,
        }
    }

    async fn maintain(&mut self) -> Result<MaintenanceReport> {
        self.refuse_if_frozen()?;
        self.upkeep().await
    }
}
