//! One io_uring of the generator, with a table of sockets that need no file descriptor.
//!
//! It knows no connection's state and waits for nothing. A table holds as many sockets as
//! RLIMIT_NOFILE allows, and a process may have many rings: so one process holds millions.
//!
//! Invariants: an operation is outstanding until a completion without the MORE flag was reaped; a
//! chain that dials completes exactly once, with the first failure or with its last step; memory
//! given to the kernel outlives its operation.

#![expect(unsafe_code, reason = "submitting to a ring has no safe interface")]

use std::io;
use std::os::fd::{AsRawFd, BorrowedFd, RawFd};

use io_uring::types::{CancelBuilder, DestinationSlot, Fd, Fixed};
use io_uring::{IoUring, cqueue, opcode, squeue};

use super::buffers::{BufferSizes, Buffers, GROUP};

const SUBMISSIONS: u32 = 512;
const COMPLETIONS: u32 = 4_096;
/// Threads of the kernel for what cannot be done in place: nothing that is used here.
const KERNEL_THREADS_MAX: u32 = 1;

/// What an operation is about.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[repr(u8)]
pub(crate) enum Operation {
    /// Socket, options, bind and connect in one chain.
    Dial = 1,
    Poll,
    Receive,
    Send,
    Cancel,
    Close,
    Accept,
}

const OPERATIONS: [Operation; 7] = [
    Operation::Dial,
    Operation::Poll,
    Operation::Receive,
    Operation::Send,
    Operation::Cancel,
    Operation::Close,
    Operation::Accept,
];

/// The kernel's answer to an operation.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Completion {
    pub(crate) operation: Operation,
    /// The socket's place in the ring's table.
    pub(crate) place: u32,
    /// What a send was tagged with.
    pub(crate) tag: u32,
    /// A count, or a negative error number.
    pub(crate) result: i32,
    /// The receive buffer that was filled.
    pub(crate) buffer: Option<u16>,
    /// Whether the operation goes on.
    pub(crate) more: bool,
    /// Whether more bytes wait in the socket.
    pub(crate) nonempty: bool,
}

/// An io_uring with its table of sockets and its receive buffers.
pub(crate) struct Ring {
    // Dropped before the buffers.
    uring: IoUring,
    buffers: Buffers,
}

/// The value of most options that are set.
static ON: libc::c_int = 1;
/// A close does not wait for what was not sent, and says RST.
static RESET: libc::linger = libc::linger {
    l_onoff: 1,
    l_linger: 0,
};

/// The receive buffer of a narrow socket, bytes, which the kernel doubles and then leaves alone; its own
/// tuning would go to megabytes.
static NARROW: libc::c_int = 64 << 10;

/// What is special about a connection.
#[derive(Clone, Copy, Debug)]
pub(crate) struct DialOptions {
    /// Whether a close resets it.
    pub(crate) is_abortive: bool,
    /// Whether its receive buffer is small and stays so.
    pub(crate) is_narrow: bool,
}

impl Ring {
    /// Opens a ring with room for `places` sockets that signals `wake` when something completes.
    pub(crate) fn open(places: u32, sizes: BufferSizes, wake: BorrowedFd<'_>) -> io::Result<Self> {
        let uring = IoUring::builder()
            .setup_single_issuer()
            .setup_defer_taskrun()
            .setup_taskrun_flag()
            .setup_submit_all()
            .setup_cqsize(COMPLETIONS)
            .build(SUBMISSIONS)?;
        let submitter = uring.submitter();
        submitter.register_files_sparse(places)?;
        submitter.register_eventfd(wake.as_raw_fd())?;
        submitter.register_iowq_max_workers(&mut [KERNEL_THREADS_MAX; 2])?;
        let buffers = Buffers::register(&submitter, sizes)?;
        Ok(Self { uring, buffers })
    }

