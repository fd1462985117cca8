//! Which tables that are there an entry goes on with. `lakebed check` asks this before the start.

use lakebed_schemas::partition::{PartitionBy, is_as_configured};
use lakebed_sinks::Error;
use lakebed_sinks::log::Head;

/// Why an entry does not go on with its tables.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{what}: {next_move}")]
pub struct Refusal {
    /// What about which table.
    pub what: String,
    /// What to do about it.
    pub next_move: String,
}

impl From<Refusal> for Error {
    fn from(refusal: Refusal) -> Self {
        Self::invalid(refusal.to_string())
    }
}

/// Refuses a table, named `database.table`, that is not partitioned as configured.
///
/// # Errors
/// With both partitionings.
pub fn check_partitions(name: &str, head: &Head, wanted: &[PartitionBy]) -> Result<(), Refusal> {
    if is_as_configured(&head.schema, wanted) {
        return Ok(());
    }
    let said = |texts: Vec<String>| match texts.is_empty() {
        true => "nothing".to_owned(),
        false => format!("`{}`", texts.join("`, `")),
    };
    let is = said(head.schema.partition_by.iter().map(|f| f.configured().to_string()).collect());
    let wanted = said(wanted.iter().map(ToString::to_string).collect());
    Err(Refusal {
        what: format!("table `{name}` is partitioned by {is}, `partition_by` says {wanted}"),
        next_move: "put `partition_by` back, or build the table anew under another name (an \
                    Iceberg table may also be given other partitions by an engine that can, such \
                    as Spark, while nothing writes to it)"
            .to_owned(),
    })
}
