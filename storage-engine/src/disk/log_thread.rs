//! The thread that writes a shard's commits: one system call writes and syncs, and the shard does
//! other work meanwhile.
//!
//! It never retries, and never touches the shard but by waking the task that waits.
//!
//! Invariants: what is handed over is written in that order, each only after the one before is
//! durable; once a write of a file has failed none of that file is begun; the thread has ended
//! when its handle is dropped, and everything handed over has been done by then.

use std::fs::File;
use std::future::poll_fn;
use std::io::{self, IoSlice};
use std::os::fd::OwnedFd;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Poll, Waker};
use std::thread::JoinHandle;

use rustix::io::ReadWriteFlags;

use super::memory::{Blocks, Pooled};

/// Most writes that wait for the thread. Each log of the shard has two under way at most; who
/// comes when there is no place waits with its whole thread.
const WAITING_MAX: usize = 64;

/// A file as the thread sees it.
#[derive(Debug)]
pub(super) struct LogFile {
    file: File,
    /// A write failed: what the device holds is unknown.
    has_failed: AtomicBool,
}

/// What has to be durable when a write is done.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Reach {
    /// The write itself.
    Own,
    /// Everything written to the file.
    All,
}

impl LogFile {
    pub(super) fn new(descriptor: OwnedFd) -> Self {
        Self {
            file: descriptor.into(),
            has_failed: AtomicBool::new(false),
        }
    }

    fn write(&self, bytes: &[u8], offset: u64, reach: Reach) -> io::Result<()> {
        if self.has_failed.load(Ordering::Relaxed) {
            return Err(io::Error::from_raw_os_error(libc::EIO));
        }
        let done = self.write_once(bytes, offset, reach);
        self.has_failed.store(done.is_err(), Ordering::Relaxed);
        done
    }

    fn write_once(&self, bytes: &[u8], offset: u64, reach: Reach) -> io::Result<()> {
        let slices = [IoSlice::new(bytes)];
        let written = rustix::io::pwritev2(&self.file, &slices, offset, ReadWriteFlags::DSYNC)?;
        if written != bytes.len() {
            return Err(io::ErrorKind::WriteZero.into());
        }
        match reach {
            Reach::Own => Ok(()),
            Reach::All => self.file.sync_data(),
        }
    }
}

struct Job {
    file: Arc<LogFile>,
    blocks: Blocks,
    offset: u64,
    reach: Reach,
    answer: Answer,
}

/// Where a job's result is left. If the job is dropped instead, that is the result.
struct Answer(Arc<Mutex<Left>>);

#[derive(Default)]
struct Left {
    result: Option<(io::Result<()>, Option<Blocks>)>,
    waker: Option<Waker>,
}

impl Answer {
    fn leave(&self, result: io::Result<()>, blocks: Option<Blocks>) {
        let mut left = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        left.result.get_or_insert((result, blocks));
        let waker = left.waker.take();
        drop(left);
        if let Some(waker) = waker {
            waker.wake();
        }
    }
}

impl Drop for Answer {
    fn drop(&mut self) {
        self.leave(Err(io::ErrorKind::BrokenPipe.into()), None);
    }
}

/// The thread.
#[derive(Debug)]
pub(super) struct LogThread {
    /// Taken when the thread is to end.
    jobs: Option<SyncSender<Job>>,
    thread: Option<JoinHandle<()>>,
}

impl LogThread {
    /// Starts it.
    ///
    /// # Errors
    /// If the system has no thread left.
    pub(super) fn start() -> io::Result<Self> {
        let (jobs, coming) = sync_channel(WAITING_MAX);
        let thread = std::thread::Builder::new()
            .name("log".to_owned())
            .spawn(move || serve(&coming))?;
        Ok(Self {
            jobs: Some(jobs),
            thread: Some(thread),
        })
    }

    /// Writes the memory there and makes it durable; takes its turn when this is first polled.
    pub(super) async fn write(
        &self,
        file: Arc<LogFile>,
        pooled: Pooled,
        offset: u64,
        reach: Reach,
    ) -> io::Result<()> {
        let (blocks, lent) = pooled.lend();
        let left = Arc::new(Mutex::new(Left::default()));
        let job = Job {
            file,
            blocks,
            offset,
            reach,
            answer: Answer(Arc::clone(&left)),
        };
        let jobs = self.jobs.as_ref().expect("open until dropped");
        // If the thread is gone, dropping the job leaves that as the result.
        drop(jobs.send(job));
        let (result, blocks) = poll_fn(|context| {
            let mut left = left.lock().unwrap_or_else(PoisonError::into_inner);
            if let Some(result) = left.result.take() {
                return Poll::Ready(result);
            }
            left.waker = Some(context.waker().clone());
            Poll::Pending
        })
        .await;
        if let Some(blocks) = blocks {
            lent.give_back(blocks);
        }
        result
    }
}

