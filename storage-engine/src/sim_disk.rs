//! A disk in memory, for simulations: it takes virtual time, fails on demand, and loses in a
//! crash what a real one may lose. Everything follows from one seed. The power can be cut in any
//! change ([`SimDisk::cut_power_at`]). Of the writes of a file since its last sync any subset
//! survives then, in any order, each wholly, not at all, or torn at sectors of 512 or 4096 bytes;
//! of the names since a directory's last sync a prefix, or any subset: so a rename whose directory
//! was not synced is lost or not. Any operation can be made to fail ([`SimDisk::fail_at`], by its
//! number): EIO, ENOSPC, a short write or read, and, without a word, a write or sync that never
//! happens, a write or read that goes elsewhere, and a flipped bit ([`SimFault`]). Bits flip at
//! rest, too ([`SimDisk::flip`]), and space can run out ([`SimDisk::set_quota_bytes`]).
//!
//! It never touches the kernel, and never loses what was synced unless told to.
//!
//! Invariants: an operation ends when the virtual time reaches its due time, in the order of due
//! times; after a crash old files, locks and pending operations only return errors; all harm that
//! was done without a word is listed ([`SimDisk::harms`]).

mod device;
mod draw;
mod faults;
mod inode;
mod names;
mod transfer;

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::future::{Future, poll_fn};
use std::io;
use std::path::{Path, PathBuf};
use std::rc::Rc;
use std::sync::Weak;
use std::task::{Context, Poll, Waker};

use crate::error::{DiskError, DiskOp};
pub use device::SimFile;
use draw::Draw;
use faults::Faults;
pub use faults::{SimFault, SimHarm};
use inode::Inode;
use names::{Names, Node};

/// How long operations take, in microseconds of virtual time: each between `min_us` and `max_us`.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
pub struct SimLatency {
    /// At least.
    pub min_us: u64,
    /// At most.
    pub max_us: u64,
}

/// The simulated disk. Clones are the same disk.
#[derive(Clone)]
pub struct SimDisk {
    state: Rc<RefCell<State>>,
}

struct State {
    draw: Draw,
    salts: Draw,
    latency: SimLatency,
    now_us: u64,
    waiting: BTreeMap<(u64, u64), Waker>,
    next_wait: u64,
    crashes: u64,
    changes: u64,
    power_cut_at: Option<u64>,
    has_power: bool,
    faults: Faults,
    quota_bytes: Option<u64>,
    names: Names,
    inodes: BTreeMap<u64, Inode>,
    next_inode: u64,
    locks: BTreeMap<PathBuf, Weak<()>>,
}

type Errno = i32;

impl SimDisk {
    /// An empty disk.
    ///
    /// # Panics
    /// If the shortest latency is above the longest.
    #[must_use]
    pub fn new(seed: u64, latency: SimLatency) -> Self {
        assert!(latency.min_us <= latency.max_us, "latencies are a range");
        let state = State {
            draw: Draw::new(seed),
            salts: Draw::new(!seed),
            latency,
            now_us: 0,
            waiting: BTreeMap::new(),
            next_wait: 0,
            crashes: 0,
            changes: 0,
            power_cut_at: None,
            has_power: true,
            faults: Faults::default(),
            quota_bytes: None,
            names: Names::new(),
            inodes: BTreeMap::new(),
            next_inode: 0,
            locks: BTreeMap::new(),
        };
        Self {
            state: Rc::new(RefCell::new(state)),
        }
    }

    /// Moves the virtual time forward and wakes whoever waits for what is now done.
    pub fn advance_to(&self, now_us: u64) {
        let mut state = self.state.borrow_mut();
        state.now_us = state.now_us.max(now_us);
        let first_later = (state.now_us + 1, 0);
        let later = state.waiting.split_off(&first_later);
        let done = std::mem::replace(&mut state.waiting, later);
        drop(state);
        done.into_values().for_each(Waker::wake);
    }

    /// When the next operation under way will be done, in microseconds; `None` if there is none.
    #[must_use]
    pub fn next_due_us(&self) -> Option<u64> {
        self.state
            .borrow()
            .waiting
            .keys()
            .next()
            .map(|(due_us, _)| *due_us)
    }

    /// Drives one future to its end, moving the virtual time as far as it needs.
    ///
    /// # Panics
    /// If the future waits for something that is not this disk.
    pub fn run<T>(&self, future: impl Future<Output = T>) -> T {
        let mut future = std::pin::pin!(future);
        loop {
            let mut context = Context::from_waker(Waker::noop());
            if let Poll::Ready(value) = future.as_mut().poll(&mut context) {
                return value;
            }
            let due_us = self
                .next_due_us()
                .expect("the future waits for this disk only");
            self.advance_to(due_us);
        }
    }

