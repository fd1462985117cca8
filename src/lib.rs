//! The service: reads change topics from Kafka and keeps bronze and silver tables in step.
//!
//! `source` gives records, `decode` understands them, `fold` reduces them to one change a key,
//! a table worker stages and commits, `pipeline` alone knows the order.
