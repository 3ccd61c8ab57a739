//! A shard: one core's share of the server, as a deterministic state machine.
//!
//! It knows no socket, file, clock, thread or random source. It plays three roles at once: it
//! holds sessions, it owns users (rates) and it owns channels (order, storage). The roles speak
//! only in [`LaneMessage`]s, whether they meet in one shard or in two, so one shard is not a
//! special case.
//!
//! Invariants: the same inputs at the same times give the same outputs; every table is bounded
//! by the configuration; what is acknowledged or delivered has been committed.

use std::collections::{HashMap, VecDeque};
use std::rc::Rc;

use rand::SeedableRng;
use rand::rngs::StdRng;
use throng_control::{Ask, AskId, FromShard, ToShard};
use throng_protocol::deflate::Inflater;
use throng_protocol::{ChannelId, MessageIdSource, Nonce, Seq, UserId};
use throng_router::{InterestTable, Topic, Topology};
use throng_storage_engine::RecentNonce;

use crate::access::{AccessCache, Epoch};
use crate::audience::Move;
use crate::commit::Commits;
use crate::config::Config;
use crate::fanout::Credits;
use crate::heads::Heads;
use crate::history::Reads;
use crate::intake::Intake;
use crate::io::{Application, ConnId, Input, Outbox, Output, ShardId};
use crate::lane::{LaneMessage, Refusal, Reply, ReplyTo, RequestId};
use crate::message::SpareRequests;
use crate::missed::Missed;
use crate::nonces::Nonces;
use crate::owner::{Waiting, Wish};
use crate::requests::Requests;
use crate::session::Sessions;
use crate::subscribers::{HeardId, Subscribers};
use crate::timers::Timers;
use crate::user::Users;

/// What a shard is made of and how far it may go; see the modules for what each part does.
#[derive(Debug)]
pub struct Shard {
    pub(crate) id: ShardId,
    /// How many there are.
    pub(crate) shards: u16,
    pub(crate) config: Rc<Config>,
    pub(crate) topology: Topology,
    pub(crate) now_ms: u64,
    pub(crate) random: StdRng,
    /// What this shard says to itself, in order.
    to_self: VecDeque<LaneMessage>,

    // Sessions.
    /// Opens compressed messages, unless compression is off. Not there while it is in use.
    pub(crate) inflater: Option<Box<Inflater>>,
    pub(crate) intake: Intake,
    pub(crate) sessions: Sessions,
    pub(crate) timers: Timers,
    pub(crate) requests: Requests,
    pub(crate) subscribers: Subscribers,
    /// An `Again` is due.
    pub(crate) asked_again: bool,
    /// Room for the places that change in a walk.
    pub(crate) moves: Vec<Move>,

    pub(crate) spare_requests: SpareRequests,

    // Users that this shard owns.
    pub(crate) users: Users,

    // Channels that this shard owns.
    pub(crate) heads: Heads,
    pub(crate) interest: InterestTable,
    pub(crate) ids: MessageIdSource,
    pub(crate) nonces: Nonces,
    pub(crate) access: AccessCache,
    pub(crate) waiting: Waiting,
    pub(crate) commits: Commits,
    pub(crate) credits: Credits,
    pub(crate) reads: Reads,
    pub(crate) missed: Missed,

    // The control plane.
    asks: HashMap<AskId, AskedFor>,
    next_ask: u64,
}

/// What a question to the control plane was for.
#[derive(Clone, Copy, Debug)]
pub(crate) enum AskedFor {
    /// A session's IDENTIFY.
    Identify(ConnId),
    /// Access to an owned channel.
    Access(UserId, ChannelId, Epoch),
}

/// What a session's request was for.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Purpose {
    /// IDENTIFY: the user's shard counts the session.
    Open(UserId),
    /// SEND_MESSAGE.
    Send(Nonce),
    /// SUBSCRIBE_CHANNEL, or a channel of a resume.
    Subscribe(HeardId, Option<Seq>),
    /// A page of a replay.
    Page,
    /// START_TYPING or STOP_TYPING.
    Typing,
}

