//! Where connections go, and from which loopback address each comes.
//!
//! It opens nothing. A target that is not on loopback is met from the address that the system
//! picks, with as many connections as it has ports.
//!
//! Invariants: what the kernel is pointed to stays where it is for as long as this lives; no source
//! address gets more connections than [`CONNECTIONS_PER_SOURCE`], since the kernel's search for a
//! free port grows long before its some 28,000 are taken.

use std::net::{IpAddr, Ipv4Addr, SocketAddr, SocketAddrV4};

/// Connections from one source address to one target.
pub const CONNECTIONS_PER_SOURCE: u32 = 10_000;
/// Source addresses: 127.1.0.0 to 127.254.255.255.
const SOURCES_MAX: u32 = 254 << 16;

/// The target and the sources, in the kernel's form.
pub(super) struct Addresses {
    target: Box<libc::sockaddr_in>,
    sources: Box<[libc::sockaddr_in]>,
}

impl Addresses {
    /// For so many connections to this target; none when it is not an IPv4 address.
    pub(super) fn new(target: SocketAddr, connections: u32) -> Option<Self> {
        let SocketAddr::V4(target) = target else {
            return None;
        };
        let sources = if target.ip().is_loopback() {
            connections.div_ceil(CONNECTIONS_PER_SOURCE)
        } else {
            0
        };
        assert!(sources <= SOURCES_MAX, "2^32 connections need fewer");
        Some(Self {
            target: Box::new(raw(target)),
            sources: (0..sources).map(|n| raw(source(n))).collect(),
        })
    }

    /// Where to connect to.
    pub(super) const fn target(&self) -> &libc::sockaddr_in {
        &self.target
    }

    /// Where the connection of this number comes from; none: wherever the system likes.
    pub(super) fn source(&self, connection: u32) -> Option<&libc::sockaddr_in> {
        let source = connection / CONNECTIONS_PER_SOURCE;
        self.sources.get(source as usize)
    }
}

fn source(number: u32) -> SocketAddrV4 {
    let address = u32::from(Ipv4Addr::new(127, 1, 0, 0)) + number;
    SocketAddrV4::new(Ipv4Addr::from(address), 0)
}

fn raw(address: SocketAddrV4) -> libc::sockaddr_in {
    libc::sockaddr_in {
        sin_family: libc::sa_family_t::try_from(libc::AF_INET).expect("AF_INET is 2"),
        sin_port: address.port().to_be(),
        sin_addr: libc::in_addr {
            s_addr: u32::from(*address.ip()).to_be(),
        },
        sin_zero: [0; 8],
    }
}

/// Whether the generator can meet this address.
#[must_use]
pub const fn can_meet(address: IpAddr) -> bool {
    address.is_ipv4()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sources_follow_each_other_on_loopback_only() {
        let target = "127.0.0.1:80".parse().unwrap();
        let addresses = Addresses::new(target, 2_300_000).unwrap();
        let of = |connection| addresses.source(connection).unwrap().sin_addr.s_addr;
        assert_eq!(of(0).to_ne_bytes(), [127, 1, 0, 0]);
        assert_eq!(of(CONNECTIONS_PER_SOURCE).to_ne_bytes(), [127, 1, 0, 1]);
        assert_eq!(of(2_299_999).to_ne_bytes(), [127, 1, 0, 229]);
        assert_eq!(addresses.target().sin_port.to_ne_bytes(), [0, 80]);
        let far = Addresses::new("10.0.0.1:80".parse().unwrap(), 5).unwrap();
        assert!(far.source(0).is_none());
        assert!(Addresses::new("[::1]:80".parse().unwrap(), 5).is_none());
    }
}
