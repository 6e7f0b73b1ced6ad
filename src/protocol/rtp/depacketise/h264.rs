//! H.264 payloads (RFC 6184), packetization modes 0 and 1: single NAL units, STAP-A, FU-A.
//!
//! Not here: STAP-B, MTAP and FU-B, which need the interleaved mode that no known sender uses; a unit with one is dropped.

use std::collections::VecDeque;

use super::nal::{Assembly, Kind};
use super::{Piece, Unit};
use media::Dropped;

/// The machine.
#[derive(Debug)]
pub(crate) struct H264 {
    unit: Assembly,
}

/// What a NAL unit is. The forbidden bit makes it damaged: a gateway says so (section 1.3). A slice begins with
/// `first_mb_in_slice`, which is 0 when its first bit is 1 (ISO 14496-10 7.3.3).
fn kind(nal: &[u8]) -> Kind {
    let Some((header, rest)) = nal.split_first() else { return Kind::Unknown };
    match header & 0x9f {
        1 | 2 | 5 => Kind::Slice { first: rest.first().is_some_and(|byte| byte & 0x80 != 0) },
        // Data partitions B and C begin with the slice's number, and never begin a frame.
        3 | 4 => Kind::Slice { first: false },
        7..=9 | 13 | 15 => Kind::Before,
        6 | 10..=23 => Kind::Other,
        0 | 30 | 31 => Kind::Unknown,
        // Packets inside of packets, those of the interleaved mode, and what a gateway found damaged.
        _ => Kind::Unreadable,
    }
}

impl H264 {
    /// A machine at the start of a stream.
    pub(super) fn new() -> H264 {
        H264 { unit: Assembly::new(kind) }
    }

    /// Takes the next payload.
    pub(super) fn push(&mut self, piece: Piece<'_>, out: &mut VecDeque<Unit>) {
        self.unit.begin(&piece, out);
        self.payload(piece.payload, out);
        self.unit.packet_ends(piece.marker, out);
    }

    /// Gives out the last unit: senders without markers end one by the next.
    pub(super) fn finish(&mut self, out: &mut VecDeque<Unit>) {
        self.unit.finish(out);
    }

    /// What was left out so far.
    pub(super) fn dropped(&self) -> Dropped {
        self.unit.dropped()
    }

