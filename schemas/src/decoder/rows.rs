//! Rows: the fields of an object as values of one shape.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use crate::change_event::{Field, Row, RowShape};
use crate::column::ColumnType;
use crate::column_override::ColumnOverride;
use crate::connect_schema::{RowSchema, SchemaField};
use crate::field_kind::{FieldKind, shown_type};
use crate::json::{Json, Kind};
use crate::placeholder::Placeholder;
use crate::value::Value;

/// Shapes of rows without schema that are kept. Which fields are null differs from row to row, but
/// nulls fit every shape: there is one for each set of fields and types.
const SHAPES_MAX: usize = 64;

/// Reads the row that `part` of the record holds. With a placeholder, values that equal it are
/// [`Value::Unavailable`].
pub(super) fn read(
    part: &str,
    json: Json<'_, '_>,
    schema: Option<&RowSchema>,
    shapes: &mut ShapeCache,
    placeholder: Option<&Placeholder>,
) -> Result<Row, String> {
    if json.kind() != Kind::Object {
        return Err(format!("`{part}` is not an object of fields"));
    }
    match schema {
        Some(schema) => described(part, json, schema, placeholder),
        None => shapes.read(part, json, placeholder),
    }
}

#[inline]
fn read_field(
    part: &str,
    name: &str,
    kind: &FieldKind,
    json: Json<'_, '_>,
    placeholder: Option<&Placeholder>,
) -> Result<Value, String> {
    if placeholder.is_some_and(|placeholder| placeholder.is(json, kind)) {
        return Ok(Value::Unavailable);
    }
    kind.read(json).map_err(|expected| format!("`{part}.{name}` is not {}", expected.0))
}

/// A row that a schema describes. Members that it does not know are ignored.
fn described(
    part: &str,
    json: Json<'_, '_>,
    schema: &RowSchema,
    placeholder: Option<&Placeholder>,
) -> Result<Row, String> {
    let value = |field: &SchemaField, json: Json<'_, '_>| {
        if json.is_null() && !field.optional {
            return Err(format!(
                "`{part}.{}` is null, and its schema says that it cannot be",
                field.name
            ));
        }
        read_field(part, &field.name, &field.kind, json, placeholder)
    };
    let mut values = Vec::with_capacity(schema.fields.len());
    let mut members = json.members();
    // Converters write the fields in the schema's order, each once.
    for field in &schema.fields {
        match members.next() {
            Some((name, json)) if name.is_text(&field.name) => match value(field, json) {
                Ok(value) => values.push(value),
                // The name may come again, and then this value does not count.
                Err(_) => break,
            },
            _ => break,
        }
    }
    if values.len() < schema.fields.len() || members.next().is_some() {
        values.clear();
        let last: HashMap<_, _> =
            json.members().map(|(name, json)| (name.text().unwrap_or_default(), json)).collect();
        for field in &schema.fields {
            match last.get(field.name.as_str()) {
                Some(json) => values.push(value(field, *json)?),
                None if field.optional => values.push(Value::Null),
                None => return Err(format!("`{part}.{}` is missing", field.name)),
            }
        }
    }
    Ok(Row { shape: Arc::clone(&schema.shape), values })
}

/// A shape, and how its fields are read.
#[derive(Debug)]
struct KnownShape {
    shape: Arc<RowShape>,
    kinds: Vec<FieldKind>,
}

/// The shapes of rows that no schema describes.
#[derive(Debug)]
pub(super) struct ShapeCache {
    columns: BTreeMap<String, FieldKind>,
    fields_max: usize,
    /// The latest first.
    known: Vec<KnownShape>,
}

impl ShapeCache {
    pub(super) fn new(columns: &BTreeMap<String, ColumnOverride>, fields_max: usize) -> Self {
        let columns = columns.iter().map(|(name, column)| (name.clone(), column.kind().clone()));
        Self { columns: columns.collect(), fields_max, known: Vec::new() }
    }

