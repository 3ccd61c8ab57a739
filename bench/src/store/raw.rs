//! A prewritten file, written and read past the page cache: what the device itself can do.
//!
//! It keeps no data apart from others' and never grows.
//!
//! Invariants: every write is whole blocks and durable when it returns; offsets stay in the file.

use std::fs::File;
use std::io::{self, IoSlice};
use std::path::Path;

use rustix::fs::{Mode, OFlags};
use rustix::io::ReadWriteFlags;
use throng_storage_engine::{ChannelKey, Record};
use zerocopy::{FromBytes, Immutable, IntoBytes};

use super::engine::{Ask, Engine, Failure, Limits, PageMessage};

const BLOCK_BYTES: u32 = 4096;

/// Memory that direct I/O takes.
#[derive(Clone, FromBytes, IntoBytes, Immutable)]
#[repr(C, align(4096))]
struct Block([u8; BLOCK_BYTES as usize]);

/// A buffer of whole, aligned blocks.
pub(super) struct AlignedBlocks(Vec<Block>);

impl AlignedBlocks {
    /// At least this many bytes, of a pattern that no device squeezes to nothing.
    pub(super) fn new(bytes: u32) -> Self {
        let mut buffer = Self::zeroed(bytes);
        for (place, byte) in buffer
            .0
            .as_mut_slice()
            .as_mut_bytes()
            .iter_mut()
            .enumerate()
        {
            *byte = place.wrapping_mul(31).to_le_bytes()[0] ^ place.to_le_bytes()[1];
        }
        buffer
    }

    fn zeroed(bytes: u32) -> Self {
        let blocks = usize::try_from(bytes.div_ceil(BLOCK_BYTES)).expect("a 32-bit number fits");
        Self(vec![Block([0; BLOCK_BYTES as usize]); blocks])
    }

    fn bytes(&self) -> &[u8] {
        self.0.as_slice().as_bytes()
    }
}

/// A file of fixed size.
pub(super) struct RawFile {
    file: File,
    bytes: u64,
    next: u64,
}

impl RawFile {
    /// Opens the file; makes and prewrites it if there is none.
    pub(super) fn open(path: &Path, bytes: u32) -> io::Result<Self> {
        let is_new = !path.exists();
        let flags = OFlags::RDWR | OFlags::CREATE | OFlags::DIRECT | OFlags::CLOEXEC;
        let file = File::from(rustix::fs::open(path, flags, Mode::from(0o644))?);
        let raw = Self {
            file,
            bytes: bytes.into(),
            next: 0,
        };
        if is_new {
            raw.prewrite()?;
        }
        Ok(raw)
    }

    fn prewrite(&self) -> io::Result<()> {
        let chunk = AlignedBlocks::new(1 << 20);
        let step = chunk.bytes().len() as u64;
        for offset in (0..self.bytes).step_by(1 << 20) {
            let length = usize::try_from((self.bytes - offset).min(step)).expect("below the step");
            write_all(
                &self.file,
                &chunk.bytes()[..length],
                offset,
                ReadWriteFlags::empty(),
            )?;
        }
        self.file.sync_all()
    }

    /// Writes as many blocks as `bytes` need behind the last ones, from the start again at the
    /// file's end, and waits until they are durable.
    pub(super) fn write_synced(&mut self, buffer: &AlignedBlocks, bytes: u64) -> io::Result<()> {
        let whole = bytes.next_multiple_of(BLOCK_BYTES.into());
        if self.next + whole > self.bytes {
            self.next = 0;
        }
        let length = usize::try_from(whole).map_err(|_| io::ErrorKind::OutOfMemory)?;
        let offset = self.next;
        self.next += whole;
        write_all(
            &self.file,
            &buffer.bytes()[..length],
            offset,
            ReadWriteFlags::DSYNC,
        )
    }

    /// Reads `bytes` at a place that `draw` decides.
    pub(super) fn read(&self, bytes: u32, draw: &[u8; 16]) -> io::Result<()> {
        let [a, b, c, d, ..] = draw;
        let blocks = (self.bytes - u64::from(bytes)) / u64::from(BLOCK_BYTES);
        let offset = u64::from(u32::from_le_bytes([*a, *b, *c, *d])) % blocks;
        let mut buffer = AlignedBlocks::zeroed(bytes);
        let length = usize::try_from(bytes).expect("a 32-bit number fits");
        let read = rustix::io::pread(
            &self.file,
            &mut buffer.0.as_mut_slice().as_mut_bytes()[..length],
            offset * u64::from(BLOCK_BYTES),
        )?;
        if read == length {
            Ok(())
        } else {
            Err(io::ErrorKind::UnexpectedEof.into())
        }
    }
}

fn write_all(file: &File, bytes: &[u8], offset: u64, flags: ReadWriteFlags) -> io::Result<()> {
    let written = rustix::io::pwritev2(file, &[IoSlice::new(bytes)], offset, flags)?;
    if written == bytes.len() {
        Ok(())
    } else {
        Err(io::ErrorKind::WriteZero.into())
    }
}

/// The device's ceiling as an engine.
pub(super) struct Raw {
    file: RawFile,
    buffer: AlignedBlocks,
}

/// Largest single write, in bytes.
const WRITE_BYTES_MAX: u32 = 1 << 20;

/// Bytes of what stands for reading a page.
const RAW_READ_BYTES: u32 = 16 << 10;

/// What a frame holds beside its records, in bytes: Throng's own frame header.
const FRAME_HEADER_BYTES: u64 = 64;

impl Engine for Raw {
    const HAS_PAGES: bool = false;

    async fn open(directory: &Path, limits: Limits) -> Result<Self, Failure> {
        Ok(Self {
            file: RawFile::open(&directory.join("raw"), limits.segment_bytes)?,
            buffer: AlignedBlocks::new(WRITE_BYTES_MAX),
        })
    }

    fn settings(limits: Limits) -> String {
        format!(
            "{} MiB prewritten, O_DIRECT, pwritev2 with RWF_DSYNC, frames of Throng's sizes; a page \
             is one O_DIRECT read of {} KiB at a random place",
            limits.segment_bytes >> 20,
            RAW_READ_BYTES >> 10
        )
    }

    async fn begin(&mut self, _now_ms: u64, batch: &[Record]) -> Result<(), Failure> {
        let records: u64 = batch.iter().map(Record::bytes).sum();
        Ok(self
            .file
            .write_synced(&self.buffer, FRAME_HEADER_BYTES + records)?)
    }

    async fn page(&self, channel: ChannelKey, ask: Ask) -> Result<Vec<PageMessage>, Failure> {
        let (Ask::Before(message) | Ask::Around(message)) = ask else {
            self.file.read(RAW_READ_BYTES, &channel.0)?;
            return Ok(Vec::new());
        };
        self.file.read(RAW_READ_BYTES, &message.0)?;
        Ok(Vec::new())
    }

    async fn settle(&mut self, _now_ms: u64) -> Result<(), Failure> {
        Ok(())
    }

    async fn close(self) -> Result<(), Failure> {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn writes_go_round_and_reads_are_whole() {
        let folder = tempfile::tempdir_in(".").unwrap();
        let mut file = RawFile::open(&folder.path().join("raw"), 1 << 20).unwrap();
        let buffer = AlignedBlocks::new(256 << 10);
        for _ in 0..9 {
            file.write_synced(&buffer, 200_000).unwrap();
        }
        assert_eq!(file.next, 4 * 200_704);
        file.read(16 << 10, &[0xff; 16]).unwrap();
    }
}
