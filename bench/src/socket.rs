//! Non-blocking sockets and one epoll instance per generator thread.
//!
//! It never waits for a single socket and keeps no buffer per socket.
//!
//! Invariants: interest is registered once, edge-triggered, for both directions; whoever got
//! `WouldBlock` is told when to go on, so a reader reads until then or until a short read.

use std::io;
use std::mem::MaybeUninit;
use std::net::{SocketAddr, TcpStream};
use std::os::fd::OwnedFd;

use rustix::event::{Timespec, epoll};
use rustix::net::{AddressFamily, SocketFlags, SocketType, connect, socket_with};

/// Events taken from the kernel at once.
const EVENTS_MAX: usize = 1024;

/// What a socket is ready for.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Ready {
    /// The number that it was registered with.
    pub key: u32,
    /// Bytes, or the end, can be read.
    pub is_readable: bool,
    /// Bytes can be written.
    pub is_writable: bool,
    /// The peer will send nothing more: read until the end.
    pub is_ending: bool,
}

/// Waits for many sockets.
#[derive(Debug)]
pub struct Poller {
    epoll: OwnedFd,
}

impl Poller {
    /// An empty set.
    ///
    /// # Errors
    /// When the system has no file descriptor left.
    pub fn new() -> io::Result<Self> {
        let epoll = epoll::create(epoll::CreateFlags::CLOEXEC)?;
        Ok(Self { epoll })
    }

    /// Adds a socket; closing it takes it out.
    ///
    /// # Errors
    /// When the system refuses.
    pub fn add(&self, socket: &TcpStream, key: u32) -> io::Result<()> {
        let flags = epoll::EventFlags::IN
            | epoll::EventFlags::OUT
            | epoll::EventFlags::RDHUP
            | epoll::EventFlags::ET;
        Ok(epoll::add(
            &self.epoll,
            socket,
            epoll::EventData::new_u64(u64::from(key)),
            flags,
        )?)
    }

    /// Waits at most this long, nanoseconds, and moves what is ready into `ready`.
    ///
    /// # Errors
    /// When the system refuses. A signal is no error: then nothing is ready.
    pub fn wait(&self, timeout_ns: u64, ready: &mut Vec<Ready>) -> io::Result<()> {
        let timeout = Timespec {
            tv_sec: i64::try_from(timeout_ns / 1_000_000_000).unwrap_or(i64::MAX),
            tv_nsec: i64::try_from(timeout_ns % 1_000_000_000).unwrap_or(0),
        };
        ready.clear();
        let mut space = [const { MaybeUninit::uninit() }; EVENTS_MAX];
        let events: &[epoll::Event] = match epoll::wait(&self.epoll, &mut space[..], Some(&timeout))
        {
            Ok((events, _)) => events,
            Err(rustix::io::Errno::INTR) => &[],
            Err(error) => return Err(error.into()),
        };
        ready.extend(events.iter().map(|event| {
            let epoll::Event { flags, data } = *event;
            let is_ending = flags.intersects(
                epoll::EventFlags::RDHUP | epoll::EventFlags::HUP | epoll::EventFlags::ERR,
            );
            Ready {
                key: u32::try_from(data.u64()).expect("keys were 32 bits when they went in"),
                is_readable: flags.contains(epoll::EventFlags::IN) || is_ending,
                is_writable: flags.contains(epoll::EventFlags::OUT),
                is_ending,
            }
        }));
        Ok(())
    }
}

/// Begins a connection. Writing fails with `NotConnected` or `WouldBlock` until it is there.
///
/// # Errors
/// When the system refuses a socket, or the peer at once.
pub fn begin_connect(address: SocketAddr) -> io::Result<TcpStream> {
    let family = if address.is_ipv4() {
        AddressFamily::INET
    } else {
        AddressFamily::INET6
    };
    let flags = SocketFlags::NONBLOCK | SocketFlags::CLOEXEC;
    let socket = socket_with(family, SocketType::STREAM, flags, None)?;
    match connect(&socket, &address) {
        Ok(()) | Err(rustix::io::Errno::INPROGRESS) => {}
        Err(error) => return Err(error.into()),
    }
    let socket = TcpStream::from(socket);
    socket.set_nodelay(true)?;
    Ok(socket)
}
