//! The shards as the control plane sees them: send, and wait for what comes back.
//!
//! Knows nothing of guilds or requests. It never blocks a thread on a full queue: it tries again
//! until a deadline, and gives up then.
//!
//! Invariants: every ticket names one request to one shard and is settled at most once; a ticket
//! whose waiter is gone is forgotten, so that what is kept is bounded by the requests under way.

use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use crossbeam::channel::TrySendError;
use throng_protocol::{ChannelId, GuildId, Message, UserId};
use tokio::sync::oneshot;
use tokio::time::Instant;

use crate::ask::{FromShard, HistoryError, HistoryQuery, ShardStatus, ToShard};
use crate::link::{OwnerOf, ShardLink};

/// How long to leave a full queue alone.
const RETRY: Duration = Duration::from_millis(2);

/// A shard did not answer in time, or has ended.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct NoAnswer;

/// What changed about a guild, for shards to drop what they keep about it.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Invalidation {
    pub(crate) guild: GuildId,
    pub(crate) version: u64,
    pub(crate) user: Option<UserId>,
    pub(crate) channel: Option<ChannelId>,
}

/// See the file's head.
pub(crate) struct Shards {
    links: Vec<ShardLink>,
    owner: OwnerOf,
    patience: Duration,
    next_ticket: AtomicU64,
    waiting: Waiting,
}

type Waiting = Arc<Mutex<HashMap<u64, (u16, oneshot::Sender<FromShard>)>>>;

/// A request under way.
struct Pending {
    ticket: u64,
    waiting: Waiting,
    reply: oneshot::Receiver<FromShard>,
}

impl Drop for Pending {
    fn drop(&mut self) {
        locked(&self.waiting).remove(&self.ticket);
    }
}

impl Shards {
    /// Speaks to these shards, in their order, with so much patience per request.
    pub(crate) fn new(links: Vec<ShardLink>, owner: OwnerOf, patience: Duration) -> Self {
        assert!(!links.is_empty(), "a node has at least one shard");
        assert!(
            u16::try_from(links.len()).is_ok(),
            "shards are numbered with 16 bits"
        );
        Self {
            links,
            owner,
            patience,
            next_ticket: AtomicU64::new(1),
            waiting: Arc::default(),
        }
    }

    /// How many there are.
    pub(crate) fn count(&self) -> u16 {
        u16::try_from(self.links.len()).expect("checked at start")
    }

    /// Hands a shard's reply to who waits for it; a late one is dropped.
    pub(crate) fn settle(&self, shard: u16, ticket: u64, reply: FromShard) {
        let mut waiting = locked(&self.waiting);
        let from_it = waiting
            .get(&ticket)
            .is_some_and(|(asked, _)| *asked == shard);
        if let Some((_, waiter)) = from_it.then(|| waiting.remove(&ticket)).flatten() {
            // An error means that the waiter is just giving up.
            let _ = waiter.send(reply);
        }
    }

    /// Puts a message into a shard's queue without waking it, however long the shard takes to
    /// make room; an error means that the shard has ended.
    pub(crate) async fn deliver(&self, shard: u16, mut message: ToShard) -> Result<(), NoAnswer> {
        let link = self.link(shard).ok_or(NoAnswer)?;
        loop {
            match link.to_shard.try_send(message) {
                Ok(()) => return Ok(()),
                Err(TrySendError::Disconnected(_)) => return Err(NoAnswer),
                Err(TrySendError::Full(back)) => message = back,
            }
            (link.wake)();
            tokio::time::sleep(RETRY).await;
        }
    }

    /// Makes a shard look at its queue.
    pub(crate) fn wake(&self, shard: u16) {
        if let Some(link) = self.link(shard) {
            (link.wake)();
        }
    }

    /// Returns once every shard has dropped what it kept.
    pub(crate) async fn invalidate(&self, what: Invalidation) -> Result<(), NoAnswer> {
        let Invalidation {
            guild,
            version,
            user,
            channel,
        } = what;
        let all = async {
            let mut pending = Vec::with_capacity(self.links.len());
            for shard in 0..self.count() {
                let ask = |ticket| ToShard::Invalidate {
                    ticket,
                    guild,
                    version,
                    user,
                    channel,
                };
                pending.push(self.begin(shard, ask).await?);
            }
            for request in pending {
                match request.reply().await? {
                    FromShard::Invalidated { .. } => {}
                    _ => return Err(NoAnswer),
                }
            }
            Ok(())
        };
        self.patiently(all).await
    }

    /// A page of a channel, from the shard that owns it.
    pub(crate) async fn history(
        &self,
        channel: ChannelId,
        query: HistoryQuery,
        limit: usize,
    ) -> Result<Result<Vec<Message>, HistoryError>, NoAnswer> {
        let owner = (self.owner)(channel);
        let ask = |ticket| ToShard::History {
            ticket,
            channel,
            query,
            limit,
        };
        let page = async {
            match self.begin(owner, ask).await?.reply().await? {
                FromShard::History { result, .. } => Ok(result),
                _ => Err(NoAnswer),
            }
        };
        self.patiently(page).await
    }

