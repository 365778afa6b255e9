//! The corpus of every fuzz target holds: what a fuzzer once found interesting, or broke something, is tried in every run.

use std::fs;
use std::path::Path;

use tidegate_tests::fuzz::TARGETS;

#[test]
fn every_input_that_is_kept_is_refused_or_survives() {
    let corpus = Path::new(env!("CARGO_MANIFEST_DIR")).join("fuzz/corpus");
    for (name, target) in TARGETS {
        let inputs = fs::read_dir(corpus.join(name)).unwrap_or_else(|error| panic!("{name} has no corpus: {error}"));
        let mut tried = 0;
        for input in inputs {
            let path = input.expect("a directory that was opened can be read").path();
            let bytes = fs::read(&path).expect("a file of the corpus");
            // Which one it was is said by the name of the thread.
            let thread = std::thread::Builder::new().name(path.display().to_string());
            let tried_alone = thread.spawn(move || target(&bytes)).expect("a thread").join();
            assert!(tried_alone.is_ok(), "{} breaks {name}", path.display());
            tried += 1;
        }
        assert!(tried > 0, "{name} has an empty corpus");
        let whole = [0_u8, 1, 0x7f, 0x80, 0xff];
        for length in 0..64 {
            for byte in whole {
                target(&vec![byte; length]);
            }
        }
    }
}
