//! Placement and topics: who sequences what, and which shards hold subscribers.
//!
//! Pure: it opens no socket, reads no clock and draws no random number, and it depends on no
//! other crate of this workspace. It never changes by itself: callers add and remove nodes.
//!
//! Invariants: a topic hashes to the same slot in every build and on every machine; each slot has
//! exactly one owner; loads of any two shards differ by at most one slot.

pub mod hash;
pub mod interest;
pub mod ring;
pub mod table;
pub mod topic;
pub mod topology;

pub use interest::InterestTable;
pub use ring::{NodeId, Placement, Ring, RingError, SLOTS, Slot};
pub use table::Table;
pub use topic::Topic;
pub use topology::Topology;
