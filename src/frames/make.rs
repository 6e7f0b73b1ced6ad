//! From a request to its pictures: tasks under way, what is remembered, what comes out in order.

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;

use bytes::Bytes;
use media::decoding::{Format, Output};
use tokio::sync::mpsc;

use super::find::Finder;
use super::picker::{Picked, Picker};
use super::run::build;
use super::{Ask, Caption, Frame, FramesError, damaged};
use crate::live::Hub;
use crate::workers::{Picture, Pictures, Pool, RunId, Task, WorkError};

/// Bytes of finished pictures that one task may make: what is in memory for a client who does not read, a few times.
const TASK_BYTES: u64 = 48 << 20;
/// Most pictures of a task, so that others get their turn.
const TASK_PICTURES: usize = 64;
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
            let batch = vec![picked.clone()];
            let Work { mut pictures, indices, .. } = self.start(finder, batch, ask.output).await?;
            let made = wait_for(&mut pictures, &mut HashMap::new(), indices[0]).await?;
            Ok::<_, FramesError>(made)
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
        let mut batches =
            Batches { picker: Picker::new(ask), held: None, failed: None, output: ask.output, finished: false };
        let mut under_way: VecDeque<Step> = VecDeque::new();
        // One more than there are decoders, so that none waits for us.
        let most = self.pool.width() + 1;
        loop {
            while under_way.len() < most {
                match batches.next(finder).await {
                    None => break,
                    Some(Ok(batch)) => under_way.push_back(self.begin(finder, batch, ask.output).await?),
                    Some(Err(error)) => under_way.push_back(Step::Missing(error)),
                }
            }
            let Some(step) = under_way.pop_front() else { return Ok(()) };
            let (batch, mut work, mut known) = match step {
                Step::Missing(error @ FramesError::NoMedia { .. }) => {
                    if out.send(Err(error)).await.is_err() {
                        return Ok(());
                    }
                    continue;
                }
                Step::Missing(error) => return Err(error),
                Step::Under { batch, work, known } => (batch, work, known),
            };
            let mut early = HashMap::new();
            for (at, picked) in batch.iter().enumerate() {
                let made = match (known.remove(&picked.shot), &mut work) {
                    (Some(made), _) => made,
                    (None, Some(work)) => {
                        let made = tokio::select! {
                            made = wait_for(&mut work.pictures, &mut early, work.indices[at]) => made?,
                            () = out.closed() => return Ok(()),
                        };
                        if made.bytes.len() <= REMEMBERED_BYTES_MAX && picked.reel.ordinal.is_some() {
                            self.made.insert(key(picked, ask.output), made.clone());
                        }
                        made
                    }
                    (None, None) => return Err(damaged("a picture was forgotten")),
                };
                // Several instants may mean the same picture.
                if batch.get(at + 1).is_some_and(|next| next.shot == picked.shot) {
                    known.insert(picked.shot, made.clone());
                }
                if out.send(Ok(made.with(picked.caption()))).await.is_err() {
                    return Ok(());
                }
            }
        }
    }

    /// Puts a batch under way: what is remembered of it is taken, the rest decoded.
    async fn begin(&self, finder: Finder<'_>, batch: Vec<Picked>, output: Output) -> Result<Step, FramesError> {
        let remembered = |picked: &Picked| Some((picked.shot, self.made.get(&key(picked, output))?));
        let known: HashMap<usize, Made> = batch.iter().filter_map(remembered).collect();
        let all = batch.iter().all(|picked| known.contains_key(&picked.shot));
        let (work, known) = match all {
            true => (None, known),
            // Those in between are decoded anyway.
            false => (Some(self.start_patiently(finder, batch.clone(), output).await?), HashMap::new()),
        };
        Ok(Step::Under { batch, work, known })
    }

    /// Starts a batch of a request that has begun: its client has waited for its turn, and goes on waiting.
    async fn start_patiently(
        &self,
        finder: Finder<'_>,
        batch: Vec<Picked>,
        output: Output,
    ) -> Result<Work, FramesError> {
        const PATIENCE: u32 = 100;
        for _ in 0..PATIENCE {
            match self.start(finder, batch.clone(), output).await {
                Err(FramesError::Work(WorkError::Busy)) => {
                    tokio::time::sleep(std::time::Duration::from_millis(100)).await;
                }
                other => return other,
            }
        }
        Err(WorkError::Busy.into())
    }

    async fn start(&self, finder: Finder<'_>, batch: Vec<Picked>, output: Output) -> Result<Work, FramesError> {
        // The open fragment may have grown while the batch was made: the last one's reel has all of it.
        let reel = &batch[batch.len() - 1].reel;
        let shots = || batch.iter().map(|picked| picked.shot);
        let last = shots().max().unwrap_or(0);
        let with_leading = shots().any(|shot| reel.shots[shot].is_leading);
        let built = build(finder, reel, last, with_leading).await?;
        let indices: Vec<usize> = shots().map(|shot| built.index(reel, shot)).collect();
        let mut wanted = indices.clone();
        wanted.sort_unstable();
        wanted.dedup();
        let pictures = self.pool.submit(Task { run: built.run, wanted, output })?;
        Ok(Work { pictures, indices })
    }
}

