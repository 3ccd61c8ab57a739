//! What machine a figure is of.
//!
//! It says only what changes what figures mean, and nothing that names a host or a user.
//!
//! Invariants: what cannot be found out is left empty.

use std::fs;
use std::path::Path;

use serde::Serialize;

/// Facts of the machine.
#[derive(Clone, Default, Debug, Serialize)]
pub(super) struct Machine {
    /// The processor.
    pub(super) cpu: String,
    /// Cores that this process may use.
    pub(super) cores: usize,
    /// Memory in KiB.
    pub(super) memory_kib: u64,
    /// The kernel's version.
    pub(super) kernel: String,
    /// Type of the file system, and the device that it is on.
    pub(super) file_system: String,
    /// Load average of the last minute when the run began: whether others used the machine.
    pub(super) load: String,
}

impl Machine {
    /// This machine, with the disk that `folder` is on.
    pub(super) fn of(folder: &Path) -> Self {
        let cpu = read("/proc/cpuinfo");
        let memory = read("/proc/meminfo");
        Self {
            cpu: value(&cpu, "model name"),
            cores: std::thread::available_parallelism().map_or(0, usize::from),
            memory_kib: number(&value(&memory, "MemTotal")),
            kernel: read("/proc/sys/kernel/osrelease").trim().to_owned(),
            file_system: file_system(&read("/proc/self/mounts"), folder),
            load: first(&read("/proc/loadavg")),
        }
    }
}

fn read(path: &str) -> String {
    fs::read_to_string(path).unwrap_or_default()
}

fn value(text: &str, name: &str) -> String {
    let line = text.lines().find(|line| line.starts_with(name));
    let value = line.and_then(|line| line.split_once(':'));
    value.map_or_else(String::new, |(_, value)| value.trim().to_owned())
}

fn first(text: &str) -> String {
    text.split_whitespace().next().unwrap_or("").to_owned()
}

fn number(text: &str) -> u64 {
    first(text).parse().unwrap_or(0)
}

/// The mount that the folder is below: the longest one that fits.
fn file_system(mounts: &str, folder: &Path) -> String {
    let folder = folder.canonicalize().unwrap_or_default();
    let fits = mounts.lines().filter_map(|line| {
        let mut words = line.split(' ');
        let (device, at, kind) = (words.next()?, words.next()?, words.next()?);
        folder.starts_with(at).then_some((at.len(), kind, device))
    });
    fits.max().map_or_else(String::new, |(_, kind, device)| {
        format!("{kind} on {device}")
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_longest_mount_counts() {
        let mounts = "/dev/a / ext4 rw 0 0\nproc /proc proc rw 0 0\n/dev/b /home xfs rw 0 0\n";
        assert_eq!(file_system(mounts, Path::new("/proc")), "proc on proc");
        assert_eq!(file_system(mounts, Path::new("/")), "ext4 on /dev/a");
    }
}
