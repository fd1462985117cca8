//! Kafka Connect's inline schemas: parsed once, then recognised by their bytes.
//!
//! With `schemas.enable=true` every record carries its schema, which is most of its bytes. A
//! schema that was seen lately is recognised by comparing memory, which also tells where the
//! payload begins; the schema itself is neither parsed nor searched for its end again.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use crate::change_event::{Field, RowShape};
use crate::column_override::{ColumnOverride, decimal_kind};
use crate::decoder::flat;
use crate::field_kind::{BytesForm, DecimalForm, FieldKind, TemporalForm};
use crate::json::{Json, Kind};
use crate::structured::Structured;
use crate::temporal::Unit;

/// Schemas compared with the front of a record before it is parsed. Tables that share a topic or a
/// decoder are few; a miss costs one look at a byte that differs.
const RECENT_MAX: usize = 8;
/// Bytes of schemas kept in all. A source has one of a few KiB for each version of a table.
const KEPT_BYTES_MAX: usize = 32 << 20;

const OPENING: &[u8] = b"{\"schema\":";
const BETWEEN: &[u8] = b",\"payload\":";

/// A field of a row's schema.
#[derive(Debug, Clone)]
pub(crate) struct SchemaField {
    pub(crate) name: String,
    pub(crate) kind: FieldKind,
    pub(crate) optional: bool,
}

/// The schema of a row.
#[derive(Debug)]
pub(crate) struct RowSchema {
    pub(crate) fields: Vec<SchemaField>,
    pub(crate) shape: Arc<RowShape>,
}

/// What a schema was found on: a key is a row itself, a value is an envelope that holds two.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Part {
    Key,
    Value,
    /// A value that is a row itself, with fields that the flattening has added.
    FlatValue,
}

/// One inline schema and the rows it describes: `root` of a key, `before` and `after` of a value.
#[derive(Debug)]
pub(crate) struct InlineSchema {
    /// As it stood in the record.
    pub(crate) text: Arc<str>,
    /// 128 bits, hex.
    pub(crate) hash: Arc<str>,
    pub(crate) root: Option<Arc<RowSchema>>,
    pub(crate) before: Option<Arc<RowSchema>>,
    pub(crate) after: Option<Arc<RowSchema>>,
}

/// The schemas that were seen on one part of records.
#[derive(Debug)]
pub(crate) struct SchemaCache {
    part: Part,
    /// The latest first.
    recent: Vec<Arc<InlineSchema>>,
    kept: HashMap<Arc<str>, Arc<InlineSchema>>,
    kept_bytes: usize,
}

impl SchemaCache {
    pub(crate) fn new(part: Part) -> Self {
        Self { part, recent: Vec::new(), kept: HashMap::new(), kept_bytes: 0 }
    }

    /// The schema and payload of a record that begins with a schema seen lately.
    pub(crate) fn split<'a>(&mut self, bytes: &'a [u8]) -> Option<(Arc<InlineSchema>, &'a [u8])> {
        let rest = bytes.strip_prefix(OPENING)?;
        let index = self.recent.iter().position(|schema| {
            let rest = rest.strip_prefix(schema.text.as_bytes());
            rest.is_some_and(|rest| rest.starts_with(BETWEEN))
        })?;
        self.recent[..=index].rotate_right(1);
        let schema = Arc::clone(&self.recent[0]);
        let payload = &rest[schema.text.len() + BETWEEN.len()..];
        Some((schema, payload.strip_suffix(b"}")?))
    }

    /// The schema that `json` is, parsed if it is new.
    pub(crate) fn get(
        &mut self,
        json: Json<'_, '_>,
        columns: &BTreeMap<String, ColumnOverride>,
        fields_max: usize,
    ) -> Result<Arc<InlineSchema>, String> {
        let schema = match self.kept.get(json.raw()) {
            Some(schema) => Arc::clone(schema),
            None => {
                let schema = Arc::new(parse(json, self.part, columns, fields_max)?);
                self.kept_bytes += schema.text.len();
                if self.kept_bytes > KEPT_BYTES_MAX {
                    self.kept.clear();
                    self.kept_bytes = schema.text.len();
                }
                self.kept.insert(Arc::clone(&schema.text), Arc::clone(&schema));
                schema
            }
        };
        self.used(&schema);
        Ok(schema)
    }

    /// Keeps a schema among the latest.
    pub(crate) fn used(&mut self, schema: &Arc<InlineSchema>) {
        if self.recent.first().is_some_and(|latest| Arc::ptr_eq(latest, schema)) {
            return;
        }
        self.recent.retain(|other| !Arc::ptr_eq(other, schema));
        self.recent.truncate(RECENT_MAX - 1);
        self.recent.insert(0, Arc::clone(schema));
    }

    /// The text of a schema by its hash.
    pub(crate) fn text(&self, hash: &str) -> Option<Arc<str>> {
        let mut known = self.recent.iter().chain(self.kept.values());
        known.find(|schema| *schema.hash == *hash).map(|schema| Arc::clone(&schema.text))
    }
}

