//! VP9 (VP9 Bitstream & Decoding Process Specification, version 0.6): superframes, what frame headers say, and the `vp09`
//! sample entry.
//!
//! A sample is a superframe as it is (annex B): hidden frames, and the one that is shown. The spatial layers of a picture are in
//! one too.

use bytes::Bytes;

use super::bits::BitReader;
use super::vpc::{self, Config};
use super::{CodecError, check_size, entry};
use crate::{Codec, RandomAccess, Timescale, Track, TrackId};

/// Most frames of a superframe.
pub const MAX_FRAMES: usize = 8;
/// `color_space` of RGB.
const RGB: u32 = 7;

/// How the samples of a frame are made.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Format {
    /// 0 to 3.
    pub profile: u8,
    /// 8, 10 or 12.
    pub bit_depth: u8,
    /// Whether chroma has half the columns, and half the rows.
    pub subsampling: (bool, bool),
    /// `color_space` (section 7.2.2).
    pub colour_space: u8,
    /// Whether luma goes from 0 to the maximum.
    pub full_range: bool,
}

/// What the frames of a sample say together.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Unit {
    /// The format, when it starts with a key frame.
    pub key: Option<Format>,
    /// Size in pixels of the last frame, where its own bytes and those of the frames before it in the sample say it.
    pub size: Option<(u32, u32)>,
    /// Nothing that comes later needs it.
    pub disposable: bool,
}

/// The frames of a sample: those of its superframe index (annex B), else the whole.
pub fn frames(sample: &[u8]) -> impl Iterator<Item = &[u8]> {
    let (sizes, mut rest) = match index(sample) {
        Some((sizes, count, rest)) => (sizes[..count].to_vec(), rest),
        None => (vec![sample.len()], sample),
    };
    sizes.into_iter().map_while(move |size| {
        let (frame, after) = rest.split_at_checked(size)?;
        rest = after;
        Some(frame)
    })
}

/// Sizes in the superframe index, how many, and the bytes before the index; none without one.
fn index(sample: &[u8]) -> Option<([usize; MAX_FRAMES], usize, &[u8])> {
    let mark = *sample.last()?;
    if mark & 0xe0 != 0xc0 {
        return None;
    }
    let (count, width) = (usize::from(mark & 7) + 1, usize::from(mark >> 3 & 3) + 1);
    let (rest, index) = sample.split_at_checked(sample.len().checked_sub(2 + count * width)?)?;
    if index[0] != mark {
        return None;
    }
    let mut sizes = [0; MAX_FRAMES];
    for (size, bytes) in sizes.iter_mut().zip(index[1..].chunks_exact(width)).take(count) {
        *size = bytes.iter().rev().fold(0, |sum, byte| sum << 8 | usize::from(*byte));
    }
    Some((sizes, count, rest))
}

/// The superframe index of frames of these sizes; none when it is not needed (one frame), or not possible.
pub fn superframe_index(sizes: &[usize]) -> Option<Vec<u8>> {
    if !(2..=MAX_FRAMES).contains(&sizes.len()) || sizes.iter().any(|size| u32::try_from(*size).is_err()) {
        return None;
    }
    let mark = 0xc0 | 3 << 3 | (sizes.len() - 1) as u8;
    let mut index = vec![mark];
    sizes.iter().for_each(|size| index.extend((*size as u32).to_le_bytes()));
    index.push(mark);
    Some(index)
}

/// Sizes of the eight reference frames, as far as the frames before say them.
pub type References = [Option<(u32, u32)>; 8];

impl Unit {
    /// Reads the headers of a sample's frames, by itself.
    ///
    /// # Errors
    /// When one is cut, breaks the specification, or has a size beyond the limits.
    pub fn read(sample: &[u8]) -> Result<Unit, CodecError> {
        Unit::read_after(sample, &mut References::default())
    }

    /// Reads the headers of the sample that follows those which left `references`.
    ///
    /// # Errors
    /// As [`Unit::read`].
    pub fn read_after(sample: &[u8], references: &mut References) -> Result<Unit, CodecError> {
        let mut unit = Unit { key: None, size: None, disposable: true };
        let mut count = 0;
        for frame in frames(sample).filter(|frame| !frame.is_empty()) {
            let header = Header::read(frame, references)?;
            if count == 0 {
                unit.key = header.key;
            }
            references
                .iter_mut()
                .enumerate()
                .filter(|(at, _)| header.refreshed >> at & 1 == 1)
                .for_each(|(_, reference)| *reference = header.size);
            unit.size = header.size;
            unit.disposable &= header.disposable;
            count += 1;
        }
        if count == 0 {
            return Err(CodecError::Truncated);
        }
        Ok(unit)
    }

    /// Whether decoding can start here.
    pub fn random_access(&self) -> RandomAccess {
        if self.key.is_some() { RandomAccess::Closed } else { RandomAccess::No }
    }
}

/// The uncompressed header of a frame (section 6.2), as far as it matters here.
struct Header {
    key: Option<Format>,
    size: Option<(u32, u32)>,
    refreshed: u8,
    disposable: bool,
}

