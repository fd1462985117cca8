//! What an operator would write under `columns` for a source's types.

/// A type and its encoding.
pub(crate) type Said = (String, Option<&'static str>);

/// Nothing: the records say it themselves.
pub(crate) fn by_schema(_: &str) -> Option<Said> {
    None
}

/// For a column of this type of PostgreSQL, where the connector runs with its defaults.
pub(crate) fn adaptive(pg_type: &str) -> Option<Said> {
    let Some(element) = pg_type.strip_suffix("[]") else { return scalar(pg_type) };
    let (column_type, encoding) = scalar(element)?;
    Some((format!("list<{column_type}>"), encoding))
}

/// For a column of this type of PostgreSQL, where the connector sends what it can as text.
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

/// For a column of this type of PostgreSQL, where bytes are hexadecimal.
pub(crate) fn hex(pg_type: &str) -> Option<Said> {
    let column_type = match pg_type {
        "bytea" => "binary",
        "bytea[]" => "list<binary>",
        _ => return None,
    };
    Some((column_type.to_owned(), Some("hex")))
}

/// For a column of this type of PostgreSQL, where decimals are text, infinite ones among them.
pub(crate) fn special_string(pg_type: &str) -> Option<Said> {
    pg_type.starts_with("numeric").then(|| ("decimal".to_owned(), Some("string")))
}

/// For a column of this type of MariaDB, where the connector runs with its defaults.
pub(crate) fn my_adaptive(my_type: &str) -> Option<Said> {
    let (base, arguments) = my_parts(my_type);
    let column_type = match base {
        "bigint" if my_type.ends_with("unsigned") => ("decimal(20,0)", Some("unsigned")),
        "int" if my_type.contains("unsigned") => ("long", None),
        "tinyint" | "smallint" | "mediumint" | "int" | "year" => ("int", None),
        "bigint" => ("long", None),
        "decimal" => return Some((format!("decimal{arguments}"), Some("base64"))),
        "float" if arguments.is_empty() => ("float", None),
        "float" | "double" => ("double", None),
        "bit" if arguments == "(1)" => ("boolean", None),
        "bit" | "binary" | "varbinary" | "blob" | "longblob" => ("binary", Some("base64")),
        "date" => ("date", Some("days")),
        "time" => ("time", Some("micros")),
        "datetime" if arguments == "(6)" => ("timestamp", Some("micros")),
        "datetime" => ("timestamp", Some("millis")),
        "timestamp" => ("timestamptz", Some("iso")),
        "point" | "geometry" | "linestring" | "polygon" => ("json", None),
        _ => return None,
    };
    Some((column_type.0.to_owned(), column_type.1))
}

/// For a column of this type of MariaDB, where the connector sends what it can as text.
pub(crate) fn my_modes(my_type: &str) -> Option<Said> {
    let (base, arguments) = my_parts(my_type);
    match base {
        "decimal" => Some((format!("decimal{arguments}"), Some("string"))),
        "binary" | "varbinary" | "blob" | "longblob" => Some(("binary".into(), Some("base64"))),
        _ => None,
    }
}

/// For a column of this type of MariaDB, where bytes are hexadecimal.
pub(crate) fn my_hex(my_type: &str) -> Option<Said> {
    let (base, _) = my_parts(my_type);
    let is_bytes = matches!(base, "binary" | "varbinary" | "blob" | "longblob");
    is_bytes.then(|| ("binary".to_owned(), Some("hex")))
}

/// `decimal` and `(10,2)` of `decimal(10,2) unsigned`.
fn my_parts(my_type: &str) -> (&str, &str) {
    let word = my_type.split(' ').next().unwrap_or_default();
    word.split_at(word.find('(').unwrap_or(word.len()))
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
