//! SEND_MESSAGE from the session to the shard that orders its channel, and the answer back.
//!
//! With a message rate set, the way leads over the shard that counts what the user does; without
//! one it is direct. Both are FIFO, so one connection's messages to one channel keep their order.
//!
//! Invariants: each SEND_MESSAGE is answered once, by MESSAGE_ACK or by ERROR with its nonce; requests
//! that have been carried out are written anew, so that one more costs no memory.

use throng_protocol::{ChannelId, Event, MessageId, Nonce, UserId};

use crate::io::{ConnId, Outbox, ShardId};
use crate::lane::{LaneMessage, RateState, Refusal, Reply, ReplyTo, RequestId, SendRequest};
use crate::record::CreateV1;
use crate::shard::{Purpose, Shard};

/// Requests that are kept for the next messages, and the longest text that one keeps room for: what
/// is on its way through one shard at once, mostly.
const SPARES_MAX: usize = 512;
const SPARE_BYTES_MAX: usize = 1_024;

/// A request that nobody has written yet.
const BLANK: SendRequest = SendRequest {
    reply_to: ReplyTo {
        shard: ShardId(0),
        request: RequestId(0),
    },
    user: UserId::from_u128(0),
    channel: ChannelId::from_u128(0),
    body: CreateV1 {
        username: String::new(),
        content: String::new(),
    },
    nonce: Nonce::from_u128(0),
    reply_to_message: None,
    rate: RateState::Free,
};

/// Requests that have been carried out. They come back where the channel is, not where they began:
/// with many messages that is as many here as there.
#[derive(Default, Debug)]
#[expect(clippy::vec_box, reason = "the boxes are what is kept")]
pub(crate) struct SpareRequests(Vec<Box<SendRequest>>);

impl SpareRequests {
    /// A request to be written, with empty texts.
    fn take(&mut self) -> Box<SendRequest> {
        self.0.pop().unwrap_or_else(|| Box::new(BLANK))
    }

    /// Keeps one that has been carried out.
    pub(crate) fn put_back(&mut self, mut request: Box<SendRequest>) {
        if self.0.len() < SPARES_MAX && request.body.content.capacity() <= SPARE_BYTES_MAX {
            request.body.username.clear();
            request.body.content.clear();
            self.0.push(request);
        }
    }
}

impl Shard {
    /// SEND_MESSAGE, when its turn has come.
    pub(crate) fn send_message(
        &mut self,
        conn: ConnId,
        channel: ChannelId,
        content: &str,
        nonce: Nonce,
        reply_to_message: Option<MessageId>,
        out: &mut Outbox,
    ) {
        let session = self.sessions.get(conn);
        let Some(user) = session.and_then(|session| session.user()) else {
            return;
        };
        let Some(waiting) = self.open_send(conn, nonce) else {
            return self.error(conn, Refusal::UNAVAILABLE, Some(nonce), out);
        };
        let mut request = self.spare_requests.take();
        let mut body = std::mem::take(&mut request.body);
        if let Some(session) = self.sessions.get(conn) {
            session.name().write_to(&mut body.username);
        }
        body.content.push_str(content);
        *request = SendRequest {
            reply_to: self.reply_to(waiting),
            user,
            channel,
            body,
            nonce,
            reply_to_message,
            rate: RateState::Free,
        };
        if self.config.limits.message.is_off() {
            self.say(self.channel_owner(channel), LaneMessage::Send(request), out);
        } else {
            self.say(self.user_owner(user), LaneMessage::Count(request), out);
        }
    }

    /// Reserves a place for the answer; `None` when this session, or all together, wait for too
    /// many.
    fn open_send(&mut self, conn: ConnId, nonce: Nonce) -> Option<RequestId> {
        let session = self.sessions.get(conn)?;
        if usize::from(session.sends) >= self.config.limits.sends_max {
            return None;
        }
        let request = self.requests.open(conn, Purpose::Send(nonce))?;
        session.sends += 1;
        Some(request)
    }

    /// The user's shard counts a message and passes it on, over the limit or not: a resent one is
    /// answered either way, and only the channel knows which those are.
    pub(crate) fn count(&mut self, mut request: Box<SendRequest>, out: &mut Outbox) {
        let rate = self.config.limits.message;
        request.rate = self.users.count_message(request.user, rate, self.now_ms);
        self.say(
            self.channel_owner(request.channel),
            LaneMessage::Send(request),
            out,
        );
    }

    /// START_TYPING or STOP_TYPING, when its turn has come.
    pub(crate) fn typing(
        &mut self,
        conn: ConnId,
        channel: ChannelId,
        started: bool,
        out: &mut Outbox,
    ) {
        let (rate, now_ms) = (self.config.limits.typing, self.now_ms);
        let Some(session) = self.sessions.get(conn) else {
            return;
        };
        let Some(user) = session.user() else {
            return;
        };
        if session.extra().typing.take(rate, now_ms).is_err() {
            return;
        }
        let Some(request) = self.requests.open(conn, Purpose::Typing) else {
            return;
        };
        let reply_to = self.reply_to(request);
        let typing = LaneMessage::Typing {
            reply_to,
            channel,
            user,
            started,
        };
        self.say(self.channel_owner(channel), typing, out);
    }

    /// A request of one of this shard's sessions is answered.
    pub(crate) fn replied(&mut self, request: RequestId, reply: Reply, out: &mut Outbox) {
        let (conn, purpose) = self.requests.close(request);
        match purpose {
            Purpose::Open(user) => self.opened(conn, user, reply, out),
            Purpose::Send(nonce) => self.sent(conn, nonce, reply, out),
            Purpose::Subscribe(heard, after) => {
                self.subscription_answered(conn, request, heard, after, reply, out);
            }
            Purpose::Page => self.page_arrived(conn, request, reply, out),
            Purpose::Typing => {
                if let Reply::Refused(refusal) = reply {
                    self.error_if_ready(conn, refusal, None, out);
                }
            }
        }
    }

    fn sent(&mut self, conn: ConnId, nonce: Nonce, reply: Reply, out: &mut Outbox) {
        if let Some(session) = self.sessions.get(conn) {
            session.sends -= 1;
        }
        match reply {
            Reply::Acked {
                message: message_id,
                seq,
            } => {
                if self
                    .sessions
                    .get(conn)
                    .is_some_and(|session| session.user().is_some())
                {
                    self.send(
                        conn,
                        &Event::MessageAck {
                            nonce,
                            message_id,
                            seq,
                        },
                        out,
                    );
                }
            }
            Reply::Refused(refusal) => self.error_if_ready(conn, refusal, Some(nonce), out),
            _ => unreachable!("a Send is answered with Acked or Refused"),
        }
    }

    fn error_if_ready(
        &mut self,
        conn: ConnId,
        refusal: Refusal,
        nonce: Option<Nonce>,
        out: &mut Outbox,
    ) {
        if self
            .sessions
            .get(conn)
            .is_some_and(|session| session.user().is_some())
        {
            self.error(conn, refusal, nonce, out);
        }
    }
}
