//! Which operations of the simulated disk go wrong, and how.
//!
//! It does no harm itself: the operations do, to what they are about.
//!
//! Invariants: a planned fault is used once; one that is planned for an operation which it cannot
//! befall waits for the next one that it can.

use std::path::PathBuf;

use super::Errno;
use crate::error::DiskOp;

/// How an operation goes wrong. The first three are reported by it; the others are not.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum SimFault {
    /// An error of the device (EIO). Nothing happened.
    Io,
    /// No space left (ENOSPC). Nothing happened.
    Full,
    /// A write or read ends early: some first sectors are written, and an error is reported (EIO).
    Short,
    /// A write or sync is reported as done, and nothing happened.
    Lost,
    /// A write or read happens some blocks away, in this or in another file.
    Misdirected,
    /// One bit of what is written or read is wrong.
    Flipped,
}

impl SimFault {
    /// What the operation reports, if it reports this fault and does nothing else.
    pub(super) fn refusal(self) -> Option<Errno> {
        match self {
            Self::Io => Some(libc::EIO),
            Self::Full => Some(libc::ENOSPC),
            Self::Short | Self::Lost | Self::Misdirected | Self::Flipped => None,
        }
    }

    /// Whether an operation of this kind can go wrong in this way.
    #[must_use]
    pub fn befalls(self, op: DiskOp) -> bool {
        match self {
            Self::Io => true,
            Self::Full => matches!(
                op,
                DiskOp::CreateDir
                    | DiskOp::Create
                    | DiskOp::Rename
                    | DiskOp::Allocate
                    | DiskOp::Write
                    | DiskOp::Sync
            ),
            Self::Lost => matches!(op, DiskOp::Write | DiskOp::Sync),
            Self::Short => matches!(op, DiskOp::Write | DiskOp::Read),
            Self::Misdirected | Self::Flipped => {
                matches!(op, DiskOp::Write | DiskOp::Read | DiskOp::Map)
            }
        }
    }
}

/// Harm that was done without a word.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct SimHarm {
    /// How.
    pub fault: SimFault,
    /// In which operation.
    pub op: DiskOp,
    /// The file that it was meant for, by the name that it was opened by.
    pub path: PathBuf,
    /// Where, in bytes.
    pub offset: u64,
    /// How much was asked for, in bytes; 0 for a sync.
    pub bytes: u64,
}

/// What is planned, and what has been done.
#[derive(Default)]
pub(super) struct Faults {
    /// Operations begun.
    pub(super) operations: u64,
    pub(super) harms: Vec<SimHarm>,
    next: Vec<(DiskOp, SimFault)>,
    at: Vec<(u64, SimFault)>,
}

impl Faults {
    pub(super) fn plan_next(&mut self, op: DiskOp, fault: SimFault) {
        assert!(fault.befalls(op), "{op:?} cannot end as {fault:?}");
        self.next.push((op, fault));
    }

    pub(super) fn plan_at(&mut self, operation: u64, fault: SimFault) {
        self.at.push((operation, fault));
    }

    pub(super) fn forget(&mut self) {
        self.next.clear();
        self.at.clear();
    }

    /// Counts an operation, and says how it goes wrong.
    pub(super) fn begin(&mut self, op: DiskOp) -> Option<SimFault> {
        self.operations += 1;
        if let Some(position) = self.next.iter().position(|(planned, _)| *planned == op) {
            return Some(self.next.remove(position).1);
        }
        let is_due = |(at, fault): &(u64, SimFault)| *at <= self.operations && fault.befalls(op);
        let position = self.at.iter().position(is_due)?;
        Some(self.at.remove(position).1)
    }
}
