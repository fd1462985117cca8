//! AWS Glue as far as tables need it, in this process: strict, counted, and able to fail.
//!
//! It speaks HTTP and AWS JSON 1.1 as Glue does (`X-Amz-Target: AWSGlue.<call>`), so that the SDK
//! and everything between is what runs in production. It enforces what Glue enforces: `VersionId`,
//! lower case of names, lengths, comments without line breaks. Signatures are not looked at.

use std::collections::{BTreeMap, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use serde_json::{Map, Value, json};
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::{TcpListener, TcpStream};

/// What goes wrong with one request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Fault {
    /// It takes effect and the connection ends without an answer.
    LostReply,
    /// It has no effect and the connection ends without an answer.
    LostRequest,
    /// It is answered with a code and status, and has no effect.
    Refused(String, u16),
    /// It takes effect and is answered with a code and status.
    DoneAndRefused(String, u16),
    /// It is not answered, and takes effect right before the next request of its kind.
    LandsLate,
    /// Somebody sets a parameter of the table right before.
    ForeignParameter,
}

#[derive(Debug, Default)]
struct Catalog {
    databases: BTreeMap<String, BTreeMap<String, Stored>>,
    counts: BTreeMap<String, u64>,
    faults: BTreeMap<String, VecDeque<Fault>>,
    /// Every update meets a foreign one before it, so often.
    busy: u32,
    late: Vec<(String, Value)>,
}

#[derive(Debug, Clone)]
struct Stored {
    table: Map<String, Value>,
    version: u64,
}

/// The double; it ends with the process or the runtime.
#[derive(Debug, Clone)]
pub struct GlueDouble {
    endpoint: String,
    catalog: Arc<Mutex<Catalog>>,
}

impl GlueDouble {
    /// Listens on a free port of the loopback, with these databases.
    ///
    /// # Panics
    /// When there is no port.
    pub async fn start(databases: &[&str]) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
        let address = listener.local_addr().expect("an address");
        let catalog = Catalog {
            databases: databases.iter().map(|name| ((*name).to_owned(), BTreeMap::new())).collect(),
            ..Catalog::default()
        };
        let double =
            Self { endpoint: format!("http://{address}"), catalog: Arc::new(Mutex::new(catalog)) };
        let serving = double.clone();
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let double = serving.clone();
                tokio::spawn(async move { drop(double.serve(stream).await) });
            }
        });
        double
    }

    /// Where it listens.
    pub fn endpoint(&self) -> &str {
        &self.endpoint
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
        let options = super::GlueOptions { endpoint: Some(self.endpoint.clone()), ..options };
        super::Glue::new(&aws, options)
    }

    /// What goes wrong with the next requests of a call (`UpdateTable`), in order.
    pub fn push(&self, call: &str, fault: Fault) {
        self.lock().faults.entry(call.to_owned()).or_default().push_back(fault);
    }

    /// Somebody changes a parameter right before each of the next so many updates.
    pub fn keep_busy(&self, updates: u32) {
        self.lock().busy = updates;
    }

    /// Requests by call since the last time it was asked.
    pub fn take_counts(&self) -> BTreeMap<String, u64> {
        std::mem::take(&mut self.lock().counts)
    }

    /// A table as `GetTable` tells it.
    pub fn table(&self, database: &str, name: &str) -> Option<Value> {
        let catalog = self.lock();
        let stored = catalog.databases.get(database)?.get(name)?;
        Some(shown(database, stored))
    }

    /// Changes a table as another program would, by `edit` of its input.
    ///
    /// # Panics
    /// When there is no such table.
    pub fn edit(&self, database: &str, name: &str, edit: impl FnOnce(&mut Map<String, Value>)) {
        let mut catalog = self.lock();
        let tables = catalog.databases.get_mut(database).expect("the database");
        let stored = tables.get_mut(name).expect("the table");
        edit(&mut stored.table);
        stored.version += 1;
    }

    /// Drops a table.
    pub fn drop_table(&self, database: &str, name: &str) {
        if let Some(tables) = self.lock().databases.get_mut(database) {
            tables.remove(name);
        }
    }

    fn lock(&self) -> MutexGuard<'_, Catalog> {
        self.catalog.lock().unwrap_or_else(PoisonError::into_inner)
    }

    async fn serve(&self, stream: TcpStream) -> std::io::Result<()> {
        let mut stream = BufReader::new(stream);
        while let Some((call, body)) = read_request(&mut stream).await? {
            let Some((status, answer)) = self.answer(&call, body) else { return Ok(()) };
            let body = answer.to_string();
            let head = format!(
                "HTTP/1.1 {status} X\r\ncontent-type: application/x-amz-json-1.1\r\n\
                 content-length: {}\r\n\r\n",
                body.len()
            );
            stream.write_all(head.as_bytes()).await?;
            stream.write_all(body.as_bytes()).await?;
            stream.flush().await?;
        }
        Ok(())
    }

    /// `None` where there is no answer.
    fn answer(&self, call: &str, body: Value) -> Option<(u16, Value)> {
        let mut catalog = self.lock();
        *catalog.counts.entry(call.to_owned()).or_default() += 1;
        let landing: Vec<Value> = {
            let late = std::mem::take(&mut catalog.late);
            let (now, later) = late.into_iter().partition(|(of, _)| of == call);
            catalog.late = later;
            let now: Vec<(String, Value)> = now;
            now.into_iter().map(|(_, body)| body).collect()
        };
        for body in landing {
            drop(catalog.call(call, &body));
        }
        if call == "UpdateTable" && catalog.busy > 0 {
            catalog.busy -= 1;
            catalog.foreign_parameter(&body);
        }
        let fault = catalog.faults.get_mut(call).and_then(VecDeque::pop_front);
        match fault {
            Some(Fault::LostRequest) => return None,
            Some(Fault::LostReply) => {
                drop(catalog.call(call, &body));
                return None;
            }
            Some(Fault::LandsLate) => {
                catalog.late.push((call.to_owned(), body));
                return None;
            }
            Some(Fault::Refused(code, status)) => return Some((status, error(&code, "as told"))),
            Some(Fault::DoneAndRefused(code, status)) => {
                drop(catalog.call(call, &body));
                return Some((status, error(&code, "as told")));
            }
            Some(Fault::ForeignParameter) => catalog.foreign_parameter(&body),
            None => {}
        }
        Some(match catalog.call(call, &body) {
            Ok(answer) => (200, answer),
            Err((code, message)) => (400, error(code, &message)),
        })
    }
}

