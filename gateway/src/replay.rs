//! What a session missed: guilds that did not fit in READY, then channel after channel.
//!
//! A cursor that is read as the socket drains, one page at a time; it is never pushed into the
//! backlog, so a healthy client that resumes is not taken for a slow one. A replay follows its
//! channel's head until it has caught up and goes live in the same step.
//!
//! Invariants: a session has one page on its way at most; SUBSCRIBED comes before the replay; the
//! replay ends exactly where the live frames begin; who misses more than
//! [`REPLAY_MESSAGES_MAX`] gets RESYNC instead.

use bytes::Bytes;
use throng_protocol::{ChannelHead, Event, Seq};

use crate::io::{ConnId, Outbox, Output};
use crate::lane::{LaneMessage, Refusal, Reply, RequestId};
use crate::session::Replay;
use crate::shard::{Purpose, Shard};
use crate::subscribers::HeardId;

/// Messages of one channel that are replayed; who missed more fetches history instead.
pub(crate) const REPLAY_MESSAGES_MAX: u64 = 1_000;

/// Channels that are told one after the other before the socket is waited for. What is sent for a
/// channel without a page is a few hundred bytes.
const STEPS_MAX: usize = 64;

/// What the next step of a replay is.
enum Next {
    Live,
    Resync,
    Read(Seq),
}

impl Shard {
    /// Goes on with what a session is due of the past, unless its socket is still busy with the
    /// last of it.
    pub(crate) fn next_of_the_past(&mut self, conn: ConnId, out: &mut Outbox) {
        for _ in 0..STEPS_MAX {
            let Some(session) = self.sessions.get(conn) else {
                return;
            };
            let Some(extra) = &mut session.extra else {
                return;
            };
            if extra.paused || extra.reading.is_some() {
                return;
            }
            if self.more_guilds(conn, out) {
                return self.pause(conn, out);
            }
            let Some(replay) = self.front_replay(conn).copied() else {
                return self.trim(conn);
            };
            if !self.step_of_the_past(conn, replay, out) {
                return;
            }
        }
        self.pause(conn, out);
    }

    /// One step of the replay in front; true when it is done and the next one may begin.
    fn step_of_the_past(&mut self, conn: ConnId, replay: Replay, out: &mut Outbox) -> bool {
        let heard = replay.heard;
        let (seq, rev) = self.subscribers.head(heard);
        let channel_id = self.subscribers.channel(heard);
        if !replay.announced {
            self.send(
                conn,
                &Event::Subscribed {
                    channel_id,
                    seq,
                    rev,
                },
                out,
            );
            if let Some(front) = self.front_replay(conn) {
                front.announced = true;
            }
        }
        match next(replay.after, seq) {
            Next::Live => self.finish_replay(conn, heard),
            Next::Resync => {
                self.resync(conn, heard, out);
                self.finish_replay(conn, heard);
            }
            Next::Read(after) => return !self.read_page(conn, heard, after, out),
        }
        true
    }

    /// Asks the owner for the next page; false when that cannot be now and the replay is over.
    fn read_page(&mut self, conn: ConnId, heard: HeardId, after: Seq, out: &mut Outbox) -> bool {
        let Some(request) = self.requests.open(conn, Purpose::Page) else {
            self.give_up_replay(conn, heard, Refusal::UNAVAILABLE, out);
            return false;
        };
        if let Some(front) = self.front_replay(conn) {
            front.reading = Some(request);
        }
        if let Some(session) = self.sessions.get(conn) {
            session.extra().reading = Some(request);
        }
        let channel = self.subscribers.channel(heard);
        let (owner, reply_to) = (self.channel_owner(channel), self.reply_to(request));
        self.say(
            owner,
            LaneMessage::ReadAfter {
                reply_to,
                channel,
                after,
            },
            out,
        );
        true
    }

