//! Kept rows in storage: small JSON files beside the table, in `_lakebed/departed/`.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use lakebed_schemas::value::Value;
use lakebed_sinks::storage::Storage;
use lakebed_sinks::{Error, Result};
use serde_json::{Map, Value as Json, json};
use uuid::Uuid;

use super::{KeptFile, KeptRow};
use crate::fold::RowMove;

const FOLDER: &str = "_lakebed/departed";

/// Version of the form, refused where it is higher.
const VERSION: u64 = 1;

/// Most files that are read at once, the newest: what is older has waited long for its other half.
const FILES_MAX: usize = 1_000;

/// How long a row is kept whose new row does not come: as long as a connector may well be down.
const KEPT_FOR: Duration = Duration::from_secs(7 * 24 * 3600);

/// The files of one table.
#[derive(Clone)]
pub(in crate::worker) struct KeptFiles {
    storage: Storage,
}

impl KeptFiles {
    /// Those of the table at this place.
    pub(in crate::worker) fn new(storage: Storage) -> Self {
        Self { storage }
    }

    /// Writes rows down.
    ///
    /// # Errors
    /// When storage does not answer or refuses.
    pub(in crate::worker) async fn write(&self, rows: Vec<KeptRow>) -> Result<KeptFile> {
        let path: Arc<str> = format!("{FOLDER}/{}.json", Uuid::now_v7().simple()).into();
        let rows_json: Vec<Json> = rows.iter().map(encode_row).collect();
        let text = json!({ "v": VERSION, "rows": rows_json }).to_string();
        self.storage.put(&path, text).await?;
        Ok(KeptFile { path, rows })
    }

    /// Reads the files that are not known yet, oldest first.
    ///
    /// # Errors
    /// When storage does not answer; `Corrupt` for a file that is none of ours, `Invalid` for one
    /// of a newer release.
    pub(in crate::worker) async fn read(
        &self,
        known: &BTreeSet<Arc<str>>,
    ) -> Result<Vec<KeptFile>> {
        let listed = self.storage.list(FOLDER).await?;
        let paths = listed.into_iter().map(|entry| entry.path);
        let mut paths: Vec<String> = paths
            .filter(|path| path.ends_with(".json") && !known.contains(path.as_str()))
            .collect();
        // Their names begin with when they were written.
        paths.sort_unstable();
        let mut files = Vec::new();
        for path in paths.split_off(paths.len().saturating_sub(FILES_MAX)) {
            // Gone between the two: another process has seen the new row.
            let Some(bytes) = self.storage.get(&path).await? else { continue };
            let rows = decode(&bytes).map_err(|problem| {
                Error::corrupt(format!("`{}` is not readable: {problem}", self.storage.uri(&path)))
            })?;
            files.push(KeptFile { path: path.into(), rows });
        }
        Ok(files)
    }

    /// Removes a file.
    ///
    /// # Errors
    /// When storage refuses.
    pub(in crate::worker) async fn remove(&self, path: &str) -> Result<()> {
        self.storage.delete(path).await
    }

    /// Removes what nobody has asked for in a week.
    ///
    /// # Errors
    /// When storage does not answer.
    pub(in crate::worker) async fn expire(&self) -> Result<()> {
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        let oldest = now.saturating_sub(KEPT_FOR).as_millis();
        for entry in self.storage.list(FOLDER).await? {
            if u128::try_from(entry.modified_ms).is_ok_and(|modified| modified < oldest) {
                self.storage.delete(&entry.path).await?;
            }
        }
        Ok(())
    }
}

fn encode_row(row: &KeptRow) -> Json {
    let RowMove { old_key, place } = row.moved;
    let values: Map<String, Json> =
        row.values.iter().map(|(name, value)| (name.clone(), encode(value))).collect();
    let place = place.map(|place| format!("{place:032x}"));
    json!({ "key": format!("{old_key:032x}"), "place": place, "values": values })
}

