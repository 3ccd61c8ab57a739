//! One client connection's state, and the table of all of a shard's.
//!
//! A session holds no socket, no task, no buffer and no timer; what only some sessions need for a
//! while (parked commands, replays, the rest of READY) lies in a box that idle ones do not have.
//!
//! Invariants: a session is found only under the generation it was accepted with; subscriptions
//! and parked commands are bounded by the configuration; an idle session is an entry of 64 bytes and
//! its blocks of subscriptions.

use std::borrow::Cow;
use std::collections::VecDeque;
use std::sync::Arc;

use throng_control::GuildFragment;
use throng_protocol::{ChannelId, MessageId, Nonce, Seq, UserId};

use crate::connection::Connection;
use crate::identify::Greeting;
use crate::io::ConnId;
use crate::lane::RequestId;
use crate::limits::Window;
use crate::name::Name;
use crate::pages::Pages;
use crate::subscribers::HeardId;
use crate::subscriptions::{List, Subscription, SubscriptionState, Subscriptions};

/// Where a session lies in its shard's table: its socket's place, without the generation.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub(crate) struct SessionIndex(pub(crate) u32);

/// One client connection.
#[derive(Debug)]
pub(crate) struct Session {
    /// Who it belongs to; nobody before READY.
    user: UserId,
    name: Name,
    /// Handshake and frames.
    pub(crate) connection: Connection,
    /// What only some sessions need.
    pub(crate) extra: Option<Box<Extra>>,
    generation: u32,
    /// SEND_MESSAGE commands that have not been answered.
    pub(crate) sends: u16,
    /// When the stage began, or the last heartbeat or pong came.
    heard: Moment,
    subscriptions: List,
    /// How far it has come.
    pub(crate) stage: Stage,
    marks: u8,
}

/// A ping was sent since the last sign of life.
const PINGED: u8 = 1;
/// Compression was agreed on.
const DEFLATES: u8 = 2;

/// Bytes of one session.
#[cfg(test)]
pub(crate) const SESSION_BYTES: usize = size_of::<Option<Session>>();

/// How far a connection has come.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Stage {
    /// The request head has not arrived whole.
    Connecting,
    /// A WebSocket that has not said who it is.
    Unidentified,
    /// The control plane or the user's shard is being asked.
    Identifying,
    /// READY was sent.
    Ready,
    /// A close was asked for; nothing that arrives counts.
    Closing,
}

/// A moment of node time in 2 bytes: quarters of a second, modulo 2^16 (4.5 hours). Sessions are
/// looked at much more often than that.
#[derive(Clone, Copy, Debug)]
struct Moment(u16);

/// Milliseconds of one step of a [`Moment`].
const MOMENT_MS: u64 = 250;

impl Moment {
    fn at(now_ms: u64) -> Self {
        let steps = now_ms / MOMENT_MS % (u64::from(u16::MAX) + 1);
        Self(u16::try_from(steps).expect("a remainder is small"))
    }

    /// Milliseconds that have passed since then, up to 500 too few and never too many.
    fn since_ms(self, now_ms: u64) -> u64 {
        let steps = Self::at(now_ms).0.wrapping_sub(self.0);
        u64::from(steps.saturating_sub(1)) * MOMENT_MS
    }
}

/// When a session gave its last sign of life, and whether it was pinged since.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Life {
    heard: Moment,
    pinged: u8,
}

/// What only some sessions need, for a while.
#[derive(Debug, Default)]
pub(crate) struct Extra {
    /// What READY will be made of, while the user's shard is asked.
    pub(crate) greeting: Option<Greeting>,
    /// The resume of an IDENTIFY, until READY has been sent.
    pub(crate) resume: Vec<(ChannelId, Seq)>,
    /// Guilds of READY that did not fit in it.
    pub(crate) guilds: VecDeque<Arc<GuildFragment>>,
    /// Channels whose past is due, one after the other.
    pub(crate) replays: VecDeque<Replay>,
    /// The page on its way, for the replay in front or for one that has ended.
    pub(crate) reading: Option<RequestId>,
    /// A `Watch` is out: what follows waits for `Writable`.
    pub(crate) paused: bool,
    /// The SUBSCRIBE_CHANNEL that later commands wait for.
    pub(crate) waiting_for: Option<RequestId>,
    /// Those commands.
    pub(crate) parked: VecDeque<Parked<'static>>,
    /// Its use of the typing rate; goes with the box once nothing else is in it and the session
    /// is looked at.
    pub(crate) typing: Window,
}

