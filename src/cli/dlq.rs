//! `lakebed dlq`: what bronze has set aside, and applying it after all.

use std::fmt::Write as _;

use lakebed_schemas::config::{ResolvedConfig, ResolvedTable, TablePath};
use lakebed_schemas::decoder::Decoder;
use lakebed_sinks::table::WriteOptions;
use lakebed_sinks::table::upsert::UpsertTable;

use super::lake::{Lake, OpenTable};
use super::show::{self, ShowArgs};
use super::{Failure, print};
use crate::dlq::{self, Replay, Tally};
use crate::registry::Registry;
use crate::tables;
use crate::telemetry::Telemetry;
use crate::worker::SilverRows;

/// What `dlq` takes.
#[derive(Debug, clap::Args)]
pub struct DlqArgs {
    #[command(subcommand)]
    command: DlqCommand,
}

#[derive(Debug, clap::Subcommand)]
enum DlqCommand {
    /// Show the records that bronze has set aside, and why.
    List(ListArgs),
    /// Decode them again, and apply to silver what is newer than its rows. Writes nothing to Kafka.
    Replay(ReplayArgs),
}

#[derive(Debug, clap::Args)]
struct ListArgs {
    /// The table: `bronze.orders`, `silver.orders` or `orders`.
    table: String,
    /// Records at most, 0 for all [default: 20 as a table, else all].
    #[arg(long)]
    limit: Option<usize>,
    /// Form of the rows.
    #[arg(long, value_enum, default_value_t)]
    output: show::Form,
}

#[derive(Debug, clap::Args)]
struct ReplayArgs {
    /// The table: `silver.orders`, `bronze.orders` or `orders`.
    table: String,
    /// Say what would be done, and do nothing.
    #[arg(long)]
    dry_run: bool,
}

/// Columns that `list` shows.
const SHOWN: [&str; 6] = ["_topic", "_kafka_partition", "_offset", "_timestamp", "_op", "_error"];

pub(super) async fn dlq(config: &ResolvedConfig, args: DlqArgs) -> Result<(), Failure> {
    match args.command {
        DlqCommand::List(args) => {
            let (path, ..) = bronze(config, &args.table).await?;
            let columns = SHOWN.map(str::to_owned).to_vec();
            let present = "_error".to_owned();
            let args =
                ShowArgs::present(path.to_string(), columns, present, args.limit, args.output);
            show::show(config, args).await
        }
        DlqCommand::Replay(args) => replay(config, &args).await,
    }
}

/// The bronze table that is meant, by the name of either layer or the bare name.
async fn bronze(
    config: &ResolvedConfig,
    name: &str,
) -> Result<(TablePath, OpenTable, Lake), Failure> {
    let lake = Lake::open(config).await?;
    let (database, bare) = match name.split_once('.') {
        Some((database, bare)) => (Some(database), bare),
        None => (None, name),
    };
    for entry in &config.tables {
        let (bronze, silver) = (entry.bronze(bare), entry.silver(bare));
        let named = |path: &TablePath| database.is_none_or(|database| path.database == database);
        let meant = [&bronze, &silver].into_iter().flatten().any(named);
        if let (true, Some(path)) = (meant, bronze)
            && let Some(table) = lake.table(&path, None).await?
        {
            return Ok((path, table, lake));
        }
    }
    Err(Failure::usage(format!(
        "there is no bronze table of `{name}`: only bronze keeps what was set aside; `lakebed status` \
         lists the tables"
    )))
}

async fn replay(config: &ResolvedConfig, args: &ReplayArgs) -> Result<(), Failure> {
    let (path, bronze, lake) = bronze(config, &args.table).await?;
    let Some(topic) = dlq::first_topic(bronze.log.as_ref()).await? else {
        return print(&format!("`{path}` has nothing set aside\n"));
    };
    let reads = |entry: &&ResolvedTable| {
        entry.table_name(&topic).as_deref() == Some(path.name.as_str())
            && entry.bronze(&path.name).as_ref() == Some(&path)
    };
    let entry = config.tables.iter().find(reads).ok_or_else(|| {
        Failure::usage(format!(
            "`{path}` holds records of topic `{topic}`, which no entry of `tables` reads into it"
        ))
    })?;
    if !entry.masking.is_empty() {
        return Err(Failure::usage(format!(
            "`{path}` has columns that are left out or masked: bronze keeps no bytes of such a table \
             to decode again"
        )));
    }
    let silver = entry.silver(&path.name).ok_or_else(|| {
        Failure::usage(format!("`{}` has no silver layer to apply anything to", entry.path))
    })?;
    let Some(silver) = lake.table(&silver, None).await? else {
        return Err(Failure::usage(format!(
            "there is no table `{silver}` yet: let `lakebed run` make it from a good record first"
        )));
    };
    let registry = entry.records.registry.as_ref();
    let aws = tables::aws_options(config);
    let registry = registry.map(|settings| Registry::open(settings, &aws, Telemetry::default()));
    let options = WriteOptions { mode: entry.mode, ..WriteOptions::default() };
    let mut replay = Replay {
        bronze: bronze.log,
        silver: UpsertTable::open(silver.log, options).await?,
        decoder: Decoder::new(tables::decode_options(entry)),
        rows: SilverRows::new(tables::silver_rules(entry)),
        registry: registry.transpose().map_err(Failure::usage)?.map(std::sync::Arc::new),
        dry_run: args.dry_run,
    };
    let tally = replay.run().await?;
    print(&told(&tally, args.dry_run))
}

fn told(tally: &Tally, dry_run: bool) -> String {
    let mut text = String::new();
    for (tp, offset, reason) in &tally.reasons {
        let _ = writeln!(text, "{tp}@{offset}: {reason}");
    }
    let applied = if dry_run { "would be applied" } else { "applied" };
    let _ = writeln!(text, "{} set aside, {} {applied}", tally.found, tally.applied);
    let counts = [
        (tally.superseded, "superseded: silver has something newer, or the row is gone"),
        (tally.not_passed, "not passed by silver yet: `lakebed run` decides"),
        (tally.without_bytes, "without bytes: their columns were left out or masked"),
        (tally.without_row, "that are no change of a row"),
        (tally.refused, "still not understood, or not fit for the table"),
    ];
    for (count, what) in counts.into_iter().filter(|(count, _)| *count > 0) {
        let _ = writeln!(text, "{count} {what}");
    }
    text
}
