//! Truncates of topics with several partitions: below which place of the source's log nothing
//! lives any more.
//!
//! A truncate comes in one partition. What the source had made before it may still arrive in the
//! others, and must not come back to life. So its place is written down beside the table before the
//! truncate is committed. Like the truncate itself it is a fact of the source, so that it is right
//! whether or not that commit comes about. Once a partition has streamed a change behind that place,
//! the order of its records says the rest.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use lakebed_schemas::change_event::SourceInfo;
use lakebed_schemas::position::TopicPartition;
use lakebed_schemas::source_order::is_before;
use lakebed_sinks::storage::Storage;
use lakebed_sinks::{Error, Result};
use serde_json::{Value as Json, json};

/// Version of the stored form, refused where it is higher.
const VERSION: u64 = 1;

/// The newest truncate of one topic.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Floor {
    /// The partition it came in.
    pub(super) partition: i32,
    /// Its place in the source's log.
    pub(super) position: String,
}

/// A floor and how far it still matters.
struct Held {
    floor: Floor,
    /// Partitions that have streamed a change behind it.
    passed: BTreeSet<i32>,
    is_written: bool,
}

/// The floors of one table's topics.
#[derive(Default)]
pub(super) struct Floors {
    topics: BTreeMap<Arc<str>, Held>,
}

impl Floors {
    /// Takes over what was written down.
    pub(super) fn learn(&mut self, topic: Arc<str>, floor: Floor) {
        self.set(topic, floor, true);
    }

    /// The topic was truncated. Where that has been known, because the source repeats itself, what
    /// it repeats beside must not come back either.
    pub(super) fn raise(&mut self, topic: Arc<str>, floor: Floor) {
        self.set(topic, floor, false);
    }

    fn set(&mut self, topic: Arc<str>, floor: Floor, is_written: bool) {
        let is_no_lower = |known: &Held| {
            is_before(&known.floor.position, &floor.position).is_some_and(|is_before| !is_before)
        };
        if let Some(known) = self.topics.get_mut(&topic).filter(|known| is_no_lower(known)) {
            known.passed.clear();
            return;
        }
        self.topics.insert(topic, Held { floor, passed: BTreeSet::new(), is_written });
    }

    /// Whether a change of a row was made before its topic was truncated and comes after that.
    pub(super) fn is_below(&mut self, tp: &TopicPartition, source: &SourceInfo) -> bool {
        let Some(Held { floor, passed, .. }) = self.topics.get_mut(&tp.topic) else { return false };
        let open = floor.partition != tp.partition && !passed.contains(&tp.partition);
        let (true, Some(position)) = (open, &source.position) else { return false };
        match is_before(position, &floor.position) {
            Some(true) => return true,
            Some(false) if source.snapshot.is_none() => drop(passed.insert(tp.partition)),
            // Beside the stream, or of another form: it says nothing of what is to come.
            Some(false) | None => {}
        }
        false
    }

    /// Those that are not written down yet.
    pub(super) fn unwritten(&self) -> Vec<(Arc<str>, Floor)> {
        let unwritten = self.topics.iter().filter(|(_, held)| !held.is_written);
        unwritten.map(|(topic, held)| (topic.clone(), held.floor.clone())).collect()
    }

    /// All are written down.
    pub(super) fn written(&mut self) {
        self.topics.values_mut().for_each(|held| held.is_written = true);
    }
}

/// Where floors are written down: `_lakebed/truncated/<topic>.json` in the table's folder.
pub(super) struct FloorFiles {
    storage: Storage,
}

impl FloorFiles {
    /// Those of the table at this place.
    pub(super) fn new(storage: Storage) -> Self {
        Self { storage }
    }

    /// Writes one down. Only the process that reads all partitions of the topic does, so none is
    /// overtaken.
    ///
    /// # Errors
    /// When storage does not answer or refuses.
    pub(super) async fn write(&self, topic: &str, floor: &Floor) -> Result<()> {
        let Floor { partition, position } = floor;
        let text = json!({ "v": VERSION, "partition": partition, "position": position });
        self.storage.put(&path(topic), text.to_string()).await
    }

