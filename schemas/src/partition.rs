//! Table partitioning: what a table is divided by, and how a row's value becomes a partition value.
//!
//! The transforms are those of the Iceberg specification, to the bit. What they are in each format
//! (a partition spec in Iceberg, columns in Delta) is the tables' business.

mod murmur3;
mod text;
mod transform;

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use crate::column::{Column, ColumnType, TableSchema};
use crate::config::TableFormat;
pub use text::{decimal_text, folder, partition_text};

/// What is made of a column's value.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Transform {
    /// The value itself.
    Identity,
    /// Years since 1970.
    Year,
    /// Months since January 1970.
    Month,
    /// Days since 1970-01-01.
    Day,
    /// Hours since 1970-01-01T00:00.
    Hour,
    /// A hash of the value, modulo the number of buckets (1 to 2³¹ − 1).
    Bucket(u32),
    /// Text cut to so many characters; numbers rounded down to a multiple (1 to 2³¹ − 1).
    Truncate(u32),
}

/// Names of the transforms as they are configured.
const NAMES: [&str; 7] = ["identity", "year", "month", "day", "hour", "bucket", "truncate"];

impl Transform {
    /// Its name in a configuration.
    pub fn name(self) -> &'static str {
        match self {
            Self::Identity => "identity",
            Self::Year => "year",
            Self::Month => "month",
            Self::Day => "day",
            Self::Hour => "hour",
            Self::Bucket(_) => "bucket",
            Self::Truncate(_) => "truncate",
        }
    }

    /// What Iceberg's conventions hang on the column's name to name the partition field.
    fn suffix(self) -> &'static str {
        match self {
            Self::Identity => "",
            Self::Year => "_year",
            Self::Month => "_month",
            Self::Day => "_day",
            Self::Hour => "_hour",
            Self::Bucket(_) => "_bucket",
            Self::Truncate(_) => "_trunc",
        }
    }

    fn is_of_time(self) -> bool {
        matches!(self, Self::Year | Self::Month | Self::Day | Self::Hour)
    }
}

/// One entry of a table's `partition_by`: a transform of a column.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PartitionBy {
    /// What is made of the column's values.
    pub transform: Transform,
    /// The column, by the source's name or by the table's.
    pub column: String,
}

/// Written as it is configured: `region`, `day(created_at)`, `bucket(16, id)`.
impl fmt::Display for PartitionBy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let column = &self.column;
        match self.transform {
            // A name that would be read as a transform.
            Transform::Identity if column.contains('(') => write!(f, "identity({column})"),
            Transform::Identity => f.write_str(column),
            Transform::Bucket(width) | Transform::Truncate(width) => {
                write!(f, "{}({width}, {column})", self.transform.name())
            }
            other => write!(f, "{}({column})", other.name()),
        }
    }
}

/// Why a text is no entry of `partition_by`.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{message}; {next_move}")]
pub struct NotAPartition {
    /// What is wrong.
    pub message: String,
    /// What to do about it.
    pub next_move: String,
}

impl FromStr for PartitionBy {
    type Err = NotAPartition;