    /// Makes a socket at this place and connects it.
    ///
    /// # Safety
    /// The addresses stay where they are until the completion was reaped.
    pub(crate) unsafe fn dial(
        &mut self,
        place: u32,
        source: Option<&libc::sockaddr_in>,
        target: &libc::sockaddr_in,
        options: DialOptions,
    ) {
        let slot = DestinationSlot::try_from_slot_target(place).expect("a place of the table");
        let fixed = Fixed(place);
        let socket = opcode::Socket::new(libc::AF_INET, libc::SOCK_STREAM, 0)
            .file_index(Some(slot))
            .build();
        let connect = opcode::Connect::new(fixed, pointer(target), ADDRESS_BYTES).build();
        let mut chain = vec![
            socket,
            option(fixed, libc::IPPROTO_TCP, libc::TCP_NODELAY, &ON),
        ];
        if options.is_narrow {
            chain.push(option(fixed, libc::SOL_SOCKET, libc::SO_RCVBUF, &NARROW));
        }
        if options.is_abortive {
            chain.push(option(fixed, libc::SOL_SOCKET, libc::SO_LINGER, &RESET));
        }
        if let Some(source) = source {
            // Without it the port is chosen at bind, among those free for any target.
            let late_port = option(fixed, libc::IPPROTO_IP, libc::IP_BIND_ADDRESS_NO_PORT, &ON);
            let bind = opcode::Bind::new(fixed, pointer(source), ADDRESS_BYTES).build();
            chain.extend([late_port, bind]);
        }
        // A chain ends where a submission ends.
        self.make_room(chain.len() + 1);
        for entry in chain {
            let linked = squeue::Flags::IO_LINK | squeue::Flags::SKIP_SUCCESS;
            self.push(entry.flags(linked), Operation::Dial, place, 0);
        }
        self.push(connect, Operation::Dial, place, 0);
    }

    /// Says each time when the socket has become readable, until cancelled.
    pub(crate) fn poll(&mut self, place: u32) {
        let events = u32::from((libc::POLLIN | libc::POLLRDHUP).cast_unsigned());
        let entry = opcode::PollAdd::new(Fixed(place), events)
            .multi(true)
            .build();
        self.push(entry, Operation::Poll, place, 0);
    }

    /// Receives what is there into a buffer.
    pub(crate) fn receive_once(&mut self, place: u32) {
        let entry = opcode::Recv::new(Fixed(place), std::ptr::null_mut(), 0)
            .flags(libc::MSG_DONTWAIT)
            .buf_group(GROUP)
            .build()
            .flags(squeue::Flags::BUFFER_SELECT);
        self.push(entry, Operation::Receive, place, 0);
    }

    /// Receives into the buffers until cancelled, ended or out of buffers.
    pub(crate) fn receive(&mut self, place: u32) {
        let entry = opcode::RecvMulti::new(Fixed(place), GROUP).build();
        self.push(entry, Operation::Receive, place, 0);
    }

    /// Sends all of these bytes unless the socket fails before.
    ///
    /// # Safety
    /// The bytes stay where and what they are until the completion was reaped.
    pub(crate) unsafe fn send(&mut self, place: u32, bytes: &[u8], tag: u32) {
        let len = u32::try_from(bytes.len()).expect("a frame of the generator");
        let entry = opcode::Send::new(Fixed(place), bytes.as_ptr(), len)
            .flags(libc::MSG_NOSIGNAL | libc::MSG_WAITALL)
            .build();
        self.push(entry, Operation::Send, place, tag);
    }

    /// Ends every operation on the socket; their own completions follow.
    pub(crate) fn cancel(&mut self, place: u32) {
        let all = CancelBuilder::fd(Fixed(place)).all();
        let entry = opcode::AsyncCancel2::new(all).build();
        self.push(entry, Operation::Cancel, place, 0);
    }

    /// Frees the place.
    pub(crate) fn close(&mut self, place: u32) {
        let entry = opcode::Close::new(Fixed(place)).build();
        self.push(entry, Operation::Close, place, 0);
    }

    /// Accepts connections into free places of the table until cancelled.
    pub(crate) fn accept(&mut self, listener: RawFd) {
        let entry = opcode::AcceptMulti::new(Fd(listener))
            .allocate_file_index(true)
            .build();
        self.push(entry, Operation::Accept, 0, 0);
    }

