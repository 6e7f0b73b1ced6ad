//! From a request to its pictures: tasks under way, what is remembered, what comes out in order.

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;

use bytes::Bytes;
use media::decoding::Output;
use tokio::sync::mpsc;

use super::batch::{Batch, Batches, PART_BYTES, Part, parts};
use super::find::Finder;
use super::picker::{Picked, Picker};
use super::{Ask, Caption, Frame, FramesError, damaged};
use crate::live::Hub;
use crate::workers::{Picture, Pictures, Pool, RunId, WorkError};

/// Bytes of pictures of a request under way, for each decoder and once more: what is in memory for a client who does not
/// read.
const AHEAD_BYTES: u64 = 48 << 20;
/// Larger files are not remembered.
const REMEMBERED_BYTES_MAX: usize = 1 << 20;

/// Makes pictures of streams.
pub(crate) struct Frames {
    hub: Arc<Hub>,
    pool: Pool,
    /// Finished pictures; equal requests for one that is being made wait for it.
    made: quick_cache::sync::Cache<Key, Made, Weight>,
}

/// Names a finished picture.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
struct Key {
    run: RunId,
    pts: i64,
    output: Output,
}

/// A finished picture without what is known of it.
#[derive(Clone, Debug)]
struct Made {
    width: u32,
    height: u32,
    is_corrupt: bool,
    bytes: Bytes,
}

#[derive(Clone)]
struct Weight;

impl quick_cache::Weighter<Key, Made> for Weight {
    fn weight(&self, _: &Key, made: &Made) -> u64 {
        made.bytes.len() as u64 + 256
    }
}

impl From<Picture> for Made {
    fn from(picture: Picture) -> Made {
        let Picture { width, height, corrupt, bytes, .. } = picture;
        Made { width, height, is_corrupt: corrupt, bytes }
    }
}

impl Made {
    fn with(self, mut caption: Caption) -> Frame {
        caption.is_damaged |= self.is_corrupt;
        Frame { caption, width: self.width, height: self.height, bytes: self.bytes }
    }
}

/// Pictures of a request as they are finished, in time order.
pub(crate) struct Stream {
    frames: mpsc::Receiver<Result<Frame, FramesError>>,
}

impl Stream {
    /// The next picture; none after the last. `NoMedia` is of one instant, and others may follow; any other error is
    /// the end.
    pub(crate) async fn next(&mut self) -> Option<Result<Frame, FramesError>> {
        self.frames.recv().await
    }
}

impl Frames {
    /// Pictures by this pool, of which `remembered_bytes` are remembered.
    pub(crate) fn new(hub: Arc<Hub>, pool: Pool, remembered_bytes: u64) -> Frames {
        const USUAL_BYTES: u64 = 64 << 10;
        let items = usize::try_from(remembered_bytes / USUAL_BYTES).unwrap_or(usize::MAX).max(16);
        Frames { hub, pool, made: quick_cache::sync::Cache::with_weighter(items, remembered_bytes, Weight) }
    }

    /// Takes no more requests, and ends the decoders.
    pub(crate) fn stop(&self) {
        self.pool.stop();
    }

    /// The one picture of a request for one.
    ///
    /// # Errors
    /// Why there is none.
    pub(crate) async fn one(&self, ask: &Ask) -> Result<Frame, FramesError> {
        let finder = Finder { hub: &self.hub, stream: ask.stream };
        let none = FramesError::NoMedia { asked: None, before: None, after: None };
        let picked = Picker::new(ask).next(finder).await?.ok_or(none)?;
        let key = key(&picked, ask.output);
        let making = async {
            let mut parts = parts(finder, vec![picked.clone()], ask.output, None).await?;
            let part = parts.pop_front().ok_or(damaged("a picture was forgotten"))?;
            let mut pictures = self.pool.submit(part.task(ask.output))?;
            wait_for(&mut pictures, &mut HashMap::new(), part.indices[0]).await
        };
        let made = self.made.get_or_insert_async(&key, making).await?;
        if made.bytes.len() > REMEMBERED_BYTES_MAX {
            self.made.remove(&key);
        }
        Ok(made.with(picked.caption()))
    }

    /// All pictures of a request.
    pub(crate) fn many(self: &Arc<Self>, ask: Ask) -> Stream {
        let (sender, frames) = mpsc::channel(1);
        let this = self.clone();
        tokio::spawn(async move {
            if let Err(error) = this.make_all(&ask, &sender).await {
                // The client may be gone, and then nobody wants to know.
                let _ = sender.send(Err(error)).await;
            }
        });
        Stream { frames }
    }

    async fn make_all(&self, ask: &Ask, out: &mpsc::Sender<Result<Frame, FramesError>>) -> Result<(), FramesError> {
        let finder = Finder { hub: &self.hub, stream: ask.stream };
        let mut way = Way {
            batches: Batches::new(Picker::new(ask)),
            parts: VecDeque::new(),
            last_run: None,
            steps: VecDeque::new(),
        };
        loop {
            self.go_ahead(finder, &mut way, ask.output).await?;
            let Some(step) = way.steps.pop_front() else { return Ok(()) };
            let is_there = match step {
                Step::Missing(error @ FramesError::NoMedia { .. }) => out.send(Err(error)).await.is_ok(),
                Step::Missing(error) => return Err(error),
                Step::Known { batch, known } => hand_out_known(batch, &known, out).await,
                Step::Under { part, pictures } => self.hand_out(part, pictures, ask.output, out).await?,
            };
            if !is_there {
                return Ok(());
            }
        }
    }

