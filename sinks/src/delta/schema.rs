//! Table schemas in Delta's words.

use lakebed_schemas::column::{Column, ColumnType, TableSchema};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value as Json, json};

use super::actions::Metadata;
use super::partitions;
use crate::catalog::glue::{CatalogColumn, hive_type};
use crate::table::field_ids;
use crate::{Error, Result};

/// Key of a field's metadata that holds the column's id, which our data files know it by.
const ID: &str = "lakebed.id";
/// Key of a field's metadata that holds the source's name for the column.
const SOURCE_NAME: &str = "lakebed.source_name";
/// Table property: JSON array of the key columns, in key order.
pub(super) const KEY: &str = "lakebed.key";

/// The schema that a Delta table gets for `schema`: its readers cannot widen a column later, so
/// integers are held in 64 bits and floats as doubles from the start.
#[must_use]
pub fn storage_schema(schema: &TableSchema) -> TableSchema {
    let mut stored = schema.clone();
    for column in &mut stored.columns {
        column.column_type = widest(&column.column_type);
    }
    stored
}

/// The widest type of this one's family.
pub(super) fn widest(column_type: &ColumnType) -> ColumnType {
    use ColumnType as T;
    match column_type {
        T::Int => T::Long,
        T::Float => T::Double,
        T::List(element) => T::List(Box::new(widest(element))),
        T::Struct(fields) => {
            T::Struct(fields.iter().map(|(name, field)| (name.clone(), widest(field))).collect())
        }
        other => other.clone(),
    }
}

/// Whether a zone-less timestamp occurs anywhere in the schema.
pub(super) fn has_zoneless(schema: &TableSchema) -> bool {
    schema.columns.iter().any(|column| is_zoneless(&column.column_type))
}

fn is_zoneless(column_type: &ColumnType) -> bool {
    match column_type {
        ColumnType::Timestamp => true,
        ColumnType::List(element) => is_zoneless(element),
        ColumnType::Struct(fields) => fields.iter().any(|(_, field)| is_zoneless(field)),
        _ => false,
    }
}

/// The columns of a `schemaString` as Glue shows them: types are the log's own, where others may
/// have integers that are narrower than those we read them as. `None` where there is a zone-less
/// timestamp: what that has to be called there, nobody documents.
///
/// # Errors
/// When it cannot be read.
pub(super) fn catalog_columns(schema: &str) -> Result<Option<Vec<CatalogColumn>>> {
    let mut columns = Vec::new();
    for field in parsed(schema)?.fields {
        if is_zoneless(&parse_type(&field.name, &field.data_type)?) {
            return Ok(None);
        }
        let hive_type = in_hive(&field.name, &field.data_type)?;
        let (comment, parameters) = (None, Vec::new());
        columns.push(CatalogColumn { name: field.name, hive_type, comment, parameters });
    }
    Ok(Some(columns))
}

fn in_hive(name: &str, data_type: &Json) -> Result<String> {
    Ok(match (data_type.as_str(), data_type["type"].as_str()) {
        (Some("byte"), _) => "tinyint".to_owned(),
        (Some("short"), _) => "smallint".to_owned(),
        (_, Some("array")) => format!("array<{}>", in_hive(name, &data_type["elementType"])?),
        (_, Some("struct")) => {
            let fields = data_type["fields"].as_array().into_iter().flatten();
            let field = |field: &Json| {
                let name = field["name"].as_str().unwrap_or_default().to_lowercase();
                Ok(format!("{name}:{}", in_hive(&name, &field["type"])?))
            };
            format!("struct<{}>", fields.map(field).collect::<Result<Vec<_>>>()?.join(","))
        }
        _ => hive_type(&parse_type(name, data_type)?),
    })
}

#[derive(Serialize, Deserialize)]
struct StructJson {
    #[serde(rename = "type")]
    kind: String,
    fields: Vec<FieldJson>,
}

#[derive(Serialize, Deserialize)]
struct FieldJson {
    name: String,
    #[serde(rename = "type")]
    data_type: Json,
    nullable: bool,
    #[serde(default)]
    metadata: Map<String, Json>,
}

