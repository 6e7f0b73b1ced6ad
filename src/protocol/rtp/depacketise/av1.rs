//! AV1 payloads (AOM "RTP Payload Format For AV1", version 1.0): an aggregation header, then OBU elements, which are whole OBUs or
//! parts of them. Out come temporal units as files have them: OBUs with their sizes, no temporal delimiter.

use std::collections::VecDeque;

use bytes::BytesMut;
use media::codec::av1::{self, Obu};

use super::frame::Assembly;
use super::{MAX_ACCESS_UNIT_BYTES, Piece, Unit};
use media::Dropped;

/// The machine.
#[derive(Debug, Default)]
pub(crate) struct Av1 {
    unit: Assembly,
    /// The OBU in the making, as sent.
    open: Option<BytesMut>,
}

impl Av1 {
    /// Takes the next payload.
    pub(super) fn push(&mut self, piece: Piece<'_>, out: &mut VecDeque<Unit>) {
        if self.unit.is_over(&piece) {
            self.end(out);
        }
        if self.unit.begin(&piece) {
            self.open = None;
        }
        if !piece.payload.is_empty() && self.payload(piece.payload).is_none() {
            self.unit.spoil();
            self.open = None;
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

    /// Takes the OBU elements of a payload (section 4.4); none when one is cut or out of place.
    fn payload(&mut self, payload: &[u8]) -> Option<()> {
        let (&header, mut rest) = payload.split_first()?;
        let (goes_on, is_continued) = (header & 0x80 != 0, header & 0x40 != 0);
        let count = header >> 4 & 3;
        if goes_on != self.open.is_some() {
            return None;
        }
        let mut taken = 0;
        while !rest.is_empty() {
            taken += 1;
            // The last of those that are counted goes to the end.
            let size = if count == taken { rest.len() } else { av1::take_size(&mut rest).ok()? };
            let (element, after) = rest.split_at_checked(size).filter(|(element, _)| !element.is_empty())?;
            rest = after;
            if taken == 1 && !goes_on && self.unit.len() == 0 {
                let begins = header & 0x08 != 0 || !self.unit.is_suspect() || is_beginning(element);
                if begins {
                    self.unit.start();
                }
            }
            if !self.unit.is_running() {
                return None;
            }
            let is_open = rest.is_empty() && is_continued;
            match (&mut self.open, is_open) {
                (Some(open), _) => open.extend_from_slice(element),
                (None, true) => self.open = Some(BytesMut::from(element)),
                (None, false) => self.obu(element)?,
            }
            if self.open.as_ref().is_some_and(|open| open.len() > MAX_ACCESS_UNIT_BYTES) {
                return None;
            }
            if !is_open && let Some(open) = self.open.take() {
                self.obu(&open)?;
            }
        }
        (taken >= count.max(1)).then_some(())
    }

    /// A whole OBU, with a size of its own or without.
    fn obu(&mut self, mut bytes: &[u8]) -> Option<()> {
        let obu = Obu::take(&mut bytes).ok().filter(|_| bytes.is_empty())?;
        if !av1::is_left_out(obu.kind) {
            let mut whole = BytesMut::with_capacity(obu.payload.len() + 8);
            av1::put_obu(&mut whole, obu.kind, obu.extension, obu.payload);
            self.unit.append(&whole);
        }
        Some(())
    }

    fn end(&mut self, out: &mut VecDeque<Unit>) {
        if self.open.take().is_some() {
            self.unit.spoil();
        }
        self.unit.end(out);
    }
}

/// Whether a temporal unit may begin with this OBU: nothing else says it after a loss. Tiles do not, nor frames of upper layers.
fn is_beginning(obu: &[u8]) -> bool {
    let spatial_id = match obu {
        [header, extension, ..] if header & 4 != 0 => extension >> 3 & 3,
        _ => 0,
    };
    let kind = obu.first().map_or(0, |header| header >> 3 & 15);
    let begins =
        matches!(kind, av1::TEMPORAL_DELIMITER | av1::SEQUENCE_HEADER | av1::METADATA | av1::FRAME | av1::FRAME_HEADER);
    begins && spatial_id == 0
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::protocol::rtp::depacketise::Depacketiser;
    use crate::protocol::rtp::depacketise::tests::check;

    fn av1(packets: &[(bool, i64, u32, &[u8])], expected: &[(i64, u32, &[u8])]) {
        check(Depacketiser::Av1(Av1::default()), packets, expected);
    }

    /// `obu_type` of a frame, without and with its size.
    const BARE: u8 = 6 << 3;
    const SIZED: u8 = BARE | 2;

    #[test]
    fn elements_are_counted_or_have_lengths() {
        av1(
            &[
                (true, 0, 0, &[0x10, BARE, 1, 2]),
                (true, 1, 0, &[0x20, 2, 1 << 3, 7, BARE, 1]),
                (true, 2, 0, &[0x00, 2, 1 << 3, 7, 2, BARE, 1]),
                (true, 3, 0, &[0x30, 1, 2 << 3, 3, SIZED, 1, 9, BARE, 1]), // a delimiter; one with a size
                (true, 4, 0, &[0x10, BARE | 4, 0x20, 1]),
            ],
            &[
                (0, 0, &[SIZED, 2, 1, 2]),
                (1, 0, &[1 << 3 | 2, 1, 7, SIZED, 1, 1]),
                (2, 0, &[1 << 3 | 2, 1, 7, SIZED, 1, 1]),
                (3, 0, &[SIZED, 1, 9, SIZED, 1, 1]),
                (4, 0, &[SIZED | 4, 0x20, 1, 1]),
            ],
        );
    }

    #[test]
    fn parts_of_an_obu_are_joined() {
        av1(
            &[
                (false, 0, 0, &[0x60, 2, 1 << 3, 7, BARE, 1]),
                (false, 0, 0, &[0xd0, 2, 3]),
                (true, 0, 0, &[0xa0, 1, 4, BARE, 5]),
            ],
            &[(0, 0, &[1 << 3 | 2, 1, 7, SIZED, 4, 1, 2, 3, 4, SIZED, 1, 5])],
        );
    }

    #[test]
    fn loss_drops_what_is_incomplete_and_is_told_by_the_next() {
        av1(
            &[
                (true, 0, 0, &[0x90, 9]), // joined in the middle
                (true, 1, 0, &[0x10, BARE, 1]),
                (false, 2, 0, &[0x50, BARE, 2]),
                (true, 2, 1, &[0x90, 3]),
                (true, 3, 1, &[0x10, BARE, 4]),             // whole around the loss
                (true, 4, 1, &[0x10, 4 << 3, 5]),           // tiles whose frame header was lost
                (true, 5, 1, &[0x10, BARE | 4, 0x08, 6]),   // an upper layer alone
                (true, 6, 1, &[0x18, 4 << 3 | 4, 0x08, 7]), // a new sequence begins here, says the sender
            ],
            &[(1, 1, &[SIZED, 1, 1]), (3, 2, &[SIZED, 1, 4]), (6, 3, &[4 << 3 | 6, 0x08, 1, 7])],
        );
    }

    #[test]
    fn hostile_payloads_cost_their_unit_only() {
        let hostile: [&[u8]; 12] = [
            &[0x10],
            &[0x00, 0],
            &[0x00, 9, BARE],
            &[0x00, 0x80],
            &[0x00, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff],
            &[0x30, 2, BARE, 1],
            &[0x90, 1],
            &[0x50, BARE, 1],
            &[0x10, SIZED, 9, 1],
            &[0x10, SIZED, 1, 1, 1],
            &[0x10, 0x80 | BARE, 1],
            &[0x10, BARE | 4],
        ];
        for payload in hostile {
            av1(
                &[(true, 0, 0, &[0x10, BARE, 1]), (true, 1, 0, payload), (true, 2, 0, &[0x10, BARE, 2])],
                &[(0, 0, &[SIZED, 1, 1]), (2, 1, &[SIZED, 1, 2])],
            );
        }
    }

    #[test]
    fn obus_without_end_stay_bounded() {
        let mut machine = Av1::default();
        let mut out = VecDeque::new();
        let mut payload = vec![0x50, BARE];
        payload.resize(8_000, 1);
        for count in 0..2_000 {
            payload[0] = if count == 0 { 0x50 } else { 0xd0 };
            let arrival = media::ServerTime::default();
            machine.push(Piece { marker: false, timestamp: 0, lost: 0, arrival, payload: &payload }, &mut out);
            assert!(machine.open.as_ref().map_or(0, BytesMut::len) <= MAX_ACCESS_UNIT_BYTES);
        }
        machine.finish(&mut out);
        assert!(out.is_empty());
    }
}
