//! Fuzz target: see `targets::properties`.

#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| targets::properties(bytes));
