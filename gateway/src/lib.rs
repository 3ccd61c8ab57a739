//! Throng: a real-time chat server for very many WebSocket connections on one Linux box.
//!
//! A shard is a deterministic state machine ([`shard::Shard`]); everything that touches the
//! kernel is an edge ([`edge`]). The modules stand in the order of a message's way: from the
//! socket to the session, over a lane to the channel's owner, into a commit, and from there out
//! to everybody who hears the channel.

pub mod config;

pub mod io;

pub mod connection;
mod intake;
mod name;
mod pages;
mod receive;
mod session;
mod subscriptions;

mod identify;
mod requests;

mod message;
mod subscribe;

pub mod lane;
pub mod shard;

pub mod limits;
mod user;

mod access;
mod nonces;
mod owner;
pub mod record;

mod audience;
mod commit;
pub mod compression;
pub mod egress;
mod fanout;
pub mod heads;
pub mod spool;
mod subscribers;

mod history;
mod missed;
mod replay;

mod timers;
pub mod wheel;

pub mod echo;
pub mod edge;

#[cfg(test)]
mod footprint;

pub mod chat;
pub mod store_tools;
