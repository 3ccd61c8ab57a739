//! What a client does with what arrives.
//!
//! It scans and parses only a sample, and whatever it does not know by its beginning.
//!
//! Invariants: bytes are taken in their order, whatever the pieces they come in; after a client
//! left, nothing more is heard on that connection.

use throng_protocol::{ChannelId, Event};

use super::{Deed, People, Phase};
use crate::swarm::frames::{self, Frame};
use crate::swarm::ledger::Arrival;
use crate::swarm::links::Link;
use crate::swarm::scan::{self, Created};
use crate::swarm::talk::Delivery;

/// Bytes of an unfinished frame that are kept: as much as a client must take (WIRE.md).
const ASIDE_BYTES_MAX: usize = (16 << 20) + (64 << 10);
/// Channels of one client are counted in a byte.
const CHANNELS_MAX: usize = 255;

impl People {
    /// Bytes arrived.
    pub fn received(&mut self, link: Link, bytes: &[u8], now_ns: u64) {
        let Some(mut kept) = self.aside.remove(&link) else {
            let taken = self.take(link, bytes, now_ns);
            if taken < bytes.len() && self.listens(link) {
                self.aside.insert(link, bytes[taken..].to_vec());
            }
            return;
        };
        kept.extend_from_slice(bytes);
        let taken = self.take(link, &kept, now_ns);
        kept.drain(..taken);
        if !kept.is_empty() && self.listens(link) {
            if kept.len() > ASIDE_BYTES_MAX {
                return self.leave(link, || frames::Broken.to_string());
            }
            self.aside.insert(link, kept);
        }
    }

    fn listens(&self, link: Link) -> bool {
        !matches!(
            self.phase(link),
            Phase::Apart | Phase::Dialling | Phase::Leaving
        )
    }

    /// Takes what is whole; says how many bytes that were.
    fn take(&mut self, link: Link, bytes: &[u8], now_ns: u64) -> usize {
        let mut taken = 0;
        if self.phase(link) == Phase::Upgrading {
            match self.upgraded(link, bytes) {
                Some(head) => taken = head,
                None => return 0,
            }
        }
        while self.listens(link) {
            match frames::first(&bytes[taken..]) {
                Ok(Some(frame)) => {
                    taken += frame.bytes;
                    self.frame(link, frame, now_ns);
                }
                Ok(None) => break,
                Err(broken) => self.leave(link, || broken.to_string()),
            }
        }
        taken
    }

    /// The answer to the handshake, once it is whole: its length.
    fn upgraded(&mut self, link: Link, bytes: &[u8]) -> Option<usize> {
        if !self.answer.is_empty() && bytes.starts_with(&self.answer) {
            self.members[link.place()].phase = Phase::Greeting;
            return Some(self.answer.len());
        }
        match self.voice.upgrade().received(bytes) {
            Ok(None) => None,
            Ok(Some(rest)) => {
                let head = bytes.len() - rest.len();
                self.answer = bytes[..head].to_vec();
                self.members[link.place()].phase = Phase::Greeting;
                Some(head)
            }
            Err(error) => {
                if let Some(ms) = error.retry_after_ms() {
                    self.retry_after_ms.insert(link, ms);
                }
                self.leave(link, || error.to_string());
                None
            }
        }
    }

    fn frame(&mut self, link: Link, frame: Frame<'_>, now_ns: u64) {
        match frame.opcode {
            frames::TEXT => self.event(link, frame, now_ns),
            frames::PING => {
                self.tally.pings += 1;
                let pong = self.voice.pong(frame.payload);
                self.deeds.push(Deed::Send(link, pong));
            }
            frames::CLOSE => {
                let code = frame.payload.first_chunk::<2>();
                let code = code.map_or(1005, |code| u16::from_be_bytes(*code));
                self.leave(link, || format!("closed with {code}"));
            }
            _ => {}
        }
    }

