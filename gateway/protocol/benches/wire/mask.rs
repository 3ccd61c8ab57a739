//! Masking, in both directions: what the server undoes and what a client does.
//!
//! Invariant: a binary frame is decoded, in which no UTF-8 is looked for, so the mask is nearly
//! all that it costs. It is masked again by being unmasked twice, so it needs no fresh copy.

use divan::counter::BytesCount;
use divan::{Bencher, black_box};
use throng_protocol::frame::{Opcode, encode_masked};

use crate::frame::{BYTES, MASK, take_all};
use crate::text;

/// Undone where it lies.
#[divan::bench(args = BYTES)]
fn unmask(bencher: Bencher, bytes: usize) {
    let mut frame = encode_masked(Opcode::Binary, text(bytes).as_bytes(), MASK).to_vec();
    bencher
        .counter(BytesCount::new(bytes))
        .bench_local(|| take_all(black_box(&mut frame)));
}

/// Done to a copy, as clients do.
#[divan::bench(args = BYTES)]
fn mask(bencher: Bencher, bytes: usize) {
    let text = text(bytes);
    bencher
        .counter(BytesCount::new(bytes))
        .bench_local(|| encode_masked(Opcode::Binary, black_box(text.as_bytes()), MASK));
}
