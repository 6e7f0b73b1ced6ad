//! VP9 payloads (RFC 9628): a payload descriptor, then bytes of a frame.
//!
//! All spatial layers of a picture have one timestamp and are one access unit: a superframe with an index, as files have them.

use std::collections::VecDeque;

use media::codec::vp9::{MAX_FRAMES, superframe_index};

use super::frame::Assembly;
use super::{Piece, Unit};
use media::Dropped;

/// The machine.
#[derive(Debug, Default)]
pub(crate) struct Vp9 {
    unit: Assembly,
    /// Lengths of the frames that are complete.
    frames: Vec<usize>,
    /// Where the frame in the making starts.
    open: Option<usize>,
}

/// What a payload is of.
struct Descriptor {
    begins: bool,
    ends: bool,
    spatial_id: u8,
}

impl Descriptor {
    /// Takes the descriptor off `payload` (section 4.2); none when it is cut or against the rules.
    fn take(payload: &mut &[u8]) -> Option<Descriptor> {
        let mut next = || {
            let (&byte, rest) = payload.split_first()?;
            *payload = rest;
            Some(byte)
        };
        let first = next()?;
        let is_set = |bit: u8| first & bit != 0;
        let (is_predicted, is_flexible) = (is_set(0x40), is_set(0x10));
        if is_set(0x80) && next()? & 0x80 != 0 {
            next()?; // a picture id of 15 bits
        }
        let mut spatial_id = 0;
        if is_set(0x20) {
            spatial_id = next()? >> 1 & 7;
            if !is_flexible {
                next()?; // TL0PICIDX
            }
        }
        if is_flexible && is_predicted {
            // At most three references, each says whether another follows.
            if next()? & 1 != 0 && next()? & 1 != 0 && next()? & 1 != 0 {
                return None;
            }
        }
        if is_set(0x02) {
            let structure = next()?;
            if structure & 0x10 != 0 {
                (0..4 * (usize::from(structure >> 5) + 1)).try_for_each(|_| next().map(drop))?;
            }
            if structure & 0x08 != 0 {
                for _ in 0..next()? {
                    let references = next()? >> 2 & 3;
                    (0..references).try_for_each(|_| next().map(drop))?;
                }
            }
        }
        Some(Descriptor { begins: is_set(0x08), ends: is_set(0x04), spatial_id })
    }
}

impl Vp9 {
    /// Takes the next payload.
    pub(super) fn push(&mut self, piece: Piece<'_>, out: &mut VecDeque<Unit>) {
        if self.unit.is_over(&piece) {
            self.end(out);
        }
        if self.unit.begin(&piece) {
            self.frames.clear();
            self.open = None;
        }
        if !piece.payload.is_empty() {
            self.payload(piece.payload);
        }
        if piece.marker {
            self.unit.marked();
            self.end(out);
        }
    }

    /// What was left out so far.
    pub(super) fn dropped(&self) -> Dropped {
        self.unit.dropped()
    }

    /// Gives out the last unit: senders without markers end one by the next.
    pub(super) fn finish(&mut self, out: &mut VecDeque<Unit>) {
        self.unit.finish();
        self.end(out);
    }

    fn payload(&mut self, mut bytes: &[u8]) {
        let Some(descriptor) = Descriptor::take(&mut bytes) else { return self.unit.spoil() };
        if bytes.is_empty() || descriptor.begins == self.open.is_some() {
            // Neither a frame within a frame, nor one without a beginning.
            return self.unit.spoil();
        }
        if descriptor.begins {
            // After a loss lower layers may be missing, which are sent first.
            if self.frames.is_empty() && (descriptor.spatial_id == 0 || !self.unit.is_suspect()) {
                self.unit.start();
            }
            if self.frames.len() == MAX_FRAMES {
                return self.unit.spoil();
            }
            self.open = Some(self.unit.len());
        }
        self.unit.append(bytes);
        if descriptor.ends
            && let Some(start) = self.open.take()
            && self.unit.is_running()
        {
            self.frames.push(self.unit.len() - start);
        }
    }

