//! Memory and processor time as the kernel counts them, for a process and for the whole machine.
//!
//! It reads files below /proc and changes nothing. Who else uses the machine is counted with it: a
//! figure is of a quiet machine.
//!
//! Invariants: what cannot be read is 0 or empty, and the report says so by that.

use std::collections::BTreeMap;
use std::fs;

use rustix::param::page_size;
use serde::Serialize;

/// Memory that the kernel holds for itself, bytes.
#[derive(Clone, Copy, Default, PartialEq, Eq, Debug, Serialize)]
pub struct KernelMemory {
    /// Slab caches, large allocations included.
    pub slab: i64,
    /// Mappings of the kernel's own: rings and tables that do not fit a slab.
    pub vmalloc: i64,
    /// Page tables and kernel stacks.
    pub tables: i64,
    /// Pages of TCP buffers.
    pub sockets: i64,
}

impl KernelMemory {
    /// What is held now.
    #[must_use]
    pub fn now() -> Self {
        let text = read("/proc/meminfo");
        let kib = |name: &str| field(&text, name).unwrap_or(0) * 1024;
        Self {
            slab: kib("Slab:"),
            vmalloc: kib("VmallocUsed:"),
            tables: kib("PageTables:") + kib("KernelStack:"),
            sockets: socket_field("mem") * i64::try_from(page_size()).unwrap_or(4096),
        }
    }

    /// All of it.
    #[must_use]
    pub const fn sum(&self) -> i64 {
        self.slab + self.vmalloc + self.tables + self.sockets
    }

    /// What came since `before`.
    #[must_use]
    pub const fn since(&self, before: &Self) -> Self {
        Self {
            slab: self.slab - before.slab,
            vmalloc: self.vmalloc - before.vmalloc,
            tables: self.tables - before.tables,
            sockets: self.sockets - before.sockets,
        }
    }
}

/// Bytes of memory that nobody uses.
#[must_use]
pub fn free_bytes() -> i64 {
    field(&read("/proc/meminfo"), "MemFree:").unwrap_or(0) * 1024
}

fn socket_field(name: &str) -> i64 {
    let text = read("/proc/net/sockstat");
    let line = text.lines().find(|line| line.starts_with("TCP:"));
    let mut words = line.unwrap_or("").split_whitespace();
    words.by_ref().find(|&word| word == name);
    words.next().and_then(|word| word.parse().ok()).unwrap_or(0)
}

/// A process.
#[derive(Clone, Copy, Default, PartialEq, Debug)]
pub struct ProcessUse {
    /// Resident memory, bytes.
    pub resident: i64,
    /// The part of it that is no file's, bytes.
    pub anonymous: i64,
    /// Processor time in user space and in the kernel, seconds.
    pub cpu_s: f64,
}

impl ProcessUse {
    /// What this process uses; none when there is no such process.
    #[must_use]
    pub fn of(pid: u32) -> Option<Self> {
        let text = fs::read_to_string(format!("/proc/{pid}/smaps_rollup"));
        let text = text.unwrap_or_default();
        let status = fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
        let kib = |exact, rough| field(&text, exact).or_else(|| field(&status, rough));
        Some(Self {
            resident: kib("Rss:", "VmRSS:").unwrap_or(0) * 1024,
            anonymous: kib("Anonymous:", "RssAnon:").unwrap_or(0) * 1024,
            cpu_s: cpu_s(pid)?,
        })
    }
}

/// Resident memory of a process, bytes, as the kernel counts it in passing: quicker than
/// [`ProcessUse::of`], and off by some pages. 0 when there is no such process.
#[must_use]
pub fn resident_bytes(pid: u32) -> i64 {
    let text = read(&format!("/proc/{pid}/statm"));
    let pages: Option<i64> = text
        .split_whitespace()
        .nth(1)
        .and_then(|word| word.parse().ok());
    pages.unwrap_or(0) * i64::try_from(page_size()).unwrap_or(4096)
}

/// The process's own clock: nanoseconds of all its threads, those that ended included.
#[expect(
    unsafe_code,
    reason = "the clock of another process has no safe interface"
)]
fn cpu_s(pid: u32) -> Option<f64> {
    let pid = libc::pid_t::try_from(pid).ok()?;
    let mut clock = 0;
    let mut used = libc::timespec {
        tv_sec: 0,
        tv_nsec: 0,
    };
    // SAFETY: both calls only write to the variable that is passed, which outlives them.
    let is_read = unsafe {
        libc::clock_getcpuclockid(pid, &raw mut clock) == 0
            && libc::clock_gettime(clock, &raw mut used) == 0
    };
    let seconds = u64::try_from(used.tv_sec).ok()?;
    let nanoseconds = u32::try_from(used.tv_nsec).ok()?;
    is_read.then(|| std::time::Duration::new(seconds, nanoseconds).as_secs_f64())
}

