//! Silver: one row for each key. Every key is looked up, its old row goes and its new row lands in a
//! new file, in one commit. How old rows go, `staged` knows.

use std::collections::{BTreeMap, BTreeSet, HashSet};
use std::sync::Arc;

use async_trait::async_trait;
use lakebed_schemas::column::TableSchema;
use lakebed_schemas::position::{Checkpoint, CheckpointDelta, Fit};
use lakebed_schemas::value::{Value, key_hash};
use roaring::RoaringBitmap;
use tracing::warn;
use uuid::Uuid;

use super::evolve;
use super::grouping::Files;
use super::index::{KeyIndex, Location};
use super::placeholders;
use super::settle::{Rebase, Rebased, Settled, Settler};
use super::staged::{Dying, Staged};
use super::sweep;
use super::truncate::Taken;
use super::writer::FileRows;
use super::{UpsertBatch, WriteOptions, WriteStats, Written};
use crate::log::{Head, MaintenanceReport, TableChange, TableLog};
use crate::storage::Storage;
use crate::{Error, Result};

/// A table that holds the current row of each key.
pub struct UpsertTable {
    storage: Storage,
    settler: Settler,
    index: KeyIndex,
    options: WriteOptions,
}

impl UpsertTable {
    /// Refuses a table into which no rows can be upserted: one without a key to find rows by, or
    /// that takes none at all.
    ///
    /// # Errors
    /// `Invalid`, naming what is in the way.
    pub fn check(log: &dyn TableLog) -> Result<()> {
        let schema = &log.head().schema;
        // Without a key every row would be found for every other.
        if schema.key.is_empty() || schema.key_indexes().len() != schema.key.len() {
            return Err(Error::invalid(format!(
                "table `{}` has no key, or a key column of it is gone: set `key` to columns that it has",
                log.storage().location()
            )));
        }
        log.check_writable()
    }

    /// Takes over a table whose log has just been opened, and reads its keys into the index.
    ///
    /// # Errors
    /// As [`Self::check`]; otherwise when a data file cannot be read.
    pub async fn open(log: Box<dyn TableLog>, options: WriteOptions) -> Result<Self> {
        Self::check(log.as_ref())?;
        let storage = log.storage().clone();
        let settler = Settler::new(log, options.settle.clone());
        let mut index = KeyIndex::default();
        index.sync(&storage, settler.head()).await?;
        Ok(Self { storage, settler, index, options })
    }

    /// The newest version seen.
    pub fn head(&self) -> &Head {
        self.settler.head()
    }

    /// The progress of the newest version seen.
    pub fn checkpoint(&self) -> &Checkpoint {
        &self.settler.head().checkpoint
    }

    /// The key index, for its size and for checks.
    pub fn index(&self) -> &KeyIndex {
        &self.index
    }

    /// Catches up with what others have committed; says whether there was anything. The index
    /// follows before the next batch.
    ///
    /// # Errors
    /// When storage does not answer.
    pub async fn refresh(&mut self) -> Result<bool> {
        self.settler.refresh().await
    }

    /// These columns, by name and in the table's order, of the rows that the newest version seen has
    /// under these keys; `None` where it has none.
    ///
    /// # Errors
    /// When a row cannot be read; `Invalid` when the table has no such column.
    pub async fn rows_of(
        &mut self,
        keys: &[Vec<Value>],
        columns: &[&str],
    ) -> Result<Vec<Option<Vec<Value>>>> {
        self.index.sync(&self.storage, self.settler.head()).await?;
        let schema = &self.settler.head().schema;
        let column = |name: &&str| {
            let index = schema.index_of(name);
            index.ok_or_else(|| Error::invalid(format!("the table has no column `{name}`")))
        };
        let columns = columns.iter().map(column).collect::<Result<Vec<_>>>()?;
        let places: Vec<Option<Location>> =
            keys.iter().map(|key| self.index.find(key_hash(key))).collect();
        let wanted = places.iter().flatten().copied().collect();
        let rows = placeholders::read(&self.storage, &self.index, schema, &columns, wanted).await?;
        Ok(places.into_iter().map(|place| rows.get(&place?).cloned()).collect())
    }

