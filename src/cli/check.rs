//! `lakebed check`: connects, and names what is missing and the next move.

use std::fmt;

use clap::Args;
use lakebed_schemas::config::{BadRecords, ResolvedConfig, Routed, Topics};
use lakebed_sinks::catalog::Catalog;
use lakebed_sinks::storage::{Probe, Storage};

use super::lake::Lake;
use super::{
    Failure, broker, next_move, print, profiles, reader_rules, registry_rules, source_rules,
    table_rules,
};
use crate::tables;

/// Topics looked at more closely, at most: a wide pattern should not make this slow.
const TOPICS_MAX: usize = 200;

/// What one look found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Finding {
    /// As it should be.
    Ok(String),
    /// Works, with a drawback that one should know of.
    Note(String, String),
    /// Does not work: what, and the next move.
    Problem(String, String),
    /// Could not be looked at.
    Unseen(String),
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Ok(what) => write!(f, "ok       {what}"),
            Self::Note(what, next) => write!(f, "note     {what}\n         → {next}"),
            Self::Problem(what, next) => write!(f, "PROBLEM  {what}\n         → {next}"),
            Self::Unseen(what) => write!(f, "unseen   {what}"),
        }
    }
}

impl Finding {
    pub(super) fn problem(what: impl Into<String>, next: impl Into<String>) -> Self {
        Self::Problem(what.into(), next.into())
    }

    pub(super) fn note(what: impl Into<String>, next: impl Into<String>) -> Self {
        Self::Note(what.into(), next.into())
    }

    pub(super) fn error(what: impl fmt::Display, error: &lakebed_sinks::Error) -> Self {
        Self::problem(format!("{what}: {}", error.chain()), next_move(error.kind()))
    }
}

/// Prints findings as they come and remembers how many problems there were.
#[derive(Default)]
struct Report {
    problems: usize,
}

impl Report {
    fn tell(&mut self, findings: impl IntoIterator<Item = Finding>) -> Result<(), Failure> {
        for finding in findings {
            self.problems += usize::from(matches!(finding, Finding::Problem(..)));
            print(&format!("{finding}\n"))?;
        }
        Ok(())
    }
}

/// Arguments of `lakebed check`.
#[derive(Debug, Args)]
pub struct CheckArgs {
    /// Look at this table alone: whether Athena can query it. `silver.orders`, or `orders`. May be
    /// repeated.
    #[arg(long, value_name = "TABLE")]
    table: Vec<String>,
    /// Look whether Athena can query them at every table in the databases of the configuration.
    #[arg(long, conflicts_with = "table")]
    all_tables: bool,
}

pub(super) async fn check(config: &ResolvedConfig, args: &CheckArgs) -> Result<(), Failure> {
    if !args.all_tables && args.table.is_empty() {
        return everything(config).await;
    }
    match args.all_tables {
        true => profiles::all(config).await,
        false => profiles::named(config, &args.table).await,
    }
}

