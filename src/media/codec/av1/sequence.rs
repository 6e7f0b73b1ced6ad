//! The sequence header (section 5.5).

use crate::codec::bits::BitReader;
use crate::codec::{CodecError, believable_rate, check_size};

/// What a sequence header says.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Sequence {
    /// `seq_profile`, 0 to 2.
    pub profile: u8,
    /// `seq_level_idx` of the first operating point: 8 is level 4.0.
    pub level: u8,
    /// `seq_tier` of the first operating point.
    pub high_tier: bool,
    /// 8, 10 or 12.
    pub bit_depth: u8,
    /// Luma only.
    pub monochrome: bool,
    /// Whether chroma has half the columns, and half the rows.
    pub subsampling: (bool, bool),
    /// `chroma_sample_position`.
    pub chroma_position: u8,
    /// Primaries, transfer, matrix, when said.
    pub colour: Option<[u8; 3]>,
    /// Whether luma goes from 0 to the maximum.
    pub full_range: bool,
    /// Pixels of a row, at most.
    pub width: u32,
    /// Rows, at most.
    pub height: u32,
    /// Pictures a second in thousandths, when all have the same length.
    pub frame_rate_millis: Option<u32>,
    /// What frame headers must be read with.
    pub(super) frames: Frames,
}

/// Which fields frame headers have.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub(super) struct Frames {
    /// A single picture with a short header.
    pub is_reduced: bool,
    /// Bits of `frame_presentation_time`; none when shown frames have none.
    pub presentation_time_bits: Option<u32>,
    /// Whether frame headers may have buffer removal times.
    pub has_decoder_model: bool,
    /// Bits of `current_frame_id`; none without.
    pub frame_id_bits: Option<u32>,
    /// `seq_force_screen_content_tools`; none when each frame says.
    pub screen_content_tools: Option<bool>,
    /// `seq_force_integer_mv`; none when each frame says.
    pub integer_mv: Option<bool>,
    /// Bits of `order_hint`.
    pub order_hint_bits: u32,
}

/// `timing_info` and `decoder_model_info`.
#[derive(Default)]
struct Timing {
    rate: Option<u32>,
    is_equal: bool,
    /// Bits of decoder buffer delays and of presentation times.
    model: Option<(u32, u32)>,
}

impl Sequence {
    /// Reads the payload of a sequence header OBU.
    ///
    /// # Errors
    /// When it is cut, breaks the specification, or describes pictures beyond the limits of [`super::super`].
    pub fn parse(payload: &[u8]) -> Result<Sequence, CodecError> {
        let mut bits = BitReader::plain(payload);
        let profile = bits.bits(3)? as u8;
        if profile > 2 {
            return Err(CodecError::Unsupported("AV1 profile"));
        }
        bits.skip(1)?; // still_picture
        let is_reduced = bits.bit()?;
        let mut frames = Frames { is_reduced, ..Frames::default() };
        let (mut level, mut high_tier, mut timing) = (0, false, Timing::default());
        if is_reduced {
            level = bits.bits(5)? as u8;
        } else {
            if bits.bit()? {
                timing = Timing::read(&mut bits)?;
            }
            let has_delay = bits.bit()?;
            for point in 0..=bits.bits(5)? {
                bits.skip(12)?; // operating_point_idc
                let this_level = bits.bits(5)? as u8;
                let this_tier = this_level > 7 && bits.bit()?;
                if let Some((delay_bits, _)) = timing.model
                    && bits.bit()?
                {
                    bits.skip(2 * delay_bits + 1)?;
                }
                if has_delay && bits.bit()? {
                    bits.skip(4)?;
                }
                if point == 0 {
                    (level, high_tier) = (this_level, this_tier);
                }
            }
        }
        frames.has_decoder_model = timing.model.is_some();
        frames.presentation_time_bits = timing.model.map(|(_, bits)| bits).filter(|_| !timing.is_equal);
        let (width_bits, height_bits) = (bits.bits(4)? + 1, bits.bits(4)? + 1);
        let (width, height) = (bits.bits(width_bits)? + 1, bits.bits(height_bits)? + 1);
        check_size(width.into(), height.into())?;
        if !is_reduced && bits.bit()? {
            frames.frame_id_bits = Some(bits.bits(4)? + 2 + bits.bits(3)? + 1);
        }
        bits.skip(3)?; // superblocks, filter intra, intra edge filter
        if !is_reduced {
            tools(&mut bits, &mut frames)?;
        }
        bits.skip(3)?; // superres, cdef, restoration
        let sequence = Sequence {
            profile,
            level,
            high_tier,
            bit_depth: 8,
            monochrome: false,
            subsampling: (true, true),
            chroma_position: 0,
            colour: None,
            full_range: false,
            width,
            height,
            frame_rate_millis: timing.rate,
            frames,
        };
        sequence.with_colour(&mut bits)
    }