    /// How many operations have changed something so far (writes, syncs, renames, ...).
    #[must_use]
    pub fn changes(&self) -> u64 {
        self.state.borrow().changes
    }

    /// Cuts the power in the middle of the change with this number, counted as by
    /// [`SimDisk::changes`] from 1: it fails and may have happened; everything later fails.
    pub fn cut_power_at(&self, change: u64) {
        self.state.borrow_mut().power_cut_at = Some(change);
    }

    /// Whether the power has been cut. Only [`SimDisk::crash`] brings it back.
    #[must_use]
    pub fn has_power(&self) -> bool {
        self.state.borrow().has_power
    }

    /// The machine stops and starts again: of what was not synced some survives, as the seed
    /// decides. Files and locks from before are void, faults and quota forgotten.
    pub fn crash(&self) {
        let mut state = self.state.borrow_mut();
        let State {
            draw,
            names,
            inodes,
            ..
        } = &mut *state;
        names.crash(draw);
        inodes.values_mut().for_each(|inode| inode.crash(draw));
        state.drop_unnamed();
        state.crashes += 1;
        state.power_cut_at = None;
        state.has_power = true;
        state.faults.forget();
        state.quota_bytes = None;
        state.locks.clear();
        let waiting = std::mem::take(&mut state.waiting);
        drop(state);
        waiting.into_values().for_each(Waker::wake);
    }

    /// How many operations of any kind have begun so far.
    #[must_use]
    pub fn operations(&self) -> u64 {
        self.state.borrow().faults.operations
    }

    /// Makes the next operation of this kind go wrong. May be called several times.
    ///
    /// # Panics
    /// If such an operation cannot go wrong in this way.
    pub fn fail_next(&self, op: DiskOp, fault: SimFault) {
        self.state.borrow_mut().faults.plan_next(op, fault);
    }

    /// Makes the operation with this number go wrong, counted as by [`SimDisk::operations`] from
    /// 1; or the first one after it that can go wrong in this way.
    pub fn fail_at(&self, operation: u64, fault: SimFault) {
        self.state.borrow_mut().faults.plan_at(operation, fault);
    }

    /// Forgets all faults that have not struck yet, and gives the disk all space.
    pub fn heal(&self) {
        let mut state = self.state.borrow_mut();
        state.faults.forget();
        state.quota_bytes = None;
    }

    /// What was done without a word so far, in order.
    #[must_use]
    pub fn harms(&self) -> Vec<SimHarm> {
        self.state.borrow().faults.harms.clone()
    }

    /// Limits what all files may take together, in bytes; `None` for no limit.
    pub fn set_quota_bytes(&self, quota_bytes: Option<u64>) {
        self.state.borrow_mut().quota_bytes = quota_bytes;
    }

    /// What all files take now, in bytes.
    #[must_use]
    pub fn used_bytes(&self) -> u64 {
        self.state.borrow().used_bytes()
    }

    /// All files, in order of their paths.
    #[must_use]
    pub fn files(&self) -> Vec<PathBuf> {
        self.state
            .borrow()
            .names
            .files()
            .map(|(path, _)| path.clone())
            .collect()
    }

    /// A file's present content.
    #[must_use]
    pub fn contents(&self, path: &Path) -> Option<Vec<u8>> {
        let state = self.state.borrow();
        match state.names.get(path)? {
            Node::File(inode) => Some(state.inodes[&inode].content().to_vec()),
            Node::Directory => None,
        }
    }

    /// Puts a file there, durably, with the directories above it.
    pub fn put(&self, path: &Path, content: &[u8]) {
        let mut state = self.state.borrow_mut();
        let mut directories: Vec<&Path> = path.ancestors().skip(1).collect();
        directories.reverse();
        for directory in &directories {
            if state.names.get(directory).is_none() {
                state.names.add(directory, Node::Directory);
            }
        }
        let inode = state.add_inode(Inode::of(content.to_vec()));
        state.names.add(path, Node::File(inode));
        directories
            .iter()
            .for_each(|directory| state.names.sync(directory));
    }

    /// Flips the bits of `mask` in one byte of a file, as a failing device would.
    ///
    /// # Panics
    /// If there is no such file or byte.
    pub fn flip(&self, path: &Path, offset: u64, mask: u8) {
        let mut state = self.state.borrow_mut();
        let Some(Node::File(inode)) = state.names.get(path) else {
            panic!("no such file: {}", path.display())
        };
        let offset = usize::try_from(offset).expect("simulated files fit into memory");
        let span = offset..offset + 1;
        state.note_harm(DiskOp::Write, SimFault::Flipped, path, span);
        state
            .inodes
            .get_mut(&inode)
            .expect("names refer to files")
            .flip(offset, mask);
    }

