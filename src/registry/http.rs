//! Requests to a registry: authenticated, bounded in time and size.

use std::time::Duration;

use lakebed_schemas::config;
use reqwest::{Certificate, Client, StatusCode};
use url::Url;

/// How long a registry may take to accept a connection, and to answer in whole.
const CONNECT: Duration = Duration::from_secs(5);
const ANSWER: Duration = Duration::from_secs(10);
/// The most bytes of an answer.
const BYTES_MAX: usize = 16 << 20;

/// How requests are authenticated.
enum Login {
    None,
    Basic { username: String, password: String },
    Bearer(String),
}

/// A client of one registry.
pub(super) struct Http {
    base: Url,
    client: Client,
    login: Login,
}

impl std::fmt::Debug for Http {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Http({})", self.base)
    }
}

/// What came back.
pub(super) enum Reply {
    /// With a body.
    Ok(String),
    /// The registry says that there is no such thing.
    NotFound,
}

impl Http {
    pub(super) fn open(settings: &config::Registry) -> Result<Self, String> {
        let url = settings.url.as_deref().unwrap_or_default();
        let base = Url::parse(url).map_err(|error| {
            format!("`records.registry.url` is not an address: {error}; write http://host:8081")
        })?;
        let mut builder = Client::builder().connect_timeout(CONNECT).timeout(ANSWER);
        builder = builder.user_agent(concat!("lakebed/", env!("CARGO_PKG_VERSION")));
        if let Some(file) = &settings.ca_file {
            let refused = |error: String| {
                format!("`records.registry.ca_file`: {file}: {error}; name a PEM file")
            };
            let pem = std::fs::read(file).map_err(|error| refused(error.to_string()))?;
            let trusted = Certificate::from_pem_bundle(&pem);
            let trusted = trusted.map_err(|error| refused(error.to_string()))?;
            if trusted.is_empty() {
                return Err(refused("holds no certificate".to_owned()));
            }
            builder = trusted
                .into_iter()
                .fold(builder, |builder, certificate| builder.add_root_certificate(certificate));
        }
        let client = builder
            .build()
            .map_err(|error| format!("no client for the schema registry: {}", chain(&error)))?;
        let secret = |secret: &Option<config::Secret>| {
            secret.as_ref().map(|secret| secret.expose().to_owned())
        };
        let login = match (&settings.username, secret(&settings.password), secret(&settings.token))
        {
            (Some(username), password, _) => {
                let password = password.unwrap_or_default();
                Login::Basic { username: username.clone(), password }
            }
            (None, _, Some(token)) => Login::Bearer(token),
            (None, _, None) => Login::None,
        };
        Ok(Self { base, client, login })
    }

    /// Gets what lies below the registry's address. A 404 counts only if the registry has made it:
    /// a wrong address must not make records bad.
    ///
    /// # Errors
    /// When there is no answer that says either; for people.
    pub(super) async fn get(&self, path: &[&str]) -> Result<Reply, String> {
        let mut url = self.base.clone();
        if let Ok(mut segments) = url.path_segments_mut() {
            segments.pop_if_empty().extend(path);
        }
        let mut request = self.client.get(url);
        match &self.login {
            Login::None => {}
            Login::Basic { username, password } => {
                request = request.basic_auth(username, Some(password));
            }
            Login::Bearer(token) => request = request.bearer_auth(token),
        }
        let unanswered = |error: reqwest::Error| chain(&error.without_url());
        let mut response = request.send().await.map_err(unanswered)?;
        let status = response.status();
        let mut body = Vec::new();
        while let Some(chunk) = response.chunk().await.map_err(unanswered)? {
            if body.len() + chunk.len() > BYTES_MAX {
                return Err(format!("it answers with more than {BYTES_MAX} bytes"));
            }
            body.extend_from_slice(&chunk);
        }
        let body = String::from_utf8(body).map_err(|_| "its answer is not UTF-8".to_owned())?;
        match status {
            status if status.is_success() => Ok(Reply::Ok(body)),
            StatusCode::NOT_FOUND if is_registrys(&body) => Ok(Reply::NotFound),
            StatusCode::NOT_FOUND => {
                Err("it answers 404 and not as a registry does: see that `url` is its address, \
                     path included"
                    .to_owned())
            }
            StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN => Err(format!(
                "it refuses the login ({status}): see `username` and `password`, or `token`"
            )),
            status => Err(format!("it answers {status}")),
        }
    }
}

/// Whether a 404 has the body of a registry's: JSON with an error code.
fn is_registrys(body: &str) -> bool {
    let body: Result<serde_json::Value, _> = serde_json::from_str(body);
    body.is_ok_and(|body| ["error_code", "status"].iter().any(|name| body.get(name).is_some()))
}

/// An error with what has caused it: the outermost says next to nothing.
fn chain(error: &(dyn std::error::Error + 'static)) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(error) = source {
        let more = error.to_string();
        if !text.contains(&more) {
            text = format!("{text}: {more}");
        }
        source = error.source();
    }
    text
}
