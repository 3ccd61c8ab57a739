//! What the pure core keeps and what it allocates, counted by the allocator itself.
//!
//! Two shards are driven through `Shard::handle` as an edge would, without sockets, files or clock;
//! so the figures are the same on every machine and at every load.
//!
//! Invariant: only what this thread allocates is counted, so tests may run side by side.

mod counting;
mod crowd;
mod memory;
mod messages;

#[global_allocator]
static COUNTING: counting::Counting = counting::Counting;
