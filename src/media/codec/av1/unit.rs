//! Temporal units: whether decoding can start at one, and whether others need it.

use super::sequence::{Frames, Sequence};
use super::{FRAME, FRAME_HEADER, Obu, SEQUENCE_HEADER, obus};
use crate::RandomAccess;
use crate::codec::CodecError;
use crate::codec::bits::BitReader;

/// `frame_type` of a key frame.
const KEY: u32 = 0;
/// `frame_type` of an intra-only frame.
const INTRA_ONLY: u32 = 2;
/// `frame_type` of a switch frame.
const SWITCH: u32 = 3;

/// What a temporal unit says.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Classified<'a> {
    /// Closed when its first frame is a key frame that is shown, and a sequence header comes before it (ISO binding, section 2.5).
    pub random_access: RandomAccess,
    /// Nothing that comes later needs it.
    pub disposable: bool,
    /// Payload of its first sequence header.
    pub sequence_header: Option<&'a [u8]>,
}

/// Reads a temporal unit in the low-overhead format; `sequence` is what it is to be read with unless it brings its own.
/// What is cut says no more than what comes before.
pub fn classify<'a>(unit: &'a [u8], sequence: Option<&Sequence>) -> Classified<'a> {
    let mut found = Classified::default();
    let mut own = None;
    let mut frames = 0;
    let mut disposable = true;
    for obu in obus(unit).map_while(Result::ok) {
        match obu.kind {
            SEQUENCE_HEADER if found.sequence_header.is_none() => {
                found.sequence_header = Some(obu.payload);
                own = Sequence::parse(obu.payload).ok();
            }
            FRAME | FRAME_HEADER => {
                let header = own.as_ref().or(sequence).and_then(|sequence| Header::read(&obu, &sequence.frames).ok());
                disposable &= header == Some(Header::Disposable);
                if frames == 0 && header == Some(Header::Key) && found.sequence_header.is_some() {
                    found.random_access = RandomAccess::Closed;
                }
                frames += 1;
            }
            _ => {}
        }
    }
    found.disposable = disposable && frames > 0;
    found
}

/// What the beginning of a frame header says (section 5.9.2).
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Header {
    /// A key frame that is shown.
    Key,
    /// Replaces no reference frame, and is shown.
    Disposable,
    Other,
}

impl Header {
    fn read(obu: &Obu<'_>, frames: &Frames) -> Result<Header, CodecError> {
        if frames.is_reduced {
            return Ok(Header::Key);
        }
        let mut bits = BitReader::plain(obu.payload);
        if bits.bit()? {
            // Shows a frame that is there; a key frame would become all references.
            return Ok(Header::Other);
        }
        let (kind, is_shown) = (bits.bits(2)?, bits.bit()?);
        if kind == KEY && is_shown {
            return Ok(Header::Key);
        }
        if kind == SWITCH || !is_shown {
            return Ok(Header::Other);
        }
        if let Some(count) = frames.presentation_time_bits {
            bits.skip(count)?;
        }
        let is_resilient = bits.bit()?;
        bits.skip(1)?; // disable_cdf_update
        let has_screen_content_tools = match frames.screen_content_tools {
            Some(forced) => forced,
            None => bits.bit()?,
        };
        if has_screen_content_tools && frames.integer_mv.is_none() {
            bits.skip(1)?;
        }
        bits.skip(frames.frame_id_bits.unwrap_or(0))?;
        bits.skip(1 + frames.order_hint_bits)?; // frame_size_override_flag
        if kind != INTRA_ONLY && !is_resilient {
            bits.skip(3)?; // primary_ref_frame
        }
        if frames.has_decoder_model && bits.bit()? {
            // Buffer removal times, as many as operating points apply.
            return Ok(Header::Other);
        }
        Ok(if bits.bits(8)? == 0 { Header::Disposable } else { Header::Other })
    }
}
