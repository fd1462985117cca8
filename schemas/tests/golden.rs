//! Recordings of real connectors: everything in scope decodes, and what comes out is what the
//! source had, by its own text.
//!
//! The recordings lie outside the project, in `LAKEBED_SHARED` (default: `../shared` beside the
//! workspace); without them these tests fail and say so.

mod golden_support;

use std::collections::BTreeMap;

use golden_support::columns::{Said, adaptive, modes_string};
use golden_support::{Cells, Recording, state};
use lakebed_schemas::change_event::{Decoded, Op};
use lakebed_schemas::column_override::ColumnOverride;
use lakebed_schemas::decoder::{DecodeOptions, Decoder};

/// Recordings in Avro or flattened: not understood yet.
const OUT_OF_SCOPE: [&str; 6] = [
    "postgres/avro",
    "postgres/flat",
    "postgres/apicurio-8byte",
    "postgres/apicurio-headers",
    "mariadb/avro",
    "mariadb/flat",
];

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
        let mut decoders: BTreeMap<&str, Decoder> = BTreeMap::new();
        let mut counts = [0; 3];
        for record in &recording.records {
            let decoder = decoders
                .entry(&record.topic)
                .or_insert_with(|| Decoder::new(DecodeOptions::default()));
            let place = format!("{name} {}-{}@{}", record.topic, record.partition, record.offset);
            match record.decode(decoder) {
                Decoded::Change(event) => {
                    counts[0] += 1;
                    assert!(event.source.ts_us.is_some(), "{place}: no source time");
                    let incremental = event.source.snapshot.as_deref() == Some("incremental");
                    let has_position = event.source.position.is_some();
                    assert_eq!(has_position, !incremental, "{place}: position");
                    let is_row = !matches!(event.op, Op::Truncate | Op::Message | Op::Delete);
                    assert_eq!(event.after.is_some(), is_row, "{place}: after");
                }
                Decoded::Tombstone { .. } => counts[1] += 1,
                Decoded::Other { .. } => counts[2] += 1,
                Decoded::Malformed { reason } => panic!("{place}: {reason}"),
            }
        }
        found.push((name, counts));
    }
    assert_eq!(found, IN_SCOPE);
}

#[test]
fn recordings_out_of_scope_are_refused_with_a_reason() {
    for name in OUT_OF_SCOPE {
        let recording = Recording::read(name);
        let mut decoder = Decoder::new(DecodeOptions::default());
        let mut refused = 0;
        for record in recording.records.iter().filter(|record| record.value.is_some()) {
            if let Decoded::Malformed { reason } = record.decode(&mut decoder) {
                refused += 1;
                assert!(!reason.is_empty() && reason.len() < 200, "{reason}");
            }
        }
        assert!(refused > 0, "{name}: if it is understood by now, list it as in scope");
    }
}

const DEFAULT_PLACEHOLDER: &str = "__debezium_unavailable_value";

/// Tables and columns (or `rows`) of PostgreSQL where no reader can get the source's text from the
/// events, whatever the connector's modes.
const ALWAYS_DIVERGENT: [(&str, &str); 15] = [
    // The same value in another form: hstore as JSON, geometries as structs with WKB.
    ("types.ext", "h"),
    ("types.odd", "bx"),
    ("types.odd", "c"),
    ("types.odd", "l"),
    ("types.odd", "ls"),
    ("types.odd", "p"),
    ("types.odd", "pa"),
    ("types.odd", "pg"),
    // The server's cast adds /32.
    ("types.netbits", "c_inet"),
    // Arrays of two dimensions arrive as nulls.
    ("types.odd", "arr2"),
    // Composites and multiranges are not sent, or as base64 of their text.
    ("types.odd", "comp"),
    ("types.odd", "mr"),
    // Generated columns are sent by the snapshot only.
    ("types.generated", "twice"),
    // The zone is lost: sent in UTC.
    ("types.temporal", "ttz"),
    // Infinity and years before 1 come garbled, differently in snapshot and stream.
    ("types.temporal_edge", "d"),
];

