//! Recorded topics, cut into batches at random and stopped at random, against the same topics taken
//! whole and against the source.
//!
//! The recordings lie outside the project, as for the decoder's own tests; without them this is
//! skipped and says so. `LAKEBED_CUTS=7` runs seed 7 alone, `LAKEBED_CUTS=1..50` fifty of them.
//! A seed fixes sizes and places; how far a table has come when it is stopped is up to the clock.

#[path = "../../schemas/tests/golden_support/cells.rs"]
mod cells;
#[path = "../../schemas/tests/golden_support/columns.rs"]
mod columns;
mod lake;
#[path = "../../schemas/tests/golden_support/pg_text.rs"]
mod pg_text;
#[path = "../../schemas/tests/golden_support/recording.rs"]
mod recording;
mod replay;

use std::ops::RangeInclusive;

use cells::Cells;
use columns::{Said, adaptive, modes_string};
use lake::{FORMATS, Lake, Stop};
use recording::{Recording, state};
use replay::{Dice, Topics};

/// What is cut when nothing is asked for.
const SEEDS: RangeInclusive<u64> = 1..=2;

/// Tables whose types and changes are in scope, as in `tests/live/test_recorded.py`, which says why
/// the others are not.
const CHANGES: [&str; 16] = [
    "changes.Mixed Case",
    "changes.cascade_c",
    "changes.cascade_p",
    "changes.composite",
    "changes.hot",
    "changes.ident_full",
    "changes.ident_index",
    "changes.idi",
    "changes.partitioned_eu",
    "changes.partitioned_us",
    "changes.pkchange",
    "changes.three",
    "changes.toast",
    "changes.toast_full",
    "ctl.marker",
    "evolve.new_name",
];
const TYPES: [&str; 7] = [
    "types.arrays",
    "types.basic",
    "types.floats",
    "types.generated",
    "types.netbits",
    "types.numbers",
    "types.temporal",
];

/// Where no reader can get the source's text from the events: table, and column or `rows`.
const OF_THE_EVENTS: [(&str, &str); 2] = [
    // Generated columns are sent by the snapshot only.
    ("types.generated", "twice"),
    // 1582-10-10: snapshot and stream differ by the ten days of the calendar's reform.
    ("types.temporal", "d"),
];
const OF_THE_TEXTS: [(&str, &str); 2] = [
    // The server's cast adds /32.
    ("types.netbits", "c_inet"),
    // The zone is lost: sent in UTC.
    ("types.temporal", "ttz"),
];
const OF_DEFAULT_MODES: [(&str, &str); 4] = [
    // Sent as null by the stream.
    ("types.basic", "c_name"),
    // An approximate number of microseconds.
    ("types.temporal", "iv"),
    // One row really holds the text of the placeholder.
    ("changes.toast", "big"),
    // REPLICA IDENTITY USING INDEX: deletes carry the key 0.
    ("changes.ident_index", "rows"),
];
const OF_STRING_MODES: [(&str, &str); 4] = [
    // ISO 8601 where the server has words.
    ("types.temporal", "iv"),
    // 24:00:00 is sent as 00:00:00.
    ("types.temporal", "t"),
    ("types.temporal", "t0"),
    ("types.temporal", "t3"),
];

/// A recording, its tables, and what the source says of them.
struct Case {
    recording: &'static str,
    tables: Vec<&'static str>,
    state: &'static str,
    /// What the configuration says of a column.
    columns: fn(&str) -> Option<Said>,
    /// How many records a batch may have at most, at random for each table.
    rows: RangeInclusive<u64>,
    /// Cells that equal the source in each format, and where others differ. `None`: without schema
    /// and without a word in the configuration values are not the source's.
    source: Option<(usize, Vec<(&'static str, &'static str)>)>,
}

fn seeds() -> RangeInclusive<u64> {
    let Ok(text) = std::env::var("LAKEBED_CUTS") else { return SEEDS };
    let number = |text: &str| text.parse::<u64>().expect("LAKEBED_CUTS is a number or a range");
    match text.split_once("..") {
        Some((first, last)) => number(first)..=number(last),
        None => number(&text)..=number(&text),
    }
}

