//! One value of one row, between the wire and Arrow.

use crate::column::ColumnType;

/// A typed value. What a `NULL` of the source, a placeholder and a value are stays apart.
#[derive(Debug, Clone, PartialEq)]
pub enum Value {
    /// SQL NULL.
    Null,
    /// The source did not send it (unchanged TOAST or LOB): keep what the row had.
    Unavailable,
    /// Boolean.
    Boolean(bool),
    /// Any signed integer up to 64 bits.
    Long(i64),
    /// 32-bit floating point.
    Float(f32),
    /// 64-bit floating point.
    Double(f64),
    /// Exact decimal: `unscaled / 10^scale`.
    Decimal {
        /// All digits as an integer.
        unscaled: i128,
        /// Digits after the point.
        scale: u8,
    },
    /// Days since 1970-01-01.
    Date(i32),
    /// Microseconds, no zone.
    Timestamp(i64),
    /// Microseconds since the epoch in UTC.
    TimestampTz(i64),
    /// Text.
    Text(String),
    /// Bytes.
    Binary(Vec<u8>),
    /// List.
    List(Vec<Value>),
    /// Struct, fields in the order of its type.
    Struct(Vec<Value>),
    /// A value that the field's type cannot hold (infinity, BC, too many digits), as text.
    ///
    /// Lives between the decoder and [`crate::evolve::Plan`], which applies the table's policy;
    /// never reaches a table.
    OutOfRange(String),
}

impl Value {
    /// Whether it is SQL NULL.
    pub fn is_null(&self) -> bool {
        matches!(self, Self::Null)
    }

    /// Bytes it holds in memory, about: for budgets, not for accounts.
    pub fn weight(&self) -> usize {
        size_of::<Self>()
            + match self {
                Self::Text(text) | Self::OutOfRange(text) => text.len(),
                Self::Binary(bytes) => bytes.len(),
                Self::List(items) | Self::Struct(items) => items.iter().map(Self::weight).sum(),
                _ => 0,
            }
    }

    /// Appends a canonical form: equal values of one family give equal bytes, whatever the width
    /// or scale of the column they were read from, and different ones different bytes.
    ///
    /// Keys are hashed in this form, from events and from stored rows alike, so promotion of a
    /// key column (int to long, more decimal digits) does not move its keys.
    pub fn canonical(&self, out: &mut Vec<u8>) {
        match self {
            Self::Null | Self::Unavailable => out.push(0),
            Self::Boolean(value) => out.extend([1, u8::from(*value)]),
            Self::Long(value) => tagged(out, 2, &value.to_le_bytes()),
            Self::Float(value) => Self::Double(f64::from(*value)).canonical(out),
            Self::Double(value) => tagged(out, 3, &value.to_bits().to_le_bytes()),
            Self::Decimal { unscaled, scale } => {
                let (mut unscaled, mut scale) = (*unscaled, *scale);
                while scale > 0 && unscaled % 10 == 0 {
                    unscaled /= 10;
                    scale -= 1;
                }
                tagged(out, 4, &unscaled.to_le_bytes());
                out.push(scale);
            }
            Self::Date(value) => tagged(out, 5, &value.to_le_bytes()),
            Self::Timestamp(value) => tagged(out, 6, &value.to_le_bytes()),
            Self::TimestampTz(value) => tagged(out, 7, &value.to_le_bytes()),
            Self::Text(value) => sized(out, 8, value.as_bytes()),
            Self::Binary(value) => sized(out, 9, value),
            Self::List(items) | Self::Struct(items) => {
                tagged(out, 10, &(items.len() as u64).to_le_bytes());
                items.iter().for_each(|item| item.canonical(out));
            }
            Self::OutOfRange(text) => sized(out, 11, text.as_bytes()),
        }
    }

    /// Whether a column of this type holds the value as it is (NULL fits everywhere).
    pub fn fits(&self, column_type: &ColumnType) -> bool {
        use ColumnType as T;
        match (self, column_type) {
            (Self::Null | Self::Unavailable, _) => true,
            (Self::Boolean(_), T::Boolean)
            | (Self::Long(_), T::Long)
            | (Self::Float(_), T::Float | T::Double)
            | (Self::Double(_), T::Double)
            | (Self::Date(_), T::Date)
            | (Self::Timestamp(_), T::Timestamp)
            | (Self::TimestampTz(_), T::TimestampTz)
            | (Self::Text(_), T::Text)
            | (Self::Binary(_), T::Binary) => true,
            (Self::Long(value), T::Int) => i32::try_from(*value).is_ok(),
            (Self::Decimal { unscaled, scale }, T::Decimal { precision, scale: to }) => {
                rescale(*unscaled, *scale, *to).is_some_and(|u| digits(u) <= u32::from(*precision))
            }
            (Self::List(items), T::List(element)) => items.iter().all(|item| item.fits(element)),
            (Self::Struct(items), T::Struct(fields)) => {
                items.len() == fields.len()
                    && items.iter().zip(fields).all(|(item, (_, field))| item.fits(field))
            }
            _ => false,
        }
    }
}

fn tagged(out: &mut Vec<u8>, tag: u8, bytes: &[u8]) {
    out.push(tag);
    out.extend_from_slice(bytes);
}

fn sized(out: &mut Vec<u8>, tag: u8, bytes: &[u8]) {
    tagged(out, tag, &(bytes.len() as u64).to_le_bytes());
    out.extend_from_slice(bytes);
}

/// Moves a decimal to another scale; `None` if digits would be lost or it overflows.
pub fn rescale(unscaled: i128, from: u8, to: u8) -> Option<i128> {
    if to >= from {
        return unscaled.checked_mul(10i128.checked_pow(u32::from(to - from))?);
    }
    let divisor = 10i128.checked_pow(u32::from(from - to))?;
    (unscaled % divisor == 0).then_some(unscaled / divisor)
}

/// Decimal digits of a number; 1 for zero.
pub fn digits(value: i128) -> u32 {
    value.unsigned_abs().checked_ilog10().map_or(1, |log| log + 1)
}

/// 128-bit hash of a key in canonical form: what the key index and the fold go by.
pub fn key_hash<'a>(key: impl IntoIterator<Item = &'a Value>) -> u128 {
    let mut bytes = Vec::with_capacity(32);
    key.into_iter().for_each(|value| value.canonical(&mut bytes));
    xxhash_rust::xxh3::xxh3_128(&bytes)
}
