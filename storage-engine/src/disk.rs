//! What the store needs of a device: the [`Disk`] trait. The real one is in `disk/`, the
//! simulated one in `sim_disk`.
//!
//! It never caches, retries or hides an error, and a short write or read is an error.
//!
//! Invariants: nothing but `disk/` touches the kernel; a file's contents change only through
//! its [`DiskFile`].

mod log_thread;
mod memory;
mod real;

use std::fmt;
use std::ops::Deref;
use std::path::Path;

use crate::error::{DiskError, StoreError};

pub use real::{GlommioDisk, GlommioFile};

/// Keeps the data directory for this process; another one is refused until this is dropped.
pub struct StoreLock(#[expect(dead_code, reason = "held, never looked at")] Box<dyn Send>);

impl StoreLock {
    /// Wraps whatever gives the lock back when it is dropped.
    pub fn new(held: impl Send + 'static) -> Self {
        Self(Box::new(held))
    }
}

impl fmt::Debug for StoreLock {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("StoreLock")
    }
}

/// A device with files and directories. Paths are those of the caller, root included.
#[expect(
    async_fn_in_trait,
    reason = "futures of a shard never leave its thread"
)]
pub trait Disk: Clone + 'static {
    /// An open file.
    type File: DiskFile<Buffer = Self::Buffer>;
    /// Memory that can be written from.
    type Buffer: AsMut<[u8]>;
    /// Part of a file in memory, to be shared between threads.
    type Mapped: Deref<Target = [u8]> + Send + Sync;

    /// A number that nobody can foresee, to tell a file's successive uses apart.
    fn salt(&self) -> u64;

    /// Zeroed memory of `bytes` bytes (more than 0).
    fn buffer(&self, bytes: u32) -> Self::Buffer;

    /// Memory of `bytes` bytes (more than 0) for a commit, to be filled by the caller from end to
    /// end: it holds anything. The cheapest for [`DiskFile::write_synced`].
    fn commit_buffer(&self, bytes: u32) -> Self::Buffer {
        self.buffer(bytes)
    }

    /// Takes the lock file, or says [`StoreError::Locked`] at once.
    async fn lock(&self, path: &Path) -> Result<StoreLock, StoreError>;

    /// Creates a directory whose parent exists; it may exist already.
    async fn create_dir(&self, path: &Path) -> Result<(), DiskError>;

    /// Makes the creations, renames and removals in a directory durable.
    async fn sync_dir(&self, path: &Path) -> Result<(), DiskError>;

    /// Names in a directory, sorted.
    async fn list(&self, path: &Path) -> Result<Vec<String>, DiskError>;

    /// Creates a file that must not exist, for reading and writing.
    async fn create(&self, path: &Path) -> Result<Self::File, DiskError>;

    /// Opens a file for reading and writing.
    async fn open(&self, path: &Path) -> Result<Self::File, DiskError>;

    /// Renames a file; one that has the new name is replaced.
    async fn rename(&self, from: &Path, to: &Path) -> Result<(), DiskError>;

    /// Removes a file.
    async fn remove(&self, path: &Path) -> Result<(), DiskError>;

    /// Removes an empty directory.
    async fn remove_dir(&self, path: &Path) -> Result<(), DiskError>;

    /// Brings part of a file that is never changed again into memory, from a whole block on. Takes
    /// as long as the device needs: not for a thread that others wait for.
    async fn map(&self, path: &Path, offset: u64, bytes: u64) -> Result<Self::Mapped, DiskError>;
}

/// An open file. Offsets and lengths of writes are whole blocks; reads may lie anywhere.
#[expect(
    async_fn_in_trait,
    reason = "futures of a shard never leave its thread"
)]
pub trait DiskFile: 'static {
    /// Memory that can be written from.
    type Buffer: AsMut<[u8]>;
    /// What a read returns.
    type Read: Deref<Target = [u8]>;

    /// Reserves space, and makes the file this long; the new part reads as zeroes.
    async fn allocate(&self, bytes: u64) -> Result<(), DiskError>;

    /// Writes all of `buffer`.
    async fn write_at(&self, buffer: Self::Buffer, offset: u64) -> Result<(), DiskError>;

    /// Reads exactly `bytes` bytes.
    async fn read_at(&self, offset: u64, bytes: u32) -> Result<Self::Read, DiskError>;

    /// Whether several [`DiskFile::write_synced`] may be under way at once. Then they are done one
    /// after the other, in the order in which they were first polled; none begins before the one
    /// before is durable, and none after one has failed.
    fn queues_synced(&self) -> bool {
        false
    }

    /// Writes all of `buffer` and makes it durable, with all writes that have returned before. A
    /// future that is dropped half-way may still write.
    async fn write_synced(&self, buffer: Self::Buffer, offset: u64) -> Result<(), DiskError> {
        self.write_at(buffer, offset).await?;
        self.sync().await
    }

    /// Makes all writes that have returned durable, and the length that they need.
    async fn sync(&self) -> Result<(), DiskError>;

    /// Cuts the file to `bytes`.
    async fn truncate(&self, bytes: u64) -> Result<(), DiskError>;

    /// Length in bytes. The file must still have the name that it was opened by.
    async fn length(&self) -> Result<u64, DiskError>;

    /// Gives the file back.
    async fn close(self) -> Result<(), DiskError>;
}
