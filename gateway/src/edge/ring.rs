//! One io_uring of one shard: every call into the kernel that concerns a socket goes through it.
//!
//! It knows no socket's state and waits for nothing but, at the end, its own operations. It is
//! woken through an eventfd: to poll the ring's own descriptor hangs with deferred task work.
//!
//! Invariants: each operation carries its socket's place and generation, so a late completion is
//! never taken for one of the next tenant; an operation is outstanding until a completion without
//! the MORE flag was reaped; memory given to the kernel outlives its operation.

#![expect(unsafe_code, reason = "submitting to a ring has no safe interface")]

use std::collections::VecDeque;
use std::os::fd::{AsRawFd, BorrowedFd, RawFd};
use std::time::Duration;

use io_uring::types::{Fd, Fixed, SubmitArgs, Timespec};
use io_uring::{IoUring, Probe, cqueue, opcode, squeue};

use super::buffers::{Buffers, GROUP};
use super::error::EdgeError;
use crate::io::ConnId;

const SUBMISSIONS: u32 = 256;
/// Room for the completions of one flush of sends besides what arrives; more is kept by the
/// kernel, only slower.
const COMPLETIONS: u32 = 4_096;
/// Threads of the kernel for what cannot be done in place: only `shutdown`.
const KERNEL_THREADS_MAX: u32 = 2;

/// What an operation is about. Numbers are only seen by this process.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[repr(u8)]
pub(super) enum Operation {
    Accept = 1,
    Receive,
    Send,
    CancelReceive,
    CancelSend,
    CancelAccept,
    Shutdown,
    Install,
    Close,
}

const OPERATIONS: [Operation; 9] = [
    Operation::Accept,
    Operation::Receive,
    Operation::Send,
    Operation::CancelReceive,
    Operation::CancelSend,
    Operation::CancelAccept,
    Operation::Shutdown,
    Operation::Install,
    Operation::Close,
];

/// Places that fit beside the operation and the generation.
pub(super) const PLACES_MAX: u32 = 1 << 28;

/// Stands in for the socket where an operation has none.
pub(super) const NO_CONN: ConnId = ConnId {
    index: 0,
    generation: 0,
};

/// The kernel's answer to an operation.
#[derive(Clone, Copy, Debug)]
pub(super) struct Completion {
    /// Which operation.
    pub(super) operation: Operation,
    /// On which socket.
    pub(super) conn: ConnId,
    /// A count or descriptor, or a negative error number.
    pub(super) result: i32,
    /// The receive buffer that was filled.
    pub(super) buffer: Option<u16>,
    /// Whether the operation goes on.
    pub(super) more: bool,
}

/// An io_uring with its table of sockets and its receive buffers.
pub(super) struct Ring {
    // Dropped before the buffers.
    uring: IoUring,
    buffers: Buffers,
    delayed: VecDeque<squeue::Entry>,
    outstanding: usize,
}

impl Ring {
    /// Opens a ring with room for `places` sockets that signals `wake` when something completes.
    /// Must be called on the thread that uses it.
    pub(super) fn open(
        places: u32,
        receive_buffers: u16,
        receive_buffer_bytes: u32,
        wake: BorrowedFd<'_>,
    ) -> Result<Self, EdgeError> {
        assert!((1..PLACES_MAX).contains(&places));
        let uring = IoUring::builder()
            .setup_single_issuer()
            .setup_defer_taskrun()
            .setup_taskrun_flag()
            .setup_submit_all()
            .setup_cqsize(COMPLETIONS)
            .build(SUBMISSIONS)
            .map_err(EdgeError::kernel(
                "opening an io_uring (is it allowed, and RLIMIT_MEMLOCK large enough?)",
            ))?;
        let submitter = uring.submitter();
        check_kernel(&submitter, uring.params())?;
        submitter
            .register_files_sparse(places)
            .map_err(EdgeError::kernel("registering the table of sockets"))?;
        submitter
            .register_eventfd(wake.as_raw_fd())
            .map_err(EdgeError::kernel("registering the wake-up"))?;
        submitter
            .register_iowq_max_workers(&mut [KERNEL_THREADS_MAX; 2])
            .map_err(EdgeError::kernel("limiting the kernel's threads"))?;
        let buffers = Buffers::register(&submitter, receive_buffers, receive_buffer_bytes)?;
        Ok(Self {
            uring,
            buffers,
            delayed: VecDeque::new(),
            outstanding: 0,
        })
    }

    /// Accepts connections into free places of the table until cancelled.
    pub(super) fn accept(&mut self, listener: RawFd) {
        let entry = opcode::AcceptMulti::new(Fd(listener))
            .allocate_file_index(true)
            .build();
        self.push(entry, Operation::Accept, NO_CONN);
    }

