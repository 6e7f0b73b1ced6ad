//! ITU-T H.265: parameter sets, the `hvc1` sample entry (ISO/IEC 14496-15 section 8), and what an access unit is.

mod sps;
mod unit;

use bytes::{BufMut, Bytes, BytesMut};

use super::entry;
use super::{CodecError, MAX_PARAMETER_SET_BYTES};
use crate::{Codec, Timescale, Track, TrackId};
pub use sps::Sps;
pub use unit::{Boundary, Classified, boundary, classify};

/// `nal_unit_type` of a video parameter set.
pub const VPS: u8 = 32;
/// `nal_unit_type` of a sequence parameter set.
pub const SPS: u8 = 33;
/// `nal_unit_type` of a picture parameter set.
pub const PPS: u8 = 34;
/// `nal_unit_type` of an access unit delimiter.
pub const AUD: u8 = 35;

/// The `nal_unit_type` in the header of a NAL unit; 63 when it is shorter than its header of two bytes.
pub fn nal_type(nal: &[u8]) -> u8 {
    match nal {
        [head, _, ..] => head >> 1 & 0x3f,
        _ => 63,
    }
}

/// A track at 90 kHz of one video, one sequence and some picture parameter sets (NAL units with their headers).
///
/// # Errors
/// When a set is of another kind, cut, or describes pictures beyond the limits.
pub fn track(id: TrackId, vps: &[u8], sps: &[u8], pps: &[&[u8]]) -> Result<Track, CodecError> {
    let parsed = Sps::parse(sps)?;
    if nal_type(vps) != VPS || vps.len() > MAX_PARAMETER_SET_BYTES {
        return Err(CodecError::Malformed("not a video parameter set"));
    }
    if pps.is_empty() {
        return Err(CodecError::Missing("picture parameter set"));
    }
    if pps.len() > 255 || pps.iter().any(|nal| nal_type(nal) != PPS || nal.len() > MAX_PARAMETER_SET_BYTES) {
        return Err(CodecError::Malformed("not a picture parameter set"));
    }
    let mut config = BytesMut::new();
    config.put_u8(1);
    config.put_slice(&parsed.profile);
    config.put_u16(0xf000); // spatial segmentation: not told
    config.put_u8(0xfc); // parallelism: not told
    config.put_u8(0xfc | parsed.chroma_format);
    config.put_u8(0xf8 | (parsed.bit_depth_luma - 8));
    config.put_u8(0xf8 | (parsed.bit_depth_chroma - 8));
    config.put_u16(0); // average frame rate: not told
    config.put_u8((parsed.top_temporal_id + 1) << 3 | u8::from(parsed.nested) << 2 | 3);
    config.put_u8(3);
    for (kind, nals) in [(VPS, &[vps][..]), (SPS, &[sps][..]), (PPS, pps)] {
        config.put_u8(0x80 | kind);
        config.put_u16(nals.len() as u16);
        for nal in nals {
            config.put_u16(nal.len() as u16);
            config.put_slice(nal);
        }
    }
    let mut children = entry::boxed(b"hvcC", &config);
    children.put(parsed.look.boxes());
    let sample_entry = entry::visual(b"hvc1", parsed.width, parsed.height, &children);
    Ok(describe(id, &parsed, sample_entry))
}

fn describe(id: TrackId, sps: &Sps, sample_entry: Bytes) -> Track {
    Track {
        id,
        codec: Codec::H265,
        timescale: Timescale::VIDEO,
        sample_entry,
        codec_string: Some(sps.codec_string()),
        width: sps.width,
        height: sps.height,
        frame_rate_millis: sps.frame_rate_millis,
        reorder_depth: Some(sps.reorder_depth),
        channels: 0,
    }
}

pub(super) fn read_entry(id: TrackId, entry: &entry::Entry<'_>) -> Result<Track, CodecError> {
    let config = Config::parse(entry.child(entry::VISUAL_HEAD, b"hvcC")?)?;
    let sps = config.of_type(SPS).next().ok_or(CodecError::Missing("sequence parameter set"))?;
    Ok(describe(id, &Sps::parse(sps)?, Bytes::new()))
}

/// An HEVCDecoderConfigurationRecord (ISO/IEC 14496-15 section 8.3.3.1).
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Config<'a> {
    /// Bytes of a NAL unit's length in samples: 1, 2 or 4.
    pub length_size: usize,
    /// The highest temporal sub-layer.
    pub top_temporal_id: u8,
    /// All parameter sets, in order.
    pub nals: Vec<&'a [u8]>,
}

impl<'a> Config<'a> {
    /// Reads the body of an `hvcC` box.
    ///
    /// # Errors
    /// When it is cut or of another version.
    pub fn parse(body: &'a [u8]) -> Result<Config<'a>, CodecError> {
        let (head, mut rest) = body.split_first_chunk::<23>().ok_or(CodecError::Truncated)?;
        if head[0] != 1 {
            return Err(CodecError::Unsupported("hvcC version"));
        }
        let mut nals = Vec::new();
        for _ in 0..head[22] {
            let (array, after) = rest.split_first_chunk::<3>().ok_or(CodecError::Truncated)?;
            rest = after;
            for _ in 0..u16::from_be_bytes([array[1], array[2]]) {
                let (length, after) = rest.split_first_chunk::<2>().ok_or(CodecError::Truncated)?;
                let (nal, after) =
                    after.split_at_checked(u16::from_be_bytes(*length).into()).ok_or(CodecError::Truncated)?;
                if nal_type(nal) != array[0] & 0x3f {
                    return Err(CodecError::Malformed("parameter set of another kind"));
                }
                rest = after;
                nals.push(nal);
            }
        }
        let top_temporal_id = (head[21] >> 3 & 7).saturating_sub(1);
        Ok(Config { length_size: usize::from(head[21] & 3) + 1, top_temporal_id, nals })
    }

    /// The sets in the sample entry box `entry`.
    ///
    /// # Errors
    /// When it is no visual sample entry with an `hvcC` box.
    pub fn of_entry(entry: &'a [u8]) -> Result<Config<'a>, CodecError> {
        Config::parse(entry::parse(entry)?.child(entry::VISUAL_HEAD, b"hvcC")?)
    }

    /// The sets of one `nal_unit_type`.
    pub fn of_type(&self, kind: u8) -> impl Iterator<Item = &'a [u8]> {
        self.nals.iter().copied().filter(move |nal| nal_type(nal) == kind)
    }
}

/// An `hvcC` body as facts and parameter sets.
pub(super) fn take_apart(body: &[u8]) -> Result<(Vec<u8>, Vec<&[u8]>), CodecError> {
    let config = Config::parse(body)?;
    Ok((body[..22].to_vec(), config.nals))
}
