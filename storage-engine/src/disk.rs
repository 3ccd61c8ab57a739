//! What the store needs of a device: the [`Disk`] trait, and the real one on glommio's direct
//! I/O. The only file of this crate that touches the kernel.
//!
//! It never caches, retries or hides an error, and a short write or read is an error.
//!
//! Invariants: a [`GlommioDisk`] is used inside a glommio executor; buffers are zeroed and
//! aligned to a block.

use std::fmt;
use std::fs::TryLockError;
use std::hash::{BuildHasher, RandomState};
use std::io::{self, Write};
use std::ops::Deref;
use std::path::{Path, PathBuf};

use glommio::io::{Directory, DmaFile, OpenOptions, ReadResult};
use glommio::{GlommioError, allocate_dma_buffer};
use memmap2::Mmap;

use crate::config::BLOCK_BYTES;
use crate::error::{DiskError, DiskOp, StoreError};

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

    /// Writes all of `buffer` and makes it durable, with all writes that have returned before.
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

/// The real disk: direct I/O through the glommio executor that this thread runs.
#[derive(Clone, Copy, Debug)]
pub struct GlommioDisk {
    /// Only [`GlommioDisk::at`] makes one.
    _probed: (),
}

/// What the lock file holds: one written block, see [`GlommioDisk::at`].
const LOCK_TEXT: &str = "Locked while a process uses this directory.\n";

impl GlommioDisk {
    /// The disk that `root` is on, for the executor of this thread; to be asked for once in each.
    /// Creates `root`, if its parent exists, and its lock file.
    ///
    /// glommio (0.9) finds out whether a device can be polled from the first file that a thread
    /// opens on it, by reading that file's first block. An empty file answers without the device
    /// being asked, and later reads then fail with EOPNOTSUPP: so the first file opened is one
    /// with a written block.
    ///
    /// # Errors
    /// If the directory or the lock file cannot be created, written or opened.
    pub async fn at(root: &Path) -> Result<Self, DiskError> {
        let directory = Directory::create(root)
            .await
            .map_err(named(DiskOp::CreateDir, root))?;
        directory
            .close()
            .await
            .map_err(named(DiskOp::CreateDir, root))?;
        let path = root.join("LOCK");
        write_lock_file(&path).map_err(|error| failed(DiskOp::Write, &path, error))?;
        let file = DmaFile::open(&path)
            .await
            .map_err(named(DiskOp::Open, &path))?;
        file.close().await.map_err(named(DiskOp::Close, &path))?;
        Ok(Self { _probed: () })
    }
}

fn write_lock_file(path: &Path) -> io::Result<()> {
    let mut file = std::fs::OpenOptions::new()
        .create(true)
        .append(true)
        .open(path)?;
    let length = file.metadata()?.len();
    if length < BLOCK_BYTES.into() {
        let text = format!("{LOCK_TEXT:<width$}", width = BLOCK_BYTES as usize);
        file.write_all(text.as_bytes())?;
    }
    file.sync_all()
}

/// A file of [`GlommioDisk`].
#[derive(Debug)]
pub struct GlommioFile {
    file: DmaFile,
    path: PathBuf,
}

/// A block-aligned buffer of [`GlommioDisk`].
#[derive(Debug)]
pub struct DmaBytes(glommio::io::DmaBuffer);

impl AsMut<[u8]> for DmaBytes {
    fn as_mut(&mut self) -> &mut [u8] {
        self.0.as_bytes_mut()
    }
}

fn failed(op: DiskOp, path: &Path, error: impl Into<io::Error>) -> DiskError {
    DiskError {
        op,
        path: path.to_path_buf(),
        source: error.into(),
    }
}

fn named(op: DiskOp, path: &Path) -> impl FnOnce(GlommioError<()>) -> DiskError {
    move |error| {
        let source = match error.raw_os_error() {
            Some(number) => io::Error::from_raw_os_error(number),
            None => error.into(),
        };
        failed(op, path, source)
    }
}

impl Disk for GlommioDisk {
    type File = GlommioFile;
    type Buffer = DmaBytes;
    type Mapped = Mmap;

    fn salt(&self) -> u64 {
        RandomState::new().hash_one(0)
    }

    fn buffer(&self, bytes: u32) -> DmaBytes {
        let mut buffer = allocate_dma_buffer(bytes as usize);
        buffer.as_bytes_mut().fill(0);
        DmaBytes(buffer)
    }

    async fn lock(&self, path: &Path) -> Result<StoreLock, StoreError> {
        let file = std::fs::OpenOptions::new()
            .create(true)
            .append(true)
            .open(path);
        let file = file.map_err(|error| failed(DiskOp::Lock, path, error))?;
        match file.try_lock() {
            Ok(()) => Ok(StoreLock::new(file)),
            Err(TryLockError::WouldBlock) => Err(StoreError::Locked {
                path: path.to_path_buf(),
            }),
            Err(TryLockError::Error(error)) => Err(failed(DiskOp::Lock, path, error).into()),
        }
    }

    async fn create_dir(&self, path: &Path) -> Result<(), DiskError> {
        let directory = Directory::create(path)
            .await
            .map_err(named(DiskOp::CreateDir, path))?;
        directory
            .close()
            .await
            .map_err(named(DiskOp::CreateDir, path))
    }

