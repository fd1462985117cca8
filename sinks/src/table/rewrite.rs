//! Copy-on-write: files that lose rows are written anew without them.
//!
//! Which files, the key index has told; nothing is searched. A file keeps to one topic-partition
//! and partition. Large ones become one new file each, or several where they are too large; small
//! ones, the small ones that have gathered beside them, and the batch's new rows go together. So
//! the number of files is bounded by what the table holds, and what a commit writes by the files
//! that it touches. One row group is in memory at a time, not a file.

mod divided;
mod moved;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use futures::stream::{self, StreamExt, TryStreamExt};
use lakebed_schemas::column::TableSchema;
use lakebed_schemas::position::TopicPartition;
use lakebed_schemas::value::Value;
use roaring::RoaringBitmap;

use self::divided::divide;
pub(super) use self::moved::{NewPlace, Rewritten};
use super::rolling::{self, Source};
use super::writer::{FileRows, WriterOptions};
use crate::log::{DataFile, Head, LiveFile};
use crate::storage::Storage;
use crate::{Result, failpoint};

/// So many small files of one size tier become one file, so their number grows with the logarithm
/// of the rows and a row is copied once for each tier.
const FANOUT_LOG2: u32 = 3;
/// Files below this are of one tier: their rows cost less than the file itself.
const TIER_BYTES_MIN: u64 = 4 << 10;
/// Bytes of a row of which nothing is known.
const ROW_BYTES: u64 = 64;
/// Streams written at the same time: each holds a row group that is read and one that is written.
const PARALLEL: usize = 2;

/// A live file that is written anew, and which of its rows are.
#[derive(Debug, Clone)]
struct Input {
    file: Arc<DataFile>,
    survivors: RoaringBitmap,
}

impl Input {
    fn of(live: &LiveFile, dying: Option<&RoaringBitmap>) -> Self {
        let mut survivors = RoaringBitmap::new();
        // A position is 32 bits wide, and so is the number of rows.
        survivors.insert_range(0..u32::try_from(live.file.rows).unwrap_or(u32::MAX));
        survivors -= &live.deleted;
        if let Some(dying) = dying {
            survivors -= dying;
        }
        Self { file: live.file.clone(), survivors }
    }

    /// Bytes that its surviving rows will take, about.
    fn bytes(&self) -> u64 {
        let (rows, size) = (self.file.rows.max(1), u128::from(self.file.size));
        u64::try_from(size * u128::from(self.survivors.len()) / u128::from(rows)).unwrap_or(0)
    }

    /// Its rows by the partition that they belong to.
    async fn divided(
        self,
        storage: &Storage,
        schema: &Arc<TableSchema>,
    ) -> Result<Vec<(Vec<Value>, Self)>> {
        if self.file.partition.len() == schema.partition_by.len() {
            return Ok(vec![(self.file.partition.clone(), self)]);
        }
        let parts = divide(storage, schema, &self.file, &self.survivors).await?;
        let part = |survivors| Self { file: self.file.clone(), survivors };
        Ok(parts.into_iter().map(|(partition, rows)| (partition, part(rows))).collect())
    }
}

/// Rows that follow each other in new files of one topic-partition and partition.
#[derive(Debug)]
struct Sequence {
    topic_partition: TopicPartition,
    partition: Vec<Value>,
    inputs: Vec<Input>,
    /// Which of the batch's files comes after them, by index.
    rows: Option<usize>,
    /// Bytes of it all, about.
    bytes: u64,
}

/// What one commit writes anew, for one version of the table.
#[derive(Debug)]
pub(super) struct Rewrite {
    sequences: Vec<Sequence>,
    /// Rows that die with the commit, by path of a live file.
    dying: BTreeMap<String, RoaringBitmap>,
    /// Rows that were dead before, of every file that leaves.
    dead: BTreeMap<String, RoaringBitmap>,
}

/// A topic-partition and the canonical form of a partition.
type Place = (TopicPartition, Vec<u8>);

fn place(topic_partition: &TopicPartition, partition: &[Value]) -> Place {
    let mut bytes = Vec::new();
    partition.iter().for_each(|value| value.canonical(&mut bytes));
    (topic_partition.clone(), bytes)
}

/// What happens in one topic-partition and partition.
struct Group {
    topic_partition: TopicPartition,
    partition: Vec<Value>,
    touched: Vec<Input>,
    rows: Option<usize>,
}

