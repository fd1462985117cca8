//! A REST catalog in this process: strict, counted, and able to fail.
//!
//! It knows tables as JSON alone (`table`): requirements and updates are checked and made by rules
//! of its own, and metadata files are written where a catalog would write them.

mod table;

use std::collections::{BTreeMap, BTreeSet};

use serde_json::{Value, json};

use super::{LoginOptions, Rest, RestOptions};
use crate::catalog::double::{self, Double, Refusal, Request, Role};
use table::Table;

/// What goes wrong with one request; a refusal has an HTTP status.
pub type Fault = double::Fault<u16>;

/// What the catalog is like.
#[derive(Debug, Clone, Default)]
pub struct Manners {
    /// Whether tables can be prepared.
    pub staging: Staging,
    /// Everything but tokens wants one; a token is good for so many requests.
    pub token_uses: Option<u32>,
    /// Seconds that a token is said to be good for.
    pub token_seconds: Option<u64>,
    /// Where tables lie.
    pub places: Places,
    /// Whether a new table that is made plainly has its columns alone.
    pub forgets: bool,
    /// Whether it looks after files itself, and says so (`s3.delete-enabled=false`).
    pub keeps_files: bool,
}

/// Where tables lie.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub enum Places {
    /// Where it is told.
    #[default]
    Told,
    /// There, whatever it is told.
    Own(String),
    /// Where [`RestDouble::choose`] says; to be told a place is refused.
    Chosen,
}

/// Whether tables can be prepared (`stage-create`).
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Staging {
    /// Yes.
    #[default]
    Known,
    /// It is refused.
    Refused,
    /// It is answered, and the table is not known afterwards.
    Forgotten,
}

/// What the catalog knows.
#[derive(Debug, Default)]
pub struct State {
    manners: Manners,
    namespaces: BTreeSet<String>,
    tables: BTreeMap<(String, String), Table>,
    /// Places of tables by their names.
    places: BTreeMap<String, String>,
    /// Number of the last token, and the requests it is yet good for.
    token: (u64, u32),
}

/// The double; its calls have the names of [`Role::call_of`] (`commit`, `load`).
pub type RestDouble = Double<State>;

/// Client id and secret of the tokens.
pub const CLIENT: (&str, &str) = ("lakebed", "the secret");
const PREFIX: &str = "/api/v1/lakes/one%2Ftwo/";

type Reply = Result<Value, Refusal<u16>>;

fn refuse<T>(status: u16, message: impl Into<String>) -> Result<T, (u16, String)> {
    Err((status, message.into()))
}

impl RestDouble {
    /// Listens on a free port of the loopback, with these namespaces.
    ///
    /// # Panics
    /// When there is no port.
    pub async fn start(namespaces: &[&str], manners: Manners) -> Self {
        let namespaces = namespaces.iter().map(|name| (*name).to_owned()).collect();
        Self::play(State { manners, namespaces, ..State::default() }).await
    }

    /// Its address, without `/v1`.
    pub fn uri(&self) -> String {
        format!("{}/api", self.endpoint())
    }

    /// A catalog on it, with the login that it wants.
    ///
    /// # Panics
    /// Never: its address is one.
    pub fn catalog(&self, options: RestOptions) -> Rest {
        let login = match self.lock().role.manners.token_uses {
            None => LoginOptions::None,
            Some(_) => LoginOptions::OAuth2 {
                token_uri: None,
                client_id: CLIENT.0.to_owned(),
                client_secret: CLIENT.1.to_owned(),
                scope: None,
            },
        };
        let warehouse = Some("one/two".to_owned());
        let uri = self.uri();
        Rest::open(RestOptions { uri, warehouse, login, ..options }).expect("an address")
    }

    /// The place that a table of this name gets, where places are [`Places::Chosen`].
    pub fn choose(&self, name: &str, location: &str) {
        self.lock().role.places.insert(name.to_owned(), location.to_owned());
    }

    /// A table's metadata.
    pub fn metadata(&self, namespace: &str, name: &str) -> Option<Value> {
        let key = (namespace.to_owned(), name.to_owned());
        self.lock().role.tables.get(&key).map(|table| table.metadata.clone())
    }