impl Header {
    fn read(frame: &[u8], references: &References) -> Result<Header, CodecError> {
        let mut bits = BitReader::plain(frame);
        if bits.bits(2)? != 2 {
            return Err(CodecError::Malformed("VP9 frame marker"));
        }
        let profile = (u8::from(bits.bit()?)) | u8::from(bits.bit()?) << 1;
        if profile == 3 && bits.bit()? {
            return Err(CodecError::Unsupported("VP9 profile"));
        }
        if bits.bit()? {
            let shown = references[bits.bits(3)? as usize];
            return Ok(Header { key: None, size: shown, refreshed: 0, disposable: false });
        }
        let (is_key, is_shown, is_resilient) = (!bits.bit()?, bits.bit()?, bits.bit()?);
        if is_key {
            sync_code(&mut bits)?;
            let format = format(&mut bits, profile)?;
            let size = Some(size(&mut bits)?);
            return Ok(Header { key: Some(format), size, refreshed: 0xff, disposable: false });
        }
        let is_intra = !is_shown && bits.bit()?;
        if !is_resilient {
            bits.skip(2)?; // reset_frame_context
        }
        if is_intra {
            sync_code(&mut bits)?;
            if profile > 0 {
                format(&mut bits, profile)?;
            }
            let refreshed = bits.bits(8)? as u8;
            return Ok(Header { key: None, size: Some(size(&mut bits)?), refreshed, disposable: false });
        }
        let refreshed = bits.bits(8)? as u8;
        let mut used = [0; 3];
        for reference in &mut used {
            *reference = bits.bits(3)? as usize;
            bits.skip(1)?; // sign bias
        }
        let mut shown = None;
        let mut is_found = false;
        for reference in used {
            is_found = bits.bit()?;
            if is_found {
                shown = references[reference];
                break;
            }
        }
        if !is_found {
            shown = Some(size(&mut bits)?);
        }
        // Without error resilience the next frame may use the motion vectors and probabilities of this one, though it is no
        // reference (sections 6.1.2 and 7.2).
        Ok(Header { key: None, size: shown, refreshed, disposable: refreshed == 0 && is_resilient })
    }
}

fn sync_code(bits: &mut BitReader<'_>) -> Result<(), CodecError> {
    if bits.bits(24)? == 0x0049_8342 { Ok(()) } else { Err(CodecError::Malformed("VP9 sync code")) }
}

/// `color_config` (section 6.2.2).
fn format(bits: &mut BitReader<'_>, profile: u8) -> Result<Format, CodecError> {
    let bit_depth = match profile >= 2 {
        true => 10 + 2 * u8::from(bits.bit()?),
        false => 8,
    };
    let colour_space = bits.bits(3)?;
    let is_odd = profile & 1 == 1;
    let (mut full_range, mut subsampling) = (true, (false, false));
    if colour_space != RGB {
        full_range = bits.bit()?;
        subsampling = if is_odd { (bits.bit()?, bits.bit()?) } else { (true, true) };
    } else if !is_odd {
        return Err(CodecError::Malformed("VP9 profile without RGB"));
    }
    if is_odd {
        bits.skip(1)?;
    }
    Ok(Format { profile, bit_depth, subsampling, colour_space: colour_space as u8, full_range })
}

/// `frame_size` (section 6.2.3).
fn size(bits: &mut BitReader<'_>) -> Result<(u32, u32), CodecError> {
    let (width, height) = (bits.bits(16)? + 1, bits.bits(16)? + 1);
    check_size(width.into(), height.into())?;
    Ok((width, height))
}

/// A track at 90 kHz of one sample that starts with a key frame.
///
/// # Errors
/// When it does not, or as [`Unit::read`].
pub fn track(id: TrackId, sample: &[u8]) -> Result<Track, CodecError> {
    let unit = Unit::read(sample)?;
    let (Some(format), Some((width, height))) = (unit.key, unit.size) else {
        return Err(CodecError::Missing("key frame"));
    };
    let config = Config {
        profile: format.profile,
        level: vpc::level(width, height),
        bit_depth: format.bit_depth,
        chroma: match format.subsampling {
            (true, true) => 0,
            (true, false) => 2,
            (false, false) => 3,
            (false, true) => return Err(CodecError::Unsupported("VP9 with 4:4:0 chroma")),
        },
        full_range: format.full_range,
        // Primaries, transfer and matrix of `color_space`, as libvpx understands them.
        colour: match format.colour_space {
            1 => [5, 6, 5],
            2 => [1, 1, 1],
            3 => [6, 6, 6],
            4 => [7, 7, 7],
            5 => [9, 14, 9],
            7 => [1, 13, 0],
            _ => [2, 2, 2],
        },
    };
    Ok(describe(id, config, width, height, config.entry(b"vp09", width, height)))
}

/// The profile in the sample entry box `entry`.
///
/// # Errors
/// When it is no visual sample entry with a `vpcC` box.
pub fn profile_of_entry(entry: &[u8]) -> Result<u8, CodecError> {
    Ok(Config::read(&entry::parse(entry)?)?.0.profile)
}

fn describe(id: TrackId, config: Config, width: u32, height: u32, sample_entry: Bytes) -> Track {
    let Config { profile, level, bit_depth, .. } = config;
    Track {
        id,
        codec: Codec::Vp9,
        timescale: Timescale::VIDEO,
        sample_entry,
        codec_string: Some(format!("vp09.{profile:02}.{level:02}.{bit_depth:02}")),
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
    Ok(describe(id, config, width, height, config.entry(b"vp09", width, height)))
}
