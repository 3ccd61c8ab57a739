//! What a client says and what it makes of the answers, over all its connections.
//!
//! It knows nothing of handshakes and frames: text in, text out.
//!
//! Invariants: see `client`; an answer takes its message out of `unanswered` exactly once.

use std::borrow::Cow;
use std::collections::VecDeque;

use bytes::BytesMut;
use throng_protocol::frame::{Opcode, encode_masked};
use throng_protocol::{
    ChannelId, Command, ErrorCode, Event, MessageId, Nonce, Resume, ResumeChannel, Seq,
    encode_command,
};

use crate::ended::Ended;
use crate::heard::{Created, Heard, hear};
use crate::index::{ChannelIndex, ClientIndex, MessageIndex};
use crate::oracle::WatchId;
use crate::plan::Plan;
use crate::run::Run;

/// Until HELLO says otherwise.
const HEARTBEAT_MS_DEFAULT: u64 = 30_000;

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Phase {
    /// No connection.
    Apart,
    Upgrading,
    /// HELLO is due.
    Greeting,
    /// READY is due.
    Identifying,
    /// SUBSCRIBED or RESYNC is due for so many channels.
    Subscribing(usize),
    Live,
    /// The server said RECONNECT: listen on, send nothing more.
    Leaving,
}

#[derive(Debug)]
pub(super) struct Session {
    pub(super) index: ClientIndex,
    pub(super) phase: Phase,
    pub(super) watched: Vec<Watched>,
    pub(super) out: BytesMut,
    pub(super) unanswered: VecDeque<MessageIndex>,
    pub(super) waiting: VecDeque<MessageIndex>,
    pub(super) heartbeat_ms: u64,
    pub(super) retry_after_ms: Option<u64>,
}

#[derive(Debug)]
pub(super) struct Watched {
    pub(super) channel: ChannelIndex,
    pub(super) id: ChannelId,
    pub(super) watch: Option<WatchId>,
    /// What the server must still have: known before this connection identified itself. What
    /// other connections hear later may overtake this one's SUBSCRIBED.
    pub(super) known: Seq,
    pub(super) is_live: bool,
}

impl Session {
    pub(super) fn new(index: ClientIndex, plan: &Plan) -> Self {
        let watched = plan.audiences.watched_by(index).iter().map(|&channel| {
            let id = plan.channels[channel.place()];
            Watched {
                channel,
                id,
                watch: None,
                known: Seq(0),
                is_live: false,
            }
        });
        Self {
            index,
            phase: Phase::Apart,
            watched: watched.collect(),
            out: BytesMut::new(),
            unanswered: VecDeque::new(),
            waiting: VecDeque::new(),
            heartbeat_ms: HEARTBEAT_MS_DEFAULT,
            retry_after_ms: None,
        }
    }

    pub(super) fn heard(
        &mut self,
        text: &str,
        now_ns: u64,
        run: &mut Run<'_>,
    ) -> Result<(), Ended> {
        let event = match hear(text)? {
            Heard::Created(created) => {
                self.created(&created, now_ns, run);
                return Ok(());
            }
            Heard::Event(event) => event,
        };
        match *event {
            Event::Hello {
                heartbeat_interval_ms,
            } => {
                self.heartbeat_ms = heartbeat_interval_ms.clamp(100, 600_000);
                self.identify(run);
            }
            Event::Ready { .. } => self.ready(run),
            Event::Subscribed {
                channel_id, seq, ..
            } => {
                self.subscribed(channel_id, seq, run);
            }
            Event::Resync { channels, .. } => {
                for head in channels {
                    self.resynced(head.channel_id, head.seq, run);
                }
            }
            Event::MessageAck {
                nonce,
                message_id,
                seq,
            } => {
                self.acked(nonce, message_id, seq, now_ns, run);
            }
            Event::Error {
                code,
                message,
                nonce,
                retry_after_ms,
            } => {
                return self.refused(code, message, nonce, retry_after_ms, run);
            }
            Event::Reconnect { retry_after_ms, .. } => {
                self.retry_after_ms = Some(retry_after_ms);
                self.phase = Phase::Leaving;
            }
            Event::MessageCreate { .. } => run.oracle.unasked(),
            Event::HeartbeatAck
            | Event::TypingStart { .. }
            | Event::TypingStop { .. }
            | Event::GuildCreate { .. } => {}
        }
        // The server is leaving and owes nothing more: come back when it asked for it.
        if self.phase == Phase::Leaving && self.unanswered.is_empty() {
            return Err(Ended::AskedToLeave);
        }
        Ok(())
    }

    fn identify(&mut self, run: &mut Run<'_>) {
        let mut channels = Vec::new();
        for watched in &mut self.watched {
            let Some(watch) = watched.watch else { continue };
            let after_seq = run.oracle.newest(watch);
            watched.known = run.heads[watched.channel.place()].max(after_seq);
            channels.push(ResumeChannel {
                channel_id: watched.id,
                after_seq,
                after_rev: None,
            });
        }
        let token = Cow::Borrowed(run.plan.tokens[self.index.place()].as_str());
        let resume = (!channels.is_empty()).then_some(Resume { channels });
        self.say(&Command::Identify { token, resume }, run);
        self.phase = Phase::Identifying;
    }

    fn ready(&mut self, run: &mut Run<'_>) {
        for place in 0..self.watched.len() {
            let Watched {
                id: channel_id,
                watch,
                ..
            } = self.watched[place];
            if watch.is_none() {
                let subscribe = Command::SubscribeChannel {
                    channel_id,
                    after_seq: None,
                    after_rev: None,
                };
                self.say(&subscribe, run);
            }
        }
        self.phase = Phase::Subscribing(self.watched.len());
    }

