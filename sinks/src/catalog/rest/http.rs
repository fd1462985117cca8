//! Requests to a REST catalog: logged in, bounded in time and size, each sent once.

use std::time::{Duration, Instant};

use reqwest::{Certificate, Client, Method, redirect};
use tokio::sync::Mutex;

use super::login::{Login, Proof};
use crate::error::with_causes;
use crate::{Error, Result};

/// How long a catalog may take to accept a connection.
const CONNECT: Duration = Duration::from_secs(5);
/// The most bytes of an answer: a table's metadata, with every snapshot that is kept.
const BYTES_MAX: usize = 128 << 20;
/// A catalog that asks for a longer pause is asked again all the same.
const PAUSE_MAX: Duration = Duration::from_secs(60);

/// What became of a request.
#[derive(Debug)]
pub(super) enum Answer {
    /// A whole answer.
    Came {
        /// HTTP status.
        status: u16,
        /// Empty where the answer has none, or where it broke off after a status of success.
        body: Vec<u8>,
    },
    /// No connection: nobody has seen the request.
    NotSent(String),
    /// Sent, and no whole answer.
    Lost(String),
}

impl Answer {
    pub(super) fn body(self) -> Vec<u8> {
        match self {
            Self::Came { body, .. } => body,
            Self::NotSent(_) | Self::Lost(_) => Vec::new(),
        }
    }

    fn is_login_refused(&self) -> bool {
        matches!(self, Self::Came { status: 401 | 419, .. })
    }
}

/// A client of one catalog.
#[derive(Debug)]
pub(super) struct Http {
    client: Client,
    login: Login,
    /// The catalog has asked for a pause until then.
    not_before: Mutex<Option<Instant>>,
}

impl Http {
    /// A client; nothing is asked yet.
    ///
    /// # Errors
    /// `Invalid` where the certificates cannot be read.
    pub(super) fn open(ca_file: Option<&str>, timeout: Duration, login: Login) -> Result<Self> {
        let mut builder = Client::builder()
            .connect_timeout(CONNECT.min(timeout))
            .timeout(timeout)
            // A change must not be sent twice, and a login not to somebody else.
            .redirect(redirect::Policy::none())
            .user_agent(concat!("lakebed/", env!("CARGO_PKG_VERSION")));
        for certificate in ca_file.map(trusted).transpose()?.unwrap_or_default() {
            builder = builder.add_root_certificate(certificate);
        }
        let client = builder.build().map_err(|error| {
            Error::invalid("no client for the REST catalog").with_source(error.without_url())
        })?;
        Ok(Self { client, login, not_before: Mutex::new(None) })
    }

    /// Asks; once more with a new login where the old one has ended, which means that nothing was
    /// done.
    ///
    /// # Errors
    /// Where there is no login to be had: nothing was sent.
    pub(super) async fn send(
        &self,
        method: Method,
        url: &str,
        body: Option<Vec<u8>>,
    ) -> Result<Answer> {
        let proof = self.login.proof(&self.client, &method, url, body.as_deref()).await?;
        let answer = self.send_once(method.clone(), url, body.clone(), &proof).await;
        if !answer.is_login_refused() || !self.login.forget(&proof).await {
            return Ok(answer);
        }
        let proof = self.login.proof(&self.client, &method, url, body.as_deref()).await?;
        Ok(self.send_once(method, url, body, &proof).await)
    }

    async fn send_once(
        &self,
        method: Method,
        url: &str,
        body: Option<Vec<u8>>,
        proof: &Proof,
    ) -> Answer {
        self.pause().await;
        let mut request = self.client.request(method, url).header("accept", "application/json");
        for (name, value) in proof.headers() {
            request = request.header(name, value);
        }
        if let Some(body) = body {
            request = request.header("content-type", "application/json").body(body);
        }
        let response = match request.send().await {
            Ok(response) => response,
            Err(error) if error.is_connect() || error.is_builder() => {
                return Answer::NotSent(with_causes(&error.without_url()));
            }
            Err(error) => return Answer::Lost(with_causes(&error.without_url())),
        };
        let status = response.status().as_u16();
        if let Some(pause) = retry_after(&response) {
            *self.not_before.lock().await = Some(Instant::now() + pause);
        }
        match read(response).await {
            Ok(body) => Answer::Came { status, body },
            // The status alone says that it is done.
            Err(_) if (200..300).contains(&status) => Answer::Came { status, body: Vec::new() },
            Err(reason) => Answer::Lost(format!("{status}, and then: {reason}")),
        }
    }

    async fn pause(&self) {
        let until = self.not_before.lock().await.take();
        if let Some(wait) = until.and_then(|until| until.checked_duration_since(Instant::now())) {
            tokio::time::sleep(wait).await;
        }
    }
}

/// The pause that a refused or overloaded catalog asks for, in seconds.
fn retry_after(response: &reqwest::Response) -> Option<Duration> {
    if !matches!(response.status().as_u16(), 429 | 503) {
        return None;
    }
    let seconds = response.headers().get("retry-after")?.to_str().ok()?.trim().parse().ok()?;
    Some(Duration::from_secs(seconds).min(PAUSE_MAX))
}

/// The whole body, if it is not too large.
pub(super) async fn read(mut response: reqwest::Response) -> Result<Vec<u8>, String> {
    let mut body = Vec::new();
    loop {
        match response.chunk().await {
            Ok(Some(chunk)) if body.len() + chunk.len() > BYTES_MAX => {
                return Err(format!("more than {BYTES_MAX} bytes"));
            }
            Ok(Some(chunk)) => body.extend_from_slice(&chunk),
            Ok(None) => return Ok(body),
            Err(error) => return Err(with_causes(&error.without_url())),
        }
    }
}

/// The certificates of a PEM file.
fn trusted(file: &str) -> Result<Vec<Certificate>> {
    let refused = |why: &str| {
        Error::invalid(format!("`lake.catalog.ca_file`: {file}: {why}; name a PEM file"))
    };
    let pem = std::fs::read(file).map_err(|error| refused("cannot be read").with_source(error))?;
    let trusted = Certificate::from_pem_bundle(&pem);
    let trusted = trusted.map_err(|error| refused("is none").with_source(error))?;
    if trusted.is_empty() {
        return Err(refused("holds no certificate"));
    }
    Ok(trusted)
}
