//! What machine a figure is of, and how quiet it was.
//!
//! It says only what changes what figures mean, and nothing that names a host or a user. It
//! changes no setting.
//!
//! Invariants: what cannot be found out is left empty; the loop that calibrates does the same work
//! before and after, whatever was measured in between.

use std::collections::BTreeMap;
use std::fs;
use std::hint::black_box;
use std::path::Path;

use rustix::process::{Resource, getrlimit};

use crate::clock::Clock;
use crate::suite::model::Machine;

/// Settings of the kernel that change what many connections cost.
const SYSCTLS: [&str; 17] = [
    "fs.file-max",
    "fs.nr_open",
    "kernel.io_uring_disabled",
    "net.core.netdev_max_backlog",
    "net.core.rmem_max",
    "net.core.somaxconn",
    "net.core.wmem_max",
    "net.ipv4.ip_local_port_range",
    "net.ipv4.tcp_ehash_entries",
    "net.ipv4.tcp_max_syn_backlog",
    "net.ipv4.tcp_mem",
    "net.ipv4.tcp_rmem",
    "net.ipv4.tcp_tw_reuse",
    "net.ipv4.tcp_wmem",
    "vm.max_map_count",
    "vm.overcommit_memory",
    "vm.swappiness",
];

/// Passes of the loop that calibrates, and steps of each: some 10 ms.
const PASSES: usize = 40;
const STEPS: u64 = 4_000_000;

/// Facts of this machine, with the disk that `folder` is on.
#[must_use]
pub fn facts(folder: &Path) -> Machine {
    let (cpu, memory) = (read("/proc/cpuinfo"), read("/proc/meminfo"));
    Machine {
        kernel: line("/proc/sys/kernel/osrelease"),
        cpu: value(&cpu, "model name"),
        governor: line("/sys/devices/system/cpu/cpu0/cpufreq/scaling_governor"),
        cores: std::thread::available_parallelism().map_or(0, usize::from),
        memory_kib: number(&value(&memory, "MemTotal")),
        file_system: file_system(&read("/proc/self/mounts"), folder),
        limits: limits(),
        sysctls: sysctls(),
        load: first(&read("/proc/loadavg")),
        ..Machine::default()
    }
}

fn limits() -> BTreeMap<String, String> {
    let shown =
        |value: Option<u64>| value.map_or_else(|| "unlimited".to_owned(), |n| n.to_string());
    [("nofile", Resource::Nofile), ("memlock", Resource::Memlock)]
        .into_iter()
        .map(|(name, resource)| {
            let limit = getrlimit(resource);
            let text = format!("{} of {}", shown(limit.current), shown(limit.maximum));
            (name.to_owned(), text)
        })
        .collect()
}

fn sysctls() -> BTreeMap<String, String> {
    let pages = line("/sys/kernel/mm/transparent_hugepage/enabled");
    let huge_pages = ("transparent_hugepage".to_owned(), pages);
    SYSCTLS
        .into_iter()
        .map(|name| {
            let text = line(&format!("/proc/sys/{}", name.replace('.', "/")));
            (name.to_owned(), text.replace('\t', " "))
        })
        .chain([huge_pages])
        .filter(|(_, text)| !text.is_empty())
        .collect()
}

/// A machine that is being watched while something is measured.
#[derive(Debug)]
pub struct Watched {
    facts: Machine,
    ticks: Ticks,
}

/// Time of all cores since the machine started, in ticks of the kernel's clock.
#[derive(Clone, Copy, Default, PartialEq, Debug)]
struct Ticks {
    all: f64,
    stolen: f64,
}

impl Watched {
    /// Calibrates and begins to watch; takes half a second.
    #[must_use]
    pub fn begin(folder: &Path) -> Self {
        let mut facts = facts(folder);
        facts.calibration_before_ns = calibrate();
        Self {
            facts,
            ticks: Ticks::parse(&read("/proc/stat")),
        }
    }

    /// Calibrates again; what the machine was, and how quiet.
    #[must_use]
    pub fn end(self) -> Machine {
        let ticks = Ticks::parse(&read("/proc/stat"));
        let mut facts = self.facts;
        facts.steal_percent = ticks.steal_percent_since(self.ticks);
        facts.calibration_after_ns = calibrate();
        facts.noise_percent = spread_percent(
            &[
                &facts.calibration_before_ns[..],
                &facts.calibration_after_ns,
            ]
            .concat(),
        );
        facts
    }
}

