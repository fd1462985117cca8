//! A table as the double keeps it: metadata as JSON, changed by the rules of the specification.

use std::path::PathBuf;

use serde_json::{Value, json};
use uuid::Uuid;

use super::refuse;
use crate::clock::now_ms;

type Checked = Result<(), (u16, String)>;

/// Snapshots may be so much older than the last change, milliseconds.
const CLOCK_DRIFT_MS: i64 = 60_000;

#[derive(Debug, Clone)]
pub(super) struct Table {
    pub(super) metadata: Value,
    /// Number of the last metadata file.
    version: i64,
    /// Where it lies.
    file: String,
}

impl Table {
    /// One of which nothing is known yet.
    pub(super) fn empty() -> Self {
        let metadata = json!({
            "format-version": 1, "last-sequence-number": 0, "last-updated-ms": 0,
            "last-column-id": 0, "current-schema-id": -1, "schemas": [],
            "default-spec-id": -1, "partition-specs": [], "last-partition-id": 999,
            "default-sort-order-id": -1, "sort-orders": [], "properties": {},
            "snapshots": [], "snapshot-log": [], "metadata-log": [], "refs": {},
        });
        Self { metadata, version: -1, file: String::new() }
    }

    /// A new one as `POST /tables` makes it: the fields get new numbers.
    pub(super) fn plain(body: &Value, location: &str) -> Result<Self, String> {
        let mut table = Self::empty();
        let mut schema = body["schema"].clone();
        let mut last = 0;
        number(&mut schema, &mut last);
        let fields = schema["fields"].as_array().cloned().unwrap_or_default();
        if fields.is_empty() {
            return Err("no fields".to_owned());
        }
        let updates = json!([
            { "action": "assign-uuid", "uuid": Uuid::new_v4().to_string() },
            { "action": "upgrade-format-version", "format-version": 2 },
            { "action": "add-schema", "schema": schema },
            { "action": "set-current-schema", "schema-id": -1 },
            { "action": "add-spec", "spec": body["partition-spec"] },
            { "action": "set-default-spec", "spec-id": -1 },
            { "action": "add-sort-order", "sort-order": { "order-id": 0, "fields": [] } },
            { "action": "set-default-sort-order", "sort-order-id": -1 },
            { "action": "set-location", "location": location },
            { "action": "set-properties", "updates": { "made-by": "the double" } },
            { "action": "set-properties", "updates": body["properties"] },
        ]);
        for update in updates.as_array().into_iter().flatten() {
            table.update(update).map_err(|(_, why)| why)?;
        }
        Ok(table)
    }

    /// As `GET` tells it.
    pub(super) fn shown(&self) -> Value {
        json!({ "metadata-location": self.file, "metadata": self.metadata, "config": {} })
    }

    /// Checks all requirements, then makes all updates, or none.
    pub(super) fn commit(&mut self, requirements: &Value, updates: &Value) -> Checked {
        let list = |value: &Value| value.as_array().cloned();
        let (Some(requirements), Some(updates)) = (list(requirements), list(updates)) else {
            return refuse(400, "requirements and updates are lists");
        };
        for requirement in &requirements {
            self.require(requirement)?;
        }
        let mut next = self.clone();
        for update in &updates {
            next.update(update)?;
        }
        for key in ["table-uuid", "location"] {
            if !next.metadata[key].is_string() {
                return refuse(400, format!("a table without {key}"));
            }
        }
        if !self.file.is_empty() {
            let entry = json!({
                "timestamp-ms": self.metadata["last-updated-ms"], "metadata-file": self.file,
            });
            next.list("metadata-log").push(entry);
        }
        next.write();
        *self = next;
        Ok(())
    }

    /// Puts the metadata into the next file, as every catalog does.
    ///
    /// # Panics
    /// When the disk refuses.
    pub(super) fn write(&mut self) {
        let last = self.metadata["last-updated-ms"].as_i64().unwrap_or(0);
        self.metadata["last-updated-ms"] = json!(now_ms().max(last + 1));
        self.version += 1;
        let location = self.metadata["location"].as_str().unwrap_or_default();
        self.file =
            format!("{location}/metadata/{:05}-{}.metadata.json", self.version, Uuid::new_v4());
        let path = local(&self.file);
        std::fs::create_dir_all(path.parent().expect("in a folder")).expect("a folder");
        std::fs::write(path, self.metadata.to_string()).expect("written");
    }

    fn list(&mut self, key: &str) -> &mut Vec<Value> {
        self.metadata[key].as_array_mut().expect("a list from the beginning")
    }

    fn has(&self, list: &str, key: &str, id: &Value) -> bool {
        let mut entries = self.metadata[list].as_array().into_iter().flatten();
        entries.any(|entry| entry[key] == *id)
    }

