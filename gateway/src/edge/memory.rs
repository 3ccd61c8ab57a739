//! How much memory is left, looked at ten times a second on a thread of its own: below a reserve
//! nobody new is let in.
//!
//! It ends nobody; what it gives back (`trim.rs`) is in no use. MemAvailable is not asked: it counts
//! the inodes of open sockets as memory that can be reclaimed, so it promises gigabytes that are
//! not there.
//!
//! Invariants: once refused, connections are let in again only when a tenth more than the reserve is
//! free, so that the answer does not flicker; a file that cannot be read limits nothing; each change
//! is logged once.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{Builder, JoinHandle};
use std::time::Duration;

use crossbeam::channel::{RecvTimeoutError, Sender, bounded};

use super::error::EdgeError;
use super::trim::Trim;

/// Time between two looks.
const LOOK_EVERY: Duration = Duration::from_millis(100);
/// What a connection costs at most, in bytes: user space and kernel together.
const CONNECTION_BYTES: u64 = 5 << 10;
/// The reserve where none is set: the larger of this and a twentieth of the memory.
const RESERVE_BYTES_MIN: u64 = 512 << 20;
/// Where the kernel mounts the second version of control groups.
const CGROUPS: &str = "/sys/fs/cgroup";

/// Whether there is memory for one more connection. Cheap to ask; shared by all shards.
#[derive(Clone, Debug, Default)]
pub(super) struct MemoryGate {
    short: Arc<AtomicBool>,
}

impl MemoryGate {
    /// Whether somebody new may come in.
    pub(super) fn admits(&self) -> bool {
        !self.short.load(Ordering::Relaxed)
    }
}

/// The thread that looks. It ends with this value.
pub(super) struct MemoryWatch {
    stop: Option<Sender<()>>,
    thread: Option<JoinHandle<()>>,
}

impl MemoryWatch {
    /// Starts to look. `reserve_bytes` is what is to stay free; 0 = the default.
    ///
    /// # Errors
    /// The process has no thread left.
    pub(super) fn start(reserve_bytes: u64) -> Result<(MemoryGate, Self), EdgeError> {
        let files = Files::find();
        let reserve_bytes = match reserve_bytes {
            0 => RESERVE_BYTES_MIN.max(files.total_bytes() / 20),
            set => set,
        };
        let gate = MemoryGate::default();
        files.judge(&gate, reserve_bytes);
        let (stop, stopped) = bounded::<()>(0);
        let watched = gate.clone();
        let look = move || {
            let mut trim = Trim::default();
            while stopped.recv_timeout(LOOK_EVERY) == Err(RecvTimeoutError::Timeout) {
                files.judge(&watched, reserve_bytes);
                trim.look(resident_bytes);
            }
        };
        let thread = Builder::new()
            .name("memory".to_owned())
            .spawn(look)
            .map_err(EdgeError::kernel("starting a thread"))?;
        let watch = Self {
            stop: Some(stop),
            thread: Some(thread),
        };
        Ok((gate, watch))
    }
}

impl Drop for MemoryWatch {
    fn drop(&mut self) {
        drop(self.stop.take());
        let _ = self.thread.take().map(JoinHandle::join);
    }
}

/// The memory of the box or, if that is less, of the control group.
pub(super) fn total_bytes() -> usize {
    usize::try_from(Files::find().total_bytes()).unwrap_or(usize::MAX)
}

/// Connections per shard that all of the memory would hold.
pub(super) fn connections_that_fit(shards: u16) -> u32 {
    let connections = Files::find().total_bytes() / CONNECTION_BYTES / u64::from(shards);
    u32::try_from(connections).unwrap_or(u32::MAX)
}

/// The files that are looked at.
struct Files {
    /// This process's control group and those above it, unless it is in none.
    groups: Vec<PathBuf>,
}

impl Files {
    fn find() -> Self {
        let own = read("/proc/self/cgroup");
        Self {
            groups: own.as_deref().and_then(groups_of).unwrap_or_default(),
        }
    }

