//! One run: starts the store, works with it, lets the planned faults strike, ends it, and starts
//! it again, comparing it with the model all the way.
//!
//! It excuses nothing that the plan did not cause.
//!
//! Invariants: a commit enters the model when it is acknowledged, or when it is found after a
//! start; a violation is a panic; one seed gives one trace.

use std::fmt;
use std::path::PathBuf;

use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};
use throng_storage_engine::{
    BLOCK_BYTES, ChannelKey, CommitError, Did, DiskOp, Erasure, Record, SimDisk, SimFault,
    StoreError, Stored, Upkept,
};

use crate::judge::{InFlight, LastCommits, compare, compare_all, is_named, settle};
use crate::model::Model;
use crate::node::{Asked, Committed, Node};
use crate::plan::{End, Fault, Plan, Round};
use crate::steps::Step;
use crate::writer::Writer;

/// 2026-11-21T00:00:00Z.
const START_MS: u64 = 1_795_219_200_000;

/// More failed starts in a row than any plan can cause.
const STARTS_MAX: usize = 5;

/// What a run did, and how often.
#[derive(Default, PartialEq, Eq, Debug)]
pub(crate) struct Outcome {
    /// Everything that happened, a line each.
    pub(crate) trace: Vec<String>,
    pub(crate) acknowledged: u64,
    pub(crate) cuts: u64,
    pub(crate) poisoned: u64,
    pub(crate) full: u64,
    /// Reads that named damage.
    pub(crate) reported: u64,
    pub(crate) sealed: u64,
    pub(crate) merged: u64,
    pub(crate) dropped: u64,
    pub(crate) erased: u64,
    /// The store named damage and did not open.
    pub(crate) refused: bool,
    /// Runs in which the disk did harm without a word.
    pub(crate) harmed: bool,
}

/// Whether the process goes on after a step.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Process {
    Runs,
    Dies,
}

impl Process {
    fn and(self, other: Self) -> Self {
        if self == Self::Runs { other } else { self }
    }
}

struct Run {
    plan: Plan,
    disk: SimDisk,
    rng: StdRng,
    model: Model,
    writer: Writer,
    now_ms: u64,
    in_flight: InFlight,
    last: LastCommits,
    fault: Fault,
    is_full: bool,
    /// Every line of the trace is printed, too.
    is_loud: bool,
    outcome: Outcome,
}

/// Runs a plan; prints what it does if `is_loud`.
pub(crate) fn run(seed: u64, plan: Plan, is_loud: bool) -> Outcome {
    let disk = SimDisk::new(seed, plan.latency);
    let mut run = Run {
        disk,
        rng: StdRng::seed_from_u64(seed),
        model: Model::new(),
        writer: Writer::default(),
        now_ms: START_MS,
        in_flight: InFlight::default(),
        last: LastCommits::default(),
        fault: Fault::Nothing,
        is_full: false,
        is_loud,
        outcome: Outcome::default(),
        plan,
    };
    let rounds = run.plan.rounds.clone();
    let last = Round {
        shards: 2,
        steps: 3,
        fault: Fault::Nothing,
        end: End::Close,
    };
    for round in rounds.iter().chain([&last]) {
        if !run.round(round) {
            break;
        }
    }
    run.outcome.harmed = !run.disk.harms().is_empty();
    run.note_files();
    run.outcome
}

impl Run {
    /// One start of the store; whether there can be another one.
    fn round(&mut self, round: &Round) -> bool {
        self.note(format_args!("{round:?}"));
        self.arm(round.fault);
        let Some(mut node) = self.start(round) else {
            return false;
        };
        let mut process = Process::Runs;
        for number in 0..round.steps {
            self.before_step(number);
            process = self.step(&mut node);
            if process == Process::Dies {
                break;
            }
        }
        self.end(node, process, round.end);
        true
    }

    fn arm(&mut self, fault: Fault) {
        self.fault = fault;
        match fault {
            Fault::PowerCut { change } => self.disk.cut_power_at(self.disk.changes() + change),
            Fault::Operation { number, fault } => {
                self.disk.fail_at(self.disk.operations() + number, fault);
            }
            Fault::Nothing | Fault::Full { .. } | Fault::FlipAtRest { .. } => {}
        }
    }

