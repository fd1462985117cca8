//! Finds the keys of the configuration by asking the program: an unknown key in a block is answered
//! with those that there are.

use std::collections::BTreeSet;
use std::path::Path;

use lakebed::config::parse;

/// Like no key, so that no single one is offered instead.
const PROBE: &str = "qqqqqqqqqqqqqqqq";

/// What may stand at a place.
enum Place {
    /// Keys.
    Block(Vec<String>),
    /// Things that are alike.
    List,
    /// Blocks by names that the user chooses.
    Named,
    /// One value.
    Value,
}

/// Every key that takes a value, `tables[].` for those of a table. What a table only overrides is
/// not repeated.
pub(super) fn all() -> BTreeSet<String> {
    let mut found = BTreeSet::new();
    collect("", &mut found);
    found
}

fn collect(path: &str, found: &mut BTreeSet<String>) {
    match look(path) {
        Place::Block(keys) => {
            for key in keys {
                let path = if path.is_empty() { key } else { format!("{path}.{key}") };
                collect(&path, found);
            }
        }
        Place::List => collect(&format!("{path}[]"), found),
        Place::Named => collect(&format!("{path}.*"), found),
        Place::Value => {
            found.insert(path.to_owned());
        }
    }
}

/// Overrides have the keys of what they override.
fn is_override(path: &str) -> bool {
    ["records", "batch", "bad_records", "layers", "limits"]
        .iter()
        .any(|block| path == format!("tables[].{block}"))
}

fn look(path: &str) -> Place {
    if is_override(path) {
        return Place::Value;
    }
    let error = match parse(&text(path), Path::new("probe.yaml"), &|_| None) {
        Ok(_) => return Place::Value,
        Err(error) => error,
    };
    let said: Vec<_> = error.problems.iter().map(|placed| &placed.problem).collect();
    let unknown = format!("there is no key `{PROBE}`");
    if let Some(problem) = said.iter().find(|problem| problem.message == unknown) {
        // The names are what stands between back ticks.
        let names = problem.next_move.split('`').skip(1).step_by(2).map(str::to_owned);
        return Place::Block(names.collect());
    }
    let expected = |what: &str| {
        let begin = format!("expected {what}, found ");
        said.iter().any(|problem| problem.message.starts_with(&begin))
    };
    if expected("a list") && path == "tables" {
        Place::List
    } else if expected("a block of keys") && said.iter().any(|p| p.path.ends_with(PROBE)) {
        Place::Named
    } else {
        Place::Value
    }
}

/// A file with nothing but the unknown key at this place.
fn text(path: &str) -> String {
    let mut text = format!("{{ {PROBE}: 1 }}");
    for step in path.split('.').rev().filter(|step| !step.is_empty()) {
        text = match step.strip_suffix("[]") {
            Some(list) => format!("{{ {list}: [{text}] }}"),
            None if step == "*" => format!("{{ any: {text} }}"),
            None => format!("{{ {step}: {text} }}"),
        };
    }
    text
}
