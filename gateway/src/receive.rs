//! From bytes to commands: what happens on a session's socket.
//!
//! Handshake and frames are [`crate::connection`]'s; here the pieces become commands and each
//! goes to who carries it out. Nothing here waits.
//!
//! Invariants: a violation of RFC 6455 ends the connection with its close code; a command that
//! cannot be read or may not be given is answered with ERROR and the connection goes on.

use std::borrow::Cow;
use std::sync::LazyLock;

use bytes::Bytes;
use rand::RngExt;
use throng_protocol::frame::{Item, Opcode, encode_message};
use throng_protocol::handshake::try_again_response;
use throng_protocol::{
    CloseReason, Command, ErrorCode, Event, Nonce, TextLimits, close_frame, close_reply,
    encode_frame,
};

use crate::connection::{Limits, Step};
use crate::io::{ConnId, Outbox, Output};
use crate::lane::Refusal;
use crate::session::{Parked, Session, Stage};
use crate::shard::Shard;

/// What is said most often is encoded once.
static HEARTBEAT_ACK: LazyLock<Bytes> = LazyLock::new(|| encode_frame(&Event::HeartbeatAck));
static EMPTY_PONG: LazyLock<Bytes> = LazyLock::new(|| encode_message(Opcode::Pong, &[]));

/// The path of the WebSocket.
const GATEWAY_PATH: &str = "/gateway";

impl Shard {
    /// A socket was accepted.
    pub(crate) fn accepted(&mut self, conn: ConnId, out: &mut Outbox) {
        self.sessions
            .insert(conn, Session::new(conn.generation, self.now_ms));
        if self.timers.is_draining() {
            self.close_socket(conn, out);
        } else {
            self.timers.watch_handshake(conn, self.now_ms);
        }
    }

    /// Bytes arrived.
    pub(crate) fn received(&mut self, conn: ConnId, bytes: &mut [u8], out: &mut Outbox) {
        let Some(session) = self.sessions.get(conn) else {
            return;
        };
        if session.stage == Stage::Closing {
            return;
        }
        let message_bytes_max = self.config.limits.message_bytes_max;
        // The connection is out of its session while its pieces are handled: they borrow from it.
        let mut connection = std::mem::take(&mut session.connection);
        let (before, life) = (connection.kept_bytes(), session.life());
        // So is the inflater; it is not lent to a connection that did not agree to compression.
        let may_deflate = session.stage == Stage::Connecting || session.deflates();
        let mut inflater = self.inflater.take();
        let limits = Limits {
            message_bytes_max,
            inflater: inflater.as_deref_mut().filter(|_| may_deflate),
        };
        let mut has_ended_one = false;
        connection.received(bytes, limits, &mut |step| {
            has_ended_one |= matches!(step, Step::Item(Item::Text(_) | Item::Binary(_)));
            self.step(conn, step, out);
            self.is_open(conn)
        });
        self.inflater = inflater;
        if !self.is_open(conn) {
            connection.end();
        }
        let after = connection.kept_bytes();
        let fits = self.intake.changed(before, after);
        if let Some(session) = self.sessions.get(conn) {
            session.connection = connection;
            // Pongs amid a message do not keep it open for ever.
            if before > 0 && after > 0 && !has_ended_one {
                session.forget_life_since(life);
            }
        }
        if !fits {
            self.refuse_the_rest(conn, out);
        }
    }

    /// Ends a connection for what it has begun to say.
    fn refuse_the_rest(&mut self, conn: ConnId, out: &mut Outbox) {
        let session = self.sessions.get(conn);
        if session.is_some_and(|session| session.stage == Stage::Connecting) {
            let bytes = try_again_response();
            out.push(Output::Send { conn, bytes });
        }
        self.close(conn, CloseReason::TryAgainLater, out);
    }

    fn is_open(&mut self, conn: ConnId) -> bool {
        self.sessions
            .get(conn)
            .is_some_and(|session| session.stage != Stage::Closing)
    }

    fn step(&mut self, conn: ConnId, step: Step<'_>, out: &mut Outbox) {
        match step {
            Step::Upgraded {
                path,
                deflate,
                response,
            } => {
                self.upgraded(conn, path, response, out);
                if deflate {
                    self.deflates(conn, out);
                }
            }
            Step::Item(item) => self.item(conn, item, out),
            Step::HandOver { head } => {
                out.push(Output::HandOver { conn, head });
                self.forget(conn, out);
            }
            Step::Refused { response } => {
                out.push(Output::Send {
                    conn,
                    bytes: response,
                });
                self.close_socket(conn, out);
            }
            Step::Failed(reason) => self.close(conn, reason, out),
        }
    }