/// What a shard starts with.
#[derive(Debug)]
pub struct ShardStart {
    /// Which shard.
    pub id: ShardId,
    /// How many there are.
    pub shards: u16,
    /// The configuration, checked.
    pub config: Config,
    /// All of the shard's randomness.
    pub seed: u64,
    /// Node time in milliseconds since 1970, later than every stored message.
    pub now_ms: u64,
    /// The last places of the shard's channels.
    pub heads: Heads,
    /// The nonces of recent messages in the shard's channels.
    pub recent: Vec<RecentNonce>,
}

impl Shard {
    /// A shard without sessions.
    #[must_use]
    pub fn new(start: ShardStart) -> Self {
        let limits = &start.config.limits;
        let mut shard = Self {
            id: start.id,
            shards: start.shards,
            topology: Topology::single(start.shards),
            now_ms: start.now_ms,
            random: StdRng::seed_from_u64(start.seed),
            to_self: VecDeque::new(),
            inflater: start.config.compression.then(Box::default),
            intake: Intake::new(limits.incomplete_part(start.shards)),
            sessions: Sessions::default(),
            timers: Timers::new(start.now_ms),
            requests: Requests::new(limits.requests_max),
            subscribers: Subscribers::new(gathered_bytes_max(limits.lane_bytes_max)),
            asked_again: false,
            moves: Vec::new(),
            spare_requests: SpareRequests::default(),
            users: Users::default(),
            heads: start.heads,
            interest: InterestTable::new(),
            ids: MessageIdSource::new(start.seed),
            nonces: Nonces::new(limits.nonces_max),
            access: AccessCache::new(limits.access_entries_max),
            waiting: Waiting::default(),
            commits: Commits::new(limits.commit_bytes_max),
            credits: Credits::new(start.shards, limits.lane_bytes_max),
            reads: Reads::new(limits.reads_max),
            missed: Missed::default(),
            asks: HashMap::new(),
            next_ask: 0,
            config: Rc::new(start.config),
        };
        shard.recall(start.recent);
        shard
    }

    /// Whether nothing is left to do after a drain: no session, nothing uncommitted.
    #[must_use]
    pub fn is_drained(&self) -> bool {
        self.sessions.count() == 0 && self.commits.is_idle()
    }

    /// Open connections, identified or not.
    #[must_use]
    pub fn connections(&self) -> usize {
        self.sessions.count()
    }

    fn dispatch(&mut self, input: Input<'_>, out: &mut Outbox) {
        match input {
            Input::Accepted { conn } => self.accepted(conn, out),
            Input::Received { conn, bytes } => self.received(conn, bytes, out),
            Input::Closed { conn } => self.closed(conn, out),
            Input::Writable { conn } => self.writable(conn, out),
            Input::Blocked { conn } => self.blocked(conn, out),
            Input::Lane { from, message } => self.lane(from, message, out),
            Input::Committed { commit, result } => self.committed(commit, result, out),
            Input::Page { read, result } => self.page_read(read, result, out),
            Input::StoreTrouble { error } => self.store_trouble(error),
            Input::Control(message) => self.control(message, out),
            Input::Again => self.again(out),
            Input::Tick => self.tick(out),
            Input::Drain => self.drain(out),
        }
    }

    fn lane(&mut self, from: ShardId, message: LaneMessage, out: &mut Outbox) {
        match message {
            LaneMessage::OpenSession { reply_to, user } => {
                let opened = self
                    .users
                    .open_session(user, &self.config.limits, self.now_ms);
                self.reply(
                    reply_to,
                    opened.map_or_else(Reply::Refused, |()| Reply::Done),
                    out,
                );
            }
            LaneMessage::CloseSession { user } => self.users.close_session(user, self.now_ms),
            LaneMessage::Count(request) => self.count(request, out),
            LaneMessage::Send(request) => {
                self.ordered(request, out);
            }
            LaneMessage::GiveBack { user } => self.users.give_back(user),
            LaneMessage::Subscribe {
                reply_to,
                channel,
                user,
            } => {
                self.with_access(user, channel, Wish::Subscribe(reply_to), out);
            }
            LaneMessage::Unsubscribe { channel } => {
                self.interest.remove(&topic(channel), from.0);
            }
            LaneMessage::Crowded { channel } => self.credits.crowded(channel, from),
            LaneMessage::CaughtUp { channel } => self.credits.caught_up(channel, from),
            LaneMessage::ReadAfter {
                reply_to,
                channel,
                after,
            } => {
                self.read_after(reply_to, channel, after, out);
            }
            LaneMessage::Typing {
                reply_to,
                channel,
                user,
                started,
            } => {
                self.with_access(user, channel, Wish::Typing(reply_to, started), out);
            }
            LaneMessage::Reply { request, reply } => self.replied(request, reply, out),
            LaneMessage::Publish {
                channel,
                seq,
                rev,
                frame,
            } => {
                self.published(from, channel, seq, rev, frame, out);
            }
            LaneMessage::PublishTyping { channel, frame } => {
                self.published_typing(from, channel, frame, out);
            }
            LaneMessage::Credit { bytes } => self.credits.returned(from, bytes),
        }
    }

