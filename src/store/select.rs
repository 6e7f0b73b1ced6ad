//! How readers name a part of a stream, and what they get.

use media::{FragmentInfo, Ordinal, Position, ProducerTime, ServerTime, StreamId};

/// Which fragments of a stream; every answer is in stream order.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Select {
    /// Those whose producer span `[producer_time, producer_end)` meets `[from, to)`.
    Producer(ProducerTime, ProducerTime),
    /// Those whose server span meets `[from, to)`.
    Server(ServerTime, ServerTime),
    /// Those after this position; all for the default position.
    After(Position),
    /// Those with `from <= ordinal < to`.
    Ordinals(Ordinal, Ordinal),
}

/// Where a stored fragment's body lies.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct Place {
    /// The stream.
    pub stream: StreamId,
    /// Position of the first fragment of its block: the block's name.
    pub block: Position,
    /// Byte offset of the fragment's body (after the `uuid` header) in the block file.
    pub body_offset: u64,
}

/// How far a stream is to be dropped.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Expiry {
    /// The last position that goes. Positions decide, never times: those stand still after a clock was set back.
    pub through: Position,
    /// When the media that goes ends, for people.
    pub ends: ServerTime,
}

/// A persisted fragment.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Stored {
    /// What it is.
    pub info: FragmentInfo,
    /// Where its bytes are.
    pub place: Place,
}

/// What to drop so that the volume has room again.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Reclaim {
    /// Which streams, how far.
    pub drops: Vec<(StreamId, Expiry)>,
    /// That is not enough, and what could still go is the minimum that streams keep.
    pub keeps_minimum: bool,
    /// The same, half way to the hard watermark.
    pub is_pressing: bool,
}
