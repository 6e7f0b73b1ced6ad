//! One transcode for all viewers of a stream.
//!
//! The first viewer starts it, and brings what feeds it; the others read along. It goes on for [`LINGER`] after the last one left,
//! for those who reload a page, and ends when its source does.
//!
//! How it is fed: `feed` is given a [`Sink`] and returns a future, which reads the source's units from wherever they come and
//! pushes each, for as long as the track stays what it is:
//!
//! ```text
//!   join(stream, &track, Target::Opus, |sink| async move {
//!       while let Some(unit) = units.next().await { sink.push(unit) }
//!   })
//! ```
//!
//! When it returns, what is inside is let out and readers see the end. When the last viewer has left, it is dropped.

use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use media::{AccessUnit, RandomAccess, StreamId, Track, TrackId};
use tokio::sync::watch;

use super::shared::{Reader, Seen, Shares};
use super::transcode::{Keys, Sink, Source, Target, TranscodeError, Transcodes};

/// How long a transcode goes on after its last viewer left.
pub(crate) const LINGER: Duration = Duration::from_secs(5);

/// Which transcode. The sample entry is in it: a track that changed is another, and viewers of before end with it.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
struct Key {
    stream: StreamId,
    track: TrackId,
    sample_entry: Bytes,
    target: Target,
}

/// What each viewer must know of a transcode.
#[derive(Clone)]
struct Known {
    track: watch::Receiver<Option<Track>>,
    keys: Keys,
}

type Outcome = Result<(), TranscodeError>;

/// Transcodes that viewers share.
pub(crate) struct SharedTranscodes {
    transcodes: Transcodes,
    shares: Shares<Key, Known, Arc<AccessUnit>, Outcome>,
}

/// What a viewer is given.
#[derive(Clone, Debug)]
pub(crate) enum Shown {
    Unit(Arc<AccessUnit>),
    /// The viewer was too slow: units are missing before the next one, which is a key frame.
    Skipped,
}

/// One viewer of a transcode.
pub(crate) struct Viewer {
    reader: Reader<Known, Arc<AccessUnit>, Outcome>,
    /// Nothing is shown before decoding can start.
    needs_start: bool,
    /// Units are missing, and nobody was told.
    missed: bool,
}

impl SharedTranscodes {
    pub(crate) fn new(transcodes: Transcodes, linger: Duration) -> SharedTranscodes {
        SharedTranscodes { transcodes, shares: Shares::new(linger) }
    }

    /// A transcode for one viewer alone, who feeds it.
    ///
    /// # Errors
    /// As [`Transcodes::start`].
    pub(crate) fn alone(&self, source: &Track, target: Target) -> Result<(Sink, Source), TranscodeError> {
        self.transcodes.start(source, target)
    }

    /// One more viewer of `source` as `target`. `feed` is used when nobody has started it: see the head of this file.
    ///
    /// Call it within a runtime.
    ///
    /// # Errors
    /// As [`Transcodes::start`].
    pub(crate) fn join<F>(
        &self,
        stream: StreamId,
        source: &Track,
        target: Target,
        feed: impl FnOnce(Sink) -> F,
    ) -> Result<Viewer, TranscodeError>
    where
        F: Future<Output = ()> + Send + 'static,
    {
        let key = Key { stream, track: source.id, sample_entry: source.sample_entry.clone(), target };
        let mut is_first = false;
        let reader = self.shares.join(&key, |sender| {
            is_first = true;
            let (sink, mut units) = self.transcodes.start(source, target)?;
            let known = Known { track: units.track(), keys: sink.keys() };
            let feeding = feed(sink);
            let work = async move {
                let pass_on = async {
                    while let Some(unit) = units.next().await {
                        // Nobody reads while the last viewer has left and none has come back.
                        let _ = sender.send(unit?);
                    }
                    Ok(())
                };
                // The end of the source lets out what is inside before the units end.
                until_first_ends(pass_on, feeding).await
            };
            Ok((known, work))
        })?;
        if !is_first {
            reader.state.keys.want_key_frame();
        }
        Ok(Viewer { reader, needs_start: true, missed: false })
    }
}

/// Runs both; over when `first` is, with its outcome.
async fn until_first_ends<T>(first: impl Future<Output = T>, second: impl Future<Output = ()>) -> T {
    let mut first = std::pin::pin!(first);
    tokio::select! {
        outcome = &mut first => outcome,
        () = second => first.await,
    }
}

impl Viewer {
    /// What comes next; none when the transcode ended: [`Viewer::ended`] says how. May be dropped and called again.
    pub(crate) async fn next(&mut self) -> Option<Shown> {
        loop {
            match self.reader.next().await {
                Seen::End => return None,
                Seen::Missed(_) => {
                    (self.needs_start, self.missed) = (true, true);
                    self.reader.state.keys.want_key_frame();
                }
                Seen::Unit(unit) if self.needs_start && unit.random_access == RandomAccess::No => {}
                Seen::Unit(unit) => {
                    self.needs_start = false;
                    return Some(Shown::Unit(unit));
                }
            }
            if std::mem::take(&mut self.missed) {
                return Some(Shown::Skipped);
            }
        }
    }

    /// The track that comes out: of Opus at once, of H.264 before the first unit.
    pub(crate) fn track(&self) -> Option<Track> {
        self.reader.state.track.borrow().clone()
    }

    /// The viewer needs a key frame: its network lost something.
    pub(crate) fn want_key_frame(&self) {
        self.reader.state.keys.want_key_frame();
    }

    /// How the transcode ended: well, with its source, or with an error. None while it runs.
    pub(crate) fn ended(&self) -> Option<Result<(), TranscodeError>> {
        self.reader.ended().cloned()
    }
}

#[cfg(test)]
mod tests;
