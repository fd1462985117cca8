//! What decoding costs, next to how others would read the same bytes.
//!
//! `cargo bench --bench decode`. Ours does more than its rivals: it keeps the JSON of the rows for
//! bronze, checks every value against its type, finds the position and reads the key. The rivals
//! read the value only. Rates are records a second of this process, which is one thread.

#[path = "decode/wire.rs"]
mod wire;

use std::hint::black_box;
use std::sync::Arc;

use arrow_json::ReaderBuilder;
use arrow_schema::{DataType, Field, Schema, SchemaRef};
use criterion::measurement::WallTime;
use criterion::{BenchmarkGroup, Criterion, Throughput, criterion_group, criterion_main};
use lakebed::demo::generator::{Event, Generator, Mix, ShopOptions, TOPIC};
use lakebed_schemas::change_event::Decoded;
use lakebed_schemas::decoder::{DecodeOptions, Decoder, RecordRef};
use serde::Deserialize;
use wire::{AvroReader, ProtobufReader};

/// Changes in one round: more than any cache holds of their bytes, and short enough to repeat.
const CHANGES: usize = 10_000;

/// What a program with types of its own would read.
#[derive(Deserialize)]
#[allow(dead_code)] // Read by nobody: what counts is that it was decoded.
struct Envelope {
    before: Option<Order>,
    after: Option<Order>,
    source: Source,
    op: String,
    ts_ms: Option<i64>,
    ts_us: Option<i64>,
}

#[derive(Deserialize)]
#[allow(dead_code)]
struct Order {
    id: i64,
    customer: String,
    status: String,
    total: String,
    ordered_at: String,
    tags: Option<Vec<String>>,
    note: Option<String>,
}

#[derive(Deserialize)]
#[allow(dead_code)]
struct Source {
    connector: String,
    ts_ms: i64,
    ts_us: Option<i64>,
    snapshot: Option<String>,
    lsn: Option<i64>,
    #[serde(rename = "txId")]
    tx: Option<i64>,
}

#[derive(Deserialize)]
struct WithSchema {
    payload: Envelope,
}

fn events(with_schema: bool) -> Vec<Event> {
    let mut generator = Generator::new(&ShopOptions {
        seed: 1,
        mix: Mix { inserts: 45, updates: 45 },
        rows_max: u64::MAX,
        with_schema,
    });
    let mut events: Vec<Event> = Vec::with_capacity(CHANGES + CHANGES / 8);
    while events.len() < CHANGES {
        events.extend(generator.change());
    }
    events
}

fn values(events: &[Event]) -> impl Iterator<Item = &[u8]> {
    events.iter().filter_map(|event| event.value.as_deref())
}

fn ours(group: &mut BenchmarkGroup<'_, WallTime>, events: &[Event], mut decoder: Decoder) {
    group.bench_function("lakebed", |bencher| {
        bencher.iter(|| {
            for (offset, event) in (0..).zip(events) {
                let decoded = decoder.decode(&RecordRef {
                    topic: TOPIC,
                    partition: 0,
                    offset,
                    timestamp_ms: None,
                    key: Some(&event.key),
                    value: event.value.as_deref(),
                    headers: &[],
                });
                assert!(!matches!(decoded, Decoded::Malformed { .. }), "{decoded:?}");
                black_box(decoded);
            }
        });
    });
}

fn serde_json_value(group: &mut BenchmarkGroup<'_, WallTime>, events: &[Event]) {
    group.bench_function("serde_json Value", |bencher| {
        bencher.iter(|| {
            for value in values(events) {
                black_box(serde_json::from_slice::<serde_json::Value>(value).expect("JSON"));
            }
        });
    });
}

fn serde_json_typed(
    group: &mut BenchmarkGroup<'_, WallTime>,
    events: &[Event],
    read: impl Fn(&[u8]) -> Envelope,
) {
    group.bench_function("serde_json typed", |bencher| {
        bencher.iter(|| {
            for value in values(events) {
                black_box(read(value));
            }
        });
    });
}

