//! SEND_MESSAGE from the session to the shard that orders its channel, and the answer back.
//!
//! With a message rate set, the way leads over the shard that counts what the user does; without
//! one it is direct. Both are FIFO, so one connection's messages to one channel keep their order.
//!
//! Invariant: each SEND_MESSAGE is answered once, by MESSAGE_ACK or by ERROR with its nonce.

use throng_protocol::{ChannelId, Event, MessageId, Nonce};

use crate::io::{ConnId, Outbox};
use crate::lane::{LaneMessage, RateState, Refusal, Reply, RequestId, SendRequest};
use crate::shard::{Purpose, Shard};

impl Shard {
    /// SEND_MESSAGE, when its turn has come.
    pub(crate) fn send_message(
        &mut self,
        conn: ConnId,
        channel: ChannelId,
        content: String,
        nonce: Nonce,
        reply_to_message: Option<MessageId>,
        out: &mut Outbox,
    ) {
        let Some(session) = self.sessions.get(conn) else {
            return;
        };
        let Some(user) = session.user() else {
            return;
        };
        let username = session.name();
        let Some(request) = self.open_send(conn, nonce) else {
            return self.error(conn, Refusal::UNAVAILABLE, Some(nonce), out);
        };
        let request = Box::new(SendRequest {
            reply_to: self.reply_to(request),
            user,
            username,
            channel,
            content,
            nonce,
            reply_to_message,
            rate: RateState::Free,
        });
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
