//! Connections: made, carrying bytes both ways, and ended from either side or by a crash.
//!
//! It knows no protocol. All delays are drawn from the seed.
//!
//! Invariants: bytes of one direction arrive in their order; the shard hears `Closed` once per
//! connection, and nothing about it afterwards.

use bytes::Bytes;
use throng::io::{ConnId, Input};

use crate::link::{Link, Reading, cut};
use crate::world::{Event, World};

/// Bytes that a slow client takes at a time.
const LOOK_BYTES: usize = 700;

/// Time between two looks of a slow client.
const LOOK_US: u64 = 40_000;

impl World {
    /// A client connects to a shard; `None` while nobody listens.
    pub(crate) fn connect(&mut self, client: usize) -> Option<usize> {
        let is_draining = self.node().is_none_or(|node| node.draining);
        let may_connect = !is_draining || self.random_below(4) == 0;
        let shards = self
            .node()
            .filter(|node| may_connect && !node.closing)?
            .hosts
            .len();
        let shard = u16::try_from(self.random_below(shards as u64)).expect("few shards");
        let nobody = ConnId {
            index: 0,
            generation: 0,
        };
        let link = self.links.len();
        self.links.push(Link::new(
            client,
            self.epoch,
            shard,
            nobody,
            self.plan.room_bytes,
        ));
        let after_us = self.plan.network.draw(&mut self.random);
        self.links[link].to_server_us = self.now_us + after_us;
        self.put(after_us, Event::Accept { link });
        Some(link)
    }

    /// The connection reaches its shard.
    pub(crate) fn accept(&mut self, link: usize) {
        let (epoch, shard) = (self.links[link].epoch, self.links[link].shard);
        if epoch != self.epoch || self.node().is_none_or(|node| node.closing) {
            self.links[link].served = false;
            return self.put(0, Event::ClientSeesEnd { link });
        }
        let Some(node) = self.node() else { return };
        let conn = node.hosts[usize::from(shard)].admit(link);
        self.links[link].conn = conn;
        self.give(shard, Input::Accepted { conn });
    }

    /// A client sends bytes.
    pub(crate) fn write_to_server(&mut self, link: usize, bytes: &[u8]) {
        for piece in cut(bytes, &mut self.random) {
            let after_us = self.plan.network.draw(&mut self.random);
            let at_us = self.links[link].to_server_us.max(self.now_us + after_us);
            self.links[link].to_server_us = at_us;
            self.put(at_us - self.now_us, Event::ToServer { link, bytes: piece });
        }
    }

    pub(crate) fn arrives_at_server(&mut self, link: usize, mut bytes: Vec<u8>) {
        let Link {
            served,
            closing,
            shard,
            conn,
            ..
        } = self.links[link];
        if served && !closing {
            self.give(
                shard,
                Input::Received {
                    conn,
                    bytes: &mut bytes,
                },
            );
        }
    }

    /// Lets a socket send what it can, and looks whether that was its end.
    pub(crate) fn pump(&mut self, link: usize) {
        let Link {
            served,
            shard,
            conn,
            ..
        } = self.links[link];
        if !served {
            return;
        }
        let crate::world::Power::Up(node) = &mut self.power else {
            return;
        };
        let host = &mut node.hosts[usize::from(shard)];
        let pieces = self.links[link].send(&mut host.spool, &mut self.random);
        if self.links[link].take_writable() {
            host.inputs.push_back(Input::Writable { conn });
        }
        for piece in pieces {
            let after_us = self.plan.network.draw(&mut self.random);
            let at_us = self.links[link].to_client_us.max(self.now_us + after_us);
            self.links[link].to_client_us = at_us;
            self.put(at_us - self.now_us, Event::ToClient { link, bytes: piece });
        }
        if self.links[link].is_drained() {
            self.break_off(link);
        }
    }

