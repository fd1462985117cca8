//! Tables that stay alive: metadata bounded, history kept as long as promised.

use std::time::Duration;

use super::LogFactory;
use super::fixture::{Fixture, batch, commit, expected, silver_schema};
use crate::log::Retention;

/// Commits that one run makes; `LAKEBED_TEST_COMMITS` asks for another number.
fn commits() -> i64 {
    std::env::var("LAKEBED_TEST_COMMITS").ok().and_then(|n| n.parse().ok()).unwrap_or(2_000)
}

/// After thousands of commits one more costs no more metadata than after hundreds.
///
/// Every twentieth commit has rows, so that the table itself stays small; what grows is history.
pub async fn metadata_for_each_commit_stays_flat(factory: &dyn LogFactory) {
    let mut table = Fixture::new(factory);
    table.table.retention = Retention { versions_min: 100, age_min: Duration::ZERO };
    let mut silver = table.silver_on(table.create(&silver_schema()).await).await;
    let total = commits();
    let window = total / 5;
    let mut written = Vec::new();
    table.storage.counters().take();
    for n in 0..total {
        let rows = [(n % 10, Some("alive"))];
        let mut next = batch(n, if n % 20 == 0 { &rows } else { &[] });
        next.delta = super::fixture::delta(0, n, n + 1);
        commit(&mut silver, next).await;
        if n % 25 == 24 {
            silver.maintain().await.expect("cleaned up");
        }
        if (n + 1) % window == 0 {
            let counts = table.storage.counters().take();
            let each = (counts.bytes_written / window as u64, counts.bytes_read / window as u64);
            let stored = table.storage.list("").await.expect("listed").len();
            written.push((each, stored));
        }
    }
    eprintln!(
        "bytes (written, read) a commit and objects stored, by {window} commits: {written:?}"
    );

    let ((early, early_read), early_objects) = written[1];
    let ((late, late_read), late_objects) = written[written.len() - 1];
    let flat = |late: u64, early: u64| late <= early + early / 4 + 2_000;
    assert!(flat(late, early), "{early} bytes written a commit became {late}");
    assert!(flat(late_read, early_read), "{early_read} bytes read a commit became {late_read}");
    assert!(
        late_objects <= early_objects + early_objects / 2 + total as usize / 10,
        "{early_objects} objects became {late_objects}"
    );
    let names = table.names().await;
    assert_eq!(names.len(), 1, "the tenth, twentieth, … commit all upsert id 0: {names:?}");
}

/// Cleanup deletes nothing that the newest version or a kept one needs.
pub async fn cleanup_keeps_what_readers_need(factory: &dyn LogFactory) {
    let mut table = Fixture::new(factory);
    table.table.retention = Retention { versions_min: 2, age_min: Duration::ZERO };
    let mut silver = table.silver_on(table.create(&silver_schema()).await).await;
    commit(&mut silver, batch(0, &[(1, Some("one")), (2, Some("two"))])).await;
    for n in 0..30 {
        commit(&mut silver, batch(2 + n, &[(2, Some("again"))])).await;
        silver.maintain().await.expect("cleaned up");
        if n % 10 == 0 {
            assert_eq!(table.names().await, expected(&[(1, "one"), (2, "again")]));
        }
    }
    commit(&mut table.silver().await, batch(32, &[(1, None)])).await;
    assert_eq!(table.names().await, expected(&[(2, "again")]));
}
