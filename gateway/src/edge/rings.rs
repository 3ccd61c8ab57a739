//! The rings of one shard: as many as its sockets need, since a ring's table holds no more of them
//! than RLIMIT_NOFILE allows.
//!
//! It knows places, not sockets. Few rings that are well filled are faster than many, so the lowest
//! one with a free place takes the next connection, and another one is opened only when the open
//! ones are nearly full. It is never closed before the shard ends.
//!
//! Invariants: place `index` of the shard is place `index % places` of ring `index / places`; an
//! accept is started only with a free place promised to it, so that no connection is ever accepted
//! into a full table; a ring is entered only when it has something to say or to hear, which its
//! shared memory tells: rings that are idle cost a turn two cache lines each, and no call.

use std::ops::{Index, IndexMut};

use super::error::EdgeError;
use super::operation::Completion;
use super::plan::RingPlan;
use super::ring::Ring;
use super::wake::ShardWaker;
use crate::io::ConnId;

/// Receive buffers of every ring but the first: 512 KiB, so that 60 rings cost 30 MiB and not 480.
/// Where they do not suffice for what arrives in one turn, the rest arrives in the next.
const LATER_RECEIVE_BUFFERS: u16 = 256;
const LATER_RECEIVE_BUFFER_BYTES: u32 = 2_048;

/// The rings of one shard.
pub(super) struct Rings {
    rings: Vec<Ring>,
    /// Places of each ring that are nobody's and promised to no accept.
    free: Vec<u32>,
    free_total: u32,
    /// No ring before this one has a free place.
    lowest_free: usize,
    plan: RingPlan,
    waker: ShardWaker,
    /// The ring that the next turn begins with, so that none starves.
    turn: usize,
}

impl Rings {
    /// Opens the first ring. Must be called on the shard's thread.
    pub(super) fn open(plan: RingPlan, waker: &ShardWaker) -> Result<Self, EdgeError> {
        let mut rings = Self {
            rings: Vec::new(),
            free: Vec::new(),
            free_total: 0,
            lowest_free: 0,
            plan,
            waker: waker.clone(),
            turn: 0,
        };
        rings.grow()?;
        Ok(rings)
    }

    /// Opens one more ring.
    pub(super) fn grow(&mut self) -> Result<(), EdgeError> {
        assert!(self.can_grow(), "the plan says how many rings there are");
        let count = u32::try_from(self.rings.len()).expect("fewer rings than places");
        let mut size = self.plan.size;
        if count > 0 {
            size.receive_buffers = size.receive_buffers.min(LATER_RECEIVE_BUFFERS);
            size.receive_buffer_bytes = size.receive_buffer_bytes.min(LATER_RECEIVE_BUFFER_BYTES);
        }
        let ring = Ring::open(count * size.places, size, self.waker.eventfd())?;
        self.rings.push(ring);
        self.free.push(size.places);
        self.free_total += size.places;
        Ok(())
    }

    /// Whether the plan has one more ring.
    pub(super) fn can_grow(&self) -> bool {
        self.rings.len() < self.plan.rings_max
    }

    /// How many are open.
    pub(super) fn len(&self) -> usize {
        self.rings.len()
    }

    /// Places of one ring.
    pub(super) fn places(&self) -> u32 {
        self.plan.size.places
    }

    /// Places of the open rings that are nobody's and promised to no accept.
    pub(super) fn free(&self) -> u32 {
        self.free_total
    }

    /// Promises a place in the lowest ring that has one; which ring that is.
    pub(super) fn promise(&mut self) -> Option<&mut Ring> {
        let from = self.lowest_free;
        let found = self.free[from..].iter().position(|free| *free > 0);
        self.lowest_free = found.map_or(self.free.len(), |found| from + found);
        let free = self.free.get_mut(self.lowest_free)?;
        *free -= 1;
        self.free_total -= 1;
        self.rings.get_mut(self.lowest_free)
    }

    /// A place of this name's ring is free again: its tenant has gone, or an accept that it was
    /// promised to has failed.
    pub(super) fn give_back(&mut self, conn: ConnId) {
        let ring = self.ring_of(conn);
        self.free[ring] += 1;
        self.free_total += 1;
        assert!(
            self.free[ring] <= self.places(),
            "no more is given back than there is"
        );
        self.lowest_free = self.lowest_free.min(ring);
    }

    /// Submits what is queued, runs what the kernel deferred, and takes up to `count_max`
    /// completions out. The first ring that the limit leaves out is the first of the next turn.
    pub(super) fn turn(
        &mut self,
        into: &mut Vec<Completion>,
        count_max: usize,
    ) -> Result<(), EdgeError> {
        let (count, from) = (self.rings.len(), self.turn);
        for step in 0..count {
            let at = (from + step) % count;
            let ring = &mut self.rings[at];
            let room = count_max.saturating_sub(into.len());
            if room > 0 {
                ring.enter()?;
                ring.reap(into, room);
                self.turn = (at + 1) % count;
            } else if ring.queued() > 0 {
                ring.enter()?;
            }
        }
        Ok(())
    }

    /// Whether a turn would find something to do.
    pub(super) fn has_work(&mut self) -> bool {
        self.rings.iter_mut().any(Ring::has_work)
    }

    /// Whether arrivals signal the shard's eventfd.
    pub(super) fn signal(&mut self, on: bool) {
        self.rings.iter_mut().for_each(|ring| ring.signal(on));
    }

    /// All of them.
    pub(super) fn iter_mut(&mut self) -> impl Iterator<Item = &mut Ring> {
        self.rings.iter_mut()
    }

    fn ring_of(&self, conn: ConnId) -> usize {
        (conn.index / self.plan.size.places) as usize
    }
}

impl Index<ConnId> for Rings {
    type Output = Ring;

    /// The ring that a socket is on.
    fn index(&self, conn: ConnId) -> &Ring {
        &self.rings[self.ring_of(conn)]
    }
}

impl IndexMut<ConnId> for Rings {
    fn index_mut(&mut self, conn: ConnId) -> &mut Ring {
        let ring = self.ring_of(conn);
        &mut self.rings[ring]
    }
}
