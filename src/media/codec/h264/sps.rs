//! Sequence parameter sets of H.264.

use super::SPS;
use crate::codec::bits::BitReader;
use crate::codec::entry::Look;
use crate::codec::{CodecError, MAX_PARAMETER_SET_BYTES, believable_rate, check_size};

/// What a sequence parameter set says (section 7.3.2.1.1).
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Sps {
    /// `profile_idc`, the constraint flags and `level_idc`.
    pub profile: [u8; 3],
    /// `chroma_format_idc`: 1 is 4:2:0.
    pub chroma_format: u8,
    /// Bits of a luma sample.
    pub bit_depth_luma: u8,
    /// Bits of a chroma sample.
    pub bit_depth_chroma: u8,
    /// Pixels of a row as shown.
    pub width: u32,
    /// Rows as shown.
    pub height: u32,
    /// Shape and colour of samples, when said.
    pub look: Look,
    /// Pictures a second in thousandths, when said.
    pub frame_rate_millis: Option<u32>,
    /// Pictures that may precede a picture in decode order and follow it in output, when known.
    pub reorder_depth: Option<u32>,
}

/// Profiles whose parameter sets carry chroma format and bit depths.
fn is_high(profile_idc: u8) -> bool {
    matches!(profile_idc, 100 | 110 | 122 | 244 | 44 | 83 | 86 | 118 | 128 | 138 | 139 | 134 | 135)
}

impl Sps {
    /// Reads a whole NAL unit, header byte included.
    ///
    /// # Errors
    /// When it is cut, breaks the standard, or describes pictures beyond the limits of [`super`].
    pub fn parse(nal: &[u8]) -> Result<Sps, CodecError> {
        match nal.first() {
            None => return Err(CodecError::Truncated),
            Some(head) if head & 0x1f != SPS => return Err(CodecError::Malformed("not a sequence parameter set")),
            Some(_) => {}
        }
        if nal.len() > MAX_PARAMETER_SET_BYTES {
            return Err(CodecError::Malformed("parameter set of more than 64 KiB"));
        }
        let mut bits = BitReader::new(&nal[1..]);
        let profile = [bits.bits(8)? as u8, bits.bits(8)? as u8, bits.bits(8)? as u8];
        bits.ue_max(31, "sequence parameter set id")?;
        let (mut chroma_format, mut bit_depth_luma, mut bit_depth_chroma, mut separate_planes) = (1, 8, 8, false);
        if is_high(profile[0]) {
            chroma_format = bits.ue_max(3, "chroma format")? as u8;
            if chroma_format == 3 {
                separate_planes = bits.bit()?;
            }
            bit_depth_luma = 8 + bits.ue_max(6, "luma bit depth")? as u8;
            bit_depth_chroma = 8 + bits.ue_max(6, "chroma bit depth")? as u8;
            bits.skip(1)?; // lossless bypass
            if bits.bit()? {
                skip_scaling_lists(&mut bits, if chroma_format == 3 { 12 } else { 8 })?;
            }
        }
        bits.ue_max(12, "log2_max_frame_num")?;
        let order_type = bits.ue_max(2, "picture order count type")?;
        match order_type {
            0 => drop(bits.ue_max(12, "log2_max_pic_order_cnt_lsb")?),
            1 => {
                bits.skip(1)?;
                bits.se()?;
                bits.se()?;
                for _ in 0..bits.ue_max(255, "picture order count cycle")? {
                    bits.se()?;
                }
            }
            _ => {}
        }
        bits.ue_max(16, "reference frames")?;
        bits.skip(1)?; // gaps in frame_num
        let columns = u64::from(bits.ue()?) + 1;
        let map_rows = u64::from(bits.ue()?) + 1;
        let frames_only = bits.bit()?;
        if !frames_only {
            bits.skip(1)?; // adaptive frame/field
        }
        bits.skip(1)?; // direct 8x8 inference
        let field_rows = if frames_only { 1 } else { 2 };
        let (coded_width, coded_height) = (columns * 16, map_rows * 16 * field_rows);
        check_size(coded_width, coded_height)?;
        let mut crop = [0u64; 4];
        if bits.bit()? {
            for edge in &mut crop {
                *edge = bits.ue()?.into();
            }
        }
        // Table 6-1: pixels of a cropping unit.
        let planes = if separate_planes { 0 } else { chroma_format };
        let unit_x = if matches!(planes, 1 | 2) { 2 } else { 1 };
        let unit_y = if planes == 1 { 2 } else { 1 } * field_rows;
        let cropped = |size: u64, edges: u64, unit: u64| edges.checked_mul(unit).and_then(|cut| size.checked_sub(cut));
        let width = cropped(coded_width, crop[0] + crop[1], unit_x).filter(|width| *width > 0);
        let height = cropped(coded_height, crop[2] + crop[3], unit_y).filter(|height| *height > 0);
        let (Some(width), Some(height)) = (width, height) else {
            return Err(CodecError::Malformed("cropping leaves no picture"));
        };
        let mut sps = Sps {
            profile,
            chroma_format,
            bit_depth_luma,
            bit_depth_chroma,
            width: width as u32,
            height: height as u32,
            look: Look::default(),
            frame_rate_millis: None,
            reorder_depth: None,
        };
        if bits.bit()? {
            // Cameras are known to cut their VUI short; the picture's description before it is whole.
            match sps.read_vui(&mut bits) {
                Err(CodecError::Truncated) | Ok(()) => {}
                Err(error) => return Err(error),
            }
        }
        if sps.reorder_depth.is_none() {
            // Section 7.4.2.1.1: type 2 has output order equal to decode order. Section E.2.1: intra-only profiles
            // infer 0. Baseline has no B slices; no encoder is known that reorders P pictures.
            let intra_only = profile[1] & 0x10 != 0 && matches!(profile[0], 44 | 86 | 100 | 110 | 122 | 244);
            if order_type == 2 || intra_only || profile[0] == 66 {
                sps.reorder_depth = Some(0);
            }
        }
        Ok(sps)
    }

