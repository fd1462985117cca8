//! AWS Glue: one client for look-ups, which tries again, and one for changes, which sends once.
//!
//! An update names the `VersionId` that it is based on, and Glue refuses it on any other: that is
//! the only lock there is. A change that may have been made is never sent again from here.

mod answer;
mod columns;
#[cfg(any(test, feature = "test-utils"))]
pub mod double;
mod input;

use std::sync::Arc;
use std::time::Duration;

use aws_sdk_glue::Client;
use aws_sdk_glue::config::Region;
use aws_sdk_glue::config::retry::RetryConfig;
use aws_sdk_glue::config::timeout::TimeoutConfig;
use aws_sdk_glue::types::{DatabaseInput, Table, TableInput};

pub use answer::Changed;
pub(crate) use columns::{CatalogColumn, hive_type};
pub(crate) use input::{delta_input, iceberg_input, is_delta, metadata_location};

use crate::aws::Aws;
use crate::{Error, Result};
use answer::{Verdict, changed, failed};

/// Look-ups are tried so often.
const READ_ATTEMPTS: u32 = 5;

/// How to reach a Glue catalog.
#[derive(Debug, Clone)]
pub struct GlueOptions {
    /// Region of the catalog; that of the credentials without.
    pub region: Option<String>,
    /// Endpoint other than AWS's public one (a VPC endpoint, an emulator).
    pub endpoint: Option<String>,
    /// Account whose catalog it is; that of the credentials without.
    pub catalog_id: Option<String>,
    /// Whether databases that are missing are made.
    pub create_databases: bool,
    /// Whether Delta tables get a placeholder for columns instead of their own.
    pub placeholder_columns: bool,
    /// How long one request may take.
    pub timeout: Duration,
}

impl Default for GlueOptions {
    fn default() -> Self {
        Self {
            region: None,
            endpoint: None,
            catalog_id: None,
            create_databases: false,
            placeholder_columns: false,
            timeout: Duration::from_secs(30),
        }
    }
}

/// A Glue catalog. Copies share its clients.
#[derive(Debug, Clone)]
pub struct Glue {
    reads: Client,
    once: Client,
    options: Arc<GlueOptions>,
}

impl Glue {
    /// Clients for a catalog; nothing is asked yet.
    pub fn new(aws: &Aws, options: GlueOptions) -> Self {
        let client = |retries: RetryConfig| {
            let timeouts = TimeoutConfig::builder()
                .connect_timeout(options.timeout.min(Duration::from_secs(5)))
                .operation_attempt_timeout(options.timeout)
                .build();
            let mut config = aws_sdk_glue::config::Builder::from(aws.sdk_config())
                .retry_config(retries)
                .timeout_config(timeouts);
            if let Some(region) = &options.region {
                config = config.region(Region::new(region.clone()));
            }
            if let Some(endpoint) = &options.endpoint {
                config = config.endpoint_url(endpoint);
            }
            Client::from_conf(config.build())
        };
        let standard = RetryConfig::standard()
            .with_max_attempts(READ_ATTEMPTS)
            .with_initial_backoff(Duration::from_millis(200))
            .with_max_backoff(Duration::from_secs(5));
        Self {
            reads: client(standard),
            once: client(RetryConfig::disabled()),
            options: Arc::new(options),
        }
    }

    /// A table's entry, which need not be there.
    pub fn table(&self, database: &str, name: &str) -> GlueTable {
        GlueTable {
            glue: self.clone(),
            database: database.to_owned(),
            name: name.to_owned(),
            registers: true,
        }
    }

    /// Whether Delta tables get a placeholder for columns.
    pub(crate) fn placeholder_columns(&self) -> bool {
        self.options.placeholder_columns
    }

    /// Whether databases that are missing are made.
    pub fn creates_databases(&self) -> bool {
        self.options.create_databases
    }

    /// Whether there is a database of this name.
    ///
    /// # Errors
    /// When Glue does not answer, or does not let us look.
    pub async fn has_database(&self, name: &str) -> Result<bool> {
        let asked = self
            .reads
            .get_database()
            .set_catalog_id(self.options.catalog_id.clone())
            .name(name)
            .send()
            .await;
        match asked {
            Ok(_) => Ok(true),
            Err(error) => match answer::verdict(&error) {
                Verdict::Gone => Ok(false),
                _ => Err(failed(format!("could not look up Glue database `{name}`"), &error)),
            },
        }
    }

