//! Subscriptions as a session sees them: asked for, told the past, live, ended.
//!
//! Interest is registered with the channel's owner first and the past is read up to that point
//! afterwards, so nothing falls between. While a SUBSCRIBE_CHANNEL waits for the owner's word,
//! the session's later commands wait behind it; the channels of a resume wait side by side.
//!
//! Invariants: a session is at most once in a channel's list; whoever waits or listens is
//! counted, and the owner hears when nobody is left.

use throng_protocol::{ChannelId, ErrorCode, Event, Rev, Seq};

use crate::io::{ConnId, Outbox};
use crate::lane::{LaneMessage, Refusal, Reply, RequestId};
use crate::session::{Replay, Subscription, SubscriptionState};
use crate::shard::{Purpose, Shard};

impl Shard {
    /// SUBSCRIBE_CHANNEL, when its turn has come.
    pub(crate) fn subscribe(
        &mut self,
        conn: ConnId,
        channel: ChannelId,
        after: Option<Seq>,
        out: &mut Outbox,
    ) {
        let Some(session) = self.sessions.get(conn) else {
            return;
        };
        if let Some(held) = session.subscription(channel).copied() {
            if let (None, SubscriptionState::Live(place)) = (after, held.state) {
                let (seq, rev) = self.subscribers.told(channel, place);
                return self.send(
                    conn,
                    &Event::Subscribed {
                        channel_id: channel,
                        seq,
                        rev,
                    },
                    out,
                );
            }
            self.unsubscribe(conn, channel, out);
        }
        if let Some(request) = self.request_subscription(conn, channel, after, out)
            && let Some(session) = self.sessions.get(conn)
        {
            session.extra().waiting_for = Some(request);
        }
    }

    /// The channels of a resume, each as a subscription of its own.
    pub(crate) fn resume(
        &mut self,
        conn: ConnId,
        channels: Vec<(ChannelId, Seq)>,
        out: &mut Outbox,
    ) {
        for (channel, after) in channels {
            let held = self
                .sessions
                .get(conn)
                .and_then(|session| session.subscription(channel));
            if held.is_none() {
                self.request_subscription(conn, channel, Some(after), out);
            }
        }
    }

    fn request_subscription(
        &mut self,
        conn: ConnId,
        channel: ChannelId,
        after: Option<Seq>,
        out: &mut Outbox,
    ) -> Option<RequestId> {
        let session = self.sessions.get(conn)?;
        let user = session.identity()?.user;
        if session.subscriptions.len() >= self.config.limits.subscriptions_max {
            self.error(conn, TOO_MANY_SUBSCRIPTIONS, None, out);
            return None;
        }
        let Some(request) = self.requests.open(conn, Purpose::Subscribe(channel, after)) else {
            self.error(conn, Refusal::UNAVAILABLE, None, out);
            return None;
        };
        let state = SubscriptionState::Requested(request);
        self.sessions
            .get(conn)?
            .subscriptions
            .push(Subscription { channel, state });
        self.subscribers.expect(channel);
        let (owner, reply_to) = (self.channel_owner(channel), self.reply_to(request));
        self.say(
            owner,
            LaneMessage::Subscribe {
                reply_to,
                channel,
                user,
            },
            out,
        );
        Some(request)
    }

    /// The owner has answered a Subscribe.
    pub(crate) fn subscription_answered(
        &mut self,
        conn: ConnId,
        request: RequestId,
        channel: ChannelId,
        after: Option<Seq>,
        reply: Reply,
        out: &mut Outbox,
    ) {
        if let Reply::Subscribed { seq, rev } = reply {
            self.subscribers.registered(channel, seq, rev);
        }
        let wanted = self
            .sessions
            .get(conn)
            .and_then(|session| session.subscription(channel));
        let wanted = wanted.filter(|held| held.state == SubscriptionState::Requested(request));
        match (wanted, reply) {
            (Some(_), Reply::Subscribed { seq, rev }) => {
                self.start_subscription(conn, channel, after, seq, rev, out);
            }
            (Some(_), Reply::Refused(refusal)) => {
                self.unsubscribe(conn, channel, out);
                self.abandon(channel, out);
                self.error(conn, refusal, None, out);
            }
            (Some(_), _) => unreachable!("a Subscribe is answered with Subscribed or Refused"),
            (None, _) => self.abandon(channel, out), // Ended while it was asked for.
        }
        self.carry_out_parked(conn, request, out);
    }

