//! What the store sees of the simulated disk: the operations of [`Disk`] and [`DiskFile`].
//!
//! It holds no state of its own.
//!
//! Invariants: a change is begun before its time passes, an answer is given after it; a file
//! from before a crash only returns errors.

use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::inode::Inode;
use super::names::Node;
use super::{Errno, SimDisk, SimFault, State, failed};
use crate::config::BLOCK_BYTES;
use crate::disk::{Disk, DiskFile, StoreLock};
use crate::error::{DiskError, DiskOp, StoreError};

/// A file of [`SimDisk`].
pub struct SimFile {
    disk: SimDisk,
    path: PathBuf,
    inode: u64,
    crashes: u64,
}

impl Disk for SimDisk {
    type File = SimFile;
    type Buffer = Vec<u8>;
    type Mapped = Vec<u8>;

    fn salt(&self) -> u64 {
        self.state.borrow_mut().salts.number()
    }

    fn buffer(&self, bytes: u32) -> Vec<u8> {
        vec![0; bytes as usize]
    }

    async fn lock(&self, path: &Path) -> Result<StoreLock, StoreError> {
        let mut state = self.state.borrow_mut();
        if state
            .locks
            .get(path)
            .is_some_and(|lock| lock.strong_count() > 0)
        {
            return Err(StoreError::Locked {
                path: path.to_path_buf(),
            });
        }
        let lock = Arc::new(());
        state
            .locks
            .insert(path.to_path_buf(), Arc::downgrade(&lock));
        Ok(StoreLock::new(lock))
    }

    async fn create_dir(&self, path: &Path) -> Result<(), DiskError> {
        let create = |state: &mut State, _| {
            state.directory(path.parent())?;
            match state.names.get(path) {
                None => {
                    state.names.add(path, Node::Directory);
                    Ok(())
                }
                Some(Node::Directory) => Ok(()),
                Some(Node::File(_)) => Err(libc::ENOTDIR),
            }
        };
        self.change(DiskOp::CreateDir, path, create).await
    }

    async fn sync_dir(&self, path: &Path) -> Result<(), DiskError> {
        self.change(DiskOp::SyncDir, path, |state, _| {
            state.directory(Some(path))
        })
        .await?;
        let mut state = self.state.borrow_mut();
        state.names.sync(path);
        state.drop_unnamed();
        Ok(())
    }

    async fn list(&self, path: &Path) -> Result<Vec<String>, DiskError> {
        let list = |state: &mut State, _| {
            state.directory(Some(path))?;
            Ok(state.names.list(path))
        };
        self.look(DiskOp::List, path, list).await
    }

    async fn create(&self, path: &Path) -> Result<SimFile, DiskError> {
        let create = |state: &mut State, _| {
            state.directory(path.parent())?;
            if state.names.get(path).is_some() {
                return Err(libc::EEXIST);
            }
            let inode = state.add_inode(Inode::default());
            state.names.add(path, Node::File(inode));
            Ok((inode, state.crashes))
        };
        let (inode, crashes) = self.change(DiskOp::Create, path, create).await?;
        Ok(SimFile {
            disk: self.clone(),
            path: path.to_path_buf(),
            inode,
            crashes,
        })
    }

    async fn open(&self, path: &Path) -> Result<SimFile, DiskError> {
        let open = |state: &mut State, _| Ok((state.file(path)?, state.crashes));
        let (inode, crashes) = self.look(DiskOp::Open, path, open).await?;
        Ok(SimFile {
            disk: self.clone(),
            path: path.to_path_buf(),
            inode,
            crashes,
        })
    }

    async fn rename(&self, from: &Path, to: &Path) -> Result<(), DiskError> {
        let rename = |state: &mut State, _| {
            let inode = state.file(from)?;
            state.directory(to.parent())?;
            state.names.rename(from, to, Node::File(inode));
            Ok(())
        };
        self.change(DiskOp::Rename, from, rename).await
    }

    async fn remove(&self, path: &Path) -> Result<(), DiskError> {
        let remove = |state: &mut State, _| {
            state.file(path)?;
            state.names.remove(path);
            Ok(())
        };
        self.change(DiskOp::Remove, path, remove).await
    }

