//! What every decoder and parser must hold for any bytes: functions that panic where it does not hold. `tests/fuzz`
//! feeds them to a fuzzer; `tests/tests/fuzz.rs` feeds them the corpus that is kept.

pub mod face;
pub mod law;

/// A function that must return for any bytes.
pub type Target = fn(&[u8]);

/// All of them, by the name of their corpus.
pub const TARGETS: [(&str, Target); 7] = [
    ("config", face::config),
    ("documents", face::documents),
    ("frames", law::frames),
    ("heads", law::heads),
    ("paths", law::paths),
    ("rows", law::rows),
    ("rules", law::rules),
];
