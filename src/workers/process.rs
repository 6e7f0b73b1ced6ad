//! One decoder process: given a task, watched.
//!
//! Not here: how it is started and killed (`program`).

use std::collections::HashMap;
use std::io::{self, Read, Write};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::time::{Duration, Instant};

use bytes::Bytes;
use media::decoding::{FailureKind, Format, Job, MESSAGE_MAX, PIXELS_MAX, Reply, Request, Setup, UNITS_MAX, Unit};
use media::planes::tight_len;

use super::buffers::Buffers;
use super::feed::Progress;
use super::memory::Memory;
use super::program::{self, Broken, Child, START_MAX, Started};
use super::{Picture, RunId, Task, WorkError};

/// Most decoders that a process keeps, and most memory of all of them together, as far as it can be told.
const CONTEXTS_MAX: usize = 4;
const CONTEXT_BYTES_MAX: u64 = 1 << 30;
/// Reference pictures of a decoder, and one that is being decoded.
const PICTURES_HELD: u64 = 17;
/// Most bytes of coded pictures in a task.
pub(super) const INPUT_MAX: u64 = 256 << 20;
/// Most bytes of finished pictures in a task: far above what is asked for, unless pictures are larger than their track says.
const ROOM_MAX: u64 = 512 << 20;
/// How often a running task is looked at.
const LOOK: Duration = Duration::from_millis(100);
/// Processor time that a task may take whatever it is, and that each picture of two megapixels may take.
const CPU_EACH_TASK: Duration = Duration::from_secs(2);
const CPU_EACH_PICTURE: Duration = Duration::from_millis(20);
/// How much longer than its processor time a task may take: others work beside it.
const WALL_FACTOR: u32 = 3;

/// Takes the pictures of a task as they are finished.
pub(super) trait Taker {
    fn take(&mut self, picture: Picture);
    /// Nobody waits for more.
    fn is_gone(&self) -> bool;
}

/// A decoder process.
pub(super) struct Process {
    child: Child,
    socket: UnixStream,
    memory: Memory,
    contexts: HashMap<u8, Context>,
    tasks: u64,
    unread: Vec<u8>,
    buffers: Buffers,
}

/// One of its decoders.
struct Context {
    run: RunId,
    progress: Progress,
    setup: std::sync::Arc<Setup>,
    /// Count of the task that used it last.
    used: u64,
    /// It has to begin anew for more than it has kept.
    spent: bool,
}

impl Context {
    fn bytes(&self) -> u64 {
        u64::from(self.setup.width) * u64::from(self.setup.height) * 3 / 2 * PICTURES_HELD
    }
}

impl Process {
    /// Starts a decoder and waits until it has locked itself in.
    pub fn start(program: &Path, registry: &Path, buffers: Buffers) -> Result<Process, Broken> {
        let Started { child, socket, memory } = program::start(program, registry, None)?;
        let contexts = HashMap::new();
        let mut process = Process { child, socket, memory, contexts, tasks: 0, unread: Vec::new(), buffers };
        let started = Instant::now();
        loop {
            match process.receive()? {
                Some(Reply::Ready(codecs)) => {
                    tracing::debug!(pid = process.child.pid(), ?codecs, took = ?started.elapsed(), "a decoder is ready");
                    return Ok(process);
                }
                Some(_) => return Err(Broken::Died("it answered before it was asked")),
                None if started.elapsed() > START_MAX => return Err(Broken::Died("it took too long to start")),
                None => {}
            }
        }
    }

    /// The runs that it can go on in.
    pub fn runs(&self) -> Vec<RunId> {
        self.contexts.values().map(|context| context.run).collect()
    }

    /// Whether it holds more memory than it should.
    pub fn is_bloated(&self) -> bool {
        self.child.is_bloated()
    }

    /// Does a task. The outer error means that the process is of no more use.
    pub fn run(&mut self, task: &Task, taker: &mut impl Taker) -> Result<Result<(), WorkError>, Broken> {
        self.tasks += 1;
        let run = &task.run;
        let warm = self
            .contexts
            .iter()
            .find(|(_, context)| context.run == run.id && context.setup == run.setup && context.progress.serves(task));
        let (number, progress, goes_on) = match warm {
            Some((number, context)) => (*number, context.progress.clone(), true),
            None => (self.room_for(&run.setup), Progress::default(), false),
        };
        let feed = progress.feed(task);
        let Some(job) = self.prepare(task, &feed.pictures, feed.required, number, !goes_on)? else {
            let text = "the pictures asked for depend on more media than is decoded at once".to_owned();
            return Ok(Err(WorkError::Refused { kind: FailureKind::Size, text }));
        };
        let pictures_at = job.pictures_at;
        let pictures_end = job.pictures_end;
        // Until it is done nobody knows where it stands.
        self.contexts.remove(&number);
        self.send(&Request::Decode(job))?;
        let limit = Watch::new(self.child.pid(), &run.setup, feed.pictures.len() + task.wanted.len());
        let outcome = self.follow(task, feed.pictures.len(), pictures_at..pictures_end, limit, taker)?;
        self.memory.trim()?;
        match outcome {
            Ok((fed, gone_ns, drained)) => {
                let progress = progress.after(&feed, fed, gone_ns, drained);
                let setup = run.setup.clone();
                let context = Context { run: run.id, progress, setup, used: self.tasks, spent: drained };
                self.contexts.insert(number, context);
                Ok(Ok(()))
            }
            Err(error) => Ok(Err(error)),
        }
    }