    fn payload(&mut self, payload: &[u8], out: &mut VecDeque<Unit>) {
        let Some((&header, rest)) = payload.split_first() else { return };
        match (header & 0x9f, rest) {
            (24, rest) => self.unit.aggregate(rest, out),
            (28, [fu, bytes @ ..]) => self.unit.fragment(*fu, &[header & 0xe0 | fu & 0x1f], bytes, out),
            _ => self.unit.nal(payload, out),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::protocol::rtp::depacketise::Depacketiser;
    use media::ServerTime;

    fn check(packets: &[(bool, i64, u32, &[u8])], expected: &[(i64, u32, &[u8])]) {
        let machine = Depacketiser::H264(H264::new());
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
        let hostile: [&[u8]; 10] = [
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
        ];
        for payload in hostile {
            check(
                &[(true, 0, 0, &[0x65, 0x88]), (true, 3000, 0, payload), (true, 6000, 0, &[0x41, 0x9b])],
                &[(0, 0, &[0, 0, 0, 2, 0x65, 0x88]), (6000, 1, &[0, 0, 0, 2, 0x41, 0x9b])],
            );
        }
    }

    #[test]
    fn what_no_decoder_reads_is_left_out_and_no_loss() {
        let idr = [0, 0, 0, 2, 0x65, 0x88];
        // Reserved types, alone, in an aggregation packet, and with the marker; padding behind an aggregation packet.
        check(
            &[
                (false, 0, 0, &[31, 1]),
                (false, 0, 0, &[24, 0, 2, 0x67, 1, 0, 2, 30, 9, 0, 2, 0x68, 2, 0, 0, 0, 0, 0, 0]),
                (false, 0, 0, &[24, 0, 0]),
                (true, 0, 0, &[0x65, 0x88]),
                (true, 3000, 0, &[0, 7]),
                (true, 6000, 0, &[0x65, 0x88]),
            ],
            &[(0, 0, &[&[0, 0, 0, 2, 0x67, 1, 0, 0, 0, 2, 0x68, 2][..], &idr].concat()), (6000, 0, &idr)],
        );
    }

    /// Reolink RLC-822A sends parameter sets with the timestamp of the frame before, others SEI and delimiters with one between.
    #[test]
    fn what_has_no_frame_belongs_to_the_next_whatever_its_timestamp() {
        check(
            &[
                (true, 0, 0, &[0x65, 0x88]),
                (false, 0, 0, &[0x67, 1]),
                (false, 0, 0, &[0x68, 2]),
                (true, 3000, 0, &[0x65, 0x88]),
                (true, 5900, 0, &[0x09, 0xf0]),
                (true, 5950, 0, &[0x06, 5]),
                (true, 6000, 0, &[0x41, 0x9a]),
            ],
            &[
                (0, 0, &[0, 0, 0, 2, 0x65, 0x88]),
                (3000, 0, &[0, 0, 0, 2, 0x67, 1, 0, 0, 0, 2, 0x68, 2, 0, 0, 0, 2, 0x65, 0x88]),
                (6000, 0, &[0, 0, 0, 2, 0x09, 0xf0, 0, 0, 0, 2, 0x06, 5, 0, 0, 0, 2, 0x41, 0x9a]),
            ],
        );
    }

    /// (timestamp, loss before, whether it is the rest of the unit before, bytes) of each unit.
    fn with_rest(packets: &[(bool, i64, &[u8])]) -> Vec<(i64, u32, bool, Vec<u8>)> {
        let (mut machine, mut out) = (H264::new(), VecDeque::new());
        for &(marker, timestamp, payload) in packets {
            let arrival = ServerTime::default();
            machine.push(Piece { marker, timestamp, lost: 0, arrival, payload }, &mut out);
        }
        machine.finish(&mut out);
        out.into_iter().map(|unit| (unit.timestamp, unit.loss_before, unit.rest, unit.data.to_vec())).collect()
    }

    #[test]
    fn sei_behind_the_marked_end_is_the_rest_of_its_frame() {
        // Signatures stand there; the last one, with a timestamp of its own, signs the last frames of the session.
        assert_eq!(
            with_rest(&[
                (true, 0, &[0x65, 0x88]),
                (false, 0, &[0x06, 1]),
                (true, 3000, &[0x41, 0x9a]),
                (true, 3000, &[0x06, 2]),
                (true, 6000, &[0x06, 3]),
            ]),
            [
                (0, 0, false, vec![0, 0, 0, 2, 0x65, 0x88]),
                (0, 0, true, vec![0, 0, 0, 2, 0x06, 1]),
                (3000, 0, false, vec![0, 0, 0, 2, 0x41, 0x9a]),
                (3000, 0, true, vec![0, 0, 0, 2, 0x06, 2]),
                (6000, 0, true, vec![0, 0, 0, 2, 0x06, 3]),
            ]
        );
    }

    #[test]
    fn a_marker_on_every_packet_is_seen_through() {
        let unit = |nals: &[&[u8]]| {
            nals.iter().flat_map(|nal| [&(nal.len() as u32).to_be_bytes()[..], nal].concat()).collect::<Vec<u8>>()
        };
        // Three slices a frame: the first frame comes out in parts, later ones whole.
        assert_eq!(
            with_rest(&[
                (true, 0, &[0x65, 0x88]),
                (true, 0, &[0x65, 0x40]),
                (true, 0, &[0x65, 0x41]),
                (true, 3000, &[0x06, 1]),
                (true, 3000, &[0x41, 0x9a]),
                (true, 3000, &[0x41, 0x4a]),
                (true, 6000, &[0x41, 0x9b]),
            ]),
            [
                (0, 0, false, unit(&[&[0x65, 0x88]])),
                (0, 0, true, unit(&[&[0x65, 0x40]])),
                (0, 0, true, unit(&[&[0x65, 0x41]])),
                (3000, 0, false, unit(&[&[0x06, 1], &[0x41, 0x9a], &[0x41, 0x4a]])),
                (6000, 0, false, unit(&[&[0x41, 0x9b]])),
            ]
        );
        // Fragments.
        assert_eq!(
            with_rest(&[
                (true, 0, &[0x7c, 0x85, 0x88]),
                (true, 0, &[0x7c, 0x45, 4]),
                (true, 3000, &[0x41, 0x9a]),
                (true, 6000, &[0x41, 0x9b]),
            ]),
            [
                (0, 0, false, unit(&[&[0x65, 0x88, 4]])),
                (3000, 0, false, unit(&[&[0x41, 0x9a]])),
                (6000, 0, false, unit(&[&[0x41, 0x9b]])),
            ]
        );
        // Timestamps that stand still: the first slice begins a frame.
        assert_eq!(with_rest(&[(true, 0, &[0x65, 0x88]), (true, 0, &[0x41, 0x9a]), (true, 0, &[0x41, 0x9b])]).len(), 3);
    }

    #[test]
    fn start_codes_in_payloads_part_nal_units() {
        let whole = &[0x67, 1, 0, 0, 0, 1, 0x68, 2, 0, 0, 1, 0x65, 0x88];
        let parted = &[0, 0, 0, 2, 0x67, 1, 0, 0, 0, 2, 0x68, 2, 0, 0, 0, 2, 0x65, 0x88];
        // V380: sets and slice in one NAL unit; others: a start code before each.
        check(&[(true, 0, 0, whole)], &[(0, 0, parted)]);
        check(
            &[
                (false, 0, 0, &[0, 0, 0, 1, 0x67, 1]),
                (false, 0, 0, &[0, 0, 0, 1, 0x68, 2]),
                (true, 0, 0, &[0, 0, 0, 1, 0x65, 0x88]),
            ],
            &[(0, 0, parted)],
        );
        // The same in fragments, where the NAL type is that of the start code.
        check(
            &[
                (false, 0, 0, &[0x1c, 0x80, 0, 0, 1, 0x67, 1, 0, 0]),
                (false, 0, 0, &[0x1c, 0x00, 0, 1, 0x68, 2, 0, 0, 0]),
                (true, 0, 0, &[0x1c, 0x40, 1, 0x65, 0x88]),
            ],
            &[(0, 0, parted)],
        );
    }

    /// Tiandy cameras send type 0 in all fragments but the first; others send fragments without bytes.
    #[test]
    fn only_the_first_fragments_type_counts() {
        check(
            &[(false, 0, 0, &[0x7c, 0x85, 0x88]), (false, 0, 0, &[0x7c, 0x05]), (true, 0, 0, &[0x7c, 0x40, 4])],
            &[(0, 0, &[0, 0, 0, 3, 0x65, 0x88, 4])],
        );
    }

    #[test]
    fn a_frame_without_its_first_slice_is_marked_as_damaged() {
        check(
            &[(true, 0, 0, &[0x65, 0x88]), (true, 3000, 0, &[0x41, 0x4b]), (true, 6000, 0, &[0x41, 0x9b])],
            &[
                (0, 0, &[0, 0, 0, 2, 0x65, 0x88]),
                (3000, 1, &[0, 0, 0, 2, 0x41, 0x4b]),
                (6000, 0, &[0, 0, 0, 2, 0x41, 0x9b]),
            ],
        );
    }

    #[test]
    fn fragments_without_end_stay_bounded() {
        let mut machine = H264::new();
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
