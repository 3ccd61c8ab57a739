//! An allocator that counts what each thread has allocated and given back.
//!
//! It allocates nothing itself and changes nothing about what the system's allocator does.
//!
//! Invariant: a block is counted with what glibc takes for it: 8 bytes of its own beside it, in steps
//! of 16, and 32 at least; large ones in whole pages.

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;

/// See the file's head.
pub(crate) struct Counting;

/// What a thread has done with memory.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
pub(crate) struct Counts {
    /// Blocks asked for, grown ones included.
    pub(crate) allocations: u64,
    /// Bytes in use, as glibc rounds them.
    pub(crate) live_bytes: i64,
}

thread_local! {
    static COUNTS: Cell<Counts> = const {
        Cell::new(Counts {
            allocations: 0,
            live_bytes: 0,
        })
    };
}

/// What this thread has done so far.
pub(crate) fn counts() -> Counts {
    COUNTS.get()
}

/// Allocations of this thread while something is done.
pub(crate) fn allocations_of<T>(done: impl FnOnce() -> T) -> (u64, T) {
    let before = counts().allocations;
    let result = done();
    (counts().allocations - before, result)
}

fn count(allocations: u64, live_bytes: i64) {
    let mut counts = COUNTS.get();
    counts.allocations += allocations;
    counts.live_bytes += live_bytes;
    COUNTS.set(counts);
}

/// From this size on glibc asks the kernel for pages of their own.
const PAGES_FROM_BYTES: usize = 128 << 10;

fn taken(bytes: usize) -> i64 {
    let taken = match bytes {
        PAGES_FROM_BYTES.. => (bytes + 16).next_multiple_of(4_096),
        _ => (bytes + 8).next_multiple_of(16).max(32),
    };
    i64::try_from(taken).expect("a block is smaller than 2^63 bytes")
}

#[expect(unsafe_code, reason = "an allocator is an unsafe trait")]
// SAFETY: every call is passed on to the system's allocator as it came; counting beside it touches
// no memory that is handed out, and neither allocates nor panics.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        count(1, taken(layout.size()));
        // SAFETY: the caller keeps what `GlobalAlloc` asks for.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, block: *mut u8, layout: Layout) {
        count(0, -taken(layout.size()));
        // SAFETY: the caller keeps what `GlobalAlloc` asks for.
        unsafe { System.dealloc(block, layout) }
    }

    unsafe fn realloc(&self, block: *mut u8, layout: Layout, bytes: usize) -> *mut u8 {
        count(1, taken(bytes) - taken(layout.size()));
        // SAFETY: the caller keeps what `GlobalAlloc` asks for.
        unsafe { System.realloc(block, layout, bytes) }
    }
}

#[test]
fn what_is_allocated_is_counted() {
    let before = counts();
    let (allocations, block) = allocations_of(|| vec![0_u8; 100]);
    assert_eq!(allocations, 1);
    assert_eq!(counts().live_bytes - before.live_bytes, 112);
    drop(block);
    assert_eq!(counts().live_bytes, before.live_bytes);
    assert_eq!(allocations_of(|| 1 + 1).0, 0);
}
