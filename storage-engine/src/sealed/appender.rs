//! A file that grows at its end, under the name that it has until it is finished.
//!
//! It does not know what it holds, and overwrites nothing.
//!
//! Invariants: memory is one buffer; writes are whole blocks; a file gets its name only after all
//! of it is durable.

use std::ffi::OsString;
use std::path::{Path, PathBuf};

use super::format::SealedRegion;
use crate::config::BLOCK_BYTES;
use crate::disk::{Disk, DiskFile};
use crate::error::DiskError;

/// Unit of writing, in bytes.
const WRITE_BYTES: u32 = 1 << 20;

/// The name that a file has while it is written.
pub(super) fn temporary(path: &Path) -> PathBuf {
    let mut name = OsString::from(path);
    name.push(".tmp");
    name.into()
}

/// Gives a finished file its name, durably.
///
/// # Errors
/// If the file cannot be renamed or its directory not be synced. It may then have its name.
pub(crate) async fn install<D: Disk>(disk: &D, path: &Path) -> Result<(), DiskError> {
    disk.rename(&temporary(path), path).await?;
    disk.sync_dir(path.parent().unwrap_or(path)).await
}

/// A file that grows at its end, in whole blocks.
pub(crate) struct Appender<D: Disk> {
    disk: D,
    path: PathBuf,
    file: D::File,
    buffer: D::Buffer,
    filled: usize,
    /// Where the buffer will be written.
    offset: u64,
}

impl<D: Disk> Appender<D> {
    /// Begins a file that must not exist.
    pub(crate) async fn create(disk: &D, path: &Path) -> Result<Self, DiskError> {
        Ok(Self {
            disk: disk.clone(),
            path: path.to_path_buf(),
            file: disk.create(path).await?,
            buffer: disk.buffer(WRITE_BYTES),
            filled: 0,
            offset: 0,
        })
    }

    /// Where the next byte will lie.
    pub(crate) fn position(&self) -> u64 {
        self.offset + self.filled as u64
    }

    /// Appends bytes; they are written when a buffer is full, or at the end.
    pub(crate) async fn append(&mut self, mut bytes: &[u8]) -> Result<(), DiskError> {
        while !bytes.is_empty() {
            let room = &mut self.buffer.as_mut()[self.filled..];
            let (now, later) = bytes.split_at(bytes.len().min(room.len()));
            room[..now.len()].copy_from_slice(now);
            self.filled += now.len();
            bytes = later;
            if self.filled == WRITE_BYTES as usize {
                self.flush(WRITE_BYTES).await?;
            }
        }
        Ok(())
    }

    /// Appends zeroes up to a multiple of `unit`.
    pub(crate) async fn pad(&mut self, unit: u32) -> Result<(), DiskError> {
        let missing = self.position().next_multiple_of(unit.into()) - self.position();
        let missing = usize::try_from(missing).expect("less than one unit");
        self.append(&[0; BLOCK_BYTES as usize][..missing]).await
    }

    /// Appends one region of the index, with zeroes up to a multiple of `unit`, all of which its
    /// checksum covers.
    pub(super) async fn region(
        &mut self,
        bytes: &[u8],
        unit: u32,
    ) -> Result<SealedRegion, DiskError> {
        let offset = self.position();
        self.append(bytes).await?;
        let end = self.position();
        self.pad(unit).await?;
        let padding = usize::try_from(self.position() - end).expect("less than one unit");
        let padding = &[0; BLOCK_BYTES as usize][..padding];
        let crc = crc32c::crc32c_append(crc32c::crc32c(bytes), padding);
        Ok(SealedRegion {
            offset: offset.into(),
            bytes: (bytes.len() as u64).into(),
            crc: crc.into(),
            reserved: [0; 4],
        })
    }

    /// Writes the first `bytes` bytes of the buffer, whole blocks, and empties it.
    async fn flush(&mut self, bytes: u32) -> Result<(), DiskError> {
        let next = self.disk.buffer(WRITE_BYTES);
        let mut full = std::mem::replace(&mut self.buffer, next);
        if bytes < WRITE_BYTES {
            let mut part = self.disk.buffer(bytes);
            part.as_mut()
                .copy_from_slice(&full.as_mut()[..bytes as usize]);
            full = part;
        }
        self.file.write_at(full, self.offset).await?;
        self.offset += u64::from(bytes);
        self.filled = 0;
        Ok(())
    }

    /// Writes and syncs all of it. What was appended is whole blocks.
    pub(super) async fn finish(mut self) -> Result<(), DiskError> {
        self.flush_rest().await?;
        self.file.sync().await?;
        self.file.close().await
    }

    /// As [`Appender::finish`], for a file that no crash needs to leave whole.
    pub(crate) async fn finish_unsynced(mut self) -> Result<(), DiskError> {
        self.flush_rest().await?;
        self.file.close().await
    }

    async fn flush_rest(&mut self) -> Result<(), DiskError> {
        let rest = u32::try_from(self.filled).expect("less than one buffer");
        assert!(rest.is_multiple_of(BLOCK_BYTES), "a file is whole blocks");
        if rest > 0 {
            self.flush(rest).await?;
        }
        Ok(())
    }

    /// Removes it.
    pub(crate) async fn abandon(self) -> Result<(), DiskError> {
        self.file.close().await?;
        self.disk.remove(&self.path).await
    }
}