    fn require(&self, requirement: &Value) -> Checked {
        let metadata = &self.metadata;
        let (is, wanted) = match requirement["type"].as_str().unwrap_or_default() {
            "assert-table-uuid" => (&metadata["table-uuid"], "uuid"),
            "assert-ref-snapshot-id" => {
                let name = requirement["ref"].as_str().unwrap_or_default();
                (&metadata["refs"][name]["snapshot-id"], "snapshot-id")
            }
            "assert-current-schema-id" => (&metadata["current-schema-id"], "current-schema-id"),
            "assert-last-assigned-field-id" => {
                (&metadata["last-column-id"], "last-assigned-field-id")
            }
            "assert-default-spec-id" => (&metadata["default-spec-id"], "default-spec-id"),
            "assert-last-assigned-partition-id" => {
                (&metadata["last-partition-id"], "last-assigned-partition-id")
            }
            "assert-default-sort-order-id" => {
                (&metadata["default-sort-order-id"], "default-sort-order-id")
            }
            other => return refuse(400, format!("unknown requirement {other}")),
        };
        match requirement.get(wanted) {
            None => refuse(400, format!("{requirement} lacks {wanted}")),
            Some(wanted) if wanted == is => Ok(()),
            Some(_) => refuse(409, format!("{requirement} failed: it is {is}")),
        }
    }

    fn update(&mut self, update: &Value) -> Checked {
        let metadata = &mut self.metadata;
        match update["action"].as_str().unwrap_or_default() {
            "assign-uuid" => metadata["table-uuid"] = update["uuid"].clone(),
            "upgrade-format-version" => {
                metadata["format-version"] = update["format-version"].clone()
            }
            "set-location" => metadata["location"] = update["location"].clone(),
            "set-properties" => {
                for (key, value) in update["updates"].as_object().into_iter().flatten() {
                    metadata["properties"][key] = value.clone();
                }
            }
            "remove-properties" => {
                let removals = update["removals"].as_array().into_iter().flatten();
                let properties = metadata["properties"].as_object_mut().expect("an object");
                for key in removals.filter_map(Value::as_str) {
                    properties.remove(key);
                }
            }
            "add-schema" => return self.add_schema(&update["schema"]),
            "set-current-schema" => {
                let lists = ("schemas", "schema-id", "current-schema-id");
                return self.choose(lists, &update["schema-id"]);
            }
            "add-spec" => return self.add_spec(&update["spec"]),
            "set-default-spec" => {
                let lists = ("partition-specs", "spec-id", "default-spec-id");
                return self.choose(lists, &update["spec-id"]);
            }
            "add-sort-order" => self.list("sort-orders").push(update["sort-order"].clone()),
            "set-default-sort-order" => {
                let lists = ("sort-orders", "order-id", "default-sort-order-id");
                return self.choose(lists, &update["sort-order-id"]);
            }
            "add-snapshot" => return self.add_snapshot(&update["snapshot"]),
            "set-snapshot-ref" => return self.set_ref(update),
            "remove-snapshot-ref" => {
                let name = update["ref-name"].as_str().unwrap_or_default();
                metadata["refs"].as_object_mut().expect("an object").remove(name);
            }
            "remove-snapshots" => return self.remove_snapshots(&update["snapshot-ids"]),
            other => return refuse(400, format!("unknown update {other}")),
        }
        Ok(())
    }

    /// Makes one of a list the current one; -1 is the last.
    fn choose(&mut self, (list, key, current): (&str, &str, &str), id: &Value) -> Checked {
        let id = match id.as_i64() {
            Some(-1) => self.list(list).last().map_or(Value::Null, |entry| entry[key].clone()),
            _ => id.clone(),
        };
        if !self.has(list, key, &id) {
            return refuse(400, format!("no {key} {id}"));
        }
        self.metadata[current] = id;
        Ok(())
    }

    fn add_schema(&mut self, schema: &Value) -> Checked {
        if self.has("schemas", "schema-id", &schema["schema-id"]) {
            return refuse(400, format!("schema {} is there", schema["schema-id"]));
        }
        let last = self.metadata["last-column-id"].as_i64().unwrap_or(0);
        self.metadata["last-column-id"] = json!(last.max(highest(schema)));
        self.list("schemas").push(schema.clone());
        Ok(())
    }

    fn add_spec(&mut self, spec: &Value) -> Checked {
        let mut spec = spec.clone();
        let ids = self.list("partition-specs").iter().filter_map(|spec| spec["spec-id"].as_i64());
        let next = ids.max().map_or(0, |id| id + 1);
        if spec["spec-id"].as_i64().is_some_and(|id| id != next) {
            return refuse(400, format!("spec {} is not {next}", spec["spec-id"]));
        }
        spec["spec-id"] = json!(next);
        let mut last = self.metadata["last-partition-id"].as_i64().unwrap_or(999);
        for field in spec["fields"].as_array_mut().into_iter().flatten() {
            if field["field-id"].is_null() {
                field["field-id"] = json!(last + 1);
            }
            last = last.max(field["field-id"].as_i64().unwrap_or(0));
        }
        self.metadata["last-partition-id"] = json!(last);
        self.list("partition-specs").push(spec);
        Ok(())
    }

