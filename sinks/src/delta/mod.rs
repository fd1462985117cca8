//! Delta tables: not yet written.