impl Extra {
    fn is_empty(&self) -> bool {
        self.greeting.is_none()
            && self.resume.is_empty()
            && self.guilds.is_empty()
            && self.replays.is_empty()
            && self.reading.is_none()
            && !self.paused
            && self.waiting_for.is_none()
            && self.parked.is_empty()
    }
}

/// A channel whose past is due to a session.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Replay {
    /// Which.
    pub(crate) heard: HeardId,
    /// The last message that the client has.
    pub(crate) after: Seq,
    /// SUBSCRIBED has been sent.
    pub(crate) announced: bool,
    /// The page being read for it.
    pub(crate) reading: Option<RequestId>,
}

/// A command that may have to wait.
#[derive(Debug)]
pub(crate) enum Parked<'a> {
    /// SUBSCRIBE_CHANNEL.
    Subscribe {
        /// Which.
        channel: ChannelId,
        /// From where.
        after: Option<Seq>,
    },
    /// UNSUBSCRIBE_CHANNEL.
    Unsubscribe {
        /// Which.
        channel: ChannelId,
    },
    /// SEND_MESSAGE.
    Send {
        /// Where.
        channel: ChannelId,
        /// What.
        content: Cow<'a, str>,
        /// The client's name for it.
        nonce: Nonce,
        /// What it answers.
        reply_to: Option<MessageId>,
    },
    /// START_TYPING or STOP_TYPING.
    Typing {
        /// Where.
        channel: ChannelId,
        /// Started, or stopped.
        started: bool,
    },
}

impl Session {
    /// A connection that has just been accepted.
    pub(crate) fn new(generation: u32, now_ms: u64) -> Self {
        Self {
            user: UserId::from_u128(0),
            name: Name::default(),
            connection: Connection::server(),
            extra: None,
            generation,
            sends: 0,
            heard: Moment::at(now_ms),
            subscriptions: List::default(),
            stage: Stage::Connecting,
            marks: 0,
        }
    }

    /// It has come further.
    pub(crate) fn enter(&mut self, stage: Stage, now_ms: u64) {
        self.stage = stage;
        self.be_alive(now_ms);
    }

    /// READY was sent: it is this user's from now on.
    pub(crate) fn become_ready(&mut self, user: UserId, name: &str, now_ms: u64) {
        self.user = user;
        self.name = Name::from(name);
        self.enter(Stage::Ready, now_ms);
    }

    /// A sign of life has come.
    pub(crate) fn be_alive(&mut self, now_ms: u64) {
        self.heard = Moment::at(now_ms);
        self.marks &= !PINGED;
    }

    /// What is known of its life.
    pub(crate) fn life(&self) -> Life {
        Life {
            heard: self.heard,
            pinged: self.marks & PINGED,
        }
    }

    /// Takes back what has been learned of its life since then.
    pub(crate) fn forget_life_since(&mut self, then: Life) {
        self.heard = then.heard;
        self.marks = self.marks & !PINGED | then.pinged;
    }

    /// Notes that it is pinged now; false if it was since the last sign of life.
    pub(crate) fn ping(&mut self) -> bool {
        let is_first = self.marks & PINGED == 0;
        self.marks |= PINGED;
        is_first
    }

    /// Compression is agreed on.
    pub(crate) fn agree_to_deflate(&mut self) {
        self.marks |= DEFLATES;
    }

    /// Whether compression was agreed on.
    pub(crate) fn deflates(&self) -> bool {
        self.marks & DEFLATES != 0
    }

    /// Milliseconds since the stage began or the last sign of life came; up to 500 too few.
    pub(crate) fn silent_ms(&self, now_ms: u64) -> u64 {
        self.heard.since_ms(now_ms)
    }

    /// Who it belongs to, while READY.
    pub(crate) fn user(&self) -> Option<UserId> {
        (self.stage == Stage::Ready).then_some(self.user)
    }

    /// What its user is called; empty before READY.
    pub(crate) fn name(&self) -> &Name {
        &self.name
    }

    /// The box of what only some sessions need, made if it is not there.
    pub(crate) fn extra(&mut self) -> &mut Extra {
        self.extra.get_or_insert_default()
    }

    /// Gives the box back when nothing is in it that counts.
    pub(crate) fn trim(&mut self, typing_is_over: impl FnOnce(&Window) -> bool) {
        let is_over = |extra: &Extra| extra.is_empty() && typing_is_over(&extra.typing);
        if self.extra.as_deref().is_some_and(is_over) {
            self.extra = None;
        }
    }
}

