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

impl Format {
    /// What people call it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Iceberg => "iceberg",
            Self::Delta => "delta",
        }
    }

    /// The format of the table at a place, by the folder that holds its log; `None` where there is
    /// no table.
    ///
    /// # Errors
    /// When storage does not answer, and `Corrupt` where there are two logs.
    pub async fn at(storage: &Storage) -> Result<Option<Self>> {
        let folders = storage.folders().await?;
        let has = |name: &str| folders.iter().any(|folder| folder == name);
        match (has("_delta_log"), has("metadata")) {
            (true, false) => Ok(Some(Self::Delta)),
            (false, true) => Ok(Some(Self::Iceberg)),
            (false, false) => Ok(None),
            (true, true) => Err(Error::corrupt(format!(
                "`{}` holds the logs of a Delta and of an Iceberg table",
                storage.location()
            ))),
        }
    }

    /// Refuses a place where there is a table of another format: each would take the other's files
    /// for what is left over, and remove them.
    async fn refuse_other(self, storage: &Storage, options: &TableOptions) -> Result<()> {
        // Such a catalog has Iceberg tables alone, and knows where they lie.
        if let Entry::Rest(_) = options.catalog {
            return Ok(());
        }
        match Self::at(storage).await? {
            Some(other) if other != self => Err(Error::invalid(format!(
                "table `{}` is {}, not {}: correct `format`, or give the table another name",
                storage.location(),
                other.name(),
                self.name()
            ))),
            _ => Ok(()),
        }
    }
}

/// Opens the table at a place, or makes one with these columns if there is none.
///
/// # Errors
/// When storage does not answer, or what is there is not a table of ours, or of another format.
pub async fn create_or_open(
    format: Format,
    storage: &Storage,
    options: &TableOptions,
    schema: &TableSchema,
) -> Result<Box<dyn TableLog>> {
    format.refuse_other(storage, options).await?;
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
    format.refuse_other(storage, options).await?;
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