    /// The memory of the box or, if that is less, of the control group.
    fn total_bytes(&self) -> u64 {
        let total = read("/proc/meminfo").and_then(|text| field(&text, "MemTotal:"));
        let limits = self.groups.iter().filter_map(|group| {
            let limit = read(group.join("memory.max"))?;
            limit.trim().parse().ok()
        });
        limits.chain(total.map(kib)).min().unwrap_or(u64::MAX)
    }

    fn judge(&self, gate: &MemoryGate, reserve_bytes: u64) {
        let was_short = !gate.admits();
        let free_bytes = self.free_bytes();
        let is_tcp_short = is_tcp_short(was_short).unwrap_or(false);
        let is_short = is_below(free_bytes, reserve_bytes, was_short) || is_tcp_short;
        gate.short.store(is_short, Ordering::Relaxed);
        match (was_short, is_short) {
            (false, true) => tracing::warn!(
                free_bytes,
                reserve_bytes,
                is_tcp_short,
                "memory is short: new connections get 503"
            ),
            (true, false) => tracing::info!(free_bytes, "memory is free again: all may connect"),
            _ => {}
        }
    }

    /// What this process may still take.
    fn free_bytes(&self) -> u64 {
        let free = read("/proc/meminfo").and_then(|text| free_of_box(&text));
        let of_groups = self.groups.iter().filter_map(|group| {
            let limit = read(group.join("memory.max"))?;
            let used = read(group.join("memory.current"))?;
            let parts = read(group.join("memory.stat"))?;
            free_of_group(&limit, &used, &parts)
        });
        of_groups.chain(free).min().unwrap_or(u64::MAX)
    }
}

#[expect(
    clippy::disallowed_methods,
    reason = "the files of /proc are answered from memory, and this is a thread of its own"
)]
fn read(path: impl AsRef<Path>) -> Option<String> {
    let bytes = fs::read(path).ok()?;
    String::from_utf8(bytes).ok()
}

/// What of this process's own memory is there, without mapped files.
fn resident_bytes() -> Option<u64> {
    let status = read("/proc/self/status")?;
    field(&status, "RssAnon:").map(kib)
}

/// The kernel's limit on the memory of all TCP sockets is nearly reached.
fn is_tcp_short(was_short: bool) -> Option<bool> {
    let used = tcp_pages(&read("/proc/net/sockstat")?)?;
    let limits = read("/proc/sys/net/ipv4/tcp_mem")?;
    let limit: u64 = limits.split_whitespace().nth(2)?.parse().ok()?;
    let sixteenths = if was_short { 14 } else { 15 };
    Some(used > limit / 16 * sixteenths)
}

/// Whether so little is free that nobody new may come in, or may not yet again.
fn is_below(free_bytes: u64, reserve_bytes: u64, was_short: bool) -> bool {
    let margin_bytes = if was_short { reserve_bytes / 10 } else { 0 };
    free_bytes < reserve_bytes.saturating_add(margin_bytes)
}

/// What `/proc/meminfo` says is free: empty pages, and half of the file pages that are clean. The
/// other half holds what runs and what is read again and again.
fn free_of_box(meminfo: &str) -> Option<u64> {
    let [free, active, inactive] =
        ["MemFree:", "Active(file):", "Inactive(file):"].map(|name| field(meminfo, name));
    let busy = ["Dirty:", "Writeback:"].map(|name| field(meminfo, name).unwrap_or(0));
    let files = (active? + inactive?).saturating_sub(busy[0] + busy[1]);
    Some(kib(free? + files / 2))
}

/// What a control group may still take, `None` without a limit. Its file pages count as those of
/// the box do.
fn free_of_group(limit: &str, used: &str, parts: &str) -> Option<u64> {
    let limit: u64 = limit.trim().parse().ok()?;
    let used: u64 = used.trim().parse().ok()?;
    let part = |name| field(parts, name).unwrap_or(0);
    let files = part("active_file") + part("inactive_file");
    let busy = part("file_dirty") + part("file_writeback");
    Some(limit.saturating_sub(used) + files.saturating_sub(busy) / 2)
}

