//! Recordings of real connectors: everything in scope decodes, and what comes out is what the
//! source had, by its own text.
//!
//! The recordings lie outside the project, in `LAKEBED_SHARED` (default: `../shared` beside the
//! workspace); without them these tests fail and say so.

mod golden_support;

use std::collections::BTreeSet;

use golden_support::catalogue::{self, Entry};
use golden_support::cells::Database;
use golden_support::{Cells, Recording, manifest, state};
use lakebed_schemas::column_override::ColumnOverride;
use lakebed_schemas::decoder::{DecodeOptions, Decoder};

/// JSON envelopes, and how many of their records are changes, tombstones and others.
const IN_SCOPE: [(&str, [usize; 3]); 16] = [
    ("postgres/json", [904, 50, 219]),
    ("postgres/json-schema", [904, 50, 219]),
    ("postgres/modes-string", [103, 4, 12]),
    ("postgres/modes-connect", [103, 4, 12]),
    ("postgres/special-precise", [8, 0, 3]),
    ("postgres/special-string", [8, 0, 3]),
    ("postgres/special-double", [8, 0, 3]),
    ("postgres/incremental", [3150, 31, 7]),
    ("postgres/duplicates", [421, 55, 8]),
    ("mariadb/json", [333, 41, 258]),
    ("mariadb/json-schema", [333, 41, 258]),
    ("mariadb/modes", [333, 41, 258]),
    ("mariadb/modes-connect", [333, 41, 258]),
    ("mariadb/mysql-connector", [325, 41, 74]),
    ("mariadb/rewind", [181, 20, 63]),
    ("mariadb/schema-history", [0, 0, 71]),
];

#[test]
fn every_json_record_of_every_recording_is_understood() {
    let mut found = Vec::new();
    for (name, _) in IN_SCOPE {
        let recording = Recording::read(name);
        let decoder = || Decoder::new(DecodeOptions::default());
        let counts = recording.count(name, decoder, |event, place| {
            let incremental = event.source.snapshot.as_deref() == Some("incremental");
            let has_position = event.source.position.is_some();
            assert_eq!(has_position, !incremental, "{place}: position");
        });
        found.push((name, counts));
    }
    assert_eq!(found, IN_SCOPE);
}

/// Replays a recording, compares it with the source's final rows, and holds it to its entry.
fn compare(entry: &Entry) {
    let recording = Recording::read(entry.recording);
    let mut cells = Cells::new(Database::of(entry.recording));
    for table in state(entry.state) {
        if entry.without.contains(&table.name.as_str()) || !recording.has_table(&table.name) {
            continue;
        }
        let overrides = table.columns.iter().filter_map(|(column, source_type)| {
            let (column_type, encoding) = (entry.columns)(source_type)?;
            let said = ColumnOverride::parse(&column_type, None, encoding).expect(source_type);
            Some((column.clone(), said))
        });
        let mut options = DecodeOptions {
            columns: overrides.collect(),
            wire: recording.wire,
            flattened: recording.flattened,
            ..DecodeOptions::default()
        };
        if let Some(placeholder) = entry.placeholder {
            options.placeholder = placeholder.to_owned();
        }
        let rows = recording.replay(&table, Decoder::new(options));
        cells.compare(&recording.named(table), &rows);
    }
    cells.assert_divergences(entry.recording, &entry.divergent);
    assert_eq!(cells.equal, entry.equal, "{}: cells that are the source's", entry.recording);
}

#[test]
fn every_cell_of_every_recording_is_the_sources_or_listed() {
    let entries = catalogue::entries();
    let failed: Vec<_> = entries
        .iter()
        .filter(|entry| std::panic::catch_unwind(|| compare(entry)).is_err())
        .map(|entry| entry.recording)
        .collect();
    assert!(failed.is_empty(), "{failed:?}, as said above");
}

#[test]
fn every_divergence_that_the_manifest_knows_is_listed_or_settled() {
    let entries = catalogue::entries();
    let is_mode = |reason: &&str| reason.starts_with("mode: ");
    let (mut known, mut used) = (BTreeSet::new(), BTreeSet::new());
    for database in ["postgres", "mariadb"] {
        let named = manifest::known_divergence(database).into_iter();
        known.extend(named.map(|name| (database, name)));
        for entry in entries.iter().filter(|entry| entry.recording.starts_with(database)) {
            let reasons = entry.divergent.iter().map(|divergence| divergence.reason);
            let of_manifest = reasons.filter(|reason| !is_mode(reason));
            used.extend(of_manifest.map(|reason| (database, reason.to_owned())));
        }
    }
    for (name, why) in manifest::SETTLED {
        let of: Vec<_> = known.iter().filter(|(_, known)| known == name).cloned().collect();
        assert_eq!(of.len(), 1, "{name} ({why}) is known once");
        assert!(used.insert(of[0].clone()), "{name} ({why}) is a divergence all the same");
    }
    // What the recording of repeats comes to is asked of the whole program.
    used.insert(("postgres", "duplicates acc".to_owned()));
    assert_eq!(used, known);
}
