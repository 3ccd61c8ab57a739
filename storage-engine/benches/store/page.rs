//! Pages of 50 messages, warm: from the blocks of a sealed file, and from memory.
//!
//! Invariant: the disk is not read while a page is measured.

use divan::Bencher;
use divan::counter::ItemsCount;

use crate::stage::{History, PAGE_MESSAGES};

/// Messages of each channel.
const MESSAGES_EACH: u64 = 400;

fn measure(bencher: Bencher, page: fn(&History, u64) -> usize) {
    let history = History::new(MESSAGES_EACH);
    for number in 0..MESSAGES_EACH {
        assert_eq!(page(&history, number), PAGE_MESSAGES);
    }
    let (reads, mut number) = (history.device_reads(), 0);
    bencher
        .counter(ItemsCount::new(PAGE_MESSAGES))
        .bench_local(|| {
            number += 1;
            page(&history, number)
        });
    assert_eq!(history.device_reads(), reads, "everything was in memory");
}

#[divan::bench]
fn sealed(bencher: Bencher) {
    measure(bencher, |history, number| history.page(number).len());
}

#[divan::bench]
fn recent(bencher: Bencher) {
    measure(bencher, |history, number| history.newest(number).len());
}