    /// How a shard is, if it says so within `limit`.
    pub(crate) async fn status(
        &self,
        shard: u16,
        limit: Duration,
    ) -> Result<ShardStatus, NoAnswer> {
        let status = async {
            match self
                .begin(shard, |ticket| ToShard::Status { ticket })
                .await?
                .reply()
                .await?
            {
                FromShard::Status { status, .. } => Ok(status),
                _ => Err(NoAnswer),
            }
        };
        tokio::time::timeout(limit, status)
            .await
            .unwrap_or(Err(NoAnswer))
    }

    async fn patiently<T>(
        &self,
        request: impl Future<Output = Result<T, NoAnswer>>,
    ) -> Result<T, NoAnswer> {
        let deadline = Instant::now() + self.patience;
        tokio::time::timeout_at(deadline, request)
            .await
            .unwrap_or(Err(NoAnswer))
    }

    async fn begin(
        &self,
        shard: u16,
        ask: impl FnOnce(u64) -> ToShard,
    ) -> Result<Pending, NoAnswer> {
        let ticket = self.next_ticket.fetch_add(1, Ordering::Relaxed);
        let (waiter, reply) = oneshot::channel();
        let before = locked(&self.waiting).insert(ticket, (shard, waiter));
        assert!(before.is_none(), "tickets are never reused");
        let pending = Pending {
            ticket,
            waiting: Arc::clone(&self.waiting),
            reply,
        };
        self.deliver(shard, ask(ticket)).await?;
        self.wake(shard);
        Ok(pending)
    }

    fn link(&self, shard: u16) -> Option<&ShardLink> {
        self.links.get(usize::from(shard))
    }
}

impl Pending {
    async fn reply(mut self) -> Result<FromShard, NoAnswer> {
        (&mut self.reply).await.map_err(|_| NoAnswer)
    }
}

fn locked(waiting: &Waiting) -> MutexGuard<'_, HashMap<u64, (u16, oneshot::Sender<FromShard>)>> {
    waiting.lock().expect("nothing panics while it is held")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crossbeam::channel::{Receiver, bounded};

    fn check<F: Future>(
        patience: Duration,
        test: impl FnOnce(Arc<Shards>, Vec<Receiver<ToShard>>) -> F,
    ) -> F::Output {
        let (links, queues) = (0..2)
            .map(|_| {
                let (to_shard, queue) = bounded(1);
                (
                    ShardLink {
                        to_shard,
                        wake: Arc::new(|| ()),
                    },
                    queue,
                )
            })
            .unzip();
        let shards = Shards::new(links, Arc::new(|_| 1), patience);
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_time()
            .build();
        runtime.unwrap().block_on(test(Arc::new(shards), queues))
    }

    fn ticket(message: &ToShard) -> u64 {
        match message {
            ToShard::Invalidate { ticket, .. }
            | ToShard::History { ticket, .. }
            | ToShard::Status { ticket } => *ticket,
            ToShard::Answer { .. } => panic!("an answer has no ticket"),
        }
    }

    const LONG: Duration = Duration::from_secs(60);

    const CHANGE: Invalidation = Invalidation {
        guild: GuildId::from_u128(1),
        version: 2,
        user: None,
        channel: None,
    };

    #[test]
    fn an_invalidation_waits_for_every_shard() {
        check(LONG, async |shards, queues| {
            let all = tokio::spawn({
                let shards = Arc::clone(&shards);
                async move { shards.invalidate(CHANGE).await }
            });
            tokio::task::yield_now().await;
            let tickets: Vec<u64> = queues
                .iter()
                .map(|queue| ticket(&queue.try_recv().unwrap()))
                .collect();
            shards.settle(1, tickets[1], FromShard::Invalidated { ticket: tickets[1] });
            // One shard cannot answer for another.
            shards.settle(1, tickets[0], FromShard::Invalidated { ticket: tickets[0] });
            tokio::task::yield_now().await;
            assert!(!all.is_finished());
            shards.settle(0, tickets[0], FromShard::Invalidated { ticket: tickets[0] });
            assert_eq!(all.await.unwrap(), Ok(()));
            assert!(locked(&shards.waiting).is_empty());
        });
    }

    #[test]
    fn silence_a_full_queue_and_an_ended_shard_are_no_answer() {
        check(RETRY * 5, async |shards, mut queues| {
            assert_eq!(shards.invalidate(CHANGE).await, Err(NoAnswer), "silence");
            assert_eq!(shards.status(0, RETRY * 5).await, Err(NoAnswer), "full");
            queues.pop();
            let page = shards
                .history(ChannelId::from_u128(3), HistoryQuery::Newest, 50)
                .await;
            assert_eq!(page, Err(NoAnswer), "ended");
            assert!(locked(&shards.waiting).is_empty(), "nobody waits any more");
        });
    }

    #[test]
    fn a_full_queue_is_tried_again() {
        check(LONG, async |shards, queues| {
            shards
                .deliver(0, ToShard::Status { ticket: 0 })
                .await
                .unwrap();
            let second = tokio::spawn({
                let shards = Arc::clone(&shards);
                async move { shards.deliver(0, ToShard::Status { ticket: 7 }).await }
            });
            tokio::time::sleep(RETRY * 3).await;
            assert!(!second.is_finished());
            assert_eq!(ticket(&queues[0].try_recv().unwrap()), 0);
            assert_eq!(second.await.unwrap(), Ok(()));
            assert_eq!(ticket(&queues[0].try_recv().unwrap()), 7);
        });
    }
}