fn parse(
    json: Json<'_, '_>,
    part: Part,
    columns: &BTreeMap<String, ColumnOverride>,
    fields_max: usize,
) -> Result<InlineSchema, String> {
    if json.kind() != Kind::Object {
        return Err("the inline schema is not an object".to_owned());
    }
    let text: Arc<str> = json.raw().into();
    let hash = format!("{:032x}", xxhash_rust::xxh3::xxh3_128(text.as_bytes())).into();
    let mut schema = InlineSchema { text, hash, root: None, before: None, after: None };
    if !json.get("type").is_some_and(|kind| kind.is_text("struct")) {
        return Ok(schema);
    }
    let fields = || json.get("fields").into_iter().flat_map(|fields| fields.items());
    let member = |name: &str| fields().find(|f| f.get("field").is_some_and(|n| n.is_text(name)));
    let all: fn(&str) -> bool = |_| true;
    let row = |json: Json<'_, '_>| row_schema(json, columns, fields_max, all).map(Arc::new);
    if part == Part::Key {
        schema.root = Some(row(json)?);
        return Ok(schema);
    }
    if part == Part::FlatValue && (member("op").is_none() || member("source").is_none()) {
        let own = Arc::new(row_schema(json, columns, fields_max, |name| !flat::is_added(name))?);
        (schema.before, schema.after) = (Some(Arc::clone(&own)), Some(own));
        return Ok(schema);
    }
    let of = |name: &str| {
        let field = member(name);
        field.filter(|f| f.get("type").is_some_and(|t| t.is_text("struct"))).map(row)
    };
    schema.before = of("before").transpose()?;
    schema.after = of("after").transpose()?;
    // Rows of one table share one shape, so that a plan made for one serves the other. How they are
    // read is each one's own.
    if let (Some(before), Some(after)) = (&schema.before, &schema.after)
        && before.shape == after.shape
    {
        let (fields, shape) = (before.fields.clone(), Arc::clone(&after.shape));
        schema.before = Some(Arc::new(RowSchema { fields, shape }));
    }
    Ok(schema)
}

fn row_schema(
    json: Json<'_, '_>,
    columns: &BTreeMap<String, ColumnOverride>,
    fields_max: usize,
    wanted: fn(&str) -> bool,
) -> Result<RowSchema, String> {
    let list = json.get("fields").filter(|fields| fields.kind() == Kind::Array);
    let list = list.ok_or("a struct of the inline schema has no `fields`")?;
    let (mut fields, mut shape) = (Vec::new(), RowShape::default());
    for field in list.items() {
        let name = field.get("field").and_then(|name| name.text());
        let name = name.ok_or("a field of the inline schema has no name in `field`")?.into_owned();
        let column = columns.get(&name);
        if !wanted(&name) || column.is_some_and(ColumnOverride::is_excluded) {
            continue;
        }
        if fields.len() == fields_max {
            return Err(format!(
                "the inline schema has more than {fields_max} fields (`limits.fields`)"
            ));
        }
        if shape.fields.iter().any(|field| field.name == name) {
            return Err(format!("the inline schema names field `{name}` twice"));
        }
        let kind = match column {
            Some(column) => column.kind().clone(),
            None => kind(field).map_err(|what| format!("the inline schema of `{name}` {what}"))?,
        };
        shape.fields.push(Field { name: name.clone(), column_type: kind.column_type() });
        let optional = field.get("optional").and_then(|optional| optional.boolean());
        let optional = optional.unwrap_or(false) || column.is_some_and(ColumnOverride::is_masked);
        fields.push(SchemaField { name, kind, optional });
    }
    Ok(RowSchema { fields, shape: Arc::new(shape) })
}