    /// Starts the store, again if the plan made a start fail; `None` if it refuses for damage.
    fn start(&mut self, round: &Round) -> Option<Node> {
        let mut refusals = 0;
        for _ in 0..STARTS_MAX {
            let (before, harms) = (self.image(), self.disk.harms().len());
            let opening = Node::open(&self.disk, &self.plan.setup, round.shards, self.now_ms);
            let error = match self.disk.run(opening) {
                Ok(node) => {
                    if self.check(&node) == Process::Runs {
                        return Some(node);
                    }
                    continue;
                }
                Err(error) => error,
            };
            self.note(format_args!("did not start: {error}"));
            if !self.disk.has_power() {
                self.lose_power();
            } else if !self.is_planned(&error) {
                assert!(
                    self.did_harm() && is_named(&error),
                    "does not start although nothing is wrong: {error}"
                );
                // Damage that comes while repairs are being made is found when they are; that of
                // sealed days is found when those of the segments are done.
                let is_of_sealed = error.to_string().starts_with("/data/sealed");
                assert!(
                    before == self.image() || harms < self.disk.harms().len() || is_of_sealed,
                    "a refusal changes nothing: {error}"
                );
                refusals += 1;
                // One fault at a time: what is still planned would meet a store that is damaged.
                self.disk.heal();
            }
        }
        assert!(
            self.harm_is_lasting() && refusals + 1 >= STARTS_MAX,
            "does not start, again and again"
        );
        self.outcome.refused = true;
        None
    }

    /// Compares a store that has just started.
    fn check(&mut self, node: &Node) -> Process {
        for torn in &node.report.torn {
            self.note(format_args!("torn at {} {}", torn.path.display(), torn.end));
        }
        let destroyed_max = self.destroyed_max();
        assert!(
            node.retained_from() >= self.model.retained_from,
            "dropped days are back"
        );
        self.model.retained_from = node.retained_from();
        settle(
            node,
            &mut self.model,
            &self.in_flight,
            &self.last,
            destroyed_max,
        );
        self.in_flight.clear();
        self.last.clear();
        self.compare_all(node)
    }

    fn compare_all(&mut self, node: &Node) -> Process {
        let errors = self.disk.run(compare_all(node, &self.model));
        for error in errors {
            if self.failed_read(&error) == Process::Dies {
                self.lose_power();
                return Process::Dies;
            }
        }
        Process::Runs
    }

    fn before_step(&mut self, number: usize) {
        match self.fault {
            Fault::Full {
                from_step,
                steps,
                room_bytes,
            } => {
                if number == from_step {
                    let quota = self.disk.used_bytes() + room_bytes;
                    self.disk.set_quota_bytes(Some(quota));
                    self.is_full = true;
                } else if number == from_step + steps {
                    self.disk.set_quota_bytes(None);
                    self.is_full = false;
                }
            }
            Fault::FlipAtRest { step } if step == number => self.flip_somewhere(),
            _ => {}
        }
    }

    fn flip_somewhere(&mut self) {
        let files = self.disk.files();
        let path = &files[self.rng.random_range(0..files.len())];
        let length = self.disk.contents(path).expect("it is listed").len() as u64;
        if length > 0 {
            let offset = self.rng.random_range(0..length);
            let mask = 1 << self.rng.random_range(0..8);
            self.disk.flip(path, offset, mask);
            self.note(format_args!("flip in {} at {offset}", path.display()));
        }
    }

    fn step(&mut self, node: &mut Node) -> Process {
        self.now_ms += self.rng.random_range(0..3);
        let shards = node.shards();
        let channels = self.plan.channels;
        let step = Step::draw(&mut self.rng, &self.model, channels, shards, self.now_ms);
        self.note(format_args!("{step:?}"));
        match step {
            Step::Commit {
                commits,
                pages,
                maintains,
            } => self.work(node, &commits, &pages, maintains),
            Step::Page(asked) => self.page(node, &asked),
            Step::Wait { ms } => {
                self.now_ms += ms;
                Process::Runs
            }
            Step::SealTails => {
                let done = self.disk.run(node.seal_tails());
                if done.is_ok() {
                    self.last.clear();
                }
                self.background(done)
            }
            Step::Maintain { pieces } => {
                let (did, done) = self.disk.run(node.maintain(self.now_ms, pieces));
                did.into_iter().for_each(|did| self.note_did(did));
                self.model.retained_from = node.retained_from();
                self.maintained(done)
            }
            Step::Erase => self.erase(node),
            Step::Upkeep => {
                let done = self.disk.run(node.upkeep());
                if let Ok(upkept) = &done {
                    let is_full = upkept.contains(&Upkept::Full);
                    assert!(!is_full || self.may_be_full(), "there is space");
                }
                self.background(done.map(drop))
            }
        }
    }

