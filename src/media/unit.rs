//! The access unit: what every way in hands to a publisher.

use bytes::Bytes;

use crate::{ServerTime, TrackId};

/// Whether decoding can start at an access unit.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum RandomAccess {
    /// It needs pictures before it.
    #[default]
    No,
    /// Decoding starts here and nothing after refers to before (IDR; every audio unit): SAP type 1.
    Closed,
    /// Decoding starts here, but leading pictures that follow refer to before and are skipped
    /// (H.265 CRA and BLA, H.264 recovery point): SAP type 3.
    Open,
    /// Decoding may start here, and what comes out is right some frames later: H.264 and H.265 recovery points with a count
    /// (gradual refresh), SAP type 4. Only a stream that has nothing better starts here.
    Gradual,
}

impl RandomAccess {
    /// Whether the unit itself is decoded right when decoding starts at it: what fragments are cut at.
    pub fn is_exact(self) -> bool {
        matches!(self, RandomAccess::Closed | RandomAccess::Open)
    }
}

/// One coded picture or audio frame, in decode order.
#[derive(Clone, Debug)]
pub struct AccessUnit {
    /// The track it belongs to.
    pub track: TrackId,
    /// When it is shown, in ticks of the track, on the session's own timeline: extended past wraps,
    /// starting anywhere.
    pub pts: i64,
    /// How long it lasts in ticks where the codec says so (audio); none for pictures.
    pub duration: Option<u32>,
    /// Whether decoding can start here.
    pub random_access: RandomAccess,
    /// No other unit refers to it (H.264 `nal_ref_idc` 0, H.265 sub-layer non-reference of the top layer).
    pub disposable: bool,
    /// Units or packets known to be lost just before it; 0 when none.
    pub loss_before: u32,
    /// When its last byte reached us.
    pub arrival: ServerTime,
    /// The bytes as sent: length-prefixed NAL units (4-byte lengths) for H.264 and H.265.
    pub data: Bytes,
}