    fn add_snapshot(&mut self, snapshot: &Value) -> Checked {
        let last = &self.metadata["last-sequence-number"];
        let sequence = &snapshot["sequence-number"];
        if sequence.as_i64() <= last.as_i64() {
            return refuse(400, format!("sequence number {sequence} is not after {last}"));
        }
        if self.has("snapshots", "snapshot-id", &snapshot["snapshot-id"]) {
            return refuse(400, "a snapshot of this id is there");
        }
        let parent = &snapshot["parent-snapshot-id"];
        if !parent.is_null() && !self.has("snapshots", "snapshot-id", parent) {
            return refuse(400, format!("no parent {parent}"));
        }
        if !self.has("schemas", "schema-id", &snapshot["schema-id"]) {
            return refuse(400, format!("no schema {}", snapshot["schema-id"]));
        }
        let updated = self.metadata["last-updated-ms"].as_i64().unwrap_or(0);
        if snapshot["timestamp-ms"].as_i64().is_none_or(|at| at < updated - CLOCK_DRIFT_MS) {
            return refuse(400, "a snapshot before the last change");
        }
        if !snapshot["summary"]["operation"].is_string() {
            return refuse(400, "no operation");
        }
        let list = snapshot["manifest-list"].as_str().unwrap_or_default();
        if !local(list).is_file() {
            return refuse(400, format!("there is no {list}"));
        }
        self.metadata["last-sequence-number"] = sequence.clone();
        self.metadata["last-updated-ms"] = snapshot["timestamp-ms"].clone();
        self.list("snapshots").push(snapshot.clone());
        Ok(())
    }

    fn set_ref(&mut self, update: &Value) -> Checked {
        let id = &update["snapshot-id"];
        if !self.has("snapshots", "snapshot-id", id) {
            return refuse(400, format!("no snapshot {id}"));
        }
        let name = update["ref-name"].as_str().unwrap_or_default();
        let mut reference = update.clone();
        let kept = reference.as_object_mut().expect("an object");
        kept.retain(|key, value| {
            !["action", "ref-name"].contains(&key.as_str()) && !value.is_null()
        });
        if name == "main" {
            let at = self.metadata["last-updated-ms"].clone();
            self.list("snapshot-log").push(json!({ "snapshot-id": id, "timestamp-ms": at }));
            self.metadata["current-snapshot-id"] = id.clone();
        }
        self.metadata["refs"][name] = reference;
        Ok(())
    }

    fn remove_snapshots(&mut self, ids: &Value) -> Checked {
        let ids = ids.as_array().cloned().unwrap_or_default();
        let named = self.metadata["refs"].as_object().into_iter().flatten();
        let mut named = named.map(|(_, reference)| &reference["snapshot-id"]);
        if let Some(id) = named.find(|id| ids.contains(id)) {
            return refuse(400, format!("a reference names snapshot {id}"));
        }
        if let Some(id) = ids.iter().find(|id| !self.has("snapshots", "snapshot-id", id)) {
            return refuse(400, format!("no snapshot {id}"));
        }
        for list in ["snapshots", "snapshot-log"] {
            self.list(list).retain(|entry| !ids.contains(&entry["snapshot-id"]));
        }
        Ok(())
    }
}

/// The path of a `file:` URI.
fn local(uri: &str) -> PathBuf {
    let path = uri.strip_prefix("file:").unwrap_or(uri);
    PathBuf::from(format!("/{}", path.trim_start_matches('/')))
}

/// Numbers the fields anew: those of one level first, then what is inside of them.
fn number(of: &mut Value, last: &mut i64) {
    let mut take = |id: &mut Value| {
        *last += 1;
        *id = json!(*last);
    };
    match of["type"].as_str() {
        Some("struct") => {
            let fields = of["fields"].as_array_mut().expect("a struct has fields");
            fields.iter_mut().for_each(|field| take(&mut field["id"]));
            fields.iter_mut().for_each(|field| number(&mut field["type"], last));
        }
        Some("list") => {
            take(&mut of["element-id"]);
            number(&mut of["element"], last);
        }
        _ => {}
    }
}

/// The highest number of a field, of whatever depth.
fn highest(of: &Value) -> i64 {
    match of {
        Value::Object(entries) => entries
            .iter()
            .map(|(key, value)| match key.as_str() {
                "id" | "element-id" | "key-id" | "value-id" => value.as_i64().unwrap_or(0),
                _ => highest(value),
            })
            .max()
            .unwrap_or(0),
        Value::Array(items) => items.iter().map(highest).max().unwrap_or(0),
        _ => 0,
    }
}
