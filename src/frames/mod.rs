//! Pictures at instants: which one is meant, where its coded bytes are, and how it comes out of a decoder.
//!
//! ```text
//!   Ask --picker--> reel and shot --batch--> one Task a group of pictures --workers--> Frame, Frame, ...
//! ```
//!
//! A *reel* is a fragment's pictures with their times, closed or still open; a *shot* is one of them. Instants are looked
//! up in time order, neighbours that are decoded together are read at once and become tasks of a few pictures that one
//! decoder does one after another, and so many such groups are under way as there are decoders, so that a long request is
//! streamed as it is decoded and waits for its client without holding a decoder.
//!
//! Not here: decoding and making files (`workers`, `decoder`), parameters and headers (`doors::http::v1::frames`).

mod allowed;
mod batch;
mod find;
mod make;
mod picker;
mod reel;
mod run;

use bytes::Bytes;
use media::decoding::{FailureKind, Output};
use media::planes::Colours;
use media::{ClockSource, FragmentNumber, ProducerTime, StreamId, Timescale};
use store::StoreError;

use allowed::Allowed;
pub(crate) use make::{Frames, Given, Stream};

use crate::workers::{Asker, WorkError};

/// Which picture an instant means.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Default)]
pub(crate) enum Pick {
    /// The one on screen then.
    #[default]
    Shown,
    /// The last one at or before it, however old.
    Previous,
    /// The first one at or after it, however far.
    Next,
    /// Whichever of the two is nearer.
    Nearest,
    /// The key frame nearest to it: one picture to decode instead of many.
    Key,
}

/// Which pictures are wanted.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) enum Which {
    /// One an instant, in time order.
    At(std::sync::Arc<[ProducerTime]>, Pick),
    /// The newest there is, of the open fragment too.
    Latest,
    /// One every so many microseconds of `[from, to)`, where there is media; a picture is not given twice.
    Every { from: ProducerTime, to: ProducerTime, step_us: i64, pick: Pick },
    /// All of `[from, to)`.
    All { from: ProducerTime, to: ProducerTime },
    /// The key frames of `[from, to)`.
    Keys { from: ProducerTime, to: ProducerTime },
}

/// A request for pictures.
#[derive(Clone, Debug)]
pub(crate) struct Ask {
    /// Who asks: decoders are shared evenly between askers.
    pub asker: Asker,
    pub stream: StreamId,
    pub which: Which,
    pub output: Output,
    /// The producer times that the credential may see; none means all.
    pub allowed: Option<(ProducerTime, ProducerTime)>,
}

/// What is known of a picture besides its bytes.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct Caption {
    /// The instant that it answers; none for ranges without one.
    pub asked: Option<ProducerTime>,
    /// When it was taken, by the producer's clock.
    pub time: ProducerTime,
    /// Where that time came from.
    pub clock_source: ClockSource,
    /// How far off it may be, in microseconds.
    pub clock_error_us: u32,
    /// On the stream's timeline, in ticks of `timescale`.
    pub pts: i64,
    pub timescale: Timescale,
    /// The fragment it is in.
    pub fragment: FragmentNumber,
    /// Decoding can start at it.
    pub is_key: bool,
    /// It is the picture on screen at the asked instant; true where no instant was asked for.
    pub is_exact: bool,
    /// Something it is made of was lost.
    pub is_damaged: bool,
}

/// A finished picture.
#[derive(Clone, Debug)]
pub(crate) struct Frame {
    pub caption: Caption,
    pub width: u32,
    pub height: u32,
    /// What the numbers of its planes mean, where it is planes.
    pub colours: Colours,
    /// As [`Output::format`] says.
    pub bytes: Bytes,
}

/// Of several pictures one that cannot be had, or all of a fragment that nobody can look into.
#[derive(Clone, Debug)]
pub(crate) struct Missing {
    /// The instant that it would have answered; none for ranges without one.
    pub asked: Option<ProducerTime>,
    /// When it was taken, as far as it is known which one it is; of a fragment, its beginning.
    pub time: Option<ProducerTime>,
    /// Of a fragment, its end.
    pub until: Option<ProducerTime>,
    pub error: FramesError,
}

impl Missing {
    /// What answers an instant in place of a picture.
    fn at(asked: ProducerTime, error: FramesError) -> Missing {
        Missing { asked: Some(asked), time: None, until: None, error }
    }
}

impl From<FramesError> for Missing {
    fn from(error: FramesError) -> Missing {
        Missing { asked: None, time: None, until: None, error }
    }
}

/// Why there is no picture.
#[derive(Clone, Debug, thiserror::Error)]
pub(crate) enum FramesError {
    /// Nothing was recorded then; the times of the pictures on both sides, if there are any.
    #[error("nothing is recorded at this time")]
    NoMedia { asked: Option<ProducerTime>, before: Option<ProducerTime>, after: Option<ProducerTime> },
    /// It was recorded, and deleted since.
    #[error("this media was deleted")]
    Gone { earliest: Option<ProducerTime> },
    /// The credential may not see these times.
    #[error("the credential does not reach the times of this media")]
    OutsideRange,
    /// There is media, and no pictures in it that are decoded here.
    #[error("the stream has no pictures that can be decoded; it has {codecs}")]
    NoPictures { codecs: String },
    /// It depends on more media than is decoded at once.
    #[error("the picture depends on too much media before it: the camera sends key frames too rarely")]
    TooLong,
    #[error(transparent)]
    Work(#[from] WorkError),
    #[error("{0}")]
    Store(std::sync::Arc<StoreError>),
}

impl FramesError {
    /// Whether it says nothing of other pictures of the same request. Everything else is the end of all of them.
    fn is_of_one(&self) -> bool {
        match self {
            FramesError::NoMedia { asked, .. } => asked.is_some(),
            // What is outside as a whole is refused before there are any.
            FramesError::OutsideRange => true,
            FramesError::Gone { .. } | FramesError::NoPictures { .. } | FramesError::TooLong => true,
            FramesError::Work(WorkError::Died(_) | WorkError::Refused { .. }) => true,
            FramesError::Work(WorkError::Busy | WorkError::NoProgram(_) | WorkError::Stopping) => false,
            FramesError::Store(error) => matches!(**error, StoreError::Damaged { .. }),
        }
    }
}

impl Ask {
    /// Refuses what asks for times that the credential may not see.
    fn check(&self) -> Result<(), FramesError> {
        Allowed(self.allowed).check(&self.which)
    }
}

impl From<StoreError> for FramesError {
    fn from(error: StoreError) -> FramesError {
        match error {
            StoreError::Gone => FramesError::Gone { earliest: None },
            other => FramesError::Store(std::sync::Arc::new(other)),
        }
    }
}

/// A stored fragment that says what cannot be.
fn damaged(text: impl std::fmt::Display) -> FramesError {
    FramesError::Work(WorkError::Refused { kind: FailureKind::Damaged, text: text.to_string() })
}