async fn everything(config: &ResolvedConfig) -> Result<(), Failure> {
    let mut report = Report::default();
    report.tell(reader_rules::modes(config))?;
    let servers = &config.kafka.bootstrap_servers;
    let cluster = broker::cluster(&config.kafka).await;
    let routed = match &cluster {
        Err(error) => {
            let next =
                "start the broker, or correct `kafka.bootstrap_servers` and `kafka.security`";
            report.tell([Finding::problem(
                format!("no broker answers at {servers}: {error}"),
                next,
            )])?;
            config.route([])
        }
        Ok(cluster) => {
            let id = cluster.id.as_deref().unwrap_or("unknown");
            let count = cluster.brokers;
            report.tell([Finding::Ok(format!(
                "Kafka at {servers}: {count} brokers, cluster {id}"
            ))])?;
            config.route(cluster.topics.keys().map(String::as_str))
        }
    };
    let routed = match routed {
        Ok(routed) => routed,
        Err(problems) => {
            let problem = |p: &lakebed_schemas::config::Problem| {
                Finding::problem(format!("`{}`: {}", p.path, p.message), p.next_move.clone())
            };
            report.tell(problems.iter().map(problem))?;
            Vec::new()
        }
    };
    if let Ok(cluster) = &cluster {
        report.tell(topics(config, cluster, &routed))?;
        let settings = topic_settings(config, cluster, &routed).await;
        report.tell(source_rules::topics(config, &routed, &settings))?;
        report.tell(source_rules::connectors(config, cluster, &routed, &settings).await)?;
    }
    report.tell(registry_rules::registries(config, &routed).await)?;
    match Lake::open(config).await {
        Err(error) => report.tell([Finding::error("the lake cannot be opened", &error)])?,
        Ok(lake) => {
            let found = storage(lake.storage()).await;
            let reachable = !matches!(found.first(), Some(Finding::Problem(..)));
            report.tell(found)?;
            report.tell(databases(config, &lake).await)?;
            if reachable {
                report.tell(
                    table_rules::tables(config, &lake, &routed, cluster.as_ref().ok()).await,
                )?;
            }
        }
    }
    match report.problems {
        0 => print("everything is in place\n"),
        1 => Err(Failure::runtime("1 problem was found")),
        count => Err(Failure::runtime(format!("{count} problems were found"))),
    }
}

/// Whether the topics are there.
fn topics(config: &ResolvedConfig, cluster: &broker::Cluster, routed: &[Routed]) -> Vec<Finding> {
    let mut findings = Vec::new();
    for (index, entry) in config.tables.iter().enumerate() {
        let tables = routed.iter().filter(|table| table.entry == index);
        match &entry.topics {
            Topics::Pattern { text, .. } => match tables.count() {
                0 => findings.push(Finding::problem(
                    format!("no topic matches `{text}` ({}.topic_pattern)", entry.path),
                    "start the connector, or correct the pattern: it has to match the whole name",
                )),
                count => findings.push(Finding::Ok(format!("`{text}` gives {count} tables"))),
            },
            Topics::Names(names) => {
                findings.extend(names.iter().map(|name| topic(&entry.path, name, cluster)));
            }
        }
    }
    for letters in dead_letter_topics(config) {
        if !cluster.topics.contains_key(&letters) {
            findings.push(Finding::note(
                format!("dead-letter topic `{letters}` is not there"),
                "create it, unless the cluster creates topics by itself",
            ));
        }
    }
    findings
}

fn topic(entry: &str, name: &str, cluster: &broker::Cluster) -> Finding {
    let alike = |known: &&String| {
        strsim::damerau_levenshtein(known, name) <= 3 || known.eq_ignore_ascii_case(name)
    };
    match cluster.topics.get(name) {
        Some(1) => Finding::Ok(format!("topic `{name}`: 1 partition")),
        Some(count) => Finding::note(
            format!("topic `{name}`: {count} partitions"),
            "where keys change and several processes are to read it, declare REPLICA IDENTITY FULL \
             on the source's table: an unchanged TOAST value may not follow its row from one \
             process to the other in time",
        ),
        None => Finding::problem(
            format!("topic `{name}` ({entry}) is not there"),
            match cluster.topics.keys().find(alike) {
                Some(known) => format!("did you mean `{known}`?"),
                None => "start the connector, or create the topic".to_owned(),
            },
        ),
    }
}

fn dead_letter_topics(config: &ResolvedConfig) -> std::collections::BTreeSet<String> {
    let topic = |bad: &BadRecords| match bad {
        BadRecords::DeadLetterTopic(topic) => Some(topic.clone()),
        BadRecords::Halt => None,
    };
    config.tables.iter().filter_map(|table| topic(&table.bad_records)).collect()
}

/// The settings of the topics, as far as the cluster tells.
async fn topic_settings(
    config: &ResolvedConfig,
    cluster: &broker::Cluster,
    routed: &[Routed],
) -> broker::TopicSettings {
    let topics = routed.iter().flat_map(|table| table.topics.iter());
    let topics: Vec<String> = topics
        .filter(|name| cluster.topics.contains_key(*name))
        .take(TOPICS_MAX)
        .cloned()
        .collect();
    if topics.is_empty() {
        return broker::TopicSettings::default();
    }
    broker::topic_settings(&config.kafka, &topics).await
}

