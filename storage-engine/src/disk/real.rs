//! The real disk, on glommio's direct I/O; commits go through a thread of their own. With the rest
//! of this folder the only code of this crate that touches the kernel.
//!
//! It never caches, retries or hides an error, and a short write or read is an error.
//!
//! Invariants: a [`GlommioDisk`] is used inside a glommio executor; buffers are aligned to a
//! block; a file that is written and not synced is known to be.

use std::cell::{Cell, OnceCell};
use std::fs::TryLockError;
use std::hash::{BuildHasher, RandomState};
use std::io::{self, Write};
use std::os::fd::{AsRawFd, BorrowedFd};
use std::path::{Path, PathBuf};
use std::rc::Rc;
use std::sync::Arc;

use glommio::io::{Directory, DmaBuffer, DmaFile, OpenOptions, ReadResult};
use glommio::{GlommioError, allocate_dma_buffer};
use memmap2::Mmap;

use super::log_thread::{LogFile, LogThread, Reach};
use super::memory::{Pool, Pooled};
use super::{Disk, DiskFile, StoreLock};
use crate::config::BLOCK_BYTES;
use crate::error::{DiskError, DiskOp, StoreError};

/// The real disk: direct I/O through the glommio executor that this thread runs.
#[derive(Clone, Debug)]
pub struct GlommioDisk {
    commits: Rc<Commits>,
}

/// What commits go through: made with the disk, ended with its last file.
#[derive(Debug)]
struct Commits {
    pool: Rc<Pool>,
    /// Started with the first commit; none if the system has no thread left.
    thread: OnceCell<Option<LogThread>>,
}

impl Commits {
    fn thread(&self) -> Option<&LogThread> {
        self.thread.get_or_init(|| LogThread::start().ok()).as_ref()
    }
}

/// What the lock file holds: one written block, see [`GlommioDisk::at`].
const LOCK_TEXT: &str = "Locked while a process uses this directory.\n";

impl GlommioDisk {
    /// The disk that `root` is on, for the executor of this thread; to be asked for once in each.
    /// Creates `root`, if its parent exists, and its lock file. All paths are to be absolute: glommio
    /// (0.9) looks relative ones up in no directory at all.
    ///
    /// glommio (0.9) finds out whether a device can be polled from the first file that a thread
    /// opens on it, by reading that file's first block. An empty file answers without the device
    /// being asked, and later reads then fail with EOPNOTSUPP: so the first file opened is one
    /// with a written block.
    ///
    /// # Errors
    /// If the directory or the lock file cannot be created, written or opened.
    ///
    /// # Panics
    /// If `root` is relative.
    pub async fn at(root: &Path) -> Result<Self, DiskError> {
        assert!(root.is_absolute(), "{} is relative", root.display());
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
        Ok(Self {
            commits: Rc::new(Commits {
                pool: Rc::default(),
                thread: OnceCell::new(),
            }),
        })
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
    commits: Rc<Commits>,
    /// The same file for the log's thread; none if that cannot be had.
    log_file: OnceCell<Option<Arc<LogFile>>>,
    /// Something was written and not synced.
    is_unsynced: Cell<bool>,
}

/// A block-aligned buffer of [`GlommioDisk`].
#[derive(Debug)]
pub struct DmaBytes(Memory);

#[derive(Debug)]
enum Memory {
    /// glommio's own, for its ring.
    Dma(DmaBuffer),
    /// Ours, for the log's thread, which glommio's cannot be sent to.
    Pooled(Pooled),
}

impl AsMut<[u8]> for DmaBytes {
    fn as_mut(&mut self) -> &mut [u8] {
        match &mut self.0 {
            Memory::Dma(buffer) => buffer.as_bytes_mut(),
            Memory::Pooled(pooled) => pooled.bytes_mut(),
        }
    }
}

impl DmaBytes {
    fn into_dma(self) -> DmaBuffer {
        match self.0 {
            Memory::Dma(buffer) => buffer,
            Memory::Pooled(mut pooled) => {
                let bytes = pooled.bytes_mut();
                let mut buffer = allocate_dma_buffer(bytes.len());
                buffer.as_bytes_mut().copy_from_slice(bytes);
                buffer
            }
        }
    }

    fn into_pooled(self, pool: &Rc<Pool>) -> Pooled {
        match self.0 {
            Memory::Pooled(pooled) => pooled,
            Memory::Dma(buffer) => {
                let bytes = u32::try_from(buffer.len()).expect("buffers are below 4 GiB");
                let mut pooled = pool.take(bytes);
                pooled.bytes_mut().copy_from_slice(buffer.as_bytes());
                pooled
            }
        }
    }
}

impl GlommioFile {
    fn new(file: DmaFile, path: &Path, commits: &Rc<Commits>) -> Self {
        Self {
            file,
            path: path.to_path_buf(),
            commits: Rc::clone(commits),
            log_file: OnceCell::new(),
            is_unsynced: Cell::new(false),
        }
    }

    /// The thread that commits of this file go through, and its view of the file. Always the
    /// same answer for one file: two ways at once would not keep their order.
    fn log_thread(&self) -> Option<(&LogThread, &Arc<LogFile>)> {
        let file = self
            .log_file
            .get_or_init(|| self.share().ok().map(Arc::new));
        self.commits.thread().zip(file.as_ref())
    }

    #[expect(
        unsafe_code,
        reason = "glommio shows its descriptor only as a number, and closes the file by itself"
    )]
    fn share(&self) -> io::Result<LogFile> {
        // SAFETY: the descriptor stays open as long as `self.file`, which outlives this borrow.
        let descriptor = unsafe { BorrowedFd::borrow_raw(self.file.as_raw_fd()) };
        descriptor.try_clone_to_owned().map(LogFile::new)
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
        DmaBytes(Memory::Dma(buffer))
    }

    fn commit_buffer(&self, bytes: u32) -> DmaBytes {
        DmaBytes(Memory::Pooled(self.commits.pool.take(bytes)))
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
        Ok(GlommioFile::new(file, path, &self.commits))
    }

    async fn open(&self, path: &Path) -> Result<GlommioFile, DiskError> {
        let opened = OpenOptions::new()
            .read(true)
            .write(true)
            .dma_open(path)
            .await;
        let file = opened.map_err(named(DiskOp::Open, path))?;
        Ok(GlommioFile::new(file, path, &self.commits))
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
        let buffer = buffer.into_dma();
        let bytes = buffer.len();
        let written = self.file.write_at(buffer, offset).await;
        self.is_unsynced.set(true);
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

    fn queues_synced(&self) -> bool {
        self.log_thread().is_some()
    }

    async fn write_synced(&self, buffer: DmaBytes, offset: u64) -> Result<(), DiskError> {
        let Some((thread, file)) = self.log_thread() else {
            self.write_at(buffer, offset).await?;
            return self.sync().await;
        };
        // `RWF_DSYNC` promises nothing of other writes.
        let reach = match self.is_unsynced.get() {
            true => Reach::All,
            false => Reach::Own,
        };
        let pooled = buffer.into_pooled(&self.commits.pool);
        let written = thread.write(Arc::clone(file), pooled, offset, reach).await;
        written.map_err(|error| failed(DiskOp::Write, &self.path, error))
    }

    async fn sync(&self) -> Result<(), DiskError> {
        self.is_unsynced.set(false);
        let synced = self.file.fdatasync().await;
        synced.map_err(|error| {
            self.is_unsynced.set(true);
            named(DiskOp::Sync, &self.path)(error)
        })
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
        let Self { file, path, .. } = self;
        file.close().await.map_err(named(DiskOp::Close, &path))
    }
}