    fn control(&mut self, message: ToShard, out: &mut Outbox) {
        match message {
            ToShard::Answer { ask, answer } => match self.asks.remove(&ask) {
                Some(AskedFor::Identify(conn)) => self.identified(conn, answer, out),
                Some(AskedFor::Access(user, channel, epoch)) => {
                    self.access_answered(user, channel, epoch, answer, out);
                }
                None => {} // Answered before, by the edge, when the control plane was full.
            },
            ToShard::Invalidate {
                ticket,
                guild,
                version,
                user,
                ..
            } => {
                self.access.invalidate(guild, version, user);
                out.push(Output::Control(FromShard::Invalidated { ticket }));
            }
            ToShard::History {
                ticket,
                channel,
                query,
                limit,
            } => {
                self.history(ticket, channel, query, limit, out);
            }
            ToShard::Status { ticket } => self.status(ticket, out),
        }
    }

    /// Asks the control plane; false when too much is being asked already.
    pub(crate) fn ask(&mut self, ask_body: Ask, purpose: AskedFor, out: &mut Outbox) -> bool {
        if self.asks.len() >= self.config.limits.asks_max {
            return false;
        }
        let ask = AskId(self.next_ask);
        self.next_ask += 1;
        self.asks.insert(ask, purpose);
        out.push(Output::Control(FromShard::Ask { ask, ask_body }));
        true
    }

    /// Says something to a shard, which may be this one.
    pub(crate) fn say(&mut self, to: ShardId, message: LaneMessage, out: &mut Outbox) {
        if to == self.id {
            self.to_self.push_back(message);
        } else {
            out.push(Output::Forward { to, message });
        }
    }

    /// Answers a request.
    pub(crate) fn reply(&mut self, to: ReplyTo, reply: Reply, out: &mut Outbox) {
        self.say(
            to.shard,
            LaneMessage::Reply {
                request: to.request,
                reply,
            },
            out,
        );
    }

    /// Answers a request with a refusal.
    pub(crate) fn refuse(&mut self, to: ReplyTo, refusal: Refusal, out: &mut Outbox) {
        self.reply(to, Reply::Refused(refusal), out);
    }

    /// This shard as the place to answer a request to.
    pub(crate) fn reply_to(&self, request: RequestId) -> ReplyTo {
        ReplyTo {
            shard: self.id,
            request,
        }
    }

    /// The shard that orders a channel.
    pub(crate) fn channel_owner(&self, channel: ChannelId) -> ShardId {
        ShardId(self.topology.shard_of(&topic(channel)))
    }

    /// The shard that counts what a user does.
    pub(crate) fn user_owner(&self, user: UserId) -> ShardId {
        ShardId(self.topology.shard_of(&Topic::User(*user.as_bytes())))
    }
}

/// Bytes of one channel that may gather in a shard before its owner is told: one of several parts
/// of what may be under way to that shard.
fn gathered_bytes_max(lane_bytes_max: u64) -> usize {
    usize::try_from(lane_bytes_max / 8).unwrap_or(usize::MAX)
}

/// A channel as the router knows it.
pub(crate) fn topic(channel: ChannelId) -> Topic {
    Topic::Channel(*channel.as_bytes())
}

impl Application for Shard {
    fn handle(&mut self, now_ms: u64, input: Input<'_>, out: &mut Outbox) {
        self.now_ms = self.now_ms.max(now_ms);
        self.dispatch(input, out);
        while let Some(message) = self.to_self.pop_front() {
            self.lane(self.id, message, out);
        }
        self.commit_if_idle(out);
    }
}