type Groups = BTreeMap<Place, Group>;

fn group_at<'g>(
    groups: &'g mut Groups,
    topic_partition: &TopicPartition,
    partition: &[Value],
) -> &'g mut Group {
    groups.entry(place(topic_partition, partition)).or_insert_with(|| Group {
        topic_partition: topic_partition.clone(),
        partition: partition.to_vec(),
        touched: Vec::new(),
        rows: None,
    })
}

impl Rewrite {
    /// What has to be written on `head` where these rows die and the batch's `files` come.
    ///
    /// Files with dead rows, left by merge-on-read or by others, are taken along, up to four of the
    /// full size in one commit.
    ///
    /// The rows of a file that was written when the table was partitioned otherwise go where they
    /// belong now; it is read once for each of these partitions.
    ///
    /// # Errors
    /// `Invalid` where a value of such a row has no partition; else when such a file cannot be read.
    pub(super) async fn plan(
        storage: &Storage,
        head: &Head,
        dying: BTreeMap<String, RoaringBitmap>,
        (schema, files): (&Arc<TableSchema>, &[Arc<FileRows>]),
        options: &WriterOptions,
    ) -> Result<Self> {
        let mut groups = Groups::new();
        let mut dead = BTreeMap::new();
        let mut purge = 4 * options.file_bytes;
        for (path, live) in &head.files {
            let dies = dying.get(path);
            if dies.is_none() && (live.deleted.is_empty() || purge == 0) {
                continue;
            }
            if dies.is_none() {
                purge = purge.saturating_sub(live.file.size);
            }
            for (partition, part) in Input::of(live, dies).divided(storage, schema).await? {
                let group = group_at(&mut groups, &live.file.topic_partition, &partition);
                group.touched.push(part);
            }
            dead.insert(path.clone(), live.deleted.clone());
        }
        for (index, file) in files.iter().enumerate() {
            let group = group_at(&mut groups, &file.topic_partition, &file.partition);
            group.rows = Some(index);
        }
        let mut idle = idle_small(head, &groups, &dead, options.file_bytes);
        let mut sequences = Vec::new();
        for (of, group) in groups {
            let idle = idle.remove(&of).unwrap_or_default();
            for input in &idle {
                dead.insert(input.file.path.clone(), RoaringBitmap::new());
            }
            let new = group.rows.map(|index| (index, &files[index]));
            let (made, left) = sequences_of(group, idle, new, options.file_bytes);
            for input in left {
                dead.remove(&input.file.path);
            }
            sequences.extend(made);
        }
        Ok(Self { sequences, dying, dead })
    }

    /// Whether what was written is right on `head`, where these rows die: the files that leave are
    /// there, as they were.
    pub(super) fn holds(&self, head: &Head, dying: &BTreeMap<String, RoaringBitmap>) -> bool {
        let as_it_was = |(path, dead): (&String, &RoaringBitmap)| {
            head.files.get(path).is_some_and(|live| live.deleted == *dead)
        };
        *dying == self.dying && self.dead.iter().all(as_it_was)
    }

    /// The files that leave.
    pub(super) fn removed(&self) -> BTreeSet<String> {
        self.dead.keys().cloned().collect()
    }

    /// Writes the new files, durable and invisible.
    ///
    /// # Errors
    /// When a file cannot be read, a row does not fit the schema or storage refuses. Files already
    /// written stay behind as orphans, which maintenance removes.
    pub(super) async fn write(
        &self,
        storage: &Storage,
        schema: &Arc<TableSchema>,
        files: &[Arc<FileRows>],
        options: &WriterOptions,
    ) -> Result<Rewritten> {
        super::field_ids::check(schema)?;
        failpoint::hit(failpoint::BEFORE_STAGE);
        let written: Vec<_> = self
            .sequences
            .iter()
            .map(|sequence| {
                let source = |input: &Input| Source {
                    file: input.file.clone(),
                    rows: input.survivors.clone(),
                };
                let job = rolling::Job {
                    storage: storage.clone(),
                    schema: schema.clone(),
                    topic_partition: sequence.topic_partition.clone(),
                    partition: sequence.partition.clone(),
                    sources: sequence.inputs.iter().map(source).collect(),
                    new: sequence.rows.map(|index| files[index].clone()),
                    bytes: sequence.bytes,
                    options: options.clone(),
                };
                job.write()
            })
            .collect();
        let written: Vec<Vec<Arc<DataFile>>> =
            stream::iter(written).buffered(PARALLEL).try_collect().await?;
        failpoint::hit(failpoint::AFTER_STAGE);
        Ok(Rewritten::of(self, files.len(), written))
    }
}

