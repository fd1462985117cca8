//! The tables that are there, judged as `lakebed run` judges them when it takes them on.

use lakebed_schemas::config::{OnLostTable, ResolvedConfig, ResolvedTable, Routed, TablePath};
use lakebed_schemas::position::TopicPartition;
use lakebed_sinks::Error;
use lakebed_sinks::catalog::Catalog;
use lakebed_sinks::log::Head;
use lakebed_sinks::table::append::AppendTable;
use lakebed_sinks::table::upsert::UpsertTable;

use super::broker::Cluster;
use super::check::Finding;
use super::lake::{Lake, OpenTable};
use crate::source::KafkaView;
use crate::tables::format;
use crate::worker::{Refusal, check_partitions, find_lost};

/// One layer of an entry's table, opened to be looked at.
struct Layer {
    path: TablePath,
    holds_current_rows: bool,
    opened: Result<Option<OpenTable>, Error>,
}

impl Layer {
    fn head(&self) -> Option<&Head> {
        self.opened.as_ref().ok()?.as_ref().map(|table| table.log.head())
    }
}

/// Whether the tables that are there can be gone on with, and whether those that are not may be
/// made. Without the cluster nobody tells which tables there were.
pub(super) async fn tables(
    config: &ResolvedConfig,
    lake: &Lake,
    routed: &[Routed],
    cluster: Option<&Cluster>,
) -> Vec<Finding> {
    let mut findings = Vec::new();
    let mut group = cluster.map(|cluster| (cluster, KafkaView::new(&config.kafka, Vec::new())));
    for table in routed {
        let entry = &config.tables[table.entry];
        let layers = open(lake, entry, &table.name).await;
        let lost = match &group {
            Some((cluster, view)) if entry.on_lost_table == OnLostTable::Halt => {
                lost(&layers, &table.topics, cluster, view).await
            }
            _ => Ok(None),
        };
        let is_lost = matches!(lost, Ok(Some(_)));
        for layer in &layers {
            findings.extend(judged(lake, entry, layer, is_lost).await);
        }
        match lost {
            Ok(None) => {}
            Ok(Some(Refusal { what, next_move })) => {
                findings.push(Finding::problem(what, next_move));
            }
            Err(error) => {
                // It would not answer for the next table either, and take its time.
                group = None;
                findings.push(Finding::problem(
                    error.chain(),
                    "let this user describe the group: by its offsets, tables that are gone are \
                     noticed",
                ));
            }
        }
    }
    findings
}

async fn open(lake: &Lake, entry: &ResolvedTable, name: &str) -> Vec<Layer> {
    let mut layers = Vec::new();
    for (path, holds_current_rows) in [(entry.bronze(name), false), (entry.silver(name), true)] {
        if let Some(path) = path {
            let opened = lake.configured_table(&path, format(entry.format)).await;
            layers.push(Layer { path, holds_current_rows, opened });
        }
    }
    layers
}

/// What the group was told of tables that are not there.
async fn lost(
    layers: &[Layer],
    topics: &[String],
    cluster: &Cluster,
    view: &KafkaView,
) -> Result<Option<Refusal>, Error> {
    if layers.iter().any(|layer| layer.opened.is_err()) {
        return Ok(None);
    }
    let partitions = |topic: &String| {
        let count = cluster.topics.get(topic).copied().unwrap_or(0);
        let count = i32::try_from(count).unwrap_or(i32::MAX);
        (0..count).map(|partition| TopicPartition::new(topic.as_str(), partition)).collect()
    };
    let partitions: Vec<TopicPartition> =
        topics.iter().flat_map(|topic| -> Vec<TopicPartition> { partitions(topic) }).collect();
    let names: Vec<String> = layers.iter().map(|layer| layer.path.to_string()).collect();
    let heads = layers.iter().map(Layer::head);
    let layers: Vec<_> = names.iter().map(String::as_str).zip(heads).collect();
    find_lost(&layers, &partitions, view).await
}

async fn judged(
    lake: &Lake,
    entry: &ResolvedTable,
    layer: &Layer,
    is_lost: bool,
) -> Option<Finding> {
    let path = &layer.path;
    let table = match &layer.opened {
        Err(error) => {
            return Some(Finding::error(format!("table `{path}` cannot be opened"), error));
        }
        Ok(None) if is_lost => return None,
        Ok(None) => {
            let made = format!("table `{path}` is not there yet; `lakebed run` makes it");
            return Some(Finding::Ok(made));
        }
        Ok(Some(table)) => table,
    };
    let finding = match refused(entry, layer, table) {
        Some(refused) => Some(refused),
        None => refused_commits(lake, path).await,
    };
    Some(finding.unwrap_or_else(|| as_it_should_be(path, table.log.head())))
}

/// What keeps `lakebed run` from writing into a table that it can open.
fn refused(entry: &ResolvedTable, layer: &Layer, table: &OpenTable) -> Option<Finding> {
    let (path, log) = (&layer.path, table.log.as_ref());
    if layer.holds_current_rows
        && let Err(Refusal { what, next_move }) =
            check_partitions(&path.to_string(), log.head(), &entry.partition_by)
    {
        let place = &entry.path;
        return Some(Finding::problem(format!("{what} ({place}.partition_by)"), next_move));
    }
    let fit = match layer.holds_current_rows {
        true => UpsertTable::check(log),
        false => AppendTable::check(log),
    };
    let error = fit.err()?;
    Some(Finding::error(format!("table `{path}` cannot be written to"), &error))
}

/// What a REST catalog says against commits to a table. Of the others only a commit tells.
async fn refused_commits(lake: &Lake, path: &TablePath) -> Option<Finding> {
    let Catalog::Rest(rest) = lake.catalog() else { return None };
    match rest.table(&path.database, &path.name).may_commit().await {
        Ok(true) => None,
        Ok(false) => Some(Finding::problem(
            format!("the REST catalog does not let us commit to table `{path}`"),
            "allow it there: to change the table, and its properties",
        )),
        Err(error) => Some(Finding::error(
            format!("the REST catalog does not say whether we may commit to table `{path}`"),
            &error,
        )),
    }
}

fn as_it_should_be(path: &TablePath, head: &Head) -> Finding {
    let (rows, version) = (head.live_rows(), head.version);
    let by: Vec<String> =
        head.schema.partition_by.iter().map(|field| field.configured().to_string()).collect();
    let partitioned = match by.is_empty() {
        true => String::new(),
        false => format!(", partitioned by `{}`", by.join("`, `")),
    };
    Finding::Ok(format!("table `{path}`: version {version}, {rows} rows{partitioned}"))
}
