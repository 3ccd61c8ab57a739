//! A client: what it knows, what it waits for, and its end of the wire.
//!
//! It reads real bytes and keeps no clock. What it does is in `act`, what it makes of what it
//! hears in `hear`.
//!
//! Invariants: at most one subscription request per channel is under way on a connection; every
//! message that it accepted to send stays with it until it is acknowledged.

use std::collections::{BTreeMap, BTreeSet, HashMap, VecDeque};
use std::rc::Rc;

use rand::RngExt;
use rand::rngs::StdRng;
use throng_protocol::deflate::{Deflater, Inflater};
use throng_protocol::frame::{Chunk, Decoder, Item, ProtocolError};
use throng_protocol::{ChannelId, Event, Nonce, Seq};

use crate::control::Account;
use crate::oracle::From;
use crate::plan::Plan;

/// Longest message that a client takes, in bytes.
const MESSAGE_BYTES_MAX: usize = 8 << 20;

/// Events that are remembered as parsed.
const PARSED_MAX: usize = 512;

/// The answer to the key of RFC 6455, section 1.3.
const ACCEPT: &str = "s3pPLMBiTxaQ9kYGzzhZRbK+xOo=";

/// How a client behaves.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Kind {
    Good,
    /// Reads slowly.
    Slow,
    /// Stops reading some time after READY.
    Stalled,
    /// Says nothing any more after READY, not even that it is there.
    Silent,
    /// Sends no heartbeats, but answers pings.
    Ponger,
    /// Never says who it is.
    Mute,
    /// Has a bad token.
    Forger,
    /// Breaks RFC 6455 some time after READY.
    Breaker,
    /// Stays when asked to reconnect.
    Stubborn,
}

/// How far a client has come.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Stage {
    Offline,
    Upgrading,
    Upgraded,
    Identifying,
    Ready,
    /// It will not come back.
    Retired,
}

/// A channel that a client hears, or has heard.
#[derive(Clone, Copy, Default, Debug)]
pub(crate) struct Heard {
    pub(crate) wanted: bool,
    /// Subscribed on this connection.
    pub(crate) on: bool,
    /// Live from the start on, so that subscribing again changes nothing.
    pub(crate) from_head: bool,
    /// The last message that it has.
    pub(crate) last: Option<Seq>,
    /// When it asked not to hear it any more.
    pub(crate) ended_us: Option<u64>,
}

/// A subscription that was asked for.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Asked {
    pub(crate) from: From,
    /// What anybody had seen of the channel then.
    pub(crate) known: Seq,
    /// It had been told that it is a member.
    pub(crate) member: bool,
}

/// A message that is not known to be stored.
#[derive(Clone, Debug)]
pub(crate) struct Outgoing {
    pub(crate) channel: ChannelId,
    pub(crate) nonce: Nonce,
    pub(crate) content: String,
    /// When it is to be sent; `None` while an answer is due.
    pub(crate) due_us: Option<u64>,
    pub(crate) member: bool,
    pub(crate) sends: u32,
}

/// A client.
#[derive(Debug)]
pub(crate) struct Client {
    pub(crate) account: Account,
    pub(crate) kind: Kind,
    pub(crate) typist: bool,
    pub(crate) arrives_us: u64,
    /// Counts its plans; only the latest one counts.
    pub(crate) turn: u64,
    pub(crate) stage: Stage,
    pub(crate) link: Option<usize>,
    /// The channels that it has been told it may use.
    pub(crate) mine: BTreeSet<ChannelId>,
    pub(crate) heard: BTreeMap<ChannelId, Heard>,
    pub(crate) outgoing: Vec<Outgoing>,
    /// Some of those that are stored.
    pub(crate) stored: VecDeque<Outgoing>,
    pub(crate) wire: Wire,
}

/// What belongs to one connection.
#[derive(Debug)]
pub(crate) struct Wire {
    decoder: Decoder,
    head: Vec<u8>,
    upgraded: bool,
    /// Messages may be compressed.
    pub(crate) deflate: bool,
    /// Answers that are due, by nonce.
    pub(crate) awaiting: BTreeMap<Nonce, u32>,
    pub(crate) pending: BTreeMap<ChannelId, Asked>,
    /// The channels of the resume that was sent with IDENTIFY.
    pub(crate) resuming: BTreeMap<ChannelId, Asked>,
    /// Errors that name no message and are not explained yet.
    pub(crate) unexplained: usize,
    pub(crate) last_was_error: bool,
    /// When the last subscription or error was heard of.
    pub(crate) news_us: u64,
    pub(crate) nonsense: u32,
    pub(crate) acks_due: u32,
    pub(crate) typed: bool,
    pub(crate) heartbeat_us: u64,
    /// Time between two heartbeats, as HELLO has it.
    pub(crate) heartbeat_every_us: u64,
    pub(crate) pings: u32,
    pub(crate) ready_us: u64,
    pub(crate) identify_us: Option<u64>,
    pub(crate) identify_refused: bool,
    pub(crate) was_ready: bool,
    pub(crate) leaving: bool,
}

