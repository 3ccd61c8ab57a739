//! Two shards and a crowd of sessions, as in the load that the memory budget is written for.
//!
//! Everybody is in one large guild with one channel and in a circle of four with four channels,
//! and hears all five. The driver stands for the edge, the store and the control plane; it keeps
//! nothing about a session, so that what is allocated is the shards'.
//!
//! Invariant: outputs are carried out in their order, and before the next input.

use std::collections::VecDeque;
use std::sync::Arc;

use bytes::Bytes;
use throng::config::Config;
use throng::heads::Heads;
use throng::io::{Application, ConnId, Input, Outbox, Output, ShardId};
use throng::lane::LaneMessage;
use throng::shard::{Shard, ShardStart};
use throng_control::{Access, Answer, Ask, FromShard, GuildFragment, ToShard};
use throng_protocol::frame::{Opcode, encode_masked};
use throng_protocol::{ChannelId, GuildId, User, UserId, UserStatus};

/// Shards of the node.
const SHARDS: u16 = 2;

/// Members and channels of a circle.
const CIRCLE: u32 = 4;

/// What a client begins with.
pub(crate) const UPGRADE: &str = "GET /gateway HTTP/1.1\r\nHost: throng\r\nUpgrade: websocket\r\n\
    Connection: Upgrade\r\nSec-WebSocket-Version: 13\r\n\
    Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n";

/// The channel that everybody hears.
pub(crate) const EVERYBODY: ChannelId = ChannelId::from_u128(1);
const EVERYBODYS_GUILD: GuildId = GuildId::from_u128(2);

/// See the file's head.
pub(crate) struct Crowd {
    shards: Vec<Shard>,
    /// Where each user's socket is; room is made before anything is counted.
    sockets: Vec<(u16, u32)>,
    outbox: Outbox,
    due: VecDeque<(u16, Due)>,
    now_ms: u64,
    /// Frames for single sockets and for many, and recipients of the latter.
    pub(crate) sent: u64,
    pub(crate) broadcasts: u64,
    pub(crate) recipients: u64,
}

/// What a shard is to be told.
enum Due {
    Lane(ShardId, LaneMessage),
    Control(ToShard),
    Committed(throng::io::CommitId),
    Writable(ConnId),
    Again,
}

/// An id that looks like any other, the same at every run.
pub(crate) fn id(kind: u8, number: u32) -> u128 {
    let mut bits = (u128::from(kind) << 64) | u128::from(number) | 1 << 100;
    for _ in 0..3 {
        bits = bits.wrapping_mul(0x2360_ED05_1FC6_5DA4_4385_DF64_9FCC_F645);
        bits ^= bits >> 67;
    }
    bits
}

pub(crate) fn user(number: u32) -> UserId {
    UserId::from_u128(id(1, number))
}

/// One of the four channels of a user's circle; the circle's number stands in it, for the control
/// plane to read.
pub(crate) fn circle_channel(number: u32, which: u32) -> ChannelId {
    let circle = number / CIRCLE;
    let noise = id(2, circle * CIRCLE + which) >> 32 << 32;
    ChannelId::from_u128(noise | u128::from(circle))
}

fn circle(circle: u32) -> GuildId {
    GuildId::from_u128(id(3, circle))
}

impl Crowd {
    /// Two shards without sessions, for users below `users`.
    pub(crate) fn new(config: &Config, users: u32) -> Self {
        let shard = |id| {
            Shard::new(ShardStart {
                id: ShardId(id),
                shards: SHARDS,
                config: config.clone(),
                seed: u64::from(id) + 7,
                now_ms: 1_700_000_000_000,
                heads: Heads::default(),
                recent: Vec::new(),
            })
        };
        Self {
            shards: (0..SHARDS).map(shard).collect(),
            sockets: sockets(users),
            outbox: Outbox::new(),
            due: VecDeque::new(),
            now_ms: 1_700_000_000_000,
            sent: 0,
            broadcasts: 0,
            recipients: 0,
        }
    }

