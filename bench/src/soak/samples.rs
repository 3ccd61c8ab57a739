//! The server's state, every few seconds, taken by a thread of its own.
//!
//! It judges nothing and never holds up the load: what is slow here (a large process's memory map,
//! a server that is late to answer) waits beside it.
//!
//! Invariants: samples are in the order of their time; there are as many as the run has intervals;
//! what could not be read is absent or 0.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

use serde::Serialize;

use super::descriptors::Descriptors;
use super::health::Health;
use crate::clock::{Clock, pause};
use crate::memory::{KernelMemory, ProcessUse, lingering, sockets};
use crate::target::Target;

/// How often the thread looks whether it is to end.
const STEP: Duration = Duration::from_millis(50);

/// The server at one moment.
#[derive(Clone, Copy, Default, Debug, Serialize)]
pub struct Sample {
    /// Since the run began, seconds.
    pub at_s: f64,
    /// Live clients of the generator.
    pub live: u64,
    /// Sessions, as the server counts them.
    pub server_sessions: Option<u64>,
    /// Connections, as the server counts them.
    pub server_connections: Option<u64>,
    /// The server's resident memory, bytes.
    pub rss_bytes: i64,
    /// The part of it that is no file's, bytes.
    pub anonymous_bytes: i64,
    /// The kernel's memory on the whole machine, both ends, bytes (`/proc/meminfo`).
    pub kernel_bytes: i64,
    /// TCP sockets on the whole machine, both ends.
    pub tcp_sockets: i64,
    /// Connections that are closed and still remembered.
    pub lingering: i64,
    /// The server's descriptors.
    pub fds: Descriptors,
    /// Processor time of the server since the last sample, percent of one core.
    pub cpu_percent: f64,
}

/// Whose state is taken.
#[derive(Clone, Debug)]
pub(super) struct Subject {
    pub(super) target: Target,
    pub(super) pid: Option<u32>,
    pub(super) clock: Clock,
    /// Live clients, as the generator last counted them.
    pub(super) live: Arc<AtomicU64>,
}

impl Subject {
    /// The state now; processor time counts since `before`, whose process time is `cpu_s`.
    pub(super) fn sample(&self, before: &Sample, cpu_s: &mut f64) -> Sample {
        let process = self.pid.and_then(ProcessUse::of).unwrap_or_default();
        let health = Health::of(&self.target);
        let at_s = self.clock.seconds();
        let used_s = process.cpu_s - std::mem::replace(cpu_s, process.cpu_s);
        Sample {
            at_s,
            live: self.live.load(Ordering::Relaxed),
            server_sessions: health.map(|health| health.sessions),
            server_connections: health.map(|health| health.connections),
            rss_bytes: process.resident,
            anonymous_bytes: process.anonymous,
            kernel_bytes: KernelMemory::now().sum(),
            tcp_sockets: sockets(),
            lingering: lingering(),
            fds: self.pid.and_then(Descriptors::of).unwrap_or_default(),
            cpu_percent: 100.0 * used_s / (at_s - before.at_s).max(0.001),
        }
    }

    /// The state now, with no processor time.
    pub(super) fn now(&self) -> Sample {
        Sample {
            cpu_percent: 0.0,
            ..self.sample(&Sample::default(), &mut 0.0)
        }
    }
}

/// The thread that takes samples.
pub(super) struct Sampler {
    is_over: Arc<AtomicBool>,
    thread: JoinHandle<Vec<Sample>>,
}

impl Sampler {
    /// A sample now, and then one each `every`.
    #[expect(
        clippy::disallowed_methods,
        reason = "this edge looks at the server beside the load"
    )]
    pub(super) fn start(subject: Subject, every: Duration) -> Self {
        let is_over = Arc::new(AtomicBool::new(false));
        let over = Arc::clone(&is_over);
        let thread = std::thread::spawn(move || take(&subject, every, &over));
        Self { is_over, thread }
    }

    /// Ends the thread; says what it took.
    pub(super) fn stop(self) -> Vec<Sample> {
        self.is_over.store(true, Ordering::Relaxed);
        self.thread.join().expect("taking samples does not panic")
    }
}

fn take(subject: &Subject, every: Duration, is_over: &AtomicBool) -> Vec<Sample> {
    let mut cpu_s = 0.0;
    subject.sample(&Sample::default(), &mut cpu_s);
    let mut samples = vec![subject.now()];
    let mut due_s = subject.clock.seconds() + every.as_secs_f64();
    while !is_over.load(Ordering::Relaxed) {
        if subject.clock.seconds() < due_s {
            pause(STEP);
            continue;
        }
        due_s += every.as_secs_f64();
        let before = samples[samples.len() - 1];
        samples.push(subject.sample(&before, &mut cpu_s));
    }
    samples
}
