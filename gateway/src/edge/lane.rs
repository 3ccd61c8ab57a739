//! Lanes: what one shard says to another, in batches through a bounded queue.
//!
//! A lane looks into no message and drops none. What does not fit into the queue waits at the
//! sender; how much that can be is bounded by who speaks (requests, credit), not by the lane.
//!
//! Invariants: messages arrive in the order they were sent; one wake-up per batch; a sender whose
//! queue was full is woken when there is room.

use std::mem;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use crossbeam::queue::ArrayQueue;

use super::wake::ShardWaker;
use crate::io::ShardId;

/// Batches under way on one lane.
const BATCHES_MAX: usize = 64;

/// What both ends share.
struct Lane<T> {
    queue: ArrayQueue<Vec<T>>,
    /// The queue had no room for a batch, and the sender has not been woken since.
    refused: AtomicBool,
}

/// The sending end.
struct Sender<T> {
    lane: Arc<Lane<T>>,
    pending: Vec<T>,
    receiver: ShardWaker,
}

/// The receiving end.
struct Receiver<T> {
    lane: Arc<Lane<T>>,
    sender: ShardWaker,
}

/// All lanes from and to one shard.
pub struct Lanes<T> {
    senders: Vec<Option<Sender<T>>>,
    receivers: Vec<Option<Receiver<T>>>,
}

/// A lane for each ordered pair of these shards; the result's places are the shards'.
#[must_use]
pub fn connect<T>(shards: &[ShardWaker]) -> Vec<Lanes<T>> {
    let mut lanes: Vec<Lanes<T>> = Vec::new();
    for _ in shards {
        let none = |_: &ShardWaker| None;
        let senders = shards.iter().map(none).collect();
        lanes.push(Lanes {
            senders,
            receivers: shards.iter().map(|_| None).collect(),
        });
    }
    for (from, sender) in shards.iter().enumerate() {
        for (to, receiver) in shards.iter().enumerate().filter(|(to, _)| *to != from) {
            let lane = Arc::new(Lane {
                queue: ArrayQueue::new(BATCHES_MAX),
                refused: AtomicBool::new(false),
            });
            lanes[to].receivers[from] = Some(Receiver {
                lane: Arc::clone(&lane),
                sender: sender.clone(),
            });
            lanes[from].senders[to] = Some(Sender {
                lane,
                pending: Vec::new(),
                receiver: receiver.clone(),
            });
        }
    }
    lanes
}

impl<T> Lanes<T> {
    /// Adds a message to the batch for a shard.
    ///
    /// # Panics
    /// If there is no such shard, or it is this one.
    pub fn send(&mut self, to: ShardId, message: T) {
        let sender = self.senders[usize::from(to.0)].as_mut();
        sender
            .expect("a shard sends nothing to itself")
            .pending
            .push(message);
    }

    /// Sends the batches off, those that fit, with one wake-up each.
    pub fn flush(&mut self) {
        for sender in self
            .senders
            .iter_mut()
            .flatten()
            .filter(|sender| !sender.pending.is_empty())
        {
            match sender.lane.push(mem::take(&mut sender.pending)) {
                Ok(()) => sender.receiver.wake(),
                Err(pending) => sender.pending = pending,
            }
        }
    }

    /// Hands out everything that has arrived; at most what was there when it began, per lane.
    pub fn receive(&mut self, mut take: impl FnMut(ShardId, T)) {
        for (from, receiver) in (0_u16..).zip(&mut self.receivers) {
            let Some(Receiver { lane, sender }) = receiver else {
                continue;
            };
            let count = lane.queue.len();
            for batch in (0..count).map_while(|_| lane.queue.pop()) {
                batch
                    .into_iter()
                    .for_each(|message| take(ShardId(from), message));
            }
            if count > 0 && lane.refused.swap(false, Ordering::SeqCst) {
                sender.wake();
            }
        }
    }

    /// Whether something has arrived.
    #[must_use]
    pub fn has_arrived(&self) -> bool {
        self.receivers
            .iter()
            .flatten()
            .any(|receiver| !receiver.lane.queue.is_empty())
    }

    /// Whether a batch that did not fit would fit now. A wake-up that came while the shard was
    /// awake is forgotten, so this is asked once more before each sleep.
    #[must_use]
    pub fn can_flush(&self) -> bool {
        self.senders
            .iter()
            .flatten()
            .any(|sender| !sender.pending.is_empty() && !sender.lane.queue.is_full())
    }
}

impl<T> Lane<T> {
    /// Tried again after the refusal is on record: the receiver either sees it after making room,
    /// or has made room before.
    fn push(&self, batch: Vec<T>) -> Result<(), Vec<T>> {
        self.queue.push(batch).or_else(|batch| {
            self.refused.store(true, Ordering::SeqCst);
            self.queue.push(batch)
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn received(lanes: &mut Lanes<u32>) -> Vec<(u16, u32)> {
        let mut all = Vec::new();
        lanes.receive(|from, message| all.push((from.0, message)));
        all
    }

    #[test]
    fn order_is_kept_through_a_full_queue() {
        let wakers: Vec<_> = (0..2).map(|_| ShardWaker::new().unwrap()).collect();
        let mut lanes = connect(&wakers);
        let (left, right) = lanes.split_at_mut(1);
        let count = u32::try_from(BATCHES_MAX).unwrap() + 10;
        for message in 0..count {
            left[0].send(ShardId(1), message);
            left[0].flush();
        }
        let mut all = received(&mut right[0]);
        assert_eq!(all.len(), BATCHES_MAX);
        left[0].flush();
        all.extend(received(&mut right[0]));
        assert_eq!(
            all,
            (0..count).map(|message| (0, message)).collect::<Vec<_>>()
        );
        assert!(!right[0].has_arrived());
    }

    #[test]
    fn a_refused_sender_is_woken_however_full_the_receiver_found_the_queue() {
        let wakers: Vec<_> = (0..2).map(|_| ShardWaker::new().unwrap()).collect();
        let mut lanes = connect(&wakers);
        let (left, right) = lanes.split_at_mut(1);
        for message in 0..=u32::try_from(BATCHES_MAX).unwrap() {
            left[0].send(ShardId(1), message);
            left[0].flush();
        }
        let lane = Arc::clone(&left[0].senders[1].as_ref().unwrap().lane);
        assert!(lane.refused.load(Ordering::SeqCst) && !left[0].can_flush());
        lane.queue.pop();
        assert_eq!(received(&mut right[0]).len(), BATCHES_MAX - 1);
        assert!(!lane.refused.load(Ordering::SeqCst), "the sender was woken");
        assert!(left[0].can_flush(), "and does not sleep on its batch");
        left[0].flush();
        assert!(!left[0].can_flush());
    }

    #[test]
    fn every_pair_has_its_lane() {
        let wakers: Vec<_> = (0..3).map(|_| ShardWaker::new().unwrap()).collect();
        let mut lanes = connect(&wakers);
        for from in 0..3_u16 {
            for to in (0..3).filter(|to| *to != from) {
                lanes[usize::from(from)].send(ShardId(to), u32::from(from * 10 + to));
            }
            lanes[usize::from(from)].flush();
        }
        assert_eq!(received(&mut lanes[1]), [(0, 1), (2, 21)]);
    }
}
