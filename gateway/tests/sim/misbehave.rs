//! What clients do that servers do not like: nonsense, broken frames, slow reading, leaving.
//!
//! It never goes on with a connection whose rules it has broken.
//!
//! Invariant: a connection that has not always read at once is marked as such before it slows.

use rand::RngExt;
use throng_protocol::frame::{Opcode, encode_masked};

use crate::counts::Happening;
use crate::link::Reading;
use crate::world::World;

impl World {
    pub(crate) fn talk_nonsense(&mut self, client: usize) {
        self.clients[client].wire.nonsense += 1;
        let texts: [&[u8]; 6] = [
            b"{",
            b"[]",
            b"{\"type\":\"EXPLODE\"}",
            b"{\"type\":\"SUBSCRIBE_CHANNEL\",\"channelId\":\"7\"}",
            b"{\"type\":\"IDENTIFY\",\"token\":\"once more\"}",
            b"\"\"",
        ];
        let text = *crate::plan::pick(&mut self.random, &texts);
        let opcode = if self.random.random_ratio(1, 6) {
            Opcode::Binary
        } else {
            Opcode::Text
        };
        self.say_frame(client, opcode, text);
    }

    /// A frame that no client may send.
    pub(crate) fn break_rules(&mut self, client: usize) {
        let Some(link) = self.clients[client].link else {
            return;
        };
        let too_big = vec![b' '; self.plan.config.limits.message_bytes_max + 1];
        let bytes = match self.random.random_range(0..4) {
            0 => vec![0x81, 1, b'x'],
            1 => encode_masked(Opcode::Text, &too_big, [7; 4]).to_vec(),
            2 => encode_masked(Opcode::Text, &[0xff, 0xfe], [0; 4]).to_vec(),
            _ => vec![0xf1, 0x80, 0, 0, 0, 0],
        };
        self.clients[client].wire.leaving = true;
        self.write_to_server(link, &bytes);
    }

    /// Begins the longest message, and leaves it at that.
    pub(crate) fn begin_and_never_end(&mut self, client: usize) {
        let Some(link) = self.clients[client].link else {
            return;
        };
        self.counts.add(Happening::BegunOnly);
        let longest = vec![b' '; self.plan.config.limits.message_bytes_max];
        let frame = encode_masked(Opcode::Text, &longest, [7; 4]);
        self.write_to_server(link, &frame[..frame.len() - 1]);
    }

    pub(crate) fn stall(&mut self, client: usize, reading: Reading) {
        if let Some(link) = self.clients[client].link {
            self.read_from_now_on(link, reading);
        }
    }

    pub(crate) fn read_slower_for_a_while(&mut self, client: usize) {
        let reading = if self.random.random() {
            Reading::Slowly
        } else {
            Reading::AtOnce
        };
        if self.plan.odd_percent > 0 {
            self.stall(client, reading);
        }
    }

    pub(crate) fn leave_abruptly(&mut self, client: usize) {
        let Some(link) = self.clients[client].link else {
            return;
        };
        self.counts.add(Happening::AbruptEnd);
        self.hang_up(link);
        self.client_lost(link);
    }

    pub(crate) fn leave_politely(&mut self, client: usize) {
        self.clients[client].wire.leaving = true;
        self.say_frame(client, Opcode::Close, &1_000_u16.to_be_bytes());
    }
}
