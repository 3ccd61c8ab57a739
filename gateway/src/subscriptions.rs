//! The channels that each session hears, or is about to: lists in blocks that all sessions share.
//!
//! A session holds 8 bytes, whatever it hears, and each block holds five subscriptions of 8 bytes. It knows
//! nothing of channels but their numbers in [`crate::subscribers`].
//!
//! Invariants: a channel is in a list once; of a list's blocks only the first may have free places; an
//! empty list has no block.

use crate::lane::RequestId;
use crate::pages::Slab;
use crate::subscribers::HeardId;

/// Subscriptions of one block: most clients have a handful.
const BLOCK: u16 = 5;

/// No block.
const NONE: u32 = u32::MAX;

/// A channel that a session hears, or is about to.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Subscription {
    /// Which, by its number in this shard.
    pub(crate) heard: HeardId,
    /// How far.
    pub(crate) state: SubscriptionState,
}

/// How far a subscription has come.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum SubscriptionState {
    /// The channel's owner is being asked.
    Requested(RequestId),
    /// The past is being read; see [`crate::session::Extra::replays`].
    Replaying,
    /// In the channel's list of live subscribers, at this place.
    Live(u32),
}

/// Packed states from here on are not live; places are below.
const REQUESTED: u32 = 1 << 31;
const REPLAYING: u32 = u32::MAX;

impl SubscriptionState {
    fn packed(self) -> u32 {
        match self {
            Self::Live(place) => {
                assert!(place < REQUESTED, "a shard has fewer than 2^31 places");
                place
            }
            Self::Requested(RequestId(request)) => {
                assert!(request < REPLAYING - REQUESTED, "requests are bounded");
                REQUESTED + request
            }
            Self::Replaying => REPLAYING,
        }
    }

    fn unpacked(packed: u32) -> Self {
        match packed {
            REPLAYING => Self::Replaying,
            REQUESTED.. => Self::Requested(RequestId(packed - REQUESTED)),
            place => Self::Live(place),
        }
    }
}

/// One session's list, in 6 bytes. It lies in blocks of [`Subscriptions`], to which it must be given
/// back.
#[derive(Clone, Copy, Debug)]
#[repr(Rust, packed(2))]
pub(crate) struct List {
    first: u32,
    count: u16,
}

impl Default for List {
    fn default() -> Self {
        Self {
            first: NONE,
            count: 0,
        }
    }
}

impl List {
    /// How many channels are in it.
    pub(crate) fn count(&self) -> usize {
        usize::from(self.count)
    }
}

/// The blocks of all lists of a shard.
#[derive(Debug, Default)]
pub(crate) struct Subscriptions {
    blocks: Slab<Block>,
}

/// 44 bytes.
#[derive(Debug)]
struct Block {
    heard: [HeardId; BLOCK as usize],
    states: [u32; BLOCK as usize],
    next: u32,
}

/// Bytes of one block.
#[cfg(test)]
pub(crate) const BLOCK_BYTES: usize = size_of::<Option<Block>>();

/// Where a subscription lies.
#[derive(Clone, Copy)]
struct Place {
    block: u32,
    slot: usize,
}

impl Subscriptions {
    /// Adds a channel that is not in the list.
    pub(crate) fn push(&mut self, list: &mut List, subscription: Subscription) {
        if list.count.is_multiple_of(BLOCK) {
            list.first = self.blocks.insert(Block {
                heard: [subscription.heard; BLOCK as usize],
                states: [0; BLOCK as usize],
                next: list.first,
            });
        }
        list.count += 1;
        self.write(last(list), subscription);
    }

    /// How far the subscription to a channel has come, if there is one.
    pub(crate) fn state(&self, list: &List, heard: HeardId) -> Option<SubscriptionState> {
        let place = self.find(list, heard)?;
        Some(self.read(place).state)
    }

    /// Notes how far the subscription to a channel has come.
    ///
    /// # Panics
    /// If it is not in the list.
    pub(crate) fn set_state(&mut self, list: &List, heard: HeardId, state: SubscriptionState) {
        let place = self.find(list, heard).expect("the session is subscribed");
        self.write(place, Subscription { heard, state });
    }

