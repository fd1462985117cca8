//! What becomes of tables whose stored offset the log does not continue.

use super::world::{Setting, World, change, metric};
use super::{SILVER, TOPIC, tp};
use crate::pipeline::RunEnd;
use crate::source::{GapDecision, GapKind};

const RECORD: &str = "    on_gap: record\n";

/// A world whose table stands at offset 3.
async fn standing(folder: &tempfile::TempDir, setting: &Setting) -> World {
    let world = World::start(folder, setting);
    world.assign(1, &[tp(0)]).await;
    world.read((0..3).map(|n| change(&tp(0), n, n, 1)).collect());
    world.stands_at(SILVER, &tp(0), 3).await;
    world
}

#[tokio::test(flavor = "multi_thread")]
async fn records_that_retention_took_halt_the_table() {
    let folder = tempfile::tempdir().expect("folder");
    let world = standing(&folder, &Setting::default()).await;
    // Read already and open: commits first, and reaches into what the log still holds.
    world.read((3..5).map(|n| change(&tp(0), n, n, 1)).collect());
    let kept = world.gap(&tp(0), GapKind::BehindRetention, [3, 5, 9]).await;
    assert_eq!(kept, GapDecision::GoOn, "what is in memory closes the gap");

    let decision = world.gap(&tp(0), GapKind::BehindRetention, [5, 7, 9]).await;
    assert_eq!(decision, GapDecision::Stop);
    let RunEnd::Halted(halted) = world.ended().await else { panic!("not halted") };
    let reason = &halted[0].1;
    assert!(
        reason.starts_with(
            "shop.public.orders-0: the table stands at offset 5, the log holds [7, 9): records \
             were deleted by retention"
        ) && reason.contains("`on_gap: record`"),
        "{reason}"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_gap_is_passed_and_counted_where_the_policy_says_so() {
    let folder = tempfile::tempdir().expect("folder");
    let world = standing(&folder, &Setting { entry: RECORD, ..Setting::default() }).await;
    let decision = world.gap(&tp(0), GapKind::BehindRetention, [3, 7, 9]).await;
    assert_eq!(decision, GapDecision::GoOn);
    world.read((7..9).map(|n| change(&tp(0), n, n, 1)).collect());
    world.stands_at(SILVER, &tp(0), 9).await;

    assert_eq!(world.head(SILVER).await.expect("table").live_rows(), 5);
    let labels = format!("{{table=\"{SILVER}\",topic=\"{TOPIC}\"}}");
    let series = |name: &str| metric(&world.telemetry, &format!("lakebed_{name}_total{labels}"));
    assert_eq!((series("offset_gaps"), series("offset_gap_records")), (Some(1.0), Some(4.0)));
    assert_eq!(world.stop().await, RunEnd::Done);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_topic_made_anew_halts_the_table_whatever_the_policy() {
    for (kind, log) in [(GapKind::BeyondEnd, [3, 0, 2]), (GapKind::FingerprintDiffers, [3, 0, 9])] {
        let folder = tempfile::tempdir().expect("folder");
        let world = standing(&folder, &Setting { entry: RECORD, ..Setting::default() }).await;
        // Its offsets below 3 are other records than those that the table holds: passing them over
        // as known would lose them.
        assert_eq!(world.gap(&tp(0), kind, log).await, GapDecision::Stop, "{kind:?}");
        let RunEnd::Halted(halted) = world.ended().await else { panic!("not halted") };
        assert!(halted[0].1.contains("made anew"), "{halted:?}");
        assert!(halted[0].1.contains("another `name`"), "{halted:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_halted_table_does_not_keep_a_bounded_run_from_ending() {
    let folder = tempfile::tempdir().expect("folder");
    let until_caught_up = true;
    let entry = "  - topic: shop.public.other\n";
    let other = lakebed_schemas::position::TopicPartition::new("shop.public.other", 0);
    let world = World::start(&folder, &Setting { entry, until_caught_up, ..Setting::default() });
    world.assign(1, &[tp(0), other.clone()]).await;
    world.read((0..3).map(|n| change(&tp(0), n, n, 1)).collect());
    world.stands_at(SILVER, &tp(0), 3).await;
    let decision = world.gap(&tp(0), GapKind::BehindRetention, [3, 7, 9]).await;
    assert_eq!(decision, GapDecision::Stop);

    // The partition of the halted table is never read to its end.
    world.read((0..2).map(|n| change(&other, n, n, 1)).collect());
    world.end(&other, 2, 1);
    let config = world.config.clone();
    let RunEnd::Halted(halted) = world.ended().await else { panic!("not halted") };
    assert_eq!(halted.len(), 1);
    let head = super::head(&config, "silver.public_other").await.expect("table");
    assert_eq!(head.checkpoint.next(&other).map(|next| next.offset), Some(2));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_table_that_cannot_be_opened_halts_and_the_others_go_on() {
    let folder = tempfile::tempdir().expect("folder");
    let broken = folder.path().join("lake/silver/public_other/metadata");
    std::fs::create_dir_all(&broken).expect("folder");
    std::fs::write(broken.join("v1.metadata.json"), "{").expect("file");
    std::fs::write(broken.join("version-hint.text"), "1").expect("file");
    let entry = "  - topic: shop.public.other\n";
    let world = World::start(&folder, &Setting { entry, ..Setting::default() });
    let other = lakebed_schemas::position::TopicPartition::new("shop.public.other", 0);

    let starts = world.assign(1, &[tp(0), other]).await;

    assert_eq!(starts.keys().collect::<Vec<_>>(), [&tp(0)]);
    assert_eq!(starts[&tp(0)].at, None);
    world.read(vec![change(&tp(0), 0, 1, 1)]);
    world.stands_at(SILVER, &tp(0), 1).await;
    let halted = "lakebed_table_state{table=\"silver.public_other\",state=\"halted\"}";
    world.until_metric(halted, |value| value == 1.0).await;
    assert!(matches!(world.stop().await, RunEnd::Halted(tables) if tables.len() == 1));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_table_whose_store_does_not_answer_keeps_no_other_waiting() {
    let folder = tempfile::tempdir().expect("folder");
    let silent = folder.path().join("lake/silver/public_other/metadata");
    std::fs::create_dir_all(&silent).expect("folder");
    // Reading a pipe waits until somebody writes to it.
    let pipe = silent.join("version-hint.text");
    let made = std::process::Command::new("mkfifo").arg(&pipe).status().expect("mkfifo");
    assert!(made.success());
    let entry = "  - topic: shop.public.other\n";
    let world = World::start(&folder, &Setting { entry, ..Setting::default() });
    let other = lakebed_schemas::position::TopicPartition::new("shop.public.other", 0);

    let starts = world.try_assign(1, &[tp(0), other.clone()]).await;

    assert!(starts[&tp(0)].is_ok());
    assert_eq!(starts[&other], Err("table `silver.public_other` is busy".to_owned()));
    world.read(vec![change(&tp(0), 0, 1, 1)]);
    world.stands_at(SILVER, &tp(0), 1).await;
    std::fs::write(&pipe, "").expect("somebody reads it");
    std::fs::remove_file(&pipe).expect("there");
    // What was asked before is answered before: the newer generation is the one that counts.
    let starts = world.assign(2, std::slice::from_ref(&other)).await;
    assert_eq!(starts[&other].at, None);
    world.read(vec![change(&other, 0, 1, 1), change(&other, 0, 1, 2)]);
    world.stands_at("silver.public_other", &other, 1).await;
    assert_eq!(world.stop().await, RunEnd::Done);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_table_begun_later_does_not_hide_that_the_topic_was_made_anew() {
    let folder = tempfile::tempdir().expect("folder");
    let world = standing(&folder, &Setting::default()).await;
    world.stands_at(super::BRONZE, &tp(0), 3).await;
    assert_eq!(world.stop().await, RunEnd::Done);

    let entry = "  - topic: shop.public.orders\n    name: twin\n    format: delta\n";
    let world = World::start(&folder, &Setting { entry, ..Setting::default() });
    let start = world.assign(1, &[tp(0)]).await[&tp(0)].clone();
    assert_eq!(start.at, None, "the new one begins at the beginning");
    let stored: Vec<i64> = start.stored.iter().map(|next| next.offset).collect();
    assert_eq!(stored, [3], "and the log is compared with what the old one holds");

    let decision = world.gap(&tp(0), GapKind::BeyondEnd, [3, 0, 2]).await;
    assert_eq!(decision, GapDecision::GoOn, "the new one is not concerned");
    world.read((0..2).map(|n| change(&tp(0), n, n, 1)).collect());
    world
        .until_metric("lakebed_commits_total{table=\"silver.twin\",result=\"ok\"}", |n| n == 1.0)
        .await;
    let RunEnd::Halted(halted) = world.stop().await else { panic!("not halted") };
    assert_eq!(halted.iter().map(|(table, _)| table.as_str()).collect::<Vec<_>>(), [SILVER]);
}
