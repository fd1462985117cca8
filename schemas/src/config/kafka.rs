//! The `kafka` block: where records come from.

use serde::Deserialize;

use super::{GROUP_ID, Interval, PRODUCER_METADATA_AGE, Properties, Secret};

/// The `kafka` block.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Kafka {
    /// `host:port`, comma-separated.
    pub bootstrap_servers: String,
    /// Consumer group; see [`GROUP_ID`].
    #[serde(default = "default_group_id")]
    pub group_id: String,
    /// Encryption and authentication; plaintext without.
    #[serde(default)]
    pub security: Security,
    /// How long producers may go on with the number of partitions that a topic had: Kafka's
    /// `metadata.max.age.ms` of those who write the topics.
    #[serde(default = "default_producer_metadata_age")]
    pub producer_metadata_age: Interval,
    /// The Kafka Connect cluster whose connectors write the topics: for `lakebed check` alone.
    pub connect: Option<Connect>,
    /// librdkafka properties, but for [`super::OWNED_PROPERTIES`].
    #[serde(default)]
    pub properties: Properties,
}

/// The `kafka.connect` block.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Connect {
    /// Address of its REST API.
    pub url: String,
    /// User for basic authentication.
    pub username: Option<String>,
    /// Password for basic authentication.
    pub password: Option<Secret>,
    /// PEM file of the authorities to trust; the system's without.
    pub ca_file: Option<String>,
}

/// The `kafka.security` block.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Security {
    /// How to connect.
    #[serde(default)]
    pub protocol: Protocol,
    /// How to authenticate; for the SASL protocols only.
    pub mechanism: Option<Mechanism>,
    /// SASL user.
    pub username: Option<String>,
    /// SASL password.
    pub password: Option<Secret>,
    /// PEM file of the authorities to trust; the system's without.
    pub ca_file: Option<String>,
    /// PEM file of the client's certificate.
    pub certificate_file: Option<String>,
    /// PEM file of the client's private key.
    pub key_file: Option<String>,
    /// Password of `key_file`.
    pub key_password: Option<Secret>,
}

/// Kafka's security protocols, by Kafka's names.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize)]
#[allow(missing_docs)]
pub enum Protocol {
    #[default]
    #[serde(rename = "PLAINTEXT")]
    Plaintext,
    #[serde(rename = "SSL")]
    Ssl,
    #[serde(rename = "SASL_PLAINTEXT")]
    SaslPlaintext,
    #[serde(rename = "SASL_SSL")]
    SaslSsl,
}

/// SASL mechanisms, by Kafka's names.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[allow(missing_docs)]
pub enum Mechanism {
    #[serde(rename = "PLAIN")]
    Plain,
    #[serde(rename = "SCRAM-SHA-256")]
    ScramSha256,
    #[serde(rename = "SCRAM-SHA-512")]
    ScramSha512,
    #[serde(rename = "OAUTHBEARER")]
    OauthBearer,
    #[serde(rename = "AWS_MSK_IAM")]
    AwsMskIam,
}

fn default_producer_metadata_age() -> Interval {
    Interval(PRODUCER_METADATA_AGE)
}

fn default_group_id() -> String {
    GROUP_ID.to_owned()
}
