//! The connectors that users copy have every setting that the document asks for, and the document names
//! every setting that they have.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::Value as Json;

const SOURCE: &str = include_str!("../../docs/source.md");
const POSTGRES_SQL: &str = include_str!("../../examples/connectors/postgres.sql");
const MYSQL_SQL: &str = include_str!("../../examples/connectors/mysql.sql");
const MSK_WORKER: &str = include_str!("../../examples/connectors/msk-connect-worker.properties");

type Settings = BTreeMap<String, String>;

/// Which connectors have a setting.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Of {
    All,
    Postgres,
    Mysql,
}

/// What a setting has to be.
#[derive(Debug, Clone, Copy)]
enum Is {
    /// This.
    Just(&'static str),
    /// A number of at least this.
    AtLeast(u64),
    /// Something: what, only who uses it knows.
    Said,
}

use Is::{AtLeast, Just, Said};
use Of::{All, Mysql, Postgres};

/// The rows of the document's table of settings.
const SAFE: [(&str, Of, Is); 34] = [
    ("bigint.unsigned.handling.mode", Mysql, Just("precise")),
    ("column.propagate.source.type", All, Just(".*")),
    ("database.server.id", Mysql, AtLeast(1)),
    ("decimal.handling.mode", All, Just("precise")),
    ("enable.time.adjuster", Mysql, Just("false")),
    ("errors.tolerance", All, Just("none")),
    ("event.converting.failure.handling.mode", All, Just("fail")),
    ("event.processing.failure.handling.mode", All, Just("fail")),
    ("heartbeat.action.query", Postgres, Said),
    ("heartbeat.interval.ms", All, AtLeast(1_000)),
    ("interval.handling.mode", Postgres, Just("string")),
    ("key.converter", All, Just("org.apache.kafka.connect.json.JsonConverter")),
    ("key.converter.replace.null.with.default", All, Just("false")),
    ("key.converter.schemas.enable", All, Just("true")),
    ("notification.enabled.channels", All, Just("sink")),
    ("notification.sink.topic.name", All, Said),
    ("plugin.name", Postgres, Just("pgoutput")),
    ("publish.via.partition.root", Postgres, Just("true")),
    ("schema.history.internal.kafka.topic", Mysql, Said),
    ("signal.data.collection", All, Said),
    ("skipped.operations", All, Just("none")),
    ("snapshot.mode", All, Just("initial")),
    ("tasks.max", All, Just("1")),
    ("time.precision.mode", All, Just("adaptive_time_microseconds")),
    ("tombstones.on.delete", All, Just("true")),
    ("topic.creation.default.cleanup.policy", All, Just("delete")),
    ("topic.creation.default.partitions", All, Just("1")),
    ("topic.creation.default.replication.factor", All, Just("-1")),
    // Longer than what the document keeps the binary log for.
    ("topic.creation.default.retention.ms", All, AtLeast(3 * 24 * 3_600_000)),
    ("topic.prefix", All, Said),
    ("value.converter", All, Just("org.apache.kafka.connect.json.JsonConverter")),
    ("value.converter.replace.null.with.default", All, Just("false")),
    ("value.converter.schemas.enable", All, Just("true")),
    ("connector.class", All, Said),
];

/// Settings of those above that need no row: without them there is no connector, or another one.
const OBVIOUS: [&str; 5] =
    ["connector.class", "key.converter", "tasks.max", "topic.prefix", "value.converter"];

/// What the document asks for and these connectors cannot have, or have outside of their file.
const ELSEWHERE: [&str; 3] = [
    "REPLICA IDENTITY FULL",
    "publish_via_partition_root",
    "value.converter.ignore.default.for.nullables",
];

/// Where the source is and what is taken of it; defaults that are said once more.
const PLAIN: [&str; 13] = [
    "database.dbname",
    "database.hostname",
    "database.include.list",
    "database.password",
    "database.port",
    "database.user",
    "hstore.handling.mode",
    "include.schema.changes",
    "publication.autocreate.mode",
    "publication.name",
    "schema.history.internal.kafka.bootstrap.servers",
    "slot.name",
    "table.include.list",
];

/// What only MSK Connect's have: encryption and who they are there.
fn of_msk(setting: &str) -> bool {
    let history = ["producer", "consumer"]
        .map(|client| format!("schema.history.internal.{client}."))
        .iter()
        .any(|prefix| setting.starts_with(prefix));
    history || ["database.sslmode", "database.ssl.mode"].contains(&setting)
}

/// The connectors' settings by file, with the database that each is for.
fn connectors() -> [(&'static str, Of, Settings); 4] {
    macro_rules! file {
        ($name:literal) => {
            ($name, include_str!(concat!("../../examples/connectors/", $name)))
        };
    }
    [
        (file!("postgres.json"), Postgres),
        (file!("msk-connect-postgres.json"), Postgres),
        (file!("mysql.json"), Mysql),
        (file!("msk-connect-mysql.json"), Mysql),
    ]
    .map(|((name, text), of)| {
        let json: Json = serde_json::from_str(text).expect("a connector is JSON");
        let settings = json.get("connectorConfiguration").unwrap_or(&json).clone();
        (name, of, serde_json::from_value(settings).expect("settings are text"))
    })
}

/// What stands between back ticks.
fn quoted(text: &str) -> BTreeSet<String> {
    text.split('`').skip(1).step_by(2).map(str::to_owned).collect()
}

/// The first cells of the document's table of settings.
fn rows() -> Vec<&'static str> {
    let (_, table) = SOURCE.split_once("| setting | without it |\n").expect("the table is there");
    let rows = table.lines().skip(1).take_while(|line| line.starts_with('|'));
    rows.map(|row| row.trim_matches('|').split(" | ").next().expect("a cell").trim()).collect()
}

#[test]
fn every_connector_has_every_safe_setting() {
    for (file, of, settings) in connectors() {
        for (name, whose, is) in SAFE {
            if whose != All && whose != of {
                assert!(!settings.contains_key(name), "{file} has `{name}`, which is not its own");
                continue;
            }
            let value = settings.get(name).unwrap_or_else(|| panic!("{file} lacks `{name}`"));
            let fits = match is {
                Just(expected) => value == expected,
                AtLeast(least) => value.parse().is_ok_and(|number: u64| number >= least),
                Said => !value.trim().is_empty(),
            };
            assert!(fits, "{file}: `{name}` is `{value}` and not {is:?}");
        }
        let known: BTreeSet<&str> = SAFE.iter().map(|(name, ..)| *name).chain(PLAIN).collect();
        let other = |name: &&String| !known.contains(name.as_str());
        let mut others = settings.keys().filter(other);
        let msk = file.starts_with("msk-connect");
        assert!(others.all(|name| msk && of_msk(name)), "{file} has settings that nobody judges");
    }
}

#[test]
fn the_document_says_what_goes_wrong_without_each_safe_setting() {
    let rows = rows();
    assert!(rows.len() > 20, "{rows:?}");
    let mut asked_for: BTreeSet<String> = BTreeSet::new();
    for (name, _, is) in SAFE {
        if OBVIOUS.contains(&name) {
            continue;
        }
        let row = rows.iter().find(|row| quoted(row).contains(name));
        let row = row.unwrap_or_else(|| panic!("docs/source.md has no row for `{name}`"));
        if let Just(value) = is {
            assert!(quoted(row).contains(value), "docs/source.md does not ask for {value}: {row}");
        }
        asked_for.insert(name.to_owned());
    }
    let values: BTreeSet<&str> = SAFE
        .iter()
        .filter_map(|(.., is)| match is {
            Just(value) => Some(*value),
            AtLeast(_) | Said => None,
        })
        .chain(["connect"])
        .collect();
    asked_for.extend(ELSEWHERE.map(str::to_owned));
    let unheld: BTreeSet<String> = rows
        .iter()
        .flat_map(|row| quoted(row))
        .filter(|name| !asked_for.contains(name) && !values.contains(name.as_str()))
        .collect();
    assert!(unheld.is_empty(), "docs/source.md asks for what no test holds: {unheld:?}");
}

#[test]
fn what_the_connectors_name_in_the_database_is_made_there() {
    for (file, of, settings) in connectors() {
        let sql = if of == Postgres { POSTGRES_SQL } else { MYSQL_SQL };
        let signals = &settings["signal.data.collection"];
        let table = |name: &str| name.trim_start_matches("public.").to_owned();
        let made = |name: &str| sql.contains(&format!("CREATE TABLE {} (", table(name)));
        assert!(made(signals), "{file}: {signals}");
        assert!(sql.contains(&settings["database.user"]), "{file}");
        if of != Postgres {
            continue;
        }
        let beat = settings["heartbeat.action.query"].split_whitespace().nth(2).expect("a table");
        assert!(made(beat), "{file}: {beat}");
        let publication = format!("CREATE PUBLICATION {} FOR TABLE", settings["publication.name"]);
        let (_, published) = sql.split_once(&publication).expect("the publication is made");
        let captured = settings["table.include.list"].split(',');
        for name in captured.chain([beat, signals.as_str()]) {
            assert!(published.contains(&table(name)), "{file}: {name} is not published");
        }
        assert!(published.contains("publish_via_partition_root = true"), "{published}");
    }
    assert!(POSTGRES_SQL.contains("REPLICA IDENTITY FULL"));
}

#[test]
fn the_user_of_mysql_may_lock_tables_where_the_global_lock_is_refused() {
    let (_, grant) = MYSQL_SQL.split_once("GRANT ").expect("a grant");
    let (granted, _) = grant.split_once(" ON ").or_else(|| grant.split_once("\n")).expect("on");
    let granted: BTreeSet<&str> = granted.split(',').map(str::trim).collect();
    let all = [
        "LOCK TABLES",
        "RELOAD",
        "REPLICATION CLIENT",
        "REPLICATION SLAVE",
        "SELECT",
        "SHOW DATABASES",
    ];
    assert_eq!(granted, all.into());
    assert!(SOURCE.contains("its user needs `RELOAD` and `LOCK TABLES`"));
}

#[test]
fn the_worker_of_msk_connect_keeps_nulls_too() {
    let settings: BTreeMap<&str, &str> = MSK_WORKER
        .lines()
        .filter(|line| !line.starts_with('#'))
        .filter_map(|line| line.split_once('='))
        .collect();
    for part in ["key", "value"] {
        let name = format!("{part}.converter.replace.null.with.default");
        assert_eq!(settings.get(name.as_str()), Some(&"false"), "{name}");
    }
    assert_eq!(settings.get("config.providers"), Some(&"secretsmanager"));
}
