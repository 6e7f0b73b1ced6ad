//! Time, tracks, access units, fragments and containers.
//!
//! Everything here is pure: bytes and numbers in, bytes and numbers out. No I/O, no async, no clock.
//!
//! Not here: where bytes are kept (`store`), who sends them (`ingest`), how they arrive on a wire
//! (`protocol`).

pub mod anchor;
pub mod codec;
pub mod container;
pub mod decoding;
pub mod dropped;
pub mod fragment;
pub mod fragmenter;
#[cfg(any(test, fuzzing))]
pub mod fuzz;
pub mod ids;
mod message;
pub mod planes;
pub mod time;
pub mod track;
pub mod transcoding;
pub mod unit;

pub use anchor::{Anchor, ClockSource};
pub use dropped::{DropReason, Dropped};
pub use fragment::{Fragment, FragmentInfo, FragmentTrack, GapReason, StartKind};
pub use ids::{Epoch, FragmentNumber, Ordinal, Position, Sequence, StreamId, StreamName, TrackId, TrackSetId};
pub use time::{MediaTime, ProducerTime, ServerTime, Timescale};
pub use track::{Codec, Track, TrackSet};
pub use unit::{AccessUnit, RandomAccess};
