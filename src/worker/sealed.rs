//! A batch between the one who fills it and the one who writes it.

use std::collections::BTreeMap;
use std::sync::Arc;

use lakebed_sinks::table::{AppendBatch, UpsertBatch};

use super::floors::Floor;
use crate::dead_letter::DeadLetter;
use crate::fold::DepartedRow;

/// A batch on its way into the tables.
#[derive(Default)]
pub(super) struct Sealed {
    pub(super) dead_letters: Vec<DeadLetter>,
    pub(super) bronze: Option<AppendBatch>,
    pub(super) silver: Option<UpsertBatch>,
    pub(super) rows: u64,
    pub(super) ops: BTreeMap<&'static str, u64>,
    /// Records that are no change of a row, by kind.
    pub(super) others: BTreeMap<&'static str, u64>,
    /// Schemas that bronze names for the first time, by hash.
    pub(super) schemas: BTreeMap<Arc<str>, Arc<str>>,
    /// Rows of silver that left their keys and whose new row has not been read.
    pub(super) departed: Vec<DepartedRow>,
    /// Truncates of topics with several partitions that are to be written down first.
    pub(super) floors: Vec<(Arc<str>, Floor)>,
    /// Changes that a truncate had taken before they came.
    pub(super) passed_over: u64,
    /// Values that became NULL because no row of the batch could answer them.
    pub(super) lost: u64,
    /// Values that became NULL by policy.
    pub(super) nulled: u64,
}
