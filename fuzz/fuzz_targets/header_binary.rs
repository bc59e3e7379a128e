//! Fuzz target: see `targets::header_binary`.

#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| targets::header_binary(bytes));
