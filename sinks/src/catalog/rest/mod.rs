//! Iceberg REST catalogs: what they are asked, and what their answers mean.
//!
//! Look-ups are tried again; a change is sent once. The specification's requirements
//! (`assert-ref-snapshot-id` and others) are the lock: the catalog refuses a commit whose base is
//! no longer the newest.

mod answer;
#[cfg(any(test, feature = "test-utils"))]
pub mod double;
mod http;
mod login;

use std::sync::Arc;
use std::time::Duration;

use reqwest::Method;
use serde::Deserialize;
use serde_json::value::RawValue;
use serde_json::{Value as Json, json};
use tokio::sync::OnceCell;
use url::form_urlencoded;

pub(crate) use answer::Changed;
pub use login::LoginOptions;

use crate::{Error, ErrorKind, Result};
use answer::{Verdict, changed, failed, said, verdict};
use http::{Answer, Http};
use login::Login;

/// Look-ups are tried so often.
const READ_ATTEMPTS: u32 = 5;
/// Wait after the first look-up without a good answer; doubles.
const READ_BACKOFF: Duration = Duration::from_millis(200);

/// How to reach a REST catalog.
#[derive(Debug, Clone)]
pub struct RestOptions {
    /// Its address: what stands before `/v1`.
    pub uri: String,
    /// Which of the catalogs there.
    pub warehouse: Option<String>,
    /// How to log in.
    pub login: LoginOptions,
    /// Certificates to trust, a PEM file; the system's without.
    pub ca_file: Option<String>,
    /// Whether namespaces that are missing are made.
    pub create_databases: bool,
    /// Whether the catalog chooses the places of tables.
    pub chooses_places: bool,
    /// How long one request may take.
    pub timeout: Duration,
}

impl Default for RestOptions {
    fn default() -> Self {
        Self {
            uri: String::new(),
            warehouse: None,
            login: LoginOptions::None,
            ca_file: None,
            create_databases: false,
            chooses_places: false,
            timeout: Duration::from_secs(30),
        }
    }
}

/// A REST catalog. Copies share its client, its login and its configuration.
#[derive(Debug, Clone)]
pub struct Rest {
    inner: Arc<Inner>,
}

#[derive(Debug)]
struct Inner {
    http: Http,
    options: RestOptions,
    configured: OnceCell<Configured>,
}

/// What `/v1/config` gave.
#[derive(Debug)]
struct Configured {
    /// Address and prefix of everything else.
    base: String,
    /// Whether files may be deleted, and so be listed.
    deletes: bool,
}

/// The answer to `/v1/config`.
#[derive(Debug, Deserialize)]
struct Config {
    defaults: Option<Settings>,
    overrides: Option<Settings>,
}

/// What of a catalog's settings is followed.
#[derive(Debug, Default, Deserialize)]
struct Settings {
    uri: Option<String>,
    prefix: Option<String>,
    /// By which catalogs that look after their files say that nobody else does.
    #[serde(rename = "s3.delete-enabled")]
    s3_delete_enabled: Option<String>,
}

/// A page of a namespace's tables.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "kebab-case")]
struct Listed {
    identifiers: Vec<Identifier>,
    next_page_token: Option<String>,
}

#[derive(Debug, Deserialize)]
struct Identifier {
    name: String,
}

/// A table as its catalog tells it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Loaded {
    /// Where its metadata file is, if there is one.
    pub(crate) metadata_location: Option<String>,
    /// The metadata, as JSON.
    pub(crate) metadata: Vec<u8>,
}

#[derive(Deserialize)]
#[serde(rename_all = "kebab-case")]
struct StoredTable<'a> {
    metadata_location: Option<String>,
    #[serde(borrow)]
    metadata: &'a RawValue,
}

impl Loaded {
    /// The table in an answer; `None` where there is none to be read.
    fn read(body: &[u8]) -> Option<Self> {
        let stored: StoredTable<'_> = serde_json::from_slice(body).ok()?;
        Some(Self {
            metadata_location: stored.metadata_location,
            metadata: stored.metadata.get().as_bytes().to_vec(),
        })
    }
}