impl Drop for LogThread {
    fn drop(&mut self) {
        self.jobs = None;
        if let Some(thread) = self.thread.take() {
            // It has nothing left to say: what waited for it was answered.
            drop(thread.join());
        }
    }
}

fn serve(coming: &Receiver<Job>) {
    for job in coming {
        let done = job.file.write(job.blocks.bytes(), job.offset, job.reach);
        // The file is let go first: who waits may close it and unlink it.
        drop(job.file);
        job.answer.leave(done, Some(job.blocks));
    }
}

#[cfg(test)]
mod tests {
    use std::io::Read;
    use std::rc::Rc;

    use super::super::memory::Pool;
    use super::*;

    fn file(options: &std::fs::OpenOptions) -> (tempfile::TempDir, Arc<LogFile>) {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("file");
        File::options()
            .create_new(true)
            .write(true)
            .open(&path)
            .unwrap();
        let file = options.open(path).unwrap();
        (directory, Arc::new(LogFile::new(file.into())))
    }

    fn content(directory: &tempfile::TempDir) -> Vec<u8> {
        let mut content = Vec::new();
        let path = directory.path().join("file");
        let mut file = File::options().read(true).open(path).unwrap();
        file.read_to_end(&mut content).unwrap();
        content
    }

    fn filled(pool: &Rc<Pool>, byte: u8) -> Pooled {
        let mut pooled = pool.take(4096);
        pooled.bytes_mut().fill(byte);
        pooled
    }

    /// Polls both, the first one first, until both are done.
    fn run_both<T>(first: impl Future<Output = T>, second: impl Future<Output = T>) -> (T, T) {
        let executor = glommio::LocalExecutorBuilder::default().io_memory(1 << 20);
        let both = async {
            let mut first = std::pin::pin!(first);
            let mut second = std::pin::pin!(second);
            let mut early = None;
            let one = poll_fn(|context| {
                let polled = first.as_mut().poll(context);
                if early.is_none()
                    && let Poll::Ready(value) = second.as_mut().poll(context)
                {
                    early = Some(value);
                }
                polled
            })
            .await;
            match early {
                Some(two) => (one, two),
                None => (one, second.await),
            }
        };
        executor.make().unwrap().run(both)
    }

    #[test]
    fn the_later_of_two_writes_to_one_place_stays() {
        let (directory, file) = file(File::options().write(true));
        let pool = Rc::new(Pool::default());
        let thread = LogThread::start().unwrap();
        for byte in 0..50 {
            let write =
                |byte, reach| thread.write(Arc::clone(&file), filled(&pool, byte), 0, reach);
            let done = run_both(write(byte, Reach::Own), write(byte + 100, Reach::All));
            done.0.unwrap();
            done.1.unwrap();
            let content = content(&directory);
            assert_eq!(content, [byte + 100; 4096]);
        }
    }

    #[test]
    fn after_a_failure_nothing_is_written_to_that_file() {
        let (_directory, broken) = file(File::options().read(true));
        let (_other_directory, sound) = file(File::options().write(true));
        let pool = Rc::new(Pool::default());
        let thread = LogThread::start().unwrap();
        let write =
            |file: &Arc<LogFile>| thread.write(Arc::clone(file), filled(&pool, 1), 0, Reach::Own);
        let (first, second) = run_both(write(&broken), write(&broken));
        assert_eq!(first.unwrap_err().raw_os_error(), Some(libc::EBADF));
        assert_eq!(second.unwrap_err().raw_os_error(), Some(libc::EIO));
        let (first, second) = run_both(write(&sound), write(&broken));
        first.unwrap();
        assert_eq!(second.unwrap_err().raw_os_error(), Some(libc::EIO));
    }

    #[test]
    fn the_thread_ends_with_its_handle_and_what_was_handed_over_is_done() {
        let (directory, file) = file(File::options().write(true));
        let pool = Rc::new(Pool::default());
        let thread = LogThread::start().unwrap();
        {
            let write = thread.write(Arc::clone(&file), filled(&pool, 7), 0, Reach::Own);
            let mut write = std::pin::pin!(write);
            let mut context = std::task::Context::from_waker(Waker::noop());
            let _ = write.as_mut().poll(&mut context);
        }
        drop(thread);
        assert_eq!(Arc::strong_count(&file), 1);
        let content = content(&directory);
        assert_eq!(content, [7; 4096]);
    }
}
