//! Small files that are read and replaced as a whole.
//!
//! It knows no format and never changes a file in place.
//!
//! Invariants: a replacement is written beside (`.tmp`), synced, renamed, and its directory synced:
//! after a crash there is the old content or the new.

use std::path::Path;

use crate::disk::{Disk, DiskFile};
use crate::error::DiskError;

/// Unit of reading and writing, in bytes.
const CHUNK_BYTES: u32 = 1 << 20;

/// Replaces a file by whole blocks.
pub(crate) async fn replace_whole<D: Disk>(
    disk: &D,
    path: &Path,
    bytes: &[u8],
) -> Result<(), DiskError> {
    let directory = path.parent().expect("a file lies in a directory");
    let mut aside = path.as_os_str().to_owned();
    aside.push(".tmp");
    let aside = Path::new(&aside);
    let name = aside.file_name().and_then(|name| name.to_str());
    let names = disk.list(directory).await?;
    if names.iter().any(|known| Some(known.as_str()) == name) {
        // A replacement that failed before.
        disk.remove(aside).await?;
    }
    let file = disk.create(aside).await?;
    let written = write_whole(disk, &file, bytes).await;
    file.close().await?;
    written?;
    disk.rename(aside, path).await?;
    disk.sync_dir(directory).await
}

async fn write_whole<D: Disk>(disk: &D, file: &D::File, bytes: &[u8]) -> Result<(), DiskError> {
    let mut offset = 0;
    file.allocate(bytes.len() as u64).await?;
    for chunk in bytes.chunks(CHUNK_BYTES as usize) {
        let length = u32::try_from(chunk.len()).expect("a chunk is 1 MiB at most");
        let mut buffer = disk.buffer(length);
        buffer.as_mut().copy_from_slice(chunk);
        file.write_at(buffer, offset).await?;
        offset += u64::from(length);
    }
    file.sync().await
}

/// Reads a file to its end.
pub(crate) async fn read_whole<D: Disk>(disk: &D, path: &Path) -> Result<Vec<u8>, DiskError> {
    let file = disk.open(path).await?;
    let length = file.length().await?;
    let mut bytes = Vec::new();
    while (bytes.len() as u64) < length {
        let offset = bytes.len() as u64;
        let wanted = u64::from(CHUNK_BYTES).min(length - offset);
        let wanted = u32::try_from(wanted).expect("a chunk is 1 MiB at most");
        bytes.extend_from_slice(&file.read_at(offset, wanted).await?);
    }
    file.close().await?;
    Ok(bytes)
}
