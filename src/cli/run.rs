//! `lakebed run`: the service.

use lakebed_schemas::config::{ResolvedConfig, Topics};
use tracing::info;

use super::Failure;
use crate::http;
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
///
/// THE SEAM to the pipeline: everything up to it is ready, the exit code comes from its end.
async fn run_pipeline(
    _: ResolvedConfig,
    _: RunArgs,
    _: Telemetry,
    _: impl Future<Output = ()>,
) -> Result<(), Failure> {
    super::not_yet("run")
}
