//! A file that is written aside from front to back and then takes its place as a whole.
//!
//! It never changes a file that is in its place.
//!
//! Invariants: what bears the final name was synced before it got that name; memory is one piece
//! of [`PIECE_BYTES`]; whatever a crash or an error leaves bears a name that ends in `.tmp`.

use std::path::{Path, PathBuf};

use crate::config::BLOCK_BYTES;
use crate::disk::{Disk, DiskFile};
use crate::error::{DiskError, StoreError};

/// Unit of writing, in bytes.
const PIECE_BYTES: u32 = 256 << 10;

/// A file in the making. Its first block is a header, written last.
pub(crate) struct Aside<D: Disk> {
    disk: D,
    file: D::File,
    aside: PathBuf,
    target: PathBuf,
    /// Not yet written; empty or less than a piece.
    piece: Vec<u8>,
    /// Where the piece goes.
    offset: u64,
}

impl<D: Disk> Aside<D> {
    /// Begins a file that shall take the place of `target`. Two that write the same file at the
    /// same time need two names for what they write.
    pub(crate) async fn create(disk: &D, target: &Path, writer: &str) -> Result<Self, DiskError> {
        let aside = target.with_extension(format!("{writer}.tmp"));
        let file = match disk.create(&aside).await {
            Err(error) if error.is_there() => {
                disk.remove(&aside).await?;
                disk.create(&aside).await?
            }
            created => created?,
        };
        Ok(Self {
            disk: disk.clone(),
            file,
            aside,
            target: target.to_path_buf(),
            piece: Vec::with_capacity(PIECE_BYTES as usize),
            offset: BLOCK_BYTES.into(),
        })
    }

    /// Where the next bytes go, from the start of the file.
    pub(crate) fn position(&self) -> u64 {
        self.offset + self.piece.len() as u64
    }

    /// Adds bytes.
    pub(crate) async fn append(&mut self, mut bytes: &[u8]) -> Result<(), DiskError> {
        while !bytes.is_empty() {
            let room = PIECE_BYTES as usize - self.piece.len();
            let (now, later) = bytes.split_at(room.min(bytes.len()));
            self.piece.extend_from_slice(now);
            bytes = later;
            if self.piece.len() == PIECE_BYTES as usize {
                self.flush().await?;
            }
        }
        Ok(())
    }

    /// Fills up to the next whole block with zeroes.
    pub(crate) async fn pad(&mut self) -> Result<(), DiskError> {
        let padded = self.piece.len().next_multiple_of(BLOCK_BYTES as usize);
        self.piece.resize(padded, 0);
        if padded == PIECE_BYTES as usize {
            self.flush().await?;
        }
        Ok(())
    }

    /// Completes the file with its header and puts it in its place, durably.
    pub(crate) async fn install(mut self, header: &[u8]) -> Result<(), StoreError> {
        self.pad().await?;
        self.flush().await?;
        let mut block = self.disk.buffer(BLOCK_BYTES);
        block.as_mut()[..header.len()].copy_from_slice(header);
        self.file.write_at(block, 0).await?;
        self.file.sync().await?;
        self.file.close().await?;
        self.disk.rename(&self.aside, &self.target).await?;
        let directory = self.target.parent().expect("files lie below the root");
        self.disk.sync_dir(directory).await?;
        Ok(())
    }

    async fn flush(&mut self) -> Result<(), DiskError> {
        if self.piece.is_empty() {
            return Ok(());
        }
        let bytes = u32::try_from(self.piece.len()).expect("a piece at most");
        let mut buffer = self.disk.buffer(bytes);
        buffer.as_mut().copy_from_slice(&self.piece);
        self.piece.clear();
        self.file.write_at(buffer, self.offset).await?;
        self.offset += u64::from(bytes);
        Ok(())
    }
}
