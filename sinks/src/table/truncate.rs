//! Which rows a truncate of the source takes.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use lakebed_schemas::source_order::is_before;
use lakebed_schemas::value::Value;
use roaring::RoaringBitmap;

use super::reader::{self, RowsWanted};
use crate::log::{DataFile, Head, LiveFile};
use crate::storage::Storage;
use crate::{Error, Result};

/// Column that holds a row's place in the source's log.
const POSITION: &str = "_cdc_position";

/// Rows whose place is read at once.
const ROWS_AT_ONCE: u32 = 1 << 17;

/// Which of a topic's rows go.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Truncated {
    /// All of them.
    All,
    /// Those of one partition; of the others those that the source made before a place in its log.
    Before {
        /// The partition that the truncate came in: there, the order of the records decides.
        partition: i32,
        /// The truncate's own place, as in `_cdc_position`.
        position: String,
    },
}

/// The rows that the truncates of a batch take from a table.
#[derive(Debug, Default)]
pub(super) struct Taken {
    topics: BTreeSet<Arc<str>>,
    /// By path, live rows of topics that go in part.
    rows: BTreeMap<String, RoaringBitmap>,
}

impl Taken {
    /// Finds them in a version of a table. Costs a column of the topic's rows where not all go.
    ///
    /// # Errors
    /// When a file cannot be read; `Invalid` where a row does not tell whether it goes.
    pub(super) async fn of(
        storage: &Storage,
        head: &Head,
        truncated: &BTreeMap<Arc<str>, Truncated>,
    ) -> Result<Self> {
        let mut taken = Self::default();
        for (topic, truncated) in truncated {
            let (own, position) = match truncated {
                Truncated::All => {
                    taken.topics.insert(topic.clone());
                    continue;
                }
                Truncated::Before { partition, position } => (*partition, position),
            };
            let of_topic =
                head.files.iter().filter(|(_, live)| live.file.topic_partition.topic == *topic);
            for (path, live) in of_topic {
                let rows = match live.file.topic_partition.partition == own {
                    true => alive(live),
                    false => before(storage, head, live, position).await?,
                };
                taken.rows.insert(path.clone(), rows);
            }
        }
        taken.rows.retain(|_, rows| !rows.is_empty());
        Ok(taken)
    }

    /// Whether no row goes.
    pub(super) fn is_empty(&self) -> bool {
        self.topics.is_empty() && self.rows.is_empty()
    }

    /// Whether a row goes.
    pub(super) fn has(&self, file: &DataFile, position: u32) -> bool {
        self.topics.contains(&file.topic_partition.topic)
            || self.rows.get(&file.path).is_some_and(|rows| rows.contains(position))
    }

    /// The rows that go, of those that live in a version, by path.
    pub(super) fn in_head(&self, head: &Head) -> BTreeMap<String, RoaringBitmap> {
        let taken = head.files.iter().map(|(path, live)| {
            let rows = match self.topics.contains(&live.file.topic_partition.topic) {
                true => alive(live),
                false => {
                    self.rows.get(path).map_or_else(RoaringBitmap::new, |rows| rows - &live.deleted)
                }
            };
            (path.clone(), rows)
        });
        taken.filter(|(_, rows)| !rows.is_empty()).collect()
    }
}

fn alive(live: &LiveFile) -> RoaringBitmap {
    let mut rows = RoaringBitmap::new();
    // A position is 32 bits wide, and so is the number of rows.
    rows.insert_range(0..live.file.rows as u32);
    rows - &live.deleted
}

/// The live rows of a file that the source made before a place in its log.
async fn before(
    storage: &Storage,
    head: &Head,
    live: &LiveFile,
    position: &str,
) -> Result<RoaringBitmap> {
    let unknown = || {
        Error::invalid(format!(
            "a truncate, and rows of {} do not tell whether they were there before it (rows of an \
             incremental snapshot or of another epoch do not): set `on_truncate: ignore` to keep all rows, or build the \
             table anew",
            live.file.topic_partition
        ))
    };
    let column = head.schema.index_of(POSITION).ok_or_else(unknown)?;
    let alive: Vec<u32> = alive(live).into_iter().collect();
    let mut taken = RoaringBitmap::new();
    for chunk in alive.chunks(ROWS_AT_ONCE as usize) {
        let positions = chunk.iter().copied().collect();
        let wanted = RowsWanted { file: live.file.clone(), positions };
        let read = reader::read_rows(storage, &head.schema, &[column], vec![wanted]).await?;
        for (at, row) in chunk.iter().zip(read.into_iter().flatten()) {
            let Some(Value::Text(own)) = row.first() else { return Err(unknown()) };
            if is_before(own, position).ok_or_else(unknown)? {
                taken.insert(*at);
            }
        }
    }
    Ok(taken)
}