impl Case {
    fn check(&self) {
        if !recording::shared().join("golden").exists() {
            eprintln!("skipped: {} is not there; set LAKEBED_SHARED", self.recording);
            return;
        }
        let topics = Topics::new(Recording::read(&format!("postgres/{}", self.recording)), |t| {
            self.tables.iter().any(|table| recording::topic_name(table) == t)
        });
        let sources: Vec<_> = state(&format!("postgres/{}", self.state))
            .into_iter()
            .filter(|table| self.tables.contains(&table.name.as_str()))
            .collect();
        assert_eq!(sources.len(), self.tables.len(), "tables that the state lacks");
        let whole = Lake::new(&sources, &topics, self.columns, None);
        whole.run(&topics, 0, Stop::CaughtUp);
        let expected = whole.silver();
        self.compare(&sources, &whole);
        whole.assert_bronze(&topics);
        for seed in seeds() {
            eprintln!("{}: LAKEBED_CUTS={seed}", self.recording);
            let lake = self.cut(&sources, &topics, seed);
            let found = lake.silver();
            for (place, rows) in &expected {
                let differing = rows.iter().find(|(key, row)| found[place].get(key) != Some(row));
                if let Some((key, row)) = differing {
                    panic!(
                        "LAKEBED_CUTS={seed}: {place:?} differs\n whole: {row:?}\n cut:   {:?}",
                        found[place].get(key)
                    );
                }
                assert_eq!(found[place].len(), rows.len(), "LAKEBED_CUTS={seed}: {place:?}");
            }
            lake.assert_bronze(&topics);
        }
    }

    /// The same topics in small batches, with stops on the way.
    fn cut(&self, sources: &[recording::TableState], topics: &Topics, seed: u64) -> Lake {
        let mut dice = Dice::new(seed);
        let lake = Lake::new(sources, topics, self.columns, Some((&mut dice, &self.rows)));
        let mut still_running = Vec::new();
        for _ in 0..dice.below(4) + 1 {
            let after = dice.below(topics.records() as u64);
            let stop = [Stop::Asked, Stop::Dropped, Stop::Killed][dice.below(3) as usize];
            still_running.push(lake.run(topics, dice.next(), stop.after(after)));
        }
        lake.run(topics, dice.next(), Stop::CaughtUp);
        lake
    }

    fn compare(&self, sources: &[recording::TableState], lake: &Lake) {
        let Some((cells, divergent)) = &self.source else { return };
        for format in FORMATS {
            let mut compared = Cells::default();
            for table in sources {
                compared.compare(table, &lake.rows_of(table, format));
            }
            compared.assert_divergences(&format!("{} in {format}", self.recording), divergent);
            assert_eq!(compared.equal, *cells, "{} in {format}", self.recording);
        }
    }
}

fn all(lists: &[&[(&'static str, &'static str)]]) -> Vec<(&'static str, &'static str)> {
    lists.concat()
}

#[test]
fn topics_with_inline_schemas_come_to_the_same_however_they_are_cut() {
    let divergent = all(&[&OF_THE_EVENTS, &OF_THE_TEXTS, &OF_DEFAULT_MODES]);
    let case = Case {
        recording: "json-schema",
        tables: [&CHANGES[..], &TYPES].concat(),
        state: "state",
        columns: |_| None,
        rows: 1..=50,
        source: Some((859, divergent)),
    };
    case.check();
}

#[test]
fn topics_without_schemas_come_to_the_same_however_they_are_cut() {
    let case = Case {
        recording: "json",
        tables: [&CHANGES[..], &TYPES].concat(),
        state: "state",
        columns: |_| None,
        rows: 1..=50,
        source: None,
    };
    case.check();
}

#[test]
fn topics_with_configured_columns_come_to_the_same_however_they_are_cut() {
    let divergent = all(&[&OF_THE_EVENTS, &OF_THE_TEXTS, &OF_DEFAULT_MODES]);
    let case = Case {
        recording: "json",
        tables: [&CHANGES[..], &TYPES].concat(),
        state: "state",
        columns: adaptive,
        rows: 1..=50,
        source: Some((859, divergent)),
    };
    case.check();
}

#[test]
fn topics_in_string_modes_come_to_the_same_however_they_are_cut() {
    let divergent = all(&[&OF_THE_EVENTS, &OF_THE_TEXTS, &OF_STRING_MODES]);
    let case = Case {
        recording: "modes-string",
        tables: [&["ctl.marker"][..], &TYPES].concat(),
        state: "state",
        columns: modes_string,
        rows: 1..=50,
        source: Some((577, divergent)),
    };
    case.check();
}

#[test]
fn an_incremental_snapshot_comes_to_the_same_however_it_is_cut() {
    let case = Case {
        recording: "incremental",
        tables: vec!["public.item", "public.marker"],
        state: "incremental.state",
        columns: |_| None,
        // Thousands of records in one topic: one a batch would take minutes.
        rows: 10..=50,
        source: Some((8_936, Vec::new())),
    };
    case.check();
}
