//! The reorder buffer for datagrams: holds packets that came too early until the missing ones come or are given up.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use bytes::Bytes;

/// Most packets held.
pub(crate) const MAX_PACKETS: usize = 256;
/// Most bytes of packets held: a key frame and more, whatever the size of packets.
const MAX_BYTES: usize = 4 << 20;
/// Longest wait for a missing packet.
pub(crate) const MAX_WAIT: Duration = Duration::from_millis(200);
/// The same where missing packets are asked for and sent again: some round trips over a continent.
pub(crate) const MAX_PACKETS_REPAIRED: usize = 1_024;
const MAX_WAIT_REPAIRED: Duration = Duration::from_millis(600);

/// What became of a packet.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Placed {
    /// It is the next in order: use it now, then [`Reorder::pop`] what follows it.
    Next,
    /// Kept for later.
    Held,
    /// It was here before, or is later than we waited.
    Late,
}

/// Packets of one source in order of their extended sequence numbers.
#[derive(Debug)]
pub(crate) struct Reorder {
    next: Option<i64>,
    held: BTreeMap<i64, (Instant, Bytes)>,
    bytes: usize,
    wait: Duration,
    packets: usize,
}

impl Default for Reorder {
    fn default() -> Reorder {
        Reorder { next: None, held: BTreeMap::new(), bytes: 0, wait: MAX_WAIT, packets: MAX_PACKETS }
    }
}

impl Reorder {
    /// For a source that sends missing packets again.
    pub(crate) fn repaired() -> Reorder {
        Reorder { wait: MAX_WAIT_REPAIRED, packets: MAX_PACKETS_REPAIRED, ..Reorder::default() }
    }

    /// Longest wait for a missing packet.
    pub(crate) fn wait(&self) -> Duration {
        self.wait
    }

    /// Order begins anew at `sequence`.
    pub(crate) fn start(&mut self, sequence: i64) {
        self.held.clear();
        self.bytes = 0;
        self.next = Some(sequence);
    }

    /// Places the packet `bytes` with this extended number; copies it only when it must be held.
    pub(crate) fn place(&mut self, sequence: i64, bytes: &[u8], now: Instant) -> Placed {
        let next = *self.next.get_or_insert(sequence);
        if sequence < next || self.held.contains_key(&sequence) {
            return Placed::Late;
        }
        if sequence == next {
            self.next = Some(next + 1);
            return Placed::Next;
        }
        self.bytes += bytes.len();
        self.held.insert(sequence, (now, Bytes::copy_from_slice(bytes)));
        Placed::Held
    }

    /// The next packet, in order; skips missing ones when the oldest held packet has waited long enough or
    /// when too many are held.
    ///
    /// Numbers that `is_taken` knows were given to packets that do not come this way: nobody waits for them.
    pub(crate) fn pop(&mut self, now: Instant, is_taken: impl Fn(i64) -> bool) -> Option<(i64, Bytes)> {
        let (&sequence, _) = self.held.first_key_value()?;
        while let Some(next) = self.next.filter(|next| *next < sequence && is_taken(*next)) {
            self.next = Some(next + 1);
        }
        // A gap is given up once any packet behind it has waited: those behind came later than the first, or earlier.
        let waited = || self.held.values().any(|(since, _)| now.saturating_duration_since(*since) >= self.wait);
        let full = self.held.len() >= self.packets || self.bytes > MAX_BYTES;
        if Some(sequence) != self.next && !full && !waited() {
            return None;
        }
        let (_, bytes) = self.held.remove(&sequence)?;
        self.bytes -= bytes.len();
        self.next = Some(sequence + 1);
        Some((sequence, bytes))
    }

    /// Whether packets are held, so that [`Reorder::pop`] should be called again within [`Reorder::wait`].
    pub(crate) fn is_waiting(&self) -> bool {
        !self.held.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn drain(reorder: &mut Reorder, now: Instant) -> Vec<i64> {
        std::iter::from_fn(|| reorder.pop(now, |_| false).map(|(sequence, _)| sequence)).collect()
    }

    #[test]
    fn swapped_packets_come_out_in_order() {
        let now = Instant::now();
        let mut reorder = Reorder::default();
        assert_eq!(reorder.place(5, b"5", now), Placed::Next);
        assert_eq!(reorder.place(7, b"7", now), Placed::Held);
        assert_eq!(reorder.place(8, b"8", now), Placed::Held);
        assert_eq!(reorder.place(8, b"8", now), Placed::Late);
        assert!(drain(&mut reorder, now).is_empty());
        assert_eq!(reorder.place(6, b"6", now), Placed::Next);
        assert_eq!(drain(&mut reorder, now), [7, 8]);
        assert_eq!(reorder.place(6, b"6", now), Placed::Late);
    }

    #[test]
    fn a_missing_packet_is_given_up_after_the_wait() {
        let now = Instant::now();
        let mut reorder = Reorder::default();
        reorder.place(1, b"", now);
        reorder.place(3, b"", now);
        reorder.place(5, b"", now + MAX_WAIT / 2);
        assert!(drain(&mut reorder, now + MAX_WAIT / 2).is_empty());
        assert_eq!(drain(&mut reorder, now + MAX_WAIT), [3]);
        assert_eq!(drain(&mut reorder, now + MAX_WAIT * 2), [5]);
        assert!(!reorder.is_waiting());
    }

    #[test]
    fn holds_a_bounded_count() {
        let now = Instant::now();
        let mut reorder = Reorder::default();
        reorder.place(0, b"", now);
        for sequence in 0..10_000 {
            reorder.place(sequence * 2 + 2, b"", now);
            while reorder.pop(now, |_| false).is_some() {}
            assert!(reorder.held.len() < MAX_PACKETS);
        }
    }
}