    /// A decoder's number for a run with this setup: one that had the same, a free one, or that used longest ago.
    fn room_for(&mut self, setup: &std::sync::Arc<Setup>) -> u8 {
        let same = self.contexts.iter().filter(|(_, context)| context.setup == *setup);
        let same = same.min_by_key(|(_, context)| (!context.spent, context.used)).map(|(number, _)| *number);
        let needed = u64::from(setup.width) * u64::from(setup.height) * 3 / 2 * PICTURES_HELD;
        let held: u64 = self.contexts.values().map(Context::bytes).sum();
        let is_full = self.contexts.len() >= CONTEXTS_MAX || held + needed > CONTEXT_BYTES_MAX;
        let oldest = self.contexts.iter().min_by_key(|(_, context)| context.used).map(|(number, _)| *number);
        match (same, is_full, oldest) {
            // Going over its place loses it; with room beside it another is better.
            (Some(number), _, _) if is_full || self.contexts[&number].spent => number,
            (_, true, Some(number)) => number,
            _ => (0..CONTEXTS_MAX as u8).find(|number| !self.contexts.contains_key(number)).unwrap_or(0),
        }
    }

    /// Puts the units into the shared memory; none when they are too many.
    fn prepare(
        &mut self,
        task: &Task,
        pictures: &[usize],
        required: usize,
        context: u8,
        start: bool,
    ) -> io::Result<Option<Job>> {
        let run = &task.run;
        if pictures.len() > UNITS_MAX {
            return Ok(None);
        }
        let mut units = Vec::with_capacity(pictures.len());
        let mut at = 0u64;
        for index in pictures {
            let picture = &run.pictures[*index];
            let len = picture.data.len() as u64;
            if at + len > INPUT_MAX {
                return Ok(None);
            }
            self.memory.write(at, &picture.data)?;
            units.push(Unit { at, len: len as u32, shown_ns: picture.shown_ns });
            at += len;
        }
        let mut wanted: Vec<u64> = task.wanted.iter().map(|index| run.pictures[*index].shown_ns).collect();
        wanted.sort_unstable();
        let pixels = output_pixels(task);
        let each = task.output.format.bytes_max(pixels, 1);
        let room = each.saturating_mul(task.wanted.len() as u64);
        if room > ROOM_MAX {
            return Ok(None);
        }
        let pictures_at = at.next_multiple_of(4096);
        Ok(Some(Job {
            context,
            start: start.then(|| Setup::clone(&run.setup)),
            units,
            required: required as u32,
            wanted,
            output: task.output,
            pictures_at,
            pictures_end: pictures_at + room,
        }))
    }

    /// Takes what the decoder answers until it is done.
    #[expect(clippy::type_complexity, reason = "two levels of failure, and the three numbers of Reply::Done")]
    fn follow(
        &mut self,
        task: &Task,
        fed_max: usize,
        room: std::ops::Range<u64>,
        mut watch: Watch,
        taker: &mut impl Taker,
    ) -> Result<Result<(usize, Option<u64>, bool), WorkError>, Broken> {
        let mut cancelled = false;
        let mut left = task.wanted.len();
        loop {
            if !cancelled && taker.is_gone() {
                self.send(&Request::Cancel)?;
                cancelled = true;
            }
            let Some(reply) = self.receive()? else {
                watch.look()?;
                continue;
            };
            match reply {
                Reply::Picture(picture) => {
                    let shown_ns = |index: &&usize| task.run.pictures[**index].shown_ns;
                    let index = task.wanted.iter().find(|index| shown_ns(index) == picture.shown_ns).copied();
                    let index = index.filter(|_| left > 0);
                    let end = picture.at.checked_add(picture.len.into());
                    let inside = picture.at >= room.start && end.is_some_and(|end| end <= room.end);
                    let (width, height) = (picture.width, picture.height);
                    let is_planes = task.output.format == Format::I420;
                    let is_whole = !is_planes || u64::from(picture.len) == tight_len(width, height);
                    let (Some(index), true, true) = (index, inside, is_whole) else {
                        return Err(Broken::Died("it answered with what nobody asked for"));
                    };
                    left -= 1;
                    let bytes = self.read(picture.at, picture.len as usize)?;
                    let (colours, corrupt) = (picture.colours, picture.corrupt);
                    taker.take(Picture { index, width, height, colours, corrupt, bytes });
                }
                Reply::Done { fed, gone_ns, drained } if fed as usize <= fed_max => {
                    return Ok(Ok((fed as usize, gone_ns, drained)));
                }
                Reply::Failed { kind, text } => return Ok(Err(WorkError::Refused { kind, text })),
                Reply::Done { .. } | Reply::Ready(_) => return Err(Broken::Died("it does not keep to the messages")),
            }
        }
    }

