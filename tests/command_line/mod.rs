//! The built program as its users meet it: what it prints, and its exit codes.

mod going_on;
mod tables;

use std::path::Path;
use std::process::{Command, Output};

use rdkafka::mocking::MockCluster;

const SECRET: &str = "hunter2-never-shown";

fn lakebed(folder: &Path, args: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_lakebed"))
        .args(args)
        .current_dir(folder)
        .env_remove("LAKEBED_CONFIG")
        .env_remove("LAKEBED_LOG")
        .env("TEST_SECRET", SECRET)
        .output()
        .expect("the program starts")
}

/// Exit code, standard output, standard error.
fn run(folder: &Path, args: &[&str]) -> (i32, String, String) {
    let output = lakebed(folder, args);
    let text = |bytes: Vec<u8>| String::from_utf8(bytes).expect("UTF-8");
    (output.status.code().expect("ended by itself"), text(output.stdout), text(output.stderr))
}

fn folder_with(config: &str) -> tempfile::TempDir {
    let folder = tempfile::tempdir().expect("folder");
    std::fs::write(folder.path().join("lakebed.yaml"), config).expect("write");
    folder
}

fn config(bootstrap: &str, topics: &[&str]) -> String {
    let entries: String = topics.iter().map(|topic| format!("  - topic: {topic}\n")).collect();
    format!(
        "kafka: {{ bootstrap_servers: '{bootstrap}' }}\n\
         lake: {{ location: ./lake, format: iceberg }}\n\
         tables:\n{entries}"
    )
}

#[test]
fn a_good_file_is_valid() {
    let folder = folder_with(&config("localhost:9092", &["shop.public.orders"]));
    let (code, stdout, stderr) = run(folder.path(), &["validate"]);
    assert_eq!((code, stderr.as_str()), (0, ""));
    assert_eq!(stdout, "lakebed.yaml is valid: 1 table entry\n");
}

#[test]
fn a_bad_file_ends_with_2_and_every_mistake_with_its_line() {
    let text = config("localhost", &["a.b"]) + "    key: []\n";
    let folder = folder_with(&text);

    let (code, stdout, stderr) = run(folder.path(), &["validate"]);

    assert_eq!((code, stdout.as_str()), (2, ""));
    assert_eq!(
        stderr,
        "error: lakebed.yaml:1:10: `kafka.bootstrap_servers`: `localhost` is not host:port; \
         list the brokers as `host:port`, separated by commas\n\
         error: lakebed.yaml:5:5: `tables[0].key`: is empty or names a column twice; \
         list the key columns, or leave it out for the fields of the record key\n"
    );
}

#[test]
fn a_file_that_is_not_there_is_named_with_the_next_move() {
    let folder = tempfile::tempdir().expect("folder");
    for command in ["run", "validate", "check", "status"] {
        let (code, _, stderr) = run(folder.path(), &[command, "--config", "missing.yaml"]);
        assert_eq!(code, 2, "{command}");
        assert!(stderr.starts_with("error: missing.yaml: cannot be read: "), "{stderr}");
        assert!(stderr.contains("--config") && stderr.contains("LAKEBED_CONFIG"), "{stderr}");
    }
}

#[test]
fn the_file_may_be_named_by_the_environment() {
    let folder = folder_with(&config("localhost:9092", &["a.b"]));
    let file = folder.path().join("other.yaml");
    std::fs::rename(folder.path().join("lakebed.yaml"), &file).expect("rename");
    let output = Command::new(env!("CARGO_BIN_EXE_lakebed"))
        .arg("validate")
        .env("LAKEBED_CONFIG", &file)
        .output()
        .expect("the program starts");
    assert!(output.status.success());
}

#[test]
fn wrong_usage_ends_with_2() {
    let folder = tempfile::tempdir().expect("folder");
    for args in [
        &["sho"][..],
        &["validate", "--confg", "x"],
        &["show"],
        &["show", "t", "--where", "x"],
        &["demo", "--rows", "0"],
        &["demo", "--format", "parquet"],
        &[],
    ] {
        assert_eq!(run(folder.path(), args).0, 2, "{args:?}");
    }
}

#[test]
fn a_run_of_a_table_that_no_entry_gives_ends_with_2() {
    let folder = folder_with(&config("127.0.0.1:1", &["shop.public.orders"]));
    let (code, _, stderr) = run(folder.path(), &["run", "--only", "silver.order"]);
    assert_eq!(code, 2);
    let expected = "error: --only names no table `silver.order`; there are \
                    silver.public_orders, bronze.public_orders, public_orders\n";
    assert_eq!(stderr, expected);
}

#[test]
fn commands_that_are_not_built_say_so() {
    let folder = tempfile::tempdir().expect("folder");
    for args in [
        &["offsets", "get", "--table", "x"][..],
        &["replay", "--from", "5"],
        &["maintain"],
        &["schema"],
    ] {
        let (code, stdout, stderr) = run(folder.path(), args);
        assert_eq!((code, stdout.as_str()), (2, ""), "{args:?}");
        let expected = format!("error: `lakebed {}`: not yet in this release; ", args[0]);
        assert!(stderr.starts_with(&expected), "{stderr}");
    }
}

