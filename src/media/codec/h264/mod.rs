//! ITU-T H.264: sequence parameter sets, the `avc1` sample entry (ISO/IEC 14496-15 section 5), and what an access
//! unit is.

mod sps;
mod unit;

use bytes::{BufMut, Bytes, BytesMut};

use super::entry;
use super::{CodecError, MAX_PARAMETER_SET_BYTES};
use crate::{Codec, Timescale, Track, TrackId};
pub use sps::Sps;
pub(in crate::codec) use unit::recovery_point;
pub use unit::{Boundary, Classified, boundary, classify};

/// `nal_unit_type` of a slice of a picture that is not IDR.
pub const SLICE: u8 = 1;
/// `nal_unit_type` of a slice of an IDR picture.
pub const IDR: u8 = 5;
/// `nal_unit_type` of supplemental enhancement information.
pub const SEI: u8 = 6;
/// `nal_unit_type` of a sequence parameter set.
pub const SPS: u8 = 7;
/// `nal_unit_type` of a picture parameter set.
pub const PPS: u8 = 8;
/// `nal_unit_type` of an access unit delimiter.
pub const AUD: u8 = 9;

/// A track at 90 kHz of one sequence parameter set (a NAL unit with its header) and its picture parameter sets.
///
/// # Errors
/// When a set is of another kind, cut, or describes pictures beyond the limits.
pub fn track(id: TrackId, sps: &[u8], pps: &[&[u8]]) -> Result<Track, CodecError> {
    let parsed = Sps::parse(sps)?;
    if pps.is_empty() {
        return Err(CodecError::Missing("picture parameter set"));
    }
    if pps.len() > 255 {
        return Err(CodecError::Malformed("more than 255 picture parameter sets"));
    }
    if pps.iter().any(|nal| nal.len() < 2 || nal[0] & 0x1f != PPS || nal.len() > MAX_PARAMETER_SET_BYTES) {
        return Err(CodecError::Malformed("not a picture parameter set"));
    }
    let mut config = BytesMut::new();
    config.put_u8(1);
    config.put_slice(&parsed.profile);
    config.put_u8(0xfc | 3); // lengths of 4 bytes
    config.put_u8(0xe0 | 1);
    config.put_u16(sps.len() as u16);
    config.put_slice(sps);
    config.put_u8(pps.len() as u8);
    for nal in pps {
        config.put_u16(nal.len() as u16);
        config.put_slice(nal);
    }
    if matches!(parsed.profile[0], 100 | 110 | 122 | 144) {
        config.put_u8(0xfc | parsed.chroma_format);
        config.put_u8(0xf8 | (parsed.bit_depth_luma - 8));
        config.put_u8(0xf8 | (parsed.bit_depth_chroma - 8));
        config.put_u8(0); // no extension sets
    }
    let mut children = entry::boxed(b"avcC", &config);
    children.put(parsed.look.boxes());
    let sample_entry = entry::visual(b"avc1", parsed.width, parsed.height, &children);
    Ok(describe(id, &parsed, sample_entry))
}

fn describe(id: TrackId, sps: &Sps, sample_entry: Bytes) -> Track {
    let [profile, constraints, level] = sps.profile;
    Track {
        id,
        codec: Codec::H264,
        timescale: Timescale::VIDEO,
        sample_entry,
        codec_string: Some(format!("avc1.{profile:02x}{constraints:02x}{level:02x}")),
        width: sps.width,
        height: sps.height,
        frame_rate_millis: sps.frame_rate_millis,
        reorder_depth: sps.reorder_depth,
        channels: 0,
    }
}

pub(super) fn read_entry(id: TrackId, entry: &entry::Entry<'_>) -> Result<Track, CodecError> {
    let config = Config::parse(entry.child(entry::VISUAL_HEAD, b"avcC")?)?;
    let sps = config.sps.first().ok_or(CodecError::Missing("sequence parameter set"))?;
    Ok(describe(id, &Sps::parse(sps)?, Bytes::new()))
}

/// An AVCDecoderConfigurationRecord (ISO/IEC 14496-15 section 5.3.3.1).
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Config<'a> {
    /// Bytes of a NAL unit's length in samples: 1, 2 or 4.
    pub length_size: usize,
    /// Sequence parameter sets.
    pub sps: Vec<&'a [u8]>,
    /// Picture parameter sets.
    pub pps: Vec<&'a [u8]>,
    /// What follows the sets.
    extension: &'a [u8],
}

impl<'a> Config<'a> {
    /// Reads the body of an `avcC` box.
    ///
    /// # Errors
    /// When it is cut or of another version.
    pub fn parse(body: &'a [u8]) -> Result<Config<'a>, CodecError> {
        let (head, mut rest) = body.split_first_chunk::<6>().ok_or(CodecError::Truncated)?;
        if head[0] != 1 {
            return Err(CodecError::Unsupported("avcC version"));
        }
        let sps = take_sets(&mut rest, head[5] & 0x1f, SPS)?;
        let (count, mut rest) = rest.split_first().ok_or(CodecError::Truncated)?;
        let pps = take_sets(&mut rest, *count, PPS)?;
        Ok(Config { length_size: usize::from(head[4] & 3) + 1, sps, pps, extension: rest })
    }

    /// The sets in the sample entry box `entry`.
    ///
    /// # Errors
    /// When it is no visual sample entry with an `avcC` box.
    pub fn of_entry(entry: &'a [u8]) -> Result<Config<'a>, CodecError> {
        Config::parse(entry::parse(entry)?.child(entry::VISUAL_HEAD, b"avcC")?)
    }
}

fn take_sets<'a>(rest: &mut &'a [u8], count: u8, kind: u8) -> Result<Vec<&'a [u8]>, CodecError> {
    let mut sets = Vec::new();
    for _ in 0..count {
        let (length, after) = rest.split_first_chunk::<2>().ok_or(CodecError::Truncated)?;
        let (nal, after) = after.split_at_checked(u16::from_be_bytes(*length).into()).ok_or(CodecError::Truncated)?;
        *rest = after;
        if nal.first().is_none_or(|head| head & 0x1f != kind) {
            return Err(CodecError::Malformed("parameter set of another kind"));
        }
        sets.push(nal);
    }
    Ok(sets)
}

/// An `avcC` body as facts and parameter sets.
pub(super) fn take_apart(body: &[u8]) -> Result<(Vec<u8>, Vec<&[u8]>), CodecError> {
    let config = Config::parse(body)?;
    let facts = [&body[..5], config.extension].concat();
    Ok((facts, config.sps.into_iter().chain(config.pps).collect()))
}
