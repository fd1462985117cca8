//! The `limits` block: what is taken for a record, and how fast a table may grow columns.

use serde::Deserialize;

use super::{ByteSize, Problem};
use crate::decimal;
use crate::decoder;
use crate::json::DEPTH_MAX;

/// Columns that a silver table may get within an hour, beyond those it is made with. More is
/// hardly somebody's `ALTER TABLE`: keys of a document that became columns, most likely.
pub const NEW_COLUMNS_PER_HOUR: usize = 100;

/// Bytes beyond which no record is taken whatever is configured: positions in it are 32 bits.
const RECORD_BYTES_CEILING: u64 = 1 << 30;

/// The `limits` block. A table takes over what it does not say itself.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Limits {
    /// Bytes of a key and of a value, each.
    pub record_bytes: Option<ByteSize>,
    /// How deep JSON may nest.
    pub depth: Option<usize>,
    /// Fields of a row.
    pub fields: Option<usize>,
    /// Digits of a decimal.
    pub decimal_digits: Option<usize>,
    /// Bytes of a text.
    pub text_bytes: Option<ByteSize>,
    /// See [`NEW_COLUMNS_PER_HOUR`].
    pub new_columns_per_hour: Option<usize>,
}

/// Limits with their defaults.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ResolvedLimits {
    /// Of a record.
    pub record: decoder::Limits,
    /// New columns of a silver table within an hour.
    pub new_columns_per_hour: usize,
}

impl Limits {
    /// What holds for a table: its own word, then that of all, then the default.
    pub(super) fn resolve(ours: Option<&Self>, outer: &Self) -> ResolvedLimits {
        let ours = ours.cloned().unwrap_or_default();
        let default = decoder::Limits::default();
        let bytes = |size: ByteSize| usize::try_from(size.0).unwrap_or(usize::MAX);
        ResolvedLimits {
            record: decoder::Limits {
                record_bytes_max: ours
                    .record_bytes
                    .or(outer.record_bytes)
                    .map_or(default.record_bytes_max, bytes),
                depth_max: ours.depth.or(outer.depth).unwrap_or(default.depth_max),
                fields_max: ours.fields.or(outer.fields).unwrap_or(default.fields_max),
                decimal_digits_max: ours
                    .decimal_digits
                    .or(outer.decimal_digits)
                    .unwrap_or(default.decimal_digits_max),
                text_bytes_max: ours
                    .text_bytes
                    .or(outer.text_bytes)
                    .map_or(default.text_bytes_max, bytes),
            },
            new_columns_per_hour: ours
                .new_columns_per_hour
                .or(outer.new_columns_per_hour)
                .unwrap_or(NEW_COLUMNS_PER_HOUR),
        }
    }

    /// Adds what cannot be a limit.
    pub(super) fn problems(&self, path: &str, problems: &mut Vec<Problem>) {
        let mut bounded = |key: &str, given: Option<u64>, least: u64, most: u64| {
            if let Some(given) = given
                && !(least..=most).contains(&given)
            {
                let message = format!("{given} is no limit that can be kept");
                let next = format!("give {least} to {most}");
                problems.push(Problem::new(format!("{path}.{key}"), message, next));
            }
        };
        let count = |count: Option<usize>| count.map(|count| count as u64);
        let bytes = |size: Option<ByteSize>| size.map(|size| size.0);
        bounded("record_bytes", bytes(self.record_bytes), 1024, RECORD_BYTES_CEILING);
        // An envelope with a row is three levels, four with its schema around it.
        bounded("depth", count(self.depth), 8, DEPTH_MAX as u64);
        bounded("fields", count(self.fields), 1, 100_000);
        let digits = decimal::DIGITS_MAX as u64;
        bounded("decimal_digits", count(self.decimal_digits), 38, digits);
        bounded("text_bytes", bytes(self.text_bytes), 1, RECORD_BYTES_CEILING);
    }
}
