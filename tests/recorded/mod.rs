//! Recorded topics, cut into batches at random and stopped at random, against the same topics taken
//! whole and against the source.
//!
//! The recordings lie outside the project, as for the decoder's own tests; without them this is
//! skipped and says so. `LAKEBED_CUTS=7` runs seed 7 alone, `LAKEBED_CUTS=1..50` fifty of them.
//! A seed fixes sizes and places; how far a table has come when it is stopped is up to the clock.

#[path = "../../schemas/tests/golden_support/catalogue.rs"]
mod catalogue;
#[path = "../../schemas/tests/golden_support/cells.rs"]
mod cells;
#[path = "../../schemas/tests/golden_support/columns.rs"]
mod columns;
#[path = "../../schemas/tests/golden_support/forms.rs"]
mod forms;
mod lake;
#[path = "../../schemas/tests/golden_support/my_text.rs"]
mod my_text;
#[path = "../../schemas/tests/golden_support/pg_text.rs"]
mod pg_text;
#[path = "../../schemas/tests/golden_support/recording.rs"]
pub(crate) mod recording;
mod registry;
mod replay;

use std::ops::RangeInclusive;

use catalogue::Entry;
use cells::{Cells, Database, Divergence};
use lake::{FORMATS, Lake, Stop};
use recording::{Recording, TableState, state};
use registry::RecordedRegistry;
use replay::{Dice, Topics};

/// What is cut when nothing is asked for.
const SEEDS: RangeInclusive<u64> = 1..=1;

/// Truncated, which flattened topics do not tell.
const TRUNCATED: &str = "changes.three_trunc";

/// Cells of that table that are the source's once the truncate is applied.
const TOLD_BY_TRUNCATE: usize = 12;

/// A recording, how it is cut, and what it comes to.
struct Case {
    entry: Entry,
    /// How many records a batch may have at most, at random for each table.
    rows: RangeInclusive<u64>,
    /// Cells that equal the source in each format. `None`: without schema and without a word in the
    /// configuration values are not the source's.
    cells: Option<usize>,
    /// Records of each format's bronze that the source had sent before.
    repeats: usize,
    /// Whether rows go that a whole snapshot did not find again.
    sweep_ghosts: bool,
}

/// How the records of a recording stand on the wire.
struct Form<'e> {
    entry: &'e Entry,
    flattened: bool,
    sweep_ghosts: bool,
    registry: Option<RecordedRegistry>,
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
    /// Of an entry of the catalogue.
    fn new(recording: &str, rows: RangeInclusive<u64>, cells: usize) -> Self {
        let entry = catalogue::entries().into_iter().find(|entry| entry.recording == recording);
        Self {
            entry: entry.expect("an entry"),
            rows,
            cells: Some(cells),
            repeats: 0,
            sweep_ghosts: false,
        }
    }

    fn check(&self) {
        let name = self.entry.recording;
        if !recording::shared().join("golden").exists() {
            eprintln!("skipped: {name} is not there; set LAKEBED_SHARED");
            return;
        }
        let recorded = Recording::read(name);
        let has_topic = |table: &TableState| {
            let wanted = recording::topic_name(&table.name);
            recorded.records.iter().any(|record| record.table() == wanted)
        };
        let mut left_out = self.entry.without.to_vec();
        left_out.extend(recorded.flattened.then_some(TRUNCATED));
        let mut sources = state(self.entry.state);
        sources.retain(|table| {
            let left_out = left_out.contains(&table.name.as_str());
            !left_out && !table.primary_key.is_empty() && has_topic(table)
        });
        let form = Form {
            entry: &self.entry,
            flattened: recorded.flattened,
            sweep_ghosts: self.sweep_ghosts,
            registry: recorded
                .wire
                .map(|wire| RecordedRegistry::new(wire, recorded.schemas.clone())),
        };
        let named: Vec<_> = state(self.entry.state)
            .into_iter()
            .filter(|table| sources.iter().any(|source| source.name == table.name))
            .map(|table| recorded.named(table))
            .collect();
        let topics = Topics::new(recorded, |t| {
            sources.iter().any(|table| recording::topic_name(&table.name) == t)
        });
        let whole = Lake::new(&sources, &topics, &form, None);
        whole.run(&topics, 0, Stop::CaughtUp);
        let expected = whole.silver();
        self.compare(&named, &whole);
        whole.assert_bronze(&topics);
        let repeated = whole.repeated();
        for format in FORMATS {
            let of_format = repeated.iter().filter(|((_, of), _)| *of == format);
            let count: usize = of_format.map(|(_, offsets)| offsets.len()).sum();
            assert_eq!(count, self.repeats, "{name} in {format}: repeats, {repeated:?}");
        }
        for seed in seeds() {
            eprintln!("{name}: LAKEBED_CUTS={seed}");
            let lake = self.cut(&form, &sources, &topics, seed);
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
            assert_eq!(lake.repeated(), repeated, "LAKEBED_CUTS={seed}: repeats");
        }
    }

    /// The same topics in small batches, with stops on the way.
    fn cut(&self, form: &Form<'_>, sources: &[TableState], topics: &Topics, seed: u64) -> Lake {
        let mut dice = Dice::new(seed);
        let lake = Lake::new(sources, topics, form, Some((&mut dice, &self.rows)));
        let mut still_running = Vec::new();
        for _ in 0..dice.below(4) + 1 {
            let after = dice.below(topics.records() as u64);
            let stop = [Stop::Asked, Stop::Dropped, Stop::Killed][dice.below(3) as usize];
            still_running.push(lake.run(topics, dice.next(), stop.after(after)));
        }
        lake.run(topics, dice.next(), Stop::CaughtUp);
        lake
    }

    fn compare(&self, sources: &[TableState], lake: &Lake) {
        let Some(cells) = self.cells else { return };
        let name = self.entry.recording;
        // The decoder's own tests apply no truncates.
        let is_there = |divergence: &&Divergence| {
            divergence.table != TRUNCATED
                && sources.iter().any(|table| table.name == divergence.table)
        };
        let divergent: Vec<Divergence> =
            self.entry.divergent.iter().filter(is_there).copied().collect();
        for format in FORMATS {
            let mut compared = Cells::new(Database::of(name));
            for table in sources {
                compared.compare(table, &lake.rows_of(table, format));
            }
            compared.assert_divergences(&format!("{name} in {format}"), &divergent);
            assert!(
                cells <= self.entry.equal + TOLD_BY_TRUNCATE,
                "{name}: no more than can be read"
            );
            assert_eq!(compared.equal, cells, "{name} in {format}: cells that are the source's");
        }
    }
}

