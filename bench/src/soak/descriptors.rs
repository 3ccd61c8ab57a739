//! The open files of another process, by what they are.
//!
//! It opens none of them. Sockets that live in a ring's table have no descriptor and are not among
//! them: the server counts those itself.
//!
//! Invariants: a descriptor that vanishes while it is looked at is not counted.

use std::fs;

use serde::Serialize;

/// How many descriptors a process has.
#[derive(Clone, Copy, Default, PartialEq, Eq, Debug, Serialize)]
pub struct Descriptors {
    /// All of them.
    pub all: u32,
    /// Ordinary sockets: listeners, and connections of the control plane.
    pub sockets: u32,
    /// Files and folders: the store and the database.
    pub files: u32,
    /// Rings, events, pipes and the like.
    pub others: u32,
}

impl Descriptors {
    /// Those of this process; none where they may not be seen.
    #[must_use]
    pub fn of(pid: u32) -> Option<Self> {
        let mut found = Self::default();
        for entry in fs::read_dir(format!("/proc/{pid}/fd")).ok()?.flatten() {
            if let Ok(target) = fs::read_link(entry.path()) {
                found.count(&target.to_string_lossy());
            }
        }
        Some(found)
    }

    /// Those that the store does not open and close as it likes.
    #[must_use]
    pub const fn without_files(&self) -> u32 {
        self.sockets + self.others
    }

    fn count(&mut self, target: &str) {
        self.all += 1;
        if target.starts_with("socket:") {
            self.sockets += 1;
        } else if target.starts_with('/') {
            self.files += 1;
        } else {
            self.others += 1;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn kinds_are_told_apart() {
        let mut found = Descriptors::default();
        for target in ["socket:[7]", "/var/x", "anon_inode:[io_uring]", "pipe:[8]"] {
            found.count(target);
        }
        assert_eq!(
            (found.all, found.sockets, found.files, found.others),
            (4, 1, 1, 2)
        );
        assert_eq!(found.without_files(), 3);
        assert!(Descriptors::of(std::process::id()).unwrap().all > 2);
        assert_eq!(Descriptors::of(u32::MAX), None);
    }
}
