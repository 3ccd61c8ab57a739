//! Commits on their way to the disk.
//!
//! Invariant: the number of commits is fixed, since the simulated disk keeps all that is written.

use divan::counter::ItemsCount;
use divan::{Bencher, black_box};

use crate::stage::Written;

const MESSAGES: [u64; 3] = [1, 16, 256];

/// Records in the form in which they are written, checksums included: what a shard does while the
/// commit before is written.
#[divan::bench(args = MESSAGES)]
fn prepare(bencher: Bencher, messages: u64) {
    let mut written = Written::new();
    let records = written.next_messages(messages);
    let encoder = written.encoder();
    bencher
        .counter(ItemsCount::new(messages))
        .bench_local(|| encoder.prepare(black_box(&records)));
}

/// The whole commit: prepared, written, synced, added to the index.
#[divan::bench(args = MESSAGES, sample_count = 50, sample_size = 4)]
fn commit(bencher: Bencher, messages: u64) {
    let written = std::cell::RefCell::new(Written::new());
    bencher
        .counter(ItemsCount::new(messages))
        .with_inputs(|| written.borrow_mut().next_messages(messages))
        .bench_local_refs(|records| written.borrow_mut().commit(records));
}