/// Small files without dead rows in the places that are written to, the smallest first.
fn idle_small(
    head: &Head,
    groups: &Groups,
    touched: &BTreeMap<String, RoaringBitmap>,
    file_bytes: u64,
) -> BTreeMap<Place, Vec<Input>> {
    let mut idle: BTreeMap<Place, Vec<Input>> = BTreeMap::new();
    for (path, live) in &head.files {
        let is_small = live.file.size < file_bytes / 2;
        if !is_small || touched.contains_key(path) || !live.deleted.is_empty() {
            continue;
        }
        let of = place(&live.file.topic_partition, &live.file.partition);
        if groups.contains_key(&of) {
            idle.entry(of).or_default().push(Input::of(live, None));
        }
    }
    idle
}

/// How a place's rows are laid out anew, and which of its idle files stay as they are.
fn sequences_of(
    group: Group,
    idle: Vec<Input>,
    new: Option<(usize, &Arc<FileRows>)>,
    file_bytes: u64,
) -> (Vec<Sequence>, Vec<Input>) {
    let Group { topic_partition, partition, touched, rows: _ } = group;
    let known = touched.iter().chain(&idle).map(|input| &input.file);
    let (rows, bytes) =
        known.fold((0, 0), |(rows, bytes), file| (rows + file.rows, bytes + file.size));
    let row_bytes = bytes.checked_div(rows).unwrap_or(ROW_BYTES).max(1);
    let sequence = |inputs: Vec<Input>, rows: Option<usize>, more: u64| Sequence {
        topic_partition: topic_partition.clone(),
        partition: partition.clone(),
        bytes: inputs.iter().map(Input::bytes).sum::<u64>() + more,
        inputs,
        rows,
    };
    let (mut small, large): (Vec<Input>, Vec<Input>) =
        touched.into_iter().partition(|input| input.bytes() < file_bytes / 2);
    let new_bytes = new.map_or(0, |(_, file)| file.rows.len() as u64 * row_bytes);
    let pending = new_bytes + small.iter().map(Input::bytes).sum::<u64>();
    let (folded, left) = fold(pending, idle);
    small.extend(folded);
    // The oldest are mostly the largest.
    small.sort_by(|a, b| (b.file.size, &b.file.path).cmp(&(a.file.size, &a.file.path)));
    let mut sequences: Vec<Sequence> =
        large.into_iter().map(|input| sequence(vec![input], None, 0)).collect();
    if !small.is_empty() || new.is_some() {
        sequences.push(sequence(small, new.map(|(index, _)| index), new_bytes));
    }
    (sequences, left)
}

fn tier(bytes: u64) -> u32 {
    bytes.max(TIER_BYTES_MIN).ilog2() / FANOUT_LOG2
}

/// Which idle files are taken along by `pending` bytes that are written anyway, so that no tier
/// has as many files as its fan-out afterwards; and which are not.
fn fold(mut pending: u64, mut idle: Vec<Input>) -> (Vec<Input>, Vec<Input>) {
    let mut folded = Vec::new();
    loop {
        let mut tiers: BTreeMap<u32, usize> = BTreeMap::new();
        if pending > 0 {
            tiers.insert(tier(pending), 1);
        }
        for input in &idle {
            *tiers.entry(tier(input.file.size)).or_default() += 1;
        }
        let full = tiers.iter().find(|(of, count)| {
            **count >= 1 << FANOUT_LOG2 && idle.iter().any(|input| tier(input.file.size) == **of)
        });
        let Some((full, _)) = full else { return (folded, idle) };
        let full = *full;
        let (taken, left) = idle.into_iter().partition(|input| tier(input.file.size) == full);
        idle = left;
        pending += taken_bytes(&taken);
        folded.extend::<Vec<Input>>(taken);
    }
}

fn taken_bytes(inputs: &[Input]) -> u64 {
    inputs.iter().map(|input| input.file.size).sum()
}

#[cfg(test)]
mod tests;
