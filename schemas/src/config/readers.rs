//! Which engines take which rows that are marked dead, and how rows go from a table because of it.

use super::{Config, Mode, Problem, Reader, Table, TableFormat};

/// Whether an engine leaves out rows that a format marks as dead.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Takes {
    /// It does: seen here, or said by whoever makes it.
    Yes,
    /// It refuses such tables.
    No,
    /// Nobody has shown it to us.
    Unproven,
    /// It does not read tables of the format.
    NotTheFormat,
}

/// What is known of one engine.
struct Known {
    reader: Reader,
    name: &'static str,
    /// Iceberg's position deletes of format version 2.
    position_deletes: Takes,
    /// Delta's deletion vectors.
    deletion_vectors: Takes,
    /// Whether it opens tables on a disk of its own.
    local: bool,
}

const fn known(
    reader: Reader,
    name: &'static str,
    position_deletes: Takes,
    deletion_vectors: Takes,
    local: bool,
) -> Known {
    Known { reader, name, position_deletes, deletion_vectors, local }
}

/// The engines. "Tests" are those of this repository that read every table they make with it.
const READERS: [Known; 15] = {
    use Reader as R;
    use Takes::{No, NotTheFormat, Unproven, Yes};
    [
        // Athena user guide: reads position deletes; deletion vectors since 2024-07-26.
        known(R::Athena, "athena", Yes, Yes, false),
        // Its guides say nothing of either for tables of other writers.
        known(R::Bigquery, "bigquery", Unproven, Unproven, false),
        // Tests (chdb).
        known(R::Clickhouse, "clickhouse", Yes, Yes, true),
        // Databricks guide: deletion vectors from runtime 12.2 on; silent on position deletes.
        known(R::Databricks, "databricks", Unproven, Yes, false),
        // Tests: `to_pyarrow_table` refuses the reader feature deletionVectors.
        known(R::Deltalake, "deltalake", NotTheFormat, No, true),
        // Tests.
        known(R::Duckdb, "duckdb", Yes, Yes, true),
        // Apache Iceberg's source for Flink reads through a delete filter.
        known(R::Flink, "flink", Yes, Unproven, true),
        // Falls back to pyiceberg where it must; deletion vectors read, tried with 2.1.
        known(R::Polars, "polars", Yes, Yes, true),
        // Nothing was found.
        known(R::Presto, "presto", Unproven, Unproven, false),
        // Tests.
        known(R::Pyiceberg, "pyiceberg", Yes, NotTheFormat, true),
        // Its guide says nothing of either.
        known(R::Redshift, "redshift", Unproven, Unproven, false),
        // Snowflake: writes position deletes itself; reads deletion vectors since 2026-03-02.
        known(R::Snowflake, "snowflake", Yes, Yes, false),
        // Tests.
        known(R::Spark, "spark", Yes, Yes, true),
        // Nothing was found.
        known(R::Starrocks, "starrocks", Unproven, Unproven, false),
        // Tests, version 476.
        known(R::Trino, "trino", Yes, Yes, true),
    ]
};

impl Reader {
    /// Every engine that has a name here.
    pub fn all() -> impl Iterator<Item = Self> {
        READERS.iter().map(|known| known.reader)
    }

    fn known(self) -> &'static Known {
        READERS.iter().find(|known| known.reader == self).expect("every reader is in the table")
    }

    /// The name used in the configuration.
    pub fn as_str(self) -> &'static str {
        self.known().name
    }

    /// Whether it leaves out rows that a table of this format marks as dead.
    pub fn takes_dead_rows(self, format: TableFormat) -> Takes {
        match format {
            TableFormat::Iceberg => self.known().position_deletes,
            TableFormat::Delta => self.known().deletion_vectors,
        }
    }

    /// Whether it opens tables on a local disk.
    pub fn reads_local(self) -> bool {
        self.known().local
    }
}

/// How a format marks rows as dead, for people.
pub fn dead_rows_of(format: TableFormat) -> &'static str {
    match format {
        TableFormat::Iceberg => "position deletes of Iceberg",
        TableFormat::Delta => "deletion vectors of Delta",
    }
}

/// How rows go from a table, and why.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ModeChoice {
    /// How they go.
    pub mode: Mode,
    /// Why, for people.
    pub because: String,
}

