//! Throng's control plane: accounts, guilds, invites, and everything that speaks HTTP.
//!
//! Ordinary async Rust on its own tokio threads. It never touches a WebSocket, a message log or a
//! shard's memory: shards ask and are asked through bounded queues, in owned data. The modules
//! stand in the order in which a request or a question meets them.
//!
//! Invariants: what a 2xx answer says is committed in the database; a change of who may see what
//! is answered 2xx only after every shard has dropped what it knew; no user learns of a guild that
//! they are not a member of.

mod config;
mod error;

mod control;

mod ask;
mod link;

mod answers;

mod serve;
mod stream;

mod rest;

mod refusal;

mod app;

mod token;

mod password;

mod rate;

mod directory;

mod cache;

mod lookup;

mod accounts;

mod guilds;

mod database;

mod entropy;

mod shards;

mod seed;

pub use ask::{
    Access, Answer, Ask, AskId, FromShard, GuildFragment, HistoryError, HistoryQuery, ShardStatus,
    ToShard,
};
pub use config::{ControlConfig, ControlLimits, PasswordCost, Rate};
pub use control::{Control, ControlHandle};
pub use error::ControlError;
pub use link::{HandedOver, Inlet, OwnerOf, ShardLink};
pub use seed::{CIRCLE_CHANNELS, CIRCLE_USERS_MAX, Seeding, seed_users};
