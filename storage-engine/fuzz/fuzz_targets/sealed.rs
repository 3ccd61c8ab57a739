//! Any bytes as a sealed segment.
//!
//! It checks nothing itself.
//!
//! Invariants: those of `throng_storage_engine::any_bytes`.
#![no_main]

use throng_storage_engine::any_bytes::as_sealed;

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| as_sealed(bytes));
