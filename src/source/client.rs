//! The Kafka client's settings: the operator's first, ours after them.

use std::time::Duration;

use lakebed_schemas::config::Kafka;
use rdkafka::ClientConfig;
use rdkafka::consumer::BaseConsumer;

/// How long a look-up at the brokers may take.
pub(super) const LOOKUP: Duration = Duration::from_secs(15);

/// Settings to reach the cluster: address, security and the operator's own properties.
pub fn client_config(kafka: &Kafka) -> ClientConfig {
    let mut config = ClientConfig::new();
    config.set("client.id", "lakebed");
    config.set("socket.keepalive.enable", "true");
    for (name, value) in kafka.properties.iter() {
        config.set(name, value);
    }
    config.set("bootstrap.servers", &kafka.bootstrap_servers);
    let security = &kafka.security;
    config.set("security.protocol", security.protocol.as_str());
    let mut optional = |name: &str, value: Option<&str>| {
        if let Some(value) = value {
            config.set(name, value);
        }
    };
    optional("sasl.mechanism", security.mechanism.map(|mechanism| mechanism.as_str()));
    optional("sasl.username", security.username.as_deref());
    optional("sasl.password", security.password.as_ref().map(|secret| secret.expose()));
    optional("ssl.ca.location", security.ca_file.as_deref());
    optional("ssl.certificate.location", security.certificate_file.as_deref());
    optional("ssl.key.location", security.key_file.as_deref());
    optional("ssl.key.password", security.key_password.as_ref().map(|secret| secret.expose()));
    config
}

/// Settings of the consumer: what exactness rests on is set last and cannot be overridden.
pub(super) fn consumer_config(kafka: &Kafka, queue_bytes: usize) -> ClientConfig {
    let mut config = client_config(kafka);
    let mut default = |name: &str, value: &str| {
        if !kafka.properties.iter().any(|(set, _)| set == name) {
            config.set(name, value);
        }
    };
    // The table fences a zombie, so that a dead member may be noticed soon.
    default("session.timeout.ms", "10000");
    default("heartbeat.interval.ms", "3000");
    default("max.poll.interval.ms", "900000");
    default("fetch.wait.max.ms", "200");
    default("fetch.queue.backoff.ms", "100");
    default("check.crcs", "true");
    // Partitions that were added are given out when this notices them.
    default("topic.metadata.refresh.interval.ms", "60000");
    default("queued.max.messages.kbytes", &(queue_bytes / 1024).clamp(1024, 65_536).to_string());
    config.set("group.id", &kafka.group_id);
    config.set("enable.auto.commit", "false");
    config.set("enable.auto.offset.store", "false");
    // We decide where to begin; a position that the log has not is an error, never a guess.
    config.set("auto.offset.reset", "error");
    config.set("isolation.level", "read_committed");
    config.set("partition.assignment.strategy", "cooperative-sticky");
    config.set("enable.partition.eof", "true");
    config.set("allow.auto.create.topics", "false");
    config
}

/// A client that joins no group: for metadata, watermarks and single records.
///
/// # Errors
/// When the settings contradict each other.
pub fn metadata_client(kafka: &Kafka) -> Result<BaseConsumer, String> {
    let mut config = client_config(kafka);
    config.set("group.id", format!("{}-lookup", kafka.group_id));
    config.set("enable.auto.commit", "false");
    config.set("auto.offset.reset", "error");
    config.set("isolation.level", "read_committed");
    config.set("enable.partition.eof", "true");
    config.set("allow.auto.create.topics", "false");
    config.create().map_err(|error| format!("kafka client: {error}"))
}

/// A client that may ask what the group was told, and never joins it.
///
/// # Errors
/// When the settings contradict each other.
pub(super) fn group_client(kafka: &Kafka) -> Result<BaseConsumer, String> {
    let mut config = client_config(kafka);
    config.set("group.id", &kafka.group_id);
    config.set("enable.auto.commit", "false");
    config.create().map_err(|error| format!("kafka client: {error}"))
}
