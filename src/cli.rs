//! The command line: what commands there are, and what each exit code means.
//!
//! One file for each command. Standard output is what was asked for, standard error is what is said
//! about it.

mod broker;
mod cells;
mod check;
mod connect;
mod connector_rules;
mod demo;
mod dlq;
mod lake;
mod profiles;
mod reader_rules;
mod registry_rules;
mod run;
mod show;
mod source_rules;
mod status;
mod table_rules;

use std::io::Write;
use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Parser, Subcommand};
use lakebed_schemas::config::ResolvedConfig;
use lakebed_schemas::position::STORED_FORMAT_VERSION;

use crate::config;
use crate::telemetry::LogFormat;

/// The command line.
#[derive(Debug, Parser)]
#[command(name = "lakebed", version, about, max_term_width = 100)]
pub struct Cli {
    /// The configuration file.
    #[arg(long, short, global = true, env = "LAKEBED_CONFIG", default_value = "lakebed.yaml")]
    pub config: PathBuf,
    /// Form of log lines on standard error; LAKEBED_LOG filters them.
    #[arg(long, global = true, value_enum, default_value_t)]
    pub log_format: LogFormat,
    /// What to do.
    #[command(subcommand)]
    pub command: Command,
}

impl Cli {
    /// What is logged when nobody says otherwise; `None`: what the service logs. The demonstration
    /// shows its progress and its result, and each commit would hide them.
    pub fn log_filter(&self) -> Option<&'static str> {
        matches!(self.command, Command::Demo(_)).then_some("warn")
    }
}

/// The commands.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Keep the tables in step with their topics, until SIGTERM.
    Run(run::RunArgs),
    /// Show all of it at work: a broker, changes and tables in this one process.
    Demo(demo::DemoArgs),
    /// Check the configuration file alone.
    Validate,
    /// Connect, and name what is missing and the next move.
    Check(check::CheckArgs),
    /// Show rows of a table, with its deletes applied.
    Show(show::ShowArgs),
    /// Show where each table stands.
    Status(status::StatusArgs),
    /// Look at what bronze has set aside, and apply it after all.
    Dlq(dlq::DlqArgs),
    /// Show the version.
    Version,
    /// Look at or set the offsets of a table (not yet).
    Offsets(NotYet),
    /// Read records again (not yet).
    Replay(NotYet),
    /// Tidy tables up (not yet; `run` does it by itself).
    Maintain(NotYet),
    /// Print the JSON Schema of the configuration (not yet).
    Schema(NotYet),
}

/// Whatever comes after a command that is not built.
#[derive(Debug, clap::Args)]
pub struct NotYet {
    #[arg(hide = true, trailing_var_arg = true, allow_hyphen_values = true)]
    rest: Vec<String>,
}

/// Form of what a command prints.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, clap::ValueEnum)]
pub enum Output {
    /// For people.
    #[default]
    Table,
    /// For programs.
    Json,
}

/// Why a command did not do what it was asked.
#[derive(Debug)]
pub struct Failure {
    exit: u8,
    message: String,
}

impl Failure {
    /// Exit code 1: something outside did not work.
    pub fn runtime(message: impl Into<String>) -> Self {
        Self { exit: 1, message: message.into() }
    }

    /// Exit code 2: the command line or the configuration is wrong.
    pub fn usage(message: impl Into<String>) -> Self {
        Self { exit: 2, message: message.into() }
    }

    /// Exit code 3: a table was halted by policy.
    pub fn halted(message: impl Into<String>) -> Self {
        Self { exit: 3, message: message.into() }
    }

    /// Says it on standard error and gives the exit code.
    pub fn report(&self) -> ExitCode {
        let mut stderr = std::io::stderr().lock();
        for line in self.message.lines() {
            // Nothing is left to do when standard error is closed.
            let _ = writeln!(stderr, "error: {line}");
        }
        ExitCode::from(self.exit)
    }
}

impl From<lakebed_sinks::Error> for Failure {
    fn from(error: lakebed_sinks::Error) -> Self {
        Self::runtime(format!("{}; {}", error.chain(), next_move(error.kind())))
    }
}

/// What to do about an error of the tables.
fn next_move(kind: lakebed_sinks::ErrorKind) -> &'static str {
    use lakebed_sinks::ErrorKind as K;
    match kind {
        K::Unavailable => "try again when the storage answers",
        K::Denied => "give this process the permission, or other credentials",
        K::Invalid => "change the configuration or the table",
        K::Corrupt => "touch nothing and look at the table",
        K::Internal => "this is a mistake of Lakebed's: please report it",
    }
}

/// Prints to standard output. A reader that has seen enough (`| head`) is no error.
///
/// # Errors
/// When standard output cannot be written to.
fn print(text: &str) -> Result<(), Failure> {
    let mut stdout = std::io::stdout().lock();
    match stdout.write_all(text.as_bytes()).and_then(|()| stdout.flush()) {
        Err(error) if error.kind() != std::io::ErrorKind::BrokenPipe => {
            Err(Failure::runtime(format!("could not write to standard output: {error}")))
        }
        _ => Ok(()),
    }
}

/// Does what the command line asks.
///
/// # Errors
/// With the exit code and what to say.
pub async fn execute(cli: Cli) -> Result<(), Failure> {
    let load = || -> Result<ResolvedConfig, Failure> {
        config::load(&cli.config).map_err(|error| Failure::usage(error.to_string()))
    };
    match cli.command {
        Command::Run(args) => run::run(load()?, args).await,
        Command::Demo(args) => demo::demo(args).await,
        Command::Validate => validate(&cli.config, &load()?),
        Command::Check(args) => check::check(&load()?, &args).await,
        Command::Show(args) => show::show(&load()?, args).await,
        Command::Status(args) => status::status(&load()?, args).await,
        Command::Version => version(),
        Command::Offsets(_) => not_yet("offsets"),
        Command::Replay(_) => not_yet("replay"),
        Command::Maintain(_) => not_yet("maintain"),
        Command::Dlq(args) => dlq::dlq(&load()?, args).await,
        Command::Schema(_) => not_yet("schema"),
    }
}

fn validate(file: &std::path::Path, config: &ResolvedConfig) -> Result<(), Failure> {
    let entries = match config.tables.len() {
        1 => "1 table entry".to_owned(),
        count => format!("{count} table entries"),
    };
    print(&format!("{} is valid: {entries}\n", file.display()))?;
    for mode in config.tables.iter().filter_map(reader_rules::told) {
        print(&format!("{mode}\n"))?;
    }
    Ok(())
}

fn version() -> Result<(), Failure> {
    let (_, librdkafka) = rdkafka::util::get_rdkafka_version();
    let version = env!("CARGO_PKG_VERSION");
    print(&format!(
        "lakebed {version}\nstored format {STORED_FORMAT_VERSION}\nlibrdkafka {librdkafka}\n"
    ))
}

fn not_yet(command: &str) -> Result<(), Failure> {
    Err(Failure::usage(format!(
        "`lakebed {command}`: not yet in this release; `lakebed help` lists what there is"
    )))
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::CommandFactory;

    #[test]
    fn the_command_line_is_consistent() {
        Cli::command().debug_assert();
    }
}