impl Rest {
    /// A client; nothing is asked yet.
    ///
    /// # Errors
    /// `Invalid` where address or certificates cannot be used.
    pub fn open(options: RestOptions) -> Result<Self> {
        let uri = options.uri.trim_end_matches('/').to_owned();
        url::Url::parse(&uri).map_err(|error| {
            Error::invalid("`lake.catalog.uri` is not an address").with_source(error)
        })?;
        let login = Login::new(options.login.clone(), &uri);
        let http = Http::open(options.ca_file.as_deref(), options.timeout, login)?;
        let options = RestOptions { uri, ..options };
        Ok(Self { inner: Arc::new(Inner { http, options, configured: OnceCell::new() }) })
    }

    /// A table, which need not be there.
    pub fn table(&self, database: &str, name: &str) -> RestTable {
        RestTable { rest: self.clone(), database: database.to_owned(), name: name.to_owned() }
    }

    /// Where it is, for people.
    pub fn uri(&self) -> &str {
        &self.inner.options.uri
    }

    /// Whether namespaces that are missing are made.
    pub fn creates_databases(&self) -> bool {
        self.inner.options.create_databases
    }

    /// Whether it chooses where tables lie.
    pub fn chooses_places(&self) -> bool {
        self.inner.options.chooses_places
    }

    /// Asks the catalog for its configuration, which the first request of all does as well.
    ///
    /// # Errors
    /// When there is no login, no answer, or none of a REST catalog's.
    pub async fn connect(&self) -> Result<()> {
        self.base().await.map(drop)
    }

    /// Whether there is a namespace of this name.
    ///
    /// # Errors
    /// When the catalog does not answer, or does not let us look.
    pub async fn has_database(&self, name: &str) -> Result<bool> {
        let url = format!("{}/namespaces/{}", self.base().await?, encoded(name));
        let answer = self.look_up(&url).await?;
        match verdict(&answer) {
            Verdict::Done => Ok(true),
            Verdict::Gone => Ok(false),
            _ => Err(failed(format!("could not look up namespace `{name}`"), &answer)),
        }
    }

    /// Makes a namespace; one that is there already is left as it is.
    ///
    /// # Errors
    /// When the catalog does not answer or refuses.
    pub async fn create_database(&self, name: &str) -> Result<()> {
        let url = format!("{}/namespaces", self.base().await?);
        let body = json!({ "namespace": [name], "properties": {} });
        let answer = self.post(&url, &body).await?;
        match verdict(&answer) {
            Verdict::Done | Verdict::Conflict => Ok(()),
            _ => Err(failed(format!("could not create namespace `{name}`"), &answer)),
        }
    }

    /// Names of the tables in a namespace, none where there is no such namespace.
    ///
    /// # Errors
    /// When the catalog does not answer, or does not let us look.
    pub async fn tables(&self, database: &str) -> Result<Vec<String>> {
        let doing = || format!("could not list the tables of namespace `{database}`");
        let address = format!("{}/namespaces/{}/tables", self.base().await?, encoded(database));
        let (mut names, mut url) = (Vec::new(), address.clone());
        loop {
            let answer = self.look_up(&url).await?;
            match verdict(&answer) {
                Verdict::Done => {}
                Verdict::Gone => return Ok(names),
                _ => return Err(failed(doing(), &answer)),
            }
            let page: Listed = serde_json::from_slice(&answer.body()).map_err(|_| {
                Error::unavailable(format!("{}: its answer cannot be read", doing()))
            })?;
            names.extend(page.identifiers.into_iter().map(|identifier| identifier.name));
            match page.next_page_token.filter(|token| !token.is_empty()) {
                None => return Ok(names),
                Some(token) => url = format!("{address}?pageToken={}", encoded(&token)),
            }
        }
    }

    /// Address and prefix of everything but the configuration.
    async fn base(&self) -> Result<&str> {
        Ok(&self.configured().await?.base)
    }

    async fn configured(&self) -> Result<&Configured> {
        self.inner.configured.get_or_try_init(|| self.configure()).await
    }

