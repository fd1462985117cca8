//! What must hold for any bytes: shared by the fuzz target and by the replay of its corpus.
//!
//! An input is two bytes of choices, then key, value and the header of a key change, with `0xff`
//! between them: no JSON has that byte.

use std::collections::BTreeMap;
use std::sync::Arc;

use lakebed_schemas::bronze;
use lakebed_schemas::change_event::{ChangeEvent, Decoded, Row, RowShape};
use lakebed_schemas::column::TableSchema;
use lakebed_schemas::column_override::ColumnOverride;
use lakebed_schemas::config::{Deletes, OutOfRange, TableFormat};
use lakebed_schemas::decoder::{DecodeOptions, Decoder, Limits, OLD_KEY, RecordRef};
use lakebed_schemas::evolve::{self, Plan, Rules};
use lakebed_schemas::value::Value;

/// What parts of an input stand apart by.
const BETWEEN: u8 = 0xff;

/// Memory that a decoded row may take for each byte of its record, and beside that. A field takes
/// at least 20 bytes of schema, or 4 of a row.
const WEIGHT_PER_BYTE: usize = 64;
const WEIGHT_BESIDE: usize = 64 * 1024;

/// The types of columns `a`, `b`, … where the choices ask for a configured table.
const COLUMNS: [(&str, Option<&str>); 26] = [
    ("boolean", None),
    ("int", None),
    ("long", None),
    ("float", None),
    ("double", None),
    ("text", None),
    ("json", None),
    ("decimal(12,3)", Some("base64")),
    ("decimal(38,10)", Some("string")),
    ("decimal(5,5)", Some("variable")),
    ("decimal", Some("variable")),
    ("decimal", Some("string")),
    ("decimal(3,2046)", Some("base64")),
    ("date", Some("days")),
    ("date", Some("iso")),
    ("time", Some("micros")),
    ("time", Some("iso")),
    ("timestamp", Some("nanos")),
    ("timestamp", Some("iso")),
    ("timestamptz", Some("millis")),
    ("timestamptz", Some("iso")),
    ("binary", Some("base64")),
    ("binary", Some("base64url")),
    ("binary", Some("hex")),
    ("list<decimal(10,2)>", Some("base64")),
    ("list<list<timestamp>>", Some("micros")),
];

/// An input, taken apart.
struct Input<'a> {
    choices: [u8; 2],
    key: Option<&'a [u8]>,
    value: Option<&'a [u8]>,
    old_key: Option<&'a [u8]>,
}

impl<'a> Input<'a> {
    fn new(bytes: &'a [u8]) -> Option<Self> {
        let (choices, parts) = bytes.split_first_chunk::<2>()?;
        let mut parts = parts.splitn(3, |byte| *byte == BETWEEN);
        let mut input = Self {
            choices: *choices,
            key: parts.next(),
            value: parts.next(),
            old_key: parts.next(),
        };
        if input.chosen(0, 1) {
            input.key = None;
        }
        if input.chosen(0, 2) {
            input.value = None;
        }
        Some(input)
    }

    fn chosen(&self, byte: usize, bit: u8) -> bool {
        self.choices[byte] & bit != 0
    }

    fn options(&self) -> DecodeOptions {
        let mut options = DecodeOptions { before: !self.chosen(0, 4), ..DecodeOptions::default() };
        if self.chosen(0, 8) {
            options.columns = configured();
        }
        if self.chosen(0, 16) {
            options.limits = Limits {
                record_bytes_max: 2_000,
                depth_max: 6,
                fields_max: 8,
                ..Limits::default()
            };
        }
        if self.chosen(0, 32) {
            options.placeholder = "N/A".to_owned();
            options.epoch = u32::MAX;
        }
        options
    }

    fn rules(&self) -> Rules {
        let out_of_range = match self.choices[1] & 3 {
            0 => OutOfRange::Halt,
            1 => OutOfRange::Text,
            _ => OutOfRange::Null,
        };
        Rules {
            format: if self.chosen(1, 4) { TableFormat::Delta } else { TableFormat::Iceberg },
            out_of_range,
            deletes: if self.chosen(1, 8) { Deletes::Soft } else { Deletes::Hard },
            topic_in_key: self.chosen(1, 16),
        }
    }
}

fn configured() -> BTreeMap<String, ColumnOverride> {
    let column = |(name, (column_type, encoding)): (char, (&str, Option<&str>))| {
        let parsed = ColumnOverride::parse(column_type, None, encoding);
        (name.to_string(), parsed.expect("a column type"))
    };
    ('a'..='z').zip(COLUMNS).map(column).collect()
}

/// Decodes the input and brings it as far as a table's rows.
///
/// # Panics
/// When something does not hold that must hold for any bytes.
pub(crate) fn check(bytes: &[u8]) {
    let Some(input) = Input::new(bytes) else { return };
    let headers: Vec<(&str, Option<&[u8]>)> =
        input.old_key.map(|header| (OLD_KEY, Some(header))).into_iter().collect();
    let record = RecordRef {
        topic: "shop.public.orders",
        partition: 3,
        offset: i64::MAX - 1,
        timestamp_ms: Some(1_790_000_000_000),
        key: input.key,
        value: input.value,
        headers: &headers,
    };
    let mut decoder = Decoder::new(input.options());
    let decoded = decoder.decode(&record);
    assert_text_is_kept(&decoder, &decoded);
    // What the decoder remembers of a record must not change what it makes of the next.
    assert_same(&decoded, &decoder.decode(&record));
    assert_bounded(&decoded, bytes.len());

    let row = bronze::row(&record, &decoded, bronze::Remarks::default());
    assert_fits(&bronze::schema(), row.iter().enumerate());
    if let Decoded::Change(event) = &decoded {
        land(event, &input.rules());
    }
}

