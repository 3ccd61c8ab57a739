//! permessage-deflate: one message each way, nothing remembered between messages.
//!
//! Invariant: a compressor lives as long as its shard, so making one is not measured.

use bytes::Bytes;
use divan::counter::BytesCount;
use divan::{Bencher, black_box};
use throng_protocol::deflate::{Deflater, Inflater};
use throng_protocol::encode_frame;

use crate::event::message_create;
use crate::text;

const BYTES: [usize; 2] = [200, 2_000];

/// MESSAGE_CREATE with a text of this many bytes.
#[divan::bench(args = BYTES)]
fn deflate(bencher: Bencher, bytes: usize) {
    let frame: Bytes = encode_frame(&message_create(bytes));
    let mut deflater = Deflater::default();
    bencher
        .counter(BytesCount::new(frame.len()))
        .bench_local(|| deflater.run(black_box(&frame)).expect("it becomes shorter"));
}

/// A text of this many bytes.
#[divan::bench(args = BYTES)]
fn inflate(bencher: Bencher, bytes: usize) {
    let mut deflater = Deflater::default();
    let compressed = deflater.message(text(bytes).as_bytes());
    let compressed = compressed.expect("it becomes shorter").to_vec();
    let mut inflater = Inflater::default();
    bencher.counter(BytesCount::new(bytes)).bench_local(|| {
        let plain = inflater.inflate(black_box(&compressed), bytes);
        black_box(plain.expect("it was compressed here")).len()
    });
}
