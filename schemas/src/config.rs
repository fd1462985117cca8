//! The configuration file as it is written, and what it comes to.
//!
//! The types here mirror the YAML: unknown keys are refused, defaults are the constants below.
//! [`Config::resolve`] checks the whole, reports every problem at once, and gives the
//! [`ResolvedConfig`] that the service runs on. Reading files and resolving references to secrets
//! is done elsewhere: nothing here does I/O.

mod librdkafka;
mod naming;
mod not_yet;
mod records;
mod resolve;
mod scalar;
mod validate;

use std::collections::BTreeMap;
use std::time::Duration;

use serde::Deserialize;
use serde::de::value::MapAccessDeserializer;
use serde::de::{Deserializer, MapAccess, SeqAccess, Visitor};

pub use librdkafka::OWNED_PROPERTIES;
pub use naming::{NameRule, Routed, Topics, is_internal_topic};
pub use records::apicurio_version;
pub use resolve::{
    Layers, ResolvedBatch, ResolvedConfig, ResolvedLake, ResolvedRecords, ResolvedTable, TablePath,
};
pub use scalar::{ByteSize, Interval, Properties, Secret};

/// Consumer group when `kafka.group_id` is not given.
pub const GROUP_ID: &str = "lakebed";
/// Owner of the progress inside the tables when `lake.sink_id` is not given. Never the group id:
/// that may change, the tables' progress must not be lost with it.
pub const SINK_ID: &str = "lakebed";
/// Database of the append-only tables when `lake.bronze` is not given.
pub const BRONZE_DATABASE: &str = "bronze";
/// Database of the current rows when `lake.silver` is not given.
pub const SILVER_DATABASE: &str = "silver";
/// A batch is flushed at this age: the freshness people expect without asking, at a number of
/// commits a day (8 640) that metadata upkeep carries easily.
pub const BATCH_AGE_MAX: Duration = Duration::from_secs(10);
/// A batch is flushed at this many rows: keeps one commit's key look-ups well under a second.
pub const BATCH_ROWS_MAX: u64 = 100_000;
/// A batch is flushed at this many bytes in memory: bounds a burst before back-pressure reacts.
pub const BATCH_BYTES_MAX: u64 = 64 << 20;
/// All buffers, queues and the key index together stay below this.
pub const MEMORY_MAX: u64 = 1 << 30;
/// Where health and metrics are served: this machine only.
pub const HTTP_LISTEN: &str = "127.0.0.1:9464";
/// Table versions kept for readers and for writers that were asleep.
pub const VERSIONS_MIN: usize = 100;
/// Age below which nothing is deleted, whatever its version.
pub const AGE_MIN: Duration = Duration::from_secs(24 * 3600);

/// One thing that is wrong with a configuration.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Problem {
    /// Where, as keys and indexes: `tables[2].key`. Empty for the whole file.
    pub path: String,
    /// What is wrong.
    pub message: String,
    /// What to do about it.
    pub next_move: String,
}

impl Problem {
    /// A problem at `path`.
    pub fn new(
        path: impl Into<String>,
        message: impl Into<String>,
        next_move: impl Into<String>,
    ) -> Self {
        Self { path: path.into(), message: message.into(), next_move: next_move.into() }
    }
}

impl std::fmt::Display for Problem {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        if !self.path.is_empty() {
            write!(f, "`{}`: ", self.path)?;
        }
        write!(f, "{}; {}", self.message, self.next_move)
    }
}