/// The number behind a name at the start of a line.
fn field(text: &str, name: &str) -> Option<u64> {
    let mut lines = text.lines().map(str::split_whitespace);
    lines.find_map(|mut words| {
        let is_it = words.next() == Some(name);
        is_it.then(|| words.next()?.parse().ok()).flatten()
    })
}

/// Pages of all TCP sockets, from `/proc/net/sockstat`.
fn tcp_pages(sockstat: &str) -> Option<u64> {
    let line = sockstat.lines().find(|line| line.starts_with("TCP:"))?;
    let mut words = line.split_whitespace();
    words.find(|word| *word == "mem")?;
    words.next()?.parse().ok()
}

/// The directories of the control group that `/proc/self/cgroup` names, and of those above it.
fn groups_of(own: &str) -> Option<Vec<PathBuf>> {
    let path = own.lines().find_map(|line| line.strip_prefix("0::/"))?;
    let own = Path::new(CGROUPS).join(path);
    let below_root = own
        .ancestors()
        .take_while(|group| *group != Path::new(CGROUPS));
    Some(below_root.map(Path::to_owned).collect())
}

fn kib(count: u64) -> u64 {
    count.saturating_mul(1_024)
}

#[cfg(test)]
mod tests {
    use super::*;

    const MEMINFO: &str = "MemTotal:       24648028 kB\nMemFree:         1000000 kB\n\
        MemAvailable:   20000000 kB\nActive(file):     300000 kB\nInactive(file):   500000 kB\n\
        Dirty:             60000 kB\nWriteback:         40000 kB\nSReclaimable:    9000000 kB\n";

    #[test]
    fn what_the_kernel_cannot_really_drop_is_not_free() {
        assert_eq!(free_of_box(MEMINFO), Some((1_000_000 + 350_000) * 1_024));
        assert_eq!(free_of_box("MemFree: 7 kB\n"), None);
        assert_eq!(free_of_box(""), None);
    }

    #[test]
    fn a_group_without_a_limit_limits_nothing() {
        let parts = "anon 5\nfile 900\ninactive_file 600\nactive_file 200\nfile_dirty 100\n\
            file_writeback 100\n";
        assert_eq!(free_of_group("max\n", "77\n", parts), None);
        assert_eq!(free_of_group("5000\n", "4000\n", parts), Some(1_000 + 300));
        assert_eq!(free_of_group("5000\n", "6000\n", ""), Some(0));
    }

    #[test]
    fn the_pages_of_sockets_are_found() {
        let sockstat = "sockets: used 190\nTCP: inuse 9 orphan 0 tw 12 alloc 11 mem 34\n\
            UDP: inuse 0 mem 5\n";
        assert_eq!(tcp_pages(sockstat), Some(34));
        assert_eq!(tcp_pages("TCP: inuse 9\n"), None);
        assert_eq!(tcp_pages("UDP: inuse 0 mem 5\n"), None);
    }

    #[test]
    fn the_groups_above_count_too() {
        let groups = groups_of("1:name=systemd:/x\n0::/a/b.service\n").unwrap();
        let expected = ["/sys/fs/cgroup/a/b.service", "/sys/fs/cgroup/a"];
        assert_eq!(groups, expected.map(PathBuf::from));
        assert!(groups_of("0::/\n").unwrap().is_empty());
        assert_eq!(groups_of("4:memory:/a\n"), None);
    }

    #[test]
    fn who_was_refused_waits_for_a_tenth_more() {
        assert!(!is_below(1_000, 1_000, false));
        assert!(is_below(999, 1_000, false));
        assert!(is_below(1_099, 1_000, true));
        assert!(!is_below(1_100, 1_000, true));
        assert!(is_below(u64::MAX - 1, u64::MAX, true));
    }
}
