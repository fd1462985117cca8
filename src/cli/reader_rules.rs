//! What the engines that are to read the tables mean for these.

use std::collections::BTreeSet;

use lakebed_schemas::config::{
    Mode, Reader, ResolvedConfig, ResolvedTable, TableFormat, TablePath, Takes,
};
use lakebed_sinks::Format;

use super::check::Finding;

/// How rows go from an entry's silver table, in plain words; `None` where nothing asks.
pub(super) fn told(entry: &ResolvedTable) -> Option<String> {
    let (mode, cadence) = match entry.mode {
        Mode::MergeOnRead if entry.readers.is_empty() => return None,
        Mode::MergeOnRead => ("merge-on-read", String::new()),
        Mode::CopyOnWrite => {
            let (age, rows) = (humantime(entry.batch.age_max), entry.batch.rows_max);
            ("copy-on-write", format!("; commits after {age}, or sooner with {rows} records"))
        }
    };
    entry.layers.silver.as_ref()?;
    let format = entry.format.as_str();
    Some(format!("{} ({format}): {mode}, because {}{cadence}", entry.path, entry.mode_because))
}

fn humantime(age: std::time::Duration) -> String {
    match age.as_secs() {
        0 => format!("{} ms", age.as_millis()),
        seconds if seconds % 60 == 0 => format!("{} min", seconds / 60),
        seconds => format!("{seconds} s"),
    }
}

/// The modes of all entries, and readers that cannot come to where they are written.
pub(super) fn modes(config: &ResolvedConfig) -> Vec<Finding> {
    let mut findings: Vec<Finding> =
        config.tables.iter().filter_map(told).map(Finding::Ok).collect();
    let readers: BTreeSet<Reader> =
        config.tables.iter().flat_map(|entry| entry.readers.iter().copied()).collect();
    for reader in readers {
        let name = reader.as_str();
        if !config.lake.location.starts_with("s3://") && !reader.reads_local() {
            findings.push(Finding::note(
                format!("`{name}` is among the readers and opens nothing on a local disk"),
                "keep the lake on S3 for it",
            ));
        }
    }
    findings
}

/// The engines that are to read a table of this format and for which no row in it may be marked dead.
/// Of those that have not been seen to take it, the ones whose table is rewritten because of that.
pub(super) fn without_dead_rows(
    config: &ResolvedConfig,
    path: &TablePath,
    format: TableFormat,
) -> Vec<Reader> {
    let holds = |entry: &ResolvedTable| {
        let layers = [entry.silver(&path.name), entry.bronze(&path.name)];
        layers.into_iter().flatten().any(|layer| layer == *path)
    };
    // Which entry a pattern's table is of, only the broker could tell: all that may be it are asked.
    let routed = config.route([]).unwrap_or_default();
    let named =
        routed.iter().find(|table| table.name == path.name && holds(&config.tables[table.entry]));
    let entries: Vec<&ResolvedTable> = match named {
        Some(table) => vec![&config.tables[table.entry]],
        None => config.tables.iter().filter(|entry| holds(entry)).collect(),
    };
    let none_dead = |entry: &ResolvedTable, reader: Reader| match reader.takes_dead_rows(format) {
        Takes::No => true,
        Takes::Unproven => entry.mode == Mode::CopyOnWrite,
        Takes::Yes | Takes::NotTheFormat => false,
    };
    let readers: BTreeSet<Reader> = entries
        .into_iter()
        .flat_map(|entry| entry.readers.iter().map(move |reader| (entry, *reader)))
        .filter(|(entry, reader)| none_dead(entry, *reader))
        .map(|(_, reader)| reader)
        .collect();
    readers.into_iter().collect()
}

/// The configuration's name of a format.
pub(super) fn config_format(format: Format) -> TableFormat {
    match format {
        Format::Iceberg => TableFormat::Iceberg,
        Format::Delta => TableFormat::Delta,
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use crate::config::parse;

    use super::*;

    fn config(lake: &str, table: &str) -> ResolvedConfig {
        let text = format!(
            "kafka: {{ bootstrap_servers: localhost:9092 }}\nlake: {{ format: delta, {lake} }}\n\
             tables:\n  - {{ topic: shop.public.orders, {table} }}\n"
        );
        parse(&text, Path::new("/etc/lakebed.yaml"), &|_| None).expect("accepted")
    }

    #[test]
    fn engines_that_open_nothing_on_a_disk_are_named_where_the_lake_is_on_one() {
        let told = |location: &str| {
            let lake = format!("location: '{location}', readers: [athena, spark]");
            modes(&config(&lake, "key: [id]")).iter().map(ToString::to_string).collect::<Vec<_>>()
        };
        let mode = "merge-on-read, because deletion vectors of Delta are read by athena, spark";
        let [on_disk, note] = &told("/lake")[..] else { panic!("{:?}", told("/lake")) };
        assert!(on_disk.contains(mode), "{on_disk}");
        assert!(
            note.contains("`athena` is among the readers and opens nothing on a local disk"),
            "{note}"
        );
        let [on_s3] = &told("s3://bucket/lake")[..] else {
            panic!("{:?}", told("s3://bucket/lake"))
        };
        assert!(on_s3.contains(mode), "{on_s3}");
    }

    #[test]
    fn dead_rows_are_in_the_way_of_engines_that_the_table_is_rewritten_for() {
        let silver = TablePath { database: "silver".into(), name: "public_orders".into() };
        let of = |readers: &str, table: &str| {
            let config = config(&format!("location: /lake, readers: {readers}"), table);
            without_dead_rows(&config, &silver, TableFormat::Delta)
        };
        use Reader::{Bigquery, Deltalake};
        assert_eq!(of("[spark, deltalake]", "key: [id]"), [Deltalake]);
        assert_eq!(of("[spark, bigquery]", "key: [id]"), [Bigquery]);
        assert_eq!(of("[bigquery, deltalake]", "mode: copy-on-write"), [Bigquery, Deltalake]);
        // Who asks for it has been told that nobody saw it read.
        assert_eq!(of("[spark, bigquery]", "mode: merge-on-read"), []);
        assert_eq!(of("[spark, trino]", "key: [id]"), []);
    }
}