    fn event(&mut self, link: Link, frame: Frame<'_>, now_ns: u64) {
        let text = frame.payload;
        self.tally.events += 1;
        if let Some(created) = scan::created(text) {
            self.tally.message_frame_bytes = frame.bytes;
            let Some(channel) = self.channel(created.channel) else {
                return self.misunderstood(link);
            };
            self.message(link, channel, created, now_ns);
            if self.tally.events.is_multiple_of(self.manners.sample) {
                self.check(text, channel, created.seq);
            }
            return;
        }
        match scan::kind(text) {
            Some(b"HEARTBEAT_ACK") => self.tally.heartbeat_acks += 1,
            Some(b"SUBSCRIBED") => match scan::subscribed(text) {
                Some((channel, head)) => self.subscribed(link, channel, head),
                None => self.misunderstood(link),
            },
            Some(b"READY") => self.ready(link, text),
            Some(b"MESSAGE_ACK") => match scan::acked(text) {
                Some((nonce, seq)) => {
                    let due = self.talk.acked(nonce, seq, now_ns);
                    self.fall_due(due);
                }
                None => self.misunderstood(link),
            },
            Some(b"HELLO") if self.phase(link) == Phase::Greeting => self.hello(link, text),
            _ => self.parse(link, text),
        }
    }

    /// Each message that somebody waits for is heard once; the ledger has what came otherwise.
    fn message(&mut self, link: Link, channel: u128, created: Created<'_>, now_ns: u64) {
        let ledger = self.ledger.as_mut();
        let arrival = ledger.map(|ledger| ledger.delivered(link, channel, created.seq));
        if matches!(arrival, Some(Arrival::Again | Arrival::Unasked)) {
            return;
        }
        if let Some(nonce) = created.nonce {
            let delivery = Delivery {
                nonce,
                channel,
                seq: created.seq,
            };
            let counts = !self.manners.is_slow(link);
            let due = self.talk.delivered(delivery, counts.then_some(now_ns));
            self.fall_due(due);
        }
    }

    /// A message was stored: all who watch its channel are to get it.
    fn fall_due(&mut self, channel: Option<u128>) {
        if let (Some(channel), Some(ledger)) = (channel, &self.ledger) {
            self.talk.fall_due(ledger.watchers(channel));
        }
    }

    /// The channel that the swarm heard last is mostly the one it hears next.
    fn channel(&mut self, text: &[u8; 36]) -> Option<u128> {
        if self.last_channel.0 != *text {
            self.last_channel = (*text, scan::uuid(text)?);
        }
        Some(self.last_channel.1)
    }

    fn hello(&mut self, link: Link, text: &[u8]) {
        if self.heartbeat_ms.is_none()
            && let Ok(Event::Hello {
                heartbeat_interval_ms,
            }) = serde_json::from_slice(text)
        {
            self.heartbeat_ms = Some(heartbeat_interval_ms);
        }
        let token = self.tokens.get(link.place());
        let Ok(token) = std::str::from_utf8(token) else {
            return self.leave(link, || "the token is no text".to_owned());
        };
        let member = &mut self.members[link.place()];
        member.phase = Phase::Identifying;
        member.awaited = 0;
        let resumes = self.manners.resumes && member.was_live && !self.subscribers.contains(&link);
        let watched = self.ledger.iter().flat_map(|ledger| ledger.watched(link));
        let resume: Vec<(u128, u32)> = watched.filter(|_| resumes).collect();
        member.awaited = u8::try_from(resume.len()).unwrap_or(u8::MAX);
        let identify = self.voice.identify(token, resume.into_iter());
        self.deeds.push(Deed::Send(link, identify));
    }

