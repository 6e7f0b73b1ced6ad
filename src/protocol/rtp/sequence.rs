//! Wire counters that wrap, extended on arrival and never seen short again.

use super::reorder::MAX_PACKETS_REPAIRED;

/// Steps ahead beyond this are a new start rather than loss (RFC 3550 appendix A.1, MAX_DROPOUT).
const MAX_AHEAD: i64 = 3_000;
/// Steps back up to this are late or doubled packets (appendix A.1, MAX_MISORDER).
const MAX_BACK: i64 = 100;

/// What a packet's sequence number means.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Arrival {
    /// The first packet, or the first after a new start: order begins anew at this extended number.
    Start(i64),
    /// Ahead of everything before, or late by no more than is waited for.
    At(i64),
    /// Neither; believed when the next packet follows it.
    Doubtful,
}

/// Extends 16-bit sequence numbers; a source that starts anew is believed at its second packet in a row.
#[derive(Clone, Debug)]
pub(crate) struct Sequence {
    highest: Option<i64>,
    doubtful_next: Option<u16>,
    max_back: i64,
}

impl Default for Sequence {
    fn default() -> Sequence {
        Sequence { highest: None, doubtful_next: None, max_back: MAX_BACK }
    }
}

impl Sequence {
    /// For a source that sends missing packets again: two of them in a row are no new start.
    pub(crate) fn repaired() -> Sequence {
        Sequence { max_back: MAX_PACKETS_REPAIRED as i64, ..Sequence::default() }
    }

    /// Extends `sequence`.
    pub(crate) fn extend(&mut self, sequence: u16) -> Arrival {
        let Some(highest) = self.highest else {
            return self.start(sequence);
        };
        let step = i64::from(sequence.wrapping_sub(highest as u16) as i16);
        if (-self.max_back..=MAX_AHEAD).contains(&step) {
            self.doubtful_next = None;
            self.highest = Some(highest.max(highest + step));
            return Arrival::At(highest + step);
        }
        if self.doubtful_next == Some(sequence) {
            return self.start(sequence);
        }
        self.doubtful_next = Some(sequence.wrapping_add(1));
        Arrival::Doubtful
    }

    /// Forgets everything: another source speaks.
    pub(crate) fn reset(&mut self) {
        self.doubtful_next = None;
        // The next number starts a new cycle, so that order goes on.
        self.highest = None;
    }

    /// Whether `sequence` follows the highest number.
    pub(crate) fn is_next(&self, sequence: u16) -> bool {
        self.highest.is_some_and(|highest| sequence == (highest as u16).wrapping_add(1))
    }

    /// The highest number so far.
    #[cfg(test)]
    pub(crate) fn highest(&self) -> Option<i64> {
        self.highest
    }

    fn start(&mut self, sequence: u16) -> Arrival {
        self.doubtful_next = None;
        self.highest = Some(i64::from(sequence));
        Arrival::Start(i64::from(sequence))
    }
}

/// Extends 32-bit timestamps: each is taken as the nearest to the one before.
#[derive(Clone, Debug, Default)]
pub(crate) struct Timestamp {
    last: Option<i64>,
}

impl Timestamp {
    /// Extends `timestamp` and remembers it.
    pub(crate) fn extend(&mut self, timestamp: u32) -> i64 {
        let extended = self.near(timestamp).unwrap_or(i64::from(timestamp));
        self.last = Some(extended);
        extended
    }

    /// Extends `timestamp` without remembering it; none before the first packet.
    pub(crate) fn near(&self, timestamp: u32) -> Option<i64> {
        let last = self.last?;
        Some(last + i64::from(timestamp.wrapping_sub(last as u32) as i32))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sequence_goes_on_past_the_wrap_with_late_packets() {
        let mut sequence = Sequence::default();
        assert_eq!(sequence.extend(65_534), Arrival::Start(65_534));
        assert_eq!(sequence.extend(0), Arrival::At(65_536));
        assert_eq!(sequence.extend(65_535), Arrival::At(65_535));
        assert_eq!(sequence.extend(1), Arrival::At(65_537));
        assert_eq!(sequence.highest(), Some(65_537));
    }

    #[test]
    fn a_jump_is_believed_at_its_second_packet() {
        let mut sequence = Sequence::default();
        sequence.extend(10);
        assert_eq!(sequence.extend(40_000), Arrival::Doubtful);
        assert_eq!(sequence.extend(11), Arrival::At(11));
        assert_eq!(sequence.extend(40_001), Arrival::Doubtful);
        assert_eq!(sequence.extend(40_002), Arrival::Start(40_002));
    }

    #[test]
    fn packets_that_come_again_late_are_no_new_start_where_they_were_asked_for() {
        for (mut sequence, expected) in
            [(Sequence::default(), Arrival::Start(801)), (Sequence::repaired(), Arrival::At(801))]
        {
            sequence.extend(1_000);
            sequence.extend(800);
            assert_eq!(sequence.extend(801), expected);
        }
    }

    #[test]
    fn timestamps_go_on_past_the_wrap_and_back_for_reordered_pictures() {
        let mut timestamp = Timestamp::default();
        assert_eq!(timestamp.extend(u32::MAX - 10), i64::from(u32::MAX) - 10);
        assert_eq!(timestamp.extend(3_000), i64::from(u32::MAX) + 3_001);
        assert_eq!(timestamp.near(u32::MAX), Some(i64::from(u32::MAX)));
        assert_eq!(timestamp.extend(u32::MAX), i64::from(u32::MAX));
        assert_eq!(timestamp.extend(6_000), i64::from(u32::MAX) + 6_001);
    }
}