/// How rows go from a table of this format that these engines read.
///
/// # Errors
/// Where `asked` is what one of them does not take: its name.
pub(super) fn choose(
    asked: Option<Mode>,
    format: TableFormat,
    readers: &[Reader],
) -> Result<ModeChoice, Reader> {
    let dead = dead_rows_of(format);
    let with = |takes: Takes| -> Vec<&str> {
        let of = readers.iter().filter(|reader| reader.takes_dead_rows(format) == takes);
        of.map(|reader| reader.as_str()).collect()
    };
    let (refusing, unproven) = (with(Takes::No), with(Takes::Unproven));
    let choice = |mode: Mode, because: String| Ok(ModeChoice { mode, because });
    match asked {
        Some(Mode::CopyOnWrite) => choice(Mode::CopyOnWrite, "`mode` says so".to_owned()),
        Some(Mode::MergeOnRead) => {
            let refuses = |reader: &&Reader| reader.takes_dead_rows(format) == Takes::No;
            match (readers.iter().find(refuses), unproven.is_empty()) {
                (Some(reader), _) => Err(*reader),
                (None, true) => choice(Mode::MergeOnRead, "`mode` says so".to_owned()),
                (None, false) => choice(
                    Mode::MergeOnRead,
                    format!(
                        "`mode` says so, though {dead} have not been seen to be read by {}",
                        unproven.join(", ")
                    ),
                ),
            }
        }
        None if !refusing.is_empty() => {
            choice(Mode::CopyOnWrite, format!("{dead} are not read by {}", refusing.join(", ")))
        }
        None if !unproven.is_empty() => choice(
            Mode::CopyOnWrite,
            format!("{dead} have not been seen to be read by {}", unproven.join(", ")),
        ),
        None if readers.is_empty() => {
            choice(Mode::MergeOnRead, "the default where `readers` names nobody".to_owned())
        }
        None => {
            let because = format!("{dead} are read by {}", with(Takes::Yes).join(", "));
            choice(Mode::MergeOnRead, because)
        }
    }
}

/// Engines that are to read tables and cannot open any of them, and tables that none of theirs opens.
pub(super) fn problems(config: &Config, problems: &mut Vec<Problem>) {
    let format = |table: &Table| table.format.unwrap_or(config.lake.format);
    let opens = |reader: &Reader, table: &Table| {
        reader.takes_dead_rows(format(table)) != Takes::NotTheFormat
    };
    let shared = &config.lake.readers;
    let theirs = || config.tables.iter().filter(|table| table.readers.is_none());
    let idle = |reader: &&Reader| theirs().count() > 0 && !theirs().any(|t| opens(reader, t));
    let idle: Vec<&Reader> = shared.iter().filter(idle).collect();
    problems.extend(idle.iter().map(|reader| {
        let message = format!(
            "`{}` is among the readers and opens no table of the formats that are written",
            reader.as_str()
        );
        let next = "take it from the readers, or write tables in the other format for it";
        Problem::new("lake.readers", message, next)
    }));
    for (index, table) in config.tables.iter().enumerate() {
        let written = format(table).as_str();
        let path = format!("tables[{index}]");
        let blind = |reader: &&Reader| !opens(reader, table);
        for reader in table.readers.iter().flatten().filter(blind) {
            let message = format!("`{}` does not open tables of {written}", reader.as_str());
            let next = "take it from the readers, or give this table the other format";
            problems.push(Problem::new(format!("{path}.readers"), message, next));
        }
        let nobody = !shared.is_empty() && shared.iter().all(|reader| blind(&reader));
        if table.readers.is_none() && nobody && idle.len() < shared.len() {
            let message = format!("none of `lake.readers` opens tables of {written}");
            let next = "say in its `readers` who is to read it (`[]`: nobody in particular), or \
                        give it the other format";
            problems.push(Problem::new(path, message, next));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_reader_is_known_by_the_name_that_the_configuration_takes() {
        for known in &READERS {
            let named: Reader =
                serde_json::from_value(serde_json::json!(known.name)).expect("a reader's name");
            assert_eq!(named, known.reader);
            assert_eq!(named.as_str(), known.name);
        }
        assert_eq!(Reader::all().count(), READERS.len());
    }

    #[test]
    fn rows_are_marked_only_where_every_reader_takes_it() {
        use TableFormat::{Delta, Iceberg};
        let mode = |asked, format, readers: &[Reader]| {
            choose(asked, format, readers).map(|choice| (choice.mode, choice.because))
        };
        let marked = |because: &str| Ok((Mode::MergeOnRead, because.to_owned()));
        let rewritten = |because: &str| Ok((Mode::CopyOnWrite, because.to_owned()));
        use Reader::{Athena, Deltalake, Pyiceberg, Spark, Starrocks};

        assert_eq!(mode(None, Delta, &[]), marked("the default where `readers` names nobody"));
        assert_eq!(
            mode(None, Delta, &[Athena, Spark, Pyiceberg]),
            marked("deletion vectors of Delta are read by athena, spark")
        );
        assert_eq!(
            mode(None, Delta, &[Athena, Deltalake]),
            rewritten("deletion vectors of Delta are not read by deltalake")
        );
        // What does not read a format has no say in it.
        assert_eq!(
            mode(None, Iceberg, &[Athena, Deltalake]),
            marked("position deletes of Iceberg are read by athena")
        );
        assert_eq!(
            mode(None, Iceberg, &[Starrocks]),
            rewritten("position deletes of Iceberg have not been seen to be read by starrocks")
        );
        let anyway = Some(Mode::MergeOnRead);
        assert!(
            mode(anyway, Iceberg, &[Starrocks]).is_ok_and(|choice| choice.0 == Mode::MergeOnRead)
        );
        assert_eq!(mode(anyway, Delta, &[Spark, Deltalake]), Err(Deltalake));
        let wanted = Some(Mode::CopyOnWrite);
        assert_eq!(mode(wanted, Delta, &[Deltalake]), rewritten("`mode` says so"));
    }
}
