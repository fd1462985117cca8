//! `lakebed demo`: the whole of it in one process.

use std::path::PathBuf;

use lakebed_schemas::config::TableFormat;

use super::{Failure, print};
use crate::demo::{DemoOptions, DemoResult};

/// What `demo` takes.
#[derive(Debug, Clone, clap::Args)]
pub struct DemoArgs {
    /// Folder for the tables [default: a new one in the system's folder for temporary files].
    #[arg(long)]
    pub dir: Option<PathBuf>,
    /// Changes to make.
    #[arg(long, default_value_t = 100_000, value_parser = clap::value_parser!(u64).range(1..))]
    pub rows: u64,
    /// Format of the tables.
    #[arg(long, value_parser = format, default_value = "iceberg")]
    pub format: TableFormat,
}

fn format(text: &str) -> Result<TableFormat, String> {
    match text {
        "iceberg" => Ok(TableFormat::Iceberg),
        "delta" => Ok(TableFormat::Delta),
        _ => Err("write `iceberg` or `delta`".to_owned()),
    }
}

/// Runs the demonstration to its end and says what it made.
pub(super) async fn demo(args: DemoArgs) -> Result<(), Failure> {
    let dir = args.dir.unwrap_or_else(|| {
        std::env::temp_dir().join(format!("lakebed-demo-{}", std::process::id()))
    });
    let options = DemoOptions { dir, changes: args.rows, format: args.format, seed: SEED };
    let result = crate::demo::run(options).await.map_err(Failure::runtime)?;
    print(&report(&result, args.format))
}

/// The same shop each time, so that two runs can be compared.
const SEED: u64 = 2026;

fn report(result: &DemoResult, format: TableFormat) -> String {
    let (silver, bronze) = (result.silver.display(), result.bronze.display());
    let config = result.config.display();
    let function = match format {
        TableFormat::Iceberg => "iceberg_scan",
        TableFormat::Delta => "delta_scan",
    };
    let seconds = result.took.as_secs_f64();
    format!(
        "{} changes came as {} Kafka records and are in the tables after {seconds:.1} s.\n\
         silver: {} rows, equal to what the shop knows, in {silver}\n\
         bronze: {} records, in {bronze}\n\n\
         Look at them:\n  \
           lakebed show silver.public_orders --limit 5 --config {config}\n  \
           lakebed status --config {config}\n\
         With DuckDB:\n  \
           INSTALL {format}; LOAD {format};\n  \
           SELECT status, count(*), sum(total) FROM {function}('{silver}') GROUP BY status;\n",
        result.changes,
        result.records,
        result.rows,
        result.records,
        format = format.as_str(),
    )
}
