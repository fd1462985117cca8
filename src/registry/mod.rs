//! Schema registries: schemas by id, each asked for once.
//!
//! A schema never changes, so what was found is kept. That there is none is kept for a while only,
//! and asked twice, because a replica of a registry may lag behind the producers. A registry that
//! does not answer is waited for, by everyone who needs it: it says nothing about the record, so no
//! record is bad for it. The wait grows and is spread, and the log, readiness and a metric tell it.

mod api;
mod glue;
mod http;
#[cfg(test)]
mod tests;

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use lakebed_schemas::config::{self, RegistryKind};
use lakebed_schemas::wire::{SchemaId, SchemaText};
use lakebed_sinks::aws::AwsOptions;
use tracing::{info, warn};

use crate::telemetry::Telemetry;
pub use api::Probed;
use api::{Api, Found};
use glue::Glue;
use http::Http;

/// How long a registry's word that there is no such schema is taken for granted.
const ABSENT_FOR: Duration = Duration::from_secs(30);
/// Before it is asked once more whether there really is none.
const ASK_AGAIN: Duration = Duration::from_secs(1);
/// How long to wait before a registry that did not answer is asked again: first and longest.
const RETRY_FIRST: Duration = Duration::from_millis(250);
const RETRY_LONGEST: Duration = Duration::from_secs(30);
/// Schemas kept; beyond that all are forgotten, and asked for again.
const KEPT_MAX: usize = 10_000;

/// What a registry says of an id.
#[derive(Debug, Clone)]
pub enum Answer {
    /// The schema.
    Found(Arc<SchemaText>),
    /// There is none; for people.
    Absent(String),
}

/// How often waits may be short: tests have no half minutes.
#[derive(Debug, Clone, Copy)]
struct Pace {
    absent_for: Duration,
    ask_again: Duration,
    retry_first: Duration,
    retry_longest: Duration,
}

impl Default for Pace {
    fn default() -> Self {
        Self {
            absent_for: ABSENT_FOR,
            ask_again: ASK_AGAIN,
            retry_first: RETRY_FIRST,
            retry_longest: RETRY_LONGEST,
        }
    }
}

/// A registry that does not answer.
#[derive(Debug)]
struct Trouble {
    attempts: u32,
    next: Instant,
}

#[derive(Debug, Default)]
struct State {
    found: HashMap<SchemaId, Arc<SchemaText>>,
    absent: HashMap<SchemaId, (Instant, String)>,
    /// Who asks for an id holds its gate, so that others wait for the answer.
    gates: HashMap<SchemaId, Arc<tokio::sync::Mutex<()>>>,
    trouble: Option<Trouble>,
}

/// How a registry is asked.
#[derive(Debug)]
enum Client {
    Http(Api),
    Glue(Glue),
}

impl Client {
    async fn schema(&self, id: SchemaId) -> Result<Found, String> {
        match self {
            Self::Http(api) => api.schema(id).await,
            Self::Glue(glue) => glue.schema(id).await,
        }
    }
}

/// One registry, shared by the tables that use it.
#[derive(Debug)]
pub struct Registry {
    /// Its address, or what it is called.
    url: String,
    client: Client,
    telemetry: Telemetry,
    pace: Pace,
    state: Mutex<State>,
}

