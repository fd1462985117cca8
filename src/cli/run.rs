//! `lakebed run`: the service.

use std::sync::Arc;

use lakebed_schemas::config::{BadRecords, ResolvedConfig, Topics};
use tracing::info;

use super::Failure;
use crate::dead_letter::DeadLetters;
use crate::http;
use crate::pipeline::{self, RunEnd};
use crate::source::{KafkaSource, SourceOptions};
use crate::tables::ConfiguredTables;
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
    let config = Arc::new(config);
    let dead_letters = match wants_dead_letters(&config) {
        true => Some(Arc::new(DeadLetters::open(&config.kafka).map_err(Failure::runtime)?)),
        false => None,
    };
    let owner = format!("lakebed {} pid {}", env!("CARGO_PKG_VERSION"), std::process::id());
    let metrics = telemetry.metrics.clone();
    let tables = ConfiguredTables::new(config.clone(), owner, args.only, metrics, dead_letters)?;
    let source = KafkaSource::open(&SourceOptions {
        kafka: config.kafka.clone(),
        wanted: tables.wanted_topics(),
        budget_bytes: usize::try_from(config.memory_max / SOURCE_SHARE).unwrap_or(usize::MAX),
    })
    .map_err(Failure::runtime)?;
    let (source, tables) = (Box::new(source), Box::new(tables));
    match pipeline::run(source, tables, args.until_caught_up, telemetry, shutdown).await {
        RunEnd::Done => Ok(()),
        RunEnd::Failed(reason) => Err(Failure::runtime(reason)),
        RunEnd::Halted(tables) => {
            let lines =
                tables.iter().map(|(table, reason)| format!("table `{table}` halted: {reason}"));
            Err(Failure::halted(lines.collect::<Vec<_>>().join("\n")))
        }
    }
}

/// Part of `memory.max` that records on their way may take: decoded rows take about three times
/// the bytes that they came in, and the key index needs the rest.
const SOURCE_SHARE: u64 = 8;

fn wants_dead_letters(config: &ResolvedConfig) -> bool {
    config.tables.iter().any(|table| matches!(table.bad_records, BadRecords::DeadLetterTopic(_)))
}
