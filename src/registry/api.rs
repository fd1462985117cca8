//! What to ask which registry: Confluent's API and Apicurio's own.

mod probe;

use std::collections::HashSet;

use futures::future::BoxFuture;
use lakebed_schemas::config::{self, RegistryKind};
use lakebed_schemas::wire::{SchemaId, SchemaText};
use serde::Deserialize;

use super::http::{Http, Reply};

pub use probe::Probed;

/// The most schemas that one refers to, directly or not.
const REFERENCES_MAX: usize = 500;

/// A registry's answer.
pub(super) enum Found {
    Schema(SchemaText),
    Nothing,
    /// It is there, and of no use; why.
    Unusable(String),
}

/// How a registry is asked.
#[derive(Debug)]
pub(super) struct Api {
    http: Http,
    kind: Kind,
}

#[derive(Debug, Clone, Copy)]
enum Kind {
    Confluent,
    /// By version.
    Apicurio(u8),
}

/// A schema of Confluent's API.
#[derive(Deserialize)]
struct Confluent {
    schema: String,
    #[serde(default)]
    references: Vec<Subject>,
}

#[derive(Deserialize)]
struct Subject {
    name: String,
    subject: String,
    version: i64,
}

/// A reference of Apicurio's API.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Artifact {
    name: String,
    group_id: Option<String>,
    artifact_id: String,
    version: String,
}

/// Texts that a schema refers to, each after those that it refers to itself.
#[derive(Default)]
struct References {
    texts: Vec<(String, String)>,
    seen: HashSet<String>,
}

impl References {
    /// Whether a reference is new.
    fn is_new(&mut self, name: &str) -> Result<bool, String> {
        if self.seen.len() >= REFERENCES_MAX {
            return Err(format!("a schema refers to more than {REFERENCES_MAX} others"));
        }
        Ok(self.seen.insert(name.to_owned()))
    }
}

impl Api {
    pub(super) fn new(settings: &config::Registry, http: Http) -> Result<Self, String> {
        let url = settings.url.as_deref().unwrap_or_default();
        let kind = match settings.kind {
            RegistryKind::Confluent => Kind::Confluent,
            RegistryKind::Apicurio => Kind::Apicurio(
                config::apicurio_version(url)
                    .ok_or("`records.registry.url` does not end with /apis/registry/v2 or v3")?,
            ),
            RegistryKind::Glue => return Err("AWS Glue has an API of its own".to_owned()),
        };
        Ok(Self { http, kind })
    }

    /// Asks for a schema and everything that it refers to.
    ///
    /// # Errors
    /// When there is no answer; for people.
    pub(super) async fn schema(&self, id: SchemaId) -> Result<Found, String> {
        let mut references = References::default();
        let text = match (self.kind, id) {
            (Kind::Confluent, SchemaId::Confluent(_) | SchemaId::ConfluentGuid(_)) => {
                let ids = if matches!(id, SchemaId::Confluent(_)) { "ids" } else { "guids" };
                let Some(schema) = self.confluent(&["schemas", ids, &id.to_string()]).await? else {
                    return Ok(Found::Nothing);
                };
                self.subjects(schema.references, &mut references).await?;
                schema.schema
            }
            (Kind::Apicurio(version), SchemaId::Content(id)) => {
                let place = ["ids".to_owned(), "contentIds".to_owned(), id.to_string()];
                let Some(text) = self.text(&place).await? else { return Ok(Found::Nothing) };
                self.artifacts(version, &place, &mut references).await?;
                text
            }
            (Kind::Apicurio(version), SchemaId::Global(id)) => {
                let place = ["ids".to_owned(), "globalIds".to_owned(), id.to_string()];
                let Some(text) = self.text(&place).await? else { return Ok(Found::Nothing) };
                self.artifacts(version, &place, &mut references).await?;
                text
            }
            (Kind::Confluent | Kind::Apicurio(_), _) => return Ok(Found::Nothing),
        };
        Ok(Found::Schema(SchemaText { text, references: references.texts }))
    }

    async fn text(&self, place: &[String]) -> Result<Option<String>, String> {
        let place: Vec<&str> = place.iter().map(String::as_str).collect();
        Ok(match self.http.get(&place).await? {
            Reply::Ok(text) => Some(text),
            Reply::NotFound => None,
        })
    }

    async fn confluent(&self, place: &[&str]) -> Result<Option<Confluent>, String> {
        let Reply::Ok(body) = self.http.get(place).await? else { return Ok(None) };
        let schema = serde_json::from_str(&body);
        schema.map(Some).map_err(|_| {
            "its answer is no schema of Confluent's API: see `type` and `url`".to_owned()
        })
    }

    fn subjects<'a>(
        &'a self,
        list: Vec<Subject>,
        references: &'a mut References,
    ) -> BoxFuture<'a, Result<(), String>> {
        Box::pin(async move {
            for Subject { name, subject, version } in list {
                if !references.is_new(&name)? {
                    continue;
                }
                let version = version.to_string();
                let schema = self.confluent(&["subjects", &subject, "versions", &version]).await?;
                let schema = schema.ok_or_else(|| lost(&name))?;
                self.subjects(schema.references, references).await?;
                references.texts.push((name, schema.schema));
            }
            Ok(())
        })
    }

    fn artifacts<'a>(
        &'a self,
        version: u8,
        place: &'a [String],
        references: &'a mut References,
    ) -> BoxFuture<'a, Result<(), String>> {
        Box::pin(async move {
            let place = [place, &["references".to_owned()]].concat();
            let Some(list) = self.text(&place).await? else { return Ok(()) };
            let list: Vec<Artifact> = serde_json::from_str(&list)
                .map_err(|_| "its list of references is none of Apicurio's".to_owned())?;
            for artifact in list {
                if !references.is_new(&artifact.name)? {
                    continue;
                }
                let group = artifact.group_id.unwrap_or_else(|| "default".to_owned());
                let artifact_id = artifact.artifact_id;
                let place = ["groups", &group, "artifacts", &artifact_id, "versions"];
                let mut place: Vec<String> = place.map(str::to_owned).into();
                place.push(artifact.version);
                let content = if version == 2 { Vec::new() } else { vec!["content".to_owned()] };
                let text = self.text(&[&place[..], &content].concat()).await?;
                let text = text.ok_or_else(|| lost(&artifact.name))?;
                self.artifacts(version, &place, references).await?;
                references.texts.push((artifact.name, text));
            }
            Ok(())
        })
    }
}

fn lost(name: &str) -> String {
    format!("it has a schema that refers to `{name}`, and not that one")
}