/// How to read a field, by its base type and semantic name. Recursion is bounded by the depth of
/// the parsed document.
fn kind(schema: Json<'_, '_>) -> Result<FieldKind, String> {
    use FieldKind as K;
    use TemporalForm::{Count, Iso};
    let text = |name: &str| schema.get(name).and_then(|value| value.text());
    let base = text("type").ok_or("has no `type`")?;
    let name = text("name").unwrap_or_default();
    let semantic = name.strip_prefix("io.debezium.time.");
    let connect = name.strip_prefix("org.apache.kafka.connect.data.");
    Ok(match (base.as_ref(), semantic, connect) {
        ("int32", Some("Date"), _) | ("int32", _, Some("Date")) => K::Date,
        ("int32", Some("Time"), _) | ("int32", _, Some("Time")) => K::Time(Count(Unit::Millis)),
        ("int64", Some("MicroTime"), _) => K::Time(Count(Unit::Micros)),
        ("int64", Some("NanoTime"), _) => K::Time(Count(Unit::Nanos)),
        ("int64", Some("Timestamp"), _) | ("int64", _, Some("Timestamp")) => {
            K::Timestamp(Count(Unit::Millis))
        }
        ("int64", Some("MicroTimestamp"), _) => K::Timestamp(Count(Unit::Micros)),
        ("int64", Some("NanoTimestamp"), _) => K::Timestamp(Count(Unit::Nanos)),
        ("string", Some("ZonedTimestamp"), _) => K::TimestampTz(Iso),
        ("string", Some("IsoDate"), _) => K::IsoDate,
        ("string", Some("IsoTime"), _) => K::Time(Iso),
        ("string", Some("IsoTimestamp"), _) => K::Timestamp(Iso),
        ("bytes", _, Some("Decimal")) => decimal(schema)?,
        ("struct", ..) if name == "io.debezium.data.VariableScaleDecimal" => {
            K::DecimalText { scale: 0, form: DecimalForm::Variable }
        }
        ("struct", Some(time), _) => {
            let part = time.strip_prefix("Structured").and_then(Structured::named);
            part.map_or(K::Json, K::Structured)
        }
        ("int64", None, None) if is_unsigned(schema) => K::Unsigned,
        ("boolean", ..) => K::Boolean,
        ("int8", ..) => K::Integer(8),
        ("int16", ..) => K::Integer(16),
        ("int32", ..) => K::Integer(32),
        ("int64", ..) => K::Integer(64),
        ("float" | "float32", ..) => K::Float,
        ("double" | "float64", ..) => K::Double,
        ("string", ..) => K::Text,
        ("bytes", ..) => K::Bytes(BytesForm::Base64),
        ("array", ..) => K::List(Box::new(kind(schema.get("items").ok_or("has no `items`")?)?)),
        ("struct" | "map", ..) => K::Json,
        (other, ..) => return Err(format!("has the unknown type `{other}`")),
    })
}

/// Whether the source says (`column.propagate.source.type`) that this was an unsigned integer of 64
/// bits, which `bigint.unsigned.handling.mode=long` lets wrap around.
fn is_unsigned(schema: Json<'_, '_>) -> bool {
    let parameter = schema.get("parameters").and_then(|p| p.get("__debezium.source.column.type"));
    let source_type = parameter.and_then(|source_type| source_type.text());
    source_type.is_some_and(|source_type| {
        let source_type = source_type.to_ascii_uppercase();
        source_type == "SERIAL" || source_type.starts_with("BIGINT UNSIGNED")
    })
}

