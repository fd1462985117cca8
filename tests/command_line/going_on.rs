//! `check` tells of tables that are there what `run` would say when it takes them on.

use lakebed_schemas::partition::PartitionField;
use lakebed_sinks::Format;
use rdkafka::ClientConfig;
use rdkafka::consumer::{BaseConsumer, CommitMode, Consumer};
use rdkafka::mocking::MockCluster;
use rdkafka::producer::DefaultProducerContext;
use rdkafka::topic_partition_list::{Offset, TopicPartitionList};

use super::tables::{FORMATS, TOPIC, make_in};
use super::{config, folder_with, run};

fn kafka() -> MockCluster<'static, DefaultProducerContext> {
    let kafka = MockCluster::new(1).expect("mock cluster");
    kafka.create_topic(TOPIC, 1, 1).expect("topic");
    kafka
}

/// Exit code and what `check` prints on a lake with these words in its configuration.
fn checked(folder: &tempfile::TempDir, text: &str) -> (i32, String) {
    std::fs::write(folder.path().join("lakebed.yaml"), text).expect("write");
    let (code, stdout, _) = run(folder.path(), &["check"]);
    (code, stdout)
}

#[test]
fn other_partitions_than_the_table_has_are_told_with_both_and_the_next_move() {
    let kafka = kafka();
    for (format, name) in FORMATS {
        let plain = config(&kafka.bootstrap_servers(), &[TOPIC])
            .replace("format: iceberg", &format!("format: {name}"));
        let folder = folder_with(&plain);
        make_in(folder.path(), format, vec![PartitionField::identity("name")]);

        let (code, told) = checked(&folder, &plain);
        assert_eq!(code, 1, "{told}");
        let problem = "PROBLEM  table `silver.public_orders` is partitioned by `name`, \
                       `partition_by` says nothing (tables[0].partition_by)\n         \
                       → put `partition_by` back, or build the table anew under another name";
        assert!(told.contains(problem), "{told}");
        let (_, told) = checked(&folder, &format!("{plain}    partition_by: ['bucket(4, id)']\n"));
        assert!(told.contains("by `name`, `partition_by` says `bucket(4, id)` ("), "{told}");

        let right = format!("{plain}    partition_by: [name]\n");
        let (code, told) = checked(&folder, &right);
        assert_eq!(code, 0, "{told}");
        assert!(told.contains(", 2 rows, partitioned by `name`\n"), "{told}");

        let (_, stdout, _) = run(folder.path(), &["status", "--output", "json"]);
        let status: serde_json::Value = serde_json::from_str(&stdout).expect("JSON");
        assert_eq!(status["tables"][1]["partition_by"], serde_json::json!(["name"]));
        assert_eq!(status["tables"][0]["partition_by"], serde_json::Value::Null);
        let (_, people, _) = run(folder.path(), &["status"]);
        let line = people.lines().find(|line| line.starts_with("silver")).expect("a line");
        assert!(line.ends_with("  name"), "{people}");
    }
}

#[test]
fn tables_of_another_sink_or_format_are_told() {
    let kafka = kafka();
    for (format, name) in FORMATS {
        let text = config(&kafka.bootstrap_servers(), &[TOPIC])
            .replace("format: iceberg", &format!("format: {name}"));
        let folder = folder_with(&text);
        make_in(folder.path(), format, Vec::new());

        let (code, told) = checked(&folder, &text.replace("lake: {", "lake: { sink_id: other,"));
        assert_eq!(code, 1, "{told}");
        assert!(
            told.contains("PROBLEM  table `silver.public_orders` cannot be opened: "),
            "{told}"
        );
        assert!(told.contains("belongs to sink id `lakebed`, this process is `other`"), "{told}");

        let other = if format == Format::Delta { "iceberg" } else { "delta" };
        let (code, told) = checked(
            &folder,
            &text.replace(&format!("format: {name}"), &format!("format: {other}")),
        );
        assert_eq!(code, 1, "{told}");
        assert!(told.contains(&format!(" is {name}, not {other}: correct `format`")), "{told}");
    }
}

#[test]
fn a_table_that_the_group_was_told_of_and_that_is_gone_is_told() {
    let kafka = kafka();
    let text = config(&kafka.bootstrap_servers(), &[TOPIC]);
    let folder = folder_with(&text);
    let group: BaseConsumer = ClientConfig::new()
        .set("bootstrap.servers", kafka.bootstrap_servers())
        .set("group.id", "lakebed")
        .create()
        .expect("client");
    let mut offsets = TopicPartitionList::new();
    let mut offset = offsets.add_partition(TOPIC, 0);
    offset.set_offset(Offset::Offset(7)).expect("an offset");
    offset.set_metadata("lakebed/1 silver.public_orders=0b5d");
    group.commit(&offsets, CommitMode::Sync).expect("committed");

    let (code, told) = checked(&folder, &text);

    assert_eq!(code, 1, "{told}");
    let problem = format!(
        "PROBLEM  the consumer group says that table `silver.public_orders` (0b5d) holds {TOPIC}-0 \
         up to offset 7, and that table is not there\n         → restore it, "
    );
    assert!(told.contains(&problem), "{told}");
    assert!(!told.contains("`lakebed run` makes it"), "{told}");
    let (code, told) = checked(&folder, &format!("{text}    on_lost_table: start\n"));
    assert_eq!(code, 0, "{told}");
}