    fn from_str(text: &str) -> Result<Self, NotAPartition> {
        let refused = |message: String, next_move: String| NotAPartition { message, next_move };
        let text = text.trim();
        let Some((name, inside)) = text.split_once('(') else {
            let next = "name a column, such as `region` or `day(created_at)`".to_owned();
            return match text.is_empty() {
                true => Err(refused("is empty".to_owned(), next)),
                false => Ok(Self { transform: Transform::Identity, column: text.to_owned() }),
            };
        };
        let name = name.trim().to_lowercase();
        let inside = inside.strip_suffix(')').map(str::trim).ok_or_else(|| {
            refused("has no closing `)`".to_owned(), format!("write it like `{}`", example(&name)))
        })?;
        let (width, column) = match (name.as_str(), inside.split_once(',')) {
            ("bucket" | "truncate", Some((width, column))) => (width.trim(), column.trim()),
            ("bucket" | "truncate", None) => {
                let what = if name == "bucket" { "a number of buckets" } else { "a width" };
                let next = format!("write it like `{}`", example(&name));
                return Err(refused(format!("`{name}` needs {what} and a column"), next));
            }
            (other, _) if NAMES.contains(&other) => ("", inside),
            (other, _) => {
                return Err(refused(format!("there is no transform `{other}`"), nearest(other)));
            }
        };
        if column.is_empty() {
            let next = format!("write it like `{}`", example(&name));
            return Err(refused(format!("`{name}` names no column"), next));
        }
        let width = || -> Result<u32, NotAPartition> {
            let width = width.parse::<u32>().ok().filter(|width| (1..1 << 31).contains(width));
            width.ok_or_else(|| {
                let next = format!("write it like `{}`", example(&name));
                refused(format!("`{name}` takes a whole number from 1 first"), next)
            })
        };
        let transform = match name.as_str() {
            "identity" => Transform::Identity,
            "year" => Transform::Year,
            "month" => Transform::Month,
            "day" => Transform::Day,
            "hour" => Transform::Hour,
            "bucket" => Transform::Bucket(width()?),
            _ => Transform::Truncate(width()?),
        };
        Ok(Self { transform, column: column.to_owned() })
    }
}

fn example(name: &str) -> String {
    match name {
        "bucket" => "bucket(16, id)".to_owned(),
        "truncate" => "truncate(4, name)".to_owned(),
        name if NAMES.contains(&name) => format!("{name}(created_at)"),
        _ => "day(created_at)".to_owned(),
    }
}

fn nearest(word: &str) -> String {
    let distance = |name: &&&str| strsim::damerau_levenshtein(word, name);
    match NAMES.iter().min_by_key(distance).filter(|name| distance(name) <= 1 + name.len() / 3) {
        Some(name) => format!("did you mean `{}`?", example(name)),
        None => format!("there are `{}`", NAMES.join("`, `")),
    }
}

/// One thing that a table is partitioned by. The order of fields is that of its partition values.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PartitionField {
    /// Its own name: unique in the table, and among the columns, too, unless it is the column.
    /// Where the table has a column of that name, its rows hold the partition value.
    pub name: String,
    /// Name of the column that it is made of, in the table.
    pub column: String,
    /// What is made of the column's values.
    pub transform: Transform,
}

impl PartitionField {
    /// Partitions by the values of a column.
    pub fn identity(column: impl Into<String>) -> Self {
        let column = column.into();
        Self { name: column.clone(), column, transform: Transform::Identity }
    }

    /// Whether it is a column of the source, as it is.
    pub fn is_identity(&self) -> bool {
        self.transform == Transform::Identity
    }

    /// As it would be configured, with the table's name of the column.
    pub fn configured(&self) -> PartitionBy {
        PartitionBy { transform: self.transform, column: self.column.clone() }
    }
}

/// Why a table cannot be partitioned as configured.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Unpartitionable {
    /// There is no such column.
    #[error(
        "`partition_by` names column `{0}`, which the first records do not have: name a column that every table row can have, by the source's name"
    )]
    Missing(String),
    /// The column's type does not go with the transform.
    #[error(
        "`partition_by` says `{by}`, and column `{by_column}` is {found}: {takes}",
        by_column = by.column
    )]
    Type {
        /// The entry.
        by: PartitionBy,
        /// Type of the column.
        found: ColumnType,
        /// What the transform takes.
        takes: String,
    },
    /// Readers of Delta tables do not agree about partition values of this type.
    #[error(
        "`partition_by` says `{by}`, and column `{by_column}` is {found}: readers of Delta tables differ about partitions of that type, take {instead}",
        by_column = by.column
    )]
    Disputed {
        /// The entry.
        by: PartitionBy,
        /// Type of the column.
        found: ColumnType,
        /// What to take instead.
        instead: String,
    },
}

