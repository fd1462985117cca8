//! Any bytes as a record of any framing, flattened or not.
#![no_main]

#[path = "../../../schemas/tests/wire_input/mod.rs"]
mod wire_input;

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| wire_input::framing(bytes));
