//! Each rule by the one setting that breaks it.

use super::*;

/// A connector to which nothing is to be objected, but for what is set here. An empty value removes.
fn connector(class: &str, settings: &[(&str, &str)]) -> Connector {
    let mut config: std::collections::BTreeMap<String, String> = [
        ("connector.class", class),
        ("key.converter", "org.apache.kafka.connect.json.JsonConverter"),
        ("value.converter", "org.apache.kafka.connect.json.JsonConverter"),
        ("key.converter.replace.null.with.default", "false"),
        ("value.converter.replace.null.with.default", "false"),
        ("event.converting.failure.handling.mode", "fail"),
        ("bigint.unsigned.handling.mode", "precise"),
        ("column.propagate.source.type", ".*"),
        ("plugin.name", "pgoutput"),
        ("publish.via.partition.root", "true"),
        ("heartbeat.interval.ms", "10000"),
        ("lob.enabled", "true"),
    ]
    .map(|(name, value)| (name.to_owned(), value.to_owned()))
    .into();
    for (name, value) in settings {
        match *value {
            "" => config.remove(*name),
            value => config.insert((*name).to_owned(), value.to_owned()),
        };
    }
    Connector { name: "shop".into(), config, states: vec!["RUNNING".into()], version: None }
}

const POSTGRES: &str = "io.debezium.connector.postgresql.PostgresConnector";
const MARIADB: &str = "io.debezium.connector.mariadb.MariaDbConnector";
const ORACLE: &str = "io.debezium.connector.oracle.OracleConnector";
const SQL_SERVER: &str = "io.debezium.connector.sqlserver.SqlServerConnector";

fn expected() -> Expected<'static> {
    let placeholder = DEFAULT_PLACEHOLDER;
    Expected {
        format: "json",
        flattened: false,
        placeholder,
        compacted: true,
        partitions: 2,
        sweep_ghosts: true,
    }
}

#[track_caller]
fn objects(class: &str, settings: &[(&str, &str)], word: &str) {
    let findings = judge(&connector(class, settings), &expected());
    assert_eq!(findings.len(), 1, "{findings:?}");
    let text = findings[0].to_string();
    assert!(text.contains(word), "{text}");
    assert!(!matches!(findings[0], Finding::Ok(_)), "{text}");
}

#[test]
fn a_connector_set_as_it_should_be_is_left_alone() {
    for class in [POSTGRES, MARIADB, ORACLE, SQL_SERVER] {
        let findings = judge(&connector(class, &[]), &expected());
        assert!(matches!(&findings[..], [Finding::Ok(_)]), "{findings:?}");
    }
}

#[test]
fn each_setting_that_changes_or_loses_values_is_named() {
    let null = "replace.null.with.default";
    objects(POSTGRES, &[("value.converter.replace.null.with.default", "")], null);
    objects(POSTGRES, &[("key.converter.replace.null.with.default", "true")], null);
    objects(POSTGRES, &[("event.converting.failure.handling.mode", "")], "arrives as NULL");
    objects(POSTGRES, &[("event.processing.failure.handling.mode", "skip")], "passed over");
    objects(POSTGRES, &[("decimal.handling.mode", "double")], "digits");
    objects(MARIADB, &[("bigint.unsigned.handling.mode", "")], "negative");
    objects(MARIADB, &[("time.precision.mode", "connect")], "millisecond");
    objects(POSTGRES, &[("value.converter.schemas.enable", "false")], "unit");
    objects(POSTGRES, &[("column.propagate.source.type", "")], "in the source");
    objects(POSTGRES, &[("plugin.name", "")], "pgoutput");
    objects(POSTGRES, &[("publish.via.partition.root", "")], "leaves");
    objects(POSTGRES, &[("heartbeat.interval.ms", "0")], "WAL");
    objects(POSTGRES, &[("tombstones.on.delete", "false")], "deletes come to lack");
    objects(POSTGRES, &[("errors.tolerance", "all")], "dropped");
    objects(POSTGRES, &[("producer.override.acks", "1")], "lost");
    objects(
        POSTGRES,
        &[("producer.override.max.in.flight.requests.per.connection", "10")],
        "change places",
    );
    objects(POSTGRES, &[("message.key.columns", "public.t:a")], "unique");
    objects(POSTGRES, &[("skipped.operations", "none")], "truncate");
}

#[test]
fn transformations_that_break_a_rows_history_are_named() {
    let with = |class: &'static str| [("transforms", "a, b"), ("transforms.b.type", class)];
    objects(POSTGRES, &with("io.debezium.transforms.partitions.PartitionRouting"), "order");
    objects(POSTGRES, &with("org.apache.kafka.connect.transforms.Filter"), "history");
    let router = "io.debezium.transforms.ByLogicalTableRouter";
    let [transforms, kind] = with(router);
    let merged = ("transforms.b.key.enforce.uniqueness", "false");
    objects(POSTGRES, &[transforms, kind, merged], "uniqueness");
    let findings = judge(&connector(POSTGRES, &with(router)), &expected());
    assert!(matches!(&findings[..], [Finding::Ok(_)]), "{findings:?}");
}

const FLATTEN: &str = "io.debezium.transforms.ExtractNewRecordState";