    /// Deletes what no kept version needs. Off the commit path; an error harms nothing.
    ///
    /// # Errors
    /// When storage does not answer.
    pub async fn maintain(&mut self) -> Result<MaintenanceReport> {
        self.settler.maintain().await
    }

    /// Applies the changes and moves the progress on, in one version. Without changes it moves
    /// only the progress; without either it does nothing.
    ///
    /// # Errors
    /// `Unavailable` when it could not be found out in time whether the batch is in: the same batch
    /// may be written again, its offsets keep it from being applied twice. `Invalid` when the
    /// batch's schema cannot follow the table's. `Internal` when a row does not fit its schema or a
    /// key comes twice. Nothing fails after the commit.
    pub async fn write(&mut self, mut batch: UpsertBatch) -> Result<Written> {
        match self.settler.fit(&batch.delta).await? {
            Fit::Applies => {}
            Fit::Covered => return Ok(Written::covered(self.head().version)),
            Fit::Overtaken { .. } => return Ok(Written::Overtaken),
        }
        if batch.changes.is_empty() && batch.delta.is_empty() {
            return Ok(Written::covered(self.head().version));
        }
        self.index.sync(&self.storage, self.settler.head()).await?;
        let swept = self.take_swept(&mut batch).await?;
        let (delta, freshness) = (batch.delta.clone(), batch.freshness);
        let memos = std::mem::take(&mut batch.memos);
        let Some((mut plan, mut stats)) = self.plan(batch).await? else {
            return Ok(columns_overtaken());
        };
        stats.swept = swept;
        let mut stagings = 0;
        let files = loop {
            let staged = self.stage(&plan).await?;
            stagings += 1;
            stats.files = staged.files().len() as u64;
            stats.bytes = staged.files().iter().map(|file| file.size).sum();
            stats.copied = staged.copied();
            let mut change =
                TableChange { freshness, memos: memos.clone(), ..adding(&staged, delta.clone()) };
            if !plan.resolve(&staged, &self.index, self.settler.head(), &mut change) {
                return Err(Error::internal("files were not written for the head that was seen"));
            }
            let (storage, index) = (&self.storage, &mut self.index);
            let mut carry = Carry { storage, index, plan: &plan, staged: &staged };
            let settled = self.settler.settle(&mut change, &mut carry).await?;
            stats.unanswered += self.settler.unanswered();
            match settled {
                Settled::Committed { version, attempts, next_to_base } => {
                    stats.attempts += attempts;
                    break next_to_base.then_some((version, staged)).ok_or(version);
                }
                Settled::Overtaken => return Ok(Written::Overtaken),
                Settled::Restage if stagings >= self.options.settle.attempts_max => {
                    return Err(Error::unavailable(format!(
                        "a batch was written {stagings} times, for a table that another writer \
                         changes all the time"
                    )));
                }
                Settled::Restage => match plan.carried_to(self.settler.log())? {
                    Some(carried) => plan = carried,
                    None => return Ok(columns_overtaken()),
                },
            }
        };
        let version = match files {
            Ok((version, staged)) => {
                plan.enter(&mut self.index, &staged, version);
                version
            }
            // Others have committed as well: the next batch syncs the index with what they did.
            Err(version) => version,
        };
        Ok(Written::Committed { version, stats })
    }

    /// Writes the plan's files for the newest version seen.
    async fn stage(&self, plan: &Plan) -> Result<Staged> {
        let head = self.settler.head();
        let dying = plan.dying(&self.index, head);
        let rows = (&plan.schema, plan.files.as_slice());
        Staged::write(&self.storage, head, dying, rows, &self.options).await
    }

    /// Has the rows go that the batch's sweeps take: those of the table by a delete each, and those
    /// that the batch itself would write. Says how many.
    async fn take_swept(&self, batch: &mut UpsertBatch) -> Result<u64> {
        if batch.sweeps.is_empty() {
            return Ok(0);
        }
        let written: HashSet<u128> =
            batch.changes.iter().map(|change| key_hash(&change.key)).collect();
        let sweeps = std::mem::take(&mut batch.sweeps);
        let gone = sweep::find(&self.storage, self.settler.head(), &sweeps, written).await?;
        let swept = gone.len() as u64 + sweep::apply(&batch.schema, &sweeps, &mut batch.changes)?;
        batch.changes.extend(gone);
        Ok(swept)
    }

