//! The routing table of a node: topic in, owner out.
//!
//! It never asks anybody: it is built from a ring and replaced as a whole when the ring changes.
//!
//! Invariants: `owner` is a pure function of the topic and of the ring; on a single node,
//! `shard_of` is below the number of shards given.

use crate::ring::{NodeId, Placement, Ring, RingError};
use crate::topic::Topic;

/// Who owns what, in constant time.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Topology {
    ring: Ring,
}

impl Topology {
    /// One node (number 0) with this many shards.
    ///
    /// # Panics
    /// When `shards` is 0 or more than 4096: a configuration is checked before it gets here.
    #[must_use]
    pub fn single(shards: u16) -> Self {
        match Ring::new(NodeId(0), shards) {
            Ok(ring) => Self { ring },
            Err(error @ (RingError::NoShards(_) | RingError::TooManyShards { .. })) => {
                panic!("a single node needs 1 to 4096 shards: {error}")
            }
            Err(error) => unreachable!("an empty ring refuses nothing else: {error}"),
        }
    }

    /// The table of an existing ring.
    #[must_use]
    pub const fn new(ring: Ring) -> Self {
        Self { ring }
    }

    /// The ring that decides.
    #[must_use]
    pub const fn ring(&self) -> &Ring {
        &self.ring
    }

    /// Where a topic is sequenced.
    #[must_use]
    pub fn owner(&self, topic: &Topic) -> Placement {
        self.ring.owner(topic.slot())
    }

    /// The owner's shard number within its node.
    #[must_use]
    pub fn shard_of(&self, topic: &Topic) -> u16 {
        self.owner(topic).shard
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_shard_owns_everything() {
        let topology = Topology::single(1);
        for id in 0..1000_u128 {
            assert_eq!(topology.shard_of(&Topic::User(id.to_be_bytes())), 0);
        }
    }

    /// Sequential ids, as UUIDv7 nearly are, still spread: each of 8 shards gets 1/8 of 20,000
    /// keys within 15 % (slots alone allow 0.2 %, chance about five standard deviations).
    #[test]
    fn sequential_ids_spread_over_shards() {
        let topology = Topology::single(8);
        for topic in [Topic::Channel, Topic::Presence, Topic::User] {
            let mut counts = [0_u32; 8];
            for id in 0..20_000_u128 {
                counts[usize::from(topology.shard_of(&topic(id.to_be_bytes())))] += 1;
            }
            for count in counts {
                assert!((2125..=2875).contains(&count), "{counts:?}");
            }
        }
    }

    #[test]
    #[should_panic(expected = "1 to 4096 shards")]
    fn no_shards_is_our_mistake() {
        let _ = Topology::single(0);
    }

    #[test]
    fn owner_names_the_node() {
        let mut ring = Ring::new(NodeId(3), 2).unwrap();
        ring.add_node(NodeId(9), 4).unwrap();
        let topology = Topology::new(ring);
        let nodes: std::collections::BTreeSet<u16> = (0..100_u128)
            .map(|id| topology.owner(&Topic::Channel(id.to_be_bytes())).node.0)
            .collect();
        assert_eq!(nodes.into_iter().collect::<Vec<_>>(), [3, 9]);
    }
}