    fn end(&mut self, out: &mut VecDeque<Unit>) {
        if self.open.take().is_some() {
            self.unit.spoil();
        }
        if self.unit.is_running()
            && let Some(index) = superframe_index(&self.frames)
        {
            self.unit.append(&index);
        }
        self.unit.end(out);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::protocol::rtp::depacketise::Depacketiser;
    use crate::protocol::rtp::depacketise::tests::check;

    fn vp9(packets: &[(bool, i64, u32, &[u8])], expected: &[(i64, u32, &[u8])]) {
        check(Depacketiser::Vp9(Vp9::default()), packets, expected);
    }

    #[test]
    fn descriptors_of_both_modes_are_passed_over() {
        let structure = [0x0e, 0x38, 1, 64, 0, 180, 2, 128, 1, 104, 2, 0x14, 1, 0x08, 1, 2, 7];
        vp9(
            &[
                (true, 0, 0, &[0x0c, 1]),
                (true, 1, 0, &[0x8c, 0x11, 1]),
                (true, 2, 0, &[0x8c, 0x91, 0x11, 1]),
                (true, 3, 0, &[0xac, 0x91, 0x11, 0x20, 9, 1]), // layers, non-flexible
                (true, 4, 0, &[0xfc, 0x91, 0x11, 0x20, 3, 5, 4, 1]), // layers, flexible, three references
                (true, 5, 0, &[0xdc, 0x11, 4, 1]),             // flexible, one reference
                (true, 6, 0, &structure),
            ],
            &[(0, 0, &[1]), (1, 0, &[1]), (2, 0, &[1]), (3, 0, &[1]), (4, 0, &[1]), (5, 0, &[1]), (6, 0, &[7])],
        );
    }

    #[test]
    fn layers_of_a_picture_are_one_superframe() {
        vp9(
            &[
                (false, 0, 0, &[0x28, 0x00, 0, 1]),
                (false, 0, 0, &[0x24, 0x00, 0, 2]),
                (true, 0, 0, &[0x2c, 0x03, 0, 3]),
                (true, 1, 0, &[0x6c, 0x02, 0, 4]), // the lower layer is not sent
            ],
            &[(0, 0, &[1, 2, 3, 0xd9, 2, 0, 0, 0, 1, 0, 0, 0, 0xd9]), (1, 0, &[4])],
        );
    }

    #[test]
    fn loss_drops_what_is_incomplete_and_is_told_by_the_next() {
        vp9(
            &[
                (true, 0, 0, &[0x04, 9]), // joined in the middle
                (true, 1, 0, &[0x0c, 1]),
                (false, 2, 0, &[0x08, 2]),
                (true, 2, 1, &[0x04, 3]),
                (true, 3, 1, &[0x0c, 4]),       // whole around the loss
                (true, 4, 1, &[0x6c, 2, 0, 5]), // its lower layer was lost
                (true, 5, 0, &[0x0c, 6]),
            ],
            &[(1, 1, &[1]), (3, 2, &[4]), (5, 1, &[6])],
        );
    }

    #[test]
    fn hostile_payloads_cost_their_unit_only() {
        let hostile: [&[u8]; 10] = [
            &[0x8c],
            &[0x8c, 0x80],
            &[0x0c],
            &[0x2c, 0],
            &[0x5c, 1, 1, 1, 1],
            &[0x0e, 0xf8, 1],
            &[0x0e, 0x08, 255, 0, 0],
            &[0x04, 1],
            &[0x08, 1],
            &[0x00, 1],
        ];
        for payload in hostile {
            vp9(
                &[(true, 0, 0, &[0x0c, 1]), (true, 1, 0, payload), (true, 2, 0, &[0x0c, 2])],
                &[(0, 0, &[1]), (2, 1, &[2])],
            );
        }
        let many = [(false, 0, 0, &[0x0c, 1][..]); 9];
        vp9(&[&many[..], &[(true, 2, 0, &[0x0c, 2][..])]].concat(), &[(2, 1, &[2])]);
    }
}