    /// `color_config` (section 5.5.2), and the flag behind it.
    fn with_colour(mut self, bits: &mut BitReader<'_>) -> Result<Sequence, CodecError> {
        let is_high = bits.bit()?;
        self.bit_depth = match (is_high, self.profile == 2) {
            (true, true) => 10 + 2 * u8::from(bits.bit()?),
            (true, false) => 10,
            (false, _) => 8,
        };
        self.monochrome = self.profile != 1 && bits.bit()?;
        if bits.bit()? {
            self.colour = Some([bits.bits(8)? as u8, bits.bits(8)? as u8, bits.bits(8)? as u8]);
        }
        if self.monochrome {
            self.full_range = bits.bit()?;
        } else {
            if self.colour == Some([1, 13, 0]) {
                // sRGB as it is.
                (self.full_range, self.subsampling) = (true, (false, false));
            } else {
                self.full_range = bits.bit()?;
                self.subsampling = match self.profile {
                    0 => (true, true),
                    1 => (false, false),
                    _ if self.bit_depth == 12 => {
                        let columns = bits.bit()?;
                        (columns, columns && bits.bit()?)
                    }
                    _ => (true, false),
                };
                if self.subsampling == (true, true) {
                    self.chroma_position = bits.bits(2)? as u8;
                }
            }
            bits.skip(1)?; // separate_uv_delta_q
        }
        bits.skip(1)?; // film grain
        Ok(self)
    }
}

impl Timing {
    /// `timing_info` (section 5.5.3), and `decoder_model_info` (section 5.5.4) where it follows.
    fn read(bits: &mut BitReader<'_>) -> Result<Timing, CodecError> {
        let (tick, scale, is_equal) = (u64::from(bits.bits(32)?), u64::from(bits.bits(32)?), bits.bit()?);
        // `uvlc` is exp-Golomb.
        let ticks = if is_equal { tick * (u64::from(bits.ue()?) + 1) } else { 0 };
        let rate = (scale * 1000).checked_div(ticks).and_then(believable_rate);
        let mut model = None;
        if bits.bit()? {
            let delay_bits = bits.bits(5)? + 1;
            bits.skip(32 + 5)?; // num_units_in_decoding_tick, bits of removal times
            model = Some((delay_bits, bits.bits(5)? + 1));
        }
        Ok(Timing { rate, is_equal, model })
    }
}

/// From `enable_interintra_compound` to `order_hint_bits_minus_1`.
fn tools(bits: &mut BitReader<'_>, frames: &mut Frames) -> Result<(), CodecError> {
    bits.skip(4)?; // interintra and masked compounds, warped motion, dual filter
    let has_order_hints = bits.bit()?;
    if has_order_hints {
        bits.skip(2)?; // distance weights, motion vectors of references
    }
    frames.screen_content_tools = if bits.bit()? { None } else { Some(bits.bit()?) };
    if frames.screen_content_tools != Some(false) {
        frames.integer_mv = if bits.bit()? { None } else { Some(bits.bit()?) };
    }
    if has_order_hints {
        frames.order_hint_bits = bits.bits(3)? + 1;
    }
    Ok(())
}
