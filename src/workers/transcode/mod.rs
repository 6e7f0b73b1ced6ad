//! Tracks in another codec, made while they are live: AAC as Opus, and pictures as H.264 that every browser plays.
//!
//! ```text
//!   Sink --> a bounded queue --> one task --socket--> kinora-decoder transcode
//!                                     \--> Source: units of the other codec, in order
//! ```
//!
//! Each transcode has a process of its own, which is killed when either end is dropped. One that crashes or hangs is
//! replaced once, and what was inside is lost; when the next one fails, too, the transcode ends with the reason.
//! Nobody waits: when the process is behind, the oldest units are left out, of pictures up to the next key frame.
//!
//! Not here: that several viewers use one transcode ([`super::shared`]), the messages (`media::transcoding`), the work
//! (`decoder`), who must have another codec (`playback`).

mod inlet;
mod line;
mod run;

use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use media::codec::{aac, entry, opus};
use media::decoding::{self, FailureKind, PictureCodec};
use media::transcoding::Setup;
use media::{AccessUnit, Codec, Track};
use tokio::sync::{Notify, OwnedSemaphorePermit, Semaphore, mpsc, watch};

use super::meters::TranscodeMeters;
use inlet::Inlet;

/// What a track is made into.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub(crate) enum Target {
    /// Opus at 48 kHz, packets of 20 ms, 1 or 2 channels.
    Opus,
    /// H.264 constrained baseline, no B pictures, a key frame each 2 s and on request, up to 1080p.
    H264,
}

