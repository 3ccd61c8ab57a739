//! The owner of a channel: who may act there, and what order their messages have.
//!
//! What a user wishes to do in a channel is done at once when their membership is known here;
//! otherwise it waits, in its order, for the control plane's word. A message that answers another
//! waits, in its order too, until the store has said whether there is such a one.
//!
//! Invariants: nothing is done in a channel by who is not a member; wishes of one user in one
//! channel are carried out in the order in which they came; a message gets its place only when
//! its nonce is new, its rate allows it and there is room for it all the way out.

use std::collections::{HashMap, VecDeque};

use bytes::Bytes;
use smallvec::SmallVec;
use throng_control::{Access, Answer, Ask};
use throng_protocol::{
    Author, ChannelId, ErrorCode, Event, Message, MessageId, Rev, Seq, Timestamp, UserId,
    encode_frame,
};

use crate::access::Epoch;
use crate::commit::PendingMessage;
use crate::io::{Outbox, ShardId};
use crate::lane::{LaneMessage, RateState, Refusal, Reply, ReplyTo, SendRequest};
use crate::nonces::{NonceKey, Seen};
use crate::record::{self, CreateV1};
use crate::shard::{AskedFor, Shard, topic};

/// What a user wishes to do in a channel.
#[derive(Debug)]
pub(crate) enum Wish {
    /// Send a message.
    Send(Box<SendRequest>),
    /// Hear the channel from a shard.
    Subscribe(ReplyTo),
    /// Show that they started or stopped typing.
    Typing(ReplyTo, bool),
}

/// Wishes that wait for the control plane, or for the store to find the message that the first of
/// them answers; bounded by the requests of all shards.
#[derive(Debug, Default)]
pub(crate) struct Waiting {
    wishes: HashMap<(UserId, ChannelId), VecDeque<Wish>>,
}

impl Shard {
    /// A message arrived. One over its author's rate is not worth a question to the control plane:
    /// only a resent one is answered, and those are known here.
    pub(crate) fn ordered(&mut self, request: Box<SendRequest>, out: &mut Outbox) {
        let (user, channel) = (request.user, request.channel);
        let is_over = matches!(request.rate, RateState::Over { .. });
        if is_over && !self.waiting.wishes.contains_key(&(user, channel)) {
            return self.sequence(request, true, out);
        }
        self.with_access(user, channel, Wish::Send(request), out);
    }

    /// Carries a wish out, now or when the control plane has said that the user may.
    pub(crate) fn with_access(
        &mut self,
        user: UserId,
        channel: ChannelId,
        wish: Wish,
        out: &mut Outbox,
    ) {
        if let Some(queue) = self.waiting.wishes.get_mut(&(user, channel)) {
            queue.push_back(wish);
        } else if !self.access.knows(user, channel) {
            self.waiting
                .wishes
                .insert((user, channel), VecDeque::from([wish]));
            self.ask_access(user, channel, out);
        } else if wish.answered().is_some() {
            self.grant_all(user, channel, VecDeque::from([wish]), out);
        } else {
            self.grant(user, channel, wish, out);
        }
    }

    /// Carries out what waited, up to a message whose answered message must be looked for.
    fn grant_all(
        &mut self,
        user: UserId,
        channel: ChannelId,
        mut wishes: VecDeque<Wish>,
        out: &mut Outbox,
    ) {
        while let Some(wish) = wishes.pop_front() {
            match wish.answered() {
                None => self.grant(user, channel, wish, out),
                Some(answered) if self.look_for(user, channel, answered, out) => {
                    wishes.push_front(wish);
                    self.waiting.wishes.insert((user, channel), wishes);
                    return;
                }
                Some(_) => self.turn_away(&wish, Refusal::UNAVAILABLE, out),
            }
        }
    }

    /// The store has said whether the message exists that the first waiting wish answers; `None`
    /// if it cannot say.
    pub(crate) fn looked_for(
        &mut self,
        user: UserId,
        channel: ChannelId,
        exists: Option<bool>,
        out: &mut Outbox,
    ) {
        let waiting = self.waiting.wishes.remove(&(user, channel));
        let mut wishes = waiting.expect("who is looked for is waited for");
        if !self.access.knows(user, channel) {
            self.waiting.wishes.insert((user, channel), wishes);
            return self.ask_access(user, channel, out);
        }
        match (wishes.pop_front(), exists) {
            (Some(Wish::Send(request)), Some(exists)) => self.sequence(request, exists, out),
            (Some(wish), _) => self.turn_away(&wish, Refusal::UNAVAILABLE, out),
            (None, _) => unreachable!("the first wish waited"),
        }
        self.grant_all(user, channel, wishes, out);
    }

