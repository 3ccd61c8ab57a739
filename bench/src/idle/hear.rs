//! What follows the hold: one message to all, and ordinary talk in small channels.
//!
//! It connects nobody: whoever is not live hears nothing, and that counts as lost.
//!
//! Invariants: who speaks where is drawn from one seed; a channel that all watch is no small one.

use std::time::Duration;

use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};

use crate::error::BenchError;
use crate::swarm::crowd::Crowd;
use crate::swarm::links::Link;
use crate::swarm::speech::{Speech, Spoken, everyone, speak};

/// Draws that look for a channel of a speaker.
const DRAWS_MAX: u32 = 64;

/// One message to the channel that all watch.
pub(super) fn broadcast(
    crowd: &mut Crowd,
    clients: u32,
    size: usize,
) -> Result<Spoken, BenchError> {
    let channel = everyone(crowd, clients).ok_or(BenchError::NoSharedChannel)?;
    let once = Speech {
        rate: 1,
        duration: Duration::from_secs(1),
        size,
    };
    speak(crowd, once, |_, _| (Link(0), channel))
}

/// Messages of anybody to one of their small channels.
pub(super) fn chatter(
    crowd: &mut Crowd,
    clients: u32,
    speech: Speech,
) -> Result<Spoken, BenchError> {
    let shared = everyone(crowd, clients);
    let mut random = StdRng::seed_from_u64(1);
    speak(crowd, speech, |crowd, _| {
        let ledger = crowd.people.ledger.as_ref().expect("kept for this");
        for _ in 0..DRAWS_MAX {
            let link = Link(random.random_range(0..clients));
            let small = ledger.watched(link).filter(|&(id, _)| Some(id) != shared);
            let channels: Vec<u128> = small.map(|(id, _)| id).collect();
            if !channels.is_empty() {
                return (link, channels[random.random_range(0..channels.len())]);
            }
        }
        (Link(0), shared.unwrap_or(0))
    })
}
