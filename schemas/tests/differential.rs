//! The decoder against a plain one, on recorded, generated and damaged records.
//!
//! `LAKEBED_DIFFERENTIAL` says how many generated ones (default 100 000), `LAKEBED_SEED` which. A
//! failure prints the seed and the record. Recordings are taken from `LAKEBED_SHARED`.

#[path = "differential/generator.rs"]
mod generator;
#[allow(dead_code, unused_imports)] // The states belong to other tests.
mod golden_support;
mod reference;

use std::panic::{AssertUnwindSafe, catch_unwind};

use generator::{Made, Random, Table};
use golden_support::Recording;
use lakebed_schemas::change_event::{Decoded, Row};
use lakebed_schemas::decoder::{DecodeOptions, Decoder, OLD_KEY, RecordRef};
use reference::{Change, Said};

/// Those whose values are JSON.
const RECORDINGS: [(&str, usize); 14] = [
    ("postgres/json", 1_173),
    ("postgres/json-schema", 1_173),
    ("postgres/modes-string", 119),
    ("postgres/modes-connect", 119),
    ("postgres/special-precise", 11),
    ("postgres/special-string", 11),
    ("postgres/special-double", 11),
    ("postgres/incremental", 3_188),
    ("postgres/duplicates", 484),
    ("mariadb/json", 632),
    ("mariadb/json-schema", 632),
    ("mariadb/modes", 632),
    ("mariadb/modes-connect", 632),
    ("mariadb/rewind", 264),
];

/// Records of one decoder, so that what it remembers is met again.
const ROUND: usize = 500;
const THREADS: u64 = 2;

fn number(variable: &str, default: u64) -> u64 {
    let given = std::env::var(variable).ok();
    given.map_or(default, |text| text.parse().expect("a number"))
}

fn plain(row: Option<&Row>) -> Option<reference::Row> {
    let row = row?;
    let names = row.shape.fields.iter().map(|field| field.name.clone());
    Some(names.zip(row.values.iter().cloned()).collect())
}

/// What the decoder says, in the reference's words.
fn said(decoded: &Decoded) -> Said {
    match decoded {
        Decoded::Malformed { .. } => Said::Malformed,
        Decoded::Other { kind } => Said::Other(*kind),
        Decoded::Tombstone { key } => Said::Tombstone { key: plain(key.as_ref()) },
        Decoded::Change(event) => Said::Change(Box::new(Change {
            op: event.op,
            key: plain(event.key.as_ref()),
            before: plain(event.before.as_ref()),
            after: plain(event.after.as_ref()),
            old_key: plain(event.old_key.as_ref()),
            connector: event.source.connector.clone(),
            ts_us: event.source.ts_us,
            snapshot: event.source.snapshot.clone(),
            tx: event.source.tx.clone(),
            event_ts_us: event.event_ts_us,
            before_json: event.before_json.clone(),
            after_json: event.after_json.clone(),
            source_json: event.source_json.clone(),
        })),
    }
}

fn shown(record: &RecordRef<'_>) -> String {
    let text = |bytes: Option<&[u8]>| format!("{:?}", bytes.map(String::from_utf8_lossy));
    let header = text(record.header(OLD_KEY));
    format!("key {}\nheader {header}\nvalue {}", text(record.key), text(record.value))
}

/// # Panics
/// Where the two differ, or the decoder panics.
fn compare(decoder: &mut Decoder, record: &RecordRef<'_>, place: &str) -> Said {
    let shown = || format!("{place}\n{}", shown(record));
    let decoded = catch_unwind(AssertUnwindSafe(|| decoder.decode(record)));
    let decoded = decoded.unwrap_or_else(|_| panic!("the decoder panics: {}", shown()));
    let (found, wanted) = (said(&decoded), reference::decode(record));
    // NaN is not equal to itself: the texts decide.
    if found != wanted {
        let texts = [format!("{found:#?}"), format!("{wanted:#?}")];
        assert!(
            texts[0] == texts[1],
            "{}\nthe decoder: {} {decoded:?}\nthe reference: {}",
            shown(),
            texts[0],
            texts[1]
        );
    }
    found
}

