//! Opus (RFC 7587) and G.711 (RFC 3551): a packet is a unit.

use std::collections::VecDeque;

use bytes::Bytes;
use media::codec::opus::packet_samples;

use super::{Piece, Unit};
use media::{DropReason, Dropped};

/// The machine.
#[derive(Debug)]
pub(crate) struct Audio {
    /// Opus, else G.711.
    opus: bool,
    lost: u32,
    dropped: Dropped,
}

impl Audio {
    /// For Opus.
    pub(super) fn opus() -> Audio {
        Audio { opus: true, lost: 0, dropped: Dropped::default() }
    }

    /// For G.711, one channel.
    pub(super) fn g711() -> Audio {
        Audio { opus: false, lost: 0, dropped: Dropped::default() }
    }

    /// Takes the next payload.
    pub(super) fn push(&mut self, piece: Piece<'_>, out: &mut VecDeque<Unit>) {
        self.lost = self.lost.saturating_add(piece.lost);
        if piece.payload.is_empty() {
            return;
        }
        let duration = match self.opus {
            true => packet_samples(piece.payload),
            false => u32::try_from(piece.payload.len()).ok(),
        };
        if duration.is_none() {
            self.dropped.count(DropReason::BrokenUnit, 1);
            self.lost = self.lost.saturating_add(1);
            return;
        }
        out.push_back(Unit {
            timestamp: piece.timestamp,
            duration,
            loss_before: std::mem::take(&mut self.lost),
            arrival: piece.arrival,
            data: Bytes::copy_from_slice(piece.payload),
            rest: false,
        });
    }

    /// What was left out so far.
    pub(super) fn dropped(&self) -> Dropped {
        self.dropped
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use media::ServerTime;

    fn push(machine: &mut Audio, lost: u32, payload: &[u8]) -> Option<(Option<u32>, u32)> {
        let mut out = VecDeque::new();
        machine.push(Piece { marker: false, timestamp: 5, lost, arrival: ServerTime::default(), payload }, &mut out);
        out.pop_front().map(|unit| (unit.duration, unit.loss_before))
    }

    #[test]
    fn opus_packets_say_their_length() {
        let mut opus = Audio::opus();
        assert_eq!(push(&mut opus, 0, &[0xfc, 1, 2]), Some((Some(960), 0)), "CELT 20 ms");
        assert_eq!(push(&mut opus, 0, &[0x09, 1, 2]), Some((Some(1_920), 0)), "SILK 2 of 20 ms");
        assert_eq!(push(&mut opus, 0, &[0x1b, 2, 2]), Some((Some(5_760), 0)), "SILK 2 of 60 ms, counted");
    }

    #[test]
    fn opus_packets_that_lie_are_lost_packets() {
        let mut opus = Audio::opus();
        for payload in [&[0xff][..], &[0xff, 0], &[0x1b, 63]] {
            assert_eq!(push(&mut opus, 0, payload), None);
        }
        assert_eq!(push(&mut opus, 2, &[0xfc]), Some((Some(960), 5)));
    }

    #[test]
    fn g711_lasts_a_tick_a_byte() {
        assert_eq!(push(&mut Audio::g711(), 0, &[0; 160]), Some((Some(160), 0)));
        assert_eq!(push(&mut Audio::g711(), 0, &[]), None);
    }
}