/// TCP sockets that there are, in whatever state.
#[must_use]
pub fn sockets() -> i64 {
    socket_field("alloc")
}

/// Connections that are closed and still remembered (TIME_WAIT).
#[must_use]
pub fn lingering() -> i64 {
    socket_field("tw")
}

/// Objects of the kernel's slab caches, by name: how many, and the bytes of pages for each.
#[derive(Clone, Default, PartialEq, Debug)]
pub struct Slabs {
    caches: BTreeMap<String, (f64, f64)>,
    /// Bytes of pages that all caches hold, whether or not an object is in them.
    pages: f64,
}

/// Fewer objects for each thing than this are noise.
const OBJECTS_MIN: f64 = 0.05;

/// Caches of file systems, files' pages and processes, and of connections that are no more: what
/// others do on the machine, or did.
const FOREIGN: [&str; 15] = [
    "tw_sock_TCP",
    "buffer_head",
    "radix_tree_node",
    "inode_cache",
    "proc_inode_cache",
    "shmem_inode_cache",
    "vm_area_struct",
    "maple_node",
    "anon_vma",
    "anon_vma_chain",
    "task_struct",
    "mm_struct",
    "pid",
    "cred",
    "names_cache",
];
const FOREIGN_STEMS: [&str; 5] = ["ext4_", "jbd2_", "btrfs_", "xfs_", "fuse_"];

impl Slabs {
    /// What is held now; empty for who may not know.
    #[must_use]
    pub fn now() -> Self {
        Self::parse(&read("/proc/slabinfo"))
    }

    fn parse(text: &str) -> Self {
        let mut slabs = Self::default();
        let page_bytes = f64::from(u32::try_from(page_size()).unwrap_or(4_096));
        for line in text.lines().skip(2) {
            let (numbers, slabdata) = line.split_once("slabdata").unwrap_or((line, ""));
            let mut words = numbers.split_whitespace();
            let name = words.next().unwrap_or("");
            let numbers: Vec<f64> = words.map_while(|word| word.parse().ok()).collect();
            if let [active, _, _, per_slab, pages, ..] = numbers[..] {
                let bytes = pages * page_bytes / per_slab.max(1.0);
                slabs.caches.insert(name.to_owned(), (active, bytes));
                let held = slabdata.split_whitespace().nth(1);
                let held = held.and_then(|held| held.parse::<f64>().ok());
                slabs.pages += held.unwrap_or(0.0) * pages * page_bytes;
            }
        }
        slabs
    }

    /// Objects that came since `before`, by cache, and their size; negative where some went.
    pub fn since<'a>(&'a self, before: &'a Self) -> impl Iterator<Item = (&'a str, f64, f64)> + 'a {
        self.caches.iter().map(|(name, &(active, bytes))| {
            let earlier = before.caches.get(name).map_or(0.0, |cache| cache.0);
            (name.as_str(), active - earlier, bytes)
        })
    }

    /// Objects that came since `before` for each of `count` things, with the bytes of each; what is
    /// fewer than one for 20 of them is noise.
    #[must_use]
    pub fn per(&self, before: &Self, count: u32) -> BTreeMap<String, (f64, f64)> {
        let mut objects = BTreeMap::new();
        for (name, grown, bytes) in self.since(before) {
            let each = grown / f64::from(count.max(1));
            if each > OBJECTS_MIN {
                objects.insert(name.to_owned(), (each, bytes));
            }
        }
        objects
    }

    /// Bytes that came since `before`, counted by objects: pages that a cache keeps for later, or
    /// has not given back yet, are left out, and so are the caches of files and processes. Each
    /// socket has one directory entry; what came beyond that are files.
    fn own_since(&self, before: &Self) -> f64 {
        let mut own = 0.0;
        for (name, count, bytes) in self.since(before) {
            let is_foreign = name == "dentry"
                || FOREIGN.contains(&name)
                || FOREIGN_STEMS.iter().any(|stem| name.starts_with(stem));
            if name == "sock_inode_cache" {
                let entry = self.caches.get("dentry").map_or(0.0, |entry| entry.1);
                own += count * (bytes + entry);
            } else if !is_foreign {
                own += count * bytes;
            }
        }
        own
    }
}