#[test]
fn a_flattening_that_leaves_something_out_is_named() {
    let added = "op,source.ts_ms,source.snapshot,source.lsn,source.txId:tx,source.sequence";
    let whole = [
        ("transforms", "flat"),
        ("transforms.flat.type", FLATTEN),
        ("transforms.flat.delete.tombstone.handling.mode", "rewrite-with-tombstone"),
        ("transforms.flat.add.fields", "op, source.ts_ms"),
        ("transforms.flat.add.headers", added),
        ("transforms.flat.replace.null.with.default", "false"),
    ];
    let flattened = Expected { flattened: true, ..expected() };
    let judged = |name: &str, value: &str, expected: &Expected<'_>| {
        let mut settings = connector(POSTGRES, &whole);
        settings.config.insert(format!("transforms.flat.{name}"), value.to_owned());
        judge(&settings, expected)
    };
    let fine = judged("type", FLATTEN, &flattened);
    assert!(matches!(&fine[..], [Finding::Ok(_)]), "{fine:?}");
    for (name, value, word) in [
        ("delete.tombstone.handling.mode", "drop", "drops deletes"),
        ("delete.tombstone.handling.mode", "tombstone", "neither time nor place"),
        ("add.headers", "op,source.snapshot", "leaves source.lsn,source.txId,source.sequence out"),
        ("replace.null.with.default", "true", "arrives as the default"),
    ] {
        let found = judged(name, value, &flattened);
        assert_eq!(found.len(), 1, "{found:?}");
        assert!(found[0].to_string().contains(word), "{found:?}");
    }
    let found = judged("type", FLATTEN, &expected());
    assert!(
        matches!(&found[..], [Finding::Problem(what, _)] if what.contains("records.flattened"))
    );
}

const MONGO: &str = "io.debezium.connector.mongodb.MongoDbConnector";

#[test]
fn what_a_source_of_its_kind_would_not_tell_is_named() {
    objects(MONGO, &[("capture.mode", "change_streams")], "without the document");
    let lob = connector(ORACLE, &[("lob.enabled", "")]);
    let found = judge(&lob, &expected());
    assert!(found[0].to_string().contains("CLOB"), "{found:?}");
    let identity = "replica.identity.autoset.values";
    objects(POSTGRES, &[(identity, "public.a:FULL,public.b:INDEX b_key")], "sets INDEX");
    objects(POSTGRES, &[("snapshot.mode", "no_data")], "only when they change");
    objects(MARIADB, &[("table.include.list", r"shop\.a+,shop\.x y,shop\.x#y")], "share a topic");
    objects(MARIADB, &[("snapshot.select.statement.overrides", "shop.a")], "would be deleted");
    for class in [POSTGRES, MONGO] {
        let settings = [(identity, "public.a:FULL"), ("snapshot.mode", "initial")];
        let found = judge(&connector(class, &settings), &expected());
        assert!(matches!(&found[..], [Finding::Ok(_)]), "{found:?}");
    }
}

#[test]
fn protobuf_keeps_nulls_only_when_told() {
    let protobuf = Expected { format: "protobuf", ..expected() };
    let class = ("value.converter", "io.confluent.connect.protobuf.ProtobufConverter");
    let found = judge(&connector(POSTGRES, &[class]), &protobuf);
    assert!(
        matches!(&found[..], [Finding::Note(what, _)] if what.contains("no NULL")),
        "{found:?}"
    );
    for name in ["optional", "wrapper"] {
        let name = format!("value.converter.{name}.for.nullables");
        let found = judge(&connector(POSTGRES, &[class, (&name, "true")]), &protobuf);
        assert!(matches!(&found[..], [Finding::Ok(_)]), "{found:?}");
    }
}

#[test]
fn what_does_not_fit_the_tables_is_a_problem() {
    let problem = |settings: &[(&str, &str)], expected: &Expected<'_>| {
        let findings = judge(&connector(POSTGRES, settings), expected);
        assert!(findings.iter().any(|f| matches!(f, Finding::Problem(..))), "{findings:?}");
    };
    problem(&[("unavailable.value.placeholder", "other")], &expected());
    problem(&[], &Expected { placeholder: "other", ..expected() });
    problem(&[], &Expected { flattened: true, ..expected() });
    problem(&[], &Expected { format: "avro", ..expected() });
    problem(&[("value.converter", "io.confluent.connect.avro.AvroConverter")], &expected());
    let mut failed = connector(POSTGRES, &[]);
    failed.states.push("FAILED".to_owned());
    assert!(matches!(judge(&failed, &expected())[..], [Finding::Problem(..)]));
}

#[test]
fn avro_keeps_nulls_only_when_told() {
    let avro = Expected { format: "avro", ..expected() };
    let class = ("value.converter", "io.confluent.connect.avro.AvroConverter");
    let findings = judge(&connector(POSTGRES, &[class]), &avro);
    assert!(findings.iter().any(|f| f.to_string().contains("ignore.default")), "{findings:?}");
    let told = ("value.converter.ignore.default.for.nullables", "true");
    let findings = judge(&connector(POSTGRES, &[class, told]), &avro);
    assert!(matches!(&findings[..], [Finding::Ok(_)]), "{findings:?}");
}

#[test]
fn a_worker_wide_converter_is_said_to_be_unseen() {
    let findings = judge(&connector(POSTGRES, &[("value.converter", "")]), &expected());
    assert!(matches!(&findings[..], [Finding::Unseen(what)] if what.contains("worker")));
}

#[test]
fn versions_that_lose_something_are_named() {
    let judged = |class: &str, version: &str| {
        let connector = Connector { version: Some(version.into()), ..connector(class, &[]) };
        judge(&connector, &expected())
    };
    for (class, old, new) in
        [(ORACLE, "3.1.3.Final", "3.2.0.Final"), (SQL_SERVER, "2.7.4.Final", "3.6.0.Beta1")]
    {
        assert!(matches!(judged(class, old)[..], [Finding::Note(..)]));
        assert!(matches!(judged(class, new)[..], [Finding::Ok(_)]));
    }
}
