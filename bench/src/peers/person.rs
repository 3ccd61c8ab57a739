//! One connection, from its handshake on: what it is owed for what it hears.
//!
//! It sends nothing and knows no socket.
//!
//! Invariants: a connection becomes ready once; what cannot go on says why.

use super::dialect::{Dialect, Nonsense, Said};
use super::inbound::Inbound;
use crate::upgrade::Upgrade;

#[derive(Default)]
pub(super) struct Person {
    pub(super) phase: Phase,
    inbound: Inbound,
}

#[derive(Default)]
pub(super) enum Phase {
    #[default]
    Away,
    Upgrading(Upgrade),
    Joining,
    Ready,
    /// Told to leave.
    Leaving,
}

/// What a connection is owed after bytes arrived.
#[derive(Default)]
pub(super) struct Owed {
    pub(super) is_upgraded: bool,
    pub(super) is_ready: bool,
    pub(super) is_closed: bool,
    pub(super) pongs: u32,
    pub(super) probes: Vec<Vec<u8>>,
}

impl Person {
    /// Bytes arrived: hands on each message, and says what is owed, or why this cannot go on.
    pub(super) fn hear(
        &mut self,
        dialect: Dialect,
        is_ready_at_once: bool,
        arrived: &[u8],
        hear: impl FnMut(&[u8]),
    ) -> Result<Owed, String> {
        let mut owed = Owed::default();
        let was_ready = matches!(self.phase, Phase::Ready);
        let rest = match &mut self.phase {
            Phase::Away | Phase::Leaving => return Ok(owed),
            Phase::Joining | Phase::Ready => None,
            Phase::Upgrading(upgrade) => {
                let answer = upgrade
                    .received(arrived)
                    .map_err(|error| error.to_string())?;
                let Some(rest) = answer else {
                    return Ok(owed);
                };
                owed.is_upgraded = true;
                owed.is_ready = is_ready_at_once;
                Some(rest)
            }
        };
        let said = self.said(dialect, rest.as_deref().unwrap_or(arrived), &mut owed, hear);
        said.map_err(|nonsense| nonsense.to_string())?;
        owed.is_ready &= !was_ready;
        if owed.is_ready {
            self.phase = Phase::Ready;
        } else if owed.is_upgraded {
            self.phase = Phase::Joining;
        }
        Ok(owed)
    }

    fn said(
        &mut self,
        dialect: Dialect,
        bytes: &[u8],
        owed: &mut Owed,
        mut hear: impl FnMut(&[u8]),
    ) -> Result<(), Nonsense> {
        self.inbound.receive(dialect, bytes, |said| match said {
            Said::Delivered(payload) => hear(payload),
            Said::Subscribed => owed.is_ready = true,
            Said::Ping => owed.pongs += 1,
            Said::Probe(probe) => owed.probes.push(probe.to_vec()),
            Said::Closed => owed.is_closed = true,
            Said::Other => {}
        })
    }
}
