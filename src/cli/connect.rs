//! What Kafka Connect says of its connectors, over its REST API.

use std::collections::BTreeMap;
use std::time::Duration;

use lakebed_schemas::config::{Connect, Secret};
use reqwest::{Certificate, Client};
use serde::Deserialize;
use url::Url;

/// How long Connect may take to answer. A worker that rebalances takes a few seconds.
const WAIT: Duration = Duration::from_secs(10);
/// The most bytes of an answer.
const BYTES_MAX: usize = 16 << 20;

/// A connector as Connect knows it.
#[derive(Debug, Clone, Default)]
pub(super) struct Connector {
    pub(super) name: String,
    /// Its configuration. May hold secrets: nothing is shown but the settings that are checked.
    pub(super) config: BTreeMap<String, String>,
    /// State of the connector and of each task: `RUNNING`, `PAUSED`, `FAILED`.
    pub(super) states: Vec<String>,
    /// Version of its plugin, where Connect tells it.
    pub(super) version: Option<String>,
}

#[derive(Deserialize)]
struct Expanded {
    info: Info,
    status: Status,
}

#[derive(Deserialize)]
struct Info {
    config: BTreeMap<String, String>,
}

#[derive(Deserialize)]
struct Status {
    connector: State,
    #[serde(default)]
    tasks: Vec<State>,
}

#[derive(Deserialize)]
struct State {
    state: String,
}

#[derive(Deserialize)]
struct Plugin {
    class: String,
    version: Option<String>,
}

/// Every connector of the Connect cluster.
///
/// # Errors
/// When it does not answer as Connect does; for people.
pub(super) async fn connectors(settings: &Connect) -> Result<Vec<Connector>, String> {
    let client = client(settings)?;
    let query = "expand=info&expand=status";
    let text = get(settings, &client, "connectors", Some(query)).await?;
    let found: BTreeMap<String, Expanded> =
        serde_json::from_str(&text).map_err(|_| unlike_connect())?;
    // Versions are a help: an old Connect does not tell them.
    let plugins = get(settings, &client, "connector-plugins", None).await.unwrap_or_default();
    let plugins: Vec<Plugin> = serde_json::from_str(&plugins).unwrap_or_default();
    let version = |config: &BTreeMap<String, String>| {
        let class = config.get("connector.class")?;
        plugins.iter().find(|plugin| plugin.class == *class)?.version.clone()
    };
    let connector = |(name, Expanded { info, status }): (String, Expanded)| Connector {
        name,
        version: version(&info.config),
        states: std::iter::once(status.connector)
            .chain(status.tasks)
            .map(|state| state.state)
            .collect(),
        config: info.config,
    };
    Ok(found.into_iter().map(connector).collect())
}

fn unlike_connect() -> String {
    "it does not answer as Kafka Connect does".to_owned()
}

fn client(settings: &Connect) -> Result<Client, String> {
    let mut builder = Client::builder().timeout(WAIT);
    if let Some(file) = &settings.ca_file {
        let pem = std::fs::read(file).map_err(|error| format!("{file}: {error}"))?;
        let trusted = Certificate::from_pem_bundle(&pem).map_err(|_| format!("{file}: no PEM"))?;
        builder = trusted.into_iter().fold(builder, reqwest::ClientBuilder::add_root_certificate);
    }
    builder.build().map_err(|error| error.without_url().to_string())
}

async fn get(
    settings: &Connect,
    client: &Client,
    path: &str,
    query: Option<&str>,
) -> Result<String, String> {
    let mut url = Url::parse(&settings.url).map_err(|error| error.to_string())?;
    if let Ok(mut segments) = url.path_segments_mut() {
        segments.pop_if_empty().push(path);
    }
    url.set_query(query);
    let mut request = client.get(url);
    if let Some(username) = &settings.username {
        request = request.basic_auth(username, settings.password.as_ref().map(Secret::expose));
    }
    let unanswered = |error: reqwest::Error| {
        let error = error.without_url();
        let cause = std::error::Error::source(&error).map(|cause| format!(": {cause}"));
        format!("{error}{}", cause.unwrap_or_default())
    };
    let mut response = request.send().await.map_err(unanswered)?;
    if !response.status().is_success() {
        return Err(format!("it answers {}", response.status()));
    }
    let mut body = Vec::new();
    while let Some(chunk) = response.chunk().await.map_err(unanswered)? {
        if body.len() + chunk.len() > BYTES_MAX {
            return Err(format!("it answers with more than {BYTES_MAX} bytes"));
        }
        body.extend_from_slice(&chunk);
    }
    String::from_utf8(body).map_err(|_| unlike_connect())
}