impl Ticks {
    /// The first line of `/proc/stat`: user, nice, system, idle, iowait, irq, softirq, steal.
    fn parse(stat: &str) -> Self {
        let words = stat.lines().next().unwrap_or("").split_whitespace();
        let ticks: Vec<f64> = words
            .skip(1)
            .take(8)
            .filter_map(|word| word.parse().ok())
            .collect();
        Self {
            all: ticks.iter().sum(),
            stolen: ticks.get(7).copied().unwrap_or(0.0),
        }
    }

    fn steal_percent_since(self, before: Self) -> f64 {
        let all = self.all - before.all;
        if all > 0.0 {
            100.0 * (self.stolen - before.stolen) / all
        } else {
            0.0
        }
    }
}

/// Passes of pure arithmetic, nanoseconds each: what varies is the machine, not the program.
fn calibrate() -> Vec<u64> {
    let clock = Clock::start();
    let pass = |_| {
        let begun_ns = clock.now_ns();
        let mut state = black_box(0x9E37_79B9_7F4A_7C15_u64);
        for _ in 0..STEPS {
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
        }
        black_box(state);
        clock.now_ns() - begun_ns
    };
    (0..PASSES).map(pass).collect()
}

/// How far values lie apart, in percent of the middle one; 0 for none.
#[expect(clippy::cast_precision_loss, reason = "nanoseconds of a short loop")]
fn spread_percent(values: &[u64]) -> f64 {
    let mut sorted = values.to_vec();
    sorted.sort_unstable();
    match (sorted.first(), sorted.get(sorted.len() / 2), sorted.last()) {
        (Some(&min), Some(&median), Some(&max)) if median > 0 => {
            100.0 * (max - min) as f64 / median as f64
        }
        _ => 0.0,
    }
}

fn read(path: &str) -> String {
    fs::read_to_string(path).unwrap_or_default()
}

fn line(path: &str) -> String {
    read(path).trim().to_owned()
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
        format!("{kind} on {}", device_class(device))
    })
}

/// What kind of device it is: its name where that says nothing about hosts or users.
fn device_class(device: &str) -> &str {
    match device.strip_prefix("/dev/") {
        Some(name) if !name.contains('/') => device,
        Some(_) => "a mapped device",
        None if device.contains(['/', ':']) => "a remote folder",
        None => device,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_longest_mount_counts() {
        let mounts = "/dev/a / ext4 rw 0 0\nproc /proc proc rw 0 0\n/dev/b /home xfs rw 0 0\n";
        assert_eq!(file_system(mounts, Path::new("/proc")), "proc on proc");
        assert_eq!(file_system(mounts, Path::new("/")), "ext4 on /dev/a");
        assert_eq!(device_class("fileserver:/home/anna"), "a remote folder");
        assert_eq!(device_class("//host/share"), "a remote folder");
        assert_eq!(
            device_class("/dev/mapper/annas--box-root"),
            "a mapped device"
        );
        assert_eq!(device_class("overlay"), "overlay");
    }

    #[test]
    fn stolen_time_is_a_share_of_all() {
        let before = Ticks::parse("cpu  10 0 10 70 0 0 0 10 0 0\ncpu0 1 2 3\n");
        let after = Ticks::parse("cpu  20 0 20 140 0 0 0 20 5 5\n");
        assert_eq!(after.steal_percent_since(before), 10.0);
        assert_eq!(before.steal_percent_since(before), 0.0);
        assert_eq!(Ticks::parse(""), Ticks::default());
    }

    #[test]
    fn spreads() {
        assert_eq!(spread_percent(&[]), 0.0);
        assert_eq!(spread_percent(&[100]), 0.0);
        assert_eq!(spread_percent(&[110, 100, 90]), 20.0);
    }

    #[test]
    fn this_machine_has_facts() {
        let machine = Watched::begin(Path::new("/")).end();
        assert!(!machine.kernel.is_empty() && machine.cores > 0 && machine.memory_kib > 0);
        assert!(machine.limits.contains_key("nofile"));
        assert_eq!(machine.calibration_before_ns.len(), PASSES);
        assert_eq!(machine.calibration_after_ns.len(), PASSES);
    }
}
