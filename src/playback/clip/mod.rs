//! Clips: a range of a stream as one MP4 file, sent as it is read, with the media as it is stored.
//!
//! What belongs here: which fragments a clip is made of ([`select`]), where it starts and ends and how its stretches are put
//! together ([`cut`]), the head and the places of a progressive file ([`progressive`]), a fragmented file of any length
//! ([`fragmented`]), what is heard where sound is missing ([`silence`]), and the bytes in order ([`body`]).
//!
//! Not here: routes, headers and byte ranges (`doors::http::v1::clip`), how boxes are written (`media::container`).
//!
//! # Rules
//!
//! 1. A clip of `[from, to)` presents the pictures that were taken in it, from the first picture taken at `from` or later to the end
//!    of the last one taken before `to`; where none was taken inside, the one that is shown at `from`. Its first picture is at time
//!    zero. Without pictures, sound takes their part.
//! 2. The media starts at the random access point from which the first picture can be decoded; an edit list hides what is before the
//!    first picture, and behind the last, of every track alike.
//! 3. Times of all tracks are moved by the same amount, so that sound and picture stay in step. Where media is missing the
//!    stretches are put behind each other (`gaps=close`): the next begins when the last track of the one before has ended, and the
//!    track that ended sooner pauses until then. With `gaps=keep` they stay as far apart as they were. A pause of sound between
//!    two stretches is filled with coded silence, where its codec's is known.
//! 4. Only fragments that are on disk, and that the credential may see as a whole, are taken.
//! 5. A description of samples that changes is described anew (several sample entries) where players take that: for pictures of the
//!    same codec. Any other change of tracks is refused, with the ranges that can be asked for one by one.
//! 6. A body that cannot be read to its end breaks off: it is never short without saying so.

mod body;
mod cut;
mod fragmented;
#[cfg(any(test, fuzzing))]
pub(crate) mod fuzz;
mod progressive;
mod select;
mod silence;
#[cfg(test)]
mod tests;

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, PoisonError};

use media::{FragmentInfo, Position, ProducerTime, StreamId};
use store::StoreError;
use tokio::sync::Semaphore;

use super::hls::SpanClock;
use crate::live::Hub;
use fragmented::Film;
use progressive::Plan;

/// Longest range of a progressive file, microseconds: its head has a line for each sample.
pub(crate) const PROGRESSIVE_MAX_US: i64 = 3_600_000_000;

/// A range of a stream that somebody wants as a file.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub(crate) struct Request {
    /// Microseconds of `clock`, `[from, to)`.
    pub from_us: i64,
    pub to_us: i64,
    pub clock: SpanClock,
    pub gaps: Gaps,
    pub audio: Audio,
}

/// What becomes of the time in which nothing was recorded.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Default)]
pub(crate) enum Gaps {
    #[default]
    Close,
    Keep,
}

/// Which tracks are wanted.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Default)]
pub(crate) enum Audio {
    /// Sound and pictures.
    #[default]
    Keep,
    /// Sound alone.
    Only,
    /// Pictures alone.
    None,
}

/// Who asks.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Asker {
    pub stream: StreamId,
    /// Whether retention ever took something of the stream.
    pub was_trimmed: bool,
    /// The producer times that the credential may see. None means all.
    pub allowed: Option<(ProducerTime, ProducerTime)>,
}

/// Why there is no clip.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ClipError {
    /// Nothing was recorded there.
    #[error("no media here")]
    NoMedia,
    /// Media there was deleted; `earliest` is the first that is left, if anything.
    #[error("media was deleted here")]
    Gone { earliest: Option<Box<FragmentInfo>> },
    /// There is media, and none that was asked for and that MP4 can hold.
    #[error("nothing that was asked for can be put into an MP4 file; the stream has {codecs}")]
    NotPlayable { codecs: String },
    /// The tracks change so that one file cannot have them all.
    #[error("the tracks change in this range")]
    TracksChange { ranges: Vec<SameTracks> },
    /// The credential may not see these times.
    #[error("the credential does not reach these times")]
    OutsideRange,
    /// More than a progressive file's head may list.
    #[error("the range has too many fragments or samples for a progressive file")]
    TooLong,
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// A part of a range in which the tracks are the same: `[from_us, to_us)` of the clock of the request.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct SameTracks {
    pub from_us: i64,
    pub to_us: i64,
    /// For people.
    pub tracks: String,
}

/// A clip that is ready to be sent.
#[derive(Clone, Debug)]
pub(crate) struct Clip {
    stream: StreamId,
    form: Form,
}

