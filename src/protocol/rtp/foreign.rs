//! Sequence numbers that packets of other payload types took.

use std::collections::VecDeque;

/// Most numbers kept: more in a row are taken for a loss.
const MAX_NUMBERS: usize = 64;

/// Numbers that a source gave to packets of payload types that are not the track's (RFC 3551 section 4.1: comfort noise;
/// RFC 4733: telephone events; Geovision cameras send type 50). They are missing in the track's order, and are no loss.
#[derive(Debug, Default)]
pub(super) struct Foreign {
    numbers: VecDeque<u16>,
}

impl Foreign {
    /// Such a packet came.
    pub(super) fn note(&mut self, sequence: u16) {
        if self.numbers.len() == MAX_NUMBERS {
            self.numbers.pop_front();
        }
        self.numbers.push_back(sequence);
    }

    /// Whether the packet with this extended number was one.
    pub(super) fn has(&self, sequence: i64) -> bool {
        self.numbers.contains(&(sequence as u16))
    }

    /// How many there are between two packets of the track; those up to `sequence` are forgotten.
    ///
    /// A sender that gives them no numbers of their own gives `last` or `sequence` twice: those count for nothing.
    pub(super) fn take_between(&mut self, last: i64, sequence: i64) -> i64 {
        if self.numbers.is_empty() {
            return 0;
        }
        let count = (last + 1..sequence).take(MAX_NUMBERS).filter(|number| self.has(*number)).count();
        self.numbers.retain(|number| number.wrapping_sub(sequence as u16) as i16 > 0);
        count as i64
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_between_two_packets_are_counted_once() {
        let mut foreign = Foreign::default();
        for number in [65_535, 0, 1, 7] {
            foreign.note(number);
        }
        assert!(foreign.has(65_536) && !foreign.has(65_538));
        assert_eq!(foreign.take_between(65_534, 65_538), 3, "over the wrap");
        assert_eq!(foreign.take_between(65_538, 65_543), 0, "its own number, given twice");
        assert_eq!(foreign.take_between(65_543, 65_546), 0, "all are forgotten");
    }
}
