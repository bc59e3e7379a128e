//! Fuzz target: see `targets::batch`.

#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| targets::batch(bytes));
