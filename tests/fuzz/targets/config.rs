//! Fuzzes `face::config`.

#![no_main]

#[allow(dead_code, reason = "each target uses one function")]
#[path = "../../src/fuzz/face.rs"]
mod face;

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| face::config(bytes));