/// The envelope's columns for a reader that makes columns of JSON at once.
fn arrow_schema(with_schema: bool) -> SchemaRef {
    let text = |name: &str| Field::new(name, DataType::Utf8, true);
    let long = |name: &str| Field::new(name, DataType::Int64, true);
    let tags = DataType::List(Arc::new(Field::new_list_field(DataType::Utf8, true)));
    let row = DataType::Struct(
        vec![
            long("id"),
            text("customer"),
            text("status"),
            text("total"),
            text("ordered_at"),
            Field::new("tags", tags, true),
            text("note"),
        ]
        .into(),
    );
    let source = DataType::Struct(
        vec![
            text("connector"),
            long("ts_ms"),
            long("ts_us"),
            text("snapshot"),
            long("lsn"),
            long("txId"),
        ]
        .into(),
    );
    let envelope = vec![
        Field::new("before", row.clone(), true),
        Field::new("after", row, true),
        Field::new("source", source, true),
        text("op"),
        long("ts_ms"),
        long("ts_us"),
    ];
    if !with_schema {
        return Arc::new(Schema::new(envelope));
    }
    Arc::new(Schema::new(vec![Field::new("payload", DataType::Struct(envelope.into()), true)]))
}

fn arrow(group: &mut BenchmarkGroup<'_, WallTime>, events: &[Event], schema: &SchemaRef) {
    group.bench_function("arrow-json", |bencher| {
        bencher.iter(|| {
            let builder = ReaderBuilder::new(Arc::clone(schema)).with_batch_size(events.len());
            let mut decoder = builder.build_decoder().expect("a decoder");
            for value in values(events) {
                let read = decoder.decode(value).expect("JSON");
                assert_eq!(read, value.len(), "the batch holds them all");
            }
            black_box(decoder.flush().expect("a batch"));
        });
    });
}

fn decode(criterion: &mut Criterion) {
    for (name, with_schema) in [("no schema", false), ("inline schema", true)] {
        let events = events(with_schema);
        let mut group = criterion.benchmark_group(name);
        group.sample_size(20);
        group.throughput(Throughput::Elements(events.len() as u64));
        ours(&mut group, &events, Decoder::new(DecodeOptions::default()));
        serde_json_typed(&mut group, &events, |value| match with_schema {
            true => serde_json::from_slice::<WithSchema>(value).expect("an event").payload,
            false => serde_json::from_slice(value).expect("an event"),
        });
        serde_json_value(&mut group, &events);
        arrow(&mut group, &events, &arrow_schema(with_schema));
        group.finish();
    }
}

/// One reader of values against ours, on records of a registry.
fn registry<R>(
    criterion: &mut Criterion,
    (name, rival): (&str, &str),
    records: wire::Records,
    read: impl Fn(&[u8]) -> R,
) {
    let wire::Records { events, decoder } = records;
    let mut group = criterion.benchmark_group(name);
    group.sample_size(20);
    group.throughput(Throughput::Elements(events.len() as u64));
    ours(&mut group, &events, decoder);
    group.bench_function(rival, |bencher| {
        bencher.iter(|| {
            for value in values(&events) {
                black_box(read(value));
            }
        });
    });
    group.finish();
}

fn registries(criterion: &mut Criterion) {
    let events = events(false);
    let avro = AvroReader::new();
    let records = avro.records(&events);
    registry(criterion, ("avro", "apache-avro"), records, |value| avro.read(value));
    let protobuf = ProtobufReader::new();
    let (records, envelope) = (protobuf.records(&events), protobuf.envelope());
    registry(criterion, ("protobuf", "prost-reflect"), records, |value| {
        protobuf.read(&envelope, value)
    });
}

criterion_group!(benches, decode, registries);
criterion_main!(benches);
