//! Rules about what records can tell at all: flattened ones, those of single databases, Protobuf, and
//! snapshots.

use std::collections::BTreeMap;

use super::{Connector, Expected, Found, found};

const FLATTEN: &str = "ExtractNewRecordState";

pub(super) fn flattened_deletes(connector: &Connector, _: &Expected<'_>) -> Found {
    let prefix = connector.transformation(FLATTEN)?;
    let (new, old) = ("delete.tombstone.handling.mode", "delete.handling.mode");
    let is = |name: &str, value: &str| connector.is(&format!("{prefix}.{name}"), value);
    if is(new, "drop") || is(old, "drop") {
        return found(
            "its flattening drops deletes: rows that the source has no more stay",
            format!("set `{prefix}.{new}=rewrite-with-tombstone`"),
        );
    }
    if is(new, "rewrite-with-tombstone") || is(old, "rewrite") {
        return None;
    }
    found(
        format!(
            "`{prefix}.{new}` is not rewrite-with-tombstone: a delete tells neither time nor place"
        ),
        format!("set `{prefix}.{new}=rewrite-with-tombstone`"),
    )
}

pub(super) fn flattened_positions(connector: &Connector, _: &Expected<'_>) -> Found {
    let prefix = connector.transformation(FLATTEN)?;
    let position: &[&str] = match () {
        () if connector.is_for(&["postgres"]) => &["source.lsn", "source.txId", "source.sequence"],
        () if connector.binlog() => &["source.file", "source.pos", "source.row"],
        () if connector.is_for(&["sqlserver"]) => &["source.commit_lsn", "source.change_lsn"],
        () if connector.is_for(&["oracle"]) => &["source.commit_scn", "source.txSeq"],
        () => &[],
    };
    let wanted = ["op", "source.ts_ms", "source.snapshot"].iter().chain(position);
    let added = ["add.fields", "add.headers"].map(|name| {
        let list = connector.get(&format!("{prefix}.{name}")).unwrap_or_default();
        list.split(',').map(|field| field.trim().to_lowercase()).collect::<Vec<_>>()
    });
    // `ts_ms` alone is the connector's clock; `source.txId` may be given with another name behind `:`.
    let has = |field: &str| {
        let field = field.to_lowercase();
        let is = |given: &String| given.split(':').next() == Some(&field);
        added.iter().any(|list| list.iter().any(is))
    };
    let missing: Vec<&str> = wanted.copied().filter(|field| !has(field)).collect();
    if missing.is_empty() {
        return None;
    }
    let list = missing.join(",");
    found(
        format!(
            "its flattening leaves {list} out: repeats and snapshots cannot be told from changes"
        ),
        format!("add them to `{prefix}.add.fields` and `{prefix}.add.headers`"),
    )
}

pub(super) fn flattened_nulls(connector: &Connector, _: &Expected<'_>) -> Found {
    let name = format!("{}.replace.null.with.default", connector.transformation(FLATTEN)?);
    if connector.is(&name, "false") {
        return None;
    }
    found(
        format!("`{name}` is not false: a NULL of a column with a DEFAULT arrives as the default"),
        format!("set `{name}=false`"),
    )
}

pub(super) fn protobuf_nulls(connector: &Connector, _: &Expected<'_>) -> Found {
    let class = connector.get("value.converter")?;
    if !class.ends_with(".ProtobufConverter") {
        return None;
    }
    let name = |kind: &str| format!("value.converter.{kind}.for.nullables");
    if connector.is(&name("optional"), "true") || connector.is(&name("wrapper"), "true") {
        return None;
    }
    found(
        "Protobuf has no NULL of its own, and its converter is not told to keep them: they arrive as 0 and ''",
        format!("set `{}=true`", name("optional")),
    )
}

pub(super) fn documents(connector: &Connector, _: &Expected<'_>) -> Found {
    if !connector.is_for(&["mongodb"]) {
        return None;
    }
    let mode = connector.get("capture.mode").unwrap_or("change_streams_update_full");
    if mode.starts_with("change_streams_update_full") {
        return None;
    }
    found(
        format!("`capture.mode` is {mode}: updates come without the document"),
        "set `capture.mode=change_streams_update_full`, with `capture.mode.full.update.type=post_image` \
         where the collections keep images",
    )
}

pub(super) fn large_objects(connector: &Connector, _: &Expected<'_>) -> Found {
    if !connector.is_for(&["oracle"]) || connector.get("lob.enabled").is_some() {
        return None;
    }
    found(
        "`lob.enabled` is not decided: without it CLOB and BLOB columns are not streamed",
        "set it to true to have them, or to false to say that they may lack",
    )
}

pub(super) fn replica_identity(connector: &Connector, _: &Expected<'_>) -> Found {
    let values = connector.get("replica.identity.autoset.values")?.to_uppercase();
    let kind = ["NOTHING", "INDEX"].into_iter().find(|kind| values.contains(kind))?;
    found(
        format!(
            "`replica.identity.autoset.values` sets {kind}: deletes come without their row's key, or not at all"
        ),
        "set DEFAULT, or FULL where large values change hands with their key",
    )
}

pub(super) fn no_snapshot(connector: &Connector, _: &Expected<'_>) -> Found {
    let mode = connector.get("snapshot.mode")?.to_lowercase();
    if !["no_data", "schema_only", "never"].contains(&mode.as_str()) {
        return None;
    }
    found(
        format!(
            "`snapshot.mode` is {mode}: rows from before the connector's start come only when they change"
        ),
        "set `snapshot.mode=initial`, or have the tables read by an incremental snapshot",
    )
}

pub(super) fn swept_and_filtered(connector: &Connector, expected: &Expected<'_>) -> Found {
    let name = "snapshot.select.statement.overrides";
    connector.get(name).filter(|_| expected.sweep_ghosts)?;
    found(
        format!(
            "`{name}` is set, and `sweep_ghosts`: rows that the snapshot leaves out would be deleted"
        ),
        "remove one of them",
    )
}

/// Debezium puts `_` where a topic's name may not have what a table's has.
pub(super) fn same_topic(connector: &Connector, _: &Expected<'_>) -> Found {
    let list =
        connector.get("table.include.list").or_else(|| connector.get("collection.include.list"))?;
    let plain = |c: char| c.is_ascii_alphanumeric() || "._-".contains(c);
    let mut topics: BTreeMap<String, &str> = BTreeMap::new();
    for table in list.split(',').map(str::trim) {
        // A pattern names tables that nobody knows here.
        if table.contains(['*', '+', '[', '(', '|', '?']) {
            continue;
        }
        let topic = table.replace("\\.", ".").replace(|c: char| !plain(c), "_");
        if let Some(other) = topics.insert(topic, table)
            && other != table
        {
            return found(
                format!(
                    "tables `{other}` and `{table}` share a topic: their rows overwrite each other"
                ),
                "give one of them a topic of its own (`topic.naming.strategy`, or a router)",
            );
        }
    }
    None
}
