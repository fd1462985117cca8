//! The blocks about the process: batches, bad records, memory, upkeep, what it serves.

use serde::Deserialize;
use serde::de::value::MapAccessDeserializer;
use serde::de::{Deserializer, MapAccess, Visitor};

use super::{ByteSize, HTTP_LISTEN, Interval};

/// The `batch` block. A batch is flushed at whichever bound it meets first.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Batch {
    /// See [`super::BATCH_AGE_MAX`].
    pub max_age: Option<Interval>,
    /// See [`super::BATCH_ROWS_MAX`].
    pub max_rows: Option<u64>,
    /// See [`super::BATCH_BYTES_MAX`].
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
    /// See [`super::MEMORY_MAX`].
    pub max: Option<ByteSize>,
}

/// The `maintenance` block.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Maintenance {
    /// Table versions kept, at least; see [`super::VERSIONS_MIN`], which is also the least allowed.
    pub versions_min: Option<usize>,
    /// Age below which nothing is deleted; see [`super::AGE_MIN`], which is also the least allowed.
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

// `false` or a block, a word or a block: read by visitors and not as untagged enums, whose errors
// say neither what was expected nor where.

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