    fn ask_access(&mut self, user: UserId, channel: ChannelId, out: &mut Outbox) {
        let purpose = AskedFor::Access(user, channel, self.access.epoch());
        if !self.ask(Ask::Access { user, channel }, purpose, out) {
            self.deny(user, channel, Refusal::UNAVAILABLE, out);
        }
    }

    /// The control plane has answered.
    pub(crate) fn access_answered(
        &mut self,
        user: UserId,
        channel: ChannelId,
        epoch: Epoch,
        answer: Answer,
        out: &mut Outbox,
    ) {
        match answer {
            Answer::Access {
                access: Access::Member,
                guild,
                guild_version,
            } => {
                if !self
                    .access
                    .learn(user, channel, guild, guild_version, epoch)
                {
                    return self.ask_access(user, channel, out);
                }
                let wishes = self
                    .waiting
                    .wishes
                    .remove(&(user, channel))
                    .unwrap_or_default();
                self.grant_all(user, channel, wishes, out);
            }
            Answer::Access {
                access: Access::NotMember,
                guild,
                guild_version,
            } => {
                if !self.access.is_current(guild, guild_version, epoch) {
                    return self.ask_access(user, channel, out);
                }
                self.deny(user, channel, Refusal::PERMISSION_DENIED, out);
            }
            Answer::Access {
                access: Access::NoSuchChannel,
                ..
            } => {
                self.deny(user, channel, Refusal::CHANNEL_NOT_FOUND, out);
            }
            Answer::Identified { .. } | Answer::BadToken | Answer::Unavailable => {
                self.deny(user, channel, Refusal::UNAVAILABLE, out);
            }
        }
    }

    fn deny(&mut self, user: UserId, channel: ChannelId, refusal: Refusal, out: &mut Outbox) {
        for wish in self
            .waiting
            .wishes
            .remove(&(user, channel))
            .unwrap_or_default()
        {
            self.turn_away(&wish, refusal, out);
        }
    }

    fn turn_away(&mut self, wish: &Wish, refusal: Refusal, out: &mut Outbox) {
        if let Wish::Send(request) = wish {
            self.uncount(request, out);
        }
        self.refuse(wish.reply_to(), refusal, out);
    }

    fn grant(&mut self, user: UserId, channel: ChannelId, wish: Wish, out: &mut Outbox) {
        match wish {
            Wish::Send(request) => self.sequence(request, true, out),
            Wish::Subscribe(reply_to) => {
                self.interest.add(&topic(channel), reply_to.shard.0);
                let (seq, rev) = self.committed_head(channel);
                self.reply(reply_to, Reply::Subscribed { seq, rev }, out);
            }
            Wish::Typing(reply_to, started) => {
                let event = match started {
                    true => Event::TypingStart {
                        channel_id: channel,
                        user_id: user,
                    },
                    false => Event::TypingStop {
                        channel_id: channel,
                        user_id: user,
                    },
                };
                self.publish_typing(channel, encode_frame(&event), out);
                self.reply(reply_to, Reply::Done, out);
            }
        }
    }

    /// The last place and record count of a channel that are synced.
    pub(crate) fn committed_head(&self, channel: ChannelId) -> (Seq, Rev) {
        self.heads.get(channel)
    }

