//! Where each key's live row is: key → (file, position), in memory, disposable.
//!
//! Built from the key columns of a table version's live rows and kept in step with each commit.
//! It answers for the version it was last synced to. Entries of rows that others have killed or
//! moved stay until they are overwritten; their file's slot tells that they are dead.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;

use futures::StreamExt;
use hashbrown::HashTable;
use lakebed_schemas::position::TopicPartition;
use lakebed_schemas::value::Value;
use roaring::RoaringBitmap;
use tracing::warn;

use super::reader::{self, RowsWanted};
use crate::log::{DataFile, Head, LiveFile};
use crate::storage::Storage;
use crate::{Error, Result};

/// A row's place.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Location {
    /// Which file, in the order in which the index met them.
    pub ordinal: u32,
    /// Which row.
    pub position: u32,
}

/// 20 bytes: 96 bits of hash, so that two of 10¹⁰ keys meet with a chance of 10⁻⁹, and a place.
#[derive(Debug, Clone, Copy)]
struct Entry {
    hash: [u32; 3],
    ordinal: u32,
    position: u32,
}

fn shorten(hash: u128) -> [u32; 3] {
    [(hash >> 96) as u32, (hash >> 64) as u32, (hash >> 32) as u32]
}

fn table_hash(hash: &[u32; 3]) -> u64 {
    u64::from(hash[0]) << 32 | u64::from(hash[1])
}

/// A file that the index has met.
#[derive(Debug)]
struct Slot {
    /// `None` once the file has left the table.
    file: Option<Arc<DataFile>>,
    /// Rows that were dead when the index was last synced with a version that others made.
    dead: RoaringBitmap,
}

/// The key index of one table.
#[derive(Debug, Default)]
pub struct KeyIndex {
    entries: HashTable<Entry>,
    slots: Vec<Slot>,
    ordinals: HashMap<String, u32>,
    /// Ordinals that no entry has any more.
    free: Vec<u32>,
    /// Older rows of keys that were found alive twice: to be deleted with the next commit.
    surplus: BTreeMap<String, RoaringBitmap>,
    /// The version that the answers are for.
    version: Option<i64>,
}

impl KeyIndex {
    /// Where the live row with this key hash is.
    pub fn find(&self, hash: u128) -> Option<Location> {
        let hash = shorten(hash);
        let entry = self.entries.find(table_hash(&hash), |entry| entry.hash == hash)?;
        self.alive(entry)
    }

    fn alive(&self, entry: &Entry) -> Option<Location> {
        let slot = &self.slots[entry.ordinal as usize];
        let alive = slot.file.is_some() && !slot.dead.contains(entry.position);
        alive.then_some(Location { ordinal: entry.ordinal, position: entry.position })
    }

    /// The file with this ordinal, if it is still in the table.
    pub fn file(&self, ordinal: u32) -> Option<&Arc<DataFile>> {
        self.slots.get(ordinal as usize)?.file.as_ref()
    }

    /// Makes room for a file; answers its ordinal.
    pub(crate) fn add_file(&mut self, file: Arc<DataFile>) -> Result<u32> {
        let path = file.path.clone();
        let slot = Slot { file: Some(file), dead: RoaringBitmap::new() };
        let ordinal = match self.free.pop() {
            Some(ordinal) => {
                self.slots[ordinal as usize] = slot;
                ordinal
            }
            None => {
                self.slots.push(slot);
                u32::try_from(self.slots.len() - 1)
                    .map_err(|_| Error::internal("the key index has met 2³² files"))?
            }
        };
        self.ordinals.insert(path, ordinal);
        Ok(ordinal)
    }

    /// These files have left, by path: `to` says of one, by its number among them, and a position
    /// in it where that row is now, if anywhere. Looks at every key once.
    pub(crate) fn relocate(&mut self, left: &[&str], to: impl Fn(usize, u32) -> Option<Location>) {
        let mut which: Vec<Option<usize>> = vec![None; self.slots.len()];
        for (at, path) in left.iter().enumerate() {
            if let Some(ordinal) = self.ordinals.remove(*path) {
                which[ordinal as usize] = Some(at);
                self.slots[ordinal as usize] = Slot { file: None, dead: RoaringBitmap::new() };
                self.free.push(ordinal);
            }
        }
        self.entries.retain(|entry| {
            let Some(at) = which[entry.ordinal as usize] else { return true };
            let Some(place) = to(at, entry.position) else { return false };
            (entry.ordinal, entry.position) = (place.ordinal, place.position);
            true
        });
    }

