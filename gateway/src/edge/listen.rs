//! The listening sockets: one per shard on one address, the kernel spreads connections over them.
//!
//! It accepts nothing; the rings do. Binding and listening are two steps, so that an address in
//! use is known before a store is opened, and nobody connects before the shards are ready.
//!
//! Invariant: no other process shares the address unseen. SO_REUSEPORT would allow that, so the
//! first socket probes the address without it.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use socket2::{Domain, Protocol, SockRef, Socket, TcpKeepalive, Type};

use super::error::EdgeError;

/// Connections that the kernel completes ahead of `accept`, per listener.
const PENDING_CONNECTIONS_MAX: i32 = 4_096;
/// How long to try an address that is in use: a port stays bound for a moment after its process.
const RETRY_MAX: Duration = Duration::from_secs(1);
const RETRY_EVERY: Duration = Duration::from_millis(20);
/// How long a peer may leave what was sent without an acknowledgement.
const USER_TIMEOUT: Duration = Duration::from_secs(30);
const KEEPALIVE_AFTER: Duration = Duration::from_secs(60);

/// Binds one socket per shard, without listening. The accepted sockets inherit their options.
///
/// # Errors
/// The address is in use, or cannot be had for another reason.
pub(super) fn bind(
    address: SocketAddr,
    shards: u16,
    send_buffer_bytes: usize,
) -> Result<Vec<Socket>, EdgeError> {
    let to_error = |source: std::io::Error| match source.kind() {
        std::io::ErrorKind::AddrInUse => EdgeError::AddressInUse { address },
        _ => EdgeError::Listen { address, source },
    };
    let probe = retry(|| bind_one(address, false, send_buffer_bytes)).map_err(to_error)?;
    let bound = probe
        .local_addr()
        .map_err(to_error)?
        .as_socket()
        .unwrap_or(address);
    // From here on others may bind to it, but only sockets of the same user that say so too.
    SockRef::from(&probe)
        .set_reuse_port(true)
        .map_err(to_error)?;
    let mut sockets = vec![probe];
    while sockets.len() < usize::from(shards) {
        sockets.push(bind_one(bound, true, send_buffer_bytes).map_err(to_error)?);
    }
    Ok(sockets)
}

/// Starts listening.
///
/// # Errors
/// Whatever the kernel says.
pub(super) fn listen(socket: &Socket) -> Result<(), EdgeError> {
    socket
        .listen(PENDING_CONNECTIONS_MAX)
        .map_err(EdgeError::kernel("listening"))
}

fn bind_one(
    address: SocketAddr,
    reuse_port: bool,
    send_buffer_bytes: usize,
) -> std::io::Result<Socket> {
    let socket = Socket::new(
        Domain::for_address(address),
        Type::STREAM,
        Some(Protocol::TCP),
    )?;
    socket.set_reuse_address(true)?;
    socket.set_reuse_port(reuse_port)?;
    socket.set_tcp_nodelay(true)?;
    socket.set_keepalive(true)?;
    socket.set_tcp_keepalive(&TcpKeepalive::new().with_time(KEEPALIVE_AFTER))?;
    socket.set_tcp_user_timeout(Some(USER_TIMEOUT))?;
    socket.set_send_buffer_size(send_buffer_bytes)?;
    socket.bind(&address.into())?;
    Ok(socket)
}

#[expect(
    clippy::disallowed_methods,
    reason = "an edge may wait; this is before the shards start"
)]
fn retry(bind: impl Fn() -> std::io::Result<Socket>) -> std::io::Result<Socket> {
    let began = Instant::now();
    loop {
        match bind() {
            Err(error)
                if error.kind() == std::io::ErrorKind::AddrInUse && began.elapsed() < RETRY_MAX =>
            {
                std::thread::sleep(RETRY_EVERY);
            }
            result => return result,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ANY_PORT: SocketAddr =
        SocketAddr::new(std::net::IpAddr::V4(std::net::Ipv4Addr::LOCALHOST), 0);

    #[test]
    fn shards_share_a_port_that_nobody_else_gets() {
        let sockets = bind(ANY_PORT, 3, 4_096).unwrap();
        let bound = sockets[0].local_addr().unwrap().as_socket().unwrap();
        assert_eq!(sockets[2].local_addr().unwrap().as_socket().unwrap(), bound);
        for socket in &sockets {
            listen(socket).unwrap();
        }
        assert!(matches!(
            bind(bound, 1, 4_096),
            Err(EdgeError::AddressInUse { .. })
        ));
        assert!(
            bind_one(bound, true, 4_096).is_ok(),
            "the probe is what refuses, not the kernel"
        );
    }
}
