//! The newest version as a REST catalog has it: a commit is one request that says what must be so
//! and what changes.
//!
//! Metadata files are the catalog's: it names them, writes them and takes them away. What it
//! answers is the table, whatever file that lies in. Versions are numbered by the sequence number,
//! which every snapshot moves on. Some catalogs choose where tables lie: then their metadata tells
//! the place, and nobody else does.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use iceberg::spec::TableMetadata;
use iceberg::{TableRequirement, TableUpdate};
use serde::Deserialize;
use serde_json::{Value as Json, json};

use super::metadata::{self, MAIN};
use super::pointer::{Answered, Located, Step, Swapped};
use super::state::{Reader, check_location};
use super::{filesystem, glue, progress, updates};
use crate::catalog::rest::{Changed, Loaded, RestTable};
use crate::storage::{Storage, normal};
use crate::{Error, ErrorKind, Result};

const FOLDER: &str = "metadata";
/// Old snapshots go together, when they are this part of those that stay.
const EXPIRY_SHARE: usize = 10;
/// Property by which catalogs delete the metadata files that the metadata no longer names.
const DELETE_AFTER_COMMIT: &str = "write.metadata.delete-after-commit.enabled";

/// A table whose newest version a REST catalog tells.
#[derive(Debug, Clone)]
pub(super) struct RestPointer {
    table: RestTable,
    /// What was loaded last, until it is read.
    kept: Arc<Mutex<Option<Kept>>>,
}

#[derive(Debug)]
struct Kept {
    located: Located,
    metadata: Vec<u8>,
}

impl RestPointer {
    pub(super) fn new(table: RestTable) -> Self {
        Self { table, kept: Arc::default() }
    }

    /// Where the table lies.
    pub(super) async fn place(&self, storage: &Storage) -> Result<Storage> {
        #[derive(Deserialize)]
        struct Placed {
            location: String,
        }
        if !self.table.has_own_place() {
            return Ok(storage.clone());
        }
        let Some(loaded) = self.table.load().await? else { return Ok(storage.clone()) };
        let placed: Placed = serde_json::from_slice(&loaded.metadata).map_err(|e| {
            Error::corrupt(format!("the metadata of table `{}` names no location", self.table))
                .with_source(e)
        })?;
        storage.elsewhere(&normal(&placed.location)).map_err(|error| {
            Error::invalid(format!(
                "the REST catalog keeps table `{}` at `{}`, where Lakebed cannot write",
                self.table, placed.location
            ))
            .with_source(error)
        })
    }

    /// Whether its files are ours to delete.
    pub(super) async fn may_delete(&self) -> Result<bool> {
        self.table.may_delete().await
    }

    /// The version after `base`; where its metadata lies, the catalog says.
    pub(super) fn next(base: &Located) -> Located {
        Located { version: base.version + 1, path: String::new() }
    }

    pub(super) async fn newest(&self, storage: &Storage) -> Result<Option<Located>> {
        let Some(loaded) = self.table.load().await? else { return Ok(None) };
        let answered = answered(storage, &loaded)?;
        self.keep(&answered.located, loaded.metadata);
        Ok(Some(answered.located))
    }

    /// The metadata of a version that [`Self::newest`] or [`Self::at`] has told.
    pub(super) async fn read(&self, storage: &Storage, located: &Located) -> Result<Vec<u8>> {
        let take = || {
            let mut kept = self.kept.lock().unwrap_or_else(PoisonError::into_inner);
            kept.take_if(|kept| kept.located == *located).map(|kept| kept.metadata)
        };
        if let Some(metadata) = take() {
            return Ok(metadata);
        }
        self.newest(storage).await?;
        take().ok_or_else(|| {
            Error::unavailable(format!("table `{}` has moved on while it was read", self.table))
        })
    }

