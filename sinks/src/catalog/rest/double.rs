//! A REST catalog in this process: strict, counted, and able to fail.
//!
//! It speaks HTTP on the loopback, so that the client and everything between is what runs in
//! production. It knows tables as JSON alone (`table`): requirements and updates are checked and
//! made by rules of its own, and metadata files are written where a catalog would write them.

mod table;

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use serde_json::{Value, json};
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::{TcpListener, TcpStream};

use super::{LoginOptions, Rest, RestOptions};
use table::Table;

/// What goes wrong with one request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Fault {
    /// It takes effect and the connection ends without an answer.
    LostReply,
    /// It takes effect, and the connection ends amid the answer.
    CutReply,
    /// It has no effect and the connection ends without an answer.
    LostRequest,
    /// It is answered with a status, and has no effect.
    Refused(u16),
    /// It takes effect and is answered with a status.
    DoneAndRefused(u16),
    /// It is not answered, and takes effect right before the next request of its kind.
    LandsLate,
    /// Somebody sets a property of the table right before.
    ForeignProperty,
}

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

#[derive(Debug, Default)]
struct State {
    manners: Manners,
    namespaces: BTreeSet<String>,
    tables: BTreeMap<(String, String), Table>,
    /// Places of tables by their names.
    places: BTreeMap<String, String>,
    counts: BTreeMap<String, u64>,
    faults: BTreeMap<String, VecDeque<Fault>>,
    /// Every commit meets a foreign property before it, so often.
    busy: u32,
    late: Vec<Request>,
    /// Number of the last token, and the requests it is yet good for.
    token: (u64, u32),
}

/// A request that has come.
#[derive(Debug, Clone)]
struct Request {
    method: String,
    path: String,
    /// Of a listing.
    page: String,
    authorization: String,
    body: Vec<u8>,
}

/// The double; it ends with the process or the runtime.
#[derive(Debug, Clone)]
pub struct RestDouble {
    uri: String,
    state: Arc<Mutex<State>>,
}

/// Client id and secret of the tokens.
pub const CLIENT: (&str, &str) = ("lakebed", "the secret");
const PREFIX: &str = "/api/v1/lakes/one%2Ftwo/";

type Reply = Result<Value, (u16, String)>;

fn refuse<T>(status: u16, message: impl Into<String>) -> Result<T, (u16, String)> {
    Err((status, message.into()))
}

impl RestDouble {
    /// Listens on a free port of the loopback, with these namespaces.
    ///
    /// # Panics
    /// When there is no port.
    pub async fn start(namespaces: &[&str], manners: Manners) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
        let address = listener.local_addr().expect("an address");
        let namespaces = namespaces.iter().map(|name| (*name).to_owned()).collect();
        let state = State { manners, namespaces, ..State::default() };
        let double =
            Self { uri: format!("http://{address}/api"), state: Arc::new(Mutex::new(state)) };
        let serving = double.clone();
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let double = serving.clone();
                tokio::spawn(async move { drop(double.serve(stream).await) });
            }
        });
        double
    }

    /// Its address, without `/v1`.
    pub fn uri(&self) -> &str {
        &self.uri
    }

    /// A catalog on it, with the login that it wants.
    ///
    /// # Panics
    /// Never: its address is one.
    pub fn catalog(&self, options: RestOptions) -> Rest {
        let login = match self.lock().manners.token_uses {
            None => LoginOptions::None,
            Some(_) => LoginOptions::OAuth2 {
                token_uri: None,
                client_id: CLIENT.0.to_owned(),
                client_secret: CLIENT.1.to_owned(),
                scope: None,
            },
        };
        let warehouse = Some("one/two".to_owned());
        let uri = self.uri.clone();
        Rest::open(RestOptions { uri, warehouse, login, ..options }).expect("an address")
    }

    /// What goes wrong with the next requests of a kind (`commit`, `load`), in order.
    pub fn push(&self, call: &str, fault: Fault) {
        self.lock().faults.entry(call.to_owned()).or_default().push_back(fault);
    }

    /// Somebody sets a property right before each of the next so many commits.
    pub fn keep_busy(&self, commits: u32) {
        self.lock().busy = commits;
    }

    /// The place that a table of this name gets, where places are [`Places::Chosen`].
    pub fn choose(&self, name: &str, location: &str) {
        self.lock().places.insert(name.to_owned(), location.to_owned());
    }

    /// Requests by kind since the last time it was asked.
    pub fn take_counts(&self) -> BTreeMap<String, u64> {
        std::mem::take(&mut self.lock().counts)
    }

    /// A table's metadata.
    pub fn metadata(&self, namespace: &str, name: &str) -> Option<Value> {
        let key = (namespace.to_owned(), name.to_owned());
        self.lock().tables.get(&key).map(|table| table.metadata.clone())
    }

    /// Changes a table as another program would, by the updates of the specification.
    ///
    /// # Panics
    /// When there is no such table, or it refuses.
    pub fn change(&self, namespace: &str, name: &str, updates: &Value) {
        let key = (namespace.to_owned(), name.to_owned());
        let mut state = self.lock();
        let table = state.tables.get_mut(&key).expect("the table");
        table.commit(&json!([]), updates).expect("taken");
    }

    /// Drops a table, and leaves its files.
    pub fn drop_table(&self, namespace: &str, name: &str) {
        self.lock().tables.remove(&(namespace.to_owned(), name.to_owned()));
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    async fn serve(&self, stream: TcpStream) -> std::io::Result<()> {
        let mut stream = BufReader::new(stream);
        while let Some(request) = read_request(&mut stream).await? {
            let Some((status, answer, cut)) = self.answer(request) else { return Ok(()) };
            let body = answer.to_string();
            let head = format!(
                "HTTP/1.1 {status} X\r\ncontent-type: application/json\r\nretry-after: 0\r\n\
                 content-length: {}\r\n\r\n",
                body.len()
            );
            stream.write_all(head.as_bytes()).await?;
            let sent = if cut { &body.as_bytes()[..body.len() / 2] } else { body.as_bytes() };
            stream.write_all(sent).await?;
            stream.flush().await?;
            if cut {
                return Ok(());
            }
        }
        Ok(())
    }

    /// Status, body, and whether the body breaks off; `None` where there is no answer.
    fn answer(&self, request: Request) -> Option<(u16, Value, bool)> {
        let mut state = self.lock();
        let call = request.call();
        *state.counts.entry(call.to_owned()).or_default() += 1;
        let (now, later): (Vec<Request>, Vec<Request>) =
            std::mem::take(&mut state.late).into_iter().partition(|late| late.call() == call);
        state.late = later;
        for late in now {
            drop(state.call(&late));
        }
        if let Err((status, message)) = state.authorize(&request) {
            return Some((status, error(status, &message), false));
        }
        if call == "commit" && state.busy > 0 {
            state.busy -= 1;
            state.foreign_property(&request);
        }
        let mut cut = false;
        match state.faults.get_mut(call).and_then(VecDeque::pop_front) {
            None => {}
            Some(Fault::ForeignProperty) => state.foreign_property(&request),
            Some(Fault::CutReply) => cut = true,
            Some(Fault::LostRequest) => return None,
            Some(Fault::LostReply) => {
                drop(state.call(&request));
                return None;
            }
            Some(Fault::LandsLate) => {
                state.late.push(request);
                return None;
            }
            Some(Fault::Refused(status)) => return Some((status, error(status, "as told"), false)),
            Some(Fault::DoneAndRefused(status)) => {
                drop(state.call(&request));
                return Some((status, error(status, "as told"), false));
            }
        }
        Some(match state.call(&request) {
            Ok(answer) => (200, answer, cut),
            Err((status, message)) => (status, error(status, &message), false),
        })
    }
}

