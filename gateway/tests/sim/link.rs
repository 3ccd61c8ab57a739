//! One TCP connection between a client and a shard, as bytes in two pipes.
//!
//! It holds no protocol: bytes are cut anywhere and arrive late, but whole and in order. When
//! they arrive is the world's business; here is only what each end holds.
//!
//! Invariants: what the kernels hold for the client never exceeds the room; a send that is in
//! flight ends before the next begins; bytes of one direction arrive in their order.

use std::collections::VecDeque;

use bytes::Bytes;
use rand::RngExt;
use rand::rngs::StdRng;
use throng::egress::{Egress, Pushed};
use throng::io::ConnId;
use throng::spool::{Backlog, Frame, Spool};

/// How the client takes what has arrived.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Reading {
    /// All at once.
    AtOnce,
    /// A little at a time.
    Slowly,
    /// Not at all.
    Not,
}

/// A connection; its number is never used again.
#[derive(Debug)]
pub(crate) struct Link {
    pub(crate) client: usize,
    pub(crate) epoch: u32,
    pub(crate) shard: u16,
    pub(crate) conn: ConnId,
    /// The server's end of it exists.
    pub(crate) served: bool,
    /// The client's end of it exists.
    pub(crate) held: bool,
    /// The shard asked for its end.
    pub(crate) closing: bool,
    /// It had to make room for others.
    pub(crate) gave_way: bool,
    /// Reading has always been at once.
    pub(crate) healthy: bool,
    pub(crate) reading: Reading,
    egress: Egress,
    in_flight: Bytes,
    accepted: usize,
    room: usize,
    /// Arrived and not read.
    pub(crate) unread: VecDeque<u8>,
    /// A slow client's next look is due.
    pub(crate) look_due: bool,
    /// When the last bytes of each direction arrive.
    pub(crate) to_server_us: u64,
    pub(crate) to_client_us: u64,
}

impl Link {
    pub(crate) fn new(client: usize, epoch: u32, shard: u16, conn: ConnId, room: usize) -> Self {
        Self {
            client,
            epoch,
            shard,
            conn,
            served: true,
            held: true,
            closing: false,
            gave_way: false,
            healthy: true,
            reading: Reading::AtOnce,
            egress: Egress::new(),
            in_flight: Bytes::new(),
            accepted: 0,
            room,
            unread: VecDeque::new(),
            look_due: false,
            to_server_us: 0,
            to_client_us: 0,
        }
    }

    /// The shard sends something; true when the backlog has just overflowed.
    pub(crate) fn push(
        &mut self,
        frame: Frame,
        backlog_bytes_max: usize,
        spool: &mut Spool,
    ) -> bool {
        self.served && self.egress.push(frame, backlog_bytes_max, spool) == Pushed::Overflow
    }

    /// What waits here for the client to read.
    pub(crate) fn backlog(&self, link: usize) -> Option<Backlog<usize>> {
        let waits = self.served && self.room == 0 && !self.egress.is_idle();
        waits.then(|| Backlog {
            leaving: self.closing,
            bytes: self.egress.queued_bytes(),
            of: link,
        })
    }

    /// Makes room for others; returns the bytes that will follow, or `None` if it has before.
    pub(crate) fn give_way(&mut self) -> Option<usize> {
        let own_bytes = self.egress.give_way()?;
        self.gave_way = true;
        Some(own_bytes)
    }

    /// The server's end is gone, with what was to be sent.
    pub(crate) fn end(&mut self) {
        self.served = false;
        self.egress = Egress::new();
        self.in_flight = Bytes::new();
    }

    pub(crate) fn deflate(&mut self) {
        self.egress.deflate();
    }

    pub(crate) fn is_deflating(&self) -> bool {
        self.egress.is_deflating()
    }

    pub(crate) fn watch(&mut self) {
        self.egress.watch();
    }

    /// Whether somebody watched and all has left.
    pub(crate) fn take_writable(&mut self) -> bool {
        self.served && self.egress.take_writable()
    }

    /// Takes nothing more to send; what is queued still leaves.
    pub(crate) fn close(&mut self) {
        self.closing = true;
        self.egress.close();
    }

    /// Whether a close was asked for and nothing is left to send.
    pub(crate) fn is_drained(&self) -> bool {
        self.closing && self.egress.is_idle()
    }

    /// The client has taken bytes from its kernel.
    pub(crate) fn make_room(&mut self, bytes: usize) {
        self.room += bytes;
    }

    /// Lets the kernel take what it has room for; returns the pieces that are now on their way.
    pub(crate) fn send(&mut self, spool: &mut Spool, random: &mut StdRng) -> Vec<Bytes> {
        let mut pieces = Vec::new();
        while self.room > 0 && self.begin(spool) {
            let left = self.in_flight.len() - self.accepted;
            let whole = left.min(self.room);
            let piece = if random.random_ratio(4, 5) {
                whole
            } else {
                random.random_range(1..=whole)
            };
            pieces.push(self.in_flight.slice(self.accepted..self.accepted + piece));
            self.accepted += piece;
            self.room -= piece;
            let is_short = random.random_ratio(1, 8);
            if self.accepted == self.in_flight.len() || is_short {
                self.egress.sent(self.accepted, spool);
                self.in_flight = Bytes::new();
                self.accepted = 0;
            }
        }
        pieces
    }

    fn begin(&mut self, spool: &mut Spool) -> bool {
        if !self.in_flight.is_empty() {
            return true;
        }
        if let Some(bytes) = self.egress.next_send(spool) {
            self.in_flight = Bytes::copy_from_slice(bytes);
        }
        !self.in_flight.is_empty()
    }
}

/// Cuts bytes in up to four pieces, none of them empty.
pub(crate) fn cut(bytes: &[u8], random: &mut StdRng) -> Vec<Vec<u8>> {
    let mut rest = bytes;
    let mut pieces = Vec::new();
    while rest.len() > 1 && pieces.len() < 3 && random.random_ratio(1, 4) {
        let (piece, later) = rest.split_at(random.random_range(1..rest.len()));
        pieces.push(piece.to_vec());
        rest = later;
    }
    if !rest.is_empty() {
        pieces.push(rest.to_vec());
    }
    pieces
}
