//! The queue of tasks and the threads that have them done, one a decoder process.

use std::collections::VecDeque;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::PathBuf;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use tokio::sync::mpsc;

use super::buffers::Buffers;
use super::meters::Meters;
use super::process::{Process, Taker};
use super::program::Broken;
use super::{Asker, Picture, RunId, Task, WorkError};

/// How deep in the queue a decoder looks for a task that goes on where it stands.
const LOOK_AHEAD: usize = 8;
/// How often a task may be passed over for such a one.
const PASSED_OVER_MAX: u32 = 4;

/// Memory of pictures that is kept for the next ones, for each decoder.
const KEPT_BYTES: usize = 48 << 20;

/// How the pool is set up.
#[derive(Clone, Debug)]
pub(crate) struct PoolSettings {
    /// The program `kinora-decoder`.
    pub program: PathBuf,
    /// Where GStreamer keeps what it knows of its plug-ins.
    pub registry: PathBuf,
    /// Most decoders at once.
    pub processes: usize,
    /// Most tasks that wait.
    pub queue: usize,
    /// A decoder that had nothing to do for so long is ended.
    pub idle: Duration,
}

/// Decoder processes, and the queue before them.
pub(crate) struct Pool {
    shared: Arc<Shared>,
}

struct Shared {
    settings: PoolSettings,
    meters: Meters,
    buffers: Buffers,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    queue: VecDeque<Queued>,
    threads: Vec<Thread>,
    stopping: bool,
}

/// A thread of the pool, as others see it.
struct Thread {
    wake: Arc<Condvar>,
    /// Waits for a task, and was not given one.
    idle: bool,
    given: Option<Queued>,
    /// The run of the task that it does.
    at: Option<RunId>,
    /// For whom it does one.
    works_for: Option<Asker>,
    /// The runs that its decoder can go on in.
    runs: Vec<RunId>,
}

struct Queued {
    task: Task,
    answers: mpsc::UnboundedSender<Result<Picture, WorkError>>,
    since: Instant,
    passed_over: u32,
}

/// The pictures of a task, as they are finished: ascending in time, not in decode order. Dropping it cancels the task.
pub(crate) struct Pictures {
    // As many as the task wants at most, and one error.
    answers: mpsc::UnboundedReceiver<Result<Picture, WorkError>>,
}

impl Pictures {
    /// The next picture; none when there are no more.
    pub(crate) async fn next(&mut self) -> Option<Result<Picture, WorkError>> {
        self.answers.recv().await
    }
}

impl Pool {
    /// A pool without decoders: they are started when there is something to do.
    pub(crate) fn new(settings: PoolSettings) -> Pool {
        let buffers = Buffers::new(KEPT_BYTES.saturating_mul(settings.processes));
        Pool { shared: Arc::new(Shared { settings, meters: Meters::new(), buffers, state: Mutex::default() }) }
    }

    /// Most decoders at once.
    pub(crate) fn width(&self) -> usize {
        self.shared.settings.processes
    }

    /// Has a task done.
    ///
    /// # Errors
    /// `Busy` when as many wait as may, `Stopping` after [`Pool::stop`].
    pub(crate) fn submit(&self, task: Task) -> Result<Pictures, WorkError> {
        let (sender, answers) = mpsc::unbounded_channel();
        let mut state = self.shared.lock();
        if state.stopping {
            return Err(WorkError::Stopping);
        }
        state.forget_cancelled(&self.shared.meters);
        let run = task.run.id;
        let waits = task.follows && state.threads.iter().any(|thread| thread.at == Some(run));
        let queued = Queued { task, answers: sender, since: Instant::now(), passed_over: 0 };
        let idle = |thread: &&mut Thread| thread.idle && !waits;
        let warm = state.threads.iter_mut().filter(idle).find(|thread| thread.runs.contains(&run));
        let chosen = match warm {
            Some(thread) => Some(thread),
            // One that stands nowhere first: the others keep their places.
            None => state.threads.iter_mut().filter(idle).min_by_key(|thread| thread.runs.len()),
        };
        if let Some(thread) = chosen {
            thread.give(queued);
            return Ok(Pictures { answers });
        }
        if state.threads.len() < self.shared.settings.processes && !waits {
            let number = state.threads.len();
            let wake = Arc::new(Condvar::new());
            let given = Some(queued);
            let works_for = given.as_ref().map(|queued| queued.task.asker);
            let wake_it = wake.clone();
            state.threads.push(Thread {
                wake: wake_it,
                idle: false,
                given,
                at: Some(run),
                works_for,
                runs: Vec::new(),
            });
            let shared = self.shared.clone();
            let name = format!("decoder-{number}");
            let started = std::thread::Builder::new().name(name).spawn(move || work(&shared, number, &wake));
            if let Err(error) = started {
                state.threads.pop();
                return Err(WorkError::NoProgram(error.to_string()));
            }
            return Ok(Pictures { answers });
        }
        let asker = queued.task.asker;
        let of_asker = state.queue.iter().filter(|waiting| waiting.task.asker == asker).count();
        let most = self.shared.settings.queue;
        // Nobody fills the queue alone: there is room for others.
        if state.queue.len() >= most || of_asker >= most.div_ceil(2) {
            self.shared.meters.turned_away.increment(1);
            return Err(WorkError::Busy);
        }
        state.queue.push_back(queued);
        self.shared.meters.waiting.set(state.queue.len() as f64);
        Ok(Pictures { answers })
    }

