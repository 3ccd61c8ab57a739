//! `perf/tune.sh` on a folder that stands for the machine: what it shows, sets and puts back.
//!
//! No setting of this machine is touched.

#![expect(
    clippy::disallowed_methods,
    reason = "a test prepares files for the program it runs"
)]

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

const SCRIPT: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../perf/tune.sh");

/// A machine of settings alone, with 8 GiB, four cores and one card with one queue.
struct Machine(tempfile::TempDir);

impl Machine {
    fn new() -> Self {
        let machine = Self(tempfile::tempdir().expect("a temporary folder"));
        machine.set("proc/meminfo", "MemTotal:        8388608 kB\n");
        machine.set("proc/cpuinfo", &"processor\t: 0\n".repeat(4));
        machine.set("proc/sys/fs/nr_open", "1048576\n");
        machine.set("proc/sys/fs/file-max", "9223372036854775807\n");
        machine.set("proc/sys/net/core/somaxconn", "4096\n");
        machine.set("proc/sys/net/ipv4/tcp_mem", "99\t131\t1000000\n");
        machine.set("sys/class/net/eth0/queues/rx-0/rps_cpus", "0\n");
        machine
    }

    fn path(&self, file: &str) -> PathBuf {
        self.0.path().join(file)
    }

    fn set(&self, file: &str, text: &str) {
        let path = self.path(file);
        fs::create_dir_all(path.parent().expect("a folder")).expect("it can be made");
        fs::write(path, text).expect("it can be written");
    }

    fn get(&self, file: &str) -> String {
        let text = fs::read_to_string(self.path(file)).expect("it is there");
        text.trim().to_owned()
    }

    fn run(&self, args: &[&str]) -> Output {
        let mut command = Command::new("bash");
        command
            .arg(SCRIPT)
            .args(args)
            .env("TUNE_ROOT", self.0.path());
        command.output().expect("bash is there")
    }

    /// What it says, when it succeeds.
    fn said(&self, args: &[&str]) -> String {
        let output = self.run(args);
        let stderr = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "{args:?}: {stderr}");
        String::from_utf8(output.stdout).expect("text")
    }
}

fn all_files(folder: &Path) -> Vec<(PathBuf, String)> {
    let mut files = Vec::new();
    for entry in fs::read_dir(folder).expect("a folder") {
        let path = entry.expect("an entry").path();
        if path.is_dir() {
            files.extend(all_files(&path));
        } else {
            let text = fs::read_to_string(&path).expect("a file");
            files.push((path, text.split_whitespace().collect::<Vec<_>>().join(" ")));
        }
    }
    files.sort();
    files
}

#[test]
fn what_is_applied_is_undone() {
    let machine = Machine::new();
    let before = all_files(machine.0.path());
    let shown = machine.said(&["show", "--interface", "eth0"]);
    assert_eq!(
        all_files(machine.0.path()),
        before,
        "showing changes nothing"
    );
    assert!(
        shown.contains("net.core.somaxconn = 4096 -> 65535"),
        "{shown}"
    );
    assert!(
        shown.contains("net.core.netdev_max_backlog: this kernel has none"),
        "{shown}"
    );

    let applied = machine.said(&["apply", "--interface", "eth0"]);
    assert!(
        applied.contains("net.core.somaxconn: 4096 -> 65535"),
        "{applied}"
    );
    assert_eq!(machine.get("proc/sys/net/core/somaxconn"), "65535");
    let largest = "9223372036854775807";
    assert_eq!(
        machine.get("proc/sys/fs/file-max"),
        largest,
        "nothing is lowered"
    );
    // Eighths of 2,097,152 pages; the last one was higher already.
    assert_eq!(
        machine.get("proc/sys/net/ipv4/tcp_mem"),
        "262144 524288 1000000"
    );
    assert_eq!(machine.get("sys/class/net/eth0/queues/rx-0/rps_cpus"), "f");

    // As the kernel shows a mask.
    machine.set(
        "sys/class/net/eth0/queues/rx-0/rps_cpus",
        "00000000,0000000f\n",
    );
    let again = machine.run(&["apply"]);
    assert_eq!(
        again.status.code(),
        Some(1),
        "the first old values are not lost"
    );
    machine.said(&["undo"]);
    assert_eq!(all_files(machine.0.path()), before);
    assert_eq!(
        machine.run(&["undo"]).status.code(),
        Some(1),
        "there is nothing left"
    );
}

#[test]
fn what_somebody_else_has_set_since_is_theirs() {
    let machine = Machine::new();
    machine.said(&["apply"]);
    machine.set("proc/sys/net/core/somaxconn", "1234\n");
    let undone = machine.said(&["undo"]);
    assert!(undone.contains("somebody has made it 1234"), "{undone}");
    assert_eq!(machine.get("proc/sys/net/core/somaxconn"), "1234");
    assert_eq!(machine.get("proc/sys/fs/nr_open"), "1048576");
}

#[test]
fn an_interface_that_has_gone_holds_nothing_up() {
    let machine = Machine::new();
    machine.said(&["apply", "--interface", "eth0"]);
    fs::remove_dir_all(machine.path("sys/class/net/eth0")).expect("it can go");
    let undone = machine.said(&["undo"]);
    assert!(undone.contains("has gone"), "{undone}");
    assert_eq!(machine.get("proc/sys/net/core/somaxconn"), "4096");
}

#[test]
fn masks_of_many_cores() {
    for (cores, mask) in [(1, "1"), (32, "ffffffff"), (40, "ff,ffffffff")] {
        let machine = Machine::new();
        machine.set("proc/cpuinfo", &"processor\t: 0\n".repeat(cores));
        machine.said(&["apply", "--interface", "eth0"]);
        assert_eq!(machine.get("sys/class/net/eth0/queues/rx-0/rps_cpus"), mask);
        machine.said(&["undo"]);
        assert_eq!(machine.get("sys/class/net/eth0/queues/rx-0/rps_cpus"), "0");
    }
}

#[test]
fn what_it_does_not_know_is_refused() {
    let machine = Machine::new();
    for args in [
        &[][..],
        &["improve"],
        &["show", "--fast"],
        &["show", "--interface"],
    ] {
        let status = machine.run(args).status;
        assert!(!status.success(), "{args:?}");
    }
    let output = machine.run(&["show", "--interface", "eth7"]);
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(
        !output.status.success() && said.contains("no interface eth7"),
        "{said}"
    );
}
