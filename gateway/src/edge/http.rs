//! Handing a connection that speaks ordinary HTTP to the control plane.
//!
//! It speaks no HTTP itself. The socket's place in the ring becomes an ordinary descriptor
//! (FIXED_FD_INSTALL, Linux 6.8) once the ring has stopped reading it.
//!
//! Invariant: the descriptor goes out together with every byte that was received on it, in order,
//! so whoever gets it can act as if they had read them.

#![expect(
    unsafe_code,
    reason = "a descriptor that comes as a number has no safe interface"
)]

use std::collections::HashMap;
use std::os::fd::{FromRawFd, OwnedFd};

/// Takes a connection and all bytes that were received on it. Runs on the shard's thread and must
/// not block; what it drops is closed.
pub type TakeOver = Box<dyn FnMut(OwnedFd, Vec<u8>)>;

/// The connections of one ring that are on their way out.
pub(super) struct HandOvers {
    heads: HashMap<u32, Vec<u8>>,
    take_over: TakeOver,
}

impl HandOvers {
    pub(super) fn new(take_over: TakeOver) -> Self {
        Self {
            heads: HashMap::new(),
            take_over,
        }
    }

    /// The socket in this place is to go, with these bytes.
    pub(super) fn begin(&mut self, index: u32, head: Vec<u8>) {
        let before = self.heads.insert(index, head);
        assert!(before.is_none(), "a socket is handed over once");
    }

    /// More bytes arrived before the ring stopped reading.
    pub(super) fn received(&mut self, index: u32, bytes: &[u8]) {
        if let Some(head) = self.heads.get_mut(&index) {
            head.extend_from_slice(bytes);
        }
    }

    /// The socket failed before it could go.
    pub(super) fn abandon(&mut self, index: u32) {
        self.heads.remove(&index);
    }

    /// The kernel installed the descriptor, or `result` is its negative error number.
    pub(super) fn installed(&mut self, index: u32, result: i32) {
        let head = self
            .heads
            .remove(&index)
            .expect("installed once, after it began");
        if result < 0 {
            tracing::warn!(
                error = %std::io::Error::from_raw_os_error(-result),
                "no descriptor for an HTTP connection"
            );
            return;
        }
        // SAFETY: the kernel has just made this descriptor for us, and nobody else knows it.
        let fd = unsafe { OwnedFd::from_raw_fd(result) };
        (self.take_over)(fd, head);
    }
}