/// Why there is no transcode, or no more of it.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
pub(crate) enum TranscodeError {
    /// The configuration does not allow it.
    #[error("pictures are not transcoded here: webrtc.transcode is off")]
    Off,
    /// As many run as may.
    #[error("as many streams are transcoded as may be; try again later")]
    TooMany,
    /// The track cannot be made into that.
    #[error("failed to transcode: {0}")]
    NotPossible(&'static str),
    /// The program that does it cannot be started.
    #[error("failed to transcode: {0}")]
    NoProgram(String),
    /// It died or hung, again and again.
    #[error("the process that transcodes failed on this media: {0}")]
    Died(&'static str),
    /// It says that it cannot.
    #[error("failed to transcode: {text}")]
    Refused { kind: FailureKind, text: String },
}

/// How transcodes are run.
#[derive(Clone, Debug)]
pub(crate) struct TranscodeSettings {
    /// The program `kinora-decoder`.
    pub program: PathBuf,
    /// Where GStreamer keeps what it knows of its plug-ins.
    pub registry: PathBuf,
    /// Whether pictures may be transcoded, too.
    pub pictures: bool,
    /// Most of them at a time, counted in tracks of sound; see [`weight`].
    pub most: usize,
    /// A process that did nothing for so long though it had something to do is hung.
    pub patience: Duration,
}

/// What a track counts against the limit, in tracks of sound.
///
/// Measured: a second of sound takes 5 to 6.4 ms of a core, a megapixel of pictures 6 ms: 180 ms a second for 1280x720 and 390 ms for
/// 1920x1080, at 30 pictures a second.
pub(crate) fn weight(source: &Track, target: Target) -> usize {
    match target {
        Target::Opus => 1,
        Target::H264 => {
            let rate = u64::from(source.frame_rate_millis.unwrap_or(30_000).clamp(5_000, 240_000));
            let pixels = u64::from(source.width) * u64::from(source.height) * rate / 1000;
            usize::try_from(pixels.div_ceil(1_000_000)).unwrap_or(usize::MAX).max(1)
        }
    }
}

/// Starts transcodes, up to a limit.
pub(crate) struct Transcodes {
    settings: TranscodeSettings,
    seats: Arc<Semaphore>,
    meters: Arc<TranscodeMeters>,
}

impl Transcodes {
    pub(crate) fn new(settings: TranscodeSettings) -> Transcodes {
        let seats = Arc::new(Semaphore::new(settings.most.min(Semaphore::MAX_PERMITS)));
        Transcodes { settings, seats, meters: Arc::new(TranscodeMeters::new()) }
    }

    /// Starts to make `target` of `source`, in a process that is started meanwhile. Call it within a runtime.
    ///
    /// # Errors
    /// When the configuration does not allow it, as many run as may, or the track cannot be made into that.
    pub(crate) fn start(&self, source: &Track, target: Target) -> Result<(Sink, Source), TranscodeError> {
        if target == Target::H264 && !self.settings.pictures {
            return Err(TranscodeError::Off);
        }
        let setup = setup(source, target)?;
        let seat = self.seat(weight(source, target))?;
        let track = match target {
            Target::Opus => {
                let made = opus::track(source.id, opus_channels(source));
                Some(made.map_err(|_| TranscodeError::NotPossible("its channels"))?)
            }
            Target::H264 => None,
        };
        let inlet = Arc::new(Shared::new(target));
        // One unit in all: what is not taken waits before the process, where it can be left out.
        let (units, outlet) = mpsc::channel(1);
        let (track_in, track) = watch::channel(track);
        let run = run::Run::new(
            self.settings.clone(),
            setup,
            (source.id, target),
            inlet.clone(),
            units,
            track_in,
            self.meters.clone(),
        );
        let over = Over(inlet.clone());
        tokio::spawn(async move {
            let _over = over;
            run.run().await;
            drop(seat);
        });
        Ok((Sink { shared: inlet, meters: self.meters.clone() }, Source { outlet, track }))
    }

    fn seat(&self, weight: usize) -> Result<OwnedSemaphorePermit, TranscodeError> {
        // The largest may run when nothing else does.
        let weight = u32::try_from(weight.min(self.settings.most).max(1)).unwrap_or(u32::MAX);
        self.seats.clone().try_acquire_many_owned(weight).map_err(|_| {
            self.meters.turned_away.increment(1);
            TranscodeError::TooMany
        })
    }
}

fn opus_channels(source: &Track) -> u16 {
    source.channels.clamp(1, 2)
}

/// What the process must know of a track.
fn setup(source: &Track, target: Target) -> Result<Setup, TranscodeError> {
    let unreadable = |_| TranscodeError::NotPossible("its codec configuration cannot be read");
    let of_box = |kind: &[u8; 4]| {
        let parsed = entry::parse(&source.sample_entry).map_err(unreadable)?;
        parsed.child(entry::VISUAL_HEAD, kind).map(<[u8]>::to_vec).map_err(unreadable)
    };
    let timescale = source.timescale.hz();
    let pictures = |codec, config: Vec<u8>| Setup::Pictures {
        source: decoding::Setup {
            stream: 0,
            codec,
            config,
            width: source.width,
            height: source.height,
            has_holes: false,
        },
        timescale,
        frame_rate_millis: source.frame_rate_millis.unwrap_or(0),
    };
    match (source.codec, target) {
        (Codec::Aac, Target::Opus) => {
            let config = aac::config_of_entry(&source.sample_entry).map_err(unreadable)?;
            Ok(Setup::Sound { config: config.to_vec(), timescale, channels: opus_channels(source) as u8 })
        }
        (Codec::H264, Target::H264) => Ok(pictures(PictureCodec::H264, of_box(b"avcC")?)),
        (Codec::H265, Target::H264) => Ok(pictures(PictureCodec::H265, of_box(b"hvcC")?)),
        (_, Target::Opus) => Err(TranscodeError::NotPossible("only AAC is made into Opus")),
        (_, Target::H264) => Err(TranscodeError::NotPossible("only H.264 and H.265 are made into H.264")),
    }
}

/// What both ends know.
struct Shared {
    inlet: Mutex<Inlet>,
    /// Something was put in.
    wake: Notify,
    /// Something was taken, or nothing will be any more.
    room: Notify,
    /// The number of the process; 0 while there is none.
    pid: AtomicU32,
    /// Nothing will be taken any more.
    over: AtomicBool,
}

impl Shared {
    fn new(target: Target) -> Shared {
        Shared {
            inlet: Mutex::new(Inlet::new(target)),
            wake: Notify::new(),
            room: Notify::new(),
            pid: AtomicU32::new(0),
            over: AtomicBool::new(false),
        }
    }

    fn lock(&self) -> MutexGuard<'_, Inlet> {
        self.inlet.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Says that nothing is taken any more, whatever ended the task.
struct Over(Arc<Shared>);

impl Drop for Over {
    fn drop(&mut self) {
        self.0.over.store(true, Ordering::Release);
        self.0.room.notify_one();
    }
}

/// The end that takes units of the source. When it is dropped, what is inside is let out, and the transcode ends.
pub(crate) struct Sink {
    shared: Arc<Shared>,
    meters: Arc<TranscodeMeters>,
}

impl Sink {
    /// Gives the next unit, in decode order. Never waits: when too many wait, the oldest are left out.
    pub(crate) fn push(&self, unit: Arc<AccessUnit>) {
        let dropped = self.shared.lock().push(unit);
        self.meters.left_out.increment(dropped);
        self.shared.wake.notify_one();
    }

    /// Gives the next unit when the process has come that far: for tests, which give all that there is at once.
    #[cfg(test)]
    pub(crate) async fn push_when_there_is_room(&self, unit: Arc<AccessUnit>) {
        loop {
            let changed = self.shared.room.notified();
            if self.shared.over.load(Ordering::Acquire) || self.shared.lock().has_room() {
                return self.push(unit);
            }
            changed.await;
        }
    }

    /// What asks for key frames, apart from the sink.
    pub(crate) fn keys(&self) -> Keys {
        Keys(self.shared.clone())
    }
}

impl Drop for Sink {
    fn drop(&mut self) {
        self.shared.lock().end();
        self.shared.wake.notify_one();
    }
}

/// Asks for key frames of pictures; does nothing for sound.
#[derive(Clone)]
pub(crate) struct Keys(Arc<Shared>);

impl Keys {
    /// One of the next pictures is to be a key frame: several requests within half a second are one.
    pub(crate) fn want_key_frame(&self) {
        self.0.lock().want_key();
    }
}

/// The end that gives units of the other codec. When it is dropped, the process is killed.
pub(crate) struct Source {
    outlet: mpsc::Receiver<Result<Arc<AccessUnit>, TranscodeError>>,
    track: watch::Receiver<Option<Track>>,
}

impl Source {
    /// The next unit, in the order in which units are shown; none after the last, or after an error. May be dropped and called
    /// again.
    ///
    /// The unit has the id of the source's track, and times in ticks of [`Source::track`] on the source's timeline.
    pub(crate) async fn next(&mut self) -> Option<Result<Arc<AccessUnit>, TranscodeError>> {
        self.outlet.recv().await
    }

    /// The track that comes out: of Opus at once, of H.264 before its first unit.
    pub(crate) fn track(&self) -> watch::Receiver<Option<Track>> {
        self.track.clone()
    }
}

#[cfg(test)]
pub(super) mod tests;
