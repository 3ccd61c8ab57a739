//! What differs between servers on the wire: how one subscribes, publishes and is delivered to.
//!
//! It knows no socket and no frame: bytes in, bytes out. All of them talk inside WebSocket messages,
//! as a browser must.
//!
//! Invariants: what a server says is found in any cut of its bytes; no input makes it panic; what a
//! dialect does not know is an error, never passed over.

mod mqtt;
mod nats;

use throng_protocol::frame::Opcode;

/// How a server is talked to.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Dialect {
    /// That of the programs in `bench/peers`, where one WebSocket message is one message: `S`
    /// subscribes and is answered with `s`, what begins with `P` goes to all who subscribed, the
    /// sender too, and anything else comes back.
    Plain,
    /// The client protocol of NATS (<https://docs.nats.io/reference/reference-protocols/nats-protocol>).
    Nats,
    /// MQTT 3.1.1 (OASIS standard, 2014), quality of service 0.
    Mqtt,
}

/// Whom a connection listens to and talks to.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Topic {
    /// Everybody.
    Room,
    /// Itself.
    Own(u32),
}

impl Topic {
    fn name(self) -> String {
        match self {
            Self::Room => "room".to_owned(),
            Self::Own(number) => format!("own.{number:06}"),
        }
    }
}

/// What a server said.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Said<'a> {
    /// The subscription stands.
    Subscribed,
    /// A message came.
    Delivered(&'a [u8]),
    /// Asks in its dialect whether anybody is there.
    Ping,
    /// Asks by a WebSocket ping, to be answered with the same bytes.
    Probe(&'a [u8]),
    /// Nothing more will come.
    Closed,
    /// Nothing that matters here.
    Other,
}

/// A server said what its dialect does not know.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
#[error("the server said what its protocol does not know")]
pub(super) struct Nonsense;

/// The first thing said, and how many bytes it takes; none while it is not whole.
pub(super) type First<'a> = Result<Option<(Said<'a>, usize)>, Nonsense>;

impl Dialect {
    /// What the handshake must ask for.
    pub(super) const fn subprotocol(self) -> Option<&'static str> {
        match self {
            Self::Plain | Self::Nats => None,
            Self::Mqtt => Some("mqtt"),
        }
    }

    /// The kind of WebSocket message that it talks in.
    pub(super) const fn opcode(self) -> Opcode {
        match self {
            Self::Plain => Opcode::Text,
            Self::Nats | Self::Mqtt => Opcode::Binary,
        }
    }

    /// Messages that introduce a connection and subscribe it. [`Said::Subscribed`] answers them;
    /// where there are none, it is ready without.
    pub(super) fn join(self, topic: Topic, connection: u32) -> Vec<Vec<u8>> {
        match (self, topic) {
            (Self::Plain, Topic::Own(_)) => Vec::new(),
            (Self::Plain, Topic::Room) => vec![b"S".to_vec()],
            (Self::Nats, _) => vec![nats::join(&topic.name())],
            (Self::Mqtt, _) => vec![mqtt::connect(connection), mqtt::subscribe(&topic.name())],
        }
    }

    /// A message that publishes.
    pub(super) fn publish(self, topic: Topic, payload: &[u8]) -> Vec<u8> {
        match self {
            Self::Plain => payload.to_vec(),
            Self::Nats => nats::publish(&topic.name(), payload),
            Self::Mqtt => mqtt::publish(&topic.name(), payload),
        }
    }

    /// The answer to [`Said::Ping`].
    pub(super) fn pong(self) -> Vec<u8> {
        match self {
            Self::Plain | Self::Mqtt => Vec::new(),
            Self::Nats => nats::PONG.to_vec(),
        }
    }

    /// Whether a WebSocket message is one message; otherwise messages are a stream, and where a
    /// WebSocket message ends means nothing.
    pub(super) const fn is_framed(self) -> bool {
        matches!(self, Self::Plain)
    }

    /// The first thing said in these bytes.
    pub(super) fn first(self, bytes: &[u8]) -> First<'_> {
        match self {
            Self::Plain if bytes == b"s" => Ok(Some((Said::Subscribed, bytes.len()))),
            Self::Plain => Ok(Some((Said::Delivered(bytes), bytes.len()))),
            Self::Nats => nats::first(bytes),
            Self::Mqtt => mqtt::first(bytes),
        }
    }
}