    /// An older version: the newest metadata with the snapshot of that number as the current one.
    pub(super) async fn at(&self, storage: &Storage, version: i64) -> Result<Located> {
        let not_kept = || {
            Error::invalid(format!(
                "version {version} of table `{}` is not kept in the REST catalog",
                self.table
            ))
        };
        let newest = self.newest(storage).await?.ok_or_else(not_kept)?;
        if newest.version == version {
            return Ok(newest);
        }
        let bytes = self.read(storage, &newest).await?;
        let older = rewound(&newest.path, &bytes, version)?.ok_or_else(not_kept)?;
        let located = Located { version, path: newest.path };
        self.keep(&located, older);
        Ok(located)
    }

    fn keep(&self, located: &Located, metadata: Vec<u8>) {
        let mut kept = self.kept.lock().unwrap_or_else(PoisonError::into_inner);
        *kept = Some(Kept { located: located.clone(), metadata });
    }

    /// Makes the table, in one step where the catalog lets it be prepared (`stage-create`), and
    /// else in two: catalogs number the fields of a plain new table themselves, and ours have
    /// numbers that follow from their column ([`crate::table::field_ids`]).
    pub(super) async fn create(
        &self,
        storage: &Storage,
        created: &TableMetadata,
    ) -> Result<Swapped> {
        if let Some(loaded) = self.table.load().await? {
            let made = answered(storage, &loaded)?.metadata;
            return match metadata::is_half_made(&made) {
                true => self.finish(storage, &made, created).await,
                false => Ok(Swapped::Done),
            };
        }
        let staged = match self.table.create(&self.new_table(created, true)?).await {
            Ok(Changed::Done(staged)) => staged,
            Ok(Changed::Conflict) => return Ok(Swapped::Conflict),
            // Nothing is made by preparing.
            Ok(Changed::Unknown(reason)) => return Ok(Swapped::Unknown(reason)),
            Err(error) if error.kind() == ErrorKind::Invalid => {
                tracing::debug!(table = %self.table, error = error.chain(), "no stage-create");
                return self.create_plainly(storage, created).await;
            }
            Err(error) => return Err(error),
        };
        let (mut uuid, mut properties) = (created.uuid(), HashMap::new());
        let mut location = created.location().to_owned();
        if let Some(staged) = staged {
            let staged = answered(storage, &staged)?.metadata;
            self.check_place(storage, &staged)?;
            uuid = staged.uuid();
            properties = staged.properties().clone();
            location = staged.location().to_owned();
        } else if self.table.has_own_place() {
            return self.create_plainly(storage, created).await;
        }
        properties.extend(new_properties(created.properties().clone()));
        let changes = updates::creation(created, uuid, location, properties);
        match self.send(storage, &[TableRequirement::NotExist], &changes).await {
            // A catalog that forgets what it has prepared: nothing is made.
            Err(error) if error.kind() == ErrorKind::Corrupt => {
                self.create_plainly(storage, created).await
            }
            made => made,
        }
    }

    async fn create_plainly(&self, storage: &Storage, created: &TableMetadata) -> Result<Swapped> {
        let made = match self.table.create(&self.new_table(created, false)?).await? {
            Changed::Done(made) => made,
            Changed::Conflict => return Ok(Swapped::Conflict),
            Changed::Unknown(reason) => return Ok(Swapped::Unknown(reason)),
        };
        let loaded = match made {
            Some(loaded) => loaded,
            None => self.table.load().await?.ok_or_else(|| {
                Error::unavailable(format!("table `{}` was made and is not there", self.table))
            })?,
        };
        let made = answered(storage, &loaded)?.metadata;
        self.check_place(storage, &made)?;
        if metadata::top_level(&made) != metadata::top_level(created) {
            return Err(Error::invalid(format!(
                "the REST catalog has numbered the columns of new table `{}` in another order than \
                 they were given: drop it there, and use another catalog",
                self.table
            )));
        }
        self.finish(storage, &made, created).await
    }

