//! Delta tables: the log, written and replayed by us.
//!
//! A commit costs what it changes: the head and every live file's entry are in memory, an entry of
//! the log is one conditional put, and nothing is listed or replayed on the way. The library reads
//! each log checkpoint back before it is relied on, so that a mistake of ours cannot outlive the log
//! entries that would repair it.

mod actions;
mod commit;
mod deletion_vectors;
mod delta_log;
mod log_checkpoint;
mod log_files;
mod maintenance;
mod partitions;
pub(crate) mod profile;
mod progress;
mod protocol;
mod registered;
mod replay;
mod schema;
mod stats;

pub use delta_log::{DeltaLog, create_or_open, open, open_at};
pub use registered::RegisteredLog;
pub use schema::storage_schema;

#[cfg(test)]
pub(crate) mod tests;