/// What a new table with these columns is partitioned by.
///
/// # Errors
/// When a column is not there or cannot be partitioned by.
pub fn fields(
    schema: &TableSchema,
    by: &[PartitionBy],
    format: TableFormat,
) -> Result<Vec<PartitionField>, Unpartitionable> {
    let mut fields: Vec<PartitionField> = Vec::with_capacity(by.len());
    for by in by {
        let column =
            find(schema, &by.column).ok_or_else(|| Unpartitionable::Missing(by.column.clone()))?;
        let column = &schema.columns[column];
        if !by.transform.accepts(&column.column_type) {
            let takes = by.transform.accepted();
            let found = column.column_type.clone();
            return Err(Unpartitionable::Type { by: by.clone(), found, takes });
        }
        if format == TableFormat::Delta
            && let Some(instead) = disputed(by, &column.column_type)
        {
            let found = column.column_type.clone();
            return Err(Unpartitionable::Disputed { by: by.clone(), found, instead });
        }
        let taken = |name: &str| {
            schema.index_of(name).is_some() || fields.iter().any(|field| field.name == name)
        };
        let name = match by.transform {
            Transform::Identity => column.name.clone(),
            transform => {
                let base = format!("{}{}", column.name, transform.suffix());
                crate::evolve::column_name(&base, taken)
            }
        };
        fields.push(PartitionField { name, column: column.name.clone(), transform: by.transform });
    }
    Ok(fields)
}

/// What to take instead of a partition column of Delta that readers do not agree about: older ones
/// spell moments otherwise, and ClickHouse gives wrong values for wide decimals.
fn disputed(by: &PartitionBy, column_type: &ColumnType) -> Option<String> {
    let PartitionBy { transform, column } = by;
    let keeps_type = matches!(transform, Transform::Identity | Transform::Truncate(_));
    match column_type {
        ColumnType::Timestamp | ColumnType::TimestampTz if keeps_type => {
            Some(format!("`day({column})` or `hour({column})`"))
        }
        ColumnType::Decimal { .. } if keeps_type => Some(format!("`bucket(16, {column})`")),
        _ => None,
    }
}

/// The columns that a table without transforms of its own (Delta) needs for those of
/// `partition_by`: each holds the partition value of its row, as [`Transform::stored`] says.
pub fn value_columns(schema: &TableSchema) -> Vec<Column> {
    let fields = schema.partition_by.iter().filter(|field| !field.is_identity());
    let columns = fields.filter_map(|field| {
        let of = &schema.columns[schema.index_of(&field.column)?];
        Some(Column {
            name: field.name.clone(),
            source_name: field.configured().to_string(),
            column_type: field.transform.stored_as(&of.column_type),
            id: 0,
        })
    });
    columns.collect()
}

/// The column that a configuration names: by the source's name, else by the table's.
fn find(schema: &TableSchema, name: &str) -> Option<usize> {
    schema.index_of_source(name).or_else(|| schema.index_of(name))
}

/// Whether a table is partitioned as configured.
pub fn is_as_configured(schema: &TableSchema, by: &[PartitionBy]) -> bool {
    schema.partition_by.len() == by.len()
        && schema.partition_by.iter().zip(by).all(|(field, by)| {
            let column = find(schema, &by.column).map(|at| &schema.columns[at].name);
            field.transform == by.transform && column == Some(&field.column)
        })
}

