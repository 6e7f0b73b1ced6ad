//! Sequence parameter sets of H.265.

use super::{SPS, nal_type};
use crate::codec::bits::BitReader;
use crate::codec::entry::Look;
use crate::codec::{CodecError, MAX_PARAMETER_SET_BYTES, believable_rate, check_size};

/// What a sequence parameter set says (section 7.3.2.2.1).
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Sps {
    /// The 12 bytes of general profile, tier and level (section 7.3.3).
    pub profile: [u8; 12],
    /// Temporal sub-layers less one.
    pub top_temporal_id: u8,
    /// `sps_temporal_id_nesting_flag`.
    pub nested: bool,
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
    /// `sps_max_num_reorder_pics` of the highest sub-layer.
    pub reorder_depth: u32,
}

impl Sps {
    /// Reads a whole NAL unit, header included.
    ///
    /// # Errors
    /// When it is cut, breaks the standard, or describes pictures beyond the limits of [`super`].
    pub fn parse(nal: &[u8]) -> Result<Sps, CodecError> {
        if nal_type(nal) != SPS {
            return Err(CodecError::Malformed("not a sequence parameter set"));
        }
        if nal.len() > MAX_PARAMETER_SET_BYTES {
            return Err(CodecError::Malformed("parameter set of more than 64 KiB"));
        }
        let mut bits = BitReader::new(&nal[2..]);
        bits.skip(4)?; // video parameter set id
        let top_temporal_id = bits.bits(3)? as u8;
        if top_temporal_id > 6 {
            return Err(CodecError::Malformed("more than 7 sub-layers"));
        }
        let nested = bits.bit()?;
        let mut profile = [0; 12];
        for byte in &mut profile {
            *byte = bits.bits(8)? as u8;
        }
        skip_sub_layer_profiles(&mut bits, top_temporal_id)?;
        bits.ue_max(15, "sequence parameter set id")?;
        let chroma_format = bits.ue_max(3, "chroma format")? as u8;
        let separate_planes = chroma_format == 3 && bits.bit()?;
        let (coded_width, coded_height) = (u64::from(bits.ue()?), u64::from(bits.ue()?));
        check_size(coded_width, coded_height)?;
        let mut crop = [0u64; 4];
        if bits.bit()? {
            for edge in &mut crop {
                *edge = bits.ue()?.into();
            }
        }
        let planes = if separate_planes { 0 } else { chroma_format };
        let unit_x = if matches!(planes, 1 | 2) { 2 } else { 1 };
        let unit_y = if planes == 1 { 2 } else { 1 };
        let cropped = |size: u64, edges: u64, unit: u64| size.checked_sub(edges * unit).filter(|size| *size > 0);
        let (Some(width), Some(height)) =
            (cropped(coded_width, crop[0] + crop[1], unit_x), cropped(coded_height, crop[2] + crop[3], unit_y))
        else {
            return Err(CodecError::Malformed("cropping leaves no picture"));
        };
        let bit_depth_luma = 8 + bits.ue_max(8, "luma bit depth")? as u8;
        let bit_depth_chroma = 8 + bits.ue_max(8, "chroma bit depth")? as u8;
        let order_bits = 4 + bits.ue_max(12, "log2_max_pic_order_cnt_lsb")?;
        let all_layers = bits.bit()?;
        let mut reorder_depth = 0;
        for _ in if all_layers { 0 } else { top_temporal_id }..=top_temporal_id {
            bits.ue_max(15, "picture buffer")?;
            reorder_depth = bits.ue_max(15, "reordered pictures")?;
            bits.ue()?;
        }
        let mut sps = Sps {
            profile,
            top_temporal_id,
            nested,
            chroma_format,
            bit_depth_luma,
            bit_depth_chroma,
            width: width as u32,
            height: height as u32,
            look: Look::default(),
            frame_rate_millis: None,
            reorder_depth,
        };
        // What follows serves timing and colour alone: a set that ends early still describes its pictures.
        match sps.read_rest(&mut bits, order_bits) {
            Err(CodecError::Truncated) | Ok(()) => Ok(sps),
            Err(error) => Err(error),
        }
    }

