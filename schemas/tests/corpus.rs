//! What fuzzing has kept: every input once more, on every build. `tests/fuzz/README.md` says how it
//! grows.

mod decoder_input;
mod position_input;
mod value_input;
mod wire_input;

use std::path::Path;

/// Checks every input of a folder, of which there are more than so many.
fn replay(folder: &str, check: fn(&[u8]), more_than: usize) {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests").join(folder);
    let mut inputs = 0;
    for entry in std::fs::read_dir(folder).expect("the corpus is there") {
        let path = entry.expect("an entry").path();
        let bytes = std::fs::read(&path).expect("an input");
        let checked = std::panic::catch_unwind(|| check(&bytes));
        assert!(checked.is_ok(), "{} fails, as said above", path.display());
        inputs += 1;
    }
    assert!(inputs > more_than, "only {inputs} inputs: the corpus has not come along");
}

#[test]
fn the_decoder_stands_every_input_that_fuzzing_has_kept() {
    replay("corpus", decoder_input::check, 100);
}

#[test]
fn decimals_stand_every_input_that_fuzzing_has_kept() {
    replay("corpus_decimal", value_input::decimal, 50);
}

#[test]
fn dates_and_times_stand_every_input_that_fuzzing_has_kept() {
    replay("corpus_temporal", value_input::temporal, 50);
}

#[test]
fn positions_stand_every_input_that_fuzzing_has_kept() {
    replay("corpus_position", position_input::check, 15);
}

#[test]
fn registries_records_stand_every_input_that_fuzzing_has_kept() {
    replay("corpus_avro", wire_input::avro, 20);
    replay("corpus_protobuf", wire_input::protobuf, 20);
    replay("corpus_framing", wire_input::framing, 20);
}
