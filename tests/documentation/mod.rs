//! What the documents say of keys, defaults and metrics is what the program has.

mod connectors;
mod example;
mod iam;
mod keys;
mod types;

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use lakebed::config::parse;
use lakebed_schemas::config::ResolvedConfig;
use serde_json::{Map, Value as Json, json};

const README: &str = include_str!("../../README.md");
const OPERATIONS: &str = include_str!("../../docs/operations.md");
const METRICS: [&str; 2] =
    [include_str!("../../src/metrics.rs"), include_str!("../../src/metrics/table.rs")];

/// Key and default of every row of the README's table of keys.
fn documented() -> BTreeMap<String, String> {
    let rows = README.lines().skip_while(|line| !line.starts_with("| key | default |"));
    let rows = rows.skip(2).take_while(|line| line.starts_with('|'));
    let mut found = BTreeMap::new();
    for row in rows {
        let cells: Vec<&str> = row.trim_matches('|').split(" | ").map(str::trim).collect();
        assert_eq!(cells.len(), 3, "a row of the table of keys has three cells: {row}");
        for key in cells[0].split(", ") {
            let key = key.trim_matches('`').to_owned();
            let twice = found.insert(key.clone(), cells[1].to_owned());
            assert_eq!(twice, None, "`{key}` is twice in the table of keys");
        }
    }
    found
}

/// Keys that the README says are known and refused.
fn not_yet() -> BTreeSet<String> {
    let start = "Known keys that are refused: ";
    let (_, rest) = README.split_once(start).expect("the README names the keys that are refused");
    let (list, _) = rest.split_once(".\n").expect("the list ends with a full stop");
    list.split(',').map(|key| key.trim().trim_matches('`').to_owned()).collect()
}

fn read(config: &Json) -> ResolvedConfig {
    let env = |_: &str| None;
    parse(&config.to_string(), Path::new("/etc/lakebed.yaml"), &env)
        .unwrap_or_else(|error| panic!("{error}\nin {config}"))
}

fn smallest() -> Json {
    json!({
        "kafka": { "bootstrap_servers": "localhost:9092" },
        "lake": { "location": "/lake", "format": "iceberg" },
        "tables": [{ "topic": "shop.public.orders" }],
    })
}

/// Puts a value at a place such as `tables[].on_gap`.
fn put(config: &mut Json, key: &str, value: Json) {
    let mut at = config;
    for step in key.split('.') {
        at = match step.strip_suffix("[]") {
            Some(list) => &mut at[list][0],
            None => {
                let block = at.as_object_mut().expect("a block");
                block.entry(step).or_insert_with(|| Json::Object(Map::new()))
            }
        };
    }
    *at = value;
}

#[test]
fn the_readme_lists_every_key_of_the_configuration_and_no_other() {
    let documented: BTreeSet<String> = documented().into_keys().chain(not_yet()).collect();
    let known = keys::all();
    assert!(known.len() > 50, "{known:?}");
    let missing: Vec<_> = known.difference(&documented).collect();
    let is_block = |key: &str| known.iter().any(|known| known.starts_with(&format!("{key}.")));
    let invented: Vec<_> = documented.difference(&known).filter(|key| !is_block(key)).collect();
    assert!(missing.is_empty(), "keys that the README does not list: {missing:?}");
    assert!(invented.is_empty(), "keys that the README lists and nobody reads: {invented:?}");
}

#[test]
fn a_file_that_spells_out_the_readmes_defaults_is_the_smallest_file() {
    let mut config = smallest();
    let mut literal = 0;
    for (key, default) in documented() {
        let Some(text) = default.strip_prefix('`').and_then(|text| text.strip_suffix('`')) else {
            continue;
        };
        let value = serde_json::from_str(text).unwrap_or_else(|_| Json::from(text));
        put(&mut config, &key, value);
        literal += 1;
    }
    assert!(literal >= 20, "{literal}");
    assert_eq!(format!("{:?}", read(&config)), format!("{:?}", read(&smallest())));
}

#[test]
fn configurations_in_the_readme_are_accepted() {
    let blocks: Vec<&str> = README.split("```yaml\n").skip(1).collect();
    assert!(!blocks.is_empty(), "the README shows a configuration");
    for block in blocks {
        let (text, _) = block.split_once("```").expect("a block of code ends");
        let accepted = parse(text, Path::new("/etc/lakebed.yaml"), &|_| Some("x".to_owned()));
        accepted.unwrap_or_else(|error| panic!("{error}\nin\n{text}"));
    }
}

#[test]
fn operations_lists_every_metric_and_no_other() {
    let mut known = BTreeSet::new();
    for call in METRICS.iter().flat_map(|source| source.split(".register(").skip(1)) {
        let (name, _) = call.trim_start().split_once(',').expect("a metric has a name");
        if let Some(name) = name.strip_prefix('"').and_then(|name| name.strip_suffix('"')) {
            known.insert(name.to_owned());
        }
    }
    assert!(known.contains("commits") && known.contains("lag_records"), "{known:?}");
    let rows = OPERATIONS.lines().filter_map(|line| line.strip_prefix("| `"));
    let names = rows.filter_map(|row| row.split_once('`')).map(|(name, _)| name);
    let suffixes = ["_total", "_info"];
    let bare = |name: &str| {
        let name = name.split('{').next().unwrap_or(name);
        let name = name.strip_prefix("lakebed_").unwrap_or(name);
        let known_suffix = suffixes.iter().find_map(|suffix| name.strip_suffix(suffix));
        known_suffix.unwrap_or(name).to_owned()
    };
    let is_metric = |name: &&str| name.starts_with("lakebed_") || name.starts_with("process_");
    let documented: BTreeSet<String> = names.filter(is_metric).map(bare).collect();
    assert_eq!(documented, known);
}
