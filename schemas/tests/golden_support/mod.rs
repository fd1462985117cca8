//! Recordings and source states as files, a replay by key, and a comparison by PostgreSQL's texts.
//!
//! The whole program's test of recordings takes everything but `replay` from here.

pub(crate) mod cells;
pub(crate) mod columns;
mod pg_text;
pub(crate) mod recording;
mod replay;

pub(crate) use cells::Cells;
pub(crate) use recording::{Recording, state};
