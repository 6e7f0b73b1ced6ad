//! AV1 (AV1 Bitstream & Decoding Process Specification, version 1.0.0 with errata 1): OBUs, the sequence header, what a temporal
//! unit is, and the `av01` sample entry (AV1 Codec ISO Media File Format Binding, version 1.2).
//!
//! A sample is a temporal unit in the low-overhead format: every OBU with its size, no temporal delimiter.

mod obu;
mod sequence;
mod unit;

use bytes::{BufMut, Bytes, BytesMut};

use super::entry::{self, Colour, Look};
use super::{CodecError, MAX_PARAMETER_SET_BYTES};
use crate::{Codec, Timescale, Track, TrackId};
pub use obu::{Obu, obus, put_obu, put_size, take_size};
pub use sequence::Sequence;
pub use unit::{Classified, classify};

/// `obu_type` of a sequence header.
pub const SEQUENCE_HEADER: u8 = 1;
/// `obu_type` of a temporal delimiter.
pub const TEMPORAL_DELIMITER: u8 = 2;
/// `obu_type` of a frame header.
pub const FRAME_HEADER: u8 = 3;
/// `obu_type` of tiles of a frame.
pub const TILE_GROUP: u8 = 4;
/// `obu_type` of metadata.
pub const METADATA: u8 = 5;
/// `obu_type` of a frame header with tiles.
pub const FRAME: u8 = 6;
/// `obu_type` of a frame header sent again.
pub const REDUNDANT_FRAME_HEADER: u8 = 7;
/// `obu_type` of a list of tiles, which no stream of pictures has.
pub const TILE_LIST: u8 = 8;
/// `obu_type` of padding.
pub const PADDING: u8 = 15;

/// Whether OBUs of this type stay out of samples.
pub fn is_left_out(kind: u8) -> bool {
    matches!(kind, TEMPORAL_DELIMITER | TILE_LIST | PADDING)
}

/// A track at 90 kHz of the payload of one sequence header OBU.
///
/// # Errors
/// When it is cut or describes pictures beyond the limits.
pub fn track(id: TrackId, sequence_header: &[u8]) -> Result<Track, CodecError> {
    if sequence_header.len() > MAX_PARAMETER_SET_BYTES {
        return Err(CodecError::Malformed("sequence header of more than 64 KiB"));
    }
    let sequence = Sequence::parse(sequence_header)?;
    let mut config = BytesMut::new();
    config.put_u8(0x81); // marker, version 1
    config.put_u8(sequence.profile << 5 | sequence.level);
    let (columns, rows) = sequence.subsampling;
    let flags = [sequence.bit_depth > 8, sequence.bit_depth > 10, sequence.monochrome, columns, rows];
    let flags = flags.iter().fold(u8::from(sequence.high_tier), |sum, flag| sum << 1 | u8::from(*flag));
    config.put_u8(flags << 2 | sequence.chroma_position);
    config.put_u8(0); // no initial presentation delay
    put_obu(&mut config, SEQUENCE_HEADER, None, sequence_header);
    let mut children = entry::boxed(b"av1C", &config);
    let colour = sequence.colour.map(|codes| Colour { codes, full_range: sequence.full_range });
    children.put(Look { aspect: None, colour }.boxes());
    let sample_entry = entry::visual(b"av01", sequence.width, sequence.height, &children);
    Ok(describe(id, &sequence, sample_entry))
}

fn describe(id: TrackId, sequence: &Sequence, sample_entry: Bytes) -> Track {
    let Sequence { profile, level, bit_depth, .. } = sequence;
    let tier = if sequence.high_tier { 'H' } else { 'M' };
    Track {
        id,
        codec: Codec::Av1,
        timescale: Timescale::VIDEO,
        sample_entry,
        codec_string: Some(format!("av01.{profile}.{level:02}{tier}.{bit_depth:02}")),
        width: sequence.width,
        height: sequence.height,
        frame_rate_millis: sequence.frame_rate_millis,
        reorder_depth: Some(0),
        channels: 0,
    }
}

pub(super) fn read_entry(id: TrackId, entry: &entry::Entry<'_>) -> Result<Track, CodecError> {
    let sequence_header = config_sequence(entry.child(entry::VISUAL_HEAD, b"av1C")?)?;
    Ok(describe(id, &Sequence::parse(sequence_header)?, Bytes::new()))
}

/// The payload of the sequence header in the body of an `av1C` box.
///
/// # Errors
/// When the box is cut, of another version, or has none.
pub fn config_sequence(av1c: &[u8]) -> Result<&[u8], CodecError> {
    let (head, rest) = av1c.split_first_chunk::<4>().ok_or(CodecError::Truncated)?;
    if head[0] != 0x81 {
        return Err(CodecError::Unsupported("av1C version"));
    }
    for obu in obus(rest) {
        let obu = obu?;
        if obu.kind == SEQUENCE_HEADER {
            return Ok(obu.payload);
        }
    }
    Err(CodecError::Missing("sequence header"))
}

/// The payload of the sequence header in the sample entry box `entry`.
///
/// # Errors
/// When it is no visual sample entry with an `av1C` box that has one.
pub fn sequence_of_entry(entry: &[u8]) -> Result<&[u8], CodecError> {
    config_sequence(entry::parse(entry)?.child(entry::VISUAL_HEAD, b"av1C")?)
}
