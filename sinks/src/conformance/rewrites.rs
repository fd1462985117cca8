//! Files that leave whole: what copy-on-write rests on.

use roaring::RoaringBitmap;

use super::LogFactory;
use super::commits::{change, staged};
use super::fixture::{Fixture, delta, expected, silver_schema};
use crate::ErrorKind;
use crate::log::{CommitOutcome, TableChange, TableLog};

async fn commit(log: &mut Box<dyn TableLog>, change: &TableChange) -> i64 {
    match log.commit(change).await.expect("settled") {
        CommitOutcome::Committed { version } => version,
        other => panic!("nobody else has written: {other:?}"),
    }
}

/// A file takes its rows along, the dead ones too; the same for a process that follows and for one
/// that opens the table.
pub async fn files_that_leave_take_their_rows_along(factory: &dyn LogFactory) {
    let table = Fixture::new(factory);
    let schema = silver_schema();
    let mut log = table.create(&schema).await;
    let mut files = Vec::new();
    for id in 0..12 {
        let file = staged(&table, &schema, 0, id, &format!("row {id}")).await;
        commit(&mut log, &change(vec![file.clone()], delta(0, id, id + 1))).await;
        files.push(file);
    }
    let mut follower = table.open().await;
    let opened = table.storage.counters().take();

    let new = staged(&table, &schema, 0, 100, "hundred").await;
    let mut rewrite = change(vec![new.clone()], delta(0, 12, 13));
    rewrite.removed = files[..10].iter().map(|file| file.path.clone()).collect();
    commit(&mut log, &rewrite).await;
    let rows = expected(&[(10, "row 10"), (11, "row 11"), (100, "hundred")]);
    assert_eq!(table.names().await, rows);
    let paths = |log: &dyn TableLog| log.head().files.keys().cloned().collect::<Vec<_>>();
    table.storage.counters().take();
    assert!(follower.refresh().await.expect("follows"));
    let followed = table.storage.counters().take();
    assert!(followed.gets <= opened.gets, "{followed:?} to follow, {opened:?} to open");
    assert_eq!(paths(follower.as_ref()), paths(log.as_ref()));
    assert_eq!(paths(table.open().await.as_ref()), paths(log.as_ref()));

    // Again, by the one that followed: files of a manifest that was written anew.
    let mut last = change(Vec::new(), delta(0, 13, 14));
    last.removed = [files[10].path.clone(), new.path.clone()].into();
    commit(&mut follower, &last).await;
    assert_eq!(table.names().await, expected(&[(11, "row 11")]));
    log.refresh().await.expect("follows");
    assert_eq!(paths(log.as_ref()), [files[11].path.clone()]);
    let mut empty = change(Vec::new(), delta(0, 14, 15));
    empty.removed = [files[11].path.clone()].into();
    commit(&mut log, &empty).await;
    assert_eq!(table.names().await, expected(&[]));
    let again = staged(&table, &schema, 0, 1, "one").await;
    commit(&mut log, &change(vec![again], delta(0, 15, 16))).await;
    assert_eq!(table.names().await, expected(&[(1, "one")]));
    follower.refresh().await.expect("follows");
    assert_eq!(paths(follower.as_ref()), paths(log.as_ref()));
}

/// A file with dead rows leaves with them; what named them is then of no more use.
pub async fn dead_rows_leave_with_their_files(factory: &dyn LogFactory) {
    use super::fixture::{batch, commit as write};
    let table = Fixture::new(factory);
    let schema = silver_schema();
    let mut silver = table.silver_on(table.create(&schema).await).await;
    write(&mut silver, batch(0, &[(1, Some("one")), (2, Some("two")), (3, Some("three"))])).await;
    write(&mut silver, batch(3, &[(2, Some("dos"))])).await;
    write(&mut silver, batch(4, &[(1, Some("uno")), (4, Some("four"))])).await;

    let mut log = table.open().await;
    let wounded = |log: &dyn TableLog| {
        let live = log.head().files.values().filter(|live| !live.deleted.is_empty());
        live.map(|live| live.file.path.clone()).collect::<Vec<_>>()
    };
    let [first] = &wounded(log.as_ref())[..] else { panic!("the first file has lost rows") };
    let mut rewrite = change(vec![staged(&table, &schema, 0, 3, "tres").await], delta(0, 6, 7));
    rewrite.removed = [first.clone()].into();
    commit(&mut log, &rewrite).await;
    let rows = [(1, "uno"), (2, "dos"), (3, "tres"), (4, "four")];
    assert_eq!(table.names().await, expected(&rows));
    let mut reopened = table.open().await;
    assert_eq!(wounded(reopened.as_ref()), [""; 0]);

    // Rows die in the new file as in any other.
    write(&mut silver, batch(7, &[(3, Some("three again"))])).await;
    assert_eq!(table.names().await[&3], "three again");
    reopened.refresh().await.expect("follows");
    assert_eq!(reopened.head().live_rows(), 4);
}

/// What is not there cannot leave, and nothing leaves in part and whole at once.
pub async fn a_file_that_is_gone_cannot_leave_again(factory: &dyn LogFactory) {
    let table = Fixture::new(factory);
    let schema = silver_schema();
    let mut log = table.create(&schema).await;
    let mut late = table.open().await;
    let file = staged(&table, &schema, 0, 1, "one").await;
    commit(&mut log, &change(vec![file.clone()], delta(0, 0, 1))).await;
    late.refresh().await.expect("follows");

    let mut both = change(Vec::new(), delta(0, 1, 2));
    both.removed = [file.path.clone()].into();
    both.deleted.insert(file.path.clone(), RoaringBitmap::from([0]));
    assert_eq!(log.commit(&both).await.expect_err("both").kind(), ErrorKind::Invalid);
    both.deleted.clear();
    commit(&mut log, &both).await;
    let mut lost = change(Vec::new(), delta(1, 0, 1));
    lost.removed = both.removed.clone();
    assert_eq!(late.commit(&lost).await.expect("answered"), CommitOutcome::Conflict);
    late.refresh().await.expect("follows");
    let error = late.commit(&lost).await.expect_err("the file has gone");
    assert_eq!(error.kind(), ErrorKind::Invalid);
}
