//! The policies that users copy allow what the program calls, and nothing else.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use regex::Regex;
use serde_json::Value as Json;

use crate::rules;

const ATHENA: &str = include_str!("../../docs/athena.md");
/// Who asks Glue: for tables, and for schemas.
const CATALOG: &str = include_str!("../../sinks/src/catalog/glue/mod.rs");
const REGISTRY: &str = include_str!("../../src/registry/glue.rs");
const DEAD_LETTERS: &str = include_str!("../../src/dead_letter.rs");

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// Every policy of `docs/iam` by its file's name.
fn policies() -> BTreeMap<String, Json> {
    let folder = root().join("docs/iam");
    let files = std::fs::read_dir(&folder).expect("the folder of policies is readable");
    let read = |path: PathBuf| {
        let text = std::fs::read_to_string(&path).expect("a policy is text");
        let policy = serde_json::from_str(&text).expect("a policy is JSON");
        (path.file_name().expect("a name").to_string_lossy().into_owned(), policy)
    };
    files.map(|file| read(file.expect("a file").path())).collect()
}

/// The actions of each statement, by its name.
fn statements(policy: &str) -> BTreeMap<String, BTreeSet<String>> {
    let policy = &policies()[policy];
    let statements = policy["Statement"].as_array().expect("statements").iter();
    let actions = |statement: &Json| {
        let actions = statement["Action"].as_array().expect("a list of actions");
        actions.iter().map(|action| action.as_str().expect("text").to_owned()).collect()
    };
    let named = |statement: &Json| statement["Sid"].as_str().expect("a name").to_owned();
    statements.map(|statement| (named(statement), actions(statement))).collect()
}

/// The actions of a service that a policy allows. What Athena alone wants to see is not ours.
fn allowed(policy: &str, service: &str) -> BTreeSet<String> {
    let ours = statements(policy).into_iter().filter(|(name, _)| name != "DefaultDatabase");
    let all = ours.flat_map(|(_, actions)| actions);
    all.filter(|action| action.starts_with(service)).collect()
}

fn set(service: &str, names: &[&str]) -> BTreeSet<String> {
    names.iter().map(|name| format!("{service}:{name}")).collect()
}

/// Files of the program, without its tests, that have this in them.
fn sources_with(what: &str) -> BTreeMap<String, String> {
    let of_tests = ["tests", "double", "/testing"];
    let sources = rules::sources().into_iter().map(|(path, text)| {
        let path = path.strip_prefix(root()).expect("within the project").to_path_buf();
        (path.to_string_lossy().into_owned(), text)
    });
    let program = |path: &str| !of_tests.iter().any(|part| path.contains(part));
    sources.filter(|(path, text)| program(path) && text.contains(what)).collect()
}

/// The calls to Glue that a client of this name makes, by the names of their permissions.
fn called(source: &str, client: &str) -> Vec<String> {
    let call = Regex::new(&format!(r"{client}\s*\.((?:get|create|update|delete)_[a-z_]+)\(\)"));
    let call = call.expect("a pattern");
    let pascal = |name: &str| {
        name.split('_').map(|word| word[..1].to_uppercase() + &word[1..]).collect::<String>()
    };
    call.captures_iter(source).map(|found| format!("glue:{}", pascal(&found[1]))).collect()
}

#[test]
fn every_policy_allows_named_actions_on_named_resources() {
    let policies = policies();
    assert!(policies.len() >= 4, "{:?}", policies.keys());
    for (file, policy) in &policies {
        assert_eq!(policy["Version"], "2012-10-17", "{file}");
        let mut names = BTreeSet::new();
        for statement in policy["Statement"].as_array().expect("statements") {
            assert_eq!(statement["Effect"], "Allow", "{file}: {statement}");
            let name = statement["Sid"].as_str().unwrap_or_default();
            assert!(!name.is_empty() && names.insert(name), "{file}: {statement}");
            let resources = statement["Resource"].to_string();
            assert!(resources.len() > 4, "{file}: {statement}");
            assert!(!resources.contains("\"*\""), "everything is nobody's need: {statement}");
            assert!(!statement["Action"].to_string().contains('*'), "{file}: {statement}");
        }
        assert!(ATHENA.contains(&format!("iam/{file}")) || mentioned(file), "nobody names {file}");
    }
}

