//! Behaviour of the whole log.
