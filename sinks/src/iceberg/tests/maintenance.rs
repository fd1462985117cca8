//! What stays of a table's metadata, and what is removed.

use std::collections::BTreeSet;
use std::time::Duration;

use super::*;
use crate::conformance::fixture::{names, tp};
use crate::iceberg::progress;
use crate::log::Retention;

#[tokio::test]
async fn many_partitions_of_a_topic_move_the_checkpoint_out_of_the_summary() {
    let mut table = Fixture::new(&Factory);
    table.table.retention = Retention { versions_min: 2, age_min: Duration::ZERO };
    let mut log = log(&table).await;
    for round in 0..6 {
        let mut wide = delta(0, round, round + 1);
        for partition in 1..300 {
            wide.ranges.extend(delta(partition, round, round + 1).ranges);
        }
        committed(log.commit(&change(vec![], wide)).await);
        log.maintain().await.expect("cleans");
    }

    let state = loaded(&table).await;
    let last = tp(299);
    assert_eq!(state.head.checkpoint.next(&last).map(|next| next.offset), Some(6));
    let metadata = table.storage.list("metadata").await.expect("lists");
    let checkpoints = metadata.iter().filter(|e| progress::is_side_object(&e.path)).count();
    assert!((2..=4).contains(&checkpoints), "{metadata:?}");
    let size = metadata.iter().find(|e| e.path == state.located.path).expect("listed").size;
    assert!(size < 20_000, "metadata of {size} bytes");
}

#[tokio::test]
async fn maintenance_leaves_what_is_needed_and_nothing_else() {
    let mut table = Fixture::new(&Factory);
    table.table.retention = Retention { versions_min: 3, age_min: Duration::ZERO };
    let mut silver = table.silver_on(Box::new(log(&table).await)).await;
    for n in 0..30 {
        commit(&mut silver, batch(n, &[(n % 4, Some("a"))])).await;
    }
    let orphan = staged(&table, &silver_schema(), 0, 99, "orphan").await;
    table.storage.put("metadata/aaaa-m0.avro", "orphan").await.expect("puts");
    table.storage.put("metadata/foreign.stats", "not ours").await.expect("puts");
    table.storage.put("_lakebed/schemas/x.json", "not ours").await.expect("puts");
    // Objects as old as the version that is kept are left alone, so time has to pass.
    tokio::time::sleep(Duration::from_millis(20)).await;
    commit(&mut silver, batch(30, &[(0, Some("b"))])).await;
    commit(&mut silver, batch(31, &[(0, Some("c"))])).await;
    commit(&mut silver, batch(32, &[(0, Some("d"))])).await;

    let report = silver.maintain().await.expect("cleans");

    assert!(report.deleted > 40, "{report:?}");
    let state = loaded(&table).await;
    let data: Vec<String> =
        table.storage.list("data").await.expect("lists").into_iter().map(|e| e.path).collect();
    assert!(!data.contains(&orphan.path));
    assert_eq!(data.len(), state.head.files.len() + state.deletes.len());
    let left = table.storage.list("metadata").await.expect("lists");
    let ends = |end: &str| left.iter().filter(|entry| entry.path.ends_with(end)).count();
    assert_eq!(ends(".metadata.json"), 3);
    let named = named_by_kept_versions(&table, state.located.version).await;
    let stray = left.iter().filter(|e| e.path.ends_with(".avro") && !named.contains(&e.path));
    assert_eq!(stray.collect::<Vec<_>>(), Vec::<&crate::storage::Entry>::new());
    assert_eq!(ends(".stats"), 1);
    assert_eq!(table.storage.list("_lakebed").await.expect("lists").len(), 1);
    assert_eq!(silver.maintain().await.expect("cleans").deleted, 0);
    for version in state.located.version - 2..=state.located.version {
        let kept = IcebergLog::open_at(table.storage.clone(), table.table.clone(), version).await;
        let names = names(&table.storage, kept.expect("kept").head()).await;
        assert_eq!(names.len(), 4, "version {version} reads whole");
    }
}

/// Manifest lists and manifests that the last three versions name.
async fn named_by_kept_versions(table: &Fixture<'_>, newest: i64) -> BTreeSet<String> {
    let mut named = BTreeSet::new();
    for version in newest - 2..=newest {
        let located = Filesystem.locate(version);
        let state = state::load(&table.storage, &Pointer::Filesystem, located, "lakebed", None)
            .await
            .expect("loads");
        let reader = state::Reader::new(&table.storage, state.metadata.location());
        let lists = state.metadata.snapshots().map(|snapshot| snapshot.manifest_list());
        let manifests = state.manifests.iter().map(|manifest| manifest.manifest_path.as_str());
        named.extend(lists.chain(manifests).map(|uri| reader.relative(uri).expect("inside")));
    }
    named
}
