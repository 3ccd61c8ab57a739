//! What every request and every answer to a shard works with, in one place.
//!
//! Holds no state of its own beyond its parts.
//!
//! Invariants: made once at start; shared by all tasks of the control plane and nobody else.

use std::net::IpAddr;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use throng_protocol::UserId;
use tokio::time::Instant;

use crate::config::{ControlConfig, ControlLimits};
use crate::database::Database;
use crate::directory::Directory;
use crate::password::Passwords;
use crate::rate::Limiter;
use crate::refusal::Refusal;
use crate::shards::Shards;
use crate::token::Tokens;

/// See the file's head.
pub(crate) struct App {
    pub(crate) config: ControlConfig,
    pub(crate) database: Database,
    pub(crate) directory: Directory,
    pub(crate) shards: Shards,
    pub(crate) tokens: Tokens,
    pub(crate) passwords: Passwords,
    pub(crate) rates: Rates,
}

/// Who does what how often.
pub(crate) struct Rates {
    registers: Mutex<Limiter<IpAddr>>,
    login_failures: Mutex<Limiter<IpAddr>>,
    channel_creates: Mutex<Limiter<UserId>>,
}

impl Rates {
    /// Nobody has done anything yet.
    pub(crate) fn new(limits: &ControlLimits) -> Self {
        Self {
            registers: Mutex::new(Limiter::new(limits.register)),
            login_failures: Mutex::new(Limiter::new(limits.login_failures)),
            channel_creates: Mutex::new(Limiter::new(limits.channel_create)),
        }
    }

    /// Somebody registers.
    pub(crate) fn register(&self, from: IpAddr) -> Result<(), Refusal> {
        with(&self.registers, |limiter| {
            limiter.hit(network(from), Instant::now())
        })
    }

    /// Somebody wants to log in; counted only when it fails.
    pub(crate) fn login(&self, from: IpAddr) -> Result<(), Refusal> {
        with(&self.login_failures, |limiter| {
            limiter.check(network(from), Instant::now())
        })
    }

    /// A log-in failed.
    pub(crate) fn login_failed(&self, from: IpAddr) -> Result<(), Refusal> {
        with(&self.login_failures, |limiter| {
            limiter.hit(network(from), Instant::now())
        })
    }

    /// Somebody creates a channel.
    pub(crate) fn channel_create(&self, user: UserId) -> Result<(), Refusal> {
        with(&self.channel_creates, |limiter| {
            limiter.hit(user, Instant::now())
        })
    }
}

fn with<K>(
    limiter: &Mutex<Limiter<K>>,
    act: impl FnOnce(&mut Limiter<K>) -> Result<(), Duration>,
) -> Result<(), Refusal> {
    // A count that a panic left behind is still a count.
    let mut limiter = limiter.lock().unwrap_or_else(PoisonError::into_inner);
    act(&mut limiter).map_err(Refusal::RateLimited)
}

/// What counts as one address: whoever has one IPv6 address has its whole /64.
fn network(address: IpAddr) -> IpAddr {
    match address.to_canonical() {
        IpAddr::V6(address) => IpAddr::V6((address.to_bits() & (u128::MAX << 64)).into()),
        address => address,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_ipv6_address_counts_as_its_network() {
        let check = |address: &str, expected: &str| {
            let (address, expected): (IpAddr, IpAddr) =
                (address.parse().unwrap(), expected.parse().unwrap());
            assert_eq!(network(address), expected);
        };
        check("192.0.2.7", "192.0.2.7");
        check("::ffff:192.0.2.7", "192.0.2.7");
        check("2001:db8:1:2:3:4:5:6", "2001:db8:1:2::");
    }
}