    /// VUI parameters (section E.1.1).
    fn read_vui(&mut self, bits: &mut BitReader<'_>) -> Result<(), CodecError> {
        self.look = Look::read(bits)?;
        if bits.bit()? {
            let tick = u64::from(bits.bits(32)?);
            let scale = u64::from(bits.bits(32)?);
            bits.skip(1)?; // fixed frame rate
            if tick != 0 && scale != 0 {
                let rate_millis = (scale * 1000 + tick) / (tick * 2);
                // Some say how fine their clock is: picamera 500 a second, others 90,000, with the fixed flag set or not.
                self.frame_rate_millis = believable_rate(rate_millis);
            }
        }
        let nal_hrd = bits.bit()?;
        if nal_hrd {
            skip_hrd(bits)?;
        }
        let vcl_hrd = bits.bit()?;
        if vcl_hrd {
            skip_hrd(bits)?;
        }
        if nal_hrd || vcl_hrd {
            bits.skip(1)?; // low delay
        }
        bits.skip(1)?; // picture structure
        if bits.bit()? {
            bits.skip(1)?; // vectors over the border
            for _ in 0..4 {
                bits.ue()?;
            }
            self.reorder_depth = Some(bits.ue_max(16, "reordered frames")?);
        }
        Ok(())
    }
}

fn skip_scaling_lists(bits: &mut BitReader<'_>, count: u32) -> Result<(), CodecError> {
    for list in 0..count {
        if !bits.bit()? {
            continue;
        }
        let (mut last, mut next) = (8i64, 8i64);
        for _ in 0..if list < 6 { 16 } else { 64 } {
            if next != 0 {
                next = (last + bits.se()?).rem_euclid(256);
            }
            if next != 0 {
                last = next;
            }
        }
    }
    Ok(())
}

fn skip_hrd(bits: &mut BitReader<'_>) -> Result<(), CodecError> {
    let count = bits.ue_max(31, "HRD count")? + 1;
    bits.skip(8)?;
    for _ in 0..count {
        bits.ue()?;
        bits.ue()?;
        bits.skip(1)?;
    }
    bits.skip(20)
}
