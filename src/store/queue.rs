//! What waits for the writer threads. Fragments that close within a tick are synced together, streams side by side, each by one
//! thread at a time. Only the stream's own sync holds a stream up, as long as one thread is free.

use std::collections::{BTreeSet, HashMap, HashSet, VecDeque};
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use futures_channel::oneshot;
use media::{GapReason, StreamId};

use crate::AppendError;
use crate::writer::Job;

/// Most bytes that wait for the disk. Their owners hold them too, so this bounds promises more than memory.
const MAX_WAITING: u64 = 1 << 30;

/// What a stream's writer is to do, in order.
pub(crate) enum Work {
    Append(Job),
    Seal(GapReason, oneshot::Sender<()>),
}

impl Work {
    fn bytes(&self) -> u64 {
        match self {
            Work::Append(job) => job.fragment.body.len() as u64,
            Work::Seal(..) => 0,
        }
    }
}

/// What a writer thread takes.
pub(crate) enum Task {
    Work(Vec<Work>),
    /// A clock record, if the block is still quiet.
    Clock,
}

/// The queue.
pub(crate) struct Queue {
    tick: Duration,
    waiting: Mutex<Waiting>,
    arrived: Condvar,
    ready: Condvar,
}

/// A stream with work is in `arrived`, in `ready`, or in `busy`: then it is ready again when its thread is done with it.
#[derive(Default)]
struct Waiting {
    work: HashMap<StreamId, Vec<Work>>,
    bytes: u64,
    /// Streams that something came for in this tick, and when the first came.
    arrived: Vec<StreamId>,
    arrived_at: Option<Instant>,
    /// Streams for the next free threads.
    ready: VecDeque<StreamId>,
    /// Streams whose block was quiet for long: for a thread that has nothing else to do.
    quiet: VecDeque<StreamId>,
    busy: HashSet<StreamId>,
    closing: bool,
}

impl Waiting {
    /// True when it is the first of a tick.
    fn push(&mut self, stream: StreamId, work: Work) -> bool {
        self.bytes += work.bytes();
        let waiting = self.work.entry(stream).or_default();
        waiting.push(work);
        if waiting.len() == 1 && !self.busy.contains(&stream) {
            self.arrived_at.get_or_insert_with(Instant::now);
            self.arrived.push(stream);
            return self.arrived.len() == 1;
        }
        false
    }
}

impl Queue {
    pub fn new(tick: Duration) -> Queue {
        Queue { tick, waiting: Mutex::default(), arrived: Condvar::new(), ready: Condvar::new() }
    }

    fn lock(&self) -> MutexGuard<'_, Waiting> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Queues a fragment, or answers at once why not.
    pub fn append(&self, stream: StreamId, job: Job) {
        let mut waiting = self.lock();
        let bytes = job.fragment.body.len() as u64;
        let refusal = if waiting.closing {
            AppendError::Gone
        } else if waiting.bytes + bytes > MAX_WAITING {
            AppendError::Disk(format!("{} bytes wait for the disk already", waiting.bytes))
        } else {
            if waiting.push(stream, Work::Append(job)) {
                self.arrived.notify_one();
            }
            return;
        };
        drop(waiting);
        let _ = job.reply.send(Err(refusal));
    }

    /// Queues the sealing of a stream's block.
    pub fn seal(&self, stream: StreamId, why: GapReason, reply: oneshot::Sender<()>) {
        let mut waiting = self.lock();
        if !waiting.closing && waiting.push(stream, Work::Seal(why, reply)) {
            self.arrived.notify_one();
        }
    }

    /// Offers streams whose block was quiet for long, in place of those offered before.
    pub fn offer_quiet(&self, streams: Vec<StreamId>) {
        let mut waiting = self.lock();
        waiting.quiet = streams.into();
        if !waiting.quiet.is_empty() {
            self.ready.notify_all();
        }
    }

    /// Takes no more from outside, and seals the blocks of all these streams, and of those that something waits for.
    pub fn close(&self, open: Vec<StreamId>) {
        let mut waiting = self.lock();
        waiting.closing = true;
        waiting.quiet.clear();
        let waits: BTreeSet<StreamId> =
            open.into_iter().chain(waiting.work.keys().copied()).chain(waiting.busy.iter().copied()).collect();
        for stream in waits {
            waiting.push(stream, Work::Seal(GapReason::ServerStopped, oneshot::channel().0));
        }
        self.arrived.notify_all();
        self.ready.notify_all();
    }

    /// Makes what arrived ready at the end of each tick. Returns when the queue closes.
    pub fn pace(&self) {
        let mut waiting = self.lock();
        loop {
            while waiting.arrived.is_empty() && !waiting.closing {
                waiting = self.arrived.wait(waiting).unwrap_or_else(PoisonError::into_inner);
            }
            let end = Instant::now() + self.tick;
            while !waiting.closing {
                let left = end.saturating_duration_since(Instant::now());
                if left.is_zero() {
                    break;
                }
                waiting = self.arrived.wait_timeout(waiting, left).unwrap_or_else(PoisonError::into_inner).0;
            }
            let arrived = std::mem::take(&mut waiting.arrived);
            waiting.arrived_at = None;
            waiting.ready.extend(arrived);
            self.ready.notify_all();
            if waiting.closing {
                return;
            }
        }
    }

    /// What a free thread does next; none when the queue is closed and nothing is left. [`Queue::finished`] must follow.
    pub fn take(&self) -> Option<(StreamId, Task)> {
        let mut waiting = self.lock();
        loop {
            if let Some(stream) = waiting.ready.pop_front() {
                let work = waiting.work.remove(&stream).unwrap_or_default();
                waiting.bytes -= work.iter().map(Work::bytes).sum::<u64>();
                waiting.busy.insert(stream);
                return Some((stream, Task::Work(work)));
            }
            if let Some(stream) = waiting.quiet.pop_front() {
                // With something to write it is not quiet.
                if !waiting.work.contains_key(&stream) && waiting.busy.insert(stream) {
                    return Some((stream, Task::Clock));
                }
                continue;
            }
            if waiting.closing && waiting.work.is_empty() {
                return None;
            }
            waiting = self.ready.wait(waiting).unwrap_or_else(PoisonError::into_inner);
        }
    }

    /// The stream may be taken again.
    pub fn finished(&self, stream: StreamId) {
        let mut waiting = self.lock();
        waiting.busy.remove(&stream);
        if waiting.work.contains_key(&stream) {
            waiting.ready.push_back(stream);
            self.ready.notify_one();
        }
        if waiting.closing {
            self.ready.notify_all();
        }
    }

    /// How long the oldest arrival has waited for the end of its tick.
    pub fn waited(&self) -> Option<Duration> {
        self.lock().arrived_at.map(|at| at.elapsed())
    }
}
