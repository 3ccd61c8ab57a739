//! One io_uring of one shard: every call into the kernel that concerns its sockets goes through it.
//!
//! It knows no socket's state and waits for nothing but, at the end, its own operations. It is
//! woken through an eventfd: to poll the ring's own descriptor hangs with deferred task work.
//!
//! Invariants: a place of the shard is at its number minus the ring's first one in the ring's
//! table; an operation is outstanding until a completion without the MORE flag was reaped; memory
//! given to the kernel outlives its operation; whoever has nothing to submit and nothing to hear
//! is not entered, which is seen in the memory that it shares with the kernel.

#![expect(unsafe_code, reason = "submitting to a ring has no safe interface")]

use std::collections::VecDeque;
use std::os::fd::{AsRawFd, BorrowedFd, RawFd};
use std::time::Duration;

use io_uring::types::{CancelBuilder, DestinationSlot, Fd, Fixed, SubmitArgs, Timespec};
use io_uring::{IoUring, Probe, opcode, squeue};

use super::buffers::{Buffers, GROUP};
use super::error::EdgeError;
use super::operation::{Completion, Operation, PLACES_MAX, user_data};
use crate::io::ConnId;

/// Entries of the submission queue: 16 KiB.
pub(super) const SUBMISSIONS: u32 = 256;
/// Threads of the kernel for what cannot be done in place: only `shutdown`.
const KERNEL_THREADS_MAX: u32 = 2;

/// An io_uring with its table of sockets and its receive buffers.
pub(super) struct Ring {
    // Dropped before the buffers.
    uring: IoUring,
    buffers: Buffers,
    /// The shard's number of the first place in the table.
    first: u32,
    delayed: VecDeque<squeue::Entry>,
    outstanding: usize,
}

/// How large a ring is.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct RingSize {
    /// Sockets in its table: 8 bytes each.
    pub(super) places: u32,
    /// Entries of its completion queue, 16 bytes each; more completions are kept by the kernel,
    /// only slower.
    pub(super) completions: u32,
    /// Receive buffers, a power of two.
    pub(super) receive_buffers: u16,
    /// Bytes of each.
    pub(super) receive_buffer_bytes: u32,
}

impl Ring {
    /// Opens a ring for the places from `first` on that signals `wake` when something completes.
    /// Must be called on the thread that uses it.
    pub(super) fn open(
        first: u32,
        size: RingSize,
        wake: BorrowedFd<'_>,
    ) -> Result<Self, EdgeError> {
        assert!(size.places >= 1 && first < PLACES_MAX - size.places);
        let uring = IoUring::builder()
            .setup_single_issuer()
            .setup_defer_taskrun()
            .setup_taskrun_flag()
            .setup_submit_all()
            .setup_cqsize(size.completions)
            .build(SUBMISSIONS.min(size.completions))
            .map_err(EdgeError::kernel(
                "opening an io_uring (is it allowed, and RLIMIT_MEMLOCK large enough?)",
            ))?;
        let submitter = uring.submitter();
        check_kernel(&submitter, uring.params())?;
        submitter
            .register_files_sparse(size.places)
            .map_err(EdgeError::kernel("registering the table of sockets"))?;
        submitter
            .register_eventfd(wake.as_raw_fd())
            .map_err(EdgeError::kernel("registering the wake-up"))?;
        submitter
            .register_iowq_max_workers(&mut [KERNEL_THREADS_MAX; 2])
            .map_err(EdgeError::kernel("limiting the kernel's threads"))?;
        let buffers =
            Buffers::register(&submitter, size.receive_buffers, size.receive_buffer_bytes)?;
        Ok(Self {
            uring,
            buffers,
            first,
            delayed: VecDeque::new(),
            outstanding: 0,
        })
    }

    /// Accepts one connection into a free place of the table; the completion says into which,
    /// counted from the ring's first one.
    pub(super) fn accept(&mut self, listener: RawFd) {
        let none = std::ptr::null_mut();
        let entry = opcode::Accept::new(Fd(listener), none, none.cast())
            .file_index(Some(DestinationSlot::auto_target()))
            .build();
        self.push(entry, Operation::Accept, self.place(0));
    }

