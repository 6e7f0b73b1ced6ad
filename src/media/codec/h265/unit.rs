//! Access units of H.265: where they part, and what they are.

use super::{AUD, PPS, SPS, VPS, nal_type};
use crate::RandomAccess;
pub use crate::codec::h264::Boundary;
use crate::codec::h264::recovery_point;

/// `nal_unit_type` of supplemental enhancement information that stands before its picture.
const SEI: u8 = 39;

fn layer(nal: &[u8]) -> u8 {
    (nal[0] & 1) << 5 | nal[1] >> 3
}

fn temporal_id(nal: &[u8]) -> u8 {
    (nal[1] & 7).saturating_sub(1)
}

/// Where `nal` stands in its access unit (section 7.4.2.4.4); one without a whole header stands within.
pub fn boundary(nal: &[u8]) -> Boundary {
    match nal_type(nal) {
        0..=31 if layer(nal) == 0 => match nal.get(2) {
            Some(byte) if byte & 0x80 != 0 => Boundary::FirstSlice,
            _ => Boundary::NextSlice,
        },
        VPS..=AUD | 39 | 41..=44 | 48..=55 if layer(nal) == 0 => Boundary::Before,
        _ => Boundary::Within,
    }
}

/// What the NAL units of an access unit say together.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Classified<'a> {
    /// Whether decoding can start here.
    pub random_access: RandomAccess,
    /// No other picture refers to it.
    pub disposable: bool,
    /// It has at least one slice.
    pub has_picture: bool,
    /// Video parameter sets in it; at most 16 are kept.
    pub vps: Vec<&'a [u8]>,
    /// Sequence parameter sets in it; at most 16 are kept.
    pub sps: Vec<&'a [u8]>,
    /// Picture parameter sets in it; at most 64 are kept.
    pub pps: Vec<&'a [u8]>,
}

/// Classifies an access unit: IDR starts closed, CRA and BLA start open, any other with a recovery point is the beginning of a
/// gradual refresh. A picture is disposable when it is a
/// sub-layer non-reference of the sub-layer `top_temporal_id` or above (see [`Config::top_temporal_id`]): lower
/// ones may be referred to from above.
pub fn classify<'a>(nals: impl Iterator<Item = &'a [u8]>, top_temporal_id: u8) -> Classified<'a> {
    let mut unit = Classified { disposable: true, ..Classified::default() };
    let mut recovers = false;
    for nal in nals {
        let kind = nal_type(nal);
        if kind == 63 || layer(nal) != 0 {
            continue;
        }
        match kind {
            0..=31 => {
                unit.has_picture = true;
                unit.disposable &= kind < 16 && kind.is_multiple_of(2) && temporal_id(nal) >= top_temporal_id;
                match kind {
                    19 | 20 => unit.random_access = RandomAccess::Closed,
                    16..=18 | 21 => unit.random_access = RandomAccess::Open,
                    _ => {}
                }
            }
            SEI => recovers |= recovery_point(&nal[2..]).is_some(),
            VPS if unit.vps.len() < 16 => unit.vps.push(nal),
            SPS if unit.sps.len() < 16 => unit.sps.push(nal),
            PPS if unit.pps.len() < 64 => unit.pps.push(nal),
            _ => {}
        }
    }
    unit.disposable &= unit.has_picture;
    if unit.has_picture && recovers && unit.random_access == RandomAccess::No {
        unit.random_access = RandomAccess::Gradual;
    }
    unit
}