    pub(crate) fn arrives_at_client(&mut self, link: usize, bytes: &Bytes) {
        if !self.links[link].held {
            return;
        }
        let reads_at_once = self.links[link].reading == Reading::AtOnce;
        if reads_at_once && self.links[link].unread.is_empty() {
            let mut bytes = bytes.to_vec();
            self.client_hears(link, &mut bytes);
            return self.read(link, bytes.len());
        }
        self.links[link].unread.extend(bytes.iter());
        self.look_later(link);
    }

    /// A client changes how it reads.
    pub(crate) fn read_from_now_on(&mut self, link: usize, reading: Reading) {
        self.links[link].reading = reading;
        self.links[link].healthy &= reading == Reading::AtOnce;
        self.look_later(link);
    }

    fn look_later(&mut self, link: usize) {
        let Link {
            look_due, reading, ..
        } = self.links[link];
        let waits = !self.links[link].unread.is_empty();
        if waits && !look_due && reading != Reading::Not {
            self.links[link].look_due = true;
            self.put(LOOK_US, Event::Look { link });
        }
    }

    /// A slow client takes a little of what has arrived.
    pub(crate) fn look(&mut self, link: usize) {
        self.links[link].look_due = false;
        let limit = match self.links[link].reading {
            Reading::AtOnce => usize::MAX,
            Reading::Slowly => LOOK_BYTES,
            Reading::Not => return,
        };
        let unread = &mut self.links[link].unread;
        let count = unread.len().min(limit);
        let mut bytes: Vec<u8> = unread.drain(..count).collect();
        if self.links[link].held {
            self.client_hears(link, &mut bytes);
        }
        self.read(link, count);
        self.look_later(link);
    }

    fn read(&mut self, link: usize, bytes: usize) {
        self.links[link].make_room(bytes);
        let shard = self.links[link].shard;
        if self.links[link].served {
            self.pump(link);
            self.give_pumped(shard);
        }
    }

    /// The client ends the connection without a word.
    pub(crate) fn hang_up(&mut self, link: usize) {
        self.links[link].held = false;
        let after_us = self.plan.network.draw(&mut self.random);
        let at_us = match self.random_below(2) {
            0 => self.now_us + after_us,
            _ => self.links[link].to_server_us.max(self.now_us + after_us),
        };
        self.put(at_us - self.now_us, Event::ServerSeesEnd { link });
    }

    /// The server hears that the client is gone.
    pub(crate) fn server_end(&mut self, link: usize) {
        if self.links[link].served && self.links[link].epoch == self.epoch {
            self.end_at_server(link);
            self.give_pumped(self.links[link].shard);
        }
    }

    /// A socket did not take its last bytes in time.
    pub(crate) fn linger_over(&mut self, link: usize) {
        if self.links[link].served && self.links[link].epoch == self.epoch {
            self.break_off(link);
            self.give_pumped(self.links[link].shard);
        }
    }

    /// The server gives a socket up.
    pub(crate) fn break_off(&mut self, link: usize) {
        self.end_at_server(link);
        let at_us = self.links[link].to_client_us.max(self.now_us + 1);
        self.put(at_us - self.now_us, Event::ClientSeesEnd { link });
    }

    /// The server's end is gone; its shard hears so with the next inputs.
    fn end_at_server(&mut self, link: usize) {
        let Link { shard, conn, .. } = self.links[link];
        self.links[link].end();
        if let Some(node) = self.node()
            && node.hosts[usize::from(shard)].link(conn) == Some(link)
        {
            let host = &mut node.hosts[usize::from(shard)];
            host.release(conn);
            host.inputs.push_back(Input::Closed { conn });
        }
    }

    /// The connection is over for the client too, once it has read what arrived.
    pub(crate) fn client_end(&mut self, link: usize) {
        if !self.links[link].held {
            return;
        }
        let mut bytes: Vec<u8> = self.links[link].unread.drain(..).collect();
        self.client_hears(link, &mut bytes);
        if self.links[link].held {
            self.links[link].held = false;
            self.client_lost(link);
        }
    }
}