    /// The client agreed to compression.
    fn deflates(&mut self, conn: ConnId, out: &mut Outbox) {
        if let Some(session) = self.sessions.get(conn) {
            session.agree_to_deflate();
            out.push(Output::Deflate { conn });
        }
    }

    fn upgraded(&mut self, conn: ConnId, path: &str, response: Bytes, out: &mut Outbox) {
        if path != GATEWAY_PATH {
            out.push(Output::Send {
                conn,
                bytes: Bytes::from_static(NOT_THE_GATEWAY),
            });
            return self.close_socket(conn, out);
        }
        let Some(session) = self.sessions.get(conn) else {
            return;
        };
        session.enter(Stage::Unidentified, self.now_ms);
        out.push(Output::Send {
            conn,
            bytes: response,
        });
        let heartbeat_interval_ms = self.config.heartbeat_ms();
        self.send(
            conn,
            &Event::Hello {
                heartbeat_interval_ms,
            },
            out,
        );
    }

    fn item(&mut self, conn: ConnId, item: Item<'_>, out: &mut Outbox) {
        match item {
            Item::Text(text) => self.text(conn, text, out),
            Item::Binary(_) => self.error(conn, NOT_TEXT, None, out),
            Item::Ping(payload) => {
                let bytes = match payload {
                    [] => EMPTY_PONG.clone(),
                    payload => encode_message(Opcode::Pong, payload),
                };
                out.push(Output::Send { conn, bytes });
            }
            Item::Pong(_) => self.alive(conn),
            Item::Close(code) => {
                out.push(Output::Send {
                    conn,
                    bytes: close_reply(code),
                });
                self.close_socket(conn, out);
            }
        }
    }

    fn text(&mut self, conn: ConnId, text: &str, out: &mut Outbox) {
        let limits = TextLimits {
            content_chars_max: self.config.limits.content_chars_max,
        };
        match throng_protocol::parse(text, &limits) {
            Ok(command) => self.command(conn, command, out),
            Err(wrong) => {
                let event = Event::Error {
                    code: wrong.code,
                    message: wrong.message.into_owned(),
                    nonce: wrong.nonce,
                    retry_after_ms: None,
                };
                self.send(conn, &event, out);
            }
        }
    }

    fn command(&mut self, conn: ConnId, command: Command<'_>, out: &mut Outbox) {
        let parked = match command {
            Command::Heartbeat => {
                self.alive(conn);
                let bytes = HEARTBEAT_ACK.clone();
                return out.push(Output::Send { conn, bytes });
            }
            Command::Identify { token, resume } => {
                return self.identify(conn, token.into_owned(), resume, out);
            }
            Command::SubscribeChannel {
                channel_id,
                after_seq,
                after_rev: _,
            } => Parked::Subscribe {
                channel: channel_id,
                after: after_seq,
            },
            Command::UnsubscribeChannel { channel_id } => Parked::Unsubscribe {
                channel: channel_id,
            },
            Command::SendMessage {
                channel_id,
                content,
                nonce,
                reply_to,
            } => Parked::Send {
                channel: channel_id,
                content,
                nonce,
                reply_to,
            },
            Command::StartTyping { channel_id } => Parked::Typing {
                channel: channel_id,
                started: true,
            },
            Command::StopTyping { channel_id } => Parked::Typing {
                channel: channel_id,
                started: false,
            },
        };
        self.ready_command(conn, parked, out);
    }

    /// A command that counts only after READY, and waits its turn behind a SUBSCRIBE_CHANNEL.
    fn ready_command(&mut self, conn: ConnId, command: Parked<'_>, out: &mut Outbox) {
        let parked_max = self.config.limits.parked_max;
        let Some(session) = self.sessions.get(conn) else {
            return;
        };
        if session.user().is_none() {
            return self.error(conn, NOT_IDENTIFIED, command.nonce(), out);
        }
        match &mut session.extra {
            Some(extra) if extra.waiting_for.is_some() => {
                if extra.parked.len() >= parked_max {
                    return self.error(conn, Refusal::UNAVAILABLE, command.nonce(), out);
                }
                extra.parked.push_back(command.into_owned());
            }
            _ => self.carry_out(conn, command, out),
        }
    }

    /// Carries out a command whose turn it is.
    pub(crate) fn carry_out(&mut self, conn: ConnId, command: Parked<'_>, out: &mut Outbox) {
        match command {
            Parked::Subscribe { channel, after } => self.subscribe(conn, channel, after, out),
            Parked::Unsubscribe { channel } => self.unsubscribe(conn, channel, out),
            Parked::Send {
                channel,
                content,
                nonce,
                reply_to,
            } => {
                self.send_message(conn, channel, &content, nonce, reply_to, out);
            }
            Parked::Typing { channel, started } => self.typing(conn, channel, started, out),
        }
    }

