//! One task for each way in which a stream is watched: its units, made into what viewers take where they must be, packed once,
//! on their way to all who watch that way.

use std::collections::HashMap;
use std::sync::Arc;

use media::{AccessUnit, RandomAccess, StreamId, Track, TrackId, TrackSet};
use tokio::sync::{Notify, mpsc};

use super::choose::Plan;
use super::pack::{Made, Packed, Packer};
use super::past::Past;
use crate::live::{Hub, LiveUnit, Next, UnitReader};
use crate::workers::{SharedTranscodes, Shown, Target, TranscodeSink, TranscodeSource, TranscodeViewer};

/// What a relay tells.
#[derive(Clone, Debug)]
pub(crate) enum Fed {
    /// The next unit.
    Unit(Arc<Packed>),
    /// Units were left out: what comes next does not continue what came.
    Skipped,
    /// Other tracks, or another publisher, from here on; key pictures are made when asked for, or not.
    Tracks { tracks: Arc<TrackSet>, makes_key_pictures: bool },
    /// The pictures cannot be shown, for this reason.
    Failed(&'static str),
    /// Nobody publishes; somebody may again.
    Idle,
    /// There is nothing more to come.
    Over,
}

const REORDERED: &str = "its pictures cannot be shown over WebRTC: others refer to pictures that are shown later";
const NOT_MADE: &str = "its pictures could not be made into H.264; the log says why";

/// Where units come from.
#[expect(clippy::large_enum_variant, reason = "one for each task")]
pub(crate) enum Units {
    Live(UnitReader),
    Past(Past),
}

impl Units {
    async fn next(&mut self) -> Next {
        match self {
            Units::Live(reader) => reader.next().await,
            Units::Past(past) => past.next().await,
        }
    }
}

/// A unit in another codec, and what its track is; no unit where some were left out.
type MadeUnit = (Option<Arc<AccessUnit>>, Option<Track>);

/// A track in another codec.
enum Other {
    /// Shared by all who watch the stream.
    Shared(TranscodeViewer),
    /// Of one who watches the past: fed by the relay.
    Own(TranscodeSink, TranscodeSource),
}

impl Other {
    /// The next unit, and the track it is of; none when no more come.
    async fn next(&mut self) -> Option<MadeUnit> {
        match self {
            Other::Shared(viewer) => match viewer.next().await? {
                Shown::Unit(unit) => Some((Some(unit), viewer.track())),
                Shown::Skipped => Some((None, None)),
            },
            Other::Own(_, source) => {
                let unit = match source.next().await? {
                    Ok(unit) => unit,
                    Err(error) => {
                        tracing::warn!(%error, "a viewer of the past goes on without a track");
                        return None;
                    }
                };
                let track = source.track().borrow().clone();
                Some((Some(unit), track))
            }
        }
    }
}

/// A track of the source.
struct Line {
    track: Track,
    /// None for what is not sent, or not known yet.
    packer: Option<Packer>,
    /// What is added to the track's time, in microseconds, for the clock that the session's tracks share.
    base_us: i64,
    is_made: bool,
}

/// The task.
pub(crate) struct Relay<K> {
    /// Goes out with all that is fed.
    pub key: K,
    pub hub: Arc<Hub>,
    pub stream: StreamId,
    pub plan: Plan,
    pub transcodes: Arc<SharedTranscodes>,
    /// Somebody needs a key picture.
    pub wanted: Arc<Notify>,
    pub out: mpsc::Sender<(K, Fed)>,
}

/// What it has at hand.
#[derive(Default)]
struct State {
    session: Option<u64>,
    tracks: Option<Arc<TrackSet>>,
    lines: HashMap<TrackId, Line>,
    pictures: Option<Other>,
    sound: Option<Other>,
}

enum Wake {
    Source(Next),
    Pictures(Option<MadeUnit>),
    Sound(Option<MadeUnit>),
    Wanted,
}

/// Nobody takes what is fed any more.
struct Gone;

impl<K: Copy> Relay<K> {
    /// Reads until there is nothing more to read or nobody takes what is read. When the taker is behind it waits here, and units
    /// that leave memory meanwhile are skipped.
    pub(crate) async fn run(self, mut units: Units) {
        let mut state = State::default();
        loop {
            let wake = tokio::select! {
                next = units.next() => Wake::Source(next),
                made = made(&mut state.pictures) => Wake::Pictures(made),
                made = made(&mut state.sound) => Wake::Sound(made),
                () = self.wanted.notified() => Wake::Wanted,
            };
            let went = match wake {
                Wake::Source(Next::Unit(unit)) => self.source(&mut state, &units, unit).await,
                Wake::Source(Next::Skipped) => self.tell(Fed::Skipped).await,
                Wake::Source(Next::Idle) => self.tell(Fed::Idle).await,
                Wake::Source(Next::Deleted) => {
                    // Who does not take it any more knows.
                    let _ = self.tell(Fed::Over).await;
                    return;
                }
                Wake::Pictures(made) => self.made(&mut state, made, true).await,
                Wake::Sound(made) => self.made(&mut state, made, false).await,
                Wake::Wanted => {
                    match &state.pictures {
                        Some(Other::Shared(viewer)) => viewer.want_key_frame(),
                        Some(Other::Own(sink, _)) => sink.keys().want_key_frame(),
                        None => self.hub.ask_for_key_picture(self.stream),
                    }
                    Ok(())
                }
            };
            if went.is_err() {
                return;
            }
        }
    }

    async fn tell(&self, fed: Fed) -> Result<(), Gone> {
        self.out.send((self.key, fed)).await.map_err(|_| Gone)
    }