    /// Takes no more tasks, gives up those that wait, and ends the decoders when they are done.
    pub(crate) fn stop(&self) {
        let mut state = self.shared.lock();
        state.stopping = true;
        for queued in state.queue.drain(..) {
            let _ = queued.answers.send(Err(WorkError::Stopping));
        }
        for thread in &state.threads {
            thread.wake.notify_one();
        }
    }
}

impl Drop for Pool {
    fn drop(&mut self) {
        self.stop();
    }
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The next task for a thread. None when it is to end its decoder: for good when `stopping`, else because it idles.
    fn next(&self, number: usize, wake: &Condvar, runs: Vec<RunId>, has_process: bool) -> Next {
        let mut state = self.lock();
        state.threads[number].runs = runs;
        state.threads[number].at = None;
        state.threads[number].works_for = None;
        loop {
            if state.stopping {
                return Next::Stop;
            }
            if let Some(queued) = state.threads[number].given.take() {
                return Next::Task(Box::new(queued));
            }
            if let Some(queued) = state.pick(number, &self.meters) {
                state.threads[number].at = Some(queued.task.run.id);
                state.threads[number].works_for = Some(queued.task.asker);
                state.wake_idle(&self.meters);
                return Next::Task(Box::new(queued));
            }
            state.threads[number].idle = true;
            let idle = self.settings.idle;
            let (woken, waited) = wake.wait_timeout(state, idle).unwrap_or_else(PoisonError::into_inner);
            state = woken;
            if waited.timed_out() && has_process && state.threads[number].given.is_none() && !state.stopping {
                state.threads[number].idle = false;
                return Next::Rest;
            }
        }
    }
}

enum Next {
    Task(Box<Queued>),
    Rest,
    Stop,
}

impl Thread {
    /// Gives a task to a thread that idles.
    fn give(&mut self, queued: Queued) {
        self.idle = false;
        self.at = Some(queued.task.run.id);
        self.works_for = Some(queued.task.asker);
        self.given = Some(queued);
        self.wake.notify_one();
    }
}

impl State {
    /// Gives threads that idle what waited for another, which has something else to do now.
    fn wake_idle(&mut self, meters: &Meters) {
        for number in 0..self.threads.len() {
            if self.threads[number].idle
                && let Some(queued) = self.pick(number, meters)
            {
                self.threads[number].give(queued);
            }
        }
    }

    /// Drops tasks that nobody waits for.
    fn forget_cancelled(&mut self, meters: &Meters) {
        let before = self.queue.len();
        self.queue.retain(|queued| !queued.answers.is_closed());
        meters.cancelled.increment((before - self.queue.len()) as u64);
        meters.waiting.set(self.queue.len() as f64);
    }

