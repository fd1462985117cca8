//! What fuzzing has kept: every input once more, on every build. `tests/fuzz/README.md` says how it
//! grows.

mod decoder_input;

use std::path::Path;

#[test]
fn the_decoder_stands_every_input_that_fuzzing_has_kept() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/corpus");
    let mut inputs = 0;
    for entry in std::fs::read_dir(folder).expect("the corpus is there") {
        let path = entry.expect("an entry").path();
        let bytes = std::fs::read(&path).expect("an input");
        let checked = std::panic::catch_unwind(|| decoder_input::check(&bytes));
        assert!(checked.is_ok(), "{} fails, as said above", path.display());
        inputs += 1;
    }
    assert!(inputs > 100, "only {inputs} inputs: the corpus has not come along");
}