impl Registry {
    /// A client of the registry. Asks nothing yet. `aws` says where the credentials of AWS Glue
    /// come from.
    ///
    /// # Errors
    /// When its settings cannot be used; names them.
    pub fn open(
        settings: &config::Registry,
        aws: &AwsOptions,
        telemetry: Telemetry,
    ) -> Result<Self, String> {
        let client = match settings.kind {
            RegistryKind::Glue => Client::Glue(Glue::new(settings, aws)),
            _ => Client::Http(Api::new(settings, Http::open(settings)?)?),
        };
        let url = settings.url.clone().unwrap_or_else(|| "AWS Glue".to_owned());
        let state = Mutex::default();
        Ok(Self { url, client, telemetry, pace: Pace::default(), state })
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Finds out, once, whether a schema can be read: of one of these topics if there is one, else
    /// any.
    ///
    /// # Errors
    /// When not; for people.
    pub async fn probe(&self, topics: &[String]) -> Result<Probed, String> {
        match &self.client {
            Client::Http(api) => api.probe(topics).await,
            Client::Glue(glue) => glue.probe().await.map(|()| Probed::Answers),
        }
    }

    /// What is known without asking.
    pub fn known(&self, id: SchemaId) -> Option<Answer> {
        let mut state = self.state();
        if let Some(found) = state.found.get(&id) {
            return Some(Answer::Found(found.clone()));
        }
        let (until, reason) = state.absent.get(&id)?;
        if Instant::now() < *until {
            return Some(Answer::Absent(reason.clone()));
        }
        state.absent.remove(&id);
        None
    }

    /// Asks for a schema until the registry has answered.
    pub async fn fetch(&self, id: SchemaId) -> Answer {
        let gate = self.state().gates.entry(id).or_default().clone();
        let answer = {
            let _asking = gate.lock().await;
            match self.known(id) {
                Some(answer) => answer,
                None => self.ask(id).await,
            }
        };
        self.state().gates.remove(&id);
        answer
    }

    async fn ask(&self, id: SchemaId) -> Answer {
        let mut absent_before = false;
        loop {
            if let Some(wait) = self.back_off() {
                tokio::time::sleep(wait).await;
            }
            match self.client.schema(id).await {
                Ok(Found::Schema(schema)) => {
                    self.answered("found");
                    return self.keep(id, Arc::new(schema));
                }
                Ok(Found::Nothing) if !absent_before => {
                    absent_before = true;
                    self.answered("absent");
                    tokio::time::sleep(self.pace.ask_again).await;
                }
                Ok(Found::Nothing) => {
                    self.answered("absent");
                    let reason = format!(
                        "the registry at {} has no schema {id}; see that the producer uses this \
                         registry, and that `records.registry` says how it writes ids",
                        self.url
                    );
                    return self.keep_absent(id, reason);
                }
                Ok(Found::Unusable(what)) => {
                    self.answered("found");
                    let reason = format!("schema {id} of the registry at {} {what}", self.url);
                    return self.keep_absent(id, reason);
                }
                Err(reason) => self.failed(id, &reason),
            }
        }
    }

    fn keep(&self, id: SchemaId, schema: Arc<SchemaText>) -> Answer {
        let mut state = self.state();
        if state.found.len() >= KEPT_MAX {
            state.found.clear();
        }
        state.found.insert(id, schema.clone());
        Answer::Found(schema)
    }

    fn keep_absent(&self, id: SchemaId, reason: String) -> Answer {
        let mut state = self.state();
        let now = Instant::now();
        if state.absent.len() >= KEPT_MAX {
            state.absent.retain(|_, (until, _)| now < *until);
        }
        if state.absent.len() < KEPT_MAX {
            state.absent.insert(id, (now + self.pace.absent_for, reason.clone()));
        }
        Answer::Absent(reason)
    }

    /// How long to leave it alone.
    fn back_off(&self) -> Option<Duration> {
        let wait = self.state().trouble.as_ref()?.next.saturating_duration_since(Instant::now());
        (!wait.is_zero()).then_some(wait)
    }

    fn answered(&self, result: &'static str) {
        self.telemetry.metrics.registry_answered(result);
        if let Some(trouble) = self.state().trouble.take() {
            self.telemetry.metrics.registry_up(true);
            self.telemetry.health.waits_no_more(&self.url);
            info!(registry = %self.url, attempts = trouble.attempts, "schema registry answers again");
        }
    }

    fn failed(&self, id: SchemaId, reason: &str) {
        self.telemetry.metrics.registry_answered("failed");
        self.telemetry.metrics.registry_up(false);
        let waits = format!("waits for the schema registry at {}: {reason}", self.url);
        self.telemetry.health.waits(&self.url, waits);
        let mut state = self.state();
        let attempts = state.trouble.as_ref().map_or(0, |trouble| trouble.attempts) + 1;
        let doubled = self.pace.retry_first.saturating_mul(1 << (attempts - 1).min(16));
        let longest = doubled.min(self.pace.retry_longest);
        // Between half and the whole, so that processes do not ask in step.
        let wait = longest.mul_f64(0.5 + 0.5 * fraction());
        state.trouble = Some(Trouble { attempts, next: Instant::now() + wait });
        drop(state);
        warn!(registry = %self.url, schema = %id, attempts, retry_ms = wait.as_millis() as u64, reason,
              "schema registry does not answer, its tables wait");
    }
}

/// A number from 0 to 1 that differs from process to process and time to time.
fn fraction() -> f64 {
    let bits = uuid::Uuid::new_v4().as_u128() as u32;
    f64::from(bits) / f64::from(u32::MAX)
}

/// The registries of a configuration: tables with the same settings share one.
#[derive(Debug)]
pub struct Registries {
    known: Vec<(config::Registry, Arc<Registry>)>,
}

impl Registries {
    /// Clients of every registry that a table names; `aws` as for [`Registry::open`].
    ///
    /// # Errors
    /// When settings cannot be used; names them.
    pub fn open<'c>(
        settings: impl IntoIterator<Item = &'c config::Registry>,
        aws: &AwsOptions,
        telemetry: &Telemetry,
    ) -> Result<Self, String> {
        let mut known: Vec<(config::Registry, Arc<Registry>)> = Vec::new();
        for settings in settings {
            if !known.iter().any(|(other, _)| other == settings) {
                let registry = Registry::open(settings, aws, telemetry.clone())?;
                known.push((settings.clone(), Arc::new(registry)));
            }
        }
        Ok(Self { known })
    }

    /// The client of these settings.
    pub fn of(&self, settings: &config::Registry) -> Option<Arc<Registry>> {
        let known = self.known.iter().find(|(other, _)| other == settings);
        known.map(|(_, registry)| registry.clone())
    }
}
