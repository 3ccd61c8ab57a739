//! What the plan counts: clients, channels, messages.
//!
//! These are places in the run's own tables and never leave it; on the wire are ids.
//!
//! Invariants: each counts from 0 without gaps.

/// A client of the load generator, counted from 0.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Debug)]
pub struct ClientIndex(pub u32);

/// A channel of the run, counted from 0.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Debug)]
pub struct ChannelIndex(pub u32);

/// A message's place in the plan.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Debug)]
pub struct MessageIndex(pub u32);

macro_rules! as_place {
    ($($index:ty),*) => {$(
        impl $index {
            /// As a place in a slice.
            #[must_use]
            pub const fn place(self) -> usize {
                self.0 as usize
            }

            /// The index of a place.
            ///
            /// # Panics
            /// Beyond 2^32: plans are smaller.
            #[must_use]
            pub fn at(place: usize) -> Self {
                Self(u32::try_from(place).expect("plans hold fewer than 2^32 of anything"))
            }
        }
    )*};
}
as_place!(ClientIndex, ChannelIndex, MessageIndex);
