//! `throng echo`: the echo on real sockets.
//!
//! It reads no configuration but an address, a number of shards and how sockets are served.
//!
//! Invariant: SIGTERM and SIGINT end it well, with every client told.

use std::net::SocketAddr;

use super::error::EdgeError;
use super::executor::{ShardParts, Shards};
use super::pump::NoServices;
use super::settings::EdgeSettings;
use super::signal::on_terminate;
use super::wake::ShardWaker;
use crate::config::ReceiveMode;
use crate::echo::{Echo, MESSAGE_BYTES_MAX};

/// What one socket may be owed: a message being sent, one behind it, and what a burst of receives
/// brings before reading stops.
const BACKLOG_BYTES_MAX: usize = 2 * MESSAGE_BYTES_MAX + (4 << 20);
/// A socket that is owed more is not read.
const UNREAD_BYTES_MAX: usize = 256 << 10;
/// How long clients get to leave at the end, in milliseconds.
const DRAIN_MS_MAX: u64 = 2_000;

/// Serves the echo until the process is asked to end. `ready` hears the address once it serves.
///
/// # Errors
/// The address cannot be had, the kernel lacks something, or a shard ended unexpectedly.
pub fn run_echo(
    listen: SocketAddr,
    shards: u16,
    mode: ReceiveMode,
    ready: impl FnOnce(SocketAddr),
) -> Result<(), EdgeError> {
    let mut settings = EdgeSettings::new(listen, shards);
    settings.mode = mode;
    settings.backlog_bytes_max = BACKLOG_BYTES_MAX;
    settings.unread_bytes_max = Some(UNREAD_BYTES_MAX);
    settings.drain_ms_max = DRAIN_MS_MAX;
    let (asked, asking) = crossbeam::channel::bounded(1);
    on_terminate(move || {
        let _ = asked.try_send(());
    })?;
    let wakers = (0..shards)
        .map(|_| ShardWaker::new())
        .collect::<Result<Vec<_>, _>>()?;
    let running = Shards::start(&settings, &wakers, |_, _| async {
        Ok::<_, EdgeError>(ShardParts {
            application: Echo::new(),
            services: NoServices,
            take_over: Box::new(|_, _| unreachable!("the echo answers HTTP itself")),
            at_least_ms: 0,
        })
    })?;
    let drain = running.drain();
    std::thread::Builder::new()
        .name("drain".to_owned())
        .spawn(move || asking.iter().for_each(|()| drain.ask()))
        .map_err(EdgeError::kernel("starting a thread"))?;
    ready(running.address());
    running.wait()
}
