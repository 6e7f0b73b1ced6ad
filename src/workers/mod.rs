//! Decoder processes: how many there are, who gets which job, and what becomes of those that die; and processes that make a
//! live track into another codec, one each, shared by all who view it.
//!
//! ```text
//!   frames --Task--> Pool: a bounded queue --> one thread a decoder --socket, shared memory--> kinora-decoder
//!                                                    \--> Picture, Picture, ... --> who asked
//! ```
//!
//! A decoder keeps its place in the runs that it decoded last, and gets the tasks that go on there. One that crashes, hangs,
//! takes too much time or memory is killed and replaced; its task is tried once more, and then answered with an error.
//!
//! Not here: which pictures are wanted (`frames`), decoding (`decoder`), the messages (`media::decoding`, `media::transcoding`), who
//! needs another codec (`playback`).

mod buffers;
mod feed;
mod memory;
mod meters;
mod pool;
mod process;
mod program;
mod shared;
mod shared_transcodes;
mod transcode;

use std::sync::Arc;

use bytes::Bytes;
use media::decoding::{FailureKind, Output, Setup};
use media::planes::Colours;
use media::{Position, StreamId};

pub(crate) use meters::describe as describe_metrics;
pub(crate) use pool::{Pictures, Pool, PoolSettings};
pub(crate) use shared_transcodes::{LINGER, SharedTranscodes, Shown, Viewer as TranscodeViewer};
pub(crate) use transcode::{Sink as TranscodeSink, Source as TranscodeSource, Target, TranscodeSettings, Transcodes};

/// Names a run of coded pictures. Runs with the same name begin with the same units: one may have more of them.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub(crate) struct RunId {
    pub stream: StreamId,
    /// The fragment it starts with.
    pub start: Position,
    /// Of pictures in no closed fragment: how many the session had before, since their times are not final.
    pub open: Option<u64>,
    /// It begins with leading pictures although what they are made of is not there.
    pub leads: bool,
}

/// A coded picture.
#[derive(Clone, Debug)]
pub(crate) struct CodedPicture {
    /// When it is shown, in nanoseconds on the run's own timeline; no two pictures of a run have the same.
    pub shown_ns: u64,
    /// No other picture needs it.
    pub disposable: bool,
    pub data: Bytes,
}

/// Coded pictures in decode order, of which the first can be decoded alone.
#[derive(Debug)]
pub(crate) struct Run {
    pub id: RunId,
    pub setup: Arc<Setup>,
    pub pictures: Vec<CodedPicture>,
}

/// Somebody who asks for pictures: a credential, as a number.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Default)]
pub(crate) struct Asker(pub u64);

/// Pictures of one run that somebody wants.
#[derive(Clone, Debug)]
pub(crate) struct Task {
    /// For whom: decoders are shared evenly between those who ask, however much each asks for.
    pub asker: Asker,
    pub run: Arc<Run>,
    /// Which pictures of the run, ascending.
    pub wanted: Vec<usize>,
    pub output: Output,
    /// Its pictures come after those of a task that was submitted before it: the decoder that has that one has this one,
    /// too, and decodes nothing twice.
    pub follows: bool,
}

/// A finished picture.
#[derive(Clone, Debug)]
pub(crate) struct Picture {
    /// Which picture of the run it is.
    pub index: usize,
    pub width: u32,
    pub height: u32,
    /// What the numbers of its planes mean, where it is planes.
    pub colours: Colours,
    /// The decoder says that parts of it are made up.
    pub corrupt: bool,
    /// As the task's output says; planes are as long as its width and height make them.
    pub bytes: Bytes,
}

/// Why there is no picture.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
pub(crate) enum WorkError {
    /// As many tasks wait as may.
    #[error("too many pictures are being made; try again in a moment")]
    Busy,
    /// The program that decodes cannot be started.
    #[error("pictures cannot be made: {0}")]
    NoProgram(String),
    /// It died or hung, twice.
    #[error("the decoder failed on this media: {0}")]
    Died(&'static str),
    /// It says that it cannot.
    #[error("{text}")]
    Refused { kind: FailureKind, text: String },
    #[error("the server is stopping")]
    Stopping,
}
