//! `lakebed demo`: the whole of it in one process, and a look at what came out.

use std::path::{Path, PathBuf};

use lakebed_schemas::config::TableFormat;

use super::{Failure, print, show};
use crate::demo::{self, DemoOptions, DemoResult};

/// The same changes every time.
const SEED: u64 = 1;
/// Rows shown at the end.
const ROWS_SHOWN: usize = 5;

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

/// Runs the demonstration to its end and shows the result.
pub(super) async fn demo(args: DemoArgs) -> Result<(), Failure> {
    let dir = args.dir.unwrap_or_else(|| {
        std::env::temp_dir().join(format!("lakebed-demo-{}", std::process::id()))
    });
    let dir = std::path::absolute(&dir)
        .map_err(|error| Failure::usage(format!("--dir `{}`: {error}", dir.display())))?;
    let options = DemoOptions { dir, changes: args.rows, format: args.format, seed: SEED };
    let result = demo::run(options).await.map_err(Failure::runtime)?;
    print(&summary(&result))?;
    let config =
        crate::config::load(&result.config).map_err(|error| Failure::runtime(error.to_string()))?;
    show::show(&config, show::ShowArgs::first_rows("silver.public_orders", ROWS_SHOWN)).await?;
    print(&how_to_open(&result, args.format))
}

fn summary(result: &DemoResult) -> String {
    let DemoResult { changes, records, rows, took, .. } = result;
    let seconds = took.as_secs_f64();
    format!(
        "{changes} changes in a shop's database became {records} Kafka records, and those two \
         tables, in {seconds:.1} s.\n\
         The silver table holds {rows} rows and equals the shop, row by row.\n\n"
    )
}

fn how_to_open(result: &DemoResult, format: TableFormat) -> String {
    let scan = |place: &Path| match format {
        TableFormat::Iceberg => {
            let hint = std::fs::read_to_string(place.join("metadata/version-hint.text"));
            let version = hint.unwrap_or_default();
            format!("iceberg_scan('{}/metadata/v{version}.metadata.json')", place.display())
        }
        TableFormat::Delta => format!("delta_scan('{}')", place.display()),
    };
    format!(
        "\nThe current rows  {}\nEvery event       {}\n\n\
         Look at them with Lakebed:\n\
         \x20 lakebed show silver.public_orders --config {config}\n\
         \x20 lakebed status --config {config}\n\
         or with DuckDB:\n\
         \x20 SELECT status, count(*), sum(total) FROM {silver} GROUP BY status;\n\
         \x20 SELECT _op, count(*) FROM {bronze} GROUP BY _op;\n",
        result.silver.display(),
        result.bronze.display(),
        config = result.config.display(),
        silver = scan(&result.silver),
        bronze = scan(&result.bronze),
    )
}