const CHANGES_DIVERGENT: [(&str, &str); 3] = [
    // REPLICA IDENTITY USING INDEX: deletes carry the key 0.
    ("changes.ident_index", "rows"),
    // A truncate reaches one of three partitions, whose order is lost here.
    ("changes.three_trunc", "rows"),
    // One row really holds the text of the placeholder.
    ("changes.toast", "big"),
];

const ADAPTIVE_DIVERGENT: [(&str, &str); 4] = [
    // Sent as null by the stream.
    ("types.basic", "c_name"),
    // An approximate number of microseconds.
    ("types.temporal", "iv"),
    // 1582-10-10: snapshot and stream differ by the ten days of the calendar's reform.
    ("types.temporal", "d"),
    // The last microsecond that PostgreSQL knows overflows.
    ("types.temporal_edge", "ts"),
];

const STRING_DIVERGENT: [(&str, &str); 5] = [
    // ISO 8601 where the server has words.
    ("types.temporal", "iv"),
    ("types.temporal", "d"),
    // 24:00:00 is sent as 00:00:00.
    ("types.temporal", "t"),
    ("types.temporal", "t0"),
    ("types.temporal", "t3"),
];

/// Rows that were not touched after an ALTER keep what they were sent with.
const EVOLVE_DIVERGENT: [(&str, &str); 4] =
    [("evolve.t", "d"), ("evolve.t", "e_renamed"), ("evolve.t", "f"), ("evolve.t", "h")];

/// A recording, how it is read, and where it cannot give the source's cells.
struct Case {
    recording: &'static str,
    placeholder: &'static str,
    columns: fn(&str) -> Option<Said>,
    /// Schemas of the source that are left out.
    without: &'static [&'static str],
    divergent: Vec<(&'static str, &'static str)>,
}

impl Case {
    /// Replays the recording, compares it with the source's final rows, and gives the number of
    /// equal cells.
    fn compare(&self) -> usize {
        let recording = Recording::read(self.recording);
        let mut cells = Cells::default();
        for table in state("postgres/state") {
            let schema = table.name.split('.').next().unwrap_or_default();
            if self.without.contains(&schema) || !recording.has_table(&table.name) {
                continue;
            }
            let overrides = table.columns.iter();
            let overrides = overrides.filter_map(|(column, pg_type)| {
                let (column_type, encoding) = (self.columns)(pg_type)?;
                let said = ColumnOverride::parse(&column_type, None, encoding).expect(pg_type);
                Some((column.clone(), said))
            });
            let options = DecodeOptions {
                columns: overrides.collect(),
                placeholder: self.placeholder.to_owned(),
                ..DecodeOptions::default()
            };
            let rows = recording.replay(&table, Decoder::new(options));
            cells.compare(&table, &rows);
        }
        cells.assert_divergences(self.recording, &self.divergent);
        cells.equal
    }
}

fn divergent(more: &[(&'static str, &'static str)]) -> Vec<(&'static str, &'static str)> {
    [&ALWAYS_DIVERGENT, more].concat()
}

#[test]
fn with_inline_schema_every_cell_is_the_sources() {
    let case = Case {
        recording: "postgres/json-schema",
        placeholder: DEFAULT_PLACEHOLDER,
        columns: |_| None,
        without: &[],
        divergent: divergent(
            &[&CHANGES_DIVERGENT[..], &ADAPTIVE_DIVERGENT, &EVOLVE_DIVERGENT].concat(),
        ),
    };
    assert_eq!(case.compare(), 1_034);
}

#[test]
fn without_schema_a_columns_block_makes_every_cell_the_sources() {
    let case = Case {
        recording: "postgres/json",
        placeholder: DEFAULT_PLACEHOLDER,
        columns: adaptive,
        // One block of columns cannot say what a column was at each time.
        without: &["evolve"],
        divergent: divergent(&[&CHANGES_DIVERGENT[..], &ADAPTIVE_DIVERGENT].concat()),
    };
    assert_eq!(case.compare(), 994);
}

#[test]
fn in_the_string_modes_every_cell_is_the_sources() {
    let case = Case {
        recording: "postgres/modes-string",
        placeholder: "N/A",
        columns: modes_string,
        without: &[],
        divergent: divergent(&STRING_DIVERGENT),
    };
    assert_eq!(case.compare(), 708);
}
