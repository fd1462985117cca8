//! Which features our tables ask of their readers, and which tables we keep away from.

use lakebed_schemas::column::TableSchema;

use super::actions::{Metadata, Protocol};
use super::schema::has_zoneless;
use crate::{Error, Result};

const DELETION_VECTORS: &str = "deletionVectors";
const ZONELESS: &str = "timestampNtz";
/// Property that lets writers use deletion vectors.
const ENABLE: &str = "delta.enableDeletionVectors";
/// Writer features under which what we do stays right. `invariants` may be listed, because Spark
/// lists it, as long as no column has one; see [`super::schema::parse`].
const WRITER_FEATURES: [&str; 4] = [DELETION_VECTORS, ZONELESS, "appendOnly", "invariants"];
const READER_FEATURES: [&str; 2] = [DELETION_VECTORS, ZONELESS];

/// The least protocol for a table with this schema.
pub(super) fn for_schema(schema: &TableSchema, deletion_vectors: bool) -> Protocol {
    let mut features = Vec::new();
    if deletion_vectors {
        features.push(DELETION_VECTORS.to_owned());
    }
    if has_zoneless(schema) {
        features.push(ZONELESS.to_owned());
    }
    if features.is_empty() {
        return Protocol {
            min_reader_version: 1,
            min_writer_version: 2,
            reader_features: None,
            writer_features: None,
        };
    }
    Protocol {
        min_reader_version: 3,
        min_writer_version: 7,
        reader_features: Some(features.clone()),
        writer_features: Some(features),
    }
}

/// The protocol that `schema` and deletion vectors, if asked for, need on top of `protocol`; `None`
/// if that one will do.
pub(super) fn upgrade(
    protocol: &Protocol,
    schema: &TableSchema,
    deletion_vectors: bool,
) -> Option<Protocol> {
    let wanted = [(deletion_vectors, DELETION_VECTORS), (has_zoneless(schema), ZONELESS)];
    let is_missing = |feature: &str| !lists(&protocol.reader_features, feature);
    let missing: Vec<&str> = wanted
        .into_iter()
        .filter_map(|(is_wanted, feature)| is_wanted.then_some(feature))
        .filter(|feature| is_missing(feature))
        .collect();
    if missing.is_empty() {
        return None;
    }
    let mut upgraded = protocol.clone();
    upgraded.min_reader_version = 3;
    upgraded.min_writer_version = 7;
    for features in [&mut upgraded.reader_features, &mut upgraded.writer_features] {
        features
            .get_or_insert_default()
            .extend(missing.iter().map(|feature| (*feature).to_owned()));
    }
    Some(upgraded)
}

fn lists(features: &Option<Vec<String>>, feature: &str) -> bool {
    features.iter().flatten().any(|listed| listed == feature)
}

/// Whether rows of a file may die in this table.
pub(super) fn has_deletion_vectors(protocol: &Protocol, metadata: &Metadata) -> bool {
    lists(&protocol.writer_features, DELETION_VECTORS) && metadata.property(ENABLE) == Some("true")
}

/// Says in the table's properties whether writers may use deletion vectors; answers whether that is
/// new.
pub(super) fn enable_deletion_vectors(metadata: &mut Metadata, on: bool) -> bool {
    let before = metadata.configuration.insert(ENABLE.to_owned(), Some(on.to_string())).flatten();
    before != Some(on.to_string())
}

/// Whether the table takes no deletes at all.
pub(super) fn is_append_only(metadata: &Metadata) -> bool {
    metadata.property("delta.appendOnly") == Some("true")
}

/// Refuses a table that asks for more than we can do.
pub(super) fn check(protocol: &Protocol, location: &str) -> Result<()> {
    let refuse = |what: String| {
        Err(Error::invalid(format!(
            "Delta table `{location}` {what}, which Lakebed does not support: let the engine that \
             turned it on drop it, or use another table"
        )))
    };
    if protocol.min_reader_version > 3 || protocol.min_writer_version > 7 {
        return refuse(format!(
            "asks for protocol {}/{}",
            protocol.min_reader_version, protocol.min_writer_version
        ));
    }
    if protocol.min_reader_version == 2 || (3..7).contains(&protocol.min_writer_version) {
        return refuse(format!(
            "asks for protocol {}/{} (constraints, change data feed, generated columns or column \
             mapping)",
            protocol.min_reader_version, protocol.min_writer_version
        ));
    }
    let known = [
        (&protocol.reader_features, &READER_FEATURES[..]),
        (&protocol.writer_features, &WRITER_FEATURES),
    ];
    for (features, known) in known {
        let foreign = features.iter().flatten().find(|feature| !known.contains(&feature.as_str()));
        if let Some(feature) = foreign {
            return refuse(format!("uses table feature `{feature}`"));
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use lakebed_schemas::column::{Column, ColumnType};

    use super::*;

    fn zoneless() -> TableSchema {
        let column_type = ColumnType::List(Box::new(ColumnType::Timestamp));
        let column = Column { name: "t".into(), source_name: "t".into(), column_type, id: 1 };
        TableSchema { columns: vec![column], ..Default::default() }
    }

    #[test]
    fn a_table_lists_what_it_needs_and_nothing_else() {
        let plain = TableSchema::default();
        assert_eq!(for_schema(&plain, false).min_reader_version, 1);
        assert_eq!(for_schema(&plain, true).reader_features, Some(vec![DELETION_VECTORS.into()]));

        let upgraded = upgrade(&for_schema(&plain, false), &zoneless(), false).expect("upgrade");
        assert_eq!(upgraded, for_schema(&zoneless(), false));
        assert_eq!(upgrade(&upgraded, &zoneless(), false), None);
        let vectors =
            upgrade(&upgraded, &plain, true).and_then(|protocol| protocol.reader_features);
        assert_eq!(vectors, Some(vec![ZONELESS.into(), DELETION_VECTORS.into()]));
    }

    #[test]
    fn a_foreign_feature_is_refused_by_name() {
        let mut protocol = for_schema(&zoneless(), true);
        assert!(check(&protocol, "t").is_ok());

        protocol.reader_features.get_or_insert_default().push("v2Checkpoint".into());

        let error = check(&protocol, "t").expect_err("refused");
        assert!(error.to_string().contains("`v2Checkpoint`"), "{error}");
    }
}
