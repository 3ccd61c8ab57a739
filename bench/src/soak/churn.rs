//! Clients that leave and come back, some a second.
//!
//! It cuts and never checks: the ledger says whether they got what they missed.
//!
//! Invariants: who leaves how and for how long is drawn from one seed; slow readers are left alone,
//! since the server is to drop them.

use std::time::Duration;

use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};

use super::pace::Pace;
use crate::swarm::crowd::Crowd;
use crate::swarm::links::Link;
use crate::swarm::people::{Departure, Phase};

/// Draws that look for somebody who is live.
const DRAWS_MAX: u32 = 64;
/// One in so many says goodbye.
const GOODBYE_ONE_IN: u32 = 4;
/// One in so many goes on with SUBSCRIBE_CHANNEL.
const SUBSCRIBES_ONE_IN: u32 = 3;
/// One in so many stays away for long.
const LONG_ONE_IN: u32 = 20;
/// The others stay away for at most this part of the longest time.
const SHORT_PART: u64 = 8;

/// Who left.
#[derive(Clone, Copy, Default, Debug)]
pub(super) struct Departures {
    /// All of them.
    pub(super) all: u64,
    /// Those who said goodbye.
    pub(super) goodbyes: u64,
}

/// Sends clients away.
pub(super) struct Churn {
    pace: Pace,
    clients: u32,
    away_ms: u64,
    random: StdRng,
    departures: Departures,
}

impl Churn {
    /// So many of these clients a second, each away for so long at most.
    pub(super) fn new(rate: u32, away: Duration, clients: u32, seed: u64, now_ns: u64) -> Self {
        Self {
            pace: Pace::new(rate, now_ns),
            clients,
            away_ms: u64::try_from(away.as_millis()).unwrap_or(u64::MAX),
            random: StdRng::seed_from_u64(seed),
            departures: Departures::default(),
        }
    }

    /// Sends away who is due to leave.
    pub(super) fn turn(&mut self, crowd: &mut Crowd, now_ns: u64) {
        while self.pace.take(now_ns).is_some() {
            if let Some(link) = self.somebody(crowd) {
                let departure = self.draw();
                self.departures.all += 1;
                self.departures.goodbyes += u64::from(departure.says_goodbye);
                crowd.depart(link, departure);
            }
        }
    }

    /// Who left so far.
    pub(super) const fn departures(&self) -> Departures {
        self.departures
    }

    fn somebody(&mut self, crowd: &Crowd) -> Option<Link> {
        let people = &crowd.people;
        (0..DRAWS_MAX)
            .map(|_| Link(self.random.random_range(0..self.clients)))
            .find(|&link| people.phase(link) == Phase::Live && !people.manners.is_slow(link))
    }

    fn draw(&mut self) -> Departure {
        let mut one_in = |number: u32| self.random.random_range(0..number) == 0;
        let (says_goodbye, subscribes) = (one_in(GOODBYE_ONE_IN), one_in(SUBSCRIBES_ONE_IN));
        let part = if one_in(LONG_ONE_IN) { 1 } else { SHORT_PART };
        let pause_ms = 0..=self.away_ms / part;
        Departure {
            pause_ms: self.random.random_range(pause_ms),
            says_goodbye,
            subscribes,
        }
    }
}
