//! What a log does beside its commits, so that commits need not wait for it: files of the next
//! segments are made ahead of time, and full segments give back the space that they did not use.
//!
//! It never touches a segment that is still written to.
//!
//! Invariants: as many files are ready as the configuration says at most, and one is being made;
//! a full disk is no failure here, the next commit that needs a segment will say so.

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
    /// The next segment's file is ready, or as many as may be at present.
    Ready,
    /// One more was made.
    Stocked,
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
    /// There was no space for another file since one was last taken.
    is_tight: Cell<bool>,
    ready: RefCell<VecDeque<PathBuf>>,
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
                is_tight: Cell::new(false),
                ready: RefCell::new(VecDeque::new()),
                ended: RefCell::new(VecDeque::new()),
            }),
        }
    }

    /// Whether there is something to do and nobody at it.
    pub(crate) fn is_due(&self) -> bool {
        let has_ended = !self.state.ended.borrow().is_empty();
        has_ended || !self.has_ready(1) && !self.state.making.get()
    }

    /// Gives back unused space of full segments, then makes the next segment's file unless one
    /// is ready. Meant to run in the background, beside commits, whenever one has returned.
    ///
    /// # Errors
    /// If the disk fails other than by being full.
    pub async fn run(&self) -> Result<Upkept, StoreError> {
        self.trim_ended().await?;
        match self.make_unless_ready(1).await? {
            Upkept::Stocked => Ok(Upkept::Ready),
            other => Ok(other),
        }
    }

    /// Makes one more file for a later segment, unless there are as many as may be. Meant for
    /// when nothing is committed: writing them takes the device's time from commits. Where there
    /// is no space for one, another is given back: what frees space needs some itself.
    ///
    /// # Errors
    /// As [`Upkeep::run`].
    pub async fn stock(&self) -> Result<Upkept, StoreError> {
        if self.state.is_tight.get() {
            return Ok(Upkept::Ready);
        }
        let upkept = self.make_unless_ready(self.state.config.spares_max).await?;
        if upkept == Upkept::Full {
            self.state.is_tight.set(true);
            let spare = match self.has_ready(2) {
                true => self.state.ready.borrow_mut().pop_back(),
                false => None,
            };
            if let Some(path) = spare {
                self.state.disk.remove(&path).await?;
            }
        }
        Ok(upkept)
    }

    async fn make_unless_ready(&self, enough: usize) -> Result<Upkept, StoreError> {
        if self.has_ready(enough) {
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
                self.state.ready.borrow_mut().push_back(path);
                Ok(Upkept::Stocked)
            }
            Err(error) if error.is_full() => Ok(Upkept::Full),
            Err(error) => Err(error.into()),
        }
    }

    fn has_ready(&self, enough: usize) -> bool {
        self.state.ready.borrow().len() >= enough
    }

    /// The file that is ready, or a new one. It is closed.
    pub(crate) async fn take(&self) -> Result<PathBuf, DiskError> {
        self.state.is_tight.set(false);
        let ready = self.state.ready.borrow_mut().pop_front();
        match ready {
            Some(path) => Ok(path),
            None => self.make().await,
        }
    }

    /// Takes back a file that could not become a segment, for the next try.
    pub(crate) fn put_back(&self, path: PathBuf) {
        self.state.ready.borrow_mut().push_front(path);
    }

    /// Notes a segment that takes no more frames, to be cut to its end later.
    pub(crate) fn note_ended(&self, ended: Ended<D::File>) {
        let mut waiting = self.state.ended.borrow_mut();
        if waiting.len() == ENDED_MAX {
            waiting.pop_front();
        }
        waiting.push_back(ended);
    }

    /// Trims what is left and removes the files that are ready: nothing unused stays on disk.
    pub(crate) async fn finish(&self) -> Result<(), StoreError> {
        self.trim_ended().await?;
        loop {
            let ready = self.state.ready.borrow_mut().pop_front();
            let Some(path) = ready else { return Ok(()) };
            self.state.disk.remove(&path).await?;
        }
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

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;
    use crate::sim_disk::{SimDisk, SimLatency};

    #[test]
    fn as_many_files_are_ready_as_may_be_and_none_stays() {
        let disk = SimDisk::new(1, SimLatency::default());
        let paths = Paths::new(Path::new("/data"));
        let config = StoreConfig {
            spares_max: 3,
            ..StoreConfig::small()
        };
        disk.run(async {
            disk.create_dir(paths.root()).await.unwrap();
            disk.create_dir(&paths.spares()).await.unwrap();
            let upkeep = Upkeep::new(disk.clone(), paths, config, 0);
            assert!(upkeep.is_due());
            let mut done = vec![upkeep.run().await.unwrap(), upkeep.run().await.unwrap()];
            assert!(!upkeep.is_due());
            for _ in 0..3 {
                done.push(upkeep.stock().await.unwrap());
            }
            let (ready, stocked) = (Upkept::Ready, Upkept::Stocked);
            assert_eq!(done, [ready, ready, stocked, stocked, ready]);
            let files = disk.files();
            assert_eq!(files.len(), 3);
            let changes = disk.changes();
            let mut taken = Vec::new();
            for _ in 0..3 {
                taken.push(upkeep.take().await.unwrap());
            }
            assert_eq!((&taken, disk.changes()), (&files, changes), "all were made");
            assert!(upkeep.is_due());
            upkeep.put_back(taken.pop().unwrap());
            assert_eq!(upkeep.stock().await.unwrap(), Upkept::Stocked);
            upkeep.finish().await.unwrap();
            assert_eq!(disk.files(), taken, "only what was taken is left");
        });
    }
}
