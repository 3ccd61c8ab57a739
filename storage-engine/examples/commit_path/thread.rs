//! Candidates that hand a commit to a thread of its own, which writes with `RWF_DSYNC`.
//!
//! The thread never touches the executor but through the waker of the task that waits.
//!
//! Invariants: a job's memory comes back with its result.

use std::fs::File;
use std::future::poll_fn;
use std::hint::spin_loop;
use std::io::{self, IoSlice};
use std::sync::mpsc::{Receiver, SyncSender, TryRecvError, sync_channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Poll, Waker};
use std::thread::JoinHandle;
use std::time::Duration;

use rustix::io::ReadWriteFlags;

use crate::blocks::Blocks;
use crate::now;

/// What the thread does with a job.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Work {
    /// Writes and syncs it.
    Write,
    /// Gives it back: what the hand-over costs by itself.
    Nothing,
}

struct Job {
    blocks: Blocks,
    offset: u32,
    done: Arc<Mutex<Done>>,
}

#[derive(Default)]
struct Done {
    result: Option<io::Result<Blocks>>,
    waker: Option<Waker>,
}

/// A job under way.
pub(crate) struct Ticket(Arc<Mutex<Done>>);

/// The thread.
pub(crate) struct LogThread {
    jobs: Option<SyncSender<Job>>,
    thread: Option<JoinHandle<()>>,
}

impl LogThread {
    /// Starts it. Without a job it looks for one for `spin` before it sleeps.
    #[expect(clippy::disallowed_methods, reason = "what is measured is a thread")]
    pub(crate) fn start(file: File, work: Work, spin: Duration) -> Self {
        let (jobs, coming) = sync_channel(2);
        let thread = std::thread::spawn(move || serve(&file, work, spin, &coming));
        Self {
            jobs: Some(jobs),
            thread: Some(thread),
        }
    }

    pub(crate) fn begin(&self, blocks: Blocks, offset: u32) -> Ticket {
        let done = Arc::new(Mutex::new(Done::default()));
        let job = Job {
            blocks,
            offset,
            done: Arc::clone(&done),
        };
        let jobs = self.jobs.as_ref().expect("open until dropped");
        assert!(jobs.try_send(job).is_ok(), "two jobs at most");
        Ticket(done)
    }
}

impl Ticket {
    pub(crate) async fn wait(self) -> io::Result<Blocks> {
        poll_fn(|context| {
            let mut done = self.0.lock().unwrap_or_else(PoisonError::into_inner);
            if let Some(result) = done.result.take() {
                return Poll::Ready(result);
            }
            done.waker = Some(context.waker().clone());
            Poll::Pending
        })
        .await
    }
}

impl Drop for LogThread {
    fn drop(&mut self) {
        self.jobs = None;
        if let Some(thread) = self.thread.take() {
            thread.join().expect("the thread does not panic");
        }
    }
}

fn serve(file: &File, work: Work, spin: Duration, coming: &Receiver<Job>) {
    while let Some(job) = next(coming, spin) {
        let written = match work {
            Work::Write => write_dsync(file, &job.blocks, job.offset),
            Work::Nothing => Ok(()),
        };
        let result = written.map(|()| job.blocks);
        let mut done = job.done.lock().unwrap_or_else(PoisonError::into_inner);
        done.result = Some(result);
        let waker = done.waker.take();
        drop(done);
        if let Some(waker) = waker {
            waker.wake();
        }
    }
}

fn next(coming: &Receiver<Job>, spin: Duration) -> Option<Job> {
    if spin.is_zero() {
        return coming.recv().ok();
    }
    let begun = now();
    while begun.elapsed() < spin {
        match coming.try_recv() {
            Ok(job) => return Some(job),
            Err(TryRecvError::Empty) => spin_loop(),
            Err(TryRecvError::Disconnected) => return None,
        }
    }
    coming.recv().ok()
}

/// Writes all of it and returns when it is durable.
pub(crate) fn write_dsync(file: &File, blocks: &Blocks, offset: u32) -> io::Result<()> {
    let slices = [IoSlice::new(blocks.bytes())];
    let written = rustix::io::pwritev2(file, &slices, offset.into(), ReadWriteFlags::DSYNC)?;
    assert_eq!(written, blocks.bytes().len(), "a disk writes all or fails");
    Ok(())
}
