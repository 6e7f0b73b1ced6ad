//! A closed fragment: what it is ([`FragmentInfo`]) and its bytes ([`Fragment`]).

use std::sync::Arc;

use bytes::Bytes;

use crate::ids::Position;
use crate::{ClockSource, Ordinal, ProducerTime, ServerTime, TrackId, TrackSet, TrackSetId};

/// How a fragment starts.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[repr(u8)]
pub enum StartKind {
    /// At a closed random access point: SAP type 1.
    Closed = 1,
    /// At an open one, with leading pictures that need what came before: SAP type 3.
    Open = 3,
    /// Cut at the maximum length: it needs the fragment before it.
    Dependent = 0,
}

impl StartKind {
    /// The kind with this stored number.
    pub fn from_u8(value: u8) -> Option<StartKind> {
        [StartKind::Closed, StartKind::Open, StartKind::Dependent].into_iter().find(|kind| *kind as u8 == value)
    }
}

/// Why media does not continue what was before it. The span between the two, if any, is a gap with this reason.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
#[repr(u8)]
pub enum GapReason {
    /// The first fragment of the stream.
    Started = 1,
    /// The publisher went away and a publisher came back.
    PublisherLeft = 2,
    /// The server was stopped in order.
    ServerStopped = 3,
    /// The server was killed, crashed or lost power.
    ServerCrashed = 4,
    /// Parameters of a track changed, or a track came or went.
    TracksChanged = 5,
    /// The producer's clock or the packets' timestamps jumped.
    TimeJumped = 6,
    /// The volume was full.
    DiskFull = 7,
    /// The disk was slower than the feed for longer than memory allowed.
    Overload = 8,
    /// The disk refused to write.
    StorageError = 9,
    /// Stored bytes were damaged and are not served.
    Damaged = 10,
}

impl GapReason {
    /// The reason with this stored number.
    pub fn from_u8(value: u8) -> Option<GapReason> {
        use GapReason::*;
        [
            Started,
            PublisherLeft,
            ServerStopped,
            ServerCrashed,
            TracksChanged,
            TimeJumped,
            DiskFull,
            Overload,
            StorageError,
            Damaged,
        ]
        .into_iter()
        .find(|reason| *reason as u8 == value)
    }

    /// Its name on the wire and in documents.
    pub fn as_str(self) -> &'static str {
        match self {
            GapReason::Started => "started",
            GapReason::PublisherLeft => "publisher_left",
            GapReason::ServerStopped => "server_stopped",
            GapReason::ServerCrashed => "server_crashed",
            GapReason::TracksChanged => "tracks_changed",
            GapReason::TimeJumped => "time_jumped",
            GapReason::DiskFull => "disk_full",
            GapReason::Overload => "overload",
            GapReason::StorageError => "storage_error",
            GapReason::Damaged => "damaged",
        }
    }
}

/// Everything that a playlist, a list or an index needs to know of a fragment without its bytes.
///
/// This is what a block's `uuid` header and the packed index hold.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct FragmentInfo {
    /// Its place in the stream's order.
    pub position: Position,
    /// Its dense count in the stream.
    pub ordinal: Ordinal,
    /// Discontinuities in the stream up to and including this fragment's own `break_before`
    /// (the stream's first fragment counts none): what
    /// EXT-X-DISCONTINUITY-SEQUENCE counts.
    pub discontinuities: u64,
    /// The track set its samples belong to.
    pub track_set: TrackSetId,
    /// How it starts.
    pub start: StartKind,
    /// Why it does not continue the fragment before it; none when it does.
    pub break_before: Option<GapReason>,
    /// The publisher ended after it.
    pub end_of_session: bool,
    /// Something was lost inside it: pictures until the next random access point may be damaged.
    pub damaged: bool,
    /// The producer's clock at the first presentation time of the leading track.
    pub producer_time: ProducerTime,
    /// Where `producer_time` came from.
    pub clock_source: ClockSource,
    /// How far off it may be, in microseconds.
    pub clock_error_us: u32,
    /// Our clock when its first access unit arrived; never goes back within a stream.
    pub server_time: ServerTime,
    /// Presentation length of the leading track, in microseconds.
    pub duration_us: u64,
    /// Its tracks that have samples, in id order.
    pub tracks: Vec<FragmentTrack>,
    /// Length in bytes of all its `moof` and `mdat` boxes together.
    pub body_len: u32,
}

impl FragmentInfo {
    /// The part of `track`, if it has samples here.
    pub fn track(&self, track: TrackId) -> Option<&FragmentTrack> {
        self.tracks.iter().find(|part| part.track == track)
    }

    /// The producer's clock at the end of the fragment.
    pub fn producer_end(&self) -> ProducerTime {
        self.producer_time.plus_micros(i64::try_from(self.duration_us).unwrap_or(i64::MAX))
    }

    /// Our clock at the end of the fragment, taking its length as given.
    pub fn server_end(&self) -> ServerTime {
        self.server_time.plus_micros(i64::try_from(self.duration_us).unwrap_or(i64::MAX))
    }
}

/// One track's `moof` and `mdat` inside a fragment.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct FragmentTrack {
    /// The track.
    pub track: TrackId,
    /// Where its `moof` starts, in bytes from the start of the fragment's body (the `uuid` header excluded).
    pub offset: u32,
    /// Length of its `moof` box.
    pub moof_len: u32,
    /// Length of `moof` and `mdat` together.
    pub len: u32,
    /// Count of samples.
    pub samples: u32,
    /// Decode time of the first sample on the stream's timeline, in ticks of the track: the `tfdt`.
    pub first_dts: i64,
    /// Smallest presentation time on the stream's timeline, in ticks of the track.
    pub first_pts: i64,
    /// Sum of the sample durations, in ticks of the track.
    pub duration: u64,
}

/// A closed fragment with its bytes: immutable, shared, and final. What is stored is what is served.
#[derive(Clone, Debug)]
pub struct Fragment {
    /// What it is.
    pub info: FragmentInfo,
    /// The set its tracks belong to.
    pub tracks: Arc<TrackSet>,
    /// `moof mdat` per track with samples, in track id order, one after another.
    pub body: Bytes,
}