    /// Changes a table as another program would, by the updates of the specification.
    ///
    /// # Panics
    /// When there is no such table, or it refuses.
    pub fn change(&self, namespace: &str, name: &str, updates: &Value) {
        let key = (namespace.to_owned(), name.to_owned());
        let mut stage = self.lock();
        let table = stage.role.tables.get_mut(&key).expect("the table");
        table.commit(&json!([]), updates).expect("taken");
    }

    /// Drops a table, and leaves its files.
    pub fn drop_table(&self, namespace: &str, name: &str) {
        self.lock().role.tables.remove(&(namespace.to_owned(), name.to_owned()));
    }
}

/// Namespace and table that the path names.
fn key_of(request: &Request) -> (String, String) {
    let mut names = request.path.strip_prefix(PREFIX).unwrap_or_default().split('/').skip(1);
    let namespace = names.next().unwrap_or_default().to_owned();
    (namespace, names.nth(1).unwrap_or_default().to_owned())
}

impl Role for State {
    type Code = u16;

    const HEADERS: &'static str = "content-type: application/json\r\nretry-after: 0\r\n";

    fn call_of(request: &Request) -> &str {
        let place = request.path.strip_prefix(PREFIX).unwrap_or_default();
        let depth = place.split('/').count();
        match (request.method.as_str(), request.path.as_str(), depth) {
            ("GET", "/api/v1/config", _) if request.query == "warehouse=one%2Ftwo" => "config",
            ("POST", "/api/v1/oauth/tokens", _) => "token",
            ("POST", _, 1) => "create_namespace",
            ("GET", _, 2) => "namespace",
            ("GET", _, 3) => "list",
            ("POST", _, 3) => "create",
            ("GET", _, 4) => "load",
            ("POST", _, 4) => "commit",
            _ => "unknown",
        }
    }

    fn admit(&mut self, call: &str, request: &Request) -> Result<(), Refusal<u16>> {
        if self.manners.token_uses.is_none() || call == "token" {
            return Ok(());
        }
        let (number, uses) = self.token;
        if request.header("authorization") != format!("Bearer token{number}") || uses == 0 {
            return refuse(401, "no token that is good");
        }
        self.token.1 -= 1;
        Ok(())
    }

    fn call(&mut self, call: &str, request: &Request) -> Reply {
        let (namespace, name) = key_of(request);
        match call {
            "config" => Ok(json!({
                "defaults": {
                    "prefix": "elsewhere",
                    "s3.delete-enabled": (!self.manners.keeps_files).to_string(),
                },
                "overrides": { "prefix": "lakes/one%2Ftwo" },
            })),
            "token" => self.new_token(&request.body),
            "create_namespace" => {
                let name = request.json()["namespace"][0].as_str().unwrap_or_default().to_owned();
                match name.is_empty() || !self.namespaces.insert(name) {
                    true => refuse(409, "it is there, or has no name"),
                    false => Ok(json!({})),
                }
            }
            "namespace" if self.namespaces.contains(&namespace) => {
                Ok(json!({ "namespace": [namespace], "properties": {} }))
            }
            "create" if self.namespaces.contains(&namespace) => {
                self.create(&namespace, &request.json())
            }
            "list" if self.namespaces.contains(&namespace) => self.list(&namespace, request),
            "namespace" | "create" | "list" => refuse(404, "no such namespace"),
            "load" => match self.tables.get(&(namespace, name)) {
                Some(table) => Ok(table.shown()),
                None => refuse(404, "no such table"),
            },
            "commit" => self.commit((namespace, name), &request.json()),
            _ => refuse(406, format!("{} {} is not played here", request.method, request.path)),
        }
    }

    /// A property is set.
    fn foreign_change(&mut self, request: &Request) {
        if let Some(table) = self.tables.get_mut(&key_of(request)) {
            let touched = table.metadata["last-updated-ms"].to_string();
            let updates =
                json!([{ "action": "set-properties", "updates": { "touched": touched } }]);
            drop(table.commit(&json!([]), &updates));
        }
    }

