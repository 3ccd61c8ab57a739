//! Any bytes as the manifest of a store.
//!
//! It checks nothing itself.
//!
//! Invariants: those of `throng_storage_engine::any_bytes`.
#![no_main]

use throng_storage_engine::any_bytes::as_manifest;

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| as_manifest(bytes));
