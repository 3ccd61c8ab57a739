//! The connections to one server: they come, subscribe, publish and hear, in the server's dialect.
//!
//! It counts nothing and checks no message: who uses it is handed each one.
//!
//! Invariants: every server is met by this code, over the same rings and with as many dials under
//! way; a connection is ready only when its subscription was confirmed.

use bytes::Bytes;
use throng_protocol::frame::{Opcode, encode_masked};

use super::dialect::{Dialect, Topic};
use super::person::{Owed, Person, Phase};
use super::server::Server;
use crate::clock::Clock;
use crate::error::BenchError;
use crate::interrupt::Interrupt;
use crate::swarm::links::{End, Happened, Link, LinkSettings, Links, Receiving};
use crate::swarm::options::{swarm_links, system};
use crate::upgrade::Upgrade;

pub(super) const MS: u64 = 1_000_000;
/// Dials and handshakes under way: some servers let few wait for `accept`.
pub(super) const UNDER_WAY_MAX: u32 = 256;
/// All connections must have come, or gone, by then.
const COME_S_MAX: f64 = 120.0;
const MASK: [u8; 4] = [0x37, 0xFA, 0x21, 0x3D];

/// Whom the connections listen to.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Listening {
    /// All to one topic.
    ToRoom,
    /// Each to itself.
    ToOwn,
}

impl Listening {
    const fn topic(self, link: Link) -> Topic {
        match self {
            Self::ToRoom => Topic::Room,
            Self::ToOwn => Topic::Own(link.0),
        }
    }
}

/// Connections to one server.
pub(super) struct Client {
    clock: Clock,
    links: Links,
    dialect: Dialect,
    listening: Listening,
    /// Nothing has to be said first.
    is_ready_at_once: bool,
    key: String,
    request: Bytes,
    authority: String,
    people: Vec<Person>,
    ready: u32,
    /// Connections that ended without being told to.
    ended: u64,
    last_end: String,
    happened: Vec<Happened>,
    /// Whether measuring is to end.
    interrupt: Interrupt,
}

impl Client {
    /// Room for so many; nobody has come yet.
    ///
    /// # Errors
    /// When the system allows no sockets.
    pub(super) fn open(
        server: &Server,
        listening: Listening,
        count: u32,
    ) -> Result<Self, BenchError> {
        let (target, dialect) = (server.target(), server.dialect());
        let settings = LinkSettings {
            is_abortive: true,
            ..swarm_links(target, count, Receiving::Multishot, None)?
        };
        let key = tungstenite::handshake::client::generate_key();
        let mut request = Upgrade::begin(&target.authority, &key).1;
        if let Some(name) = dialect.subprotocol() {
            let end = request.len() - "\r\n".len();
            request.insert_str(end, &format!("Sec-WebSocket-Protocol: {name}\r\n"));
        }
        Ok(Self {
            clock: Clock::start(),
            links: Links::new(settings).map_err(system("opening a client"))?,
            dialect,
            listening,
            is_ready_at_once: dialect.join(listening.topic(Link(0)), 0).is_empty(),
            key,
            request: request.into(),
            authority: target.authority.clone(),
            people: (0..count).map(|_| Person::default()).collect(),
            ready: 0,
            ended: 0,
            last_end: "none has ended".to_owned(),
            happened: Vec::new(),
            interrupt: server.interrupt().clone(),
        })
    }

    /// Lets those below `count` come who are away; says how long that took, seconds.
    ///
    /// # Errors
    /// When not all are ready in time, or one of them ends meanwhile.
    pub(super) fn come(&mut self, count: u32) -> Result<f64, BenchError> {
        let begun = self.clock.seconds();
        let ended = self.ended;
        // Those who are ready, and those on their way.
        let mut coming = self.ready;
        let mut next = 0;
        while self.ready < count {
            while next < count && coming - self.ready < UNDER_WAY_MAX {
                if matches!(self.people[next as usize].phase, Phase::Away) {
                    self.links.dial(Link(next)).map_err(system("connecting"))?;
                    coming += 1;
                }
                next += 1;
            }
            self.turn(MS, |_, _| {})?;
            let is_late = self.clock.seconds() - begun > COME_S_MAX;
            if is_late || self.ended > ended {
                return Err(self.not_all(count));
            }
        }
        Ok(self.clock.seconds() - begun)
    }

