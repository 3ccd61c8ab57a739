//! Frames as they reach a server, and as they leave it.
//!
//! Invariant: a frame is decoded from a fresh copy, since decoding unmasks it where it lies; the
//! copy is not measured.

use divan::counter::{BytesCount, ItemsCount};
use divan::{Bencher, black_box};
use throng_protocol::frame::{Chunk, Decoder, Opcode, encode_masked, encode_message};

use crate::text;

pub(crate) const BYTES: [usize; 3] = [64, 1 << 10, 16 << 10];
pub(crate) const MASK: [u8; 4] = [0x37, 0xFA, 0x21, 0x3D];

/// As the server is configured unless it is told otherwise.
const MESSAGE_BYTES_MAX: usize = 64 << 10;

/// Frames that come in one chunk.
const TOGETHER: usize = 32;

/// A text message that arrived whole.
#[divan::bench(args = BYTES)]
fn decode(bencher: Bencher, bytes: usize) {
    let frame = encode_masked(Opcode::Text, text(bytes).as_bytes(), MASK);
    bencher
        .counter(BytesCount::new(bytes))
        .with_inputs(|| frame.to_vec())
        .bench_local_refs(|frame| take_all(frame));
}

/// Short messages that arrived together.
#[divan::bench]
fn decode_32_together(bencher: Bencher) {
    let frame = encode_masked(Opcode::Text, text(64).as_bytes(), MASK);
    let chunk = frame.repeat(TOGETHER);
    bencher
        .counter(ItemsCount::new(TOGETHER))
        .with_inputs(|| chunk.clone())
        .bench_local_refs(|chunk| take_all(chunk));
}

/// A message that arrived in two chunks: its first half is kept aside.
#[divan::bench(args = BYTES)]
fn decode_halves(bencher: Bencher, bytes: usize) {
    let frame = encode_masked(Opcode::Text, text(bytes).as_bytes(), MASK);
    bencher
        .counter(BytesCount::new(bytes))
        .with_inputs(|| frame.to_vec())
        .bench_local_refs(|frame| {
            let (first, second) = frame.split_at_mut(bytes / 2);
            let mut decoder = Decoder::server(MESSAGE_BYTES_MAX);
            take(&mut decoder, first) + take(&mut decoder, second)
        });
}

/// A text message on its way out.
#[divan::bench(args = BYTES)]
fn encode(bencher: Bencher, bytes: usize) {
    let text = text(bytes);
    bencher
        .counter(BytesCount::new(bytes))
        .bench_local(|| encode_message(Opcode::Text, black_box(text.as_bytes())));
}

/// Decodes all that there is.
pub(crate) fn take_all(bytes: &mut [u8]) -> usize {
    let items = take(&mut Decoder::server(MESSAGE_BYTES_MAX), bytes);
    assert!(items > 0, "something was whole");
    items
}

fn take(decoder: &mut Decoder, bytes: &mut [u8]) -> usize {
    let mut chunk = Chunk::new(bytes);
    let mut items = 0;
    while let Some(item) = decoder.next(&mut chunk).expect("no rule is broken") {
        black_box(item);
        items += 1;
    }
    items
}