    /// Begins a change: counts it, and lets it go wrong if it must. `effect` happens at once, so
    /// that a crash while it is under way finds it half done; it sees to faults that are neither
    /// EIO nor ENOSPC.
    async fn change<T>(
        &self,
        op: DiskOp,
        path: &Path,
        effect: impl FnOnce(&mut State, Option<SimFault>) -> Result<T, Errno>,
    ) -> Result<T, DiskError> {
        let result = self.state.borrow_mut().change(op, effect);
        self.wait()
            .await
            .and(result)
            .map_err(|errno| failed(op, path, errno))
    }

    /// Looks something up, after the time that it takes.
    async fn look<T>(
        &self,
        op: DiskOp,
        path: &Path,
        answer: impl FnOnce(&mut State, Option<SimFault>) -> Result<T, Errno>,
    ) -> Result<T, DiskError> {
        let begun = self.state.borrow_mut().begin(op);
        let waited = self.wait().await;
        let result = waited
            .and(begun)
            .and_then(|fault| answer(&mut self.state.borrow_mut(), fault));
        result.map_err(|errno| failed(op, path, errno))
    }

    /// Waits for as long as one operation takes.
    async fn wait(&self) -> Result<(), Errno> {
        let (due_us, number, crashes) = {
            let mut state = self.state.borrow_mut();
            let SimLatency { min_us, max_us } = state.latency;
            let took_us = min_us + state.draw.below(max_us - min_us + 1);
            state.next_wait += 1;
            (state.now_us + took_us, state.next_wait, state.crashes)
        };
        poll_fn(|context| {
            let mut state = self.state.borrow_mut();
            if state.crashes != crashes {
                return Poll::Ready(Err(libc::ESTALE));
            }
            if state.now_us >= due_us {
                return Poll::Ready(Ok(()));
            }
            state
                .waiting
                .insert((due_us, number), context.waker().clone());
            Poll::Pending
        })
        .await
    }
}

fn failed(op: DiskOp, path: &Path, errno: Errno) -> DiskError {
    DiskError {
        op,
        path: path.to_path_buf(),
        source: io::Error::from_raw_os_error(errno),
    }
}

impl State {
    fn change<T>(
        &mut self,
        op: DiskOp,
        effect: impl FnOnce(&mut Self, Option<SimFault>) -> Result<T, Errno>,
    ) -> Result<T, Errno> {
        if !self.has_power {
            return Err(libc::ENODEV);
        }
        self.changes += 1;
        let fault = self.begin(op)?;
        let is_cut = |change| self.changes >= change;
        if self.power_cut_at.is_some_and(is_cut) {
            self.has_power = false;
            effect(self, fault)?;
            return Err(libc::ENODEV);
        }
        effect(self, fault)
    }

    /// Counts an operation: an error if it is refused, otherwise what else goes wrong with it.
    fn begin(&mut self, op: DiskOp) -> Result<Option<SimFault>, Errno> {
        if !self.has_power {
            return Err(libc::ENODEV);
        }
        let fault = self.faults.begin(op);
        fault.and_then(SimFault::refusal).map_or(Ok(fault), Err)
    }

    fn used_bytes(&self) -> u64 {
        self.names
            .files()
            .map(|(_, inode)| self.inodes[&inode].content().len() as u64)
            .sum()
    }

    fn reserve(&self, more: usize) -> Result<(), Errno> {
        match self.quota_bytes {
            Some(quota) if self.used_bytes() + more as u64 > quota => Err(libc::ENOSPC),
            _ => Ok(()),
        }
    }

    fn add_inode(&mut self, inode: Inode) -> u64 {
        self.next_inode += 1;
        self.inodes.insert(self.next_inode, inode);
        self.next_inode
    }

    fn drop_unnamed(&mut self) {
        let Self { names, inodes, .. } = self;
        inodes.retain(|inode, _| names.refer_to(*inode));
    }

    fn file(&self, path: &Path) -> Result<u64, Errno> {
        match self.names.get(path) {
            Some(Node::File(inode)) => Ok(inode),
            Some(Node::Directory) => Err(libc::EISDIR),
            None => Err(libc::ENOENT),
        }
    }

    fn directory(&self, path: Option<&Path>) -> Result<(), Errno> {
        let path = path.ok_or(libc::ENOENT)?;
        match self.names.get(path) {
            Some(Node::Directory) => Ok(()),
            Some(Node::File(_)) => Err(libc::ENOTDIR),
            None => Err(libc::ENOENT),
        }
    }

    fn inode(&mut self, inode: u64) -> Result<&mut Inode, Errno> {
        self.inodes.get_mut(&inode).ok_or(libc::ESTALE)
    }
}