    /// Makes of a new table, as the catalog has it, the one that was to be made.
    async fn finish(
        &self,
        storage: &Storage,
        made: &TableMetadata,
        created: &TableMetadata,
    ) -> Result<Swapped> {
        let properties = new_properties(metadata::properties_in(made, created));
        let changes = updates::completion(made, created, properties)?;
        match changes.is_empty() {
            true => Ok(Swapped::Done),
            false => self.send(storage, &updates::requirements(made, made), &changes).await,
        }
    }

    /// The body that makes a table, or with `stage` prepares one.
    fn new_table(&self, created: &TableMetadata, stage: bool) -> Result<Json> {
        let spec = created.default_partition_spec().as_ref().clone().into_unbound();
        let encode = |value: Result<Json, serde_json::Error>| {
            value.map_err(|e| Error::internal("could not encode a new table").with_source(e))
        };
        let mut table = json!({
            "name": self.table.name(),
            "schema": encode(serde_json::to_value(created.current_schema()))?,
            "partition-spec": encode(serde_json::to_value(spec))?,
            "properties": new_properties(created.properties().clone()),
            "stage-create": stage,
        });
        // Those that choose refuse to be told.
        if !self.table.has_own_place() {
            table["location"] = json!(created.location());
        }
        Ok(table)
    }

    /// See [`super::pointer::Pointer::refuse_occupied`].
    pub(super) async fn refuse_occupied(&self, storage: &Storage) -> Result<()> {
        if self.table.has_own_place() {
            return Ok(());
        }
        let listed = storage.list(FOLDER).await?;
        let version = |path: &str| glue::version_of(path).or_else(|| filesystem::version_of(path));
        let taken = listed.iter().find(|entry| version(&entry.path).is_some_and(|n| n > 0));
        match taken {
            None => Ok(()),
            Some(entry) => Err(Error::invalid(format!(
                "there is an Iceberg table at `{}` (`{}`) that the REST catalog does not have as \
                 `{}`: register its newest metadata file there, or move it away",
                storage.location(),
                entry.path,
                self.table
            ))),
        }
    }

    /// Refuses a catalog that chooses other places for its tables, unless that is known.
    fn check_place(&self, storage: &Storage, metadata: &TableMetadata) -> Result<()> {
        if self.table.has_own_place() {
            return Ok(());
        }
        check_location(metadata, storage).map_err(|_| {
            Error::invalid(format!(
                "the REST catalog keeps table `{}` at `{}` and not at `{}`: Lakebed keeps tables at \
                 `<lake.location>/<database>/<name>`; correct `lake.location`, let the catalog \
                 allow that place, or set `lake.catalog.locations: catalog` to take its own",
                self.table,
                metadata.location(),
                storage.location()
            ))
        })
    }

    pub(super) async fn swap(&self, storage: &Storage, step: Step<'_>) -> Result<Swapped> {
        let requirements = updates::requirements(step.from, step.to);
        let mut changes = updates::updates(step.from, step.to, &step.bytes)?;
        if let Some(index) = changes.iter().position(is_expiry) {
            if !is_worth_it(&changes[index], step.to) {
                changes.remove(index);
            } else if self.has_moved(storage, step.base).await? {
                return Ok(Swapped::Conflict);
            }
        }
        let swapped = self.send(storage, &requirements, &changes).await?;
        Ok(match swapped {
            // Somebody else's version may have come between the commit and the answer.
            Swapped::DoneAs(answered)
                if answered.metadata.current_snapshot_id() != step.to.current_snapshot_id() =>
            {
                Swapped::Done
            }
            swapped => swapped,
        })
    }

    /// Whether anything has changed since `base`. No requirement can say that nobody has put a tag on
    /// a snapshot that is about to go, and catalogs drop such tags.
    async fn has_moved(&self, storage: &Storage, base: &Located) -> Result<bool> {
        let uri = self.table.metadata_location().await?.unwrap_or_default();
        Ok(path_of(storage, &uri) != base.path)
    }

