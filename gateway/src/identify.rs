//! IDENTIFY: from a token to READY.
//!
//! The control plane says whose token it is, the user's shard counts the session, then READY
//! goes out, joined from guilds that were encoded before; what does not fit follows, paced by the
//! reader, and the channels of a resume come last.
//!
//! Invariants: a session is counted by its user's shard exactly from READY (or the moment before)
//! to its end; READY is sent once.

use std::collections::VecDeque;
use std::sync::Arc;

use bytes::{Bytes, BytesMut};
use rand::RngExt;
use throng_control::{Answer, Ask, GuildFragment};
use throng_protocol::{
    CloseReason, ErrorCode, Resume, SessionId, User, UserId, encode_guild_create, encode_ready,
};

use crate::io::{ConnId, Outbox, Output};
use crate::lane::{LaneMessage, Refusal, Reply};
use crate::session::Stage;
use crate::shard::{AskedFor, Purpose, Shard};
use crate::user::TOO_MANY_SESSIONS;

/// Bytes of guilds in READY, and of each run of GUILD_CREATE after it.
const GUILDS_BYTES_MAX: usize = 64 << 10;

impl Shard {
    /// IDENTIFY arrived.
    pub(crate) fn identify(
        &mut self,
        conn: ConnId,
        token: String,
        resume: Option<Resume>,
        out: &mut Outbox,
    ) {
        let Some(session) = self.sessions.get(conn) else {
            return;
        };
        if session.stage != Stage::Unidentified {
            return self.error(conn, IDENTIFIED_ALREADY, None, out);
        }
        if !self.ask(Ask::Identify { token }, AskedFor::Identify(conn), out) {
            return self.identify_again(conn, TOO_MANY_AT_ONCE, out);
        }
        let Some(session) = self.sessions.get(conn) else {
            return;
        };
        session.enter(Stage::Identifying, self.now_ms);
        if let Some(resume) = resume {
            let channels = resume.channels.iter();
            session.extra().resume = channels
                .map(|channel| (channel.channel_id, channel.after_seq))
                .collect();
        }
    }

    /// The control plane has said whose token it is.
    pub(crate) fn identified(&mut self, conn: ConnId, answer: Answer, out: &mut Outbox) {
        let Some(session) = self.sessions.get(conn) else {
            return;
        };
        if session.stage != Stage::Identifying {
            return;
        }
        match answer {
            Answer::Identified { user, guilds } => {
                let Some(request) = self.requests.open(conn, Purpose::Open(user.id)) else {
                    return self.identify_again(conn, TOO_MANY_AT_ONCE, out);
                };
                let owner = self.user_owner(user.id);
                let reply_to = self.reply_to(request);
                self.say(
                    owner,
                    LaneMessage::OpenSession {
                        reply_to,
                        user: user.id,
                    },
                    out,
                );
                self.greet_later(conn, user, guilds);
            }
            Answer::BadToken => {
                self.error(conn, BAD_TOKEN, None, out);
                self.close(conn, CloseReason::BadToken, out);
            }
            Answer::Access { .. } | Answer::Unavailable => {
                self.identify_again(conn, TOO_MANY_AT_ONCE, out);
            }
        }
    }

    /// READY is due as soon as the user's shard has counted the session.
    fn greet_later(&mut self, conn: ConnId, user: User, guilds: Vec<Arc<GuildFragment>>) {
        if let Some(session) = self.sessions.get(conn) {
            session.extra().greeting = Some(Greeting {
                user,
                guilds: guilds.into(),
            });
        }
    }

    /// The user's shard has counted the session, or not.
    pub(crate) fn opened(&mut self, conn: ConnId, user: UserId, reply: Reply, out: &mut Outbox) {
        let greeting = self
            .sessions
            .get(conn)
            .and_then(|session| session.extra.as_mut())
            .and_then(|extra| extra.greeting.take());
        match (reply, greeting) {
            (Reply::Refused(refusal), Some(_)) if refusal == TOO_MANY_SESSIONS => {
                self.error(conn, refusal, None, out);
                self.close(conn, CloseReason::TooManySessions, out);
            }
            (Reply::Refused(refusal), Some(_)) => self.identify_again(conn, refusal, out),
            (Reply::Refused(_), None) => {}
            (_, Some(greeting)) => self.greet(conn, greeting, out),
            (_, None) => self.leave_user(user, out), // Counted, but the connection has ended.
        }
    }