    async fn configure(&self) -> Result<Configured> {
        let RestOptions { uri, warehouse, .. } = &self.inner.options;
        let mut url = format!("{uri}/v1/config");
        if let Some(warehouse) = warehouse {
            let query = form_urlencoded::Serializer::new(String::new())
                .append_pair("warehouse", warehouse)
                .finish();
            url = format!("{url}?{query}");
        }
        let doing = || format!("could not get the configuration of the REST catalog at `{uri}`");
        let answer = self.look_up(&url).await?;
        if verdict(&answer) == Verdict::Gone {
            let error = Error::invalid(format!("{}: {}", doing(), said(&answer)));
            return Err(error);
        }
        if verdict(&answer) != Verdict::Done {
            return Err(failed(doing(), &answer));
        }
        let config: Config = serde_json::from_slice(&answer.body()).map_err(|_| {
            Error::invalid(format!(
                "{}: its answer is none of a REST catalog's: see that `lake.catalog.uri` is what \
                 stands before `/v1`",
                doing()
            ))
        })?;
        let overrides = config.overrides.unwrap_or_default();
        let defaults = config.defaults.unwrap_or_default();
        let uri = overrides.uri.unwrap_or_else(|| uri.clone());
        let uri = uri.trim_end_matches('/');
        // As it is given: a prefix has slashes of its own, and is encoded where it has to be.
        let prefix = overrides.prefix.or(defaults.prefix).unwrap_or_default();
        let base = match prefix.trim_matches('/') {
            "" => format!("{uri}/v1"),
            prefix => format!("{uri}/v1/{prefix}"),
        };
        let deletes = overrides.s3_delete_enabled.or(defaults.s3_delete_enabled);
        Ok(Configured { base, deletes: deletes.as_deref() != Some("false") })
    }

    /// Asks until there is an answer that says something, a few times.
    async fn look_up(&self, url: &str) -> Result<Answer> {
        let mut backoff = READ_BACKOFF;
        for _ in 1..READ_ATTEMPTS {
            let answer = self.inner.http.send(Method::GET, url, None).await?;
            if !matches!(verdict(&answer), Verdict::Retry | Verdict::Unknown) {
                return Ok(answer);
            }
            tokio::time::sleep(backoff).await;
            backoff *= 2;
        }
        self.inner.http.send(Method::GET, url, None).await
    }

    /// Sends once.
    async fn post(&self, url: &str, body: &Json) -> Result<Answer> {
        self.inner.http.send(Method::POST, url, Some(body.to_string().into_bytes())).await
    }
}

/// A table in a REST catalog.
#[derive(Debug, Clone)]
pub struct RestTable {
    rest: Rest,
    database: String,
    name: String,
}

impl std::fmt::Display for RestTable {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}.{}", self.database, self.name)
    }
}

impl RestTable {
    /// The table's name, without its namespace.
    pub(crate) fn name(&self) -> &str {
        &self.name
    }

    /// Whether the catalog chooses where it lies.
    pub fn has_own_place(&self) -> bool {
        self.rest.chooses_places()
    }

    /// Whether it is there.
    ///
    /// # Errors
    /// When the catalog does not answer, or does not let us look.
    pub async fn exists(&self) -> Result<bool> {
        Ok(self.load().await?.is_some())
    }

    /// Whether its files may be listed and deleted; else the catalog does so.
    ///
    /// # Errors
    /// When the catalog does not answer.
    pub(crate) async fn may_delete(&self) -> Result<bool> {
        Ok(self.rest.configured().await?.deletes)
    }

    /// The table as it is now; `None` where there is none.
    ///
    /// # Errors
    /// When the catalog does not answer, or does not let us look.
    pub(crate) async fn load(&self) -> Result<Option<Loaded>> {
        self.load_from(&self.url().await?).await
    }

    async fn load_from(&self, url: &str) -> Result<Option<Loaded>> {
        let doing = || format!("could not load table `{self}` from the REST catalog");
        let answer = self.rest.look_up(url).await?;
        match verdict(&answer) {
            Verdict::Done => Loaded::read(&answer.body()).map(Some).ok_or_else(|| {
                Error::unavailable(format!("{}: its answer cannot be read", doing()))
            }),
            Verdict::Gone => Ok(None),
            _ => Err(failed(doing(), &answer)),
        }
    }