    fn read(
        &mut self,
        part: &str,
        json: Json<'_, '_>,
        placeholder: Option<&Placeholder>,
    ) -> Result<Row, String> {
        if let Some(values) = self.read_as_latest(part, json, placeholder) {
            return Ok(Row { shape: Arc::clone(&self.known[0].shape), values });
        }
        let members = self.unique_members(part, json)?;
        let (mut fields, mut values) = (Vec::new(), Vec::new());
        let mut kinds = Vec::new();
        for (name, json) in members {
            let kind = self.columns.get(&name).unwrap_or(&FieldKind::Inferred);
            let (value, column_type) = typed(part, &name, kind, json, placeholder)?;
            kinds.push(kind.clone());
            fields.push(Field { name, column_type });
            values.push(value);
        }
        let index = self.find(&fields).unwrap_or_else(|| self.remember(fields, kinds));
        self.known[..=index].rotate_right(1);
        Ok(Row { shape: Arc::clone(&self.known[0].shape), values })
    }

    /// Each name where it stood first, with what it is last.
    fn unique_members<'p, 'a>(
        &self,
        part: &str,
        json: Json<'p, 'a>,
    ) -> Result<Vec<(String, Json<'p, 'a>)>, String> {
        let mut members: Vec<(String, Json<'_, '_>)> = Vec::new();
        let mut places: HashMap<String, usize> = HashMap::new();
        for (name, json) in json.members() {
            let name = name.text().unwrap_or_default().into_owned();
            if let Some(place) = places.get(&name) {
                members[*place].1 = json;
                continue;
            }
            if members.len() == self.fields_max {
                return Err(format!(
                    "`{part}` has more than {} fields (`limits.fields`)",
                    self.fields_max
                ));
            }
            places.insert(name.clone(), members.len());
            members.push((name, json));
        }
        Ok(members)
    }

    /// The values, if the row is of the shape that was met last; most are.
    fn read_as_latest(
        &self,
        part: &str,
        json: Json<'_, '_>,
        placeholder: Option<&Placeholder>,
    ) -> Option<Vec<Value>> {
        let latest = self.known.first()?;
        let mut values = Vec::with_capacity(latest.kinds.len());
        let mut members = json.members();
        for (field, kind) in latest.shape.fields.iter().zip(&latest.kinds) {
            let (_, json) = members.next().filter(|(name, _)| name.is_text(&field.name))?;
            // A value that cannot be read may come again under its name, and then not count.
            values.push(read_field(part, &field.name, kind, json, placeholder).ok()?);
            if *kind == FieldKind::Inferred && !matches!(values.last(), Some(Value::Unavailable)) {
                let shown = shown_type(json);
                if shown.is_some() && shown != field.column_type {
                    return None;
                }
            }
        }
        members.next().is_none().then_some(values)
    }

    /// A known shape with these fields; a type that is not known from this row fits every type.
    fn find(&self, fields: &[Field]) -> Option<usize> {
        let fits = |(known, field): (&Field, &Field)| {
            let same = field.column_type.is_none() || known.column_type == field.column_type;
            same && known.name == field.name
        };
        self.known.iter().position(|known| {
            let fields_known = &known.shape.fields;
            fields_known.len() == fields.len() && fields_known.iter().zip(fields).all(fits)
        })
    }

    fn remember(&mut self, mut fields: Vec<Field>, kinds: Vec<FieldKind>) -> usize {
        // A null says nothing new: it has the type that its field had last.
        for field in fields.iter_mut().filter(|field| field.column_type.is_none()) {
            let of_name = |known: &KnownShape| {
                let same = known.shape.fields.iter().find(|other| other.name == field.name);
                same.and_then(|other| other.column_type.clone())
            };
            field.column_type = self.known.iter().find_map(of_name);
        }
        self.known.truncate(SHAPES_MAX - 1);
        self.known.push(KnownShape { shape: Arc::new(RowShape { fields }), kinds });
        self.known.len() - 1
    }
}

/// A value and its type, as far as this value tells it.
fn typed(
    part: &str,
    name: &str,
    kind: &FieldKind,
    json: Json<'_, '_>,
    placeholder: Option<&Placeholder>,
) -> Result<(Value, Option<ColumnType>), String> {
    let value = read_field(part, name, kind, json, placeholder)?;
    let column_type = match (kind, &value) {
        (FieldKind::Inferred, Value::Unavailable) => None,
        (FieldKind::Inferred, _) => shown_type(json),
        _ => kind.column_type(),
    };
    Ok((value, column_type))
}
