//! Chance that a test can repeat.

/// Small numbers that look random; the same ones for the same seed, which is not 0.
pub(crate) struct Dice(pub u64);

impl Dice {
    /// Below `sides`.
    pub(crate) fn roll(&mut self, sides: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 % sides as u64) as usize
    }
}
