//! Connections that are there and subscribed: what each costs the server, and how fast they come.
//!
//! It counts the memory of processes. The kernel's is counted by `throng-bench idle`, for Throng.
//!
//! Invariants: a warm-up that came, heard and left precedes the first count, so that what a server
//! keeps for good is no connection's; connections count only if all of them hear a message
//! afterwards.

use std::time::Duration;

use serde::Serialize;

use super::audience::Audience;
use super::server::Server;
use crate::clock::pause;
use crate::error::BenchError;
use crate::memory;
use crate::swarm::calibrate::SETTLE;

/// Connections of the warm-up, as in `throng-bench idle`.
const WARM_UP: u32 = 200;
/// Messages that each of them hears.
const WARM_UP_MESSAGES: u64 = 40;

/// What idle connections cost.
#[derive(Clone, Default, Debug, Serialize)]
pub(super) struct IdleRound {
    /// Connections, each with a subscription.
    pub(super) connections: u32,
    /// Growth of the resident memory of the server's processes, bytes a connection, at the end.
    pub(super) user_bytes_per_connection: f64,
    /// The same just after the last one came.
    pub(super) user_bytes_per_connection_at_start: f64,
    /// Connections that became ready, a second, on average.
    pub(super) handshakes_per_s: f64,
    /// Processor time of the server's processes a connection that came, microseconds.
    pub(super) server_cpu_us_per_handshake: f64,
    /// The least number of connections during the hold.
    pub(super) least: u32,
    /// How many heard the message at the end.
    pub(super) heard: u64,
}

impl IdleRound {
    /// Whether all were held, and heard.
    pub(super) const fn is_clean(&self) -> bool {
        self.least == self.connections && self.heard == self.connections as u64
    }
}

/// Holds so many connections for so long.
///
/// # Errors
/// When not all come, or a ring fails.
pub(super) fn measure(
    server: &Server,
    connections: u32,
    size: usize,
    hold: Duration,
) -> Result<IdleRound, BenchError> {
    let mut audience = Audience::open(server, connections, size)?;
    audience.come(connections.min(WARM_UP))?;
    audience.closed_times(WARM_UP_MESSAGES)?;
    audience.dismiss()?;
    pause(SETTLE);
    let (empty, empty_cpu_s) = (server.resident_bytes(), server.cpu_s());
    let took_s = audience.come(connections)?;
    let came_cpu_s = server.cpu_s() - empty_cpu_s;
    let mut least = audience.stay(SETTLE)?;
    let full = server.resident_bytes();
    least = least.min(audience.stay(hold)?);
    let held = server.resident_bytes();
    let each = |bytes: i64| memory::float(bytes - empty) / f64::from(connections);
    Ok(IdleRound {
        connections,
        user_bytes_per_connection: each(held),
        user_bytes_per_connection_at_start: each(full),
        handshakes_per_s: f64::from(connections) / took_s.max(1e-6),
        server_cpu_us_per_handshake: came_cpu_s * 1e6 / f64::from(connections),
        least,
        heard: audience.closed_times(1)?.deliveries,
    })
}