    /// Takes a channel out of the list; the last one moves to its place.
    pub(crate) fn remove(&mut self, list: &mut List, heard: HeardId) -> Option<Subscription> {
        let place = self.find(list, heard)?;
        let removed = self.read(place);
        let moved = self.pop(list).expect("it holds at least this one");
        if moved != removed {
            self.write(place, moved);
        }
        Some(removed)
    }

    /// Takes the last channel out of the list.
    pub(crate) fn pop(&mut self, list: &mut List) -> Option<Subscription> {
        if list.count == 0 {
            return None;
        }
        let popped = self.read(last(list));
        list.count -= 1;
        if list.count.is_multiple_of(BLOCK) {
            list.first = self.blocks.remove(list.first).next;
        }
        Some(popped)
    }

    fn find(&self, list: &List, heard: HeardId) -> Option<Place> {
        let (mut block, mut used) = (list.first, first_used(list));
        while block != NONE {
            let held = self.blocks.at(block);
            if let Some(slot) = held.heard[..used].iter().position(|held| *held == heard) {
                return Some(Place { block, slot });
            }
            (block, used) = (held.next, BLOCK as usize);
        }
        None
    }

    fn read(&self, place: Place) -> Subscription {
        let block = self.blocks.at(place.block);
        Subscription {
            heard: block.heard[place.slot],
            state: SubscriptionState::unpacked(block.states[place.slot]),
        }
    }

    fn write(&mut self, place: Place, subscription: Subscription) {
        let block = self.blocks.at_mut(place.block);
        block.heard[place.slot] = subscription.heard;
        block.states[place.slot] = subscription.state.packed();
    }
}

/// Subscriptions in the first block of a list that is not empty.
fn first_used(list: &List) -> usize {
    usize::from(list.count.wrapping_sub(1) % BLOCK) + 1
}

fn last(list: &List) -> Place {
    Place {
        block: list.first,
        slot: first_used(list) - 1,
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use proptest::prelude::*;

    use super::*;

    fn state(kind: u8, number: u32) -> SubscriptionState {
        match kind % 3 {
            0 => SubscriptionState::Requested(RequestId(number)),
            1 => SubscriptionState::Replaying,
            _ => SubscriptionState::Live(number),
        }
    }

    #[test]
    fn a_block_is_small() {
        assert_eq!(size_of::<List>(), 6);
        assert_eq!(size_of::<Option<Block>>(), 44);
    }

    proptest! {
        #[test]
        fn lists_behave_like_maps(
            steps in prop::collection::vec((0..4_u8, 0..3_usize, 0..20_u32, 0..3_u8, 0..REQUESTED - 1), 0..400),
        ) {
            let mut subscriptions = Subscriptions::default();
            let mut lists = [List::default(), List::default(), List::default()];
            let mut models = [BTreeMap::new(), BTreeMap::new(), BTreeMap::new()];
            for (step, which, channel, kind, number) in steps {
                let (list, model) = (&mut lists[which], &mut models[which]);
                let (heard, state) = (HeardId::of(channel), state(kind, number));
                match (step, model.contains_key(&channel)) {
                    (0 | 1, false) => {
                        subscriptions.push(list, Subscription { heard, state });
                        model.insert(channel, state);
                    }
                    (0 | 1, true) => {
                        subscriptions.set_state(list, heard, state);
                        model.insert(channel, state);
                    }
                    (2, _) => {
                        let removed = subscriptions.remove(list, heard);
                        prop_assert_eq!(removed.map(|held| held.state), model.remove(&channel));
                    }
                    _ => {
                        let popped = subscriptions.pop(list);
                        prop_assert_eq!(popped.is_none(), model.is_empty());
                        if let Some(popped) = popped {
                            let channel = model.iter().find(|(channel, _)| HeardId::of(**channel) == popped.heard);
                            let channel = *channel.expect("it was there").0;
                            prop_assert_eq!(model.remove(&channel), Some(popped.state));
                        }
                    }
                }
                for (list, model) in lists.iter().zip(&models) {
                    prop_assert_eq!(list.count(), model.len());
                    for channel in 0..20 {
                        let found = subscriptions.state(list, HeardId::of(channel));
                        prop_assert_eq!(found, model.get(&channel).copied());
                    }
                }
                let blocks: usize = lists.iter().map(|list| list.count().div_ceil(BLOCK as usize)).sum();
                prop_assert_eq!(subscriptions.blocks.count(), blocks);
            }
        }
    }
}
