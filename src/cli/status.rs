//! `lakebed status`: where each table stands.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write;
use std::time::{SystemTime, UNIX_EPOCH};

use chrono::{DateTime, SecondsFormat};
use lakebed_schemas::config::{ResolvedConfig, TablePath};
use lakebed_schemas::position::TopicPartition;
use lakebed_sinks::log::Head;
use serde::Serialize;

use super::lake::Lake;
use super::{Failure, Output, broker, print};

/// What `status` takes.
#[derive(Debug, clap::Args)]
pub struct StatusArgs {
    /// Form of the answer.
    #[arg(long, value_enum, default_value_t)]
    output: Output,
}

/// The whole answer; its form is for programs, so keys only ever come to it.
#[derive(Debug, Serialize)]
struct Status {
    /// The lake.
    location: String,
    /// Why lag cannot be told, if it cannot.
    broker_error: Option<String>,
    tables: Vec<TableStatus>,
}

#[derive(Debug, Serialize)]
struct TableStatus {
    table: String,
    /// `iceberg` or `delta`; null where there is no table yet.
    format: Option<String>,
    version: Option<i64>,
    /// What it is partitioned by, as it would be configured; null where there is no table yet.
    partition_by: Option<Vec<String>>,
    /// Rows that a reader sees.
    rows: Option<u64>,
    /// Rows that are deleted and still in their files.
    dead_rows: Option<u64>,
    files: Option<usize>,
    /// Bytes of the data files.
    bytes: Option<u64>,
    /// Source commit time of the newest applied change.
    newest_change: Option<String>,
    /// Now minus that.
    freshness_seconds: Option<f64>,
    /// Records not in the table yet; null where the broker does not tell.
    lag: Option<i64>,
    offsets: Vec<OffsetStatus>,
    /// Why the table could not be read, if it could not.
    error: Option<String>,
}

#[derive(Debug, Serialize)]
struct OffsetStatus {
    topic: String,
    partition: i32,
    /// First offset that the table does not hold.
    next: i64,
    /// Next offset of the log.
    end: Option<i64>,
    lag: Option<i64>,
}

pub(super) async fn status(config: &ResolvedConfig, args: StatusArgs) -> Result<(), Failure> {
    let lake = Lake::open(config).await?;
    let cluster = broker::cluster(&config.kafka).await;
    let paths = paths(config, &lake, cluster.as_ref().ok()).await?;
    let mut tables = Vec::new();
    let mut heads = Vec::new();
    for path in &paths {
        match lake.table(path, None).await {
            Ok(None) => tables.push(missing(path)),
            Ok(Some(table)) => {
                tables.push(of_head(path, table.format.name(), table.log.head()));
                heads.push(table.log.head().checkpoint.clone());
            }
            Err(error) => {
                tables.push(TableStatus { error: Some(error.chain()), ..missing(path) });
            }
        }
    }
    let mut broker_error = cluster.as_ref().err().cloned();
    if cluster.is_ok() {
        let partitions: BTreeSet<_> =
            heads.iter().flat_map(|checkpoint| checkpoint.iter().map(|(tp, _)| tp)).collect();
        match broker::watermarks(&config.kafka, partitions.into_iter().collect()).await {
            Ok(marks) => tables.iter_mut().for_each(|table| table.measure(&marks)),
            Err(error) => broker_error = Some(error),
        }
    }
    let status = Status { location: lake.storage().location().to_owned(), broker_error, tables };
    match args.output {
        Output::Json => {
            let text = serde_json::to_string_pretty(&status).map_err(|error| {
                Failure::runtime(format!("the status cannot be written as JSON: {error}"))
            })?;
            print(&format!("{text}\n"))
        }
        Output::Table => print(&for_people(&status)),
    }
}

