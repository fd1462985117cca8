//! Any bytes as a date or time: what chrono makes of it.
#![no_main]

#[path = "../../../schemas/tests/value_input/mod.rs"]
mod value_input;

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| value_input::temporal(bytes));
