//! What arrives on one connection, from bytes to what was said.
//!
//! It answers nothing and knows no handshake.
//!
//! Invariants: any cut of the bytes says the same; what is kept is the beginning of one frame and of
//! one thing said; bytes are copied only where a frame or a thing was cut.

use super::dialect::{Dialect, Nonsense, Said};
use crate::swarm::frames::{self, BINARY, CLOSE, PING, TEXT};

/// What of a connection's bytes is not whole yet.
#[derive(Default, Debug)]
pub(super) struct Inbound {
    frame: Vec<u8>,
    said: Vec<u8>,
}

impl Inbound {
    /// More bytes arrived: hands on all that was said with them.
    pub(super) fn receive(
        &mut self,
        dialect: Dialect,
        arrived: &[u8],
        mut hear: impl FnMut(Said<'_>),
    ) -> Result<(), Nonsense> {
        let said = &mut self.said;
        in_order(&mut self.frame, arrived, |bytes| {
            let Some(frame) = frames::first(bytes).map_err(|_| Nonsense)? else {
                return Ok(None);
            };
            match frame.opcode {
                TEXT | BINARY if dialect.is_framed() => {
                    if let Some((what, _)) = dialect.first(frame.payload)? {
                        hear(what);
                    }
                }
                TEXT | BINARY => in_order(said, frame.payload, |bytes| {
                    Ok(dialect.first(bytes)?.map(|(what, taken)| {
                        hear(what);
                        taken
                    }))
                })?,
                PING => hear(Said::Probe(frame.payload)),
                CLOSE => hear(Said::Closed),
                _ => hear(Said::Other),
            }
            Ok(Some(frame.bytes))
        })
    }
}

/// Takes one thing after the other off the kept bytes and the new ones behind them, and keeps what
/// is not whole. `take` says how long the first is.
fn in_order(
    kept: &mut Vec<u8>,
    arrived: &[u8],
    mut take: impl FnMut(&[u8]) -> Result<Option<usize>, Nonsense>,
) -> Result<(), Nonsense> {
    let mut all_of = |bytes: &[u8]| {
        let mut taken = 0;
        while taken < bytes.len() {
            match take(&bytes[taken..])? {
                Some(more) => taken += more,
                None => break,
            }
        }
        Ok(taken)
    };
    if kept.is_empty() {
        let taken = all_of(arrived)?;
        kept.extend_from_slice(&arrived[taken..]);
    } else {
        kept.extend_from_slice(arrived);
        let taken = all_of(kept)?;
        kept.drain(..taken);
    }
    if kept.is_empty() && kept.capacity() > 0 {
        // A connection that idles keeps nothing.
        *kept = Vec::new();
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use throng_protocol::frame::{Opcode, encode_message};

    use super::*;
    use crate::peers::dialect::Topic;

    fn heard(dialect: Dialect, parts: &[&[u8]]) -> Result<Vec<String>, Nonsense> {
        let mut inbound = Inbound::default();
        let mut heard = Vec::new();
        for part in parts {
            inbound.receive(dialect, part, |said| heard.push(format!("{said:?}")))?;
        }
        assert!(
            inbound.frame.is_empty() && inbound.said.is_empty(),
            "all was whole"
        );
        Ok(heard)
    }

    /// Every cut in two, and byte by byte.
    fn check(dialect: Dialect, bytes: &[u8], expected: &[Said<'_>]) {
        let expected: Vec<String> = expected.iter().map(|said| format!("{said:?}")).collect();
        for cut in 0..=bytes.len() {
            let (first, second) = bytes.split_at(cut);
            assert_eq!(
                heard(dialect, &[first, second]),
                Ok(expected.clone()),
                "cut at {cut}"
            );
        }
        let single: Vec<&[u8]> = bytes.chunks(1).collect();
        assert_eq!(heard(dialect, &single), Ok(expected));
    }

    #[test]
    fn a_message_is_a_frame() {
        let frame = |text: &[u8]| encode_message(Opcode::Text, text);
        let long = [b'x'; 300];
        let ping = encode_message(Opcode::Ping, b"?");
        let bytes = [&frame(b"s")[..], &frame(b"Pabc"), &ping, &frame(&long)].concat();
        let expected = [
            Said::Subscribed,
            Said::Delivered(b"Pabc"),
            Said::Probe(b"?"),
            Said::Delivered(&long),
        ];
        check(Dialect::Plain, &bytes, &expected);
    }

    #[test]
    fn messages_are_a_stream_whatever_the_frames() {
        let stream = b"INFO {}\r\nPONG\r\nMSG room 1 2\r\nhi\r\nMSG room 1 2\r\nho\r\nPING\r\n";
        let expected = [
            Said::Other,
            Said::Subscribed,
            Said::Delivered(b"hi"),
            Said::Delivered(b"ho"),
            Said::Ping,
        ];
        for frame_bytes in [1, 7, 16, stream.len()] {
            let frames = stream.chunks(frame_bytes);
            let bytes: Vec<u8> = frames
                .flat_map(|part| encode_message(Opcode::Binary, part))
                .collect();
            check(Dialect::Nats, &bytes, &expected);
        }
    }

    #[test]
    fn two_packets_in_a_frame() {
        let packet = Dialect::Mqtt.publish(Topic::Room, b"hi");
        let bytes = encode_message(Opcode::Binary, &[&packet[..], &packet].concat());
        check(Dialect::Mqtt, &bytes, &[Said::Delivered(b"hi"); 2]);
    }

    #[test]
    fn nonsense_of_either_layer() {
        let mut inbound = Inbound::default();
        for bytes in [
            &[0x01, 0x00][..],
            &encode_message(Opcode::Binary, b"-ERR\r\n"),
        ] {
            assert_eq!(inbound.receive(Dialect::Nats, bytes, |_| {}), Err(Nonsense));
        }
    }
}