    /// Everything that follows from the batch and the rows it replaces, before any file exists.
    /// `None` where another writer has made columns that the batch does not know of.
    async fn plan(&self, mut batch: UpsertBatch) -> Result<Option<(Plan, WriteStats)>> {
        let head = self.settler.head();
        let is_new = |at: usize| batch.schema.columns[at].id == 0;
        let Some(merged) = evolve::merge(&head.schema, &batch.schema, is_new)? else {
            return Ok(None);
        };
        if !merged.is_identity() {
            for change in &mut batch.changes {
                change.row = change.row.take().map(|row| merged.remap(row));
            }
        }
        let schema = Arc::new(self.settler.log().assign_ids(&merged.schema));
        let hashes: Vec<u128> = batch.changes.iter().map(|change| key_hash(&change.key)).collect();
        refuse_repeated(&hashes)?;
        let taken = Taken::of(&self.storage, head, &batch.truncated).await?;
        let stands = |hash| {
            let place = self.index.find(hash)?;
            let file = self.index.file(place.ordinal)?;
            (!taken.has(file, place.position)).then_some(place)
        };
        let changes = &mut batch.changes;
        let incomplete =
            placeholders::fill(&self.storage, &self.index, &schema, changes, &hashes, stands)
                .await?;
        placeholders::tidy(&schema, changes);
        let deleted = taken.in_head(head).values().map(RoaringBitmap::len).sum();
        let mut stats = WriteStats { incomplete, deleted, ..WriteStats::default() };
        let mut files = Files::new(&schema)?;
        let mut keys = Vec::with_capacity(hashes.len());
        for (hash, change) in hashes.into_iter().zip(batch.changes) {
            let known = stands(hash).is_some();
            let place = match change.row {
                Some(row) => {
                    stats.rows += 1;
                    stats.updated += u64::from(known);
                    Some(files.push(&change.topic_partition, row)?)
                }
                None => {
                    stats.deleted += u64::from(known);
                    None
                }
            };
            keys.push((hash, place));
        }
        let known = head.schema.columns.len();
        let plan = Plan { schema, known, taken, keys, files: files.into_vec() };
        Ok(Some((plan, stats)))
    }
}

/// A change that adds what is staged, and takes nothing away yet.
fn adding(staged: &Staged, delta: CheckpointDelta) -> TableChange {
    TableChange {
        commit_id: Uuid::now_v7(),
        delta,
        added: staged.files().to_vec(),
        deleted: BTreeMap::new(),
        removed: BTreeSet::new(),
        schema: None,
        freshness: None,
        notes: BTreeMap::new(),
        memos: BTreeMap::new(),
    }
}

/// Read again, the records are planned for the columns that are there now.
fn columns_overtaken() -> Written {
    warn!("another writer has given the name of a new column to another one: batch dropped");
    Written::Overtaken
}

/// Two rows of one key in one batch would both live.
fn refuse_repeated(hashes: &[u128]) -> Result<()> {
    let mut seen = hashbrown::HashTable::with_capacity(hashes.len());
    for hash in hashes {
        let entry = seen.entry(*hash as u64, |other| other == hash, |other: &u128| *other as u64);
        match entry {
            hashbrown::hash_table::Entry::Occupied(_) => {
                return Err(Error::internal("a batch holds a key twice: it has not been folded"));
            }
            hashbrown::hash_table::Entry::Vacant(vacant) => {
                vacant.insert(*hash);
            }
        }
    }
    Ok(())
}

/// A batch, ready to be staged.
struct Plan {
    /// The table's schema once the batch is in.
    schema: Arc<TableSchema>,
    /// How many columns the table had when the rows were planned; those behind them are new.
    known: usize,
    /// Rows that go because the source was truncated.
    taken: Taken,
    /// Key hash, and file (by index) and position of its new row; `None` deletes.
    keys: Vec<(u128, Option<(usize, u32)>)>,
    files: Vec<Arc<FileRows>>,
}

