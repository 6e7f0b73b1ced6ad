//! The store's threads: a scheduler that ends ticks, writers that append and sync, and three that work in rounds. None of these
//! three holds anything that an acknowledgement waits for while it is in a call to a disk or to SQLite.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use futures_channel::oneshot;
use media::{Fragment, GapReason, StreamId};

use crate::core::{Core, Phase};
use crate::pulse::{Stuck, WRITERS};
use crate::queue::{Queue, Task, Work};
use crate::writer::{Job, QUIET_US};
use crate::{AppendError, Stored};

/// How often rows of open blocks are put, and the volume is looked at.
const CHECKPOINT: Duration = Duration::from_secs(1);
/// How soon a deletion that failed is tried again.
const REMOVE_AGAIN: Duration = Duration::from_secs(10);
/// How a process ends whose shared thread is lost: `EX_SOFTWARE` of sysexits.
const SOFTWARE: i32 = 70;

/// The threads and their queue.
pub(crate) struct Volume {
    core: Arc<Core>,
    queue: Arc<Queue>,
    threads: Mutex<Vec<thread::JoinHandle<()>>>,
}

impl Volume {
    /// Starts the threads.
    pub(crate) fn start(core: Arc<Core>) -> std::io::Result<Volume> {
        // Before anything is appended: the volume may be full.
        core.watch_space();
        let queue = Arc::new(Queue::new(core.settings.tick));
        let volume = Volume { core, queue, threads: Mutex::default() };
        volume.spawn("store-sync".into(), |_, queue| schedule(queue))?;
        for number in 0..WRITERS {
            volume.spawn(format!("store-write-{number}"), move |core, queue| write(core, queue, number))?;
        }
        volume.spawn("store-index".into(), |core, _| keep_index(core))?;
        volume.spawn("store-watch".into(), |core, queue| {
            let watch = || {
                core.watch_space();
                core.watch_folder();
                queue.offer_quiet(core.quiet_streams());
            };
            core.pulse.run("watch", &core.pulse.watch, CHECKPOINT, watch);
        })?;
        volume.spawn("store-remove".into(), |core, _| {
            core.pulse.removal.ring();
            core.pulse.run("removal", &core.pulse.removal, REMOVE_AGAIN, || core.finish_deletions());
        })?;
        Ok(volume)
    }

    fn spawn(&self, name: String, work: impl FnOnce(&Core, &Queue) + Send + 'static) -> std::io::Result<()> {
        let (core, queue) = (self.core.clone(), self.queue.clone());
        let thread = thread::Builder::new().name(name).spawn(move || work(&core, &queue))?;
        self.threads.lock().unwrap_or_else(PoisonError::into_inner).push(thread);
        Ok(())
    }

    /// Queues a fragment.
    pub(crate) fn append(
        &self,
        stream: StreamId,
        fragment: Fragment,
    ) -> oneshot::Receiver<Result<Stored, AppendError>> {
        let (reply, answer) = oneshot::channel();
        self.queue.append(stream, Job { fragment, reply });
        answer
    }

    /// Queues the sealing of a stream's block.
    pub(crate) fn seal(&self, stream: StreamId, why: GapReason) -> oneshot::Receiver<()> {
        let (reply, answer) = oneshot::channel();
        self.queue.seal(stream, why, reply);
        answer
    }

    /// What does not get on.
    pub(crate) fn stuck(&self) -> Vec<Stuck> {
        self.core.pulse.stuck(self.queue.waited())
    }

    /// Takes no more work and returns when all is done and every block is sealed.
    pub(crate) fn close(&self) {
        let mut threads = self.threads.lock().unwrap_or_else(PoisonError::into_inner);
        if threads.is_empty() {
            return;
        }
        self.core.pulse.stop();
        self.queue.close(self.core.open_streams());
        for thread in threads.drain(..) {
            // They hold the store, and with it the lock on the data folder.
            let _ = thread.join();
        }
    }
}

