//! What the generator's own end of a connection costs the kernel, so that it can be taken off.
//!
//! Both ends of a run are on one machine, and the kernel does not say whose memory is whose. So
//! the generator's connections are first made to a listener in its own process, whose accepted
//! ends do nothing at all: what such an end is made of is known, and the rest is the generator's.
//!
//! Invariants: the connections are made exactly as in the run; the rings are there before the count
//! begins; all of it is closed again.

use std::collections::BTreeMap;
use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::time::Duration;

use rustix::event::{EventfdFlags, eventfd};
use socket2::{Domain, Socket, Type};

use super::buffers::BufferSizes;
use super::links::{Happened, Link, LinkSettings, Links};
use super::ring::{Operation, Ring};
use crate::clock::{Clock, pause};
use crate::memory::{Kernel, sockets};

const MS: u64 = 1_000_000;
/// Connections that complete ahead of `accept`.
const PENDING_MAX: i32 = 1_024;
/// Dials under way: fewer than may wait for `accept`.
const UNDER_WAY_MAX: u32 = 256;
/// Connecting to one's own process takes a second or two.
const CONNECT_S_MAX: f64 = 60.0;
/// How long the kernel gets to free what was closed.
pub const SETTLE: Duration = Duration::from_secs(2);
/// How long it may take until the sockets of a ring that is gone are gone, too.
const CLOSING_S_MAX: u32 = 60;
/// Sockets of others that may have come meanwhile.
const OTHERS_MAX: i64 = 100;

/// Caches of which each end of a connection holds one object. The last is the place in a ring's
/// table; the kernel names it by its size.
const OF_BOTH_ENDS: [&str; 7] = [
    "TCP",
    "sock_inode_cache",
    "filp",
    "dentry",
    "lsm_file_cache",
    "lsm_inode_cache",
    "kmalloc-32",
];

/// Caches of the generator's end alone: the operation that waits for bytes, and what a multishot
/// receive keeps beside it. The accepted end waits for nothing.
const OF_GENERATOR: [&str; 3] = ["io_kiocb", "kmalloc-512", "kmalloc-96"];

/// Caches of local ports. The kernel merges caches of one size and names them by one of them.
const PORTS: [&str; 3] = ["tcp_bind_bucket", "tcp_bind2_bucket", "eventpoll_epi"];

/// Objects of the kernel for each pair: how many, and bytes of each, by cache.
pub type Objects = BTreeMap<String, (f64, f64)>;

/// What one connection costs the kernel, bytes.
#[derive(Clone, Default, PartialEq, Debug, serde::Serialize)]
pub struct Calibration {
    /// Connections that were made for it.
    pub connections: u32,
    /// Both ends.
    pub pair_bytes: f64,
    /// The accepted end, which does nothing.
    pub accepted_bytes: f64,
    /// The generator's end: the rest.
    pub client_bytes: f64,
    /// Kernel objects of a pair, where they may be read: how many, and bytes of each.
    pub objects_per_pair: Objects,
}

impl Calibration {
    /// The generator's end in a run whose pairs have these objects. A local port is shared by
    /// connections from different addresses, so ports are counted where they are.
    #[must_use]
    pub fn client_bytes_beside(&self, objects: &Objects) -> f64 {
        if objects.is_empty() {
            return self.client_bytes;
        }
        self.client_bytes - ports(&self.objects_per_pair) + ports(objects)
    }
}

/// Bytes of local ports: only the generator has any.
fn ports(objects: &Objects) -> f64 {
    let bytes = |name: &&str| objects.get(*name).map(|(count, bytes)| count * bytes);
    PORTS.iter().filter_map(bytes).sum()
}

/// Whether a run's pairs have two sockets each; otherwise somebody else's came or went.
#[must_use]
pub fn is_quiet(objects: &Objects) -> bool {
    const SOCKETS_OFF_MAX: f64 = 0.03;
    let sockets = objects.get("TCP").map_or(0.0, |(count, _)| *count);
    objects.is_empty() || (sockets - 2.0).abs() < SOCKETS_OFF_MAX
}

/// A listener whose connections are accepted and left alone.
struct Acceptor {
    ring: Ring,
    listener: Socket,
    accepted: u32,
    armed: bool,
    _wake: OwnedFd,
}

