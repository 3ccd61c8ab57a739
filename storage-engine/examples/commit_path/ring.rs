//! Candidates that write through an io_uring of their own on the executor's thread.
//!
//! A ring never has more than one commit under way.
//!
//! Invariants: the memory of a write outlives its completion.

use std::fs::File;
use std::io;
use std::os::fd::{AsRawFd, FromRawFd, IntoRawFd, OwnedFd};

use glommio::io::BufferedFile;
use io_uring::squeue::Flags;
use io_uring::types::{Fd, FsyncFlags};
use io_uring::{IoUring, opcode, squeue};
use rustix::event::{EventfdFlags, eventfd};

use crate::Failure;
use crate::blocks::Blocks;

/// How a write becomes durable.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Sync {
    /// A write with `RWF_DSYNC`.
    Dsync,
    /// A write, and a sync of the data linked behind it.
    Linked,
}

/// How the completion is noticed.
pub(crate) enum Notice {
    /// The thread waits in the kernel, and does nothing else.
    Blocking,
    /// An eventfd that the executor waits for with everything else.
    Eventfd(BufferedFile),
}

/// The ring.
pub(crate) struct Ring {
    uring: IoUring,
    file: File,
    sync: Sync,
    notice: Notice,
}

impl Ring {
    pub(crate) fn new(file: File, sync: Sync, notice: Notice) -> Result<Self, Failure> {
        let uring = IoUring::new(4)?;
        Ok(Self {
            uring,
            file,
            sync,
            notice,
        })
    }

    #[expect(
        unsafe_code,
        reason = "glommio takes a foreign descriptor only this way"
    )]
    pub(crate) fn with_eventfd(file: File, sync: Sync) -> Result<Self, Failure> {
        let event = eventfd(0, EventfdFlags::CLOEXEC)?;
        let watched: OwnedFd = event.try_clone()?;
        // SAFETY: the descriptor is ours and given away; the file closes it.
        let watched = unsafe { BufferedFile::from_raw_fd(watched.into_raw_fd()) };
        let ring = Self::new(file, sync, Notice::Eventfd(watched))?;
        ring.uring.submitter().register_eventfd(event.as_raw_fd())?;
        Ok(ring)
    }

    pub(crate) async fn write(&mut self, blocks: &Blocks, offset: u32) -> Result<(), Failure> {
        let mut left = self.submit(blocks, offset)?;
        while left > 0 {
            match &self.notice {
                Notice::Blocking => {
                    self.uring.submit_and_wait(left)?;
                }
                Notice::Eventfd(watched) => {
                    watched.read_at(0, 8).await?;
                }
            }
            left -= self.reap(blocks)?;
        }
        Ok(())
    }

    #[expect(unsafe_code, reason = "the ring takes pointers")]
    fn submit(&mut self, blocks: &Blocks, offset: u32) -> Result<usize, Failure> {
        let bytes = u32::try_from(blocks.bytes().len())?;
        let fd = Fd(self.file.as_raw_fd());
        let write = opcode::Write::new(fd, blocks.bytes().as_ptr(), bytes).offset(offset.into());
        let entries: Vec<squeue::Entry> = match self.sync {
            Sync::Dsync => vec![write.rw_flags(libc::RWF_DSYNC).build()],
            Sync::Linked => {
                let sync = opcode::Fsync::new(fd).flags(FsyncFlags::DATASYNC).build();
                vec![write.build().flags(Flags::IO_LINK), sync]
            }
        };
        // SAFETY: `blocks` is borrowed until `write` has seen every completion.
        unsafe { self.uring.submission().push_multiple(&entries) }?;
        if !matches!(self.notice, Notice::Blocking) {
            self.uring.submit()?;
        }
        Ok(entries.len())
    }

    fn reap(&mut self, blocks: &Blocks) -> Result<usize, Failure> {
        let mut seen = 0;
        for completion in self.uring.completion() {
            let bytes = usize::try_from(completion.result())
                .map_err(|_| io::Error::from_raw_os_error(-completion.result()))?;
            assert!(bytes == 0 || bytes == blocks.bytes().len(), "short write");
            seen += 1;
        }
        Ok(seen)
    }
}
