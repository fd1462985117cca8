//! Bounds of what is taken for a record. What goes beyond one is malformed, and the reason names it.

use super::DecodeOptions;
use crate::change_event::Row;
use crate::connect_schema::RowSchema;
use crate::decimal;
use crate::field_kind::FieldKind;
use crate::json::{DEPTH_MAX, Json};
use crate::value::Value;

/// Bounds of what is taken for a record.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// Bytes of a key and of a value, each.
    pub record_bytes_max: usize,
    /// How deep JSON may nest.
    pub depth_max: usize,
    /// Fields of a row.
    pub fields_max: usize,
    /// Digits of a decimal, those of its scale included.
    pub decimal_digits_max: usize,
    /// Bytes of a text.
    pub text_bytes_max: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            // As much as Athena reads in one row; brokers take 1 MiB unless told otherwise.
            record_bytes_max: 32 << 20,
            depth_max: DEPTH_MAX,
            fields_max: 5_000,
            decimal_digits_max: decimal::DIGITS_MAX,
            text_bytes_max: 16 << 20,
        }
    }
}

/// The limits by their keys in the configuration.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[allow(missing_docs)]
pub enum LimitName {
    RecordBytes,
    Depth,
    Fields,
    DecimalDigits,
    TextBytes,
    NewColumnsPerHour,
}

impl LimitName {
    const ALL: [Self; 6] = [
        Self::RecordBytes,
        Self::Depth,
        Self::Fields,
        Self::DecimalDigits,
        Self::TextBytes,
        Self::NewColumnsPerHour,
    ];

    /// The key below `limits`.
    pub fn key(self) -> &'static str {
        match self {
            Self::RecordBytes => "record_bytes",
            Self::Depth => "depth",
            Self::Fields => "fields",
            Self::DecimalDigits => "decimal_digits",
            Self::TextBytes => "text_bytes",
            Self::NewColumnsPerHour => "new_columns_per_hour",
        }
    }

    /// The limit that a reason says to be exceeded: it names the key, which is what people need, and
    /// counts go by.
    pub fn named_in(reason: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|name| reason.contains(&format!("(`limits.{}`)", name.key())))
    }
}

impl Limits {
    pub(super) fn too_deep(&self, part: &str) -> String {
        format!("{part} nests deeper than {} levels (`limits.depth`)", self.depth_max)
    }

    /// Checks the values of a row that has been read from `json`.
    pub(super) fn check(
        &self,
        part: &str,
        json: Json<'_, '_>,
        row: &Row,
        schema: Option<&RowSchema>,
        options: &DecodeOptions,
    ) -> Result<(), String> {
        // No value is longer than what it was read from, but for decimals: at most 16 384 digits
        // come from some 6 800 bytes of base64.
        let shortest = self.text_bytes_max.min(self.decimal_digits_max / 3);
        if json.raw().len() <= shortest {
            return Ok(());
        }
        let values = row.shape.fields.iter().zip(&row.values).enumerate();
        for (index, (field, value)) in values {
            let (Value::Text(text) | Value::OutOfRange(text)) = value else { continue };
            if text.len() > self.text_bytes_max {
                return Err(format!(
                    "`{part}.{}` has {} bytes, more than the {} allowed (`limits.text_bytes`)",
                    field.name,
                    text.len(),
                    self.text_bytes_max
                ));
            }
            let described = schema.and_then(|schema| schema.fields.get(index)).map(|f| &f.kind);
            let kind = described.or_else(|| Some(options.columns.get(&field.name)?.kind()));
            let is_number = matches!(value, Value::OutOfRange(_))
                || matches!(kind, Some(FieldKind::DecimalText { .. }));
            let digits = || text.bytes().filter(u8::is_ascii_digit).count();
            if is_number
                && text.len() > self.decimal_digits_max
                && digits() > self.decimal_digits_max
            {
                return Err(format!(
                    "`{part}.{}` has {} digits, more than the {} allowed (`limits.decimal_digits`)",
                    field.name,
                    digits(),
                    self.decimal_digits_max
                ));
            }
        }
        Ok(())
    }
}