#[test]
fn topics_with_inline_schemas_come_to_the_source_however_they_are_cut() {
    Case::new("postgres/json-schema", 1..=50, 1_080).check();
}

#[test]
fn topics_of_mariadb_with_inline_schemas_come_to_the_source_however_they_are_cut() {
    Case::new("mariadb/json-schema", 1..=50, 838).check();
}

#[test]
fn topics_without_schemas_come_to_the_same_however_they_are_cut() {
    let case = Case::new("postgres/json", 1..=50, 1_029);
    let entry = Entry { columns: columns::by_schema, ..case.entry };
    Case { entry, cells: None, ..case }.check();
}

#[test]
fn topics_with_configured_columns_come_to_the_source_however_they_are_cut() {
    Case::new("postgres/json", 1..=50, 1_029).check();
}

#[test]
fn topics_of_mariadb_with_configured_columns_come_to_the_source_however_they_are_cut() {
    Case::new("mariadb/json", 1..=50, 800).check();
}

#[test]
fn topics_of_the_mysql_connector_come_to_the_source_however_they_are_cut() {
    Case::new("mariadb/mysql-connector", 1..=50, 784).check();
}

#[test]
fn topics_in_other_modes_come_to_the_source_however_they_are_cut() {
    for (recording, cells) in [
        ("postgres/modes-string", 745),
        ("postgres/modes-connect", 713),
        ("postgres/special-precise", 15),
        ("postgres/special-string", 23),
        ("postgres/special-double", 23),
        ("mariadb/modes", 822),
        ("mariadb/modes-connect", 799),
    ] {
        Case::new(recording, 1..=50, cells).check();
    }
}

#[test]
fn an_incremental_snapshot_comes_to_the_source_however_it_is_cut() {
    // Thousands of records in one topic: one a batch would take minutes.
    Case::new("postgres/incremental", 10..=50, 9_017).check();
}

#[test]
fn topics_in_avro_come_to_the_source_however_they_are_cut() {
    for (recording, cells) in [
        ("postgres/avro", 1_080),
        ("postgres/apicurio-8byte", 3),
        ("postgres/apicurio-headers", 3),
        ("mariadb/avro", 838),
    ] {
        Case::new(recording, 1..=50, cells).check();
    }
}

#[test]
fn flattened_topics_come_to_the_source_however_they_are_cut() {
    for (recording, cells) in [("postgres/flat", 1_017), ("mariadb/flat", 800)] {
        Case::new(recording, 1..=50, cells).check();
    }
}

/// Of a small table whose connector was killed or put back. Repeats: changes and tombstones.
fn repeated(recording: &'static str, state: &'static str, repeats: usize, cells: usize) -> Case {
    let entry = Entry {
        recording,
        state,
        placeholder: None,
        columns: columns::by_schema,
        without: &[],
        equal: cells,
        divergent: Vec::new(),
    };
    Case { entry, rows: 1..=50, cells: Some(cells), repeats, sweep_ghosts: false }
}

#[test]
fn what_a_killed_connector_sends_again_is_skipped_however_it_is_cut() {
    let mut case = repeated("postgres/duplicates", "postgres/duplicates.state", 96 + 15, 116);
    // Deleted while the connector's offsets were gone: no event says so.
    case.entry.divergent = vec![Divergence {
        table: "public.acc",
        column: "rows",
        cells: 2,
        reason: "duplicates acc",
    }];
    case.check();
}

#[test]
fn what_was_deleted_while_a_connector_had_lost_its_place_is_swept_however_it_is_cut() {
    let case = repeated("postgres/duplicates", "postgres/duplicates.state", 96 + 15, 116);
    Case { sweep_ghosts: true, ..case }.check();
}

#[test]
fn what_a_connector_that_was_put_back_sends_again_is_skipped_however_it_is_cut() {
    repeated("mariadb/rewind", "mariadb/rewind.state", 30 + 10, 40).check();
}