    /// A user connects, identifies and subscribes to five channels.
    pub(crate) fn enter(&mut self, number: u32) {
        let (shard, conn) = self.socket(number);
        self.give(shard, Input::Accepted { conn });
        self.receive(number, &mut UPGRADE.as_bytes().to_vec());
        self.say(
            number,
            &format!(r#"{{"type":"IDENTIFY","token":"{number}"}}"#),
        );
        let channels = (0..CIRCLE).map(|which| circle_channel(number, which));
        for channel in channels.chain([EVERYBODY]) {
            let subscribe = format!(r#"{{"type":"SUBSCRIBE_CHANNEL","channelId":"{channel}"}}"#);
            self.say(number, &subscribe);
        }
    }

    /// The shard and the place in it of a user's socket.
    pub(crate) fn socket(&self, number: u32) -> (u16, ConnId) {
        let (shard, index) = self.sockets[number as usize];
        let generation = 1;
        (shard, ConnId { index, generation })
    }

    /// The user's socket is gone.
    pub(crate) fn leave(&mut self, number: u32) {
        let (shard, conn) = self.socket(number);
        self.give(shard, Input::Closed { conn });
    }

    /// A client's command.
    pub(crate) fn say(&mut self, number: u32, text: &str) {
        let mut frame = encode_masked(Opcode::Text, text.as_bytes(), [1, 2, 3, 4]).to_vec();
        self.receive(number, &mut frame);
    }

    /// Bytes from a client.
    pub(crate) fn receive(&mut self, number: u32, bytes: &mut [u8]) {
        let (shard, conn) = self.socket(number);
        self.give(shard, Input::Received { conn, bytes });
    }

    /// Time passes, tick by tick.
    pub(crate) fn pass(&mut self, ms: u64) {
        for _ in 0..ms / 100 {
            self.now_ms += 100;
            for shard in 0..SHARDS {
                self.give(shard, Input::Tick);
            }
        }
    }

    /// Gives a shard an input, and then what comes of it until nothing does.
    pub(crate) fn give(&mut self, shard: u16, input: Input<'_>) {
        self.handle(shard, input);
        while let Some((shard, due)) = self.due.pop_front() {
            let input = match due {
                Due::Lane(from, message) => Input::Lane { from, message },
                Due::Control(message) => Input::Control(message),
                Due::Committed(commit) => Input::Committed {
                    commit,
                    result: Ok(()),
                },
                Due::Writable(conn) => Input::Writable { conn },
                Due::Again => Input::Again,
            };
            self.handle(shard, input);
        }
    }

    fn handle(&mut self, shard: u16, input: Input<'_>) {
        self.shards[usize::from(shard)].handle(self.now_ms, input, &mut self.outbox);
        let mut batch = self.outbox.drain();
        while let Some(output) = batch.next() {
            let due = match output {
                Output::Send { .. } => {
                    self.sent += 1;
                    continue;
                }
                Output::Broadcast { to, .. } => {
                    self.broadcasts += 1;
                    self.recipients += batch.recipients(&to).len() as u64;
                    continue;
                }
                Output::Forward { to, message } => (to.0, Due::Lane(ShardId(shard), message)),
                Output::Control(FromShard::Ask { ask, ask_body }) => {
                    let answer = answer(&ask_body);
                    (shard, Due::Control(ToShard::Answer { ask, answer }))
                }
                Output::Append { commit, .. } => (shard, Due::Committed(commit)),
                Output::Watch { conn } => (shard, Due::Writable(conn)),
                Output::Again => (shard, Due::Again),
                other => panic!("nobody asked for {other:?}"),
            };
            self.due.push_back(due);
        }
    }
}

/// On either shard by chance, and there in the next place.
fn sockets(users: u32) -> Vec<(u16, u32)> {
    let mut next = [0; SHARDS as usize];
    let mut socket = |number| {
        let shard = u16::from(id(4, number) % 2 == 1);
        let index = &mut next[usize::from(shard)];
        *index += 1;
        (shard, *index - 1)
    };
    (0..users).map(&mut socket).collect()
}

/// What the control plane says.
fn answer(ask: &Ask) -> Answer {
    match ask {
        Ask::Identify { token } => {
            let number = token.parse().expect("tokens are numbers");
            Answer::Identified {
                user: User {
                    id: user(number),
                    username: format!("s0a1b2_{number}"),
                    discriminator: "0001".to_owned(),
                    avatar_url: None,
                    status: UserStatus::Online,
                    custom_status: None,
                },
                guilds: vec![
                    fragment(EVERYBODYS_GUILD),
                    fragment(circle(number / CIRCLE)),
                ],
            }
        }
        Ask::Access { channel, .. } => {
            let low = channel.as_u128() & u128::from(u32::MAX);
            let guild = match *channel == EVERYBODY {
                true => EVERYBODYS_GUILD,
                false => circle(u32::try_from(low).expect("it was cut off")),
            };
            Answer::Access {
                guild,
                guild_version: 1,
                access: Access::Member,
            }
        }
    }
}

fn fragment(id: GuildId) -> Arc<GuildFragment> {
    Arc::new(GuildFragment {
        id,
        version: 1,
        json: Bytes::from_static(b"{}"),
        channels: Vec::new(),
    })
}