    /// The row with this key hash is now here; answers where it was.
    pub(crate) fn insert(&mut self, hash: u128, to: Location) -> Option<Location> {
        let hash = shorten(hash);
        let new = Entry { hash, ordinal: to.ordinal, position: to.position };
        let slot = self.entries.entry(
            table_hash(&hash),
            |entry| entry.hash == hash,
            |entry| table_hash(&entry.hash),
        );
        match slot {
            hashbrown::hash_table::Entry::Occupied(mut occupied) => {
                let old = std::mem::replace(occupied.get_mut(), new);
                self.alive(&old)
            }
            hashbrown::hash_table::Entry::Vacant(vacant) => {
                vacant.insert(new);
                None
            }
        }
    }

    /// There is no row with this key hash any more.
    pub(crate) fn remove(&mut self, hash: u128) {
        let hash = shorten(hash);
        if let Ok(entry) = self.entries.find_entry(table_hash(&hash), |entry| entry.hash == hash) {
            entry.remove();
        }
    }

    /// Rows are dead that these are: file and position.
    pub(crate) fn kill(&mut self, is_dead: impl Fn(&DataFile, u32) -> bool) {
        let slots = &mut self.slots;
        self.entries.retain(|entry| {
            let slot = &mut slots[entry.ordinal as usize];
            let dies = slot.file.as_ref().is_some_and(|file| is_dead(file, entry.position));
            if dies {
                slot.dead.insert(entry.position);
            }
            !dies
        });
    }

    /// Keys with a row, and some whose row others have killed.
    pub fn len(&self) -> usize {
        self.entries.len()
    }

    /// Whether no key has a row.
    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    /// Bytes it holds.
    pub fn memory_bytes(&self) -> usize {
        let slots = self.slots.iter().map(|slot| {
            let path = slot.file.as_ref().map_or(0, |file| 2 * file.path.len());
            size_of::<Slot>() + path + slot.dead.serialized_size()
        });
        self.entries.allocation_size() + slots.sum::<usize>()
    }

    /// Rows to delete with the next commit because a newer row has their key, by path.
    pub(crate) fn surplus(&self) -> &BTreeMap<String, RoaringBitmap> {
        &self.surplus
    }

    /// Whether it answers for this version.
    pub fn is_at(&self, version: i64) -> bool {
        self.version == Some(version)
    }

    /// A commit of our own, already entered key by key, has made this version.
    pub(crate) fn advance(&mut self, version: i64) {
        self.surplus.clear();
        self.version = Some(version);
    }

    /// Makes the index answer for `head`: reads the keys of files it has not met, forgets files
    /// that are gone and takes over which rows are dead. Costs what others have changed.
    ///
    /// # Errors
    /// When a file cannot be read; the next sync then starts from nothing.
    pub async fn sync(&mut self, storage: &Storage, head: &Head) -> Result<()> {
        if self.is_at(head.version) {
            return Ok(());
        }
        let live_rows = usize::try_from(head.live_rows()).unwrap_or(usize::MAX);
        if self.entries.len() > live_rows.saturating_mul(2).saturating_add(100_000) {
            *self = Self::default();
        }
        // Half a sync would hide which keys have several rows.
        let whole = std::mem::take(self).synced(storage, head).await?;
        *self = whole;
        Ok(())
    }

    async fn synced(mut self, storage: &Storage, head: &Head) -> Result<Self> {
        self.take_over(head);
        let is_new = |live: &&LiveFile| !self.ordinals.contains_key(&live.file.path);
        let new_files: Vec<LiveFile> = head.files.values().filter(is_new).cloned().collect();
        let new_rows: u64 = new_files.iter().map(|live| live.file.rows - live.deleted.len()).sum();
        let room = usize::try_from(new_rows).unwrap_or(0);
        self.entries.reserve(room, |entry| table_hash(&entry.hash));
        let mut twice: BTreeMap<u128, Vec<Location>> = BTreeMap::new();
        let mut keys = std::pin::pin!(reader::read_keys(storage, &head.schema, new_files));
        while let Some(file) = keys.next().await {
            let file = file?;
            let ordinal = self.add_file(file.file)?;
            for (hash, position) in file.keys {
                let here = Location { ordinal, position };
                if let Some(there) = self.insert(hash, here) {
                    twice.entry(hash).or_default().extend([there, here]);
                }
            }
        }
        self.heal(storage, head, twice).await?;
        self.version = Some(head.version);
        Ok(self)
    }

