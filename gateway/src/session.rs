//! One client connection's state, and the table of all of a shard's.
//!
//! A session holds no socket, no task and no buffer; what only some sessions need for a while
//! (parked commands, replays, the rest of READY) lies in a box that idle ones do not have.
//!
//! Invariants: a session is found only under the generation it was accepted with; subscriptions
//! and parked commands are bounded by the configuration.

use std::collections::VecDeque;
use std::rc::Rc;
use std::sync::Arc;

use throng_control::GuildFragment;
use throng_protocol::{ChannelId, MessageId, Nonce, Seq, UserId};

use crate::connection::Connection;
use crate::identify::Greeting;
use crate::io::ConnId;
use crate::lane::RequestId;
use crate::limits::Window;

/// One client connection.
#[derive(Debug)]
pub(crate) struct Session {
    generation: u32,
    /// Handshake and frames.
    pub(crate) connection: Connection,
    /// How far it has come.
    pub(crate) stage: Stage,
    /// When the stage began.
    pub(crate) since_ms: u64,
    /// When the last heartbeat or pong came.
    pub(crate) alive_ms: u64,
    /// Channels it hears, or is about to.
    pub(crate) subscriptions: Vec<Subscription>,
    /// SEND_MESSAGE commands that have not been answered.
    pub(crate) sends: usize,
    /// Its use of the typing rate.
    pub(crate) typing: Window,
    /// What only some sessions need.
    pub(crate) extra: Option<Box<Extra>>,
}

/// How far a connection has come.
#[derive(Debug)]
pub(crate) enum Stage {
    /// The request head has not arrived whole.
    Connecting,
    /// A WebSocket that has not said who it is.
    Unidentified,
    /// The control plane or the user's shard is being asked.
    Identifying,
    /// READY was sent.
    Ready(Identity),
    /// A close was asked for; nothing that arrives counts.
    Closing,
}

/// Who a session belongs to.
#[derive(Clone, Debug)]
pub(crate) struct Identity {
    /// The user.
    pub(crate) user: UserId,
    /// The user's name.
    pub(crate) username: Rc<str>,
}

/// A channel that a session hears, or is about to.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Subscription {
    /// Which.
    pub(crate) channel: ChannelId,
    /// How far.
    pub(crate) state: SubscriptionState,
}

/// How far a subscription has come.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum SubscriptionState {
    /// The channel's owner is being asked.
    Requested(RequestId),
    /// The past is being read; see [`Extra::replays`].
    Replaying,
    /// In the channel's list of live subscribers, at this place.
    Live(u32),
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
    pub(crate) parked: VecDeque<Parked>,
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
    pub(crate) channel: ChannelId,
    /// The last message that the client has.
    pub(crate) after: Seq,
    /// SUBSCRIBED has been sent.
    pub(crate) announced: bool,
    /// The page being read for it.
    pub(crate) reading: Option<RequestId>,
}

/// A command that waits.
#[derive(Debug)]
pub(crate) enum Parked {
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
        content: String,
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
    pub(crate) fn new(generation: u32, connection: Connection, now_ms: u64) -> Self {
        Self {
            generation,
            connection,
            stage: Stage::Connecting,
            since_ms: now_ms,
            alive_ms: now_ms,
            subscriptions: Vec::new(),
            sends: 0,
            typing: Window::default(),
            extra: None,
        }
    }

    /// Who it belongs to, once READY.
    pub(crate) fn identity(&self) -> Option<&Identity> {
        match &self.stage {
            Stage::Ready(identity) => Some(identity),
            _ => None,
        }
    }

    /// The box of what only some sessions need, made if it is not there.
    pub(crate) fn extra(&mut self) -> &mut Extra {
        self.extra.get_or_insert_default()
    }

    /// Gives the box back when nothing is in it.
    pub(crate) fn trim(&mut self) {
        if self.extra.as_ref().is_some_and(|extra| extra.is_empty()) {
            self.extra = None;
        }
    }

    /// The subscription to a channel.
    pub(crate) fn subscription(&mut self, channel: ChannelId) -> Option<&mut Subscription> {
        self.subscriptions
            .iter_mut()
            .find(|subscription| subscription.channel == channel)
    }
}

/// All sessions of a shard, by their place in the edge's slab.
#[derive(Debug, Default)]
pub(crate) struct Sessions {
    places: Vec<Option<Session>>,
    count: usize,
}

impl Sessions {
    /// Puts a new session in its place, which must be empty.
    pub(crate) fn insert(&mut self, conn: ConnId, session: Session) {
        let index = conn.index as usize;
        if index >= self.places.len() {
            self.places.resize_with(index + 1, || None);
        }
        assert!(
            self.places[index].is_none(),
            "a place has one tenant at a time"
        );
        self.places[index] = Some(session);
        self.count += 1;
    }

    /// The session, unless it has gone.
    pub(crate) fn get(&mut self, conn: ConnId) -> Option<&mut Session> {
        self.places
            .get_mut(conn.index as usize)?
            .as_mut()
            .filter(|session| session.generation == conn.generation)
    }

    /// Takes the session out.
    pub(crate) fn remove(&mut self, conn: ConnId) -> Option<Session> {
        self.get(conn)?;
        self.count -= 1;
        self.places[conn.index as usize].take()
    }

    /// How many there are.
    pub(crate) fn count(&self) -> usize {
        self.count
    }

    /// All of them, in the order of their places.
    pub(crate) fn conns(&self) -> Vec<ConnId> {
        let conn = |(index, session): (usize, &Option<Session>)| {
            session.as_ref().map(|session| ConnId {
                index: u32::try_from(index).unwrap_or(u32::MAX),
                generation: session.generation,
            })
        };
        self.places.iter().enumerate().filter_map(conn).collect()
    }
}
