//! What a replay takes, what it leaves, and that it does so once.

use lakebed_schemas::bronze::{self, Remarks};
use lakebed_schemas::config::{Deletes, OnTruncate, OutOfRange, TableFormat};
use lakebed_schemas::decoder::DecodeOptions;
use lakebed_schemas::evolve::Rules;
use lakebed_sinks::Format;
use lakebed_sinks::log::{Retention, TableOptions};
use lakebed_sinks::storage::{S3Options, Storage};
use lakebed_sinks::table::append::AppendTable;
use lakebed_sinks::table::{AppendBatch, WriteOptions};

use super::*;
use crate::fold::Sealed;
use crate::worker::SilverRules;

fn tp() -> TopicPartition {
    TopicPartition::new("shop.public.orders", 0)
}

fn rules(format: TableFormat) -> SilverRules {
    SilverRules {
        key: Vec::new(),
        partition_by: Vec::new(),
        new_columns_per_hour: 100,
        columns: Rules {
            format,
            out_of_range: OutOfRange::Halt,
            deletes: Deletes::Hard,
            topic_in_key: false,
        },
        on_truncate: OnTruncate::Apply,
    }
}

/// An event of one row; `op` says which.
fn event(offset: i64, op: &str, id: i64) -> Message {
    let row = format!(r#"{{"id":{id},"v":"v{offset}"}}"#);
    let (before, after) = if op == "d" { (row.as_str(), "null") } else { ("null", row.as_str()) };
    let value = format!(
        r#"{{"before":{before},"after":{after},"source":{{"connector":"postgresql","ts_ms":1}},"op":"{op}"}}"#
    );
    Message {
        tp: tp(),
        offset,
        timestamp_ms: Some(offset),
        key: Some(format!(r#"{{"id":{id}}}"#).into_bytes()),
        value: Some(value.into_bytes()),
        headers: vec![("h".to_owned(), None)],
        generation: 0,
    }
}

fn delta(next: i64) -> CheckpointDelta {
    let mut delta = CheckpointDelta::default();
    delta.extend(&tp(), 0, next, Some(7));
    delta
}

/// A truncate: no key, no row.
fn truncate(offset: i64) -> Message {
    let value =
        r#"{"before":null,"after":null,"source":{"connector":"postgresql","ts_ms":1},"op":"t"}"#;
    Message { key: None, value: Some(value.into()), ..event(offset, "c", 0) }
}

struct World {
    folder: tempfile::TempDir,
    format: Format,
}

impl World {
    fn storage(&self, layer: &str) -> Storage {
        let place = self.folder.path().to_str().expect("UTF-8");
        Storage::open(place, &S3Options::default()).expect("opens").child(layer)
    }

    fn options() -> TableOptions {
        TableOptions {
            sink_id: "lakebed".to_owned(),
            cluster: None,
            owner: "test".to_owned(),
            retention: Retention::default(),
            catalog: Default::default(),
            mode: Default::default(),
        }
    }

    fn rules(&self) -> SilverRules {
        rules(match self.format {
            Format::Iceberg => TableFormat::Iceberg,
            Format::Delta => TableFormat::Delta,
        })
    }

    fn rows(&self) -> SilverRows {
        SilverRows::new(self.rules())
    }

    /// Bronze with all of these, those with `false` set aside; silver with the others below `passed`.
    async fn make(format: Format, records: &[(Message, bool)], passed: i64) -> Self {
        let world = Self { folder: tempfile::tempdir().expect("folder"), format };
        let mut decoder = Decoder::new(DecodeOptions::default());
        let mut rows = world.rows();
        rows.set_partitions(tp().topic, 1);
        let mut bronze_rows = Vec::new();
        for (message, good) in records {
            let headers = message.header_refs();
            let record = message.record(&headers);
            let decoded = decoder.decode(&record);
            let repeated = message.headers.iter().any(|(name, _)| name == "repeat");
            let error = (!good).then_some("was broken");
            let remarks = Remarks { error, repeated, ..Remarks::default() };
            let row = bronze::row(&record, &decoded, remarks);
            bronze_rows.push((message.tp.clone(), row));
            let place = Place { tp: &message.tp, offset: message.offset };
            let taken = *good && !repeated && message.offset < passed;
            if let (true, Decoded::Change(event)) = (taken, &decoded) {
                rows.push(place, event, false).expect("fits");
            }
        }
        let (bronze, silver) = (world.storage("bronze"), world.storage("silver"));
        let options = Self::options();
        let log = lakebed_sinks::create_or_open(format, &bronze, &options, &bronze::schema()).await;
        let log = log.expect("bronze");
        let mut table = AppendTable::open(log, WriteOptions::default()).await.expect("opens");
        let next = records.iter().map(|(message, _)| message.offset + 1).max().unwrap_or(0);
        let delta = |next| {
            let mut delta = delta(next);
            let others = records.iter().filter(|(message, _)| message.tp != tp());
            others.for_each(|(message, _)| delta.extend(&message.tp, 0, next, None));
            delta
        };
        let batch = AppendBatch { rows: bronze_rows, delta: delta(next), ..AppendBatch::default() };
        let _ = table.write(batch).await.expect("written");
        let Sealed { truncated, changes, .. } = rows.seal();
        let schema = rows.schema().cloned().expect("a row");
        let log = lakebed_sinks::create_or_open(format, &silver, &options, &schema).await;
        let log = log.expect("silver");
        let mut table = UpsertTable::open(log, WriteOptions::default()).await.expect("opens");
        let delta = delta(passed);
        let batch = UpsertBatch { truncated, schema, changes, delta, ..UpsertBatch::default() };
        let _ = table.write(batch).await.expect("written");
        world
    }

    async fn replay(&self) -> Replay {
        let (bronze, silver) = (self.storage("bronze"), self.storage("silver"));
        let options = Self::options();
        let log = |storage: Storage| {
            let options = options.clone();
            let format = self.format;
            async move {
                let log = lakebed_sinks::open(format, &storage, &options).await.expect("opens");
                log.expect("table")
            }
        };
        let silver = UpsertTable::open(log(silver).await, WriteOptions::default()).await;
        Replay {
            bronze: log(bronze).await,
            silver: silver.expect("opens"),
            decoder: Decoder::new(DecodeOptions::default()),
            rows: self.rows(),
            registry: None,
            dry_run: false,
        }
    }

    /// The offset by which each of these keys has its row.
    async fn offsets(&self, ids: &[i64]) -> Vec<Option<i64>> {
        let keys: Vec<Vec<Value>> = ids.iter().map(|id| vec![Value::Long(*id)]).collect();
        let mut silver = self.replay().await.silver;
        let rows = silver.rows_of(&keys, &["_cdc_offset"]).await.expect("read");
        let offset = |row: Vec<Value>| match row[..] {
            [Value::Long(offset)] => offset,
            _ => panic!("no offset"),
        };
        rows.into_iter().map(|row| row.map(offset)).collect()
    }
}

fn records() -> Vec<(Message, bool)> {
    let broken = Message { value: Some(b"{".to_vec()), ..event(9, "c", 9) };
    vec![
        (event(0, "c", 1), true),
        (event(1, "c", 2), false),
        (event(2, "u", 1), false),
        // Newer than what was set aside of its key.
        (event(3, "u", 1), true),
        (event(4, "c", 3), false),
        // Took the row that was set aside.
        (event(5, "d", 3), true),
        (event(6, "c", 4), true),
        (event(7, "d", 4), false),
        (broken, false),
        (event(10, "c", 5), false),
        (event(11, "d", 5), false),
        (event(12, "u", 2), false),
        (event(13, "c", 6), false),
    ]
}

const PASSED: i64 = 13;

async fn replays_what_is_newer_and_only_once(format: Format) {
    let world = World::make(format, &records(), PASSED).await;
    let ids = [1, 2, 3, 4, 5, 6];
    assert_eq!(world.offsets(&ids).await, [Some(3), None, None, Some(6), None, None]);

    let mut replay = world.replay().await;
    let before = replay.silver.checkpoint().clone();
    let dry = Replay { dry_run: true, ..world.replay().await }.run().await.expect("dry");
    let tally = replay.run().await.expect("replayed");
    assert_eq!(dry, tally);
    assert_eq!(world.offsets(&ids).await, [Some(3), Some(12), None, None, None, None]);
    let counts = (tally.found, tally.applied, tally.superseded, tally.refused, tally.not_passed);
    assert_eq!(counts, (9, 3, 4, 1, 1));
    assert_eq!(tally.reasons[0].1, 9);
    assert_eq!(replay.silver.checkpoint(), &before, "no offset moves");

    let mut again = world.replay().await;
    let version = again.silver.head().version;
    let tally = again.run().await.expect("replayed again");
    assert_eq!((tally.applied, again.silver.head().version), (0, version));
}

#[tokio::test]
async fn iceberg_takes_what_is_newer_and_only_once() {
    replays_what_is_newer_and_only_once(Format::Iceberg).await;
}

#[tokio::test]
async fn delta_takes_what_is_newer_and_only_once() {
    replays_what_is_newer_and_only_once(Format::Delta).await;
}

#[tokio::test]
async fn what_the_service_has_done_meanwhile_counts() {
    let world = World::make(Format::Iceberg, &records(), PASSED).await;
    let mut replay = world.replay().await;
    // The service writes key 2 anew and goes on, while the replay has the older version open.
    let mut service = world.replay().await;
    let mut rows = world.rows();
    rows.reset(Some(service.silver.head().schema.clone()));
    let Decoded::Change(change) = service.decode(&event(13, "c", 2)).await else {
        panic!("change")
    };
    rows.push(Place { tp: &tp(), offset: 13 }, &change, false).expect("fits");
    let mut moved = CheckpointDelta::default();
    moved.extend(&tp(), 13, 14, None);
    let schema = rows.schema().cloned().expect("schema");
    let changes = rows.seal().changes;
    let batch = UpsertBatch { schema, changes, delta: moved, ..UpsertBatch::default() };
    let _ = service.silver.write(batch).await.expect("written");

    replay.run().await.expect("replayed");
    assert_eq!(world.offsets(&[2, 6]).await, [Some(13), Some(13)]);
    // And the service goes on from where it stood.
    let mut next = CheckpointDelta::default();
    next.extend(&tp(), 14, 15, None);
    let schema = service.silver.head().schema.clone();
    let batch = UpsertBatch { schema, delta: next, ..UpsertBatch::default() };
    let written = service.silver.write(batch).await.expect("written");
    assert!(matches!(written, Written::Committed { .. }));
}

#[tokio::test]
async fn bronze_behind_silver_is_refused() {
    let world = World::make(Format::Iceberg, &records(), 20).await;
    let error = world.replay().await.run().await.expect_err("refused");
    assert!(error.chain().contains("later offset than bronze"), "{}", error.chain());
}

#[tokio::test]
async fn what_a_truncate_took_does_not_come_back() {
    for format in [Format::Iceberg, Format::Delta] {
        let records = vec![
            (event(0, "c", 1), true),
            (event(1, "c", 2), false),
            (truncate(2), true),
            (event(3, "c", 3), false),
            (event(4, "c", 4), true),
        ];
        let world = World::make(format, &records, 5).await;
        let tally = world.replay().await.run().await.expect("replayed");
        assert_eq!((tally.found, tally.applied, tally.superseded), (2, 1, 1));
        assert_eq!(world.offsets(&[1, 2, 3, 4]).await, [None, None, Some(3), Some(4)]);

        // Where silver does not go by truncates, its rows are all still there.
        let world = World::make(format, &records, 5).await;
        let mut replay = world.replay().await;
        replay.rows =
            SilverRows::new(SilverRules { on_truncate: OnTruncate::Ignore, ..world.rules() });
        let tally = replay.run().await.expect("replayed");
        assert_eq!((tally.applied, tally.superseded), (2, 0));
    }
}

#[tokio::test]
async fn what_came_later_in_another_partition_counts_as_well() {
    let elsewhere = |offset, id| {
        let tp = TopicPartition::new(tp().topic, 1);
        (Message { tp, ..event(offset, "c", id) }, false)
    };
    // The time of each is its offset.
    let records = vec![
        (event(0, "c", 9), true),
        elsewhere(1, 1),
        (truncate(2), true),
        elsewhere(3, 2),
        // This key has moved, and its row is gone.
        elsewhere(4, 3),
        (event(5, "c", 3), true),
        (event(6, "d", 3), true),
        (event(7, "c", 4), true),
    ];
    let world = World::make(Format::Iceberg, &records, 8).await;
    let tally = world.replay().await.run().await.expect("replayed");
    assert_eq!((tally.found, tally.applied, tally.superseded), (3, 1, 2));
    assert_eq!(world.offsets(&[1, 2, 3, 4]).await, [None, Some(3), None, Some(7)]);
}

#[tokio::test]
async fn a_repeat_that_silver_passed_over_takes_nothing() {
    let records = vec![
        (event(0, "c", 1), true),
        (event(1, "d", 1), true),
        (event(2, "c", 1), false),
        (Message { headers: vec![("repeat".to_owned(), None)], ..event(3, "d", 1) }, true),
    ];
    let world = World::make(Format::Iceberg, &records, 4).await;
    let tally = world.replay().await.run().await.expect("replayed");
    assert_eq!((tally.applied, tally.superseded), (1, 0));
    assert_eq!(world.offsets(&[1]).await, [Some(2)]);
}
