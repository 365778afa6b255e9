//! Fuzzes `law::heads`.

#![no_main]

#[allow(dead_code, reason = "each target uses one function")]
#[path = "../../src/fuzz/law.rs"]
mod law;

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| law::heads(bytes));
