//! Waking a shard that sleeps: one eventfd per shard.
//!
//! Three things write it: the kernel, for the shard's ring; other threads, through a
//! [`ShardWaker`]; nothing on the shard itself, which rings its [`Bell`]. It carries no data.
//!
//! Invariants: whoever puts something where the shard looks and then wakes it is seen: the shard
//! says that it sleeps, looks once more, and only then waits. A shard that is awake costs its
//! wakers one atomic load.

use std::cell::{Cell, RefCell};
use std::future::Future;
use std::os::fd::{AsFd, BorrowedFd, FromRawFd, IntoRawFd, OwnedFd};
use std::pin::Pin;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering, fence};
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use glommio::io::BufferedFile;
use glommio::timer::Timer;
use rustix::event::{EventfdFlags, eventfd};

use super::error::EdgeError;

#[derive(Debug)]
struct Shared {
    eventfd: OwnedFd,
    asleep: AtomicBool,
}

/// Wakes one shard, from any thread.
#[derive(Clone, Debug)]
pub struct ShardWaker {
    shared: Arc<Shared>,
}

impl ShardWaker {
    /// A waker for a shard that has not started.
    ///
    /// # Errors
    /// The process has no descriptors left.
    pub fn new() -> Result<Self, EdgeError> {
        // Blocking, since io_uring does not wait for a read of a non-blocking descriptor.
        let eventfd = eventfd(0, EventfdFlags::CLOEXEC)
            .map_err(std::io::Error::from)
            .map_err(EdgeError::kernel("making an eventfd"))?;
        Ok(Self {
            shared: Arc::new(Shared {
                eventfd,
                asleep: AtomicBool::new(false),
            }),
        })
    }

    /// Makes the shard look at everything it serves. To be called after what it is to see was put
    /// there. Never blocks.
    pub fn wake(&self) {
        // Pairs with the fence in `Sleeper::prepare`: either we see that the shard sleeps, or it
        // sees what was put there.
        fence(Ordering::SeqCst);
        let asleep = &self.shared.asleep;
        if asleep.load(Ordering::Relaxed) && asleep.swap(false, Ordering::Relaxed) {
            // It fails only when 2^64 wakes were not read.
            let _ = rustix::io::write(&self.shared.eventfd, &1_u64.to_ne_bytes());
        }
    }

    /// What the kernel is to signal.
    pub(super) fn eventfd(&self) -> BorrowedFd<'_> {
        self.shared.eventfd.as_fd()
    }
}

/// Wakes the shard from its own thread: a task that has finished something for it.
#[derive(Clone, Debug, Default)]
pub struct Bell {
    rung: Rc<Cell<bool>>,
    waiting: Rc<RefCell<Option<Waker>>>,
}

impl Bell {
    /// Makes the shard look at its services.
    pub fn ring(&self) {
        self.rung.set(true);
        if let Some(waker) = self.waiting.borrow_mut().take() {
            waker.wake();
        }
    }

    /// Whether it rang since the last time this was asked.
    pub(super) fn take(&self) -> bool {
        self.rung.take()
    }
}

type Reading = Pin<Box<dyn Future<Output = ()>>>;

/// The sleep of one shard.
pub(super) struct Sleeper {
    waker: ShardWaker,
    bell: Bell,
    file: Rc<BufferedFile>,
    reading: Option<Reading>,
    timer: Option<Timer>,
}

impl Sleeper {
    /// Must be called on the shard's executor.
    #[expect(
        unsafe_code,
        reason = "glommio takes a foreign descriptor only this way"
    )]
    pub(super) fn new(waker: ShardWaker, bell: Bell) -> Result<Self, EdgeError> {
        let eventfd = waker
            .eventfd()
            .try_clone_to_owned()
            .map_err(EdgeError::kernel("duplicating the eventfd"))?;
        // SAFETY: the descriptor is ours and given away; the file closes it.
        let file = unsafe { BufferedFile::from_raw_fd(eventfd.into_raw_fd()) };
        Ok(Self {
            waker,
            bell,
            file: Rc::new(file),
            reading: None,
            timer: None,
        })
    }

    /// Says that the shard is about to sleep. What was put before is to be looked for after this.
    pub(super) fn prepare(&self) {
        self.waker.shared.asleep.store(true, Ordering::Relaxed);
        fence(Ordering::SeqCst);
    }

    /// Says that the shard is awake.
    pub(super) fn awake(&self) {
        self.waker.shared.asleep.store(false, Ordering::Relaxed);
    }

    /// Sleeps until somebody wakes the shard, its bell rings, or the time is over. May end early.
    pub(super) async fn sleep(&mut self, timeout: Duration) {
        let mut timer = self.timer.take().unwrap_or_else(|| Timer::new(timeout));
        let elapsed = std::future::poll_fn(|context| self.poll_sleep(&mut timer, context)).await;
        if !elapsed {
            self.timer = Some(timer);
        }
    }

    /// Waits until the time is over or the bell rings; whatever else happens waits too.
    pub(super) async fn rest(&mut self, time: Duration) {
        let mut timer = Timer::new(time);
        std::future::poll_fn(|context| {
            *self.bell.waiting.borrow_mut() = Some(context.waker().clone());
            if self.bell.rung.get() {
                return Poll::Ready(());
            }
            Pin::new(&mut timer).poll(context).map(drop)
        })
        .await;
    }

    /// Ready with whether the timer has fired. A read that is not over stays for the next sleep.
    fn poll_sleep(&mut self, timer: &mut Timer, context: &mut Context<'_>) -> Poll<bool> {
        *self.bell.waiting.borrow_mut() = Some(context.waker().clone());
        if self.bell.rung.get() {
            return Poll::Ready(false);
        }
        let file = &self.file;
        let reading = self.reading.get_or_insert_with(|| {
            let file = Rc::clone(file);
            Box::pin(async move {
                if let Err(error) = file.read_at(0, size_of::<u64>()).await {
                    tracing::error!(%error, "reading the wake-up");
                }
            })
        });
        if reading.as_mut().poll(context).is_ready() {
            self.reading = None;
            return Poll::Ready(false);
        }
        Pin::new(timer).poll(context).map(|_| true)
    }
}
