//! What `/metrics` says of a run, and what is kept beside the tables.

use std::time::{SystemTime, UNIX_EPOCH};

use lakebed_sinks::table::reader;

use super::world::{Setting, World, change, change_at, message, metric};
use super::{BRONZE, SILVER, TOPIC, tp};
use crate::pipeline::RunEnd;

fn now_ms() -> i64 {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).expect("clock");
    i64::try_from(now.as_millis()).expect("fits")
}

fn of(table: &str, name: &str) -> String {
    format!("lakebed_{name}{{table=\"{table}\"}}")
}

#[tokio::test(flavor = "multi_thread")]
async fn freshness_is_kept_in_the_table_and_survives_a_restart() {
    let folder = tempfile::tempdir().expect("folder");
    let world = World::start(&folder, &Setting::default());
    world.assign(1, &[tp(0)]).await;
    world.read(vec![change_at(&tp(0), 0, 1, 1, now_ms() - 60_000)]);
    world.stands_at(SILVER, &tp(0), 1).await;
    let fresh = |value: f64| (60.0..90.0).contains(&value);
    for table in [SILVER, BRONZE] {
        world.until_metric(&of(table, "freshness_seconds"), fresh).await;
        let since = world.until_metric(&of(table, "seconds_since_last_commit"), |_| true).await;
        assert!(since < 20.0, "{since}");
    }
    assert_eq!(world.stop().await, RunEnd::Done);

    let world = World::start(&folder, &Setting::default());
    assert_eq!(metric(&world.telemetry, &of(SILVER, "freshness_seconds")), None);
    world.assign(1, &[tp(0)]).await;
    for table in [SILVER, BRONZE] {
        world.until_metric(&of(table, "freshness_seconds"), fresh).await;
    }
    assert_eq!(world.stop().await, RunEnd::Done);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_the_pipeline_does_is_counted() {
    let folder = tempfile::tempdir().expect("folder");
    let world = World::start(&folder, &Setting::default());
    {
        let mut told = world.told.lock().expect("lock");
        told.stats.rebalances = 3;
        told.stats.out_bytes = 1 << 20;
        told.stats.bounds = [(tp(0), (4, 20)), (tp(1), (0, 9))].into();
    }
    world.assign(1, &[tp(0)]).await;
    let lag = format!("lakebed_lag_records{{topic=\"{TOPIC}\",partition=\"0\"}}");
    // Nothing is in the tables: all that the log has is behind, and not what it never had.
    world.until_metric(&lag, |value| value == 16.0).await;
    world.until_metric("lakebed_rebalances_total", |value| value == 3.0).await;
    world.until_metric("lakebed_assigned_partitions", |value| value == 1.0).await;
    let foreign = format!("lakebed_lag_records{{topic=\"{TOPIC}\",partition=\"1\"}}");
    assert_eq!(metric(&world.telemetry, &foreign), None, "another member's");

    world.read((4..14).map(|n| change(&tp(0), n, n % 5, 1)).collect());
    world.stands_at(SILVER, &tp(0), 14).await;
    world.until_metric(&lag, |value| value == 6.0).await;
    world.until_metric(&of(SILVER, "index_keys"), |value| value == 5.0).await;
    let index = world.until_metric(&of(SILVER, "index_bytes"), |value| value > 0.0).await;
    let repeats = world.until_metric(&of(SILVER, "repeats_bytes"), |value| value > 0.0).await;
    let kept = index + repeats;
    let budget = 1_u64 << 30;
    world.until_metric("lakebed_memory_budget_bytes", |value| value == budget as f64).await;
    let taken = (kept + 4.0 * f64::from(1 << 20)) / budget as f64;
    world.until_metric("lakebed_memory_budget_ratio", |value| (value - taken).abs() < 1e-9).await;
    let records = (budget - kept as u64) / 4;
    assert_eq!(world.told.lock().expect("lock").budget, usize::try_from(records).ok());

    for table in [SILVER, BRONZE] {
        let ok = format!("lakebed_commits_total{{table=\"{table}\",result=\"ok\"}}");
        assert_eq!(metric(&world.telemetry, &ok), Some(1.0));
        let running = format!("lakebed_table_state{{table=\"{table}\",state=\"running\"}}");
        assert_eq!(metric(&world.telemetry, &running), Some(1.0));
    }
    let applied = format!("lakebed_records_applied_total{{table=\"{SILVER}\",op=\"c\"}}");
    assert_eq!(metric(&world.telemetry, &applied), Some(10.0));

    world.revoke(&[tp(0)]).await;
    world.until_metric("lakebed_assigned_partitions", |value| value == 0.0).await;
    assert_eq!(metric(&world.telemetry, &lag), None, "its new owner tells it");
    assert_eq!(world.stop().await, RunEnd::Done);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_index_beyond_the_budget_slows_its_table_down_and_does_not_stop_it() {
    let folder = tempfile::tempdir().expect("folder");
    let world = World::start(&folder, &Setting { memory: Some(64), ..Setting::default() });
    world.assign(1, &[tp(0)]).await;
    for offset in 0..2 {
        world.read(vec![change(&tp(0), offset, offset, 1)]);
        world.stands_at(SILVER, &tp(0), offset + 1).await;
    }
    world.until_metric(&of(SILVER, "index_keys"), |value| value == 2.0).await;
    let index = world.until_metric(&of(SILVER, "index_bytes"), |value| value > 64.0).await;
    let repeats = world.until_metric(&of(SILVER, "repeats_bytes"), |value| value == 300.0).await;
    let kept = (index + repeats) / 64.0;
    world.until_metric("lakebed_memory_budget_ratio", |value| value == kept).await;
    assert_eq!(world.told.lock().expect("lock").budget, Some(4));
    assert_eq!(world.stop().await, RunEnd::Done);
}

#[tokio::test(flavor = "multi_thread")]
async fn values_nulled_by_policy_and_halts_are_counted() {
    let folder = tempfile::tempdir().expect("folder");
    let entry = "    out_of_range: 'null'\n    columns: { note: { type: date } }\n";
    let world = World::start(&folder, &Setting { entry, ..Setting::default() });
    world.assign(1, &[tp(0)]).await;
    let value = |day: &str| {
        format!(
            r#"{{"before":null,"after":{{"id":1,"note":{day}}},"source":{{"connector":"postgresql","ts_ms":1,"lsn":9,"txId":1}},"op":"c","ts_ms":1}}"#
        )
    };
    let key = || Some(r#"{"id":1}"#.to_owned());
    world.read(vec![
        message(&tp(0), 0, 1, key(), Some(value("19000"))),
        message(&tp(0), 1, 1, key(), Some(value("2932897"))),
    ]);
    world.stands_at(SILVER, &tp(0), 2).await;
    world.until_metric(&of(SILVER, "nulled_values_total"), |value| value == 1.0).await;

    world.read(vec![message(&tp(0), 2, 1, key(), Some("{".to_owned()))]);
    let halted = format!("lakebed_table_state{{table=\"{SILVER}\",state=\"halted\"}}");
    world.until_metric(&halted, |value| value == 1.0).await;
    assert_eq!(metric(&world.telemetry, &of(SILVER, "bad_records_total")), Some(1.0));
    assert!(matches!(world.ended().await, RunEnd::Halted(_)));
}

/// A value with an inline schema, and the schema's text.
fn with_schema(offset: i64, version: u32) -> (String, String) {
    let image = |name: &str| {
        format!(
            r#"{{"type":"struct","optional":true,"name":"v{version}","field":"{name}","fields":[{{"type":"int64","optional":false,"field":"id"}}]}}"#
        )
    };
    let schema = format!(
        r#"{{"type":"struct","optional":false,"name":"e","fields":[{},{},{{"type":"string","optional":false,"field":"op"}}]}}"#,
        image("before"),
        image("after")
    );
    let payload = format!(
        r#"{{"before":null,"after":{{"id":{offset}}},"source":{{"connector":"postgresql","ts_ms":1,"lsn":{offset},"txId":1}},"op":"c","ts_ms":1}}"#
    );
    (format!(r#"{{"schema":{schema},"payload":{payload}}}"#), schema)
}

#[tokio::test(flavor = "multi_thread")]
async fn the_text_of_each_schema_is_there_before_bronze_names_it() {
    let folder = tempfile::tempdir().expect("folder");
    let lake = folder.path().join("lake");
    std::fs::create_dir_all(&lake).expect("folder");
    // In the way of the texts: bronze must not be committed without them.
    std::fs::write(lake.join("_lakebed"), "").expect("file");
    let world = World::start(&folder, &Setting::default());
    world.assign(1, &[tp(0)]).await;
    let send = |generation: u64| {
        let messages = (0..4).map(|offset| {
            let (value, _) = with_schema(offset, (offset % 2) as u32);
            let key = Some(format!(r#"{{"id":{offset}}}"#));
            message(&tp(0), offset, generation, key, Some(value))
        });
        world.read(messages.collect());
    };
    send(1);
    let rewound = async || (!world.told.lock().expect("lock").rewound.is_empty()).then_some(());
    world.until(rewound).await;
    assert_eq!(world.head(BRONZE).await.expect("table").live_rows(), 0);

    std::fs::remove_file(lake.join("_lakebed")).expect("there");
    world.assign(2, &[tp(0)]).await;
    send(2);
    world.stands_at(BRONZE, &tp(0), 4).await;
    let head = world.head(BRONZE).await.expect("table");
    let column = head.schema.index_of("_schema").expect("column");
    let storage = crate::tables::open_lake(&world.config)
        .await
        .expect("lake")
        .storage
        .child("bronze/public_orders");
    let mut hashes = std::collections::BTreeSet::new();
    let mut batches = reader::scan(&storage, &head, &[column]);
    while let Some(batch) = futures::TryStreamExt::try_next(&mut batches).await.expect("reads") {
        for row in 0..batch.num_rows() {
            let kind = &head.schema.columns[column].column_type;
            let value = lakebed_sinks::table::arrow_values::value_at(batch.column(0), kind, row);
            let lakebed_schemas::value::Value::Text(hash) = value else { panic!("no hash") };
            hashes.insert(hash);
        }
    }
    let texts = hashes.iter().map(|hash| {
        std::fs::read_to_string(lake.join("_lakebed/schemas").join(hash)).expect("kept")
    });
    let texts: std::collections::BTreeSet<String> = texts.collect();
    assert_eq!(texts, (0..2).map(|version| with_schema(0, version).1).collect());
    assert_eq!(std::fs::read_dir(lake.join("_lakebed/schemas")).expect("folder").count(), 2);
    assert_eq!(world.stop().await, RunEnd::Done);
}