/// The tables of the configuration. Patterns are matched against the cluster's topics; without the
/// cluster, what lies in their databases is shown instead.
async fn paths(
    config: &ResolvedConfig,
    lake: &Lake,
    cluster: Option<&broker::Cluster>,
) -> Result<Vec<TablePath>, Failure> {
    let topics = cluster.iter().flat_map(|cluster| cluster.topics.keys().map(String::as_str));
    let routed = config.route(topics).map_err(|problems| {
        let lines: Vec<String> = problems.iter().map(ToString::to_string).collect();
        Failure::usage(lines.join("\n"))
    })?;
    let mut paths = BTreeSet::new();
    for table in &routed {
        let entry = &config.tables[table.entry];
        paths.extend(entry.silver(&table.name));
        paths.extend(entry.bronze(&table.name));
    }
    if cluster.is_none() {
        paths.extend(lake.tables().await?);
    }
    Ok(paths.into_iter().collect())
}

fn missing(path: &TablePath) -> TableStatus {
    TableStatus {
        table: path.to_string(),
        format: None,
        version: None,
        partition_by: None,
        rows: None,
        dead_rows: None,
        files: None,
        bytes: None,
        newest_change: None,
        freshness_seconds: None,
        lag: None,
        offsets: Vec::new(),
        error: None,
    }
}

fn of_head(path: &TablePath, format: &str, head: &Head) -> TableStatus {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs_f64();
    let newest = head.freshness.and_then(DateTime::from_timestamp_micros);
    let offsets = head.checkpoint.iter().map(|(tp, next)| OffsetStatus {
        topic: tp.topic.to_string(),
        partition: tp.partition,
        next: next.offset,
        end: None,
        lag: None,
    });
    let partition_by = head.schema.partition_by.iter().map(|field| field.configured().to_string());
    TableStatus {
        format: Some(format.to_owned()),
        version: Some(head.version),
        partition_by: Some(partition_by.collect()),
        rows: Some(head.live_rows()),
        dead_rows: Some(head.files.values().map(|live| live.deleted.len()).sum()),
        files: Some(head.files.len()),
        bytes: Some(head.files.values().map(|live| live.file.size).sum()),
        newest_change: newest.map(|at| at.to_rfc3339_opts(SecondsFormat::Micros, true)),
        freshness_seconds: head.freshness.map(|newest| (now - newest as f64 / 1e6).max(0.0)),
        offsets: offsets.collect(),
        ..missing(path)
    }
}

impl TableStatus {
    /// Notes where the logs end.
    fn measure(&mut self, marks: &BTreeMap<TopicPartition, (i64, i64)>) {
        for offset in &mut self.offsets {
            let tp = TopicPartition::new(offset.topic.as_str(), offset.partition);
            offset.end = marks.get(&tp).map(|(_, end)| *end);
            offset.lag = offset.end.map(|end| (end - offset.next).max(0));
        }
        let lags: Option<Vec<i64>> = self.offsets.iter().map(|offset| offset.lag).collect();
        self.lag = lags.filter(|lags| !lags.is_empty()).map(|lags| lags.iter().sum());
    }
}

/// Headings of the table for people; numbers stand between the first two columns and the last.
const COLUMNS: [&str; 10] = [
    "table",
    "format",
    "version",
    "rows",
    "dead",
    "files",
    "size",
    "fresh",
    "lag",
    "partitioned by",
];

fn cells(table: &TableStatus) -> [String; 10] {
    let or_dash = |text: Option<String>| text.unwrap_or_else(|| "-".to_owned());
    let by = table.partition_by.as_ref().filter(|by| !by.is_empty());
    [
        table.table.clone(),
        or_dash(table.format.clone()),
        or_dash(table.version.map(|n| n.to_string())),
        or_dash(table.rows.map(|n| n.to_string())),
        or_dash(table.dead_rows.map(|n| n.to_string())),
        or_dash(table.files.map(|n| n.to_string())),
        or_dash(table.bytes.map(size)),
        or_dash(table.freshness_seconds.map(age)),
        or_dash(table.lag.map(|n| n.to_string())),
        or_dash(by.map(|by| by.join(", "))),
    ]
}