    /// Live at once, or after the past has been told.
    fn start_subscription(
        &mut self,
        conn: ConnId,
        channel: ChannelId,
        after: Option<Seq>,
        seq: Seq,
        rev: Rev,
        out: &mut Outbox,
    ) {
        let Some(after) = after else {
            self.send(
                conn,
                &Event::Subscribed {
                    channel_id: channel,
                    seq,
                    rev,
                },
                out,
            );
            return self.go_live(conn, channel);
        };
        let Some(session) = self.sessions.get(conn) else {
            return;
        };
        if let Some(held) = session.subscription(channel) {
            held.state = SubscriptionState::Replaying;
        }
        let replay = Replay {
            channel,
            after,
            announced: false,
            reading: None,
        };
        session.extra().replays.push_back(replay);
        self.next_of_the_past(conn, out);
    }

    /// From now on live frames reach the session directly.
    pub(crate) fn go_live(&mut self, conn: ConnId, channel: ChannelId) {
        let place = self.subscribers.join(channel, conn);
        let held = self
            .sessions
            .get(conn)
            .and_then(|session| session.subscription(channel));
        held.expect("who goes live is subscribed").state = SubscriptionState::Live(place);
    }

    /// The commands that waited behind this SUBSCRIBE_CHANNEL, up to the next one.
    fn carry_out_parked(&mut self, conn: ConnId, request: RequestId, out: &mut Outbox) {
        let Some(session) = self.sessions.get(conn) else {
            return;
        };
        let Some(extra) = &mut session.extra else {
            return;
        };
        if extra.waiting_for != Some(request) {
            return;
        }
        extra.waiting_for = None;
        loop {
            let Some(session) = self.sessions.get(conn) else {
                return;
            };
            let Some(extra) = &mut session.extra else {
                return;
            };
            if extra.waiting_for.is_some() {
                return;
            }
            let Some(command) = extra.parked.pop_front() else {
                return session.trim();
            };
            self.carry_out(conn, command, out);
        }
    }

    /// UNSUBSCRIBE_CHANNEL, when its turn has come.
    pub(crate) fn unsubscribe(&mut self, conn: ConnId, channel: ChannelId, out: &mut Outbox) {
        let Some(session) = self.sessions.get(conn) else {
            return;
        };
        let held = session
            .subscriptions
            .iter()
            .position(|held| held.channel == channel);
        let Some(position) = held else { return };
        let subscription = session.subscriptions.swap_remove(position);
        if let Some(extra) = &mut session.extra {
            extra.replays.retain(|replay| replay.channel != channel);
        }
        session.trim();
        self.drop_subscription(conn, subscription, out);
        self.next_of_the_past(conn, out);
    }

    /// A subscription has been taken out of its session.
    pub(crate) fn drop_subscription(
        &mut self,
        conn: ConnId,
        subscription: Subscription,
        out: &mut Outbox,
    ) {
        let channel = subscription.channel;
        match subscription.state {
            SubscriptionState::Requested(_) => {} // Abandoned when the answer comes.
            SubscriptionState::Replaying => self.abandon(channel, out),
            SubscriptionState::Live(place) => {
                let left = self.subscribers.leave(channel, place);
                for (moved, place) in left.moves {
                    assert!(moved != conn, "a session is once in a channel's list");
                    self.move_live(moved, channel, place);
                }
                let owner = self.channel_owner(channel);
                self.handed_on(owner, left.released_bytes, out);
                if left.unheard {
                    self.unhear(channel, out);
                }
            }
        }
    }

    /// A live session has another place among the listeners.
    pub(crate) fn move_live(&mut self, conn: ConnId, channel: ChannelId, place: u32) {
        let held = self
            .sessions
            .get(conn)
            .and_then(|session| session.subscription(channel));
        held.expect("who is live is subscribed").state = SubscriptionState::Live(place);
    }

    fn abandon(&mut self, channel: ChannelId, out: &mut Outbox) {
        if self.subscribers.abandon(channel) {
            self.unhear(channel, out);
        }
    }

    fn unhear(&mut self, channel: ChannelId, out: &mut Outbox) {
        let owner = self.channel_owner(channel);
        self.say(owner, LaneMessage::Unsubscribe { channel }, out);
    }
}

const TOO_MANY_SUBSCRIPTIONS: Refusal = Refusal {
    code: ErrorCode::Unavailable,
    message: "this session has as many subscriptions as are allowed; unsubscribe from some first",
    retry_after_ms: None,
};
