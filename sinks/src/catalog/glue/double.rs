//! AWS Glue as far as tables need it, in this process: strict, counted, and able to fail.
//!
//! It speaks AWS JSON 1.1 as Glue does (`X-Amz-Target: AWSGlue.<call>`), so that the SDK and
//! everything between is what runs in production. It enforces what Glue enforces: `VersionId`,
//! lower case of names, lengths, comments without line breaks. Signatures are not looked at.

use std::collections::BTreeMap;

use serde_json::{Map, Value, json};

use crate::catalog::double::{self, Double, Refusal, Request, Role};

/// What goes wrong with one request; a refusal has Glue's code and an HTTP status.
pub type Fault = double::Fault<(&'static str, u16)>;

/// What Glue knows.
#[derive(Debug)]
pub struct Catalog {
    databases: BTreeMap<String, BTreeMap<String, Stored>>,
}

#[derive(Debug, Clone)]
struct Stored {
    table: Map<String, Value>,
    version: u64,
    /// Versions that are kept besides: updates that did not say `SkipArchive`.
    archived: u64,
}

/// The double; its calls are Glue's (`UpdateTable`).
pub type GlueDouble = Double<Catalog>;

impl GlueDouble {
    /// Listens on a free port of the loopback, with these databases.
    ///
    /// # Panics
    /// When there is no port.
    pub async fn start(databases: &[&str]) -> Self {
        let databases = databases.iter().map(|name| ((*name).to_owned(), BTreeMap::new()));
        Self::play(Catalog { databases: databases.collect() }).await
    }

    /// A catalog on it.
    ///
    /// # Panics
    /// Never: region and credentials are given.
    pub async fn catalog(&self, options: super::GlueOptions) -> super::Glue {
        let aws = crate::aws::AwsOptions {
            region: Some("us-east-1".to_owned()),
            access_key_id: Some("test".to_owned()),
            secret_access_key: Some("test".to_owned()),
            ..Default::default()
        };
        let aws = crate::aws::Aws::load(&aws).await.expect("given");
        let options = super::GlueOptions { endpoint: Some(self.endpoint()), ..options };
        super::Glue::new(&aws, options)
    }

    /// A table as `GetTable` tells it.
    pub fn table(&self, database: &str, name: &str) -> Option<Value> {
        let stage = self.lock();
        let stored = stage.role.databases.get(database)?.get(name)?;
        Some(shown(database, stored))
    }

    /// How many older versions of a table's entry are kept; their number is limited.
    pub fn archived(&self, database: &str, name: &str) -> u64 {
        let stage = self.lock();
        let tables = stage.role.databases.get(database);
        tables.and_then(|tables| tables.get(name)).map_or(0, |stored| stored.archived)
    }

    /// Changes a table as another program would, by `edit` of its input.
    ///
    /// # Panics
    /// When there is no such table.
    pub fn edit(&self, database: &str, name: &str, edit: impl FnOnce(&mut Map<String, Value>)) {
        let mut stage = self.lock();
        let tables = stage.role.databases.get_mut(database).expect("the database");
        let stored = tables.get_mut(name).expect("the table");
        edit(&mut stored.table);
        stored.version += 1;
    }

    /// Drops a table.
    pub fn drop_table(&self, database: &str, name: &str) {
        if let Some(tables) = self.lock().role.databases.get_mut(database) {
            tables.remove(name);
        }
    }
}

type Answer = Result<Value, (&'static str, String)>;

fn refuse(code: &'static str, message: impl Into<String>) -> Answer {
    Err((code, message.into()))
}

fn shown(database: &str, stored: &Stored) -> Value {
    let mut table = stored.table.clone();
    table.insert("DatabaseName".to_owned(), json!(database));
    table.insert("VersionId".to_owned(), json!(stored.version.to_string()));
    table.insert("CreateTime".to_owned(), json!(1_700_000_000.0));
    Value::Object(table)
}

/// A text of the request, in lower case as Glue keeps names.
fn name_of<'v>(body: &'v Value, key: &str) -> Result<String, (&'static str, String)> {
    let name: &'v str = body[key].as_str().unwrap_or_default();
    if name.is_empty() || name.len() > 255 {
        return Err(("InvalidInputException", format!("{key} has 1 to 255 characters")));
    }
    if name.chars().any(|c| c.is_control() && c != '\t') {
        return Err(("InvalidInputException", format!("{key} is one line of text")));
    }
    Ok(name.to_lowercase())
}

impl Role for Catalog {
    type Code = (&'static str, u16);

    const HEADERS: &'static str = "content-type: application/x-amz-json-1.1\r\n";

    fn call_of(request: &Request) -> &str {
        request.header("x-amz-target").trim_start_matches("AWSGlue.")
    }

    fn call(&mut self, call: &str, request: &Request) -> Result<Value, Refusal<Self::Code>> {
        let done = self.done(call, &request.json());
        done.map_err(|(code, message)| ((code, 400), message))
    }

    /// A parameter is set.
    fn foreign_change(&mut self, request: &Request) {
        let body = request.json();
        let (Ok(database), Ok(name)) =
            (name_of(&body, "DatabaseName"), name_of(&body["TableInput"], "Name"))
        else {
            return;
        };
        let Ok(tables) = self.tables(&database) else { return };
        if let Some(stored) = tables.get_mut(&name) {
            stored.version += 1;
            let version = stored.version.to_string();
            stored.table["Parameters"]["touched"] = json!(version);
        }
    }

    fn refused(((code, status), message): Refusal<Self::Code>) -> (u16, Value) {
        (status, json!({ "__type": code, "message": message, "Message": message }))
    }
}

impl Catalog {
    fn done(&mut self, call: &str, body: &Value) -> Answer {
        match call {
            "GetDatabase" => {
                let name = name_of(body, "Name")?;
                match self.databases.contains_key(&name) {
                    true => Ok(json!({ "Database": { "Name": name } })),
                    false => {
                        refuse("EntityNotFoundException", format!("Database {name} not found."))
                    }
                }
            }
            "CreateDatabase" => {
                let name = name_of(&body["DatabaseInput"], "Name")?;
                if self.databases.contains_key(&name) {
                    return refuse("AlreadyExistsException", "Database already exists.");
                }
                self.databases.insert(name, BTreeMap::new());
                Ok(json!({}))
            }
            "GetTable" => {
                let database = name_of(body, "DatabaseName")?;
                let name = name_of(body, "Name")?;
                match self.tables(&database)?.get(&name) {
                    Some(stored) => Ok(json!({ "Table": shown(&database, stored) })),
                    None => refuse("EntityNotFoundException", "Entity Not Found"),
                }
            }
            "CreateTable" => {
                let database = name_of(body, "DatabaseName")?;
                let table = checked_input(&body["TableInput"])?;
                let name = table["Name"].as_str().unwrap_or_default().to_owned();
                let tables = self.tables(&database)?;
                if tables.contains_key(&name) {
                    return refuse("AlreadyExistsException", "Table already exists.");
                }
                tables.insert(name, Stored { table, version: 0, archived: 0 });
                Ok(json!({}))
            }
            "UpdateTable" => self.update(body),
            _ => refuse("InvalidInputException", format!("{call} is not played here")),
        }
    }

    fn tables(
        &mut self,
        database: &str,
    ) -> Result<&mut BTreeMap<String, Stored>, (&'static str, String)> {
        self.databases
            .get_mut(database)
            .ok_or(("EntityNotFoundException", format!("Database {database} not found.")))
    }

    fn update(&mut self, body: &Value) -> Answer {
        let database = name_of(body, "DatabaseName")?;
        let table = checked_input(&body["TableInput"])?;
        let name = table["Name"].as_str().unwrap_or_default().to_owned();
        let wanted = body["VersionId"].as_str().map(str::to_owned);
        let Some(stored) = self.tables(&database)?.get_mut(&name) else {
            return refuse("EntityNotFoundException", "Entity Not Found");
        };
        if wanted.is_some_and(|wanted| wanted != stored.version.to_string()) {
            return refuse(
                "ConcurrentModificationException",
                "Update table failed due to concurrent modifications.",
            );
        }
        // The entry is replaced: what the input does not have is gone.
        stored.table = table;
        stored.version += 1;
        stored.archived += u64::from(body["SkipArchive"] != true);
        Ok(json!({}))
    }
}

/// A `TableInput` as Glue would keep it.
fn checked_input(input: &Value) -> Result<Map<String, Value>, (&'static str, String)> {
    let name = name_of(input, "Name")?;
    let invalid = |message: String| Err(("InvalidInputException", message));
    let Value::Object(input) = input else { return invalid("no TableInput".to_owned()) };
    let description = input.get("Description").and_then(Value::as_str).unwrap_or_default();
    if description.chars().count() > 2048 {
        return invalid("Description has at most 2048 characters".to_owned());
    }
    let descriptor = &input.get("StorageDescriptor").cloned().unwrap_or(Value::Null);
    if descriptor["Location"].as_str().unwrap_or_default().len() > 2056 {
        return invalid("Location has at most 2056 characters".to_owned());
    }
    let columns = descriptor["Columns"].as_array().cloned().unwrap_or_default();
    let mut names = std::collections::BTreeSet::new();
    for column in &columns {
        let name = name_of(column, "Name")?;
        if column["Type"].as_str().unwrap_or_default().len() > 131_072 {
            return invalid(format!("Type of {name} is too long"));
        }
        let comment = column["Comment"].as_str().unwrap_or_default();
        if comment.chars().count() > 255 || comment.contains(['\r', '\n']) {
            return Err(("ValidationException", format!("Comment of {name}: 255 on one line")));
        }
        if !names.insert(name.clone()) {
            return invalid(format!("two columns are called {name}"));
        }
    }
    let parameters = input.get("Parameters").and_then(Value::as_object);
    for (key, value) in parameters.into_iter().flatten() {
        if key.is_empty() || key.len() > 255 || value.as_str().is_none_or(|v| v.len() > 512_000) {
            return invalid(format!("parameter {key} is out of bounds"));
        }
    }
    let mut kept = input.clone();
    kept.insert("Name".to_owned(), json!(name));
    Ok(kept)
}

#[cfg(test)]
mod tests;
