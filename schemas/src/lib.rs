//! The data contract of Lakebed: what is read from Kafka, what is written down, and how far.
//!
//! Three things live here: the wire ([`change_event`]), the rows ([`bronze`], [`silver`]) and the
//! progress ([`position`]). Nothing here does I/O or reads a clock.

pub mod bronze;
pub mod change_event;
pub mod column;
pub mod column_override;
pub mod column_text;
pub mod config;
mod connect_schema;
mod decimal;
pub mod decoder;
pub mod evolve;
mod field_kind;
pub mod json;
mod placeholder;
pub mod position;
pub mod silver;
mod temporal;
pub mod value;
