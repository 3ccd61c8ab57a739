//! Reads and writes of the simulated disk, and what goes wrong in them without a word.
//!
//! It neither waits nor counts: [`super::SimDisk`] does, before and after.
//!
//! Invariants: data lands and is found at most where a file already reaches when it is sent
//! elsewhere; every unreported fault is noted.

use std::ops::Range;
use std::path::{Path, PathBuf};

use super::{Errno, SimFault, SimHarm, State};
use crate::config::BLOCK_BYTES;
use crate::error::DiskOp;

const BLOCK: usize = BLOCK_BYTES as usize;
const SECTOR_BYTES: usize = 512;

impl State {
    pub(super) fn write(
        &mut self,
        path: &Path,
        inode: u64,
        mut bytes: Vec<u8>,
        offset: usize,
        fault: Option<SimFault>,
    ) -> Result<(), Errno> {
        let span = offset..offset + bytes.len();
        match fault {
            Some(SimFault::Short) => {
                let sectors = self.below(bytes.len() / SECTOR_BYTES);
                bytes.truncate(sectors * SECTOR_BYTES);
                self.inode(inode)?.write(&bytes, offset);
                return Err(libc::EIO);
            }
            Some(SimFault::Lost) => {}
            Some(SimFault::Misdirected) => self.write_elsewhere(inode, &bytes, offset),
            Some(SimFault::Flipped) => {
                self.flip_any(&mut bytes);
                self.inode(inode)?.write(&bytes, offset);
            }
            _ => self.inode(inode)?.write(&bytes, offset),
        }
        if let Some(fault) = fault {
            self.note_harm(DiskOp::Write, fault, path, span);
        }
        Ok(())
    }

    pub(super) fn read(
        &mut self,
        op: DiskOp,
        path: &Path,
        inode: u64,
        span: Range<usize>,
        fault: Option<SimFault>,
    ) -> Result<Vec<u8>, Errno> {
        let content = self.inode(inode)?.content();
        let mut bytes = content.get(span.clone()).ok_or(libc::EINVAL)?.to_vec();
        match fault {
            None => return Ok(bytes),
            Some(SimFault::Misdirected) => {
                if let Some((other, offset)) = self.elsewhere(inode, bytes.len(), span.start) {
                    let content = self.inode(other)?.content();
                    bytes.copy_from_slice(&content[offset..offset + span.len()]);
                }
            }
            Some(SimFault::Flipped) => self.flip_any(&mut bytes),
            Some(_) => return Err(libc::EIO),
        }
        if let Some(fault) = fault {
            self.note_harm(op, fault, path, span);
        }
        Ok(bytes)
    }

    pub(super) fn note_harm(
        &mut self,
        op: DiskOp,
        fault: SimFault,
        path: &Path,
        span: Range<usize>,
    ) {
        self.faults.harms.push(SimHarm {
            fault,
            op,
            path: PathBuf::from(path),
            offset: span.start as u64,
            bytes: span.len() as u64,
        });
    }

    /// Another file is overwritten for good: nobody will sync it.
    fn write_elsewhere(&mut self, inode: u64, bytes: &[u8], offset: usize) {
        let Some((other, offset)) = self.elsewhere(inode, bytes.len(), offset) else {
            return;
        };
        let Some(file) = self.inodes.get_mut(&other) else {
            return;
        };
        if other == inode {
            file.write(bytes, offset);
        } else {
            file.overwrite(bytes, offset);
        }
    }

    /// Some whole blocks away in the same file, or at the same place in another one.
    fn elsewhere(&mut self, inode: u64, bytes: usize, offset: usize) -> Option<(u64, usize)> {
        let others: Vec<u64> = (self.names.files().map(|(_, other)| other))
            .filter(|other| self.inodes[other].content().len() >= offset + bytes)
            .collect();
        if self.draw.coin() && !others.is_empty() {
            let chosen = others[self.below(others.len())];
            return Some((chosen, offset)).filter(|_| chosen != inode);
        }
        let within = offset % BLOCK;
        let length = self.inodes.get(&inode)?.content().len();
        let places = (length.checked_sub(within + bytes)? / BLOCK) + 1;
        let chosen = self.below(places) * BLOCK + within;
        Some((inode, chosen)).filter(|_| chosen != offset)
    }

    fn flip_any(&mut self, bytes: &mut [u8]) {
        if !bytes.is_empty() {
            let bit = self.below(bytes.len() * 8);
            bytes[bit / 8] ^= 1 << (bit % 8);
        }
    }

    fn below(&mut self, limit: usize) -> usize {
        usize::try_from(self.draw.below(limit as u64)).expect("below a usize")
    }
}
