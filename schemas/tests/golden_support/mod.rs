//! Recordings and source states as files, a replay by key, and a comparison by the servers' texts.
//!
//! The whole program's test of recordings takes everything but `replay` and `manifest` from here. A recording
//! that is compared has an entry in `catalogue`.

pub(crate) mod catalogue;
pub(crate) mod cells;
pub(crate) mod columns;
pub(crate) mod forms;
pub(crate) mod manifest;
mod my_text;
mod pg_text;
pub(crate) mod recording;
mod replay;

pub(crate) use cells::Cells;
pub(crate) use recording::{Recording, state};