/// The whole file.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Config {
    /// Where records come from.
    pub kafka: Kafka,
    /// How topics are encoded.
    #[serde(default)]
    pub records: Records,
    /// Where tables go.
    pub lake: Lake,
    /// Which topics become which tables.
    #[serde(default)]
    pub tables: Vec<Table>,
    /// When a batch is flushed.
    #[serde(default)]
    pub batch: Batch,
    /// What to do with records that cannot be understood.
    #[serde(default)]
    pub bad_records: BadRecords,
    /// Bounds of memory.
    #[serde(default)]
    pub memory: Memory,
    /// Upkeep of the tables.
    #[serde(default)]
    pub maintenance: Maintenance,
    /// Health and metrics.
    #[serde(default)]
    pub http: Http,
}

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
    /// librdkafka properties, but for [`OWNED_PROPERTIES`].
    #[serde(default)]
    pub properties: Properties,
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

/// The `records` block; in a table only what differs.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Records {
    /// Wire format; JSON without.
    pub format: Option<RecordFormat>,
    /// Where schemas are kept.
    pub registry: Option<Registry>,
    /// Rows alone (`ExtractNewRecordState`) instead of Debezium's envelope.
    pub flattened: Option<bool>,
}

/// How a record is encoded.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum RecordFormat {
    /// JSON; an inline schema is found by itself.
    #[default]
    Json,
    /// Avro with a schema registry.
    Avro,
    /// Protocol Buffers with a schema registry.
    Protobuf,
}

/// A schema registry.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Registry {
    /// Which kind.
    #[serde(rename = "type")]
    pub kind: RegistryKind,
    /// Its address.
    pub url: Option<String>,
    /// User for basic authentication.
    pub username: Option<String>,
    /// Password for basic authentication.
    pub password: Option<Secret>,
    /// Token for bearer authentication.
    pub token: Option<Secret>,
    /// PEM file of the authorities to trust; the system's without.
    pub ca_file: Option<String>,
    /// Apicurio: where records have their schema ids; [`IdForm::FourByte`] without.
    pub ids: Option<IdForm>,
    /// Apicurio: which ids they are; `content` without, but `global` where ids have 8 bytes.
    pub id: Option<IdSpace>,
}

/// Kinds of schema registry.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum RegistryKind {
    /// Confluent's API, which others have, too: Karapace, Redpanda, Apicurio's `ccompat`.
    Confluent,
    /// Apicurio's own API, version 2 or 3.
    Apicurio,
    /// AWS Glue Schema Registry.
    Glue,
}

/// Where records name their schema in Apicurio's own forms.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
pub enum IdForm {
    /// Four bytes after byte 0: the default of its serializers from version 3 on.
    #[serde(rename = "4-byte")]
    FourByte,
    /// Eight bytes after byte 0.
    #[serde(rename = "8-byte")]
    EightByte,
    /// In record headers: the default of its serializers in version 2.
    #[serde(rename = "headers")]
    Headers,
}

/// Which of Apicurio's ids records have. Headers say it themselves.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum IdSpace {
    /// `contentId`.
    Content,
    /// `globalId`.
    Global,
}

/// The `lake` block.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Lake {
    /// An absolute path, `file://` or `s3://bucket/prefix`.
    pub location: String,
    /// Table format, unless a table says otherwise.
    pub format: TableFormat,
    /// Where query engines look tables up.
    #[serde(default)]
    pub catalog: Catalog,
    /// How to reach S3.
    #[serde(default)]
    pub s3: S3,
    /// Whose progress it is, inside the tables; see [`SINK_ID`].
    #[serde(default = "default_sink_id")]
    pub sink_id: String,
    /// Append-only tables of every event.
    #[serde(default = "default_bronze")]
    pub bronze: LayerSetting,
    /// Tables of current rows.
    #[serde(default = "default_silver")]
    pub silver: LayerSetting,
    /// Engines that must be able to read the tables.
    #[serde(default)]
    pub readers: Vec<Reader>,
}

/// Table formats.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum TableFormat {
    /// Apache Iceberg, format version 2.
    Iceberg,
    /// Delta Lake.
    Delta,
}

impl TableFormat {
    /// The name used in the configuration.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Iceberg => "iceberg",
            Self::Delta => "delta",
        }
    }
}