    /// Bytes of the shared memory.
    fn read(&self, at: u64, len: usize) -> io::Result<Bytes> {
        let mut bytes = self.buffers.take(len);
        self.memory.read(at, &mut bytes)?;
        Ok(self.buffers.lend(bytes))
    }

    fn send(&mut self, request: &Request) -> io::Result<()> {
        let message = request.encode();
        let mut bytes = Vec::with_capacity(message.len() + 4);
        bytes.extend((message.len() as u32).to_le_bytes());
        bytes.extend(message);
        // It reads whenever it does nothing else; one that does not is hung, and killed.
        self.socket.set_write_timeout(Some(Duration::from_secs(10)))?;
        self.socket.write_all(&bytes)
    }

    /// The next answer; none when there is none within a moment.
    fn receive(&mut self) -> Result<Option<Reply>, Broken> {
        loop {
            if let Some((head, rest)) = self.unread.split_first_chunk::<4>() {
                let length = u32::from_le_bytes(*head) as usize;
                if length > MESSAGE_MAX {
                    return Err(Broken::Died("it does not keep to the messages"));
                }
                if let Some(message) = rest.get(..length) {
                    let reply = Reply::decode(message);
                    self.unread.drain(..4 + length);
                    return reply.map(Some).map_err(|_| Broken::Died("it does not keep to the messages"));
                }
            }
            self.socket.set_read_timeout(Some(LOOK))?;
            let mut bytes = [0; 4096];
            match self.socket.read(&mut bytes) {
                Ok(0) => return Err(Broken::Died("it ended unexpectedly")),
                Ok(count) => self.unread.extend_from_slice(&bytes[..count]),
                Err(error) if matches!(error.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut) => {
                    return Ok(None);
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error.into()),
            }
        }
    }
}

/// Most pixels that a wanted picture of the task may have.
fn output_pixels(task: &Task) -> u32 {
    let setup = &task.run.setup;
    let pixels = match task.output.place(setup.width, setup.height) {
        Some(placement) => u64::from(placement.width) * u64::from(placement.height),
        None => 0,
    };
    // Parameter sets in band may say otherwise than the setup does; rounding of odd sizes is within it, too.
    let largest = pixels + u64::from(setup.width) + u64::from(setup.height) + 4096;
    u32::try_from(largest.min(PIXELS_MAX + 65_536)).unwrap_or(u32::MAX)
}

/// A task's allowance.
struct Watch {
    pid: u32,
    started: Instant,
    cpu_before: Option<Duration>,
    cpu_max: Duration,
}

impl Watch {
    fn new(pid: u32, setup: &Setup, pictures: usize) -> Watch {
        let halves = (u64::from(setup.width) * u64::from(setup.height)).div_ceil(2_000_000).max(1);
        let each = CPU_EACH_PICTURE * u32::try_from(halves).unwrap_or(u32::MAX);
        let cpu_max = CPU_EACH_TASK + each.saturating_mul(u32::try_from(pictures).unwrap_or(u32::MAX));
        Watch { pid, started: Instant::now(), cpu_before: cpu_time(pid), cpu_max }
    }

    fn look(&mut self) -> Result<(), Broken> {
        if self.started.elapsed() > self.cpu_max * WALL_FACTOR {
            return Err(Broken::Died("it took too long"));
        }
        let used = cpu_time(self.pid).zip(self.cpu_before).map(|(now, before)| now.saturating_sub(before));
        match used {
            Some(used) if used > self.cpu_max => Err(Broken::Died("it computed for too long")),
            _ => Ok(()),
        }
    }
}

/// Processor time that a process has used (proc(5), fields 14 and 15 of `stat`).
fn cpu_time(pid: u32) -> Option<Duration> {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    // The name in the second field may hold anything but ends with the last parenthesis.
    let mut fields = stat.rsplit_once(") ")?.1.split(' ').skip(11);
    let ticks: u64 = fields.next()?.parse::<u64>().ok()? + fields.next()?.parse::<u64>().ok()?;
    Some(Duration::from_secs_f64(ticks as f64 / rustix::param::clock_ticks_per_second() as f64))
}