fn for_people(status: &Status) -> String {
    let mut lines = vec![COLUMNS.map(str::to_owned)];
    lines.extend(status.tables.iter().map(cells));
    let mut text = in_columns(&lines);
    text.push('\n');
    for table in &status.tables {
        let name = &table.table;
        if let Some(error) = &table.error {
            let _ = writeln!(text, "{name}: {error}");
        } else if table.format.is_none() {
            let _ = writeln!(text, "{name}: not there yet; `lakebed run` makes it");
        }
        for offset in &table.offsets {
            let OffsetStatus { topic, partition, next, .. } = offset;
            let _ = write!(text, "{name}: {topic}-{partition} next offset {next}");
            if let (Some(end), Some(lag)) = (offset.end, offset.lag) {
                let _ = write!(text, " of {end}, {lag} behind");
            }
            text.push('\n');
        }
    }
    if let Some(error) = &status.broker_error {
        let _ = writeln!(text, "lag is not known, no broker answers: {error}");
    }
    text
}

/// Lines up columns; numbers stand to the right.
fn in_columns<const N: usize>(lines: &[[String; N]]) -> String {
    let mut text = String::new();
    let width = |at: usize| lines.iter().map(|line| line[at].chars().count()).max().unwrap_or(0);
    let widths: Vec<usize> = (0..N).map(width).collect();
    for line in lines {
        let cells: Vec<String> = line
            .iter()
            .enumerate()
            .map(|(at, cell)| match at {
                at if at < 2 || at + 1 == N => format!("{cell:<width$}", width = widths[at]),
                _ => format!("{cell:>width$}", width = widths[at]),
            })
            .collect();
        text.push_str(cells.join("  ").trim_end());
        text.push('\n');
    }
    text
}

/// Bytes in the largest unit of which there is one at least.
fn size(bytes: u64) -> String {
    let units = [("GiB", 1u64 << 30), ("MiB", 1 << 20), ("KiB", 1 << 10)];
    match units.iter().find(|(_, factor)| bytes >= *factor) {
        Some((unit, factor)) => format!("{:.1} {unit}", bytes as f64 / *factor as f64),
        None => format!("{bytes} B"),
    }
}

fn age(seconds: f64) -> String {
    match seconds {
        s if s < 120.0 => format!("{s:.1} s"),
        s if s < 7200.0 => format!("{:.0} min", s / 60.0),
        s if s < 172_800.0 => format!("{:.1} h", s / 3600.0),
        s => format!("{:.1} d", s / 86_400.0),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lag_is_told_only_when_every_partition_is_known() {
        let path = TablePath { database: "silver".to_owned(), name: "t".to_owned() };
        let offset = |partition, next| OffsetStatus {
            topic: "t".to_owned(),
            partition,
            next,
            end: None,
            lag: None,
        };
        let mut table =
            TableStatus { offsets: vec![offset(0, 5), offset(1, 20)], ..missing(&path) };
        let mut marks = BTreeMap::from([(TopicPartition::new("t", 0), (0, 8))]);

        table.measure(&marks);
        assert_eq!((table.lag, table.offsets[0].lag), (None, Some(3)));
        // The end may lie before what the table holds: a log made anew.
        marks.insert(TopicPartition::new("t", 1), (0, 10));
        table.measure(&marks);
        assert_eq!((table.lag, table.offsets[1].lag), (Some(3), Some(0)));
    }

    #[test]
    fn sizes_and_ages_are_short() {
        assert_eq!([size(0), size(1536), size(3 << 30)], ["0 B", "1.5 KiB", "3.0 GiB"]);
        assert_eq!(
            [age(3.12), age(600.0), age(7300.0), age(200_000.0)],
            ["3.1 s", "10 min", "2.0 h", "2.3 d"]
        );
    }
}
