//! The queues between shards and the control plane.
//!
//! Each side puts owned values into the other's bounded queue and then wakes it, once per batch.
//! No side ever waits on a queue of the other: a full queue gives the value back.
//!
//! Invariants: values of one sender arrive in the order they were sent; a value that was taken
//! is seen by the receiver if `wake` is called after it; a wake without a value is harmless.

use std::fmt;
use std::os::fd::OwnedFd;
use std::sync::Arc;

use crossbeam::channel::{Receiver, Sender, TrySendError, bounded};
use throng_protocol::ChannelId;
use tokio::sync::Notify;

use crate::ask::ToShard;

/// Says which shard, counted from 0, owns a channel.
pub type OwnerOf = Arc<dyn Fn(ChannelId) -> u16 + Send + Sync>;

/// How the control plane reaches one shard.
#[derive(Clone)]
pub struct ShardLink {
    /// The shard's bounded queue. It should hold as many answers as the shard leaves questions
    /// unanswered at most; when it is full the control plane tries again until there is room.
    pub to_shard: Sender<ToShard>,
    /// Makes the shard look at its queue soon. Called from any thread, must not block.
    pub wake: Arc<dyn Fn() + Send + Sync>,
}

impl fmt::Debug for ShardLink {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ShardLink")
            .field("queued", &self.to_shard.len())
            .finish_non_exhaustive()
    }
}

/// A connection that speaks ordinary HTTP.
pub struct HandedOver {
    /// A connected TCP socket that nobody else reads from or writes to any more.
    pub fd: OwnedFd,
    /// All bytes that were received on it.
    pub head: Vec<u8>,
}

impl fmt::Debug for HandedOver {
    /// The bytes may hold a token, so only their number is shown.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("HandedOver")
            .field("fd", &self.fd)
            .field("head_bytes", &self.head.len())
            .finish()
    }
}

/// The sending end of one of the control plane's bounded queues, for the shards' threads.
#[derive(Debug)]
pub struct Inlet<T> {
    sender: Sender<T>,
    arrived: Arc<Notify>,
}

impl<T> Clone for Inlet<T> {
    fn clone(&self) -> Self {
        Self {
            sender: self.sender.clone(),
            arrived: Arc::clone(&self.arrived),
        }
    }
}

impl<T> Inlet<T> {
    /// Puts a value into the queue, to be followed by [`Inlet::wake`].
    ///
    /// # Errors
    /// Gives the value back when the queue is full or the control plane has ended. A shard then
    /// acts as if the answer were [`crate::Answer::Unavailable`], or closes the connection.
    pub fn try_send(&self, value: T) -> Result<(), T> {
        self.sender.try_send(value).map_err(|error| match error {
            TrySendError::Full(value) | TrySendError::Disconnected(value) => value,
        })
    }

    /// Makes the control plane look at the queue. Never blocks.
    pub fn wake(&self) {
        self.arrived.notify_one();
    }
}

/// The receiving end of an [`Inlet`].
#[derive(Debug)]
pub(crate) struct Outlet<T> {
    receiver: Receiver<T>,
    arrived: Arc<Notify>,
}

impl<T> Outlet<T> {
    /// Waits until at least one value is there, then moves up to `count_max` into `into`.
    /// May be cancelled: nothing is taken before it returns.
    pub(crate) async fn drain(&self, into: &mut Vec<T>, count_max: usize) {
        debug_assert!(into.is_empty() && count_max > 0);
        loop {
            into.extend(self.receiver.try_iter().take(count_max));
            if !into.is_empty() {
                return;
            }
            // A wake between the look and this line is kept as a permit, so none is lost.
            self.arrived.notified().await;
        }
    }
}

/// A queue that holds up to `capacity` values.
pub(crate) fn lane<T>(capacity: usize) -> (Inlet<T>, Outlet<T>) {
    assert!(capacity > 0, "a lane without room would refuse everything");
    let (sender, receiver) = bounded(capacity);
    let arrived = Arc::new(Notify::new());
    let inlet = Inlet {
        sender,
        arrived: Arc::clone(&arrived),
    };
    (inlet, Outlet { receiver, arrived })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check<R>(test: impl Future<Output = R>) -> R {
        tokio::runtime::Builder::new_current_thread()
            .build()
            .unwrap()
            .block_on(test)
    }

    #[test]
    fn a_full_queue_gives_the_value_back_and_order_is_kept() {
        check(async {
            let (inlet, outlet) = lane(2);
            assert_eq!(inlet.try_send(1), Ok(()));
            assert_eq!(inlet.try_send(2), Ok(()));
            assert_eq!(inlet.try_send(3), Err(3));
            let mut taken = Vec::new();
            outlet.drain(&mut taken, 1).await;
            assert_eq!(taken, [1]);
            taken.clear();
            outlet.drain(&mut taken, 9).await;
            assert_eq!(taken, [2]);
        });
    }

    #[test]
    fn a_wake_before_the_wait_is_not_lost() {
        check(async {
            let (inlet, outlet) = lane(2);
            inlet.wake();
            let mut taken = Vec::new();
            let waiting = async { outlet.drain(&mut taken, 1).await };
            let sending = async {
                tokio::task::yield_now().await;
                assert_eq!(inlet.try_send(7), Ok(()));
                inlet.wake();
            };
            tokio::join!(waiting, sending);
            assert_eq!(taken, [7]);
        });
    }
}
