//! The clients of a swarm: what each of very many chat sessions is waiting for.
//!
//! It touches no socket: what is to be sent or closed is left in `deeds`. A client is four bytes
//! here; its token lies in a mapped file, its subscriptions in the ledger, if one is kept.
//!
//! Invariants: a client is live once every subscription that it asked for was confirmed; a
//! connection's end is counted once, under one reason.

mod hear;

use std::collections::{BTreeMap, HashMap, HashSet};

use bytes::Bytes;

use super::ledger::Ledger;
use super::links::{End, Link};
use super::talk::Talk;
use super::tokens::Tokens;
use super::voice::Voice;

/// The end that the generator itself brought about.
pub(crate) const CUT: &str = "cut by the generator";

/// Where a client stands.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
pub enum Phase {
    /// No connection.
    #[default]
    Apart,
    /// The connection is being made.
    Dialling,
    /// The handshake was sent.
    Upgrading,
    /// Waits for HELLO.
    Greeting,
    /// Waits for READY.
    Identifying,
    /// Waits for SUBSCRIBED.
    Subscribing,
    /// Subscribed to everything.
    Live,
    /// Something went wrong, or the server said goodbye; waits for the connection's end.
    Leaving,
}

#[derive(Clone, Copy, Default, Debug)]
struct Member {
    phase: Phase,
    /// Subscriptions that are not confirmed.
    awaited: u8,
    /// Attempts that failed in a row.
    failures: u8,
    was_live: bool,
}

/// What is to be done with a connection.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Deed {
    /// Send this.
    Send(Link, Bytes),
    /// Close it.
    Close(Link),
}

/// What a swarm counted.
#[derive(Clone, Default, Debug)]
pub struct SwarmTally {
    /// Clients that are live now.
    pub live: u64,
    /// Times that a client became live.
    pub handshakes: u64,
    /// Events of all types.
    pub events: u64,
    /// Events that were parsed whole, to check that scanning saw the same.
    pub parsed: u64,
    /// Parsed events in which scanning had seen something else.
    pub misread: u64,
    /// Bytes of the newest MESSAGE_CREATE, with its frame's header.
    pub message_frame_bytes: usize,
    /// HEARTBEAT_ACK.
    pub heartbeat_acks: u64,
    /// Pings of the server that were answered.
    pub pings: u64,
    /// Subscriptions that were confirmed.
    pub subscriptions: u64,
    /// RESYNC.
    pub resyncs: u64,
    /// ERROR events that were no answer to a message, by code.
    pub errors: BTreeMap<&'static str, u64>,
    /// Connections that ended, by reason.
    pub ended: BTreeMap<String, u64>,
    /// Connections that ended after their client had become live.
    pub dropped: u64,
    /// Those of them whose client reads slowly.
    pub dropped_slow: u64,
    /// Times that a client that had been live before was live again, and had gone on where it was.
    pub resumes: u64,
}

/// How a client leaves for a while.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Departure {
    /// Milliseconds until it comes back.
    pub pause_ms: u64,
    /// Whether it says goodbye with a close frame; otherwise its socket just goes.
    pub says_goodbye: bool,
    /// Whether it goes on with SUBSCRIBE_CHANNEL for each channel; otherwise with IDENTIFY.
    pub subscribes: bool,
}

/// What clients do alike.
#[derive(Clone, Copy, Debug)]
pub struct Manners {
    /// Channels that a client subscribes to, of those that READY names.
    pub channels_max: usize,
    /// One in so many events is parsed whole.
    pub sample: u64,
    /// Whether a client that was live before goes on where it was.
    pub resumes: bool,
    /// From this client on, the last of each four reads slowly; none where there are fewer.
    pub slow_from: u32,
}

impl Manners {
    /// Whether a client reads slowly.
    #[must_use]
    pub const fn is_slow(&self, link: Link) -> bool {
        link.0 >= self.slow_from && link.0 % 4 == 3
    }
}

/// The clients.
pub struct People {
    members: Vec<Member>,
    tokens: Tokens,
    voice: Voice,
    /// What they do alike.
    pub manners: Manners,
    /// Which messages reached whom, where that is asked for.
    pub ledger: Option<Ledger>,
    /// What this run said.
    pub talk: Talk,
    /// What was counted.
    pub tally: SwarmTally,
    /// The server's heartbeat interval, milliseconds, once it was heard.
    pub heartbeat_ms: Option<u64>,
    deeds: Vec<Deed>,
    /// Beginnings of frames whose rest has not arrived.
    aside: HashMap<Link, Vec<u8>>,
    /// The answer to the handshake, once one was checked: the others are the same.
    answer: Vec<u8>,
    /// When the server wants clients back, milliseconds.
    retry_after_ms: HashMap<Link, u64>,
    /// Reasons that are better than what the socket says.
    reasons: HashMap<Link, String>,
    /// Those who go on with SUBSCRIBE_CHANNEL when they come back.
    subscribers: HashSet<Link>,
    /// The channel that was heard last, as text and as a number.
    last_channel: ([u8; 36], u128),
}

