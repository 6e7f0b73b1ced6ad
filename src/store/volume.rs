//! The sync scheduler: one thread per volume collects what arrives in a tick; a few writer threads append and sync,
//! each one stream at a time, so that a tick's syncs run side by side.

use std::collections::{BTreeMap, VecDeque};
use std::sync::mpsc;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use futures_channel::oneshot;
use media::{Fragment, GapReason, StreamId};

use crate::core::Core;
use crate::writer::Job;
use crate::{AppendError, Stored};

/// Most syncs at once.
const WRITERS: usize = 8;
/// Most bytes that wait for the disk. Their owners hold them too, so this bounds promises more than memory.
const MAX_WAITING: u64 = 1 << 30;
/// How often rows of open blocks are put.
const CHECKPOINT: Duration = Duration::from_secs(1);

/// What a stream's writer is to do, in order.
pub(crate) enum Work {
    Append(Job),
    Seal(GapReason, oneshot::Sender<()>),
}

/// The threads and their queue.
pub(crate) struct Volume {
    queue: Arc<Queue>,
    scheduler: Mutex<Option<thread::JoinHandle<()>>>,
}

#[derive(Default)]
struct Queue {
    state: Mutex<Waiting>,
    arrived: Condvar,
}

#[derive(Default)]
struct Waiting {
    work: VecDeque<(StreamId, Work)>,
    bytes: u64,
    closing: bool,
}

impl Queue {
    fn lock(&self) -> MutexGuard<'_, Waiting> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Volume {
    /// Starts the threads.
    pub(crate) fn start(core: Arc<Core>) -> std::io::Result<Volume> {
        let queue = Arc::new(Queue::default());
        let pool = Pool::start(&core)?;
        let scheduler = thread::Builder::new().name("store-sync".into()).spawn({
            let queue = queue.clone();
            move || schedule(&core, &queue, &pool)
        })?;
        Ok(Volume { queue, scheduler: Mutex::new(Some(scheduler)) })
    }

    /// Queues a fragment.
    pub(crate) fn append(
        &self,
        stream: StreamId,
        fragment: Fragment,
    ) -> oneshot::Receiver<Result<Stored, AppendError>> {
        let (reply, answer) = oneshot::channel();
        let mut waiting = self.queue.lock();
        let bytes = fragment.body.len() as u64;
        if waiting.closing {
            let _ = reply.send(Err(AppendError::Gone));
        } else if waiting.bytes + bytes > MAX_WAITING {
            let _ = reply.send(Err(AppendError::Disk(format!("{} bytes wait for the disk already", waiting.bytes))));
        } else {
            waiting.bytes += bytes;
            waiting.work.push_back((stream, Work::Append(Job { fragment, reply })));
            self.queue.arrived.notify_one();
        }
        answer
    }

    /// Queues the sealing of a stream's block.
    pub(crate) fn seal(&self, stream: StreamId, why: GapReason) -> oneshot::Receiver<()> {
        let (reply, answer) = oneshot::channel();
        let mut waiting = self.queue.lock();
        if !waiting.closing {
            waiting.work.push_back((stream, Work::Seal(why, reply)));
            self.queue.arrived.notify_one();
        }
        answer
    }

    /// Takes no more work and returns when all is done and every block is sealed.
    pub(crate) fn close(&self) {
        self.queue.lock().closing = true;
        self.queue.arrived.notify_one();
        let scheduler = self.scheduler.lock().unwrap_or_else(PoisonError::into_inner).take();
        if let Some(scheduler) = scheduler {
            let _ = scheduler.join();
        }
    }
}

impl Drop for Volume {
    fn drop(&mut self) {
        self.close();
    }
}

