//! Bytes of a packet or request that wait for the rest of it: for a while, however slowly more of them come.

use std::time::{Duration, Instant};

/// The rest must come within this. A session that was announced must be recorded, or ask something, in the same time.
pub(super) const PATIENCE: Duration = Duration::from_secs(15);

/// Since when the first item in the buffer is unfinished; none when the buffer is empty.
#[derive(Default)]
pub(super) struct Unfinished(Option<Instant>);

impl Unfinished {
    /// Items were taken from a buffer of `before` bytes, and `left` remain.
    pub(super) fn look(&mut self, left: usize, before: usize, now: Instant) {
        self.0 = match left {
            0 => None,
            left if left < before => Some(now),
            _ => self.0.or(Some(now)),
        };
    }

    /// For so long nobody looked at the buffer, which is not the client's fault.
    pub(super) fn wait(&mut self, time: Duration) {
        self.0 = self.0.map(|since| since + time);
    }

    /// When the client has taken too long, unless more is taken before.
    pub(super) fn due(&self) -> Option<Instant> {
        self.0.map(|since| since + PATIENCE)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_byte_now_and_then_does_not_finish_a_packet_and_whole_packets_do() {
        let start = Instant::now();
        let at = |seconds| start + Duration::from_secs(seconds);
        let mut unfinished = Unfinished::default();
        assert_eq!(unfinished.due(), None);
        for second in [0, 5, 10] {
            unfinished.look(4 + second as usize, 4 + second as usize, at(second));
            assert_eq!(unfinished.due(), Some(start + PATIENCE), "a byte at {second} s");
        }
        unfinished.look(3, 60, at(14));
        assert_eq!(unfinished.due(), Some(at(14) + PATIENCE), "the next packet has begun");
        unfinished.wait(Duration::from_secs(20));
        assert_eq!(unfinished.due(), Some(at(34) + PATIENCE), "the disk held the client back");
        unfinished.look(0, 9, at(35));
        assert_eq!(unfinished.due(), None);
    }
}
