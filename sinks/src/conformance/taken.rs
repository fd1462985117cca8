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
    for database in folders(lake).await {
        for name in folders(&lake.child(&database)).await {
            let storage = lake.child(&format!("{database}/{name}"));
            let inside = folders(&storage).await;
            let has = |log: &str| inside.iter().any(|folder| folder == log);
            let format = match (has("metadata"), has("_delta_log")) {
                (true, false) => Format::Iceberg,
                (false, true) => Format::Delta,
                (false, false) => continue,
                (true, true) => panic!("`{}` holds two tables", storage.location()),
            };
            let report = inspect(&storage, format, &Entry::Filesystem, files_max).await;
            let report = report.expect("the table can be read");
            assert_eq!(report.broken, [], "Athena takes `{}`", storage.location());
            count += 1;
        }
    }
    count
}

async fn folders(storage: &Storage) -> Vec<String> {
    let listed = storage.object_store().list_with_delimiter(None).await.expect("lists");
    let name = |path: &object_store::path::Path| path.filename().map(str::to_owned);
    listed.common_prefixes.iter().filter_map(name).collect()
}
