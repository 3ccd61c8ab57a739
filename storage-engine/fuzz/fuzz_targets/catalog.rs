//! Any bytes as the catalog of a store with one sound segment.
//!
//! It checks nothing itself.
//!
//! Invariants: those of `throng_storage_engine::any_bytes`.
#![no_main]

use throng_storage_engine::any_bytes::as_catalog;

const SEGMENT: &[u8] = include_bytes!("../../golden/v1-segment.log");

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| as_catalog(bytes, SEGMENT));
