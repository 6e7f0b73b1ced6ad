//! The one place where media time and wall time meet.

use crate::{MediaTime, ProducerTime};

/// Where a producer time came from, best last.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
#[repr(u8)]
pub enum ClockSource {
    /// The time the first packet reached us.
    Arrival = 0,
    /// An RTCP sender report (RFC 3550 section 6.4.1).
    SenderReport = 1,
    /// A Matroska producer's timecodes.
    Matroska = 2,
    /// The `abs-capture-time` RTP header extension.
    AbsoluteCapture = 3,
}

impl ClockSource {
    /// The source with this stored number.
    pub fn from_u8(value: u8) -> Option<ClockSource> {
        [ClockSource::Arrival, ClockSource::SenderReport, ClockSource::Matroska, ClockSource::AbsoluteCapture]
            .into_iter()
            .find(|source| *source as u8 == value)
    }
}

/// "At this media time the producer's clock showed this", with its source and error bound.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Anchor {
    /// A point on the track's timeline.
    pub media: MediaTime,
    /// The producer's clock at that point.
    pub producer: ProducerTime,
    /// Where that came from.
    pub source: ClockSource,
    /// How far off it may be, in microseconds, either way.
    pub error_us: u32,
}

impl Anchor {
    /// The producer time at `ticks` of the same track.
    pub fn producer_time(&self, ticks: i64) -> ProducerTime {
        let away = self.media.timescale.to_micros(ticks.saturating_sub(self.media.ticks));
        self.producer.plus_micros(away)
    }

    /// The track's ticks at `time`.
    pub fn ticks(&self, time: ProducerTime) -> i64 {
        self.media.ticks.saturating_add(self.media.timescale.from_micros(time.micros_since(self.producer)))
    }
}
