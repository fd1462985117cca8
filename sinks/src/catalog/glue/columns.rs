//! Columns as Glue has them: Hive's types, names and comments within its bounds.

use std::collections::HashMap;

use aws_sdk_glue::types::Column;
use lakebed_schemas::column::ColumnType;

use crate::{Error, Result};

/// Characters of a column's comment, at most.
const COMMENT_MAX: usize = 255;

/// A column on its way into Glue.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct CatalogColumn {
    /// Its name.
    pub(crate) name: String,
    /// Its type, as Hive spells it.
    pub(crate) hive_type: String,
    /// What there is to say of it; of any length.
    pub(crate) comment: Option<String>,
    /// Parameters of ours.
    pub(crate) parameters: Vec<(&'static str, String)>,
}

/// Columns for an entry. What others have said of a column of the same name stays: its comment, and
/// parameters that are not ours. Columns of older schemas go: readers would offer them.
///
/// # Errors
/// `Invalid` for two names that differ in case only, which Glue folds.
pub(super) fn to_glue(columns: &[CatalogColumn], existing: &[Column]) -> Result<Vec<Column>> {
    let known: HashMap<String, &Column> =
        existing.iter().map(|column| (column.name().to_lowercase(), column)).collect();
    let mut seen = std::collections::HashSet::new();
    let mut made = Vec::with_capacity(columns.len());
    for column in columns {
        let name = column.name.to_lowercase();
        if !seen.insert(name.clone()) {
            return Err(Error::invalid(format!(
                "two columns are called `{name}` but for their case, which Glue does not keep: \
                 rename one of them"
            )));
        }
        let old = known.get(&name);
        let comment = old
            .and_then(|old| old.comment())
            .filter(|comment| !comment.is_empty())
            .or(column.comment.as_deref());
        let mut parameters = old.and_then(|old| old.parameters().cloned()).unwrap_or_default();
        parameters.extend(
            column.parameters.iter().map(|(key, value)| ((*key).to_owned(), value.clone())),
        );
        let built = Column::builder()
            .name(&name)
            .r#type(&column.hive_type)
            .set_comment(comment.map(within_bounds))
            .set_parameters((!parameters.is_empty()).then_some(parameters))
            .build();
        made.push(
            built
                .map_err(|e| Error::internal(format!("column `{name}` for Glue")).with_source(e))?,
        );
    }
    Ok(made)
}

/// A comment on one line, of at most 255 characters.
fn within_bounds(comment: &str) -> String {
    let line = comment.chars().map(|c| if c.is_control() { ' ' } else { c });
    line.take(COMMENT_MAX).collect()
}

/// The type as Hive spells it. Both kinds of timestamp are one there.
pub(crate) fn hive_type(column_type: &ColumnType) -> String {
    match column_type {
        ColumnType::Boolean => "boolean".to_owned(),
        ColumnType::Int => "int".to_owned(),
        ColumnType::Long => "bigint".to_owned(),
        ColumnType::Float => "float".to_owned(),
        ColumnType::Double => "double".to_owned(),
        ColumnType::Decimal { precision, scale } => format!("decimal({precision},{scale})"),
        ColumnType::Date => "date".to_owned(),
        ColumnType::Timestamp | ColumnType::TimestampTz => "timestamp".to_owned(),
        ColumnType::Text => "string".to_owned(),
        ColumnType::Binary => "binary".to_owned(),
        ColumnType::List(element) => format!("array<{}>", hive_type(element)),
        ColumnType::Struct(fields) => {
            let field = |(name, column_type): &(String, ColumnType)| {
                format!("{}:{}", name.to_lowercase(), hive_type(column_type))
            };
            format!("struct<{}>", fields.iter().map(field).collect::<Vec<_>>().join(","))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn column(name: &str, comment: Option<&str>) -> CatalogColumn {
        CatalogColumn {
            name: name.to_owned(),
            hive_type: "bigint".to_owned(),
            comment: comment.map(str::to_owned),
            parameters: vec![("iceberg.field.id", "7".to_owned())],
        }
    }

    #[test]
    fn types_are_spelled_as_hive_spells_them_without_blanks() {
        let headers = ColumnType::List(Box::new(ColumnType::Struct(vec![
            ("Key".to_owned(), ColumnType::Text),
            ("value".to_owned(), ColumnType::Decimal { precision: 12, scale: 2 }),
        ])));
        assert_eq!(hive_type(&headers), "array<struct<key:string,value:decimal(12,2)>>");
        assert_eq!(hive_type(&ColumnType::TimestampTz), "timestamp");
    }

    #[test]
    fn what_others_said_of_a_column_stays_and_old_columns_go() {
        let theirs = Column::builder()
            .name("id")
            .r#type("int")
            .comment("the customer's number")
            .parameters("classification", "personal")
            .parameters("iceberg.field.id", "1")
            .build()
            .expect("a column");
        let dropped = Column::builder().name("gone").r#type("int").build().expect("a column");

        let made = to_glue(
            &[column("id", Some("source: ID")), column("n", Some("source: N"))],
            &[theirs, dropped],
        )
        .expect("columns");

        assert_eq!(made.len(), 2);
        assert_eq!(made[0].comment(), Some("the customer's number"));
        let parameters = made[0].parameters().expect("parameters");
        assert_eq!(parameters["classification"], "personal");
        assert_eq!(parameters["iceberg.field.id"], "7");
        assert_eq!((made[0].r#type(), made[1].comment()), (Some("bigint"), Some("source: N")));
    }

    #[test]
    fn comments_are_cut_to_what_glue_takes_and_clashing_names_are_refused() {
        let long = format!("two\nlines\r{}", "é".repeat(300));
        let made = to_glue(&[column("a", Some(&long))], &[]).expect("columns");
        let comment = made[0].comment().expect("a comment");
        assert_eq!(comment.chars().count(), 255);
        assert!(comment.starts_with("two lines é"), "{comment}");

        let error = to_glue(&[column("a", None), column("A", None)], &[]).expect_err("clash");
        assert!(error.to_string().contains("`a`"), "{error}");
    }
}