fn decimal(schema: Json<'_, '_>) -> Result<FieldKind, String> {
    let parameters = schema.get("parameters");
    let parameter = |name: &str| {
        let text = parameters?.get(name)?.text()?;
        text.parse::<i32>().ok()
    };
    let scale = parameter("scale").ok_or("is a decimal without a `scale`")?;
    let form = DecimalForm::Base64;
    // Without a precision (money) a column of the greatest one takes what fits.
    let precision = parameter("connect.decimal.precision").unwrap_or(38);
    let kind = decimal_kind(u32::try_from(precision).unwrap_or(0).max(1), scale, form);
    kind.ok_or_else(|| "is a decimal of a scale beyond all bounds".to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::column::ColumnType;
    use crate::json::Parser;

    fn schema_of(field: &str) -> Result<InlineSchema, String> {
        let text = format!("{{\"type\":\"struct\",\"fields\":[{field}]}}");
        let mut parser = Parser::default();
        let json = parser.parse(text.as_bytes(), 64).expect("json");
        parse(json, Part::Key, &BTreeMap::new(), 10)
    }

    fn column_type(field: &str) -> String {
        let schema = schema_of(field).expect(field);
        let root = schema.root.expect("a row");
        root.shape.fields[0].column_type.as_ref().expect("typed").to_string()
    }

    fn named(base: &str, name: &str) -> String {
        format!(r#"{{"type":"{base}","optional":true,"name":"{name}","version":1,"field":"f"}}"#)
    }

    fn decimal(parameters: &str) -> String {
        format!(
            r#"{{"type":"bytes","name":"org.apache.kafka.connect.data.Decimal","parameters":{{{parameters}}},"field":"f"}}"#
        )
    }

    #[test]
    fn semantic_types_become_column_types() {
        for (base, name, expected) in [
            ("int8", "", "int"),
            ("int64", "", "long"),
            ("float", "", "float"),
            ("double", "", "double"),
            ("bytes", "", "binary"),
            ("bytes", "io.debezium.data.Bits", "binary"),
            ("int32", "io.debezium.time.Date", "date"),
            ("int32", "org.apache.kafka.connect.data.Date", "date"),
            ("int32", "io.debezium.time.Time", "text"),
            ("int64", "io.debezium.time.NanoTime", "text"),
            ("int64", "io.debezium.time.Timestamp", "timestamp"),
            ("int64", "io.debezium.time.NanoTimestamp", "timestamp"),
            ("int64", "org.apache.kafka.connect.data.Timestamp", "timestamp"),
            ("string", "io.debezium.time.ZonedTimestamp", "timestamptz"),
            ("string", "io.debezium.time.IsoTimestamp", "timestamp"),
            ("string", "io.debezium.time.ZonedTime", "text"),
            ("string", "io.debezium.time.Interval", "text"),
            ("int64", "io.debezium.time.MicroDuration", "long"),
            ("double", "io.debezium.time.MicroDuration", "double"),
            ("int32", "io.debezium.time.Year", "int"),
            ("struct", "io.debezium.data.VariableScaleDecimal", "text"),
            ("struct", "io.debezium.data.geometry.Point", "text"),
            ("map", "", "text"),
            ("struct", "io.debezium.data.SparseDoubleVector", "text"),
            ("struct", "io.debezium.time.StructuredDate", "date"),
            ("struct", "io.debezium.time.StructuredTime", "text"),
            ("struct", "io.debezium.time.StructuredTimestamp", "timestamp"),
            ("struct", "io.debezium.time.StructuredZonedTimestamp", "timestamptz"),
            ("struct", "io.debezium.time.StructuredDuration", "text"),
            ("struct", "io.debezium.time.StructuredCentury", "text"),
        ] {
            assert_eq!(column_type(&named(base, name)), expected, "{base} {name}");
        }
    }

    #[test]
    fn decimals_that_no_column_holds_are_text() {
        for (parameters, expected) in [
            (r#""scale":"2","connect.decimal.precision":"10""#, "decimal(10,2)"),
            (r#""scale":"2""#, "decimal(38,2)"),
            (r#""scale":"20","connect.decimal.precision":"60""#, "text"),
            (r#""scale":"5","connect.decimal.precision":"3""#, "text"),
            (r#""scale":"2046","connect.decimal.precision":"3""#, "text"),
            (r#""scale":"-3","connect.decimal.precision":"5""#, "text"),
        ] {
            assert_eq!(column_type(&decimal(parameters)), expected, "{parameters}");
        }
        assert!(schema_of(&decimal(r#""scale":"x""#)).is_err());
        assert!(schema_of(&decimal(r#""scale":"2000000000""#)).is_err());
    }

    #[test]
    fn an_unsigned_integer_of_64_bits_is_known_by_its_propagated_type() {
        for (source_type, expected) in [
            ("BIGINT UNSIGNED", "decimal(20,0)"),
            ("BIGINT UNSIGNED ZEROFILL", "decimal(20,0)"),
            ("SERIAL", "decimal(20,0)"),
            ("BIGINT", "long"),
            ("INT UNSIGNED", "long"),
        ] {
            let field = format!(
                r#"{{"type":"int64","parameters":{{"__debezium.source.column.type":"{source_type}"}},"field":"f"}}"#
            );
            assert_eq!(column_type(&field), expected, "{source_type}");
        }
    }

    #[test]
    fn arrays_are_lists_of_their_items() {
        let items = named("int32", "io.debezium.time.Date");
        let array = format!(r#"{{"type":"array","items":{items},"field":"f"}}"#);
        let schema = schema_of(&array).expect("schema").root.expect("a row");
        let list = ColumnType::List(Box::new(ColumnType::Date));
        assert_eq!(schema.shape.fields[0].column_type, Some(list));
    }

    #[test]
    fn a_broken_schema_says_where() {
        for (field, place) in [
            (r#"{"type":"int33","field":"price"}"#, "`price` has the unknown type `int33`"),
            (r#"{"type":"int32"}"#, "no name"),
            (r#"{"field":"price"}"#, "`price` has no `type`"),
            (r#"{"type":"array","field":"price"}"#, "`price` has no `items`"),
            (r#"{"type":"int8","field":"a"},{"type":"int8","field":"a"}"#, "`a` twice"),
        ] {
            let error = schema_of(field).expect_err(field);
            assert!(error.contains(place), "{error}");
        }
        let many = [r#"{"type":"int8","field":"NAME"}"#; 11].join(",");
        assert!(schema_of(&many).is_err());
    }

    #[test]
    fn a_known_schema_is_split_off_by_its_bytes_and_nothing_else_is() {
        let mut cache = SchemaCache::new(Part::Key);
        let schema = r#"{"type":"struct","fields":[{"type":"int32","field":"id"}]}"#;
        let record = format!(r#"{{"schema":{schema},"payload":{{"id":1}}}}"#);
        assert!(cache.split(record.as_bytes()).is_none());
        let mut parser = Parser::default();
        let json = parser.parse(schema.as_bytes(), 64).expect("json");
        let known = cache.get(json, &BTreeMap::new(), 10).expect("schema");

        let (found, payload) = cache.split(record.as_bytes()).expect("known");
        assert!(Arc::ptr_eq(&found, &known));
        assert_eq!(payload, br#"{"id":1}"#);
        assert_eq!(cache.text(&known.hash).as_deref(), Some(schema));
        for other in [
            record.replace("int32", "int64"),
            record.replace(",\"payload\"", " ,\"payload\""),
            record.replace("\"payload\"", "\"payloads\""),
            record.trim_end_matches('}').to_owned(),
            record[..20].to_owned(),
        ] {
            let split = cache.split(other.as_bytes());
            // A record cut short may be split; its payload is then no JSON.
            let broken = |payload: &[u8]| Parser::default().parse(payload, 64).is_err();
            assert!(split.is_none_or(|(_, payload)| broken(payload)), "{other}");
        }
    }
}