    fn work(
        &mut self,
        node: &mut Node,
        asked: &[(usize, Vec<ChannelKey>)],
        pages: &[Asked],
        maintains: bool,
    ) -> Process {
        let mut commits: Vec<(usize, Vec<Record>)> = Vec::new();
        for (shard, channels) in asked {
            let Self {
                rng,
                model,
                writer,
                plan,
                ..
            } = self;
            let records = writer.records(rng, model, channels, self.now_ms, plan.body_bytes_max);
            commits.push((*shard, records));
        }
        let working = node.work(self.now_ms, &commits, pages, maintains);
        let worked = self.disk.run(working);
        let mut process = Process::Runs;
        for ((shard, records), outcome) in commits.into_iter().zip(worked.commits) {
            process = process.and(self.committed(node, shard, records, outcome));
        }
        for (asked, outcome) in pages.iter().zip(worked.pages) {
            process = process.and(self.judge_page(asked, outcome));
        }
        match worked.did {
            Some(Ok(did)) => self.note_did(did),
            Some(Err(error)) => process = process.and(self.maintained(Err(error))),
            None => {}
        }
        process
    }

    fn committed(
        &mut self,
        node: &mut Node,
        shard: usize,
        records: Vec<Record>,
        outcome: Committed,
    ) -> Process {
        match outcome {
            Ok(()) => self.acknowledge(shard, records),
            Err(CommitError::Full(error)) => {
                self.note(format_args!("shard {shard} is full: {error}"));
                assert!(self.may_be_full(), "there is space, yet {error}");
                self.outcome.full += 1;
            }
            Err(CommitError::Poisoned(error)) => {
                self.poisoned(node, shard, &records, &error);
                self.in_flight.insert(shard, records);
                return Process::Dies;
            }
        }
        Process::Runs
    }

    /// Maintenance goes on after a full disk; damage that it meets it names; anything else ends
    /// the process.
    fn maintained(&mut self, done: Result<(), StoreError>) -> Process {
        let Err(error) = done else {
            return Process::Runs;
        };
        if self.disk.has_power() && error.is_full() && self.may_be_full() {
            self.note(format_args!("maintenance waits: {error}"));
            return Process::Runs;
        }
        if self.disk.has_power() && !self.is_planned(&error) && self.did_harm() {
            self.note(format_args!("maintenance stops: {error}"));
            assert!(is_named(&error), "not named: {error}");
            self.outcome.reported += 1;
            return Process::Runs;
        }
        self.background(Err(error))
    }

    /// A message that is deleted is erased: nothing that shows may change.
    fn erase(&mut self, node: &Node) -> Process {
        let deleted: Vec<Erasure> = (self.model.channels.iter())
            .flat_map(|(channel, held)| held.messages.iter().map(|message| (*channel, message)))
            .filter(|(_, message)| message.is_deleted)
            .map(|(channel, message)| Erasure::Message {
                channel,
                message: message.key,
                seq: message.seq,
            })
            .collect();
        if deleted.is_empty() {
            return Process::Runs;
        }
        let of = deleted[self.rng.random_range(0..deleted.len())];
        let done = self.disk.run(node.erase(self.now_ms, of));
        self.maintained(done.map(drop))
    }

    fn note_did(&mut self, did: Did) {
        self.note(format_args!("{did:?}"));
        match did {
            Did::Sealed { .. } => self.outcome.sealed += 1,
            Did::Merged { .. } => self.outcome.merged += 1,
            Did::Dropped { .. } => self.outcome.dropped += 1,
            Did::Erased { .. } => self.outcome.erased += 1,
            _ => {}
        }
    }

    fn acknowledge(&mut self, shard: usize, records: Vec<Record>) {
        self.outcome.acknowledged += records.len() as u64;
        records.iter().for_each(|record| self.model.apply(record));
        self.last.entry(shard).or_default().push(records);
    }

    /// A commit failed: it must have had a reason, and the log must stay as it is.
    fn poisoned(&mut self, node: &mut Node, shard: usize, records: &[Record], error: &StoreError) {
        self.note(format_args!("shard {shard} is poisoned: {error}"));
        assert!(
            !self.disk.has_power() || self.is_planned(error),
            "a commit fails by itself: {error}"
        );
        assert!(
            !(self.is_full && error.is_full()),
            "a disk without space ends the log: {error}"
        );
        let again = [(shard, records.to_vec())];
        let again = self.disk.run(node.work(self.now_ms, &again, &[], false));
        assert!(
            matches!(again.commits[..], [Err(CommitError::Poisoned(_))]),
            "a log that failed takes another commit"
        );
        self.outcome.poisoned += 1;
    }

    fn page(&mut self, node: &Node, asked: &Asked) -> Process {
        let outcome = self.disk.run(node.page(asked));
        self.judge_page(asked, outcome)
    }

    fn judge_page(&mut self, asked: &Asked, outcome: Result<Vec<Stored>, StoreError>) -> Process {
        match outcome {
            Ok(found) => {
                compare(asked, &self.model, &found);
                Process::Runs
            }
            Err(error) => self.failed_read(&error),
        }
    }

