//! The pipeline with real tables on disk and a source that does what the test says.

mod copy_on_write;
mod gaps;
mod growth;
mod hidden;
mod key_changes;
mod partitions;
mod registries;
mod repeats;
mod schema_changes;
mod snapshots;
mod starts;
mod telemetry;
mod truncates;
mod world;

use std::time::Duration;

use lakebed_schemas::position::TopicPartition;

use super::RunEnd;
use world::{Setting, TOPIC, World, change, head};

const SILVER: &str = "silver.public_orders";
const BRONZE: &str = "bronze.public_orders";

fn tp(partition: i32) -> TopicPartition {
    TopicPartition::new(TOPIC, partition)
}

#[tokio::test(flavor = "multi_thread")]
async fn progress_without_records_is_committed_by_itself_and_once() {
    let folder = tempfile::tempdir().expect("folder");
    let quiet_every = Duration::from_millis(300);
    let world = World::start(&folder, &Setting { quiet_every, ..Setting::default() });
    assert_eq!(world.assign(1, &[tp(0)]).await[&tp(0)].at, None, "at the beginning");
    world.read((0..3).map(|n| change(&tp(0), n, n, 1)).collect());
    world.stands_at(SILVER, &tp(0), 3).await;

    // Two transaction markers behind the last record.
    world.end(&tp(0), 5, 1);
    let silver = world.stands_at(SILVER, &tp(0), 5).await;
    let bronze = world.stands_at(BRONZE, &tp(0), 5).await;
    let group = async || {
        let told = world.told.lock().expect("lock");
        told.group.get(&tp(0)).filter(|told| told.offset == 5).map(|_| ())
    };
    world.until(group).await;

    // The same end again, and an older one, are no progress: nothing is committed for them.
    world.end(&tp(0), 5, 1);
    world.end(&tp(0), 4, 1);
    world.end(&tp(0), 9, 0);
    tokio::time::sleep(quiet_every * 4).await;
    let versions = [SILVER, BRONZE].map(|table| head(&world.config, table));
    let versions = futures::future::join_all(versions).await;
    let versions: Vec<i64> = versions.into_iter().flatten().map(|head| head.version).collect();
    assert_eq!(versions, [silver, bronze]);
    assert_eq!(world.told.lock().expect("lock").out, 0, "every byte was given back");
    assert_eq!(world.stop().await, RunEnd::Done);
}

#[tokio::test(flavor = "multi_thread")]
async fn progress_without_records_waits_for_its_time_but_not_beyond_a_stop() {
    let folder = tempfile::tempdir().expect("folder");
    let world = World::start(&folder, &Setting::default());
    world.assign(1, &[tp(0)]).await;
    world.read(vec![change(&tp(0), 0, 1, 1)]);
    world.stands_at(SILVER, &tp(0), 1).await;

    world.end(&tp(0), 7, 1);
    tokio::time::sleep(Duration::from_millis(500)).await;
    assert_eq!(
        world.head(SILVER).await.expect("table").checkpoint.next(&tp(0)).map(|n| n.offset),
        Some(1)
    );
    let config = world.config.clone();
    assert_eq!(world.stop().await, RunEnd::Done);

    for table in [SILVER, BRONZE] {
        let head = head(&config, table).await.expect("table");
        assert_eq!(head.checkpoint.next(&tp(0)).map(|next| next.offset), Some(7), "{table}");
    }
    let world = World::start(&folder, &Setting::default());
    let starts = world.assign(1, &[tp(0)]).await;
    assert_eq!(starts[&tp(0)].at, Some(7));
    assert_eq!(world.stop().await, RunEnd::Done);
}

#[tokio::test(flavor = "multi_thread")]
async fn after_a_restart_the_group_and_the_lag_are_told_from_the_tables_at_once() {
    let folder = tempfile::tempdir().expect("folder");
    let world = World::start(&folder, &Setting::default());
    world.assign(1, &[tp(0)]).await;
    world.read((0..3).map(|n| change(&tp(0), n, n, 1)).collect());
    world.stands_at(SILVER, &tp(0), 3).await;
    world.stands_at(BRONZE, &tp(0), 3).await;
    assert_eq!(world.stop().await, RunEnd::Done);

    // As after a kill between the table's commit and the group's: the group knows nothing.
    let world = World::start(&folder, &Setting::default());
    world.told.lock().expect("lock").stats.bounds = [(tp(0), (0, 3))].into();
    world.assign(1, &[tp(0)]).await;
    let lag = format!("lakebed_lag_records{{topic=\"{TOPIC}\",partition=\"0\"}}");
    world.until_metric(&lag, |value| value == 0.0).await;
    let told = world.told.lock().expect("lock").group[&tp(0)].clone();
    assert_eq!(told.offset, 3);
    assert!(told.metadata.starts_with("lakebed/1 silver.public_orders="), "{told:?}");
    assert_eq!(world.stop().await, RunEnd::Done);
}
