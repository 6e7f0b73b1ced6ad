//! Codec headers: parameter sets in, [`Track`]s and facts about access units out.
//!
//! Each codec has a constructor of a track from what a wire gives (parameter sets, configuration), and
//! [`track_from_sample_entry`] is the inverse for a stored sample entry. All input is taken as hostile: every read
//! is bounded and every size is checked against the limits below.
//!
//! Not here: decoding pictures or sound, RTP payload formats (`protocol`), and the boxes around a sample entry
//! ([`crate::container`]).

pub mod aac;
pub mod av1;
pub mod bits;
pub mod entry;
pub mod g711;
pub mod h264;
pub mod h265;
pub mod nal;
pub mod opaque;
pub mod opus;
pub mod silence;
pub mod vp8;
pub mod vp9;
mod vpc;

use bytes::Bytes;

use crate::{Codec, Timescale, Track, TrackId};

/// Most bytes of an access unit, and of a NAL unit in it.
pub const MAX_ACCESS_UNIT_BYTES: usize = 8 << 20;
/// Most pixels of a picture's side.
pub const MAX_SIDE: u32 = 8192;
/// Most pixels of a picture.
pub const MAX_PIXELS: u64 = 36 << 20;
/// Most pictures per second, in thousandths.
pub const MAX_FRAME_RATE_MILLIS: u64 = 240_000;
/// Most bytes of one parameter set or codec configuration: its length is stored in 16 bits.
pub const MAX_PARAMETER_SET_BYTES: usize = u16::MAX as usize;

/// Why bytes do not describe a track.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
pub enum CodecError {
    /// The bytes end before what they announce.
    #[error("codec header ends too early")]
    Truncated,
    /// A value that the codec's standard does not allow.
    #[error("codec header is malformed: {0}")]
    Malformed(&'static str),
    /// Allowed by the codec, not done here.
    #[error("codec feature is not supported: {0}")]
    Unsupported(&'static str),
    /// A parameter set that decoding needs is not there.
    #[error("parameter set is missing: {0}")]
    Missing(&'static str),
    /// A picture beyond [`MAX_SIDE`] or [`MAX_PIXELS`].
    #[error("picture of {width}x{height} is larger than 8192x8192 or 36 megapixels")]
    TooLarge {
        /// Pixels of a row as coded.
        width: u64,
        /// Rows as coded.
        height: u64,
    },
}

/// A frame rate in thousandths; none when it is 0, or too high to be more than the fineness of a clock.
fn believable_rate(millis: u64) -> Option<u32> {
    (1..=MAX_FRAME_RATE_MILLIS).contains(&millis).then_some(millis as u32)
}

/// Refuses pictures beyond the limits, and empty ones.
fn check_size(width: u64, height: u64) -> Result<(), CodecError> {
    if width == 0 || height == 0 {
        return Err(CodecError::Malformed("picture without pixels"));
    }
    if width > u64::from(MAX_SIDE) || height > u64::from(MAX_SIDE) || width * height > MAX_PIXELS {
        return Err(CodecError::TooLarge { width, height });
    }
    Ok(())
}

/// The track whose whole stored sample entry box is `entry`.
///
/// Reads what the constructors of this module write, for every codec, and the opaque `kino` entry. The box is kept
/// as it is.
///
/// # Errors
/// When the box is cut, of a kind that we never write, or describes something beyond the limits.
pub fn track_from_sample_entry(id: TrackId, timescale: Timescale, entry: Bytes) -> Result<Track, CodecError> {
    let parsed = entry::parse(&entry)?;
    let mut track = match &parsed.kind {
        b"avc1" => h264::read_entry(id, &parsed)?,
        b"hvc1" => h265::read_entry(id, &parsed)?,
        b"vp08" => vp8::read_entry(id, &parsed)?,
        b"vp09" => vp9::read_entry(id, &parsed)?,
        b"av01" => av1::read_entry(id, &parsed)?,
        b"mp4a" => aac::read_entry(id, &parsed)?,
        b"Opus" => opus::read_entry(id, &parsed)?,
        b"ulaw" => g711::track(id, g711::Law::Mu),
        b"alaw" => g711::track(id, g711::Law::A),
        b"kino" => opaque::read_entry(id, timescale, parsed.body)?,
        _ => return Err(CodecError::Unsupported("sample entry of this type")),
    };
    track.timescale = timescale;
    track.sample_entry = entry;
    Ok(track)
}

/// Whether two sample entries are equal but for picture parameter sets, which may change in band.
pub(crate) fn equal_but_pps(codec: Codec, ours: &[u8], theirs: &[u8]) -> bool {
    if ours == theirs {
        return true;
    }
    let is_pps: fn(&[u8]) -> bool = match codec {
        Codec::H264 => |nal| nal[0] & 0x1f == h264::PPS,
        Codec::H265 => |nal| h265::nal_type(nal) == h265::PPS,
        _ => return false,
    };
    let stripped = |entry: &[u8]| -> Option<entry::Stripped> { entry::strip(entry, is_pps).ok() };
    match (stripped(ours), stripped(theirs)) {
        (Some(ours), Some(theirs)) => ours == theirs,
        _ => false,
    }
}

#[cfg(test)]
mod tests;
