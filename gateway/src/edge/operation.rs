//! What a ring is asked to do, and what the kernel answers: the 64 bits that travel with each
//! operation.
//!
//! It talks to no ring; [`super::ring`] does.
//!
//! Invariants: an operation carries its socket's place and generation, so a late completion is
//! never taken for one of the next tenant; numbers are only seen by this process.

use io_uring::cqueue;

use crate::io::ConnId;

/// Places that fit beside the operation and the generation.
pub(super) const PLACES_MAX: u32 = 1 << 28;

/// What an operation is about.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[repr(u8)]
pub(super) enum Operation {
    Accept = 1,
    Receive,
    Poll,
    Send,
    CancelReceive,
    CancelPoll,
    CancelSend,
    CancelAccept,
    Shutdown,
    Install,
    Close,
}

const OPERATIONS: [Operation; 11] = [
    Operation::Accept,
    Operation::Receive,
    Operation::Poll,
    Operation::Send,
    Operation::CancelReceive,
    Operation::CancelPoll,
    Operation::CancelSend,
    Operation::CancelAccept,
    Operation::Shutdown,
    Operation::Install,
    Operation::Close,
];

/// The kernel's answer to an operation.
#[derive(Clone, Copy, Debug)]
pub(super) struct Completion {
    /// Which operation.
    pub(super) operation: Operation,
    /// On which socket; of an accept, the first place of its ring.
    pub(super) conn: ConnId,
    /// A count, descriptor or place, or a negative error number.
    pub(super) result: i32,
    /// The receive buffer that was filled.
    pub(super) buffer: Option<u16>,
    /// Whether the operation goes on.
    pub(super) more: bool,
    /// Whether more could be received at once.
    pub(super) nonempty: bool,
}

/// What travels with an operation.
pub(super) fn user_data(operation: Operation, conn: ConnId) -> u64 {
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
            nonempty: cqueue::sock_nonempty(entry.flags()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_operation_s_number_leads_back_to_it() {
        for (place, operation) in OPERATIONS.into_iter().enumerate() {
            assert_eq!(operation as usize, place + 1, "{operation:?}");
        }
    }
}