    fn read_rest(&mut self, bits: &mut BitReader<'_>, order_bits: u32) -> Result<(), CodecError> {
        for _ in 0..6 {
            bits.ue()?; // block sizes and depths
        }
        if bits.bit()? && bits.bit()? {
            skip_scaling_lists(bits)?;
        }
        bits.skip(2)?; // asymmetric partitions, adaptive offset
        if bits.bit()? {
            bits.skip(8)?;
            bits.ue()?;
            bits.ue()?;
            bits.skip(1)?;
        }
        skip_reference_sets(bits)?;
        if bits.bit()? {
            for _ in 0..bits.ue_max(32, "long-term reference pictures")? {
                bits.skip(order_bits + 1)?;
            }
        }
        bits.skip(2)?; // temporal vectors, strong smoothing
        if bits.bit()? {
            self.read_vui(bits)?;
        }
        Ok(())
    }

    /// VUI parameters up to the timing (section E.2.1).
    fn read_vui(&mut self, bits: &mut BitReader<'_>) -> Result<(), CodecError> {
        self.look = Look::read(bits)?;
        bits.skip(3)?; // neutral chroma, fields, frame and field information
        if bits.bit()? {
            for _ in 0..4 {
                bits.ue()?; // default display window: advice that players do not follow
            }
        }
        if bits.bit()? {
            let tick = u64::from(bits.bits(32)?);
            let scale = u64::from(bits.bits(32)?);
            if tick != 0 && scale != 0 {
                let rate_millis = (scale * 1000 + tick / 2) / tick;
                self.frame_rate_millis = believable_rate(rate_millis);
            }
        }
        Ok(())
    }

    /// The codec parameter (ISO/IEC 14496-15 annex E.3).
    pub(super) fn codec_string(&self) -> String {
        use std::fmt::Write;
        let [general, c0, c1, c2, c3, constraints @ .., level] = self.profile;
        let space = ["", "A", "B", "C"][usize::from(general >> 6)];
        let tier = if general & 0x20 != 0 { 'H' } else { 'L' };
        let compatible = u32::from_be_bytes([c0, c1, c2, c3]).reverse_bits();
        let mut text = format!("hvc1.{space}{}.{compatible:X}.{tier}{level}", general & 0x1f);
        let kept = constraints.iter().rposition(|byte| *byte != 0).map_or(0, |last| last + 1);
        for byte in &constraints[..kept] {
            write!(text, ".{byte:X}").expect("writing to a string does not fail");
        }
        text
    }
}

fn skip_sub_layer_profiles(bits: &mut BitReader<'_>, count: u8) -> Result<(), CodecError> {
    let mut present = [(false, false); 7];
    for layer in &mut present[..usize::from(count)] {
        *layer = (bits.bit()?, bits.bit()?);
    }
    if count > 0 {
        bits.skip(2 * (8 - u32::from(count)))?;
    }
    for (profile, level) in &present[..usize::from(count)] {
        bits.skip(if *profile { 88 } else { 0 } + if *level { 8 } else { 0 })?;
    }
    Ok(())
}

/// Section 7.3.4.
fn skip_scaling_lists(bits: &mut BitReader<'_>) -> Result<(), CodecError> {
    for size in 0..4u32 {
        for _ in (0..6).step_by(if size == 3 { 3 } else { 1 }) {
            if !bits.bit()? {
                bits.ue()?;
                continue;
            }
            if size > 1 {
                bits.se()?;
            }
            for _ in 0..64.min(1 << (4 + (size << 1))) {
                bits.se()?;
            }
        }
    }
    Ok(())
}

/// Short-term reference picture sets (section 7.3.7).
fn skip_reference_sets(bits: &mut BitReader<'_>) -> Result<(), CodecError> {
    let count = bits.ue_max(64, "reference picture sets")?;
    let mut pictures = 0u32; // of the set before
    for set in 0..count {
        if set > 0 && bits.bit()? {
            bits.skip(1)?; // sign
            bits.ue()?;
            let mut kept = 0;
            for _ in 0..=pictures {
                // used_by_curr_pic_flag, or else use_delta_flag
                if bits.bit()? || bits.bit()? {
                    kept += 1;
                }
            }
            pictures = kept;
        } else {
            let negative = bits.ue_max(16, "reference pictures")?;
            let positive = bits.ue_max(16, "reference pictures")?;
            for _ in 0..negative + positive {
                bits.ue()?;
                bits.skip(1)?;
            }
            pictures = negative + positive;
        }
        if pictures > 32 {
            return Err(CodecError::Malformed("reference pictures"));
        }
    }
    Ok(())
}
