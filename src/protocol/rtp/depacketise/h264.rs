//! H.264 payloads (RFC 6184), packetization modes 0 and 1: single NAL units, STAP-A, FU-A.
//!
//! Not here: STAP-B, MTAP and FU-B, which need the interleaved mode that no known sender uses; a unit with one is dropped.

use std::collections::VecDeque;

use super::nal::{Assembly, Kind};
use super::{Piece, Unit};

/// The machine.
#[derive(Debug, Default)]
pub(crate) struct H264 {
    unit: Assembly,
}

/// What a NAL unit is; none for one that may not be in a packet. The forbidden bit makes it damaged: a gateway says so
/// (section 1.3). A slice begins with `first_mb_in_slice`, which is 0 when its first bit is 1 (ISO 14496-10 7.3.3).
fn kind(nal: &[u8]) -> Option<Kind> {
    let (header, rest) = nal.split_first()?;
    match header & 0x9f {
        1 | 2 | 5 => Some(Kind::Slice { first: rest.first().is_some_and(|byte| byte & 0x80 != 0) }),
        // Data partitions B and C begin with the slice's number, and never begin a picture.
        3 | 4 => Some(Kind::Slice { first: false }),
        6..=23 => Some(Kind::Other),
        _ => None,
    }
}

impl H264 {
    /// Takes the next payload.
    pub(super) fn push(&mut self, piece: Piece<'_>, out: &mut VecDeque<Unit>) {
        self.unit.begin(&piece, out);
        self.payload(piece.payload);
        if piece.marker {
            self.unit.marker(out);
        }
    }

    /// Gives out the last unit: senders without markers end one by the next.
    pub(super) fn finish(&mut self, out: &mut VecDeque<Unit>) {
        self.unit.finish(out);
    }

    fn payload(&mut self, payload: &[u8]) {
        let Some((&header, rest)) = payload.split_first() else { return };
        match header & 0x9f {
            24 => self.unit.aggregate(rest, kind),
            28 => self.fragment(header, rest),
            _ => match kind(payload) {
                Some(kind) => self.unit.nal(payload, kind),
                None => self.unit.spoil(),
            },
        }
    }