/// All sessions of a shard, by their place in the edge's slab.
#[derive(Debug, Default)]
pub(crate) struct Sessions {
    places: Pages<Session>,
    subscriptions: Subscriptions,
}

impl Sessions {
    /// Puts a new session in its place, which must be empty.
    pub(crate) fn insert(&mut self, conn: ConnId, session: Session) {
        self.places.insert(conn.index, session);
    }

    /// The session, unless it has gone.
    pub(crate) fn get(&mut self, conn: ConnId) -> Option<&mut Session> {
        self.places
            .get_mut(conn.index)
            .filter(|session| session.generation == conn.generation)
    }

    /// Takes the session out; its subscriptions must have been taken before.
    pub(crate) fn remove(&mut self, conn: ConnId) -> Option<Session> {
        self.get(conn)?;
        let session = self.places.remove(conn.index)?;
        assert!(
            session.subscriptions.count() == 0,
            "what a session hears is given up first"
        );
        Some(session)
    }

    /// How many there are.
    pub(crate) fn count(&self) -> usize {
        self.places.count()
    }

    /// No session has a place this far back.
    pub(crate) fn end(&self) -> SessionIndex {
        SessionIndex(self.places.end())
    }

    /// Who is in a place, if anybody is.
    pub(crate) fn tenant(&self, SessionIndex(index): SessionIndex) -> Option<ConnId> {
        let generation = self.places.get(index)?.generation;
        Some(ConnId { index, generation })
    }

    /// Channels that the session hears, or is about to.
    pub(crate) fn subscriptions_count(&self, conn: ConnId) -> usize {
        let session = self.places.get(conn.index);
        session.map_or(0, |session| session.subscriptions.count())
    }

    /// How far the session's subscription to a channel has come, if there is one.
    pub(crate) fn subscription(&self, conn: ConnId, heard: HeardId) -> Option<SubscriptionState> {
        let session = self.places.get(conn.index)?;
        let is_it = session.generation == conn.generation;
        is_it
            .then(|| self.subscriptions.state(&session.subscriptions, heard))
            .flatten()
    }

    /// Adds a channel that the session does not hear yet.
    pub(crate) fn push_subscription(&mut self, conn: ConnId, subscription: Subscription) {
        let session = self.places.get_mut(conn.index);
        let session = session.expect("who subscribes is there");
        assert!(session.generation == conn.generation, "and nobody else is");
        self.subscriptions
            .push(&mut session.subscriptions, subscription);
    }

    /// Notes how far a subscription, which must be there, has come.
    pub(crate) fn set_subscription(
        &mut self,
        SessionIndex(index): SessionIndex,
        heard: HeardId,
        state: SubscriptionState,
    ) {
        let session = self.places.get(index).expect("who is subscribed is there");
        self.subscriptions
            .set_state(&session.subscriptions, heard, state);
    }

    /// Takes the subscription to a channel out of the session.
    pub(crate) fn remove_subscription(
        &mut self,
        conn: ConnId,
        heard: HeardId,
    ) -> Option<Subscription> {
        let (subscriptions, list) = self.list_of(conn)?;
        subscriptions.remove(list, heard)
    }

    /// Takes any subscription out of the session, until none is left.
    pub(crate) fn pop_subscription(&mut self, conn: ConnId) -> Option<Subscription> {
        let (subscriptions, list) = self.list_of(conn)?;
        subscriptions.pop(list)
    }

    /// The session's list, and what the lists of all sessions lie in.
    fn list_of(&mut self, conn: ConnId) -> Option<(&mut Subscriptions, &mut List)> {
        let Self {
            places,
            subscriptions,
        } = self;
        let session = places.get_mut(conn.index)?;
        if session.generation != conn.generation {
            return None;
        }
        Some((subscriptions, &mut session.subscriptions))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_idle_session_is_small() {
        assert_eq!(size_of::<Option<Session>>(), 64);
    }

    #[test]
    fn a_moment_says_never_too_much_and_little_too_few() {
        for then_ms in [0, 1, 249, 250, 65_536 * 250 - 1, 1_700_000_000_123] {
            for passed_ms in [0, 1, 250, 499, 10_000, 1_200_000, 16_000_000] {
                let said_ms = Moment::at(then_ms).since_ms(then_ms + passed_ms);
                assert!(
                    said_ms <= passed_ms && passed_ms < said_ms + 500,
                    "{passed_ms}"
                );
            }
        }
    }
}
