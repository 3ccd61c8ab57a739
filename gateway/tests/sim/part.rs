//! How connections end for clients: with a close code that must be deserved, or without a word.
//!
//! It decides nothing for the server; who comes back comes back through `act`.
//!
//! Invariants: a close code is given only to who earned it; a healthy client is never taken for a
//! slow or a silent one.

use throng_protocol::CloseReason;

use crate::client::{Kind, Stage};
use crate::counts::Happening;
use crate::oracle::Listener;
use crate::world::{Power, World};

impl World {
    /// The server has said that it ends the connection, and why.
    pub(crate) fn closed(&mut self, client: usize, link: usize, code: Option<u16>) {
        let held = &self.clients[client];
        let reasons = CloseReason::ALL;
        let reason = reasons
            .into_iter()
            .find(|reason| Some(reason.code()) == code);
        let healthy = self.links[link].healthy;
        match reason {
            Some(CloseReason::Normal) => assert!(held.wire.leaving),
            Some(CloseReason::ProtocolError | CloseReason::InvalidUtf8 | CloseReason::TooBig) => {
                assert!(held.wire.leaving, "client {client} broke no rule: {code:?}");
                self.counts.add(Happening::ProtocolViolation);
            }
            Some(CloseReason::TryAgainLater) => {
                let others = self.counts.of(Happening::BegunOnly);
                assert!(others > 0, "nobody takes the room of client {client}");
                self.counts.add(Happening::TryAgainLater);
            }
            Some(CloseReason::IdentifyTimeout) => {
                let late = held.kind == Kind::Mute || held.wire.identify_refused || !healthy;
                assert!(late, "client {client} said in time who it is");
                self.counts.add(Happening::UnidentifiedClosed);
            }
            Some(CloseReason::BadToken) => {
                assert!(
                    held.kind == Kind::Forger,
                    "client {client} has a good token"
                );
                self.counts.add(Happening::BadToken);
            }
            Some(CloseReason::SlowConsumer) => {
                let gave_way = self.links[link].gave_way;
                assert!(!healthy || gave_way, "client {client} is not slow");
            }
            Some(CloseReason::HeartbeatTimeout) => {
                assert!(
                    held.kind == Kind::Silent || !healthy,
                    "client {client} was not silent"
                );
                self.counts.add(Happening::SilentClosed);
            }
            Some(CloseReason::TooManySessions) => self.counts.add(Happening::TooManySessions),
            Some(CloseReason::GoingAway) => {
                assert!(self.counts.of(Happening::Drain) > 0, "nobody asked to end");
                self.counts.add(Happening::DrainOutlasted);
            }
            None => panic!("client {client} is closed with {code:?}"),
        }
        let retires = reason == Some(CloseReason::BadToken)
            || (reason == Some(CloseReason::TooManySessions) && self.winding);
        self.hang_up(link);
        self.client_lost(link);
        if retires {
            self.clients[client].stage = Stage::Retired;
        }
        if matches!(reason, Some(CloseReason::TooManySessions)) {
            self.client_turn(client, 4_000_000);
        }
    }

    /// The connection is gone; the client will come back after a while, usually better behaved.
    pub(crate) fn client_lost(&mut self, link: usize) {
        let client = self.links[link].client;
        if self.clients[client].link != Some(link) {
            return;
        }
        self.trace
            .note(self.now_us, format_args!("c{client} is offline"));
        self.oracle.gone(Listener(link));
        let held = &mut self.clients[client];
        held.link = None;
        held.stage = Stage::Offline;
        if held.wire.was_ready || held.kind == Kind::Mute {
            held.kind = match held.kind {
                Kind::Stubborn => Kind::Stubborn,
                _ => Kind::Good,
            };
        }
        held.wire = crate::client::Wire::default();
        for heard in held.heard.values_mut() {
            (heard.on, heard.from_head, heard.ended_us) = (false, false, None);
        }
        let longest_us = match (self.winding, &self.power) {
            (true, _) => 500_000,
            (false, Power::Up(_)) => 12_000_000,
            (false, Power::Down | Power::Starting(_)) => 2_000_000,
        };
        let after_us = 20_000 + self.random_below(longest_us);
        self.client_turn(client, after_us);
    }
}
