//! The service: reads change topics from Kafka and keeps bronze and silver tables in step.
//!
//! `source` gives records, `fold` reduces them to one change a key, a `worker` for each table entry
//! stages and commits, `pipeline` alone knows the order.

pub mod cli;
pub mod config;
pub mod dead_letter;
pub mod demo;
pub mod dlq;
pub mod fold;
pub mod group_metadata;
pub mod health;
pub mod http;
pub mod memory;
pub mod metrics;
pub mod pipeline;
pub mod registry;
pub mod replay_ring;
pub mod source;
pub mod tables;
pub mod telemetry;
pub mod worker;