    /// Makes a database; one that is there already is left as it is.
    ///
    /// # Errors
    /// When Glue does not answer or refuses.
    pub async fn create_database(&self, name: &str) -> Result<()> {
        let doing = || format!("could not create Glue database `{name}`");
        let input = DatabaseInput::builder().name(name).build();
        let input = input.map_err(|e| Error::internal(doing()).with_source(e))?;
        let asked = self
            .once
            .create_database()
            .set_catalog_id(self.options.catalog_id.clone())
            .database_input(input)
            .send()
            .await;
        match asked {
            Ok(_) => Ok(()),
            Err(error) => match answer::verdict(&error) {
                Verdict::Exists => Ok(()),
                _ => Err(failed(doing(), &error)),
            },
        }
    }
}

/// The entry of one table in Glue.
#[derive(Debug, Clone)]
pub struct GlueTable {
    glue: Glue,
    database: String,
    name: String,
    registers: bool,
}

impl std::fmt::Display for GlueTable {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}.{}", self.database, self.name)
    }
}

impl GlueTable {
    /// The same for a program that only looks: Delta tables that it opens are not registered.
    #[must_use]
    pub fn without_registering(self) -> Self {
        Self { registers: false, ..self }
    }

    /// Whether Delta tables are registered when they are opened.
    pub(crate) fn registers(&self) -> bool {
        self.registers
    }

    /// The catalog that it is in.
    pub(crate) fn glue(&self) -> &Glue {
        &self.glue
    }

    /// The table's name, without its database.
    pub(crate) fn name(&self) -> &str {
        &self.name
    }

    /// The entry as it is now; `None` where there is none.
    ///
    /// # Errors
    /// When Glue does not answer, or does not let us look.
    pub(crate) async fn get(&self) -> Result<Option<Table>> {
        let asked = self
            .glue
            .reads
            .get_table()
            .set_catalog_id(self.glue.options.catalog_id.clone())
            .database_name(&self.database)
            .name(&self.name)
            .send()
            .await;
        match asked {
            Ok(found) => Ok(found.table),
            Err(error) => match answer::verdict(&error) {
                Verdict::Gone => Ok(None),
                _ => Err(failed(format!("could not look up Glue table `{self}`"), &error)),
            },
        }
    }

    /// Makes the entry, and its database if that is wanted. One request each.
    ///
    /// # Errors
    /// When nothing was made: no such database, or Glue refuses.
    pub(crate) async fn create(&self, input: TableInput) -> Result<Changed> {
        let doing = || format!("could not create Glue table `{self}`");
        let send = || {
            let request = self.glue.once.create_table();
            let request = request.set_catalog_id(self.glue.options.catalog_id.clone());
            request.database_name(&self.database).table_input(input.clone()).send()
        };
        match send().await {
            Err(error) if answer::verdict(&error) == Verdict::Gone => {
                if !self.glue.options.create_databases {
                    return Err(Error::invalid(format!(
                        "there is no Glue database `{}`: create it, or set \
                         `lake.catalog.create_databases: true`",
                        self.database
                    )));
                }
                self.glue.create_database(&self.database).await?;
                changed(doing, send().await.map(|_| ()))
            }
            answered => changed(doing, answered.map(|_| ())),
        }
    }

    /// Replaces the entry, if its version is still this one. One request; the old version of the
    /// entry is not archived, because their number is limited and one comes with each commit.
    ///
    /// # Errors
    /// When nothing was changed.
    pub(crate) async fn update(&self, input: TableInput, version_id: &str) -> Result<Changed> {
        let asked = self
            .glue
            .once
            .update_table()
            .set_catalog_id(self.glue.options.catalog_id.clone())
            .database_name(&self.database)
            .table_input(input)
            .version_id(version_id)
            .skip_archive(true)
            .send()
            .await;
        changed(|| format!("could not update Glue table `{self}`"), asked.map(|_| ()))
    }
}

/// The version of an entry, which an update has to name.
///
/// # Errors
/// `Invalid` where Glue names none: without it others' changes would be overwritten.
pub(crate) fn version_id(table: &Table) -> Result<String> {
    table.version_id().map(str::to_owned).ok_or_else(|| {
        Error::invalid(format!(
            "Glue table `{}` has no version id, so changes of others could not be told: \
             use a catalog that keeps them",
            table.name()
        ))
    })
}
