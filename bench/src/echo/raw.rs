//! `throng-bench raw-echo`: the least code that answers a WebSocket client over io_uring.
//!
//! It is a yardstick, not a server: it trusts its client, takes only whole short frames, and
//! closes the connection on anything else. Multishot accept and receive, provided buffers, sends
//! on direct descriptors: what any server on these rings must do, and nothing more.
//!
//! Invariants: a reply's bytes stay where they are until its send has completed.

use std::io::{self, Write};
use std::net::SocketAddr;
use std::os::fd::{AsFd, AsRawFd};
use std::process::ExitCode;

use bytes::Bytes;
use clap::Args;
use rustix::event::{EventfdFlags, PollFd, PollFlags, eventfd, poll};
use rustix::process::{Signal, set_parent_process_death_signal};
use socket2::{Domain, Socket, Type};
use tungstenite::handshake::derive_accept_key;

use crate::swarm::BufferSizes;
use crate::swarm::options::pin_thread;
use crate::swarm::outgoing::Outgoing;
use crate::swarm::ring::{Completion, Operation, Ring};

/// Connections at most.
const PLACES: u32 = 16_384;
const BUFFERS: BufferSizes = BufferSizes {
    count: 1_024,
    bytes: 8 << 10,
};
const PENDING_MAX: i32 = 4_096;
/// A frame of a client up to 125 bytes, and one up to 65,535: header and mask.
const SHORT: usize = 6;
const LONG: usize = 8;
const MASK_BYTES: usize = 4;

/// A minimal echo over io_uring, the yardstick of `echo`.
#[derive(Args, Debug)]
pub struct RawEchoArgs {
    /// Address and port; port 0 picks one.
    #[arg(long, default_value = "127.0.0.1:0")]
    listen: SocketAddr,
    /// The core to run on.
    #[arg(long)]
    core: Option<usize>,
}

/// Serves until it is killed.
#[must_use]
pub fn serve(args: &RawEchoArgs) -> ExitCode {
    match echo(args) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("throng-bench: raw-echo: {error}");
            ExitCode::from(2)
        }
    }
}

fn echo(args: &RawEchoArgs) -> io::Result<()> {
    // Whoever measures may be killed; nobody would end this then.
    set_parent_process_death_signal(Some(Signal::KILL))?;
    if let Some(core) = args.core {
        pin_thread(core)?;
    }
    let listener = Socket::new(Domain::for_address(args.listen), Type::STREAM, None)?;
    listener.set_reuse_address(true)?;
    listener.set_tcp_nodelay(true)?;
    listener.bind(&args.listen.into())?;
    listener.listen(PENDING_MAX)?;
    let wake = eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK)?;
    let mut server = RawEcho {
        ring: Ring::open(PLACES, BUFFERS, wake.as_fd())?,
        outgoing: Outgoing::default(),
    };
    server.ring.accept(listener.as_raw_fd());
    let address = listener.local_addr()?.as_socket();
    let address = address.ok_or(io::ErrorKind::AddrNotAvailable)?;
    let mut stdout = io::stdout().lock();
    writeln!(stdout, "listening on http://{address}")?;
    stdout.flush()?;
    let mut completions = Vec::new();
    loop {
        server.ring.enter()?;
        server.ring.reap(&mut completions);
        if completions.is_empty() {
            server.ring.signal(true);
            if !server.ring.has_work() {
                poll(&mut [PollFd::new(&wake, PollFlags::IN)], None)?;
                let _ = rustix::io::read(&wake, &mut [0; 8]);
            }
            server.ring.signal(false);
        }
        for completion in completions.drain(..) {
            if completion.operation == Operation::Accept && !completion.more {
                server.ring.accept(listener.as_raw_fd());
            }
            server.complete(completion);
        }
        server.ring.buffers().publish();
    }
}

struct RawEcho {
    // Dropped before the bytes that its operations point to.
    ring: Ring,
    outgoing: Outgoing,
}

impl RawEcho {
    fn complete(&mut self, completion: Completion) {
        match completion.operation {
            Operation::Accept => {
                if let Ok(place) = u32::try_from(completion.result) {
                    self.ring.receive(place);
                }
            }
            Operation::Receive => self.received(completion),
            Operation::Send => {
                self.outgoing.release(completion.tag);
            }
            _ => {}
        }
    }