fn decode(bytes: &[u8]) -> std::result::Result<Vec<KeptRow>, String> {
    let document: Json = serde_json::from_slice(bytes).map_err(|error| error.to_string())?;
    let version = document["v"].as_u64().ok_or("no version")?;
    if version > VERSION {
        return Err(format!(
            "it has version {version}, this release reads {VERSION}: upgrade lakebed"
        ));
    }
    let rows = document["rows"].as_array().ok_or("no rows")?;
    rows.iter()
        .map(|row| decode_row(row).ok_or_else(|| "a row of another form".to_owned()))
        .collect()
}

fn decode_row(row: &Json) -> Option<KeptRow> {
    let hash = |json: &Json| u128::from_str_radix(json.as_str()?, 16).ok();
    let place = match &row["place"] {
        Json::Null => None,
        place => Some(hash(place)?),
    };
    let values = row["values"].as_object()?.iter();
    let values: Option<BTreeMap<String, Value>> =
        values.map(|(name, value)| Some((name.clone(), decode_value(value)?))).collect();
    Some(KeptRow { moved: RowMove { old_key: hash(&row["key"])?, place }, values: values? })
}

/// A value with its kind. Numbers are text, floating point its bits: JSON would lose both.
fn encode(value: &Value) -> Json {
    match value {
        Value::Null | Value::Unavailable | Value::OutOfRange(_) => Json::Null,
        Value::Boolean(value) => json!({ "boolean": value }),
        Value::Long(value) => json!({ "long": value.to_string() }),
        Value::Float(value) => json!({ "float": value.to_bits() }),
        Value::Double(value) => json!({ "double": value.to_bits().to_string() }),
        Value::Decimal { unscaled, scale } => json!({ "decimal": [unscaled.to_string(), scale] }),
        Value::Date(value) => json!({ "date": value }),
        Value::Timestamp(value) => json!({ "timestamp": value.to_string() }),
        Value::TimestampTz(value) => json!({ "timestamptz": value.to_string() }),
        Value::Text(value) => json!({ "text": value }),
        Value::Binary(value) => json!({ "binary": hex(value) }),
        Value::List(items) => json!({ "list": items.iter().map(encode).collect::<Vec<_>>() }),
        Value::Struct(items) => json!({ "struct": items.iter().map(encode).collect::<Vec<_>>() }),
    }
}

fn decode_value(json: &Json) -> Option<Value> {
    if json.is_null() {
        return Some(Value::Null);
    }
    let (kind, json) = json.as_object()?.iter().next()?;
    let long = || json.as_str()?.parse().ok();
    let items = || json.as_array()?.iter().map(decode_value).collect::<Option<Vec<Value>>>();
    Some(match kind.as_str() {
        "boolean" => Value::Boolean(json.as_bool()?),
        "long" => Value::Long(long()?),
        "float" => Value::Float(f32::from_bits(u32::try_from(json.as_u64()?).ok()?)),
        "double" => Value::Double(f64::from_bits(json.as_str()?.parse().ok()?)),
        "decimal" => Value::Decimal {
            unscaled: json.get(0)?.as_str()?.parse().ok()?,
            scale: u8::try_from(json.get(1)?.as_u64()?).ok()?,
        },
        "date" => Value::Date(i32::try_from(json.as_i64()?).ok()?),
        "timestamp" => Value::Timestamp(long()?),
        "timestamptz" => Value::TimestampTz(long()?),
        "text" => Value::Text(json.as_str()?.to_owned()),
        "binary" => Value::Binary(unhex(json.as_str()?)?),
        "list" => Value::List(items()?),
        "struct" => Value::Struct(items()?),
        _ => return None,
    })
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

fn unhex(text: &str) -> Option<Vec<u8>> {
    let digits = text.as_bytes().chunks(2);
    digits.map(|pair| u8::from_str_radix(std::str::from_utf8(pair).ok()?, 16).ok()).collect()
}