/// The `lake.catalog` block.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Catalog {
    /// Which kind.
    #[serde(rename = "type")]
    pub kind: CatalogKind,
    /// Address of a REST catalog.
    pub uri: Option<String>,
    /// Warehouse of a REST catalog.
    pub warehouse: Option<String>,
    /// AWS region of a Glue catalog.
    pub region: Option<String>,
    /// Account whose Glue catalog it is.
    pub catalog_id: Option<String>,
}

/// Kinds of catalog.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum CatalogKind {
    /// The tables' own folders: readers open them by path.
    #[default]
    Filesystem,
    /// AWS Glue.
    Glue,
    /// Iceberg REST.
    Rest,
}

/// The `lake.s3` block.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct S3 {
    /// AWS region; the environment's without.
    pub region: Option<String>,
    /// Endpoint other than AWS's.
    pub endpoint: Option<String>,
    /// Bucket in the path, not in the host name.
    #[serde(default)]
    pub path_style: bool,
    /// Static credentials; the environment's without.
    pub access_key_id: Option<Secret>,
    /// See `access_key_id`.
    pub secret_access_key: Option<Secret>,
}

/// `lake.bronze`, `lake.silver` and their overrides: `false` or a database.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum LayerSetting {
    /// `false`: no such tables.
    Off,
    /// `true`: on, in the database that is set further out.
    On,
    /// `{ database: name }`.
    Database(String),
}

/// Engines by the names of `lake.readers`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
#[allow(missing_docs)]
pub enum Reader {
    Athena,
    Bigquery,
    Clickhouse,
    Databricks,
    Deltalake,
    Duckdb,
    Flink,
    Polars,
    Presto,
    Pyiceberg,
    Redshift,
    Snowflake,
    Spark,
    Starrocks,
    Trino,
}

/// One entry of `tables`.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Table {
    /// One topic.
    pub topic: Option<String>,
    /// Several topics.
    pub topics: Option<Vec<String>>,
    /// Every topic that this regular expression matches as a whole.
    pub topic_pattern: Option<String>,
    /// Debezium's `topic.prefix`, where it has more than one segment: left out of default names.
    pub topic_prefix: Option<String>,
    /// Name of the table; may use captures of the pattern (`$1`, `${table}`).
    pub name: Option<String>,
    /// Key columns, by the source's names; the fields of the record key without.
    pub key: Option<Vec<String>>,
    /// What a delete does.
    #[serde(default)]
    pub deletes: Deletes,
    /// How row-level deletes are written.
    #[serde(default)]
    pub mode: Mode,
    /// Partition transforms of the silver table.
    #[serde(default)]
    pub partition_by: Vec<String>,
    /// What columns are, where records carry no schema; which to leave out or mask.
    #[serde(default)]
    pub columns: BTreeMap<String, ColumnRule>,
    /// Where to begin in a topic of which the table knows nothing.
    #[serde(default)]
    pub start: Start,
    /// What to do when records are gone before they were read.
    #[serde(default)]
    pub on_gap: OnGap,
    /// What to do when the consumer group was told of a table that is not there any more.
    #[serde(default)]
    pub on_lost_table: OnLostTable,
    /// What to do when the source's table was truncated.
    #[serde(default)]
    pub on_truncate: OnTruncate,
    /// What to do with values that the column's type cannot hold.
    #[serde(default)]
    pub out_of_range: OutOfRange,
    /// Overrides `lake.format`.
    pub format: Option<TableFormat>,
    /// Overrides `records`.
    pub records: Option<Records>,
    /// Overrides `batch`, key by key.
    pub batch: Option<Batch>,
    /// Overrides `bad_records`.
    pub bad_records: Option<BadRecords>,
    /// Overrides `lake.bronze` and `lake.silver`.
    pub layers: Option<LayersSetting>,
}

/// What a delete of the source does to the silver row.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Deletes {
    /// The row goes.
    #[default]
    Hard,
    /// The row stays and is marked.
    Soft,
}

