//! What goes into a fragmenter beside units, and what comes out beside fragments.

use std::sync::Arc;
use std::time::Duration;

use crate::{
    DropReason, Epoch, Fragment, GapReason, Ordinal, ProducerTime, Sequence, ServerTime, TrackSet, TrackSetId,
};

/// Stream time, in microseconds, at which a new stream starts: decode times lie before presentation times
/// and must not be negative.
pub const FIRST_STREAM_TIME_US: i64 = 10_000_000;

/// Where fragments are cut.
#[derive(Clone, Copy, Debug)]
pub struct Settings {
    /// A fragment is cut at the first random access point after this much media. Default 1 s.
    pub min: Duration,
    /// A fragment is cut here whatever comes. Default 10 s.
    pub max: Duration,
    /// Length of the fragments of a stream without pictures. Default 2 s.
    pub audio: Duration,
    /// How long the first fragments of a session with several tracks wait for the sender reports that
    /// say how the tracks lie to each other. Default 4 s.
    pub settle: Duration,
    /// Bytes of payload that wait to be closed before a fragment is cut whatever comes. Default 48 MiB.
    pub bytes: usize,
}

impl Default for Settings {
    fn default() -> Settings {
        Settings {
            min: Duration::from_secs(1),
            max: Duration::from_secs(10),
            audio: Duration::from_secs(2),
            settle: Duration::from_secs(4),
            bytes: 48 << 20,
        }
    }
}

/// Which clock is believed: the stream's `producer_clock`.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum ClockPolicy {
    /// Sender reports within 2 s of their arrival; else arrival.
    #[default]
    Auto,
    /// Sender reports, whatever they say.
    Trust,
    /// Arrival.
    Arrival,
}

/// Where a stream goes on: all that a session must know of the ones before it.
#[derive(Clone, Debug)]
pub struct Continuation {
    /// The store's epoch.
    pub epoch: Epoch,
    /// Sequence of the next fragment within the epoch; the first of an epoch is 1.
    pub next_sequence: Sequence,
    /// Ordinal of the next fragment.
    pub next_ordinal: Ordinal,
    /// Discontinuities so far.
    pub discontinuities: u64,
    /// The newest track set.
    pub track_set: Option<(TrackSetId, Arc<TrackSet>)>,
    /// The id that the next new track set gets.
    pub next_track_set: TrackSetId,
    /// End of the stream's timeline so far, in microseconds: [`FIRST_STREAM_TIME_US`] for a new stream.
    pub end_us: i64,
    /// `server_time` of the last fragment.
    pub last_server_time: Option<ServerTime>,
    /// The producer's clock at the end of the last fragment.
    pub last_producer_end: Option<ProducerTime>,
    /// Why the next fragment does not continue the last one.
    pub reason: GapReason,
}

impl Continuation {
    /// The beginning of a stream that has nothing yet.
    pub fn new_stream(epoch: Epoch) -> Continuation {
        Continuation {
            epoch,
            next_sequence: Sequence(1),
            next_ordinal: Ordinal(0),
            discontinuities: 0,
            track_set: None,
            next_track_set: TrackSetId(1),
            end_us: FIRST_STREAM_TIME_US,
            last_server_time: None,
            last_producer_end: None,
            reason: GapReason::Started,
        }
    }
}

/// What became of a unit.
#[derive(Debug, Default)]
#[must_use]
pub struct Pushed {
    /// Fragments that closed, in stream order: mostly none, sometimes one, rarely more.
    pub closed: Vec<Fragment>,
    /// Why the unit was not taken; none when it was.
    pub dropped: Option<DropReason>,
}