fn error(status: u16, message: &str) -> Value {
    json!({ "error": { "message": message, "type": format!("As{status}"), "code": status } })
}

/// One request; `None` at the end of the connection.
async fn read_request(stream: &mut BufReader<TcpStream>) -> std::io::Result<Option<Request>> {
    let mut request = Request {
        method: String::new(),
        path: String::new(),
        page: String::new(),
        authorization: String::new(),
        body: vec![],
    };
    let mut length = 0;
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
        if request.method.is_empty() {
            let mut words = line.split_whitespace();
            request.method = words.next().unwrap_or_default().to_owned();
            let path = words.next().unwrap_or_default();
            let path = path.strip_suffix("?snapshots=refs").unwrap_or(path);
            let (path, page) = path.split_once("?pageToken=").unwrap_or((path, ""));
            (request.path, request.page) = (path.to_owned(), page.to_owned());
            continue;
        }
        let Some((name, value)) = line.split_once(':') else { continue };
        match name.to_lowercase().as_str() {
            "authorization" => request.authorization = value.trim().to_owned(),
            "content-length" => length = value.trim().parse().unwrap_or(0),
            _ => {}
        }
    }
    request.body = vec![0; length];
    stream.read_exact(&mut request.body).await?;
    Ok(Some(request))
}

impl Request {
    /// What is asked, in a word.
    fn call(&self) -> &'static str {
        let place = self.path.strip_prefix(PREFIX).unwrap_or_default();
        let depth = place.split('/').count();
        match (self.method.as_str(), self.path.as_str(), depth) {
            ("GET", "/api/v1/config?warehouse=one%2Ftwo", _) => "config",
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

    /// Namespace and table that the path names.
    fn key(&self) -> (String, String) {
        let mut names = self.path.strip_prefix(PREFIX).unwrap_or_default().split('/').skip(1);
        let namespace = names.next().unwrap_or_default().to_owned();
        (namespace, names.nth(1).unwrap_or_default().to_owned())
    }

    fn json(&self) -> Value {
        serde_json::from_slice(&self.body).unwrap_or(Value::Null)
    }
}

impl State {
    fn authorize(&mut self, request: &Request) -> Result<(), (u16, String)> {
        if self.manners.token_uses.is_none() || request.call() == "token" {
            return Ok(());
        }
        let (number, uses) = self.token;
        if request.authorization != format!("Bearer token{number}") || uses == 0 {
            return refuse(401, "no token that is good");
        }
        self.token.1 -= 1;
        Ok(())
    }

    fn call(&mut self, request: &Request) -> Reply {
        let (namespace, name) = request.key();
        match request.call() {
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
        let from: usize = request.page.parse().unwrap_or(0);
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

    fn foreign_property(&mut self, request: &Request) {
        if let Some(table) = self.tables.get_mut(&request.key()) {
            let touched = table.metadata["last-updated-ms"].to_string();
            let updates =
                json!([{ "action": "set-properties", "updates": { "touched": touched } }]);
            drop(table.commit(&json!([]), &updates));
        }
    }
}
