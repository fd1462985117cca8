//! Where rows are after their files have been written anew.

use std::collections::HashMap;
use std::sync::Arc;

use roaring::RoaringBitmap;

use super::{Input, Rewrite};
use crate::log::DataFile;

/// Where a row is now: which of the new files, and which row of it.
pub(in crate::table) type NewPlace = (usize, u32);

/// What was written, and where each row went.
#[derive(Debug)]
pub(in crate::table) struct Rewritten {
    pub(in crate::table) files: Vec<Arc<DataFile>>,
    runs: Vec<Run>,
    /// For each of the batch's files, its run and how many rows come before it there.
    rows: Vec<(usize, u64)>,
    moved: Vec<Moved>,
    copied: u64,
}

/// New files that follow each other.
#[derive(Debug)]
pub(super) struct Run {
    pub(super) first: usize,
    /// Rows before each file.
    pub(super) starts: Vec<u64>,
}

impl Run {
    pub(super) fn place(&self, row: u64) -> NewPlace {
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
    rows: Rows,
}

/// Where the rows of a file are.
#[derive(Debug)]
enum Rows {
    /// The survivors follow each other in one run, behind so many rows of others.
    Together { survivors: Ranks, run: usize, before: u64 },
    /// In several runs: for each row its run, and which row it is there.
    Apart(Vec<Option<(usize, u64)>>),
}

impl Rows {
    /// `parts`: the file's rows by where they go, with the run and the rows before them there.
    fn of(parts: &[(&Input, usize, u64)]) -> Self {
        if let [(input, run, before)] = parts {
            let survivors = Ranks::of(&input.survivors, input.file.rows);
            return Self::Together { survivors, run: *run, before: *before };
        }
        let rows = parts.first().map_or(0, |(input, ..)| input.file.rows);
        let mut places = vec![None; usize::try_from(rows).unwrap_or(0)];
        for (input, run, before) in parts {
            for (rank, position) in (0..).zip(&input.survivors) {
                places[position as usize] = Some((*run, before + rank));
            }
        }
        Self::Apart(places)
    }

    /// The run of a row, and which row it is there; `None` if it has not survived.
    fn find(&self, position: u32) -> Option<(usize, u64)> {
        match self {
            Self::Together { survivors, run, before } => {
                Some((*run, before + survivors.rank(position)?))
            }
            Self::Apart(places) => *places.get(position as usize)?,
        }
    }
}

impl Rewritten {
    pub(super) fn of(
        rewrite: &Rewrite,
        batch_files: usize,
        written: Vec<Vec<Arc<DataFile>>>,
    ) -> Self {
        let mut rewritten = Self {
            files: Vec::new(),
            runs: Vec::new(),
            rows: vec![(0, 0); batch_files],
            moved: Vec::new(),
            copied: 0,
        };
        let mut parts: HashMap<&str, Vec<(&Input, usize, u64)>> = HashMap::new();
        for (run, (sequence, files)) in rewrite.sequences.iter().zip(written).enumerate() {
            let mut before = 0;
            for input in &sequence.inputs {
                parts.entry(&input.file.path).or_default().push((input, run, before));
                before += input.survivors.len();
            }
            rewritten.copied += before;
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
        // Those without a survivor leave as well.
        let moved = rewrite.dead.keys().map(|path| {
            let parts = parts.get(path.as_str()).map(Vec::as_slice).unwrap_or_default();
            Moved { path: path.clone(), rows: Rows::of(parts) }
        });
        rewritten.moved = moved.collect();
        rewritten
    }

    /// Rows that were there before and have been written again.
    pub(in crate::table) fn copied(&self) -> u64 {
        self.copied
    }

    /// The files that have left, by path.
    pub(in crate::table) fn moved_paths(&self) -> Vec<&str> {
        self.moved.iter().map(|moved| moved.path.as_str()).collect()
    }

    /// Where a row is that was in the file that is `which` among [`Self::moved_paths`].
    pub(in crate::table) fn moved_to(&self, which: usize, position: u32) -> Option<NewPlace> {
        let (run, row) = self.moved[which].rows.find(position)?;
        Some(self.runs[run].place(row))
    }

    /// Where a row of the batch is.
    pub(in crate::table) fn landed(&self, file: usize, position: u32) -> NewPlace {
        let (run, before) = self.rows[file];
        self.runs[run].place(before + u64::from(position))
    }
}

/// Which rows of a file survive, and how many before each: 12 bytes for 64 rows.
#[derive(Debug)]
pub(super) struct Ranks {
    words: Vec<u64>,
    before: Vec<u32>,
}

impl Ranks {
    pub(super) fn of(survivors: &RoaringBitmap, rows: u64) -> Self {
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
        Self { before: before.collect(), words }
    }

    /// How many survive before this one; `None` if it does not.
    pub(super) fn rank(&self, position: u32) -> Option<u64> {
        let (word, bit) = (position as usize / 64, 1u64 << (position % 64));
        let bits = *self.words.get(word).filter(|bits| **bits & bit != 0)?;
        Some(u64::from(self.before[word]) + u64::from((bits & (bit - 1)).count_ones()))
    }
}
