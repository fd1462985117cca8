//! Opening a table in the format it is in.

use lakebed_schemas::column::TableSchema;

use crate::catalog::Entry;
use crate::delta::{self, DeltaLog, RegisteredLog, storage_schema};
use crate::iceberg::IcebergLog;
use crate::log::{TableLog, TableOptions};
use crate::storage::Storage;
use crate::{Error, Result};

/// An open table format.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Format {
    /// Apache Iceberg, format version 2.
    Iceberg,
    /// Delta Lake.
    Delta,
}

/// Opens the table at a place, or makes one with these columns if there is none.
///
/// # Errors
/// When storage does not answer, or what is there is not a table of ours.
pub async fn create_or_open(
    format: Format,
    storage: &Storage,
    options: &TableOptions,
    schema: &TableSchema,
) -> Result<Box<dyn TableLog>> {
    Ok(match format {
        Format::Iceberg => {
            Box::new(IcebergLog::create_or_open(storage.clone(), options.clone(), schema).await?)
        }
        Format::Delta => {
            let schema = storage_schema(schema);
            registered(delta::create_or_open(storage, options, &schema).await?, options).await
        }
    })
}

/// Opens the table at a place; `None` if there is none.
///
/// # Errors
/// As [`create_or_open`].
pub async fn open(
    format: Format,
    storage: &Storage,
    options: &TableOptions,
) -> Result<Option<Box<dyn TableLog>>> {
    Ok(match format {
        Format::Iceberg => {
            let log = IcebergLog::open(storage.clone(), options.clone()).await?;
            log.map(|log| Box::new(log) as Box<dyn TableLog>)
        }
        Format::Delta => match delta::open(storage, options).await? {
            Some(log) => Some(registered(log, options).await),
            None => None,
        },
    })
}

/// The log, told to the catalog that its options name.
async fn registered(log: DeltaLog, options: &TableOptions) -> Box<dyn TableLog> {
    match &options.catalog {
        Entry::Glue(entry) if entry.registers() => {
            Box::new(RegisteredLog::new(log, entry.clone()).await)
        }
        _ => Box::new(log),
    }
}

/// Opens an older version of a table, for reading only.
///
/// # Errors
/// When the version is not kept, and as [`create_or_open`].
pub async fn open_at(
    format: Format,
    storage: &Storage,
    options: &TableOptions,
    version: i64,
) -> Result<Box<dyn TableLog>> {
    if version < 0 {
        return Err(Error::invalid(format!("there is no version {version}")));
    }
    Ok(match format {
        Format::Iceberg => {
            Box::new(IcebergLog::open_at(storage.clone(), options.clone(), version).await?)
        }
        Format::Delta => Box::new(delta::open_at(storage, version).await?),
    })
}
