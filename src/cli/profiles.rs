//! Whether Athena and the readers of the configuration can query tables as they lie there.

use std::collections::BTreeSet;

use lakebed_schemas::config::{ResolvedConfig, TablePath};
use lakebed_sinks::profile::{self, Report};

use super::lake::{Lake, Place};
use super::{Failure, next_move, print, reader_rules};

/// Files of a table that are opened, at most: what one writer has made is all of one kind.
const FILES_MAX: usize = 1_000;

/// Looks at every table in the configuration's databases, and at where they lie.
pub(super) async fn all(config: &ResolvedConfig) -> Result<(), Failure> {
    let lake = Lake::open(config).await?;
    let mut looked = Looked::default();
    for path in lake.tables().await? {
        match lake.place(&path).await {
            Ok(Some(place)) => looked.at(config, place).await?,
            // A folder without a table, or without one yet.
            Ok(None) => {}
            Err(error) => looked.in_vain(path, &error)?,
        }
    }
    looked.neighbours()?;
    looked.verdict()
}

/// Looks at the tables of these names.
pub(super) async fn named(config: &ResolvedConfig, names: &[String]) -> Result<(), Failure> {
    let lake = Lake::open(config).await?;
    let mut looked = Looked::default();
    for name in names {
        let place = lake.find(name).await?;
        looked.at(config, place).await?;
    }
    looked.verdict()
}

/// What has been seen so far. One table's trouble does not keep the others from being looked at.
#[derive(Default)]
struct Looked {
    tables: Vec<TablePath>,
    /// Of each table.
    reports: Vec<Report>,
    broken: BTreeSet<TablePath>,
}

impl Looked {
    /// Says what is in the way of a table's readers.
    async fn at(&mut self, config: &ResolvedConfig, place: Place) -> Result<(), Failure> {
        let Place { path, storage, format, entry } = place;
        let report = match profile::inspect(&storage, format, &entry, FILES_MAX).await {
            Ok(report) => report,
            Err(error) => return self.in_vain(path, &error),
        };
        let (files, opened) = (report.files, report.opened);
        let name = format.name();
        let table = format!("table `{path}` ({name}, {opened} of {files} files opened)");
        let its = reader_rules::config_format(format);
        let of_readers = report.not_for(its, &reader_rules::without_dead_rows(config, &path, its));
        let broken: Vec<String> =
            report.broken.iter().map(ToString::to_string).chain(of_readers).collect();
        for broken in &broken {
            print(&format!("BROKEN   {table}: {broken}\n"))?;
        }
        if broken.is_empty() {
            print(&format!("ok       {table}\n"))?;
        } else {
            self.broken.insert(path.clone());
        }
        self.tables.push(path);
        self.reports.push(report);
        Ok(())
    }

    /// Says that a table could not be looked at.
    fn in_vain(&mut self, path: TablePath, error: &lakebed_sinks::Error) -> Result<(), Failure> {
        let (chain, next) = (error.chain(), next_move(error.kind()));
        print(&format!("BROKEN   table `{path}` cannot be looked at: {chain}; {next}\n"))?;
        self.broken.insert(path.clone());
        self.tables.push(path);
        self.reports.push(Report::default());
        Ok(())
    }

    /// Says which tables lie in each other's way.
    fn neighbours(&mut self) -> Result<(), Failure> {
        for (table, broken) in profile::shared_locations(&self.reports) {
            let path = &self.tables[table];
            print(&format!("BROKEN   table `{path}`: {broken}\n"))?;
            self.broken.insert(path.clone());
        }
        Ok(())
    }

    fn verdict(self) -> Result<(), Failure> {
        let count = self.tables.len();
        match self.broken.len() {
            0 => print(&format!("Athena can query {count} tables\n")),
            broken => Err(Failure::runtime(format!("{broken} of {count} tables break rules"))),
        }
    }
}
