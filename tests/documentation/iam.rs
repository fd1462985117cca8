//! The policies that users copy allow what the program calls, and nothing else of Glue.

use std::collections::BTreeSet;

use regex::Regex;
use serde_json::Value as Json;

const WRITER: &str = include_str!("../../docs/iam/writer.json");
const READER: &str = include_str!("../../docs/iam/reader.json");
const MAINTENANCE: &str = include_str!("../../docs/iam/maintenance.json");
const MSK: &str = include_str!("../../docs/iam/msk.json");
/// Every call to Glue's catalog is made here.
const CALLS: &str = include_str!("../../sinks/src/catalog/glue/mod.rs");

/// Every action of a policy, which must be one: with names, allowing, on named resources.
fn actions(policy: &str) -> BTreeSet<String> {
    let policy: Json = serde_json::from_str(policy).expect("a policy is JSON");
    assert_eq!(policy["Version"], "2012-10-17");
    let statements = policy["Statement"].as_array().expect("statements");
    let mut actions = BTreeSet::new();
    for statement in statements {
        assert_eq!(statement["Effect"], "Allow", "{statement}");
        assert!(statement["Sid"].as_str().is_some_and(|sid| !sid.is_empty()), "{statement}");
        let resources = statement["Resource"].to_string();
        assert!(!resources.contains("\"*\""), "everything is nobody's need: {statement}");
        let allowed = statement["Action"].as_array().expect("a list of actions");
        actions.extend(allowed.iter().map(|action| action.as_str().expect("text").to_owned()));
    }
    assert!(actions.iter().all(|action| !action.contains('*')), "{actions:?}");
    actions
}

/// The calls in the code by the names of their permissions; `once` for those that change something.
fn called(client: &str) -> BTreeSet<String> {
    let call = Regex::new(&format!(r"\.{client}\s*\.([a-z_]+)\(\)")).expect("a pattern");
    let pascal = |name: &str| {
        name.split('_').map(|word| word[..1].to_uppercase() + &word[1..]).collect::<String>()
    };
    call.captures_iter(CALLS).map(|found| format!("glue:{}", pascal(&found[1]))).collect()
}

fn of(service: &str, actions: &BTreeSet<String>) -> BTreeSet<String> {
    actions.iter().filter(|action| action.starts_with(service)).cloned().collect()
}

#[test]
fn the_policies_allow_what_the_program_calls() {
    let (reads, changes) = (called("reads"), called("once"));
    assert!(reads.contains("glue:GetTable") && changes.contains("glue:UpdateTable"));
    let mut needed: BTreeSet<String> = reads.union(&changes).cloned().collect();
    // Only with `create_databases: true`, which the document says.
    assert!(needed.remove("glue:CreateDatabase"));

    assert_eq!(of("glue:", &actions(WRITER)), needed);
    assert_eq!(of("glue:", &actions(READER)), reads);
    let store = |names: &[&str]| names.iter().map(|name| format!("s3:{name}")).collect();
    let writing = ["AbortMultipartUpload", "DeleteObject", "GetObject", "ListBucket", "PutObject"];
    assert_eq!(of("s3:", &actions(WRITER)), store(&writing));
    assert_eq!(of("s3:", &actions(READER)), store(&["GetObject", "ListBucket"]));
    let upkeep = actions(MAINTENANCE);
    assert!(of("s3:", &actions(WRITER)).is_subset(&upkeep), "it rewrites and deletes as we do");
    let mut tables = needed.clone();
    // A table that is not there needs no upkeep.
    assert!(tables.remove("glue:CreateTable"));
    assert_eq!(of("glue:", &upkeep), tables);
    let kafka = actions(MSK);
    assert_eq!(of("kafka-cluster:", &kafka), kafka);
}
