//! Fuzz target: see `targets::header_json`.

#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| targets::header_json(bytes));