    /// A message that its author may send: a resent one is answered with the first, a new one gets
    /// its place, unless it answers one that does not exist.
    fn sequence(&mut self, mut request: Box<SendRequest>, is_answerable: bool, out: &mut Outbox) {
        let key = NonceKey {
            channel: request.channel,
            author: request.user,
            nonce: request.nonce,
        };
        match self.nonces.look_up(key, request.reply_to) {
            Seen::Stored(message, seq) => {
                self.uncount(&request, out);
                self.reply(request.reply_to, Reply::Acked { message, seq }, out);
            }
            Seen::Pending { noted } => {
                self.uncount(&request, out);
                if !noted {
                    self.refuse(request.reply_to, Refusal::UNAVAILABLE, out);
                }
            }
            Seen::New => match request.rate {
                RateState::Over { retry_after_ms } => {
                    let refusal = Refusal::rate_limited("too many messages", retry_after_ms);
                    self.refuse(request.reply_to, refusal, out);
                }
                RateState::Free | RateState::Counted if is_answerable => {
                    self.admit(key, &mut request, out);
                }
                RateState::Free | RateState::Counted => {
                    self.uncount(&request, out);
                    self.refuse(request.reply_to, MESSAGE_NOT_FOUND, out);
                }
            },
        }
        self.spare_requests.put_back(request);
    }

    /// Gives a new message its place, if there is room for it all the way out.
    fn admit(&mut self, key: NonceKey, request: &mut SendRequest, out: &mut Outbox) {
        let (seq, rev) = self.next_place(request.channel);
        let id = self.ids.next(self.now_ms);
        let record = record::create(request, id, seq, rev);
        let frame = encode_create(request, id, seq, rev);

        let shards: SmallVec<[ShardId; 4]> = self
            .interest
            .shards(&topic(request.channel))
            .map(ShardId)
            .collect();
        let bytes = frame.len() as u64;
        let fits = self.nonces.has_room()
            && self.commits.has_room(&record)
            && shards
                .iter()
                .all(|&shard| self.credits.admits(request.channel, shard, bytes));
        if !fits {
            self.uncount(request, out);
            return self.refuse(request.reply_to, Refusal::UNAVAILABLE, out);
        }
        for &shard in &shards {
            self.credits.reserve(shard, bytes);
        }
        self.nonces.admit(key);
        let pending = PendingMessage {
            reply_to: request.reply_to,
            counted: request.rate == RateState::Counted,
            key,
            message: id,
            seq,
            rev,
            frame,
            reserved: shards,
        };
        self.commits.gather(record, pending);
    }

    /// The place after the last one given out, committed or not.
    fn next_place(&self, channel: ChannelId) -> (Seq, Rev) {
        let (seq, rev) = self
            .commits
            .tail(channel)
            .unwrap_or_else(|| self.committed_head(channel));
        (seq.next(), rev.next())
    }

    /// A message that did not become one does not count against its author's rate.
    fn uncount(&mut self, request: &SendRequest, out: &mut Outbox) {
        if request.rate == RateState::Counted {
            self.give_back(request.user, out);
        }
    }

    /// Tells the user's shard that a counted message did not count.
    pub(crate) fn give_back(&mut self, user: UserId, out: &mut Outbox) {
        self.say(self.user_owner(user), LaneMessage::GiveBack { user }, out);
    }
}

impl Wish {
    /// The message that must exist before this wish can be carried out.
    fn answered(&self) -> Option<MessageId> {
        match self {
            Self::Send(request) => request.reply_to_message,
            Self::Subscribe(_) | Self::Typing(..) => None,
        }
    }

    fn reply_to(&self) -> ReplyTo {
        match self {
            Self::Send(request) => request.reply_to,
            Self::Subscribe(reply_to) | Self::Typing(reply_to, _) => *reply_to,
        }
    }
}

const MESSAGE_NOT_FOUND: Refusal = Refusal {
    code: ErrorCode::MessageNotFound,
    message: "replyTo names no message of this channel",
    retry_after_ms: None,
};

/// MESSAGE_CREATE as it is delivered live, the same for everybody. The texts are lent to the event
/// meanwhile.
fn encode_create(request: &mut SendRequest, id: MessageId, seq: Seq, rev: Rev) -> Bytes {
    let body = std::mem::take(&mut request.body);
    let message = Message {
        id,
        channel_id: request.channel,
        seq,
        rev,
        author: Author {
            id: request.user,
            username: body.username,
        },
        content: body.content,
        timestamp: Timestamp(id.timestamp_ms()),
        edited_at: None,
        attachments: Vec::new(),
        reactions: Vec::new(),
        reply_to: request.reply_to_message,
        nonce: Some(request.nonce),
    };
    let event = Event::MessageCreate { message };
    let frame = encode_frame(&event);
    if let Event::MessageCreate { message } = event {
        request.body = CreateV1 {
            username: message.author.username,
            content: message.content,
        };
    }
    frame
}
