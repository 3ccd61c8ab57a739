//! Which shard of which node owns each of the 4096 slots.
//!
//! The ring never looks at a topic's content or at the load it causes, and never moves a slot on
//! its own: only `add_node` and `remove_node` do.
//!
//! Invariants: every shard holds `SLOTS / shards` slots, rounded down or up; adding a node moves
//! slots only to that node, removing one moves only that node's slots; among the slots that may
//! move, each shard takes those that score highest for it (rendezvous hashing), so that the
//! outcome depends on the order of the changes and on nothing else.

use crate::hash::mix;

/// Number of slots; topics are spread over slots, and slots over shards.
pub const SLOTS: u16 = 4096;

/// A slot, `0..SLOTS`.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Debug)]
pub struct Slot(u16);

impl Slot {
    /// The slot of a hash: its upper 12 bits.
    #[must_use]
    pub const fn of_hash(hash: u64) -> Self {
        Self((hash >> 52) as u16)
    }

    /// Its number, `0..SLOTS`.
    #[must_use]
    pub const fn index(self) -> u16 {
        self.0
    }
}

/// A process in the cluster.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Debug)]
pub struct NodeId(pub u16);

/// Where a slot is sequenced.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Debug)]
pub struct Placement {
    /// The node.
    pub node: NodeId,
    /// The shard within that node, counted from 0.
    pub shard: u16,
}

/// Why a ring refused a change; it is then unchanged.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
pub enum RingError {
    /// The node is in the ring already.
    #[error("node {} is in the ring already", .0.0)]
    NodeExists(NodeId),
    /// The node is not in the ring.
    #[error("node {} is not in the ring", .0.0)]
    NoSuchNode(NodeId),
    /// A node without shards owns nothing.
    #[error("node {} has no shards", .0.0)]
    NoShards(NodeId),
    /// The last node cannot leave: its slots would have no owner.
    #[error("node {} is the last one", .0.0)]
    LastNode(NodeId),
    /// More shards than slots: some would own nothing.
    #[error("{shards} shards are more than the {SLOTS} slots")]
    TooManyShards {
        /// How many there would have been in all nodes together.
        shards: usize,
    },
}

/// The table of owners. Lookup is one array access.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Ring {
    places: Vec<Placement>,
    owners: Vec<u16>,
}

/// In `owners` while a change is under way: the slot has no owner yet.
const UNOWNED: u16 = u16::MAX;

impl Ring {
    /// A ring with one node.
    ///
    /// # Errors
    /// When `shards` is 0 or more than [`SLOTS`].
    pub fn new(node: NodeId, shards: u16) -> Result<Self, RingError> {
        let mut ring = Self {
            places: Vec::new(),
            owners: vec![UNOWNED; usize::from(SLOTS)],
        };
        ring.add_node(node, shards)?;
        Ok(ring)
    }

    /// Who owns a slot.
    #[must_use]
    pub fn owner(&self, slot: Slot) -> Placement {
        self.places[usize::from(self.owners[usize::from(slot.0)])]
    }

    /// All shards of all nodes, in the order in which they came.
    #[must_use]
    pub fn places(&self) -> &[Placement] {
        &self.places
    }

    /// Gives a new node its share of the slots and returns how many slots moved.
    ///
    /// # Errors
    /// When the node is in the ring already, or its number of shards does not fit.
    pub fn add_node(&mut self, node: NodeId, shards: u16) -> Result<usize, RingError> {
        if self.places.iter().any(|place| place.node == node) {
            return Err(RingError::NodeExists(node));
        }
        if shards == 0 {
            return Err(RingError::NoShards(node));
        }
        let newcomers = self.places.len()..self.places.len() + usize::from(shards);
        if newcomers.end > usize::from(SLOTS) {
            return Err(RingError::TooManyShards {
                shards: newcomers.end,
            });
        }
        self.places
            .extend((0..shards).map(|shard| Placement { node, shard }));
        let mut loads = self.loads();
        let targets = targets(&loads);
        let mut moved = 0;
        for place in newcomers {
            for slot in self.by_score(place) {
                if loads[place] == targets[place] {
                    break;
                }
                let owner = &mut self.owners[usize::from(slot)];
                if *owner != UNOWNED {
                    let donor = usize::from(*owner);
                    if loads[donor] <= targets[donor] {
                        continue;
                    }
                    loads[donor] -= 1;
                }
                *owner = index(place);
                loads[place] += 1;
                moved += 1;
            }
        }
        self.assert_balanced();
        Ok(moved)
    }

    /// Spreads a node's slots over the others and returns how many slots moved.
    ///
    /// # Errors
    /// When the node is not in the ring, or is the only one.
    pub fn remove_node(&mut self, node: NodeId) -> Result<usize, RingError> {
        let before = self.places.clone();
        if !before.iter().any(|place| place.node == node) {
            return Err(RingError::NoSuchNode(node));
        }
        if before.iter().all(|place| place.node == node) {
            return Err(RingError::LastNode(node));
        }
        self.places.retain(|place| place.node != node);
        for owner in &mut self.owners {
            let place = before[usize::from(*owner)];
            let kept = self.places.iter().position(|&other| other == place);
            *owner = kept.map_or(UNOWNED, index);
        }
        let mut loads = self.loads();
        let targets = targets(&loads);
        let mut moved = 0;
        for slot in 0..SLOTS {
            if self.owners[usize::from(slot)] != UNOWNED {
                continue;
            }
            let heir = (0..self.places.len())
                .filter(|&place| loads[place] < targets[place])
                .max_by_key(|&place| score(self.places[place], slot))
                .expect("the targets add up to the number of slots");
            self.owners[usize::from(slot)] = index(heir);
            loads[heir] += 1;
            moved += 1;
        }
        self.assert_balanced();
        Ok(moved)
    }

    fn loads(&self) -> Vec<usize> {
        let mut loads = vec![0; self.places.len()];
        for &owner in self.owners.iter().filter(|&&owner| owner != UNOWNED) {
            loads[usize::from(owner)] += 1;
        }
        loads
    }

    fn by_score(&self, place: usize) -> Vec<u16> {
        let mut slots: Vec<u16> = (0..SLOTS).collect();
        slots.sort_by_cached_key(|&slot| std::cmp::Reverse(score(self.places[place], slot)));
        slots
    }

    fn assert_balanced(&self) {
        let loads = self.loads();
        let even = usize::from(SLOTS) / loads.len();
        assert_eq!(
            loads.iter().sum::<usize>(),
            usize::from(SLOTS),
            "every slot has an owner"
        );
        assert!(
            loads.iter().all(|&load| load == even || load == even + 1),
            "loads are even"
        );
    }
}

/// How many slots each place is to hold. The remainder goes to those that hold most already: a
/// place that keeps what it has causes no move.
fn targets(loads: &[usize]) -> Vec<usize> {
    let even = usize::from(SLOTS) / loads.len();
    let remainder = usize::from(SLOTS) % loads.len();
    let mut order: Vec<usize> = (0..loads.len()).collect();
    order.sort_by_key(|&place| (std::cmp::Reverse(loads[place]), place));
    let mut targets = vec![even; loads.len()];
    for &place in &order[..remainder] {
        targets[place] += 1;
    }
    targets
}

/// Rendezvous score of a slot for a place. Frozen like the topic hash.
fn score(place: Placement, slot: u16) -> u64 {
    let place = u64::from(place.node.0) << 32 | u64::from(place.shard);
    mix(mix(place) ^ u64::from(slot))
}

fn index(place: usize) -> u16 {
    u16::try_from(place).expect("there are at most SLOTS places")
}

#[cfg(test)]
mod tests;