    /// Ends all accepts; the completion of each follows.
    pub(super) fn cancel_accepts(&mut self) {
        let which = CancelBuilder::user_data(user_data(Operation::Accept, self.place(0))).all();
        let entry = opcode::AsyncCancel2::new(which).build();
        self.push(entry, Operation::CancelAccept, self.place(0));
    }

    /// Receives into the buffers until cancelled, ended or out of buffers.
    pub(super) fn receive(&mut self, conn: ConnId) {
        let entry = opcode::RecvMulti::new(self.slot(conn), GROUP).build();
        self.push(entry, Operation::Receive, conn);
    }

    /// Says whenever bytes or a FIN have arrived, until cancelled. Costs the kernel less memory than
    /// a receive that waits.
    pub(super) fn poll(&mut self, conn: ConnId) {
        let events = u32::from((libc::POLLIN | libc::POLLRDHUP).cast_unsigned());
        let entry = opcode::PollAdd::new(self.slot(conn), events)
            .multi(true)
            .build();
        self.push(entry, Operation::Poll, conn);
    }

    /// Receives once into one of the buffers, if anything is there.
    pub(super) fn read(&mut self, conn: ConnId) {
        // The length is that of the buffer which the kernel takes.
        let entry = opcode::Recv::new(self.slot(conn), std::ptr::null_mut(), 0)
            .flags(libc::MSG_DONTWAIT)
            .buf_group(GROUP)
            .build()
            .flags(squeue::Flags::BUFFER_SELECT);
        self.push(entry, Operation::Receive, conn);
    }

    /// Sends all of these bytes unless the socket fails before.
    ///
    /// # Safety
    /// The bytes stay where and what they are until the completion was reaped.
    pub(super) unsafe fn send(&mut self, conn: ConnId, bytes: &[u8]) {
        let bytes_max = bytes.len().min(1 << 30);
        let len = u32::try_from(bytes_max).expect("2^30 fits");
        // WAITALL: without it the kernel may report a short send as complete.
        let entry = opcode::Send::new(self.slot(conn), bytes.as_ptr(), len)
            .flags(libc::MSG_NOSIGNAL | libc::MSG_WAITALL)
            .build();
        self.push(entry, Operation::Send, conn);
    }

    /// Says FIN. The kernel looks the place up again when one of its threads gets to it, so the
    /// place must not be closed before the completion.
    pub(super) fn shutdown(&mut self, conn: ConnId) {
        let entry = opcode::Shutdown::new(self.slot(conn), libc::SHUT_WR).build();
        self.push(entry, Operation::Shutdown, conn);
    }

    /// Makes an ordinary descriptor of the socket; the place keeps it too until it is closed.
    pub(super) fn install(&mut self, conn: ConnId) {
        let entry = opcode::FixedFdInstall::new(self.slot(conn), 0).build();
        self.push(entry, Operation::Install, conn);
    }

    /// Frees the place.
    pub(super) fn close(&mut self, conn: ConnId) {
        let entry = opcode::Close::new(self.slot(conn)).build();
        self.push(entry, Operation::Close, conn);
    }

    /// Ends a receive, poll or send; that operation's own completion follows.
    pub(super) fn cancel(&mut self, operation: Operation, conn: ConnId) {
        let cancel = match operation {
            Operation::Receive => Operation::CancelReceive,
            Operation::Poll => Operation::CancelPoll,
            Operation::Send => Operation::CancelSend,
            other => unreachable!("{other:?} is never cancelled"),
        };
        let entry = opcode::AsyncCancel::new(user_data(operation, conn)).build();
        self.push(entry, cancel, conn);
    }

    /// Submits what was queued and runs what the kernel deferred, without waiting.
    pub(super) fn enter(&mut self) -> Result<(), EdgeError> {
        self.queue_delayed();
        if !self.is_due() {
            return Ok(());
        }
        self.buffers.publish();
        tolerate(self.uring.submit().map(drop))
    }

    /// Like [`Ring::enter`], but waits up to `timeout` for a completion.
    pub(super) fn enter_and_wait(&mut self, timeout: Duration) -> Result<(), EdgeError> {
        self.queue_delayed();
        self.buffers.publish();
        let timespec = Timespec::from(timeout);
        let args = SubmitArgs::new().timespec(&timespec);
        tolerate(self.uring.submitter().submit_with_args(1, &args).map(drop))
    }