#[derive(Clone, Debug)]
enum Form {
    Progressive(Arc<Plan>),
    Fragmented(Arc<Film>),
}

impl Clip {
    /// Bytes of the file.
    pub(crate) fn len(&self) -> u64 {
        match &self.form {
            Form::Progressive(plan) => plan.len,
            Form::Fragmented(film) => film.len,
        }
    }

    /// The same for the same file, in every life of the server; quotes included.
    pub(crate) fn etag(&self) -> &str {
        match &self.form {
            Form::Progressive(plan) => &plan.etag,
            Form::Fragmented(film) => &film.etag,
        }
    }

    /// When the first picture was taken, in microseconds of the clock that was asked for.
    pub(crate) fn start_us(&self) -> i64 {
        match &self.form {
            Form::Progressive(plan) => plan.start_us,
            Form::Fragmented(film) => film.start_us,
        }
    }

    /// Whether there are pictures in it.
    pub(crate) fn has_video(&self) -> bool {
        match &self.form {
            Form::Progressive(plan) => plan.has_video,
            Form::Fragmented(film) => film.has_video,
        }
    }
}

/// What a plan was made of. All of it is compared: what one credential may see is never sent for another.
#[derive(PartialEq)]
struct PlanKey {
    stream: StreamId,
    request: Request,
    /// Position and bytes of every fragment in it.
    fragments: Box<[(Position, u32)]>,
}

/// Clips of all streams.
pub(crate) struct Clips {
    hub: Arc<Hub>,
    /// The newest plans: a player asks for one file in many parts.
    plans: Mutex<VecDeque<(PlanKey, Arc<Plan>)>>,
    planning: Semaphore,
}

/// Plans remembered, and their bytes together; and plans made at once, each of which may take some ten megabytes while it is made.
const PLANS_MAX: usize = 16;
const PLANS_BYTES_MAX: usize = 64 << 20;
const PLANNING_MAX: usize = 4;

impl Clips {
    pub(crate) fn new(hub: Arc<Hub>) -> Clips {
        Clips { hub, plans: Mutex::default(), planning: Semaphore::new(PLANNING_MAX) }
    }

    /// The progressive file of a range of at most [`PROGRESSIVE_MAX_US`].
    ///
    /// # Errors
    /// See [`ClipError`].
    pub(crate) async fn progressive(&self, asker: Asker, request: Request) -> Result<Clip, ClipError> {
        let chosen = select::choose(&self.hub, asker, request).await?;
        let fragments = chosen.fragments.iter().map(|one| (one.info.position, one.info.body_len)).collect();
        let key = PlanKey { stream: asker.stream, request, fragments };
        if let Some(plan) = self.remembered(&key) {
            return Ok(Clip { stream: asker.stream, form: Form::Progressive(plan) });
        }
        let _permit = self.planning.acquire().await.expect("the semaphore is never closed");
        let plan = Arc::new(progressive::plan(&self.hub, asker.stream, request, chosen).await?);
        self.remember(key, &plan);
        Ok(Clip { stream: asker.stream, form: Form::Progressive(plan) })
    }

    /// The fragmented file of a range of any length.
    ///
    /// # Errors
    /// See [`ClipError`].
    pub(crate) async fn fragmented(&self, asker: Asker, request: Request) -> Result<Clip, ClipError> {
        let _permit = self.planning.acquire().await.expect("the semaphore is never closed");
        let film = fragmented::plan(&self.hub, asker, request).await?;
        Ok(Clip { stream: asker.stream, form: Form::Fragmented(Arc::new(film)) })
    }

    fn remembered(&self, key: &PlanKey) -> Option<Arc<Plan>> {
        let plans = self.plans.lock().unwrap_or_else(PoisonError::into_inner);
        plans.iter().find(|(of, _)| of == key).map(|(_, plan)| plan.clone())
    }

    fn remember(&self, key: PlanKey, plan: &Arc<Plan>) {
        let mut plans = self.plans.lock().unwrap_or_else(PoisonError::into_inner);
        plans.retain(|(of, _)| *of != key);
        plans.push_back((key, plan.clone()));
        let held = |key: &PlanKey, plan: &Plan| size_of_val(&*key.fragments) + plan.bytes_held();
        let mut bytes: usize = plans.iter().map(|(key, plan)| held(key, plan)).sum();
        while plans.len() > PLANS_MAX || bytes > PLANS_BYTES_MAX {
            let Some((key, oldest)) = plans.pop_front() else { break };
            bytes -= held(&key, &oldest);
        }
    }
}
