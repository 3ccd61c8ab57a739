//! What is done with a sealed segment when it may hold any bytes at all: behind the fuzz target,
//! and behind the tests of damage.
//!
//! It is of no use to a running store.
//!
//! Invariants: no bytes make it panic, whether their checksums are right or not.

use std::path::Path;

use zerocopy::{FromBytes, IntoBytes};

use super::format::{SealedBlock, SealedFooter, SealedHeader, SealedRegion};
use super::{Sealed, SealedStream};
use crate::config::BLOCK_BYTES;
use crate::error::StoreError;
use crate::sim_disk::{SimDisk, SimLatency};

const BLOCK: usize = BLOCK_BYTES as usize;

/// The bytes as a sealed segment, as they are and with all checksums set right.
pub fn as_sealed(bytes: &[u8]) {
    drop(read(bytes));
    let mut mended = bytes.to_vec();
    mend(&mut mended);
    drop(read(&mended));
}

/// Opens a file, asks it everything, and reads all of it.
///
/// # Errors
/// The first that there is.
pub(crate) fn read(file: &[u8]) -> Result<(), StoreError> {
    let path = Path::new("/data/sealed/any.seg");
    let disk = SimDisk::new(0, SimLatency::default());
    disk.put(path, file);
    disk.run(async {
        let sealed = Sealed::open(&disk, path, None).await?;
        ask(&sealed);
        let mut stream = SealedStream::open(&disk, sealed).await?;
        while stream.next().await?.is_some() {}
        stream.close().await
    })
}

fn ask(sealed: &Sealed<Vec<u8>>) {
    for run in sealed.channels() {
        assert!(sealed.find(run.channel).is_none_or(|found| found == run));
        for seqs in [0..=u64::MAX, 1..=1, run.first_seq..=run.seqs().end] {
            let times = sealed.seqs_at(&run, *seqs.start());
            assert!(times.start <= times.end);
            let blocks = sealed.blocks_of(&run, seqs.clone());
            for block in blocks.chain(sealed.blocks_at(&run, seqs)) {
                assert!(sealed.block_place(block).offset < sealed.identity().bytes);
            }
        }
    }
}

/// Sets all checksums right, as far as there is a footer to say where.
pub(crate) fn mend(file: &mut [u8]) {
    let Some(at) = file.len().checked_sub(BLOCK).filter(|at| *at >= BLOCK) else {
        return;
    };
    mend_header(&mut file[..BLOCK]);
    let Ok(mut footer) = SealedFooter::read_from_bytes(&file[at..]) else {
        return;
    };
    mend_blocks(&mut file[..at], &footer.blocks);
    let mut end = at;
    for region in [
        &mut footer.meta,
        &mut footer.blocks,
        &mut footer.directory,
        &mut footer.filter,
        &mut footer.dictionary,
    ] {
        let first = usize::try_from(region.offset.get()).unwrap_or(usize::MAX);
        let covered = file.get(first..end).unwrap_or_default();
        region.crc = crc32c::crc32c(covered).into();
        end = first.min(end);
    }
    footer.crc = crc32c::crc32c(&footer.as_bytes()[..BLOCK - 4]).into();
    file[at..].copy_from_slice(footer.as_bytes());
}

fn mend_header(block: &mut [u8]) {
    if let Ok(mut header) = SealedHeader::read_from_bytes(block) {
        header.crc = crc32c::crc32c(&header.as_bytes()[..BLOCK - 4]).into();
        block.copy_from_slice(header.as_bytes());
    }
}

/// Sets the checksums in the block index right.
fn mend_blocks(file: &mut [u8], region: &SealedRegion) {
    let first = usize::try_from(region.offset.get()).unwrap_or(usize::MAX);
    let bytes = usize::try_from(region.bytes.get()).unwrap_or(usize::MAX);
    let Some((data, index)) = file.split_at_mut_checked(first) else {
        return;
    };
    let Some(Ok(blocks)) = index.get_mut(..bytes).map(<[SealedBlock]>::mut_from_bytes) else {
        return;
    };
    for block in blocks {
        let offset = usize::try_from(block.offset.get()).unwrap_or(usize::MAX);
        let end = offset.saturating_add(block.bytes.get() as usize);
        let compressed = data.get(offset..end).unwrap_or_default();
        block.crc = crc32c::crc32c(compressed).into();
    }
}
