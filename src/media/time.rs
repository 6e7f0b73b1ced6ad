//! Two kinds of time that never add: media time, which a track counts in its own ticks, and wall
//! time, which is microseconds since the epoch. They meet in [`crate::Anchor`] alone.

use std::fmt;
use std::num::NonZeroU32;

/// Ticks per second of a track: 90,000 for video, the sample rate for audio.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Timescale(NonZeroU32);

impl Timescale {
    /// The timescale of every video track (RFC 6184 section 5.1 and the block format).
    pub const VIDEO: Timescale = Timescale(NonZeroU32::new(90_000).expect("not zero"));
    /// Milliseconds.
    pub const MILLIS: Timescale = Timescale(NonZeroU32::new(1_000).expect("not zero"));
    /// Microseconds.
    pub const MICROS: Timescale = Timescale(NonZeroU32::new(1_000_000).expect("not zero"));

    /// A timescale of `hz` ticks per second; none for zero.
    pub const fn new(hz: u32) -> Option<Timescale> {
        match NonZeroU32::new(hz) {
            Some(hz) => Some(Timescale(hz)),
            None => None,
        }
    }

    /// Ticks per second.
    pub const fn hz(self) -> u32 {
        self.0.get()
    }

    /// `ticks` of this timescale in microseconds, rounded towards negative infinity.
    pub fn to_micros(self, ticks: i64) -> i64 {
        rescale(ticks, self, Timescale::MICROS)
    }

    /// `micros` in ticks of this timescale, rounded towards negative infinity.
    pub fn from_micros(self, micros: i64) -> i64 {
        rescale(micros, Timescale::MICROS, self)
    }
}

impl fmt::Debug for Timescale {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}Hz", self.0)
    }
}

/// Converts ticks between timescales, rounding towards negative infinity and saturating at the ends
/// of `i64`.
pub fn rescale(ticks: i64, from: Timescale, to: Timescale) -> i64 {
    let wide = i128::from(ticks) * i128::from(to.hz());
    let value = wide.div_euclid(i128::from(from.hz()));
    i64::try_from(value).unwrap_or(if value < 0 { i64::MIN } else { i64::MAX })
}

/// A point or a span on a track's timeline: ticks with their rate inside.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct MediaTime {
    /// Count of ticks; negative before the origin.
    pub ticks: i64,
    /// The rate of the ticks.
    pub timescale: Timescale,
}

impl MediaTime {
    /// `ticks` of `timescale`.
    pub const fn new(ticks: i64, timescale: Timescale) -> MediaTime {
        MediaTime { ticks, timescale }
    }

    /// The same time in microseconds.
    pub fn micros(self) -> i64 {
        self.timescale.to_micros(self.ticks)
    }
}

macro_rules! wall_time {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        #[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
        pub struct $name(i64);

        impl $name {
            /// The time `micros` microseconds after the Unix epoch.
            pub const fn from_micros(micros: i64) -> Self {
                Self(micros)
            }

            /// Microseconds since the Unix epoch.
            pub const fn micros(self) -> i64 {
                self.0
            }

            /// This time moved by `micros` (negative: earlier), saturating.
            pub const fn plus_micros(self, micros: i64) -> Self {
                Self(self.0.saturating_add(micros))
            }

            /// Microseconds from `earlier` to this time, saturating; negative when it is later.
            pub const fn micros_since(self, earlier: Self) -> i64 {
                self.0.saturating_sub(earlier.0)
            }
        }

        impl std::fmt::Debug for $name {
            fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                write!(f, "{}us", self.0)
            }
        }
    };
}

wall_time! {
    /// When the producer says a picture was taken: the clock of the camera or encoder.
    ProducerTime
}

wall_time! {
    /// When this server took a packet or wrote a record: our own clock.
    ServerTime
}
