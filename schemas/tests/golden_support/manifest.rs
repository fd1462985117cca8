//! What the recordings' own manifest says that they cannot give.

use serde_json::Value as Json;

use super::recording::golden;

/// Entries of the manifest that are no divergence of a final state here, and why.
pub(crate) const SETTLED: [(&str, &str); 8] = [
    ("changes.toast id 30", "taken from the row under the old key"),
    ("changes.nopk", "no key, hence no rows of silver"),
    ("changes.nopk_full", "no key, hence no rows of silver"),
    ("changes.partitioned", "its leaves have topics and tables of their own"),
    ("types.numbers.n_3_neg2", "the digits that a negative scale does not have are taken off"),
    ("evolve.new_name", "both rows came under the new name in the end"),
    ("t_str.e", "the rows with that label were deleted"),
    ("nopk", "no key, hence no rows of silver"),
];

/// The manifest's own list of what a recording cannot give, by its own words: of `postgres` or
/// `mariadb`.
pub(crate) fn known_divergence(database: &str) -> Vec<String> {
    let text = std::fs::read_to_string(golden("manifest.json")).expect("a manifest");
    let json: Json = serde_json::from_str(&text).expect("JSON");
    let known = json["known_divergence"][database].as_object().expect("a list by database");
    known.keys().cloned().collect()
}
