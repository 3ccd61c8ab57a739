//! One connection, from its handshake on: what it is owed for what it hears.
//!
//! It sends nothing and knows no socket.
//!
//! Invariants: a connection becomes ready once; what cannot go on says why.

use super::dialect::{Dialect, Nonsense, Said};
use super::inbound::Inbound;
use crate::upgrade::Upgrade;

/// One connection.
#[derive(Default)]
pub(super) struct Person {
    /// How far it is.
    pub(super) phase: Phase,
    inbound: Inbound,
}

/// How far a connection is.
#[derive(Default)]
pub(super) enum Phase {
    /// There is none.
    #[default]
    Away,
    /// In its handshake.
    Upgrading(Upgrade),
    /// Its subscription is not confirmed yet.
    Joining,
    /// Subscribed.
    Ready,
    /// Told to leave.
    Leaving,
}

/// What a connection is owed after bytes arrived.
#[derive(Default)]
pub(super) struct Owed {
    /// The handshake is done: it may introduce itself.
    pub(super) is_upgraded: bool,
    /// It has become ready.
    pub(super) is_ready: bool,
    /// The server ends it.
    pub(super) is_closed: bool,
    /// Pings of the dialect to be answered.
    pub(super) pongs: u32,
    /// Pings of WebSocket to be answered, each with these bytes.
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

#[cfg(test)]
mod tests {
    use throng_protocol::frame::{Opcode, encode_message};

    use super::*;

    /// The example of RFC 6455, section 1.3.
    const KEY: &str = "dGhlIHNhbXBsZSBub25jZQ==";
    const ANSWER: &str = "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\n\
        Connection: Upgrade\r\nsec-websocket-accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\n\r\n";

    fn person() -> Person {
        Person {
            phase: Phase::Upgrading(Upgrade::begin("host:1", KEY).0),
            ..Person::default()
        }
    }

    #[test]
    fn a_connection_becomes_ready_once_in_any_cut() {
        let frames = |text: &[u8]| encode_message(Opcode::Binary, text);
        let pong = frames(b"INFO {}\r\nPONG\r\nMSG room 1 2\r\nhi\r\nPONG\r\nPING\r\n");
        let bytes = [ANSWER.as_bytes(), &pong].concat();
        for cut in 0..=bytes.len() {
            let mut person = person();
            let (mut upgraded, mut ready, mut pongs, mut heard) = (0, 0, 0, Vec::new());
            let (first, second) = bytes.split_at(cut);
            for part in [first, second] {
                let hear = |said: &[u8]| heard.push(said.to_vec());
                let owed = person.hear(Dialect::Nats, false, part, hear).unwrap();
                upgraded += u32::from(owed.is_upgraded);
                ready += u32::from(owed.is_ready);
                pongs += owed.pongs;
            }
            assert_eq!((upgraded, ready, pongs), (1, 1, 1), "cut at {cut}");
            assert_eq!(heard, [b"hi"], "cut at {cut}");
            assert!(matches!(person.phase, Phase::Ready));
        }
    }

    #[test]
    fn where_nothing_is_to_be_said_first_it_is_ready_with_the_handshake() {
        let mut person = person();
        let owed = person.hear(Dialect::Plain, true, ANSWER.as_bytes(), |_| {});
        assert!(owed.is_ok_and(|owed| owed.is_upgraded && owed.is_ready));
    }

    #[test]
    fn refusals_say_why() {
        let mut refused = person();
        let answer = b"HTTP/1.1 503 Service Unavailable\r\n\r\n";
        let why = refused.hear(Dialect::Plain, true, answer, |_| {});
        assert!(why.is_err_and(|why| why.contains("503")));
        let mut person = person();
        let answer = [
            ANSWER.as_bytes(),
            &encode_message(Opcode::Binary, b"-ERR\r\n"),
        ]
        .concat();
        assert!(person.hear(Dialect::Nats, false, &answer, |_| {}).is_err());
    }
}