#[test]
fn the_version_tells_what_the_tables_are_written_in() {
    let folder = tempfile::tempdir().expect("folder");
    let (code, stdout, _) = run(folder.path(), &["version"]);
    assert_eq!(code, 0);
    let expected = format!("lakebed {}\nstored format 1\nlibrdkafka ", env!("CARGO_PKG_VERSION"));
    assert!(stdout.starts_with(&expected), "{stdout}");
}

#[test]
fn a_wrong_log_filter_ends_with_2() {
    let output = Command::new(env!("CARGO_BIN_EXE_lakebed"))
        .arg("version")
        .env("LAKEBED_LOG", "info,=x=y")
        .output()
        .expect("the program starts");
    assert_eq!(output.status.code(), Some(2));
    assert!(String::from_utf8_lossy(&output.stderr).contains("LAKEBED_LOG is not a log filter"));
}

#[test]
fn secrets_are_shown_by_no_command() {
    let secure = |password: &str| {
        config("127.0.0.1:1", &["a.b"]).replace(
            "'127.0.0.1:1' }",
            &format!(
                "'127.0.0.1:1', security: {{ protocol: SASL_PLAINTEXT, mechanism: PLAIN, \
                 username: u, password: {password} }} }}"
            ),
        )
    };
    let folder = folder_with(&secure("\"${env:TEST_SECRET}\""));
    for (args, expected) in [(&["validate"][..], 0), (&["status"], 0), (&["check"], 1)] {
        let (code, stdout, stderr) = run(folder.path(), args);
        assert_eq!(code, expected, "{args:?} {stderr}");
        assert!(!format!("{stdout}{stderr}").contains(SECRET), "{args:?}");
    }
    let literal = folder_with(&secure(SECRET));
    let (code, stdout, stderr) = run(literal.path(), &["validate"]);
    assert_eq!(code, 2);
    assert!(stderr.contains("a secret stands in the file itself"), "{stderr}");
    assert!(!format!("{stdout}{stderr}").contains(SECRET));
}

#[test]
fn check_finds_everything_in_place_and_changes_nothing() {
    let kafka = MockCluster::new(1).expect("mock cluster");
    kafka.create_topic("shop.public.orders", 1, 1).expect("topic");
    let folder = folder_with(&config(&kafka.bootstrap_servers(), &["shop.public.orders"]));

    let (code, stdout, stderr) = run(folder.path(), &["check"]);

    assert_eq!((code, stderr.as_str()), (0, ""), "{stdout}");
    for expected in [
        ": 1 brokers, cluster ",
        "ok       topic `shop.public.orders`: 1 partition\n",
        "is writable and enforces conditional puts\n",
        "ok       table `silver.public_orders` is not there yet",
        "everything is in place\n",
    ] {
        assert!(stdout.contains(expected), "{expected} in:\n{stdout}");
    }
    let left = std::fs::read_dir(folder.path().join("lake/_lakebed"));
    assert_eq!(left.map_or(0, Iterator::count), 0, "the probe is gone");
}

#[test]
fn check_names_a_missing_topic_with_the_nearest_one_and_ends_with_1() {
    let kafka = MockCluster::new(1).expect("mock cluster");
    kafka.create_topic("shop.public.orders", 2, 1).expect("topic");
    let topics = ["shop.public.orders", "shop.public.ordrs"];
    let folder = folder_with(&config(&kafka.bootstrap_servers(), &topics));

    let (code, stdout, stderr) = run(folder.path(), &["check"]);

    assert_eq!((code, stderr.as_str()), (1, "error: 1 problem was found\n"));
    let missing = "PROBLEM  topic `shop.public.ordrs` (tables[1]) is not there\n         \
                   → did you mean `shop.public.orders`?\n";
    assert!(stdout.contains(missing), "{stdout}");
    assert!(stdout.contains("note     topic `shop.public.orders`: 2 partitions\n"), "{stdout}");
}

#[test]
fn status_lists_tables_that_are_still_to_be_made() {
    let kafka = MockCluster::new(1).expect("mock cluster");
    kafka.create_topic("shop.public.orders", 1, 1).expect("topic");
    let text = config(&kafka.bootstrap_servers(), &["x"])
        .replace("topic: x", "topic_pattern: 'shop\\.public\\..*'");
    let folder = folder_with(&text);

    let (code, stdout, stderr) = run(folder.path(), &["status", "--output", "json"]);

    assert_eq!((code, stderr.as_str()), (0, ""));
    let status: serde_json::Value = serde_json::from_str(&stdout).expect("JSON");
    let names: Vec<_> = status["tables"].as_array().expect("tables").iter().collect();
    assert_eq!(names.len(), 2);
    assert_eq!(names[1]["table"], "silver.public_orders");
    assert_eq!(names[1]["version"], serde_json::Value::Null);
    assert_eq!(status["broker_error"], serde_json::Value::Null);
    let (_, people, _) = run(folder.path(), &["status"]);
    assert!(people.contains("silver.public_orders: not there yet"), "{people}");
}

#[test]
fn a_table_that_is_not_there_is_named_with_those_that_are() {
    let folder = folder_with(&config("127.0.0.1:1", &["a.orders"]));
    std::fs::create_dir_all(folder.path().join("lake/silver/customers")).expect("folder");

    let (code, stdout, stderr) = run(folder.path(), &["show", "orders"]);

    assert_eq!((code, stdout.as_str()), (2, ""));
    assert!(stderr.contains("there is no table `orders` in file://"), "{stderr}");
    assert!(stderr.contains("there are silver.customers"), "{stderr}");
}