    fn alive(&mut self, conn: ConnId) {
        let now_ms = self.now_ms;
        // Before READY the time runs from the stage's beginning, whatever is said meanwhile.
        let session = self.sessions.get(conn);
        if let Some(session) = session.filter(|session| session.stage == Stage::Ready) {
            session.be_alive(now_ms);
        }
    }

    /// Sends one event to one session.
    pub(crate) fn send(&mut self, conn: ConnId, event: &Event, out: &mut Outbox) {
        out.push(Output::Send {
            conn,
            bytes: encode_frame(event),
        });
    }

    /// Sends ERROR.
    pub(crate) fn error(
        &mut self,
        conn: ConnId,
        refusal: Refusal,
        nonce: Option<Nonce>,
        out: &mut Outbox,
    ) {
        let retry_after_ms = match (refusal.code, refusal.retry_after_ms) {
            // Who was turned away together does not come back together.
            (ErrorCode::Unavailable, Some(least_ms)) => {
                Some(self.random.random_range(least_ms..=3 * least_ms))
            }
            (_, retry_after_ms) => retry_after_ms,
        };
        let event = Event::Error {
            code: refusal.code,
            message: refusal.message.to_owned(),
            nonce,
            retry_after_ms,
        };
        self.send(conn, &event, out);
    }

    /// Ends a connection with a close code (a request that is no WebSocket yet just ends).
    pub(crate) fn close(&mut self, conn: ConnId, reason: CloseReason, out: &mut Outbox) {
        let Some(session) = self.sessions.get(conn) else {
            return;
        };
        if session.stage != Stage::Connecting {
            out.push(Output::Send {
                conn,
                bytes: close_frame(reason),
            });
        }
        self.close_socket(conn, out);
    }

    /// Ends a connection once what was sent has left.
    pub(crate) fn close_socket(&mut self, conn: ConnId, out: &mut Outbox) {
        self.forget(conn, out);
        out.push(Output::Close { conn });
    }

    /// The socket has too much waiting for it.
    pub(crate) fn blocked(&mut self, conn: ConnId, out: &mut Outbox) {
        if self.is_open(conn) {
            self.close(conn, CloseReason::SlowConsumer, out);
        }
    }

    /// The socket is gone.
    pub(crate) fn closed(&mut self, conn: ConnId, out: &mut Outbox) {
        self.forget(conn, out);
        self.sessions.remove(conn);
    }

    /// Everything that a session holds elsewhere is given back; nothing that arrives counts.
    fn forget(&mut self, conn: ConnId, out: &mut Outbox) {
        let Some(session) = self.sessions.get(conn) else {
            return;
        };
        let user = session.user();
        session.stage = Stage::Closing;
        session.extra = None;
        let kept_bytes = session.connection.kept_bytes();
        session.connection.end();
        self.intake.changed(kept_bytes, 0);
        while let Some(subscription) = self.sessions.pop_subscription(conn) {
            self.drop_subscription(conn, subscription, out);
        }
        if let Some(user) = user {
            self.leave_user(user, out);
        }
    }
}

impl Parked<'_> {
    /// For when the frame that it came in has gone.
    fn into_owned(self) -> Parked<'static> {
        match self {
            Self::Subscribe { channel, after } => Parked::Subscribe { channel, after },
            Self::Unsubscribe { channel } => Parked::Unsubscribe { channel },
            Self::Send {
                channel,
                content,
                nonce,
                reply_to,
            } => Parked::Send {
                channel,
                content: Cow::Owned(content.into_owned()),
                nonce,
                reply_to,
            },
            Self::Typing { channel, started } => Parked::Typing { channel, started },
        }
    }

    fn nonce(&self) -> Option<Nonce> {
        match self {
            Self::Send { nonce, .. } => Some(*nonce),
            _ => None,
        }
    }
}

const NOT_IDENTIFIED: Refusal = Refusal {
    code: ErrorCode::NotIdentified,
    message: "IDENTIFY first; commands count after READY",
    retry_after_ms: None,
};

const NOT_TEXT: Refusal = Refusal {
    code: ErrorCode::InvalidPayload,
    message: "commands are JSON in text messages, not binary ones",
    retry_after_ms: None,
};

const NOT_THE_GATEWAY: &[u8] = b"HTTP/1.1 404 Not Found\r\nConnection: close\r\n\
Content-Type: application/json\r\nContent-Length: 68\r\n\r\n\
{\"error\":\"NOT_FOUND\",\"message\":\"the WebSocket is at /gateway only\"}\n";