impl Default for Wire {
    fn default() -> Self {
        Self {
            decoder: Decoder::client(MESSAGE_BYTES_MAX),
            head: Vec::new(),
            upgraded: false,
            deflate: false,
            awaiting: BTreeMap::new(),
            pending: BTreeMap::new(),
            resuming: BTreeMap::new(),
            unexplained: 0,
            last_was_error: false,
            news_us: 0,
            nonsense: 0,
            acks_due: 0,
            typed: false,
            heartbeat_us: 0,
            heartbeat_every_us: 0,
            pings: 0,
            ready_us: 0,
            identify_us: None,
            identify_refused: false,
            was_ready: false,
            leaving: false,
        }
    }
}

/// What arrived.
#[derive(Debug)]
pub(crate) enum Arrived {
    Upgraded,
    /// Something else than 101.
    NotUpgraded,
    Event(Rc<Event>),
    Ping(Vec<u8>),
    Pong,
    Close(Option<u16>),
}

/// What all clients read with.
#[derive(Debug, Default)]
pub(crate) struct Parser {
    pub(crate) deflater: Deflater,
    inflater: Inflater,
    texts: Texts,
}

/// Texts that many clients hear are parsed once.
#[derive(Debug, Default)]
struct Texts {
    parsed: HashMap<String, Rc<Event>>,
}

impl Texts {
    fn parse(&mut self, text: &str) -> Rc<Event> {
        if let Some(event) = self.parsed.get(text) {
            return Rc::clone(event);
        }
        let event: Event = serde_json::from_str(text)
            .unwrap_or_else(|error| panic!("the server said {text}: {error}"));
        if self.parsed.len() >= PARSED_MAX {
            self.parsed.clear();
        }
        let event = Rc::new(event);
        self.parsed.insert(text.to_owned(), Rc::clone(&event));
        event
    }
}

impl Client {
    /// A client that has not come yet; several may share an account.
    pub(crate) fn new(number: usize, plan: &Plan, random: &mut StdRng) -> Self {
        let odd = random.random_range(0..100) < plan.odd_percent;
        let kinds = [
            Kind::Slow,
            Kind::Stalled,
            Kind::Ponger,
            Kind::Silent,
            Kind::Mute,
            Kind::Forger,
            Kind::Breaker,
            Kind::Stubborn,
        ];
        Self {
            account: Account(number % plan.users),
            kind: if odd {
                *crate::plan::pick(random, &kinds)
            } else {
                Kind::Good
            },
            typist: random.random_ratio(1, 4),
            arrives_us: random.random_range(0..plan.active_us / 4),
            turn: 0,
            stage: Stage::Offline,
            link: None,
            mine: BTreeSet::new(),
            heard: BTreeMap::new(),
            outgoing: Vec::new(),
            stored: VecDeque::new(),
            wire: Wire::default(),
        }
    }

    /// What bytes from the server mean.
    pub(crate) fn receive(&mut self, bytes: &mut [u8], parser: &mut Parser) -> Vec<Arrived> {
        let wire = &mut self.wire;
        let mut arrived = Vec::new();
        if wire.upgraded {
            wire.frames(bytes, parser, &mut arrived);
            return arrived;
        }
        wire.head.extend_from_slice(bytes);
        let Some(end) = wire.head.windows(4).position(|part| part == b"\r\n\r\n") else {
            return arrived;
        };
        let head = String::from_utf8_lossy(&wire.head[..end]).into_owned();
        if !head.starts_with("HTTP/1.1 101 ") {
            return vec![Arrived::NotUpgraded];
        }
        assert!(
            head.contains(ACCEPT),
            "the handshake's answer fits its key: {head}"
        );
        wire.upgraded = true;
        wire.deflate = head.to_lowercase().contains("permessage-deflate");
        let decoder = Decoder::client(MESSAGE_BYTES_MAX);
        wire.decoder = decoder.with_deflate(wire.deflate);
        arrived.push(Arrived::Upgraded);
        let mut rest = wire.head.split_off(end + 4);
        wire.frames(&mut rest, parser, &mut arrived);
        arrived
    }

    /// Channels that it wants and can go on in, with what it has of them.
    pub(crate) fn wants(&self) -> Vec<(ChannelId, Seq)> {
        let wanted = self.heard.iter().filter(|(_, heard)| heard.wanted);
        wanted
            .filter_map(|(channel, heard)| Some((*channel, heard.last?)))
            .collect()
    }
}

impl Wire {
    fn frames(&mut self, bytes: &mut [u8], parser: &mut Parser, arrived: &mut Vec<Arrived>) {
        let mut chunk = Chunk::new(bytes);
        loop {
            let Parser {
                inflater, texts, ..
            } = parser;
            match self.decoder.next_inflating(&mut chunk, inflater) {
                Ok(None) => return,
                Ok(Some(item)) => arrived.push(item_arrived(item, texts)),
                Err(error) => broken(error),
            }
        }
    }
}

fn item_arrived(item: Item<'_>, texts: &mut Texts) -> Arrived {
    match item {
        Item::Text(text) => Arrived::Event(texts.parse(text)),
        Item::Ping(payload) => Arrived::Ping(payload.to_vec()),
        Item::Pong(_) => Arrived::Pong,
        Item::Close(code) => Arrived::Close(code),
        Item::Binary(bytes) => panic!("the server sent {} binary bytes", bytes.len()),
    }
}

fn broken(error: ProtocolError) -> ! {
    panic!("the server broke the protocol: {error}")
}