fn assert_text_is_kept(decoder: &Decoder, decoded: &Decoded) {
    if let Decoded::Change(event) = decoded
        && let Some(hash) = &event.schema_hash
    {
        assert!(decoder.schema_text(hash).is_some(), "the schema's text is gone");
    }
}

fn assert_same(first: &Decoded, second: &Decoded) {
    // NaN is not equal to itself: the texts decide.
    if first != second {
        let (first, mut second) = (first.clone(), second.clone());
        forget_learned_types(&first, &mut second);
        assert_eq!(format!("{first:?}"), format!("{second:?}"));
    }
}

/// A null without schema has the type that its field had before, so the second time more types may
/// be known.
fn forget_learned_types(first: &Decoded, second: &mut Decoded) {
    for (first, second) in rows(first).into_iter().zip(rows_mut(second)) {
        let (Some(first), Some(second)) = (first, second) else { continue };
        if first.shape.fields.len() == second.shape.fields.len() {
            let mut fields = second.shape.fields.clone();
            for (first, second) in first.shape.fields.iter().zip(&mut fields) {
                if first.column_type.is_none() {
                    second.column_type = None;
                }
            }
            second.shape = Arc::new(RowShape { fields });
        }
    }
}

fn rows(decoded: &Decoded) -> Vec<Option<&Row>> {
    match decoded {
        Decoded::Change(event) => {
            [&event.key, &event.before, &event.after, &event.old_key].map(Option::as_ref).into()
        }
        Decoded::Tombstone { key } => vec![key.as_ref()],
        Decoded::Other { .. } | Decoded::Malformed { .. } => Vec::new(),
    }
}

fn rows_mut(decoded: &mut Decoded) -> Vec<Option<&mut Row>> {
    match decoded {
        Decoded::Change(event) => {
            let ChangeEvent { key, before, after, old_key, .. } = &mut **event;
            [key, before, after, old_key].map(Option::as_mut).into()
        }
        Decoded::Tombstone { key } => vec![key.as_mut()],
        Decoded::Other { .. } | Decoded::Malformed { .. } => Vec::new(),
    }
}

fn assert_bounded(decoded: &Decoded, bytes: usize) {
    let values = rows(decoded).into_iter().flatten().flat_map(|row| &row.values);
    let weight: usize = values.map(Value::weight).sum();
    assert!(
        weight <= bytes * WEIGHT_PER_BYTE + WEIGHT_BESIDE,
        "{bytes} bytes have become {weight} in memory"
    );
    if let Decoded::Malformed { reason } = decoded {
        assert!(!reason.is_empty() && reason.len() < bytes + 500, "{} bytes", reason.len());
    }
}

fn assert_fits<'a>(schema: &TableSchema, values: impl Iterator<Item = (usize, &'a Value)>) {
    for (column, value) in values {
        let column = &schema.columns[column];
        assert!(value.fits(&column.column_type), "{value:?} in {column:?}");
    }
}

/// Makes a table for the row after, and brings the rows and the key into it.
fn land(event: &ChangeEvent, rules: &Rules) {
    let Some(after) = event.after.as_ref().or(event.before.as_ref()) else { return };
    let of_key = event.key.as_ref().unwrap_or(after);
    let key: Vec<String> = of_key.shape.fields.iter().map(|field| field.name.clone()).collect();
    let Ok(mut schema) = evolve::create(&after.shape, &key, &[], rules) else { return };
    assert_well_formed(&schema);
    let again = evolve::create(&after.shape, &key, &[], rules);
    assert_eq!(again.as_ref(), Ok(&schema), "the same row makes another table");
    for row in [Some(after), event.before.as_ref()].into_iter().flatten() {
        let Ok(plan) = evolve::plan(&schema, &row.shape, rules) else { continue };
        schema = grown(schema, &plan, &row.shape, rules);
        if let Ok(applied) = plan.apply(row) {
            assert_eq!(applied.values.len(), plan.columns.len());
            assert_fits(&schema, plan.columns.iter().copied().zip(&applied.values));
        }
    }
    for row in [event.key.as_ref(), event.old_key.as_ref()].into_iter().flatten() {
        let Ok(plan) = evolve::key_plan(&schema, &row.shape, rules) else { continue };
        if let Ok(values) = plan.apply(row) {
            assert_fits(&schema, schema.key_indexes().into_iter().zip(&values));
        }
    }
}

/// The schema that a plan's rows are in: columns are only added, and a second look adds none.
fn grown(schema: TableSchema, plan: &Plan, shape: &Arc<RowShape>, rules: &Rules) -> TableSchema {
    let Some(successor) = plan.successor.clone() else { return schema };
    assert_well_formed(&successor);
    assert!(successor.columns.len() >= schema.columns.len());
    for (old, new) in schema.columns.iter().zip(&successor.columns) {
        assert_eq!((&old.name, &old.source_name), (&new.name, &new.source_name));
    }
    let again = evolve::plan(&successor, shape, rules).expect("a plan for its own schema");
    assert_eq!(again.successor, None, "a schema that its own rows make grow again");
    successor
}

fn assert_well_formed(schema: &TableSchema) {
    let mut names: Vec<&str> = schema.columns.iter().map(|column| column.name.as_str()).collect();
    for name in &names {
        let plain = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '_';
        assert!(!name.is_empty() && name.chars().all(plain), "`{name}` is no name of a column");
    }
    names.sort_unstable();
    assert!(names.windows(2).all(|pair| pair[0] != pair[1]), "a name stands twice in {names:?}");
    assert_eq!(schema.key_indexes().len(), schema.key.len(), "a key column is not there");
}