    /// Which met files are gone, and which of their rows are dead.
    fn take_over(&mut self, head: &Head) {
        let mut gone = Vec::new();
        for (path, ordinal) in &self.ordinals {
            let slot = &mut self.slots[*ordinal as usize];
            match head.files.get(path) {
                Some(live) => {
                    slot.file = Some(live.file.clone());
                    slot.dead.clone_from(&live.deleted);
                }
                None => {
                    slot.file = None;
                    slot.dead = RoaringBitmap::new();
                    gone.push(path.clone());
                }
            }
        }
        for path in gone {
            self.ordinals.remove(&path);
        }
        let surplus = std::mem::take(&mut self.surplus);
        self.surplus = surplus
            .into_iter()
            .filter_map(|(path, rows)| {
                let rows = rows - &head.files.get(&path)?.deleted;
                (!rows.is_empty()).then_some((path, rows))
            })
            .collect();
    }

    /// Keys with more than one live row keep the newest; the others become surplus.
    async fn heal(
        &mut self,
        storage: &Storage,
        head: &Head,
        twice: BTreeMap<u128, Vec<Location>>,
    ) -> Result<()> {
        if twice.is_empty() {
            return Ok(());
        }
        let mut wanted: BTreeMap<u32, RoaringBitmap> = BTreeMap::new();
        for place in twice.values().flatten() {
            wanted.entry(place.ordinal).or_default().insert(place.position);
        }
        let ages = self.ages(storage, head, &wanted).await?;
        let mut healed = 0u64;
        for (hash, places) in twice {
            let newest = newest(&places, &ages);
            self.insert(hash, newest);
            let older: BTreeSet<Location> = places.into_iter().filter(|p| *p != newest).collect();
            for older in older {
                let Some(file) = self.file(older.ordinal) else { continue };
                self.surplus.entry(file.path.clone()).or_default().insert(older.position);
                healed += 1;
            }
        }
        warn!(
            rows = healed,
            version = head.version,
            "keys have several rows; the older ones go with the next commit"
        );
        Ok(())
    }

    /// How new each of these rows is.
    async fn ages(
        &self,
        storage: &Storage,
        head: &Head,
        wanted: &BTreeMap<u32, RoaringBitmap>,
    ) -> Result<HashMap<Location, Age>> {
        let names = ["_cdc_position", "_cdc_source_ts", "_cdc_offset"];
        let columns: Vec<usize> =
            names.iter().filter_map(|name| head.schema.index_of(name)).collect();
        let rows: Vec<RowsWanted> = wanted
            .iter()
            .filter_map(|(ordinal, positions)| {
                let file = self.file(*ordinal)?.clone();
                Some(RowsWanted { file, positions: positions.clone() })
            })
            .collect();
        let read = reader::read_rows(storage, &head.schema, &columns, rows).await?;
        let mut ages = HashMap::new();
        for ((ordinal, positions), rows) in wanted.iter().zip(read) {
            let Some(file) = self.file(*ordinal) else { continue };
            for (position, row) in positions.iter().zip(rows) {
                let named = names.iter().filter(|name| head.schema.index_of(name).is_some());
                let row: HashMap<&str, Value> = named.copied().zip(row).collect();
                let location = Location { ordinal: *ordinal, position };
                ages.insert(location, Age::of(file, &row, location));
            }
        }
        Ok(ages)
    }
}

/// The newest of a key's rows: within a topic-partition by offset, among those by the source's
/// own order.
fn newest(places: &[Location], ages: &HashMap<Location, Age>) -> Location {
    let mut last: BTreeMap<&TopicPartition, &Age> = BTreeMap::new();
    for age in places.iter().filter_map(|place| ages.get(place)) {
        let newest = last.entry(&age.topic_partition).or_insert(age);
        if (age.offset, age.location) > (newest.offset, newest.location) {
            *newest = age;
        }
    }
    let by_source = |age: &&&Age| (age.position.clone(), age.source_ts, age.location);
    last.values().max_by_key(by_source).map_or(places[0], |age| age.location)
}

/// What tells how new a row is.
#[derive(Debug, Clone)]
struct Age {
    topic_partition: TopicPartition,
    offset: i64,
    position: String,
    source_ts: i64,
    location: Location,
}

impl Age {
    fn of(file: &DataFile, row: &HashMap<&str, Value>, location: Location) -> Self {
        let long = |name: &str| match row.get(name) {
            Some(Value::Long(value)) => *value,
            _ => i64::MIN,
        };
        let position = match row.get("_cdc_position") {
            Some(Value::Text(text)) => text.clone(),
            _ => String::new(),
        };
        Self {
            topic_partition: file.topic_partition.clone(),
            offset: long("_cdc_offset"),
            position,
            source_ts: long("_cdc_source_ts"),
            location,
        }
    }
}
