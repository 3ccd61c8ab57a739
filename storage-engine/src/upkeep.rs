//! What a log does beside its commits, so that commits need not wait for it: the next segment's
//! file is made ahead of time, and full segments give back the space that they did not use.
//!
//! It never touches a segment that is still written to.
//!
//! Invariants: at most one file is ready and at most one is being made; a full disk is no
//! failure here, the next commit that needs a segment will say so.

use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::path::PathBuf;
use std::rc::Rc;

use crate::config::StoreConfig;
use crate::disk::{Disk, DiskFile};
use crate::error::{DiskError, StoreError};
use crate::segment::{Paths, prewrite};

/// Most full segments that wait to give space back. Beyond it the oldest keeps its space until
/// the next start.
const ENDED_MAX: usize = 16;

/// A segment that takes no more frames.
pub(crate) struct Ended<F> {
    pub(crate) file: F,
    pub(crate) end: u32,
}

/// What [`Upkeep::run`] achieved.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Upkept {
    /// The next segment's file is ready.
    Ready,
    /// Another call is making it.
    Busy,
    /// There is no space for it at the moment.
    Full,
}

/// One log's background work. Clones share their state.
pub struct Upkeep<D: Disk> {
    state: Rc<State<D>>,
}

impl<D: Disk> Clone for Upkeep<D> {
    fn clone(&self) -> Self {
        Self {
            state: Rc::clone(&self.state),
        }
    }
}

struct State<D: Disk> {
    disk: D,
    paths: Paths,
    config: StoreConfig,
    shard: u16,
    next_number: Cell<u64>,
    making: Cell<bool>,
    ready: RefCell<Option<PathBuf>>,
    ended: RefCell<VecDeque<Ended<D::File>>>,
}

/// Says that no file is being made any more, also when the future is dropped half-way.
struct Making<'a>(&'a Cell<bool>);

impl Drop for Making<'_> {
    fn drop(&mut self) {
        self.0.set(false);
    }
}

impl<D: Disk> Upkeep<D> {
    pub(crate) fn new(disk: D, paths: Paths, config: StoreConfig, shard: u16) -> Self {
        Self {
            state: Rc::new(State {
                disk,
                paths,
                config,
                shard,
                next_number: Cell::new(0),
                making: Cell::new(false),
                ready: RefCell::new(None),
                ended: RefCell::new(VecDeque::new()),
            }),
        }
    }

    /// Whether there is something to do and nobody at it.
    pub(crate) fn is_due(&self) -> bool {
        let has_ended = !self.state.ended.borrow().is_empty();
        let is_ready = self.state.ready.borrow().is_some();
        has_ended || !is_ready && !self.state.making.get()
    }

    /// Gives back unused space of full segments, then makes the next segment's file unless one
    /// is ready. Meant to run in the background, beside commits, whenever one has returned.
    ///
    /// # Errors
    /// If the disk fails other than by being full.
    pub async fn run(&self) -> Result<Upkept, StoreError> {
        self.trim_ended().await?;
        if self.state.ready.borrow().is_some() {
            return Ok(Upkept::Ready);
        }
        if self.state.making.replace(true) {
            return Ok(Upkept::Busy);
        }
        let making = Making(&self.state.making);
        let made = self.make().await;
        drop(making);
        match made {
            Ok(path) => {
                *self.state.ready.borrow_mut() = Some(path);
                Ok(Upkept::Ready)
            }
            Err(error) if error.is_full() => Ok(Upkept::Full),
            Err(error) => Err(error.into()),
        }
    }

    /// The file that is ready, or a new one. It is closed.
    pub(crate) async fn take(&self) -> Result<PathBuf, DiskError> {
        let ready = self.state.ready.borrow_mut().take();
        match ready {
            Some(path) => Ok(path),
            None => self.make().await,
        }
    }

    /// Takes back a file that could not become a segment, for the next try.
    pub(crate) async fn put_back(&self, path: PathBuf) -> Result<(), DiskError> {
        let replaced = self.state.ready.borrow_mut().replace(path);
        match replaced {
            Some(path) => self.state.disk.remove(&path).await,
            None => Ok(()),
        }
    }

    /// Notes a segment that takes no more frames, to be cut to its end later.
    pub(crate) fn note_ended(&self, ended: Ended<D::File>) {
        let mut waiting = self.state.ended.borrow_mut();
        if waiting.len() == ENDED_MAX {
            waiting.pop_front();
        }
        waiting.push_back(ended);
    }

    /// Trims what is left and removes the file that is ready: nothing unused stays on disk.
    pub(crate) async fn finish(&self) -> Result<(), StoreError> {
        self.trim_ended().await?;
        let ready = self.state.ready.borrow_mut().take();
        if let Some(path) = ready {
            self.state.disk.remove(&path).await?;
        }
        Ok(())
    }

    async fn make(&self) -> Result<PathBuf, DiskError> {
        let number = self
            .state
            .next_number
            .replace(self.state.next_number.get() + 1);
        let path = self.state.paths.spare(self.state.shard, number);
        prewrite(&self.state.disk, &path, &self.state.config).await?;
        Ok(path)
    }

    async fn trim_ended(&self) -> Result<(), StoreError> {
        loop {
            let next = self.state.ended.borrow_mut().pop_front();
            let Some(Ended { file, end }) = next else {
                return Ok(());
            };
            trim(file, end).await?;
        }
    }
}

/// Cuts a segment to its end and closes it.
async fn trim<F: DiskFile>(file: F, end: u32) -> Result<(), DiskError> {
    if file.length().await? > end.into() {
        file.truncate(end.into()).await?;
        file.sync().await?;
    }
    file.close().await
}
