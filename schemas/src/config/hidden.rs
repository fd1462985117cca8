//! Columns left out or masked: `exclude` and `mask` of a column, and the key of digests.

use std::collections::BTreeMap;
use std::sync::Arc;

use serde::Deserialize;
use serde::de::{Deserializer, Error, Visitor};

use super::{Problem, Secret, Table};
use crate::column_override::ColumnOverride;
use crate::masking::{Masking, Rule};

/// Fewest bytes of the digests' key: values that people can guess are told by trying them where the
/// key can be guessed, too.
const KEY_BYTES_MIN: usize = 16;

/// The `masking` block.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct MaskingSetting {
    /// Key of `mask: hmac-sha256`, 16 bytes or more.
    pub hmac_key: Option<Secret>,
}

/// What a masked value becomes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mask {
    /// NULL.
    Null,
    /// Its last four characters.
    LastFour,
    /// A keyed digest, the same for equal values.
    HmacSha256,
}

impl<'de> Deserialize<'de> for Mask {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct V;
        impl Visitor<'_> for V {
            type Value = Mask;
            fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str("`hmac-sha256`, `last4` or `null`")
            }
            fn visit_unit<E>(self) -> Result<Mask, E> {
                Ok(Mask::Null)
            }
            fn visit_str<E: Error>(self, word: &str) -> Result<Mask, E> {
                match word {
                    "null" => Ok(Mask::Null),
                    "last4" => Ok(Mask::LastFour),
                    "hmac-sha256" => Ok(Mask::HmacSha256),
                    _ => Err(E::unknown_variant(word, &["hmac-sha256", "last4", "null"])),
                }
            }
        }
        deserializer.deserialize_any(V)
    }
}

/// YAML's own null is a mask here, not a missing one.
pub(super) fn mask<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<Mask>, D::Error> {
    Mask::deserialize(deserializer).map(Some)
}

/// What a table hides. Its columns are told in `columns` as well: they are no longer of the type
/// that records say.
pub(super) fn resolve(
    table: &Table,
    setting: &MaskingSetting,
    path: &str,
    columns: &mut BTreeMap<String, ColumnOverride>,
    problems: &mut Vec<Problem>,
) -> Arc<Masking> {
    let mut rules = BTreeMap::new();
    for (name, column) in &table.columns {
        let rule = match (column.exclude, column.mask) {
            (true, _) => Rule::Exclude,
            (false, None) => continue,
            (false, Some(Mask::Null)) => Rule::Null,
            (false, Some(Mask::LastFour)) => Rule::LastFour,
            (false, Some(Mask::HmacSha256)) => Rule::Hmac,
        };
        let mut refuse = |message: String, next: &str| {
            problems.push(Problem::new(format!("{path}.columns.{name}"), message, next));
        };
        if column.exclude && column.mask.is_some() {
            refuse("is left out and masked".to_owned(), "keep one of `exclude` and `mask`");
        }
        if column.column_type.is_some() {
            let message = "has a type and is left out or masked, which makes it text".to_owned();
            refuse(message, "remove `type`");
        }
        let is_key = table.key.as_ref().is_some_and(|key| key.contains(name));
        if is_key && rule.loses_identity() {
            let message = format!("is part of `key`: `{}` makes different keys equal", rule.name());
            refuse(message, "use `mask: hmac-sha256`, or another key");
        }
        let hidden = match rule {
            Rule::Exclude => ColumnOverride::excluded(),
            _ => ColumnOverride::masked(),
        };
        columns.insert(name.clone(), hidden);
        rules.insert(name.clone(), rule);
    }
    let key = setting.hmac_key.as_ref().map(Secret::expose).unwrap_or_default();
    let digests = rules.iter().find(|(_, rule)| **rule == Rule::Hmac);
    if let (Some((name, _)), true) = (digests, key.is_empty()) {
        problems.push(Problem::new(
            format!("{path}.columns.{name}.mask"),
            "needs a key",
            "set `masking.hmac_key` to a reference such as \"${env:LAKEBED_HMAC_KEY}\"",
        ));
    }
    Arc::new(Masking::new(rules, key.as_bytes(), table.key.is_none()))
}

/// Adds what is wrong with the key itself.
pub(super) fn problems(setting: &MaskingSetting, problems: &mut Vec<Problem>) {
    if setting.hmac_key.as_ref().is_some_and(|key| key.expose().len() < KEY_BYTES_MIN) {
        problems.push(Problem::new(
            "masking.hmac_key",
            "is shorter than 16 bytes",
            "take a random one: `openssl rand -hex 32`",
        ));
    }
}