    /// The oldest task, of those for whom the fewest decoders work, that is not another thread's to go on with; or one of the
    /// same asker close behind it that goes on where the thread's decoder stands.
    fn pick(&mut self, number: usize, meters: &Meters) -> Option<Queued> {
        self.forget_cancelled(meters);
        let is_elsewhere = |run: RunId| {
            let mut others = self.threads.iter().enumerate().filter(|(other, _)| *other != number);
            others.any(|(_, thread)| thread.at == Some(run))
        };
        let open = |queued: &Queued| !queued.task.follows || !is_elsewhere(queued.task.run.id);
        let busy = |asker: Asker| {
            let others = self.threads.iter().enumerate().filter(|(other, _)| *other != number);
            others.filter(|(_, thread)| thread.works_for == Some(asker)).count()
        };
        let candidates = self.queue.iter().enumerate().filter(|(_, queued)| open(queued));
        let (front, _) = candidates.min_by_key(|(at, queued)| (busy(queued.task.asker), *at))?;
        let asker = self.queue[front].task.asker;
        let runs = &self.threads[number].runs;
        let may_pass = self.queue[front].passed_over < PASSED_OVER_MAX;
        let same = |(_, queued): &(usize, &Queued)| queued.task.asker == asker;
        let near = self.queue.iter().enumerate().skip(front).filter(same).take(LOOK_AHEAD);
        let warm =
            near.filter(|(_, queued)| open(queued) && runs.contains(&queued.task.run.id)).map(|(at, _)| at).next();
        let at = warm.filter(|_| may_pass).unwrap_or(front);
        if at > front {
            self.queue[front].passed_over += 1;
        }
        let picked = self.queue.remove(at);
        meters.waiting.set(self.queue.len() as f64);
        picked
    }
}

/// The life of a thread of the pool.
fn work(shared: &Shared, number: usize, wake: &Condvar) {
    let mut process: Option<Process> = None;
    loop {
        let runs = process.as_ref().map(Process::runs).unwrap_or_default();
        match shared.next(number, wake, runs, process.is_some()) {
            Next::Task(queued) => {
                let Queued { task, answers, since, .. } = *queued;
                shared.meters.waited.record(since.elapsed().as_secs_f64());
                let begun = Instant::now();
                let mut outlet = Outlet { meters: &shared.meters, task, answers };
                let done = catch_unwind(AssertUnwindSafe(|| do_task(shared, &mut process, &mut outlet)));
                let done = done.unwrap_or_else(|_| {
                    tracing::error!(decoder = number, "the thread beside a decoder panicked: the decoder is replaced");
                    metrics::counter!("kinora_panics_total", "part" => "decoder").increment(1);
                    process = None;
                    Err(WorkError::Died("the server failed while it spoke with it"))
                });
                if let Err(error) = done {
                    if outlet.is_gone() {
                        shared.meters.cancelled.increment(1);
                    }
                    let _ = outlet.answers.send(Err(error));
                }
                shared.meters.took.record(begun.elapsed().as_secs_f64());
                if process.as_ref().is_some_and(Process::is_bloated) {
                    tracing::info!("a decoder has grown too large and is replaced");
                    process = None;
                }
            }
            Next::Rest => {
                process = None;
                shared.buffers.clear();
            }
            Next::Stop => return,
        }
    }
}

/// Does a task with the process that is there, or a new one; once more when that breaks.
fn do_task(shared: &Shared, process: &mut Option<Process>, outlet: &mut Outlet<'_>) -> Result<(), WorkError> {
    let mut tries = 0;
    loop {
        let broken = match take_or_start(shared, process) {
            Ok(running) => match running.run(&outlet.task.clone(), outlet) {
                Ok(outcome) => return outcome,
                Err(broken) => broken,
            },
            Err(broken) => broken,
        };
        *process = None;
        tries += 1;
        let pictures = outlet.task.wanted.len();
        outlet.meters.failures.increment(u64::from(matches!(broken, Broken::Died(_))));
        match broken {
            Broken::NoProgram(text) => return Err(WorkError::NoProgram(text)),
            Broken::Died(why) if tries > 1 => {
                tracing::warn!(why, pictures, "a decoder failed twice on the same pictures");
                return Err(WorkError::Died(why));
            }
            Broken::Died(why) => {
                tracing::warn!(why, pictures, "a decoder failed and is replaced");
            }
        }
    }
}

fn take_or_start<'a>(shared: &Shared, process: &'a mut Option<Process>) -> Result<&'a mut Process, Broken> {
    if process.is_none() {
        let PoolSettings { program, registry, .. } = &shared.settings;
        *process = Some(Process::start(program, registry, shared.buffers.clone())?);
    }
    Ok(process.as_mut().expect("it was just started"))
}

/// Hands pictures out, and remembers which are still wanted.
struct Outlet<'a> {
    meters: &'a Meters,
    task: Task,
    answers: mpsc::UnboundedSender<Result<Picture, WorkError>>,
}

