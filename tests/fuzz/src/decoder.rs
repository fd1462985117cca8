//! Any bytes as a Kafka record: decoded, brought to bronze, and planned into silver.
#![no_main]

#[path = "../../../schemas/tests/decoder_input/mod.rs"]
mod decoder_input;

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| decoder_input::check(bytes));
