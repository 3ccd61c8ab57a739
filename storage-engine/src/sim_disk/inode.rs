//! One simulated file: its content now, and how to take back what was not synced.
//!
//! It knows no names and no time.
//!
//! Invariants: what was synced never changes in a crash; each write since may survive wholly, in
//! part (by sectors of 512 or of 4096 bytes) or not at all, and each change of length or not.

use super::draw::Draw;

/// Sizes of a sector that devices write as a whole.
const SECTOR_BYTES: [usize; 2] = [512, 4096];

#[derive(Debug)]
enum Undo {
    Write { offset: usize, old: Vec<u8> },
    Length { old: usize, cut: Vec<u8> },
}

#[derive(Debug, Default)]
pub(super) struct Inode {
    content: Vec<u8>,
    undo: Vec<Undo>,
}

/// Which sectors of a torn write survive.
#[derive(Clone, Copy)]
enum Tear {
    First(u64),
    Last(u64),
    AllBut(u64),
    Any,
}

impl Tear {
    fn new(sectors: u64, draw: &mut Draw) -> Self {
        let number = draw.below(sectors);
        match draw.below(4) {
            0 => Self::First(number),
            1 => Self::Last(number),
            2 => Self::AllBut(number),
            _ => Self::Any,
        }
    }

    fn keeps(self, sector: u64, sectors: u64, draw: &mut Draw) -> bool {
        match self {
            Self::First(count) => sector < count,
            Self::Last(count) => sector + count >= sectors,
            Self::AllBut(lost) => sector != lost,
            Self::Any => draw.coin(),
        }
    }
}

impl Inode {
    pub(super) fn of(content: Vec<u8>) -> Self {
        Self {
            content,
            undo: Vec::new(),
        }
    }

    pub(super) fn content(&self) -> &[u8] {
        &self.content
    }

    pub(super) fn flip(&mut self, offset: usize, mask: u8) {
        self.content[offset] ^= mask;
    }

    /// Overwrites what is there as a failing device would: for good, and not as a change.
    pub(super) fn overwrite(&mut self, bytes: &[u8], offset: usize) {
        self.content[offset..offset + bytes.len()].copy_from_slice(bytes);
    }

    pub(super) fn resize(&mut self, length: usize) {
        let old = self.content.len();
        let cut = self.content.get(length..).unwrap_or_default().to_vec();
        self.content.resize(length, 0);
        self.undo.push(Undo::Length { old, cut });
    }

    pub(super) fn write(&mut self, bytes: &[u8], offset: usize) {
        if bytes.is_empty() {
            return;
        }
        let end = offset + bytes.len();
        if end > self.content.len() {
            self.resize(end);
        }
        let target = &mut self.content[offset..end];
        let old = target.to_vec();
        target.copy_from_slice(bytes);
        self.undo.push(Undo::Write { offset, old });
    }

    /// How many changes a sync that begins now will cover.
    pub(super) fn changes(&self) -> usize {
        self.undo.len()
    }

    pub(super) fn sync(&mut self, changes: usize) {
        self.undo.drain(..changes.min(self.undo.len()));
    }

    pub(super) fn crash(&mut self, draw: &mut Draw) {
        while let Some(undo) = self.undo.pop() {
            match undo {
                Undo::Length { old, cut } => {
                    if draw.coin() {
                        self.content.resize(old, 0);
                        self.content[old - cut.len()..].copy_from_slice(&cut);
                    }
                }
                Undo::Write { offset, old } => match draw.below(3) {
                    0 => {}
                    1 => self.take_back(offset, &old),
                    _ => self.tear(offset, &old, draw),
                },
            }
        }
    }

    fn tear(&mut self, offset: usize, old: &[u8], draw: &mut Draw) {
        let sector_bytes = SECTOR_BYTES[usize::from(draw.coin())];
        let sectors = old.len().div_ceil(sector_bytes) as u64;
        let tear = Tear::new(sectors, draw);
        for (number, sector) in (0..).zip(old.chunks(sector_bytes)) {
            if !tear.keeps(number, sectors, draw) {
                let ahead = usize::try_from(number).expect("counted in a slice") * sector_bytes;
                self.take_back(offset + ahead, sector);
            }
        }
    }

    /// Restores old bytes, as far as the file still reaches.
    fn take_back(&mut self, offset: usize, old: &[u8]) {
        let reach = self.content.len().saturating_sub(offset).min(old.len());
        if reach > 0 {
            self.content[offset..offset + reach].copy_from_slice(&old[..reach]);
        }
    }
}
