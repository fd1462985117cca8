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

/// The modes of all entries, and readers that cannot read what is written.
pub(super) fn modes(config: &ResolvedConfig) -> Vec<Finding> {
    let mut findings: Vec<Finding> =
        config.tables.iter().filter_map(told).map(Finding::Ok).collect();
    let readers: BTreeSet<Reader> =
        config.tables.iter().flat_map(|entry| entry.readers.iter().copied()).collect();
    for reader in readers {
        let name = reader.as_str();
        let of = |entry: &&ResolvedTable| entry.readers.contains(&reader);
        let formats: Vec<TableFormat> =
            config.tables.iter().filter(of).map(|entry| entry.format).collect();
        if formats.iter().all(|format| reader.takes_dead_rows(*format) == Takes::NotTheFormat) {
            findings.push(Finding::note(
                format!("`{name}` is among the readers and reads no table of these formats"),
                "take it from the readers, or give it a table in the other format",
            ));
        }
        if !config.lake.location.starts_with("s3://") && !reader.reads_local() {
            findings.push(Finding::note(
                format!("`{name}` is among the readers and opens nothing on a local disk"),
                "keep the lake on S3 for it",
            ));
        }
    }
    findings
}

/// The engines that are to read a table.
pub(super) fn of(config: &ResolvedConfig, path: &TablePath) -> Vec<Reader> {
    let holds = |entry: &ResolvedTable| {
        let layers = [entry.silver(&path.name), entry.bronze(&path.name)];
        layers.into_iter().flatten().any(|layer| layer == *path)
    };
    // Which entry a pattern's table is of, only the broker could tell: all that may be it are asked.
    let routed = config.route([]).unwrap_or_default();
    let named =
        routed.iter().find(|table| table.name == path.name && holds(&config.tables[table.entry]));
    let readers: BTreeSet<Reader> = match named {
        Some(table) => config.tables[table.entry].readers.iter().copied().collect(),
        None => {
            let may_be = config.tables.iter().filter(|entry| holds(entry));
            may_be.flat_map(|entry| entry.readers.iter().copied()).collect()
        }
    };
    readers.into_iter().collect()
}

/// The configuration's name of a format.
pub(super) fn config_format(format: Format) -> TableFormat {
    match format {
        Format::Iceberg => TableFormat::Iceberg,
        Format::Delta => TableFormat::Delta,
    }
}
