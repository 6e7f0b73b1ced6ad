//! From a request to its pictures: tasks under way, what is remembered, what comes out in order.

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;

use bytes::Bytes;
use media::decoding::Output;
use media::planes::Colours;
use tokio::sync::mpsc;

use super::batch::{Batch, Batches, PART_BYTES, Part, parts};
use super::find::Finder;
use super::picker::{Picked, Picker};
use super::{Ask, Caption, Frame, FramesError, Missing, damaged};
use crate::live::Hub;
use crate::workers::{Asker, Picture, Pictures, Pool, RunId, WorkError};

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
    colours: Colours,
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
        let Picture { width, height, colours, corrupt, bytes, .. } = picture;
        Made { width, height, colours, is_corrupt: corrupt, bytes }
    }
}

impl Made {
    fn with(self, mut caption: Caption) -> Frame {
        caption.is_damaged |= self.is_corrupt;
        let Made { width, height, colours, bytes, .. } = self;
        Frame { caption, width, height, colours, bytes }
    }
}

/// One of several pictures, or what stands in its place.
pub(crate) enum Given {
    Frame(Frame),
    Missing(Missing),
}

/// Pictures of a request as they are finished, in time order.
pub(crate) struct Stream {
    given: mpsc::Receiver<Result<Given, FramesError>>,
}

/// Where they are sent to. It takes no more when the client is gone.
type Out = mpsc::Sender<Result<Given, FramesError>>;

impl Stream {
    /// The next picture; none after the last. An error is the end.
    pub(crate) async fn next(&mut self) -> Option<Result<Given, FramesError>> {
        self.given.recv().await
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
        ask.check()?;
        let finder = Finder { hub: &self.hub, stream: ask.stream };
        let none = FramesError::NoMedia { asked: None, before: None, after: None };
        let picked = Picker::new(ask).next(finder).await.map_err(|missing| missing.error)?.ok_or(none)?;
        let key = key(&picked, ask.output);
        let making = async {
            let mut parts = parts(finder, vec![picked.clone()], ask.output, None).await?;
            let part = parts.pop_front().ok_or(damaged("a picture was forgotten"))?;
            Making::new(self.pool.submit(part.task(ask.asker, ask.output))?).wait_for(part.indices[0]).await
        };
        let made = self.made.get_or_insert_async(&key, making).await?;
        if made.bytes.len() > REMEMBERED_BYTES_MAX {
            self.made.remove(&key);
        }
        Ok(made.with(picked.caption()))
    }

    /// All pictures of a request.
    pub(crate) fn many(self: &Arc<Self>, ask: Ask) -> Stream {
        let (sender, given) = mpsc::channel(1);
        let this = self.clone();
        tokio::spawn(async move {
            let made = tokio::select! {
                made = this.make_all(&ask, &sender) => made,
                // The client is gone: what is under way is cancelled, and nothing more is looked for.
                () = sender.closed() => return,
            };
            if let Err(error) = made {
                // It may be gone by now, and then nobody wants to know.
                let _ = sender.send(Err(error)).await;
            }
        });
        Stream { given }
    }

    async fn make_all(&self, ask: &Ask, out: &Out) -> Result<(), FramesError> {
        ask.check()?;
        let finder = Finder { hub: &self.hub, stream: ask.stream };
        let mut way = Way {
            batches: Batches::new(Picker::new(ask)),
            parts: VecDeque::new(),
            last_run: None,
            steps: VecDeque::new(),
            ended: false,
        };
        loop {
            self.go_ahead(finder, &mut way, ask.asker, ask.output).await;
            let Some(step) = way.steps.pop_front() else { return Ok(()) };
            let is_there = match step {
                Step::End(error) => return Err(error),
                Step::Missing(missing) => hand_out_missing(missing, out).await,
                Step::Known { batch, known } => hand_out_known(batch, &known, out).await,
                Step::Under { part, pictures } => self.hand_out(part, pictures, ask.output, out).await?,
            };
            if !is_there {
                return Ok(());
            }
        }
    }

    /// Puts as much of a request under way as keeps all decoders at work, and as its pictures may take memory. What cannot be
    /// put under way is a step of its own: the pictures before it come first.
    async fn go_ahead(&self, finder: Finder<'_>, way: &mut Way, asker: Asker, output: Output) {
        // One more than there are decoders, so that none waits for us.
        let most = self.pool.width() + 1;
        let most_bytes = AHEAD_BYTES * most as u64;
        while !way.ended {
            let bytes: u64 = way.steps.iter().map(|step| step.bytes(output)).sum();
            if bytes + PART_BYTES > most_bytes && !way.steps.is_empty() {
                return;
            }
            let runs = way.steps.iter().enumerate().filter(|(at, step)| *at == 0 || !step.follows()).count();
            if runs >= most && !way.parts.front().is_some_and(|part| part.follows) {
                return;
            }
            let step = match way.parts.pop_front() {
                Some(part) => match self.submit_patiently(&part, asker, output).await {
                    Ok(pictures) => Step::Under { part, pictures },
                    Err(error) => Step::without(&part.batch, error),
                },
                None => match way.batches.next(finder).await {
                    None => return,
                    Some(Err(missing)) if missing.error.is_of_one() => Step::Missing(vec![missing]),
                    Some(Err(missing)) => Step::End(missing.error),
                    Some(Ok(batch)) => match self.remembered(&batch, output) {
                        Some(known) => Step::Known { batch, known },
                        // Where only some are, those in between are decoded anyway.
                        None => match parts(finder, batch.clone(), output, way.last_run).await {
                            Ok(parts) => {
                                way.last_run = parts.front().map(|part| part.run.id);
                                way.parts = parts;
                                continue;
                            }
                            Err(error) => Step::without(&batch, error),
                        },
                    },
                },
            };
            way.ended = matches!(step, Step::End(_));
            way.steps.push_back(step);
        }
    }

