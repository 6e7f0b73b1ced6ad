//! H.265 payloads (RFC 7798): single NAL units, aggregation packets, fragmentation units.
//!
//! Not here: decoding order numbers (`sprop-max-don-diff` above 0 is refused in the SDP) and PACI packets.

use std::collections::VecDeque;

use super::nal::{Assembly, Kind};
use super::{Piece, Unit};

/// The machine.
#[derive(Debug, Default)]
pub(crate) struct H265 {
    unit: Assembly,
}

/// What a NAL unit is; none for one that may not be in a packet. A slice segment begins with
/// `first_slice_segment_in_pic_flag` (ISO 23008-2 7.3.6.1).
fn kind(nal: &[u8]) -> Option<Kind> {
    let ([header, _], rest) = nal.split_first_chunk::<2>()?;
    match header >> 1 {
        0..=31 => Some(Kind::Slice { first: rest.first().is_some_and(|byte| byte & 0x80 != 0) }),
        32..=47 => Some(Kind::Other),
        _ => None,
    }
}

impl H265 {
    /// Takes the next payload.
    pub(super) fn push(&mut self, piece: Piece<'_>, out: &mut VecDeque<Unit>) {
        self.unit.begin(&piece, out);
        self.payload(piece.payload);
        if piece.marker {
            self.unit.marker(out);
        }
    }

    /// Gives out the last unit.
    pub(super) fn finish(&mut self, out: &mut VecDeque<Unit>) {
        self.unit.finish(out);
    }

    fn payload(&mut self, payload: &[u8]) {
        if payload.is_empty() {
            return;
        }
        let Some((&[first, second], rest)) = payload.split_first_chunk::<2>() else { return self.unit.spoil() };
        // With the forbidden bit, which makes it none of these.
        match first >> 1 {
            48 => self.unit.aggregate(rest, kind),
            49 => self.fragment(first, second, rest),
            _ => match kind(payload) {
                Some(kind) => self.unit.nal(payload, kind),
                None => self.unit.spoil(),
            },
        }
    }

    fn fragment(&mut self, first: u8, second: u8, rest: &[u8]) {
        let Some((&fu, bytes)) = rest.split_first() else { return self.unit.spoil() };
        let header = [first & 0x81 | (fu & 0x3f) << 1, second];
        match kind(&[header[0], header[1], bytes.first().copied().unwrap_or(0)]) {
            Some(kind) => self.unit.fragment(fu, &header, bytes, kind),
            None => self.unit.spoil(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use media::ServerTime;

    fn check(packets: &[(bool, i64, u32, &[u8])], expected: &[(i64, u32, &[u8])]) {
        let mut machine = H265::default();
        let mut out = VecDeque::new();
        for &(marker, timestamp, lost, payload) in packets {
            machine.push(Piece { marker, timestamp, lost, arrival: ServerTime::default(), payload }, &mut out);
        }
        machine.finish(&mut out);
        let units: Vec<_> = out.iter().map(|unit| (unit.timestamp, unit.loss_before, &unit.data[..])).collect();
        assert_eq!(units, expected);
    }

    #[test]
    fn single_aggregated_and_fragmented_units() {
        check(
            &[
                (false, 0, 0, &[48 << 1, 1, 0, 3, 32 << 1, 1, 9, 0, 3, 33 << 1, 1, 8]),
                (false, 0, 0, &[49 << 1, 1, 0x80 | 19, 0x88, 1]),
                (true, 0, 0, &[49 << 1, 1, 0x40 | 19, 2]),
                (true, 3000, 0, &[1 << 1, 1, 0x80]),
            ],
            &[
                (0, 0, &[0, 0, 0, 3, 64, 1, 9, 0, 0, 0, 3, 66, 1, 8, 0, 0, 0, 5, 38, 1, 0x88, 1, 2]),
                (3000, 0, &[0, 0, 0, 3, 2, 1, 0x80]),
            ],
        );
    }

    #[test]
    fn hostile_payloads_cost_their_unit_only() {
        let hostile: [&[u8]; 9] = [
            &[96],
            &[96, 1, 0, 1, 9],
            &[96, 1, 0, 9, 2],
            &[96, 1, 0, 0],
            &[96, 1, 7],
            &[98, 1],
            &[98, 1, 0x80 | 49, 1],
            &[100, 1, 2],
            &[0x82, 1, 0x80],
        ];
        for payload in hostile {
            check(
                &[(true, 0, 0, &[38, 1, 0x88]), (true, 3000, 0, payload), (true, 6000, 0, &[2, 1, 0x80])],
                &[(0, 0, &[0, 0, 0, 3, 38, 1, 0x88]), (6000, 1, &[0, 0, 0, 3, 2, 1, 0x80])],
            );
        }
    }

    #[test]
    fn loss_drops_the_incomplete_picture() {
        check(
            &[
                (false, 0, 0, &[49 << 1, 1, 0x80 | 19, 0x88]),
                (true, 0, 1, &[49 << 1, 1, 0x40 | 19, 2]),
                (true, 3000, 0, &[2, 1, 0x80]),
            ],
            &[(3000, 1, &[0, 0, 0, 3, 2, 1, 0x80])],
        );
    }
}
