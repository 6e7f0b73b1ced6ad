//! Access units of H.264: where they part, and what they are.

use super::{AUD, IDR, PPS, SEI, SLICE, SPS};
use crate::RandomAccess;
use crate::codec::CodecError;
use crate::codec::bits::BitReader;

/// What a NAL unit is for finding where access units part (section 7.4.1.2.3).
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Boundary {
    /// The first slice of a picture: a new access unit when the one before has a picture.
    FirstSlice,
    /// A further slice of the picture.
    NextSlice,
    /// Comes before the first slice of its access unit: a new one when the one before has a picture.
    Before,
    /// Belongs to the access unit that is open.
    Within,
}

/// Where `nal` stands in its access unit; an empty one stands within.
pub fn boundary(nal: &[u8]) -> Boundary {
    match nal.first().map(|head| head & 0x1f) {
        Some(SLICE | 2 | IDR) => match BitReader::new(&nal[1..]).ue() {
            Ok(0) => Boundary::FirstSlice,
            _ => Boundary::NextSlice,
        },
        Some(SEI..=AUD | 14..=18) => Boundary::Before,
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
    /// Sequence parameter sets in it; at most 32 are kept.
    pub sps: Vec<&'a [u8]>,
    /// Picture parameter sets in it; at most 256 are kept.
    pub pps: Vec<&'a [u8]>,
}

/// Classifies an access unit: IDR starts closed, an I picture with a recovery point here starts open, any other with a recovery
/// point is the beginning of a gradual refresh.
pub fn classify<'a>(nals: impl Iterator<Item = &'a [u8]>) -> Classified<'a> {
    let mut unit = Classified::default();
    let (mut idr, mut intra, mut referred, mut recovery) = (false, true, false, None);
    for nal in nals {
        let Some(head) = nal.first() else { continue };
        match head & 0x1f {
            kind @ (SLICE | 2 | IDR) => {
                unit.has_picture = true;
                idr |= kind == IDR;
                referred |= head & 0x60 != 0;
                intra &= is_intra_slice(nal);
            }
            SEI => recovery = recovery.or_else(|| recovery_point(&nal[1..])),
            SPS if unit.sps.len() < 32 => unit.sps.push(nal),
            PPS if unit.pps.len() < 256 => unit.pps.push(nal),
            _ => {}
        }
    }
    unit.disposable = unit.has_picture && !referred;
    unit.random_access = match recovery {
        _ if !unit.has_picture => RandomAccess::No,
        _ if idr => RandomAccess::Closed,
        // The code of a count of 0 is its first bit.
        Some(first) if intra && first & 0x80 != 0 => RandomAccess::Open,
        Some(_) => RandomAccess::Gradual,
        None => RandomAccess::No,
    };
    unit
}

fn is_intra_slice(nal: &[u8]) -> bool {
    let mut bits = BitReader::new(&nal[1..]);
    bits.ue().is_ok() && matches!(bits.ue(), Ok(2 | 4 | 7 | 9))
}

/// The first byte of the recovery point in an SEI NAL unit without its header (ITU-T H.264 sections 7.3.2.3.1 and D.1.8, H.265
/// section D.2.8): it begins with the exp-Golomb code of the frames until recovery.
pub(in crate::codec) fn recovery_point(payload: &[u8]) -> Option<u8> {
    const RECOVERY_POINT: u32 = 6;
    let mut bits = BitReader::new(payload);
    let varied = |bits: &mut BitReader<'_>| -> Result<u32, CodecError> {
        let mut sum = 0u32;
        loop {
            let byte = bits.bits(8)?;
            sum = sum.saturating_add(byte);
            if byte != 255 {
                return Ok(sum);
            }
        }
    };
    while bits.remaining() > 16 {
        let (kind, size) = (varied(&mut bits).ok()?, varied(&mut bits).ok()?);
        if kind == RECOVERY_POINT {
            return bits.bits(8).ok().map(|byte| byte as u8);
        }
        if size as usize > payload.len() || bits.skip(size * 8).is_err() {
            return None;
        }
    }
    None
}
