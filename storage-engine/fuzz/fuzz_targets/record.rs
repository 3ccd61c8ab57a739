//! Any bytes as a record.
//!
//! It checks nothing itself.
//!
//! Invariants: those of `throng_storage_engine::any_bytes`.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| throng_storage_engine::any_bytes::as_record(bytes));