    /// Submits what was queued and runs what the kernel deferred, without waiting.
    pub(crate) fn enter(&mut self) -> io::Result<()> {
        let is_idle = {
            let submissions = self.uring.submission();
            submissions.is_empty() && !submissions.taskrun() && !submissions.cq_overflow()
        };
        if is_idle {
            return Ok(());
        }
        tolerate(self.uring.submit())
    }

    /// Takes completions out, as many as there are room for.
    pub(crate) fn reap(&mut self, into: &mut Vec<Completion>) {
        let entries = self.uring.completion();
        into.extend(entries.map(|entry| Completion::from(&entry)));
    }

    /// Whether the kernel has something for us, or we for it.
    pub(crate) fn has_work(&mut self) -> bool {
        let submissions = self.uring.submission();
        let waiting = submissions.taskrun() || submissions.cq_overflow() || !submissions.is_empty();
        drop(submissions);
        waiting || !self.uring.completion().is_empty()
    }

    /// Whether completions signal the eventfd.
    pub(crate) fn signal(&mut self, on: bool) {
        let completions = self.uring.completion();
        if on {
            completions.enable_eventfd();
        } else {
            completions.disable_eventfd();
        }
    }

    /// The receive buffers.
    pub(crate) const fn buffers(&mut self) -> &mut Buffers {
        &mut self.buffers
    }

    fn push(&mut self, entry: squeue::Entry, operation: Operation, place: u32, tag: u32) {
        let entry = entry.user_data(user_data(operation, place, tag));
        self.make_room(1);
        // SAFETY: what the entry points to lives until its completion; see `dial` and `send`.
        let pushed = unsafe { self.uring.submission().push(&entry) };
        pushed.expect("there is room");
    }

    /// Submits until so many entries fit. A kernel that is short of memory is asked again: it
    /// recovers, or the run cannot go on anyway.
    fn make_room(&mut self, entries: usize) {
        loop {
            let submissions = self.uring.submission();
            if submissions.capacity() - submissions.len() >= entries {
                return;
            }
            drop(submissions);
            tolerate(self.uring.submit()).expect("a ring of ours takes submissions");
        }
    }
}

fn option<T>(
    fixed: Fixed,
    level: libc::c_int,
    name: libc::c_int,
    value: &'static T,
) -> squeue::Entry {
    let bytes = u32::try_from(size_of::<T>()).expect("a few bytes");
    opcode::SetSockOpt::new(
        fixed,
        level.cast_unsigned(),
        name.cast_unsigned(),
        std::ptr::from_ref(value).cast(),
        bytes,
    )
    .build()
}

#[expect(clippy::cast_possible_truncation, reason = "16 bytes")]
const ADDRESS_BYTES: libc::socklen_t = size_of::<libc::sockaddr_in>() as libc::socklen_t;

const fn pointer(address: &libc::sockaddr_in) -> *const libc::sockaddr {
    std::ptr::from_ref(address).cast()
}

/// The kernel may be short of memory or interrupted by a signal: the next turn tries again.
fn tolerate(result: io::Result<usize>) -> io::Result<()> {
    match result {
        Err(error)
            if matches!(
                error.raw_os_error(),
                Some(libc::EAGAIN | libc::EBUSY | libc::EINTR)
            ) =>
        {
            Ok(())
        }
        result => result.map(drop),
    }
}

/// Tags are below this.
pub(crate) const TAGS_MAX: u32 = 1 << 28;

fn user_data(operation: Operation, place: u32, tag: u32) -> u64 {
    assert!(tag < TAGS_MAX);
    (operation as u64) << 60 | u64::from(tag) << 32 | u64::from(place)
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
        Self {
            operation,
            place: data as u32,
            tag: (data >> 32) as u32 & (TAGS_MAX - 1),
            result: entry.result(),
            buffer: cqueue::buffer_select(entry.flags()),
            more: cqueue::more(entry.flags()),
            nonempty: cqueue::sock_nonempty(entry.flags()),
        }
    }
}