/// Two entries of which one makes the other needless, by index.
pub fn redundant(by: &[PartitionBy]) -> Option<(usize, usize)> {
    let same = |a: &PartitionBy, b: &PartitionBy| {
        a.column == b.column
            && (a.transform == b.transform || a.transform.is_of_time() && b.transform.is_of_time())
    };
    (1..by.len()).find_map(|at| {
        let before = by[..at].iter().position(|other| same(other, &by[at]))?;
        Some((before, at))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parsed(text: &str) -> PartitionBy {
        text.parse().expect("an entry")
    }

    #[test]
    fn entries_are_read_and_written_alike() {
        for text in [
            "region",
            "day(created_at)",
            "bucket(16, id)",
            "truncate(4, name)",
            "identity(odd (name))",
            "hour(Created At)",
        ] {
            assert_eq!(parsed(text).to_string(), text);
        }
        assert_eq!(parsed(" Bucket( 8 ,id ) ").to_string(), "bucket(8, id)");
        assert_eq!(parsed("identity(region)").to_string(), "region");
    }

    #[test]
    fn mistakes_name_the_next_move() {
        let says = |text: &str| text.parse::<PartitionBy>().expect_err("a mistake").to_string();
        assert_eq!(
            says("dya(created_at)"),
            "there is no transform `dya`; did you mean `day(created_at)`?"
        );
        assert!(says("days(x)").contains("`day(created_at)`"), "{}", says("days(x)"));
        assert!(says("trunc(4, x)").contains("`truncate(4, name)`"), "{}", says("trunc(4, x)"));
        assert!(says("zebra(x)").contains("`hour`"), "{}", says("zebra(x)"));
        assert!(says("bucket(id)").contains("number of buckets"), "{}", says("bucket(id)"));
        for wrong in
            ["bucket(id, 16)", "bucket(0, id)", "bucket(-1, id)", "truncate(2147483648, a)"]
        {
            assert!(says(wrong).contains("whole number from 1"), "{wrong}: {}", says(wrong));
        }
        assert!(says("day(x").contains("closing"), "{}", says("day(x"));
        assert!(says("day()").contains("names no column") && says(" ").contains("is empty"));
        assert!(says("bucket(4, )").contains("names no column"));
    }

    #[test]
    fn an_entry_that_another_one_holds_is_found() {
        let by = |texts: &[&str]| texts.iter().map(|text| parsed(text)).collect::<Vec<_>>();
        assert_eq!(redundant(&by(&["region", "day(a)", "bucket(4, region)", "day(b)"])), None);
        assert_eq!(redundant(&by(&["region", "month(a)", "day(a)"])), Some((1, 2)));
        assert_eq!(redundant(&by(&["region", "region"])), Some((0, 1)));
        assert_eq!(redundant(&by(&["bucket(4, a)", "bucket(8, a)"])), None);
    }

    #[test]
    fn fields_are_named_by_convention_and_never_as_a_column() {
        let column = |name: &str, column_type| crate::column::Column {
            name: name.to_lowercase(),
            source_name: name.to_owned(),
            column_type,
            id: 0,
        };
        let columns = vec![
            column("Id", ColumnType::Long),
            column("at", ColumnType::TimestampTz),
            column("at_day", ColumnType::Text),
            column("score", ColumnType::Double),
        ];
        let schema = TableSchema { columns, ..TableSchema::default() };
        let by = |texts: &[&str]| texts.iter().map(|text| parsed(text)).collect::<Vec<_>>();
        let named = |texts: &[&str]| {
            let fields = fields(&schema, &by(texts), TableFormat::Iceberg).expect("fields");
            fields.into_iter().map(|field| field.name).collect::<Vec<_>>()
        };
        assert_eq!(
            named(&["day(at)", "bucket(16, Id)", "bucket(8, id)", "truncate(10, id)", "at_day"]),
            ["at_day__2", "id_bucket", "id_bucket__2", "id_trunc", "at_day"]
        );
        let refused = |text: &str| {
            let refused = fields(&schema, &by(&[text]), TableFormat::Iceberg);
            refused.expect_err("refused").to_string()
        };
        assert!(refused("nothing").contains("`nothing`"), "{}", refused("nothing"));
        assert!(refused("day(id)").contains("date, timestamp"), "{}", refused("day(id)"));
        assert!(refused("score").contains("double"), "{}", refused("score"));

        let mut table = schema.clone();
        let in_delta = |text: &str| fields(&schema, &by(&[text]), TableFormat::Delta);
        assert!(fields(&schema, &by(&["at"]), TableFormat::Iceberg).is_ok());
        let moment = in_delta("at").expect_err("refused").to_string();
        assert!(moment.contains("take `day(at)` or `hour(at)`"), "{moment}");
        assert!(in_delta("day(at)").is_ok());

        let entries = by(&["day(at)", "bucket(16, Id)"]);
        table.partition_by = fields(&schema, &entries, TableFormat::Iceberg).expect("fields");
        assert!(is_as_configured(&table, &by(&["day(at)", "bucket(16, id)"])));
        assert!(!is_as_configured(&table, &by(&["bucket(16, id)", "day(at)"])));
        assert!(!is_as_configured(&table, &by(&["day(at)"])));
        assert!(!is_as_configured(&table, &by(&["day(at)", "bucket(8, id)"])));
    }
}
