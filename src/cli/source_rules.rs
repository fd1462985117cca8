//! What comes before Lakebed, judged: the topics' settings and the connectors that write them.

use std::collections::BTreeSet;
use std::time::Duration;

use lakebed_schemas::config::{ResolvedConfig, ResolvedTable, Routed};
use lakebed_schemas::wire::Encoding;

use super::broker::{Cluster, TopicSettings};
use super::check::Finding;
use super::connect::{self, Connector};
use super::connector_rules::{self, Expected};

/// Retention below which a weekend without Lakebed loses records.
const RETENTION_MIN: Duration = Duration::from_secs(72 * 3600);

/// What nobody tells from here, in words for those who can look.
const UNSEEN: [&str; 3] = [
    "the source's tables: see that each has a primary key (a partial or nullable unique index that \
     Debezium takes instead lets rows overwrite each other), and REPLICA IDENTITY FULL in \
     PostgreSQL where large values change hands with their key",
    "the source's own settings: in MySQL and MariaDB binlog_row_image=FULL, GTIDs on, \
     binlog_transaction_compression and PARTIAL_JSON off; in Oracle supplemental logging of all \
     columns",
    "Connect's worker settings: exactly-once support for sources, where it is to be had, and its \
     default converters",
];

/// Judges the settings of the topics.
pub(super) fn topics(
    config: &ResolvedConfig,
    routed: &[Routed],
    settings: &TopicSettings,
) -> Vec<Finding> {
    let mut findings = Vec::new();
    let names: BTreeSet<&String> = routed.iter().flat_map(|table| table.topics.iter()).collect();
    for (topic, settings) in settings {
        let readers = routed.iter().filter(|table| table.topics.contains(topic));
        let limit = readers.map(|table| config.tables[table.entry].limits.record.record_bytes_max);
        let get = |name: &str| settings.get(name).map(String::as_str);
        findings.extend(cleanup(topic, get("cleanup.policy")));
        findings.extend(retention(topic, get("cleanup.policy"), get("retention.ms")));
        findings.extend(size(topic, get("retention.bytes")));
        findings.extend(largest(topic, get("max.message.bytes"), limit.min()));
        findings.extend(compression(topic, get("compression.type")));
    }
    let unknown = names.iter().filter(|name| !settings.contains_key(**name)).count();
    if unknown > 0 {
        findings.push(Finding::Unseen(format!(
            "the settings of {unknown} topics: retention and clean-up (they are not there, or this \
             user may not describe them)"
        )));
    }
    findings
}

fn cleanup(topic: &str, policy: Option<&str>) -> Option<Finding> {
    let policy = policy.filter(|policy| policy.contains("compact"))?;
    Some(Finding::note(
        format!("topic `{topic}` has cleanup.policy={policy}"),
        "set it to `delete`: compaction takes events away that bronze should keep, and with them \
         values that later events do not repeat",
    ))
}

fn retention(topic: &str, policy: Option<&str>, ms: Option<&str>) -> Option<Finding> {
    if policy.is_some_and(|policy| !policy.contains("delete")) {
        return None;
    }
    let ms: u64 = ms?.parse().ok()?;
    let kept = Duration::from_millis(ms);
    (kept < RETENTION_MIN).then(|| {
        Finding::note(
            format!("topic `{topic}` keeps records for {} hours", kept.as_secs() / 3600),
            "raise `retention.ms` above the longest time that Lakebed may be down: what is gone by \
             then is a gap, and halts the table",
        )
    })
}

fn size(topic: &str, bytes: Option<&str>) -> Option<Finding> {
    let bytes: u64 = bytes?.parse().ok()?;
    Some(Finding::note(
        format!("topic `{topic}` keeps {bytes} bytes for each partition (`retention.bytes`)"),
        "remove it, or see that a snapshot of the source fits: it is written faster than read",
    ))
}

fn largest(topic: &str, bytes: Option<&str>, limit: Option<usize>) -> Option<Finding> {
    let (bytes, limit) = (bytes?.parse::<usize>().ok()?, limit?);
    (bytes > limit).then(|| {
        Finding::note(
            format!(
                "topic `{topic}` takes records of {bytes} bytes, `limits.record_bytes` is {limit}"
            ),
            "raise the limit, or lower `max.message.bytes`: larger records are bad records",
        )
    })
}

fn compression(topic: &str, kind: Option<&str>) -> Option<Finding> {
    (kind? == "uncompressed").then(|| {
        Finding::note(
            format!("topic `{topic}` has compression.type=uncompressed"),
            "set it to `producer` and the connector's producer to lz4 or zstd: change events shrink \
             to a tenth",
        )
    })
}