impl Plan {
    /// Makes `change` right for this head; `false` where other files have to be written for it.
    fn resolve(
        &self,
        staged: &Staged,
        index: &KeyIndex,
        head: &Head,
        change: &mut TableChange,
    ) -> bool {
        change.schema = (head.schema != *self.schema).then(|| self.schema.as_ref().clone());
        staged.resolve(head, self.dying(index, head), change)
    }

    /// The rows that die with the batch, on this head.
    fn dying(&self, index: &KeyIndex, head: &Head) -> Dying {
        let mut by_file: BTreeMap<u32, RoaringBitmap> = BTreeMap::new();
        for place in self.keys.iter().filter_map(|(hash, _)| index.find(*hash)) {
            by_file.entry(place.ordinal).or_default().insert(place.position);
        }
        let mut deleted = index.surplus().clone();
        for (ordinal, positions) in by_file {
            let file = index.file(ordinal).expect("the index finds only rows of files it has");
            *deleted.entry(file.path.clone()).or_default() |= positions;
        }
        for (path, rows) in self.taken.in_head(head) {
            *deleted.entry(path).or_default() |= rows;
        }
        deleted.retain(|_, rows| !rows.is_empty());
        deleted
    }

    fn merged_into(&self, table: &TableSchema) -> Result<Option<evolve::Merged>> {
        evolve::merge(table, &self.schema, |at| at >= self.known)
    }

    /// Whether files written with this plan's schema may be committed on a head with that one.
    fn fits(&self, log: &dyn TableLog) -> Result<bool> {
        let merged = self.merged_into(&log.head().schema)?;
        Ok(merged.is_some_and(|merged| {
            merged.is_identity() && log.assign_ids(&merged.schema) == *self.schema
        }))
    }

    /// The same rows in the schema that they have on the log's head; `None` if they have none.
    fn carried_to(self, log: &dyn TableLog) -> Result<Option<Self>> {
        let Some(merged) = self.merged_into(&log.head().schema)? else { return Ok(None) };
        let schema = Arc::new(log.assign_ids(&merged.schema));
        let Self { taken, mut keys, files, .. } = self;
        // By the file and position that the rows had: others may have changed the partitions, too.
        let mut moved: Vec<Vec<(usize, u32)>> = Vec::with_capacity(files.len());
        let mut regrouped = Files::new(&schema)?;
        for file in files {
            let file = Arc::unwrap_or_clone(file);
            let rows = file.rows.into_iter();
            let places = rows.map(|row| regrouped.push(&file.topic_partition, merged.remap(row)));
            moved.push(places.collect::<Result<_>>()?);
        }
        for (file, position) in keys.iter_mut().filter_map(|(_, place)| place.as_mut()) {
            (*file, *position) = moved[*file][*position as usize];
        }
        let files = regrouped.into_vec();
        let known = log.head().schema.columns.len();
        Ok(Some(Self { schema, known, taken, keys, files }))
    }

    /// Tells the index where the keys are now. `version` is the plan's commit, right on top of the
    /// version that the index answers for.
    fn enter(&self, index: &mut KeyIndex, staged: &Staged, version: i64) {
        if !self.taken.is_empty() {
            index.kill(|file, position| self.taken.has(file, position));
        }
        // Out of ordinals: the next sync starts again from nothing.
        match staged.enter(index, &self.keys) {
            Ok(()) => index.advance(version),
            Err(_) => *index = KeyIndex::default(),
        }
    }
}

/// Carries a staged batch over to a head that others have moved.
struct Carry<'a> {
    storage: &'a Storage,
    index: &'a mut KeyIndex,
    plan: &'a Plan,
    staged: &'a Staged,
}

#[async_trait]
impl Rebase for Carry<'_> {
    async fn rebase(&mut self, log: &dyn TableLog, change: &mut TableChange) -> Result<Rebased> {
        self.index.sync(self.storage, log.head()).await?;
        // What leaves may be there no more, or hold other rows: never the same files blindly.
        let is_right =
            self.plan.fits(log)? && self.plan.resolve(self.staged, self.index, log.head(), change);
        Ok(if is_right { Rebased::Ready } else { Rebased::Restage })
    }
}
