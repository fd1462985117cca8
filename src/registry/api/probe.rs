//! Whether a registry can be read from at all: for `lakebed check`, before a record needs it.

use serde::Deserialize;

use super::{Api, Kind, REFERENCES_MAX, Reply};

/// What a registry that answers has.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Probed {
    /// It answers, and lists no schemas by topic.
    Answers,
    /// Nothing yet.
    Empty,
    /// A schema that could be read, by its name.
    Readable(String),
}

/// Apicurio's answer to a search.
#[derive(Deserialize)]
struct Searched {
    artifacts: Vec<Artifact>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Artifact {
    group_id: Option<String>,
    /// `id` in version 2.
    #[serde(alias = "id")]
    artifact_id: String,
}

impl Api {
    /// Reads one schema: of one of these topics if there is one, else any.
    ///
    /// # Errors
    /// When the registry does not answer, refuses the login, or lists what it does not give.
    pub(in crate::registry) async fn probe(&self, topics: &[String]) -> Result<Probed, String> {
        match self.kind {
            Kind::Confluent => self.probe_confluent(topics).await,
            Kind::Apicurio(version) => self.probe_apicurio(version).await,
        }
    }

    async fn probe_confluent(&self, topics: &[String]) -> Result<Probed, String> {
        // Whoever may read schemas may not always list them.
        for topic in topics.iter().take(REFERENCES_MAX) {
            let subject = format!("{topic}-value");
            if self.confluent(&["subjects", &subject, "versions", "latest"]).await?.is_some() {
                return Ok(Probed::Readable(subject));
            }
        }
        let Reply::Ok(list) = self.http.get(&["subjects"]).await? else {
            return Err("it has no list of subjects: see `type` and `url`".to_owned());
        };
        let subjects: Vec<String> = serde_json::from_str(&list).map_err(|_| {
            "its answer is none of Confluent's API: see `type` and `url`".to_owned()
        })?;
        let Some(subject) = subjects.into_iter().next() else { return Ok(Probed::Empty) };
        match self.confluent(&["subjects", &subject, "versions", "latest"]).await? {
            Some(_) => Ok(Probed::Readable(subject)),
            None => Err(format!("it lists subject `{subject}` and does not give its schema")),
        }
    }

    async fn probe_apicurio(&self, version: u8) -> Result<Probed, String> {
        let found = self.text(&["search".to_owned(), "artifacts".to_owned()]).await?;
        let found: Option<Searched> = found.and_then(|found| serde_json::from_str(&found).ok());
        let found =
            found.ok_or("its answer is none of Apicurio's API: see `type` and `url`".to_owned())?;
        let Some(artifact) = found.artifacts.into_iter().next() else { return Ok(Probed::Empty) };
        let (name, group) = (artifact.artifact_id, artifact.group_id);
        let group = group.unwrap_or_else(|| "default".to_owned());
        let mut place = vec!["groups".to_owned(), group, "artifacts".to_owned(), name.clone()];
        if version > 2 {
            place.extend(["versions", "branch=latest", "content"].map(str::to_owned));
        }
        match self.text(&place).await? {
            Some(_) => Ok(Probed::Readable(name)),
            None => Err(format!("it lists artifact `{name}` and does not give its content")),
        }
    }
}
