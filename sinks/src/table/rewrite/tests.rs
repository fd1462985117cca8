//! Where copied rows are, and which files go together.

use super::moved::{Ranks, Run};
use super::*;

fn input(rows: u64, size: u64) -> Input {
    let file = DataFile {
        path: format!("data/{size}"),
        size,
        rows,
        topic_partition: TopicPartition::new("t", 0),
        partition: Vec::new(),
        stats: Vec::new(),
        split_offsets: Vec::new(),
    };
    Input::of(&LiveFile { file: Arc::new(file), deleted: RoaringBitmap::new() }, None)
}

#[test]
fn survivors_keep_their_order_across_the_files_that_they_go_to() {
    let survivors: RoaringBitmap = (0..1000).filter(|n| n % 3 != 0).collect();
    let ranks = Ranks::of(&survivors, 1000);
    let run = Run { first: 2, starts: vec![0, 300, 301] };
    for position in 0..1000u32 {
        let expected = survivors.contains(position).then(|| survivors.rank(position) - 1);
        assert_eq!(ranks.rank(position), expected, "{position}");
        let place = expected.map(|rank| run.place(rank));
        let of_run = expected.map(|rank| match rank {
            0..300 => (2, rank as u32),
            300 => (3, 0),
            _ => (4, rank as u32 - 301),
        });
        assert_eq!(place, of_run, "{position}");
    }
    assert_eq!(ranks.rank(5000), None, "beyond the file");
}

#[test]
fn small_files_wait_until_there_are_enough_of_them() {
    let few: Vec<Input> = (0..6).map(|n| input(10, 5000 + n)).collect();
    let (folded, left) = fold(5000, few.clone());
    assert_eq!((folded.len(), left.len()), (0, 6));

    let enough = few.iter().cloned().chain([input(10, 6000), input(10, 40_000)]).collect();
    let (folded, left) = fold(5000, enough);
    assert_eq!((folded.len(), left.len()), (7, 1), "the larger one is of another tier");

    // What they come to may fill the next tier.
    let large = (0..7).map(|n| input(100, 40_000 + n));
    let both = few.into_iter().chain([input(10, 6000)]).chain(large).collect();
    let (folded, left) = fold(5000, both);
    assert_eq!((folded.len(), left.len()), (14, 0));
}
