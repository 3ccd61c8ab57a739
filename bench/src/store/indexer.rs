//! A thread that writes index files of full segments, as the server's maintenance thread does
//! while a day lasts.
//!
//! It decides nothing, and says only what is done.
//!
//! Invariants: index files are written in the order in which they were asked for, and what waits
//! is bounded; a failure is reported once, and ends the run.

use std::path::Path;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, SyncSender, TryRecvError, sync_channel};

use glommio::{ExecutorJoinHandle, LocalExecutorBuilder, Placement};
use throng_storage_engine::{GlommioDisk, HotSegment, SegmentId, StoreError, index_segment};

use super::engine::Failure;

/// Most segments that wait: more than a log leaves without an index file.
const WAITING_MAX: usize = 64;

/// The running thread. It ends when this is dropped.
pub(super) struct Indexer {
    wanted: SyncSender<Arc<HotSegment>>,
    written: Receiver<Result<SegmentId, StoreError>>,
    under_way: usize,
    _thread: ExecutorJoinHandle<()>,
}

impl Indexer {
    /// Starts the thread for the store in `directory`.
    ///
    /// # Errors
    /// If it cannot be had.
    pub(super) fn start(directory: &Path) -> Result<Self, Failure> {
        let root = directory.to_path_buf();
        let (wanted, asked) = sync_channel::<Arc<HotSegment>>(WAITING_MAX);
        let (done, written) = sync_channel(WAITING_MAX);
        let thread = LocalExecutorBuilder::new(Placement::Unbound)
            .name("index")
            .io_memory(4 << 20)
            .spawn(move || async move {
                let disk = GlommioDisk::at(&root).await;
                // Nothing else runs on this executor, so its one task may wait for orders.
                while let Ok(hot) = asked.recv() {
                    let written = match &disk {
                        Ok(disk) => index_segment(disk, &root, &hot).await,
                        Err(_) => Err(StoreError::Poisoned),
                    };
                    if done.send(written.map(|()| hot.segment())).is_err() {
                        break;
                    }
                }
            })?;
        Ok(Self {
            wanted,
            written,
            under_way: 0,
            _thread: thread,
        })
    }

    /// Asks for a segment's index file.
    ///
    /// # Errors
    /// If the thread is gone, or too many wait.
    pub(super) fn write(&mut self, hot: Arc<HotSegment>) -> Result<(), Failure> {
        self.wanted.try_send(hot)?;
        self.under_way += 1;
        Ok(())
    }

    /// Those that were written since the last call.
    ///
    /// # Errors
    /// If one could not be written.
    pub(super) fn written(&mut self) -> Result<Vec<SegmentId>, Failure> {
        let mut segments = Vec::new();
        loop {
            match self.written.try_recv() {
                Ok(written) => {
                    self.under_way -= 1;
                    segments.push(written?);
                }
                Err(TryRecvError::Empty) => break,
                Err(gone) => return Err(gone.into()),
            }
        }
        Ok(segments)
    }

    /// The same, once all are written. Blocks.
    ///
    /// # Errors
    /// If one could not be written.
    pub(super) fn wait(&mut self) -> Result<Vec<SegmentId>, Failure> {
        let mut segments = Vec::new();
        while self.under_way > 0 {
            let written = self.written.recv()?;
            self.under_way -= 1;
            segments.push(written?);
        }
        Ok(segments)
    }
}
