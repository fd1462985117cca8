//! The program: reads the command line, starts logging and the runtime, ends with an exit code.

use std::process::ExitCode;

use clap::Parser;
use lakebed::cli::{self, Cli};
use lakebed::telemetry;

#[global_allocator]
static ALLOCATOR: tikv_jemallocator::Jemalloc = tikv_jemallocator::Jemalloc;

fn main() -> ExitCode {
    let cli = Cli::parse();
    let filter = std::env::var(telemetry::FILTER_VARIABLE).ok();
    let filter = filter.as_deref().or(cli.log_filter());
    if let Err(message) = telemetry::init(cli.log_format, filter) {
        return cli::Failure::usage(message).report();
    }
    let runtime = match tokio::runtime::Builder::new_multi_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => {
            return cli::Failure::runtime(format!("could not start threads: {error}")).report();
        }
    };
    let end = runtime.block_on(cli::execute(cli));
    // A Kafka look-up that was given up may still sit in its thread: nobody waits for it.
    runtime.shutdown_background();
    match end {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => failure.report(),
    }
}