/// Memory of the kernel at one moment, in both of its own accounts.
#[derive(Clone, Default, PartialEq, Debug)]
pub struct Kernel {
    memory: KernelMemory,
    slabs: Slabs,
}

impl Kernel {
    /// What is held now.
    #[must_use]
    pub fn now() -> Self {
        Self {
            memory: KernelMemory::now(),
            slabs: Slabs::now(),
        }
    }

    /// What came since `before`, by pages; others' files and processes are in it.
    #[must_use]
    pub const fn pages_since(&self, before: &Self) -> KernelMemory {
        self.memory.since(&before.memory)
    }

    /// Bytes that came since `before` for sockets and rings: objects of the slab caches, what is
    /// too large for a cache, mappings, tables and TCP buffers. By pages for who may not see
    /// objects.
    #[must_use]
    pub fn since(&self, before: &Self) -> f64 {
        let pages = self.memory.since(&before.memory);
        if self.slabs.caches.is_empty() {
            return float(pages.sum());
        }
        let large = float(pages.slab) - (self.slabs.pages - before.slabs.pages);
        let rest = float(pages.vmalloc + pages.tables + pages.sockets);
        self.slabs.own_since(&before.slabs) + large + rest
    }

    /// Objects of the caches that came for each of `count` things.
    #[must_use]
    pub fn objects(&self, before: &Self, count: u32) -> BTreeMap<String, (f64, f64)> {
        self.slabs.per(&before.slabs, count)
    }
}

/// Bytes, to be divided.
#[expect(
    clippy::cast_precision_loss,
    reason = "bytes of a machine's memory: 53 bits are plenty"
)]
#[must_use]
pub const fn float(bytes: i64) -> f64 {
    bytes as f64
}

fn read(path: &str) -> String {
    fs::read_to_string(path).unwrap_or_default()
}

fn field(text: &str, name: &str) -> Option<i64> {
    let line = text.lines().find(|line| line.starts_with(name))?;
    line.split_whitespace().nth(1)?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn this_process_and_this_machine() {
        let own = ProcessUse::of(std::process::id()).unwrap();
        assert!(own.resident > 0 && own.cpu_s > 0.0);
        assert!(KernelMemory::now().sum() > 0 && free_bytes() > 0);
        assert_eq!(ProcessUse::of(u32::MAX), None);
    }

    #[test]
    #[expect(
        clippy::disallowed_methods,
        reason = "a thread that ends is what it is about"
    )]
    fn threads_that_ended_have_used_their_time() {
        let own = std::process::id();
        let before = ProcessUse::of(own).unwrap().cpu_s;
        let worked = std::thread::spawn(|| {
            let enough = std::time::Duration::from_millis(50);
            while crate::clock::thread_cpu() < enough {
                std::hint::spin_loop();
            }
        });
        worked.join().unwrap();
        let used = ProcessUse::of(own).unwrap().cpu_s - before;
        assert!(used >= 0.05, "{used}");
    }

    #[test]
    fn slabs_that_grew() {
        let head = "slabinfo - version: 2.1\n# name\n";
        let parse = |rows: &str| Slabs::parse(&format!("{head}{rows}"));
        let before = parse(
            "sock_inode_cache 10 20 832 19 4 : tunables 0 0 0 : slabdata 1 1 0\n\
             dentry 5 5 192 21 1 : tunables 0 0 0 : slabdata 1 1 0\n\
             ext4_x 1 1 100 40 1 : tunables 0 0 0 : slabdata 1 1 0\n",
        );
        let after = parse(
            "sock_inode_cache 12 20 832 19 4 : tunables 0 0 0 : slabdata 1 1 0\n\
             dentry 800 800 192 21 1 : tunables 0 0 0 : slabdata 1 1 0\n\
             ext4_x 3 3 100 40 1 : tunables 0 0 0 : slabdata 3 3 0\n",
        );
        let grown: Vec<f64> = after.since(&before).map(|(_, count, _)| count).collect();
        assert_eq!(grown, [795.0, 2.0, 2.0]);
        let page = f64::from(u32::try_from(page_size()).unwrap());
        let own = after.own_since(&before);
        assert!(
            (own - 2.0 * (4.0 / 19.0 + 1.0 / 21.0) * page).abs() < 0.01,
            "{own}"
        );
        assert!((after.pages - before.pages - 2.0 * page).abs() < 0.01);
        assert_eq!(after.per(&before, 2).len(), 3);
    }
}
