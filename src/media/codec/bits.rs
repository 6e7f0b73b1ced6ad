//! Bits of a NAL unit's payload, emulation prevention bytes taken out on the way.

use super::CodecError;

/// Reads bits of `data`, most significant first, skipping each 0x03 after two zero bytes
/// (ITU-T H.264 section 7.4.1, H.265 section 7.4.2) unless built by [`BitReader::plain`].
pub struct BitReader<'a> {
    data: &'a [u8],
    next: usize,
    zeros: u8,
    current: u8,
    left: u8,
    escaped: bool,
}

impl<'a> BitReader<'a> {
    /// A reader of a NAL unit's bytes.
    pub fn new(data: &'a [u8]) -> BitReader<'a> {
        BitReader { data, next: 0, zeros: 0, current: 0, left: 0, escaped: true }
    }

    /// A reader of bytes without emulation prevention.
    pub fn plain(data: &'a [u8]) -> BitReader<'a> {
        BitReader { escaped: false, ..BitReader::new(data) }
    }

    fn load(&mut self) -> Result<(), CodecError> {
        let mut byte = *self.data.get(self.next).ok_or(CodecError::Truncated)?;
        self.next += 1;
        if self.escaped && self.zeros >= 2 && byte == 3 {
            self.zeros = 0;
            byte = *self.data.get(self.next).ok_or(CodecError::Truncated)?;
            self.next += 1;
        }
        self.zeros = if byte == 0 { self.zeros.saturating_add(1) } else { 0 };
        self.current = byte;
        self.left = 8;
        Ok(())
    }

    /// The next bit.
    ///
    /// # Errors
    /// [`CodecError::Truncated`] at the end, as all verbs here.
    pub fn bit(&mut self) -> Result<bool, CodecError> {
        if self.left == 0 {
            self.load()?;
        }
        self.left -= 1;
        Ok(self.current >> self.left & 1 == 1)
    }

    /// The next `count` bits as a number; `count` is at most 32.
    ///
    /// # Errors
    /// At the end.
    pub fn bits(&mut self, count: u32) -> Result<u32, CodecError> {
        debug_assert!(count <= 32);
        let mut value = 0u32;
        for _ in 0..count {
            value = value << 1 | u32::from(self.bit()?);
        }
        Ok(value)
    }

    /// Passes over `count` bits.
    ///
    /// # Errors
    /// At the end.
    pub fn skip(&mut self, count: u32) -> Result<(), CodecError> {
        for _ in 0..count {
            self.bit()?;
        }
        Ok(())
    }

    /// An unsigned exp-Golomb number (H.264 section 9.1).
    ///
    /// # Errors
    /// At the end, or when it has more than 32 bits.
    pub fn ue(&mut self) -> Result<u32, CodecError> {
        let mut zeros = 0;
        while !self.bit()? {
            zeros += 1;
            if zeros > 31 {
                return Err(CodecError::Malformed("exp-Golomb number of more than 32 bits"));
            }
        }
        Ok(((1u64 << zeros) - 1 + u64::from(self.bits(zeros)?)) as u32)
    }

    /// An unsigned exp-Golomb number of at most `max`.
    ///
    /// # Errors
    /// At the end, or when it is larger; `what` names it.
    pub fn ue_max(&mut self, max: u32, what: &'static str) -> Result<u32, CodecError> {
        let value = self.ue()?;
        if value > max { Err(CodecError::Malformed(what)) } else { Ok(value) }
    }

    /// A signed exp-Golomb number (H.264 section 9.1.1).
    ///
    /// # Errors
    /// As [`BitReader::ue`].
    pub fn se(&mut self) -> Result<i64, CodecError> {
        let code = i64::from(self.ue()?);
        Ok(if code % 2 == 1 { (code + 1) / 2 } else { -(code / 2) })
    }

    /// Bits that are left, an upper bound when emulation prevention bytes are ahead.
    pub fn remaining(&self) -> usize {
        (self.data.len() - self.next) * 8 + usize::from(self.left)
    }
}

#[cfg(test)]
#[expect(clippy::unusual_byte_groupings, reason = "groups are fields of the codec")]
mod tests {
    use super::*;

    #[test]
    fn emulation_prevention_bytes_are_passed_over() {
        let mut bits = BitReader::new(&[0, 0, 3, 1, 0, 0, 3]);
        assert_eq!(bits.bits(24), Ok(1));
        assert_eq!(bits.bits(16), Ok(0));
        assert_eq!(bits.bit(), Err(CodecError::Truncated));
        assert_eq!(BitReader::plain(&[0, 0, 3, 1]).bits(32), Ok(0x301));
    }

    #[test]
    fn exp_golomb_numbers_are_read_up_to_32_bits() {
        let mut bits = BitReader::new(&[0b1_010_011_0, 0b0100_0010, 0b1_0000000]);
        let values: Vec<_> = (0..5).map(|_| bits.ue()).collect();
        assert_eq!(values, [Ok(0), Ok(1), Ok(2), Ok(3), Ok(4)]);
        assert!(matches!(BitReader::new(&[0; 9]).ue(), Err(CodecError::Malformed(_))));
        let mut bits = BitReader::new(&[0b010_011_00, 0b100_00101]);
        assert_eq!([bits.se(), bits.se(), bits.se(), bits.se()], [Ok(1), Ok(-1), Ok(2), Ok(-2)]);
    }
}
