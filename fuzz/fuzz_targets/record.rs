//! Fuzz target: see `targets::record`.

#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| targets::record(bytes));