fn schedule(core: &Arc<Core>, queue: &Queue, pool: &Pool) {
    let mut checked = Instant::now();
    core.watch_space();
    loop {
        let (work, closing) = collect(core, queue, checked + CHECKPOINT);
        let mut by_stream: BTreeMap<StreamId, Vec<Work>> = BTreeMap::new();
        for (stream, work) in work {
            by_stream.entry(stream).or_default().push(work);
        }
        let busy = !by_stream.is_empty();
        pool.run(by_stream);
        if closing {
            core.seal_all();
        }
        let due = checked.elapsed() >= CHECKPOINT;
        if due {
            checked = Instant::now();
            core.watch_space();
            core.tick_clocks();
        }
        if (busy || due || closing)
            && let Err(error) = core.commit_index(due || closing)
        {
            tracing::warn!(%error, "index rows not put, they are tried again");
        }
        if closing {
            return;
        }
    }
}

/// Waits for work, then a tick for more of it; or until `due`.
fn collect(core: &Core, queue: &Queue, due: Instant) -> (VecDeque<(StreamId, Work)>, bool) {
    let mut waiting = queue.lock();
    while waiting.work.is_empty() && !waiting.closing {
        let left = due.saturating_duration_since(Instant::now());
        if left.is_zero() {
            return (VecDeque::new(), false);
        }
        waiting = queue.arrived.wait_timeout(waiting, left).unwrap_or_else(PoisonError::into_inner).0;
    }
    let end = Instant::now() + core.settings.tick;
    while !waiting.closing {
        let left = end.saturating_duration_since(Instant::now());
        if left.is_zero() {
            break;
        }
        waiting = queue.arrived.wait_timeout(waiting, left).unwrap_or_else(PoisonError::into_inner).0;
    }
    waiting.bytes = 0;
    (std::mem::take(&mut waiting.work), waiting.closing)
}

/// The writer threads.
struct Pool {
    /// None once the pool ends.
    tasks: Option<mpsc::Sender<Task>>,
    writers: Vec<thread::JoinHandle<()>>,
}

impl Drop for Pool {
    fn drop(&mut self) {
        self.tasks = None;
        // They hold the store, and with it the lock on the data folder.
        for writer in self.writers.drain(..) {
            let _ = writer.join();
        }
    }
}

struct Task {
    stream: StreamId,
    work: Vec<Work>,
    done: mpsc::Sender<()>,
}

impl Pool {
    fn start(core: &Arc<Core>) -> std::io::Result<Pool> {
        let (tasks, queue) = mpsc::channel::<Task>();
        let queue = Arc::new(Mutex::new(queue));
        let mut pool = Pool { tasks: Some(tasks), writers: Vec::with_capacity(WRITERS) };
        for number in 0..WRITERS {
            let (core, queue) = (core.clone(), queue.clone());
            let writer = thread::Builder::new().name(format!("store-write-{number}")).spawn(move || {
                loop {
                    let task = queue.lock().unwrap_or_else(PoisonError::into_inner).recv();
                    let Ok(task) = task else { return };
                    core.work(task.stream, task.work);
                    let _ = task.done.send(());
                }
            })?;
            pool.writers.push(writer);
        }
        Ok(pool)
    }

    /// Does all of it, streams side by side, and returns when it is done.
    fn run(&self, by_stream: BTreeMap<StreamId, Vec<Work>>) {
        let (done, finished) = mpsc::channel();
        for (stream, work) in by_stream {
            let task = Task { stream, work, done: done.clone() };
            let tasks = self.tasks.as_ref().expect("the pool has not ended");
            tasks.send(task).expect("writers live as long as the pool");
        }
        drop(done);
        while finished.recv().is_ok() {}
    }
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

    /// Seals every open block, for the end of this life.
    pub(crate) fn seal_all(&self) {
        for writer in self.all_writers() {
            writer.lock().unwrap_or_else(PoisonError::into_inner).seal(self, Some(GapReason::ServerStopped));
        }
    }

    /// Writes clock records into blocks that were quiet for long.
    pub(crate) fn tick_clocks(&self) {
        for writer in self.all_writers() {
            writer.lock().unwrap_or_else(PoisonError::into_inner).tick_clock(self);
        }
    }
}
