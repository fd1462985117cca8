//! Any bytes as what a source says of its place: ordered as its numbers are.
#![no_main]

#[path = "../../../schemas/tests/position_input/mod.rs"]
mod position_input;

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| position_input::check(bytes));
