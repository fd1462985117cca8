//! librdkafka properties: which ones Lakebed must own, and what the `kafka` block comes to.

use super::{Kafka, Mechanism, Problem, Protocol};

/// Properties that the operator may not set, each with the reason. What is promised rests on them.
pub const OWNED_PROPERTIES: &[(&str, &str)] = &[
    ("allow.auto.create.topics", "reading must never create a topic"),
    ("auto.offset.reset", "a reset would skip or repeat records: `start` and `on_gap` decide that"),
    ("bootstrap.servers", "set `kafka.bootstrap_servers`"),
    ("enable.auto.commit", "offsets are committed after the table commit, never by a timer"),
    ("enable.auto.offset.store", "offsets are stored after the table commit"),
    ("enable.partition.eof", "being caught up is known from it"),
    ("group.id", "set `kafka.group_id`"),
    ("group.protocol", "the start offset is set in the rebalance callback of the classic protocol"),
    ("group.remote.assignor", "partitions are assigned cooperatively by the classic protocol"),
    ("isolation.level", "records of aborted transactions must not reach a table"),
    ("metadata.broker.list", "set `kafka.bootstrap_servers`"),
    ("partition.assignment.strategy", "partitions are assigned cooperatively"),
    ("plugin.library.paths", "no code is loaded on behalf of a configuration"),
    ("sasl.mechanism", "set `kafka.security.mechanism`"),
    ("sasl.mechanisms", "set `kafka.security.mechanism`"),
    ("sasl.password", "set `kafka.security.password`, by reference"),
    ("sasl.username", "set `kafka.security.username`"),
    ("security.protocol", "set `kafka.security.protocol`"),
    ("ssl.ca.location", "set `kafka.security.ca_file`"),
    ("ssl.certificate.location", "set `kafka.security.certificate_file`"),
    ("ssl.key.location", "set `kafka.security.key_file`"),
    ("ssl.key.password", "set `kafka.security.key_password`, by reference"),
];

impl Kafka {
    /// What every Kafka client is configured with, in librdkafka's names: the operator's
    /// properties first, then address and security. Holds secrets: hand it to the client only.
    ///
    /// A consumer's own required keys come after these (see [`OWNED_PROPERTIES`]).
    pub fn client_properties(&self) -> Vec<(String, String)> {
        let mut properties: Vec<_> =
            self.properties.0.iter().map(|(name, value)| (name.clone(), value.clone())).collect();
        let security = &self.security;
        let secret =
            |secret: &Option<super::Secret>| secret.as_ref().map(|s| s.expose().to_owned());
        let ours = [
            ("bootstrap.servers", Some(self.bootstrap_servers.clone())),
            ("security.protocol", Some(security.protocol.as_str().to_owned())),
            ("sasl.mechanism", security.mechanism.map(|m| m.as_str().to_owned())),
            ("sasl.username", security.username.clone()),
            ("sasl.password", secret(&security.password)),
            ("ssl.ca.location", security.ca_file.clone()),
            ("ssl.certificate.location", security.certificate_file.clone()),
            ("ssl.key.location", security.key_file.clone()),
            ("ssl.key.password", secret(&security.key_password)),
        ];
        let ours = ours.into_iter().filter_map(|(name, value)| Some((name.to_owned(), value?)));
        properties.extend(ours);
        properties
    }

    pub(super) fn problems(&self, problems: &mut Vec<Problem>) {
        let servers = self.bootstrap_servers.split(',').map(str::trim);
        let is_address = |server: &str| {
            server.rsplit_once(':').is_some_and(|(host, port)| {
                !host.is_empty() && !host.contains('/') && port.parse::<u16>().is_ok_and(|p| p > 0)
            })
        };
        if let Some(bad) = servers.clone().find(|server| !is_address(server)) {
            problems.push(Problem::new(
                "kafka.bootstrap_servers",
                format!("`{bad}` is not host:port"),
                "list the brokers as `host:port`, separated by commas",
            ));
        }
        if self.group_id.trim().is_empty() {
            problems.push(Problem::new(
                "kafka.group_id",
                "the consumer group has no name",
                "leave the key out for `lakebed`",
            ));
        }
        for (name, reason) in OWNED_PROPERTIES {
            if self.properties.0.contains_key(*name) {
                problems.push(Problem::new(
                    format!("kafka.properties.{name}"),
                    "Lakebed owns this librdkafka property",
                    format!("remove it: {reason}"),
                ));
            }
        }
        self.security_problems(problems);
    }

    fn security_problems(&self, problems: &mut Vec<Problem>) {
        let security = &self.security;
        let sasl = matches!(security.protocol, Protocol::SaslPlaintext | Protocol::SaslSsl);
        let tls = matches!(security.protocol, Protocol::Ssl | Protocol::SaslSsl);
        let given = [
            ("mechanism", security.mechanism.is_some(), sasl),
            ("username", security.username.is_some(), sasl),
            ("password", security.password.is_some(), sasl),
            ("ca_file", security.ca_file.is_some(), tls),
            ("certificate_file", security.certificate_file.is_some(), tls),
            ("key_file", security.key_file.is_some(), tls),
            ("key_password", security.key_password.is_some(), tls),
        ];
        let protocol = security.protocol.as_str();
        for (key, _, _) in given.iter().filter(|(_, given, used)| *given && !used) {
            let path = format!("kafka.security.{key}");
            let message = format!("is not used with protocol {protocol}");
            problems.push(Problem::new(path, message, "set `protocol`, or remove it"));
        }
        if sasl {
            for (key, _, _) in given[..3].iter().filter(|(_, given, _)| !given) {
                problems.push(Problem::new(
                    "kafka.security",
                    format!("protocol {protocol} needs `{key}`"),
                    format!("add `{key}`"),
                ));
            }
        }
        if tls && security.certificate_file.is_some() != security.key_file.is_some() {
            problems.push(Problem::new(
                "kafka.security",
                "a client certificate needs its key, and the key its certificate",
                "give both `certificate_file` and `key_file`, or neither",
            ));
        }
    }
}

impl Protocol {
    /// Kafka's name of it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Plaintext => "PLAINTEXT",
            Self::Ssl => "SSL",
            Self::SaslPlaintext => "SASL_PLAINTEXT",
            Self::SaslSsl => "SASL_SSL",
        }
    }
}

impl Mechanism {
    /// Kafka's name of it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Plain => "PLAIN",
            Self::ScramSha256 => "SCRAM-SHA-256",
            Self::ScramSha512 => "SCRAM-SHA-512",
            Self::OauthBearer => "OAUTHBEARER",
            Self::AwsMskIam => "AWS_MSK_IAM",
        }
    }
}