    async fn sync_dir(&self, path: &Path) -> Result<(), DiskError> {
        let directory = Directory::open(path)
            .await
            .map_err(named(DiskOp::SyncDir, path))?;
        let synced = directory.sync().await.map_err(named(DiskOp::SyncDir, path));
        directory
            .close()
            .await
            .map_err(named(DiskOp::SyncDir, path))?;
        synced
    }

    async fn list(&self, path: &Path) -> Result<Vec<String>, DiskError> {
        let mut names = Vec::new();
        for entry in std::fs::read_dir(path).map_err(|e| failed(DiskOp::List, path, e))? {
            let entry = entry.map_err(|error| failed(DiskOp::List, path, error))?;
            names.extend(entry.file_name().into_string());
        }
        names.sort_unstable();
        Ok(names)
    }

    async fn create(&self, path: &Path) -> Result<GlommioFile, DiskError> {
        let mut options = OpenOptions::new();
        let opened = options
            .read(true)
            .write(true)
            .create_new(true)
            .dma_open(path)
            .await;
        let file = opened.map_err(named(DiskOp::Create, path))?;
        Ok(GlommioFile {
            file,
            path: path.to_path_buf(),
        })
    }

    async fn open(&self, path: &Path) -> Result<GlommioFile, DiskError> {
        let opened = OpenOptions::new()
            .read(true)
            .write(true)
            .dma_open(path)
            .await;
        let file = opened.map_err(named(DiskOp::Open, path))?;
        Ok(GlommioFile {
            file,
            path: path.to_path_buf(),
        })
    }

    async fn rename(&self, from: &Path, to: &Path) -> Result<(), DiskError> {
        glommio::io::rename(from, to)
            .await
            .map_err(named(DiskOp::Rename, from))
    }

    async fn remove(&self, path: &Path) -> Result<(), DiskError> {
        glommio::io::remove(path)
            .await
            .map_err(named(DiskOp::Remove, path))
    }

    async fn remove_dir(&self, path: &Path) -> Result<(), DiskError> {
        std::fs::remove_dir(path).map_err(|error| failed(DiskOp::Remove, path, error))
    }

    async fn map(&self, path: &Path, offset: u64, bytes: u64) -> Result<Mmap, DiskError> {
        map_file(path, offset, bytes).map_err(|error| failed(DiskOp::Map, path, error))
    }
}

#[expect(
    unsafe_code,
    clippy::disallowed_methods,
    reason = "an edge; indexes of sealed segments are read in place, without a copy per shard"
)]
fn map_file(path: &Path, offset: u64, bytes: u64) -> io::Result<Mmap> {
    let file = std::fs::File::open(path)?;
    if file.metadata()?.len() < offset.saturating_add(bytes) {
        return Err(io::ErrorKind::UnexpectedEof.into());
    }
    let length = usize::try_from(bytes).map_err(|_| io::ErrorKind::OutOfMemory)?;
    let mut options = memmap2::MmapOptions::new();
    // SAFETY: files that are mapped are complete, are never written or cut again, and live in a
    // directory that this process holds the lock of; they are only unlinked.
    unsafe { options.offset(offset).len(length).populate().map(&file) }
}

impl DiskFile for GlommioFile {
    type Buffer = DmaBytes;
    type Read = ReadResult;

    async fn allocate(&self, bytes: u64) -> Result<(), DiskError> {
        let allocated = self.file.pre_allocate(bytes, false).await;
        allocated.map_err(named(DiskOp::Allocate, &self.path))
    }

    async fn write_at(&self, buffer: DmaBytes, offset: u64) -> Result<(), DiskError> {
        let bytes = buffer.0.len();
        let written = self.file.write_at(buffer.0, offset).await;
        if written.map_err(named(DiskOp::Write, &self.path))? == bytes {
            Ok(())
        } else {
            Err(failed(DiskOp::Write, &self.path, io::ErrorKind::WriteZero))
        }
    }

    async fn read_at(&self, offset: u64, bytes: u32) -> Result<ReadResult, DiskError> {
        let start = self.file.align_down(offset);
        let end = self.file.align_up(offset + u64::from(bytes));
        let span = usize::try_from(end - start).expect("a read is far below the address space");
        let skip = usize::try_from(offset - start).expect("less than one block");
        let read = self.file.read_at_aligned(start, span).await;
        let read = read.map_err(named(DiskOp::Read, &self.path))?;
        ReadResult::slice(&read, skip, bytes as usize)
            .ok_or_else(|| failed(DiskOp::Read, &self.path, io::ErrorKind::UnexpectedEof))
    }

    async fn sync(&self) -> Result<(), DiskError> {
        self.file
            .fdatasync()
            .await
            .map_err(named(DiskOp::Sync, &self.path))
    }

    async fn truncate(&self, bytes: u64) -> Result<(), DiskError> {
        self.file
            .truncate(bytes)
            .await
            .map_err(named(DiskOp::Truncate, &self.path))
    }

    async fn length(&self) -> Result<u64, DiskError> {
        self.file
            .file_size()
            .await
            .map_err(named(DiskOp::Length, &self.path))
    }

    async fn close(self) -> Result<(), DiskError> {
        let Self { file, path } = self;
        file.close().await.map_err(named(DiskOp::Close, &path))
    }
}
