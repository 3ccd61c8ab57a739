//! MQTT 3.1.1, quality of service 0: packets with a byte of type and a length before them.
//!
//! It knows no session, no retained message, no will and no acknowledgement of messages.
//!
//! Invariants: a packet's length is bounded; a refusal is nonsense here, since nothing is asked for
//! that may be refused.

use super::{First, Nonsense, Said};

const CONNECT: u8 = 0x10;
const CONNACK: u8 = 0x20;
const PUBLISH: u8 = 0x30;
/// Its low bits must be so (section 3.8.1).
const SUBSCRIBE: u8 = 0x82;
const SUBACK: u8 = 0x90;
const CLEAN_SESSION: u8 = 0x02;
/// Seconds without a packet after which the server may close: more than a run lasts. 0 would switch
/// it off, which a server may refuse.
const KEEP_ALIVE_S: u16 = 65_000;
/// The longest packet that is understood, bytes.
const PACKET_BYTES_MAX: usize = 16 << 20;

/// Introduces a client.
pub(super) fn connect(connection: u32) -> Vec<u8> {
    let mut body = text("MQTT");
    body.extend([4, CLEAN_SESSION]);
    body.extend(KEEP_ALIVE_S.to_be_bytes());
    body.extend(text(&format!("c{connection}")));
    packet(CONNECT, &body)
}

/// Subscribes.
pub(super) fn subscribe(topic: &str) -> Vec<u8> {
    let packet_id = [0, 1];
    let quality = [0];
    packet(
        SUBSCRIBE,
        &[&packet_id[..], &text(topic), &quality].concat(),
    )
}

/// Publishes.
pub(super) fn publish(topic: &str, payload: &[u8]) -> Vec<u8> {
    packet(PUBLISH, &[&text(topic), payload].concat())
}

/// The first thing said.
pub(super) fn first(bytes: &[u8]) -> First<'_> {
    let Some((&head, behind)) = bytes.split_first() else {
        return Ok(None);
    };
    let Some((length, length_bytes)) = remaining_length(behind)? else {
        return Ok(None);
    };
    let whole = 1 + length_bytes + length;
    let Some(body) = bytes.get(1 + length_bytes..whole) else {
        return Ok(None);
    };
    let said = match (head, body) {
        (PUBLISH, _) => Said::Delivered(payload(body).ok_or(Nonsense)?),
        // The last byte of both says whether it was refused.
        (CONNACK, &[_, 0]) => Said::Other,
        (SUBACK, &[_, _, 0]) => Said::Subscribed,
        _ => return Err(Nonsense),
    };
    Ok(Some((said, whole)))
}

fn payload(body: &[u8]) -> Option<&[u8]> {
    let (&topic_bytes, rest) = body.split_first_chunk::<2>()?;
    rest.get(usize::from(u16::from_be_bytes(topic_bytes))..)
}

/// Seven bits a byte, the lowest first (section 2.2.3), and how many bytes that took.
fn remaining_length(bytes: &[u8]) -> Result<Option<(usize, usize)>, Nonsense> {
    const BYTES_MAX: usize = 4;
    let mut length = 0;
    for (place, &byte) in bytes.iter().take(BYTES_MAX).enumerate() {
        length |= usize::from(byte & 0x7F) << (7 * place);
        if byte & 0x80 == 0 {
            let is_short = length <= PACKET_BYTES_MAX;
            return if is_short {
                Ok(Some((length, place + 1)))
            } else {
                Err(Nonsense)
            };
        }
    }
    if bytes.len() < BYTES_MAX {
        Ok(None)
    } else {
        Err(Nonsense)
    }
}

fn packet(head: u8, body: &[u8]) -> Vec<u8> {
    let mut packet = vec![head];
    let mut length = body.len();
    loop {
        let [low, ..] = (length & 0x7F).to_le_bytes();
        length >>= 7;
        packet.push(if length > 0 { low | 0x80 } else { low });
        if length == 0 {
            break;
        }
    }
    packet.extend(body);
    packet
}

fn text(text: &str) -> Vec<u8> {
    let length = u16::try_from(text.len()).expect("names of ours are short");
    [&length.to_be_bytes(), text.as_bytes()].concat()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_client_says() {
        assert_eq!(connect(7), b"\x10\x0e\0\x04MQTT\x04\x02\xfd\xe8\0\x02c7");
        assert_eq!(subscribe("room"), b"\x82\x09\0\x01\0\x04room\0");
        assert_eq!(publish("room", b"hi"), b"\x30\x08\0\x04roomhi");
        assert!(publish("room", &[0; 194]).starts_with(&[0x30, 0xC8, 0x01, 0, 4]));
    }

    #[test]
    fn what_a_server_says() {
        let check = |bytes: &[u8], said: Said<'_>| {
            assert_eq!(first(bytes), Ok(Some((said, bytes.len()))));
            for cut in 0..bytes.len() {
                assert_eq!(first(&bytes[..cut]), Ok(None), "cut at {cut}");
            }
        };
        check(&[0x20, 2, 0, 0], Said::Other);
        check(&[0x90, 3, 0, 1, 0], Said::Subscribed);
        check(&publish("room", b"hi"), Said::Delivered(b"hi"));
        check(&publish("room", b""), Said::Delivered(b""));
        check(
            &publish("room", &[b'x'; 300]),
            Said::Delivered(&[b'x'; 300]),
        );
    }

    #[test]
    fn what_a_server_may_not_say() {
        for bytes in [
            &[0x20, 2, 0, 5][..],
            &[0x90, 3, 0, 1, 0x80],
            &[0x30, 1, 0],
            &[0x30, 3, 0, 9, b'x'],
            &[0x30, 0xFF, 0xFF, 0xFF, 0xFF],
            &[0x30, 0xFF, 0xFF, 0xFF, 0x7F],
            &[0xF0, 0],
        ] {
            assert_eq!(first(bytes), Err(Nonsense), "{bytes:?}");
        }
    }
}
