//! Tables of a whole lake, held against what Athena takes.

use crate::Format;
use crate::catalog::Entry;
use crate::profile::inspect;
use crate::storage::Storage;

/// Looks at every table `<database>/<name>` of a lake without a catalog, opening at most `files_max`
/// files of each, and answers how many tables there are.
///
/// # Panics
/// When one cannot be read, or breaks a rule.
pub async fn athena_takes_every_table(lake: &Storage, files_max: usize) -> usize {
    let mut count = 0;
    for database in lake.folders().await.expect("lists") {
        for name in lake.child(&database).folders().await.expect("lists") {
            let storage = lake.child(&format!("{database}/{name}"));
            let Some(format) = Format::at(&storage).await.expect("one table at most") else {
                continue;
            };
            let report = inspect(&storage, format, &Entry::Filesystem, files_max).await;
            let report = report.expect("the table can be read");
            assert_eq!(report.broken, [], "Athena takes `{}`", storage.location());
            count += 1;
        }
    }
    count
}