    /// The topic's, if it was ever truncated.
    ///
    /// # Errors
    /// When storage does not answer; `Corrupt` for a file that is none of ours.
    pub(super) async fn read(&self, topic: &str) -> Result<Option<Floor>> {
        let path = path(topic);
        let Some(bytes) = self.storage.get(&path).await? else { return Ok(None) };
        let floor = decode(&bytes);
        floor.map(Some).ok_or_else(|| {
            let uri = self.storage.uri(&path);
            Error::corrupt(format!(
                "`{uri}` does not say where the topic was truncated in a form that this release \
                 knows: upgrade lakebed if a newer one wrote it"
            ))
        })
    }
}

fn decode(bytes: &[u8]) -> Option<Floor> {
    let json: Json = serde_json::from_slice(bytes).ok()?;
    let partition = i32::try_from(json["partition"].as_i64()?).ok()?;
    let position = json["position"].as_str()?.to_owned();
    (json["v"].as_u64()? <= VERSION).then_some(Floor { partition, position })
}

/// Names of topics hold only letters, digits, `.`, `_` and `-`.
fn path(topic: &str) -> String {
    format!("_lakebed/truncated/{topic}.json")
}

#[cfg(test)]
mod tests {
    use lakebed_sinks::storage::{S3Options, Storage};

    use super::*;

    fn at(lane: u8, lsn: u64) -> String {
        format!("00000000{lane:02x}{lsn:016x}{lsn:016x}00")
    }

    fn source(lane: u8, lsn: u64) -> SourceInfo {
        let snapshot = (lane == 0).then(|| "true".to_owned());
        SourceInfo { position: Some(at(lane, lsn)), snapshot, ..SourceInfo::default() }
    }

    fn tp(partition: i32) -> TopicPartition {
        TopicPartition::new("t", partition)
    }

    fn floor(lsn: u64) -> Floor {
        Floor { partition: 0, position: at(1, lsn) }
    }

    #[test]
    fn a_partition_is_below_until_it_has_streamed_what_lies_behind() {
        let mut floors = Floors::default();
        assert!(!floors.is_below(&tp(1), &source(1, 4)));
        floors.raise("t".into(), floor(5));
        assert!(!floors.is_below(&tp(0), &source(1, 4)), "there, the order of the records decides");
        assert!(floors.is_below(&tp(1), &source(0, 4)) && floors.is_below(&tp(1), &source(1, 4)));
        assert!(!floors.is_below(&tp(1), &source(0, 6)), "a snapshot taken since");
        assert!(floors.is_below(&tp(1), &source(1, 4)));
        assert!(!floors.is_below(&tp(1), &source(1, 6)));
        assert!(!floors.is_below(&tp(1), &source(1, 4)), "it goes on from there");
        assert!(floors.is_below(&tp(2), &source(1, 4)), "another partition does not");
        assert!(!floors.is_below(&tp(2), &SourceInfo::default()), "no position, no answer");
        // The source repeats the truncate, or an older one.
        for lsn in [5, 3] {
            floors.raise("t".into(), floor(lsn));
            assert!(floors.is_below(&tp(1), &source(1, 4)));
            assert!(!floors.is_below(&tp(1), &source(1, 6)));
        }
    }

    #[tokio::test]
    async fn a_floor_is_written_down_and_read_back() {
        let folder = tempfile::tempdir().expect("folder");
        let location = folder.path().to_str().expect("utf-8").to_owned();
        let storage = Storage::open(&location, &S3Options::default()).expect("storage");
        let files = FloorFiles::new(storage.clone());
        assert_eq!(files.read("t").await.expect("reads"), None);
        let mut floors = Floors::default();
        floors.raise("t".into(), floor(5));
        for (topic, floor) in floors.unwritten() {
            files.write(&topic, &floor).await.expect("writes");
        }
        floors.written();
        assert!(floors.unwritten().is_empty());
        assert_eq!(files.read("t").await.expect("reads"), Some(floor(5)));

        let newer = r#"{"v":2,"partition":0,"position":"00"}"#;
        storage.put("_lakebed/truncated/t.json", newer.to_owned()).await.expect("puts");
        assert!(files.read("t").await.is_err());
    }
}