    fn ready(&mut self, link: Link, text: &[u8]) {
        if self.phase(link) != Phase::Identifying {
            return self.misunderstood(link);
        }
        self.members[link.place()].phase = Phase::Subscribing;
        if self.members[link.place()].awaited > 0 {
            return;
        }
        if self.subscribers.remove(&link) && self.subscribe_again(link) {
            return;
        }
        let mut channels = Vec::new();
        let max = self.manners.channels_max.min(CHANNELS_MAX);
        scan::channels_of_ready(text, |id| {
            if let Some(id) = scan::uuid(id)
                && channels.len() < max
            {
                channels.push(id);
            }
        });
        if let Some(ledger) = &mut self.ledger {
            channels.retain(|&channel| ledger.watch(link, channel));
        }
        if channels.is_empty() {
            return self.become_live(link);
        }
        self.members[link.place()].awaited = u8::try_from(channels.len()).expect("at most 255");
        let subscribe = self.voice.subscribe(channels.iter().map(|&id| (id, None)));
        self.deeds.push(Deed::Send(link, subscribe));
    }

    /// Goes on in each channel after the newest message that came; false when there is none.
    fn subscribe_again(&mut self, link: Link) -> bool {
        let watched = self.ledger.iter().flat_map(|ledger| ledger.watched(link));
        let channels: Vec<(u128, u32)> = watched.collect();
        self.members[link.place()].awaited = u8::try_from(channels.len()).expect("at most 255");
        let channels = channels.into_iter().map(|(id, newest)| (id, Some(newest)));
        let subscribe = self.voice.subscribe(channels);
        if subscribe.is_empty() {
            return false;
        }
        self.deeds.push(Deed::Send(link, subscribe));
        true
    }

    fn subscribed(&mut self, link: Link, channel: u128, head: u64) {
        self.tally.subscriptions += 1;
        let member = &mut self.members[link.place()];
        let resumed = self.manners.resumes && member.was_live;
        if let Some(ledger) = &mut self.ledger {
            ledger.subscribed(link, channel, head, resumed);
        }
        if member.phase != Phase::Subscribing {
            return;
        }
        member.awaited = member.awaited.saturating_sub(1);
        if member.awaited == 0 {
            self.become_live(link);
        }
    }

    /// What is rare is read whole.
    fn parse(&mut self, link: Link, text: &[u8]) {
        self.tally.parsed += 1;
        match serde_json::from_slice::<Event>(text) {
            Ok(Event::Error {
                code,
                message,
                nonce,
                retry_after_ms,
            }) => {
                if let Some(nonce) = nonce {
                    let nonce = nonce.to_string();
                    let nonce = nonce.as_bytes().first_chunk().expect("36 characters");
                    return self.talk.refused(nonce, code.as_str());
                }
                *self.tally.errors.entry(code.as_str()).or_default() += 1;
                if let Some(ms) = retry_after_ms {
                    self.retry_after_ms.insert(link, ms);
                }
                if self.phase(link) != Phase::Live {
                    self.leave(link, || {
                        format!("refused with {}: {message}", code.as_str())
                    });
                }
            }
            Ok(Event::Reconnect { retry_after_ms, .. }) => {
                self.retry_after_ms.insert(link, retry_after_ms);
            }
            Ok(Event::Resync { channels, .. }) => {
                self.tally.resyncs += 1;
                for channel in channels {
                    if let Some(ledger) = &mut self.ledger {
                        let id = channel.channel_id.as_u128();
                        ledger.subscribed(link, id, channel.seq.0, false);
                    }
                }
            }
            Ok(_) => {}
            Err(_) => self.misunderstood(link),
        }
    }

    /// Compares what was scanned with what is parsed.
    fn check(&mut self, text: &[u8], channel: u128, seq: u64) {
        self.tally.parsed += 1;
        let is_same = matches!(
            serde_json::from_slice::<Event>(text),
            Ok(Event::MessageCreate { message })
                if message.channel_id == ChannelId::from_u128(channel) && message.seq.0 == seq
        );
        self.tally.misread += u64::from(!is_same);
    }

    fn misunderstood(&mut self, link: Link) {
        self.leave(link, || "sent what is no event".to_owned());
    }
}
