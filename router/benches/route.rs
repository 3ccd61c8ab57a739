//! What it costs to find a topic's owner, and the shards that hear it.
//!
//! Nothing here is sent anywhere. `cargo bench -p throng-router` measures, `cargo test` does
//! everything once.
//!
//! Invariant: inputs are the same at every run, and none is asked for twice in a row.

use divan::{Bencher, black_box};
use throng_router::{InterestTable, NodeId, Ring, Topic, Topology};

const SHARDS: u16 = 4;

/// Topics that somebody hears, in the table that is looked into.
const HEARD: u32 = 100_000;

fn main() {
    divan::main();
}

/// A channel, ids as UUIDv7 have them: alike in front.
fn channel(number: u32) -> Topic {
    let mixed = u128::from(number.wrapping_mul(0x9E37_79B9));
    Topic::Channel((0x018f_0000_0000_7000_8000_0000_0000_0000 | mixed).to_be_bytes())
}

/// One channel after the other, far apart in memory.
fn next(number: &mut u32) -> Topic {
    *number = (*number + 7_919) % HEARD;
    channel(*number)
}

fn topology(nodes: u16) -> Topology {
    let mut ring = Ring::new(NodeId(0), SHARDS).expect("one node fits");
    for node in 1..nodes {
        ring.add_node(NodeId(node), SHARDS)
            .expect("each comes once, and all fit");
    }
    Topology::new(ring)
}

fn interest() -> InterestTable {
    let mut table = InterestTable::new();
    for number in 0..HEARD {
        table.add(&channel(number), 0);
        table.add(&channel(number), u16::from(number.is_multiple_of(2)));
    }
    table
}

#[divan::bench(args = [1, 64])]
fn owner(bencher: Bencher, nodes: u16) {
    let (topology, mut number) = (topology(nodes), 0);
    bencher
        .with_inputs(|| next(&mut number))
        .bench_local_refs(|topic| topology.owner(topic));
}

/// The shards that hear a channel.
#[divan::bench]
fn interested_shards(bencher: Bencher) {
    let (table, mut number) = (interest(), 0);
    bencher
        .with_inputs(|| next(&mut number))
        .bench_local_refs(|topic| table.shards(topic).map(black_box).count());
}

/// A shard's first listener of a channel comes, and goes again.
#[divan::bench]
fn come_and_go(bencher: Bencher) {
    let (mut table, mut number) = (interest(), 0);
    bencher
        .with_inputs(|| next(&mut number))
        .bench_local_refs(|topic| table.add(topic, 3) && table.remove(topic, 3));
}

/// A node joins a cluster of so many.
#[divan::bench(args = [1, 15])]
fn add_node(bencher: Bencher, nodes: u16) {
    let topology = topology(nodes);
    bencher
        .with_inputs(|| topology.ring().clone())
        .bench_local_refs(|ring| ring.add_node(NodeId(nodes), SHARDS));
}
