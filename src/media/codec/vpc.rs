//! What VP8 and VP9 share in files: the `vpcC` box and levels (VP Codec ISO Media File Format Binding, version 1.0).

use bytes::{BufMut, Bytes, BytesMut};

use super::entry::{self, Entry};
use super::{CodecError, check_size};

/// Largest pictures of each level, by pixels and by the longer side, and pixels a second (VP9 bitstream specification, annex A).
const LEVELS: [(u8, u64, u32, u64); 14] = [
    (10, 36_864, 512, 829_440),
    (11, 73_728, 768, 2_764_800),
    (20, 122_880, 960, 4_608_000),
    (21, 245_760, 1_344, 9_216_000),
    (30, 552_960, 2_048, 20_736_000),
    (31, 983_040, 2_752, 36_864_000),
    (40, 2_228_224, 4_160, 83_558_400),
    (41, 2_228_224, 4_160, 160_432_128),
    (50, 8_912_896, 8_384, 311_951_360),
    (51, 8_912_896, 8_384, 588_251_136),
    (52, 8_912_896, 8_384, 1_176_502_272),
    (60, 35_651_584, 16_832, 1_176_502_272),
    (61, 35_651_584, 16_832, 2_353_004_544),
    (62, u64::MAX, u32::MAX, u64::MAX),
];

/// Neither codec says its rate; a level is for this many pictures a second.
const RATE: u64 = 30;

/// The level that pictures of this size need at 30 a second, as files name it: 31 is level 3.1.
pub(super) fn level(width: u32, height: u32) -> u8 {
    let pixels = u64::from(width) * u64::from(height);
    let fits = |(_, most, side, rate): &&(u8, u64, u32, u64)| {
        pixels <= *most && width.max(height) <= *side && pixels * RATE <= *rate
    };
    LEVELS.iter().find(fits).map_or(62, |(level, ..)| *level)
}

/// What a `vpcC` box says.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Config {
    /// 0 to 3: chroma other than 4:2:0 makes it odd, more than 8 bits at least 2.
    pub profile: u8,
    /// As [`level`].
    pub level: u8,
    /// 8, 10 or 12.
    pub bit_depth: u8,
    /// 0 and 1 are 4:2:0 with chroma between rows and on them, 2 is 4:2:2, 3 is 4:4:4.
    pub chroma: u8,
    /// Whether luma goes from 0 to the maximum.
    pub full_range: bool,
    /// Primaries, transfer, matrix (ITU-T H.273); 2 is unknown.
    pub colour: [u8; 3],
}

impl Config {
    /// The sample entry `kind` of pictures of this size.
    pub(super) fn entry(&self, kind: &[u8; 4], width: u32, height: u32) -> Bytes {
        let mut body = BytesMut::new();
        body.put_u32(1 << 24); // version 1
        body.put_u8(self.profile);
        body.put_u8(self.level);
        body.put_u8(self.bit_depth << 4 | self.chroma << 1 | u8::from(self.full_range));
        body.put_slice(&self.colour);
        body.put_u16(0); // no initialization data
        entry::visual(kind, width, height, &entry::boxed(b"vpcC", &body))
    }

    /// Reads the sample entry back: what it says, and the size in pixels.
    pub(super) fn read(entry: &Entry<'_>) -> Result<(Config, u32, u32), CodecError> {
        let (width, height) = entry.size()?;
        check_size(width.into(), height.into())?;
        let body = entry.child(entry::VISUAL_HEAD, b"vpcC")?;
        let (body, _) = body.split_first_chunk::<12>().ok_or(CodecError::Truncated)?;
        if body[0] != 1 {
            return Err(CodecError::Unsupported("vpcC version"));
        }
        let config = Config {
            profile: body[4],
            level: body[5],
            bit_depth: body[6] >> 4,
            chroma: body[6] >> 1 & 7,
            full_range: body[6] & 1 == 1,
            colour: [body[7], body[8], body[9]],
        };
        if config.profile > 3 || !matches!(config.bit_depth, 8 | 10 | 12) || config.chroma > 3 {
            return Err(CodecError::Malformed("vpcC profile, bit depth or chroma"));
        }
        Ok((config, width, height))
    }
}