fn type_json(column_type: &ColumnType) -> Json {
    use ColumnType as T;
    match column_type {
        T::Boolean => json!("boolean"),
        T::Int => json!("integer"),
        T::Long => json!("long"),
        T::Float => json!("float"),
        T::Double => json!("double"),
        T::Decimal { precision, scale } => json!(format!("decimal({precision},{scale})")),
        T::Date => json!("date"),
        T::Timestamp => json!("timestamp_ntz"),
        T::TimestampTz => json!("timestamp"),
        T::Text => json!("string"),
        T::Binary => json!("binary"),
        T::List(element) => {
            json!({"type": "array", "elementType": type_json(element), "containsNull": true})
        }
        T::Struct(fields) => {
            let fields: Vec<Json> = fields
                .iter()
                .map(|(name, field)| {
                    json!({"name": name, "type": type_json(field), "nullable": true, "metadata": {}})
                })
                .collect();
            json!({"type": "struct", "fields": fields})
        }
    }
}

fn parsed(schema: &str) -> Result<StructJson> {
    serde_json::from_str(schema)
        .map_err(|e| Error::corrupt("the table's schema is not readable").with_source(e))
}

/// `schemaString` of a new table's metadata.
pub(super) fn render(schema: &TableSchema) -> String {
    let schema = StructJson { kind: "struct".to_owned(), fields: fields(schema).collect() };
    text(&schema)
}

/// The `schemaString` of a table that gets columns at its end. What it says of those that it has
/// stays, be it a type that we read as a wider one or what others have noted; but nothing in it is
/// NOT NULL any more, as rows of ours may have nothing there.
///
/// # Errors
/// When the one that it has cannot be read.
pub(super) fn extended(stored: &str, schema: &TableSchema) -> Result<String> {
    let mut known = parsed(stored)?;
    for (position, field) in fields(schema).enumerate() {
        match known.fields.get_mut(position) {
            Some(known) => {
                known.nullable = true;
                known.metadata.extend(field.metadata);
            }
            None => known.fields.push(field),
        }
    }
    Ok(text(&known))
}

fn fields(schema: &TableSchema) -> impl Iterator<Item = FieldJson> {
    schema.columns.iter().map(|column| {
        let mut metadata = Map::new();
        metadata.insert(ID.to_owned(), json!(column.id));
        if column.source_name != column.name {
            metadata.insert(SOURCE_NAME.to_owned(), json!(column.source_name));
        }
        FieldJson {
            name: column.name.clone(),
            data_type: type_json(&column.column_type),
            nullable: true,
            metadata,
        }
    })
}

fn text(schema: &StructJson) -> String {
    serde_json::to_string(schema).expect("a schema of plain strings is JSON")
}

fn parse_type(name: &str, data_type: &Json) -> Result<ColumnType> {
    use ColumnType as T;
    let refuse = || {
        Error::invalid(format!(
            "column `{name}` has type {data_type}, which Lakebed does not read: drop the column or \
             use another table"
        ))
    };
    if let Some(text) = data_type.as_str() {
        return Ok(match text {
            "boolean" => T::Boolean,
            "byte" | "short" | "integer" => T::Int,
            "long" => T::Long,
            "float" => T::Float,
            "double" => T::Double,
            "date" => T::Date,
            "timestamp_ntz" => T::Timestamp,
            "timestamp" => T::TimestampTz,
            "string" => T::Text,
            "binary" => T::Binary,
            other => return parse_decimal(other).ok_or_else(refuse),
        });
    }
    match data_type["type"].as_str() {
        Some("array") => Ok(T::List(Box::new(parse_type(name, &data_type["elementType"])?))),
        Some("struct") => {
            let fields = data_type["fields"].as_array().ok_or_else(refuse)?;
            let fields = fields.iter().map(|field| {
                let nested = field["name"].as_str().ok_or_else(refuse)?;
                let nested_type = parse_type(&format!("{name}.{nested}"), &field["type"])?;
                Ok((nested.to_owned(), nested_type))
            });
            Ok(T::Struct(fields.collect::<Result<_>>()?))
        }
        _ => Err(refuse()),
    }
}

fn parse_decimal(text: &str) -> Option<ColumnType> {
    let (precision, scale) = text.strip_prefix("decimal(")?.strip_suffix(')')?.split_once(',')?;
    Some(ColumnType::Decimal {
        precision: precision.trim().parse().ok()?,
        scale: scale.trim().parse().ok()?,
    })
}