/// Whether the lake can be written to, and refuses to overwrite when asked to.
async fn storage(storage: &Storage) -> Vec<Finding> {
    let place = storage.location();
    match storage.probe().await {
        Err(error) => {
            vec![Finding::error(format!("the lake at {place} cannot be written to"), &error)]
        }
        Ok(Probe::Unfit { what, next } | Probe::Unanswered { what, next }) => {
            vec![Finding::problem(what, next)]
        }
        Ok(Probe::Enforced { undeleted }) => {
            let fit = format!("the lake at {place} is writable and enforces conditional puts");
            let undeleted = undeleted.map(|error| {
                Finding::note(
                    format!(
                        "the lake at {place} does not let objects be deleted: {}",
                        error.chain()
                    ),
                    "allow it, or remove old versions of the tables in another way",
                )
            });
            std::iter::once(Finding::Ok(fit)).chain(undeleted).collect()
        }
    }
}

/// Whether the catalog answers, has the databases and lets us look.
async fn databases(config: &ResolvedConfig, lake: &Lake) -> Vec<Finding> {
    let mut findings = Vec::new();
    if let Catalog::Rest(rest) = lake.catalog() {
        let place = format!("the REST catalog at {}", rest.uri());
        match rest.connect().await {
            Ok(()) => findings.push(Finding::Ok(format!("{place} answers"))),
            Err(error) => return vec![Finding::error(format!("{place} cannot be used"), &error)],
        }
    }
    for name in tables::databases(config) {
        findings.extend(match lake.catalog() {
            Catalog::Filesystem => None,
            Catalog::Glue(glue) => {
                let found = glue.has_database(&name).await;
                Some(database(&format!("Glue database `{name}`"), found, glue.creates_databases()))
            }
            Catalog::Rest(rest) => {
                let found = rest.has_database(&name).await;
                let what = format!("namespace `{name}` in the REST catalog");
                Some(database(&what, found, rest.creates_databases()))
            }
        });
    }
    findings
}

fn database(what: &str, found: Result<bool, lakebed_sinks::Error>, is_made: bool) -> Finding {
    match found {
        Err(error) => Finding::error(format!("{what} cannot be seen"), &error),
        Ok(true) => Finding::Ok(what.to_owned()),
        Ok(false) if is_made => {
            Finding::Ok(format!("{what} is not there yet; `lakebed run` makes it"))
        }
        Ok(false) => Finding::problem(
            format!("there is no {what}"),
            "create it, or set `lake.catalog.create_databases: true`",
        ),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use lakebed_sinks::storage::S3Options;

    #[tokio::test]
    async fn a_writable_lake_is_found_so_and_left_as_it_was() {
        let folder = tempfile::tempdir().expect("folder");
        let place = folder.path().to_str().expect("UTF-8");
        let lake = Storage::open(place, &S3Options::default()).expect("open");

        let findings = storage(&lake).await;

        assert_eq!(
            findings,
            [Finding::Ok(format!(
                "the lake at file://{place} is writable and enforces conditional puts"
            ))]
        );
        assert_eq!(lake.list("").await.expect("list"), []);
    }

    #[test]
    fn a_missing_topic_is_named_with_the_nearest_one() {
        let mut cluster = broker::Cluster::default();
        cluster.topics.insert("shop.public.orders".to_owned(), 1);

        assert_eq!(
            topic("tables[0]", "shop.public.order", &cluster),
            Finding::problem(
                "topic `shop.public.order` (tables[0]) is not there",
                "did you mean `shop.public.orders`?"
            )
        );
        let found = topic("tables[0]", "shop.public.orders", &cluster);
        assert_eq!(found, Finding::Ok("topic `shop.public.orders`: 1 partition".to_owned()));
    }
}
