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
use crate::session::{Replay, SessionIndex};
use crate::shard::{Purpose, Shard};
use crate::subscribers::HeardId;
use crate::subscriptions::{Subscription, SubscriptionState};

impl Shard {
    /// SUBSCRIBE_CHANNEL, when its turn has come.
    pub(crate) fn subscribe(
        &mut self,
        conn: ConnId,
        channel: ChannelId,
        after: Option<Seq>,
        out: &mut Outbox,
    ) {
        if let Some((heard, state)) = self.subscription(conn, channel) {
            if let (None, SubscriptionState::Live(place)) = (after, state) {
                let (seq, rev) = self.subscribers.told(heard, place);
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
            if self.subscription(conn, channel).is_none() {
                self.request_subscription(conn, channel, Some(after), out);
            }
        }
    }

    /// The session's subscription to a channel, if there is one.
    fn subscription(
        &self,
        conn: ConnId,
        channel: ChannelId,
    ) -> Option<(HeardId, SubscriptionState)> {
        let heard = self.subscribers.number(channel)?;
        Some((heard, self.sessions.subscription(conn, heard)?))
    }

    fn request_subscription(
        &mut self,
        conn: ConnId,
        channel: ChannelId,
        after: Option<Seq>,
        out: &mut Outbox,
    ) -> Option<RequestId> {
        let user = self.sessions.get(conn)?.user()?;
        let count = self.sessions.subscriptions_count(conn);
        if count >= self.config.limits.subscriptions_max {
            self.error(conn, TOO_MANY_SUBSCRIPTIONS, None, out);
            return None;
        }
        if !self.requests.has_room() {
            self.error(conn, Refusal::UNAVAILABLE, None, out);
            return None;
        }
        let heard = self.subscribers.expect(channel);
        let purpose = Purpose::Subscribe(heard, after);
        let request = self.requests.open(conn, purpose)?;
        let state = SubscriptionState::Requested(request);
        self.sessions
            .push_subscription(conn, Subscription { heard, state });
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
        heard: HeardId,
        after: Option<Seq>,
        reply: Reply,
        out: &mut Outbox,
    ) {
        if let Reply::Subscribed { seq, rev } = reply {
            self.subscribers.registered(heard, seq, rev);
        }
        let state = self.sessions.subscription(conn, heard);
        let is_wanted = state == Some(SubscriptionState::Requested(request));
        match (is_wanted, reply) {
            (true, Reply::Subscribed { seq, rev }) => {
                self.start_subscription(conn, heard, after, seq, rev, out);
            }
            (true, Reply::Refused(refusal)) => {
                self.unsubscribe(conn, self.subscribers.channel(heard), out);
                self.abandon(heard, out);
                self.error(conn, refusal, None, out);
            }
            (true, _) => unreachable!("a Subscribe is answered with Subscribed or Refused"),
            (false, _) => self.abandon(heard, out), // Ended while it was asked for.
        }
        self.carry_out_parked(conn, request, out);
    }

    /// Live at once, or after the past has been told.
    fn start_subscription(
        &mut self,
        conn: ConnId,
        heard: HeardId,
        after: Option<Seq>,
        seq: Seq,
        rev: Rev,
        out: &mut Outbox,
    ) {
        let Some(after) = after else {
            let channel_id = self.subscribers.channel(heard);
            self.send(
                conn,
                &Event::Subscribed {
                    channel_id,
                    seq,
                    rev,
                },
                out,
            );
            return self.go_live(conn, heard);
        };
        self.set_subscription(conn, heard, SubscriptionState::Replaying);
        let replay = Replay {
            heard,
            after,
            announced: false,
            reading: None,
        };
        let session = self.sessions.get(conn).expect("who is subscribed is there");
        session.extra().replays.push_back(replay);
        self.next_of_the_past(conn, out);
    }

    /// From now on live frames reach the session directly.
    pub(crate) fn go_live(&mut self, conn: ConnId, heard: HeardId) {
        let place = self.subscribers.join(heard, SessionIndex(conn.index));
        self.set_subscription(conn, heard, SubscriptionState::Live(place));
    }

    fn set_subscription(&mut self, conn: ConnId, heard: HeardId, state: SubscriptionState) {
        let session = SessionIndex(conn.index);
        self.sessions.set_subscription(session, heard, state);
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
                return self.trim(conn);
            };
            self.carry_out(conn, command, out);
        }
    }

    /// UNSUBSCRIBE_CHANNEL, when its turn has come.
    pub(crate) fn unsubscribe(&mut self, conn: ConnId, channel: ChannelId, out: &mut Outbox) {
        let Some(heard) = self.subscribers.number(channel) else {
            return;
        };
        let Some(subscription) = self.sessions.remove_subscription(conn, heard) else {
            return;
        };
        let session = self.sessions.get(conn);
        if let Some(extra) = session.and_then(|session| session.extra.as_mut()) {
            extra.replays.retain(|replay| replay.heard != heard);
        }
        self.trim(conn);
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
        let heard = subscription.heard;
        match subscription.state {
            SubscriptionState::Requested(_) => {} // Abandoned when the answer comes.
            SubscriptionState::Replaying => self.abandon(heard, out),
            SubscriptionState::Live(place) => {
                let channel = self.subscribers.channel(heard);
                let left = self.subscribers.leave(heard, place);
                for (moved, place) in left.moves {
                    let SessionIndex(index) = moved;
                    assert!(index != conn.index, "a session is once in a channel's list");
                    self.move_live(moved, heard, place);
                }
                self.handed_on(channel, left.given_up, out);
                if left.unheard {
                    self.unhear(channel, out);
                }
            }
        }
    }

    /// A live session has another place among the listeners.
    pub(crate) fn move_live(&mut self, session: SessionIndex, heard: HeardId, place: u32) {
        let state = SubscriptionState::Live(place);
        self.sessions.set_subscription(session, heard, state);
    }

    fn abandon(&mut self, heard: HeardId, out: &mut Outbox) {
        let channel = self.subscribers.channel(heard);
        if self.subscribers.abandon(heard) {
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
