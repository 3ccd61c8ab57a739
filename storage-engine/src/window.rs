//! Reads one file from front to back in large pieces, whatever the pieces that are asked for.
//!
//! It keeps one piece and judges no content.
//!
//! Invariants: memory is one piece, or the largest range that was asked for if that is larger.

use crate::disk::DiskFile;
use crate::error::DiskError;

/// The part of a file that was read last.
pub(crate) struct Window<F: DiskFile> {
    file: F,
    /// Nothing behind it is read.
    length: u64,
    chunk_bytes: u32,
    start: u64,
    read: Option<F::Read>,
}

impl<F: DiskFile> Window<F> {
    pub(crate) fn new(file: F, length: u64, chunk_bytes: u32) -> Self {
        Self {
            file,
            length,
            chunk_bytes,
            start: 0,
            read: None,
        }
    }

    /// Bytes of the file, which must lie within its length.
    pub(crate) async fn at(&mut self, offset: u64, bytes: u32) -> Result<&[u8], DiskError> {
        assert!(
            u64::from(bytes) <= self.length - offset,
            "only what the file holds is asked for"
        );
        let is_here = self.read.as_ref().is_some_and(|read| {
            offset >= self.start && offset - self.start + u64::from(bytes) <= read.len() as u64
        });
        if !is_here {
            let left = self.length - offset;
            let wanted = u64::from(bytes.max(self.chunk_bytes)).min(left);
            let wanted = u32::try_from(wanted).expect("at most what was asked for, or a piece");
            self.read = Some(self.file.read_at(offset, wanted).await?);
            self.start = offset;
        }
        let read = self.read.as_ref().expect("read just now or before");
        let start = usize::try_from(offset - self.start).expect("a place in memory");
        Ok(&read[start..start + bytes as usize])
    }

    /// Reads from the device again what is asked for next.
    pub(crate) fn forget(&mut self) {
        self.read = None;
    }

    /// Reads on in a file that has grown to this length.
    pub(crate) fn extend(&mut self, length: u64) {
        self.length = self.length.max(length);
    }

    pub(crate) async fn close(self) -> Result<(), DiskError> {
        self.file.close().await
    }
}
