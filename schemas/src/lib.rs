//! The data contract of Lakebed: what is read from Kafka, what is written down, and how far.
//!
//! Four things live here: the wire ([`decoder`] makes a [`change_event`] of a record's bytes), the
//! rows ([`bronze`], [`silver`], and [`evolve`], which fits the one into the other), the progress
//! ([`position`]) and the [`config`]. Nothing here does I/O or reads a clock.

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
pub mod masking;
pub mod partition;
mod placeholder;
pub mod position;
pub mod silver;
pub mod source_order;
mod structured;
mod temporal;
pub mod value;
pub mod wire;
