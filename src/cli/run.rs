//! `lakebed run`: the service.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};

use lakebed_schemas::config::{BadRecords, NameRule, ResolvedConfig, Topics};
use tracing::{error, info};

use super::{Failure, broker};
use crate::dead_letter::DeadLetters;
use crate::http;
use crate::memory::MemoryBudget;
use crate::pipeline::{self, RunEnd, RunOptions};
use crate::source::{KafkaSource, LOOK_EVERY, SourceOptions, Wanted};
use crate::tables::{self, ConfiguredTables};
use crate::telemetry::Telemetry;

/// What `run` takes.
#[derive(Debug, Clone, clap::Args)]
pub struct RunArgs {
    /// End with 0 as soon as everything that the topics hold now is committed.
    #[arg(long)]
    pub until_caught_up: bool,
    /// Run this table alone: its name, or `database.name`.
    #[arg(long, value_name = "TABLE")]
    pub only: Option<String>,
}

/// Runs until SIGTERM or SIGINT (a second one ends at once), or until caught up.
pub(super) async fn run(config: ResolvedConfig, args: RunArgs) -> Result<(), Failure> {
    if let Some(only) = &args.only {
        known_table(&config, only)?;
    }
    let telemetry = Telemetry::default();
    let server = match &config.http_listen {
        None => None,
        Some(listen) => {
            let served = http::serve(listen, telemetry.clone()).await;
            let (address, task) = served.map_err(Failure::runtime)?;
            info!(%address, "serving /livez /readyz /metrics");
            Some(task)
        }
    };
    let shutdown = {
        let health = telemetry.health.clone();
        async move {
            stop_signal().await;
            health.stopping();
            tokio::spawn(async {
                stop_signal().await;
                std::process::exit(1);
            });
        }
    };
    let end = run_pipeline(config, args, telemetry, shutdown).await;
    if let Some(task) = server {
        task.abort();
    }
    end
}

/// Refuses a table that no entry can give. What a pattern gives, the cluster's topics decide.
fn known_table(config: &ResolvedConfig, only: &str) -> Result<(), Failure> {
    if config.tables.iter().any(|entry| matches!(entry.topics, Topics::Pattern { .. })) {
        return Ok(());
    }
    let mut names = Vec::new();
    for table in config.route([]).unwrap_or_default() {
        let entry = &config.tables[table.entry];
        let layers = [entry.silver(&table.name), entry.bronze(&table.name)];
        names.extend(layers.into_iter().flatten().map(|path| path.to_string()));
        names.push(table.name);
    }
    if names.iter().any(|name| name == only) {
        return Ok(());
    }
    let all = names.join(", ");
    Err(Failure::usage(format!("--only names no table `{only}`; there are {all}")))
}

/// Completes at SIGTERM or SIGINT.
async fn stop_signal() {
    use tokio::signal::unix::{SignalKind, signal};
    let stop = async |kind| match signal(kind) {
        Ok(mut signals) => {
            signals.recv().await;
        }
        // Without a handler the signal ends the process, which loses nothing.
        Err(_) => std::future::pending().await,
    };
    tokio::select! {
        () = stop(SignalKind::terminate()) => {}
        () = stop(SignalKind::interrupt()) => {}
    }
}

/// Runs the stages until `shutdown` completes or the run ends by itself.
async fn run_pipeline(
    config: ResolvedConfig,
    args: RunArgs,
    telemetry: Telemetry,
    shutdown: impl Future<Output = ()>,
) -> Result<(), Failure> {
    let servers = &config.kafka.bootstrap_servers;
    let cluster = broker::cluster(&config.kafka).await.map_err(|error| {
        let next = "start the broker, or correct `kafka.bootstrap_servers` and `kafka.security`";
        Failure::runtime(format!("no broker answers at {servers}: {error}; {next}"))
    })?;
    config.route(cluster.topics.keys().map(String::as_str)).map_err(|clashes| {
        let lines: Vec<String> = clashes.iter().map(ToString::to_string).collect();
        Failure::usage(lines.join("\n"))
    })?;
    let config = Arc::new(config);
    let letters = config.tables.iter().any(|table| table.bad_records != BadRecords::Halt);
    let dead_letters = match letters {
        true => Some(Arc::new(DeadLetters::open(&config.kafka).map_err(Failure::runtime)?)),
        false => None,
    };
    let lake = tables::open_lake(&config).await?;
    lake.prepare(&config).await?;
    let tables = ConfiguredTables::new(
        config.clone(),
        lake,
        owner(),
        args.only.clone(),
        &telemetry,
        dead_letters,
    )?;
    let memory = MemoryBudget::new(config.memory_max);
    let options = SourceOptions {
        kafka: config.kafka.clone(),
        wanted: wanted(config.clone(), args.only),
        budget_bytes: memory.for_records(0),
        look_every: LOOK_EVERY,
    };
    let opened = tokio::task::spawn_blocking(move || KafkaSource::open(&options)).await;
    let source = opened
        .map_err(|error| Failure::runtime(format!("the Kafka client died: {error}")))?
        .map_err(Failure::runtime)?;
    let (source, tables) = (Box::new(source), Box::new(tables));
    let options = RunOptions { until_caught_up: args.until_caught_up, memory };
    match pipeline::run(source, tables, options, telemetry, shutdown).await {
        RunEnd::Done => Ok(()),
        RunEnd::Failed(reason) => Err(Failure::runtime(reason)),
        RunEnd::Halted(tables) => {
            let line = |(table, reason): &(String, String)| format!("{table} is halted: {reason}");
            Err(Failure::halted(tables.iter().map(line).collect::<Vec<_>>().join("\n")))
        }
    }
}

/// Who writes, for people who read a table's history: machine and process.
fn owner() -> String {
    let host = std::fs::read_to_string("/proc/sys/kernel/hostname").unwrap_or_default();
    format!("{}/{}", host.trim(), std::process::id())
}

/// Says of each topic whether it is read. A topic that turns up while running and would share the
/// table of another, although no `name` merges them, is not: rows that belong apart would mix.
fn wanted(config: Arc<ResolvedConfig>, only: Option<String>) -> Wanted {
    let claims: Mutex<BTreeMap<(usize, String), String>> = Mutex::default();
    Arc::new(move |topic: &str| {
        let mut claims = claims.lock().unwrap_or_else(PoisonError::into_inner);
        let mut read = false;
        for (index, entry) in config.tables.iter().enumerate() {
            let Some(name) = entry.table_name(topic) else { continue };
            let layers = [entry.silver(&name), entry.bronze(&name)];
            let mut names = layers.into_iter().flatten().map(|path| path.to_string());
            if only.as_ref().is_some_and(|only| *only != name && names.all(|path| path != *only)) {
                continue;
            }
            if matches!(entry.name, NameRule::Default { .. }) {
                let owner = claims.entry((index, name.clone())).or_insert_with(|| topic.to_owned());
                if owner != topic {
                    error!(
                        topic, table = %name, taken_by = %owner,
                        "topic is not read: another one has its table; give `{}` a `name`", entry.path
                    );
                    continue;
                }
            }
            read = true;
        }
        read
    })
}
