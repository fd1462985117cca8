//! Iceberg tables: not yet written.
