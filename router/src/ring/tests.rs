//! Properties of the ring: even loads, and moves that touch only the node that came or went.

use std::collections::BTreeMap;

use proptest::prelude::*;

use super::*;
use crate::Topic;

fn owners(ring: &Ring) -> Vec<Placement> {
    (0..SLOTS).map(|slot| ring.owner(Slot(slot))).collect()
}

fn loads(ring: &Ring) -> BTreeMap<Placement, usize> {
    let mut loads = BTreeMap::new();
    for owner in owners(ring) {
        *loads.entry(owner).or_default() += 1;
    }
    loads
}

fn check_even(ring: &Ring) {
    let loads = loads(ring);
    let least = loads.values().min().unwrap();
    let most = loads.values().max().unwrap();
    assert_eq!(
        loads.len(),
        ring.places().len(),
        "every shard owns something"
    );
    assert!(most - least <= 1, "loads {least}..{most}");
}

#[test]
fn refuses_what_it_cannot_place() {
    let node = NodeId(7);
    assert_eq!(Ring::new(node, 0), Err(RingError::NoShards(node)));
    assert_eq!(
        Ring::new(node, 4097),
        Err(RingError::TooManyShards { shards: 4097 })
    );
    let mut ring = Ring::new(node, 2).unwrap();
    let before = ring.clone();
    assert_eq!(ring.add_node(node, 1), Err(RingError::NodeExists(node)));
    assert_eq!(
        ring.add_node(NodeId(8), 4095),
        Err(RingError::TooManyShards { shards: 4097 })
    );
    assert_eq!(
        ring.remove_node(NodeId(8)),
        Err(RingError::NoSuchNode(NodeId(8)))
    );
    assert_eq!(ring.remove_node(node), Err(RingError::LastNode(node)));
    assert_eq!(ring, before);
}

#[test]
fn as_many_shards_as_slots() {
    let ring = Ring::new(NodeId(0), SLOTS).unwrap();
    assert!(loads(&ring).values().all(|&load| load == 1));
}

#[test]
fn golden_placement() {
    let mut ring = Ring::new(NodeId(0), 2).unwrap();
    ring.add_node(NodeId(1), 2).unwrap();
    let first: Vec<(u16, u16)> = owners(&ring)[..16]
        .iter()
        .map(|owner| (owner.node.0, owner.shard))
        .collect();
    assert_eq!(first, GOLDEN);
}

/// `(node, shard)` of slots 0 to 15, computed by an independent implementation.
const GOLDEN: [(u16, u16); 16] = [
    (0, 0),
    (1, 1),
    (0, 0),
    (1, 1),
    (0, 1),
    (1, 0),
    (1, 1),
    (0, 1),
    (1, 1),
    (0, 0),
    (1, 0),
    (0, 1),
    (0, 0),
    (1, 0),
    (0, 0),
    (1, 0),
];

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]

    #[test]
    fn a_new_node_takes_its_share_and_nothing_else_moves(
        nodes in prop::collection::vec(1_u16..=12, 1..6),
        newcomer in 1_u16..=12,
    ) {
        let mut ring = Ring::new(NodeId(0), nodes[0]).unwrap();
        for (id, &shards) in (1..).zip(&nodes[1..]) {
            ring.add_node(NodeId(id), shards).unwrap();
        }
        let before = owners(&ring);
        let moved = ring.add_node(NodeId(99), newcomer).unwrap();
        check_even(&ring);
        let changed: Vec<Placement> = before
            .iter()
            .zip(owners(&ring))
            .filter(|(old, new)| *old != new)
            .map(|(_, new)| new)
            .collect();
        prop_assert_eq!(changed.len(), moved);
        prop_assert!(changed.iter().all(|owner| owner.node == NodeId(99)));
        let share = usize::from(SLOTS) * usize::from(newcomer) / ring.places().len();
        prop_assert!(moved.abs_diff(share) <= usize::from(newcomer));
    }

    #[test]
    fn a_leaving_node_disturbs_only_its_own_slots(
        nodes in prop::collection::vec(1_u16..=12, 2..6),
        leaver in any::<prop::sample::Index>(),
    ) {
        let mut ring = Ring::new(NodeId(0), nodes[0]).unwrap();
        for (id, &shards) in (1..).zip(&nodes[1..]) {
            ring.add_node(NodeId(id), shards).unwrap();
        }
        let leaver = NodeId(u16::try_from(leaver.index(nodes.len())).unwrap());
        let before = owners(&ring);
        let moved = ring.remove_node(leaver).unwrap();
        check_even(&ring);
        for (old, new) in before.iter().zip(owners(&ring)) {
            prop_assert!(old.node == leaver || *old == new);
            prop_assert!(new.node != leaver);
        }
        prop_assert_eq!(moved, before.iter().filter(|old| old.node == leaver).count());
    }

    #[test]
    fn keys_follow_their_slots_to_a_new_node(shards in 1_u16..=8, seed in any::<u64>()) {
        let ring = Ring::new(NodeId(0), shards).unwrap();
        let mut larger = ring.clone();
        larger.add_node(NodeId(1), shards).unwrap();
        let keys = 4000_u64;
        let mut moved = 0_u64;
        for key in 0..keys {
            let id = u128::from(seed.wrapping_add(key)).to_le_bytes();
            let slot = Topic::Channel(id).slot();
            if ring.owner(slot) != larger.owner(slot) {
                prop_assert_eq!(larger.owner(slot).node, NodeId(1));
                moved += 1;
            }
        }
        // Half of the keys, within five standard deviations of a fair coin.
        prop_assert!(moved.abs_diff(keys / 2) < 160, "{moved} of {keys} keys moved");
    }
}
