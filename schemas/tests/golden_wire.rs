//! Recordings in other forms than JSON envelopes: Avro in each framing, and flattened. What comes out
//! is what the source had, and what the same connector gives with inline schemas.

#[allow(dead_code, unused_imports)]
mod golden_support;

use std::collections::BTreeMap;

use golden_support::recording::TableState;
use golden_support::{Recording, state};
use lakebed_schemas::change_event::{Decoded, Row};
use lakebed_schemas::decoder::{DecodeOptions, Decoder};

/// How many of their records are changes, tombstones and others.
const RECORDINGS: [(&str, [usize; 3]); 6] = [
    ("postgres/avro", [904, 50, 219]),
    ("postgres/flat", [899, 0, 220]),
    ("postgres/apicurio-8byte", [6, 2, 0]),
    ("postgres/apicurio-headers", [6, 2, 0]),
    ("mariadb/avro", [333, 41, 258]),
    ("mariadb/flat", [332, 41, 258]),
];

fn decoder(recording: &Recording) -> Decoder {
    Decoder::new(DecodeOptions {
        wire: recording.wire,
        flattened: recording.flattened,
        ..DecodeOptions::default()
    })
}

#[test]
fn every_record_of_the_other_forms_is_understood() {
    let mut found = Vec::new();
    for (name, _) in RECORDINGS {
        let recording = Recording::read(name);
        let counts = recording.count(
            name,
            || decoder(&recording),
            |event, place| {
                assert!(event.source.position.is_some(), "{place}: no position");
            },
        );
        found.push((name, counts));
    }
    assert_eq!(found, RECORDINGS);
}

/// Values of one row by column.
type Cells = BTreeMap<String, String>;

/// The rows of a table by key.
fn rows(recording: &Recording, table: &TableState) -> BTreeMap<u128, Cells> {
    let cells = |row: Row| {
        let fields = row.shape.fields.iter().zip(&row.values);
        fields.map(|(field, value)| (field.name.clone(), format!("{value:?}"))).collect()
    };
    let rows = recording.replay(table, decoder(recording));
    rows.into_iter().map(|(key, row)| (key, cells(row))).collect()
}

/// A truncate reaches one of its three partitions, and which rows are there depends on the bytes of
/// the key; flattened, it reaches none.
const TRUNCATED: [&str; 4] =
    ["changes.trunc", "changes.trunc_child", "changes.three_trunc", "golden.trunc"];
/// Where the Avro converter writes a NULL as the column's default, which the other was told not to.
const DEFAULTED: [&str; 2] = ["evolve.t", "golden.evolve"];
/// Columns whose maps have no order.
const UNORDERED: [&str; 1] = ["pa"];

/// Asserts that two recordings of one source lead to the same cells; gives how many.
fn same_rows(one: &str, other: &str, source: &str, except: &[&str]) -> usize {
    let [one, other] = [one, other].map(Recording::read);
    let mut equal = 0;
    let tables = state(source).into_iter();
    for table in tables.filter(|table| !except.contains(&table.name.as_str())) {
        let (first, second) = (rows(&one, &table), rows(&other, &table));
        let name = table.name.clone();
        let named = one.named(state(source).into_iter().find(|t| t.name == name).expect("it"));
        for (key, row) in &first {
            let twin = second.get(key);
            for (ours, theirs) in named.columns.iter().zip(&table.columns) {
                let value = row.get(&ours.0);
                let found = twin.and_then(|twin| twin.get(&theirs.0));
                if !UNORDERED.contains(&ours.0.as_str()) {
                    assert_eq!(value, found, "{name}.{}", theirs.0);
                    equal += usize::from(value.is_some());
                }
            }
        }
        assert_eq!(first.len(), second.len(), "rows of {name}");
    }
    equal
}

#[test]
fn avro_gives_exactly_the_rows_of_inline_schemas() {
    let except = [&TRUNCATED[..], &DEFAULTED].concat();
    let postgres = same_rows("postgres/avro", "postgres/json-schema", "postgres/state", &except);
    let mariadb = same_rows("mariadb/avro", "mariadb/json-schema", "mariadb/state", &except);
    assert_eq!((postgres, mariadb), (1_042, 840));
}

#[test]
fn flattened_rows_are_those_of_the_envelopes() {
    let postgres = same_rows("postgres/flat", "postgres/json", "postgres/state", &TRUNCATED);
    let mariadb = same_rows("mariadb/flat", "mariadb/json", "mariadb/state", &TRUNCATED);
    assert_eq!((postgres, mariadb), (1_094, 884));
}

/// What bronze keeps of Avro is the text that JsonConverter writes for the same change.
#[test]
fn the_json_of_avro_is_that_of_the_json_converter() {
    for database in ["postgres", "mariadb"] {
        let names = [format!("{database}/avro"), format!("{database}/json-schema")];
        let texts = names.map(|name| {
            let recording = Recording::read(&name);
            let mut decoder = decoder(&recording);
            let mut texts = BTreeMap::new();
            for record in &recording.records {
                if let Decoded::Change(event) = recording.decode(record, &mut decoder) {
                    let place = (record.table().to_owned(), record.partition, record.offset);
                    texts.insert(place, (event.op, event.before_json, event.after_json));
                }
            }
            texts
        });
        let mut equal = 0;
        for (place, text) in &texts[0] {
            let other = ["changes.three", "changes.three_trunc", "golden.three"];
            let other = [&other[..], &["types.odd"], &DEFAULTED].concat();
            // Names are adjusted there, partitions chosen by the bytes of the key, maps in no order.
            if !other.contains(&place.0.as_str()) && !place.0.ends_with(".Mixed_Case") {
                assert_eq!(texts[1].get(place), Some(text), "{database} {place:?}");
                equal += 1;
            }
        }
        assert!(equal > 150, "{equal}");
    }
}

#[test]
fn bytes_of_another_form_are_refused_by_what_they_look_like() {
    for (name, said, parts) in [
        ("postgres/json", "postgres/avro", ["JSON", "`records.format: json`"]),
        ("postgres/avro", "postgres/json", ["byte 0", "`records.registry`"]),
        ("postgres/apicurio-headers", "postgres/avro", ["headers", "ids: headers"]),
        ("postgres/avro", "postgres/apicurio-headers", ["byte 0", "in the record's headers"]),
        ("postgres/flat", "postgres/json", ["no `op`", "records.flattened: true"]),
    ] {
        let recording = Recording::read(name);
        let mut decoder = decoder(&Recording::read(said));
        let row = recording.records.iter().find(|r| r.topic.ends_with(".marker")).expect("a row");
        match recording.decode(row, &mut decoder) {
            Decoded::Malformed { reason } => {
                assert!(parts.iter().all(|part| reason.contains(part)), "{name}: {reason}");
            }
            other => panic!("{name} is understood as {said}: {other:?}"),
        }
    }
}