    /// Where the newest metadata file is; `None` where the table is not there, or has none.
    ///
    /// # Errors
    /// As [`Self::load`].
    pub(crate) async fn metadata_location(&self) -> Result<Option<String>> {
        // Without its snapshots, where the catalog knows how.
        let url = format!("{}?snapshots=refs", self.url().await?);
        Ok(self.load_from(&url).await?.and_then(|loaded| loaded.metadata_location))
    }

    /// Makes the table, or with `stage-create` only says what it would be; and its namespace if
    /// that is wanted. One request each.
    ///
    /// # Errors
    /// When nothing was made: no such namespace, or the catalog refuses.
    pub(crate) async fn create(&self, body: &Json) -> Result<Changed<Option<Loaded>>> {
        let url = format!("{}/namespaces/{}/tables", self.rest.base().await?, self.namespace());
        let mut answer = self.rest.post(&url, body).await?;
        if verdict(&answer) == Verdict::Gone {
            if !self.rest.creates_databases() {
                return Err(missing_database(&self.database));
            }
            self.rest.create_database(&self.database).await?;
            answer = self.rest.post(&url, body).await?;
        }
        let doing = || format!("could not create table `{self}` in the REST catalog");
        changed(doing, answer).map(read_changed)
    }

    /// Changes the table, or makes it, by requirements and updates. One request.
    ///
    /// # Errors
    /// When nothing was changed.
    pub(crate) async fn commit(&self, body: &Json) -> Result<Changed<Option<Loaded>>> {
        let url = self.url().await?;
        let answer = self.rest.post(&url, body).await?;
        let doing = || format!("could not commit to table `{self}` in the REST catalog");
        let done = changed(doing, answer).map_err(|error| match error.kind() {
            ErrorKind::Corrupt => Error::corrupt(format!(
                "table `{self}` is gone from the REST catalog: register its newest metadata file \
                 again, or restart to begin a new table elsewhere"
            ))
            .with_source(error),
            _ => error,
        })?;
        Ok(read_changed(done))
    }

    /// Whether the catalog would let us commit: asked with a commit that cannot be made, because it
    /// requires another table, and that would change nothing.
    ///
    /// # Errors
    /// When the catalog does not answer, or the login is refused.
    pub async fn may_commit(&self) -> Result<bool> {
        let body = json!({
            "identifier": self.identifier(),
            "requirements": [{ "type": "assert-table-uuid", "uuid": uuid::Uuid::nil() }],
            "updates": [],
        });
        let answer = self.rest.post(&self.url().await?, &body).await?;
        match verdict(&answer) {
            Verdict::Denied => Ok(false),
            Verdict::Login | Verdict::Retry | Verdict::Unknown => {
                Err(failed(format!("could not ask whether `{self}` may be committed to"), &answer))
            }
            Verdict::Done | Verdict::Conflict | Verdict::Gone | Verdict::Invalid => Ok(true),
        }
    }

    async fn url(&self) -> Result<String> {
        let base = self.rest.base().await?;
        Ok(format!("{base}/namespaces/{}/tables/{}", self.namespace(), encoded(&self.name)))
    }

    fn namespace(&self) -> String {
        encoded(&self.database)
    }

    /// The names that a commit carries beside its address.
    pub(crate) fn identifier(&self) -> Json {
        json!({ "namespace": [self.database], "name": self.name })
    }
}

/// What to do about a namespace that is not there.
pub fn missing_database(name: &str) -> Error {
    Error::invalid(format!(
        "there is no namespace `{name}` in the REST catalog: create it, or set \
         `lake.catalog.create_databases: true`"
    ))
}

fn read_changed(changed: Changed<Vec<u8>>) -> Changed<Option<Loaded>> {
    match changed {
        Changed::Done(body) => Changed::Done(Loaded::read(&body)),
        Changed::Conflict => Changed::Conflict,
        Changed::Unknown(reason) => Changed::Unknown(reason),
    }
}

/// One segment of a path.
fn encoded(name: &str) -> String {
    // A form's encoding but for the blank, which no name of ours has.
    form_urlencoded::byte_serialize(name.as_bytes()).collect()
}