/// Judges the connectors that write the topics, if Connect may be asked, and says what cannot be
/// seen.
pub(super) async fn connectors(
    config: &ResolvedConfig,
    cluster: &Cluster,
    routed: &[Routed],
    settings: &TopicSettings,
) -> Vec<Finding> {
    let mut findings = match &config.kafka.connect {
        None => vec![Finding::Unseen(
            "the connectors' configuration: set `kafka.connect.url` to have it checked".to_owned(),
        )],
        Some(connect) => match connect::connectors(connect).await {
            Ok(connectors) => all(config, cluster, routed, settings, &connectors),
            Err(reason) => vec![Finding::problem(
                format!("Kafka Connect at {} cannot be asked: {reason}", connect.url),
                "correct `kafka.connect`, or remove it",
            )],
        },
    };
    findings.extend(UNSEEN.map(|what| Finding::Unseen(what.to_owned())));
    findings
}

fn all(
    config: &ResolvedConfig,
    cluster: &Cluster,
    routed: &[Routed],
    settings: &TopicSettings,
    connectors: &[Connector],
) -> Vec<Finding> {
    let mut findings = Vec::new();
    let prefix = |connector: &Connector| connector.config.get("topic.prefix").cloned();
    let mut without: BTreeSet<&str> =
        routed.iter().flat_map(|table| table.topics.iter().map(String::as_str)).collect();
    for connector in connectors {
        let Some(prefix) = prefix(connector) else { continue };
        let of_prefix = format!("{prefix}.");
        let reads = |table: &&Routed| table.topics.iter().any(|t| t.starts_with(&of_prefix));
        let tables: Vec<&Routed> = routed.iter().filter(reads).collect();
        if tables.is_empty() {
            continue;
        }
        without.retain(|topic| !topic.starts_with(&of_prefix));
        let topics = tables.iter().flat_map(|table| table.topics.iter());
        let topics: Vec<&String> = topics.filter(|topic| topic.starts_with(&of_prefix)).collect();
        let compacted = |topic: &&&String| {
            let policy = settings.get(**topic).and_then(|settings| settings.get("cleanup.policy"));
            policy.is_some_and(|policy| policy.contains("compact"))
        };
        let is_compacted = topics.iter().any(|topic| compacted(&topic));
        let partitions = topics.iter().filter_map(|topic| cluster.topics.get(*topic)).max();
        // Tables that take the same topics differently are judged one by one, each finding once.
        for table in tables {
            let entry = &config.tables[table.entry];
            let expected = expected(entry, is_compacted, partitions.copied().unwrap_or(1));
            for finding in connector_rules::judge(connector, &expected) {
                if !findings.contains(&finding) {
                    findings.push(finding);
                }
            }
        }
    }
    let mut seen = BTreeSet::new();
    for connector in connectors {
        if let Some(prefix) = prefix(connector)
            && !seen.insert(prefix.clone())
        {
            findings.push(Finding::problem(
                format!("two connectors have `topic.prefix` {prefix}"),
                "give each its own: their events mix in one topic, and their positions do not compare",
            ));
        }
    }
    if !without.is_empty() {
        findings.push(Finding::Unseen(format!(
            "the connectors of {} topics: no connector's `topic.prefix` is theirs",
            without.len()
        )));
    }
    findings
}

fn expected(entry: &ResolvedTable, compacted: bool, partitions: usize) -> Expected<'_> {
    let format = match entry.records.wire.map(|wire| wire.encoding) {
        None => "json",
        Some(Encoding::Avro) => "avro",
        Some(Encoding::Protobuf) => "protobuf",
    };
    Expected {
        format,
        flattened: entry.records.flattened,
        placeholder: &entry.placeholder,
        compacted,
        partitions,
        sweep_ghosts: entry.sweep_ghosts,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn says(finding: Option<Finding>, word: &str) {
        let text = finding.expect("a finding").to_string();
        assert!(text.contains(word), "{text}");
    }

    #[test]
    fn each_setting_of_a_topic_that_takes_records_away_is_named() {
        says(cleanup("t", Some("compact,delete")), "compact");
        says(retention("t", Some("delete"), Some("3600000")), "1 hours");
        says(size("t", Some("1048576")), "1048576");
        says(largest("t", Some("2000"), Some(1000)), "limits.record_bytes");
        says(compression("t", Some("uncompressed")), "lz4");
    }

    #[test]
    fn usual_settings_are_left_alone() {
        assert_eq!(cleanup("t", Some("delete")), None);
        assert_eq!(retention("t", Some("delete"), Some("604800000")), None);
        assert_eq!(retention("t", Some("delete"), Some("-1")), None);
        assert_eq!(retention("t", Some("compact"), Some("1000")), None);
        assert_eq!(size("t", Some("-1")), None);
        assert_eq!(largest("t", Some("1048588"), Some(32 << 20)), None);
        assert_eq!(compression("t", Some("producer")), None);
    }
}