    fn received(&mut self, completion: Completion) {
        let place = completion.place;
        let (Some(buffer), Ok(bytes)) = (completion.buffer, usize::try_from(completion.result))
        else {
            return match -completion.result {
                libc::ENOBUFS => self.ring.receive(place),
                _ => self.ring.close(place),
            };
        };
        let reply = reply(self.ring.buffers().filled(buffer, bytes));
        self.ring.buffers().give_back(buffer);
        if let Some(reply) = reply {
            self.send(place, reply);
            if !completion.more {
                self.ring.receive(place);
            }
        } else {
            self.ring.cancel(place);
            self.ring.close(place);
        }
    }

    #[expect(unsafe_code, reason = "a ring is given bytes by pointer")]
    fn send(&mut self, place: u32, reply: Bytes) {
        let tag = self.outgoing.hold(reply);
        // SAFETY: the bytes are held, unmoved, until the completion with this tag.
        unsafe { self.ring.send(place, self.outgoing.of(tag), tag) };
    }
}

/// The answer to what arrived: a handshake, or whole frames, one after the other.
fn reply(received: &[u8]) -> Option<Bytes> {
    if received.starts_with(b"GET ") {
        return handshake(received);
    }
    // One frame, mostly, which comes back without its mask: exactly this long, so that nothing is
    // allocated but the reply.
    let mut reply = Vec::with_capacity(received.len().saturating_sub(MASK_BYTES));
    let mut rest = received;
    while !rest.is_empty() {
        let &[head, masked, ref behind @ ..] = rest else {
            return None;
        };
        let (length, header) = match (masked, behind) {
            (0x80..=0xFD, _) => (usize::from(masked - 0x80), SHORT),
            (0xFE, &[high, low, ..]) => (usize::from(u16::from_be_bytes([high, low])), LONG),
            _ => return None,
        };
        let mask = rest.get(header - MASK_BYTES..header)?.first_chunk()?;
        let payload = rest.get(header..header + length)?;
        reply.push(head);
        reply.extend_from_slice(&[masked - 0x80]);
        reply.extend_from_slice(&rest[2..header - MASK_BYTES]);
        let begin = reply.len();
        reply.extend_from_slice(payload);
        unmask(&mut reply[begin..], *mask);
        rest = &rest[header + length..];
    }
    Some(reply.into())
}

/// Eight bytes at a time, as the server does it.
fn unmask(payload: &mut [u8], mask: [u8; MASK_BYTES]) {
    let [a, b, c, d] = mask;
    let word = u64::from_ne_bytes([a, b, c, d, a, b, c, d]);
    let (words, tail) = payload.as_chunks_mut::<8>();
    for bytes in words {
        *bytes = (u64::from_ne_bytes(*bytes) ^ word).to_ne_bytes();
    }
    for (byte, mask) in tail.iter_mut().zip(mask.iter().cycle()) {
        *byte ^= mask;
    }
}

fn handshake(request: &[u8]) -> Option<Bytes> {
    let request = std::str::from_utf8(request).ok()?;
    let key = request.lines().find_map(|line| {
        let (name, value) = line.split_once(": ")?;
        name.eq_ignore_ascii_case("sec-websocket-key")
            .then_some(value)
    })?;
    let accept = derive_accept_key(key.trim().as_bytes());
    let answer = format!(
        "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
         Sec-WebSocket-Accept: {accept}\r\n\r\n"
    );
    Some(answer.into())
}

#[cfg(test)]
mod tests {
    use throng_protocol::frame::{Opcode, encode_masked, encode_message};

    use super::*;

    #[test]
    fn frames_come_back_unmasked() {
        for length in [0_u16, 1, 7, 8, 64, 125, 126, 4_000] {
            let payload: Vec<u8> = (0..length).map(|n| n.to_le_bytes()[0]).collect();
            let sent = encode_masked(Opcode::Text, &payload, [1, 2, 3, 4]);
            let twice = [&sent[..], &sent[..]].concat();
            let echo = encode_message(Opcode::Text, &payload);
            assert_eq!(reply(&twice).unwrap(), [&echo[..], &echo[..]].concat());
            assert_eq!(reply(&sent[..sent.len() - 1]), None, "{length}");
        }
    }
}