/// How row-level deletes are written.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Mode {
    /// Position deletes or deletion vectors.
    #[default]
    MergeOnRead,
    /// Files are rewritten.
    CopyOnWrite,
}

/// Where to begin in a topic of which the table knows nothing.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Start {
    /// At the first record that the topic still has.
    #[default]
    Earliest,
    /// After the last record.
    Latest,
}

/// What to do when records were deleted by retention before they were read.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum OnGap {
    /// The table halts.
    #[default]
    Halt,
    /// The gap is written down and passed.
    Record,
}

/// What to do when the consumer group was told of a table that is not there any more.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum OnLostTable {
    /// The table halts: it was dropped, or the lake or the sink id is the wrong one.
    #[default]
    Halt,
    /// A new table begins where `start` says.
    Start,
}

/// What to do when the source's table was truncated.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum OnTruncate {
    /// All rows go, if the topic has one partition; with more the table halts, for the event comes
    /// in one of them only.
    #[default]
    Apply,
    /// The rows stay.
    Ignore,
    /// The table halts.
    Halt,
}

/// What to do with values that the column's type cannot hold.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum OutOfRange {
    /// The table halts.
    #[default]
    Halt,
    /// The value becomes NULL, counted.
    Null,
    /// The column becomes text.
    Text,
}

/// One entry of a table's `columns`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ColumnRule {
    /// Type of the column: `decimal(12,2)`, `timestamptz`, …
    #[serde(rename = "type")]
    pub column_type: Option<String>,
    /// What a number counts, in place of `encoding`: `ms`, `us`, `days`, …
    pub unit: Option<String>,
    /// How it stands in the record: `base64`, …
    pub encoding: Option<String>,
    /// Leave the column out.
    #[serde(default)]
    pub exclude: bool,
    /// Replace its values.
    pub mask: Option<String>,
}

/// A table's `layers`: the wanted ones, or the settings of `lake.bronze` and `lake.silver` again.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct LayersSetting {
    /// Overrides `lake.bronze`.
    pub bronze: Option<LayerSetting>,
    /// Overrides `lake.silver`.
    pub silver: Option<LayerSetting>,
}

/// The `batch` block. A batch is flushed at whichever bound it meets first.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Batch {
    /// See [`BATCH_AGE_MAX`].
    pub max_age: Option<Interval>,
    /// See [`BATCH_ROWS_MAX`].
    pub max_rows: Option<u64>,
    /// See [`BATCH_BYTES_MAX`].
    pub max_bytes: Option<ByteSize>,
}

/// What becomes of a record that cannot be understood.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub enum BadRecords {
    /// Its table halts before it.
    #[default]
    Halt,
    /// It goes to a dead-letter topic and is passed.
    DeadLetterTopic(String),
}

/// The `memory` block.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Memory {
    /// See [`MEMORY_MAX`].
    pub max: Option<ByteSize>,
}

/// The `maintenance` block.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Maintenance {
    /// Table versions kept, at least; see [`VERSIONS_MIN`], which is also the least allowed.
    pub versions_min: Option<usize>,
    /// Age below which nothing is deleted; see [`AGE_MIN`], which is also the least allowed.
    pub age_min: Option<Interval>,
    /// Rewriting of small files and dead rows.
    pub compaction: Option<bool>,
    /// Hours of the day in which upkeep may run.
    pub window: Option<String>,
}

/// `http`: `false` or where to listen.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Http {
    /// `false`: nothing is served.
    Off,
    /// `host:port`.
    Listen(String),
}

impl Default for Http {
    fn default() -> Self {
        Self::Listen(HTTP_LISTEN.to_owned())
    }
}

fn default_group_id() -> String {
    GROUP_ID.to_owned()
}

fn default_sink_id() -> String {
    SINK_ID.to_owned()
}

fn default_bronze() -> LayerSetting {
    LayerSetting::Database(BRONZE_DATABASE.to_owned())
}

