//! `lakebed demo`: the whole of it in one process.

use std::path::PathBuf;

use lakebed_schemas::config::TableFormat;

use super::Failure;

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

/// Runs the demonstration to its end.
///
/// THE SEAM to the demonstration itself: called with the command line understood.
pub(super) async fn demo(_: DemoArgs) -> Result<(), Failure> {
    super::not_yet("demo")
}
