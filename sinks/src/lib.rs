//! The tables of Lakebed.
//!
//! One code path writes and reads Parquet, keeps the key index and knows which rows are dead
//! ([`table`]); behind it a [`log::TableLog`] makes files, deletes and progress visible in one
//! atomic commit, in Iceberg ([`iceberg`]), in Delta ([`delta`]) or in memory. Nothing but paths,
//! sizes, counts, statistics and delete positions crosses that seam, so that the two formats may be
//! on different Arrow versions.

pub mod aws;
pub mod catalog;
mod clock;
#[cfg(any(test, feature = "test-utils"))]
pub mod conformance;
pub mod delta;
pub mod error;
pub mod failpoint;
#[cfg(any(test, feature = "test-utils"))]
pub mod faults;
pub mod iceberg;
pub mod log;
#[cfg(any(test, feature = "test-utils"))]
pub mod memory;
mod open;
pub mod profile;
pub mod storage;
pub mod table;

pub use error::{Error, ErrorKind, Result};
pub use open::{Format, create_or_open, open, open_at};