/// A part of a request under way.
enum Step {
    /// An instant without a picture, or the end.
    Missing(FramesError),
    Under {
        batch: Vec<Picked>,
        work: Option<Work>,
        known: HashMap<usize, Made>,
    },
}

/// A task, and the picture of the run for each of its batch.
struct Work {
    pictures: Pictures,
    indices: Vec<usize>,
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

/// Shots that are decoded together.
struct Batches {
    picker: Picker,
    /// The first of the next batch.
    held: Option<Picked>,
    /// What came instead of it.
    failed: Option<FramesError>,
    output: Output,
    finished: bool,
}

impl Batches {
    /// The next batch, or the error of one instant; none after the last.
    async fn next(&mut self, finder: Finder<'_>) -> Option<Result<Vec<Picked>, FramesError>> {
        let mut batch: Vec<Picked> = self.held.take().into_iter().collect();
        if let Some(error) = self.failed.take() {
            return Some(Err(self.end_with(error)));
        }
        while !self.finished {
            match self.picker.next(finder).await {
                Ok(Some(picked)) => {
                    let same = batch.first().is_none_or(|first| first.reel.run_id() == picked.reel.run_id());
                    if !same || batch.len() >= self.most(&picked) {
                        self.held = Some(picked);
                        return Some(Ok(batch));
                    }
                    batch.push(picked);
                }
                Ok(None) => self.finished = true,
                Err(error) if batch.is_empty() => return Some(Err(self.end_with(error))),
                Err(error) => {
                    self.failed = Some(error);
                    return Some(Ok(batch));
                }
            }
        }
        (!batch.is_empty()).then_some(Ok(batch))
    }

    /// Takes note that nothing follows an error, unless it is of one instant.
    fn end_with(&mut self, error: FramesError) -> FramesError {
        self.finished |= !matches!(error, FramesError::NoMedia { asked: Some(_), .. });
        error
    }

    /// How many pictures like this one a task may make.
    fn most(&self, picked: &Picked) -> usize {
        let setup = &picked.reel.setup;
        let placed = self.output.place(setup.width, setup.height);
        let (width, height) = placed.map_or((1, 1), |placed| (placed.width, placed.height));
        let each = match self.output.format {
            Format::I420 | Format::Rgb | Format::Npy => self.output.format.bytes_max(width, height),
            // A byte a pixel is much for a picture that was coded.
            Format::Jpeg | Format::Png | Format::Webp => u64::from(width) * u64::from(height),
        };
        usize::try_from(TASK_BYTES / each.max(1)).unwrap_or(usize::MAX).clamp(1, TASK_PICTURES)
    }
}