    /// Puts as much of a request under way as keeps all decoders at work, and as its pictures may take memory.
    async fn go_ahead(&self, finder: Finder<'_>, way: &mut Way, output: Output) -> Result<(), FramesError> {
        // One more than there are decoders, so that none waits for us.
        let most = self.pool.width() + 1;
        let most_bytes = AHEAD_BYTES * most as u64;
        loop {
            let bytes: u64 = way.steps.iter().map(|step| step.bytes(output)).sum();
            if bytes + PART_BYTES > most_bytes && !way.steps.is_empty() {
                return Ok(());
            }
            let runs = way.steps.iter().enumerate().filter(|(at, step)| *at == 0 || !step.follows()).count();
            if runs >= most && !way.parts.front().is_some_and(|part| part.follows) {
                return Ok(());
            }
            let step = match way.parts.pop_front() {
                Some(part) => {
                    let pictures = self.submit_patiently(&part, output).await?;
                    Step::Under { part, pictures }
                }
                None => match way.batches.next(finder).await {
                    None => return Ok(()),
                    Some(Err(error)) => Step::Missing(error),
                    Some(Ok(batch)) => match self.remembered(&batch, output) {
                        Some(known) => Step::Known { batch, known },
                        // Where only some are, those in between are decoded anyway.
                        None => {
                            way.parts = parts(finder, batch, output, way.last_run).await?;
                            way.last_run = way.parts.front().map(|part| part.run.id);
                            continue;
                        }
                    },
                },
            };
            way.steps.push_back(step);
        }
    }

    /// The pictures of a batch that were made before, when all of them are remembered.
    fn remembered(&self, batch: &Batch, output: Output) -> Option<HashMap<usize, Made>> {
        let known = |picked: &Picked| Some((picked.shot, self.made.get(&key(picked, output))?));
        batch.iter().map(known).collect()
    }

    /// Submits a part of a request that has begun: its client has waited for its turn, and goes on waiting.
    async fn submit_patiently(&self, part: &Part, output: Output) -> Result<Pictures, FramesError> {
        const PATIENCE: u32 = 100;
        for _ in 0..PATIENCE {
            match self.pool.submit(part.task(output)) {
                Err(WorkError::Busy) => tokio::time::sleep(std::time::Duration::from_millis(100)).await,
                other => return Ok(other?),
            }
        }
        Err(WorkError::Busy.into())
    }

    /// Sends the pictures of a part on as they are made. False when the client is gone.
    async fn hand_out(
        &self,
        part: Part,
        mut pictures: Pictures,
        output: Output,
        out: &mpsc::Sender<Result<Frame, FramesError>>,
    ) -> Result<bool, FramesError> {
        let mut early = HashMap::new();
        let mut last: Option<(usize, Made)> = None;
        for (picked, index) in part.batch.iter().zip(part.indices) {
            let made = match last.take().filter(|(before, _)| *before == index) {
                // Several instants may mean the same picture.
                Some((_, made)) => made,
                None => {
                    let made = tokio::select! {
                        made = wait_for(&mut pictures, &mut early, index) => made?,
                        () = out.closed() => return Ok(false),
                    };
                    if made.bytes.len() <= REMEMBERED_BYTES_MAX && picked.reel.ordinal.is_some() {
                        self.made.insert(key(picked, output), made.clone());
                    }
                    made
                }
            };
            last = Some((index, made.clone()));
            if out.send(Ok(made.with(picked.caption()))).await.is_err() {
                return Ok(false);
            }
        }
        Ok(true)
    }
}

/// Sends pictures on that were remembered. False when the client is gone.
async fn hand_out_known(
    batch: Batch,
    known: &HashMap<usize, Made>,
    out: &mpsc::Sender<Result<Frame, FramesError>>,
) -> bool {
    for (picked, made) in batch.iter().filter_map(|picked| Some((picked, known.get(&picked.shot)?))) {
        if out.send(Ok(made.clone().with(picked.caption()))).await.is_err() {
            return false;
        }
    }
    true
}

/// Where a request with many pictures stands.
struct Way {
    batches: Batches,
    /// Of the batch at hand, not under way yet.
    parts: VecDeque<Part>,
    last_run: Option<RunId>,
    /// Under way, in time order.
    steps: VecDeque<Step>,
}

/// A part of a request under way.
enum Step {
    /// An instant without a picture, or the end.
    Missing(FramesError),
    /// Pictures that were made before, by their shots.
    Known {
        batch: Batch,
        known: HashMap<usize, Made>,
    },
    Under {
        part: Part,
        pictures: Pictures,
    },
}

impl Step {
    fn follows(&self) -> bool {
        matches!(self, Step::Under { part, .. } if part.follows)
    }

    /// Bytes that its pictures may take; those that are remembered are in memory anyway.
    fn bytes(&self, output: Output) -> u64 {
        match self {
            Step::Under { part, .. } => part.bytes(output),
            Step::Missing(_) | Step::Known { .. } => 0,
        }
    }
}

fn key(picked: &Picked, output: Output) -> Key {
    Key { run: picked.reel.run_id(), pts: picked.reel.shots[picked.shot].pts, output }
}

/// Waits for one picture of a task; those that come before it are kept.
async fn wait_for(
    pictures: &mut Pictures,
    early: &mut HashMap<usize, Made>,
    index: usize,
) -> Result<Made, FramesError> {
    loop {
        if let Some(made) = early.remove(&index) {
            return Ok(made);
        }
        match pictures.next().await {
            Some(Ok(picture)) => early.insert(picture.index, Made::from(picture)),
            Some(Err(error)) => return Err(error.into()),
            None => return Err(damaged("the picture cannot be decoded: it or what it depends on is damaged")),
        };
    }
}
