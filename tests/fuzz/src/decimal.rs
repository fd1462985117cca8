//! Any bytes as a decimal: the number that was sent, to the last digit.
#![no_main]

#[path = "../../../schemas/tests/value_input/mod.rs"]
mod value_input;

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| value_input::decimal(bytes));
