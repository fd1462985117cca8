//! Where reading begins in topics of which the tables know nothing, or know too much.

use super::world::{Setting, Told, World, change};
use super::{BRONZE, SILVER, tp};
use crate::pipeline::RunEnd;

fn latest() -> Setting {
    Setting { entry: "    start: latest\n", ..Setting::default() }
}

fn told(ends: &[(i32, i64)]) -> Told {
    Told { ends: ends.iter().copied().collect(), ..Told::default() }
}

#[tokio::test(flavor = "multi_thread")]
async fn latest_is_chosen_once_and_a_restart_before_the_first_record_does_not_jump() {
    let folder = tempfile::tempdir().expect("folder");
    let world = World::start_in(&folder, &latest(), told(&[(0, 10), (1, 0)]));
    let starts = world.assign(1, &[tp(0)]).await;
    assert_eq!(starts[&tp(0)].at, Some(10));
    assert_eq!(world.stop().await, RunEnd::Done);

    // Ten records have come meanwhile; another member has the other partition now.
    let world = World::start_in(&folder, &latest(), told(&[(0, 20), (1, 7)]));
    let starts = world.assign(1, &[tp(0), tp(1)]).await;
    assert_eq!([0, 1].map(|p| starts[&tp(p)].at), [Some(10), Some(0)]);
    assert_eq!(world.told.lock().expect("lock").ends_asked, 0, "nothing is chosen again");

    // What another table of the topic asked for is not taken.
    world.read((5..15).map(|n| change(&tp(0), n, n, 1)).collect());
    world.stands_at(SILVER, &tp(0), 15).await;
    world.stands_at(BRONZE, &tp(0), 15).await;
    for table in [SILVER, BRONZE] {
        assert_eq!(world.head(table).await.expect("table").live_rows(), 5, "{table}");
    }
    // Of the other partition nothing came, and the commit says nothing of it: it stands where it
    // was begun.
    world.read((0..2).map(|n| change(&tp(1), n, 100 + n, 1)).collect());
    world.stands_at(SILVER, &tp(1), 2).await;
    assert_eq!(world.head(SILVER).await.expect("table").live_rows(), 7);
    assert_eq!(world.stop().await, RunEnd::Done);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_topic_that_turns_up_while_running_begins_at_the_beginning_and_stays_there() {
    let folder = tempfile::tempdir().expect("folder");
    let new = Told { new_topics: vec![super::TOPIC.to_owned()], ..told(&[(0, 10)]) };
    let world = World::start_in(&folder, &latest(), new);
    assert_eq!(world.assign(1, &[tp(0)]).await[&tp(0)].at, None);
    assert_eq!(world.stop().await, RunEnd::Done);

    let world = World::start_in(&folder, &latest(), told(&[(0, 10)]));
    assert_eq!(world.assign(1, &[tp(0)]).await[&tp(0)].at, None);
    assert_eq!(world.stop().await, RunEnd::Done);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_partition_that_is_added_later_begins_at_the_beginning() {
    let folder = tempfile::tempdir().expect("folder");
    let world = World::start_in(&folder, &latest(), told(&[(0, 10)]));
    world.assign(1, &[tp(0)]).await;
    let starts = world.assign(2, &[tp(1)]).await;
    assert_eq!(starts[&tp(1)].at, None);
    assert_eq!(world.stop().await, RunEnd::Done);

    // The same where the table was begun otherwise.
    let folder = tempfile::tempdir().expect("folder");
    let world = World::start(&folder, &Setting::default());
    world.assign(1, &[tp(0)]).await;
    world.read(vec![change(&tp(0), 0, 1, 1)]);
    world.stands_at(SILVER, &tp(0), 1).await;
    world.stands_at(BRONZE, &tp(0), 1).await;
    assert_eq!(world.stop().await, RunEnd::Done);
    let world = World::start_in(&folder, &latest(), told(&[(0, 10), (1, 10)]));
    let starts = world.assign(1, &[tp(0), tp(1)]).await;
    assert_eq!((starts[&tp(0)].at, starts[&tp(1)].at), (Some(1), None));
    assert_eq!(
        (starts[&tp(0)].held, starts[&tp(1)].held),
        (false, true),
        "until the other is read"
    );
    assert_eq!(world.stop().await, RunEnd::Done);
}

/// Commits a record, then takes the tables of these layers away. Gives what the group was told.
async fn lose(folder: &tempfile::TempDir, layers: &[&str]) -> Told {
    let world = World::start(folder, &Setting::default());
    world.assign(1, &[tp(0), tp(1)]).await;
    world.read(vec![change(&tp(0), 0, 1, 1)]);
    world.stands_at(SILVER, &tp(0), 1).await;
    let group = world
        .until(async || {
            let group = world.told.lock().expect("lock").group.clone();
            (!group.is_empty()).then_some(group)
        })
        .await;
    assert_eq!(world.stop().await, RunEnd::Done);
    for layer in layers {
        let place = folder.path().join("lake").join(layer).join("public_orders");
        std::fs::remove_dir_all(place).expect("there is a table");
    }
    Told { group, ..Told::default() }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_table_that_the_group_knows_of_and_is_gone_halts() {
    for (layers, named) in [(&["silver"][..], SILVER), (&["bronze"], BRONZE)] {
        let folder = tempfile::tempdir().expect("folder");
        let told = lose(&folder, layers).await;
        let world = World::start_in(&folder, &Setting::default(), told);
        assert!(world.assign(1, &[tp(0), tp(1)]).await.is_empty(), "nothing is read");
        let RunEnd::Halted(halted) = world.ended().await else { panic!("not halted") };
        let [(table, reason)] = halted.as_slice() else { panic!("{halted:?}") };
        assert_eq!(table, SILVER);
        let expected = format!("the consumer group says that table `{named}` (");
        assert!(reason.starts_with(&expected), "{reason}");
        assert!(reason.contains("holds shop.public.orders-0 up to offset 1,"), "{reason}");
        assert!(reason.contains("`on_lost_table: start`"), "{reason}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_lost_table_is_begun_anew_where_the_configuration_says_so() {
    let folder = tempfile::tempdir().expect("folder");
    let told = lose(&folder, &["silver", "bronze"]).await;
    let setting = Setting { entry: "    on_lost_table: start\n", ..Setting::default() };
    let world = World::start_in(&folder, &setting, told);
    assert_eq!(world.assign(1, &[tp(0)]).await[&tp(0)].at, None);
    assert_eq!(world.stop().await, RunEnd::Done);
}

#[tokio::test(flavor = "multi_thread")]
async fn offsets_of_the_group_that_name_no_table_of_ours_are_ignored() {
    for metadata in ["", "written by somebody", "lakebed/1 silver.other=0"] {
        let folder = tempfile::tempdir().expect("folder");
        let mut told = lose(&folder, &["silver", "bronze"]).await;
        told.group.values_mut().for_each(|told| told.metadata = metadata.into());
        let world = World::start_in(&folder, &Setting::default(), told);
        assert_eq!(world.assign(1, &[tp(0)]).await[&tp(0)].at, None, "{metadata}");
        assert_eq!(world.stop().await, RunEnd::Done);
    }
}
