//! Servers and benchmarks that a run starts as processes of their own.
//!
//! It never touches a process that it did not start. Those that are told what to do over pipes
//! (`store-engine`, `raw-echo`) are started where they are told.
//!
//! Invariants: a process is on its core from its first instruction on; Ctrl-C on the terminal
//! reaches this program alone, which ends it in its turn; it ends with its handle, and with the
//! thread that started it, however that ends: start it where it is waited for.

use std::io;
use std::os::unix::process::CommandExt;
use std::process::{Child, ChildStdout, Command, ExitStatus, Stdio};
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process, set_parent_process_death_signal};
use rustix::thread::{CpuSet, sched_getaffinity, sched_setaffinity};

use crate::clock::pause;
use crate::interrupt::Interrupt;
use crate::swarm::options::pin_thread;

/// How often it is looked whether one has ended.
const LOOK: Duration = Duration::from_millis(20);
/// How long one has to end after SIGTERM, seconds.
pub(crate) const END_S_MAX: u64 = 30;

/// A running process.
#[derive(Debug)]
pub(crate) struct Process {
    child: Child,
}

impl Process {
    /// Starts a program without input on a core, or on all, and stays where it is itself: a process
    /// inherits the core of the thread that starts it, so that what it asks of the machine when it
    /// starts fits.
    pub(crate) fn start(command: &mut Command, core: Option<usize>) -> io::Result<Self> {
        command.stdin(Stdio::null()).process_group(0);
        end_with_us(command);
        let own: CpuSet = sched_getaffinity(None)?;
        if let Some(core) = core {
            pin_thread(core)?;
        }
        let started = command.spawn().map(|child| Self { child });
        sched_setaffinity(None, &own)?;
        started
    }

    /// Its process id.
    pub(crate) fn pid(&self) -> u32 {
        self.child.id()
    }

    /// What it writes to standard output, where that is piped; once.
    pub(crate) const fn take_stdout(&mut self) -> Option<ChildStdout> {
        self.child.stdout.take()
    }

    /// Whether it has not ended yet.
    pub(crate) fn is_running(&mut self) -> bool {
        matches!(self.child.try_wait(), Ok(None))
    }

    /// Waits for its end, and asks for it when there is no time; says its status, none for one that
    /// had to be killed.
    pub(crate) fn finish(mut self, interrupt: &Interrupt) -> io::Result<Option<ExitStatus>> {
        while !interrupt.has_come() {
            if let Some(status) = self.child.try_wait()? {
                return Ok(Some(status));
            }
            pause(LOOK);
        }
        self.end()
    }

    /// Asks for its end with SIGTERM; says its status, none for one that did not end within
    /// [`END_S_MAX`] and was killed.
    pub(crate) fn end(mut self) -> io::Result<Option<ExitStatus>> {
        let pid = i32::try_from(self.pid()).ok().and_then(Pid::from_raw);
        // One that has ended by itself says so by its status.
        let _ = pid.map(|pid| kill_process(pid, Signal::TERM));
        let looks = Duration::from_secs(END_S_MAX).as_millis() / LOOK.as_millis();
        for _ in 0..looks {
            if let Some(status) = self.child.try_wait()? {
                return Ok(Some(status));
            }
            pause(LOOK);
        }
        Ok(None)
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        // One that has ended already cannot be killed, and need not be.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// The process ends when the thread does that starts it, however that ends.
#[expect(
    unsafe_code,
    reason = "what a child does before its program has no safe interface"
)]
fn end_with_us(command: &mut Command) {
    let ask = || Ok(set_parent_process_death_signal(Some(Signal::KILL))?);
    // SAFETY: between fork and exec only one system call is made: nothing is allocated or locked.
    unsafe { command.pre_exec(ask) };
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sleep(core: Option<usize>) -> Process {
        Process::start(Command::new("sleep").arg("60"), core).expect("there is a sleep")
    }

    #[test]
    fn ends_when_it_is_told_to() {
        let process = sleep(None);
        let status = process.end().expect("it is ours").expect("it ends");
        assert!(!status.success());
        let finished = sleep(None).finish(&Interrupt::fixed(true));
        let status = finished.expect("it is ours").expect("it ends");
        assert!(!status.success());
    }

    #[test]
    fn is_waited_for() {
        let process = Process::start(&mut Command::new("true"), None).expect("there is a true");
        let status = process.finish(&Interrupt::fixed(false));
        assert!(status.expect("it is ours").expect("it ends").success());
    }

    #[test]
    fn ends_with_its_handle() {
        let mut process = sleep(None);
        assert!(process.is_running());
        let stat = format!("/proc/{}/stat", process.pid());
        drop(process);
        assert!(!std::path::Path::new(&stat).exists());
    }

    #[test]
    fn is_where_it_was_put_and_we_are_where_we_were() {
        let own = sched_getaffinity(None).expect("a thread has cores");
        let core = (0..CpuSet::MAX_CPU).rfind(|&core| own.is_set(core));
        let process = sleep(core);
        let pid = i32::try_from(process.pid()).ok().and_then(Pid::from_raw);
        let its = sched_getaffinity(pid).expect("it runs");
        assert_eq!(
            (its.count(), core.is_some_and(|core| its.is_set(core))),
            (1, true)
        );
        assert!(own == sched_getaffinity(None).expect("a thread has cores"));
    }
}
