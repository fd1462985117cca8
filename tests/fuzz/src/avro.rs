//! Any bytes as an Avro body and as its schema.
#![no_main]

#[path = "../../../schemas/tests/wire_input/mod.rs"]
mod wire_input;

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| wire_input::avro(bytes));
