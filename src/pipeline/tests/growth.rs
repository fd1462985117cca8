//! A topic that is given more partitions while it is read: keys go elsewhere, and the table ends as
//! the source does.

mod cluster;

use std::time::{Duration, Instant};

use super::world::{Setting, Told, World, change};
use super::{BRONZE, SILVER, tp};
use crate::pipeline::RunEnd;
use cluster::{Cluster, Dice};

/// How long producers go on with the old number of partitions here, at most.
const AGE: Duration = Duration::from_millis(150);

fn setting(entry: &'static str) -> Setting {
    // With room for a machine that is busy.
    Setting { entry, producer_metadata_age: AGE * 4, ..Setting::default() }
}

/// Both formats, and both ways for rows to go from files that another member may have written.
const TABLES: [&str; 4] = [
    "    format: iceberg\n",
    "    format: delta\n",
    "    format: iceberg\n    mode: copy-on-write\n    batch: { max_age: 100ms }\n",
    "    format: delta\n    mode: copy-on-write\n    batch: { max_age: 100ms }\n",
];

/// Two members, of which any may die or take over partitions, while the number of partitions rises
/// and old ones lag behind.
async fn rise_in_mid_stream(dice: &mut Dice, entry: &'static str, obeys: bool) -> Cluster {
    let mut cluster = Cluster::start(setting(entry), 2, obeys);
    cluster.produce(dice, 200);
    cluster.read_some(dice, 0..4).await;
    cluster.committed_something().await;
    cluster.raise(4);
    let raised = Instant::now();
    while raised.elapsed() < AGE {
        cluster.produce(dice, 15);
        cluster.look_again().await;
        // What was added is read at once, if it may be; the old ones lag behind.
        cluster.read_some(dice, 2..4).await;
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    cluster.all_producers_know();
    for _ in 0..12 {
        cluster.produce(dice, 4);
        match dice.below(6) {
            0 => cluster.kill(dice).await,
            1 | 2 => cluster.move_one(dice).await,
            _ => {}
        }
        cluster.look_again().await;
        cluster.read_some(dice, 0..4).await;
    }
    cluster.read_all().await;
    cluster
}

#[tokio::test(flavor = "multi_thread")]
async fn silver_equals_the_source_after_a_rise_under_restarts_and_takeovers() {
    for (seed, entry) in Dice::seeds(4).zip(TABLES) {
        let cluster = rise_in_mid_stream(&mut Dice::new(seed), entry, true).await;
        assert!(cluster.has_moved_keys(), "seed {seed}");
        assert_eq!(cluster.silver().await, cluster.source(), "seed {seed}");
        cluster.stop().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn without_the_wait_silver_would_not_equal_the_source() {
    let cluster = rise_in_mid_stream(&mut Dice::new(7), TABLES[0], false).await;
    assert_ne!(cluster.silver().await, cluster.source());
    cluster.stop().await;
}

fn told(count: usize, ends: &[i64]) -> Told {
    let ends = (0..).zip(ends.iter().copied()).collect();
    Told { partitions: Some(count), ends, ..Told::default() }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_added_partition_goes_on_when_the_others_have_been_committed_by_whomever() {
    let folder = tempfile::tempdir().expect("folder");
    let setting = Setting { quiet_every: Duration::from_millis(100), ..Setting::default() };
    let ours = World::start_in(&folder, &setting, told(1, &[3]));
    ours.assign(1, &[tp(0)]).await;
    ours.read(vec![change(&tp(0), 0, 1, 1)]);
    ours.stands_at(SILVER, &tp(0), 1).await;
    ours.stands_at(BRONZE, &tp(0), 1).await;

    let theirs = World::start_in(&folder, &setting, told(2, &[3, 5]));
    assert!(theirs.assign(1, &[tp(1)]).await[&tp(1)].held);
    ours.read(vec![change(&tp(0), 1, 1, 1)]);
    ours.stands_at(SILVER, &tp(0), 2).await;
    assert!(theirs.assign(2, &[tp(1)]).await[&tp(1)].held);
    // What is left is a transaction marker.
    ours.end(&tp(0), 3, 1);
    ours.stands_at(SILVER, &tp(0), 3).await;
    assert_eq!(ours.stop().await, RunEnd::Done);
    let start = theirs.assign(3, &[tp(1)]).await.remove(&tp(1)).expect("an answer");
    assert_eq!((start.at, start.held), (None, false));
    assert_eq!(theirs.stop().await, RunEnd::Done);
}

#[tokio::test(flavor = "multi_thread")]
async fn markers_at_the_end_of_an_old_partition_hold_nothing_up() {
    let folder = tempfile::tempdir().expect("folder");
    let world = World::start_in(&folder, &Setting::default(), told(2, &[1, 2]));
    world.assign(1, &[tp(0), tp(1)]).await;
    world.read(vec![change(&tp(0), 0, 1, 1)]);
    world.stands_at(SILVER, &tp(0), 1).await;
    *world.told.lock().expect("lock") = told(3, &[1, 2, 0]);
    assert!(world.assign(2, &[tp(2)]).await[&tp(2)].held);
    // Nothing but an aborted transaction was ever in it: the table has no place there yet.
    world.end(&tp(1), 2, 1);
    let mut generation = 2;
    while world.assign(generation, &[tp(2)]).await[&tp(2)].held {
        generation += 1;
        assert!(generation < 50, "it is held for ever");
    }
    assert_eq!(world.stop().await, RunEnd::Done);
}
