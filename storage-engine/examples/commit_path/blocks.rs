//! The memory and the files that every candidate writes from and to.
//!
//! Nothing here is timed.
//!
//! Invariants: memory begins at a block; a file is written from end to end and synced before it
//! is measured, and opened for direct I/O.

use std::fs::File;
use std::io;
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::path::Path;

use throng_storage_engine::BLOCK_BYTES;
use zerocopy::{Immutable, IntoBytes};

/// Length of the files, in bytes: a segment's.
pub(crate) const FILE_BYTES: u32 = 64 << 20;

/// A block of memory that direct I/O takes.
#[derive(Clone, Copy, IntoBytes, Immutable)]
#[repr(C, align(4096))]
struct Block([u8; BLOCK_BYTES as usize]);

/// Memory for one commit.
pub(crate) struct Blocks(Vec<Block>);

impl Blocks {
    /// Memory of `bytes` bytes, which are whole blocks, filled with something.
    pub(crate) fn new(bytes: u32) -> Self {
        let block = Block([b'x'; BLOCK_BYTES as usize]);
        let blocks = vec![block; (bytes / BLOCK_BYTES) as usize];
        Self(blocks)
    }

    pub(crate) fn bytes(&self) -> &[u8] {
        self.0.as_slice().as_bytes()
    }
}

/// A file as a segment is when its log begins to write to it.
pub(crate) fn prewritten(path: &Path) -> io::Result<File> {
    let file = File::options()
        .create_new(true)
        .read(true)
        .write(true)
        .custom_flags(libc::O_DIRECT)
        .open(path)?;
    rustix::fs::fallocate(
        &file,
        rustix::fs::FallocateFlags::empty(),
        0,
        FILE_BYTES.into(),
    )?;
    let zeroes = vec![Block([0; BLOCK_BYTES as usize]); 256];
    let chunk_bytes = 256 * BLOCK_BYTES;
    for offset in (0..FILE_BYTES).step_by(chunk_bytes as usize) {
        file.write_all_at(zeroes.as_slice().as_bytes(), offset.into())?;
    }
    file.sync_all()?;
    Ok(file)
}
