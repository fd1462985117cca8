//! The `lake` block: where tables go, and what a table says of its layers.

use serde::Deserialize;
use serde::de::value::MapAccessDeserializer;
use serde::de::{Deserializer, MapAccess, SeqAccess, Visitor};

use super::{BRONZE_DATABASE, Catalog, SILVER_DATABASE, SINK_ID, Secret};

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
    /// A role to take on, by its ARN: for everything on AWS.
    pub role_arn: Option<String>,
    /// The external id that the role asks for.
    pub external_id: Option<String>,
    /// How S3 encrypts what is put; the bucket's own setting without.
    pub encryption: Option<S3Encryption>,
    /// Key of KMS for `sse-kms`; the account's own for S3 without.
    pub kms_key_id: Option<String>,
}

/// Server-side encryption by the names of `lake.s3.encryption`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum S3Encryption {
    /// With S3's own keys.
    SseS3,
    /// With a key of KMS.
    SseKms,
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

/// Engines by the names of `lake.readers`; what is known of them, the module `readers` says.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Deserialize)]
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

/// A table's `layers`: the wanted ones, or the settings of `lake.bronze` and `lake.silver` again.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct LayersSetting {
    /// Overrides `lake.bronze`.
    pub bronze: Option<LayerSetting>,
    /// Overrides `lake.silver`.
    pub silver: Option<LayerSetting>,
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