    fn failed_read(&mut self, error: &StoreError) -> Process {
        self.note(format_args!("a read failed: {error}"));
        if !self.disk.has_power() {
            return Process::Dies;
        }
        if !self.is_planned(error) {
            assert!(
                self.did_harm() && is_named(error),
                "a read fails by itself: {error}"
            );
            self.outcome.reported += 1;
        }
        Process::Runs
    }

    /// What ends the process if it fails.
    fn background(&mut self, done: Result<(), StoreError>) -> Process {
        let Err(error) = done else {
            return Process::Runs;
        };
        self.note(format_args!("failed: {error}"));
        assert!(
            !self.disk.has_power() || self.is_planned(&error),
            "fails by itself: {error}"
        );
        Process::Dies
    }

    fn end(&mut self, node: Node, process: Process, end: End) {
        let wants_close = process == Process::Runs && end == End::Close;
        if wants_close {
            let done = self.disk.run(node.close());
            if done.is_ok() {
                self.last.clear();
            }
            self.background(done);
        } else {
            drop(node);
        }
        if end == End::Crash || !self.disk.has_power() {
            self.lose_power();
        }
        self.disk.heal();
        self.is_full = false;
    }

    fn lose_power(&mut self) {
        self.note(format_args!("power is lost"));
        self.disk.crash();
        self.outcome.cuts += 1;
        self.is_full = false;
    }

    /// Whether the plan made the disk report this.
    fn is_planned(&self, error: &StoreError) -> bool {
        let is_reported =
            |fault: SimFault| matches!(fault, SimFault::Io | SimFault::Short | SimFault::Full);
        let error = match error {
            StoreError::Disk(error) => error,
            // It failed before, in something that may be tried again elsewhere.
            StoreError::Poisoned => {
                return matches!(self.fault, Fault::Operation { fault, .. } if is_reported(fault));
            }
            _ => return false,
        };
        let number = error.source.raw_os_error();
        match self.fault {
            Fault::Operation { fault, .. } => match fault {
                SimFault::Io | SimFault::Short => number == Some(libc_eio()),
                SimFault::Full => error.is_full(),
                _ => false,
            },
            Fault::Full { .. } => self.is_full && error.is_full() && error.op != DiskOp::Read,
            _ => false,
        }
    }

    fn may_be_full(&self) -> bool {
        let is_planned =
            |fault| matches!(fault, Fault::Operation { fault, .. } if fault == SimFault::Full);
        self.is_full || is_planned(self.fault)
    }

    fn did_harm(&self) -> bool {
        !self.disk.harms().is_empty()
    }

    /// Whether the disk's content is wrong, not only what one read gave.
    fn harm_is_lasting(&self) -> bool {
        let is_read = |op| matches!(op, DiskOp::Read | DiskOp::Map);
        self.disk.harms().iter().any(|harm| !is_read(harm.op))
    }

    /// How many commits at the end of a log may have been destroyed so that nothing is left that
    /// tells: one by what befell its own write or place; as many as it has blocks by a write that
    /// was meant for elsewhere.
    fn destroyed_max(&self) -> usize {
        let harms = self.disk.harms().into_iter();
        let blocks = harms.map(|harm| match (harm.op, harm.fault) {
            (DiskOp::Read | DiskOp::Map, _) => 0,
            (_, SimFault::Misdirected) => harm.bytes / u64::from(BLOCK_BYTES),
            _ => 1,
        });
        usize::try_from(blocks.max().unwrap_or(0)).expect("writes are short")
    }

    /// All files with their content, once that matters; but not index files, which only repeat
    /// what segments say.
    fn image(&self) -> Vec<(PathBuf, Vec<u8>)> {
        if !self.did_harm() {
            return Vec::new();
        }
        let is_index = |path: &PathBuf| {
            let ending = path.extension().and_then(|ending| ending.to_str());
            matches!(ending, Some("idx" | "tmp"))
        };
        let files = self.disk.files().into_iter();
        files
            .filter(|path| !is_index(path))
            .map(|path| {
                (
                    path.clone(),
                    self.disk.contents(&path).expect("it is listed"),
                )
            })
            .collect()
    }

    fn note(&mut self, what: fmt::Arguments<'_>) {
        let operations = self.disk.operations();
        let line = format!("{operations}: {what}");
        if self.is_loud {
            eprintln!("{line}");
        }
        self.outcome.trace.push(line);
    }

    fn note_files(&mut self) {
        for path in self.disk.files() {
            let content = self.disk.contents(&path).expect("it is listed");
            let mix =
                |hash: u64, byte: &u8| (hash ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3);
            let hash = content.iter().fold(0xcbf2_9ce4_8422_2325, mix);
            let (path, length) = (path.display(), content.len());
            self.note(format_args!("{path}: {length} bytes, {hash:016x}"));
        }
    }
}

/// EIO on Linux.
fn libc_eio() -> i32 {
    5
}