    fn fragment(&mut self, indicator: u8, rest: &[u8]) {
        let Some((&fu, bytes)) = rest.split_first() else { return self.unit.spoil() };
        let header = indicator & 0xe0 | fu & 0x1f;
        match kind(&[header, bytes.first().copied().unwrap_or(0)]) {
            Some(kind) => self.unit.fragment(fu, &[header], bytes, kind),
            None => self.unit.spoil(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::protocol::rtp::depacketise::Depacketiser;
    use media::ServerTime;

    fn check(packets: &[(bool, i64, u32, &[u8])], expected: &[(i64, u32, &[u8])]) {
        let machine = Depacketiser::H264(H264::default());
        crate::protocol::rtp::depacketise::tests::check(machine, packets, expected);
    }

    #[test]
    fn single_aggregated_and_fragmented_units() {
        check(
            &[
                (false, 0, 0, &[24, 0, 2, 0x67, 1, 0, 2, 0x68, 2]),
                (false, 0, 0, &[0x7c, 0x85, 0x88, 1]),
                (false, 0, 0, &[0x7c, 0x05, 2, 3]),
                (true, 0, 0, &[0x7c, 0x45, 4]),
                (true, 3000, 0, &[0x41, 0x9a]),
            ],
            &[
                (0, 0, &[0, 0, 0, 2, 0x67, 1, 0, 0, 0, 2, 0x68, 2, 0, 0, 0, 6, 0x65, 0x88, 1, 2, 3, 4]),
                (3000, 0, &[0, 0, 0, 2, 0x41, 0x9a]),
            ],
        );
    }

    #[test]
    fn unit_ends_by_timestamp_when_markers_are_missing() {
        check(
            &[(false, 0, 0, &[0x65, 0x88]), (false, 0, 0, &[0x65, 0x40]), (false, 3000, 0, &[0x41, 0x9a])],
            &[(0, 0, &[0, 0, 0, 2, 0x65, 0x88, 0, 0, 0, 2, 0x65, 0x40]), (3000, 0, &[0, 0, 0, 2, 0x41, 0x9a])],
        );
    }

    #[test]
    fn marked_parameter_sets_stay_with_their_picture() {
        check(
            &[(true, 0, 0, &[0x67, 1]), (true, 0, 0, &[0x68, 2]), (true, 0, 0, &[0x65, 0x88])],
            &[(0, 0, &[0, 0, 0, 2, 0x67, 1, 0, 0, 0, 2, 0x68, 2, 0, 0, 0, 2, 0x65, 0x88])],
        );
    }

    #[test]
    fn loss_inside_a_unit_drops_it_and_marks_the_next() {
        check(
            &[
                (false, 0, 0, &[0x7c, 0x85, 0x88]),
                (true, 0, 2, &[0x7c, 0x45, 4]),
                (true, 3000, 0, &[0x41, 0x9a]),
                (true, 6000, 0, &[0x41, 0x9b]),
            ],
            &[(3000, 2, &[0, 0, 0, 2, 0x41, 0x9a]), (6000, 0, &[0, 0, 0, 2, 0x41, 0x9b])],
        );
    }

    #[test]
    fn loss_between_units_drops_the_one_without_its_beginning() {
        // The end of the first and the beginning of the second are missing: neither is whole.
        check(
            &[
                (false, 0, 0, &[0x7c, 0x85, 0x88]),
                (false, 3000, 2, &[0x7c, 0x01, 4]),
                (true, 3000, 0, &[0x7c, 0x41, 4]),
                (true, 6000, 0, &[0x41, 0x9b]),
            ],
            &[(6000, 2, &[0, 0, 0, 2, 0x41, 0x9b])],
        );
        // Whole units around the loss are kept.
        check(
            &[(true, 0, 0, &[0x65, 0x88]), (true, 6000, 1, &[0x41, 0x9b])],
            &[(0, 0, &[0, 0, 0, 2, 0x65, 0x88]), (6000, 1, &[0, 0, 0, 2, 0x41, 0x9b])],
        );
        // The second slice of a picture whose first was lost.
        check(
            &[(true, 0, 0, &[0x65, 0x88]), (true, 6000, 1, &[0x41, 0x4b]), (true, 9000, 0, &[0x41, 0x9b])],
            &[(0, 0, &[0, 0, 0, 2, 0x65, 0x88]), (9000, 1, &[0, 0, 0, 2, 0x41, 0x9b])],
        );
    }

    #[test]
    fn a_cut_in_the_middle_of_a_marked_senders_unit_drops_it() {
        check(&[(true, 0, 0, &[0x65, 0x88]), (false, 3000, 0, &[0x41, 0x9a])], &[(0, 0, &[0, 0, 0, 2, 0x65, 0x88])]);
    }

    #[test]
    fn joined_in_the_middle_of_a_picture_starts_at_the_next() {
        check(
            &[(false, 0, 0, &[0x7c, 0x05, 2, 3]), (true, 0, 0, &[0x7c, 0x45, 4]), (true, 3000, 0, &[0x41, 0x9a])],
            &[(3000, 1, &[0, 0, 0, 2, 0x41, 0x9a])],
        );
    }

    #[test]
    fn hostile_payloads_cost_their_unit_only() {
        let hostile: [&[u8]; 12] = [
            &[24, 0, 0],
            &[24, 0, 9, 1],
            &[24, 0, 1],
            &[24, 7],
            &[24, 0, 2, 24, 1],
            &[0x7c],
            &[0x7c, 0x80 | 28, 1],
            &[0x7c, 0x05, 1],
            &[25, 0, 0, 0, 2, 0x65, 0x88],
            &[29, 0x85, 0, 0, 1],
            &[0xe5, 0x88],
            &[31, 1],
        ];
        for payload in hostile {
            check(
                &[(true, 0, 0, &[0x65, 0x88]), (true, 3000, 0, payload), (true, 6000, 0, &[0x41, 0x9b])],
                &[(0, 0, &[0, 0, 0, 2, 0x65, 0x88]), (6000, 1, &[0, 0, 0, 2, 0x41, 0x9b])],
            );
        }
    }

    #[test]
    fn fragments_without_end_stay_bounded() {
        let mut machine = H264::default();
        let mut out = VecDeque::new();
        let mut payload = vec![0x7c, 0x05];
        payload.resize(8_000, 1);
        for count in 0..2_000 {
            payload[1] = if count == 0 { 0x85 } else { 0x05 };
            let piece =
                Piece { marker: false, timestamp: 0, lost: 0, arrival: ServerTime::default(), payload: &payload };
            machine.push(piece, &mut out);
        }
        machine.finish(&mut out);
        assert!(out.is_empty());
    }
}