/// Whether one of the other documents names a policy.
fn mentioned(file: &str) -> bool {
    let others = ["docs/rest.md", "docs/source.md"].map(|name| root().join(name));
    let named = format!("iam/{file}");
    others.iter().any(|path| std::fs::read_to_string(path).is_ok_and(|text| text.contains(&named)))
}

#[test]
fn glue_is_called_where_the_policies_look_for_it_and_as_they_allow() {
    let callers = sources_with("aws_sdk_glue::Client");
    let callers: Vec<&str> = callers.keys().map(String::as_str).collect();
    assert_eq!(callers, ["sinks/src/catalog/glue/mod.rs", "src/registry/glue.rs"]);
    let grouped = Regex::new(r"aws_sdk_glue::\{[^}]*\bClient\b").expect("a pattern");
    assert!(sources_with("aws_sdk_glue").values().all(|text| !grouped.is_match(text)));

    let (reads, changes) = (called(CATALOG, r"\.reads"), called(CATALOG, r"\.once"));
    // None that the pattern does not see.
    assert_eq!(CATALOG.matches(".send()").count(), reads.len() + changes.len());
    let mut needed: BTreeSet<String> = reads.iter().chain(&changes).cloned().collect();
    // Only with `create_databases: true`, which the document says.
    assert!(needed.remove("glue:CreateDatabase"));
    assert!(ATHENA.contains("`create_databases: true` the writer needs `glue:CreateDatabase`"));

    assert_eq!(allowed("writer.json", "glue:"), needed);
    assert_eq!(allowed("reader.json", "glue:"), reads.into_iter().collect());
    // A table that is not there needs no upkeep.
    assert!(needed.remove("glue:CreateTable"));
    assert_eq!(allowed("maintenance.json", "glue:"), needed);

    // Schemas are another matter than tables: nobody but users of Glue's registry needs this.
    let schemas = called(REGISTRY, r"\bclient");
    assert_eq!(schemas, ["glue:GetSchemaVersion"]);
    assert_eq!(REGISTRY.matches(".send()").count(), schemas.len());
    assert!(ATHENA.contains("`glue:GetSchemaVersion`"), "the permissions do not name it");
}

/// What each method of the object store asks of S3.
fn of_s3(method: &str) -> &'static [&'static str] {
    match method {
        "put" | "put_opts" => &["PutObject"],
        "put_multipart" => &["PutObject", "AbortMultipartUpload"],
        "get" | "get_range" | "head" => &["GetObject"],
        "list" | "list_with_delimiter" | "list_with_offset" => &["ListBucket"],
        "delete" => &["DeleteObject"],
        // No request.
        "clone" => &[],
        other => panic!("which permission of S3 does `{other}` need?"),
    }
}

#[test]
fn the_policies_allow_what_is_asked_of_the_object_store() {
    let call = Regex::new(r"\.(?:store|once)\s*\.([a-z_]+)\(").expect("a pattern");
    let storage = sources_with("");
    let storage = storage.iter().filter(|(path, _)| path.starts_with("sinks/src/storage/"));
    let called = storage.flat_map(|(_, text)| call.captures_iter(text));
    let methods: BTreeSet<String> = called.map(|found| found[1].to_owned()).collect();
    assert!(methods.len() >= 6, "{methods:?}");
    let asked: Vec<&str> = methods.iter().flat_map(|method| of_s3(method)).copied().collect();
    assert_eq!(allowed("writer.json", "s3:"), set("s3", &asked));
    let looks = |name: &&str| ["GetObject", "ListBucket"].contains(name);
    let looked: Vec<&str> = asked.iter().copied().filter(looks).collect();
    assert_eq!(allowed("reader.json", "s3:"), set("s3", &looked));
    // It rewrites and deletes as we do.
    let upkeep = allowed("maintenance.json", "s3:");
    assert!(allowed("writer.json", "s3:").is_subset(&upkeep), "{upkeep:?}");
}