#[test]
fn every_recorded_record_is_read_as_by_the_plain_decoder() {
    for (name, expected) in RECORDINGS {
        let recording = Recording::read(name);
        let mut decoder = Decoder::new(DecodeOptions::default());
        let mut changes = 0;
        for record in &recording.records {
            let headers = record.header_refs();
            let place = format!("{name}: {}-{}@{}", record.topic, record.partition, record.offset);
            let record = record.borrowed(&headers);
            let said = compare(&mut decoder, &record, &place);
            changes += usize::from(matches!(said, Said::Change(_)));
        }
        assert_eq!(recording.records.len(), expected, "{name}");
        // Beside changes there are tombstones, heartbeats and schema changes.
        assert!(changes * 2 >= expected, "{name}: only {changes} changes");
    }
}

#[test]
fn generated_and_damaged_records_are_read_as_by_the_plain_decoder() {
    let seed = number("LAKEBED_SEED", 20_261_121);
    let count = number("LAKEBED_DIFFERENTIAL", 100_000);
    eprintln!("LAKEBED_SEED={seed} LAKEBED_DIFFERENTIAL={count}");
    let rounds = count.div_ceil(ROUND as u64);
    let kinds = std::thread::scope(|scope| {
        let run = |thread: u64| {
            scope.spawn(move || {
                let mine = (0..rounds).filter(|round| round % THREADS == thread);
                mine.map(|number| round(seed, number)).fold([0; 4], sum)
            })
        };
        let threads: Vec<_> = (0..THREADS).map(run).collect();
        threads.into_iter().map(|t| t.join().expect("no difference")).fold([0; 4], sum)
    });
    let total: usize = kinds.iter().sum();
    assert_eq!(total as u64, rounds * ROUND as u64);
    // Each answer is met often, or the records would prove little.
    for (kind, least) in kinds.iter().zip([total / 3, total / 50, total / 1_000, total / 20]) {
        assert!(*kind >= least, "changes, tombstones, others, malformed: {kinds:?}");
    }
}

fn sum(mut a: [usize; 4], b: [usize; 4]) -> [usize; 4] {
    a.iter_mut().zip(b).for_each(|(a, b)| *a += b);
    a
}

/// One decoder and a few tables whose records take turns; one record in four is damaged.
fn round(seed: u64, number: u64) -> [usize; 4] {
    let mut random = Random::new(seed ^ number.wrapping_mul(0x9e37_79b9_7f4a_7c15));
    let mut decoder = Decoder::new(DecodeOptions::default());
    let mut tables: Vec<Table> = (0..3).map(|_| Table::new(&mut random)).collect();
    let mut kinds = [0; 4];
    for index in 0..ROUND {
        if random.one_in(50) {
            let table = random.below(tables.len());
            tables[table] = Table::new(&mut random);
        }
        let table = random.below(tables.len());
        let mut made = tables[table].record(&mut random);
        if random.one_in(4) {
            made.damage(&mut random);
        }
        let Made { key, value, old_key } = &made;
        let headers: Vec<(&str, Option<&[u8]>)> =
            old_key.as_deref().map(|bytes| (OLD_KEY, Some(bytes))).into_iter().collect();
        let record = RecordRef {
            topic: "shop.public.orders",
            partition: 0,
            offset: index as i64,
            timestamp_ms: None,
            key: key.as_deref(),
            value: value.as_deref(),
            headers: &headers,
        };
        let place = format!("seed {seed}, round {number}, record {index}");
        kinds[match compare(&mut decoder, &record, &place) {
            Said::Change(_) => 0,
            Said::Tombstone { .. } => 1,
            Said::Other(_) => 2,
            Said::Malformed => 3,
        }] += 1;
    }
    kinds
}
