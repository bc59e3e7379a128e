//! Fuzz target: see `targets::body`.

#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| targets::body(bytes));