    fn refused((status, message): Refusal<u16>) -> (u16, Value) {
        let kind = format!("As{status}");
        (status, json!({ "error": { "message": message, "type": kind, "code": status } }))
    }
}

impl State {
    fn new_token(&mut self, body: &[u8]) -> Reply {
        let form: BTreeMap<String, String> =
            url::form_urlencoded::parse(body).into_owned().collect();
        let wanted = [
            ("client_id", CLIENT.0),
            ("client_secret", CLIENT.1),
            ("grant_type", "client_credentials"),
            ("scope", "catalog"),
        ];
        let wanted = wanted.map(|(key, value)| (key.to_owned(), value.to_owned()));
        if form != BTreeMap::from(wanted) {
            return refuse(401, "no such client");
        }
        self.token = (self.token.0 + 1, self.manners.token_uses.unwrap_or(0));
        let token = format!("token{}", self.token.0);
        let life = self.manners.token_seconds;
        Ok(json!({ "access_token": token, "token_type": "bearer", "expires_in": life }))
    }

    fn create(&mut self, namespace: &str, body: &Value) -> Reply {
        let staged = body["stage-create"] == true;
        if staged && self.manners.staging == Staging::Refused {
            return refuse(400, "stage create is not supported");
        }
        let name = body["name"].as_str().unwrap_or_default().to_owned();
        let key = (namespace.to_owned(), name);
        if self.tables.contains_key(&key) {
            return refuse(409, "the table is there");
        }
        let told = body["location"].as_str();
        let location = match (&self.manners.places, told) {
            (Places::Told, Some(told)) => told,
            (Places::Told, None) => return refuse(400, "no location"),
            (Places::Own(own), _) => own,
            (Places::Chosen, Some(_)) => return refuse(400, "the location is not yours to choose"),
            (Places::Chosen, None) => &self.places[&key.1],
        };
        let mut body = body.clone();
        if self.manners.forgets && !staged {
            body["properties"] = json!({});
            body["partition-spec"] = json!({ "spec-id": 0, "fields": [] });
        }
        let mut table = Table::plain(&body, location).or_else(|why| refuse(400, why))?;
        if staged {
            return Ok(json!({ "metadata": table.metadata }));
        }
        table.write();
        let shown = table.shown();
        self.tables.insert(key, table);
        Ok(shown)
    }

    /// Two names a page.
    fn list(&self, namespace: &str, request: &Request) -> Reply {
        let from: usize = request.query.trim_start_matches("pageToken=").parse().unwrap_or(0);
        let names = self.tables.keys().filter(|(of, _)| of == namespace);
        let names: Vec<Value> =
            names.map(|(of, name)| json!({ "namespace": [of], "name": name })).collect();
        let page: Vec<&Value> = names.iter().skip(from).take(2).collect();
        let next = (from + 2 < names.len()).then(|| (from + 2).to_string());
        Ok(json!({ "identifiers": page, "next-page-token": next }))
    }

    fn commit(&mut self, key: (String, String), body: &Value) -> Reply {
        let known = ["identifier", "requirements", "updates"];
        let keys = body.as_object().map(|body| body.keys()).into_iter().flatten();
        if let Some(key) = keys.into_iter().find(|key| !known.contains(&key.as_str())) {
            return refuse(400, format!("unknown key {key}"));
        }
        if body["identifier"] != json!({ "namespace": [key.0], "name": key.1 }) {
            return refuse(400, "another identifier than in the address");
        }
        let (requirements, updates) = (&body["requirements"], &body["updates"]);
        let creates = *requirements == json!([{ "type": "assert-create" }]);
        match (self.tables.get_mut(&key), creates) {
            (Some(_), true) => return refuse(409, "the table is there"),
            (None, false) => return refuse(404, "no such table"),
            (None, true) if self.manners.staging != Staging::Known => {
                return refuse(404, "no such table");
            }
            (None, true) => {
                let mut table = Table::empty();
                table.commit(&json!([]), updates)?;
                self.tables.insert(key.clone(), table);
            }
            (Some(table), false) => table.commit(requirements, updates)?,
        }
        Ok(self.tables[&key].shown())
    }
}