    /// The owner has sent a page.
    pub(crate) fn page_arrived(
        &mut self,
        conn: ConnId,
        request: RequestId,
        reply: Reply,
        out: &mut Outbox,
    ) {
        let extra = self
            .sessions
            .get(conn)
            .and_then(|session| session.extra.as_mut());
        let Some(extra) = extra.filter(|extra| extra.reading == Some(request)) else {
            return; // The session has ended.
        };
        extra.reading = None;
        let front = extra.replays.front_mut();
        let Some(front) = front.filter(|front| front.reading == Some(request)) else {
            return self.next_of_the_past(conn, out); // The replay ended while its page was read.
        };
        front.reading = None;
        let heard = front.heard;
        match reply {
            Reply::Page { frames, last } => {
                let rose = front.after < last;
                front.after = front.after.max(last);
                self.page_told(conn, heard, frames, rose, out);
            }
            Reply::Refused(refusal) => self.give_up_replay(conn, heard, refusal, out),
            _ => unreachable!("a ReadAfter is answered with Page or Refused"),
        }
        self.next_of_the_past(conn, out);
    }

    /// Sends a page on. One without messages moves the replay too, if what was missed is deleted.
    fn page_told(
        &mut self,
        conn: ConnId,
        heard: HeardId,
        frames: Bytes,
        rose: bool,
        out: &mut Outbox,
    ) {
        if frames.is_empty() && !rose {
            return self.give_up_replay(conn, heard, Refusal::UNAVAILABLE, out);
        }
        if !frames.is_empty() {
            out.push(Output::Send {
                conn,
                bytes: frames,
            });
        }
        let Some(replay) = self.front_replay(conn).copied() else {
            return;
        };
        if matches!(
            next(replay.after, self.subscribers.head(heard).0),
            Next::Live
        ) {
            self.finish_replay(conn, heard);
        }
        self.pause(conn, out);
    }

    /// The past cannot be read: say so, and let the client fetch it.
    fn give_up_replay(&mut self, conn: ConnId, heard: HeardId, refusal: Refusal, out: &mut Outbox) {
        self.error(conn, refusal, None, out);
        self.resync(conn, heard, out);
        self.finish_replay(conn, heard);
    }

    fn resync(&mut self, conn: ConnId, heard: HeardId, out: &mut Outbox) {
        let (seq, rev) = self.subscribers.head(heard);
        let channels = vec![ChannelHead {
            channel_id: self.subscribers.channel(heard),
            seq,
            rev,
        }];
        self.send(
            conn,
            &Event::Resync {
                guilds: Vec::new(),
                channels,
            },
            out,
        );
    }

    fn finish_replay(&mut self, conn: ConnId, heard: HeardId) {
        let Some(session) = self.sessions.get(conn) else {
            return;
        };
        let done = session.extra().replays.pop_front();
        assert!(
            done.is_some_and(|done| done.heard == heard),
            "the one in front is done"
        );
        self.go_live(conn, heard);
    }

    /// What follows waits until the socket has taken what was sent.
    pub(crate) fn pause(&mut self, conn: ConnId, out: &mut Outbox) {
        if let Some(session) = self.sessions.get(conn) {
            session.extra().paused = true;
            out.push(Output::Watch { conn });
        }
    }

    /// The socket has taken what was sent.
    pub(crate) fn writable(&mut self, conn: ConnId, out: &mut Outbox) {
        if let Some(extra) = self
            .sessions
            .get(conn)
            .and_then(|session| session.extra.as_mut())
        {
            extra.paused = false;
        }
        self.next_of_the_past(conn, out);
    }

    fn front_replay(&mut self, conn: ConnId) -> Option<&mut Replay> {
        self.sessions.get(conn)?.extra.as_mut()?.replays.front_mut()
    }
}

fn next(after: Seq, head: Seq) -> Next {
    match head.0.saturating_sub(after.0) {
        0 => Next::Live,
        missed if missed > REPLAY_MESSAGES_MAX => Next::Resync,
        _ => Next::Read(after),
    }
}