    /// The pictures of a batch that were made before, when all of them are remembered.
    fn remembered(&self, batch: &Batch, output: Output) -> Option<HashMap<usize, Made>> {
        let known = |picked: &Picked| Some((picked.shot, self.made.get(&key(picked, output))?));
        batch.iter().map(known).collect()
    }

    /// Submits a part of a request that has begun: its client has waited for its turn, and goes on waiting.
    async fn submit_patiently(&self, part: &Part, asker: Asker, output: Output) -> Result<Pictures, FramesError> {
        const PATIENCE: u32 = 100;
        for _ in 0..PATIENCE {
            match self.pool.submit(part.task(asker, output)) {
                Err(WorkError::Busy) => tokio::time::sleep(std::time::Duration::from_millis(100)).await,
                other => return Ok(other?),
            }
        }
        Err(WorkError::Busy.into())
    }

    /// Sends the pictures of a part on as they are made. False when the client is gone.
    ///
    /// # Errors
    /// What is the end of all pictures.
    async fn hand_out(&self, part: Part, pictures: Pictures, output: Output, out: &Out) -> Result<bool, FramesError> {
        let mut making = Making::new(pictures);
        let mut last: Option<(usize, Result<Made, FramesError>)> = None;
        for (picked, index) in part.batch.iter().zip(part.indices) {
            let made = match last.take().filter(|(before, _)| *before == index) {
                // Several instants may mean the same picture.
                Some((_, made)) => made,
                None => {
                    let made = making.wait_for(index).await;
                    if let Ok(made) = &made
                        && made.bytes.len() <= REMEMBERED_BYTES_MAX
                        && picked.reel.ordinal.is_some()
                    {
                        self.made.insert(key(picked, output), made.clone());
                    }
                    made
                }
            };
            last = Some((index, made.clone()));
            let given = match made {
                Ok(made) => Given::Frame(made.with(picked.caption())),
                Err(error) if error.is_of_one() => Given::Missing(picked.missing(error)),
                Err(error) => return Err(error),
            };
            if out.send(Ok(given)).await.is_err() {
                return Ok(false);
            }
        }
        Ok(true)
    }
}

/// Sends pictures on that were remembered. False when the client is gone.
async fn hand_out_known(batch: Batch, known: &HashMap<usize, Made>, out: &Out) -> bool {
    for (picked, made) in batch.iter().filter_map(|picked| Some((picked, known.get(&picked.shot)?))) {
        if out.send(Ok(Given::Frame(made.clone().with(picked.caption())))).await.is_err() {
            return false;
        }
    }
    true
}

/// Says which pictures there are not. False when the client is gone.
async fn hand_out_missing(missing: Vec<Missing>, out: &Out) -> bool {
    for missing in missing {
        if out.send(Ok(Given::Missing(missing))).await.is_err() {
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
    /// The last of the steps is the end.
    ended: bool,
}

/// A part of a request under way.
enum Step {
    /// Nothing follows.
    End(FramesError),
    Missing(Vec<Missing>),
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
    /// In place of the pictures of a batch.
    fn without(batch: &Batch, error: FramesError) -> Step {
        match error.is_of_one() {
            true => Step::Missing(batch.iter().map(|picked| picked.missing(error.clone())).collect()),
            false => Step::End(error),
        }
    }

    fn follows(&self) -> bool {
        matches!(self, Step::Under { part, .. } if part.follows)
    }

    /// Bytes that its pictures may take; those that are remembered are in memory anyway.
    fn bytes(&self, output: Output) -> u64 {
        match self {
            Step::Under { part, .. } => part.bytes(output),
            Step::End(_) | Step::Missing(_) | Step::Known { .. } => 0,
        }
    }
}

fn key(picked: &Picked, output: Output) -> Key {
    Key { run: picked.reel.run_id(), pts: picked.reel.shots[picked.shot].pts, output }
}

/// The pictures of a task under way.
struct Making {
    pictures: Pictures,
    /// Those that came before they were waited for.
    early: HashMap<usize, Made>,
    /// Why none comes any more.
    ended: Option<FramesError>,
}

impl Making {
    fn new(pictures: Pictures) -> Making {
        Making { pictures, early: HashMap::new(), ended: None }
    }

    /// Waits for one of them.
    ///
    /// # Errors
    /// Why it does not come; others may have come.
    async fn wait_for(&mut self, index: usize) -> Result<Made, FramesError> {
        loop {
            if let Some(made) = self.early.remove(&index) {
                return Ok(made);
            }
            if let Some(error) = &self.ended {
                return Err(error.clone());
            }
            match self.pictures.next().await {
                Some(Ok(picture)) => {
                    self.early.insert(picture.index, Made::from(picture));
                }
                Some(Err(error)) => self.ended = Some(error.into()),
                None => {
                    let text = "the picture cannot be decoded: it or what it depends on is damaged";
                    self.ended = Some(damaged(text));
                }
            }
        }
    }
}
