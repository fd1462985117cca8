//! What an operator would write under `columns` for PostgreSQL's types.

/// A type and its encoding.
pub(crate) type Said = (String, Option<&'static str>);

/// For a column of this type, where the connector runs with its defaults.
pub(crate) fn adaptive(pg_type: &str) -> Option<Said> {
    let Some(element) = pg_type.strip_suffix("[]") else { return scalar(pg_type) };
    let (column_type, encoding) = scalar(element)?;
    Some((format!("list<{column_type}>"), encoding))
}

/// For a column of this type, where the connector sends what it can as text.
pub(crate) fn modes_string(pg_type: &str) -> Option<Said> {
    let (column_type, encoding) = match pg_type {
        "bytea" => ("binary", "base64"),
        "bytea[]" => ("list<binary>", "base64"),
        "numeric(10,2)" => ("decimal(10,2)", "string"),
        "numeric(3,-2)" => ("decimal(3,2046)", "string"),
        _ => return None,
    };
    Some((column_type.to_owned(), Some(encoding)))
}

fn scalar(pg_type: &str) -> Option<Said> {
    let column_type = match pg_type {
        "smallint" | "integer" | "types.positive" => ("int", None),
        "bigint" | "oid" | "interval" => ("long", None),
        "real" => ("float", None),
        "double precision" => ("double", None),
        "boolean" | "bit(1)" => ("boolean", None),
        "numeric" => ("decimal", Some("variable")),
        "numeric(3,-2)" => ("decimal(3,2046)", Some("base64")),
        "money" => ("decimal(38,2)", Some("base64")),
        "types.amount" => ("decimal(12,3)", Some("base64")),
        "bytea" => ("binary", Some("base64")),
        "date" => ("date", Some("days")),
        "time without time zone" => ("time", Some("micros")),
        "time(0) without time zone" | "time(3) without time zone" => ("time", Some("millis")),
        "timestamp without time zone" => ("timestamp", Some("micros")),
        "timestamp(0) without time zone" | "timestamp(3) without time zone" => {
            ("timestamp", Some("millis"))
        }
        "timestamp with time zone" | "timestamp(3) with time zone" => ("timestamptz", Some("iso")),
        "bit(8)" | "bit(70)" | "bit varying" | "bit varying(16)" => ("binary", Some("base64")),
        "point" | "line" | "lseg" | "box" | "path" | "polygon" | "circle" => ("json", None),
        "text" | "uuid" | "types.mood" | "jsonb" => ("text", None),
        other if other.starts_with("numeric(") => {
            let arguments = other.trim_start_matches("numeric");
            return Some((format!("decimal{arguments}"), Some("base64")));
        }
        _ => return None,
    };
    Some((column_type.0.to_owned(), column_type.1))
}