impl Drop for Volume {
    fn drop(&mut self) {
        self.close();
    }
}

/// Every stream waits for this thread. It calls nothing that could fail; should it panic all the same, nobody would ever be
/// answered again, so the process ends, and its service manager starts it again.
fn schedule(queue: &Queue) {
    if catch_unwind(AssertUnwindSafe(|| queue.pace())).is_err() {
        tracing::error!("the store's scheduler panicked: nothing can be recorded any more, so the process ends");
        std::process::exit(SOFTWARE);
    }
}

/// A panic here belongs to one stream: the fragments that it was writing are refused, its block is left as after a disk error,
/// and the thread goes on with other streams.
fn write(core: &Core, queue: &Queue, number: usize) {
    let beat = &core.pulse.writers[number];
    while let Some((stream, task)) = queue.take() {
        beat.begin();
        let seals = matches!(&task, Task::Work(work) if work.iter().any(|work| matches!(work, Work::Seal(..))));
        let done = catch_unwind(AssertUnwindSafe(|| match task {
            Task::Work(work) => core.work(stream, work),
            Task::Clock => core.tick_clock(stream),
        }));
        if done.is_err() {
            tracing::error!(%stream, "writing the stream panicked: its fragments are refused, and the next ones begin a new block");
            metrics::counter!("kinora_store_panics_total").increment(1);
            let _ = catch_unwind(AssertUnwindSafe(|| core.replace_writer(stream)));
        }
        queue.finished(stream);
        beat.end();
        if seals {
            core.pulse.index.ring();
        }
    }
}

fn keep_index(core: &Core) {
    let checked = Mutex::new(Instant::now());
    core.pulse.run("index", &core.pulse.index, CHECKPOINT, || {
        let mut checked = checked.lock().unwrap_or_else(PoisonError::into_inner);
        let due = checked.elapsed() >= CHECKPOINT;
        if due {
            *checked = Instant::now();
        }
        if let Err(error) = core.commit_index(due) {
            tracing::warn!(%error, "index rows not put, they are tried again");
        }
    });
}

impl Core {
    /// Does a stream's work in order: appends that stand together share a sync.
    pub(crate) fn work(&self, stream: StreamId, work: Vec<Work>) {
        let Some(writer) = self.writer(stream) else {
            for work in work {
                if let Work::Append(job) = work {
                    let _ = job.reply.send(Err(AppendError::Gone));
                }
            }
            return;
        };
        let mut writer = writer.lock().unwrap_or_else(PoisonError::into_inner);
        let mut jobs = Vec::new();
        for work in work {
            match work {
                Work::Append(job) => jobs.push(job),
                Work::Seal(why, done) => {
                    writer.append(self, std::mem::take(&mut jobs));
                    writer.seal(self, Some(why));
                    let _ = done.send(());
                }
            }
        }
        writer.append(self, jobs);
    }

    /// Writes a clock record into the stream's block if that was quiet for long.
    pub(crate) fn tick_clock(&self, stream: StreamId) {
        if let Some(writer) = self.writer(stream) {
            writer.lock().unwrap_or_else(PoisonError::into_inner).tick_clock(self);
        }
    }

    /// Streams whose open block was quiet for long.
    pub(crate) fn quiet_streams(&self) -> Vec<StreamId> {
        let now = self.ground.clock.now();
        self.streams_with(|block| {
            block.phase == Phase::Open && !block.entries.is_empty() && now.micros_since(block.written) >= QUIET_US
        })
    }

    /// Streams that have an open block.
    pub(crate) fn open_streams(&self) -> Vec<StreamId> {
        self.streams_with(|block| block.phase == Phase::Open)
    }

    /// Throws a writer away that panicked. Its block is never written again.
    fn replace_writer(&self, stream: StreamId) {
        if let Some(writer) = self.forget_writer(stream) {
            writer.lock().unwrap_or_else(PoisonError::into_inner).abandon(self);
        }
    }
}
