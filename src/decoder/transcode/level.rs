//! The level of what is made. openh264 says 5.1 of everything, which makes decoders keep memory that they do not need, and
//! some in hardware refuse.

/// `nal_unit_type` of a sequence parameter set.
const SPS: u8 = 7;

/// ITU-T H.264 table A-1: macroblocks a picture, macroblocks a second, thousands of bits a second (of baseline), `level_idc`.
const LEVELS: [(u64, u64, u64, u8); 8] = [
    (396, 11_880, 2_000, 20),
    (1_620, 20_250, 4_000, 22),
    (1_620, 40_500, 10_000, 30),
    (3_600, 108_000, 14_000, 31),
    (5_120, 216_000, 20_000, 32),
    (8_192, 245_760, 20_000, 40),
    (8_704, 522_240, 50_000, 42),
    (36_864, 983_040, 240_000, 51),
];

/// The lowest level of [`LEVELS`] that allows pictures of this size, at this rate, with so many bits a second.
pub(super) fn level(width: u32, height: u32, frame_rate_millis: u32, bits: u64) -> u8 {
    let (wide, high) = (u64::from(width.div_ceil(16)), u64::from(height.div_ceil(16)));
    let blocks = wide * high;
    let second = (blocks * u64::from(frame_rate_millis)).div_ceil(1000);
    // A side is at most the root of eight times the most macroblocks.
    let allows = |(most, most_second, thousands, _): &&(u64, u64, u64, u8)| {
        blocks <= *most && wide.max(high).pow(2) <= most * 8 && second <= *most_second && bits <= thousands * 1000
    };
    LEVELS.iter().find(allows).map_or(51, |(.., level)| *level)
}

/// Writes `level` into the sequence parameter sets of a unit with start codes.
pub(super) fn set_level(unit: &mut [u8], level: u8) {
    let starts: Vec<usize> = unit.windows(4).enumerate().filter(|(_, bytes)| is_sps(bytes)).map(|(at, _)| at).collect();
    for start in starts {
        // Header, profile, constraints, level.
        if let Some(byte) = unit.get_mut(start + 6) {
            *byte = level;
        }
    }
}

fn is_sps(bytes: &[u8]) -> bool {
    matches!(bytes, [0, 0, 1, head] if head & 0x1f == SPS)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn levels_are_those_of_the_standard() {
        assert_eq!(level(320, 180, 25_000, 300_000), 20);
        assert_eq!(level(640, 360, 25_000, 1_000_000), 30);
        assert_eq!(level(1280, 720, 30_000, 3_000_000), 31);
        assert_eq!(level(1280, 720, 60_000, 3_000_000), 32);
        assert_eq!(level(1920, 1080, 30_000, 6_000_000), 40);
        assert_eq!(level(1080, 1920, 60_000, 6_000_000), 42);
        assert_eq!(level(1920, 16, 30_000, 1_000_000), 31, "a long side");
        assert_eq!(level(8192, 8192, 30_000, 1_000_000), 51);
    }

    #[test]
    fn a_level_is_written_where_it_stands() {
        let mut unit = [0, 0, 0, 1, 0x67, 66, 0xc0, 51, 9, 0, 0, 1, 0x65, 1, 2, 3, 0, 0, 1, 0x67, 66];
        let mut expected = unit;
        expected[7] = 31;
        set_level(&mut unit, 31);
        assert_eq!(unit, expected);
    }
}