    /// One commit.
    async fn send(
        &self,
        storage: &Storage,
        requirements: &[TableRequirement],
        changes: &[TableUpdate],
    ) -> Result<Swapped> {
        let body = json!({
            "identifier": self.table.identifier(),
            "requirements": requirements,
            "updates": changes,
        });
        Ok(match self.table.commit(&body).await? {
            Changed::Done(loaded) => {
                let answered = loaded.and_then(|loaded| answered(storage, &loaded).ok());
                answered.map_or(Swapped::Done, |answered| Swapped::DoneAs(Box::new(answered)))
            }
            Changed::Conflict => Swapped::Conflict,
            Changed::Unknown(reason) => Swapped::Unknown(reason),
        })
    }
}

/// Those of a new table, and what only a catalog has use for.
fn new_properties(mut properties: HashMap<String, String>) -> HashMap<String, String> {
    properties.insert(DELETE_AFTER_COMMIT.to_owned(), "true".to_owned());
    properties
}

/// Relative to the table where it lies there.
fn path_of(storage: &Storage, uri: &str) -> String {
    let path = Reader::new(storage, storage.location()).relative(uri);
    path.unwrap_or_else(|_| uri.to_owned())
}

fn is_expiry(update: &TableUpdate) -> bool {
    matches!(update, TableUpdate::RemoveSnapshots { .. })
}

/// Whether so many snapshots go that a look at the table first is worth it: a tenth of those that
/// stay.
fn is_worth_it(expiry: &TableUpdate, next: &TableMetadata) -> bool {
    match expiry {
        TableUpdate::RemoveSnapshots { snapshot_ids } => {
            snapshot_ids.len() >= next.snapshots().len() / EXPIRY_SHARE
        }
        _ => true,
    }
}

/// A table's metadata as its catalog has told it.
fn answered(storage: &Storage, loaded: &Loaded) -> Result<Answered> {
    let uri = loaded.metadata_location.as_deref().unwrap_or_default();
    let (metadata, pinned) = metadata::decode(uri, &loaded.metadata)?;
    let located = Located { version: metadata.last_sequence_number(), path: path_of(storage, uri) };
    Ok(Answered { located, metadata, pinned })
}

/// The metadata with the snapshot of this sequence number, one of the main branch's, as the
/// current one; `None` where it is not kept.
fn rewound(uri: &str, bytes: &[u8], version: i64) -> Result<Option<Vec<u8>>> {
    let (metadata, _) = metadata::decode(uri, bytes)?;
    let line = progress::lineage(&metadata);
    let Some(snapshot) = line.iter().find(|snapshot| snapshot.sequence_number() == version) else {
        return Ok(None);
    };
    let unreadable = |e| Error::corrupt(format!("could not read `{uri}`")).with_source(e);
    let mut json: Json = serde_json::from_slice(bytes).map_err(unreadable)?;
    let id = snapshot.snapshot_id();
    json["current-snapshot-id"] = json!(id);
    json["refs"][MAIN] = json!({ "snapshot-id": id, "type": "branch" });
    json["last-sequence-number"] = json!(version);
    if let Some(schema_id) = snapshot.schema_id() {
        json["current-schema-id"] = json!(schema_id);
    }
    // Later snapshots would be of a later sequence number than the table.
    let later = |entry: &Json, key: &str| {
        entry[key].as_i64().is_some_and(|id| {
            metadata.snapshot_by_id(id).is_some_and(|other| other.sequence_number() > version)
        })
    };
    for list in ["snapshots", "snapshot-log"] {
        if let Some(entries) = json[list].as_array_mut() {
            entries.retain(|entry| !later(entry, "snapshot-id"));
        }
    }
    if let Some(refs) = json["refs"].as_object_mut() {
        refs.retain(|_, reference| !later(reference, "snapshot-id"));
    }
    if let Some(properties) = json["properties"].as_object_mut() {
        properties.retain(|key, _| !progress::is_property(key));
    }
    serde_json::to_vec(&json).map(Some).map_err(unreadable)
}
