//! Lanes: what one shard says to another, in batches through a bounded queue.
//!
//! A lane looks into no message and drops none. What does not fit into the queue waits at the
//! sender; how much that can be is bounded by who speaks (requests, credit), not by the lane.
//!
//! Invariants: messages arrive in the order they were sent; one wake-up per batch; a sender whose
//! queue was full is woken when there is room.

use std::mem;
use std::sync::Arc;

use crossbeam::queue::ArrayQueue;

use super::wake::ShardWaker;
use crate::io::ShardId;

/// Batches under way on one lane.
const BATCHES_MAX: usize = 64;

/// The sending end.
struct Sender<T> {
    queue: Arc<ArrayQueue<Vec<T>>>,
    pending: Vec<T>,
    receiver: ShardWaker,
}

/// The receiving end.
struct Receiver<T> {
    queue: Arc<ArrayQueue<Vec<T>>>,
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
            let queue = Arc::new(ArrayQueue::new(BATCHES_MAX));
            lanes[to].receivers[from] = Some(Receiver {
                queue: Arc::clone(&queue),
                sender: sender.clone(),
            });
            lanes[from].senders[to] = Some(Sender {
                queue,
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
            .filter(|lane| !lane.pending.is_empty())
        {
            match sender.queue.push(mem::take(&mut sender.pending)) {
                Ok(()) => sender.receiver.wake(),
                Err(pending) => sender.pending = pending,
            }
        }
    }

    /// Hands out everything that has arrived; at most what was there when it began, per lane.
    pub fn receive(&mut self, mut take: impl FnMut(ShardId, T)) {
        for (from, lane) in (0_u16..).zip(&mut self.receivers) {
            let Some(lane) = lane else { continue };
            let count = lane.queue.len();
            for batch in (0..count).map_while(|_| lane.queue.pop()) {
                batch
                    .into_iter()
                    .for_each(|message| take(ShardId(from), message));
            }
            if count == BATCHES_MAX {
                lane.sender.wake();
            }
        }
    }

    /// Whether something has arrived.
    #[must_use]
    pub fn has_arrived(&self) -> bool {
        self.receivers
            .iter()
            .flatten()
            .any(|lane| !lane.queue.is_empty())
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
