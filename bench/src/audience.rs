//! Who watches what.
//!
//! It never looks at popularity: every channel gets its share of the clients.
//!
//! Invariants: both directions agree; a client watches a channel once; audiences are even.

use rand::SeedableRng;
use rand::rngs::StdRng;
use rand::seq::SliceRandom;

use crate::index::{ChannelIndex, ClientIndex};

/// Which clients watch which channels.
#[derive(Debug, PartialEq, Eq)]
pub struct Audiences {
    by_channel: Vec<Vec<ClientIndex>>,
    by_client: Vec<Vec<ChannelIndex>>,
}

impl Audiences {
    /// Gives each client `subscriptions` different channels, evenly: the audiences of two
    /// channels differ by at most one client. Who meets whom follows from the seed.
    ///
    /// # Panics
    /// When a client is to watch more channels than there are, or none.
    #[must_use]
    pub fn even(clients: u32, channels: u32, subscriptions: u32, seed: u64) -> Self {
        assert!(
            (1..=channels).contains(&subscriptions),
            "subscriptions are different channels"
        );
        let mut random = StdRng::seed_from_u64(seed ^ 0xA0D1);
        let mut by_channel = vec![Vec::new(); ChannelIndex(channels).place()];
        let mut by_client = vec![Vec::new(); ClientIndex(clients).place()];
        let mut order: Vec<u32> = (0..channels).collect();
        order.shuffle(&mut random);
        let mut deal = 0_usize;
        for (client, watched) in by_client.iter_mut().enumerate() {
            for _ in 0..subscriptions {
                let channel = ChannelIndex(order[deal % order.len()]);
                watched.push(channel);
                by_channel[channel.place()].push(ClientIndex::at(client));
                deal += 1;
            }
        }
        Self {
            by_channel,
            by_client,
        }
    }

    /// Who watches a channel.
    #[must_use]
    pub fn of(&self, channel: ChannelIndex) -> &[ClientIndex] {
        &self.by_channel[channel.place()]
    }

    /// What a client watches.
    #[must_use]
    pub fn watched_by(&self, client: ClientIndex) -> &[ChannelIndex] {
        &self.by_client[client.place()]
    }

    /// How many channels there are.
    #[must_use]
    pub fn channels(&self) -> usize {
        self.by_channel.len()
    }

    /// How many clients there are.
    #[must_use]
    pub fn clients(&self) -> usize {
        self.by_client.len()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn audiences_are_even_and_distinct() {
        for (clients, channels, subscriptions) in [(7, 3, 2), (2000, 500, 2), (5, 5, 5), (1, 1, 1)]
        {
            let audiences = Audiences::even(clients, channels, subscriptions, 9);
            let sizes: Vec<usize> = (0..channels)
                .map(|c| audiences.of(ChannelIndex(c)).len())
                .collect();
            assert!(
                sizes.iter().max().unwrap() - sizes.iter().min().unwrap() <= 1,
                "{sizes:?}"
            );
            for client in 0..clients {
                let mut watched = audiences.watched_by(ClientIndex(client)).to_vec();
                watched.sort();
                watched.dedup();
                assert_eq!(watched.len(), ChannelIndex(subscriptions).place());
            }
        }
    }
}
