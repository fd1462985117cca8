//! What the loader takes, and what it says of what it does not take.

mod hidden;
mod records;

use super::*;
use lakebed_schemas::column::ColumnType;
use lakebed_schemas::config::{
    BadRecords, Mode, OnGap, OnLostTable, OutOfRange, Start, TableFormat, Topics,
};
use std::time::Duration;

/// Design, section 9, word for word but for what is not built.
const DESIGN: &str = r#"
kafka:                                      # *
  bootstrap_servers: localhost:9092         # *
  group_id: lakebed                         # default: lakebed
  security: { protocol: SASL_SSL, mechanism: SCRAM-SHA-512, username: "${env:KAFKA_USER}", password: "${env:KAFKA_PASSWORD}", ca_file: /etc/ca.pem }
  properties: {}
records:
  format: json
  registry: { type: confluent, url: http://localhost:8081 }
lake:                                       # *
  location: /var/lib/lakebed/lake
  format: iceberg                           # *
  catalog: { type: filesystem }
  s3: { region: eu-west-1, endpoint: "http://127.0.0.1:9000", path_style: true, access_key_id: "${env:K}", secret_access_key: "${env:S}" }
  sink_id: lakebed
  bronze: { database: bronze }
  silver: { database: silver }
  readers: [athena]
tables:
  - topic: shop.public.orders
    name: orders
    key: [order_id]
    deletes: hard
    mode: merge-on-read
    partition_by: []
    columns: {}
    start: earliest
    on_gap: halt
    out_of_range: halt
batch: { max_age: 10s, max_rows: 100000, max_bytes: 64MiB }
bad_records: halt
memory: { max: 1GiB }
maintenance: {}
http: { listen: 127.0.0.1:9464 }
"#;

const SMALLEST: &str = "\
kafka:
  bootstrap_servers: localhost:9092
lake:
  location: /lake
  format: iceberg
tables:
  - topic: shop.public.orders
";

fn env(name: &str) -> Option<String> {
    match name {
        "KAFKA_USER" => Some("alice".to_owned()),
        "KAFKA_PASSWORD" => Some("hunter2,secret".to_owned()),
        "K" | "S" => Some("s3cr3t".to_owned()),
        _ => None,
    }
}

fn read(text: &str) -> Result<ResolvedConfig, ConfigError> {
    parse(text, Path::new("lakebed.yaml"), &env)
}

fn accepted(text: &str) -> ResolvedConfig {
    read(text).unwrap_or_else(|error| panic!("{error}"))
}

fn refused(text: &str) -> String {
    read(text).expect_err("refused").to_string()
}

/// The smallest file with one line put in place of another.
fn with(old: &str, new: &str) -> String {
    assert!(SMALLEST.contains(old), "{old}");
    SMALLEST.replace(old, new)
}

#[test]
fn the_smallest_file_is_enough() {
    let config = accepted(SMALLEST);

    assert_eq!(config.kafka.group_id, "lakebed");
    assert_eq!(config.lake.sink_id, "lakebed");
    assert_eq!(config.memory_max, 1 << 30);
    assert_eq!(config.http_listen.as_deref(), Some("127.0.0.1:9464"));
    let table = &config.tables[0];
    assert_eq!(table.table_name("shop.public.orders").as_deref(), Some("public_orders"));
    assert_eq!(table.silver("public_orders").expect("on").to_string(), "silver.public_orders");
    assert_eq!(table.batch.age_max, Duration::from_secs(10));
    assert_eq!((table.batch.rows_max, table.batch.bytes_max), (100_000, 64 << 20));
    assert_eq!(table.bad_records, BadRecords::Halt);
    assert!(table.key.is_none() && !table.topic_in_key);
}

#[test]
fn every_key_of_the_design_is_understood() {
    let config = accepted(DESIGN);
    let properties: std::collections::BTreeMap<_, _> =
        config.kafka.client_properties().into_iter().collect();
    assert_eq!(properties["sasl.username"], "alice");
    assert_eq!(properties["sasl.password"], "hunter2,secret");
    assert_eq!(properties["security.protocol"], "SASL_SSL");
    assert_eq!(properties["ssl.ca.location"], "/etc/ca.pem");
    assert_eq!(config.tables[0].key.as_deref(), Some(&["order_id".to_owned()][..]));
    assert_eq!(config.tables[0].table_name("shop.public.orders").as_deref(), Some("orders"));
}

#[test]
fn the_example_is_accepted_and_gives_the_defaults() {
    let example = include_str!("../../examples/lakebed.yaml");
    let (full, smallest) = (accepted(example), accepted(SMALLEST));

    let same =
        |config: &ResolvedConfig| format!("{config:?}").replace("/var/lib/lakebed/lake", "/lake");
    assert_eq!(same(&full), same(&smallest));
}

#[test]
fn overrides_of_a_table_win_key_by_key() {
    let config = accepted(
        "
kafka: { bootstrap_servers: 'a:1, b:2', properties: { fetch.min.bytes: 1, log.connection.close: false } }
lake: { location: /lake, format: iceberg, bronze: false }
batch: { max_age: 5s, max_rows: 10 }
bad_records: { dead_letter_topic: dlq }
http: false
tables:
  - topics: [a.b, a.c]
    on_gap: record
    on_lost_table: start
    start: latest
    out_of_range: text
    format: delta
    batch: { max_age: 1m }
    bad_records: halt
    layers: { bronze: { database: raw }, silver: { database: cur } }
    columns: { price: { type: 'decimal(12,2)', encoding: base64 } }
  - topic_pattern: 'x\\.(?<table>\\w+)'
    name: all_${table}
    layers: [silver]
",
    );

    let [first, second] = &config.tables[..] else { panic!("two entries") };
    assert_eq!(first.format, TableFormat::Delta);
    assert_eq!((first.batch.age_max.as_secs(), first.batch.rows_max), (60, 10));
    assert_eq!(first.bad_records, BadRecords::Halt);
    assert_eq!((first.on_gap, first.out_of_range), (OnGap::Record, OutOfRange::Text));
    assert_eq!((first.start, first.on_lost_table), (Start::Latest, OnLostTable::Start));
    assert_eq!(first.bronze("b").expect("on").relative(), "raw/b");
    assert_eq!(first.silver("b").expect("on").relative(), "cur/b");
    let decimal = ColumnType::Decimal { precision: 12, scale: 2 };
    assert_eq!(first.columns["price"].column_type(), decimal);
    assert!(matches!(&first.topics, Topics::Names(names) if names.len() == 2));
    assert_eq!(second.bad_records, BadRecords::DeadLetterTopic("dlq".to_owned()));
    assert_eq!(second.bronze("b"), None);
    assert_eq!(second.table_name("x.Order-Lines"), None, "the whole topic has to match");
    assert_eq!(second.table_name("x.Orders").as_deref(), Some("all_orders"));
    assert!(second.topic_in_key, "several topics may give one name");
    assert_eq!(config.http_listen, None);
    assert_eq!(config.kafka.properties.0["fetch.min.bytes"], "1");
}

#[test]
fn every_unknown_key_is_named_with_its_line_and_the_nearest_one() {
    let text = with("  bootstrap_servers:", "  boostrap_server: x\n  bootstrap_servers:")
        + "    key_fields: [id]\n    onGap: halt\nbtach: {}\n";

    assert_eq!(
        refused(&text),
        "lakebed.yaml:2:3: `kafka.boostrap_server`: there is no key `boostrap_server`; did you mean `bootstrap_servers`?\n\
         lakebed.yaml:9:5: `tables[0].key_fields`: there is no key `key_fields`; did you mean `key`?\n\
         lakebed.yaml:10:5: `tables[0].onGap`: there is no key `onGap`; did you mean `on_gap`?\n\
         lakebed.yaml:11:1: `btach`: there is no key `btach`; did you mean `batch`?"
    );
}

#[test]
fn a_wrong_value_is_named_with_what_was_expected() {
    let cases = [
        (
            with("localhost:9092", "[a]"),
            "2:22: `kafka.bootstrap_servers`: expected text, found a list; write text",
        ),
        (
            with("format: iceberg", "format: icberg"),
            "5:11: `lake.format`: `icberg` is not known here; did you mean `iceberg`?",
        ),
        (with("  format: iceberg\n", ""), "4:3: `lake.format`: is missing; add `format`"),
        (
            with("topic: shop.public.orders", "topic: 12"),
            "7:12: `tables[0].topic`: expected text, found the number `12`; put it in quotes",
        ),
        (
            format!("{SMALLEST}memory: {{ max: 1 }}\n"),
            "8:16: `memory.max`: expected a size with its unit, such as `64MiB` or `1GiB`, found the number `1`; write a size with its unit, such as `64MiB` or `1GiB`",
        ),
        (
            format!("{SMALLEST}batch: {{ max_age: 10 sec }}\n"),
            "8:19: `batch.max_age`: expected a duration with its unit, such as `10s`, `500ms` or `24h`, found `10 sec`; write a duration with its unit, such as `10s`, `500ms` or `24h`",
        ),
        (
            format!("{SMALLEST}batch: {{ max_rows: many }}\n"),
            "8:20: `batch.max_rows`: expected a whole number, found `many`; write a whole number",
        ),
        (
            format!("{SMALLEST}bad_records: skip\n"),
            "8:14: `bad_records`: `skip` is not known here; the only one is `halt`",
        ),
        (
            format!("{SMALLEST}http: on\n"),
            "8:7: `http`: expected `false` or `{ listen: host:port }`, found `on`; write `false` or `{ listen: host:port }`",
        ),
        (
            format!("{SMALLEST}    mode: [x]\n"),
            "8:11: `tables[0].mode`: expected one of `merge-on-read`, `copy-on-write`, found a list; write one of `merge-on-read`, `copy-on-write`",
        ),
    ];
    for (text, expected) in cases {
        assert_eq!(refused(&text), format!("lakebed.yaml:{expected}"), "{text}");
    }
}

#[test]
fn what_is_not_valid_yaml_is_refused_with_its_line_and_without_its_text() {
    let error = refused("kafka:\n  password: \"hunter2\n");
    assert!(error.starts_with("lakebed.yaml:"), "{error}");
    assert!(error.contains("is not valid YAML") && !error.contains("hunter2"), "{error}");
    let twice = refused(&format!("{SMALLEST}kafka: {{}}\n"));
    assert!(twice.starts_with("lakebed.yaml:8:1: is not valid YAML"), "{twice}");
    assert!(refused("").contains("expected a block of keys, found nothing"));
}

#[test]
fn all_problems_of_meaning_come_at_once_each_with_its_line() {
    let text = "\
kafka:
  bootstrap_servers: localhost
  properties: { auto.offset.reset: latest, fetch.min.bytes: 1 }
  security: { protocol: SASL_PLAINTEXT, username: u, ca_file: /x }
lake:
  location: gs://bucket
  format: iceberg
  bronze: { database: lake }
  silver: { database: lake }
tables:
  - topic: a.b
    topics: [a.c]
  - topic: shop.t
    layers: { bronze: false, silver: { database: Current } }
    key: []
    batch: { max_bytes: 1GiB }
maintenance: { age_min: 1h }
http: { listen: nine }
";
    let error = read(text).expect_err("refused");
    let found: Vec<_> = error
        .problems
        .iter()
        .map(|p| (p.place.expect("place").0, p.problem.path.as_str()))
        .collect();

    assert_eq!(
        found,
        [
            (2, "kafka.bootstrap_servers"),
            (3, "kafka.properties.auto.offset.reset"),
            (4, "kafka.security"),
            (4, "kafka.security"),
            (4, "kafka.security.ca_file"),
            (6, "lake.location"),
            (11, "tables[0]"),
            (14, "tables[1].layers.silver.database"),
            (15, "tables[1].key"),
            (16, "tables[1].batch.max_bytes"),
            (17, "maintenance.age_min"),
            (18, "http.listen"),
        ]
    );
    assert!(error.to_string().contains("a reset would skip or repeat records"), "{error}");
}

#[test]
fn bronze_and_silver_may_not_share_a_database() {
    let text = with("format: iceberg", "format: iceberg\n  bronze: { database: silver }");
    assert_eq!(
        refused(&text),
        "lakebed.yaml:8:5: `tables[0]`: bronze and silver are both in database `silver`; \
         give them databases of their own"
    );
}

#[test]
fn two_entries_may_read_one_topic_only_into_different_tables() {
    let twice = format!("{SMALLEST}  - topic: shop.public.orders\n    format: delta\n");
    let error = refused(&twice);
    assert!(
        error.starts_with(
            "lakebed.yaml:8:5: `tables[1]`: table `bronze.public_orders` is also the table of `tables[0]`; \
             give one of them another `name`"
        ),
        "{error}"
    );
    let apart = accepted(&format!("{twice}    name: orders_delta\n"));
    let routed = apart.route([]).expect("no clash");
    assert_eq!(routed.len(), 2);
    assert_eq!(routed[1].name, "orders_delta");
    assert_eq!(routed[1].topics, ["shop.public.orders"]);
}

#[test]
fn patterns_take_topics_of_rows_and_clashing_names_are_refused() {
    let config = accepted(&with("topic: shop.public.orders", "topic_pattern: '.*'"));
    let topics =
        ["shop.a.b", "__consumer_offsets", "__debezium-heartbeat.shop", "shop.transaction"];

    let routed = config.route(topics).expect("no clash");
    assert_eq!(routed.len(), 1);
    assert_eq!(
        (routed[0].name.as_str(), &routed[0].topics[..]),
        ("a_b", &["shop.a.b".to_owned()][..])
    );
    let letters = "topic_pattern: '.*'\n    bad_records: { dead_letter_topic: shop.dlq }";
    let config_with_letters = accepted(&with("topic: shop.public.orders", letters));
    assert_eq!(config_with_letters.tables[0].table_name("shop.dlq"), None);
    let clash = config.route(["shop.a.b", "shop.a_b"]).expect_err("clash");
    assert_eq!(clash.len(), 1);
    assert!(clash[0].message.contains("`shop.a.b`, `shop.a_b` would share table `a_b`"));
}

#[test]
fn partitions_are_read_and_mistakes_in_them_are_placed() {
    let entry = |lines: &str| format!("{SMALLEST}{lines}\n");
    let by = "    partition_by: [region, 'day(created_at)', \"bucket(16, id)\"]";
    let config = accepted(&entry(by));
    let said: Vec<String> = config.tables[0].partition_by.iter().map(ToString::to_string).collect();
    assert_eq!(said, ["region", "day(created_at)", "bucket(16, id)"]);

    let cases = [
        (
            "['dya(x)']",
            ":8:20: `tables[0].partition_by[0]`: there is no transform `dya`; did you mean `day(created_at)`?",
        ),
        (
            "[a, 'bucket(id, 16)']",
            ":8:23: `tables[0].partition_by[1]`: `bucket` takes a whole number",
        ),
        (
            "['day(a)', 'month(a)']",
            "`tables[0].partition_by[1]`: `month(a)` adds nothing to `day(a)`",
        ),
        (
            "[a]\n    columns: { a: { exclude: true } }",
            "`tables[0].partition_by[0]`: column `a` is left out",
        ),
        (
            "[a]\n    layers: { silver: false }",
            "`tables[0].partition_by`: has no effect: the entry has no silver",
        ),
    ];
    for (list, expected) in cases {
        let error = refused(&entry(&format!("    partition_by: {list}")));
        assert!(error.contains(expected), "{error}");
    }
}

#[test]
fn what_is_not_built_is_refused_by_name() {
    let entry = |line: &str| format!("{SMALLEST}    {line}\n");
    let cases = [
        (entry("deletes: soft"), "`tables[0].deletes`: soft deletes"),
        (
            format!("{SMALLEST}maintenance: {{ compaction: true }}\n"),
            "`maintenance.compaction`: compaction",
        ),
        (
            with(
                "lake:",
                "  security: { protocol: SASL_SSL, mechanism: AWS_MSK_IAM, username: u, password: \"${env:K}\" }\nlake:",
            ),
            "`kafka.security.mechanism`: token authentication",
        ),
    ];
    for (text, expected) in cases {
        let error = refused(&text);
        assert!(error.contains(&format!("{expected}: not yet in this release; ")), "{error}");
        assert_eq!(error.lines().count(), 1, "{error}");
    }
}

#[test]
fn the_mode_follows_the_readers_unless_it_is_said() {
    let table = |lake: &str, entry: &str| {
        let text = SMALLEST.replace("format: iceberg", &format!("format: delta\n  {lake}"));
        format!("{text}    {entry}\n")
    };
    let mode = |lake: &str, entry: &str| accepted(&table(lake, entry)).tables[0].mode;
    assert_eq!(mode("readers: []", "key: [id]"), Mode::MergeOnRead);
    assert_eq!(mode("readers: [athena, spark]", "key: [id]"), Mode::MergeOnRead);
    assert_eq!(mode("readers: [athena, deltalake]", "key: [id]"), Mode::CopyOnWrite);
    assert_eq!(mode("readers: [deltalake]", "readers: [spark]"), Mode::MergeOnRead);
    assert_eq!(mode("readers: [spark]", "mode: copy-on-write"), Mode::CopyOnWrite);
    let refused_for = refused(&table("readers: [spark, deltalake]", "mode: merge-on-read"));
    assert!(
        refused_for.contains(
            "`tables[0].mode`: merge-on-read leaves deletion vectors of Delta, which `deltalake` \
             does not read; use `copy-on-write`"
        ),
        "{refused_for}"
    );
    let bronze_alone = table("readers: [deltalake]\n  silver: false", "mode: merge-on-read");
    assert_eq!(
        accepted(&bronze_alone).tables[0].mode,
        Mode::MergeOnRead,
        "nothing goes from bronze"
    );
    let unknown = refused(&table("readers: [sparc]", "key: [id]"));
    assert!(unknown.contains("did you mean `spark`"), "{unknown}");
}

#[test]
fn readers_that_cannot_open_the_format_are_refused() {
    let tables = |readers: &str, tables: &[&str]| {
        let lake = format!("format: delta\n  readers: {readers}");
        let (text, _) = SMALLEST.split_once("tables:").expect("tables");
        let entry = |(index, keys): (usize, &&str)| {
            format!("  - topic: shop.public.t{index}\n    {keys}\n")
        };
        let entries: String = tables.iter().enumerate().map(entry).collect();
        format!("{}tables:\n{entries}", text.replace("format: iceberg", &lake))
    };
    let (delta, iceberg) = ("format: delta", "format: iceberg");

    for layer in ["key: [id]", "layers: [bronze]"] {
        let error = refused(&tables("[pyiceberg]", &[layer]));
        assert!(
            error.contains(
                "`lake.readers`: `pyiceberg` is among the readers and opens no table of the formats \
                 that are written; take it from the readers"
            ),
            "{error}"
        );
        assert_eq!(error.lines().count(), 1, "{error}");
    }
    // Somebody else reads it, and it is asked for all the same.
    let error = refused(&tables("[spark, pyiceberg]", &[delta]));
    assert!(error.contains("`pyiceberg` is among the readers"), "{error}");

    // Each opens the tables of one format.
    accepted(&tables("[spark, deltalake, pyiceberg]", &[delta, iceberg]));
    let error = refused(&tables("[pyiceberg]", &[iceberg, delta]));
    assert!(
        error.contains("`tables[1]`: none of `lake.readers` opens tables of delta; say in its"),
        "{error}"
    );
    let own = "format: delta\n    readers: []";
    accepted(&tables("[pyiceberg]", &[iceberg, own]));

    let own = "format: iceberg\n    readers: [spark, deltalake]";
    let error = refused(&tables("[]", &[delta, own]));
    assert!(
        error.contains("`tables[1].readers`: `deltalake` does not open tables of iceberg; take it"),
        "{error}"
    );
    let own = "readers: [spark]";
    accepted(&tables("[pyiceberg]", &[own]));
}

#[test]
fn names_and_patterns_are_checked() {
    let entry = |line: &str| with("  - topic: shop.public.orders", &format!("  - {line}"));
    let cases = [
        ("topic_pattern: '('", "is no regular expression"),
        ("{ topic_pattern: '(a)', name: $2 }", "uses capture `2`, which the topics do not have"),
        ("{ topic: a, name: '$1' }", "uses capture `1`"),
        ("{ topic: a, name: 'a$' }", "has a `$` that names no capture"),
        ("{ topic: a, name: Orders }", "cannot name a table in every catalog"),
        ("{ topic: a, name: ../x }", "cannot name a table in every catalog"),
        ("{ name: a }", "names no topic"),
        ("{ topic: a, columns: { p: { encoding: base64 } } }", "does not say what the column is"),
        ("{ topic: a, columns: { p: { type: money } } }", "`money` is no type; use boolean, int"),
        ("{ topic: a, columns: { p: { type: date, encoding: hex } } }", "`hex` is no encoding of"),
        ("{ topic: a, layers: [] }", "both layers are off"),
        ("{ topic: a, layers: { bronze: { database: _lakebed } } }", "belongs to no table"),
        ("{ topic: a, bad_records: { dead_letter_topic: 'a b' } }", "is not the name of a topic"),
    ];
    for (line, expected) in cases {
        let error = refused(&entry(line));
        assert!(
            error.starts_with("lakebed.yaml:7:") && error.contains(expected),
            "{line}: {error}"
        );
    }
}

#[test]
fn a_missing_reference_is_named_and_a_literal_secret_refused() {
    let secret = |value: &str| {
        with(
            "lake:",
            &format!(
                "  security: {{ protocol: SASL_SSL, mechanism: PLAIN, username: u, password: {value} }}\nlake:"
            ),
        )
    };
    assert_eq!(
        refused(&secret("\"${env:NOT_THERE}\"")),
        "lakebed.yaml:3:76: `kafka.security.password`: environment variable `NOT_THERE` is not set; \
         set `NOT_THERE` for this process"
    );
    assert!(
        refused(&secret("\"${file:/not/there}\"")).contains("file `/not/there` cannot be read")
    );
    let literal = refused(&secret("hunter3"));
    assert!(literal.contains("a secret stands in the file itself"), "{literal}");
    assert!(!literal.contains("hunter3"), "{literal}");
    assert!(refused(&secret("\"${env:K\"")).contains("is not closed"));
}

#[test]
fn a_file_gives_its_content_without_the_last_line_break() {
    let folder = tempfile::tempdir().expect("folder");
    std::fs::write(folder.path().join("password"), "p4ss\n").expect("write");
    let text = with(
        "lake:",
        "  security: { protocol: SASL_SSL, mechanism: PLAIN, username: u, password: \"${file:password}\" }\nlake:",
    );

    let config = parse(&text, &folder.path().join("lakebed.yaml"), &env).expect("accepted");
    assert_eq!(config.kafka.security.password.expect("given").expose(), "p4ss");
}

#[test]
fn no_secret_is_shown_by_debug_or_by_an_error() {
    let config = accepted(&DESIGN.replace("  registry: {", "  # registry: {"));
    let shown = format!("{config:?}");
    assert!(!shown.contains("hunter2") && !shown.contains("s3cr3t"), "{shown}");

    // Whatever key a secret is put at by mistake.
    for (old, new) in [
        ("localhost:9092", "\"${env:KAFKA_PASSWORD}\""),
        ("format: iceberg", "format: \"${env:KAFKA_PASSWORD}\""),
        ("location: /lake", "location: \"gs://${env:KAFKA_PASSWORD}\""),
        ("topic: shop.public.orders", "topic: a\n    name: \"${env:KAFKA_PASSWORD}\""),
        ("lake:", "  properties: { group.id: \"${env:KAFKA_PASSWORD}\" }\nlake:"),
        ("lake:", "memory: { max: \"${env:KAFKA_PASSWORD}\" }\nlake:"),
    ] {
        let error = refused(&with(old, new));
        assert!(!error.contains("hunter2") && !error.contains("secret"), "{error}");
    }
}

#[test]
fn a_relative_location_starts_from_the_files_folder() {
    let text = with("/lake", "./lake");
    let config = parse(&text, Path::new("/etc/lakebed/lakebed.yaml"), &env).expect("accepted");
    assert_eq!(config.lake.location, "/etc/lakebed/lake");
}

#[test]
fn a_key_without_value_is_not_given_and_an_unknown_one_still_refused() {
    accepted(&format!("{SMALLEST}    key:\nbatch:\nmaintenance:\n"));
    assert!(refused(&format!("{SMALLEST}mantenance:\n")).contains("did you mean `maintenance`?"));
}

#[test]
fn a_rest_catalog_has_an_address_one_login_and_no_delta_tables() {
    let text =
        |catalog: &str| with("format: iceberg", &format!("format: iceberg\n  catalog: {catalog}"));
    let oauth2 =
        "oauth2: { client_id: a, client_secret: '${env:K}', scope: s, token_uri: 'https://t' }";
    let all = format!(
        "{{ type: rest, uri: 'https://c/x', warehouse: w, ca_file: a.pem, create_databases: true, {oauth2} }}"
    );
    let config = accepted(&text(&all));
    let login = config.lake.catalog.oauth2.expect("given");
    assert_eq!((login.client_id.as_str(), login.client_secret.expose()), ("a", "s3cr3t"));
    accepted(&text("{ type: rest, uri: 'https://c', token: '${env:K}' }"));
    accepted(&text("{ type: rest, uri: 'https://c', sigv4: glue, region: eu-west-1 }"));
    let chooses = |catalog: &str| accepted(&text(catalog)).lake.catalog.chooses_locations();
    assert!(!chooses("{ type: rest, uri: 'https://c', sigv4: glue }"));
    assert!(chooses("{ type: rest, uri: 'https://c', sigv4: s3tables }"));
    assert!(chooses("{ type: rest, uri: 'https://c', locations: catalog }"));

    let cases = [
        ("{ type: rest }", "`lake.catalog.uri`: a REST catalog has an address"),
        ("{ type: rest, uri: c }", "`lake.catalog.uri`: is not an address"),
        ("{ type: rest, uri: 'https://c', token: plain }", "`lake.catalog.token`"),
        (
            "{ type: rest, uri: 'https://c', token: '${env:K}', sigv4: glue }",
            "three ways to log in",
        ),
        ("{ type: rest, uri: 'https://c', sigv4: 'a b' }", "`lake.catalog.sigv4`"),
        ("{ type: rest, uri: 'https://c', region: x }", "has no effect without `sigv4`"),
        ("{ type: rest, uri: 'https://c', catalog_id: x }", "`lake.catalog.catalog_id`"),
        (
            "{ type: rest, uri: 'https://c', sigv4: s3tables, locations: lake }",
            "S3 Tables chooses the places of its tables",
        ),
        ("{ type: filesystem, locations: catalog }", "`lake.catalog.locations`"),
        ("{ type: filesystem, token: '${env:K}' }", "`lake.catalog.token`"),
    ];
    for (catalog, expected) in cases {
        let error = refused(&text(catalog));
        assert!(error.contains(expected), "{catalog}: {error}");
    }
    let delta = "format: delta\n  catalog: { type: rest, uri: 'https://c' }";
    let error = refused(&with("format: iceberg", delta));
    assert!(error.contains("`lake.format`: Delta tables cannot be in"), "{error}");
}

#[test]
fn a_glue_catalog_is_on_s3_and_has_its_own_settings_only() {
    let on_s3 = |catalog: &str| {
        let text = with("format: iceberg", &format!("format: iceberg\n  catalog: {catalog}"));
        text.replace("location: /lake", "location: s3://bucket/lake")
    };
    let all = "{ type: glue, region: eu-west-1, catalog_id: '123456789012', endpoint: 'https://e', \
               create_databases: true, delta_columns: placeholder }";
    let config = accepted(&on_s3(all));
    assert!(config.lake.catalog.create_databases);

    let local = with("format: iceberg", "format: iceberg\n  catalog: { type: glue }");
    let cases = [
        (local, "lake.location"),
        (on_s3("{ type: glue, uri: 'http://x' }"), "lake.catalog.uri"),
        (on_s3("{ type: glue, endpoint: x }"), "lake.catalog.endpoint"),
        (on_s3("{ type: filesystem, create_databases: true }"), "lake.catalog.create_databases"),
    ];
    for (text, key) in cases {
        let error = refused(&text);
        assert!(error.contains(&format!("`{key}`")), "{error}");
    }
}