#[test]
fn the_policies_allow_what_a_bucket_encrypted_with_a_key_needs() {
    // S3 asks for the key on behalf of whoever puts or gets. Uploads in parts need both actions.
    let both = set("kms", &["Decrypt", "GenerateDataKey"]);
    assert_eq!(allowed("writer.json", "kms:"), both);
    assert_eq!(allowed("maintenance.json", "kms:"), both);
    assert_eq!(allowed("reader.json", "kms:"), set("kms", &["Decrypt"]));
}

#[test]
fn a_role_that_is_taken_on_is_named_among_the_permissions() {
    let givers = sources_with("AssumeRoleProvider");
    assert_eq!(givers.keys().collect::<Vec<_>>(), ["sinks/src/aws.rs"]);
    assert!(ATHENA.contains("`sts:AssumeRole`"), "the permissions do not name it");
}

#[test]
fn the_policy_for_msk_allows_what_is_asked_of_kafka() {
    // An idempotent producer has to be allowed to be one, on the cluster.
    assert!(DEAD_LETTERS.contains(r#""enable.idempotence", "true""#));
    let producers = sources_with("FutureProducer");
    let producers: Vec<&str> = producers.keys().map(String::as_str).collect();
    // The second writes to a broker of its own.
    assert_eq!(producers, ["src/dead_letter.rs", "src/demo/mod.rs"]);
    // `check` reads how topics are set, and nobody administers anything else.
    let administers = sources_with("AdminClient");
    assert_eq!(administers.keys().collect::<Vec<_>>(), ["src/cli/broker.rs"]);
    let asks = Regex::new(r"\badmin\s*\.([a-z_]+)\(").expect("a pattern");
    let asks: Vec<&str> = asks
        .captures_iter(&administers["src/cli/broker.rs"])
        .map(|found| found.get(1).expect("a method").as_str())
        .collect();
    assert_eq!(asks, ["describe_configs"]);
    assert!(sources_with("transactional.id").is_empty(), "transactions need more");

    let kafka = |names: &[&str]| set("kafka-cluster", names);
    let expected = [
        ("Connect", kafka(&["Connect"])),
        ("ReadTopics", kafka(&["DescribeTopic", "DescribeTopicDynamicConfiguration", "ReadData"])),
        ("JoinTheGroup", kafka(&["DescribeGroup", "AlterGroup"])),
        ("WriteDeadLetters", kafka(&["DescribeTopic", "WriteData"])),
        ("WriteDeadLettersOnce", kafka(&["WriteDataIdempotently"])),
    ];
    let expected: BTreeMap<String, BTreeSet<String>> =
        expected.map(|(name, actions)| (name.to_owned(), actions)).into();
    assert_eq!(statements("msk.json"), expected);
}

#[test]
fn who_queries_writes_results_and_nothing_else() {
    let reads = allowed("reader.json", "glue:");
    let mut looks = allowed("athena.json", "glue:");
    looks.retain(|action| !reads.contains(action));
    assert_eq!(looks, set("glue", &["GetDatabases", "GetTables"]), "names are listed");
    assert_eq!(allowed("athena.json", "athena:"), allowed("maintenance.json", "athena:"));
    for statement in policies()["athena.json"]["Statement"].as_array().expect("statements") {
        let changes = ["s3:PutObject", "s3:DeleteObject"];
        let actions = statement["Action"].as_array().expect("actions").iter();
        let writes = actions.filter_map(Json::as_str).any(|action| changes.contains(&action));
        let place = &statement["Resource"];
        assert!(!writes || place == "arn:aws:s3:::RESULTS_BUCKET/RESULTS/*", "{statement}");
    }
}

/// The settings of the example connector for MSK Connect of a database.
fn connector(text: &str) -> Json {
    let connector: Json = serde_json::from_str(text).expect("JSON");
    connector["connectorConfiguration"].clone()
}

#[test]
fn the_role_of_msk_connect_reaches_what_its_connectors_name() {
    let policy = &policies()["msk-connect.json"];
    let statements = policy["Statement"].as_array().expect("statements");
    let on = |action: &str| -> Vec<String> {
        let of = |s: &&Json| s["Action"].as_array().is_some_and(|all| all.contains(&action.into()));
        let places = statements.iter().filter(of).flat_map(|s| match &s["Resource"] {
            Json::Array(places) => places.clone(),
            one => vec![one.clone()],
        });
        places.filter_map(|place| Some(place.as_str()?.to_owned())).collect()
    };
    for text in [
        include_str!("../../examples/connectors/msk-connect-postgres.json"),
        include_str!("../../examples/connectors/msk-connect-mysql.json"),
    ] {
        let settings = connector(text);
        let prefix = settings["topic.prefix"].as_str().expect("a prefix");
        let topic = |name: &str| format!("arn:aws:kafka:REGION:ACCOUNT:topic/CLUSTER/UUID/{name}");
        let reached = |places: Vec<String>, name: &str| {
            places.iter().any(|place| {
                let place = place.replace("TOPIC_PREFIX", prefix);
                let begin = place.strip_suffix('*');
                begin.map_or(place == name, |begin| name.starts_with(begin))
            })
        };
        let notifications = settings["notification.sink.topic.name"].as_str().expect("a topic");
        let heartbeat = format!("__debezium-heartbeat.{prefix}");
        for name in [&format!("{prefix}.public.orders"), notifications, &heartbeat] {
            assert!(reached(on("kafka-cluster:CreateTopic"), &topic(name)), "{name}");
            assert!(reached(on("kafka-cluster:WriteData"), &topic(name)), "{name}");
        }
        if let Some(history) = settings["schema.history.internal.kafka.topic"].as_str() {
            assert!(reached(on("kafka-cluster:ReadData"), &topic(history)), "{history}");
        }
    }
    assert_eq!(on("secretsmanager:GetSecretValue").len(), 1);
}

/// On what AWS has an action of MSK allowed, and what has to be allowed with it: "Semantics of IAM
/// authorization policy actions and resources" of MSK's guide.
fn of_msk(action: &str) -> (&'static str, &'static [&'static str]) {
    match action.trim_start_matches("kafka-cluster:") {
        "Connect" => ("cluster", &[]),
        "DescribeCluster" => ("cluster", &["Connect"]),
        "WriteDataIdempotently" => ("cluster", &["Connect", "WriteData"]),
        "DescribeTopic" | "DescribeTopicDynamicConfiguration" | "CreateTopic" => {
            ("topic", &["Connect"])
        }
        "ReadData" => ("topic", &["Connect", "DescribeTopic", "AlterGroup"]),
        "WriteData" => ("topic", &["Connect", "DescribeTopic"]),
        "DescribeGroup" => ("group", &["Connect"]),
        "AlterGroup" => ("group", &["Connect", "DescribeGroup"]),
        other => panic!("on what is `{other}` allowed, and with what?"),
    }
}

#[test]
fn actions_of_msk_are_allowed_on_what_they_are_asked_for_and_with_what_they_need() {
    let mut seen = 0;
    for (file, policy) in policies() {
        let all = allowed(&file, "kafka-cluster:");
        for statement in policy["Statement"].as_array().expect("statements") {
            let resources = match &statement["Resource"] {
                Json::Array(resources) => resources.clone(),
                one => vec![one.clone()],
            };
            for action in statement["Action"].as_array().expect("actions") {
                let action = action.as_str().expect("text");
                if !action.starts_with("kafka-cluster:") {
                    continue;
                }
                let (kind, with) = of_msk(action);
                let begin = format!("arn:aws:kafka:REGION:ACCOUNT:{kind}/CLUSTER/UUID");
                let fits =
                    |resource: &Json| resource.as_str().is_some_and(|r| r.starts_with(&begin));
                assert!(resources.iter().all(fits), "{file}: {action} on {resources:?}");
                let lacking: Vec<_> =
                    set("kafka-cluster", with).difference(&all).cloned().collect();
                assert!(lacking.is_empty(), "{file}: {action} lacks {lacking:?}");
                seen += 1;
            }
        }
    }
    assert!(seen >= 9, "{seen}");
}
