//! The folder that stores are measured in: whether it will do, what lies in it, and what of it the
//! kernel keeps in memory.
//!
//! It removes nothing but what a run has made.
//!
//! Invariants: sizes are what the file system has set aside, holes not counted.

use std::fs::{self, File};
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use rustix::fs::{Advice, fadvise, statfs};

/// What `statfs` says of tmpfs (`TMPFS_MAGIC` in linux/magic.h).
const TMPFS_MAGIC: i64 = 0x0102_1994;

/// Whether the folder's file system has no device under it.
pub(super) fn is_tmpfs(folder: &Path) -> io::Result<bool> {
    Ok(statfs(folder)?.f_type == TMPFS_MAGIC)
}

/// Bytes on disk below the folder.
pub(super) fn disk_bytes(folder: &Path) -> io::Result<u64> {
    let sizes = files(folder)?
        .into_iter()
        .map(|file| Ok(fs::metadata(file)?.blocks() * 512));
    sizes.sum()
}

/// Makes the kernel forget what it has cached of the files below the folder. Nobody may have them
/// mapped or be writing to them.
pub(super) fn drop_page_cache(folder: &Path) -> io::Result<()> {
    for path in files(folder)? {
        let file = open(&path)?;
        file.sync_all()?;
        fadvise(&file, 0, None, Advice::DontNeed)?;
    }
    Ok(())
}

#[expect(
    clippy::disallowed_methods,
    reason = "this is the edge that opens files"
)]
fn open(path: &Path) -> io::Result<File> {
    File::open(path)
}

fn files(folder: &Path) -> io::Result<Vec<PathBuf>> {
    let mut found = Vec::new();
    let mut folders = vec![folder.to_owned()];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(folder)? {
            let entry = entry?;
            if entry.file_type()?.is_dir() {
                folders.push(entry.path());
            } else {
                found.push(entry.path());
            }
        }
    }
    Ok(found)
}

#[cfg(test)]
#[expect(clippy::disallowed_methods, reason = "a test prepares files")]
mod tests {
    use super::*;

    #[test]
    fn counts_what_lies_in_folders_of_folders() {
        let root = tempfile::tempdir_in(".").unwrap();
        fs::create_dir(root.path().join("a")).unwrap();
        fs::write(root.path().join("a/x"), [1; 10_000]).unwrap();
        fs::write(root.path().join("y"), [1; 100]).unwrap();
        drop_page_cache(root.path()).unwrap();
        let bytes = disk_bytes(root.path()).unwrap();
        assert!((10_100..100_000).contains(&bytes), "{bytes}");
    }

    #[test]
    fn tmpfs_is_told_apart() {
        assert!(!is_tmpfs(Path::new("/proc")).unwrap());
        if let Ok(found) = is_tmpfs(Path::new("/dev/shm")) {
            assert!(found);
        }
    }
}
