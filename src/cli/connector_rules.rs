//! What a connector is set to, judged: settings that lose or change values before Lakebed sees them.
//!
//! Each rule looks at one connector and says in plain words what it costs and what to set.

mod form;

use super::check::Finding;
use super::connect::Connector;
use form::{
    documents, flattened_deletes, flattened_nulls, flattened_positions, large_objects, no_snapshot,
    protobuf_nulls, replica_identity, same_topic, swept_and_filtered,
};

/// How the tables that read the connector's topics take its records.
#[derive(Debug, Clone)]
pub(super) struct Expected<'a> {
    /// `json`, `avro` or `protobuf`.
    pub(super) format: &'a str,
    pub(super) flattened: bool,
    pub(super) placeholder: &'a str,
    /// Whether one of the topics is compacted.
    pub(super) compacted: bool,
    /// The most partitions that one of the topics has.
    pub(super) partitions: usize,
    /// Whether rows go that a whole snapshot did not find.
    pub(super) sweep_ghosts: bool,
}

/// What a rule has found: what it is and what it costs, and the next move.
type Found = Option<(String, String)>;
type Rule = fn(&Connector, &Expected<'_>) -> Found;

/// Rules whose breach makes tables wrong or stops them.
const PROBLEMS: [Rule; 6] =
    [failed, wrong_format, wrong_form, wrong_placeholder, swept_and_filtered, same_topic];

/// Rules whose breach loses something that one may want.
const NOTES: [Rule; 29] = [
    null_becomes_default,
    avro_default,
    conversion_failures,
    processing_failures,
    decimals,
    unsigned,
    times,
    schemaless_times,
    source_types,
    plugin,
    partition_root,
    heartbeat,
    tombstones,
    tolerance,
    producer,
    key_columns,
    truncates,
    partition_routing,
    merged_keys,
    filters,
    flattened_deletes,
    flattened_positions,
    flattened_nulls,
    protobuf_nulls,
    documents,
    large_objects,
    replica_identity,
    no_snapshot,
    versions,
];

const DEFAULT_PLACEHOLDER: &str = "__debezium_unavailable_value";

/// Judges a connector; says so, too, where all is well.
pub(super) fn judge(connector: &Connector, expected: &Expected<'_>) -> Vec<Finding> {
    let about = |what: String| format!("connector `{}`: {what}", connector.name);
    let problems = PROBLEMS.iter().filter_map(|rule| rule(connector, expected));
    let mut findings: Vec<Finding> =
        problems.map(|(what, next)| Finding::problem(about(what), next)).collect();
    let notes = NOTES.iter().filter_map(|rule| rule(connector, expected));
    findings.extend(notes.map(|(what, next)| Finding::note(about(what), next)));
    for part in ["key", "value"] {
        if connector.get(&format!("{part}.converter")).is_none() {
            findings.push(Finding::Unseen(about(format!(
                "`{part}.converter` is the worker's: see that its \
                 `{part}.converter.replace.null.with.default` is false"
            ))));
        }
    }
    if findings.is_empty() {
        findings.push(Finding::Ok(about("nothing to object to".to_owned())));
    }
    findings
}

impl Connector {
    fn get(&self, name: &str) -> Option<&str> {
        self.config.get(name).map(String::as_str)
    }

    fn is(&self, name: &str, value: &str) -> bool {
        self.get(name).is_some_and(|found| found.eq_ignore_ascii_case(value))
    }

    /// Whether it is a connector for one of these databases, by its class.
    fn is_for(&self, databases: &[&str]) -> bool {
        let class = self.get("connector.class").unwrap_or_default().to_lowercase();
        databases.iter().any(|database| class.contains(database))
    }

    fn binlog(&self) -> bool {
        self.is_for(&["mysql", "mariadb"])
    }

    /// Prefix of the settings of the transformation whose class ends so.
    fn transformation(&self, class: &str) -> Option<String> {
        let names = self.get("transforms")?.split(',').map(str::trim);
        let mut prefixes = names.map(|name| format!("transforms.{name}"));
        prefixes.find(|prefix| {
            let found = self.get(&format!("{prefix}.type")).unwrap_or_default();
            found.rsplit('.').next().unwrap_or_default().split('$').next() == Some(class)
        })
    }
}

fn found(what: impl Into<String>, next: impl Into<String>) -> Found {
    Some((what.into(), next.into()))
}

fn failed(connector: &Connector, _: &Expected<'_>) -> Found {
    let failed = connector.states.iter().filter(|state| *state == "FAILED").count();
    let next =
        "see its trace in Connect (`/connectors/<name>/status`), correct the cause, restart it";
    (failed > 0)
        .then(|| ("it, or a task of it, has failed: nothing new arrives".into(), next.into()))
}

fn wrong_format(connector: &Connector, expected: &Expected<'_>) -> Found {
    let converter = connector.get("value.converter")?;
    let name = converter.rsplit('.').next().unwrap_or_default();
    let mut formats = ["json", "avro", "protobuf"].into_iter();
    let writes = formats.find(|format| name.to_lowercase().starts_with(format))?;
    // It frames its JSON, which is a format of its own.
    if writes == expected.format || name == "JsonSchemaConverter" {
        return None;
    }
    found(
        format!("`value.converter` is {name}, and `records.format` is {}", expected.format),
        format!("set `records.format: {writes}` for its tables"),
    )
}

fn wrong_form(connector: &Connector, expected: &Expected<'_>) -> Found {
    let flattens = connector.transformation("ExtractNewRecordState").is_some();
    match (flattens, expected.flattened) {
        (true, false) => found(
            "it flattens records (ExtractNewRecordState), and `records.flattened` is not set",
            "set `records: { flattened: true }`, or better leave the transformation out: it takes \
             the position and the row before from each record",
        ),
        (false, true) => found(
            "it does not flatten records, and `records.flattened` is set",
            "remove `records.flattened`, unless the topics are flattened elsewhere",
        ),
        _ => None,
    }
}

fn wrong_placeholder(connector: &Connector, expected: &Expected<'_>) -> Found {
    let sends = connector.get("unavailable.value.placeholder").unwrap_or(DEFAULT_PLACEHOLDER);
    if sends == expected.placeholder {
        return None;
    }
    found(
        format!(
            "its `unavailable.value.placeholder` is `{sends}`, Lakebed waits for `{}`: values that \
             were not sent would be written as text",
            expected.placeholder
        ),
        "set `records.unavailable_value_placeholder` to the same",
    )
}

fn null_becomes_default(connector: &Connector, expected: &Expected<'_>) -> Found {
    if expected.format != "json" {
        return None;
    }
    let part = ["value", "key"].into_iter().find(|part| {
        let name = format!("{part}.converter");
        let ours = connector.get(&name).is_some_and(|class| class.ends_with(".JsonConverter"));
        ours && !connector.is(&format!("{name}.replace.null.with.default"), "false")
    })?;
    found(
        format!(
            "`{part}.converter.replace.null.with.default` is not false: a NULL of a column with a DEFAULT arrives as the default"
        ),
        format!("set `{part}.converter.replace.null.with.default=false`"),
    )
}

fn avro_default(connector: &Connector, _: &Expected<'_>) -> Found {
    let class = connector.get("value.converter")?;
    let name = "value.converter.ignore.default.for.nullables";
    if class != "io.confluent.connect.avro.AvroConverter" || connector.is(name, "true") {
        return None;
    }
    found(
        format!("`{name}` is not true: a NULL of a column with a DEFAULT arrives as the default"),
        format!("set `{name}=true`"),
    )
}

fn conversion_failures(connector: &Connector, _: &Expected<'_>) -> Found {
    let name = "event.converting.failure.handling.mode";
    if connector.is(name, "fail") {
        return None;
    }
    found(
        format!("`{name}` is not fail: a value that the connector cannot convert arrives as NULL"),
        format!("set `{name}=fail`"),
    )
}

fn processing_failures(connector: &Connector, _: &Expected<'_>) -> Found {
    let name = "event.processing.failure.handling.mode";
    // The connector for SQL Server and some others have no such setting; its default is `fail`.
    if connector.get(name).is_none_or(|mode| mode.eq_ignore_ascii_case("fail")) {
        return None;
    }
    found(
        format!("`{name}` is not fail: an event that it cannot process is passed over"),
        format!("set `{name}=fail`"),
    )
}

fn decimals(connector: &Connector, _: &Expected<'_>) -> Found {
    if !connector.is("decimal.handling.mode", "double") {
        return None;
    }
    found(
        "`decimal.handling.mode` is double: decimals lose digits",
        "set `decimal.handling.mode=precise`, or `string`",
    )
}

fn unsigned(connector: &Connector, _: &Expected<'_>) -> Found {
    if !connector.binlog() || connector.is("bigint.unsigned.handling.mode", "precise") {
        return None;
    }
    found(
        "`bigint.unsigned.handling.mode` is not precise: values above 9223372036854775807 arrive as negative numbers",
        "set `bigint.unsigned.handling.mode=precise`, or say which columns are `decimal(20,0)` with \
         `encoding: unsigned`",
    )
}

fn times(connector: &Connector, _: &Expected<'_>) -> Found {
    if !connector.is("time.precision.mode", "connect") {
        return None;
    }
    found(
        "`time.precision.mode` is connect: times lose what is below a millisecond",
        "set `time.precision.mode=adaptive_time_microseconds`, or `microseconds`",
    )
}

fn schemaless_times(connector: &Connector, _: &Expected<'_>) -> Found {
    let json = connector.get("value.converter")?.ends_with(".JsonConverter");
    let schemaless = connector.is("value.converter.schemas.enable", "false");
    let mode = connector.get("time.precision.mode").unwrap_or("adaptive");
    let tells = ["isostring", "microseconds"].iter().any(|m| mode.eq_ignore_ascii_case(m));
    if !json || !schemaless || tells || connector.is("time.precision.mode", "connect") {
        return None;
    }
    found(
        "records carry no schema, and numbers do not say which unit a time has",
        "set `time.precision.mode=isostring` or `microseconds`, or say in `columns` what times are",
    )
}

fn source_types(connector: &Connector, _: &Expected<'_>) -> Found {
    let propagates = connector.config.keys().any(|name| {
        name.starts_with("column.propagate.source.type")
            || name.starts_with("datatype.propagate.source.type")
    });
    if propagates || connector.is("value.converter.schemas.enable", "false") {
        return None;
    }
    found(
        "`column.propagate.source.type` is not set: schemas do not say what a column is in the source",
        "set `column.propagate.source.type=.*`: unsigned columns and lengths are known then",
    )
}

fn plugin(connector: &Connector, _: &Expected<'_>) -> Found {
    let is_postgres = connector.is_for(&["postgres"]);
    if !is_postgres || connector.get("plugin.name") == Some("pgoutput") {
        return None;
    }
    found(
        "`plugin.name` is not pgoutput: the default, decoderbufs, is not part of PostgreSQL",
        "set `plugin.name=pgoutput`",
    )
}

fn partition_root(connector: &Connector, _: &Expected<'_>) -> Found {
    let is_postgres = connector.is_for(&["postgres"]);
    if !is_postgres || connector.is("publish.via.partition.root", "true") {
        return None;
    }
    found(
        "`publish.via.partition.root` is not true: a partitioned table comes as one topic for each of its leaves",
        "set it to true if there are partitioned tables (and in a publication that is there already)",
    )
}

fn heartbeat(connector: &Connector, _: &Expected<'_>) -> Found {
    let beats = connector.get("heartbeat.interval.ms").is_some_and(|ms| ms != "0");
    if !connector.is_for(&["postgres"]) || beats {
        return None;
    }
    found(
        "`heartbeat.interval.ms` is 0: while its tables are quiet, the replication slot keeps WAL from being removed",
        "set `heartbeat.interval.ms=10000`",
    )
}

fn tombstones(connector: &Connector, expected: &Expected<'_>) -> Found {
    if !expected.compacted || !connector.is("tombstones.on.delete", "false") {
        return None;
    }
    found(
        "`tombstones.on.delete` is false and a topic is compacted: deletes come to lack",
        "set `tombstones.on.delete=true`, or `cleanup.policy=delete` on the topic",
    )
}

fn tolerance(connector: &Connector, _: &Expected<'_>) -> Found {
    if !connector.is("errors.tolerance", "all") {
        return None;
    }
    found(
        "`errors.tolerance` is all: records that it cannot convert are dropped without a trace",
        "set `errors.tolerance=none`",
    )
}

fn producer(connector: &Connector, _: &Expected<'_>) -> Found {
    let weaker = |name: &str, safe: &[&str]| {
        let name = format!("producer.override.{name}");
        let value = connector.get(&name)?;
        (!safe.contains(&value)).then_some(name)
    };
    let name = weaker("acks", &["all", "-1"])
        .or_else(|| weaker("max.in.flight.requests.per.connection", &["1", "2", "3", "4", "5"]))
        .or_else(|| weaker("enable.idempotence", &["true"]))?;
    found(
        format!("`{name}` lets events be lost or change places on their way to Kafka"),
        format!("remove `{name}`"),
    )
}

fn key_columns(connector: &Connector, _: &Expected<'_>) -> Found {
    connector.get("message.key.columns")?;
    found(
        "`message.key.columns` is set: where these columns are not unique, rows overwrite each other",
        "see that they are unique, and part of the replica identity, so that deletes carry them",
    )
}

fn truncates(connector: &Connector, expected: &Expected<'_>) -> Found {
    let sends = connector.is("skipped.operations", "none");
    if !sends || expected.partitions < 2 {
        return None;
    }
    found(
        "truncates are sent (`skipped.operations=none`) and a topic has several partitions: a \
         truncate halts its table after an incremental snapshot, whose rows do not tell whether \
         they were there before it, and where several processes read the topic",
        "use one partition, or one process and no incremental snapshots, or `on_truncate: ignore`",
    )
}

fn partition_routing(connector: &Connector, _: &Expected<'_>) -> Found {
    connector.transformation("PartitionRouting")?;
    found(
        "it routes records to partitions by other columns than the key: the events of one row lose their order",
        "remove PartitionRouting, or route by the key's columns alone",
    )
}

fn merged_keys(connector: &Connector, _: &Expected<'_>) -> Found {
    let routers = ["ByLogicalTableRouter", "ToLogicalTopicRouter"];
    let prefix = routers.iter().find_map(|router| connector.transformation(router))?;
    if !connector.is(&format!("{prefix}.key.enforce.uniqueness"), "false") {
        return None;
    }
    found(
        "tables are merged into one topic without telling their keys apart (`key.enforce.uniqueness=false`)",
        "set it to true, unless no key is in two of them",
    )
}

fn filters(connector: &Connector, _: &Expected<'_>) -> Found {
    let class = ["Filter", "ContentBasedRouter"]
        .into_iter()
        .find(|class| connector.transformation(class).is_some())?;
    found(
        format!(
            "{class} takes records out of the history of a row: what remains may be no state that it ever had"
        ),
        "filter tables or snapshots instead of events",
    )
}

fn versions(connector: &Connector, _: &Expected<'_>) -> Found {
    let version = connector.version.as_deref()?;
    let mut numbers = version.split('.').map_while(|number| number.parse::<u32>().ok());
    let version_is = (numbers.next()?, numbers.next().unwrap_or(0));
    let (least, why) = if connector.is_for(&["oracle"]) {
        ((3, 2), "events have no position in their transaction, so repeats cannot be told apart")
    } else if connector.is_for(&["sqlserver"]) {
        ((3, 6), "columns of the max types that did not change arrive as NULL")
    } else {
        return None;
    };
    (version_is < least).then(|| {
        let (major, minor) = least;
        (format!("it is version {version}: {why}"), format!("use {major}.{minor} or newer"))
    })
}

#[cfg(test)]
mod tests;
