//! VP8 (RFC 6386): what a frame's header says, and the `vp08` sample entry.
//!
//! Samples are frames as they are. No HLS or MSE player takes VP8 in ISO BMFF, so its tracks have no codec string.

use bytes::Bytes;

use super::vpc::{self, Config};
use super::{CodecError, check_size, entry};
use crate::{Codec, RandomAccess, Timescale, Track, TrackId};

/// What the header of a frame says (section 9.1).
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Header {
    /// Version of the bitstream, 0 to 3.
    pub version: u8,
    /// False for a frame that only others refer to.
    pub is_shown: bool,
    /// Width and height in pixels; key frames have them, and no others.
    pub size: Option<(u32, u32)>,
    /// Nothing that comes later needs it: neither its picture nor what it says of probabilities, segments and filters.
    pub disposable: bool,
}

impl Header {
    /// Reads the header of `frame`.
    ///
    /// # Errors
    /// When it is cut, is of an unknown version, or is a key frame without start code or of a size beyond the limits.
    pub fn read(frame: &[u8]) -> Result<Header, CodecError> {
        let (tag, rest) = frame.split_first_chunk::<3>().ok_or(CodecError::Truncated)?;
        let (version, is_shown) = (tag[0] >> 1 & 7, tag[0] & 0x10 != 0);
        if version > 3 {
            return Err(CodecError::Unsupported("VP8 version"));
        }
        if tag[0] & 1 == 1 {
            let disposable = Lasting::read(rest) == Some(Lasting(false));
            return Ok(Header { version, is_shown, size: None, disposable });
        }
        let (start, _) = rest.split_first_chunk::<7>().ok_or(CodecError::Truncated)?;
        if start[..3] != [0x9d, 0x01, 0x2a] {
            return Err(CodecError::Malformed("VP8 key frame without its start code"));
        }
        // The two bits above are a wish for scaling.
        let side = |low: u8, high: u8| u32::from(u16::from_le_bytes([low, high]) & 0x3fff);
        let (width, height) = (side(start[3], start[4]), side(start[5], start[6]));
        check_size(width.into(), height.into())?;
        Ok(Header { version, is_shown, size: Some((width, height)), disposable: false })
    }

    /// Whether decoding can start at the frame.
    pub fn random_access(&self) -> RandomAccess {
        if self.size.is_some() { RandomAccess::Closed } else { RandomAccess::No }
    }
}

/// A track at 90 kHz of one key frame.
///
/// # Errors
/// When it is none, or as [`Header::read`].
pub fn track(id: TrackId, frame: &[u8]) -> Result<Track, CodecError> {
    let header = Header::read(frame)?;
    let (width, height) = header.size.ok_or(CodecError::Missing("key frame"))?;
    let config = Config {
        profile: header.version,
        level: vpc::level(width, height),
        bit_depth: 8,
        chroma: 0,
        full_range: false,
        colour: [2, 2, 2],
    };
    Ok(describe(id, width, height, config.entry(b"vp08", width, height)))
}

fn describe(id: TrackId, width: u32, height: u32, sample_entry: Bytes) -> Track {
    Track {
        id,
        codec: Codec::Vp8,
        timescale: Timescale::VIDEO,
        sample_entry,
        codec_string: None,
        width,
        height,
        frame_rate_millis: None,
        reorder_depth: Some(0),
        channels: 0,
    }
}

/// The track that the sample entry `entry` describes, whoever wrote it.
pub(crate) fn read_entry(id: TrackId, entry: &entry::Entry<'_>) -> Result<Track, CodecError> {
    let (config, width, height) = Config::read(entry)?;
    Ok(describe(id, width, height, config.entry(b"vp08", width, height)))
}

/// What libvpx adjusts loop filters by: 2, 0, -2, -2 for references, 4, -2 (-12 in real time), 2, 4 for modes; here with the sign in
/// the last bit, which it sets for 0 too. Made error resilient it repeats them in every frame from the key frame on, and
/// repeated they change nothing.
const LIBVPX_DELTAS: [[u32; 2]; 8] = [[4, 4], [0, 1], [5, 5], [5, 5], [8, 8], [5, 25], [4, 4], [8, 8]];

/// Whether a frame other than a key frame changes anything that later frames build on.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
struct Lasting(bool);

impl Lasting {
    /// Reads the first partition's beginning (section 19.2); none when it is cut.
    fn read(partition: &[u8]) -> Option<Lasting> {
        let mut bits = Bools::new(partition)?;
        let mut lasting = false;
        if bits.flag()? {
            let (map, features) = (bits.flag()?, bits.flag()?);
            lasting |= map || features;
            if features {
                bits.flag()?; // absolute values
                (0..4).try_for_each(|_| bits.optional(7 + 1).map(drop))?;
                (0..4).try_for_each(|_| bits.optional(6 + 1).map(drop))?;
            }
            if map {
                (0..3).try_for_each(|_| bits.optional(8).map(drop))?;
            }
        }
        bits.literal(1 + 6 + 3)?; // loop filter: type, level, sharpness
        if bits.flag()? && bits.flag()? {
            for known in LIBVPX_DELTAS {
                let delta = bits.optional(6 + 1)?;
                lasting |= delta.is_some_and(|delta| !known.contains(&delta));
            }
        }
        bits.literal(2 + 7)?; // count of partitions, quantizer
        (0..5).try_for_each(|_| bits.optional(4 + 1).map(drop))?;
        let (golden, alternate) = (bits.flag()?, bits.flag()?);
        let golden_copied = !golden && bits.literal(2)? != 0;
        let alternate_copied = !alternate && bits.literal(2)? != 0;
        bits.literal(2)?; // sign biases
        let (probabilities, last) = (bits.flag()?, bits.flag()?);
        lasting |= golden || alternate || golden_copied || alternate_copied || probabilities || last;
        Some(Lasting(lasting))
    }
}

/// The boolean decoder (section 7), for headers: every bit is as likely 0 as 1.
struct Bools<'a> {
    rest: &'a [u8],
    value: u32,
    range: u32,
    shifts: u8,
}

impl Bools<'_> {
    fn new(data: &[u8]) -> Option<Bools<'_>> {
        let (first, rest) = data.split_first_chunk::<2>()?;
        Some(Bools { rest, value: u16::from_be_bytes(*first).into(), range: 255, shifts: 0 })
    }

    fn flag(&mut self) -> Option<bool> {
        let split = 1 + (self.range - 1) / 2;
        let is_set = self.value >= split << 8;
        if is_set {
            self.range -= split;
            self.value -= split << 8;
        } else {
            self.range = split;
        }
        while self.range < 128 {
            self.value <<= 1;
            self.range <<= 1;
            self.shifts += 1;
            if self.shifts == 8 {
                let (next, rest) = self.rest.split_first()?;
                (self.shifts, self.rest) = (0, rest);
                self.value |= u32::from(*next);
            }
        }
        Some(is_set)
    }

    fn literal(&mut self, bits: u32) -> Option<u32> {
        (0..bits).try_fold(0, |value, _| Some(value << 1 | u32::from(self.flag()?)))
    }

    /// A value of `bits` behind a flag that says whether it is there.
    fn optional(&mut self, bits: u32) -> Option<Option<u32>> {
        Some(if self.flag()? { Some(self.literal(bits)?) } else { None })
    }
}