/// One request; `None` at the end of the connection.
async fn read_request(
    stream: &mut BufReader<TcpStream>,
) -> std::io::Result<Option<(String, Value)>> {
    let (mut call, mut length) = (String::new(), 0);
    let mut line = String::new();
    loop {
        line.clear();
        let read = tokio::time::timeout(Duration::from_secs(60), stream.read_line(&mut line));
        if !matches!(read.await, Ok(Ok(bytes)) if bytes > 0) {
            return Ok(None);
        }
        if line.trim().is_empty() {
            break;
        }
        let Some((name, value)) = line.split_once(':') else { continue };
        match name.to_lowercase().as_str() {
            "x-amz-target" => {
                call = value.trim().trim_start_matches("AWSGlue.").to_owned();
            }
            "content-length" => length = value.trim().parse().unwrap_or(0),
            _ => {}
        }
    }
    let mut body = vec![0; length];
    stream.read_exact(&mut body).await?;
    Ok(Some((call, serde_json::from_slice(&body).unwrap_or(Value::Null))))
}

fn error(code: &str, message: &str) -> Value {
    json!({ "__type": code, "message": message, "Message": message })
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
    Ok(name.to_lowercase())
}

impl Catalog {
    fn call(&mut self, call: &str, body: &Value) -> Answer {
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
                tables.insert(name, Stored { table, version: 0 });
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
        Ok(json!({}))
    }

    fn foreign_parameter(&mut self, body: &Value) {
        let (Ok(database), Ok(name)) =
            (name_of(body, "DatabaseName"), name_of(&body["TableInput"], "Name"))
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
}

/// A `TableInput` as Glue would keep it.
fn checked_input(input: &Value) -> Result<Map<String, Value>, (&'static str, String)> {
    let name = name_of(input, "Name")?;
    let invalid = |message: String| Err(("InvalidInputException", message));
    let Value::Object(input) = input else { return invalid("no TableInput".to_owned()) };
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