    /// READY, and what follows it.
    fn greet(&mut self, conn: ConnId, greeting: Greeting, out: &mut Outbox) {
        let Greeting { user, mut guilds } = greeting;
        let session_id = SessionId::from_u128(self.random.random());
        let fitting = take_run(&mut guilds);
        let bytes = encode_ready(&user, &fitting, session_id);
        out.push(Output::Send { conn, bytes });

        let now_ms = self.now_ms;
        let Some(session) = self.sessions.get(conn) else {
            return;
        };
        session.become_ready(user.id, &user.username, now_ms);
        let extra = session.extra();
        let resume = std::mem::take(&mut extra.resume);
        let is_more_due = !guilds.is_empty() || !resume.is_empty();
        extra.guilds = guilds;
        if is_more_due {
            self.pause(conn, out);
        }
        self.resume(conn, resume, out);
        self.next_of_the_past(conn, out);
    }

    /// The next guilds that did not fit in READY. False when there are none.
    pub(crate) fn more_guilds(&mut self, conn: ConnId, out: &mut Outbox) -> bool {
        let extra = self
            .sessions
            .get(conn)
            .and_then(|session| session.extra.as_mut());
        let Some(extra) = extra.filter(|extra| !extra.guilds.is_empty()) else {
            return false;
        };
        let mut run = BytesMut::new();
        for guild in take_run(&mut extra.guilds) {
            run.extend_from_slice(&encode_guild_create(&guild));
        }
        out.push(Output::Send {
            conn,
            bytes: run.freeze(),
        });
        true
    }

    /// IDENTIFY was refused for now; the client may try again, and has its time for it anew.
    fn identify_again(&mut self, conn: ConnId, refusal: Refusal, out: &mut Outbox) {
        let now_ms = self.now_ms;
        if let Some(session) = self.sessions.get(conn) {
            session.enter(Stage::Unidentified, now_ms);
            session.extra = None;
        }
        self.error(conn, refusal, None, out);
    }

    /// The user's shard counts one session less.
    pub(crate) fn leave_user(&mut self, user: UserId, out: &mut Outbox) {
        let owner = self.user_owner(user);
        self.say(owner, LaneMessage::CloseSession { user }, out);
    }
}

/// What READY is made of.
#[derive(Debug)]
pub(crate) struct Greeting {
    user: User,
    guilds: VecDeque<Arc<GuildFragment>>,
}

/// Takes guilds off the front: at least one, and no more than fit.
fn take_run(guilds: &mut VecDeque<Arc<GuildFragment>>) -> Vec<Bytes> {
    let mut run = Vec::new();
    let mut bytes = 0;
    while let Some(guild) = guilds.front() {
        bytes += guild.json.len();
        if !run.is_empty() && bytes > GUILDS_BYTES_MAX {
            break;
        }
        run.push(guild.json.clone());
        guilds.pop_front();
    }
    run
}

const IDENTIFIED_ALREADY: Refusal = Refusal {
    code: ErrorCode::InvalidPayload,
    message: "IDENTIFY is allowed once per connection",
    retry_after_ms: None,
};

/// A queue on the way to READY is full, as when everybody comes back after a restart. With what
/// [`Shard::error`] adds, who is refused comes again within the time that an IDENTIFY has.
const TOO_MANY_AT_ONCE: Refusal = Refusal {
    code: ErrorCode::Unavailable,
    message: "too many sessions are beginning right now; try again",
    retry_after_ms: Some(3_000),
};

const BAD_TOKEN: Refusal = Refusal {
    code: ErrorCode::InvalidSession,
    message: "the token is not good, or no longer: log in again",
    retry_after_ms: None,
};