impl Acceptor {
    fn open(places: u32) -> io::Result<Self> {
        let listener = Socket::new(Domain::IPV4, Type::STREAM, None)?;
        listener.bind(&SocketAddr::from((Ipv4Addr::LOCALHOST, 0)).into())?;
        listener.listen(PENDING_MAX)?;
        let wake = eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK)?;
        let none = BufferSizes {
            count: 1,
            bytes: 64,
        };
        Ok(Self {
            ring: Ring::open(places, none, wake.as_fd())?,
            listener,
            accepted: 0,
            armed: false,
            _wake: wake,
        })
    }

    fn address(&self) -> io::Result<SocketAddr> {
        let address = self.listener.local_addr()?.as_socket();
        address.ok_or_else(|| io::ErrorKind::AddrNotAvailable.into())
    }

    fn turn(&mut self) -> io::Result<()> {
        if !self.armed {
            self.ring.accept(self.listener.as_raw_fd());
            self.armed = true;
        }
        self.ring.enter()?;
        let mut completions = Vec::new();
        self.ring.reap(&mut completions);
        for completion in completions {
            assert_eq!(completion.operation, Operation::Accept);
            if completion.result < 0 {
                return Err(io::Error::from_raw_os_error(-completion.result));
            }
            self.accepted += 1;
            self.armed &= completion.more;
        }
        Ok(())
    }
}

/// Makes `connections` (at most what one ring holds) and counts.
///
/// # Errors
/// When the system refuses sockets or rings.
pub fn calibrate(settings: LinkSettings, connections: u32) -> io::Result<Calibration> {
    let connections = connections.min(settings.places - 1);
    let others = sockets();
    let mut acceptor = Acceptor::open(connections + 1)?;
    let mut links = Links::new(LinkSettings {
        target: acceptor.address()?,
        count: connections + 1,
        is_abortive: true,
        ..settings
    })?;
    connect(&mut links, &mut acceptor, 0..1)?;
    pause(SETTLE);
    let before = Kernel::now();
    connect(&mut links, &mut acceptor, 1..connections + 1)?;
    pause(SETTLE);
    let after = Kernel::now();
    let pair_bytes = after.since(&before) / f64::from(connections.max(1));
    let mut calibration = Calibration {
        connections,
        pair_bytes,
        objects_per_pair: after.objects(&before, connections),
        ..Calibration::default()
    };
    drop((links, acceptor));
    // The kernel closes what a ring held when it gets to it.
    for _ in 0..CLOSING_S_MAX {
        pause(Duration::from_secs(1));
        if sockets() <= others + OTHERS_MAX {
            break;
        }
    }
    calibration.accepted_bytes = accepted_bytes(&calibration);
    calibration.client_bytes = pair_bytes - calibration.accepted_bytes;
    Ok(calibration)
}

/// What is known to be the generator's alone is left out: its poll, its local port. All else is
/// halved: what both ends have, and what nobody has named, since the accepted end would otherwise
/// look cheaper than it may be. Where objects may not be read, half of the pair.
fn accepted_bytes(calibration: &Calibration) -> f64 {
    let objects = &calibration.objects_per_pair;
    let named = |name: &str| {
        let bytes = objects.get(name).map(|(count, bytes)| count * bytes);
        bytes.unwrap_or(0.0)
    };
    if !objects.contains_key("TCP") {
        return calibration.pair_bytes / 2.0;
    }
    let both: f64 = OF_BOTH_ENDS.iter().map(|name| named(name)).sum();
    let own: f64 = OF_GENERATOR.iter().map(|name| named(name)).sum();
    let unknown = calibration.pair_bytes - both - own - ports(objects);
    both / 2.0 + unknown.max(0.0) / 2.0
}

fn connect(
    links: &mut Links,
    acceptor: &mut Acceptor,
    range: std::ops::Range<u32>,
) -> io::Result<()> {
    let mut next = range.start;
    let mut up = range.start;
    let mut happened = Vec::new();
    let clock = Clock::start();
    while up < range.end || acceptor.accepted < range.end {
        if clock.seconds() > CONNECT_S_MAX {
            return Err(io::ErrorKind::TimedOut.into());
        }
        while next < range.end && next - up < UNDER_WAY_MAX {
            links.dial(Link(next))?;
            next += 1;
        }
        acceptor.turn()?;
        links.exchange(MS, &mut happened)?;
        for happening in happened.drain(..) {
            match happening {
                Happened::Up(_) => up += 1,
                Happened::Ended(..) => return Err(io::ErrorKind::ConnectionAborted.into()),
                Happened::Received { link, buffer, .. } => links.give_back(link, buffer),
            }
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_nobody_has_named_is_halved() {
        let objects = [
            ("TCP", (2.0, 2_500.0)),
            ("io_kiocb", (1.0, 256.0)),
            ("tcp_bind_bucket", (1.0, 128.0)),
            ("kmalloc-192", (0.2, 200.0)),
        ];
        let mut calibration = Calibration {
            pair_bytes: 5_000.0 + 256.0 + 128.0 + 40.0,
            objects_per_pair: objects.map(|(name, each)| (name.to_owned(), each)).into(),
            ..Calibration::default()
        };
        let accepted = accepted_bytes(&calibration);
        assert!((accepted - 2_520.0).abs() < 0.01, "{accepted}");
        calibration.objects_per_pair.clear();
        assert!((accepted_bytes(&calibration) - 2_712.0).abs() < 0.01);
    }
}