    fn subscribed(&mut self, id: ChannelId, head: Seq, run: &mut Run<'_>) {
        let Some(watched) = self.watched.iter_mut().find(|watched| watched.id == id) else {
            run.oracle.unasked();
            return;
        };
        match watched.watch {
            Some(_) => run.oracle.forgotten(watched.known.0.saturating_sub(head.0)),
            None => watched.watch = Some(run.oracle.watch(watched.channel, head)),
        }
        let is_first = !std::mem::replace(&mut watched.is_live, true);
        self.one_more_live(is_first, run);
    }

    fn resynced(&mut self, id: ChannelId, head: Seq, run: &mut Run<'_>) {
        let Some(watched) = self.watched.iter_mut().find(|watched| watched.id == id) else {
            run.oracle.unasked();
            return;
        };
        match watched.watch {
            Some(watch) => run.oracle.resynced(watch, head),
            None => watched.watch = Some(run.oracle.watch(watched.channel, head)),
        }
        run.tally.resyncs += 1;
        let is_first = !std::mem::replace(&mut watched.is_live, true);
        self.one_more_live(is_first, run);
    }

    fn one_more_live(&mut self, is_first: bool, run: &mut Run<'_>) {
        match self.phase {
            Phase::Subscribing(1) if is_first => self.go_live(run),
            Phase::Subscribing(left) if is_first => self.phase = Phase::Subscribing(left - 1),
            _ => {}
        }
    }

    fn go_live(&mut self, run: &mut Run<'_>) {
        self.phase = Phase::Live;
        for place in 0..self.unanswered.len() {
            let message = self.unanswered[place];
            run.resent.push(message);
            run.tally.resent += 1;
            self.say_message(message, run);
        }
        while let Some(message) = self.waiting.pop_front() {
            self.say_first_time(message, run);
        }
    }

    pub(super) fn send(&mut self, message: MessageIndex, now_ns: u64, run: &mut Run<'_>) {
        if self.phase != Phase::Live {
            self.waiting.push_back(message);
            return;
        }
        run.left(message, now_ns);
        self.say_first_time(message, run);
    }

    fn say_first_time(&mut self, message: MessageIndex, run: &mut Run<'_>) {
        run.tally.sent += 1;
        self.unanswered.push_back(message);
        self.say_message(message, run);
    }

    fn created(&mut self, created: &Created<'_>, now_ns: u64, run: &mut Run<'_>) {
        let watched = self
            .watched
            .iter()
            .find(|watched| watched.id == created.channel_id);
        let Some((channel, watch)) =
            watched.and_then(|watched| Some((watched.channel, watched.watch?)))
        else {
            run.oracle.unasked();
            return;
        };
        run.tally.deliveries += 1;
        let index = created.nonce.and_then(|nonce| run.plan.named(nonce));
        run.oracle.delivered(watch, created.seq, created.id, index);
        let Some(index) = index else { return };
        let planned = run.plan.message(index);
        if planned.channel != channel || run.plan.corpus.text(planned.text) != created.content {
            run.oracle.wrong_content();
        }
        run.delivered(index, now_ns);
    }

    fn acked(
        &mut self,
        nonce: Nonce,
        message: MessageId,
        seq: Seq,
        now_ns: u64,
        run: &mut Run<'_>,
    ) {
        let Some(index) = self.answered(nonce, run) else {
            run.oracle.unasked();
            return;
        };
        let channel = run.plan.message(index).channel;
        run.oracle.acked(channel, seq, message, index);
        let head = &mut run.heads[channel.place()];
        *head = seq.max(*head);
        run.acked(index, now_ns);
    }

    fn refused(
        &mut self,
        code: ErrorCode,
        message: String,
        nonce: Option<Nonce>,
        retry_after_ms: Option<u64>,
        run: &mut Run<'_>,
    ) -> Result<(), Ended> {
        run.tally.refuse(code);
        if let Some(nonce) = nonce {
            if self.answered(nonce, run).is_none() {
                run.oracle.unasked();
            }
            return Ok(());
        }
        if matches!(self.phase, Phase::Live | Phase::Leaving) {
            return Ok(());
        }
        self.retry_after_ms = retry_after_ms;
        Err(Ended::Refused {
            code,
            message,
            retry_after_ms,
        })
    }

    fn answered(&mut self, nonce: Nonce, run: &mut Run<'_>) -> Option<MessageIndex> {
        let index = run.plan.named(nonce)?;
        let place = self.unanswered.iter().position(|&open| open == index)?;
        self.unanswered.remove(place);
        run.tally.answered += 1;
        Some(index)
    }

    fn say_message(&mut self, message: MessageIndex, run: &mut Run<'_>) {
        let plan = run.plan;
        let planned = plan.message(message);
        let command = Command::SendMessage {
            channel_id: plan.channels[planned.channel.place()],
            content: Cow::Borrowed(plan.corpus.text(planned.text)),
            nonce: plan.nonces.of(message),
            reply_to: None,
        };
        self.say(&command, run);
    }

    pub(super) fn say(&mut self, command: &Command<'_>, run: &mut Run<'_>) {
        let text = encode_command(command);
        self.out
            .extend_from_slice(&encode_masked(Opcode::Text, text.as_bytes(), run.mask()));
    }
}