    /// Takes up to `count_max` completions out.
    pub(super) fn reap(&mut self, into: &mut Vec<Completion>, count_max: usize) {
        for entry in self.uring.completion().take(count_max) {
            let completion = Completion::from(&entry);
            self.outstanding -= usize::from(!completion.more);
            into.push(completion);
        }
    }

    /// Whether the kernel has something for us, or we for it.
    pub(super) fn has_work(&mut self) -> bool {
        self.is_due() || !self.delayed.is_empty() || !self.uring.completion().is_empty()
    }

    /// How many operations wait to be submitted.
    pub(super) fn queued(&mut self) -> usize {
        self.uring.submission().len() + self.delayed.len()
    }

    /// Whether entering would do something.
    fn is_due(&mut self) -> bool {
        let submissions = self.uring.submission();
        submissions.taskrun() || submissions.cq_overflow() || !submissions.is_empty()
    }

    /// Whether completions signal the eventfd. To be switched on before the last look at
    /// [`Ring::has_work`] ahead of a sleep.
    pub(super) fn signal(&mut self, on: bool) {
        let completions = self.uring.completion();
        if on {
            completions.enable_eventfd();
        } else {
            completions.disable_eventfd();
        }
    }

    /// Operations that have not completed.
    pub(super) fn outstanding(&self) -> usize {
        self.outstanding
    }

    /// The receive buffers.
    pub(super) fn buffers(&mut self) -> &mut Buffers {
        &mut self.buffers
    }

    /// The shard's name of a place of this ring's table; its generation is not known here.
    pub(super) fn place(&self, slot: u32) -> ConnId {
        ConnId {
            index: self.first + slot,
            generation: 0,
        }
    }

    fn slot(&self, conn: ConnId) -> Fixed {
        Fixed(conn.index - self.first)
    }

    fn push(&mut self, entry: squeue::Entry, operation: Operation, conn: ConnId) {
        self.outstanding += 1;
        let entry = entry.user_data(user_data(operation, conn));
        // None overtakes those that wait.
        if !self.delayed.is_empty() || !self.queue(&entry) {
            self.delayed.push_back(entry);
            self.queue_delayed();
        }
    }

    /// Whether there was room in the submission queue.
    fn queue(&mut self, entry: &squeue::Entry) -> bool {
        // SAFETY: what the entry points to lives until its completion; see `send`.
        unsafe { self.uring.submission().push(entry) }.is_ok()
    }

    /// Moves entries into the submission queue. Where the kernel takes no more for now they wait
    /// here: a few per socket at most.
    fn queue_delayed(&mut self) {
        while let Some(entry) = self.delayed.pop_front() {
            if self.queue(&entry) {
                continue;
            }
            self.delayed.push_front(entry);
            if self.uring.submit().is_err() || self.uring.submission().is_full() {
                return;
            }
        }
    }
}

/// The kernel may be short of memory or interrupted by a signal: the next round tries again.
fn tolerate(result: std::io::Result<()>) -> Result<(), EdgeError> {
    match result {
        Err(error)
            if matches!(
                error.raw_os_error(),
                Some(libc::EAGAIN | libc::EBUSY | libc::EINTR | libc::ETIME)
            ) =>
        {
            Ok(())
        }
        result => result.map_err(EdgeError::kernel("submitting to the io_uring")),
    }
}

fn check_kernel(
    submitter: &io_uring::Submitter<'_>,
    params: &io_uring::Parameters,
) -> Result<(), EdgeError> {
    let mut probe = Probe::new();
    submitter
        .register_probe(&mut probe)
        .map_err(EdgeError::kernel("probing the io_uring"))?;
    let needed = [
        (opcode::FixedFdInstall::CODE, "io_uring FIXED_FD_INSTALL"),
        (opcode::Send::CODE, "io_uring SEND"),
        (opcode::RecvMulti::CODE, "io_uring RECV"),
        (opcode::Shutdown::CODE, "io_uring SHUTDOWN"),
        (opcode::PollAdd::CODE, "io_uring POLL"),
    ];
    match needed
        .into_iter()
        .find(|(code, _)| !probe.is_supported(*code))
    {
        Some((_, missing)) => Err(EdgeError::KernelTooOld { missing }),
        None if !params.is_feature_nodrop() => Err(EdgeError::KernelTooOld {
            missing: "io_uring without lost completions",
        }),
        None => Ok(()),
    }
}
