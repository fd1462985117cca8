//! Iceberg tables, format version 2: rows die by position deletes, or files leave whole.
//!
//! [`log::IcebergLog`] is the table log; everything else serves it. The `iceberg` crate gives the
//! spec's types, manifests and metadata; reading and writing of objects is ours alone, so that
//! every request is counted and nothing of that crate's Arrow gets in here.

mod convert;
mod entries;
mod filesystem;
mod glue;
#[cfg(test)]
mod glue_tests;
mod leaving;
mod log;
mod maintenance;
mod manifest_stage;
mod manifests;
mod metadata;
mod partition_spec;
mod pointer;
mod position_deletes;
pub(crate) mod profile;
mod progress;
mod rest;
#[cfg(test)]
mod rest_tests;
mod stage;
mod state;
mod summary;
#[cfg(test)]
pub(crate) mod tests;
mod updates;

pub use convert::foreign_topic_partition;
pub use log::IcebergLog;
