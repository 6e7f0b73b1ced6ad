//! VP8 payloads (RFC 7741): a payload descriptor, then bytes of the frame.

use std::collections::VecDeque;

use super::frame::Assembly;
use super::{Piece, Unit};
use media::Dropped;

/// The machine.
#[derive(Debug, Default)]
pub(crate) struct Vp8 {
    unit: Assembly,
}

/// Whether a frame begins, and its bytes, from a payload (section 4.2); none when the descriptor is cut or nothing follows.
fn read(payload: &[u8]) -> Option<(bool, &[u8])> {
    let (&first, mut rest) = payload.split_first()?;
    if first & 0x80 != 0 {
        let (&extension, after) = rest.split_first()?;
        rest = after;
        if extension & 0x80 != 0 {
            // A picture id of 7 bits, or of 15.
            let long = usize::from(*rest.first()? >> 7);
            rest = rest.get(1 + long..)?;
        }
        let more = usize::from(extension & 0x40 != 0) + usize::from(extension & 0x30 != 0);
        rest = rest.get(more..)?;
    }
    // The start of a partition, and the first one.
    let begins = first & 0x10 != 0 && first & 0x07 == 0;
    (!rest.is_empty()).then_some((begins, rest))
}

impl Vp8 {
    /// Takes the next payload.
    pub(super) fn push(&mut self, piece: Piece<'_>, out: &mut VecDeque<Unit>) {
        if self.unit.is_over(&piece) {
            self.unit.end(out);
        }
        self.unit.begin(&piece);
        if !piece.payload.is_empty() {
            self.payload(piece.payload);
        }
        if piece.marker {
            self.unit.marked();
            self.unit.end(out);
        }
    }

    /// What was left out so far.
    pub(super) fn dropped(&self) -> Dropped {
        self.unit.dropped()
    }

    /// Gives out the last unit: senders without markers end one by the next.
    pub(super) fn finish(&mut self, out: &mut VecDeque<Unit>) {
        self.unit.finish();
        self.unit.end(out);
    }

    fn payload(&mut self, payload: &[u8]) {
        let Some((begins, bytes)) = read(payload) else { return self.unit.spoil() };
        if begins {
            if self.unit.len() > 0 {
                // Two frames in one unit.
                return self.unit.spoil();
            }
            self.unit.start();
        }
        self.unit.append(bytes);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::protocol::rtp::depacketise::Depacketiser;
    use crate::protocol::rtp::depacketise::tests::check;

    fn vp8(packets: &[(bool, i64, u32, &[u8])], expected: &[(i64, u32, &[u8])]) {
        check(Depacketiser::Vp8(Vp8::default()), packets, expected);
    }

    #[test]
    fn descriptors_of_all_lengths_are_passed_over() {
        let long: &[u8] = &[0x90, 0xf0, 0x81, 0x02, 7, 0x20, 1, 2];
        vp8(
            &[
                (true, 0, 0, &[0x10, 1]),
                (true, 1, 0, &[0x90, 0x80, 0x11, 1]),
                (true, 2, 0, &[0x90, 0x80, 0x91, 0x11, 1]),
                (true, 3, 0, long),
                (true, 4, 0, &[0x90, 0x10, 0x20, 1]),
                (true, 5, 0, &[0x90, 0x60, 9, 0x20, 1]),
            ],
            &[(0, 0, &[1]), (1, 0, &[1]), (2, 0, &[1]), (3, 0, &[1, 2]), (4, 0, &[1]), (5, 0, &[1])],
        );
    }

    #[test]
    fn partitions_and_their_parts_are_one_frame() {
        vp8(
            &[(false, 0, 0, &[0x10, 1]), (false, 0, 0, &[0, 2]), (false, 0, 0, &[0x11, 3]), (true, 0, 0, &[1, 4])],
            &[(0, 0, &[1, 2, 3, 4])],
        );
    }

    #[test]
    fn loss_drops_what_is_incomplete_and_is_told_by_the_next() {
        vp8(
            &[
                (false, 0, 0, &[0, 9]), // joined in the middle
                (true, 0, 0, &[0, 9]),
                (true, 1, 0, &[0x10, 1]),
                (false, 2, 0, &[0x10, 2]),
                (true, 2, 1, &[0, 3]),
                (true, 3, 0, &[0x10, 4]),
                (true, 4, 2, &[0x10, 5]), // whole around the loss
                (true, 5, 1, &[0, 6]),    // its beginning was lost
                (true, 6, 0, &[0x10, 7]),
            ],
            &[(1, 1, &[1]), (3, 1, &[4]), (4, 2, &[5]), (6, 1, &[7])],
        );
    }

    #[test]
    fn end_without_mark_is_the_next_timestamp() {
        vp8(&[(false, 0, 0, &[0x10, 1]), (false, 1, 0, &[0x10, 2])], &[(0, 0, &[1]), (1, 0, &[2])]);
    }

    #[test]
    fn hostile_payloads_cost_their_unit_only() {
        for payload in [&[0x90][..], &[0x90, 0x80], &[0x90, 0x80, 0x80], &[0x90, 0xff, 0x80, 1, 2], &[0x10], &[0x12, 1]]
        {
            vp8(
                &[(true, 0, 0, &[0x10, 1]), (true, 1, 0, payload), (true, 2, 0, &[0x10, 2])],
                &[(0, 0, &[1]), (2, 1, &[2])],
            );
        }
        // Padding is nothing.
        vp8(&[(true, 0, 0, &[0x10, 1]), (false, 0, 0, &[]), (true, 2, 0, &[0x10, 2])], &[(0, 0, &[1]), (2, 0, &[2])]);
    }
}
