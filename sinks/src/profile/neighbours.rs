//! Tables that lie in each other's way.

use std::collections::BTreeSet;

use super::{Broken, Report, Rule};
use crate::storage::normal;

/// Which of these tables lie at one place, or inside of each other: what cleans up one would take
/// the other's files. One finding for each of both, by the table's index.
pub fn shared_locations(reports: &[Report]) -> Vec<(usize, Broken)> {
    let places = reports.iter().enumerate().flat_map(|(table, report)| {
        report.locations.iter().map(move |location| (folder(location), table))
    });
    let places: BTreeSet<(String, usize)> = places.collect();
    let mut found = BTreeSet::new();
    // Places around the one at hand, outermost first: in order, what lies in a folder follows it.
    let mut around: Vec<(&str, usize)> = Vec::new();
    for (place, table) in &places {
        let place = place.as_str();
        around.retain(|(outer, _)| place.starts_with(*outer));
        for &(outer, other) in around.iter().filter(|(_, other)| other != table) {
            let broken = |place: &str, found: String| Broken {
                rule: Rule::SharedLocation,
                place: format!("`{}`", place.trim_end_matches('/')),
                found,
            };
            let lies =
                |place: &str| format!("another table lies at `{}`", place.trim_end_matches('/'));
            found.insert((*table, broken(place, lies(outer))));
            found.insert((other, broken(outer, lies(place))));
        }
        around.push((place, *table));
    }
    found.into_iter().collect()
}

/// A location as a folder, however it is spelled.
fn folder(location: &str) -> String {
    format!("{}/", normal(location).trim_end_matches('/'))
}

#[cfg(test)]
mod tests {
    use super::*;

    const NONE: [usize; 0] = [];

    fn reports(locations: &[&[&str]]) -> Vec<Report> {
        let report = |locations: &&[&str]| Report {
            locations: locations.iter().map(|location| (*location).to_owned()).collect(),
            ..Report::default()
        };
        locations.iter().map(report).collect()
    }

    fn tables(locations: &[&[&str]]) -> Vec<usize> {
        shared_locations(&reports(locations)).into_iter().map(|(table, _)| table).collect()
    }

    #[test]
    fn tables_at_one_place_or_in_each_other_are_named_both() {
        assert_eq!(tables(&[&["s3://b/l/s/a"], &["s3://b/l/s/b"], &["s3://b/l/s/ab"]]), NONE);
        assert_eq!(tables(&[&["s3://b/l/s/a", "s3://b/l/s/a/"]]), NONE, "one table, spelled twice");
        assert_eq!(tables(&[&["s3://b/l/s/a/"], &["s3://b/l/s/b"], &["s3a://b/l/s/a"]]), [0, 2]);
        assert_eq!(tables(&[&["s3://b/l"], &["s3://b/l/s/b"], &["s3://b/m"]]), [0, 1]);
        assert_eq!(tables(&[&["s3://b/l/s/a"], &["s3://b/l/s/b", "s3://b/l/s/a/x"]]), [0, 1]);
        let inside: [&[&str]; 4] =
            [&["s3://b/l/a"], &["s3://b/l/a-b"], &["s3://b/l/a/x"], &["s3://b/l/a/x/y"]];
        let found = tables(&inside);
        assert_eq!(found, [0, 0, 2, 2, 3, 3], "all three, whatever stands between them in order");
    }

    #[test]
    fn it_is_said_where_the_other_lies() {
        let found = shared_locations(&reports(&[&["s3://b/l/a"], &["s3://b/l/a/x"]]));
        let said: Vec<String> = found.iter().map(|(_, broken)| broken.to_string()).collect();
        assert!(
            said[0].starts_with("`s3://b/l/a`: another table lies at `s3://b/l/a/x`; "),
            "{said:?}"
        );
        assert!(
            said[1].starts_with("`s3://b/l/a/x`: another table lies at `s3://b/l/a`; "),
            "{said:?}"
        );
    }
}