    /// Takes a unit of the source.
    async fn source(&self, state: &mut State, units: &Units, live: Arc<LiveUnit>) -> Result<(), Gone> {
        let same =
            state.tracks.as_ref().is_some_and(|tracks| Arc::ptr_eq(tracks, &live.tracks) || *tracks == live.tracks);
        if !same || state.session != Some(live.session) {
            self.begin(state, units, &live).await?;
        }
        let Some(line) = state.lines.get_mut(&live.unit.track) else { return Ok(()) };
        line.base_us = live.shown_us - line.track.timescale.to_micros(live.unit.pts);
        if line.is_made {
            let own = if line.track.codec.is_video() { &state.pictures } else { &state.sound };
            if let Some(Other::Own(sink, _)) = own {
                sink.push(Arc::new(live.unit.clone()));
            }
            return Ok(());
        }
        let Some(packer) = &mut line.packer else { return Ok(()) };
        match packer.pack(live.session, live.shown_us, live.starts, &live.unit) {
            Made::Packed(packed) => self.tell(Fed::Unit(Arc::new(packed))).await,
            Made::LeftOut => Ok(()),
            Made::Reordered => self.tell(Fed::Failed(REORDERED)).await,
        }
    }

    /// Other tracks, or another publisher, from this unit on.
    async fn begin(&self, state: &mut State, units: &Units, live: &LiveUnit) -> Result<(), Gone> {
        let same = state.tracks.as_ref().is_some_and(|tracks| *tracks == live.tracks);
        state.session = Some(live.session);
        state.tracks = Some(live.tracks.clone());
        if !same {
            state.lines = live.tracks.tracks().iter().map(|track| (track.id, self.line(track))).collect();
            for track in live.tracks.tracks() {
                let Some(target) = self.plan.of(track.codec) else { continue };
                let other = self.other(track, target, units);
                if track.codec.is_video() { state.pictures = other } else { state.sound = other }
            }
        }
        let asks = match units {
            Units::Live(reader) => reader.sends_on_request(),
            Units::Past(_) => false,
        };
        let makes_key_pictures = asks || state.pictures.is_some();
        self.tell(Fed::Tracks { tracks: live.tracks.clone(), makes_key_pictures }).await
    }

    fn line(&self, track: &Track) -> Line {
        let is_made = self.plan.of(track.codec).is_some();
        let packer = if is_made { None } else { Packer::new(track) };
        Line { track: track.clone(), packer, base_us: 0, is_made }
    }

    /// The track in another codec; when that cannot be had viewers go without, and the log says why.
    fn other(&self, track: &Track, target: Target, units: &Units) -> Option<Other> {
        let made = match units {
            Units::Past(_) => self.transcodes.alone(track, target).map(|(sink, source)| Other::Own(sink, source)),
            Units::Live(_) => {
                let (hub, stream, wanted) = (self.hub.clone(), self.stream, track.clone());
                let feed = move |sink: TranscodeSink| async move {
                    let Ok(mut units) = hub.units(stream).await else { return };
                    loop {
                        let unit = match units.next().await {
                            Next::Unit(unit) => unit,
                            Next::Skipped | Next::Idle => continue,
                            Next::Deleted => return,
                        };
                        match unit.tracks.track(wanted.id) {
                            Some(track) if *track != wanted => return,
                            _ if unit.unit.track == wanted.id => sink.push(Arc::new(unit.unit.clone())),
                            _ => {}
                        }
                    }
                };
                self.transcodes.join(self.stream, track, target, feed).map(Other::Shared)
            }
        };
        let failed =
            |error| tracing::warn!(stream = %self.stream, track = %track.id, %error, "viewers go without a track");
        made.map_err(failed).ok()
    }

    /// Takes a unit in another codec.
    async fn made(&self, state: &mut State, made: Option<MadeUnit>, is_pictures: bool) -> Result<(), Gone> {
        let Some((unit, track)) = made else {
            let ended = if is_pictures { state.pictures.take() } else { state.sound.take() };
            let failed = match &ended {
                // One that ends with its source, as where the track changes, is followed by another.
                Some(Other::Shared(viewer)) => match viewer.ended() {
                    Some(Err(error)) => {
                        tracing::warn!(stream = %self.stream, %error, "viewers go on without a track");
                        true
                    }
                    Some(Ok(())) | None => false,
                },
                Some(Other::Own(..)) => true,
                None => false,
            };
            return if is_pictures && failed { self.tell(Fed::Failed(NOT_MADE)).await } else { Ok(()) };
        };
        let (Some(unit), Some(track)) = (unit, track) else {
            return if is_pictures { self.tell(Fed::Skipped).await } else { Ok(()) };
        };
        let Some(line) = state.lines.get_mut(&unit.track) else { return Ok(()) };
        if line.packer.is_none() {
            line.packer = Packer::new(&track);
        }
        let Some(packer) = &mut line.packer else { return Ok(()) };
        let shown_us = line.base_us + track.timescale.to_micros(unit.pts);
        let starts = is_pictures && unit.random_access != RandomAccess::No;
        match packer.pack(state.session.unwrap_or(0), shown_us, starts, &unit) {
            Made::Packed(packed) => self.tell(Fed::Unit(Arc::new(packed))).await,
            Made::LeftOut | Made::Reordered => Ok(()),
        }
    }
}

/// The next unit of a track in another codec; never when there is none.
async fn made(other: &mut Option<Other>) -> Option<MadeUnit> {
    match other {
        Some(other) => other.next().await,
        None => std::future::pending().await,
    }
}
