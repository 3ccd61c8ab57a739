//! What the router routes: a channel, a guild's presence, or a user.
//!
//! A topic holds an id and nothing else: no name, no members, no permission. It never knows what
//! is said on it.
//!
//! Invariants: the domain bytes are explicit and never reused, so that a channel and a user with
//! the same id still land independently of each other.

use crate::hash::frozen;
use crate::ring::Slot;

/// Something with exactly one owner and any number of subscribers.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Debug)]
pub enum Topic {
    /// A chat channel, by its id.
    Channel([u8; 16]),
    /// Who is online in a guild, by the guild's id.
    Presence([u8; 16]),
    /// What concerns one user on all of that user's sessions, by the user's id.
    User([u8; 16]),
}

impl Topic {
    /// The domain byte that goes into the hash. Numbers are never reused.
    #[must_use]
    pub const fn domain(&self) -> u8 {
        match self {
            Self::Channel(_) => 1,
            Self::Presence(_) => 2,
            Self::User(_) => 3,
        }
    }

    /// The id within its domain.
    #[must_use]
    pub const fn id(&self) -> &[u8; 16] {
        match self {
            Self::Channel(id) | Self::Presence(id) | Self::User(id) => id,
        }
    }

    /// Where the topic lives: the upper 12 bits of its hash.
    #[must_use]
    pub fn slot(&self) -> Slot {
        Slot::of_hash(frozen(self.domain(), self.id()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn golden_slots() {
        assert_eq!(Topic::Channel([0; 16]).slot().index(), 2840);
        assert_eq!(Topic::Presence([0; 16]).slot().index(), 405);
        assert_eq!(Topic::User([0; 16]).slot().index(), 1350);
        assert_eq!(Topic::Channel([0xFF; 16]).slot().index(), 880);
    }

    #[test]
    fn one_id_lands_independently_in_each_domain() {
        let together = (0..1000_u128)
            .map(u128::to_le_bytes)
            .filter(|&id| Topic::Channel(id).slot() == Topic::User(id).slot())
            .count();
        assert!(
            together < 10,
            "{together} of 1000 ids share a slot across domains"
        );
    }
}
