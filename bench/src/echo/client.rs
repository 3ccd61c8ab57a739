//! The client of an echo: one message on its way on each connection, in a closed loop.
//!
//! It checks the bytes of each echo and nothing else.
//!
//! Invariants: a connection sends again only when its echo is whole; between rounds nothing is on
//! its way.

use std::io;
use std::time::Duration;

use bytes::Bytes;
use hdrhistogram::Histogram;
use throng_protocol::frame::{Opcode, encode_masked, encode_message};

use crate::clock::Clock;
use crate::swarm::links::{Happened, Link, LinkSettings, Links};
use crate::swarm::talk::latencies;
use crate::tally::record;
use crate::upgrade::Upgrade;

const MS: u64 = 1_000_000;
/// Dials under way.
const UNDER_WAY_MAX: u32 = 256;
/// A round ends even when echoes stay away for so long.
const STALLED_S: f64 = 10.0;
const MASK: [u8; 4] = [0x37, 0xFA, 0x21, 0x3D];

/// Connections to one echo server.
pub(super) struct EchoClient {
    clock: Clock,
    links: Links,
    upgrade: Bytes,
    key: String,
    message: Bytes,
    echo: Bytes,
    states: Vec<State>,
    is_open: bool,
    on_their_way: u32,
    upgraded: u32,
    messages: u64,
    wrong: u64,
    ended: u64,
    latency_us: Histogram<u64>,
    happened: Vec<Happened>,
}

#[derive(Clone, Copy, Default)]
struct State {
    is_upgraded: bool,
    /// Bytes of the echo that have arrived.
    arrived: u32,
    sent_ns: u64,
}

/// What a round brought.
pub(super) struct Round {
    pub(super) messages: u64,
    pub(super) seconds: f64,
}

impl EchoClient {
    pub(super) fn open(
        clock: Clock,
        settings: LinkSettings,
        authority: &str,
        size: u16,
    ) -> io::Result<Self> {
        let text = crate::swarm::speech::text(usize::from(size));
        let key = tungstenite::handshake::client::generate_key();
        Ok(Self {
            clock,
            links: Links::new(settings)?,
            upgrade: Upgrade::begin(authority, &key).1.into(),
            key,
            message: encode_masked(Opcode::Text, text.as_bytes(), MASK),
            echo: encode_message(Opcode::Text, text.as_bytes()),
            states: vec![State::default(); settings.count as usize],
            is_open: false,
            on_their_way: 0,
            upgraded: 0,
            messages: 0,
            wrong: 0,
            ended: 0,
            latency_us: latencies(),
            happened: Vec::new(),
        })
    }

    /// Connects all.
    pub(super) fn connect(&mut self) -> io::Result<()> {
        let mut next = 0;
        let begun = self.clock.seconds();
        while self.upgraded < self.links.count() {
            while next < self.links.count() && next - self.upgraded < UNDER_WAY_MAX {
                self.links.dial(Link(next))?;
                next += 1;
            }
            self.turn()?;
            if self.ended > 0 {
                return Err(io::ErrorKind::ConnectionRefused.into());
            }
            if self.clock.seconds() - begun > 6.0 * STALLED_S {
                return Err(io::ErrorKind::TimedOut.into());
            }
        }
        Ok(())
    }

    /// Echoes for so long, then waits for those on their way.
    pub(super) fn round(&mut self, duration: Duration) -> io::Result<Round> {
        let begun = self.clock.seconds();
        let before = self.messages;
        self.is_open = true;
        for link in (0..self.links.count()).map(Link) {
            self.send(link);
        }
        while self.on_their_way > 0 {
            let seconds = self.clock.seconds() - begun;
            self.is_open = seconds < duration.as_secs_f64();
            if seconds > duration.as_secs_f64() + STALLED_S {
                return Err(io::ErrorKind::TimedOut.into());
            }
            self.turn()?;
        }
        Ok(Round {
            messages: self.messages - before,
            seconds: self.clock.seconds() - begun,
        })
    }

    pub(super) fn restart_latencies(&mut self) {
        self.latency_us.reset();
    }

    pub(super) const fn latency_us(&self) -> &Histogram<u64> {
        &self.latency_us
    }

    /// Echoes that arrived.
    pub(super) const fn messages(&self) -> u64 {
        self.messages
    }

    /// Echoes that were not what was sent.
    pub(super) const fn wrong(&self) -> u64 {
        self.wrong
    }

    /// Connections that ended.
    pub(super) const fn ended(&self) -> u64 {
        self.ended
    }

    fn send(&mut self, link: Link) {
        let state = &mut self.states[link.place()];
        state.sent_ns = self.clock.now_ns();
        self.on_their_way += 1;
        self.links.send(link, self.message.clone());
    }

    fn turn(&mut self) -> io::Result<()> {
        let mut happened = std::mem::take(&mut self.happened);
        self.links.exchange(MS, &mut happened)?;
        for happening in happened.drain(..) {
            match happening {
                Happened::Up(link) => self.links.send(link, self.upgrade.clone()),
                Happened::Received {
                    link,
                    buffer,
                    bytes,
                } => self.received(link, buffer, bytes),
                Happened::Ended(link, _) => {
                    self.ended += 1;
                    self.on_their_way -= u32::from(self.states[link.place()].sent_ns > 0);
                }
            }
        }
        self.happened = happened;
        Ok(())
    }

    fn received(&mut self, link: Link, buffer: u16, bytes: usize) {
        let arrived = self.links.filled(link, buffer, bytes);
        let state = &mut self.states[link.place()];
        if !state.is_upgraded {
            // The head of an echo server's answer comes in one piece; another is no good peer here.
            let answer = Upgrade::begin("", &self.key).0.received(arrived);
            state.is_upgraded = matches!(answer, Ok(Some(_)));
            let is_good = state.is_upgraded;
            self.links.give_back(link, buffer);
            if is_good {
                self.upgraded += 1;
            } else {
                self.links.close(link);
            }
            return;
        }
        let from = state.arrived as usize;
        let expected = self.echo.get(from..from + arrived.len());
        let is_right = expected == Some(arrived);
        self.links.give_back(link, buffer);
        let state = &mut self.states[link.place()];
        state.arrived += u32::try_from(bytes).unwrap_or(u32::MAX);
        if !is_right {
            self.wrong += 1;
            return self.links.close(link);
        }
        if state.arrived as usize == self.echo.len() {
            state.arrived = 0;
            let sent_ns = std::mem::take(&mut state.sent_ns);
            let took_ns = self.clock.now_ns().saturating_sub(sent_ns);
            record(&mut self.latency_us, took_ns);
            self.messages += 1;
            self.on_their_way -= 1;
            if self.is_open {
                self.send(link);
            }
        }
    }
}
