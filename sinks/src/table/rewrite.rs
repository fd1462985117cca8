//! Copy-on-write: files that lose rows are written anew without them.
//!
//! Which files, the key index has told; nothing is searched. A file keeps to one topic-partition
//! and partition. Large ones become one new file each, or several where they are too large; small
//! ones, the small ones that have gathered beside them, and the batch's new rows go together. So
//! the number of files is bounded by what the table holds, and what a commit writes by the files
//! that it touches. One row group is in memory at a time, not a file.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use futures::stream::{self, StreamExt, TryStreamExt};
use lakebed_schemas::column::TableSchema;
use lakebed_schemas::position::TopicPartition;
use lakebed_schemas::value::Value;
use roaring::RoaringBitmap;

use super::rolling::{self, Source};
use super::writer::{FileRows, WriterOptions};
use crate::log::{DataFile, Head, LiveFile};
use crate::storage::Storage;
use crate::{Error, Result, failpoint};

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
#[derive(Default)]
struct Group {
    touched: Vec<Input>,
    rows: Option<usize>,
}

impl Rewrite {
    /// What has to be written on `head` where these rows die and the batch's `files` come.
    ///
    /// Files with dead rows, left by merge-on-read or by others, are taken along, up to four of the
    /// full size in one commit.
    ///
    /// # Errors
    /// `Invalid` where a row dies in a file that was written when the table was partitioned
    /// otherwise: its rows may belong to many partitions now.
    pub(super) fn plan(
        head: &Head,
        dying: BTreeMap<String, RoaringBitmap>,
        files: &[Arc<FileRows>],
        options: &WriterOptions,
    ) -> Result<Self> {
        let mut groups: BTreeMap<Place, Group> = BTreeMap::new();
        let mut dead = BTreeMap::new();
        let mut purge = 4 * options.file_bytes;
        for (path, live) in &head.files {
            let dies = dying.get(path);
            if live.file.partition.len() != head.schema.partition_by.len() {
                match dies {
                    None => continue,
                    Some(_) => return Err(partitioned_otherwise(path)),
                }
            }
            if dies.is_none() && (live.deleted.is_empty() || purge == 0) {
                continue;
            }
            if dies.is_none() {
                purge = purge.saturating_sub(live.file.size);
            }
            let of = place(&live.file.topic_partition, &live.file.partition);
            groups.entry(of).or_default().touched.push(Input::of(live, dies));
            dead.insert(path.clone(), live.deleted.clone());
        }
        for (index, file) in files.iter().enumerate() {
            let of = place(&file.topic_partition, &file.partition);
            groups.entry(of).or_default().rows = Some(index);
        }
        let mut idle = idle_small(head, &groups, &dead, options.file_bytes);
        let mut sequences = Vec::new();
        for (of, group) in groups {
            let idle = idle.remove(&of).unwrap_or_default();
            for input in &idle {
                dead.insert(input.file.path.clone(), RoaringBitmap::new());
            }
            let new = group.rows.map(|index| (index, &files[index]));
            let (made, left) = sequences_of(group.touched, idle, new, options.file_bytes);
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

fn partitioned_otherwise(path: &str) -> Error {
    Error::invalid(format!(
        "`{path}` was written when the table was partitioned otherwise, and copy-on-write would have \
         to divide its rows: rewrite such files with the engine that changed the partitions (Spark: \
         `CALL system.rewrite_data_files`), or use `mode: merge-on-read`"
    ))
}

/// Small files without dead rows in the places that are written to, the smallest first.
fn idle_small(
    head: &Head,
    groups: &BTreeMap<Place, Group>,
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
    touched: Vec<Input>,
    idle: Vec<Input>,
    new: Option<(usize, &Arc<FileRows>)>,
    file_bytes: u64,
) -> (Vec<Sequence>, Vec<Input>) {
    let mut known = touched.iter().chain(&idle).map(|input| &input.file).peekable();
    let like = known.peek().map(|file| (file.topic_partition.clone(), file.partition.clone()));
    let (rows, bytes) =
        known.fold((0, 0), |(rows, bytes), file| (rows + file.rows, bytes + file.size));
    let row_bytes = bytes.checked_div(rows).unwrap_or(ROW_BYTES).max(1);
    let of = new.map(|(_, rows)| (rows.topic_partition.clone(), rows.partition.clone()));
    let Some((topic_partition, partition)) = of.or(like) else { return (Vec::new(), idle) };
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

/// Where a row is now: which of the new files, and which row of it.
pub(super) type NewPlace = (usize, u32);

/// What was written, and where each row went.
#[derive(Debug)]
pub(super) struct Rewritten {
    pub(super) files: Vec<Arc<DataFile>>,
    runs: Vec<Run>,
    /// For each of the batch's files, its run and how many rows come before it there.
    rows: Vec<(usize, u64)>,
    moved: Vec<Moved>,
}

/// New files that follow each other.
#[derive(Debug)]
struct Run {
    first: usize,
    /// Rows before each file.
    starts: Vec<u64>,
}

impl Run {
    fn place(&self, row: u64) -> NewPlace {
        let at = self.starts.partition_point(|start| *start <= row).saturating_sub(1);
        let start = self.starts.get(at).copied().unwrap_or(0);
        // Files are cut long before they have 2³² rows.
        (self.first + at, u32::try_from(row - start).unwrap_or(u32::MAX))
    }
}

/// A file that has left.
#[derive(Debug)]
struct Moved {
    path: String,
    survivors: Ranks,
    run: usize,
    /// Rows of its run before its own.
    before: u64,
}

impl Rewritten {
    fn of(rewrite: &Rewrite, batch_files: usize, written: Vec<Vec<Arc<DataFile>>>) -> Self {
        let mut rewritten = Self {
            files: Vec::new(),
            runs: Vec::new(),
            rows: vec![(0, 0); batch_files],
            moved: Vec::new(),
        };
        for (run, (sequence, files)) in rewrite.sequences.iter().zip(written).enumerate() {
            let mut before = 0;
            for Input { file, survivors } in &sequence.inputs {
                let rows = survivors.len();
                let (path, survivors) = (file.path.clone(), Ranks::of(survivors, file.rows));
                rewritten.moved.push(Moved { path, survivors, run, before });
                before += rows;
            }
            if let Some(index) = sequence.rows {
                rewritten.rows[index] = (run, before);
            }
            let starts = files.iter().scan(0, |next, file| {
                *next += file.rows;
                Some(*next - file.rows)
            });
            let starts = starts.collect();
            rewritten.runs.push(Run { first: rewritten.files.len(), starts });
            rewritten.files.extend(files);
        }
        rewritten
    }

    /// Rows that were there before and have been written again.
    pub(super) fn copied(&self) -> u64 {
        self.moved.iter().map(|moved| moved.survivors.len()).sum()
    }

    /// The files that have left, by path.
    pub(super) fn moved_paths(&self) -> Vec<&str> {
        self.moved.iter().map(|moved| moved.path.as_str()).collect()
    }

    /// Where a row is that was in the file that is `which` among [`Self::moved_paths`].
    pub(super) fn moved_to(&self, which: usize, position: u32) -> Option<NewPlace> {
        let moved = &self.moved[which];
        let rank = moved.survivors.rank(position)?;
        Some(self.runs[moved.run].place(moved.before + rank))
    }

    /// Where a row of the batch is.
    pub(super) fn landed(&self, file: usize, position: u32) -> NewPlace {
        let (run, before) = self.rows[file];
        self.runs[run].place(before + u64::from(position))
    }
}

/// Which rows of a file survive, and how many before each: 12 bytes for 64 rows.
#[derive(Debug)]
struct Ranks {
    words: Vec<u64>,
    before: Vec<u32>,
    count: u64,
}

impl Ranks {
    fn of(survivors: &RoaringBitmap, rows: u64) -> Self {
        let mut words = vec![0u64; usize::try_from(rows.div_ceil(64)).unwrap_or(0)];
        for position in survivors {
            words[position as usize / 64] |= 1 << (position % 64);
        }
        let mut count = 0;
        let before = words.iter().map(|word| {
            let before = count;
            count += word.count_ones();
            before
        });
        Self { before: before.collect(), words, count: survivors.len() }
    }

    fn len(&self) -> u64 {
        self.count
    }

    /// How many survive before this one; `None` if it does not.
    fn rank(&self, position: u32) -> Option<u64> {
        let (word, bit) = (position as usize / 64, 1u64 << (position % 64));
        let bits = *self.words.get(word).filter(|bits| **bits & bit != 0)?;
        Some(u64::from(self.before[word]) + u64::from((bits & (bit - 1)).count_ones()))
    }
}

#[cfg(test)]
mod tests;
