//! Very many TCP connections of one thread: two bytes and a place in a ring's table each.
//!
//! It knows no protocol: it dials, carries bytes both ways and says what happened. No buffer
//! belongs to a connection while nothing is on its way.
//!
//! Invariants: at most one send and one receive are outstanding on a connection; its place is
//! closed only when no operation is; `Ended` comes once for each dial, after the place is free.

mod complete;

use std::collections::HashMap;
use std::io;
use std::net::SocketAddr;
use std::os::fd::{AsFd, OwnedFd};

use bytes::Bytes;
use rustix::event::{EventfdFlags, PollFd, PollFlags, Timespec, eventfd, poll};

use super::addresses::Addresses;
use super::buffers::BufferSizes;
use super::outgoing::Outgoing;
use super::ring::{Completion, DialOptions, Ring};

/// One connection, by its number.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct Link(pub u32);

impl Link {
    /// Its place in a list of all connections.
    #[must_use]
    pub const fn place(self) -> usize {
        self.0 as usize
    }
}

/// How bytes are received.
#[derive(Clone, Copy, PartialEq, Eq, Debug, clap::ValueEnum)]
pub enum Receiving {
    /// Multishot poll and single receives: least kernel memory while idle.
    Dense,
    /// Multishot receive: least CPU.
    Multishot,
}

/// How connections are made.
#[derive(Clone, Copy, Debug)]
pub struct LinkSettings {
    /// Where to.
    pub target: SocketAddr,
    /// How many, at most.
    pub count: u32,
    /// Sockets of one ring.
    pub places: u32,
    /// How bytes are received.
    pub receiving: Receiving,
    /// Receive buffers of one ring.
    pub buffers: BufferSizes,
    /// Whether a close resets the connection. Otherwise the kernel remembers it for a minute, which
    /// is counted with what is measured next.
    pub is_abortive: bool,
}

/// Why a connection is over.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
pub enum End {
    /// It could not be made: the system's error number.
    #[error("connect failed: {}", errno(*.0))]
    Dial(i32),
    /// It broke: the system's error number.
    #[error("broken: {}", errno(*.0))]
    Broken(i32),
    /// The peer closed it.
    #[error("closed by the peer")]
    Peer,
    /// The generator closed it.
    #[error("closed by the generator")]
    Own,
}

fn errno(number: i32) -> String {
    io::Error::from_raw_os_error(number).kind().to_string()
}

/// What happened to a connection.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Happened {
    /// It is there.
    Up(Link),
    /// Bytes lie in a buffer: to be read with [`Links::filled`] and given back.
    Received {
        /// On which connection.
        link: Link,
        /// In which buffer.
        buffer: u16,
        /// How many.
        bytes: usize,
    },
    /// It is over and may be dialled again.
    Ended(Link, End),
}

/// A connection's state: a set of these.
#[derive(Clone, Copy, Default, PartialEq, Eq, Debug)]
struct State(u16);

#[derive(Clone, Copy)]
#[repr(u16)]
enum Bit {
    Dialling = 1,
    Up = 1 << 1,
    /// A multishot poll or receive is outstanding.
    Armed = 1 << 2,
    /// A single receive is outstanding.
    Receiving = 1 << 3,
    /// More arrived while a receive was outstanding.
    Again = 1 << 4,
    Sending = 1 << 5,
    /// More is to be sent when the send has completed.
    Waiting = 1 << 6,
    Ending = 1 << 7,
    Closing = 1 << 8,
    /// Nothing is received: what arrives waits in the kernel.
    Deaf = 1 << 9,
}

impl State {
    const fn is(self, bit: Bit) -> bool {
        self.0 & bit as u16 != 0
    }

    const fn set(&mut self, bit: Bit, on: bool) {
        if on {
            self.0 |= bit as u16;
        } else {
            self.0 &= !(bit as u16);
        }
    }

    const fn is_busy(self) -> bool {
        self.is(Bit::Dialling)
            || self.is(Bit::Armed)
            || self.is(Bit::Receiving)
            || self.is(Bit::Sending)
    }
}