impl Taker for Outlet<'_> {
    fn take(&mut self, picture: Picture) {
        self.meters.pictures.increment(1);
        self.task.wanted.retain(|index| *index != picture.index);
        // Who asked may be gone; the decoder is told so before the next picture.
        let _ = self.answers.send(Ok(picture));
    }

    fn is_gone(&self) -> bool {
        self.answers.is_closed()
    }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use media::decoding::{Output, PictureCodec, Setup};
    use media::{Position, Sequence, StreamId};

    use super::*;
    use crate::workers::{CodedPicture, Run};

    fn run(start: u64) -> Arc<Run> {
        let setup =
            Setup { stream: 7, codec: PictureCodec::H264, config: Vec::new(), width: 16, height: 16, has_holes: false };
        let picture = CodedPicture { shown_ns: 0, disposable: false, data: Bytes::new() };
        let start = Position { sequence: Sequence(start), ..Position::default() };
        let id = RunId { stream: StreamId(uuid::Uuid::nil()), start, open: None, leads: false };
        Arc::new(Run { id, setup: Arc::new(setup), pictures: vec![picture] })
    }

    /// A pool of threads that are at these runs, and a queue of tasks of runs, `true` for those that follow.
    fn pick(threads: &[Option<u64>], queue: &[(u64, bool)], number: usize) -> Option<(u64, bool)> {
        let meters = Meters::new();
        let thread = |at: &Option<u64>| Thread {
            wake: Arc::default(),
            idle: false,
            given: None,
            at: at.map(|at| run(at).id),
            works_for: None,
            runs: at.iter().map(|at| run(*at).id).collect(),
        };
        let mut kept = Vec::new();
        let mut queued = |(start, follows): &(u64, bool)| {
            let (answers, receiver) = mpsc::unbounded_channel();
            kept.push(receiver);
            let task = Task {
                asker: Asker::default(),
                run: run(*start),
                wanted: vec![0],
                output: Output::default(),
                follows: *follows,
            };
            Queued { task, answers, since: Instant::now(), passed_over: 0 }
        };
        let queue = queue.iter().map(&mut queued).collect();
        let mut state = State { queue, threads: threads.iter().map(thread).collect(), stopping: false };
        let picked = state.pick(number, &meters)?;
        Some((picked.task.run.id.start.sequence.0, picked.task.follows))
    }

    #[test]
    fn a_decoder_goes_to_whom_the_fewest_work_for() {
        let (many, one) = (Asker(1), Asker(2));
        let queued = |asker, start| {
            let task = Task { asker, run: run(start), wanted: vec![0], output: Output::default(), follows: false };
            let (answers, receiver) = mpsc::unbounded_channel();
            (Queued { task, answers, since: Instant::now(), passed_over: 0 }, receiver)
        };
        let (queue, _kept): (VecDeque<_>, Vec<_>) =
            [queued(many, 1), queued(many, 2), queued(many, 3), queued(one, 4)].into_iter().unzip();
        let thread = |works_for| Thread {
            wake: Arc::default(),
            idle: false,
            given: None,
            at: None,
            works_for,
            runs: vec![run(2).id],
        };
        let mut state = State { queue, threads: vec![thread(Some(many)), thread(None)], stopping: false };
        let mut pick = || state.pick(1, &Meters::new()).map(|queued| queued.task.run.id.start.sequence.0);
        assert_eq!(pick(), Some(4), "who asks for one does not wait for all that another asked for");
        assert_eq!([pick(), pick(), pick()], [Some(2), Some(1), Some(3)], "its own run first");
    }

    #[test]
    fn what_follows_a_task_goes_to_the_decoder_that_has_it() {
        let queue = [(1, true), (1, true), (2, false), (2, true)];
        assert_eq!(pick(&[Some(1), None], &queue, 1), Some((2, false)), "the first run is decoded by the other one");
        assert_eq!(pick(&[Some(1), None], &queue[..2], 1), None, "waiting is less work than decoding it again");
        assert_eq!(pick(&[None, None], &queue, 1), Some((1, true)), "nobody is at it");
        assert_eq!(pick(&[None, Some(2)], &[(1, false), (2, true)], 1), Some((2, true)), "its own goes on first");
        assert_eq!(pick(&[Some(1), None], &[(1, false)], 1), Some((1, false)), "of another request");
    }
}