    /// Receives into the buffers until cancelled, ended or out of buffers.
    pub(super) fn receive(&mut self, conn: ConnId) {
        let entry = opcode::RecvMulti::new(Fixed(conn.index), GROUP).build();
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
        let entry = opcode::Send::new(Fixed(conn.index), bytes.as_ptr(), len)
            .flags(libc::MSG_NOSIGNAL | libc::MSG_WAITALL)
            .build();
        self.push(entry, Operation::Send, conn);
    }

    /// Says FIN. The kernel looks the place up again when one of its threads gets to it, so the
    /// place must not be closed before the completion.
    pub(super) fn shutdown(&mut self, conn: ConnId) {
        let entry = opcode::Shutdown::new(Fixed(conn.index), libc::SHUT_WR).build();
        self.push(entry, Operation::Shutdown, conn);
    }

    /// Makes an ordinary descriptor of the socket; the place keeps it too until it is closed.
    pub(super) fn install(&mut self, conn: ConnId) {
        let entry = opcode::FixedFdInstall::new(Fixed(conn.index), 0).build();
        self.push(entry, Operation::Install, conn);
    }

    /// Frees the place.
    pub(super) fn close(&mut self, conn: ConnId) {
        let entry = opcode::Close::new(Fixed(conn.index)).build();
        self.push(entry, Operation::Close, conn);
    }

    /// Ends a receive, send or accept; that operation's own completion follows.
    pub(super) fn cancel(&mut self, operation: Operation, conn: ConnId) {
        let cancel = match operation {
            Operation::Receive => Operation::CancelReceive,
            Operation::Send => Operation::CancelSend,
            Operation::Accept => Operation::CancelAccept,
            other => unreachable!("{other:?} is never cancelled"),
        };
        let entry = opcode::AsyncCancel::new(user_data(operation, conn)).build();
        self.push(entry, cancel, conn);
    }

    /// Submits what was queued and runs what the kernel deferred, without waiting.
    pub(super) fn enter(&mut self) -> Result<(), EdgeError> {
        self.queue_delayed();
        let idle = {
            let submissions = self.uring.submission();
            submissions.is_empty() && !submissions.taskrun() && !submissions.cq_overflow()
        };
        if idle {
            return Ok(());
        }
        tolerate(self.uring.submit().map(drop))
    }

    /// Like [`Ring::enter`], but waits up to `timeout` for a completion.
    pub(super) fn enter_and_wait(&mut self, timeout: Duration) -> Result<(), EdgeError> {
        self.queue_delayed();
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
        let submissions = self.uring.submission();
        let waiting = submissions.taskrun() || submissions.cq_overflow() || !submissions.is_empty();
        drop(submissions);
        waiting || !self.delayed.is_empty() || !self.uring.completion().is_empty()
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

    fn push(&mut self, entry: squeue::Entry, operation: Operation, conn: ConnId) {
        self.outstanding += 1;
        self.delayed
            .push_back(entry.user_data(user_data(operation, conn)));
        self.queue_delayed();
    }

    /// Moves entries into the submission queue. Where the kernel takes no more for now they wait
    /// here: a few per socket at most.
    fn queue_delayed(&mut self) {
        while let Some(entry) = self.delayed.front() {
            // SAFETY: what the entry points to lives until its completion; see `send`.
            let pushed = unsafe { self.uring.submission().push(entry) };
            if pushed.is_ok() {
                self.delayed.pop_front();
            } else if self.uring.submit().is_err() || self.uring.submission().is_full() {
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

fn user_data(operation: Operation, conn: ConnId) -> u64 {
    assert!(conn.index < PLACES_MAX);
    (operation as u64) << 60 | u64::from(conn.index) << 32 | u64::from(conn.generation)
}

impl From<&cqueue::Entry> for Completion {
    #[expect(
        clippy::cast_possible_truncation,
        reason = "each part is masked to its width"
    )]
    fn from(entry: &cqueue::Entry) -> Self {
        let data = entry.user_data();
        let number = (data >> 60) as usize;
        let operation = *OPERATIONS
            .get(number.wrapping_sub(1))
            .expect("the kernel echoes ours");
        let index = (data >> 32) as u32 & (PLACES_MAX - 1);
        Self {
            operation,
            conn: ConnId {
                index,
                generation: data as u32,
            },
            result: entry.result(),
            buffer: cqueue::buffer_select(entry.flags()),
            more: cqueue::more(entry.flags()),
        }
    }
}