/// The connections.
pub struct Links {
    // The rings come first: they are dropped before the memory that their operations point to.
    rings: Vec<Ring>,
    settings: LinkSettings,
    states: Vec<State>,
    addresses: Addresses,
    outgoing: Outgoing,
    waiting: HashMap<Link, Vec<u8>>,
    ends: HashMap<Link, End>,
    starved: Vec<Link>,
    happened: Vec<Happened>,
    completions: Vec<Completion>,
    wake: OwnedFd,
}

impl Links {
    /// Nothing is dialled yet and no ring is open.
    ///
    /// # Errors
    /// When the target is not an IPv4 address, or the system has no descriptor left.
    pub fn new(settings: LinkSettings) -> io::Result<Self> {
        assert!(settings.places > 0, "a ring holds sockets");
        let addresses = Addresses::new(settings.target, settings.count)
            .ok_or(io::ErrorKind::AddrNotAvailable)?;
        Ok(Self {
            rings: Vec::new(),
            states: vec![State::default(); settings.count as usize],
            settings,
            addresses,
            outgoing: Outgoing::default(),
            waiting: HashMap::new(),
            ends: HashMap::new(),
            starved: Vec::new(),
            happened: Vec::new(),
            completions: Vec::new(),
            wake: eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK)?,
        })
    }

    /// How many there may be.
    #[must_use]
    pub const fn count(&self) -> u32 {
        self.settings.count
    }

    /// Rings that are open.
    #[must_use]
    pub const fn rings(&self) -> usize {
        self.rings.len()
    }

    /// Begins a connection. `Up` or `Ended` follows.
    ///
    /// # Errors
    /// When a ring is needed and cannot be opened.
    ///
    /// # Panics
    /// If it was dialled before and has not ended.
    pub fn dial(&mut self, link: Link) -> io::Result<()> {
        self.begin(link, false)
    }

    /// [`Links::dial`], with a small receive buffer that stays small.
    ///
    /// # Errors
    /// When a ring is needed and cannot be opened.
    ///
    /// # Panics
    /// If it was dialled before and has not ended.
    pub fn dial_narrow(&mut self, link: Link) -> io::Result<()> {
        self.begin(link, true)
    }

    #[expect(unsafe_code, reason = "a ring is given addresses by pointer")]
    fn begin(&mut self, link: Link, is_narrow: bool) -> io::Result<()> {
        let (ring, place) = self.home(link);
        while self.rings.len() <= ring {
            let settings = self.settings;
            let opened = Ring::open(settings.places, settings.buffers, self.wake.as_fd())?;
            self.rings.push(opened);
        }
        let state = &mut self.states[link.place()];
        assert!(*state == State::default(), "it has ended");
        state.set(Bit::Dialling, true);
        let source = self.addresses.source(link.0);
        let options = DialOptions {
            is_abortive: self.settings.is_abortive,
            is_narrow,
        };
        // SAFETY: the addresses live, unmoved, as long as `self`, whose rings are dropped first.
        unsafe {
            self.rings[ring].dial(place, source, self.addresses.target(), options);
        }
        Ok(())
    }

    /// Sends bytes, behind those that are on their way already. Nothing happens on a connection
    /// that is not up.
    pub fn send(&mut self, link: Link, bytes: Bytes) {
        let state = &mut self.states[link.place()];
        if !state.is(Bit::Up) || state.is(Bit::Ending) {
            return;
        }
        if state.is(Bit::Sending) {
            state.set(Bit::Waiting, true);
            self.waiting.entry(link).or_default().extend(bytes);
            return;
        }
        state.set(Bit::Sending, true);
        self.send_held(link, bytes);
    }

    /// Whether something is on its way to the peer.
    #[must_use]
    pub fn is_sending(&self, link: Link) -> bool {
        self.states[link.place()].is(Bit::Sending)
    }

    /// Whether a connection's bytes are left in the kernel from now on, until it listens again or is
    /// over. Nothing happens on a connection that is not up.
    ///
    /// # Panics
    /// With [`Receiving::Multishot`]: a receive that goes on cannot wait.
    pub fn deafen(&mut self, link: Link, is_deaf: bool) {
        assert_eq!(self.settings.receiving, Receiving::Dense, "deaf ones poll");
        let state = &mut self.states[link.place()];
        if !state.is(Bit::Up) || state.is(Bit::Ending) {
            return;
        }
        state.set(Bit::Deaf, is_deaf);
        if !is_deaf && !state.is(Bit::Receiving) {
            self.receive(link);
        }
    }

    /// Ends a connection; `Ended` follows. Nothing happens when there is none.
    pub fn close(&mut self, link: Link) {
        self.end(link, End::Own);
    }

    /// The bytes that [`Happened::Received`] speaks of.
    #[must_use]
    pub fn filled(&mut self, link: Link, buffer: u16, bytes: usize) -> &[u8] {
        let ring = self.home(link).0;
        self.rings[ring].buffers().filled(buffer, bytes)
    }

    /// The bytes were read.
    pub fn give_back(&mut self, link: Link, buffer: u16) {
        let ring = self.home(link).0;
        self.rings[ring].buffers().give_back(buffer);
    }

    /// Carries everything to the kernel and what happened into `happened`. Waits up to
    /// `wait_ns` when nothing is there.
    ///
    /// # Errors
    /// When a ring fails: the run cannot go on.
    pub fn exchange(&mut self, wait_ns: u64, happened: &mut Vec<Happened>) -> io::Result<()> {
        for ring in &mut self.rings {
            ring.buffers().publish();
        }
        for link in std::mem::take(&mut self.starved) {
            // A poll may have been quicker.
            if !self.states[link.place()].is(Bit::Receiving) {
                self.receive(link);
            }
        }
        self.serve()?;
        if wait_ns > 0 && self.happened.is_empty() {
            self.sleep(wait_ns)?;
            self.serve()?;
        }
        happened.append(&mut self.happened);
        Ok(())
    }

    fn serve(&mut self) -> io::Result<()> {
        for index in 0..self.rings.len() {
            self.rings[index].enter()?;
            let mut completions = std::mem::take(&mut self.completions);
            self.rings[index].reap(&mut completions);
            for completion in completions.drain(..) {
                self.complete(index, completion);
            }
            self.completions = completions;
        }
        Ok(())
    }

    fn sleep(&mut self, wait_ns: u64) -> io::Result<()> {
        for ring in &mut self.rings {
            ring.signal(true);
        }
        let has_work = self.rings.iter_mut().any(Ring::has_work);
        if !has_work {
            let timeout = Timespec {
                tv_sec: i64::try_from(wait_ns / 1_000_000_000).unwrap_or(i64::MAX),
                tv_nsec: i64::try_from(wait_ns % 1_000_000_000).unwrap_or(0),
            };
            let mut wake = [PollFd::new(&self.wake, PollFlags::IN)];
            match poll(&mut wake, Some(&timeout)) {
                Ok(_) | Err(rustix::io::Errno::INTR) => {}
                Err(error) => return Err(error.into()),
            }
            // Empty when the time was over first.
            let _ = rustix::io::read(&self.wake, &mut [0; 8]);
        }
        for ring in &mut self.rings {
            ring.signal(false);
        }
        Ok(())
    }

    const fn home(&self, link: Link) -> (usize, u32) {
        let places = self.settings.places;
        ((link.0 / places) as usize, link.0 % places)
    }

    #[expect(unsafe_code, reason = "a ring is given bytes by pointer")]
    fn send_held(&mut self, link: Link, bytes: Bytes) {
        let (ring, place) = self.home(link);
        let tag = self.outgoing.hold(bytes);
        // SAFETY: the bytes are held, unmoved, until the completion with this tag.
        unsafe { self.rings[ring].send(place, self.outgoing.of(tag), tag) };
    }
}
