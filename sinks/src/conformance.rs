//! One behaviour suite for every table log.
//!
//! A format passes by implementing [`LogFactory`] and writing, in its test module,
//! `crate::conformance_tests!(MyFactory::new());`: one test for each behaviour, on a table of its
//! own in a temporary folder.

use async_trait::async_trait;
use lakebed_schemas::column::TableSchema;

use crate::Result;
use crate::log::{TableLog, TableOptions};
use crate::storage::Storage;

/// Makes and opens tables of one format.
#[async_trait]
pub trait LogFactory: Send + Sync {
    /// Makes an empty table with this schema (ids assigned) at `storage`, which holds none.
    ///
    /// # Errors
    /// When it cannot be made.
    async fn create(
        &self,
        storage: &Storage,
        options: &TableOptions,
        schema: &TableSchema,
    ) -> Result<Box<dyn TableLog>>;

    /// Opens the table at `storage`: a new process, knowing nothing but what is stored.
    ///
    /// # Errors
    /// When there is none or it cannot be read.
    async fn open(&self, storage: &Storage, options: &TableOptions) -> Result<Box<dyn TableLog>>;
}
