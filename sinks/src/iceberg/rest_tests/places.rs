//! Catalogs that choose where tables lie.

use std::time::Duration;

use super::super::progress::is_side_object;
use super::{DATABASE, Factory, list_ids};
use crate::catalog::Entry;
use crate::catalog::rest::double::{Manners, Places, Staging};
use crate::conformance::commits::change;
use crate::conformance::fixture::{Fixture, batch, commit, delta, expected, silver_schema, tp};
use crate::conformance::in_catalog::{InCatalog, committed, name};
use crate::log::{Retention, TableLog, TableOptions};
use crate::{ErrorKind, Format};

mod conformance {
    use super::{Factory, Manners, Staging};

    /// As S3 Tables does it.
    fn factory() -> Factory {
        Factory::choosing(Manners { staging: Staging::Refused, ..Manners::default() })
    }

    crate::conformance_tests!(@each factory();
        commits: a_replayed_batch_is_written_once
        commits: a_lost_race_commits_the_same_files_again
        commits: a_commit_that_lands_late_is_not_applied_twice
        commits: a_zombie_is_refused_after_a_long_sleep_with_cleanup
        rows: a_table_opened_again_has_the_same_index
        rows: a_schema_changes_in_the_commit_of_its_data
        rows: placeholders_keep_what_the_row_had
        rows: every_type_reads_back_as_it_was_written
        upkeep: cleanup_keeps_what_readers_need
    );
}

#[tokio::test]
async fn a_catalog_that_chooses_other_places_is_refused_unless_that_is_wanted() {
    let elsewhere = tempfile::tempdir().expect("folder");
    for staging in [Staging::Known, Staging::Refused] {
        let place = format!("file://{}", elsewhere.path().display());
        let places = Places::Own(place.clone());
        let factory = Factory::with(Manners { staging, places, ..Manners::default() });
        let table = Fixture::new(&factory);

        let refused = factory.create(&table).await.expect_err("another place");

        assert_eq!(refused.kind(), ErrorKind::Invalid);
        assert!(refused.to_string().contains(&place), "{refused}");
        assert!(refused.to_string().contains("locations: catalog"), "{refused}");
    }
}

#[tokio::test]
async fn a_table_lies_where_its_catalog_says_whatever_the_catalog_can_do() {
    for staging in [Staging::Known, Staging::Refused, Staging::Forgotten] {
        let factory = Factory::choosing(Manners { staging, ..Manners::default() });
        let table = Fixture::new(&factory);
        let log = factory.create(&table).await.expect("made");
        let mut silver = table.silver_on(Box::new(log)).await;
        commit(&mut silver, batch(0, &[(1, Some("one")), (2, Some("two"))])).await;
        commit(&mut silver, batch(2, &[(1, Some("anew"))])).await;

        let metadata = factory.metadata(&table).await;
        assert_eq!(metadata["location"], table.storage.location(), "{staging:?}");
        let (element, column) = list_ids(&metadata);
        assert_eq!(element, 10_000 + 100 * column, "{staging:?}");
        assert_eq!(table.names().await, expected(&[(1, "anew"), (2, "two")]));
        let asked = factory.asked(&table.storage);
        assert_eq!(
            asked.list("").await.expect("listed"),
            [],
            "nothing lies where it was asked for"
        );
        let entry = factory.entry_of(&table.storage).await;
        let report = crate::profile::inspect(&asked, Format::Iceberg, &entry, usize::MAX).await;
        assert_eq!(report.expect("inspected").files, 3, "two of rows, one of deletes");
    }
}

#[tokio::test]
async fn an_older_version_is_found_where_the_table_lies() {
    let factory = Factory::choosing(Manners::default());
    let table = Fixture::new(&factory);
    let mut log = factory.create(&table).await.expect("made");
    for n in 0..3 {
        committed(log.commit(&change(vec![], delta(0, n, n + 1))).await);
    }
    let options = factory.placed_of(&table).await;
    let asked = factory.asked(&table.storage);
    let old = crate::open_at(Format::Iceberg, &asked, &options, 2).await.expect("opens");
    assert_eq!(old.head().version, 2);
    assert_eq!(old.storage().location(), table.storage.location());
}

#[tokio::test]
async fn files_of_a_catalog_that_keeps_them_are_neither_listed_nor_deleted() {
    for keeps_files in [false, true] {
        let factory = Factory::choosing(Manners { keeps_files, ..Manners::default() });
        let mut table = Fixture::new(&factory);
        table.table.retention = Retention { versions_min: 3, age_min: Duration::ZERO };
        let mut log = factory.create(&table).await.expect("made");
        for n in 0..8 {
            committed(log.commit(&change(vec![], delta(0, n, n + 1))).await);
        }
        log.storage().counters().take();

        let deleted = log.maintain().await.expect("maintained").deleted;

        let counts = log.storage().counters().take();
        assert_eq!(deleted == 0, keeps_files);
        assert_eq!((counts.lists == 0, counts.deletes == 0), (keeps_files, keeps_files));
        let kept = factory.metadata(&table).await["snapshots"].as_array().map(Vec::len);
        assert_eq!(kept, Some(3), "snapshots are taken out all the same");
    }
}

/// Whoever looks after the files knows nothing of one that only our properties name.
#[tokio::test]
async fn a_checkpoint_is_never_beside_the_metadata_of_a_catalog_that_keeps_files() {
    let factory = Factory::choosing(Manners { keeps_files: true, ..Manners::default() });
    let table = Fixture::new(&factory);
    let mut log = factory.create(&table).await.expect("made");
    let mut wide = delta(0, 0, 1);
    for partition in 1..300 {
        wide.ranges.extend(delta(partition, 0, 1).ranges);
    }
    committed(log.commit(&change(vec![], wide)).await);

    let listed = table.storage.list("metadata").await.expect("listed");
    assert!(!listed.iter().any(|entry| is_side_object(&entry.path)), "{listed:?}");
    let log = factory.open(&table).await.expect("opens").expect("a table");
    assert_eq!(log.head().checkpoint.next(&tp(299)).map(|next| next.offset), Some(1));
}

#[tokio::test]
async fn a_place_that_cannot_be_written_is_refused() {
    let factory = Factory::choosing(Manners::default());
    let table = Fixture::new(&factory);
    factory.double().await.choose(&name(&table.storage), "gs://bucket/lake/t");
    let entry = factory.catalog().await.table(DATABASE, &name(&table.storage));
    let options = TableOptions { catalog: Entry::Rest(entry), ..table.table.clone() };
    let asked = factory.asked(&table.storage);

    let refused = crate::create_or_open(Format::Iceberg, &asked, &options, &silver_schema()).await;

    let refused = refused.err().expect("no place of ours");
    assert_eq!(refused.kind(), ErrorKind::Invalid);
    assert!(refused.chain().contains("gs://bucket/lake/t"), "{}", refused.chain());
}

#[tokio::test]
async fn tables_are_listed_page_by_page() {
    let factory = Factory::choosing(Manners::default());
    let tables: Vec<Fixture<'_>> = (0..5).map(|_| Fixture::new(&factory)).collect();
    let mut names = Vec::new();
    for table in &tables {
        factory.create(table).await.expect("made");
        names.push(name(&table.storage));
    }
    names.sort();
    let catalog = factory.catalog().await;
    assert_eq!(catalog.tables(DATABASE).await.expect("listed"), names);
    assert_eq!(catalog.tables("elsewhere").await.expect("no such namespace"), [""; 0]);
}