impl People {
    /// So many clients, all apart. Each has the token of its number.
    ///
    /// # Panics
    /// If there are fewer tokens than clients.
    #[must_use]
    pub fn new(clients: u32, tokens: Tokens, voice: Voice, manners: Manners, talk: Talk) -> Self {
        let clients = clients as usize;
        assert!(tokens.count() >= clients, "each client is somebody");
        Self {
            members: vec![Member::default(); clients],
            tokens,
            voice,
            manners,
            ledger: None,
            talk,
            tally: SwarmTally::default(),
            heartbeat_ms: None,
            deeds: Vec::new(),
            aside: HashMap::new(),
            answer: Vec::new(),
            retry_after_ms: HashMap::new(),
            reasons: HashMap::new(),
            subscribers: HashSet::new(),
            last_channel: ([0; 36], 0),
        }
    }

    /// Keeps a ledger of subscriptions and deliveries from here on.
    pub fn keep_ledger(&mut self) {
        self.ledger = Some(Ledger::new(self.members.len(), self.manners.channels_max));
    }

    /// Where a client stands.
    #[must_use]
    pub fn phase(&self, link: Link) -> Phase {
        self.members[link.place()].phase
    }

    /// What they say.
    #[must_use]
    pub const fn voice(&self) -> &Voice {
        &self.voice
    }

    /// What is to be done, in order.
    pub fn deeds(&mut self) -> std::vec::Drain<'_, Deed> {
        self.deeds.drain(..)
    }

    /// The connection is being made.
    pub fn dialling(&mut self, link: Link) {
        self.members[link.place()].phase = Phase::Dialling;
    }

    /// The connection is there.
    pub fn up(&mut self, link: Link) {
        self.members[link.place()].phase = Phase::Upgrading;
        self.deeds.push(Deed::Send(link, self.voice.request()));
    }

    /// The connection is over. Says when to try again, milliseconds from now.
    pub fn ended(&mut self, link: Link, end: End) -> u64 {
        let reason = self.reasons.remove(&link);
        let reason = reason.unwrap_or_else(|| end.to_string());
        let was_cut = reason == CUT;
        *self.tally.ended.entry(reason).or_default() += 1;
        self.aside.remove(&link);
        let member = &mut self.members[link.place()];
        if member.phase == Phase::Live {
            self.tally.live -= 1;
        }
        member.phase = Phase::Apart;
        if was_cut {
            return self.retry_after_ms.remove(&link).unwrap_or(0);
        }
        if member.was_live && member.failures == 0 {
            self.tally.dropped += 1;
            self.tally.dropped_slow += u64::from(self.manners.is_slow(link));
        }
        member.failures = member.failures.saturating_add(1);
        let backoff_ms = 50 << member.failures.min(7);
        self.retry_after_ms.remove(&link).unwrap_or(backoff_ms)
    }

    /// The connection got nowhere for too long.
    pub fn timed_out(&mut self, link: Link) {
        let phase = self.phase(link);
        if self.reasons.get(&link).is_some_and(|reason| reason == CUT) {
            self.reasons.insert(link, "not let go".to_owned());
        }
        self.leave(link, || format!("timed out while {phase:?}"));
    }

    /// The clients' connections are to be cut: nothing of that is a failure.
    pub fn part(&mut self, link: Link) {
        self.leave(link, || CUT.to_owned());
    }

    /// A client leaves for a while; nothing of that is a failure.
    pub fn depart(&mut self, link: Link, departure: Departure) {
        self.retry_after_ms.insert(link, departure.pause_ms);
        if departure.subscribes {
            self.subscribers.insert(link);
        }
        self.leave(link, || CUT.to_owned());
        if departure.says_goodbye {
            let goodbye = Deed::Send(link, self.voice.goodbye());
            *self.deeds.last_mut().expect("who leaves closes") = goodbye;
        }
    }

    /// Attempts of a client that failed in a row.
    #[must_use]
    pub fn failures(&self, link: Link) -> u8 {
        self.members[link.place()].failures
    }

    fn leave(&mut self, link: Link, reason: impl FnOnce() -> String) {
        let member = &mut self.members[link.place()];
        if member.phase == Phase::Live {
            self.tally.live -= 1;
        }
        member.phase = Phase::Leaving;
        self.reasons.entry(link).or_insert_with(reason);
        self.deeds.push(Deed::Close(link));
    }

    fn become_live(&mut self, link: Link) {
        let member = &mut self.members[link.place()];
        member.phase = Phase::Live;
        self.tally.resumes += u64::from(self.manners.resumes && member.was_live);
        member.was_live = true;
        member.failures = 0;
        self.tally.live += 1;
        self.tally.handshakes += 1;
    }
}