    /// All leave.
    ///
    /// # Errors
    /// When some are still there after a long time.
    pub(super) fn dismiss(&mut self) -> Result<(), BenchError> {
        let begun = self.clock.seconds();
        for link in (0..self.links.count()).map(Link) {
            if !matches!(self.people[link.place()].phase, Phase::Away) {
                self.people[link.place()].phase = Phase::Leaving;
                self.links.close(link);
            }
        }
        self.ready = 0;
        let is_there = |person: &Person| !matches!(person.phase, Phase::Away);
        while self.people.iter().any(is_there) {
            self.turn(MS, |_, _| {})?;
            if self.clock.seconds() - begun > COME_S_MAX {
                return Err(self.not_all(0));
            }
        }
        Ok(())
    }

    /// The frame that publishes this on a connection.
    pub(super) fn frame(&self, link: Link, payload: &[u8]) -> Bytes {
        let message = self.dialect.publish(self.listening.topic(link), payload);
        encode_masked(self.dialect.opcode(), &message, MASK)
    }

    /// Sends a frame.
    pub(super) fn send(&mut self, link: Link, frame: Bytes) {
        self.links.send(link, frame);
    }

    /// Carries on, and hands each message that came to `hear`. Waits up to `wait_ns` when there is
    /// nothing to do.
    ///
    /// # Errors
    /// When a ring fails, or measuring is to end.
    pub(super) fn turn(
        &mut self,
        wait_ns: u64,
        mut hear: impl FnMut(Link, &[u8]),
    ) -> Result<(), BenchError> {
        self.interrupt.check()?;
        let mut happened = std::mem::take(&mut self.happened);
        let exchanged = self.links.exchange(wait_ns, &mut happened);
        exchanged.map_err(system("exchanging bytes"))?;
        for happening in happened.drain(..) {
            match happening {
                Happened::Up(link) => {
                    let upgrade = Upgrade::begin(&self.authority, &self.key).0;
                    self.people[link.place()].phase = Phase::Upgrading(upgrade);
                    self.links.send(link, self.request.clone());
                }
                Happened::Received {
                    link,
                    buffer,
                    bytes,
                } => {
                    let arrived = self.links.filled(link, buffer, bytes);
                    let person = &mut self.people[link.place()];
                    let at_once = self.is_ready_at_once;
                    let heard =
                        person.hear(self.dialect, at_once, arrived, |said| hear(link, said));
                    self.links.give_back(link, buffer);
                    self.settle(link, heard);
                }
                Happened::Ended(link, end) => self.end(link, end),
            }
        }
        self.happened = happened;
        Ok(())
    }

    /// Connections that are ready.
    pub(super) const fn ready(&self) -> u32 {
        self.ready
    }

    /// Whether this one is.
    pub(super) fn is_ready(&self, link: Link) -> bool {
        matches!(self.people[link.place()].phase, Phase::Ready)
    }

    /// Connections that ended without being told to, so far.
    pub(super) const fn ended(&self) -> u64 {
        self.ended
    }

    /// The clock of the run.
    pub(super) const fn clock(&self) -> Clock {
        self.clock
    }

    /// The last reason why a connection ended.
    pub(super) fn last_end(&self) -> &str {
        &self.last_end
    }

    fn settle(&mut self, link: Link, heard: Result<Owed, String>) {
        let owed = match heard {
            Ok(owed) => owed,
            Err(reason) => {
                self.last_end = reason;
                return self.links.close(link);
            }
        };
        if owed.is_upgraded {
            for message in self.dialect.join(self.listening.topic(link), link.0) {
                let frame = encode_masked(self.dialect.opcode(), &message, MASK);
                self.links.send(link, frame);
            }
        }
        self.ready += u32::from(owed.is_ready);
        for _ in 0..owed.pongs {
            let pong = encode_masked(self.dialect.opcode(), &self.dialect.pong(), MASK);
            self.links.send(link, pong);
        }
        for probe in owed.probes {
            self.links
                .send(link, encode_masked(Opcode::Pong, &probe, MASK));
        }
        if owed.is_closed {
            "closed by the server".clone_into(&mut self.last_end);
            self.links.close(link);
        }
    }

    fn end(&mut self, link: Link, end: End) {
        let person = std::mem::take(&mut self.people[link.place()]);
        match person.phase {
            Phase::Leaving => return,
            Phase::Ready => self.ready -= 1,
            Phase::Away | Phase::Upgrading(_) | Phase::Joining => {}
        }
        self.ended += 1;
        if end != End::Own {
            self.last_end = end.to_string();
        }
    }

    fn not_all(&self, count: u32) -> BenchError {
        BenchError::NotAllLive {
            live: u64::from(self.ready),
            clients: count as usize,
            last: self.last_end.clone(),
        }
    }
}
