//! What a client's command costs the pure core, from the bytes of a frame to the outputs: all that
//! two shards do for it, lanes and commit included, and beside it the echo.
//!
//! No socket and no store is there. `cargo bench -p throng --bench shard` measures, `cargo test`
//! does everything once.
//!
//! Invariants: what was measured was delivered; the number of messages is fixed, since nonces are
//! remembered for five minutes and here no time passes.

#[path = "../../tests/allocations/crowd.rs"]
#[expect(dead_code, reason = "the tests of allocations count more of it")]
mod crowd;
mod talk;

use divan::Bencher;
use divan::counter::{BytesCount, ItemsCount};

use crate::talk::{SPEAKER, Valley, channel_of, crowd, heartbeat, message, text_frame};

fn main() {
    divan::main();
}

/// Items are deliveries.
#[divan::bench(args = [4, 1_000], sample_count = 50, sample_size = 20)]
fn send_message(bencher: Bencher, listeners: u32) {
    let (channel, mut crowd, mut sent) = (channel_of(listeners), crowd(), 0);
    let delivered = crowd.recipients;
    bencher
        .counter(ItemsCount::new(listeners))
        .with_inputs(|| {
            sent += 1;
            message(channel, sent)
        })
        .bench_local_refs(|frame| crowd.receive(SPEAKER, frame));
    let due = u64::from(sent) * u64::from(listeners);
    assert_eq!(crowd.recipients - delivered, due);
}

#[divan::bench]
fn heartbeat_and_answer(bencher: Bencher) {
    let mut crowd = crowd();
    bencher
        .with_inputs(heartbeat)
        .bench_local_refs(|frame| crowd.receive(SPEAKER, frame));
}

#[divan::bench(args = [64, 1 << 10])]
fn echo(bencher: Bencher, bytes: usize) {
    let mut valley = Valley::new();
    bencher
        .counter(BytesCount::new(bytes))
        .with_inputs(|| text_frame(&"e".repeat(bytes)))
        .bench_local_refs(|frame| valley.call(frame));
}