/// The schema that a table's metadata tells. Columns that others made get the next free ids.
pub(super) fn parse(metadata: &Metadata) -> Result<TableSchema> {
    let columns = parsed(&metadata.schema_string)?.fields.into_iter().map(|field| {
        if let Some(key) = field.metadata.keys().find(|key| is_constraint(key)) {
            return Err(Error::invalid(format!(
                "column `{}` has `{key}`, which Lakebed cannot honour: drop it or use another table",
                field.name
            )));
        }
        let source_name = field.metadata.get(SOURCE_NAME).and_then(Json::as_str);
        let id = field.metadata.get(ID).and_then(Json::as_i64);
        Ok(Column {
            column_type: parse_type(&field.name, &field.data_type)?,
            source_name: source_name.unwrap_or(&field.name).to_owned(),
            name: field.name,
            id: id.and_then(|id| i32::try_from(id).ok()).unwrap_or(0),
        })
    });
    let columns: Vec<Column> = columns.collect::<Result<_>>()?;
    let key = match metadata.property(KEY) {
        Some(text) => serde_json::from_str(text).map_err(|e| {
            Error::corrupt(format!("table property `{KEY}` is not readable")).with_source(e)
        })?,
        None => Vec::new(),
    };
    let partition_by = partitions::fields(metadata)?;
    let schema = TableSchema { columns, key, partition_by };
    Ok(field_ids::assign(&schema, &schema, 0))
}

fn is_constraint(key: &str) -> bool {
    key == "delta.invariants"
        || key == "delta.generationExpression"
        || key.starts_with("delta.identity.")
}

/// The head's schema with the new columns of `wanted`; refuses any other difference.
pub(super) fn evolve(head: &TableSchema, wanted: &TableSchema) -> Result<TableSchema> {
    let wanted = storage_schema(wanted);
    if wanted.partition_by != head.partition_by || wanted.key != head.key {
        return Err(Error::invalid("key and partition columns of a table cannot change"));
    }
    for (position, column) in head.columns.iter().enumerate() {
        let same = wanted.columns.get(position).is_some_and(|other| {
            other.name == column.name && other.column_type == widest(&column.column_type)
        });
        if !same {
            return Err(Error::invalid(format!(
                "column `{}` cannot be changed, moved or dropped in a Delta table: add a new one",
                column.name
            )));
        }
    }
    let mut evolved = head.clone();
    evolved.columns.extend(wanted.columns.into_iter().skip(head.columns.len()));
    let evolved = field_ids::assign(head, &evolved, 0);
    field_ids::check(&evolved)?;
    Ok(evolved)
}

pub(super) const EPOCH: chrono::NaiveDate =
    chrono::NaiveDate::from_ymd_opt(1970, 1, 1).expect("the epoch");