fn default_silver() -> LayerSetting {
    LayerSetting::Database(SILVER_DATABASE.to_owned())
}

// `false` or a block, a word or a block: read by visitors and not as untagged enums, whose errors
// say neither what was expected nor where.

impl<'de> Deserialize<'de> for LayerSetting {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        #[derive(Deserialize)]
        #[serde(deny_unknown_fields)]
        struct Block {
            database: String,
        }
        struct V;
        impl<'de> Visitor<'de> for V {
            type Value = LayerSetting;
            fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str("`false` or `{ database: name }`")
            }
            fn visit_bool<E>(self, on: bool) -> Result<LayerSetting, E> {
                Ok(if on { LayerSetting::On } else { LayerSetting::Off })
            }
            fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<LayerSetting, A::Error> {
                let block = Block::deserialize(MapAccessDeserializer::new(map))?;
                Ok(LayerSetting::Database(block.database))
            }
        }
        deserializer.deserialize_any(V)
    }
}

impl<'de> Deserialize<'de> for LayersSetting {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        #[derive(Deserialize)]
        #[serde(deny_unknown_fields)]
        struct Block {
            bronze: Option<LayerSetting>,
            silver: Option<LayerSetting>,
        }
        #[derive(PartialEq, Deserialize)]
        #[serde(rename_all = "lowercase")]
        enum Name {
            Bronze,
            Silver,
        }
        struct V;
        impl<'de> Visitor<'de> for V {
            type Value = LayersSetting;
            fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str("`[bronze]`, `[silver]`, or a block with `bronze` and `silver`")
            }
            fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<LayersSetting, A::Error> {
                let mut names = Vec::new();
                while let Some(name) = seq.next_element::<Name>()? {
                    names.push(name);
                }
                let off = |name: Name| (!names.contains(&name)).then_some(LayerSetting::Off);
                Ok(LayersSetting { bronze: off(Name::Bronze), silver: off(Name::Silver) })
            }
            fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<LayersSetting, A::Error> {
                let block = Block::deserialize(MapAccessDeserializer::new(map))?;
                Ok(LayersSetting { bronze: block.bronze, silver: block.silver })
            }
        }
        deserializer.deserialize_any(V)
    }
}

impl<'de> Deserialize<'de> for BadRecords {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        #[derive(Deserialize)]
        #[serde(deny_unknown_fields)]
        struct Block {
            dead_letter_topic: String,
        }
        struct V;
        impl<'de> Visitor<'de> for V {
            type Value = BadRecords;
            fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str("`halt` or `{ dead_letter_topic: name }`")
            }
            fn visit_str<E: serde::de::Error>(self, word: &str) -> Result<BadRecords, E> {
                match word {
                    "halt" => Ok(BadRecords::Halt),
                    _ => Err(E::unknown_variant(word, &["halt"])),
                }
            }
            fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<BadRecords, A::Error> {
                let block = Block::deserialize(MapAccessDeserializer::new(map))?;
                Ok(BadRecords::DeadLetterTopic(block.dead_letter_topic))
            }
        }
        deserializer.deserialize_any(V)
    }
}

impl<'de> Deserialize<'de> for Http {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        #[derive(Deserialize)]
        #[serde(deny_unknown_fields)]
        struct Block {
            listen: Option<String>,
        }
        struct V;
        impl<'de> Visitor<'de> for V {
            type Value = Http;
            fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str("`false` or `{ listen: host:port }`")
            }
            fn visit_bool<E>(self, on: bool) -> Result<Http, E> {
                Ok(if on { Http::default() } else { Http::Off })
            }
            fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<Http, A::Error> {
                let block = Block::deserialize(MapAccessDeserializer::new(map))?;
                Ok(block.listen.map_or_else(Http::default, Http::Listen))
            }
        }
        deserializer.deserialize_any(V)
    }
}