    async fn remove_dir(&self, path: &Path) -> Result<(), DiskError> {
        let remove = |state: &mut State, _| {
            state.directory(Some(path))?;
            if !state.names.list(path).is_empty() {
                return Err(libc::ENOTEMPTY);
            }
            state.names.remove(path);
            Ok(())
        };
        self.change(DiskOp::Remove, path, remove).await
    }

    async fn map(&self, path: &Path, offset: u64, bytes: u64) -> Result<Vec<u8>, DiskError> {
        let map = |state: &mut State, fault| {
            let inode = state.file(path)?;
            let span = span(offset, bytes)?;
            state.read(DiskOp::Map, path, inode, span, fault)
        };
        self.look(DiskOp::Map, path, map).await
    }
}

impl SimFile {
    fn check(&self, state: &State) -> Result<(), Errno> {
        if state.crashes == self.crashes {
            Ok(())
        } else {
            Err(libc::ESTALE)
        }
    }

    async fn change<T>(
        &self,
        op: DiskOp,
        effect: impl FnOnce(&mut State, Option<SimFault>) -> Result<T, Errno>,
    ) -> Result<T, DiskError> {
        let checked = |state: &mut State, fault| {
            self.check(state)?;
            effect(state, fault)
        };
        self.disk.change(op, &self.path, checked).await
    }
}

fn place(offset: u64) -> Result<usize, Errno> {
    usize::try_from(offset).map_err(|_| libc::EFBIG)
}

fn span(offset: u64, bytes: u64) -> Result<Range<usize>, Errno> {
    let start = place(offset)?;
    let end = start.checked_add(place(bytes)?).ok_or(libc::EFBIG)?;
    Ok(start..end)
}

impl DiskFile for SimFile {
    type Buffer = Vec<u8>;
    type Read = Vec<u8>;

    async fn allocate(&self, bytes: u64) -> Result<(), DiskError> {
        let allocate = |state: &mut State, _| {
            let length = place(bytes)?;
            let present = state.inode(self.inode)?.content().len();
            if length > present {
                state.reserve(length - present)?;
                state.inode(self.inode)?.resize(length);
            }
            Ok(())
        };
        self.change(DiskOp::Allocate, allocate).await
    }

    async fn write_at(&self, buffer: Vec<u8>, offset: u64) -> Result<(), DiskError> {
        let is_aligned = |bytes: u64| bytes.is_multiple_of(BLOCK_BYTES.into());
        assert!(
            is_aligned(offset) && is_aligned(buffer.len() as u64),
            "writes are whole blocks"
        );
        let write = |state: &mut State, fault| {
            let offset = place(offset)?;
            let present = state.inode(self.inode)?.content().len();
            state.reserve((offset + buffer.len()).saturating_sub(present))?;
            state.write(&self.path, self.inode, buffer, offset, fault)
        };
        self.change(DiskOp::Write, write).await
    }

    async fn read_at(&self, offset: u64, bytes: u32) -> Result<Vec<u8>, DiskError> {
        let read = |state: &mut State, fault| {
            self.check(state)?;
            let span = span(offset, bytes.into())?;
            state.read(DiskOp::Read, &self.path, self.inode, span, fault)
        };
        self.disk.look(DiskOp::Read, &self.path, read).await
    }

    async fn sync(&self) -> Result<(), DiskError> {
        let begin = |state: &mut State, fault: Option<SimFault>| {
            if let Some(fault) = fault {
                state.note_harm(DiskOp::Sync, fault, &self.path, 0..0);
                return Ok(0);
            }
            Ok(state.inode(self.inode)?.changes())
        };
        let changes = self.change(DiskOp::Sync, begin).await?;
        let mut state = self.disk.state.borrow_mut();
        let inode = state.inode(self.inode);
        inode
            .map_err(|errno| failed(DiskOp::Sync, &self.path, errno))?
            .sync(changes);
        Ok(())
    }

    async fn truncate(&self, bytes: u64) -> Result<(), DiskError> {
        let truncate = |state: &mut State, _| {
            state.inode(self.inode)?.resize(place(bytes)?);
            Ok(())
        };
        self.change(DiskOp::Truncate, truncate).await
    }

    async fn length(&self) -> Result<u64, DiskError> {
        let length = |state: &mut State, _| {
            self.check(state)?;
            Ok(state.inode(self.inode)?.content().len() as u64)
        };
        self.disk.look(DiskOp::Length, &self.path, length).await
    }

    async fn close(self) -> Result<(), DiskError> {
        Ok(())
    }
}