/// `YYYY-MM-DD`, for the years 1 to 9999.
pub(super) fn date_text(days: i32) -> Option<String> {
    use chrono::Datelike;
    let date = EPOCH.checked_add_signed(chrono::TimeDelta::try_days(i64::from(days))?)?;
    (1..=9999).contains(&date.year()).then(|| date.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::delta::actions::Format;

    fn metadata(schema: &TableSchema) -> Metadata {
        Metadata {
            id: "x".into(),
            name: None,
            description: None,
            format: Format { provider: "parquet".into(), options: Default::default() },
            schema_string: render(schema),
            partition_columns: partitions::columns(schema).expect("columns"),
            configuration: Default::default(),
            created_time: None,
        }
    }

    #[test]
    fn bronze_reads_back_with_its_partition_number_widened() {
        let bronze = lakebed_schemas::bronze::schema();

        let read = parse(&metadata(&storage_schema(&bronze))).expect("parses");

        assert_eq!(read, storage_schema(&bronze));
        assert_eq!(read.columns[1].column_type, ColumnType::Long);
    }

    #[test]
    fn evolution_adds_columns_and_nothing_else() {
        let bronze = storage_schema(&lakebed_schemas::bronze::schema());
        let mut wanted = lakebed_schemas::bronze::schema();
        wanted.columns.push(Column {
            name: "extra".into(),
            source_name: "Extra".into(),
            column_type: ColumnType::Float,
            id: 0,
        });

        let evolved = evolve(&bronze, &wanted).expect("adds");
        let added = evolved.columns.last().expect("column");
        assert_eq!((added.id, &added.column_type), (21, &ColumnType::Double));
        assert_eq!(parse(&metadata(&evolved)).expect("parses"), evolved);

        wanted.columns[3].column_type = ColumnType::Text;
        assert!(evolve(&bronze, &wanted).is_err());
        wanted.columns.remove(0);
        assert!(evolve(&bronze, &wanted).is_err());
    }

    /// A table that another engine has added columns to.
    fn with_theirs() -> (String, TableSchema) {
        let ours = storage_schema(&lakebed_schemas::bronze::schema());
        let mut stored: Json = serde_json::from_str(&render(&ours)).expect("JSON");
        let fields = stored["fields"].as_array_mut().expect("fields");
        let note = json!({"comment": "how many"});
        for (name, of) in [
            ("small", json!("short")),
            ("tiny", json!("byte")),
            ("many", json!({"type": "array", "elementType": "short", "containsNull": true})),
        ] {
            fields.push(json!({"name": name, "type": of, "nullable": false, "metadata": note}));
        }
        let mut metadata = metadata(&ours);
        metadata.schema_string = stored.to_string();
        let read = parse(&metadata).expect("parses");
        (metadata.schema_string, read)
    }

    #[test]
    fn narrow_integers_of_others_are_called_in_glue_what_they_are() {
        let (stored, read) = with_theirs();
        assert_eq!(read.columns[read.columns.len() - 3].column_type, ColumnType::Int);
        let columns = catalog_columns(&stored).expect("reads").expect("columns");
        let tail: Vec<(&str, &str)> = columns[columns.len() - 3..]
            .iter()
            .map(|column| (column.name.as_str(), column.hive_type.as_str()))
            .collect();
        assert_eq!(tail, [("small", "smallint"), ("tiny", "tinyint"), ("many", "array<smallint>")]);
        let headers = columns.iter().find(|column| column.name == "headers").expect("headers");
        assert_eq!(headers.hive_type, "array<struct<key:string,value:binary>>");
    }

    #[test]
    fn what_the_log_says_of_others_columns_outlives_a_column_of_ours() {
        let (stored, read) = with_theirs();
        let mut wanted = read.clone();
        let (name, column_type) = ("extra".to_owned(), ColumnType::Text);
        wanted.columns.push(Column { source_name: "Extra".into(), name, column_type, id: 0 });
        let evolved = field_ids::assign(&read, &wanted, 0);

        let extended = extended(&stored, &evolved).expect("extends");

        let schema: Json = serde_json::from_str(&extended).expect("JSON");
        let fields = schema["fields"].as_array().expect("fields");
        let [small, _, _, extra] = &fields[fields.len() - 4..] else { panic!("{schema}") };
        assert_eq!((&small["type"], &small["nullable"]), (&json!("short"), &json!(true)));
        assert_eq!(small["metadata"]["comment"], "how many");
        assert_eq!(extra["metadata"][SOURCE_NAME], "Extra");
        let again = Metadata { schema_string: extended, ..metadata(&evolved) };
        assert_eq!(parse(&again).expect("parses"), evolved);
    }

    #[test]
    fn a_zoneless_timestamp_is_found_wherever_it_stands() {
        let columns = |of: ColumnType| {
            let column =
                Column { name: "x".into(), source_name: "x".into(), column_type: of, id: 1 };
            let schema = TableSchema { columns: vec![column], ..TableSchema::default() };
            let columns = catalog_columns(&render(&schema)).expect("reads");
            assert_eq!(columns.is_none(), has_zoneless(&schema));
            columns
        };
        use ColumnType::{List, Struct, Timestamp, TimestampTz};
        assert_eq!(columns(Timestamp), None);
        assert_eq!(columns(List(Box::new(Struct(vec![("t".into(), Timestamp)])))), None);
        assert_ne!(columns(List(Box::new(Struct(vec![("t".into(), TimestampTz)])))), None);
    }
}
