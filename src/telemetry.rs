//! Logs, and the handles through which the service tells how it is doing.
//!
//! Logs go to standard error: for people on a terminal, as one JSON object a line otherwise.
//! Standard output belongs to what a command was asked for.

use std::io::IsTerminal;
use std::sync::Arc;

use tracing_subscriber::EnvFilter;

use crate::health::Health;
use crate::metrics::Metrics;

/// The environment variable that holds the log filter: `debug`, or `info,lakebed::source=trace`.
pub const FILTER_VARIABLE: &str = "LAKEBED_LOG";

/// What is logged without a filter: our own lifecycle, and of libraries what is unexpected.
const FILTER: &str = "warn,lakebed=info,lakebed_sinks=info,lakebed_schemas=info";

/// Form of log lines.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, clap::ValueEnum)]
pub enum LogFormat {
    /// `human` on a terminal, else `json`.
    #[default]
    Auto,
    /// For people.
    Human,
    /// One JSON object a line.
    Json,
}

/// What the parts of the service report to: shared by all of them.
#[derive(Debug, Clone, Default)]
pub struct Telemetry {
    /// Numbers.
    pub metrics: Arc<Metrics>,
    /// Whether it is alive and ready.
    pub health: Arc<Health>,
}

/// Starts logging to standard error for the rest of the process.
///
/// # Errors
/// When `filter` is not a filter; says what is.
pub fn init(format: LogFormat, filter: Option<&str>) -> Result<(), String> {
    let filter = EnvFilter::try_new(filter.unwrap_or(FILTER)).map_err(|error| {
        format!(
            "{FILTER_VARIABLE} is not a log filter: {error}; write a level such as `info`, or \
             `info,lakebed::source=debug`"
        )
    })?;
    let terminal = std::io::stderr().is_terminal();
    let human = match format {
        LogFormat::Auto => terminal,
        LogFormat::Human => true,
        LogFormat::Json => false,
    };
    let builder = tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr);
    // A second call, as tests make it, keeps the first one's settings.
    let _ = if human {
        builder.with_ansi(terminal).with_target(false).compact().try_init()
    } else {
        builder.json().flatten_event(true).with_current_span(false).try_init()
    };
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_filter_that_is_none_is_refused_with_an_example() {
        let error = init(LogFormat::Json, Some("info,=x=y")).expect_err("refused");
        assert!(error.starts_with("LAKEBED_LOG is not a log filter"), "{error}");
        assert!(error.contains("`info,lakebed::source=debug`"), "{error}");
    }
}
